//! What is out of the ordinary in a stream's changes, once a window is closed: volume, empty fields, and what is
//! over; lateness is told in `lateness`. Owns how the tallies of pages are folded into what is usual, and the words of the anomalies. The judgements are
//! `domain`'s, the numbers `store`'s.

use crate::{Source, SyncError, cursor};
use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use domain::{
    AnomalyKind, ConnectionId, NULLS_SAMPLE_ROWS, Nulls, Severity, Volume, clocks_apart, hour_of_week, judge_deletes,
    judge_volume, quota_lasts_hours, remember,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use store::{HourCounts, HourHistory, NullCounts, OpenAnomaly, Sighting, Store, StreamStatistics, StreamTally, Tx};

/// What of an hour may still come after it is over, in minutes.
const HOUR_SETTLES_MINUTES: i64 = 20;
/// Hours that are judged after a pause; of those before nothing is said.
const HOURS_JUDGED_MAX: i64 = 7 * 24;
const HOUR_SECS: i64 = 3_600;

/// Which stream is looked at.
struct Look<'a> {
    store: &'a Store,
    connection: ConnectionId,
    object: &'a str,
    /// What is not over yet.
    open: Vec<OpenAnomaly>,
}

/// Sees what a window that ends before `hi` brought, in the transaction that closes it.
///
/// # Errors
/// [`SyncError`].
pub async fn window_closed(source: Source<'_>, tx: &mut Tx, object: &str, hi: DateTime<Utc>) -> Result<(), SyncError> {
    let Source { store, connection, client, .. } = source;
    let look = Look::new(store, tx, connection, object).await?;
    look.fold(tx, hi).await?;
    look.settle(tx, AnomalyKind::ObjectLost, "", "the object is shown again").await?;
    cursor::settle(source, tx, (object, cursor::Reading::Window), &look.open).await?;
    if let Some(theirs) = client.server_time()
        && clocks_apart(theirs, store.now()).is_none()
        && look.is_open("", AnomalyKind::ClocksApart, "")
    {
        let of = ("", AnomalyKind::ClocksApart, "");
        store.settle_anomaly(tx, connection, of, "the clocks agree again").await?;
    }
    if look.is_open(object, AnomalyKind::RecordsDamaged, "") && !store.has_quarantined(tx, connection, object).await? {
        look.settle(tx, AnomalyKind::RecordsDamaged, "", "nothing is in quarantine any more").await?;
    }
    look.quota(tx, source).await
}

/// Looks at all streams of a connection, those too of which nothing came: what came of each must have been read until then.
///
/// # Errors
/// [`SyncError`].
pub async fn look_at_all(store: &Store, connection: ConnectionId) -> Result<u64, SyncError> {
    let (mut after, mut looked) = (None, 0);
    loop {
        let streams = store.list_streams(connection, after.as_deref(), store::PAGE_ROWS_MAX).await?;
        let Some(last) = streams.last() else { return Ok(looked) };
        after = Some(last.object.clone());
        for stream in &streams {
            let Some(watermark) = stream.watermark else { continue };
            let mut tx = store.begin().await?;
            let look = Look::new(store, &mut tx, connection, &stream.object).await?;
            look.fold(&mut tx, watermark).await?;
            tx.commit().await?;
            looked += 1;
        }
    }
}

impl<'a> Look<'a> {
    async fn new(store: &'a Store, tx: &mut Tx, connection: ConnectionId, object: &'a str) -> Result<Self, SyncError> {
        let open = store.open_anomalies(tx, connection, object).await?;
        Ok(Self { store, connection, object, open })
    }

    fn is_open(&self, object: &str, kind: AnomalyKind, subject: &str) -> bool {
        self.open.iter().any(|open| open.object == object && open.kind == kind && open.subject == subject)
    }

    async fn settle(&self, tx: &mut Tx, kind: AnomalyKind, subject: &str, reason: &str) -> Result<(), SyncError> {
        if self.is_open(self.object, kind, subject) {
            self.store.settle_anomaly(tx, self.connection, (self.object, kind, subject), reason).await?;
        }
        Ok(())
    }

    async fn note(
        &self,
        tx: &mut Tx,
        (kind, subject): (AnomalyKind, &str),
        summary: &str,
        evidence: &Value,
    ) -> Result<(), SyncError> {
        let (connection, object) = (self.connection, self.object);
        let severity = Severity::Warning;
        let seen = Sighting { connection, object, kind, subject, severity, summary, evidence };
        self.store.note_anomaly(tx, &seen).await?;
        Ok(())
    }

    /// Folds what was written of the stream, every change of which before `until` has been read, into what is usual.
    async fn fold(&self, tx: &mut Tx, until: DateTime<Utc>) -> Result<(), SyncError> {
        let Self { store, connection, object, .. } = *self;
        let tally = store.take_tally(tx, connection, object).await?;
        let stream = store.stream_schema_in(tx, connection, object).await?.stream;
        let known = store.lock_statistics(tx, stream).await?;
        let (mut statistics, is_new) = match known {
            Some(known) => (known, false),
            None => (fresh(until), true),
        };
        let first = statistics.judged_until.timestamp().div_euclid(HOUR_SECS);
        for (hour, counts) in tally.hours.iter().filter(|(hour, _)| **hour >= first) {
            let sum = statistics.hours.entry(*hour).or_default();
            sum.changes += counts.changes;
            sum.deletes += counts.deletes;
        }
        let judged = self.judge_hours(tx, stream, &mut statistics, until).await?;
        if tally.rows > 0 {
            self.judge_nulls(tx, &tally, &mut statistics).await?;
        }
        if is_new || judged || tally.rows > 0 {
            store.keep_statistics(tx, stream, &statistics).await?;
        }
        Ok(())
    }

    /// Judges the hours that are over. Says whether there were any.
    async fn judge_hours(
        &self,
        tx: &mut Tx,
        stream: i64,
        statistics: &mut StreamStatistics,
        until: DateTime<Utc>,
    ) -> Result<bool, SyncError> {
        let over = until - TimeDelta::minutes(HOUR_SETTLES_MINUTES);
        let from = statistics.judged_until.max(whole_hour(over) - TimeDelta::hours(HOURS_JUDGED_MAX));
        let hours: Vec<DateTime<Utc>> = std::iter::successors(Some(from), |hour| Some(*hour + TimeDelta::hours(1)))
            .take_while(|hour| *hour + TimeDelta::hours(1) <= over)
            .collect();
        let Some(last) = hours.last() else { return Ok(false) };
        statistics.judged_until = *last + TimeDelta::hours(1);
        let mut of_week: Vec<i16> = hours.iter().map(|hour| hour_of_week(*hour)).collect();
        of_week.sort_unstable();
        of_week.dedup();
        let mut histories = self.store.hour_histories(tx, stream, &of_week).await?;
        let (mut changes, mut deletes) = (None, None);
        for hour in hours {
            let counts = statistics.hours.remove(&hour.timestamp().div_euclid(HOUR_SECS)).unwrap_or_default();
            let history = histories.entry(hour_of_week(hour)).or_default();
            let verdicts = judge(history, counts);
            changes = changes.or(verdicts.0.map(|verdict| (hour, counts.changes, verdict)));
            deletes = deletes.or(verdicts.1.map(|verdict| (hour, counts.deletes, verdict)));
        }
        statistics.hours.retain(|hour, _| *hour >= statistics.judged_until.timestamp().div_euclid(HOUR_SECS));
        self.store.keep_hour_histories(tx, stream, &histories).await?;
        let found =
            [(AnomalyKind::VolumeUnusual, "changes", changes), (AnomalyKind::DeletesUnusual, "deletes", deletes)];
        for (kind, what, found) in found {
            let Some((hour, count, verdict)) = found else {
                self.settle(tx, kind, "", "the hour that followed was as usual").await?;
                continue;
            };
            let summary = match verdict {
                Volume::Silent { .. } => format!("{} had no {what} in an hour that never was without", self.object),
                _ => format!("{} had {count} {what} in an hour, which is unusual", self.object),
            };
            let evidence = volume_evidence(hour, count, verdict);
            self.note(tx, (kind, ""), &summary, &evidence).await?;
        }
        Ok(true)
    }

    async fn judge_nulls(
        &self,
        tx: &mut Tx,
        tally: &StreamTally,
        statistics: &mut StreamStatistics,
    ) -> Result<(), SyncError> {
        for (field, nulls) in &tally.nulls {
            let counts = statistics.nulls.entry(field.clone()).or_default();
            counts.rows += tally.rows;
            counts.nulls += nulls.min(&tally.rows);
            if counts.rows < NULLS_SAMPLE_ROWS {
                continue;
            }
            let usual = Nulls { usual_rows: counts.usual_rows, usual_nulls: counts.usual_nulls };
            let is_jump = usual.is_jump(counts.rows, counts.nulls);
            if is_jump {
                let summary = format!("{}'s field {field} is empty far more often than usual", self.object);
                let usual_pct = 100.0 * usual.usual_nulls / usual.usual_rows;
                let evidence = json!({ "rows": counts.rows, "empty": counts.nulls, "usual_pct": usual_pct });
                self.note(tx, (AnomalyKind::NullsUnusual, field), &summary, &evidence).await?;
            } else {
                self.settle(tx, AnomalyKind::NullsUnusual, field, "it is empty as often as usual").await?;
            }
            let Nulls { usual_rows, usual_nulls } = usual.after(counts.rows, counts.nulls, is_jump);
            *counts = NullCounts { usual_rows, usual_nulls, rows: 0, nulls: 0 };
        }
        Ok(())
    }

    /// Whether the customer's quota will last, by what the last hour used of it.
    async fn quota(&self, tx: &mut Tx, source: Source<'_>) -> Result<(), SyncError> {
        let Some(usage) = source.client.api_usage() else { return Ok(()) };
        let Self { store, connection, .. } = *self;
        let now = store.now();
        let minutes = store.last_budget_minutes_in(tx, connection, 60).await?;
        let then = minutes.iter().rfind(|minute| now - minute.minute <= TimeDelta::minutes(60));
        let (used_then, elapsed) =
            then.map_or((usage.used, TimeDelta::zero()), |minute| (minute.used, now - minute.minute));
        let of = ("", AnomalyKind::QuotaShort, "");
        match quota_lasts_hours(usage.used, used_then, usage.max, elapsed) {
            Some(hours) => {
                let seen = Sighting {
                    connection,
                    object: "",
                    kind: AnomalyKind::QuotaShort,
                    subject: "",
                    severity: if usage.used >= usage.max { Severity::Critical } else { Severity::Warning },
                    summary: "the customer's calls of 24 hours will be used up soon",
                    evidence: &json!({
                        "used": usage.used, "maximum": usage.max, "used_before": used_then,
                        "within_secs": elapsed.num_seconds(), "lasts_hours": hours,
                    }),
                };
                store.note_anomaly(tx, &seen).await?;
            }
            None if self.is_open(of.0, of.1, of.2) => {
                store.settle_anomaly(tx, connection, of, "at this pace the calls last").await?;
            }
            None => {}
        }
        Ok(())
    }
}

/// The first whole hour after `until`: the one that runs is known in part only.
fn fresh(until: DateTime<Utc>) -> StreamStatistics {
    let judged_until = whole_hour(until) + TimeDelta::hours(1);
    StreamStatistics { judged_until, hours: BTreeMap::new(), nulls: BTreeMap::new() }
}

fn whole_hour(at: DateTime<Utc>) -> DateTime<Utc> {
    at.duration_trunc(TimeDelta::hours(1)).unwrap_or(at)
}

/// What is unusual of an hour's changes, and of its deletes; then the hour is part of what is usual.
fn judge(history: &mut HourHistory, counts: HourCounts) -> (Option<Volume>, Option<Volume>) {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let (changes, deletes) = (number(counts.changes), number(counts.deletes));
    let verdicts = (judge_volume(&history.changes, changes), judge_deletes(&history.deletes, deletes));
    remember(&mut history.changes, changes);
    remember(&mut history.deletes, deletes);
    let unusual = |verdict| (verdict != Volume::Ordinary).then_some(verdict);
    (unusual(verdicts.0), unusual(verdicts.1))
}

fn volume_evidence(hour: DateTime<Utc>, count: u64, verdict: Volume) -> Value {
    match verdict {
        Volume::Unusual { median, least, most } => {
            json!({ "hour": hour, "count": count, "median": median, "least": least, "most": most })
        }
        Volume::Silent { median } => json!({ "hour": hour, "count": count, "median": median }),
        Volume::Ordinary => json!({ "hour": hour, "count": count }),
    }
}

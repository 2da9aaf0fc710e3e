//! What becomes of records that we have and the vendor shows no more: deleted for good, merged away, or out of sight. Owns the
//! delete fuse's place in it, the second look that is taken at each of them, the counts of both sides, and how a comparison
//! ends. Does not own the reading (`snapshot`) nor the rows (`store`).
//!
//! A record is marked deleted only if it was stored before the reading began, its version is older than that, the reading did
//! not meet it, and the vendor does not show it when asked for it by its id.

use crate::{
    Snapshot, Source, SyncError,
    by_id::{self, Fetched},
    cursor, soql,
};
use chrono::{DateTime, Utc};
use domain::{AnomalyKind, Severity, counts_differ};
use salesforce::{Question, SalesforceError};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use store::{OpenAnomaly, PageOrigin, Sighting, Tx};

/// Stored records that are looked at together.
const STRETCH_ROWS: i64 = 5_000;
/// Ids that are shown to a person.
const SHOWN_IDS_MAX: usize = 20;
/// How often counts that differ are taken: records move while one counts.
const COUNTS_MAX: usize = 3;

/// Who lets held deletes go, and why.
#[derive(Debug, Clone)]
pub struct Release {
    /// Why.
    pub reason: String,
}

/// Records that a whole reading did not meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absences {
    /// Records that are stored and not deleted.
    pub live: u64,
    /// Those of them that were not met.
    pub absent: u64,
    /// Some of these.
    pub first: Vec<String>,
}

/// Absent records that were asked for once more.
#[derive(Debug)]
pub struct Gone {
    gone: Vec<String>,
    /// Those that the vendor shows after all.
    back: Vec<Fetched>,
    /// From which id on the next look goes.
    pub after: String,
}

/// How a comparison ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// So many records are kept until a person says so.
    pub held: Option<Absences>,
    /// What both sides have, recycle bins apart, if they were counted: ours, those of theirs that are in quarantine, theirs.
    pub counts: Option<(u64, u64, u64)>,
    /// They differ.
    pub differ: bool,
}

impl Snapshot<'_> {
    /// Holds every stored record against the ids that were read. Where other connections of the account follow an object of
    /// the same name, a record may be theirs, and absence says nothing.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn absences(&self) -> Result<Absences, SyncError> {
        let mut absences = Absences { live: 0, absent: 0, first: Vec::new() };
        let mut after = String::new();
        while let Some((last, live, absent)) = self.stretch(&after).await? {
            absences.live += live;
            if !self.schema.is_shared {
                absences.absent += u64::try_from(absent.len()).unwrap_or(u64::MAX);
                let room = SHOWN_IDS_MAX - absences.first.len();
                absences.first.extend(absent.into_iter().take(room));
            }
            after = last;
        }
        Ok(absences)
    }

    async fn stretch(&self, after: &str) -> Result<Option<(String, u64, Vec<String>)>, SyncError> {
        let Source { store, account, .. } = self.source;
        let stretch = store.compare_stretch(self.whole.table(), account, &self.row, after, STRETCH_ROWS).await?;
        Ok(stretch.last.map(|last| (last, stretch.live, stretch.absent)))
    }

    /// Whether so many may not go by themselves.
    #[must_use]
    pub const fn is_held(&self, absences: &Absences) -> bool {
        self.settings.fuse.holds(absences.absent, absences.live)
    }

    /// The next absent records behind the id `after`, each asked for once more; `None` after the last.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn next_gone(&self, after: &str) -> Result<Option<Gone>, SyncError> {
        let mut after = after.to_owned();
        while let Some((last, _, absent)) = self.stretch(&after).await? {
            after = last;
            if absent.is_empty() {
                continue;
            }
            let shown: BTreeSet<String> = by_id::shown(self.source, &self.object, &absent).await?;
            let (back, gone): (Vec<String>, Vec<String>) = absent.into_iter().partition(|id| shown.contains(id));
            let back = by_id::fetch(self.source, &self.object, &self.whole, &back).await?;
            return Ok(Some(Gone { gone, back, after }));
        }
        Ok(None)
    }

    /// Marks them deleted, with the change log. Answers with their number.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn write_gone(&self, tx: &mut Tx, gone: Gone) -> Result<u64, SyncError> {
        let Source { store, account, connection, .. } = self.source;
        let origin = PageOrigin { account, connection, read_at: self.row.began_at };
        by_id::write(self.source, tx, &self.whole, origin, gone.back).await?;
        Ok(store.delete_records(tx, self.whole.table(), account, &gone.gone, self.row.began_at).await?)
    }

    /// Records in quarantine that the reading did not meet, and that the vendor does not show when asked for them by their
    /// ids: nobody will ever read a better version of these.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn gone_from_quarantine(&self) -> Result<Vec<String>, SyncError> {
        let Source { store, connection, .. } = self.source;
        let (mut gone, mut after) = (Vec::new(), String::new());
        loop {
            let of = (connection, self.object.as_str());
            let unmet = store.quarantined_unmet(of, &self.row, &after, STRETCH_ROWS).await?;
            let Some(last) = unmet.last() else { return Ok(gone) };
            after.clone_from(last);
            // What is no id is in quarantine for that, and nobody can ask for it.
            let unmet: Vec<String> = unmet.into_iter().filter(|id| by_id::is_id(id)).collect();
            if unmet.is_empty() {
                continue;
            }
            let shown = by_id::shown(self.source, &self.object, &unmet).await?;
            gone.extend(unmet.into_iter().filter(|id| !shown.contains(id)));
        }
    }

    /// Ends their quarantine, and that of whatever had no readable id, if every record has come with one now. Answers with
    /// how many there were.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn end_quarantine(&self, tx: &mut Tx, gone: &[String]) -> Result<u64, SyncError> {
        let Source { store, connection, .. } = self.source;
        let ended = store.resolve_gone(tx, connection, &self.object, gone).await?;
        Ok(ended + store.resolve_unnamed(tx, (connection, &self.object), &self.row).await?)
    }

    /// Counts both sides. They differ only if what moved meanwhile does not explain it.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn outcome(&self, held: Option<Absences>) -> Result<Outcome, SyncError> {
        if self.schema.is_shared {
            return Ok(Outcome { held, counts: None, differ: false });
        }
        let mut outcome = Outcome { held, counts: None, differ: false };
        for _ in 0..COUNTS_MAX {
            let ((ours, quarantined, theirs), moving) = match self.count_both().await {
                // Too many to be counted in time: then nothing is said of their number.
                Err(SyncError::Vendor(SalesforceError::QueryTimeout { .. })) => break,
                counted => counted?,
            };
            outcome.counts = Some((ours, quarantined, theirs));
            outcome.differ = counts_differ(ours + quarantined, theirs, moving);
            if !outcome.differ {
                break;
            }
        }
        Ok(outcome)
    }

    async fn count_both(&self) -> Result<((u64, u64, u64), u64), SyncError> {
        let Source { store, account, connection, client, .. } = self.source;
        let watermark = store.stream_schema(connection, &self.object).await?.watermark;
        let mut questions = vec![Question::query(&soql::count(&self.object))];
        if let (Some(version), Some(watermark)) = (self.whole.layout().version_field(), watermark) {
            questions.push(Question::query_all(&soql::count_since(&self.object, version, watermark)));
        }
        let mut answers = client.composite(&questions).await?.into_iter();
        let mut next = || Ok::<_, SyncError>(answers.next().transpose()?.map(|a| a.page()).transpose()?);
        let theirs = next()?.map_or(0, |page| page.total_size);
        let moving = next()?.map_or(0, |page| page.total_size);
        let table = self.whole.table();
        let (quarantined, binned) = store.count_quarantined(table, account, connection).await?;
        // Of what lies in the recycle bin, and cannot be stored so, the last version that could be is none that counts.
        let ours = store.count_records(table, account).await? - binned;
        Ok(((ours.unsigned_abs(), quarantined.unsigned_abs(), theirs), moving))
    }

    /// Ends the comparison: says what is out of the ordinary, and what is so no more.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn finish(&self, tx: &mut Tx, outcome: &Outcome, release: Option<&Release>) -> Result<(), SyncError> {
        let Source { store, connection, .. } = self.source;
        let open = store.open_anomalies(tx, connection, &self.object).await?;
        if store.end_snapshot(tx, &self.row).await? == store::Outcome::Stale {
            return Err(SyncError::Overtaken { object: self.object.clone() });
        }
        match &outcome.held {
            Some(absences) => self.hold(tx, absences).await?,
            None => {
                let reason =
                    release.map_or_else(|| "they are few".to_owned(), |release| format!("let go: {}", release.reason));
                self.settle(tx, &open, AnomalyKind::DeletesHeld, "", &reason).await?;
            }
        }
        if let Some((ours, quarantined, theirs)) = outcome.counts {
            if outcome.differ {
                let summary = format!("salesforce has {theirs} records of {}, and we have {ours}", self.object);
                let evidence =
                    json!({ "ours": ours, "quarantined": quarantined, "salesforce": theirs, "at": self.row.began_at });
                self.note(tx, AnomalyKind::CountsDiffer, "", Severity::Critical, &summary, &evidence).await?;
            } else {
                self.settle(tx, &open, AnomalyKind::CountsDiffer, "", "the counts agree").await?;
            }
        }
        for kind in [AnomalyKind::FieldAdded, AnomalyKind::FieldRetyped] {
            for field in &self.row.fields {
                self.settle(tx, &open, kind, field, "every record has been asked for it").await?;
            }
        }
        if !store.has_quarantined(tx, connection, &self.object).await? {
            let reason = "nothing is in quarantine any more";
            self.settle(tx, &open, AnomalyKind::RecordsDamaged, "", reason).await?;
        }
        self.settle(tx, &open, AnomalyKind::ObjectLost, "", "the object is shown again").await?;
        cursor::settle(self.source, tx, (&self.object, cursor::Reading::Comparison), &open).await?;
        self.say_what_was_missed(tx, &open).await
    }

    async fn say_what_was_missed(&self, tx: &mut Tx, open: &[OpenAnomaly]) -> Result<(), SyncError> {
        const MISSED: &str = "missed";
        let Some((id, at)) = &self.missed.first else {
            let reason = "the last comparison found none";
            return self.settle(tx, open, AnomalyKind::ChangesLate, MISSED, reason).await;
        };
        let late = |watermark: DateTime<Utc>| (watermark - *at).num_seconds();
        let summary = format!("changes of {} showed up later than windows reach back, and were found now", self.object);
        let evidence = json!({
            "records": self.missed.records, "first_record_id": id, "stamp": at,
            "late_secs": self.schema.watermark.map(late), "overlap_secs": self.source.overlap.num_seconds(),
        });
        self.note(tx, AnomalyKind::ChangesLate, MISSED, Severity::Warning, &summary, &evidence).await
    }

    async fn hold(&self, tx: &mut Tx, absences: &Absences) -> Result<(), SyncError> {
        let Absences { live, absent, first } = absences;
        let summary = format!(
            "{absent} of {live} records of {} are shown no more; they are kept until somebody lets them go",
            self.object
        );
        let payload = json!({ "object": self.object, "release_fuse": { "reason": "…" } });
        let evidence = json!({
            "absent": absent, "records": live, "first_record_ids": first, "at": self.row.began_at,
            "to_let_them_go": format!("servantctl enqueue {} --connection {} --payload '{payload}'",
                                      crate::drift::RECONCILE_KIND, self.source.connection),
        });
        self.note(tx, AnomalyKind::DeletesHeld, "", Severity::Critical, &summary, &evidence).await
    }

    async fn note(
        &self,
        tx: &mut Tx,
        kind: AnomalyKind,
        subject: &str,
        severity: Severity,
        summary: &str,
        evidence: &Value,
    ) -> Result<(), SyncError> {
        let (connection, object) = (self.source.connection, self.object.as_str());
        let seen = Sighting { connection, object, kind, subject, severity, summary, evidence };
        self.source.store.note_anomaly(tx, &seen).await?;
        Ok(())
    }

    async fn settle(
        &self,
        tx: &mut Tx,
        open: &[OpenAnomaly],
        kind: AnomalyKind,
        subject: &str,
        reason: &str,
    ) -> Result<(), SyncError> {
        let object = self.object.as_str();
        if open.iter().any(|open| open.object == object && open.kind == kind && open.subject == subject) {
            self.source.store.settle_anomaly(tx, self.source.connection, (object, kind, subject), reason).await?;
        }
        Ok(())
    }

    /// Forgets what the reading left behind, here and at the vendor. A job that is not forgotten there is after 7 days.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn clean_up(&self) -> Result<(), SyncError> {
        self.source.store.forget_snapshot_ids(self.row.stream, self.row.id).await?;
        if let Some((id, api_version)) = &self.row.vendor_job {
            let job = salesforce::BulkJob { id: id.clone(), api_version: api_version.clone() };
            self.source.client.delete_bulk_job(&job).await?;
        }
        Ok(())
    }
}

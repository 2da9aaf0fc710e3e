//! Services' circuit breakers as rows: loaded and saved within a transaction of the leading scheduler, folded from the
//! outcomes that ended attempts append, forced by operators. What follows from what is `domain::Breaker`'s to say.

use crate::{
    Leadership, PAGE_ROWS_MAX, Store, StoreError, Tx,
    audit::{Subject, note, snapshot},
    connections::{Event, Of, note_event},
    partitions::leads,
};
use chrono::{DateTime, Utc};
use domain::{
    Breaker, BreakerSettings, BreakerState, Capability, ConnectionId, Forced, Granted, Outcomes, Tally, Window, action,
};
use std::collections::BTreeMap;

/// A service's breaker, and who holds it open or closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerRow {
    /// The service.
    pub service: String,
    /// Where it stands.
    pub breaker: Breaker,
    /// Who forced it, why and since when.
    pub forced: Option<ForcedBy>,
}

/// An operator's override.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForcedBy {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: DateTime<Utc>,
}

/// What a fold changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoldedOutcomes {
    /// Rows of outcomes taken in.
    pub outcomes: u64,
    /// Breakers whose state is another now, with the state before.
    pub changed: Vec<(BreakerRow, BreakerState)>,
}

struct RawBreaker {
    service: String,
    state: String,
    since: DateTime<Utc>,
    reason: String,
    openings: i32,
    counts_from: DateTime<Utc>,
    state_at: Option<DateTime<Utc>>,
    room: Option<i32>,
    window_since: DateTime<Utc>,
    newer_succeeded: i32,
    newer_failed: i32,
    older_succeeded: i32,
    older_failed: i32,
    forced: Option<String>,
    forced_by: Option<String>,
    forced_reason: Option<String>,
    forced_at: Option<DateTime<Utc>>,
}

impl RawBreaker {
    fn check(self) -> Result<BreakerRow, StoreError> {
        let corrupt = |column| StoreError::Corrupt { table: "breakers", column, row: self.service.clone() };
        let number = |raw: i32| u32::try_from(raw).unwrap_or(0);
        let state_at = || self.state_at.ok_or_else(|| corrupt("state_at"));
        let state = match self.state.as_str() {
            "closed" => BreakerState::Closed,
            "open" => BreakerState::Open { next_probe_at: state_at()? },
            "half_open" => BreakerState::HalfOpen { probe_at: state_at()? },
            "recovering" => {
                BreakerState::Recovering { room: number(self.room.unwrap_or(1)).max(1), grown_at: state_at()? }
            }
            _ => return Err(corrupt("state")),
        };
        let forced = self.forced.as_deref().map(str::parse::<Forced>).transpose().map_err(|_| corrupt("forced"))?;
        let tally = |succeeded, failed| Tally { succeeded: number(succeeded), failed: number(failed) };
        let breaker = Breaker {
            state,
            since: self.since,
            reason: self.reason,
            openings: number(self.openings),
            counts_from: self.counts_from,
            window: Window {
                since: self.window_since,
                newer: tally(self.newer_succeeded, self.newer_failed),
                older: tally(self.older_succeeded, self.older_failed),
            },
            forced,
        };
        let by = self.forced_by.zip(self.forced_reason).zip(self.forced_at);
        let forced = by.map(|((by, reason), at)| ForcedBy { by, reason, at });
        Ok(BreakerRow { service: self.service, breaker, forced })
    }
}

/// An action that is done with a breaker.
pub trait ForcesBreaker: Capability {
    /// What it is held at; none: it is let go.
    const FORCED: Option<Forced>;
}

impl ForcesBreaker for action::OpenBreaker {
    const FORCED: Option<Forced> = Some(Forced::Open);
}

impl ForcesBreaker for action::CloseBreaker {
    const FORCED: Option<Forced> = Some(Forced::Closed);
}

impl ForcesBreaker for action::ClearBreaker {
    const FORCED: Option<Forced> = None;
}

impl Store {
    /// The breakers of those services, locked until the transaction ends; a service that has none is closed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lock_breakers(
        &self,
        tx: &mut Tx,
        services: &[String],
    ) -> Result<BTreeMap<String, BreakerRow>, StoreError> {
        let rows = sqlx::query_as!(
            RawBreaker,
            "-- lock_breakers
            SELECT service, state, since, reason, openings, counts_from, state_at, room, window_since,
                   newer_succeeded, newer_failed, older_succeeded, older_failed,
                   forced, forced_by, forced_reason, forced_at
            FROM breakers WHERE service = ANY($1) ORDER BY service FOR UPDATE",
            services,
        )
        .fetch_all(&mut *tx.inner)
        .await?;
        rows.into_iter().map(|row| row.check().map(|row| (row.service.clone(), row))).collect()
    }

    /// Notes that a job was dispatched in the room of a probe; part of the dispatch's own transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_probe(&self, tx: &mut Tx, row: &mut BreakerRow) -> Result<(), StoreError> {
        row.breaker.probe_sent(self.clock.now());
        save_breaker(&mut tx.inner, row).await
    }

    /// The services of connections, as far as there are such connections.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn services_of(
        &self,
        tx: &mut Tx,
        connections: &[ConnectionId],
    ) -> Result<BTreeMap<ConnectionId, String>, StoreError> {
        let ids: Vec<i64> = connections.iter().map(|id| id.0).collect();
        let rows = sqlx::query!(
            r#"-- services_of
            SELECT id, coalesce(service, vendor) AS "service!" FROM connections WHERE id = ANY($1)"#,
            &ids,
        )
        .fetch_all(&mut *tx.inner)
        .await?;
        Ok(rows.into_iter().map(|row| (ConnectionId(row.id), row.service)).collect())
    }
}

impl Store {
    /// Takes up to `rows_max` rows of outcomes into their services' breakers and lets time pass for those that are not
    /// closed, all in one transaction. `jitter` draws the share of the wait that an opening takes.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was taken.
    pub async fn fold_outcomes(
        &self,
        leadership: &Leadership,
        settings: &BreakerSettings,
        rows_max: i64,
        mut jitter: impl FnMut() -> f64 + Send,
    ) -> Result<FoldedOutcomes, StoreError> {
        if !self.has_breaker_news().await? {
            return Ok(FoldedOutcomes::default());
        }
        let mut tx = self.begin().await?;
        if !leads(&mut tx.inner, leadership).await? {
            return Ok(FoldedOutcomes::default());
        }
        let now = self.clock.now();
        let taken = take_outcomes(&mut tx, rows_max).await?;
        let mut services = unsettled_services(&mut tx).await?;
        services.extend(taken.of_services.iter().map(|(service, _)| service.clone()));
        let mut rows = self.lock_breakers(&mut tx, &services).await?;
        let before = rows.clone();
        for (service, outcomes) in &taken.of_services {
            let new = || BreakerRow { service: service.clone(), breaker: Breaker::closed(now), forced: None };
            let row = rows.entry(service.clone()).or_insert_with(new);
            row.breaker.observe(settings, outcomes, now, jitter());
        }
        let mut folded = FoldedOutcomes { outcomes: taken.rows, changed: Vec::new() };
        for (service, mut row) in rows {
            row.breaker.advance(settings, now);
            let was = before.get(&service);
            if was == Some(&row) {
                continue;
            }
            save_breaker(&mut tx.inner, &row).await?;
            let was = was.map_or(BreakerState::Closed, |was| was.breaker.state);
            let is = row.breaker.state.as_str();
            if was.as_str() != is {
                let event = Event { of: Of::Service(&service), what: is, by: "scheduler", reason: &row.breaker.reason };
                note_event(&mut tx.inner, &event, now).await?;
                folded.changed.push((row, was));
            }
        }
        tx.commit().await?;
        if folded.changed.iter().any(|(row, _)| !matches!(row.breaker.state, BreakerState::Open { .. })) {
            self.wake_every_kind().await;
        }
        Ok(folded)
    }

    /// Whether there is anything to fold: what is asked twice a second should cost one short look.
    async fn has_breaker_news(&self) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar!(
            r#"-- has_breaker_news
            SELECT EXISTS (SELECT FROM connection_outcomes)
                OR EXISTS (SELECT FROM breakers WHERE state <> 'closed') AS "has_news!""#,
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Holds a service's breaker open or closed, whatever its outcomes say, until it is cleared; or clears it, and wakes
    /// whom it held back. Answers with the breaker; none when there was nothing to clear.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn force_breaker<A: ForcesBreaker>(
        &self,
        granted: &Granted<A>,
        service: &str,
    ) -> Result<Option<BreakerRow>, StoreError> {
        let (forced, by, reason) = (A::FORCED, granted.by(), granted.reason());
        let (of, now) = (Subject::Breaker(service), self.clock.now());
        let mut tx = self.begin().await?;
        let before = snapshot(&mut tx.inner, &of).await?;
        let known = self.lock_breakers(&mut tx, &[service.to_owned()]).await?.remove(service);
        let new = || BreakerRow { service: service.to_owned(), breaker: Breaker::closed(now), forced: None };
        let mut row = known.unwrap_or_else(new);
        let what = match forced {
            Some(forced) => {
                row.breaker.force(forced);
                row.forced = Some(ForcedBy { by: by.to_owned(), reason: reason.to_owned(), at: now });
                if forced == Forced::Open { "forced_open" } else { "forced_closed" }
            }
            None if row.forced.is_none() => return Ok(None),
            None => {
                row.breaker.clear(now);
                row.forced = None;
                "cleared"
            }
        };
        save_breaker(&mut tx.inner, &row).await?;
        note_event(&mut tx.inner, &Event { of: Of::Service(service), what, by, reason }, now).await?;
        let after = snapshot(&mut tx.inner, &of).await?;
        note(&mut tx.inner, granted, &of, (before, after), now).await?;
        tx.commit().await?;
        if forced != Some(Forced::Open) {
            self.wake_every_kind().await;
        }
        Ok(Some(row))
    }

    /// The breaker of one service.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_breaker(&self, service: &str) -> Result<Option<BreakerRow>, StoreError> {
        let row = sqlx::query_as!(
            RawBreaker,
            "-- find_breaker
            SELECT service, state, since, reason, openings, counts_from, state_at, room, window_since,
                   newer_succeeded, newer_failed, older_succeeded, older_failed,
                   forced, forced_by, forced_reason, forced_at
            FROM breakers WHERE service = $1",
            service,
        )
        .fetch_optional(&self.pool)
        .await?;
        row.map(RawBreaker::check).transpose()
    }

    /// Whether any connection works on that service, or ever did.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn knows_service(&self, service: &str) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar!(
            r#"-- knows_service
            SELECT EXISTS (SELECT FROM connections WHERE coalesce(service, vendor) = $1)
                OR EXISTS (SELECT FROM breakers WHERE service = $1) AS "is_known!""#,
            service,
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Breakers that are not simply closed, by their service's name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn troubled_breakers(&self, limit: i64) -> Result<Vec<BreakerRow>, StoreError> {
        let rows = sqlx::query_as!(
            RawBreaker,
            "-- troubled_breakers
            SELECT service, state, since, reason, openings, counts_from, state_at, room, window_since,
                   newer_succeeded, newer_failed, older_succeeded, older_failed,
                   forced, forced_by, forced_reason, forced_at
            FROM breakers WHERE state <> 'closed' OR forced IS NOT NULL ORDER BY service LIMIT $1",
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(RawBreaker::check).collect()
    }

    /// Breakers by their service's name; `after` is the last of the page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_breakers(&self, after: Option<&str>, limit: i64) -> Result<Vec<BreakerRow>, StoreError> {
        let rows = sqlx::query_as!(
            RawBreaker,
            "-- list_breakers
            SELECT service, state, since, reason, openings, counts_from, state_at, room, window_since,
                   newer_succeeded, newer_failed, older_succeeded, older_failed,
                   forced, forced_by, forced_reason, forced_at
            FROM breakers WHERE service > $1 ORDER BY service LIMIT $2",
            after.unwrap_or_default(),
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(RawBreaker::check).collect()
    }
}

/// Outcomes taken out of the ledger, oldest first, with the service of each.
struct Taken {
    rows: u64,
    of_services: Vec<(String, Outcomes)>,
}

/// Those of connections that are gone are taken, too, and count for nothing.
async fn take_outcomes(tx: &mut Tx, rows_max: i64) -> Result<Taken, StoreError> {
    let rows = sqlx::query!(
        r#"-- take_outcomes
        WITH taken AS (
            DELETE FROM connection_outcomes
            WHERE ctid = ANY (ARRAY(SELECT ctid FROM connection_outcomes LIMIT $1 FOR UPDATE SKIP LOCKED))
            RETURNING connection_id, started_at, ended_at, succeeded, failed
        )
        SELECT coalesce(c.service, c.vendor) AS "service?", started_at AS "started_at!", ended_at AS "ended_at!",
               succeeded AS "succeeded!", failed AS "failed!"
        FROM taken LEFT JOIN connections c ON c.id = connection_id ORDER BY ended_at"#,
        rows_max,
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    let taken = rows.len() as u64;
    let number = |raw: i32| u32::try_from(raw).unwrap_or(0);
    let of_services = rows
        .into_iter()
        .filter_map(|row| {
            let tally = Tally { succeeded: number(row.succeeded), failed: number(row.failed) };
            Some((row.service?, Outcomes { started_at: row.started_at, ended_at: row.ended_at, tally }))
        })
        .collect();
    Ok(Taken { rows: taken, of_services })
}

/// Services whose breaker changes although nothing happens.
async fn unsettled_services(tx: &mut Tx) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar!(
        "-- unsettled_services
        SELECT service FROM breakers WHERE state <> 'closed' LIMIT $1",
        PAGE_ROWS_MAX,
    )
    .fetch_all(&mut *tx.inner)
    .await?)
}

/// Writes a breaker as it is now.
async fn save_breaker(conn: &mut sqlx::PgConnection, row: &BreakerRow) -> Result<(), StoreError> {
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let breaker = &row.breaker;
    let (state_at, room) = match breaker.state {
        BreakerState::Closed => (None, None),
        BreakerState::Open { next_probe_at: at } | BreakerState::HalfOpen { probe_at: at } => (Some(at), None),
        BreakerState::Recovering { room, grown_at } => (Some(grown_at), Some(number(room))),
    };
    let forced = row.forced.as_ref();
    sqlx::query!(
        "-- save_breaker
        INSERT INTO breakers (service, state, since, reason, openings, counts_from, state_at, room, window_since,
            newer_succeeded, newer_failed, older_succeeded, older_failed, forced, forced_by, forced_reason, forced_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
        ON CONFLICT (service) DO UPDATE SET
            state = excluded.state, since = excluded.since, reason = excluded.reason, openings = excluded.openings,
            counts_from = excluded.counts_from, state_at = excluded.state_at, room = excluded.room,
            window_since = excluded.window_since, newer_succeeded = excluded.newer_succeeded,
            newer_failed = excluded.newer_failed, older_succeeded = excluded.older_succeeded,
            older_failed = excluded.older_failed, forced = excluded.forced, forced_by = excluded.forced_by,
            forced_reason = excluded.forced_reason, forced_at = excluded.forced_at",
        row.service,
        breaker.state.as_str(),
        breaker.since,
        breaker.reason,
        number(breaker.openings),
        breaker.counts_from,
        state_at,
        room,
        breaker.window.since,
        number(breaker.window.newer.succeeded),
        number(breaker.window.newer.failed),
        number(breaker.window.older.succeeded),
        number(breaker.window.older.failed),
        breaker.forced.map(Forced::as_str),
        forced.map(|forced| forced.by.as_str()),
        forced.map(|forced| forced.reason.as_str()),
        forced.map(|forced| forced.at),
    )
    .execute(conn)
    .await?;
    Ok(())
}

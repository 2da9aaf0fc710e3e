//! Services' circuit breakers as rows: listed, and loaded and saved within a transaction. Does not own what changes one:
//! the outcomes of attempts (`fold`) and operators (`force`); what follows from them is `domain::Breaker`'s to say.

mod fold;
mod force;

pub use fold::FoldedOutcomes;
pub use force::ForcesBreaker;

use crate::{PAGE_ROWS_MAX, Store, StoreError, Tx};
use chrono::{DateTime, Utc};
use domain::{Breaker, BreakerState, ConnectionId, Forced, Tally, Window};
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
    /// What is not understood is a breaker, too: it keeps no other from being shown and asked.
    fn read(self) -> BreakerRow {
        let (service, since) = (self.service.clone(), self.since);
        let unclear = |column| BreakerRow { service, breaker: Breaker::not_understood(since, column), forced: None };
        self.check().unwrap_or_else(unclear)
    }

    /// The column that is not understood, if one is not.
    fn check(self) -> Result<BreakerRow, &'static str> {
        let number = |raw: i32| u32::try_from(raw).unwrap_or(0);
        let state_at = || self.state_at.ok_or("state_at");
        let state = match self.state.as_str() {
            "closed" => BreakerState::Closed,
            "open" => BreakerState::Open { next_probe_at: state_at()? },
            "half_open" => BreakerState::HalfOpen { probe_at: state_at()? },
            "recovering" => {
                BreakerState::Recovering { room: number(self.room.unwrap_or(1)).max(1), grown_at: state_at()? }
            }
            _ => return Err("state"),
        };
        let forced = self.forced.as_deref().map(str::parse::<Forced>).transpose().map_err(|_| "forced")?;
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
        lock_breakers(tx, services).await
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
        Ok(row.map(RawBreaker::read))
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

    /// Breakers that are not simply closed, by their service's name; `after` is the last of the page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn troubled_breakers(&self, after: Option<&str>, limit: i64) -> Result<Vec<BreakerRow>, StoreError> {
        let rows = sqlx::query_as!(
            RawBreaker,
            "-- troubled_breakers
            SELECT service, state, since, reason, openings, counts_from, state_at, room, window_since,
                   newer_succeeded, newer_failed, older_succeeded, older_failed,
                   forced, forced_by, forced_reason, forced_at
            FROM breakers WHERE (state <> 'closed' OR forced IS NOT NULL) AND service > $1 ORDER BY service LIMIT $2",
            after.unwrap_or_default(),
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(RawBreaker::read).collect())
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
        Ok(rows.into_iter().map(RawBreaker::read).collect())
    }
}

async fn lock_breakers(tx: &mut Tx, services: &[String]) -> Result<BTreeMap<String, BreakerRow>, StoreError> {
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
    Ok(rows.into_iter().map(|row| (row.service.clone(), row.read())).collect())
}

/// Writes a breaker as it is now; one that is not understood stays as it was written.
async fn save_breaker(conn: &mut sqlx::PgConnection, row: &BreakerRow) -> Result<(), StoreError> {
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let breaker = &row.breaker;
    let (state_at, room) = match breaker.state {
        BreakerState::Closed => (None, None),
        BreakerState::Open { next_probe_at: at } | BreakerState::HalfOpen { probe_at: at } => (Some(at), None),
        BreakerState::Recovering { room, grown_at } => (Some(grown_at), Some(number(room))),
        BreakerState::NotUnderstood => return Ok(()),
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

//! What servant processes write of themselves, and what the dispatcher reads of the fleet.
//! Heartbeats as the manager stores them, and lists, are in `servants`.

use crate::{Store, StoreError};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Kind, ServantId, ServantState};

/// A process that introduces itself.
#[derive(Debug, Clone)]
pub struct NewServant {
    /// What it does.
    pub kind: Kind,
    /// Where it runs.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// Its build.
    pub version: String,
    /// Jobs at a time.
    pub concurrency: u32,
}

/// What the live servants of a kind can take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capacity {
    /// The kind.
    pub kind: String,
    /// Jobs at a time, of all its live servants that take work.
    pub slots: i64,
}

/// Jobs of a kind that have been let through and have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InHand {
    /// On the queue, or on their way there.
    pub queued: i64,
    /// Running.
    pub running: i64,
}

impl Store {
    /// Enters a process that has just started, notes its build, and hands out its identity.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn register_servant(&self, servant: &NewServant) -> Result<ServantId, StoreError> {
        let now = self.clock.now();
        let id = sqlx::query_scalar!(
            "-- register_servant
            WITH build AS (
                INSERT INTO builds AS b (version, kinds, first_at) VALUES ($4, ARRAY[$1], $6)
                ON CONFLICT (version) DO UPDATE SET kinds = b.kinds || excluded.kinds
                WHERE NOT b.kinds @> excluded.kinds
            )
            INSERT INTO servants (kind, host, pid, version, concurrency, started_at, seen_at)
            VALUES ($1, $2, $3, $4, $5, $6, $6) RETURNING id",
            servant.kind.as_str(),
            servant.host,
            i32::try_from(servant.pid).unwrap_or(i32::MAX),
            servant.version,
            i32::try_from(servant.concurrency).unwrap_or(i32::MAX),
            now,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(ServantId(id))
    }

    /// A sign of life that needs no manager.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn touch_servant(&self, id: ServantId, state: ServantState, running: u32) -> Result<(), StoreError> {
        sqlx::query!(
            "-- touch_servant
            UPDATE servants SET seen_at = $2, state = $3, running = $4 WHERE id = $1",
            id.0,
            self.clock.now(),
            state.as_str(),
            i32::try_from(running).unwrap_or(i32::MAX),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// What live servants (seen since `silence_max` ago) can take, by kind.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn capacity(&self, silence_max: TimeDelta) -> Result<Vec<Capacity>, StoreError> {
        let since: DateTime<Utc> = self.clock.now() - silence_max;
        Ok(sqlx::query_as!(
            Capacity,
            r#"-- capacity
            SELECT kind, sum(concurrency)::bigint AS "slots!" FROM servants
            WHERE state = 'running' AND seen_at >= $1 GROUP BY kind"#,
            since,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// How many jobs of a kind are on their way to servants or waiting there, and how many run, by the counters and all that
    /// is not folded yet; by so much of it at the most, where somebody waits for the answer.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn in_hand_of(&self, kind: &Kind, deltas_max: Option<i64>) -> Result<InHand, StoreError> {
        Ok(sqlx::query_as!(
            InHand,
            r#"-- in_hand_of
            SELECT coalesce(sum(n) FILTER (WHERE state = 2), 0)::bigint AS "queued!",
                   coalesce(sum(n) FILTER (WHERE state = 3), 0)::bigint AS "running!"
            FROM (
                SELECT state, jobs AS n FROM job_counts WHERE kind = $1 AND state IN (2, 3)
                UNION ALL SELECT state, delta FROM (SELECT kind, state, delta FROM job_count_deltas LIMIT $2) AS fresh
                WHERE kind = $1 AND state IN (2, 3)) AS counts"#,
            kind.as_str(),
            deltas_max,
        )
        .fetch_one(&self.pool)
        .await?)
    }
}

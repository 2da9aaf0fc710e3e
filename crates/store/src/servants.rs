//! Servants as the manager knows them: heartbeats stored, lists, orders. What servants write of themselves without
//! the manager is in `fleet`.

use crate::{
    PAGE_ROWS_MAX, ServantCredential, Store, StoreError,
    audit::{Subject, note, snapshot},
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Granted, JobId, ServantId, action};
use serde_json::Value;

/// Hours after which a silent servant is no longer listed.
const LISTED_HOURS: i64 = 1;

/// Builds that are told of.
const BUILDS_MAX: i64 = 20;

/// A build that was deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRow {
    /// Its name.
    pub version: String,
    /// The kinds whose servants are of it.
    pub kinds: Vec<String>,
    /// When the first of them started.
    pub first_at: DateTime<Utc>,
}

/// What a heartbeat brings.
#[derive(Debug, Clone, PartialEq)]
pub struct HeartbeatFacts {
    /// running, paused, draining or stopped.
    pub state: String,
    /// Resident memory, where known.
    pub rss_bytes: Option<i64>,
    /// Of its processor, in per cent of one core, where known.
    pub cpu_pct: Option<i32>,
    /// Jobs under way.
    pub running: i32,
    /// Those jobs, as an array of objects with an `id`.
    pub current_jobs: Value,
}

/// Who sends a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeatenBy<'a> {
    /// With what.
    pub credential: &'a ServantCredential,
    /// The digest of the process's own secret.
    pub boot_digest: &'a [u8],
}

/// What the reply to a heartbeat orders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    /// pause, resume or drain.
    pub ordered: Option<String>,
    /// Reported jobs that an operator wants to stop.
    pub cancel: Vec<JobId>,
}

/// A servant process.
#[derive(Debug, Clone, PartialEq)]
pub struct ServantRow {
    /// Its identity: one boot.
    pub id: i64,
    /// What it does.
    pub kind: String,
    /// Where it runs.
    pub host: String,
    /// Its process id there.
    pub pid: i32,
    /// Its build.
    pub version: String,
    /// running, paused, draining or stopped.
    pub state: String,
    /// Jobs at a time.
    pub concurrency: i32,
    /// Jobs under way.
    pub running: i32,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Its last sign of life of any sort.
    pub seen_at: DateTime<Utc>,
    /// Its last heartbeat to a manager.
    pub heartbeat_at: Option<DateTime<Utc>>,
    /// Resident memory.
    pub rss_bytes: Option<i64>,
    /// Of its processor, in per cent of one core.
    pub cpu_pct: Option<i32>,
    /// What it works on.
    pub current_jobs: Value,
    /// The order in force.
    pub ordered: Option<String>,
    /// Who gave it.
    pub ordered_by: Option<String>,
    /// Why.
    pub ordered_reason: Option<String>,
    /// When.
    pub ordered_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Stores a heartbeat and answers what to order; `None` when no such servant is known, or it is another's: the first
    /// heartbeat settles which credential and which process may write the row. Without `by` nobody was asked. Not audited:
    /// it is what a servant is there to do, every few seconds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn record_heartbeat(
        &self,
        _granted: &Granted<action::Heartbeat>,
        id: ServantId,
        facts: &HeartbeatFacts,
        by: Option<BeatenBy<'_>>,
    ) -> Result<Option<Orders>, StoreError> {
        let jobs: Vec<i64> = facts
            .current_jobs
            .as_array()
            .map(|jobs| jobs.iter().filter_map(|job| job.get("id")?.as_i64()).collect())
            .unwrap_or_default();
        let row = sqlx::query!(
            r#"-- record_heartbeat
            WITH beat AS (
                UPDATE servants SET heartbeat_at = $2, seen_at = greatest(seen_at, $2), rss_bytes = $4,
                                    -- Whoever has ended does not come back: its last heartbeat was on the way.
                                    state = CASE state WHEN 'stopped' THEN state ELSE $3 END,
                                    running = $5, current_jobs = $6, cpu_pct = $8,
                                    credential_id = coalesce(credential_id, $9),
                                    boot_digest = coalesce(boot_digest, $10)
                WHERE id = $1
                  AND ($9::bigint IS NULL
                       OR (kind = $11 AND ($12::text IS NULL OR host = $12 OR starts_with(host, $12 || '-'))
                           AND coalesce(credential_id, $9) = $9 AND coalesce(boot_digest, $10) = $10))
                RETURNING ordered
            )
            SELECT ordered, ARRAY(
                SELECT jobs.id FROM jobs
                WHERE jobs.id = ANY($7::bigint[]) AND jobs.servant_id = $1 AND jobs.state = 3 AND jobs.cancel_requested
            ) AS "cancel!" FROM beat"#,
            id.0,
            self.clock.now(),
            facts.state,
            facts.rss_bytes,
            facts.running,
            facts.current_jobs,
            &jobs,
            facts.cpu_pct,
            by.map(|by| by.credential.id),
            by.map(|by| by.boot_digest),
            by.map(|by| by.credential.kind.as_str()),
            by.and_then(|by| by.credential.host.as_deref()),
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| Orders { ordered: row.ordered, cancel: row.cancel.into_iter().map(JobId).collect() }))
    }

    /// Orders a servant to pause, resume or drain, and has it ask for its orders; false when no such servant is known. The
    /// order stands until another takes its place.
    ///
    /// # Errors
    /// [`StoreError`]; any other order is refused by the database.
    pub async fn order_servant(
        &self,
        granted: &Granted<action::OrderServant>,
        id: ServantId,
        order: &str,
    ) -> Result<bool, StoreError> {
        let of = Subject::Servant(id);
        let mut tx = self.pool.begin().await?;
        let before = snapshot(&mut tx, &of).await?;
        let ordered = sqlx::query!(
            "-- order_servant
            UPDATE servants SET ordered = $2 WHERE id = $1 AND state <> 'stopped'",
            id.0,
            order,
        )
        .execute(&mut *tx)
        .await?;
        if ordered.rows_affected() == 0 {
            return Ok(false);
        }
        let after = snapshot(&mut tx, &of).await?;
        note(&mut tx, granted, &of, (before, after), self.clock.now()).await?;
        tx.commit().await?;
        self.call_servant(id).await;
        Ok(true)
    }

    /// Servants that have not ended by themselves and were heard of lately, by kind and age; `after` is the last one of
    /// the page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_servants(&self, after: Option<ServantId>, limit: i64) -> Result<Vec<ServantRow>, StoreError> {
        Ok(sqlx::query_as!(
            ServantRow,
            r#"-- list_servants
            SELECT servants.id, kind, host, pid, version, state, concurrency, running, started_at, seen_at, heartbeat_at,
                   rss_bytes, cpu_pct, current_jobs, ordered, act.by AS "ordered_by?", act.reason AS "ordered_reason?",
                   act.at AS "ordered_at?"
            FROM servants LEFT JOIN LATERAL (
                SELECT actor AS by, reason, at FROM audit
                WHERE ordered IS NOT NULL AND subject = 'servant' AND key = servants.id::text ORDER BY seq DESC LIMIT 1
            ) AS act ON true
            WHERE state <> 'stopped' AND seen_at >= $1
              AND (kind, servants.id) > (coalesce((SELECT kind FROM servants WHERE id = $2), ''), $2)
            ORDER BY kind, servants.id LIMIT $3"#,
            self.clock.now() - TimeDelta::hours(LISTED_HOURS),
            after.map_or(0, |id| id.0),
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// One servant, listed or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_servant(&self, id: ServantId) -> Result<Option<ServantRow>, StoreError> {
        Ok(sqlx::query_as!(
            ServantRow,
            r#"-- find_servant
            SELECT servants.id, kind, host, pid, version, state, concurrency, running, started_at, seen_at, heartbeat_at,
                   rss_bytes, cpu_pct, current_jobs, ordered, act.by AS "ordered_by?", act.reason AS "ordered_reason?",
                   act.at AS "ordered_at?"
            FROM servants LEFT JOIN LATERAL (
                SELECT actor AS by, reason, at FROM audit
                WHERE ordered IS NOT NULL AND subject = 'servant' AND key = servants.id::text ORDER BY seq DESC LIMIT 1
            ) AS act ON true
            WHERE servants.id = $1"#,
            id.0,
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// The latest builds of servants, the latest first: of which kinds, and since when.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn builds(&self) -> Result<Vec<BuildRow>, StoreError> {
        Ok(sqlx::query_as!(
            BuildRow,
            "-- builds
            SELECT version, ARRAY(SELECT unnest(kinds) ORDER BY 1) AS \"kinds!\", first_at FROM builds
            ORDER BY first_at DESC LIMIT $1",
            BUILDS_MAX,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// All of [`Self::list_servants`], page after page: a fleet is hundreds of processes, not millions of rows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn all_servants(&self) -> Result<Vec<ServantRow>, StoreError> {
        let mut all: Vec<ServantRow> = Vec::new();
        loop {
            let page = self.list_servants(all.last().map(|row| ServantId(row.id)), PAGE_ROWS_MAX).await?;
            let is_last = i64::try_from(page.len()).is_ok_and(|rows| rows < PAGE_ROWS_MAX);
            all.extend(page);
            if is_last {
                return Ok(all);
            }
        }
    }
}

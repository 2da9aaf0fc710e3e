//! Bulk operations: what an operator has done to every job that a search finds. The order stands in the ledger; whoever
//! leads carries it out page by page, each page's changes, its items and the mark in one commit, so that after a crash the
//! next leader goes on at the mark and no job is done twice or left out.

use crate::{
    JobFilter, Leadership, PAGE_ROWS_MAX, Store, StoreError,
    audit::{Subject, kept, kept_principal, note, snapshot},
    jobs::{ActsOnJobs, act_on_jobs},
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{BulkAct, Granted, JobId, Principal, Search, action, authorize};
use sqlx::PgConnection;
use std::collections::HashSet;

/// An operation to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOperation {
    /// What is done.
    pub act: BulkAct,
    /// To which jobs.
    pub search: Search,
    /// How many its orderer was shown.
    pub expected: i64,
    /// Whether those were all.
    pub expected_is_exact: bool,
    /// Jobs a second at the most.
    pub per_second: u32,
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRow {
    /// Its id.
    pub id: i64,
    /// retry or cancel.
    pub act: String,
    /// The words of the search.
    pub search: String,
    /// running, done or cancelled.
    pub state: String,
    /// How many its orderer was shown.
    pub expected: i64,
    /// Whether those were all.
    pub expected_is_exact: bool,
    /// Jobs that it was done to.
    pub applied: i64,
    /// Jobs that had moved on, or whose unique key is taken, or whose group is cancelled.
    pub skipped: i64,
    /// Jobs a second at the most.
    pub per_second: i32,
    /// Who ordered it.
    pub created_by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Who stopped it.
    pub cancelled_by: Option<String>,
}

/// What became of one job of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationItem {
    /// The job.
    pub job_id: i64,
    /// Whether it was done to it.
    pub applied: bool,
}

/// One page of an operation's work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationStep {
    /// The operation.
    pub id: i64,
    /// Jobs that it was done to.
    pub applied: usize,
    /// Jobs that it was not done to.
    pub skipped: usize,
    /// It has ended.
    pub is_done: bool,
}

struct Due {
    id: i64,
    act: String,
    search: String,
    below_id: i64,
    per_second: i32,
    next_at: DateTime<Utc>,
    created_by: String,
    reason: String,
    created_at: DateTime<Utc>,
    principal: Option<serde_json::Value>,
}

impl Due {
    /// Does it to these jobs in the name of who ordered it, with the role that they had then.
    async fn act<A: ActsOnJobs>(
        &self,
        conn: &mut PgConnection,
        jobs: &[JobId],
        now: DateTime<Utc>,
    ) -> Result<Vec<JobId>, StoreError> {
        let corrupt = || StoreError::Corrupt { table: "operations", column: "principal", row: self.id.to_string() };
        let principal = match &self.principal {
            Some(kept) => kept_principal(kept).ok_or_else(corrupt)?,
            None => Principal::open(&self.created_by),
        };
        let granted = authorize::<A>(&principal, &self.reason).map_err(|_| corrupt())?;
        act_on_jobs(conn, &granted, jobs, Some(self.id), now).await
    }
}

impl Store {
    /// Orders an operation. Jobs that come later are not concerned.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_operation(
        &self,
        granted: &Granted<action::CreateOperation>,
        new: &NewOperation,
    ) -> Result<i64, StoreError> {
        let now = self.clock.now();
        let mut tx = self.pool.begin().await?;
        let id = sqlx::query_scalar!(
            "-- create_operation
            INSERT INTO operations (act, search, state, below_id, expected, expected_is_exact, per_second, next_at,
                                    created_by, reason, created_at, principal)
            SELECT $1, $2, 'running',
                   greatest((SELECT coalesce(max(id), 0) FROM (SELECT id FROM jobs ORDER BY id DESC LIMIT 1) AS j),
                            (SELECT coalesce(max(id), 0)
                             FROM (SELECT id FROM finished_jobs ORDER BY id DESC LIMIT 1) AS f)) + 1,
                   $3, $4, $5, $8, $6, $7, $8, $9
            RETURNING id",
            new.act.as_str(),
            new.search.to_string(),
            new.expected,
            new.expected_is_exact,
            i32::try_from(new.per_second).unwrap_or(i32::MAX),
            granted.by(),
            granted.reason(),
            now,
            kept(granted.principal()),
        )
        .fetch_one(&mut *tx)
        .await?;
        let of = Subject::Operation(id);
        let after = snapshot(&mut tx, &of).await?;
        note(&mut tx, granted, &of, (None, after), now).await?;
        tx.commit().await?;
        self.call_for_operations().await;
        Ok(id)
    }

    /// Operations, newest first; `before` is the last id of the page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_operations(&self, before: Option<i64>, limit: i64) -> Result<Vec<OperationRow>, StoreError> {
        Ok(sqlx::query_as!(
            OperationRow,
            "-- list_operations
            SELECT id, act, search, state, expected, expected_is_exact, applied, skipped, per_second, created_by, reason,
                   created_at, ended_at, cancelled_by
            FROM operations WHERE id < $1 ORDER BY id DESC LIMIT $2",
            before.unwrap_or(i64::MAX),
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// One operation.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_operation(&self, id: i64) -> Result<Option<OperationRow>, StoreError> {
        let next = id.saturating_add(1);
        Ok(self.list_operations(Some(next), 1).await?.pop().filter(|row| row.id == id))
    }

    /// What became of an operation's jobs, newest first; `before` is the last job of the page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn operation_items(
        &self,
        id: i64,
        before: Option<JobId>,
        limit: i64,
    ) -> Result<Vec<OperationItem>, StoreError> {
        Ok(sqlx::query_as!(
            OperationItem,
            "-- operation_items
            SELECT job_id, applied FROM operation_items WHERE operation_id = $1 AND job_id < $2
            ORDER BY job_id DESC LIMIT $3",
            id,
            before.map_or(i64::MAX, |id| id.0),
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Stops an operation; what it has done stays. False when it has ended, or is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cancel_operation(
        &self,
        granted: &Granted<action::CancelOperation>,
        id: i64,
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let is_stopped = cancel(&mut tx.inner, granted, id, self.clock.now()).await?;
        tx.commit().await?;
        Ok(is_stopped)
    }

    /// Cancels an operation that the leader does not understand; false when it has ended, or another scheduler leads,
    /// which may understand it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cancel_unclear_operation(
        &self,
        leadership: &Leadership,
        granted: &Granted<action::CancelOperation>,
        id: i64,
    ) -> Result<bool, StoreError> {
        let Some(mut tx) = self.begin_led(leadership).await? else { return Ok(false) };
        let is_stopped = cancel(&mut tx.inner, granted, id, self.clock.now()).await?;
        tx.commit().await?;
        Ok(is_stopped)
    }

    /// Does the next page of the operation that has waited longest, if one may go on by now.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of the page has happened.
    pub async fn work_operation(&self, leadership: &Leadership) -> Result<Option<OperationStep>, StoreError> {
        let Some(mut tx) = self.begin_led(leadership).await? else { return Err(StoreError::NotLeading) };
        let now = self.clock.now();
        let due = sqlx::query_as!(
            Due,
            "-- work_operation
            SELECT id, act, search, below_id, per_second, next_at, created_by, reason, created_at, principal FROM operations
            WHERE state = 'running' AND next_at <= $1 ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED",
            now,
        )
        .fetch_optional(&mut *tx.inner)
        .await?;
        let Some(due) = due else { return Ok(None) };
        let corrupt = |column| StoreError::Corrupt { table: "operations", column, row: due.id.to_string() };
        let act: BulkAct = due.act.parse().map_err(|_| corrupt("act"))?;
        let search: Search = due.search.parse().map_err(|_| corrupt("search"))?;
        let filter = JobFilter { before_id: Some(JobId(due.below_id)), ..JobFilter::of(&search, due.created_at) };
        let jobs = self.list_jobs(&filter, PAGE_ROWS_MAX).await?;
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        let done: HashSet<JobId> = match act {
            BulkAct::Retry => due.act::<action::RetryJob>(&mut tx.inner, &ids, now).await?.into_iter().collect(),
            BulkAct::Cancel => due.act::<action::CancelJob>(&mut tx.inner, &ids, now).await?.into_iter().collect(),
        };
        let step = OperationStep {
            id: due.id,
            applied: done.len(),
            skipped: ids.len() - done.len(),
            is_done: i64::try_from(ids.len()).is_ok_and(|jobs| jobs < PAGE_ROWS_MAX),
        };
        let outcomes: Vec<bool> = ids.iter().map(|id| done.contains(id)).collect();
        let numbers: Vec<i64> = ids.iter().map(|id| id.0).collect();
        let share = ids.len() as f64 / f64::from(due.per_second);
        let wait = TimeDelta::milliseconds((share * 1_000.0) as i64);
        sqlx::query!(
            "-- work_operation: note
            WITH items AS (
                INSERT INTO operation_items (operation_id, job_id, applied)
                SELECT $1, t.* FROM unnest($2::bigint[], $3::boolean[]) AS t (job_id, applied)
            )
            UPDATE operations SET applied = applied + $4, skipped = skipped + $5, below_id = $6, next_at = $7,
                state = CASE WHEN $8 THEN 'done' ELSE state END, ended_at = CASE WHEN $8 THEN $9::timestamptz END
            WHERE id = $1",
            due.id,
            &numbers,
            &outcomes,
            i64::try_from(step.applied).unwrap_or(i64::MAX),
            i64::try_from(step.skipped).unwrap_or(i64::MAX),
            numbers.last().copied().unwrap_or(due.below_id),
            due.next_at.max(now - TimeDelta::seconds(1)) + wait,
            step.is_done,
            now,
        )
        .execute(&mut *tx.inner)
        .await?;
        tx.commit().await?;
        if act == BulkAct::Retry && step.applied > 0 {
            self.wake_every_kind().await;
        }
        Ok(Some(step))
    }

    /// Forgets what became of the jobs of operations that ended before `cutoff`, `limit` rows at the most: an operation may
    /// have been done to millions. Answers with how many.
    ///
    /// # Errors
    /// [`StoreError`]; the same call may be made again.
    pub async fn forget_operation_items(
        &self,
        leadership: &Leadership,
        cutoff: DateTime<Utc>,
        limit: i64,
    ) -> Result<u64, StoreError> {
        let gone = sqlx::query!(
            "-- forget_operation_items
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE)
            DELETE FROM operation_items USING (
                SELECT item.operation_id, item.job_id FROM operations CROSS JOIN LATERAL (
                    SELECT operation_id, job_id FROM operation_items WHERE operation_id = operations.id LIMIT $4
                ) AS item
                WHERE ended_at < $3 AND EXISTS (SELECT FROM led)
                LIMIT $4
            ) AS old
            WHERE operation_items.operation_id = old.operation_id AND operation_items.job_id = old.job_id",
            leadership.term.0,
            leadership.holder,
            cutoff,
            limit,
        )
        .execute(&self.pool)
        .await?;
        Ok(gone.rows_affected())
    }

    /// Forgets operations that ended before `cutoff`, once nothing is left of what became of their jobs, `limit` at the
    /// most. Answers with how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_operations(
        &self,
        leadership: &Leadership,
        cutoff: DateTime<Utc>,
        limit: i64,
    ) -> Result<u64, StoreError> {
        let gone = sqlx::query!(
            "-- forget_operations
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE)
            DELETE FROM operations WHERE id IN (
                SELECT id FROM operations
                WHERE ended_at < $3 AND EXISTS (SELECT FROM led)
                  AND NOT EXISTS (SELECT FROM operation_items WHERE operation_id = operations.id)
                LIMIT $4)",
            leadership.term.0,
            leadership.holder,
            cutoff,
            limit,
        )
        .execute(&self.pool)
        .await?;
        Ok(gone.rows_affected())
    }
}

/// Does no more of an operation, and notes who says so; false when it has ended.
async fn cancel(
    conn: &mut PgConnection,
    granted: &Granted<action::CancelOperation>,
    id: i64,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let of = Subject::Operation(id);
    let before = snapshot(conn, &of).await?;
    let stopped = sqlx::query!(
        "-- cancel_operation
        UPDATE operations SET state = 'cancelled', cancelled_by = $2, ended_at = $3
        WHERE id = $1 AND state = 'running'",
        id,
        granted.by(),
        now,
    )
    .execute(&mut *conn)
    .await?;
    if stopped.rows_affected() == 0 {
        return Ok(false);
    }
    let after = snapshot(conn, &of).await?;
    note(conn, granted, &of, (before, after), now).await?;
    Ok(true)
}

//! Reading jobs for people: one with everything known of it, lists by filter. Attempts and failures are in `stats`.
//! Owns no change of anything. Every list is bounded and paged by id, newest first; no statement counts jobs.

use crate::{Store, StoreError};
use chrono::{DateTime, Utc};
use domain::{AccountId, ConnectionId, JobId, JobState, Kind, ScheduleId, ServantId};
use serde_json::Value;
use uuid::Uuid;

/// Rows of one page at the most.
pub const PAGE_ROWS_MAX: i64 = 200;
/// Finished jobs looked through for the latest of one kind.
const LATEST_LOOKED_AT_MAX: i64 = 5_000;

/// A job as the ledger has it, unfinished or finished.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRow {
    /// Its id.
    pub id: JobId,
    /// Whose it is.
    pub account_id: AccountId,
    /// The type of work.
    pub kind: Kind,
    /// Where it stands.
    pub state: JobState,
    /// 0 (urgent) to 4 (whenever).
    pub priority: i16,
    /// Attempts charged so far.
    pub attempt: i16,
    /// Attempts in all.
    pub attempts_max: i16,
    /// How often its id was put on the queue; 0 once finished.
    pub sends: i16,
    /// An operator wants it to stop.
    pub cancel_requested: bool,
    /// The request that asked for it.
    pub request_id: Uuid,
    /// What to do.
    pub payload: Value,
    /// The connection it works on.
    pub connection_id: Option<ConnectionId>,
    /// The schedule that made it.
    pub schedule_id: Option<ScheduleId>,
    /// Its unique key.
    pub unique_key: Option<String>,
    /// Not after this time.
    pub deadline_at: Option<DateTime<Utc>>,
    /// The trace it belongs to.
    pub traceparent: Option<String>,
    /// What the next attempt starts from.
    pub checkpoint: Option<Value>,
    /// How far it is: done, total, message.
    pub progress: Option<Value>,
    /// The servant that has it or had it last.
    pub servant_id: Option<ServantId>,
    /// When it was inserted.
    pub created_at: DateTime<Utc>,
    /// When it is or was due.
    pub due_at: DateTime<Utc>,
    /// When it became ready.
    pub ready_at: Option<DateTime<Utc>>,
    /// When it was dispatched.
    pub queued_at: Option<DateTime<Utc>>,
    /// When its message was sent.
    pub sent_at: Option<DateTime<Utc>>,
    /// When a servant took it.
    pub claimed_at: Option<DateTime<Utc>>,
    /// When it finished.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Which jobs to list. The default is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// In any of these states; none named: in all.
    pub states: Vec<JobState>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Of this account.
    pub account: Option<AccountId>,
    /// Created at this time or before.
    pub older_than: Option<DateTime<Utc>>,
    /// Created at this time or after.
    pub newer_than: Option<DateTime<Utc>>,
    /// The next page: the last id of the one before.
    pub before_id: Option<JobId>,
}

/// A row before its state and kind are checked.
struct RawJob {
    id: i64,
    account_id: i64,
    kind: String,
    state: i16,
    priority: i16,
    attempt: i16,
    attempts_max: i16,
    sends: i16,
    cancel_requested: bool,
    request_id: Uuid,
    payload: Value,
    connection_id: Option<i64>,
    schedule_id: Option<i64>,
    unique_key: Option<String>,
    deadline_at: Option<DateTime<Utc>>,
    traceparent: Option<String>,
    checkpoint: Option<Value>,
    progress: Option<Value>,
    servant_id: Option<i64>,
    created_at: DateTime<Utc>,
    due_at: DateTime<Utc>,
    ready_at: Option<DateTime<Utc>>,
    queued_at: Option<DateTime<Utc>>,
    sent_at: Option<DateTime<Utc>>,
    claimed_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

impl RawJob {
    fn check(self) -> Result<JobRow, StoreError> {
        let corrupt = |column| StoreError::Corrupt { table: "jobs", column, row: self.id.to_string() };
        Ok(JobRow {
            state: JobState::from_code(self.state).ok_or_else(|| corrupt("state"))?,
            kind: Kind::new(self.kind.as_str()).map_err(|_| corrupt("kind"))?,
            id: JobId(self.id),
            account_id: AccountId(self.account_id),
            priority: self.priority,
            attempt: self.attempt,
            attempts_max: self.attempts_max,
            sends: self.sends,
            cancel_requested: self.cancel_requested,
            request_id: self.request_id,
            payload: self.payload,
            connection_id: self.connection_id.map(ConnectionId),
            schedule_id: self.schedule_id.map(ScheduleId),
            unique_key: self.unique_key,
            deadline_at: self.deadline_at,
            traceparent: self.traceparent,
            checkpoint: self.checkpoint,
            progress: self.progress,
            servant_id: self.servant_id.map(ServantId),
            created_at: self.created_at,
            due_at: self.due_at,
            ready_at: self.ready_at,
            queued_at: self.queued_at,
            sent_at: self.sent_at,
            claimed_at: self.claimed_at,
            finished_at: self.finished_at,
        })
    }
}

/// One checked statement over the unfinished jobs.
macro_rules! live_jobs {
    ($name:literal, $tail:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            RawJob,
            "-- " + $name + "\nSELECT id, account_id, kind, state, priority, attempt, attempts_max, sends,
                cancel_requested, request_id, payload, connection_id, schedule_id, unique_key, deadline_at,
                traceparent, checkpoint, progress, servant_id, created_at, due_at, ready_at, queued_at, sent_at,
                claimed_at, NULL::timestamptz AS finished_at
            FROM jobs " + $tail,
            $($argument),*
        )
    };
}

/// One checked statement over the finished jobs.
macro_rules! finished_jobs {
    ($name:literal, $tail:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            RawJob,
            "-- " + $name + "\nSELECT id, account_id, kind, state, priority, attempt, attempts_max,
                0::smallint AS \"sends!\", false AS \"cancel_requested!\", request_id, payload, connection_id,
                schedule_id, unique_key, deadline_at, traceparent, checkpoint, progress, servant_id, created_at,
                due_at, ready_at, queued_at, sent_at, claimed_at, finished_at AS \"finished_at?\"
            FROM finished_jobs " + $tail,
            $($argument),*
        )
    };
}

/// A filter as arguments of statements.
struct Bounds<'a> {
    states: Vec<i16>,
    kind: Option<&'a str>,
    older_than: DateTime<Utc>,
    newer_than: DateTime<Utc>,
    before_id: i64,
    limit: i64,
}

impl Store {
    /// One job, wherever it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_job(&self, id: JobId) -> Result<Option<JobRow>, StoreError> {
        if let Some(job) = self.find_live_job(id).await? {
            return Ok(Some(job));
        }
        if let Some(job) = self.find_finished_job(id).await? {
            return Ok(Some(job));
        }
        // A retry between the two looks moves a job from the second table back to the first.
        self.find_live_job(id).await
    }

    async fn find_live_job(&self, id: JobId) -> Result<Option<JobRow>, StoreError> {
        let row = live_jobs!("find_live_job", "WHERE id = $1", id.0).fetch_optional(&self.pool).await?;
        row.map(RawJob::check).transpose()
    }

    async fn find_finished_job(&self, id: JobId) -> Result<Option<JobRow>, StoreError> {
        let row = finished_jobs!("find_finished_job", "WHERE id = $1 LIMIT 1", id.0).fetch_optional(&self.pool).await?;
        row.map(RawJob::check).transpose()
    }

    /// Jobs that a filter lets through, newest first, [`PAGE_ROWS_MAX`] at the most.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_jobs(&self, filter: &JobFilter, limit: i64) -> Result<Vec<JobRow>, StoreError> {
        let limit = limit.clamp(1, PAGE_ROWS_MAX);
        let wanted: Vec<JobState> =
            if filter.states.is_empty() { JobState::ALL.to_vec() } else { filter.states.clone() };
        let bounds = Bounds {
            states: wanted.iter().map(|state| state.code()).collect(),
            kind: filter.kind.as_ref().map(Kind::as_str),
            older_than: filter.older_than.unwrap_or_else(far_future),
            newer_than: filter.newer_than.unwrap_or(DateTime::UNIX_EPOCH),
            before_id: filter.before_id.map_or(i64::MAX, |id| id.0),
            limit,
        };
        let has_live = wanted.iter().any(|state| !state.is_finished());
        let mut rows = Vec::new();
        match filter.account {
            Some(account) => {
                if has_live {
                    rows.extend(self.live_of_account(account, &bounds).await?);
                }
                if wanted.iter().any(|state| state.is_finished()) {
                    rows.extend(self.finished_of_account(account, &bounds).await?);
                }
            }
            None => {
                if has_live {
                    rows.extend(self.live_jobs(&bounds).await?);
                }
                for state in wanted.iter().filter(|state| state.is_finished()) {
                    rows.extend(match state {
                        JobState::Succeeded => self.succeeded_jobs(&bounds).await?,
                        trouble => self.trouble_jobs(*trouble, &bounds).await?,
                    });
                }
            }
        }
        // A job that finished between two statements is in both answers; the later one is true.
        rows.sort_by_key(|row| std::cmp::Reverse((row.id, row.finished_at)));
        rows.dedup_by_key(|row| row.id);
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        rows.into_iter().map(RawJob::check).collect()
    }

    async fn live_jobs(&self, bounds: &Bounds<'_>) -> Result<Vec<RawJob>, StoreError> {
        Ok(live_jobs!(
            "live_jobs",
            "WHERE state = ANY($1) AND ($2::text IS NULL OR kind = $2) AND created_at <= $3 AND created_at >= $4
                AND id < $5 ORDER BY id DESC LIMIT $6",
            &bounds.states,
            bounds.kind,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    async fn live_of_account(&self, account: AccountId, bounds: &Bounds<'_>) -> Result<Vec<RawJob>, StoreError> {
        Ok(live_jobs!(
            "live_of_account",
            "WHERE state = ANY($1) AND ($2::text IS NULL OR kind = $2) AND created_at <= $3 AND created_at >= $4
                AND id < $5 AND account_id = $7 ORDER BY id DESC LIMIT $6",
            &bounds.states,
            bounds.kind,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
            account.0,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    async fn succeeded_jobs(&self, bounds: &Bounds<'_>) -> Result<Vec<RawJob>, StoreError> {
        Ok(finished_jobs!(
            "succeeded_jobs",
            "WHERE state = 4 AND ($1::text IS NULL OR kind = $1) AND created_at <= $2 AND created_at >= $3
                AND id < $4 ORDER BY id DESC LIMIT $5",
            bounds.kind,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// `state <> 4` lets the planner use the small index of jobs that did not succeed.
    async fn trouble_jobs(&self, state: JobState, bounds: &Bounds<'_>) -> Result<Vec<RawJob>, StoreError> {
        Ok(finished_jobs!(
            "trouble_jobs",
            "WHERE state <> 4 AND state = $1 AND ($2::text IS NULL OR kind = $2) AND created_at <= $3
                AND created_at >= $4 AND id < $5 ORDER BY id DESC LIMIT $6",
            state.code(),
            bounds.kind,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    async fn finished_of_account(&self, account: AccountId, bounds: &Bounds<'_>) -> Result<Vec<RawJob>, StoreError> {
        Ok(finished_jobs!(
            "finished_of_account",
            "WHERE state = ANY($1) AND ($2::text IS NULL OR kind = $2) AND created_at <= $3 AND created_at >= $4
                AND id < $5 AND account_id = $7 ORDER BY id DESC LIMIT $6",
            &bounds.states,
            bounds.kind,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
            account.0,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// The unfinished jobs of a kind and its latest finished ones, newest first: what a screen shows as under way.
    /// Only so many of the newest finished jobs are looked through.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn latest_of_kind(&self, kind: &Kind, limit: i64) -> Result<Vec<JobRow>, StoreError> {
        let limit = limit.clamp(1, PAGE_ROWS_MAX);
        let mut rows = live_jobs!(
            "latest_live_of_kind",
            "WHERE kind = $1 AND ready_at IS NOT NULL ORDER BY id DESC LIMIT $2",
            kind.as_str(),
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        let finished = finished_jobs!(
            "latest_finished_of_kind",
            "WHERE kind = $1 AND id > (SELECT coalesce(max(newest.id), 0) - $3 FROM finished_jobs AS newest)
            ORDER BY id DESC LIMIT $2",
            kind.as_str(),
            limit,
            LATEST_LOOKED_AT_MAX,
        )
        .fetch_all(&self.pool)
        .await?;
        rows.extend(finished);
        rows.sort_by_key(|row| std::cmp::Reverse((row.id, row.finished_at)));
        rows.dedup_by_key(|row| row.id);
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        rows.into_iter().map(RawJob::check).collect()
    }
}

/// PostgreSQL's timestamps end before chrono's; no job is created later than this.
fn far_future() -> DateTime<Utc> {
    DateTime::from_timestamp(253_402_300_799, 0).unwrap_or(DateTime::UNIX_EPOCH)
}

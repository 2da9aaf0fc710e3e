//! Reading one job for people, with everything known of it, wherever it is. Lists are in `list`, attempts and
//! failures in `stats`. Owns no change of anything.

use crate::{Store, StoreError};
use chrono::{DateTime, Utc};
use domain::{AccountId, ConnectionId, GroupId, JobId, JobState, Kind, ScheduleId, Sensitive, ServantId};
use serde_json::Value;
use uuid::Uuid;

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
    pub payload: Sensitive<Value>,
    /// The connection it works on.
    pub connection_id: Option<ConnectionId>,
    /// The schedule that made it.
    pub schedule_id: Option<ScheduleId>,
    /// The group that it is a member of.
    pub group_id: Option<GroupId>,
    /// Its unique key.
    pub unique_key: Option<String>,
    /// Not after this time.
    pub deadline_at: Option<DateTime<Utc>>,
    /// The trace it belongs to.
    pub traceparent: Option<String>,
    /// What the next attempt starts from.
    pub checkpoint: Option<Sensitive<Value>>,
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

/// A row before its state and kind are checked.
pub(super) struct RawJob {
    pub(super) id: i64,
    pub(super) account_id: i64,
    pub(super) kind: String,
    pub(super) state: i16,
    pub(super) priority: i16,
    pub(super) attempt: i16,
    pub(super) attempts_max: i16,
    pub(super) sends: i16,
    pub(super) cancel_requested: bool,
    pub(super) request_id: Uuid,
    pub(super) payload: Value,
    pub(super) connection_id: Option<i64>,
    pub(super) schedule_id: Option<i64>,
    pub(super) group_id: Option<i64>,
    pub(super) unique_key: Option<String>,
    pub(super) deadline_at: Option<DateTime<Utc>>,
    pub(super) traceparent: Option<String>,
    pub(super) checkpoint: Option<Value>,
    pub(super) progress: Option<Value>,
    pub(super) servant_id: Option<i64>,
    pub(super) created_at: DateTime<Utc>,
    pub(super) due_at: DateTime<Utc>,
    pub(super) ready_at: Option<DateTime<Utc>>,
    pub(super) queued_at: Option<DateTime<Utc>>,
    pub(super) sent_at: Option<DateTime<Utc>>,
    pub(super) claimed_at: Option<DateTime<Utc>>,
    pub(super) finished_at: Option<DateTime<Utc>>,
}

impl RawJob {
    pub(super) fn check(self) -> Result<JobRow, StoreError> {
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
            payload: Sensitive::new(self.payload),
            connection_id: self.connection_id.map(ConnectionId),
            schedule_id: self.schedule_id.map(ScheduleId),
            group_id: self.group_id.map(GroupId),
            unique_key: self.unique_key,
            deadline_at: self.deadline_at,
            traceparent: self.traceparent,
            checkpoint: self.checkpoint.map(Sensitive::new),
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

/// One checked statement over the unfinished jobs: the columns of a [`RawJob`] from `$from`, which names `jobs`.
macro_rules! live_jobs {
    ($name:literal, $from:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            RawJob,
            "-- " + $name + "\nSELECT id, account_id, kind, state, priority, attempt, attempts_max, sends,
                cancel_requested, request_id, payload, connection_id, schedule_id, unique_key, deadline_at,
                traceparent, checkpoint, progress, servant_id, created_at, due_at, ready_at, queued_at, sent_at,
                claimed_at, NULL::timestamptz AS finished_at, group_id
            FROM " + $from,
            $($argument),*
        )
    };
}

/// The same over the finished jobs; `$from` names `finished_jobs`.
macro_rules! finished_jobs {
    ($name:literal, $from:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            RawJob,
            "-- " + $name + "\nSELECT id, account_id, kind, state, priority, attempt, attempts_max,
                0::smallint AS \"sends!\", false AS \"cancel_requested!\", request_id, payload, connection_id,
                schedule_id, unique_key, deadline_at, traceparent, checkpoint, progress, servant_id, created_at,
                due_at, ready_at, queued_at, sent_at, claimed_at, finished_at AS \"finished_at?\", group_id
            FROM " + $from,
            $($argument),*
        )
    };
}

pub(super) use {finished_jobs, live_jobs};

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
        let row = live_jobs!("find_live_job", "jobs WHERE id = $1", id.0).fetch_optional(&self.pool).await?;
        row.map(RawJob::check).transpose()
    }

    async fn find_finished_job(&self, id: JobId) -> Result<Option<JobRow>, StoreError> {
        let row = finished_jobs!("find_finished_job", "finished_jobs WHERE id = $1 LIMIT 1", id.0)
            .fetch_optional(&self.pool)
            .await?;
        row.map(RawJob::check).transpose()
    }
}

//! Jobs on the wire.

use crate::Act;
use chrono::{DateTime, Utc};
use domain::JobState;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// A job in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Job {
    /// Its id.
    pub id: i64,
    /// The type of work.
    pub kind: String,
    /// Where it stands.
    #[schema(value_type = String, example = "running")]
    pub state: JobState,
    /// Whose it is; 0 is the system.
    pub account_id: i64,
    /// The group that it is a member of.
    #[serde(default)]
    pub group_id: Option<i64>,
    /// 0 (urgent) to 4 (whenever).
    pub priority: i16,
    /// Attempts charged so far.
    pub attempt: i16,
    /// Attempts in all.
    pub attempts_max: i16,
    /// An operator wants it to stop.
    pub cancel_requested: bool,
    /// When it was inserted.
    pub created_at: DateTime<Utc>,
    /// When it is or was due.
    pub due_at: DateTime<Utc>,
    /// When a servant took it last.
    pub claimed_at: Option<DateTime<Utc>>,
    /// When it finished.
    pub finished_at: Option<DateTime<Utc>>,
    /// The servant that has it or had it last.
    pub servant_id: Option<i64>,
    /// How far it is: done, total, message.
    pub progress: Option<Value>,
}

/// A page of jobs, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// Pass as `before` for the next page; none: this was the last.
    pub next_before: Option<i64>,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct JobQuery {
    /// The words of the search: `state:failed kind:noop account:7 group:8 servant:9 error:… age:<2h`; they and the other
    /// entries hold together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// States, comma-separated; `pending` stands for scheduled, ready and queued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// A type of work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// An account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// A group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Created at least so long ago: `90s`, `15m`, `6h`, `2d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub older_than: Option<String>,
    /// Created at most so long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newer_than: Option<String>,
    /// Ids below this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Rows, 200 at the most; 50 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
}

/// A job with everything that is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobDetail {
    /// What lists show too.
    #[serde(flatten)]
    pub job: Job,
    /// The request that asked for it.
    pub request_id: String,
    /// What to do.
    pub payload: Value,
    /// What the next attempt starts from.
    pub checkpoint: Option<Value>,
    /// The connection it works on.
    pub connection_id: Option<i64>,
    /// The schedule that made it.
    pub schedule_id: Option<i64>,
    /// Its unique key.
    pub unique_key: Option<String>,
    /// Not after this time.
    pub deadline_at: Option<DateTime<Utc>>,
    /// The trace it belongs to, as W3C's traceparent.
    #[serde(default)]
    pub traceparent: Option<String>,
    /// The stamps of its life in order.
    pub timeline: Vec<TimelineStep>,
    /// Attempts that did not simply succeed.
    pub attempts: Vec<Attempt>,
    /// What operators did with it, the latest first.
    #[serde(default)]
    pub acts: Vec<Act>,
}

/// One stamp of a job's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TimelineStep {
    /// created, due, queued, sent, claimed or finished.
    pub step: String,
    /// When.
    pub at: DateTime<Utc>,
    /// Milliseconds since the step before.
    pub lag_ms: Option<i64>,
}

/// An attempt that did not simply succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attempt {
    /// The group of the same errors.
    #[serde(default)]
    pub fingerprint: String,
    /// Its number.
    pub attempt: i16,
    /// The error's class.
    pub class: String,
    /// The whole chain of causes, one a line.
    pub error: String,
    /// The servant.
    pub servant_id: Option<i64>,
    /// When it began.
    pub claimed_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// The end of what it logged, one line each.
    #[serde(default)]
    pub log: Option<String>,
}

/// A job to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnqueueRequest {
    /// The type of work.
    pub kind: String,
    /// What to do; `{}` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// Whose it is; the system's unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<i64>,
    /// The connection it works on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<i64>,
    /// 0 (urgent) to 4 (whenever); 2 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
    /// Attempts in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u16>,
    /// Not before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<DateTime<Utc>>,
    /// Not after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<DateTime<Utc>>,
    /// At most one unfinished job of the kind with this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_key: Option<String>,
    /// The key stays taken for so many seconds, whatever becomes of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique_secs: Option<u32>,
}

/// What became of a request to enqueue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnqueueReply {
    /// The job, or the unfinished one that holds the key.
    pub id: Option<i64>,
    /// Its key was taken: nothing was inserted.
    pub duplicate: bool,
    /// Finds the request, and the job, in the logs.
    pub request_id: String,
}

/// A job that was started anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RetryReply {
    /// The job.
    pub id: i64,
    /// Where it stands now.
    #[schema(value_type = String)]
    pub state: JobState,
}

/// A job that was told to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CancelReply {
    /// The job.
    pub id: i64,
    /// Where it stands now: cancelled, or running until its servant obeys.
    #[schema(value_type = String)]
    pub state: JobState,
}

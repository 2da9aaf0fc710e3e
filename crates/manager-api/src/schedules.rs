//! Schedules on the wire, and the client's calls for them.

use crate::{ByWhom, ClientError, Job, ManagerClient};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// A schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Schedule {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The kind of its jobs.
    pub kind: String,
    /// Whose jobs they are.
    pub account_id: i64,
    /// The connection they work on.
    pub connection_id: Option<i64>,
    /// What they are to do.
    #[serde(default)]
    pub payload: Value,
    /// Their priority, 0 (urgent) to 4 (whenever).
    #[serde(default)]
    pub priority: i16,
    /// Their attempts in all.
    #[serde(default)]
    pub attempts_max: i16,
    /// The rule: `{"every_secs": 60}`, `{"once": "…"}` or `{"cron": {"expression": "0 9 * * *", "zone": "Europe/Berlin"}}`.
    pub rule: Value,
    /// While its last job is unfinished: skip, buffer_one, cancel_older or allow.
    #[serde(default)]
    pub overlap: String,
    /// How far the fires of many accounts are spread, in seconds.
    #[serde(default)]
    pub jitter_secs: i32,
    /// No fire before this.
    #[serde(default)]
    pub starts_at: Option<DateTime<Utc>>,
    /// No fire from this on.
    #[serde(default)]
    pub ends_at: Option<DateTime<Utc>>,
    /// How old a missed fire may be that is made good, in seconds.
    #[serde(default)]
    pub catch_up_secs: i32,
    /// How many missed fires are made good, the latest.
    #[serde(default)]
    pub catch_up_max: i16,
    /// When it fires next; none: never again.
    pub next_due_at: Option<DateTime<Utc>>,
    /// When it fired last.
    pub last_due_at: Option<DateTime<Utc>>,
    /// The fire that waits for its unfinished job.
    #[serde(default)]
    pub buffered_due_at: Option<DateTime<Utc>>,
    /// Fires that were missed and not made good.
    #[serde(default)]
    pub dropped_fires: i64,
    /// Entered from the catalogue, which does not change it again.
    #[serde(default)]
    pub declared: bool,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Why.
    pub paused_reason: Option<String>,
    /// Since when.
    #[serde(default)]
    pub paused_at: Option<DateTime<Utc>>,
}

/// A schedule with what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleDetail {
    /// As it stands.
    #[serde(flatten)]
    pub schedule: Schedule,
    /// The jobs that it made last, the latest first.
    #[serde(default)]
    pub jobs: Vec<Job>,
}

/// Which schedules to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ScheduleQuery {
    /// An account; the system's own are in no account's list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<i64>,
    /// True: only those that somebody paused, the latest paused first; of one account newest first, and a page may be short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Behind this one: `next_before` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// Rows, 200 at the most; 50 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// A page of schedules, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SchedulePage {
    /// The schedules.
    pub schedules: Vec<Schedule>,
    /// Pass as `before` for the next page; none: this was the last.
    pub next_before: Option<i64>,
}

/// A schedule to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSchedule {
    /// Unique.
    pub name: String,
    /// The kind of its jobs.
    pub kind: String,
    /// The rule, as in [`Schedule::rule`].
    pub rule: Value,
    /// Whose jobs; the system's unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<i64>,
    /// The connection they work on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<i64>,
    /// Their attempts in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u16>,
    /// The rest.
    #[serde(flatten)]
    pub settings: ScheduleSettings,
}

/// What can be set when a schedule is made, and changed later; what is not said stays, or is the default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleSettings {
    /// While its last job is unfinished: skip (default), buffer_one, cancel_older or allow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<String>,
    /// How far the fires of many accounts are spread, in seconds; 0 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter_secs: Option<u32>,
    /// No fire before this; null: no such bound.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<DateTime<Utc>>)]
    pub starts_at: Option<Option<DateTime<Utc>>>,
    /// No fire from this on; null: no such bound.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<DateTime<Utc>>)]
    pub ends_at: Option<Option<DateTime<Utc>>>,
    /// How old a missed fire may be that is made good, in seconds; a day unless said, a minute at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up_secs: Option<u32>,
    /// How many missed fires are made good, the latest; 1 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catch_up_max: Option<u16>,
    /// What the jobs are to do; `{}` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// The jobs' priority, 0 (urgent) to 4 (whenever); 2 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i16>,
}

/// Tells a key that is null from one that is not there.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<DateTime<Utc>>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// What to change of a schedule.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateSchedule {
    /// The rule; the next fire is then as if the schedule were new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Value>,
    /// The rest.
    #[serde(flatten)]
    pub settings: ScheduleSettings,
}

/// Who pauses a schedule, and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseSchedule {
    /// Who, where nobody signs on; anybody else is known by the sign-on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    pub reason: String,
}

/// What became of "run now".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunReply {
    /// The new job; none: it is made when the unfinished one has finished (buffer_one).
    pub job_id: Option<i64>,
    /// Finds the request, and the job, in the logs.
    pub request_id: String,
}

/// A range of due times, in the past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackfillRequest {
    /// The first instant.
    pub from: DateTime<Utc>,
    /// The first instant that no longer belongs to it.
    pub to: DateTime<Utc>,
}

/// What became of a back-fill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackfillReply {
    /// Due times in the range.
    pub due_times: u64,
    /// New jobs; the others were there already.
    pub inserted: u64,
    /// Finds the request, and the jobs, in the logs.
    pub request_id: String,
}

/// How much to preview.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PreviewQuery {
    /// Fires, 500 at the most; 50 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
}

/// Whether a deletion is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteQuery {
    /// Deletes even a schedule that the catalogue declares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
}

/// The next fires of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SchedulePreview {
    /// The schedule.
    pub id: i64,
    /// The zone whose clock its rule reads.
    pub zone: String,
    /// Who paused it: then nothing fires.
    pub paused_by: Option<String>,
    /// The fires, in their order.
    pub fires: Vec<PreviewedFire>,
}

/// A fire to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreviewedFire {
    /// When.
    pub at: DateTime<Utc>,
    /// The same by the zone's clock.
    pub local: String,
    /// What a change of the zone's clock does to it.
    pub dst: Option<String>,
}

/// A schedule that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeleteReply {
    /// The schedule.
    pub id: i64,
}

impl ManagerClient {
    /// Lists schedules.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn schedules(&self, query: &ScheduleQuery) -> Result<SchedulePage, ClientError> {
        self.get("/api/v1/schedules", query).await
    }

    /// Shows one schedule, and the jobs that it made last.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn schedule(&self, id: i64) -> Result<ScheduleDetail, ClientError> {
        self.get(&format!("/api/v1/schedules/{id}"), &()).await
    }

    /// Makes a schedule.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_schedule(&self, schedule: &CreateSchedule) -> Result<Schedule, ClientError> {
        self.post("/api/v1/schedules", schedule).await
    }

    /// Changes a schedule.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn update_schedule(&self, id: i64, change: &UpdateSchedule) -> Result<Schedule, ClientError> {
        self.patch(&format!("/api/v1/schedules/{id}"), change).await
    }

    /// Deletes a schedule.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete_schedule(&self, id: i64, query: &DeleteQuery) -> Result<DeleteReply, ClientError> {
        self.delete(&format!("/api/v1/schedules/{id}"), query).await
    }

    /// Keeps a schedule from firing.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn pause_schedule(&self, id: i64, pause: &PauseSchedule) -> Result<Schedule, ClientError> {
        self.post(&format!("/api/v1/schedules/{id}/pause"), pause).await
    }

    /// Lets a schedule fire again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn resume_schedule(&self, id: i64, whom: &ByWhom) -> Result<Schedule, ClientError> {
        self.post(&format!("/api/v1/schedules/{id}/resume"), whom).await
    }

    /// Makes a job of a schedule now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn run_schedule(&self, id: i64) -> Result<RunReply, ClientError> {
        self.post(&format!("/api/v1/schedules/{id}/run"), &serde_json::json!({})).await
    }

    /// Makes the jobs of a range of due times.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn backfill_schedule(&self, id: i64, range: &BackfillRequest) -> Result<BackfillReply, ClientError> {
        self.post(&format!("/api/v1/schedules/{id}/backfill"), range).await
    }

    /// Shows the next fires of a schedule.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn preview_schedule(&self, id: i64, query: &PreviewQuery) -> Result<SchedulePreview, ClientError> {
        self.get(&format!("/api/v1/schedules/{id}/preview"), query).await
    }
}

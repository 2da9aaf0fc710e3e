//! Pauses, and why a job does not run, on the wire.

use chrono::{DateTime, Utc};
use domain::{Cause, JobState};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A pause in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pause {
    /// everything, kind, account, connection or group.
    pub scope: String,
    /// The kind's name, or the id; empty for everything.
    pub key: String,
    /// Who did it.
    pub paused_by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub paused_at: DateTime<Utc>,
}

/// Which pauses to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PauseQuery {
    /// Behind this one: `next_after` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Rows, 200 at the most; 50 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// A page of the pauses in force, the latest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PauseList {
    /// The pauses.
    pub pauses: Vec<Pause>,
    /// What to ask for the next page with; none: this is the last one.
    #[serde(default)]
    pub next_after: Option<String>,
}

/// What a pause needs to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// Why; everybody who wonders reads it.
    pub reason: String,
    /// Who, where nobody signs on; anybody else is known by the sign-on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// A pause that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResumeReply {
    /// everything, kind, account, connection or group.
    pub scope: String,
    /// The kind's name, or the id; empty for everything.
    pub key: String,
}

/// Why a job does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Why {
    /// The job.
    pub id: i64,
    /// Where it stands.
    #[schema(value_type = String)]
    pub state: JobState,
    /// The ledger's time.
    pub now: DateTime<Utc>,
    /// The first cause that binds, with its times and numbers; `cause` names it.
    #[schema(value_type = Object)]
    pub why: Cause,
    /// The cause as a sentence.
    pub says: String,
    /// What would let the job run; none: it runs or has ended.
    pub cleared_by: Option<String>,
}

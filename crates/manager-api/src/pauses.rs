//! Pauses, and why a job does not run, on the wire.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A pause in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pause {
    /// everything, kind, account or connection.
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

/// The pauses in force, the latest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PauseList {
    /// The pauses.
    pub pauses: Vec<Pause>,
}

/// What a pause needs to be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// Why; everybody who wonders reads it.
    pub reason: String,
    /// Who does it.
    pub by: String,
}

/// A pause that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResumeReply {
    /// everything, kind, account or connection.
    pub scope: String,
    /// The kind's name, or the id; empty for everything.
    pub key: String,
}

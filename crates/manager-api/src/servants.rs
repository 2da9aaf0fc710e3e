//! Servants and their heartbeats on the wire.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// A job under way in a servant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CurrentJob {
    /// The job.
    pub id: i64,
    /// Which attempt.
    pub attempt: u16,
    /// Whose it is.
    pub account_id: i64,
    /// Since when.
    pub started_at: DateTime<Utc>,
    /// How far: done, total, message.
    #[serde(default)]
    pub progress: Option<Value>,
}

/// What a servant says of itself every two seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Heartbeat {
    /// Its identity: one boot.
    pub servant_id: i64,
    /// What it does.
    pub kind: String,
    /// running, paused, draining or stopped.
    pub state: String,
    /// Its build.
    pub version: String,
    /// Where it runs.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Resident memory, where the system tells.
    #[serde(default)]
    pub rss_bytes: Option<u64>,
    /// Of the processor, since the heartbeat before, in per cent of one core; where the system tells.
    #[serde(default)]
    pub cpu_pct: Option<u32>,
    /// Jobs at a time.
    pub concurrency: u32,
    /// Jobs under way.
    pub running: u32,
    /// Some of them.
    pub jobs: Vec<CurrentJob>,
}

/// The orders that answer a heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeartbeatReply {
    /// Take no new work, as long as this is said.
    pub pause: bool,
    /// Take new work again.
    pub resume: bool,
    /// Finish what is under way and stop.
    pub drain: bool,
    /// Jobs to stop.
    pub cancel: Vec<i64>,
}

/// What a servant can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Take no new work for now.
    Pause,
    /// Take work again.
    Resume,
    /// Finish and stop.
    Drain,
}

impl Order {
    /// The text in the database and on screens.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Drain => "drain",
        }
    }
}

/// An order to one servant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderRequest {
    /// pause, resume or drain.
    pub order: Order,
    /// Who gives it; `unknown` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A servant process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Servant {
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
    /// running, paused or draining.
    pub state: String,
    /// alive, late or lost.
    pub liveness: String,
    /// The order in force.
    pub ordered: Option<String>,
    /// Who gave it.
    #[serde(default)]
    pub ordered_by: Option<String>,
    /// Why; empty where nobody said.
    #[serde(default)]
    pub ordered_reason: Option<String>,
    /// When.
    #[serde(default)]
    pub ordered_at: Option<DateTime<Utc>>,
    /// Jobs at a time.
    pub concurrency: i32,
    /// Jobs under way.
    pub running: i32,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Its last sign of life of any sort.
    pub seen_at: DateTime<Utc>,
    /// Its last heartbeat.
    pub heartbeat_at: Option<DateTime<Utc>>,
    /// Seconds since the last sign of life.
    pub silent_secs: i64,
    /// Resident memory.
    pub rss_bytes: Option<i64>,
    /// Of its processor, in per cent of one core.
    #[serde(default)]
    pub cpu_pct: Option<i32>,
    /// What it works on.
    pub jobs: Vec<CurrentJob>,
}

/// Which page of the servants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ServantQuery {
    /// Behind this servant, the last one of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// Rows, 200 at the most and unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// Servants that were heard of lately.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServantList {
    /// By kind and age.
    pub servants: Vec<Servant>,
    /// What to ask the next page with; none when this is the last.
    pub next_after: Option<i64>,
}

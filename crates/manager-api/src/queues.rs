//! Queues and throughput on the wire, and the calls for them.

use crate::{ClientError, ManagerClient};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What waits of a kind, as the leading scheduler saw it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Queue {
    /// The kind.
    pub kind: String,
    /// When it was looked at.
    pub seen_at: DateTime<Utc>,
    /// Since when the oldest job that is due waits; none: none does.
    pub oldest_ready_at: Option<DateTime<Utc>>,
    /// Messages to be received, as approximate as SQS says it; none: there is no queue.
    pub visible: Option<i64>,
    /// Messages received and not deleted.
    pub in_flight: Option<i64>,
    /// Messages not yet due.
    pub delayed: Option<i64>,
    /// Dead letters.
    pub dead: Option<i64>,
    /// Who ordered dead letters to be moved back, as long as that has not begun.
    pub redrive_by: Option<String>,
    /// What became of the last such order.
    pub redrive_outcome: Option<String>,
    /// When that was.
    pub redriven_at: Option<DateTime<Utc>>,
}

/// All kinds that were looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueList {
    /// By kind.
    pub queues: Vec<Queue>,
}

/// Who orders dead letters to be moved back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedriveRequest {
    /// Who, where nobody signs on; anybody else is known by the sign-on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Which stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ThroughputQuery {
    /// 1h (by minute, unless said), 24h (by quarter of an hour) or 7d (by hour).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<String>,
    /// Of this kind; of all unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// Jobs that ended, over time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Throughput {
    /// Seconds of one point.
    pub step_secs: i32,
    /// The beginning of the first point that there may be.
    pub from: DateTime<Utc>,
    /// The beginning of the last one.
    pub until: DateTime<Utc>,
    /// Points in which a job ended, the earliest first.
    pub points: Vec<ThroughputPoint>,
}

/// Jobs that ended in one stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ThroughputPoint {
    /// Its beginning.
    pub at: DateTime<Utc>,
    /// Jobs that succeeded.
    pub succeeded: i64,
    /// Jobs that failed for good.
    pub failed: i64,
    /// Jobs that were cancelled.
    pub cancelled: i64,
    /// How long those that succeeded had been ready before they were claimed, in milliseconds: the mean.
    pub waited_ms_mean: i64,
    /// The longest.
    pub waited_ms_max: i64,
    /// Within how many milliseconds half of them, 95 % and 99 % were claimed; rounded up, by 41 % at the most.
    #[serde(default)]
    pub waited_ms: Percentiles,
    /// How long they ran, in milliseconds: the mean.
    pub ran_ms_mean: i64,
    /// Within how many milliseconds half of them, 95 % and 99 % had run; rounded up, by 41 % at the most.
    #[serde(default)]
    pub ran_ms: Percentiles,
}

/// How long things took, in milliseconds; 0 where there was none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Percentiles {
    /// Half of them.
    pub p50: i64,
    /// 95 % of them.
    pub p95: i64,
    /// 99 % of them.
    pub p99: i64,
}

impl ManagerClient {
    /// Lists what waits by kind.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn queues(&self) -> Result<QueueList, ClientError> {
        self.get("/api/v1/queues", &()).await
    }

    /// Orders a kind's dead letters to be moved back; the leading scheduler does it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn redrive(&self, kind: &str, request: &RedriveRequest) -> Result<QueueList, ClientError> {
        self.post(&format!("/api/v1/queues/{kind}/redrive"), request).await
    }

    /// Says how many jobs ended over time, and how long they waited and ran.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn throughput(&self, query: &ThroughputQuery) -> Result<Throughput, ClientError> {
        self.get("/api/v1/throughput", query).await
    }
}

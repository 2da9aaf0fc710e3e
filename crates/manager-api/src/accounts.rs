//! One customer's whole on the wire, and the calls for it.

use crate::{Account, Anomaly, AuditEntry, ClientError, Connection, EnqueueReply, ManagerClient};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A customer with its connections and what is open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AccountDetail {
    /// The customer.
    pub account: Account,
    /// Its connections, newest first, 50 at the most.
    pub connections: Vec<Connection>,
    /// Its anomalies that are open, newest first, 20 at the most.
    pub anomalies: Vec<Anomaly>,
}

/// How far an object of a customer is followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stream {
    /// By which connection.
    pub connection_id: i64,
    /// Which object.
    pub object: String,
    /// Every change before this is in the records; none: not even once.
    pub watermark: Option<DateTime<Utc>>,
    /// When a window was last read to its end.
    pub synced_at: Option<DateTime<Utc>>,
    /// Seconds between the watermark and now.
    pub lag_secs: Option<i64>,
    /// ok or needs_attention.
    pub health: String,
    /// Why it needs that.
    pub health_reason: Option<String>,
    /// Rows read of the open window; none: no window is open.
    pub rows_seen: Option<i64>,
    /// Rows that the vendor says it has.
    pub rows_expected: Option<i64>,
    /// Seconds until the open window is read, at the pace so far; none: not known.
    pub left_secs: Option<i64>,
}

/// Which of a customer's streams.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StreamQuery {
    /// Behind this one: `next_after` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Rows, 200 at the most; 50 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// A page of a customer's streams, by connection and object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StreamPage {
    /// The streams.
    pub streams: Vec<Stream>,
    /// Pass as `after` for the next page; none: this was the last.
    pub next_after: Option<String>,
}

/// How many of a customer's changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ChangeQuery {
    /// Of each thing, 20 at the most; 5 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// What people changed of what decides how a customer's jobs go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangeList {
    /// The latest first: of its share, its pauses and limits, and those, the quotas and the schedules of its newest
    /// connections and schedules, 5 of each.
    pub changes: Vec<AuditEntry>,
}

impl ManagerClient {
    /// Shows one customer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn account(&self, id: i64) -> Result<AccountDetail, ClientError> {
        self.get(&format!("/api/v1/accounts/{id}"), &()).await
    }

    /// Lists how far a customer's objects are followed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn streams(&self, account: i64, query: &StreamQuery) -> Result<StreamPage, ClientError> {
        self.get(&format!("/api/v1/accounts/{account}/streams"), query).await
    }

    /// Lists what people changed of what decides how a customer's jobs go.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn changes(&self, account: i64, query: &ChangeQuery) -> Result<ChangeList, ClientError> {
        self.get(&format!("/api/v1/accounts/{account}/changes"), query).await
    }

    /// Syncs a connection now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sync_connection(&self, id: i64) -> Result<EnqueueReply, ClientError> {
        self.post(&format!("/api/v1/connections/{id}/sync"), &serde_json::json!({})).await
    }

    /// Inserts a job like one that there is, with the same payload.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn run_again(&self, id: i64) -> Result<EnqueueReply, ClientError> {
        self.post(&format!("/api/v1/jobs/{id}/again"), &serde_json::json!({})).await
    }

    /// Shows one servant.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn servant(&self, id: i64) -> Result<crate::Servant, ClientError> {
        self.get(&format!("/api/v1/servants/{id}"), &()).await
    }
}

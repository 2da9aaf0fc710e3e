//! Records in quarantine on the wire, and the calls for them.

use crate::{ByWhom, ClientError, EnqueueReply, ManagerClient, OverrideRequest};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A record that could not be stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuarantinedRecord {
    /// Its number.
    pub id: i64,
    /// Whose record.
    pub account_id: i64,
    /// By which connection.
    pub connection_id: i64,
    /// Its object.
    pub object: String,
    /// The vendor's id; none: it cannot be read.
    pub record_id: Option<String>,
    /// What is wrong with it.
    pub reason: String,
    /// How many bytes it has.
    pub bytes: i64,
    /// When these bytes were first seen.
    pub first_seen_at: DateTime<Utc>,
    /// When last.
    pub last_seen_at: DateTime<Utc>,
    /// open, dismissed or resolved.
    pub state: String,
    /// Who brought it into its state; `servant` when it came by itself.
    pub state_by: String,
    /// Why.
    pub state_reason: String,
    /// Since when.
    pub state_since: DateTime<Utc>,
    /// When somebody last had it asked for once more.
    pub retried_at: Option<DateTime<Utc>>,
    /// When the vendor says that it changed last; none: that cannot be read.
    pub version_at: Option<DateTime<Utc>>,
    /// Whether it lies in the vendor's recycle bin; none: that is not known.
    pub is_deleted: Option<bool>,
    /// Of which version of the record these are the bytes, counted since it is in quarantine: one record is one entry, and
    /// the versions before this one are resolved. All of them: ask for the `record` of the `object`.
    pub versions: i32,
    /// Whether the vendor can be asked for it by its id, which `retry` does.
    pub is_askable: bool,
}

/// A record that could not be stored, with its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuarantineDetail {
    /// What is known of it.
    pub record: QuarantinedRecord,
    /// It, as it came: 65,536 bytes of it at the most.
    pub body: String,
    /// How its bytes are written: text, or hex where they are no UTF-8.
    pub encoding: String,
    /// It has more bytes than are shown.
    pub is_cut: bool,
}

/// Which records in quarantine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct QuarantineQuery {
    /// open, dismissed or resolved; all unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Of this account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<i64>,
    /// Of this connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<i64>,
    /// Of this object; goes with `connection`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Of the record of this id, in all its versions; goes with `object`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// Numbers below this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// Rows, 200 at the most; 50 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// A page of records in quarantine, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuarantinePage {
    /// The records.
    pub records: Vec<QuarantinedRecord>,
    /// Pass as `before` for the next page; none: this was the last.
    pub next_before: Option<i64>,
}

impl ManagerClient {
    /// Lists records in quarantine.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn quarantine(&self, query: &QuarantineQuery) -> Result<QuarantinePage, ClientError> {
        self.get("/api/v1/quarantine", query).await
    }

    /// Shows one with its bytes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn quarantined(&self, id: i64) -> Result<QuarantineDetail, ClientError> {
        self.get(&format!("/api/v1/quarantine/{id}"), &()).await
    }

    /// Lets one rest.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn dismiss_quarantined(
        &self,
        id: i64,
        request: &OverrideRequest,
    ) -> Result<QuarantinedRecord, ClientError> {
        self.post(&format!("/api/v1/quarantine/{id}/dismiss"), request).await
    }

    /// Has the vendor asked for it once more.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn retry_quarantined(&self, id: i64, whom: &ByWhom) -> Result<EnqueueReply, ClientError> {
        self.post(&format!("/api/v1/quarantine/{id}/retry"), whom).await
    }
}

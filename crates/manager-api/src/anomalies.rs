//! Anomalies on the wire, and the calls for them.

use crate::{ClientError, ManagerClient, OverrideRequest};
use chrono::{DateTime, Utc};
use domain::AnomalyAct;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Something out of the ordinary in a customer's data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Anomaly {
    /// Its id.
    pub id: i64,
    /// Whose data.
    pub account_id: i64,
    /// By which connection.
    pub connection_id: i64,
    /// Of which object; empty: of the whole connection.
    pub object: String,
    /// What: field_added, field_lost, records_damaged, …
    pub kind: String,
    /// What of the object: a field's name, or empty.
    pub subject: String,
    /// info, warning or critical.
    pub severity: String,
    /// open, acknowledged, muted or resolved.
    pub state: String,
    /// A sentence.
    pub summary: String,
    /// What it was seen by.
    #[schema(value_type = Object)]
    pub evidence: serde_json::Value,
    /// How often it was seen.
    pub sightings: i64,
    /// When first.
    pub first_seen_at: DateTime<Utc>,
    /// When last.
    pub last_seen_at: DateTime<Utc>,
    /// Who brought it into its state; `servant` when it came by itself.
    pub state_by: String,
    /// Why.
    pub state_reason: String,
    /// Since when.
    pub state_since: DateTime<Utc>,
    /// Whose it is to look after; nobody's unless said.
    #[serde(default)]
    pub assigned_to: Option<String>,
}

/// Whose an anomaly is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AssignRequest {
    /// Who looks after it; nobody unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Who says so; `unknown` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Which anomalies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AnomalyQuery {
    /// open, acknowledged, muted or resolved; all unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// At least so grave: info, warning or critical.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// Of this account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<i64>,
    /// Of this connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<i64>,
    /// Ids below this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// Rows, 200 at the most; 50 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// A page of anomalies, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AnomalyPage {
    /// The anomalies.
    pub anomalies: Vec<Anomaly>,
    /// Pass as `before` for the next page; none: this was the last.
    pub next_before: Option<i64>,
}

impl ManagerClient {
    /// Lists anomalies.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn anomalies(&self, query: &AnomalyQuery) -> Result<AnomalyPage, ClientError> {
        self.get("/api/v1/anomalies", query).await
    }

    /// Shows one anomaly.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn anomaly(&self, id: i64) -> Result<Anomaly, ClientError> {
        self.get(&format!("/api/v1/anomalies/{id}"), &()).await
    }

    /// Makes an anomaly somebody's to look after, or nobody's.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn assign_anomaly(&self, id: i64, request: &AssignRequest) -> Result<Anomaly, ClientError> {
        self.post(&format!("/api/v1/anomalies/{id}/assign"), request).await
    }

    /// Acknowledges, resolves or mutes an anomaly.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change_anomaly(
        &self,
        id: i64,
        act: AnomalyAct,
        request: &OverrideRequest,
    ) -> Result<Anomaly, ClientError> {
        self.post(&format!("/api/v1/anomalies/{id}/{}", act.as_str()), request).await
    }
}

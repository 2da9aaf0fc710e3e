//! The audit on the wire: what anybody did, was denied or failed at; and how somebody says why they do something.

use crate::{ClientError, ManagerClient};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Who does something by hand and why, where neither has to be said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ByWhom {
    /// Who, where nobody signs on; anybody else is known by the sign-on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Something that was done with a job, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Act {
    /// Its number in the audit.
    pub seq: i64,
    /// What.
    pub action: String,
    /// Who.
    pub by: String,
    /// Why; empty where nobody said.
    pub reason: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// A row of the audit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its number; later ones are greater, some are missing.
    pub seq: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// user, token, servant, system or open: nobody was asked who they are.
    pub actor_kind: String,
    /// The row of users, tokens or servants.
    pub actor_id: String,
    /// The name.
    pub actor: String,
    /// The role.
    pub role: String,
    /// The account that was looked at as its customer does.
    pub on_behalf_of: Option<i64>,
    /// What.
    pub action: String,
    /// With what: job, pause, limit, budget, account, schedule, connection, breaker, anomaly, group, operation, servant,
    /// queue; of what was denied or failed, request.
    pub subject: String,
    /// With which one: an id; of a pause or a limit, its scope and, after a space, its key; of a request, its address.
    pub key: String,
    /// What changed, as it was.
    #[schema(value_type = Option<Object>)]
    pub before: Option<serde_json::Value>,
    /// What changed, as it became.
    #[schema(value_type = Option<Object>)]
    pub after: Option<serde_json::Value>,
    /// Why; empty where nobody said.
    pub reason: String,
    /// Which request.
    pub request_id: Option<String>,
    /// The other end of the connection.
    pub ip: Option<String>,
    /// What the program said of itself.
    pub agent: String,
    /// done, denied, failed or lapsed.
    pub outcome: String,
    /// SHA-256 of all of the above, in hex.
    pub row_hash: String,
    /// SHA-256 of the chain hash before and of this row's; none: not sealed yet.
    pub chain_hash: Option<String>,
}

/// Which rows of the audit, and which page of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// By that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Of that action, as `retry_job`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// With that sort of thing, as `job`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// With that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// While that account was looked at as its customer does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// From then on, as `2030-01-02T03:04:05Z`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Numbers below this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// Rows, 200 at the most; 50 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// A page of the audit, the latest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The rows.
    pub entries: Vec<AuditEntry>,
    /// Pass as `before` for the next page; none: this was the last.
    pub next_before: Option<i64>,
}

/// Which part of the audit is exported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditExportQuery {
    /// From then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Until before then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Numbers above this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// Rows, 200 at the most; 50 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// A page of the sealed audit, the oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditExport {
    /// The rows.
    pub entries: Vec<AuditEntry>,
    /// Pass as `after` for the next page; none: this was the last.
    pub next_after: Option<i64>,
}

/// From where the audit is verified.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AuditVerifyQuery {
    /// A row and the chain hash up to it, as `12:ab34…`: what an answer before ended with. None: from the first row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// What verifying a page of the audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditVerified {
    /// Rows that are as they were written, and sealed.
    pub sealed: u64,
    /// Rows that are as they were written, and wait for the seal.
    pub awaiting: u64,
    /// The first row that is not what it was; none: all are.
    pub bad_seq: Option<i64>,
    /// What is wrong with it.
    pub bad_what: Option<String>,
    /// Pass as `after` to go on; none: this was the last page.
    pub next_after: Option<String>,
}

impl ManagerClient {
    /// Lists the audit.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit(&self, query: &AuditQuery) -> Result<AuditPage, ClientError> {
        self.get("/api/v1/audit", query).await
    }

    /// A page of the audit's sealed rows, the oldest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn export_audit(&self, query: &AuditExportQuery) -> Result<AuditExport, ClientError> {
        self.get("/api/v1/audit/export", query).await
    }

    /// Verifies a page of the audit.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn verify_audit(&self, query: &AuditVerifyQuery) -> Result<AuditVerified, ClientError> {
        self.get("/api/v1/audit/verify", query).await
    }
}

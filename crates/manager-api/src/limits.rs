//! Limits and customers' quotas on the wire, and the calls for them.

use crate::{ByWhom, ClientError, ManagerClient};
use chrono::{DateTime, Utc};
use domain::Scope;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Bounds on jobs; what is not set does not bind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Bounds {
    /// Jobs queued and running at the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Jobs dispatched in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
    /// Jobs dispatched in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// How many may go at once after a rest, on top of the rate; what the rate gives in a second unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Jobs dispatched in a day, from 00:00 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_day: Option<u32>,
    /// How much of a day's jobs is kept for urgent ones (priority 0), in per cent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve_pct: Option<u8>,
}

/// A limit as it was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Limit {
    /// kind, account, connection, vendor, each_account or each_connection.
    pub scope: String,
    /// The name or the id; empty for each account, and for each connection of any vendor.
    pub key: String,
    /// declared (by a deployment's file) or operator.
    pub source: String,
    /// Whether it counts: an operator's takes the place of a declared one.
    pub in_force: bool,
    /// What it says.
    pub bounds: Bounds,
    /// The operator, or the deployment.
    pub set_by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub set_at: DateTime<Utc>,
}

/// Which limits to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LimitQuery {
    /// Behind this one: `next_after` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Rows, 200 at the most; 50 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// A page of limits, by scope and key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitPage {
    /// The limits.
    pub limits: Vec<Limit>,
    /// What to ask for the next page with; none: this is the last one.
    pub next_after: Option<String>,
}

/// Under which limit the jobs are that are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HolderQuery {
    /// kind, account, connection, vendor, each_account or each_connection.
    pub scope: String,
    /// The name or the id; empty for each account, and for each connection of any vendor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Jobs that are queued or running and count under a limit, of one kind, account and connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Holder {
    /// Their kind.
    pub kind: String,
    /// Whose they are.
    pub account_id: i64,
    /// The connection they work on.
    pub connection_id: Option<i64>,
    /// How many.
    pub jobs: i64,
}

/// Who holds a limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HolderList {
    /// Those with the most jobs first.
    pub holders: Vec<Holder>,
    /// More are queued or running than are looked at, which are the newest 200: there may be more.
    pub is_partial: bool,
}

/// A limit to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitRequest {
    /// What it says: all of it, not what changes.
    #[serde(deserialize_with = "crate::strict::object")]
    pub bounds: Bounds,
    /// Who, where nobody signs on; anybody else is known by the sign-on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    pub reason: String,
}

/// A limit that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitRemoved {
    /// Its scope.
    pub scope: String,
    /// Its key.
    pub key: String,
}

/// A customer's quota at a vendor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Budget {
    /// The connection.
    pub connection_id: i64,
    /// Whose it is.
    pub account_id: i64,
    /// The vendor.
    pub vendor: String,
    /// Calls used by everybody, as the vendor said last.
    pub used: u64,
    /// Calls that the quota has.
    pub maximum: u64,
    /// Calls that jobs may have used: our share, without what is kept for signing on.
    pub ceiling: u64,
    /// When the vendor said so.
    pub reported_at: DateTime<Utc>,
    /// When all are free again; none: what was used becomes free a day later, call by call.
    pub resets_at: Option<DateTime<Utc>>,
    /// Per cent of the quota that are ours.
    pub share_pct: u8,
    /// Per cent of the quota, within our share, that no job uses.
    pub health_pct: u8,
    /// Whether that share is the connection's own; else it is the deployment's.
    pub share_is_own: bool,
    /// Who set the share.
    pub share_set_by: String,
    /// Why.
    pub share_reason: String,
    /// Since when.
    pub share_set_at: DateTime<Utc>,
}

/// Which quotas to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct BudgetQuery {
    /// Behind this connection, the last one of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<i64>,
    /// Rows, 200 at the most; 50 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// A page of quotas, by connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BudgetPage {
    /// The quotas.
    pub budgets: Vec<Budget>,
    /// What to ask for the next page with; none: this is the last one.
    pub next_after: Option<i64>,
}

/// Which minutes to show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MinuteQuery {
    /// Minutes before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<DateTime<Utc>>,
    /// Rows, 200 at the most; 50 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// A minute in which a vendor said something, or calls were reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BudgetMinute {
    /// Its beginning.
    pub minute: DateTime<Utc>,
    /// Calls used by everybody.
    pub used: u64,
    /// Calls that the quota had.
    pub maximum: u64,
    /// Calls that jobs may have used.
    pub ceiling: u64,
    /// The most calls that were reserved for jobs in flight.
    pub reserved: u64,
}

/// A quota and its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BudgetDetail {
    /// As it stands.
    pub budget: Budget,
    /// The last day: the last minute that is known of each quarter of an hour, the latest first.
    #[serde(default)]
    pub day: Vec<BudgetMinute>,
    /// Its minutes, the latest first; they are kept for eight days.
    pub minutes: Vec<BudgetMinute>,
    /// What to ask for the next page with; none: this is the last one.
    pub next_before: Option<DateTime<Utc>>,
}

/// A share to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShareRequest {
    /// Per cent of the customer's quota that are ours, whoever else uses it.
    pub share_pct: u8,
    /// Per cent of the customer's quota, within our share, that no job uses.
    pub health_pct: u8,
    /// Who, where nobody signs on; anybody else is known by the sign-on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    pub reason: String,
}

/// A connection's share that was set or taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShareReply {
    /// The connection.
    pub connection_id: i64,
}

impl ManagerClient {
    /// Lists limits.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn limits(&self, query: &LimitQuery) -> Result<LimitPage, ClientError> {
        self.get("/api/v1/limits", query).await
    }

    /// Lists who holds a limit.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn holders(&self, query: &HolderQuery) -> Result<HolderList, ClientError> {
        self.get("/api/v1/holders", query).await
    }

    /// Sets an operator's limit.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_limit(&self, scope: &Scope, limit: &LimitRequest) -> Result<Limit, ClientError> {
        self.put(&address_of(scope), limit).await
    }

    /// Removes an operator's limit.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_limit(&self, scope: &Scope, whom: &ByWhom) -> Result<LimitRemoved, ClientError> {
        self.delete(&address_of(scope), whom).await
    }

    /// Lists quotas.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn budgets(&self, query: &BudgetQuery) -> Result<BudgetPage, ClientError> {
        self.get("/api/v1/budgets", query).await
    }

    /// Shows a connection's quota and its history.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn budget(&self, connection: i64, query: &MinuteQuery) -> Result<BudgetDetail, ClientError> {
        self.get(&format!("/api/v1/budgets/{connection}"), query).await
    }

    /// Sets our share of one connection's quota.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_share(&self, connection: i64, share: &ShareRequest) -> Result<ShareReply, ClientError> {
        self.put(&format!("/api/v1/budgets/{connection}/share"), share).await
    }

    /// Takes a connection's own share back: the deployment's counts again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_share(&self, connection: i64, whom: &ByWhom) -> Result<ShareReply, ClientError> {
        self.delete(&format!("/api/v1/budgets/{connection}/share"), whom).await
    }
}

fn address_of(scope: &Scope) -> String {
    let key = scope.key();
    let slash = if key.is_empty() { "" } else { "/" };
    format!("/api/v1/limits/{}{slash}{key}", scope.scope())
}

//! Looks at accounts as their customers see them, on the wire: begin, end, and who looked at what.

use crate::{ClientError, ManagerClient};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Whose account is to be looked at, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AssumeRequest {
    /// The account.
    pub account_id: i64,
    /// Why; the customer may be told.
    pub reason: String,
    /// The ticket of whoever asked for it.
    pub ticket: String,
}

/// A look at an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Assumption {
    /// Its id.
    pub id: i64,
    /// The account.
    pub account_id: i64,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The ticket.
    pub ticket: String,
    /// Since when.
    pub started_at: DateTime<Utc>,
    /// Until when, at the latest.
    pub ends_at: DateTime<Utc>,
    /// When it ended; none: it goes on, or its time ran out.
    pub ended_at: Option<DateTime<Utc>>,
    /// It goes on.
    pub is_open: bool,
}

/// A look that was begun.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AssumeReply {
    /// The look.
    pub assumption: Assumption,
    /// Who sends it as the cookie `__Host-servant-assumed`, beside what signs them on, sees what the customer sees.
    pub token: String,
}

impl std::fmt::Debug for AssumeReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AssumeReply").field("assumption", &self.assumption).finish_non_exhaustive()
    }
}

/// What was asked for during a look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AssumptionEvent {
    /// Its id; later ones are greater.
    pub id: i64,
    /// started, looked, refused, ended or expired.
    pub what: String,
    /// The method and the address, of what was looked at or refused.
    pub at_what: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// A look and what was looked at, the latest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AssumptionDetail {
    /// The look.
    pub assumption: Assumption,
    /// What was asked for.
    pub events: Vec<AssumptionEvent>,
    /// Pass as `before` for what was before; none: that is all.
    pub next_before: Option<i64>,
}

/// Which looks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AssumptionQuery {
    /// At this account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<i64>,
    /// Ids below this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// Rows, 200 at the most; 50 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// A page of looks, the latest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AssumptionPage {
    /// The looks.
    pub assumptions: Vec<Assumption>,
    /// Pass as `before` for the next page; none: this was the last.
    pub next_before: Option<i64>,
}

impl ManagerClient {
    /// Begins to look at an account as its customer does.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn assume(&self, request: &AssumeRequest) -> Result<AssumeReply, ClientError> {
        self.post("/api/v1/assumptions", request).await
    }

    /// Ends a look.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn end_assumption(&self, id: i64) -> Result<Assumption, ClientError> {
        self.post(&format!("/api/v1/assumptions/{id}/end"), &()).await
    }

    /// Lists who looked at which account, and why.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn assumptions(&self, query: &AssumptionQuery) -> Result<AssumptionPage, ClientError> {
        self.get("/api/v1/assumptions", query).await
    }

    /// Shows one look and what was looked at.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn assumption(&self, id: i64, page: &crate::PageQuery) -> Result<AssumptionDetail, ClientError> {
        self.get(&format!("/api/v1/assumptions/{id}"), page).await
    }
}

//! What operators did by hand, on the wire: who says that he does something and why, and the list of what was done.

use crate::{ClientError, ManagerClient};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Who does something by hand and why, where neither has to be said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ByWhom {
    /// Who; `unknown` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Something that an operator did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Act {
    /// Its id; later ones are greater.
    pub id: i64,
    /// With what: job, pause, servant, schedule, limit, budget or account.
    pub subject: String,
    /// With which one: an id; of a pause or a limit, its scope and, after a space, its key.
    pub key: String,
    /// What.
    pub what: String,
    /// Who.
    pub by: String,
    /// Why; empty where nobody said.
    pub reason: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// Whose acts, and which page of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ActQuery {
    /// With what; goes with `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// With which one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Ids below this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// Rows, 200 at the most; 50 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// A page of what operators did, the latest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActPage {
    /// What they did.
    pub acts: Vec<Act>,
    /// Pass as `before` for the next page; none: this was the last.
    pub next_before: Option<i64>,
}

impl ManagerClient {
    /// Lists what operators did.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn acts(&self, query: &ActQuery) -> Result<ActPage, ClientError> {
        self.get("/api/v1/acts", query).await
    }
}

//! Groups of errors on the wire, and the calls for them.

use crate::{ClientError, ManagerClient};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Errors that are the same: of one kind of work, one class and one text but for what differs from time to time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorGroup {
    /// What makes it one, and finds its jobs: `error:<fingerprint>`.
    pub fingerprint: String,
    /// The kind of work.
    pub kind: String,
    /// The errors' class.
    pub class: String,
    /// The first line, without what differs.
    pub title: String,
    /// The latest chain of causes, whole.
    pub error: String,
    /// The job of that.
    pub job_id: i64,
    /// When first.
    pub first_seen_at: DateTime<Utc>,
    /// When last.
    pub last_seen_at: DateTime<Utc>,
    /// The build that had it first.
    pub first_version: Option<String>,
    /// The build that had it last.
    pub last_version: Option<String>,
    /// Attempts that ended so.
    pub attempts: i64,
    /// Jobs that have failed so and were not retried.
    pub failed: i64,
    /// Attempts of the last 24 hours by hour, the current one last.
    pub hours: Vec<i64>,
    /// It comes much more often in the latest hours than before.
    pub is_spike: bool,
}

/// Which groups of errors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ErrorQuery {
    /// Of this kind of work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Of this class: transient, rate_limited, auth_broken, permanent, bug, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// With this in the title, whatever the case. A page may be short then, and still have a next one.
    #[param(max_length = 500)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Behind this one: `next_before` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Rows, 30 at the most and unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// A page of groups of errors, those seen last first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorPage {
    /// The groups.
    pub errors: Vec<ErrorGroup>,
    /// Pass as `before` for the next page; none: this was the last.
    pub next_before: Option<String>,
}

impl ManagerClient {
    /// Lists groups of errors.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn errors(&self, query: &ErrorQuery) -> Result<ErrorPage, ClientError> {
        self.get("/api/v1/errors", query).await
    }

    /// Shows one group of errors.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn error(&self, fingerprint: &str) -> Result<ErrorGroup, ClientError> {
        self.get(&format!("/api/v1/errors/{fingerprint}"), &()).await
    }
}

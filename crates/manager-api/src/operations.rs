//! Bulk operations on the wire, and the calls for them.

use crate::{ClientError, ManagerClient};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Something that is done to every job that a search finds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    /// Its id.
    pub id: i64,
    /// retry or cancel.
    pub act: String,
    /// The words of the search.
    pub q: String,
    /// running, done or cancelled.
    pub state: String,
    /// How many jobs its orderer was shown.
    pub expected: i64,
    /// Whether those were all; else there were at least so many.
    pub expected_is_exact: bool,
    /// Jobs that it was done to.
    pub applied: i64,
    /// Jobs that it was not done to: they had moved on, their unique key is taken again or their group is cancelled.
    pub skipped: i64,
    /// Jobs a second at the most.
    pub per_second: i32,
    /// Who ordered it.
    pub created_by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// Who stopped it.
    pub cancelled_by: Option<String>,
}

/// A page of operations, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationPage {
    /// The operations.
    pub operations: Vec<Operation>,
    /// Pass as `before` for the next page; none: this was the last.
    pub next_before: Option<i64>,
}

/// What is to be looked at before it is ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PreviewOperationQuery {
    /// retry or cancel.
    pub act: String,
    /// The words of the search; without a state, failed jobs are retried and unfinished ones cancelled.
    #[serde(default)]
    pub q: String,
}

/// What an operation would be done to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationPreview {
    /// retry or cancel.
    pub act: String,
    /// The words of the search, with the states that are meant.
    pub q: String,
    /// How many jobs it finds.
    pub jobs: i64,
    /// Whether those are all; else there are at least so many.
    pub is_exact: bool,
    /// There are no more than so many, by the counters of kinds, states, groups and errors that the search is within.
    #[serde(default)]
    pub jobs_max: Option<i64>,
}

impl OperationPreview {
    /// How many it finds, in words: 7, or "600 or more, 12000 at the most"; `number` writes one.
    #[must_use]
    pub fn how_many(&self, number: impl Fn(i64) -> String) -> String {
        match (self.is_exact, self.jobs_max) {
            (true, _) => number(self.jobs),
            (false, None) => format!("{} or more", number(self.jobs)),
            (false, Some(most)) => format!("{} or more, {} at the most", number(self.jobs), number(most)),
        }
    }
}

/// An operation to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateOperation {
    /// retry or cancel.
    pub act: String,
    /// The words of the search; one at least.
    pub q: String,
    /// Jobs a second at the most; 200 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10000)]
    pub per_second: Option<u32>,
    /// Who, where nobody signs on; anybody else is known by the sign-on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why.
    pub reason: String,
}

/// Who stops an operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelOperation {
    /// Who, where nobody signs on; anybody else is known by the sign-on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Which of an operation's jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ItemQuery {
    /// Jobs with ids below this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<i64>,
    /// Rows, 200 at the most; 50 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// What became of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationItem {
    /// The job.
    pub job_id: i64,
    /// Whether it was done to it.
    pub applied: bool,
}

/// A page of what became of an operation's jobs, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ItemPage {
    /// The jobs.
    pub items: Vec<OperationItem>,
    /// Pass as `before` for the next page; none: this was the last.
    pub next_before: Option<i64>,
}

impl ManagerClient {
    /// Lists operations.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn operations(&self, page: &crate::PageQuery) -> Result<OperationPage, ClientError> {
        self.get("/api/v1/operations", page).await
    }

    /// Shows one operation.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn operation(&self, id: i64) -> Result<Operation, ClientError> {
        self.get(&format!("/api/v1/operations/{id}"), &()).await
    }

    /// Says what an operation would be done to.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn preview_operation(&self, query: &PreviewOperationQuery) -> Result<OperationPreview, ClientError> {
        self.get("/api/v1/operations/preview", query).await
    }

    /// Orders an operation.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_operation(&self, operation: &CreateOperation) -> Result<Operation, ClientError> {
        self.post("/api/v1/operations", operation).await
    }

    /// Stops an operation.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn cancel_operation(&self, id: i64, by: &CancelOperation) -> Result<Operation, ClientError> {
        self.post(&format!("/api/v1/operations/{id}/cancel"), by).await
    }

    /// Lists what became of an operation's jobs.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn operation_items(&self, id: i64, query: &ItemQuery) -> Result<ItemPage, ClientError> {
        self.get(&format!("/api/v1/operations/{id}/items"), query).await
    }
}

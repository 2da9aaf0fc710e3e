//! Refusals: what handlers return instead of an answer. How they look on the wire is decided in `gate`.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use domain::chain;
use store::StoreError;

/// A refusal. Becomes the one error envelope, or an error page.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) hint: Option<&'static str>,
    /// When to come again, in seconds.
    pub(crate) retry_after_secs: Option<u64>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), hint: None, retry_after_secs: None }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    pub(crate) fn retry_after(mut self, secs: u64) -> Self {
        self.retry_after_secs = Some(secs);
        self
    }

    pub(crate) fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if matches!(error, StoreError::NotAdmitted { .. }) {
            return Self::conflict(error.to_string()).hint("members are added while a group is open");
        }
        if matches!(error, StoreError::NoViewer { .. }) {
            return Self::new(StatusCode::CONFLICT, "no_viewer", error.to_string())
                .hint("everything else works without that role");
        }
        if error.is_of_value() {
            tracing::warn!(error = chain(&error), "a value was refused");
            return Self::bad_request("a value cannot be kept: text with a NUL in it, a number or a time out of range");
        }
        if error.is_transient() {
            tracing::warn!(error = chain(&error), "the ledger does not answer");
            return Self::new(StatusCode::SERVICE_UNAVAILABLE, "database_unavailable", "the database does not answer")
                .hint("try again; `servantctl doctor` says more");
        }
        tracing::error!(error = chain(&error), "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the request failed on our side")
            .hint("the logs have the whole error under this request's id")
    }
}

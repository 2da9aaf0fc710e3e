//! Who a request comes from, as handlers are given it. How that is found out is decided before any handler runs.

use crate::error::ApiError;
use axum::{extract::FromRequestParts, http::StatusCode, http::request::Parts};
use domain::Principal;

/// The one who asks.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) Principal);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            ApiError::new(StatusCode::UNAUTHORIZED, "not_signed_in", "the manager does not know who asks")
                .hint("sign in at /login, or send a token as Authorization: Bearer …")
        })
    }
}

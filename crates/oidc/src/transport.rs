//! One exchange with the provider: no redirects, a time limit, a size limit. Does not own what is asked.

use crate::error::OidcError;
use reqwest::{Client, RequestBuilder, StatusCode, redirect};
use std::time::Duration;

/// Longest wait for a connection, in seconds.
const CONNECT_SECS_MAX: u64 = 5;
/// Longest wait for a whole answer, in seconds.
const ANSWER_SECS_MAX: u64 = 10;
/// Bytes read of an answer, after unpacking: keys and tokens have a few thousand.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

pub(crate) fn client() -> Result<Client, OidcError> {
    Client::builder()
        .redirect(redirect::Policy::none())
        .connect_timeout(Duration::from_secs(CONNECT_SECS_MAX))
        .timeout(Duration::from_secs(ANSWER_SECS_MAX))
        .build()
        .map_err(|error| OidcError::config(format!("no client can be made: {error}")))
}

/// Status and body. A redirect is an answer like another, and no good one.
pub(crate) async fn exchange(request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), OidcError> {
    // Addresses of reqwest's errors may hold what was asked.
    let failed = |error: reqwest::Error| OidcError::unavailable(error.without_url().to_string());
    let mut answer = request.send().await.map_err(failed)?;
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(OidcError::unavailable(format!("its answer is longer than {ANSWER_BYTES_MAX} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, body))
}

//! Owns how answers and refusals look on the wire, and compression. Does not own when which of them is given.

use std::io::Write;

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value as Json, json};

/// Shorter bodies are not worth compressing.
const GZIP_BYTES_MIN: usize = 512;

/// An answer that ends a call before its time.
pub(super) type Early = Box<Response<Body>>;

/// A request refused, as a data call tells it: an array with a code and a message.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// What Salesforce calls `errorCode`.
    pub code: &'static str,
    /// The text beside it.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// The session ended or never was.
    #[must_use]
    pub(super) fn session() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "INVALID_SESSION_ID", "Session expired or invalid")
    }

    /// There is no such column.
    #[must_use]
    pub(super) fn no_field(field: &str, object: &str) -> Self {
        Self::invalid_field(format!(
            "\nERROR at Row:1:Column:8\nNo such column '{field}' on entity '{object}'. If you are attempting to use a custom \
             field, be sure to append the '__c' after the custom field name."
        ))
    }

    /// A field cannot be used so.
    #[must_use]
    pub(super) fn invalid_field(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_FIELD", message)
    }

    /// There is no such object.
    #[must_use]
    pub(super) fn no_object(object: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_TYPE", format!("sObject type '{object}' is not supported."))
    }

    /// There is no such resource.
    #[must_use]
    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", "The requested resource does not exist")
    }

    /// The cursor ended or never was.
    #[must_use]
    pub(super) fn no_cursor() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_QUERY_LOCATOR", "invalid query locator")
    }

    /// The allowance of 24 hours is used up.
    #[must_use]
    pub(super) fn daily_limit() -> Self {
        Self::new(StatusCode::FORBIDDEN, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
    }

    /// A query takes longer than Salesforce lets one run.
    #[must_use]
    pub(super) fn query_timeout() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "QUERY_TIMEOUT", "Your query request was running for too long.")
    }

    /// The results of a bulk job are for the version only that made the job.
    #[must_use]
    pub(super) fn other_version() -> Self {
        Self::new(StatusCode::CONFLICT, "INVALID_VERSION", "The API version differs from the one that created the job")
    }

    /// The body of the answer.
    #[must_use]
    pub(super) fn body(&self) -> Json {
        json!([{ "message": self.message, "errorCode": self.code }])
    }

    /// The answer.
    #[must_use]
    pub(super) fn answer(&self) -> Response<Body> {
        json_answer(self.status, &self.body())
    }
}

/// An answer in JSON.
#[must_use]
pub(super) fn json_answer(status: StatusCode, body: &Json) -> Response<Body> {
    answer(status, "application/json;charset=UTF-8", body.to_string().into_bytes())
}

/// Any answer.
#[must_use]
pub(super) fn answer(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Body> {
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// The body of an answer, compressed if it is long enough.
pub(super) fn gzip(answer: &mut Response<Body>, body: Vec<u8>) -> Vec<u8> {
    if body.len() < GZIP_BYTES_MIN {
        return body;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    match encoder.write_all(&body).and_then(|()| encoder.finish()) {
        Ok(compressed) => {
            answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            compressed
        }
        Err(_) => body,
    }
}

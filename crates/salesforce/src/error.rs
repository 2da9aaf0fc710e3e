//! Owns what can go wrong, named by what the caller can do about it, and how an answer of Salesforce is read for that.
//! Does not own retries.

use std::error::Error;

use reqwest::StatusCode;
use serde_json::Value;

/// The longest part of a foreign text that goes into an error.
const TEXT_CHARS_MAX: usize = 300;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, SalesforceError>;

/// A call failed. The variant says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SalesforceError {
    /// Try again later: the server, the network or a broken answer. Retries inside the client are used up.
    #[error("salesforce is unavailable: {reason}")]
    Unavailable {
        /// What was seen.
        reason: String,
        /// What lies behind it.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// Ask less at the same time: too many long requests run at once in this organisation.
    #[error("salesforce refuses more concurrent requests")]
    RateLimited {
        /// How long to wait, if Salesforce says so (it mostly does not).
        retry_after_secs: Option<u64>,
    },
    /// Stop asking this organisation until its rolling 24 hours give room. Never a success.
    #[error("the daily api allowance of the organisation is used up")]
    QuotaExhausted,
    /// The connection must be authorised anew by a person.
    #[error("salesforce no longer accepts the authorisation: {reason}")]
    AuthBroken {
        /// The code and description given.
        reason: String,
    },
    /// An administrator must grant something.
    #[error("salesforce forbids this: {code}: {message}")]
    Forbidden {
        /// The code given.
        code: String,
        /// The text beside it.
        message: String,
    },
    /// The organisation's shape or the permissions changed: describe again.
    #[error("the shape of the organisation changed: {code}: {message}")]
    Drift {
        /// The code given.
        code: String,
        /// The text beside it.
        message: String,
    },
    /// Start the query again: its cursor is gone.
    #[error("the query cursor expired")]
    CursorExpired,
    /// Ask for a smaller window.
    #[error("the query took too long for salesforce: {message}")]
    QueryTimeout {
        /// The text given.
        message: String,
    },
    /// A defect of ours, or an answer that breaks the contract: asking again changes nothing.
    #[error("salesforce rejected the request: {code}: {message}")]
    Rejected {
        /// The code given.
        code: String,
        /// The text beside it.
        message: String,
    },
}

impl SalesforceError {
    pub(crate) fn unavailable(reason: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable { reason: reason.into(), source: Some(source.into()) }
    }

    pub(crate) fn rejected(code: &str, message: impl Into<String>) -> Self {
        Self::Rejected { code: code.to_owned(), message: message.into() }
    }

    /// Whether an idempotent request may be sent again after a pause.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::RateLimited { .. })
    }
}

/// Why an answer is not the one asked for.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The access token is not good any more: get another and send the request again.
    SessionEnded,
    /// Anything else.
    Other(SalesforceError),
}

impl From<SalesforceError> for Refusal {
    fn from(error: SalesforceError) -> Self {
        Self::Other(error)
    }
}

/// The code and the message of an error body: an array or an object in JSON; of anything else, its beginning.
fn code_and_message(body: &[u8]) -> (String, String) {
    let text = |value: &Value, name: &str| value[name].as_str().map(shorten);
    if let Ok(json) = serde_json::from_slice::<Value>(body) {
        let first = if json.is_array() { &json[0] } else { &json };
        let code = text(first, "errorCode").or_else(|| text(first, "error"));
        let message = text(first, "message").or_else(|| text(first, "error_description"));
        if code.is_some() || message.is_some() {
            return (code.unwrap_or_default(), message.unwrap_or_default());
        }
    }
    (String::new(), shorten(&String::from_utf8_lossy(body)))
}

/// Foreign text on one line and of bounded length, fit for a log.
fn shorten(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(TEXT_CHARS_MAX).collect()
}

fn said(status: StatusCode, code: &str, message: &str) -> String {
    [&format!("http {}", status.as_u16()), code, message]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(": ")
}

/// Reads the refusal of a data call.
pub(crate) fn read_refusal(status: StatusCode, retry_after_secs: Option<u64>, body: &[u8]) -> Refusal {
    let (code, message) = code_and_message(body);
    let is_transient_status =
        matches!(status.as_u16(), 406 | 420 | 429) || status.is_server_error() || status.is_redirection();
    let error = match (status.as_u16(), code.as_str()) {
        (_, "INVALID_SESSION_ID") | (401, _) => return Refusal::SessionEnded,
        // The code is the same for both limits; only the text tells which.
        (_, "REQUEST_LIMIT_EXCEEDED") if message.to_ascii_lowercase().contains("concurrent") => {
            SalesforceError::RateLimited { retry_after_secs }
        }
        (_, "REQUEST_LIMIT_EXCEEDED") => SalesforceError::QuotaExhausted,
        (_, "INVALID_QUERY_LOCATOR") => SalesforceError::CursorExpired,
        (_, "QUERY_TIMEOUT") => SalesforceError::QueryTimeout { message },
        _ if is_transient_status => {
            SalesforceError::Unavailable { reason: said(status, &code, &message), source: None }
        }
        (_, "INVALID_FIELD" | "INVALID_TYPE") | (404, _) => SalesforceError::Drift { code, message },
        (403, _) => SalesforceError::Forbidden { code, message },
        (http, "") => SalesforceError::Rejected { code: format!("HTTP_{http}"), message },
        _ => SalesforceError::Rejected { code, message },
    };
    Refusal::Other(error)
}

/// Reads the refusal of the token endpoint, where most codes mean that a person must act.
pub(crate) fn read_token_refusal(status: StatusCode, body: &[u8]) -> SalesforceError {
    let (code, message) = code_and_message(body);
    let reason = said(status, &code, &message);
    match (status.as_u16(), code.as_str()) {
        (400 | 401 | 403, "unsupported_grant_type" | "invalid_request") => SalesforceError::Rejected { code, message },
        (400 | 401 | 403, code) if !code.is_empty() => SalesforceError::AuthBroken { reason },
        // Without a code it came from something before Salesforce's sign-on, such as a maintenance page.
        _ => SalesforceError::Unavailable { reason, source: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> String {
        match read_refusal(StatusCode::from_u16(status).unwrap(), None, body.as_bytes()) {
            Refusal::SessionEnded => "SessionEnded".to_owned(),
            Refusal::Other(error) => {
                let debug = format!("{error:?}");
                debug.split([' ', '{']).next().unwrap().to_owned()
            }
        }
    }

    #[test]
    fn every_code_has_its_action() {
        let coded = |code: &str, message: &str| format!(r#"[{{"errorCode":"{code}","message":"{message}"}}]"#);
        for (status, body, expected) in [
            (401, coded("INVALID_SESSION_ID", "Session expired"), "SessionEnded"),
            (401, String::new(), "SessionEnded"),
            (
                403,
                coded("REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded."),
                "RateLimited",
            ),
            (403, coded("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."), "QuotaExhausted"),
            (403, coded("INSUFFICIENT_ACCESS", ""), "Forbidden"),
            (403, coded("API_DISABLED_FOR_ORG", ""), "Forbidden"),
            (403, "<html>no</html>".to_owned(), "Forbidden"),
            (400, coded("MALFORMED_QUERY", ""), "Rejected"),
            (400, coded("INVALID_FIELD", ""), "Drift"),
            (400, coded("INVALID_TYPE", ""), "Drift"),
            (404, String::new(), "Drift"),
            (400, coded("QUERY_TIMEOUT", ""), "QueryTimeout"),
            (400, coded("INVALID_QUERY_LOCATOR", ""), "CursorExpired"),
            (400, r#"{"errorCode":"INVALID_QUERY_LOCATOR"}"#.to_owned(), "CursorExpired"),
            (406, String::new(), "Unavailable"),
            (420, "<html>".to_owned(), "Unavailable"),
            (429, String::new(), "Unavailable"),
            (500, "[]".to_owned(), "Unavailable"),
            (502, "<html>".to_owned(), "Unavailable"),
            (503, coded("SERVER_UNAVAILABLE", ""), "Unavailable"),
            (504, String::new(), "Unavailable"),
            (400, "null".to_owned(), "Rejected"),
        ] {
            assert_eq!(read(status, &body), expected, "{status} {body}");
        }
    }

    #[test]
    fn token_refusals() {
        let read = |status: StatusCode, body: &str| read_token_refusal(status, body.as_bytes());
        let body = r#"{"error":"invalid_grant","error_description":"user is locked"}"#;
        let error = read(StatusCode::BAD_REQUEST, body);
        assert!(
            matches!(&error, SalesforceError::AuthBroken { reason } if reason.contains("user is locked")),
            "{error}"
        );
        assert!(matches!(read(StatusCode::SERVICE_UNAVAILABLE, "<html>"), SalesforceError::Unavailable { .. }));
        let error = read(StatusCode::BAD_REQUEST, r#"{"error":"unsupported_grant_type"}"#);
        assert!(matches!(error, SalesforceError::Rejected { .. }));
    }
}

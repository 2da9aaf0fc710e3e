//! Owns how a refusal of Salesforce is read: an array or an object in JSON, HTML, or nothing; code by code.
//! Does not own what is done about it.

use reqwest::StatusCode;
use serde_json::Value;

use crate::error::SalesforceError;

/// The longest part of a foreign text that goes into an error.
const TEXT_CHARS_MAX: usize = 300;

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

/// What was asked, where the same answer means different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Records, fields or anything else by REST.
    Rest,
    /// A new bulk job.
    NewJob,
    /// A bulk job by its id, or its results.
    Job,
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
    (String::new(), shorten(&String::from_utf8_lossy(&body[..body.len().min(4 * TEXT_CHARS_MAX)])))
}

/// Foreign text on one line and of bounded length, fit for a log.
fn shorten(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let mut line = String::new();
    for word in words {
        if line.len() > 4 * TEXT_CHARS_MAX {
            break;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().take(TEXT_CHARS_MAX));
    }
    line.chars().take(TEXT_CHARS_MAX).collect()
}

fn said(status: StatusCode, code: &str, message: &str) -> String {
    [&format!("http {}", status.as_u16()), code, message]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(": ")
}

/// Reads the refusal of a data call.
pub(crate) fn read_refusal(asked: Asked, status: StatusCode, wait_secs: Option<u64>, body: &[u8]) -> Refusal {
    let (code, message) = code_and_message(body);
    let lower = message.to_ascii_lowercase();
    let is_of_bulk = asked != Asked::Rest;
    let unavailable =
        |code: &str, message: &str| SalesforceError::Unavailable { reason: said(status, code, message), source: None };
    let error = match (status.as_u16(), code.as_str()) {
        (_, "INVALID_SESSION_ID") | (401, _) => return Refusal::SessionEnded,
        // The code is the same for both limits; only the text tells which.
        (_, "REQUEST_LIMIT_EXCEEDED") if lower.contains("concurrent") => {
            SalesforceError::RateLimited { retry_after_secs: wait_secs }
        }
        // The second is the Bulk API's word for its jobs of 24 hours.
        (_, "REQUEST_LIMIT_EXCEEDED") => SalesforceError::QuotaExhausted,
        (_, "LIMIT_EXCEEDED") if is_of_bulk => SalesforceError::QuotaExhausted,
        (_, "INVALID_QUERY_LOCATOR" | "INVALID_LOCATOR" | "INVALID_REPLICATION_DATE") => SalesforceError::CursorExpired,
        (_, "QUERY_TIMEOUT" | "OPERATION_TOO_LARGE" | "EXCEEDED_ID_LIMIT") => SalesforceError::QueryTimeout { message },
        _ if is_not_in_bulk(&code, &lower) => SalesforceError::NotInBulk { message },
        (
            _,
            "INSUFFICIENT_ACCESS"
            | "INSUFFICIENT_ACCESS_OR_READONLY"
            | "API_DISABLED_FOR_ORG"
            | "API_CURRENTLY_DISABLED"
            | "TXN_SECURITY_METERING_ERROR",
        ) => SalesforceError::Forbidden { code, message },
        (429, _) if wait_secs.is_some() => SalesforceError::RateLimited { retry_after_secs: wait_secs },
        (_, "SERVER_UNAVAILABLE" | "UNKNOWN_EXCEPTION" | "UNABLE_TO_LOCK_ROW") => unavailable(&code, &message),
        (406 | 420 | 429, _) => unavailable(&code, &message),
        _ if status.is_server_error() || status.is_redirection() => unavailable(&code, &message),
        // A job that was deleted or is older than 7 days; one that was made with another version is as good as gone.
        (404 | 409 | 410, _) if asked == Asked::Job => SalesforceError::CursorExpired,
        // An organisation without the resource.
        (404, _) if asked == Asked::NewJob => SalesforceError::NotInBulk { message },
        (_, "INVALID_FIELD" | "INVALID_TYPE") | (404, _) => SalesforceError::Drift { code, message },
        (403, _) => SalesforceError::Forbidden { code, message },
        (http, "") => SalesforceError::Rejected { code: format!("HTTP_{http}"), message },
        _ => SalesforceError::Rejected { code, message },
    };
    Refusal::Other(error)
}

/// `INVALIDENTITY`, or one of the texts that say the same under other codes.
fn is_not_in_bulk(code: &str, lower_message: &str) -> bool {
    code == "INVALIDENTITY"
        || lower_message.contains("not supported by the bulk api")
        || lower_message.contains("selecting compound data not supported")
}

/// Reads why a bulk job failed: its answer is no refusal of ours, only a text, which begins with a code or holds one.
pub(crate) fn read_job_failure(text: &str) -> SalesforceError {
    let message = shorten(text);
    let lower = message.to_ascii_lowercase();
    let holds = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    let code = || {
        let code = message.split([':', ' ']).next().unwrap_or_default();
        if code.is_empty() { "JOB_FAILED".to_owned() } else { code.to_ascii_uppercase() }
    };
    if lower.contains("invalidentity") || is_not_in_bulk("", &lower) {
        return SalesforceError::NotInBulk { message };
    }
    if holds(&[
        "query_timeout",
        "running for too long",
        "retried more than",
        "failed to write query result",
        "operation_too_large",
    ]) {
        return SalesforceError::QueryTimeout { message };
    }
    if holds(&["invalid_field", "invalid_type", "no such column"]) {
        return SalesforceError::Drift { code: code(), message };
    }
    if holds(&["malformed_query", "unexpected token"]) {
        return SalesforceError::Rejected { code: code(), message };
    }
    if holds(&["insufficient_access"]) {
        return SalesforceError::Forbidden { code: code(), message };
    }
    SalesforceError::Unavailable { reason: format!("the bulk job failed: {message}"), source: None }
}

/// Reads the refusal of the token endpoint, where most codes mean that a person must act.
pub(crate) fn read_token_refusal(status: StatusCode, wait_secs: Option<u64>, body: &[u8]) -> SalesforceError {
    let (code, message) = code_and_message(body);
    let reason = said(status, &code, &message);
    match (status.as_u16(), code.as_str()) {
        // The grant is good; there were too many sign-ons within the hour.
        (400..=429, _) if message.to_ascii_lowercase().contains("rate exceeded") => {
            SalesforceError::RateLimited { retry_after_secs: wait_secs }
        }
        (429, _) if wait_secs.is_some() => SalesforceError::RateLimited { retry_after_secs: wait_secs },
        (400 | 401 | 403, "unsupported_grant_type" | "invalid_request" | "unsupported_response_type") => {
            SalesforceError::Rejected { code, message }
        }
        (400 | 401 | 403, "server_error" | "temporarily_unavailable" | "unknown_error") => {
            SalesforceError::Unavailable { reason, source: None }
        }
        (400 | 401 | 403, code) if !code.is_empty() => SalesforceError::AuthBroken { reason },
        // Without a code it came from something before Salesforce's sign-on, such as a maintenance page.
        _ => SalesforceError::Unavailable { reason, source: None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(error: &SalesforceError) -> String {
        format!("{error:?}").split([' ', '{']).next().unwrap().to_owned()
    }

    fn read(asked: Asked, status: u16, body: &str) -> String {
        match read_refusal(asked, StatusCode::from_u16(status).unwrap(), None, body.as_bytes()) {
            Refusal::SessionEnded => "SessionEnded".to_owned(),
            Refusal::Other(error) => name(&error),
        }
    }

    fn coded(code: &str, message: &str) -> String {
        format!(r#"[{{"errorCode":"{code}","message":"{message}"}}]"#)
    }

    #[test]
    fn every_code_has_its_action() {
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
            (400, coded("INSUFFICIENT_ACCESS", ""), "Forbidden"),
            (403, coded("API_DISABLED_FOR_ORG", ""), "Forbidden"),
            (400, coded("TXN_SECURITY_METERING_ERROR", ""), "Forbidden"),
            (403, "<html>no</html>".to_owned(), "Forbidden"),
            (400, coded("MALFORMED_QUERY", ""), "Rejected"),
            (400, coded("INVALID_FIELD", ""), "Drift"),
            (400, coded("INVALID_TYPE", ""), "Drift"),
            (404, String::new(), "Drift"),
            (400, coded("QUERY_TIMEOUT", ""), "QueryTimeout"),
            (400, coded("OPERATION_TOO_LARGE", ""), "QueryTimeout"),
            (400, coded("EXCEEDED_ID_LIMIT", ""), "QueryTimeout"),
            (400, coded("INVALID_QUERY_LOCATOR", ""), "CursorExpired"),
            (400, coded("INVALID_REPLICATION_DATE", ""), "CursorExpired"),
            (400, r#"{"errorCode":"INVALID_QUERY_LOCATOR"}"#.to_owned(), "CursorExpired"),
            (406, String::new(), "Unavailable"),
            (420, "<html>".to_owned(), "Unavailable"),
            (429, String::new(), "Unavailable"),
            (500, "[]".to_owned(), "Unavailable"),
            (502, "<html>".to_owned(), "Unavailable"),
            (503, coded("SERVER_UNAVAILABLE", ""), "Unavailable"),
            (504, String::new(), "Unavailable"),
            (302, String::new(), "Unavailable"),
            (400, coded("UNABLE_TO_LOCK_ROW", ""), "Unavailable"),
            (409, coded("CONFLICT", ""), "Rejected"),
            (400, "null".to_owned(), "Rejected"),
        ] {
            assert_eq!(read(Asked::Rest, status, &body), expected, "{status} {body}");
        }
    }

    #[test]
    fn bulk_has_refusals_of_its_own() {
        for (asked, status, body, expected) in [
            (Asked::NewJob, 400, coded("INVALIDENTITY", "Entity 'X' is not supported by the Bulk API."), "NotInBulk"),
            (
                Asked::NewJob,
                400,
                coded("API_ERROR", "Selecting compound data not supported in Bulk Query"),
                "NotInBulk",
            ),
            (Asked::NewJob, 404, String::new(), "NotInBulk"),
            (
                Asked::NewJob,
                400,
                coded("LIMIT_EXCEEDED", "Max bulk v2 query jobs (10000) per 24 hrs"),
                "QuotaExhausted",
            ),
            (Asked::NewJob, 400, coded("API_ERROR", "no ORDER BY"), "Rejected"),
            (Asked::NewJob, 409, String::new(), "Rejected"),
            (Asked::Job, 404, coded("NOT_FOUND", ""), "CursorExpired"),
            (Asked::Job, 409, coded("API_VERSION_MISMATCH", ""), "CursorExpired"),
            (Asked::Job, 410, String::new(), "CursorExpired"),
            (Asked::Job, 400, coded("INVALIDJOBSTATE", ""), "Rejected"),
            (Asked::Job, 401, String::new(), "SessionEnded"),
            (Asked::Job, 503, String::new(), "Unavailable"),
        ] {
            assert_eq!(read(asked, status, &body), expected, "{asked:?} {status} {body}");
        }
    }

    #[test]
    fn a_failed_job_says_what_to_do() {
        for (text, expected) in [
            ("QUERY_TIMEOUT: Your query request was running for too long.", "QueryTimeout"),
            ("InternalServerError : Retried more than fifteen times", "QueryTimeout"),
            ("Retried more than thirty times", "QueryTimeout"),
            ("Failed to write query result", "QueryTimeout"),
            ("InvalidEntity : Entity 'X' is not supported by the Bulk API.", "NotInBulk"),
            ("INVALID_FIELD: No such column 'Nope' on entity", "Drift"),
            ("MALFORMED_QUERY: unexpected token", "Rejected"),
            ("something else", "Unavailable"),
            ("", "Unavailable"),
        ] {
            assert_eq!(name(&read_job_failure(text)), expected, "{text}");
        }
    }

    #[test]
    fn token_refusals() {
        for (status, body, expected) in [
            (400, r#"{"error":"invalid_grant","error_description":"user is locked"}"#, "AuthBroken"),
            (400, r#"{"error":"invalid_client"}"#, "AuthBroken"),
            (400, r#"{"error":"unsupported_grant_type"}"#, "Rejected"),
            (400, r#"{"error":"invalid_grant","error_description":"login rate exceeded"}"#, "RateLimited"),
            (400, r#"{"error":"unknown_error","error_description":"retry your request"}"#, "Unavailable"),
            (400, "<html>", "Unavailable"),
            (503, "<html>", "Unavailable"),
            (302, "", "Unavailable"),
        ] {
            let error = read_token_refusal(StatusCode::from_u16(status).unwrap(), None, body.as_bytes());
            assert_eq!(name(&error), expected, "{body}");
        }
        let body = br#"{"error":"invalid_grant","error_description":"user is locked"}"#;
        assert!(read_token_refusal(StatusCode::BAD_REQUEST, None, body).to_string().contains("user is locked"));
    }

    #[test]
    fn foreign_text_is_one_short_line() {
        assert_eq!(shorten(" a\n\n\u{1b}[31mb\0c "), "a [31mb c");
        assert_eq!(shorten(&"x".repeat(10_000)).len(), TEXT_CHARS_MAX);
        assert_eq!(shorten(&"x ".repeat(10_000)).chars().count(), TEXT_CHARS_MAX);
    }
}

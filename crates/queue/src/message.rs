//! Owns what a message says. Does not own how it travels.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// How much of a malformed body is shown, in characters.
const EXCERPT_CHARS_MAX: usize = 200;

/// A job to put on a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The job's row.
    pub job_id: i64,
    /// The customer: the message group of a fair queue.
    pub account_id: i64,
}

/// A job id taken from a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The job's row.
    pub job_id: i64,
    /// When the relay sent it, by the sender's argument.
    pub sent_at: DateTime<Utc>,
    /// Names this receive; deletes the message.
    pub receipt: String,
    /// How often the message was received, this time included. 0 when the server did not say.
    pub receive_count: u32,
}

/// A message that is not ours to understand. Leave it: its receive count takes it to the dead-letter queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Names this receive.
    pub receipt: String,
    /// The body's first 200 characters.
    pub body_excerpt: String,
    /// What the parser said.
    pub reason: String,
}

/// What one or several receives brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Job ids to claim.
    pub deliveries: Vec<Delivery>,
    /// Messages to log.
    pub malformed: Vec<Malformed>,
}

#[derive(Serialize, Deserialize)]
struct Body {
    job: i64,
    sent: String,
}

pub(crate) fn encode(job_id: i64, sent_at: DateTime<Utc>) -> String {
    // Two numbers in a fixed shape need no serializer, and so no error path.
    format!(r#"{{"job":{job_id},"sent":"{}"}}"#, sent_at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

pub(crate) fn decode(body: &str) -> Result<(i64, DateTime<Utc>), String> {
    let body: Body = serde_json::from_str(body).map_err(|error| error.to_string())?;
    let sent = DateTime::parse_from_rfc3339(&body.sent).map_err(|error| format!("sent: {error}"))?;
    Ok((body.job, sent.to_utc()))
}

pub(crate) fn excerpt(body: &str) -> String {
    body.chars().take(EXCERPT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_compact_and_comes_back_to_the_microsecond() {
        let sent_at = DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap();
        let body = encode(123, sent_at);
        assert_eq!(body, r#"{"job":123,"sent":"2023-11-14T22:13:20.123456Z"}"#);
        assert_eq!(decode(&body).unwrap(), (123, sent_at));
    }

    #[test]
    fn nonsense_is_refused_and_excerpted_on_character_borders() {
        for body in ["", "{}", "[]", r#"{"job":"x","sent":""}"#, r#"{"job":1,"sent":"noon"}"#] {
            assert!(decode(body).is_err(), "{body}");
        }
        assert_eq!(excerpt(&"ü".repeat(300)).chars().count(), 200);
    }
}

//! Owns many questions in one call: up to 25, of which Salesforce lets 5 be queries, counted as one call.
//! Does not own the questions' meaning: each is one that `rest` can ask alone.

use chrono::{DateTime, Utc};
use reqwest::{Method, StatusCode, Url};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{json, value::RawValue};

use crate::{
    address::checked_next,
    call::Call,
    client::Client,
    error::{Result, SalesforceError},
    refusal::{Asked, Refusal, read_refusal},
    rest::{describe_path, http_date, log_path, log_query},
    wire::{Changed, Deleted, Described, Page, WireChanged, WireDeleted, WireDescribe, WirePage, broken},
};

/// Questions in one call.
pub const QUESTIONS_MAX: usize = 25;
/// Queries among them.
pub const QUERIES_MAX: usize = 5;

/// A question of a composite call.
#[derive(Clone, Debug)]
pub struct Question {
    /// Below the version, or absolute.
    path: String,
    is_query: bool,
    since: Option<DateTime<Utc>>,
}

impl Question {
    /// As [`Client::query`].
    #[must_use]
    pub fn query(soql: &str) -> Self {
        Self { path: with_pairs("query", &[("q", soql)]), is_query: true, since: None }
    }

    /// As [`Client::query_all`].
    #[must_use]
    pub fn query_all(soql: &str) -> Self {
        Self { path: with_pairs("queryAll", &[("q", soql)]), is_query: true, since: None }
    }

    /// As [`Client::query_next`].
    ///
    /// # Errors
    /// `Rejected` if the address is anything but a path below `/services/data/`.
    pub fn query_next(next_records_url: &str) -> Result<Self> {
        Ok(Self { path: checked_next(next_records_url)?, is_query: true, since: None })
    }

    /// As [`Client::describe`], or, with `since`, as [`Client::describe_since`].
    ///
    /// # Errors
    /// `Rejected` if the name cannot be an object's.
    pub fn describe(object: &str, since: Option<DateTime<Utc>>) -> Result<Self> {
        Ok(Self { path: describe_path(object)?, is_query: false, since })
    }

    /// As [`Client::deleted`].
    ///
    /// # Errors
    /// `Rejected` if the name cannot be an object's.
    pub fn deleted(object: &str, start: DateTime<Utc>, end: DateTime<Utc>) -> Result<Self> {
        Self::log(object, "deleted", start, end)
    }

    /// As [`Client::changed`].
    ///
    /// # Errors
    /// `Rejected` if the name cannot be an object's.
    pub fn changed(object: &str, start: DateTime<Utc>, end: DateTime<Utc>) -> Result<Self> {
        Self::log(object, "updated", start, end)
    }

    fn log(object: &str, log: &str, start: DateTime<Utc>, end: DateTime<Utc>) -> Result<Self> {
        let query = log_query(start, end);
        let query: Vec<_> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Ok(Self { path: with_pairs(&log_path(object, log)?, &query), is_query: false, since: None })
    }
}

/// The answer to one question. Read it as what was asked.
#[derive(Debug)]
pub struct Answer {
    /// None if it is as before.
    body: Option<Box<RawValue>>,
    last_modified: Option<DateTime<Utc>>,
    server_time: Option<DateTime<Utc>>,
}

impl Answer {
    /// The page of a query.
    ///
    /// # Errors
    /// `Unavailable` if it is none.
    pub fn page(self) -> Result<Page> {
        let server_time = self.server_time;
        Page::read(self.read::<WirePage>()?, server_time)
    }

    /// What was deleted.
    ///
    /// # Errors
    /// `Unavailable` if it is no such answer.
    pub fn deleted(self) -> Result<Deleted> {
        self.read::<WireDeleted>()?.try_into()
    }

    /// What was changed.
    ///
    /// # Errors
    /// `Unavailable` if it is no such answer.
    pub fn changed(self) -> Result<Changed> {
        self.read::<WireChanged>()?.try_into()
    }

    /// The fields; none if they are as they were.
    ///
    /// # Errors
    /// `Unavailable` if it is no such answer.
    pub fn described(self) -> Result<Option<Described>> {
        let last_modified = self.last_modified.or(self.server_time);
        match self.body {
            None => Ok(None),
            Some(_) => Ok(Some(Described { describe: self.read::<WireDescribe>()?.into(), last_modified })),
        }
    }

    fn read<T: DeserializeOwned>(self) -> Result<T> {
        let body = self.body.ok_or_else(|| broken("an answer of a composite call has no body"))?;
        serde_json::from_str(body.get())
            .map_err(|error| SalesforceError::unavailable("an answer of a composite call cannot be read", error))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireAnswers {
    composite_response: Vec<WireAnswer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireAnswer {
    #[serde(default)]
    body: Option<Box<RawValue>>,
    #[serde(default)]
    http_headers: serde_json::Map<String, serde_json::Value>,
    http_status_code: u16,
    reference_id: String,
}

impl Client {
    /// Asks many questions in one call. The outer error is the call's; each inner one is of its question alone.
    ///
    /// # Errors
    /// `Rejected` if there are more than [`QUESTIONS_MAX`] or, among them, [`QUERIES_MAX`] queries; otherwise as
    /// [`Client::query`].
    pub async fn composite(&self, questions: &[Question]) -> Result<Vec<Result<Answer>>> {
        let queries = questions.iter().filter(|question| question.is_query).count();
        if questions.len() > QUESTIONS_MAX || queries > QUERIES_MAX {
            let message = format!(
                "{} questions with {queries} queries; {QUESTIONS_MAX} with {QUERIES_MAX} go into one call",
                questions.len()
            );
            return Err(SalesforceError::rejected("COMPOSITE", message));
        }
        if questions.is_empty() {
            return Ok(Vec::new());
        }
        let requests: Vec<_> =
            questions.iter().enumerate().map(|(at, question)| self.wire_question(at, question)).collect();
        let body = json!({"allOrNone": false, "compositeRequest": requests});
        let (answers, head) = self.json::<WireAnswers>(&Call::send(Method::POST, "composite", &body)).await?;
        in_order(answers, questions.len(), head.server_time())
    }

    fn wire_question(&self, at: usize, question: &Question) -> serde_json::Value {
        let mut wire = json!({
            "method": "GET",
            "url": self.absolute(&question.path),
            "referenceId": format!("q{at}"),
        });
        if let Some(since) = question.since {
            wire["httpHeaders"] = json!({"If-Modified-Since": http_date(since)});
        }
        wire
    }
}

/// The answers in the order of the questions.
fn in_order(answers: WireAnswers, questions: usize, server_time: Option<DateTime<Utc>>) -> Result<Vec<Result<Answer>>> {
    let mut found: Vec<Option<Result<Answer>>> = std::iter::repeat_with(|| None).take(questions).collect();
    for answer in answers.composite_response {
        let at = answer.reference_id.strip_prefix('q').and_then(|at| at.parse::<usize>().ok());
        let slot = at.and_then(|at| found.get_mut(at)).filter(|slot| slot.is_none());
        let slot = slot.ok_or_else(|| broken("a composite call is answered for what was not asked"))?;
        *slot = Some(read(answer, server_time));
    }
    let missing = || broken("a composite call is not answered whole");
    found.into_iter().map(|answer| answer.ok_or_else(missing)).collect()
}

/// Its part of [`crate::fuzz`]: what was asked is answered, each question as what it was.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    const QUESTIONS: usize = 4;
    let Ok(answers) = serde_json::from_slice::<WireAnswers>(bytes) else { return };
    let Ok(answers) = in_order(answers, QUESTIONS, None) else { return };
    assert_eq!(answers.len(), QUESTIONS);
    for (at, answer) in answers.into_iter().enumerate() {
        match (at, answer) {
            (_, Err(_)) => {}
            (0, Ok(answer)) => drop(answer.page()),
            (1, Ok(answer)) => drop(answer.deleted()),
            (2, Ok(answer)) => drop(answer.changed()),
            (_, Ok(answer)) => drop(answer.described()),
        }
    }
}

fn read(answer: WireAnswer, server_time: Option<DateTime<Utc>>) -> Result<Answer> {
    let status =
        StatusCode::from_u16(answer.http_status_code).map_err(|_| broken("a composite answer has no status"))?;
    let is_same = status == StatusCode::NOT_MODIFIED;
    if !status.is_success() && !is_same {
        let body = answer.body.as_ref().map_or("", |body| body.get());
        return Err(match read_refusal(Asked::Rest, status, None, body.as_bytes()) {
            Refusal::Other(error) => error,
            // The call around it was let in with the same session.
            Refusal::SessionEnded => broken("the session ended within a composite call"),
        });
    }
    let header = |name: &str| {
        let found = answer.http_headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| value.as_str())
    };
    let last_modified = header("last-modified").and_then(|stamp| DateTime::parse_from_rfc2822(stamp).ok());
    let last_modified = last_modified.map(|stamp| stamp.to_utc());
    Ok(Answer { body: answer.body.filter(|_| !is_same), last_modified, server_time })
}

/// A path with its query, escaped.
fn with_pairs(path: &str, pairs: &[(&str, &str)]) -> String {
    let query = Url::parse_with_params("https://salesforce.invalid", pairs);
    format!("{path}?{}", query.as_ref().ok().and_then(Url::query).unwrap_or_default())
}

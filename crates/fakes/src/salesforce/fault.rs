//! Owns ordered failures: which call fails next, and how. Does not own the answers that never fail.

use std::collections::VecDeque;

use axum::{
    body::Body,
    http::{Response, StatusCode},
};
use serde::{Deserialize, Serialize};

use super::reply::{Refusal, answer};

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// 500 with an error body.
    #[serde(rename = "http_500")]
    Http500,
    /// 502 with a page in HTML.
    #[serde(rename = "http_502_html")]
    Http502Html,
    /// 503 `SERVER_UNAVAILABLE`.
    #[serde(rename = "http_503")]
    Http503,
    /// 504 with an empty body.
    #[serde(rename = "http_504")]
    Http504,
    /// 429 with an empty body.
    #[serde(rename = "http_429")]
    Http429,
    /// 406 with an empty body.
    #[serde(rename = "http_406")]
    Http406,
    /// The session ends: 401 on a data call.
    #[serde(rename = "auth_401")]
    Auth401,
    /// The session ends: 401 on a further page of a query.
    #[serde(rename = "auth_401_mid_query")]
    Auth401MidQuery,
    /// The connection closes without an answer.
    CutConnection,
    /// The connection closes in the middle of the body.
    CutBody,
    /// The body is not JSON, under status 200.
    BadJson,
    /// Too many long requests at once.
    LimitConcurrent,
    /// The allowance of 24 hours is used up.
    LimitDaily,
    /// The token endpoint refuses the refresh token.
    InvalidGrant,
    /// A further page of a query is gone.
    CursorExpired,
    /// The query takes too long for Salesforce.
    QueryTimeout,
    /// The user may not do this.
    InsufficientAccess,
    /// The answer takes `ms` longer.
    SlowMs,
    /// The bulk job made by this call fails: its query took too long.
    BulkJobFailed,
    /// The bulk job made by this call is aborted.
    BulkJobAborted,
    /// The bulk job made by this call stays in progress.
    BulkJobStuck,
    /// The bulk job asked for is gone.
    BulkJobDeleted,
    /// The results are not there under this locator.
    BulkLocatorGone,
    /// The results are said to be of another version.
    BulkVersionConflict,
    /// A row of the page is missing, and the page's count says so: the pages do not sum up to the job's count.
    BulkCountMismatch,
    /// A row of the page is missing, and the page's count does not say so.
    BulkPageShort,
    /// The page is empty, and its locator leads to where its rows are.
    BulkEmptyPage,
}

/// The calls that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// The token endpoint.
    Token,
    /// The list of versions.
    Versions,
    /// The list of objects.
    Objects,
    /// One object's fields.
    Describe,
    /// The first page of a query.
    Query,
    /// A further page.
    QueryNext,
    /// The limits.
    Limits,
    /// What was deleted.
    Deleted,
    /// What was changed.
    Updated,
    /// One record.
    Record,
    /// How many records there are.
    RecordCount,
    /// Many calls in one.
    Composite,
    /// A new bulk job.
    BulkCreate,
    /// All bulk jobs.
    BulkList,
    /// The state of a bulk job.
    BulkJob,
    /// The end of a bulk job.
    BulkAbort,
    /// The end of a bulk job's results.
    BulkDelete,
    /// A page of a bulk job's results.
    BulkResults,
    /// The list of such pages.
    BulkPages,
}

/// A failure ordered in advance.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What goes wrong.
    pub fault: Fault,
    /// On how many calls.
    #[serde(default = "once")]
    pub times: u32,
    /// On which call only; without it, on any data call that the fault fits.
    #[serde(default)]
    pub on: Option<Call>,
    /// For [`Fault::SlowMs`]: how much longer the answer takes, in milliseconds.
    #[serde(default)]
    pub ms: u64,
}

fn once() -> u32 {
    1
}

impl Order {
    /// `fault` on the next `times` calls that it fits.
    #[must_use]
    pub fn new(fault: Fault, times: u32) -> Self {
        Self { fault, times, on: None, ms: 0 }
    }

    fn fits(&self, call: Call) -> bool {
        let fault_fits = match self.fault {
            Fault::InvalidGrant => call == Call::Token,
            Fault::Auth401MidQuery | Fault::CursorExpired => call == Call::QueryNext,
            Fault::BulkJobFailed | Fault::BulkJobAborted | Fault::BulkJobStuck => call == Call::BulkCreate,
            Fault::BulkJobDeleted => matches!(call, Call::BulkJob | Call::BulkResults | Call::BulkPages),
            Fault::BulkVersionConflict => matches!(call, Call::BulkResults | Call::BulkPages),
            Fault::BulkLocatorGone | Fault::BulkCountMismatch | Fault::BulkPageShort | Fault::BulkEmptyPage => {
                call == Call::BulkResults
            }
            Fault::QueryTimeout => matches!(call, Call::Query | Call::QueryNext),
            Fault::Auth401 => !matches!(call, Call::Token | Call::Versions),
            _ => call != Call::Token || self.on == Some(Call::Token),
        };
        fault_fits && self.on.is_none_or(|on| on == call)
    }
}

/// Failures not yet given, in the order in which they were ordered.
#[derive(Debug, Default)]
pub(super) struct Faults(VecDeque<Order>);

impl Faults {
    pub(super) fn push(&mut self, order: Order) {
        if order.times > 0 {
            self.0.push_back(order);
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn pending(&self) -> Vec<Order> {
        self.0.iter().cloned().collect()
    }

    /// What goes wrong with this call.
    pub(super) fn strike(&mut self, call: Call) -> Option<Order> {
        let at = self.0.iter().position(|order| order.fits(call))?;
        let order = self.0[at].clone();
        self.0[at].times -= 1;
        if self.0[at].times == 0 {
            self.0.remove(at);
        }
        Some(order)
    }
}

impl Fault {
    /// The answer, for the faults that are one.
    pub(super) fn answer(self) -> Option<Response<Body>> {
        let refusal = match self {
            Self::Http502Html => {
                let page = b"<html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>";
                return Some(answer(StatusCode::BAD_GATEWAY, "text/html", page.to_vec()));
            }
            Self::Http504 => return Some(answer(StatusCode::GATEWAY_TIMEOUT, "text/html", Vec::new())),
            Self::Http429 => return Some(answer(StatusCode::TOO_MANY_REQUESTS, "text/html", Vec::new())),
            Self::Http406 => return Some(answer(StatusCode::NOT_ACCEPTABLE, "text/html", Vec::new())),
            Self::BadJson => {
                return Some(answer(StatusCode::OK, "application/json", b"{\"totalSize\": 1, \"rec".to_vec()));
            }
            Self::Http500 => {
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN_EXCEPTION", "An unexpected error occurred.")
            }
            Self::Http503 => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "SERVER_UNAVAILABLE", "Server Unavailable"),
            Self::Auth401 | Self::Auth401MidQuery => Refusal::session(),
            Self::LimitConcurrent => Refusal::new(
                StatusCode::FORBIDDEN,
                "REQUEST_LIMIT_EXCEEDED",
                "ConcurrentRequests (Concurrent API Requests) Limit exceeded.",
            ),
            Self::LimitDaily => Refusal::daily_limit(),
            Self::CursorExpired => Refusal::no_cursor(),
            Self::QueryTimeout => {
                Refusal::new(StatusCode::BAD_REQUEST, "QUERY_TIMEOUT", "Your query request was running for too long.")
            }
            Self::InsufficientAccess => {
                Refusal::new(StatusCode::FORBIDDEN, "INSUFFICIENT_ACCESS", "insufficient access rights on object id")
            }
            Self::BulkLocatorGone => Refusal::not_found(),
            Self::BulkVersionConflict => Refusal::other_version(),
            Self::CutConnection
            | Self::CutBody
            | Self::InvalidGrant
            | Self::SlowMs
            | Self::BulkJobFailed
            | Self::BulkJobAborted
            | Self::BulkJobStuck
            | Self::BulkJobDeleted
            | Self::BulkCountMismatch
            | Self::BulkPageShort
            | Self::BulkEmptyPage => return None,
        };
        Some(refusal.answer())
    }
}

//! Owns ordered failures: which call fails next, and the answers that are failures as a whole.
//! Does not own the answers that never fail, nor what is done to the body of a true one.

use std::collections::VecDeque;

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use chrono::{DateTime, Utc};
use md5::{Digest, Md5};
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
    /// 429 that says in how many seconds to come again.
    #[serde(rename = "http_429_seconds")]
    Http429Seconds,
    /// 429 that says at what time to come again.
    #[serde(rename = "http_429_date")]
    Http429Date,
    /// 420 with a page in HTML.
    #[serde(rename = "http_420_html")]
    Http420Html,
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
    /// The connection is reset without an answer.
    ResetConnection,
    /// The connection is reset in the middle of the answer.
    ResetBody,
    /// The body is whole by HTTP's measure, but the compressed stream in it ends early.
    TruncatedGzip,
    /// `Content-Length` is not the length of the body: more than is sent, or less.
    WrongContentLength,
    /// The answer stops in the middle for `ms`, then the connection closes.
    Stall,
    /// The answer comes in small pieces over `ms`.
    Drip,
    /// The answer is sent twice on its connection.
    DuplicateReply,
    /// The body is not JSON, under status 200.
    BadJson,
    /// Too many long requests at once.
    LimitConcurrent,
    /// The allowance of 24 hours is used up.
    LimitDaily,
    /// The token endpoint refuses the refresh token, this time.
    InvalidGrant,
    /// The grant is revoked when the token endpoint is asked.
    GrantRevoked,
    /// Another client uses the refresh token a moment before.
    RotationRace,
    /// The token endpoint does its work, and the connection closes without the answer.
    RotationLost,
    /// The user signs on five times elsewhere, which ends the older grants.
    SixthLogin,
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

/// What a caller cannot rule out on any call: HTTP and the network fail so whatever the data are.
pub const WIRE_FAULTS: [Fault; 20] = [
    Fault::Auth401,
    Fault::Auth401MidQuery,
    Fault::LimitConcurrent,
    Fault::Http429Seconds,
    Fault::Http429Date,
    Fault::Http500,
    Fault::Http502Html,
    Fault::Http503,
    Fault::Http504,
    Fault::Http406,
    Fault::Http420Html,
    Fault::CutConnection,
    Fault::CutBody,
    Fault::ResetConnection,
    Fault::ResetBody,
    Fault::TruncatedGzip,
    Fault::WrongContentLength,
    Fault::Stall,
    Fault::Drip,
    Fault::DuplicateReply,
];

/// The calls that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// The token endpoint.
    Token,
    /// The end of a grant or session.
    Revoke,
    /// Who the user is.
    Identity,
    /// The list of versions.
    Versions,
    /// What a version has.
    Resources,
    /// The list of objects.
    Objects,
    /// One object, briefly.
    Object,
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
    /// For [`Fault::SlowMs`], [`Fault::Stall`] and [`Fault::Drip`]: how long it takes, in milliseconds.
    #[serde(default)]
    pub ms: u64,
    /// Of the dice that say which calls are struck and where an answer is cut: the same calls in the same order, struck
    /// the same way. Without it, every call that fits, in the middle.
    #[serde(default)]
    pub seed: Option<u64>,
    /// With a seed: how many of a thousand calls that fit are struck.
    #[serde(default = "all_of_them")]
    pub per_mille: u16,
}

/// A failure that a call meets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strike {
    /// What goes wrong.
    pub fault: Fault,
    /// How long it takes, in milliseconds.
    pub ms: u64,
    /// What the dice showed, if the order has a seed.
    dice: Option<u64>,
}

impl Strike {
    /// Between 10 and 90 of a hundred: how much of an answer passes before it breaks.
    pub(super) fn percent(&self) -> u64 {
        self.dice.map_or(50, |dice| 10 + dice % 81)
    }

    /// One of two ways to fail.
    pub(super) fn coin(&self) -> bool {
        self.dice.is_some_and(|dice| dice >> 32 & 1 == 1)
    }
}

const THOUSAND: u16 = 1_000;

fn once() -> u32 {
    1
}

fn all_of_them() -> u16 {
    THOUSAND
}

impl Order {
    /// `fault` on the next `times` calls that it fits.
    #[must_use]
    pub fn new(fault: Fault, times: u32) -> Self {
        Self { fault, times, on: None, ms: 0, seed: None, per_mille: THOUSAND }
    }

    /// `fault` on `per_mille` of a thousand calls that it fits, as the dice of `seed` have it, without end.
    #[must_use]
    pub fn seeded(fault: Fault, seed: u64, per_mille: u16) -> Self {
        Self { seed: Some(seed), per_mille, ..Self::new(fault, u32::MAX) }
    }

    /// What the dice show for the call of that number among those that fit.
    fn dice(&self, number: u64) -> Option<u64> {
        // The name takes part, so that two faults of one seed do not strike the same calls.
        let digest = Md5::digest(format!("{}/{:?}/{number}", self.seed?, self.fault));
        Some(digest.iter().take(8).fold(0, |dice, byte| dice << 8 | u64::from(*byte)))
    }

    fn fits(&self, call: Call) -> bool {
        let fault_fits = match self.fault {
            Fault::InvalidGrant
            | Fault::GrantRevoked
            | Fault::RotationRace
            | Fault::RotationLost
            | Fault::SixthLogin => call == Call::Token,
            Fault::Auth401MidQuery | Fault::CursorExpired => call == Call::QueryNext,
            Fault::BulkJobFailed | Fault::BulkJobAborted | Fault::BulkJobStuck => call == Call::BulkCreate,
            Fault::BulkJobDeleted => matches!(call, Call::BulkJob | Call::BulkResults | Call::BulkPages),
            Fault::BulkVersionConflict => matches!(call, Call::BulkResults | Call::BulkPages),
            Fault::BulkLocatorGone | Fault::BulkCountMismatch | Fault::BulkPageShort | Fault::BulkEmptyPage => {
                call == Call::BulkResults
            }
            Fault::QueryTimeout => matches!(call, Call::Query | Call::QueryNext),
            Fault::Auth401 => !matches!(call, Call::Token | Call::Revoke | Call::Versions),
            _ => !matches!(call, Call::Token | Call::Revoke) || self.on.is_some(),
        };
        fault_fits && self.on.is_none_or(|on| on == call)
    }
}

/// Failures not yet given, in the order in which they were ordered, each with the number of calls that it fitted.
#[derive(Debug, Default)]
pub(super) struct Faults(VecDeque<(Order, u64)>);

impl Faults {
    pub(super) fn push(&mut self, order: Order) {
        if order.times > 0 {
            self.0.push_back((order, 0));
        }
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn pending(&self) -> Vec<Order> {
        self.0.iter().map(|(order, _)| order.clone()).collect()
    }

    /// What goes wrong with this call.
    pub(super) fn strike(&mut self, call: Call) -> Option<Strike> {
        let (at, strike) = self.0.iter_mut().enumerate().find_map(|(at, (order, fitted))| {
            if !order.fits(call) {
                return None;
            }
            *fitted += 1;
            let dice = order.dice(*fitted);
            let is_hit = dice.is_none_or(|dice| dice / 1_000_003 % u64::from(THOUSAND) < u64::from(order.per_mille));
            is_hit.then_some((at, Strike { fault: order.fault, ms: order.ms, dice }))
        })?;
        self.0[at].0.times -= 1;
        if self.0[at].0.times == 0 {
            self.0.remove(at);
        }
        Some(strike)
    }
}

impl Fault {
    /// The answer, for the faults that are one.
    pub(super) fn answer(self, now: DateTime<Utc>) -> Option<Response<Body>> {
        let refusal = match self {
            Self::Http502Html => {
                let page = b"<html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>";
                return Some(answer(StatusCode::BAD_GATEWAY, "text/html", page.to_vec()));
            }
            Self::Http504 => return Some(answer(StatusCode::GATEWAY_TIMEOUT, "text/html", Vec::new())),
            Self::Http429 => return Some(answer(StatusCode::TOO_MANY_REQUESTS, "text/html", Vec::new())),
            Self::Http429Seconds => return Some(too_many("1".to_owned())),
            Self::Http429Date => {
                let at = now + chrono::Duration::seconds(1);
                return Some(too_many(at.format("%a, %d %b %Y %H:%M:%S GMT").to_string()));
            }
            Self::Http420Html => {
                let page = b"<html><body>Enhance your calm</body></html>".to_vec();
                let status = StatusCode::from_u16(420).unwrap_or(StatusCode::TOO_MANY_REQUESTS);
                return Some(answer(status, "text/html", page));
            }
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
            Self::QueryTimeout => Refusal::query_timeout(),
            Self::InsufficientAccess => {
                Refusal::new(StatusCode::FORBIDDEN, "INSUFFICIENT_ACCESS", "insufficient access rights on object id")
            }
            Self::BulkLocatorGone => Refusal::not_found(),
            Self::BulkVersionConflict => Refusal::other_version(),
            Self::CutConnection
            | Self::CutBody
            | Self::ResetConnection
            | Self::ResetBody
            | Self::TruncatedGzip
            | Self::WrongContentLength
            | Self::Stall
            | Self::Drip
            | Self::DuplicateReply
            | Self::InvalidGrant
            | Self::GrantRevoked
            | Self::RotationRace
            | Self::RotationLost
            | Self::SixthLogin
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

fn too_many(retry_after: String) -> Response<Body> {
    let mut answer = answer(StatusCode::TOO_MANY_REQUESTS, "text/html", Vec::new());
    if let Ok(value) = HeaderValue::try_from(retry_after) {
        answer.headers_mut().insert(header::RETRY_AFTER, value);
    }
    answer
}

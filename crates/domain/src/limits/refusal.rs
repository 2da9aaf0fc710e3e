//! Why a job has no room: for the dispatcher, and in words for whoever asks.

use super::scope::{Scope, Subject};
use crate::{Cause, ConnectionId, JobId, why::grouped};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which bound of a limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Jobs queued and running.
    Concurrency,
    /// Jobs in a second.
    PerSecond,
    /// Jobs in a minute.
    PerMinute,
    /// Jobs in a day; of those that are not urgent, without the reserve.
    PerDay,
}

impl What {
    /// Its name in files and on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Concurrency => "concurrency",
            Self::PerSecond => "per_second",
            Self::PerMinute => "per_minute",
            Self::PerDay => "per_day",
        }
    }
}

/// What holds a job back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A limit.
    Limit {
        /// Which one.
        scope: Scope,
        /// What it counts: for a limit on each account, the account.
        subject: Subject,
        /// Which bound of it.
        what: What,
        /// What is used.
        used: u64,
        /// What there is.
        maximum: u64,
        /// When there is room again, where time alone makes it.
        frees_at: Option<DateTime<Utc>>,
    },
    /// The budget of a connection.
    Budget {
        /// The connection.
        connection: ConnectionId,
        /// Calls used by everybody or reserved by us.
        used: u64,
        /// Calls that jobs may have used.
        ceiling: u64,
        /// There is something left, and it is being spread over the day.
        is_paced: bool,
        /// When there is room again, or the vendor is asked again.
        frees_at: Option<DateTime<Utc>>,
    },
}

impl Refusal {
    /// When there is room again, where that is known.
    #[must_use]
    pub const fn frees_at(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Limit { frees_at, .. } | Self::Budget { frees_at, .. } => *frees_at,
        }
    }
}

/// A limit that has no room, as the answer to why a job waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitCause {
    /// The limit: kind, account, connection, vendor, each_account or each_connection.
    pub scope: String,
    /// Which one of them; empty where it is one for all.
    pub key: String,
    /// What it counts, in words: for a limit on each account, the account.
    pub subject: String,
    /// Which bound is reached.
    pub what: What,
    /// What is used.
    pub used: u64,
    /// What there is.
    pub maximum: u64,
    /// When there is room again, where time alone makes it.
    pub frees_at: Option<DateTime<Utc>>,
    /// The first jobs that have the room.
    pub held_by: Vec<JobId>,
}

/// A budget that has no room, as the answer to why a job waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetCause {
    /// The connection.
    pub connection: i64,
    /// Calls used by everybody or reserved by us.
    pub used: u64,
    /// Calls that jobs may have used.
    pub ceiling: u64,
    /// There is something left, and it is being spread over the day.
    pub is_paced: bool,
    /// When there is room again, or the vendor is asked again.
    pub frees_at: Option<DateTime<Utc>>,
}

impl LimitCause {
    /// As a sentence.
    #[must_use]
    pub fn says(&self) -> String {
        let (used, maximum) = (number(self.used), number(self.maximum));
        let mut text = format!("limit {}: {} at {used} of {maximum}", self.subject, self.what.name());
        if !self.held_by.is_empty() {
            let ids: Vec<String> = self.held_by.iter().map(ToString::to_string).collect();
            let noun = if self.used == 1 { "job" } else { "jobs" };
            let more = if u64::try_from(ids.len()).is_ok_and(|told| told < self.used) { ", …" } else { "" };
            text.push_str(&format!(" (held by {noun} {}{more})", ids.join(", ")));
        }
        text + &frees(self.frees_at)
    }

    /// What would make room.
    #[must_use]
    pub fn cleared_by(&self) -> String {
        let raise = format!("servantctl limits set {} {}", self.scope, self.key);
        match self.frees_at {
            Some(at) => format!("time: {}; or a greater limit: {}", time(at), raise.trim_end()),
            None => format!("one of its jobs ends; or a greater limit: {}", raise.trim_end()),
        }
    }
}

impl BudgetCause {
    /// As a sentence.
    #[must_use]
    pub fn says(&self) -> String {
        let (used, ceiling) = (number(self.used), number(self.ceiling));
        let spread = if self.is_paced { ", spread over the day" } else { "" };
        format!("budget of connection {}: {used} of {ceiling}{spread}{}", self.connection, frees(self.frees_at))
    }

    /// What would make room.
    #[must_use]
    pub fn cleared_by(&self) -> String {
        let raise = format!("a greater share: servantctl budgets set {}", self.connection);
        let then = match self.frees_at {
            Some(at) => format!("time: {}", time(at)),
            None => "jobs in flight report what they used".to_owned(),
        };
        let urgent = if self.is_paced { "; priority 0 does not wait" } else { "" };
        format!("{then}; or {raise}{urgent}")
    }
}

impl Refusal {
    /// The same as the answer to why a job waits; `held_by` are the first jobs that a concurrency counts.
    #[must_use]
    pub fn cause(&self, held_by: &[JobId]) -> Cause {
        match self.clone() {
            Self::Limit { scope, subject, what, used, maximum, frees_at } => Cause::Limit(LimitCause {
                scope: scope.scope().to_owned(),
                key: scope.key(),
                subject: subject.to_string(),
                what,
                used,
                maximum,
                frees_at,
                held_by: held_by.to_vec(),
            }),
            Self::Budget { connection, used, ceiling, is_paced, frees_at } => {
                Cause::Budget(BudgetCause { connection: connection.0, used, ceiling, is_paced, frees_at })
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause(&[]).says())
    }
}

fn number(number: u64) -> String {
    grouped(i64::try_from(number).unwrap_or(i64::MAX))
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn frees(at: Option<DateTime<Utc>>) -> String {
    at.map(|at| format!(", frees at {}", time(at))).unwrap_or_default()
}

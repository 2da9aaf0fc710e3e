//! What is remembered of a limit's use between dispatches. What is in flight is not: the ledger knows.

use super::{
    bucket::{Bucket, Per},
    budget::Pace,
    day::DayUse,
    scope::Subject,
};

/// One remembered value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gauge {
    /// A token bucket.
    Bucket(Per, Bucket),
    /// A day's use.
    Day(DayUse),
    /// The pace of a connection's budget.
    Pace(Pace),
}

impl Gauge {
    /// Its name in the ledger.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Bucket(Per::Second, _) => "second",
            Self::Bucket(Per::Minute, _) => "minute",
            Self::Day(_) => "day",
            Self::Pace(_) => "pace",
        }
    }
}

/// Whose value it is. The same whichever limit counts: a limit that is changed goes on from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitState {
    /// What is counted.
    pub subject: Subject,
    /// The value.
    pub gauge: Gauge,
}

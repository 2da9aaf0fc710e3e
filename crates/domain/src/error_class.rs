//! What a failed attempt means for the job: the class decides, the policy (`retry`) computes.
//! Does not own how a vendor's error becomes a class: each vendor's crate names its errors by what can be done.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Why an attempt did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// May well succeed when tried again: network, 5xx, a timeout. On a connection, the service behind it is blamed.
    Transient,
    /// Our own database was away or in the way: as transient, but no service is to blame.
    LedgerAway,
    /// The vendor said when to come back, or a limit is known to open later. Burns no attempt.
    RateLimited,
    /// The connection's authorisation is gone; no further attempt helps until a person renews it.
    AuthBroken,
    /// Trying again cannot help: bad payload, an object that does not exist.
    Permanent,
    /// Our own mistake: a panic, a malformed request, a broken invariant.
    Bug,
    /// The servant died or stalled: its lease ran out.
    LeaseLost,
    /// The deadline passed before the work was done.
    DeadlineExceeded,
}

impl ErrorClass {
    /// All classes.
    pub const ALL: [Self; 8] = [
        Self::Transient,
        Self::LedgerAway,
        Self::RateLimited,
        Self::AuthBroken,
        Self::Permanent,
        Self::Bug,
        Self::LeaseLost,
        Self::DeadlineExceeded,
    ];

    /// The text in the database, the API and on screens.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::LedgerAway => "ledger_away",
            Self::RateLimited => "rate_limited",
            Self::AuthBroken => "auth_broken",
            Self::Permanent => "permanent",
            Self::Bug => "bug",
            Self::LeaseLost => "lease_lost",
            Self::DeadlineExceeded => "deadline_exceeded",
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ErrorClass {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|c| c.as_str() == text).ok_or_else(|| format!("'{text}' is not an error class"))
    }
}

/// A failed attempt: its class, the whole chain of causes as text, and when to come back if the vendor said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub class: ErrorClass,
    /// The chain of causes, outermost first, one a line. Never holds secrets.
    pub chain: String,
    /// For [`ErrorClass::RateLimited`]: the earliest moment at which another attempt makes sense.
    pub until: Option<DateTime<Utc>>,
}

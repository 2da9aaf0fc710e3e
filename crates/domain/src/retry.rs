//! Where the retry delay is: exponential back-off with full jitter and a cap, and which failures get another try, for a
//! kind of work and, where it says so, for one class of errors. Pure: randomness and time are arguments. The source of
//! the jitter rule is AWS's "Exponential Backoff And Jitter".

use crate::{ErrorClass, Failure};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// How a kind of work is tried again. A class of errors that has no key here is not tried again, whatever is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; at least 1.
    pub attempts_max: u16,
    /// Upper bound of the wait after the first failure, in milliseconds.
    pub first_delay_ms: u64,
    /// Upper bound of any wait, in milliseconds.
    pub delay_max_ms: u64,
    /// After a transient error.
    #[serde(default)]
    pub transient: ClassRetry,
    /// After an attempt to which our own database was in the way.
    #[serde(default)]
    pub ledger_away: ClassRetry,
    /// After a vendor's limit: the wait on top of what the vendor says. It is uncharged and has no end.
    #[serde(default)]
    pub rate_limited: ClassRetry,
    /// After a mistake of our own.
    #[serde(default)]
    pub bug: ClassRetry,
    /// After a servant's death: the job runs again at once.
    #[serde(default)]
    pub lease_lost: ClassRetry,
}

/// What differs for one class of errors; where it says nothing, the kind's own numbers count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassRetry {
    /// A job that has had so many attempts fails with an error of this class, though it may have more after others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u16>,
    /// Upper bound of the wait after the first failure, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_delay_ms: Option<u64>,
    /// Upper bound of any wait, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_max_ms: Option<u64>,
}

/// The bounds of the waits between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Upper bound of the first, in milliseconds.
    pub first_delay_ms: u64,
    /// Upper bound of any, in milliseconds.
    pub delay_max_ms: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        let same = ClassRetry::default();
        Self {
            attempts_max: 10,
            first_delay_ms: 1_000,
            delay_max_ms: 15 * 60 * 1_000,
            transient: same,
            ledger_away: same,
            rate_limited: same,
            bug: same,
            lease_lost: same,
        }
    }
}

/// What is to become of a job whose attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Another attempt at that time.
    RetryAt {
        /// When it is due.
        due: DateTime<Utc>,
        /// Whether the failed attempt counts against `attempts_max`.
        charged: bool,
    },
    /// It waits, uncharged, until its connection is in use again.
    Park,
    /// No other attempt.
    Fail,
}

impl Backoff {
    /// The greatest wait after attempt number `attempt` (1 = the first): `first × 2^(attempt-1)`, capped.
    #[must_use]
    pub fn ceiling(&self, attempt: u16) -> TimeDelta {
        let doublings = u32::from(attempt.saturating_sub(1)).min(63);
        let ms = self.first_delay_ms.saturating_mul(1_u64 << doublings.min(62)).min(self.delay_max_ms);
        TimeDelta::milliseconds(i64::try_from(ms).unwrap_or(i64::MAX / 2))
    }

    /// The wait after attempt number `attempt`: a share `jitter` (0 ≤ jitter < 1) of its ceiling, at least 1 ms.
    #[must_use]
    pub fn delay(&self, attempt: u16, jitter: f64) -> TimeDelta {
        let ceiling_ms = self.ceiling(attempt).num_milliseconds();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "milliseconds of a bounded wait"
        )]
        let ms = (ceiling_ms as f64 * jitter.clamp(0.0, 1.0)) as i64;
        TimeDelta::milliseconds(ms.max(1))
    }
}

impl RetryPolicy {
    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// The key and what is wrong with it.
    pub fn check(&self) -> Result<(), (String, &'static str)> {
        if self.attempts_max == 0 {
            return Err(("attempts_max".to_owned(), "must be at least 1"));
        }
        for class in ErrorClass::ALL {
            let own = self.of(class);
            let key = |name: &str| format!("{class}.{name}");
            if own.attempts_max == Some(0) {
                return Err((key("attempts_max"), "must be at least 1"));
            }
            if class == ErrorClass::RateLimited && own.attempts_max.is_some() {
                return Err((key("attempts_max"), "counts nothing: a vendor's limit costs no attempt"));
            }
            if class == ErrorClass::LeaseLost && (own.first_delay_ms, own.delay_max_ms) != (None, None) {
                let name = if own.first_delay_ms.is_some() { "first_delay_ms" } else { "delay_max_ms" };
                return Err((key(name), "delays nothing: a job whose servant died runs again at once"));
            }
            let bounds = self.backoff(class);
            if bounds.first_delay_ms > bounds.delay_max_ms {
                let key =
                    if own == ClassRetry::default() { "first_delay_ms".to_owned() } else { key("first_delay_ms") };
                return Err((key, "is more than delay_max_ms"));
            }
        }
        Ok(())
    }

    /// The bounds of the waits after errors of a class.
    #[must_use]
    pub fn backoff(&self, class: ErrorClass) -> Backoff {
        let own = self.of(class);
        Backoff {
            first_delay_ms: own.first_delay_ms.unwrap_or(self.first_delay_ms),
            delay_max_ms: own.delay_max_ms.unwrap_or(self.delay_max_ms),
        }
    }

    /// Decides what follows a failure of attempt number `attempt` of at most `attempts_max`, which is the job's own.
    ///
    /// A rate limit delays and is not charged: an exhausted budget must never use a job up. Nor must a revoked token:
    /// broken authorisation parks the job with its connection, until a person has acted. A job without a connection
    /// has nothing to wait for and fails, as with what trying again cannot mend.
    #[must_use]
    pub fn verdict(
        &self,
        failure: &Failure,
        attempt: u16,
        attempts_max: u16,
        has_connection: bool,
        now: DateTime<Utc>,
        jitter: f64,
    ) -> Verdict {
        let backoff = self.backoff(failure.class);
        let attempts_max = self.of(failure.class).attempts_max.map_or(attempts_max, |own| own.min(attempts_max));
        match failure.class {
            ErrorClass::RateLimited => {
                let due = failure.until.unwrap_or(now).max(now) + backoff.delay(1, jitter);
                Verdict::RetryAt { due, charged: false }
            }
            ErrorClass::Transient | ErrorClass::LedgerAway | ErrorClass::LeaseLost | ErrorClass::Bug
                if attempt < attempts_max =>
            {
                Verdict::RetryAt { due: now + backoff.delay(attempt, jitter), charged: true }
            }
            ErrorClass::AuthBroken if has_connection => Verdict::Park,
            _ => Verdict::Fail,
        }
    }

    fn of(&self, class: ErrorClass) -> ClassRetry {
        match class {
            ErrorClass::Transient => self.transient,
            ErrorClass::LedgerAway => self.ledger_away,
            ErrorClass::RateLimited => self.rate_limited,
            ErrorClass::Bug => self.bug,
            ErrorClass::LeaseLost => self.lease_lost,
            ErrorClass::AuthBroken | ErrorClass::Permanent | ErrorClass::DeadlineExceeded => ClassRetry::default(),
        }
    }
}

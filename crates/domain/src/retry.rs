//! Where the retry delay is: exponential back-off with full jitter and a cap, and which failures get another try.
//! Pure: randomness and time are arguments. The source of the jitter rule is AWS's "Exponential Backoff And Jitter".

use crate::{ErrorClass, Failure};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// How a kind of work is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; at least 1.
    pub attempts_max: u16,
    /// Upper bound of the wait after the first failure, in milliseconds.
    pub first_delay_ms: u64,
    /// Upper bound of any wait, in milliseconds.
    pub delay_max_ms: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts_max: 10, first_delay_ms: 1_000, delay_max_ms: 15 * 60 * 1_000 }
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

impl RetryPolicy {
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

    /// Decides what follows a failure of attempt number `attempt` of at most `attempts_max`.
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
        match failure.class {
            ErrorClass::RateLimited => {
                let due = failure.until.unwrap_or(now).max(now) + self.delay(1, jitter);
                Verdict::RetryAt { due, charged: false }
            }
            ErrorClass::Transient | ErrorClass::LedgerAway | ErrorClass::LeaseLost | ErrorClass::Bug
                if attempt < attempts_max =>
            {
                Verdict::RetryAt { due: now + self.delay(attempt, jitter), charged: true }
            }
            ErrorClass::AuthBroken if has_connection => Verdict::Park,
            _ => Verdict::Fail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn failure(class: ErrorClass) -> Failure {
        Failure { class, chain: String::new(), until: None }
    }

    proptest! {
        #[test]
        fn a_delay_is_positive_and_below_the_cap(
            first in 1_u64..100_000, cap in 1_u64..10_000_000, attempt in 1_u16.., jitter in 0.0..1.0_f64,
        ) {
            let policy = RetryPolicy { attempts_max: 5, first_delay_ms: first, delay_max_ms: cap };
            let delay = policy.delay(attempt, jitter).num_milliseconds();
            prop_assert!(delay >= 1);
            prop_assert!(delay <= i64::try_from(cap).unwrap());
        }

        #[test]
        fn the_ceiling_never_falls_with_the_attempts(first in 1_u64..100_000, cap in 1_u64..10_000_000, attempt in 1_u16..2_000) {
            let policy = RetryPolicy { attempts_max: 5, first_delay_ms: first, delay_max_ms: cap };
            prop_assert!(policy.ceiling(attempt) <= policy.ceiling(attempt + 1));
        }

        #[test]
        fn full_jitter_spans_the_whole_range(attempt in 1_u16..20) {
            let policy = RetryPolicy::default();
            prop_assert_eq!(policy.delay(attempt, 0.0), TimeDelta::milliseconds(1));
            prop_assert!(policy.delay(attempt, 0.999_999) >= policy.ceiling(attempt) * 9 / 10);
        }

        #[test]
        fn no_class_outlives_its_attempts_but_a_rate_limit(attempt in 1_u16..50, jitter in 0.0..1.0_f64) {
            let policy = RetryPolicy::default();
            let now = DateTime::UNIX_EPOCH;
            for class in ErrorClass::ALL {
                let verdict = policy.verdict(&failure(class), attempt, attempt, false, now, jitter);
                match class {
                    ErrorClass::RateLimited => {
                        let is_free = matches!(verdict, Verdict::RetryAt { charged: false, .. });
                        prop_assert!(is_free);
                    }
                    _ => prop_assert_eq!(verdict, Verdict::Fail),
                }
            }
        }
    }

    #[test]
    fn a_vendors_word_on_when_to_come_back_is_kept() {
        let now = DateTime::UNIX_EPOCH;
        let until = now + TimeDelta::hours(3);
        let limited = Failure { class: ErrorClass::RateLimited, chain: String::new(), until: Some(until) };
        let Verdict::RetryAt { due, .. } = RetryPolicy::default().verdict(&limited, 1, 3, false, now, 0.5) else {
            panic!("a rate limit must delay");
        };
        assert!(due >= until);
    }

    #[test]
    fn each_class_has_its_own_policy() {
        let policy = RetryPolicy::default();
        let now = DateTime::UNIX_EPOCH;
        let verdict =
            |class, attempt, has_connection| policy.verdict(&failure(class), attempt, 10, has_connection, now, 0.5);
        let retried = |attempt, charged| Verdict::RetryAt { due: now + policy.delay(attempt, 0.5), charged };
        for attempt in [1, 5, 9] {
            for class in [ErrorClass::Transient, ErrorClass::LedgerAway, ErrorClass::LeaseLost, ErrorClass::Bug] {
                assert_eq!(verdict(class, attempt, true), retried(attempt, true), "{class}");
            }
            for class in [ErrorClass::Permanent, ErrorClass::DeadlineExceeded] {
                assert_eq!(verdict(class, attempt, true), Verdict::Fail, "{class}");
            }
            assert_eq!(verdict(ErrorClass::RateLimited, attempt, true), retried(1, false));
        }
    }

    #[test]
    fn broken_authorisation_uses_no_job_up_and_fails_one_without_a_connection() {
        let policy = RetryPolicy::default();
        for attempt in [1, 10, 11] {
            let verdict = |has_connection| {
                policy.verdict(&failure(ErrorClass::AuthBroken), attempt, 10, has_connection, DateTime::UNIX_EPOCH, 0.5)
            };
            assert_eq!((verdict(true), verdict(false)), (Verdict::Park, Verdict::Fail));
        }
    }
}

//! When a schedule is due next. Interval and one-off; cron is another variant of the same type.
//! Pure: the scheduler's tick gives the instants, `store` keeps the next one.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// A rule that names instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Every so many seconds (at least 1), counted from the first due time, so that fires do not drift.
    EverySecs(u32),
    /// Once, at that instant.
    Once(DateTime<Utc>),
}

impl Schedule {
    /// The first due time of a schedule made at `now`.
    #[must_use]
    pub fn first(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::EverySecs(_) => now,
            Self::Once(at) => *at,
        }
    }

    /// The due time that follows the fire at `due`, strictly after `now`; `None` when there is none.
    ///
    /// Fires missed while nobody was looking are made good by the one at `due`, not one by one.
    #[must_use]
    pub fn next_after(&self, due: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::EverySecs(secs) => {
                let period_secs = i64::from((*secs).max(1));
                let late_secs = (now - due).num_seconds().max(0);
                let periods = late_secs / period_secs + 1;
                due.checked_add_signed(TimeDelta::seconds(periods * period_secs))
            }
            Self::Once(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_next_fire_is_after_now_and_on_the_grid(secs in 1_u32..100_000, late_ms in 0_i64..10_000_000_000) {
            let due = DateTime::UNIX_EPOCH;
            let now = due + TimeDelta::milliseconds(late_ms);
            let next = Schedule::EverySecs(secs).next_after(due, now).unwrap();
            prop_assert!(next > now);
            prop_assert!(next <= now + TimeDelta::seconds(i64::from(secs)));
            prop_assert_eq!((next - due).num_milliseconds() % (i64::from(secs) * 1_000), 0);
        }
    }

    #[test]
    fn a_one_off_has_no_next() {
        let at = DateTime::UNIX_EPOCH;
        assert_eq!(Schedule::Once(at).next_after(at, at), None);
    }
}

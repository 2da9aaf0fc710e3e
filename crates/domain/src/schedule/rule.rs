//! The rule of a schedule: interval, cron or one-off, as it lies in the ledger and comes over the wire.

use super::Cron;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// A rule that names instants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Every so many seconds (at least 1), counted from the first due time, so that fires do not drift.
    EverySecs(#[serde(deserialize_with = "at_least_one")] u32),
    /// Once, at that instant.
    Once(DateTime<Utc>),
    /// By the wall clock of a zone.
    Cron(Box<Cron>),
}

fn at_least_one<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    match u32::deserialize(from)? {
        0 => Err(D::Error::custom("every_secs must be at least 1")),
        secs => Ok(secs),
    }
}

impl Schedule {
    /// The first instant that the rule names after `now`; an interval starts at `now` itself, a one-off has only one.
    #[must_use]
    pub fn first(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::EverySecs(_) => Some(now),
            Self::Once(at) => Some(*at),
            Self::Cron(cron) => cron.next_after(now).map(|next| next.at),
        }
    }

    /// The instant that follows strictly after `now`, given one that the rule named before (`anchor`: intervals count
    /// from it, whichever of the two is later); `None` when there is none.
    #[must_use]
    pub fn next_after(&self, anchor: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::EverySecs(secs) => {
                let period_us = period_us(*secs);
                let periods = (now - anchor).num_microseconds()?.div_euclid(period_us) + 1;
                anchor.checked_add_signed(TimeDelta::microseconds(periods.checked_mul(period_us)?))
            }
            Self::Once(at) => Some(*at).filter(|at| *at > now),
            Self::Cron(cron) => cron.next_after(now).map(|next| next.at),
        }
    }
}

/// An interval in microseconds, the ledger's resolution.
pub(super) fn period_us(secs: u32) -> i64 {
    i64::from(secs.max(1)) * 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{from_value, json, to_value};

    proptest! {
        #[test]
        fn the_next_fire_is_after_now_and_on_the_grid(
            secs in 1_u32..100_000,
            anchor_ms in 0_i64..10_000_000_000,
            now_ms in 0_i64..10_000_000_000,
        ) {
            let at = |ms| DateTime::UNIX_EPOCH + TimeDelta::milliseconds(ms);
            let next = Schedule::EverySecs(secs).next_after(at(anchor_ms), at(now_ms)).unwrap();
            prop_assert!(next > at(now_ms));
            prop_assert!(next <= at(now_ms) + TimeDelta::seconds(i64::from(secs)));
            prop_assert_eq!((next - at(anchor_ms)).num_milliseconds() % (i64::from(secs) * 1_000), 0);
        }
    }

    #[test]
    fn a_one_off_has_no_next() {
        let at = DateTime::UNIX_EPOCH;
        assert_eq!(Schedule::Once(at).next_after(at, at), None);
    }

    #[test]
    fn rules_are_data() {
        let forms = [
            json!({"every_secs": 60}),
            json!({"once": "2030-01-02T03:04:05Z"}),
            json!({"cron": {"expression": "0 9 * * *", "zone": "Europe/Berlin"}}),
        ];
        for form in forms {
            let rule: Schedule = from_value(form.clone()).unwrap();
            assert_eq!(to_value(&rule).unwrap(), form);
        }
    }

    #[test]
    fn what_is_no_rule_is_refused_with_the_reason() {
        let cron = |expression: &str, zone: &str| json!({"cron": {"expression": expression, "zone": zone}});
        for (form, reason) in [
            (json!({"every_secs": 0}), "every_secs must be at least 1"),
            (json!({"hourly": 1}), "unknown variant `hourly`"),
            (json!({"once": "tomorrow"}), "invalid characters"),
            (cron("0 9 * * *", "Europe/Nowhere"), "'Europe/Nowhere' is no zone of the tz database"),
            (cron("0 9 * *", "UTC"), "has 4 fields, not 5 (minute first) or 6 (second first)"),
            (cron("@daily", "UTC"), "has 1 fields"),
            (cron("0 25 * * *", "UTC"), "'0 25 * * *' is no cron expression: "),
            (cron("0 0 30 2 *", "UTC"), "never fires"),
            (json!({"cron": {"expression": "0 9 * * *"}}), "missing field `zone`"),
        ] {
            let refusal = from_value::<Schedule>(form.clone()).unwrap_err().to_string();
            assert!(refusal.contains(reason), "{form}: {refusal}");
        }
    }
}

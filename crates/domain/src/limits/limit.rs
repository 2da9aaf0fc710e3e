//! What one limit says, and which of it makes no sense.

use super::{
    bucket::{Per, Rate},
    day::DayLimit,
};
use serde::{Deserialize, Serialize};

/// Longest time in which an empty bucket is full again, in seconds: what was not used for longer is forgotten.
const FILL_SECS_MAX: u64 = 7 * 86_400;

/// Bounds on jobs; at least one is set. All that are set hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Jobs queued and running at the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Jobs dispatched in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
    /// Jobs dispatched in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// How many may go at once after a rest, on top of the rate; none: what the rate gives in a second, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Jobs dispatched in a day, from 00:00 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_day: Option<u32>,
    /// How much of a day's jobs is kept for urgent ones (priority 0), in per cent; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve_pct: Option<u8>,
}

impl Limit {
    /// Whether it bounds more than what is in flight.
    pub(super) const fn has_gauges(&self) -> bool {
        self.per_second.is_some() || self.per_minute.is_some() || self.per_day.is_some()
    }

    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn check(&self) -> Result<(), String> {
        let bounds = [
            ("concurrency", self.concurrency),
            ("per_second", self.per_second),
            ("per_minute", self.per_minute),
            ("per_day", self.per_day),
        ];
        if bounds.iter().all(|(_, bound)| bound.is_none()) {
            return Err("needs at least one of concurrency, per_second, per_minute and per_day".to_owned());
        }
        for (key, bound) in bounds.into_iter().chain([("burst", self.burst)]) {
            if bound == Some(0) {
                return Err(format!("{key} must be at least 1; to stop jobs altogether, pause them"));
            }
        }
        if self.burst.is_some() && self.per_second.is_none() && self.per_minute.is_none() {
            return Err("burst goes with per_second or per_minute".to_owned());
        }
        for rate in [Per::Second, Per::Minute].into_iter().filter_map(|per| self.rate(per)) {
            if rate.secs_to_fill() > FILL_SECS_MAX {
                return Err(format!("burst is {}, more than the rate gives in a week", rate.burst));
            }
        }
        match (self.reserve_pct, self.per_day()) {
            (Some(_), None) => Err("reserve_pct goes with per_day".to_owned()),
            (Some(pct), _) if pct >= 100 => Err(format!("reserve_pct is {pct}, not below 100")),
            (Some(_), Some(day)) if day.maximum(false) == 0 => {
                Err("reserve_pct leaves no job that is not urgent; make per_day greater".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The rate by the second or by the minute.
    #[must_use]
    pub fn rate(&self, per: Per) -> Option<Rate> {
        let (tokens, second) = match per {
            Per::Second => (self.per_second?, 1),
            Per::Minute => (self.per_minute?, 60),
        };
        Some(Rate { tokens, per, burst: self.burst.unwrap_or((tokens / second).max(1)) })
    }

    /// The bound of a day.
    #[must_use]
    pub fn per_day(&self) -> Option<DayLimit> {
        Some(DayLimit { per_day: self.per_day?, reserve_pct: self.reserve_pct.unwrap_or(0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_makes_no_sense_is_named() {
        let check = |table: serde_json::Value| {
            serde_json::from_value::<Limit>(table).map_err(|error| error.to_string()).and_then(|limit| limit.check())
        };
        for table in [json!({"concurrency": 1}), json!({"per_second": 5, "per_minute": 60, "burst": 2})] {
            assert_eq!(check(table), Ok(()));
        }
        for (table, problem) in [
            (json!({}), "at least one of"),
            (json!({"burst": 5}), "at least one of"),
            (json!({"concurrency": 0}), "concurrency must be at least 1; to stop jobs altogether, pause them"),
            (json!({"per_second": 0}), "per_second must be at least 1"),
            (json!({"per_minute": 0}), "per_minute must be at least 1"),
            (json!({"per_day": 0}), "per_day must be at least 1"),
            (json!({"per_second": 1, "burst": 0}), "burst must be at least 1"),
            (json!({"per_minute": 1, "burst": 10_081}), "burst is 10081, more than the rate gives in a week"),
            (json!({"concurrency": 1, "burst": 2}), "burst goes with"),
            (json!({"concurrency": 1, "reserve_pct": 2}), "reserve_pct goes with per_day"),
            (json!({"per_day": 9, "reserve_pct": 100}), "reserve_pct is 100, not below 100"),
            (json!({"per_day": 1, "reserve_pct": 10}), "leaves no job that is not urgent"),
            (json!({"per_hour": 1}), "unknown field `per_hour`"),
            (json!({"concurrency": -1}), "invalid value"),
        ] {
            let refusal = check(table.clone()).unwrap_err();
            assert!(refusal.contains(problem), "{table}: {refusal}");
        }
    }

    #[test]
    fn a_burst_is_a_seconds_worth_unless_it_is_said() {
        let limit = Limit { per_second: Some(7), per_minute: Some(600), ..Limit::default() };
        assert_eq!((limit.rate(Per::Second).unwrap().burst, limit.rate(Per::Minute).unwrap().burst), (7, 10));
        let slow = Limit { per_minute: Some(6), ..Limit::default() };
        assert_eq!(slow.rate(Per::Minute).unwrap().burst, 1);
        let said = Limit { burst: Some(3), ..limit };
        assert_eq!((said.rate(Per::Second).unwrap().burst, said.rate(Per::Minute).unwrap().burst), (3, 3));
    }
}

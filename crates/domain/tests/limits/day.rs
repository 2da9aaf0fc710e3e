//! Bounds of a day: never more than it has, and never the reserve for what is not urgent.

use crate::at_us;
use chrono::TimeDelta;
use domain::{DayLimit, DayUse};
use proptest::prelude::*;
use std::collections::BTreeMap;

proptest! {
    #[test]
    fn no_day_has_more_and_only_urgent_jobs_have_the_reserve(
        per_day in 1_u32..200, reserve_pct in 0_u8..100,
        steps in prop::collection::vec((-20_000_i64..30_000, any::<bool>(), 0_u32..60), 1..80),
    ) {
        let limit = DayLimit { per_day, reserve_pct };
        let mut now = at_us(0);
        let mut latest = now;
        let mut state: Option<DayUse> = None;
        let mut days: BTreeMap<_, (u64, u64)> = BTreeMap::new();
        for (secs, is_urgent, times) in steps {
            now += TimeDelta::seconds(secs);
            latest = latest.max(now);
            for _ in 0..times {
                match limit.take(state, now, is_urgent) {
                    Ok(after) => {
                        state = Some(after);
                        // A clock that went back does not open a day anew.
                        let day = days.entry(after.day).or_default();
                        day.0 += 1;
                        day.1 += u64::from(!is_urgent);
                        prop_assert_eq!(after.used, day.0);
                    }
                    Err(next) => {
                        prop_assert!(next > now && limit.take(state, next, false).is_ok() || limit.maximum(false) == 0);
                        prop_assert!(limit.take(state, next - TimeDelta::microseconds(1), is_urgent).is_err());
                    }
                }
            }
        }
        let reserve = (u64::from(per_day) * u64::from(reserve_pct)).div_ceil(100);
        for (day, (all, others)) in days {
            prop_assert!(all <= u64::from(per_day), "{day}: {all}");
            prop_assert!(others <= u64::from(per_day) - reserve, "{day}: {others}");
            prop_assert!(day <= latest.date_naive());
        }
    }
}

#[test]
fn the_day_begins_at_midnight_utc() {
    let limit = DayLimit { per_day: 1, reserve_pct: 0 };
    let used = limit.take(None, at_us(0), false).unwrap();
    let midnight = limit.take(Some(used), at_us(0), false).unwrap_err();
    assert_eq!(midnight.to_rfc3339(), "2030-05-07T00:00:00+00:00");
    assert_eq!(limit.take(Some(used), midnight, false).unwrap(), DayUse { day: midnight.date_naive(), used: 1 });
}

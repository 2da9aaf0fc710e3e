//! Vendor budgets: jobs never pass the ceiling, what is not urgent is spread, and what is exhausted is looked at again.

use crate::at_us;
use chrono::{DateTime, TimeDelta, Utc};
use domain::{BudgetSettings, BudgetVerdict, Spending, VendorBudget};
use proptest::prelude::*;

fn spending(used: u64, maximum: u64, resets_in_secs: Option<i64>) -> Spending {
    Spending {
        budget: VendorBudget {
            used,
            maximum,
            reported_at: at_us(0),
            resets_at: resets_in_secs.map(|secs| at_us(0) + TimeDelta::seconds(secs)),
        },
        settings: BudgetSettings::default(),
        reserved: 0,
        pace: None,
    }
}

/// Lets as many jobs go as have room.
fn drain(spending: &mut Spending, calls: u64, is_urgent: bool, now: DateTime<Utc>) -> u64 {
    let mut jobs = 0;
    while let BudgetVerdict::Room(pace) = spending.ask(calls, is_urgent, now) {
        spending.pace = pace.or(spending.pace);
        spending.reserved += calls;
        jobs += 1;
        assert!(jobs < 1_000_000, "it never ends");
    }
    jobs
}

proptest! {
    /// Jobs are reserved, finish (having made other calls than expected) and are reported, in any order.
    #[test]
    fn no_job_goes_that_could_pass_the_ceiling(
        used in 0_u64..2_000, maximum in 0_u64..20_000, resets in prop::option::of(-100_i64..86_400),
        share in 2_u8..=100, steps in prop::collection::vec((0_i64..4_000, 1_u64..300, any::<bool>(), 0_u64..400), 1..60),
    ) {
        let mut s = spending(used, maximum, resets);
        s.settings = BudgetSettings { share_pct: share, health_pct: share / 3 };
        let ceiling = maximum * u64::from(share - share / 3) / 100;
        prop_assert_eq!(s.ceiling(), ceiling);
        let mut now = at_us(0);
        let mut probes = Vec::new();
        for (secs, calls, is_urgent, made) in steps {
            now += TimeDelta::seconds(secs);
            let before = s.used(now);
            if let BudgetVerdict::Room(pace) = s.ask(calls, is_urgent, now) {
                s.reserved += calls;
                let is_probe = pace.is_some_and(|pace| pace.probed_at == Some(now));
                if is_probe && before + calls.min(ceiling).max(1) > ceiling {
                    prop_assert_eq!(s.reserved, calls, "it goes alone");
                    probes.push(now);
                } else {
                    prop_assert!(before + calls.min(ceiling) <= ceiling, "{before} and {calls} of {ceiling}");
                }
                s.pace = pace.or(s.pace);
            }
            if made > 200 {
                // Everything in flight ends and is reported.
                s.budget.used += made;
                s.budget.reported_at = now;
                s.reserved = 0;
            }
        }
        for pair in probes.windows(2) {
            prop_assert!(pair[1] - pair[0] >= TimeDelta::minutes(15));
        }
    }

    /// Over a rest of the day, what is not urgent never had more than an hour's burst and its even share.
    #[test]
    fn what_is_not_urgent_is_spread_over_the_rest_of_the_day(
        maximum in 5_000_u64..20_000, hours in 3_i64..24, steps in prop::collection::vec(1_i64..1_200, 1..100),
    ) {
        let mut s = spending(0, maximum, Some(hours * 3_600));
        let ceiling = s.ceiling();
        let (mut now, mut gone) = (at_us(0), 0);
        for secs in steps {
            now += TimeDelta::seconds(secs);
            gone += drain(&mut s, 1, false, now);
            let passed = (now - at_us(0)).num_seconds().min(hours * 3_600);
            let even = ceiling * u64::try_from(passed + 3_600 + 60).unwrap() / u64::try_from(hours * 3_600).unwrap();
            prop_assert!(gone <= even + 1, "{gone} after {passed} s of {ceiling}");
            if now < at_us(0) + TimeDelta::hours(hours) && gone < ceiling {
                prop_assert_eq!(s.places(1, true, now), ceiling - gone, "urgent jobs have all that is left");
            } else {
                break;
            }
        }
    }

    #[test]
    fn a_job_that_the_pace_holds_goes_when_it_was_said(
        maximum in 100_u64..100_000, calls in 1_u64..500, resets in prop::option::of(4_000_i64..86_400),
    ) {
        let mut s = spending(0, maximum, resets);
        drain(&mut s, calls, false, at_us(0));
        if let BudgetVerdict::Paced(at) = s.ask(calls, false, at_us(0)) {
            prop_assert!(at > at_us(0));
            let then = s.ask(calls, false, at);
            prop_assert!(matches!(then, BudgetVerdict::Room(_)), "{then:?}");
        }
    }

    #[test]
    fn as_many_go_as_there_are_places(
        used in 0_u64..9_000, maximum in 1_u64..10_000, calls in 1_u64..90, is_urgent: bool,
        resets in prop::option::of(60_i64..86_400),
    ) {
        let mut s = spending(used, maximum, resets);
        let places = s.places(calls, is_urgent, at_us(0));
        let gone = drain(&mut s, calls, is_urgent, at_us(0));
        // The pace follows what is left, so that the last ones may find it slower.
        prop_assert!(gone <= places && (places == 0 || gone >= 1) && (!is_urgent || gone == places), "{gone} of {places}");
    }
}

#[test]
fn four_fifths_are_ours_and_the_last_of_them_is_for_health() {
    let mut s = spending(0, 15_000, None);
    assert_eq!(s.ceiling(), 11_250);
    assert_eq!(drain(&mut s, 1, true, at_us(0)), 11_250);
    s.settings = BudgetSettings { share_pct: 100, health_pct: 0 };
    assert_eq!(s.ceiling(), 15_000);
}

#[test]
fn an_exhausted_quota_is_free_when_it_resets() {
    let mut s = spending(15_000, 15_000, Some(7_200));
    let reset = at_us(0) + TimeDelta::hours(2);
    assert_eq!(s.ask(1, true, at_us(0)), BudgetVerdict::Exhausted(Some(reset)));
    assert_eq!(s.ask(1, true, reset - TimeDelta::seconds(1)), BudgetVerdict::Exhausted(Some(reset)));
    assert_eq!(drain(&mut s, 1, true, reset), 11_250, "nothing is used of the new day");
}

/// How long the next period is, nobody knows yet: a small quota spread over a day would hold everything for an hour.
#[test]
fn once_a_quota_has_reset_one_job_finds_out_what_it_is_now() {
    let mut s = spending(0, 50, Some(20));
    let at = |secs: i64| at_us(0) + TimeDelta::seconds(secs);
    assert_eq!(drain(&mut s, 1, false, at(0)), 37);
    (s.budget.used, s.reserved) = (37, 0);
    assert_eq!(drain(&mut s, 1, false, at(19)), 0);
    s.pace = s.pace.map(|pace| domain::Pace { parts: 0, ..pace });
    assert_eq!(drain(&mut s, 1, false, at(20)), 1, "the others wait for its word");
    assert_eq!(drain(&mut s, 1, false, at(40)), 0);
    // It ended without one.
    s.reserved = 0;
    assert_eq!(drain(&mut s, 1, false, at(79)), 0);
    assert_eq!(drain(&mut s, 1, false, at(80)), 1);
    s.reserved = 0;
    s.budget = VendorBudget { used: 1, reported_at: at(81), resets_at: Some(at(100)), ..s.budget };
    assert!(drain(&mut s, 1, false, at(90)) > 10);
}

#[test]
fn a_rolling_quota_is_looked_at_again_by_one_job_each_quarter_of_an_hour() {
    let mut s = spending(14_900, 15_000, None);
    let again = |minutes| at_us(0) + TimeDelta::minutes(minutes);
    assert_eq!(s.ask(20, true, at_us(0)), BudgetVerdict::Exhausted(Some(again(15))));
    assert_eq!(drain(&mut s, 20, false, again(15)), 1);
    assert_eq!(s.ask(20, true, again(16)), BudgetVerdict::Exhausted(Some(again(30))));
    assert_eq!(s.ask(20, true, again(31)), BudgetVerdict::Exhausted(None), "the one that looks has not come back");
    s.reserved = 0;
    assert_eq!(drain(&mut s, 20, false, again(31)), 1, "it came back and nothing was reported");
    s.reserved = 0;
    s.budget = VendorBudget { used: 11_000, maximum: 15_000, reported_at: again(32), resets_at: None };
    assert_eq!(drain(&mut s, 20, true, again(32)), 12, "250 calls are free");
}

#[test]
fn a_job_larger_than_the_whole_budget_goes_alone() {
    let mut s = spending(0, 20, None);
    assert_eq!(s.ceiling(), 15);
    assert_eq!(drain(&mut s, 100, true, at_us(0)), 1);
}

#[test]
fn a_pace_by_a_rolling_day_leaves_the_last_fifth_to_urgent_jobs() {
    // Nobody else calls: what was used a day ago is free again.
    let mut s = spending(0, 20_000, None);
    let mut made: Vec<u64> = Vec::new();
    for minute in 0..4 * 24 * 60 {
        let now = at_us(0) + TimeDelta::minutes(minute);
        let gone = drain(&mut s, 1, false, now);
        made.push(gone);
        let day_ago = made.len().saturating_sub(24 * 60);
        s.reserved = 0;
        s.budget.used = made[day_ago..].iter().sum();
        s.budget.reported_at = now;
    }
    let used = s.budget.used * 100 / s.ceiling();
    assert!((75..=85).contains(&used), "{used} %");
    let busiest_hour: u64 = made[24 * 60..].chunks(60).map(|hour| hour.iter().sum()).max().unwrap();
    assert!(busiest_hour * 24 <= s.ceiling() * 11 / 10, "{busiest_hour} in an hour");
}

#[test]
fn a_job_larger_than_an_hours_worth_goes_when_it_was_said() {
    let mut s = spending(0, 1_318, Some(12_177));
    drain(&mut s, 448, false, at_us(0));
    let BudgetVerdict::Paced(at) = s.ask(448, false, at_us(0)) else { panic!("it is not held") };
    assert!(matches!(s.ask(448, false, at), BudgetVerdict::Room(_)), "{at}");
}

//! What a tick decides: nothing is doubled, nothing is lost that may not be, and a bound is a bound.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{CatchUp, Plan, Schedule};
use proptest::prelude::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn start() -> DateTime<Utc> {
    at("2030-03-29T12:00:00Z")
}

fn rule() -> impl Strategy<Value = Schedule> {
    let cron = |(expression, zone): (&str, &str)| {
        serde_json::from_value(serde_json::json!({"cron": {"expression": expression, "zone": zone}})).unwrap()
    };
    prop_oneof![
        (60_u32..100_000).prop_map(Schedule::EverySecs),
        (0_i64..1_000_000).prop_map(|secs| Schedule::Once(start() + TimeDelta::seconds(secs))),
        prop::sample::select(vec![
            ("*/7 * * * *", "UTC"),
            ("30 2 * * *", "Europe/Berlin"),
            ("0 9,17 * * 1-5", "America/New_York"),
            ("15 */3 * * *", "Australia/Lord_Howe"),
        ])
        .prop_map(cron),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let day = 86_400_i64;
    let bound = || prop::option::of((0..10 * day).prop_map(|secs| start() + TimeDelta::seconds(secs)));
    (rule(), 0_i64..7_200_000, bound(), bound(), 60_u32..1_000_000, 1_u16..20).prop_map(
        |(rule, jitter_ms, starts_at, ends_at, secs, fires_max)| Plan {
            rule,
            jitter: TimeDelta::milliseconds(jitter_ms),
            starts_at,
            ends_at,
            catch_up: CatchUp { secs, fires_max },
        },
    )
}

/// Every due time of a plan made at `start`, one after the other.
fn all(plan: &Plan, until: DateTime<Utc>) -> Vec<DateTime<Utc>> {
    let next = |due: &DateTime<Utc>| plan.next_after(*due, *due);
    std::iter::successors(plan.first(start()), next).take_while(|due| *due <= until).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn whenever_one_looks_each_due_time_fires_or_is_dropped_once(
        plan in plan(),
        steps_secs in prop::collection::vec(1_i64..200_000, 1..12),
    ) {
        let mut now = start();
        let mut due = plan.first(now);
        let (mut fired, mut dropped) = (Vec::new(), 0);
        for secs in steps_secs {
            now += TimeDelta::seconds(secs);
            let Some(persisted) = due else { break };
            let decision = plan.decide(persisted, now);
            let oldest = now - TimeDelta::seconds(i64::from(plan.catch_up.secs));
            prop_assert!(decision.fires.len() <= usize::from(plan.catch_up.fires_max));
            prop_assert!(decision.fires.iter().all(|fire| *fire >= oldest && *fire <= now));
            prop_assert!(decision.next.is_none_or(|next| next > now || decision.fires.is_empty()));
            // Of those that lie in the window, the latest.
            let eligible: Vec<_> =
                all(&plan, now).into_iter().filter(|d| *d >= persisted && *d >= oldest).collect();
            let latest = eligible.len().saturating_sub(usize::from(plan.catch_up.fires_max));
            prop_assert_eq!(&decision.fires, &eligible[latest..]);
            fired.extend(decision.fires);
            dropped += decision.dropped;
            due = decision.next;
        }
        let passed = all(&plan, now);
        prop_assert!(fired.windows(2).all(|pair| pair[0] < pair[1]), "doubled or out of order");
        prop_assert!(fired.iter().all(|fire| passed.contains(fire)));
        // Counting stops at a thousand for cron.
        if dropped < 900 {
            prop_assert_eq!(fired.len() + usize::try_from(dropped).unwrap(), passed.len());
        }
    }

    #[test]
    fn looked_at_in_time_everything_fires(plan in plan()) {
        let (mut now, mut due, mut fired) = (start(), plan.first(start()), Vec::new());
        let end = start() + TimeDelta::days(3);
        while now < end {
            now += TimeDelta::seconds(59);
            let Some(persisted) = due else { break };
            let decision = plan.decide(persisted, now);
            prop_assert_eq!(decision.dropped, 0);
            fired.extend(decision.fires);
            due = decision.next;
        }
        let expected: Vec<_> = all(&plan, now);
        prop_assert_eq!(fired, expected);
    }

    #[test]
    fn nothing_fires_outside_its_bounds(plan in plan()) {
        for due in all(&plan, start() + TimeDelta::days(15)) {
            prop_assert!(plan.starts_at.is_none_or(|from| due >= from), "{due} is too early");
            prop_assert!(plan.ends_at.is_none_or(|to| due < to), "{due} is too late");
        }
    }

    #[test]
    fn a_range_holds_what_fires_in_it(plan in plan(), from_secs in 0_i64..400_000, length_secs in 0_i64..400_000) {
        let from = start() + TimeDelta::seconds(from_secs);
        let to = from + TimeDelta::seconds(length_secs);
        let Some(first) = plan.first(start()) else { return Ok(()) };
        let range = plan.between(first, from, to, 100_000);
        let expected: Vec<_> = all(&plan, to).into_iter().filter(|due| *due >= from && *due < to).collect();
        // Before the first fire, a range holds what would have been.
        let range: Vec<_> = range.into_iter().filter(|due| *due >= first).collect();
        prop_assert_eq!(range, expected);
    }
}

#[test]
fn the_past_is_counted_and_dropped() {
    let plan = Plan {
        rule: Schedule::EverySecs(60),
        jitter: TimeDelta::zero(),
        starts_at: None,
        ends_at: None,
        catch_up: CatchUp { secs: 600, fires_max: 3 },
    };
    let decision = plan.decide(start(), start() + TimeDelta::seconds(3_601));
    let ago = |secs: i64| start() + TimeDelta::seconds(3_600 - secs);
    assert_eq!(decision.fires, [ago(120), ago(60), ago(0)]);
    assert_eq!((decision.dropped, decision.next), (58, Some(ago(-60))));
    // Nobody looked for longer than the window reaches.
    let once = Plan { rule: Schedule::Once(start()), ..plan };
    let decision = once.decide(start(), start() + TimeDelta::seconds(601));
    assert_eq!((decision.fires.len(), decision.dropped, decision.next), (0, 1, None));
}

//! The circuit breaker's laws, over random histories and over simulated outages.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{Breaker, BreakerSettings, BreakerState, Forced, Outcomes, Room, Tally};
use proptest::prelude::*;

fn at(ms: i64) -> DateTime<Utc> {
    "2030-05-06T12:00:00Z".parse::<DateTime<Utc>>().expect("a time") + TimeDelta::milliseconds(ms)
}

fn ended(now: DateTime<Utc>, succeeded: u32, failed: u32) -> Outcomes {
    Outcomes { started_at: now, ended_at: now, tally: Tally { succeeded, failed } }
}

/// What may happen.
#[derive(Debug, Clone)]
enum Step {
    Pass(i64),
    Succeed(u32),
    Fail(u32),
    Straggle(u32),
    Dispatch(u32),
    Force(Forced),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1_i64..20_000).prop_map(Step::Pass),
        3 => (1_u32..20).prop_map(Step::Succeed),
        3 => (1_u32..20).prop_map(Step::Fail),
        1 => (1_u32..20).prop_map(Step::Straggle),
        3 => (0_u32..20).prop_map(Step::Dispatch),
        1 => prop_oneof![Just(Forced::Open), Just(Forced::Closed)].prop_map(Step::Force),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_laws_hold(steps in prop::collection::vec(step(), 1..120), jitter in 0.0..1.0_f64) {
        let settings = BreakerSettings::default();
        let mut now = at(0);
        let mut breaker = Breaker::closed(now);
        for step in steps {
            let before = breaker.clone();
            match step {
                Step::Pass(ms) => {
                    now += TimeDelta::milliseconds(ms);
                    breaker.advance(&settings, now);
                }
                Step::Succeed(n) => breaker.observe(&settings, &ended(now, n, 0), now, jitter),
                Step::Fail(n) => breaker.observe(&settings, &ended(now, 0, n), now, jitter),
                Step::Straggle(n) => {
                    // Began before what the breaker goes by: nothing of it may matter.
                    let old = Outcomes { started_at: breaker.counts_from - TimeDelta::seconds(2), ..ended(now, 0, n) };
                    breaker.observe(&settings, &old, now, jitter);
                    let mut untouched = before.clone();
                    untouched.advance(&settings, now);
                    prop_assert_eq!(&breaker, &untouched);
                }
                Step::Dispatch(in_flight) => {
                    if breaker.room(&settings, in_flight, now) == Room::AtMost(1) {
                        breaker.probe_sent(now);
                    }
                }
                Step::Force(forced) => breaker.force(forced, now),
                Step::Clear => breaker.clear(now),
            }
            let room = breaker.room(&settings, 3, now);
            // An operator's word stands, and nothing but it opens or closes a breaker meanwhile.
            match breaker.forced {
                Some(Forced::Open) => prop_assert_eq!(room, Room::Blocked { until: None }),
                Some(Forced::Closed) => prop_assert_eq!(room, Room::Unlimited),
                None => {}
            }
            prop_assert_eq!(breaker.state == BreakerState::Closed, breaker.state.as_str() == "closed");
            match breaker.state {
                BreakerState::Closed => prop_assert_eq!(breaker.openings, 0),
                BreakerState::Open { next_probe_at } => {
                    prop_assert!(breaker.openings > 0);
                    if before.state != breaker.state {
                        // Just opened: the wait keeps its bounds, and it had a reason.
                        let wait = next_probe_at - now;
                        prop_assert!(wait >= TimeDelta::seconds(5) && wait <= TimeDelta::seconds(300), "{wait}");
                        prop_assert!(breaker.reason.contains("failed"), "{}", breaker.reason);
                        prop_assert!(breaker.forced.is_none());
                    }
                    if breaker.forced.is_none() && now < next_probe_at {
                        prop_assert_eq!(room, Room::Blocked { until: Some(next_probe_at) });
                    }
                }
                BreakerState::HalfOpen { .. } => prop_assert_ne!(room, Room::AtMost(2)),
                BreakerState::Recovering { room, .. } => prop_assert!((1..1_024).contains(&room)),
                BreakerState::NotUnderstood => prop_assert!(false, "nothing that happens makes it so"),
            }
        }
    }

    #[test]
    fn a_breaker_opens_by_many_failures_that_are_many_of_all_and_by_no_fewer(
        succeeded in 0_u32..40, failed in 0_u32..40,
    ) {
        let settings = BreakerSettings::default();
        let mut breaker = Breaker::closed(at(0));
        breaker.observe(&settings, &ended(at(1), succeeded, 0), at(1), 0.5);
        breaker.observe(&settings, &ended(at(2), 0, failed), at(2), 0.5);
        // Forty successes are as many as weigh.
        let opens = failed >= 5 && failed * 2 >= succeeded + failed;
        prop_assert_eq!(breaker.state != BreakerState::Closed, opens);
    }

    #[test]
    fn what_is_older_than_the_window_opens_nothing(gap_secs in 30_i64..1_000) {
        let settings = BreakerSettings::default();
        let mut breaker = Breaker::closed(at(0));
        breaker.observe(&settings, &ended(at(0), 0, 4), at(0), 0.5);
        let later = at(gap_secs * 1_000);
        breaker.observe(&settings, &ended(later, 0, 4), later, 0.5);
        prop_assert_eq!(breaker.state, BreakerState::Closed);
        // Folded late, as by a scheduler that was away.
        breaker.observe(&settings, &ended(at(0), 0, 100), later, 0.5);
        prop_assert_eq!(breaker.state, BreakerState::Closed);
    }

    #[test]
    fn a_recovery_gives_room_by_success_and_by_time_and_never_more(
        successes in prop::collection::vec((0_u32..4, 1_i64..2_000), 1..200),
    ) {
        let settings = BreakerSettings::default();
        let mut breaker = Breaker::closed(at(0));
        breaker.force(Forced::Open, at(0));
        breaker.clear(at(0));
        let mut now = at(0);
        let mut bound = 1_u64;
        let mut doubled_at = now;
        for (succeeded, ms) in successes {
            now += TimeDelta::milliseconds(ms);
            while doubled_at + TimeDelta::seconds(5) <= now {
                bound *= 2;
                doubled_at += TimeDelta::seconds(5);
            }
            let Room::AtMost(room) = breaker.room(&settings, 0, now) else {
                prop_assert!(bound >= 1_024, "unlimited at {bound}");
                return Ok(());
            };
            prop_assert!(u64::from(room) <= bound, "{room} of {bound}");
            prop_assert!(room >= 1);
            let in_flight = room;
            let is_full = matches!(breaker.room(&settings, in_flight, now), Room::Blocked { .. });
            prop_assert!(is_full);
            breaker.observe(&settings, &ended(now, succeeded, 0), now, 0.5);
            bound += u64::from(succeeded);
        }
    }
}

/// A fleet of many slots and jobs without end over one service, by the tenth of a second: how many attempts an outage
/// costs, and what starts in each second after it.
struct Fleet {
    breaker: Breaker,
    settings: BreakerSettings,
    now: DateTime<Utc>,
    /// When each job in flight began, ends, and whether it fails.
    in_flight: Vec<(DateTime<Utc>, DateTime<Utc>, bool)>,
    started: u32,
    failed: u32,
    seed: u64,
}

impl Fleet {
    fn tick(&mut self, is_down: bool, slots: u32, lasts_ms: i64) -> u32 {
        self.now += TimeDelta::milliseconds(100);
        let now = self.now;
        let (over, rest): (Vec<_>, Vec<_>) = self.in_flight.drain(..).partition(|(_, end, _)| *end <= now);
        self.in_flight = rest;
        for (began, end, fails) in over {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            #[expect(clippy::cast_precision_loss, reason = "any share will do")]
            let jitter = (self.seed >> 11) as f64 / (1_u64 << 53) as f64;
            let tally = Tally { succeeded: u32::from(!fails), failed: u32::from(fails) };
            let outcomes = Outcomes { started_at: began, ended_at: end, tally };
            self.breaker.observe(&self.settings, &outcomes, now, jitter);
            self.failed += u32::from(fails);
        }
        let in_flight = u32::try_from(self.in_flight.len()).expect("few");
        let free = slots - in_flight;
        let starts = match self.breaker.room(&self.settings, in_flight, now) {
            Room::Blocked { .. } => 0,
            Room::AtMost(room) => room.min(free),
            Room::Unlimited => free,
        };
        if starts > 0 {
            self.breaker.probe_sent(now);
        }
        for _ in 0..starts {
            self.in_flight.push((now, now + TimeDelta::milliseconds(lasts_ms), is_down));
        }
        self.started += starts;
        starts
    }
}

#[test]
fn an_outage_of_an_hour_costs_what_was_in_flight_and_a_handful_and_ends_without_a_stampede() {
    for seed in 0..20 {
        let (settings, now) = (BreakerSettings::default(), at(0));
        let mut fleet =
            Fleet { breaker: Breaker::closed(now), settings, now, in_flight: Vec::new(), started: 0, failed: 0, seed };
        for _ in 0..600 {
            fleet.tick(false, 200, 300);
        }
        assert_eq!((fleet.breaker.state, fleet.failed), (BreakerState::Closed, 0));
        for _ in 0..36_000 {
            fleet.tick(true, 200, 1_000);
        }
        // What was in flight when the first failures were known, and probes, ever further apart.
        assert!(fleet.failed <= 200 + 60, "{} attempts", fleet.failed);
        let before = fleet.failed;
        for _ in 0..36_000 {
            fleet.tick(true, 200, 1_000);
        }
        let an_hour = fleet.failed - before;
        assert!((12..=60).contains(&an_hour), "{an_hour} probes in an hour");

        // It is back: what runs at a time is never more than had succeeded before, and one; doubled each five seconds.
        let mut began = None;
        let mut ended = 0;
        for tick in 0.. {
            assert!(tick < 4_000, "it never recovered");
            let in_flight = fleet.in_flight.len();
            let starts = fleet.tick(false, 2_000, 300) as usize;
            ended += in_flight + starts - fleet.in_flight.len();
            if fleet.breaker.state == BreakerState::Closed {
                break;
            }
            if matches!(fleet.breaker.state, BreakerState::Recovering { .. }) {
                let doublings = (tick - *began.get_or_insert(tick)) / 50;
                let bound = (1 + ended) << doublings;
                assert!(fleet.in_flight.len() <= bound, "{} at a time after {ended}", fleet.in_flight.len());
            }
        }
        assert_eq!(fleet.breaker.room(&settings, 5_000, fleet.now), Room::Unlimited);
        assert_eq!(fleet.breaker.openings, 0, "the next outage begins with the least wait");
    }
}

#[test]
fn a_probe_is_alone_until_its_outcome_or_its_time() {
    let settings = BreakerSettings::default();
    let mut breaker = Breaker::closed(at(0));
    breaker.observe(&settings, &ended(at(0), 0, 5), at(0), 0.0);
    assert_eq!(breaker.state, BreakerState::Open { next_probe_at: at(5_000) });
    assert_eq!(breaker.room(&settings, 0, at(4_999)), Room::Blocked { until: Some(at(5_000)) });
    // Whatever hangs in flight since before.
    assert_eq!(breaker.room(&settings, 50, at(5_000)), Room::AtMost(1));
    breaker.probe_sent(at(5_000));
    assert_eq!(breaker.since, at(0), "it is open since then");
    assert_eq!(breaker.room(&settings, 1, at(5_001)), Room::Blocked { until: Some(at(65_000)) });
    assert_eq!(breaker.room(&settings, 1, at(65_000)), Room::AtMost(1), "the probe hangs");
    assert_eq!(breaker.room(&settings, 0, at(10_000)), Room::AtMost(1), "the probe ended without an outcome");

    let straggler = Outcomes { started_at: at(0), ..ended(at(6_000), 1, 0) };
    breaker.observe(&settings, &straggler, at(6_000), 0.0);
    assert_eq!(breaker.state, BreakerState::HalfOpen { probe_at: at(5_000) }, "it began before the outage");
    breaker.observe(&settings, &ended(at(6_000), 0, 1), at(6_000), 1.0);
    assert_eq!(breaker.state, BreakerState::Open { next_probe_at: at(6_000 + 20_000) }, "four times the least");
    assert_eq!((breaker.since, breaker.reason.as_str()), (at(0), "5 of 5 attempts failed"));

    breaker.probe_sent(at(26_000));
    breaker.observe(&settings, &ended(at(26_500), 1, 0), at(26_500), 0.0);
    assert_eq!(breaker.state, BreakerState::Recovering { room: 1, grown_at: at(26_500) });
    assert_eq!(breaker.room(&settings, 1, at(26_500)), Room::Blocked { until: Some(at(31_500)) });
    breaker.observe(&settings, &ended(at(27_000), 1, 0), at(27_000), 0.0);
    assert_eq!(breaker.room(&settings, 0, at(27_000)), Room::AtMost(2));
    assert_eq!(breaker.room(&settings, 0, at(31_500)), Room::AtMost(4));
    // One failure among many successes is none; half of them is an outage that goes on.
    breaker.observe(&settings, &ended(at(32_000), 3, 1), at(32_000), 0.0);
    assert_eq!(breaker.room(&settings, 0, at(32_000)), Room::AtMost(7));
    breaker.observe(&settings, &ended(at(33_000), 0, 3), at(33_000), 0.0);
    assert_eq!(breaker.reason, "4 of 8 attempts failed while it recovered");
    assert_eq!(breaker.openings, 3, "the wait goes on where it was");
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let good = BreakerSettings::default();
    assert_eq!(good.check(), Ok(()));
    for bad in [
        BreakerSettings { window_secs: 0, ..good },
        BreakerSettings { failures_pct: 0, ..good },
        BreakerSettings { failures_pct: 101, ..good },
        BreakerSettings { outcomes_max: 9, ..good },
        BreakerSettings { open_secs_min: 1, ..good },
        BreakerSettings { open_secs_max: 4, ..good },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
}

#[test]
fn what_is_not_understood_lets_one_at_a_time_through_until_an_operator_begins_anew() {
    let settings = BreakerSettings::default();
    let unclear = Breaker::not_understood(at(0), "state");
    let mut breaker = unclear.clone();
    breaker.observe(&settings, &ended(at(1), 100, 0), at(1), 0.5);
    breaker.observe(&settings, &ended(at(2), 0, 100), at(2), 0.5);
    breaker.probe_sent(at(3));
    assert_eq!(breaker.state, BreakerState::NotUnderstood, "neither outcomes nor time decide");
    assert_eq!(breaker.room(&settings, 0, at(3)), Room::AtMost(1));
    assert_eq!(breaker.room(&settings, 1, at(3)), Room::Blocked { until: None });
    breaker.clear(at(4));
    assert_eq!(breaker.state, BreakerState::Recovering { room: 1, grown_at: at(4) }, "never closed at once");
    for (forced, room) in [(Forced::Open, Room::Blocked { until: None }), (Forced::Closed, Room::Unlimited)] {
        let mut held = unclear.clone();
        held.force(forced, at(4));
        assert_eq!((held.room(&settings, 9, at(5)), held.is_understood()), (room, true));
    }
}

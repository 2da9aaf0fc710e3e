//! The laws of fair turns, for any flows and any sizes of goes: shares, no starvation, nothing left lying.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]
#![expect(clippy::cast_precision_loss, reason = "a turn in a test is a small number of seconds")]

mod world;

use domain::{JobId, Next, quanta};
use proptest::prelude::*;
use std::collections::BTreeMap;
use world::{Ledger, Taker, flow};

const MANY: usize = 2_000;

fn limits() -> impl Strategy<Value = i64> {
    prop_oneof![Just(1_i64), Just(3), Just(10), Just(500)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// A visit is a whole number of the account's weights, the same number for all, and one go is enough for a round.
    #[test]
    fn quanta_are_the_least_multiple_of_the_weights_that_fills_a_go(
        weights in prop::collection::vec(1_u16..=100, 1..40), limit in 1_i64..2_000,
    ) {
        let all: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
        let given = quanta(&weights, limit);
        let rounds = given[0] / i64::from(weights[0]);
        for (weight, quantum) in weights.iter().zip(&given) {
            prop_assert_eq!(*quantum, rounds * i64::from(*weight));
        }
        prop_assert!(rounds >= 1 && given.iter().sum::<i64>() >= limit && (rounds == 1 || (rounds - 1) * all < limit));
    }

    /// Accounts with more work than can be done get shares by their weights, whoever takes it in goes of whatever size.
    #[test]
    fn all_that_have_work_get_their_share(
        weights in prop::collection::vec(1_u16..=10, 2..8), limit in limits(), takers in 1_usize..4,
    ) {
        let mut ledger = Ledger::default();
        for (at, weight) in weights.iter().enumerate() {
            ledger.add_many(flow(i64::try_from(at).unwrap(), 0), *weight, MANY);
        }
        let mut all: Vec<Taker> = (0..takers).map(|_| Taker::new(500)).collect();
        let mut served = vec![0_i64; weights.len()];
        for go in 0.. {
            let (taken, next) = all[go % takers].go(&mut ledger, limit);
            let quantum = quanta(&weights, limit).into_iter().max().unwrap_or(0);
            prop_assert!(i64::try_from(taken.len()).unwrap() > limit - quantum, "there was more");
            prop_assert_eq!(next, Next::TakeMore);
            for job in taken {
                served[usize::try_from(job.flow.account.0).unwrap()] += 1;
            }
            let rounds: Vec<f64> = served.iter().zip(&weights).map(|(jobs, weight)| *jobs as f64 / f64::from(*weight)).collect();
            let most = rounds.iter().copied().fold(0.0, f64::max);
            let least = rounds.iter().copied().fold(f64::INFINITY, f64::min);
            let quantum = quanta(&weights, limit)[0] / i64::from(weights[0]);
            prop_assert!(most - least <= quantum as f64 * takers as f64, "{served:?} of {weights:?}, {limit} at a time");
            if go >= 60 || served.iter().any(|jobs| *jobs > i64::try_from(MANY).unwrap() - 1_100) {
                break;
            }
        }
    }

    /// Nothing is left lying, whatever was closed, empty, urgent or beyond one go's visits.
    #[test]
    fn nobody_rests_while_anything_can_be_taken(
        flows in prop::collection::vec((0_i64..6, 0_i64..4, 1_u16..5, 0_usize..9, 0_usize..3, any::<bool>()), 1..24),
        limit in limits(), flows_max in 1_usize..6,
    ) {
        let mut ledger = Ledger::default();
        for (account, connection, weight, jobs, urgent, is_closed) in flows {
            let flow = flow(account, connection);
            ledger.add_running(flow);
            ledger.add_many(flow, weight, jobs);
            for _ in 0..urgent {
                ledger.add(flow, weight, 0);
            }
            if is_closed {
                ledger.closed.insert(flow);
            }
        }
        let mut taker = Taker::new(flows_max);
        let takeable = ledger.takeable();
        prop_assert_eq!(taker.until_rest(&mut ledger, limit).len(), takeable);
        // What comes to known flows, to new ones and to such as are open again is found by whom it woke.
        for _ in 0..3 {
            ledger.closed.clear();
            ledger.add(flow(9, 9), 1, 2);
            ledger.add(flow(1, 1), 1, 4);
            ledger.add(flow(1, 0), 1, 0);
            taker.round.woken();
            let takeable = ledger.takeable();
            prop_assert_eq!(taker.until_rest(&mut ledger, limit).len(), takeable);
        }
    }

    /// While urgent jobs stream in, of four in a row at least one is somebody else's.
    #[test]
    fn urgent_jobs_close_nobody_out(limit in 1_i64..12, accounts in 1_i64..5) {
        let mut ledger = Ledger::default();
        for account in 0..accounts {
            ledger.add_many(flow(account, 0), 1, 300);
        }
        let mut taker = Taker::new(500);
        let (mut urgent_run, mut others) = (0, BTreeMap::new());
        for _ in 0..60 {
            for _ in 0..limit {
                ledger.add(flow(9, 0), 1, 0);
            }
            let (taken, _) = taker.go(&mut ledger, limit);
            for job in taken {
                urgent_run = if job.is_urgent { urgent_run + 1 } else { 0 };
                prop_assert!(urgent_run <= 3.max(limit * 3 / 4), "{urgent_run} urgent ones in a row");
                if job.flow.account.0 < accounts {
                    *others.entry(job.flow.account).or_insert(0) += 1;
                }
            }
        }
        prop_assert_eq!(i64::try_from(others.len()).unwrap(), accounts, "{:?}", others);
    }

    /// A job waits for at most 60 s of later jobs for each step that they are more urgent.
    #[test]
    fn waiting_makes_up_for_priority(priority in 1_i16..=4, other in 0_i16..=3, every_secs in 1_i64..30) {
        prop_assume!(other < priority && other > 0);
        let mut ledger = Ledger::default();
        let waits: JobId = ledger.add(flow(1, 0), 1, priority);
        let mut taker = Taker::new(500);
        loop {
            ledger.add(flow(1, 0), 1, other);
            taker.round.woken();
            let (taken, _) = taker.go(&mut ledger, 1);
            if taken.iter().any(|job| job.place.id == waits) {
                break;
            }
            ledger.now_secs += every_secs;
            prop_assert!(ledger.now_secs <= 60 * i64::from(priority - other) + 2 * every_secs, "at {}", ledger.now_secs);
        }
        prop_assert!(ledger.now_secs >= 60 * i64::from(priority - other) - every_secs, "too early: {}", ledger.now_secs);
    }
}

#[test]
fn flows_that_have_nothing_do_not_hide_those_behind_them() {
    let mut ledger = Ledger::default();
    for account in 0..50 {
        ledger.add_running(flow(account, 0));
    }
    ledger.add(flow(50, 0), 1, 2);
    let mut taker = Taker::new(10);
    assert_eq!(taker.until_rest(&mut ledger, 10).len(), 1);
    assert_eq!(taker.go(&mut ledger, 10).1, Next::Rest);
}

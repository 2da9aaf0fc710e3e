//! Token buckets: no window has more than its burst and its rate, and no token is lost to rounding or won by a clock.

use crate::at_us;
use domain::{Bucket, Per, Rate};
use proptest::prelude::*;

fn rate() -> impl Strategy<Value = Rate> {
    (1_u32..2_000, any::<bool>(), 1_u32..50).prop_map(|(tokens, is_second, burst)| Rate {
        tokens,
        per: if is_second { Per::Second } else { Per::Minute },
        burst,
    })
}

const fn period_us(rate: Rate) -> i64 {
    match rate.per {
        Per::Second => 1_000_000,
        Per::Minute => 60_000_000,
    }
}

/// Asks at each time as often as given; the times at which a token was had.
fn takes(rate: Rate, asks: &[(i64, u32)]) -> Vec<i64> {
    let mut bucket: Option<Bucket> = None;
    let mut taken = Vec::new();
    for (us, times) in asks {
        for _ in 0..*times {
            let Ok(after) = rate.take(bucket, at_us(*us)) else { break };
            bucket = Some(after);
            taken.push(*us);
        }
    }
    taken
}

/// Steps of time with asks at each, as absolute microseconds.
fn asks(steps: Vec<(i64, u32)>) -> Vec<(i64, u32)> {
    let mut now = 0;
    steps
        .into_iter()
        .map(|(step, times)| {
            now += step;
            (now, times)
        })
        .collect()
}

proptest! {
    #[test]
    fn no_window_has_more_than_its_burst_and_its_rate(
        rate in rate(), steps in prop::collection::vec((0_i64..500_000, 0_u32..60), 1..80),
    ) {
        let taken = takes(rate, &asks(steps));
        // Of those at one instant, the first opens the widest window and the last closes it.
        let opens = |at: &usize| *at == 0 || taken[at - 1] != taken[*at];
        let closes = |at: &usize| taken.get(at + 1) != taken.get(*at);
        for from in (0..taken.len()).filter(opens) {
            for to in (from..taken.len()).filter(closes) {
                let (first, last) = (taken[from], taken[to]);
                let tokens = i64::try_from(to - from + 1).unwrap();
                let most = i64::from(rate.burst) * period_us(rate) + i64::from(rate.tokens) * (last - first);
                prop_assert!(tokens * period_us(rate) <= most, "{tokens} between {first} and {last}");
            }
        }
    }

    /// Whoever asks all the time, at whatever moments, gets every token that came.
    #[test]
    fn nothing_is_lost_to_rounding(rate in rate().prop_filter("a rest", |rate| rate.burst > 1), steps in prop::collection::vec(1_i64..300, 500)) {
        // Between two asks comes a token at the most, so that the bucket never runs over.
        let step_us = period_us(rate) / i64::from(rate.tokens);
        let steps = steps.into_iter().map(|part| ((step_us * part / 300).max(1), 50)).collect();
        let asks = asks(steps);
        let end = asks.last().unwrap().0 - asks[0].0;
        let taken = i64::try_from(takes(rate, &asks).len()).unwrap();
        let came = i64::from(rate.tokens) * end / period_us(rate);
        prop_assert_eq!(taken, came + i64::from(rate.burst));
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing(
        rate in rate(), steps in prop::collection::vec((-2_000_000_i64..1_000_000, 1_u32..60), 1..80),
    ) {
        let asks = asks(steps);
        let first = asks[0].0;
        let (mut bucket, mut taken, mut latest) = (None, 0, first);
        for (us, times) in asks {
            latest = latest.max(us);
            for _ in 0..times {
                if let Ok(after) = rate.take(bucket, at_us(us)) {
                    bucket = Some(after);
                    taken += 1;
                }
            }
            let most = i64::from(rate.burst) * period_us(rate) + i64::from(rate.tokens) * (latest - first);
            prop_assert!(taken * period_us(rate) <= most);
        }
    }

    #[test]
    fn the_next_token_is_there_when_it_was_said_and_not_before(rate in rate(), start in 0_i64..1_000_000) {
        let mut bucket = None;
        let next = loop {
            match rate.take(bucket, at_us(start)) {
                Ok(after) => bucket = Some(after),
                Err(next) => break next,
            }
        };
        let before = next - chrono::TimeDelta::microseconds(1);
        prop_assert_eq!(rate.tokens_at(bucket, before), 0);
        prop_assert_eq!(rate.take(bucket, before), Err(next));
        prop_assert!(rate.tokens_at(bucket, next) >= 1);
        prop_assert!(rate.take(bucket, next).is_ok());
    }
}

#[test]
fn years_of_rest_fill_it_and_no_more() {
    let rate = Rate { tokens: u32::MAX, per: Per::Minute, burst: 3 };
    let empty = Bucket { parts: 0, at: at_us(0) };
    let later = at_us(0) + chrono::TimeDelta::days(40_000);
    assert_eq!(rate.tokens_at(Some(empty), later), 3);
    let lowered = Bucket { parts: i64::MAX, at: at_us(0) };
    assert_eq!(rate.tokens_at(Some(lowered), at_us(0)), 3, "a burst that was lowered holds at once");
}

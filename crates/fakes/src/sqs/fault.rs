//! Owns the misbehaviour that can be asked of the fake, and the seeded dice that decide when it happens.
//! Does not own what a fault does: that is written where the request is served.

use std::{collections::BTreeMap, fmt, str::FromStr};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

/// One way to misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A sent message is stored twice under one message id, so that one copy outlives the other's deletion.
    Duplicate,
    /// A receive takes a message from anywhere in the queue instead of its head.
    Reorder,
    /// A send is acknowledged and forgotten. Real SQS does not do this; lost rows are found by sweeps all the same.
    Lose,
    /// A sent message becomes visible late, by up to [`Rule::delay_ms_max`].
    Delay,
    /// The request is refused with `RequestThrottled` before anything happens.
    Throttle,
    /// The request is refused with HTTP 500 before anything happens.
    #[serde(rename = "http_5xx")]
    Http5xx,
    /// The request is carried out, and the connection breaks before the whole answer is written.
    AnswerLostAfterExecution,
    /// One entry of a batch fails with `InternalError` while its neighbours go through.
    EntryFailed,
}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        serde_json::from_value(serde_json::Value::from(name)).map_err(|_| UnknownFault(name.to_owned()))
    }
}

/// The name is not that of a [`Fault`].
#[derive(Debug)]
pub struct UnknownFault(String);

impl fmt::Display for UnknownFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown fault {:?}; there are duplicate, reorder, lose, delay, throttle, http_5xx, \
             answer_lost_after_execution, entry_failed",
            self.0
        )
    }
}

impl std::error::Error for UnknownFault {}

/// How often a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Between 0 (never) and 1 (each time); values outside are clamped.
    pub probability: f64,
    /// How many times more it may happen; unlimited when absent.
    #[serde(default)]
    pub remaining: Option<u64>,
    /// For [`Fault::Delay`]: the longest delay, in milliseconds.
    #[serde(default = "delay_ms_max_default")]
    pub delay_ms_max: u64,
}

fn delay_ms_max_default() -> u64 {
    2_000
}

impl Rule {
    /// Happens with `probability`, without an end.
    #[must_use]
    pub fn with_probability(probability: f64) -> Self {
        Self { probability, remaining: None, delay_ms_max: delay_ms_max_default() }
    }

    /// Happens the next `times` times, then never again.
    #[must_use]
    pub fn next(times: u64) -> Self {
        Self { probability: 1.0, remaining: Some(times), delay_ms_max: delay_ms_max_default() }
    }
}

/// Faults by name.
pub type Faults = BTreeMap<Fault, Rule>;

/// The rules in force with their dice. The same seed and the same order of requests give the same faults.
#[derive(Debug)]
pub(super) struct Dice {
    rules: Faults,
    rng: StdRng,
}

impl Dice {
    pub(super) fn new(rules: Faults, seed: u64) -> Self {
        Self { rules, rng: StdRng::seed_from_u64(seed) }
    }

    pub(super) fn rules(&self) -> &Faults {
        &self.rules
    }

    /// Adds or replaces the named rules and leaves the others; probability 0 turns one off.
    pub(super) fn set(&mut self, rules: Faults) {
        self.rules.extend(rules);
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
    }

    /// Whether `fault` happens now. Uses up one of the remaining times when it does.
    pub(super) fn strikes(&mut self, fault: Fault) -> bool {
        let Some(rule) = self.rules.get_mut(&fault) else { return false };
        if rule.remaining == Some(0) || !self.rng.random_bool(rule.probability.clamp(0.0, 1.0)) {
            return false;
        }
        if let Some(remaining) = &mut rule.remaining {
            *remaining -= 1;
        }
        true
    }

    /// A delay in milliseconds when [`Fault::Delay`] happens, else 0.
    pub(super) fn delay_ms(&mut self) -> i64 {
        if !self.strikes(Fault::Delay) {
            return 0;
        }
        let max = self.rules.get(&Fault::Delay).map_or(1, |rule| rule.delay_ms_max.max(1));
        i64::try_from(self.rng.random_range(1..=max)).unwrap_or(i64::MAX / 2)
    }

    /// A number for the choice of a message when [`Fault::Reorder`] happens.
    pub(super) fn reorder(&mut self) -> Option<u64> {
        self.strikes(Fault::Reorder).then(|| self.rng.random())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_strikes_the_same_way() {
        let roll = || {
            let mut dice = Dice::new(Faults::from([(Fault::Lose, Rule::with_probability(0.5))]), 7);
            (0..64).map(|_| dice.strikes(Fault::Lose)).collect::<Vec<_>>()
        };
        assert_eq!(roll(), roll());
        assert!(roll().contains(&true) && roll().contains(&false));
    }

    #[test]
    fn a_counted_fault_runs_out() {
        let mut dice = Dice::new(Faults::from([(Fault::Throttle, Rule::next(2))]), 0);
        assert_eq!((0..4).map(|_| dice.strikes(Fault::Throttle)).collect::<Vec<_>>(), [true, true, false, false]);
    }

    #[test]
    fn names_are_those_of_the_wire() {
        assert_eq!("http_5xx".parse::<Fault>().unwrap(), Fault::Http5xx);
        assert_eq!("answer_lost_after_execution".parse::<Fault>().unwrap(), Fault::AnswerLostAfterExecution);
        assert!("nonsense".parse::<Fault>().is_err());
    }
}

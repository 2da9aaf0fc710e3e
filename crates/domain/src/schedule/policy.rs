//! How a schedule behaves beside its rule: when its last job is unfinished, when fires were missed, and how the fires of
//! many accounts are spread.

use super::{Plan, Schedule};
use crate::AccountId;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The shortest catch-up window, in seconds: a change of leader takes no longer, and is not to drop what is due.
pub const CATCH_UP_SECS_MIN: u32 = 60;
/// The most missed fires that can be made good at once.
pub const CATCH_UP_MAX_MAX: u16 = 1_000;
/// The widest spread, in seconds: a day.
pub const JITTER_SECS_MAX: u32 = 86_400;

/// What a fire does while a job of its schedule is unfinished. Back-filled jobs do not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Makes no job.
    #[default]
    Skip,
    /// Waits until there is none, and then makes its job; one waits at the most.
    BufferOne,
    /// Cancels it (a running one is asked to stop) and makes its own.
    CancelOlder,
    /// Makes its job all the same.
    Allow,
}

impl Overlap {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Skip, Self::BufferOne, Self::CancelOlder, Self::Allow];

    /// The text in the database, the API and files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::BufferOne => "buffer_one",
            Self::CancelOlder => "cancel_older",
            Self::Allow => "allow",
        }
    }
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Overlap {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|overlap| overlap.as_str() == text).ok_or_else(|| {
            format!("'{text}' is no overlap policy; they are {}", Self::ALL.map(Self::as_str).join(", "))
        })
    }
}

/// What becomes of fires that were missed: those older than the window are dropped, the latest of the rest are made good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatchUp {
    /// The window in seconds; a day unless said.
    pub secs: u32,
    /// How many, one job each; one unless said.
    pub fires_max: u16,
}

impl Default for CatchUp {
    fn default() -> Self {
        Self { secs: 86_400, fires_max: 1 }
    }
}

/// Everything about a schedule's fires that is not its rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    /// While its last job is unfinished.
    pub overlap: Overlap,
    /// How far the fires of many accounts are spread, in seconds.
    pub jitter_secs: u32,
    /// No fire before this.
    pub starts_at: Option<DateTime<Utc>>,
    /// No fire from this on.
    pub ends_at: Option<DateTime<Utc>>,
    /// Missed fires.
    pub catch_up: CatchUp,
}

impl Policy {
    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// The key and what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let CatchUp { secs, fires_max } = self.catch_up;
        if secs < CATCH_UP_SECS_MIN {
            return Err(format!("catch_up_secs is {secs}, not at least {CATCH_UP_SECS_MIN}"));
        }
        if !(1..=CATCH_UP_MAX_MAX).contains(&fires_max) {
            return Err(format!("catch_up_max is {fires_max}, not between 1 and {CATCH_UP_MAX_MAX}"));
        }
        if self.jitter_secs > JITTER_SECS_MAX {
            return Err(format!("jitter_secs is {}, above {JITTER_SECS_MAX}", self.jitter_secs));
        }
        match (self.starts_at, self.ends_at) {
            (Some(start), Some(end)) if end <= start => Err("ends_at is not after starts_at".to_owned()),
            _ => Ok(()),
        }
    }

    /// The plan of one account's schedule.
    #[must_use]
    pub fn plan(&self, rule: Schedule, account: AccountId, name: &str) -> Plan {
        Plan {
            rule,
            jitter: jitter(account, name, self.jitter_secs),
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            catch_up: self.catch_up,
        }
    }
}

/// How much later than its rule says a schedule fires: less than `jitter_secs`, to the millisecond, and always the same
/// for one account and name, so that the fires of many accounts are spread evenly and each stays where it is.
#[must_use]
pub fn jitter(account: AccountId, name: &str, jitter_secs: u32) -> TimeDelta {
    let range_ms = u64::from(jitter_secs) * 1_000;
    if range_ms == 0 {
        return TimeDelta::zero();
    }
    // FNV-1a, which is the same in every release of everything, and a finish that spreads neighbours.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in account.0.to_le_bytes().iter().chain(name.as_bytes()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    TimeDelta::milliseconds(i64::try_from(hash % range_ms).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn jitter_is_within_its_range_and_stays(account in any::<i64>(), name in ".{0,40}", secs in 0..=JITTER_SECS_MAX) {
            let one = jitter(AccountId(account), &name, secs);
            prop_assert_eq!(one, jitter(AccountId(account), &name, secs));
            prop_assert!(one >= TimeDelta::zero());
            prop_assert!(one < TimeDelta::seconds(i64::from(secs.max(1))));
        }
    }

    #[test]
    fn ten_thousand_accounts_are_spread_evenly() {
        let mut by_second = [0_u32; 60];
        for account in 1..=10_000 {
            let offset = jitter(AccountId(account), &format!("sync/{account}"), 60);
            by_second[usize::try_from(offset.num_seconds()).unwrap()] += 1;
        }
        // 167 on average; chance alone stays within six standard deviations (13) for any good hash.
        assert!(by_second.iter().all(|fires| (90..=245).contains(fires)), "{by_second:?}");
    }

    #[test]
    fn overlap_has_one_name_each() {
        for overlap in Overlap::ALL {
            assert_eq!(overlap.as_str().parse(), Ok(overlap));
            assert_eq!(serde_json::to_value(overlap).unwrap(), overlap.as_str());
        }
        assert!("both".parse::<Overlap>().unwrap_err().contains("buffer_one"));
    }
}

//! The customer's own quota at a vendor, as the vendor reports it: how much of it is ours, and how it is spread over the
//! day. The hard bound is exact; the spreading is a pace that follows what is left.
//!
//! Of the quota, `share_pct` is ours. The last `health_pct` of that are not for jobs: they pay for signing on, and for
//! the one job that looks again when everything is used up and nobody says when it will not be.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// Seconds after which an exhausted budget is looked at again, by one job, when the vendor gives no time.
pub const RECHECK_SECS: i64 = 15 * 60;
/// Once a quota is free again and its vendor has not spoken since, one job in so many seconds is not held back by the pace:
/// how long the new period is, only its vendor knows.
const RESET_LOOK_SECS: i64 = 60;
/// A day's quota is reported for so many seconds.
const DAY_US: i64 = 86_400_000_000;
/// How much may be taken at once after a rest, in microseconds of the pace.
const BURST_US: i64 = 3_600_000_000;
/// A window that rolls gives back what was used a day ago: what is left is paced as if this were the rest of the day,
/// which uses four fifths of the budget when nobody else calls, and leaves the last fifth to urgent jobs.
const ROLLING_US: i64 = 6 * 3_600_000_000;
/// Steps in which the time is found at which a job goes; each is a fraction of the one before.
const FORESIGHT_MAX: u32 = 100;
/// Parts of a call.
const CALL: i128 = 1_000_000;

/// How much of a customer's quota is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetSettings {
    /// Per cent of the customer's quota that are ours, whoever else uses it.
    pub share_pct: u8,
    /// Per cent of the customer's quota, within our share, that no job uses.
    pub health_pct: u8,
}

impl Default for BudgetSettings {
    fn default() -> Self {
        Self { share_pct: 80, health_pct: 5 }
    }
}

impl BudgetSettings {
    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn check(self) -> Result<(), String> {
        if !(1..=100).contains(&self.share_pct) {
            return Err(format!("share_pct is {}, not between 1 and 100", self.share_pct));
        }
        if self.health_pct >= self.share_pct {
            return Err(format!("health_pct is {}, not below share_pct ({})", self.health_pct, self.share_pct));
        }
        Ok(())
    }
}

/// What the vendor said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorBudget {
    /// Calls used, by everybody.
    pub used: u64,
    /// Calls that the quota has.
    pub maximum: u64,
    /// When it was said.
    pub reported_at: DateTime<Utc>,
    /// When everything is free again; none: what was used becomes free a day later, call by call.
    pub resets_at: Option<DateTime<Utc>>,
}

/// The pace of jobs that are not urgent, and the last look at an exhausted budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Millionths of calls that may be made now; negative after a job that was larger than a burst.
    pub parts: i64,
    /// As of when. Never goes back.
    pub at: DateTime<Utc>,
    /// When a job was last let through to look again.
    pub probed_at: Option<DateTime<Utc>>,
}

/// A budget as it stands, with what jobs in flight are expected to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spending {
    /// What the vendor said.
    pub budget: VendorBudget,
    /// Our share of it.
    pub settings: BudgetSettings,
    /// Calls reserved for jobs in flight.
    pub reserved: u64,
    /// The pace; none: never used.
    pub pace: Option<Pace>,
}

/// What a budget says to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may go; the pace afterwards, if it changes.
    Room(Option<Pace>),
    /// The pace holds it back until then.
    Paced(DateTime<Utc>),
    /// Our share is used up; it is free, or looked at again, at that time. None: when jobs in flight have reported.
    Exhausted(Option<DateTime<Utc>>),
}

impl Spending {
    /// Calls that jobs may have used.
    #[must_use]
    pub fn ceiling(&self) -> u64 {
        let pct = u128::from(self.settings.share_pct.saturating_sub(self.settings.health_pct));
        u64::try_from(u128::from(self.budget.maximum) * pct / 100).unwrap_or(u64::MAX)
    }

    /// Calls used by everybody or reserved by us.
    #[must_use]
    pub fn used(&self, now: DateTime<Utc>) -> u64 {
        let is_past = self.budget.resets_at.is_some_and(|at| at <= now);
        let used = if is_past { 0 } else { self.budget.used };
        used.saturating_add(self.reserved)
    }

    /// Calls that jobs may still make.
    #[must_use]
    pub fn available(&self, now: DateTime<Utc>) -> u64 {
        self.ceiling().saturating_sub(self.used(now))
    }

    /// Whether a job that is expected to make so many calls may go.
    #[must_use]
    pub fn ask(&self, calls: u64, is_urgent: bool, now: DateTime<Utc>) -> Verdict {
        let mut verdict = self.ask_at(calls, is_urgent, now);
        // What is asked of a job larger than an hour's worth grows while it waits: the time said is one at which it goes.
        for _ in 0..FORESIGHT_MAX {
            match verdict {
                Verdict::Paced(at) => match self.ask_at(calls, is_urgent, at) {
                    Verdict::Paced(later) => verdict = Verdict::Paced(later),
                    _ => break,
                },
                _ => break,
            }
        }
        verdict
    }

    fn ask_at(&self, calls: u64, is_urgent: bool, now: DateTime<Utc>) -> Verdict {
        // A job that expects more than there ever is goes when nothing is used.
        let calls = calls.min(self.ceiling()).max(1);
        let available = self.available(now);
        if available < calls {
            return self.look_again(now);
        }
        if is_urgent {
            return Verdict::Room(None);
        }
        let (pace, burst) = self.paced(available, now);
        let wanted = i64::try_from(i128::from(calls) * CALL).unwrap_or(i64::MAX);
        let enough = wanted.min(burst);
        if pace.parts >= enough {
            return Verdict::Room(Some(Pace { parts: pace.parts.saturating_sub(wanted), ..pace }));
        }
        if self.may_look_after_reset(now) {
            return Verdict::Room(Some(Pace { probed_at: Some(now), ..pace }));
        }
        // What an hour brings is the burst.
        let missing = i128::from(enough) - i128::from(pace.parts);
        let wait_us = (missing * i128::from(BURST_US)).div_euclid(i128::from(burst.max(1))) + 1;
        let wait_us = i64::try_from(wait_us).unwrap_or(DAY_US).min(DAY_US);
        Verdict::Paced(pace.at + TimeDelta::microseconds(wait_us))
    }

    /// How many jobs of so many calls may go now.
    #[must_use]
    pub fn places(&self, calls: u64, is_urgent: bool, now: DateTime<Utc>) -> u64 {
        if !matches!(self.ask(calls, is_urgent, now), Verdict::Room(_)) {
            return 0;
        }
        let calls = calls.min(self.ceiling()).max(1);
        let available = self.available(now);
        let places = available / calls;
        if is_urgent {
            return places.max(1);
        }
        let paced = i128::from(self.paced(available, now).0.parts).max(0) / (i128::from(calls) * CALL);
        places.min(u64::try_from(paced).unwrap_or(0)).max(1)
    }

    /// The quota is free again, its vendor has not said so, and no job is on its way to find out.
    fn may_look_after_reset(&self, now: DateTime<Utc>) -> bool {
        let Some(reset_at) = self.budget.resets_at.filter(|at| *at <= now) else { return false };
        let looked_at = self.pace.and_then(|pace| pace.probed_at).filter(|at| *at >= reset_at);
        self.reserved == 0 && looked_at.is_none_or(|at| now - at >= TimeDelta::seconds(RESET_LOOK_SECS))
    }

    /// Nothing is left. When nobody says until when, one job at a time may find out, now and then.
    fn look_again(&self, now: DateTime<Utc>) -> Verdict {
        if let Some(at) = self.budget.resets_at.filter(|at| *at > now) {
            return Verdict::Exhausted(Some(at));
        }
        let looked_at = self.budget.reported_at.max(self.pace.and_then(|pace| pace.probed_at).unwrap_or_default());
        let again_at = looked_at + TimeDelta::seconds(RECHECK_SECS);
        if again_at > now {
            return Verdict::Exhausted(Some(again_at));
        }
        if self.reserved > 0 {
            return Verdict::Exhausted(None);
        }
        let pace = self.pace.unwrap_or(Pace { parts: 0, at: now, probed_at: None });
        Verdict::Room(Some(Pace { probed_at: Some(now), ..pace }))
    }

    /// The pace as it is now, and its burst: what it brings in an hour.
    fn paced(&self, available: u64, now: DateTime<Utc>) -> (Pace, i64) {
        let left = i128::from(available) * CALL;
        let in_us = |us: i64| -> i128 {
            match self.budget.resets_at {
                Some(at) => {
                    let mut rest_us = at.timestamp_micros() - now.timestamp_micros();
                    if rest_us <= 0 {
                        // The next day has begun and nothing was said yet.
                        rest_us += DAY_US;
                    }
                    left * i128::from(us) / i128::from(rest_us.max(1))
                }
                None => {
                    let even = i128::from(self.ceiling()) * CALL * i128::from(us) / i128::from(DAY_US);
                    (left * i128::from(us) / i128::from(ROLLING_US)).min(even)
                }
            }
        };
        let whole = |parts: i128| i64::try_from(parts.min(left)).unwrap_or(i64::MAX);
        let burst = whole(in_us(BURST_US));
        let Some(pace) = self.pace else { return (Pace { parts: burst, at: now, probed_at: None }, burst) };
        let passed_us = now.timestamp_micros().saturating_sub(pace.at.timestamp_micros()).clamp(0, DAY_US);
        let parts = pace.parts.saturating_add(whole(in_us(passed_us))).min(burst);
        (Pace { parts, at: pace.at.max(now), probed_at: pace.probed_at }, burst)
    }
}

//! What can be set of circuit breakers, its checks, and the waits that follow from it.

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

/// Longest time over which what was held back goes, in seconds.
const RELEASE_SECS_MAX: u32 = 3_600;

/// When breakers open, how they close again, and how what was held back goes: `[breaker]` in `config/scheduler.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerSettings {
    /// Outcomes older than this are forgotten, in seconds.
    pub window_secs: u32,
    /// Failures within the window below which none opens.
    pub failures_min: u32,
    /// Share of the outcomes within the window that must be failures, in percent.
    pub failures_pct: u32,
    /// Outcomes that weigh at the most: of more, the older ones fade, so that the outage of a busy service shows at once.
    pub outcomes_max: u32,
    /// Least wait before a probe, in seconds.
    pub open_secs_min: u32,
    /// Greatest wait before a probe, in seconds.
    pub open_secs_max: u32,
    /// How long a probe may be without an outcome before another is sent, in seconds.
    pub probe_secs: u32,
    /// How often the room doubles by itself while a service recovers, in seconds.
    pub ramp_secs: u32,
    /// Over how many seconds the jobs of a connection go that were held back until it was authorised again or a pause was
    /// lifted; 0: at once.
    #[serde(default = "release_secs")]
    pub release_secs: u32,
}

/// What a leader of an older version would say.
const fn release_secs() -> u32 {
    10
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            window_secs: 30,
            failures_min: 5,
            failures_pct: 50,
            outcomes_max: 40,
            open_secs_min: 5,
            open_secs_max: 300,
            probe_secs: 60,
            ramp_secs: 5,
            release_secs: release_secs(),
        }
    }
}

impl BreakerSettings {
    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub const fn check(&self) -> Result<(), &'static str> {
        if self.window_secs == 0 || self.failures_min == 0 || self.probe_secs == 0 || self.ramp_secs == 0 {
            return Err("window_secs, failures_min, probe_secs and ramp_secs must be at least 1");
        }
        if self.outcomes_max < self.failures_min.saturating_mul(2) {
            return Err("outcomes_max must be at least twice failures_min");
        }
        if self.failures_pct == 0 || self.failures_pct > 100 {
            return Err("failures_pct must be 1 to 100");
        }
        if self.open_secs_min < 2 || self.open_secs_max < self.open_secs_min {
            return Err("open_secs_min must be at least 2, and open_secs_max no less");
        }
        if self.release_secs > RELEASE_SECS_MAX {
            return Err("release_secs must be 3600 at the most");
        }
        Ok(())
    }

    pub(super) fn open_min(&self) -> TimeDelta {
        TimeDelta::seconds(i64::from(self.open_secs_min))
    }

    pub(super) fn probe(&self) -> TimeDelta {
        TimeDelta::seconds(i64::from(self.probe_secs.max(1)))
    }

    pub(super) fn ramp(&self) -> TimeDelta {
        TimeDelta::seconds(i64::from(self.ramp_secs.max(1)))
    }

    /// The wait after opening number `openings` (1 = the first): from the least wait up to twice that, twice as far with
    /// each opening, never beyond the greatest.
    pub(super) fn wait(&self, openings: u32, jitter: f64) -> TimeDelta {
        let least = u64::from(self.open_secs_min) * 1_000;
        let most =
            least.saturating_mul(1_u64 << openings.min(40)).min(u64::from(self.open_secs_max) * 1_000).max(least);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "milliseconds of a bounded wait"
        )]
        let more = ((most - least) as f64 * jitter.clamp(0.0, 1.0)) as u64;
        TimeDelta::milliseconds(i64::try_from(least + more).unwrap_or(i64::MAX / 2))
    }
}

//! The latest outcomes of a service, counted: bounded in time and in number, so that a change for the worse shows at once.

use super::BreakerSettings;
use chrono::{DateTime, TimeDelta, Utc};

/// Outcomes counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Attempts that succeeded.
    pub succeeded: u32,
    /// Attempts that failed and may be the service's fault.
    pub failed: u32,
}

impl Tally {
    const fn plus(self, other: Self) -> Self {
        Self {
            succeeded: self.succeeded.saturating_add(other.succeeded),
            failed: self.failed.saturating_add(other.failed),
        }
    }

    const fn outcomes(self) -> u64 {
        self.succeeded as u64 + self.failed as u64
    }

    const fn halved(self) -> Self {
        Self { succeeded: self.succeeded / 2, failed: self.failed / 2 }
    }

    pub(super) fn is_mostly_failed(self, pct: u32) -> bool {
        self.failed > 0 && u64::from(self.failed) * 100 >= self.outcomes() * u64::from(pct)
    }
}

/// The latest outcomes, in two halves of the window: the older one is forgotten as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// When the newer half began.
    pub since: DateTime<Utc>,
    /// The newer half.
    pub newer: Tally,
    /// The half before it.
    pub older: Tally,
}

impl Window {
    pub(super) const fn empty(since: DateTime<Utc>) -> Self {
        Self { since, newer: Tally { succeeded: 0, failed: 0 }, older: Tally { succeeded: 0, failed: 0 } }
    }

    /// Both halves together.
    #[must_use]
    pub const fn total(&self) -> Tally {
        self.newer.plus(self.older)
    }

    /// Counts outcomes in; answers with the sum of what weighs now.
    pub(super) fn add(&mut self, settings: &BreakerSettings, tally: Tally) -> Tally {
        self.newer = self.newer.plus(tally);
        let total = self.total();
        while self.total().outcomes() > u64::from(settings.outcomes_max) {
            (self.newer, self.older) = (self.newer.halved(), self.older.halved());
        }
        // Judged before they fade: rounding must not lose a failure.
        total
    }

    pub(super) fn roll(&mut self, settings: &BreakerSettings, now: DateTime<Utc>) {
        let half = TimeDelta::milliseconds(i64::from(settings.window_secs) * 500);
        let age = now - self.since;
        if age >= half * 2 {
            *self = Self::empty(now);
        } else if age >= half {
            *self = Self { since: self.since + half, newer: Tally::default(), older: self.newer };
        }
    }
}

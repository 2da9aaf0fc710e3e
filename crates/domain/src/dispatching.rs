//! How the dispatcher works: how many jobs of a kind may be on the queue, and when one that nobody claims is sent again.
//! Does not own the settings (`config/scheduler.toml`) or the sending.

use chrono::{DateTime, TimeDelta, Utc};

/// Doublings of the wait for a claim, at the most.
const DOUBLINGS_MAX: u32 = 3;

/// The leading scheduler's settings of the way to the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispatching {
    /// Jobs on the queue for each slot of the live servants.
    pub window_per_slot: u32,
    /// Jobs of a kind on the queue when no servant is seen.
    pub window_min: u32,
    /// Seconds until a job that nobody claimed is sent again; doubled with each sending.
    pub unclaimed_secs: u32,
}

impl Dispatching {
    /// Jobs of a kind that may be on the queue while its live servants have so many slots.
    #[must_use]
    pub fn window(&self, slots: i64) -> i64 {
        slots.saturating_mul(i64::from(self.window_per_slot)).max(i64::from(self.window_min))
    }

    /// When the sweep sends a job again that was sent `sends` times, the last time at `queued_at`.
    #[must_use]
    pub fn sweep_at(&self, queued_at: DateTime<Utc>, sends: i16) -> DateTime<Utc> {
        let doublings = u32::try_from(sends - 1).unwrap_or(0).min(DOUBLINGS_MAX);
        queued_at + TimeDelta::seconds(i64::from(self.unclaimed_secs) << doublings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_follows_the_slots_and_the_wait_doubles() {
        let dispatching = Dispatching { window_per_slot: 3, window_min: 20, unclaimed_secs: 15 };
        assert_eq!([0, 6, 7, 100].map(|slots| dispatching.window(slots)), [20, 20, 21, 300]);
        let queued = DateTime::UNIX_EPOCH;
        let waits = [0, 1, 2, 3, 4, 5, 1_000].map(|sends| (dispatching.sweep_at(queued, sends) - queued).num_seconds());
        assert_eq!(waits, [15, 15, 30, 60, 120, 120, 120]);
    }
}

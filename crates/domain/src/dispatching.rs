//! How the dispatcher works: how many jobs of a kind may be on the queue, and when one that nobody claims is sent again.
//! Does not own the settings (`config/scheduler.toml`) or the sending.

use chrono::{DateTime, TimeDelta, Utc};

/// Of the slots, the part that may be free before a full window is filled again, and how long that may take.
const IDLE_SLOTS_MAX: f64 = 0.02;
const REFILL_MS_MAX: u64 = 15;
/// Doublings of the wait for a claim, at the most.
const DOUBLINGS_MAX: u32 = 3;

/// The leading scheduler's settings of the way to the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dispatching {
    /// Jobs on the queue for each slot of the live servants, at the most.
    pub window_per_slot: u32,
    /// Jobs of a kind on the queue when no servant is seen.
    pub window_min: u32,
    /// How far ahead of busy servants the queue is filled, in milliseconds: about as long as a job on it waits for those
    /// before it.
    pub look_ahead_ms: u32,
    /// Seconds until a job that nobody claimed is sent again; doubled with each sending.
    pub unclaimed_secs: u32,
}

impl Dispatching {
    /// Jobs of a kind that may be on the queue: one for each free slot of its live servants, and what these take in the
    /// look-ahead. More would only wait there, before others that come later and whose turn it is.
    #[must_use]
    pub fn window(&self, slots: i64, running: i64, taken: TakenPerSec) -> i64 {
        if slots <= 0 {
            return i64::from(self.window_min);
        }
        let free = (slots - running).max(0);
        let most = slots.saturating_mul(i64::from(self.window_per_slot)).max(1);
        free.saturating_add(taken.in_ms(self.look_ahead_ms).max(1)).min(most)
    }

    /// How long after a full window was filled it is worth filling again, in milliseconds: what is on the queue lasts for the
    /// look-ahead, and then a few slots in a hundred may be free before the next jobs come. Each filling costs the ledger
    /// and the queue about the same, however many jobs it is for.
    #[must_use]
    pub fn refill_in_ms(&self, slots: i64, taken: TakenPerSec) -> u64 {
        #[expect(clippy::cast_precision_loss, reason = "a number of slots is small")]
        let idle_ms = slots as f64 * IDLE_SLOTS_MAX / taken.per_sec.max(1.0) * 1_000.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive; a cast saturates")]
        let wait_ms = (f64::from(self.look_ahead_ms) + idle_ms) as u64;
        wait_ms.clamp(1, REFILL_MS_MAX)
    }

    /// When the sweep sends a job again that was sent `sends` times, the last time at `queued_at`.
    #[must_use]
    pub fn sweep_at(&self, queued_at: DateTime<Utc>, sends: i16) -> DateTime<Utc> {
        let doublings = u32::try_from(sends - 1).unwrap_or(0).min(DOUBLINGS_MAX);
        queued_at + TimeDelta::seconds(i64::from(self.unclaimed_secs) << doublings)
    }
}

/// How many jobs of a kind its servants take off the queue each second, by what was seen of late.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TakenPerSec {
    per_sec: f64,
    /// When it was looked, and how many were on the queue then.
    seen: Option<(DateTime<Utc>, i64)>,
}

/// Looks longer ago than this weigh little, in seconds.
const TAKEN_MEMORY_SECS: f64 = 0.2;

impl TakenPerSec {
    /// Takes in how many are on the queue now.
    pub fn look(&mut self, now: DateTime<Utc>, queued: i64) {
        if let Some((at, before)) = self.seen {
            let secs = (now - at).as_seconds_f64();
            if secs <= 0.0 {
                return;
            }
            #[expect(clippy::cast_precision_loss, reason = "a number of jobs on a queue is small")]
            let rate = (before - queued).max(0) as f64 / secs;
            let weight = 1.0 - (-secs / TAKEN_MEMORY_SECS).exp();
            self.per_sec += (rate - self.per_sec) * weight;
        }
        self.seen = Some((now, queued));
    }

    /// Notes that so many were put on the queue.
    pub fn sent(&mut self, jobs: i64) {
        if let Some((_, queued)) = &mut self.seen {
            *queued += jobs;
        }
    }

    /// Jobs in so many milliseconds.
    fn in_ms(self, ms: u32) -> i64 {
        #[expect(clippy::cast_possible_truncation, reason = "bounded by what a queue holds; a cast saturates")]
        let jobs = (self.per_sec * f64::from(ms) / 1_000.0).ceil() as i64;
        jobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISPATCHING: Dispatching =
        Dispatching { window_per_slot: 3, window_min: 20, look_ahead_ms: 5, unclaimed_secs: 15 };

    #[test]
    fn the_window_is_the_free_slots_and_what_is_taken_in_the_look_ahead() {
        let at = |ms: i64| DateTime::UNIX_EPOCH + TimeDelta::milliseconds(ms);
        let mut taken = TakenPerSec::default();
        let window = |slots, running, taken| DISPATCHING.window(slots, running, taken);
        assert_eq!(window(0, 0, taken), 20, "no servant is seen");
        assert_eq!(window(10, 0, taken), 11);
        assert_eq!(window(10, 10, taken), 1, "one, so that no slot waits for a dispatch");
        assert_eq!(window(1, 0, taken), 2);
        // 1,000 taken in each second.
        taken.look(at(0), 0);
        for tick in 1..200 {
            taken.sent(10);
            taken.look(at(tick * 10), 0);
        }
        assert_eq!(window(100, 100, taken), 5);
        assert_eq!(window(100, 40, taken), 65);
        assert_eq!(window(1, 1, taken), 3, "never more than so many for each slot");
        // Nothing is taken any more.
        taken.sent(5);
        taken.look(at(2_100), 5);
        taken.look(at(12_000), 5);
        assert_eq!(window(100, 100, taken), 1);
    }

    #[test]
    fn a_window_is_filled_again_when_a_few_slots_are_free() {
        let taken = |per_sec| TakenPerSec { per_sec, seen: None };
        assert_eq!(DISPATCHING.refill_in_ms(400, taken(1_000.0)), 13, "8 slots of 400, and the look-ahead");
        assert_eq!(DISPATCHING.refill_in_ms(400, taken(4_000.0)), 7);
        assert_eq!(DISPATCHING.refill_in_ms(10, taken(5_000.0)), 5, "few slots wait for nothing");
        assert_eq!(DISPATCHING.refill_in_ms(400, taken(0.0)), REFILL_MS_MAX, "nothing ends");
        assert_eq!(Dispatching { look_ahead_ms: 0, ..DISPATCHING }.refill_in_ms(0, taken(0.0)), 1);
    }

    #[test]
    fn the_wait_for_a_claim_doubles() {
        let queued = DateTime::UNIX_EPOCH;
        let waits = [0, 1, 2, 3, 4, 5, 1_000].map(|sends| (DISPATCHING.sweep_at(queued, sends) - queued).num_seconds());
        assert_eq!(waits, [15, 15, 30, 60, 120, 120, 120]);
    }
}

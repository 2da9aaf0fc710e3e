//! Owns what the fake takes for the present. Does not own any deadline: the engine is handed the time.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

/// Where the fake reads the time from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    Real,
    /// A clock that only moves when a test moves it. Long polls wait on it too.
    Manual(ManualClock),
}

impl Clock {
    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        match self {
            Clock::Real => chrono::Utc::now().timestamp_millis(),
            Clock::Manual(clock) => clock.now_ms(),
        }
    }

    /// Returns once the clock shows `until_ms` or later.
    pub(super) async fn sleep_until(&self, until_ms: i64) {
        match self {
            Clock::Real => {
                let wait_ms = u64::try_from(until_ms - self.now_ms()).unwrap_or(0);
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            }
            Clock::Manual(clock) => {
                // The sender lives in `clock`, so the wait cannot end by a closed channel.
                drop(clock.now.subscribe().wait_for(|now| *now >= until_ms).await);
            }
        }
    }
}

/// A clock moved by hand; clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    now: Arc<watch::Sender<i64>>,
}

impl ManualClock {
    /// A clock that shows `start_ms` milliseconds since the Unix epoch.
    #[must_use]
    pub fn new(start_ms: i64) -> Self {
        Self { now: Arc::new(watch::Sender::new(start_ms)) }
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        *self.now.borrow()
    }

    /// Moves the clock forward and wakes whoever waits on it.
    pub fn advance(&self, by: Duration) {
        let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.now.send_modify(|now| *now = now.saturating_add(by_ms));
    }
}

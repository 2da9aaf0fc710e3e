//! Time as an argument: the clock that daemons and tests hand around.
//! Owns the only call of the system's clock; where it differs from the database's, an offset corrects it.

use chrono::{DateTime, TimeDelta, Utc};
use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

/// A source of "now". Cheap to clone; clones share their state.
#[derive(Debug, Clone)]
pub enum Clock {
    /// The system's clock plus an offset in microseconds (the database's clock as seen from here).
    System(Arc<AtomicI64>),
    /// A clock that a test moves.
    Manual(ManualClock),
}

impl Clock {
    /// The system's clock, not yet corrected.
    #[must_use]
    pub fn system() -> Self {
        Self::System(Arc::new(AtomicI64::new(0)))
    }

    /// Now, by this clock.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        match self {
            Self::System(offset_us) => Utc::now() + TimeDelta::microseconds(offset_us.load(Ordering::Relaxed)),
            Self::Manual(clock) => clock.now(),
        }
    }

    /// Sets how far the true time is ahead of the system's clock. A manual clock ignores it.
    pub fn set_offset(&self, ahead: TimeDelta) {
        if let Self::System(offset_us) = self {
            offset_us.store(ahead.num_microseconds().unwrap_or(0), Ordering::Relaxed);
        }
    }

    /// The correction in force.
    #[must_use]
    pub fn offset(&self) -> TimeDelta {
        match self {
            Self::System(offset_us) => TimeDelta::microseconds(offset_us.load(Ordering::Relaxed)),
            Self::Manual(_) => TimeDelta::zero(),
        }
    }
}

/// A clock that stands still until it is moved.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that stands at `start` (to the microsecond).
    #[must_use]
    pub fn at(start: DateTime<Utc>) -> Self {
        Self(Arc::new(AtomicI64::new(start.timestamp_micros())))
    }

    /// Now, by this clock.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0.load(Ordering::SeqCst)).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// Moves the clock; a negative step moves it back.
    pub fn advance(&self, by: TimeDelta) {
        self.0.fetch_add(by.num_microseconds().unwrap_or(0), Ordering::SeqCst);
    }
}

//! A bound on a UTC day, part of which only urgent jobs may use.

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};

/// The bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayLimit {
    /// Jobs in a day.
    pub per_day: u32,
    /// Per cent of them that only urgent jobs may use.
    pub reserve_pct: u8,
}

/// What a day has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayUse {
    /// The day, by UTC. Never goes back: after a clock that does, the later day's count stands.
    pub day: NaiveDate,
    /// Jobs.
    pub used: u64,
}

impl DayLimit {
    /// Jobs that a day has for urgent ones, or for the others: all but the reserve, which is rounded up.
    #[must_use]
    pub fn maximum(self, is_urgent: bool) -> u64 {
        let all = u64::from(self.per_day);
        let reserve = (all * u64::from(self.reserve_pct)).div_ceil(100);
        if is_urgent { all } else { all.saturating_sub(reserve) }
    }

    /// What the day has used by now.
    #[must_use]
    pub fn used_at(self, state: Option<DayUse>, now: DateTime<Utc>) -> DayUse {
        let today = now.date_naive();
        match state {
            Some(state) if state.day >= today => state,
            _ => DayUse { day: today, used: 0 },
        }
    }

    /// Takes one of the day's jobs.
    ///
    /// # Errors
    /// When the next day begins; nothing was taken.
    pub fn take(self, state: Option<DayUse>, now: DateTime<Utc>, is_urgent: bool) -> Result<DayUse, DateTime<Utc>> {
        let DayUse { day, used } = self.used_at(state, now);
        if used < self.maximum(is_urgent) {
            return Ok(DayUse { day, used: used + 1 });
        }
        let next = day.checked_add_days(Days::new(1)).unwrap_or(day);
        Err(next.and_time(NaiveTime::MIN).and_utc())
    }
}

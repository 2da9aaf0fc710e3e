//! What one tick decides for one schedule: which due times fire, how many are dropped, which comes next.
//! Knows nothing of jobs: whether a fire makes one is the overlap policy's to say, in the firing statement.

use super::{CatchUp, Schedule, rule::period_us};
use chrono::{DateTime, TimeDelta, Utc};

/// Missed fires of a cron rule that are counted at the most; counting more would cost more than it tells.
const COUNTED_MAX: usize = 1_000;
/// The ledger's resolution.
const TICK: TimeDelta = TimeDelta::microseconds(1);

/// Everything that decides when a schedule fires. Due times are the rule's instants, each later by the same offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The rule.
    pub rule: Schedule,
    /// The offset, from [`super::jitter`].
    pub jitter: TimeDelta,
    /// No due time before this.
    pub starts_at: Option<DateTime<Utc>>,
    /// No due time from this on.
    pub ends_at: Option<DateTime<Utc>>,
    /// What becomes of missed fires.
    pub catch_up: CatchUp,
}

/// What to do with a schedule now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The due times to fire, in their order.
    pub fires: Vec<DateTime<Utc>>,
    /// Due times that passed and are not made good (at least so many, if it is a thousand).
    pub dropped: u64,
    /// The next due time, after now; none: never again.
    pub next: Option<DateTime<Utc>>,
}

impl Plan {
    /// The first due time of a schedule that is made, or changed, at `now`.
    #[must_use]
    pub fn first(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        // A due time is wanted; the rule's instant lies before it.
        let after = match self.starts_at {
            Some(start) if start > now => start - TICK,
            _ => now,
        } - self.jitter;
        let instant = match &self.rule {
            // Not before now: fires of the past are nobody's wish.
            Schedule::EverySecs(_) => self.starts_at.map_or(now, |start| start.max(now)),
            Schedule::Once(at) => *at,
            Schedule::Cron(_) => self.rule.first(after)?,
        };
        Some(instant + self.jitter).filter(|due| self.contains(*due))
    }

    /// The due time after `now`; intervals count from the due time `anchor`.
    #[must_use]
    pub fn next_after(&self, anchor: DateTime<Utc>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let now = self.starts_at.map_or(now, |start| now.max(start - TICK));
        let instant = self.rule.next_after(anchor - self.jitter, now - self.jitter)?;
        Some(instant + self.jitter).filter(|due| self.contains(*due))
    }

    /// Decides what becomes of the persisted due time at `now`.
    #[must_use]
    pub fn decide(&self, due: DateTime<Utc>, now: DateTime<Utc>) -> Decision {
        if due > now {
            return Decision { fires: Vec::new(), dropped: 0, next: Some(due) };
        }
        let until = self.ends_at.map_or(now, |end| now.min(end - TICK));
        let oldest = now - TimeDelta::seconds(i64::from(self.catch_up.secs));
        let fires = self.latest(due, oldest, until);
        let dropped = self.passed(due, until).saturating_sub(fires.len());
        Decision { fires, dropped: u64::try_from(dropped).unwrap_or(u64::MAX), next: self.next_after(due, now) }
    }

    /// The due times from `from` (inclusive) until before `to`, `count_max` at the most; `anchor` is any due time.
    #[must_use]
    pub fn between(
        &self,
        anchor: DateTime<Utc>,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        count_max: usize,
    ) -> Vec<DateTime<Utc>> {
        self.after(anchor, from - TICK).take_while(|due| *due < to).take(count_max).collect()
    }

    fn contains(&self, due: DateTime<Utc>) -> bool {
        self.starts_at.is_none_or(|start| due >= start) && self.ends_at.is_none_or(|end| due < end)
    }

    fn after(&self, anchor: DateTime<Utc>, from: DateTime<Utc>) -> impl Iterator<Item = DateTime<Utc>> {
        std::iter::successors(self.next_after(anchor, from), move |due| self.next_after(anchor, *due))
    }

    /// The latest of the due times that begin with `due`, from `oldest` to `until`, as many as may be made good.
    fn latest(&self, due: DateTime<Utc>, oldest: DateTime<Utc>, until: DateTime<Utc>) -> Vec<DateTime<Utc>> {
        let count_max = usize::from(self.catch_up.fires_max);
        // Exclusive. A due time that is no longer the rule's (the tz database changed) is one all the same.
        let floor = due.max(oldest - TICK);
        let mut fires = match &self.rule {
            Schedule::Once(_) => Vec::new(),
            Schedule::EverySecs(secs) => latest_on_grid(due, *secs, floor, until, count_max),
            Schedule::Cron(_) => self.latest_by_looking_back(due, floor, until, count_max),
        };
        if fires.len() < count_max && due >= oldest && due <= until {
            fires.insert(0, due);
        }
        fires
    }

    /// A cron rule only looks forward: so look from further and further back, until there are enough.
    fn latest_by_looking_back(
        &self,
        anchor: DateTime<Utc>,
        floor: DateTime<Utc>,
        until: DateTime<Utc>,
        count_max: usize,
    ) -> Vec<DateTime<Utc>> {
        let mut reach = TimeDelta::minutes(1);
        loop {
            let from = floor.max(until - reach);
            let mut found: Vec<_> = self.after(anchor, from).take_while(|due| *due <= until).collect();
            if from == floor || found.len() >= count_max {
                return found.split_off(found.len().saturating_sub(count_max));
            }
            reach = reach * 4;
        }
    }

    /// How many due times there are from `due` to `until`.
    fn passed(&self, due: DateTime<Utc>, until: DateTime<Utc>) -> usize {
        if until < due {
            return 0;
        }
        match &self.rule {
            Schedule::Once(_) => 1,
            Schedule::EverySecs(secs) => {
                let passed = (until - due).num_microseconds().unwrap_or(i64::MAX) / period_us(*secs) + 1;
                usize::try_from(passed).unwrap_or(usize::MAX)
            }
            Schedule::Cron(_) => {
                1 + self.after(due, due).take(COUNTED_MAX - 1).take_while(|next| *next <= until).count()
            }
        }
    }
}

/// The latest `count_max` of `due`, `due + secs`, … that lie after `floor` and not after `until`.
fn latest_on_grid(
    due: DateTime<Utc>,
    secs: u32,
    floor: DateTime<Utc>,
    until: DateTime<Utc>,
    count_max: usize,
) -> Vec<DateTime<Utc>> {
    let Some(span_us) = (until - due).num_microseconds().filter(|span| *span >= 0) else { return Vec::new() };
    let last = due + TimeDelta::microseconds(span_us - span_us % period_us(secs));
    let back = |at: &DateTime<Utc>| Some(*at - TimeDelta::microseconds(period_us(secs)));
    let mut fires: Vec<_> =
        std::iter::successors(Some(last), back).take_while(|at| *at > floor).take(count_max).collect();
    fires.reverse();
    fires
}

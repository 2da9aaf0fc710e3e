//! The room that one kind, account, connection or vendor has under the limit that counts for it.

use super::{
    bucket::{Bucket, Per},
    day::DayUse,
    limit::Limit,
    refusal::{Refusal, What},
    scope::{Scope, Subject},
    state::{Gauge, LimitState},
};
use chrono::{DateTime, Utc};

/// What is known of one subject's use, and its limit.
#[derive(Debug, Clone, Default)]
pub(super) struct Room {
    pub(super) limit: Option<(Scope, Limit)>,
    pub(super) in_flight: u64,
    second: Option<Bucket>,
    minute: Option<Bucket>,
    day: Option<DayUse>,
    has_taken: bool,
}

/// A bound that is reached; the subject and the scope are for the caller to add.
pub(super) struct Full {
    what: What,
    used: u64,
    maximum: u64,
    frees_at: Option<DateTime<Utc>>,
}

/// What the gauges become when a job goes.
pub(super) struct Taken {
    second: Option<Bucket>,
    minute: Option<Bucket>,
    day: Option<DayUse>,
}

impl Full {
    pub(super) fn refusal(self, room: &Room, subject: Subject) -> Refusal {
        let scope = room.limit.as_ref().map_or_else(|| subject.own_scope(), |(scope, _)| scope.clone());
        let Self { what, used, maximum, frees_at } = self;
        Refusal::Limit { scope, subject, what, used, maximum, frees_at }
    }
}

impl Room {
    /// Of a subject that nothing is known of.
    pub(super) fn unused(limit: Option<(Scope, Limit)>) -> Self {
        Self { limit, ..Self::default() }
    }

    pub(super) fn remember(&mut self, gauge: Gauge) {
        match gauge {
            Gauge::Bucket(Per::Second, bucket) => self.second = Some(bucket),
            Gauge::Bucket(Per::Minute, bucket) => self.minute = Some(bucket),
            Gauge::Day(day) => self.day = Some(day),
            Gauge::Pace(_) => {}
        }
    }

    /// What would be left after a job more; nothing is taken yet.
    pub(super) fn ask(&self, is_urgent: bool, now: DateTime<Utc>) -> Result<Taken, Full> {
        let mut taken = Taken { second: None, minute: None, day: None };
        let Some((_, limit)) = &self.limit else { return Ok(taken) };
        if let Some(maximum) = limit.concurrency.map(u64::from).filter(|maximum| self.in_flight >= *maximum) {
            return Err(Full { what: What::Concurrency, used: self.in_flight, maximum, frees_at: None });
        }
        for (per, what, bucket, taken) in [
            (Per::Second, What::PerSecond, self.second, &mut taken.second),
            (Per::Minute, What::PerMinute, self.minute, &mut taken.minute),
        ] {
            if let Some(rate) = limit.rate(per) {
                let used = u64::from(rate.tokens);
                let full = |next| Full { what, used, maximum: used, frees_at: Some(next) };
                *taken = Some(rate.take(bucket, now).map_err(full)?);
            }
        }
        if let Some(day) = limit.per_day() {
            let full = |next| {
                let used = day.used_at(self.day, now).used;
                Full { what: What::PerDay, used, maximum: day.maximum(is_urgent), frees_at: Some(next) }
            };
            taken.day = Some(day.take(self.day, now, is_urgent).map_err(full)?);
        }
        Ok(taken)
    }

    pub(super) fn take(&mut self, taken: Taken) {
        self.in_flight += 1;
        self.second = taken.second.or(self.second);
        self.minute = taken.minute.or(self.minute);
        self.day = taken.day.or(self.day);
        self.has_taken |= taken.second.is_some() || taken.minute.is_some() || taken.day.is_some();
    }

    /// How many jobs may go now.
    pub(super) fn places(&self, is_urgent: bool, now: DateTime<Utc>) -> u64 {
        let Some((_, limit)) = &self.limit else { return u64::MAX };
        let concurrency = limit.concurrency.map(|maximum| u64::from(maximum).saturating_sub(self.in_flight));
        let second = limit.rate(Per::Second).map(|rate| rate.tokens_at(self.second, now));
        let minute = limit.rate(Per::Minute).map(|rate| rate.tokens_at(self.minute, now));
        let day = limit.per_day().map(|day| day.maximum(is_urgent).saturating_sub(day.used_at(self.day, now).used));
        [concurrency, second, minute, day].into_iter().flatten().min().unwrap_or(u64::MAX)
    }

    /// What is to be remembered, if anything was taken.
    pub(super) fn changed(&self, subject: &Subject, states: &mut Vec<LimitState>) {
        let Some((_, limit)) = self.limit.as_ref().filter(|_| self.has_taken) else { return };
        let of = |per, bucket: Option<Bucket>| limit.rate(per).and(bucket).map(|bucket| Gauge::Bucket(per, bucket));
        let day = limit.per_day().and(self.day).map(Gauge::Day);
        let gauges = [of(Per::Second, self.second), of(Per::Minute, self.minute), day];
        states.extend(gauges.into_iter().flatten().map(|gauge| LimitState { subject: subject.clone(), gauge }));
    }
}

//! Owns what the organisation may ask: the allowance of a rolling day, and long calls at once.
//! Does not own who asks, nor the answers.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, PoisonError},
};

use axum::http::StatusCode;
use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{Options, reply::Refusal, service::Service};

const DAY_MINUTES: i64 = 24 * 60;

/// A change of what the organisation used, as by other applications or by time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UsageChange {
    /// Calls that other applications make.
    pub spend: u64,
    /// By how much older all calls so far become.
    pub age_secs: i64,
    /// A new allowance.
    pub daily_limit: Option<u64>,
}

/// What the organisation used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageSeen {
    /// Calls of the last 24 hours, those of other applications too.
    pub used: u64,
    /// The allowance.
    pub daily_limit: u64,
    /// Calls that run now.
    pub running: usize,
    /// The most calls that ever ran at once.
    pub running_peak: usize,
    /// Data calls admitted, ever.
    pub admitted: u64,
    /// Calls refused since the allowance was used up.
    pub refused_daily: u64,
    /// Calls refused since too many long ones ran.
    pub refused_concurrent: u64,
}

/// Counts of the last 24 hours, by minute.
#[derive(Debug, Default)]
struct RollingDay(VecDeque<(i64, u64)>);

impl RollingDay {
    fn add(&mut self, now: DateTime<Utc>, count: u64) {
        let minute = now.timestamp() / 60;
        match self.0.back_mut() {
            Some((last, sum)) if *last >= minute => *sum += count,
            _ => self.0.push_back((minute, count)),
        }
    }

    fn sum(&mut self, now: DateTime<Utc>) -> u64 {
        let first = now.timestamp() / 60 - DAY_MINUTES;
        while self.0.front().is_some_and(|(minute, _)| *minute <= first) {
            self.0.pop_front();
        }
        self.0.iter().map(|(_, count)| count).sum()
    }

    fn age(&mut self, secs: i64) {
        for (minute, _) in &mut self.0 {
            *minute -= secs / 60;
        }
    }
}

/// The use so far.
#[derive(Debug)]
pub(super) struct Usage {
    day: RollingDay,
    daily_limit: u64,
    /// When each running call began.
    running: BTreeMap<u64, DateTime<Utc>>,
    running_peak: usize,
    admitted: u64,
    refused_daily: u64,
    refused_concurrent: u64,
}

impl Usage {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            day: RollingDay::default(),
            daily_limit: options.daily_limit,
            running: BTreeMap::new(),
            running_peak: 0,
            admitted: 0,
            refused_daily: 0,
            refused_concurrent: 0,
        }
    }

    /// Lets a call in and counts it; answers its number.
    fn admit(&mut self, options: &Options, now: DateTime<Utc>) -> Result<u64, Refusal> {
        if self.day.sum(now) >= self.daily_limit {
            self.refused_daily += 1;
            return Err(Refusal::daily_limit());
        }
        // Short calls are not limited; only those that run for long count, and then nobody comes in.
        let long_since = now - Duration::milliseconds(i64::try_from(options.long_call_ms).unwrap_or(i64::MAX));
        let long = self.running.values().filter(|began| **began <= long_since).count();
        if long >= options.long_calls_max {
            self.refused_concurrent += 1;
            return Err(Refusal::concurrent_limit());
        }
        self.day.add(now, 1);
        self.admitted += 1;
        self.running.insert(self.admitted, now);
        self.running_peak = self.running_peak.max(self.running.len());
        Ok(self.admitted)
    }

    fn seen(&mut self, now: DateTime<Utc>) -> UsageSeen {
        UsageSeen {
            used: self.day.sum(now),
            daily_limit: self.daily_limit,
            running: self.running.len(),
            running_peak: self.running_peak,
            admitted: self.admitted,
            refused_daily: self.refused_daily,
            refused_concurrent: self.refused_concurrent,
        }
    }
}

/// A call that runs until this is dropped.
pub(super) struct Running {
    service: Arc<Service>,
    number: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.service.usage.lock().unwrap_or_else(PoisonError::into_inner).running.remove(&self.number);
    }
}

impl Refusal {
    /// Too many calls have been running for long.
    fn concurrent_limit() -> Self {
        let message = "ConcurrentRequests (Concurrent API Requests) Limit exceeded.";
        Self::new(StatusCode::FORBIDDEN, "REQUEST_LIMIT_EXCEEDED", message)
    }
}

impl Service {
    /// Lets a data call in and counts it.
    pub(super) fn admit(self: &Arc<Self>, now: DateTime<Utc>) -> Result<Running, Refusal> {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        let number = usage.admit(&self.options, now)?;
        Ok(Running { service: Arc::clone(self), number })
    }

    /// What was used so far, after `change`.
    pub(super) fn change_usage(&self, change: &UsageChange, now: DateTime<Utc>) -> UsageSeen {
        let mut usage = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        if change.spend > 0 {
            usage.day.add(now, change.spend);
        }
        usage.day.age(change.age_secs);
        if let Some(daily_limit) = change.daily_limit {
            usage.daily_limit = daily_limit;
        }
        usage.seen(now)
    }

    /// What was used so far.
    pub(super) fn usage_seen(&self, now: DateTime<Utc>) -> UsageSeen {
        self.change_usage(&UsageChange::default(), now)
    }

    /// The header that tells how much of the allowance is used.
    pub(super) fn limit_info(&self, now: DateTime<Utc>) -> String {
        let seen = self.usage_seen(now);
        format!("api-usage={}/{}", seen.used, seen.daily_limit)
    }

    /// The answer to the call for the limits.
    pub(super) fn limits(&self, now: DateTime<Utc>) -> Json {
        let seen = self.usage_seen(now);
        let whole = |max: u64| json!({ "Max": max, "Remaining": max });
        json!({
            "DailyApiRequests": { "Max": seen.daily_limit, "Remaining": seen.daily_limit.saturating_sub(seen.used) },
            "DailyBulkApiBatches": whole(15_000),
            "DailyBulkV2QueryJobs": whole(10_000),
            "DailyBulkV2QueryFileStorageMB": whole(976_562),
            "DataStorageMB": whole(1_024),
            "FileStorageMB": whole(1_024),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + secs, 0).unwrap()
    }

    #[test]
    fn a_call_comes_back_after_a_day_and_not_before() {
        let options = Options { daily_limit: 3, ..Options::default() };
        let mut usage = Usage::new(&options);
        for secs in [0, 3_600, 7_200] {
            assert!(usage.admit(&options, at(secs)).is_ok());
        }
        for secs in [7_201, 86_400 - 60] {
            let refusal = usage.admit(&options, at(secs)).unwrap_err();
            assert!(refusal.message.starts_with("TotalRequests"), "{}", refusal.message);
        }
        assert!(usage.admit(&options, at(86_400)).is_ok());
        assert!(usage.admit(&options, at(86_401)).is_err());
        let seen = usage.seen(at(86_401));
        assert_eq!((seen.used, seen.admitted, seen.refused_daily), (3, 4, 3));
    }

    #[test]
    fn only_long_calls_fill_the_limit_of_those_at_once() {
        let options = Options { long_calls_max: 2, long_call_ms: 20_000, ..Options::default() };
        let mut usage = Usage::new(&options);
        let first = usage.admit(&options, at(0)).unwrap();
        for _ in 0..50 {
            assert!(usage.admit(&options, at(5)).is_ok());
        }
        assert!(usage.admit(&options, at(20)).is_ok(), "one is long");
        let refusal = usage.admit(&options, at(25)).unwrap_err();
        assert!(refusal.message.starts_with("ConcurrentRequests"), "{}", refusal.message);
        usage.running.retain(|number, began| *number == first || *began == at(20));
        assert!(usage.admit(&options, at(25)).is_ok());
        assert_eq!(usage.seen(at(25)).running_peak, 52);
    }
}

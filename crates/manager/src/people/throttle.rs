//! How much anybody may ask: token buckets in this process, by address for whoever signs in, by person or program for what
//! is dear. Their number is bounded. Several managers count each for itself.

use crate::error::ApiError;
use axum::http::{Method, StatusCode};
use chrono::{DateTime, Utc};
use daemon::ConfigError;
use domain::{Bucket, Per, Rate};
use serde::Deserialize;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Buckets kept at a time; those that are full again are forgotten first.
const BUCKETS_MAX: usize = 10_000;

/// `[access.limits]`: so many in a minute, and so many at once.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Sign-ins, from one address.
    pub sign_in: LimitConfig,
    /// Failed sign-ins by one name.
    pub failed_sign_in: LimitConfig,
    /// Searches of jobs and errors, and previews, by one person or program.
    pub search: LimitConfig,
    /// What concerns many jobs at once, by one person or program.
    pub bulk: LimitConfig,
    /// Exports, by one person or program.
    pub export: LimitConfig,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitConfig {
    /// In a minute.
    pub per_minute: u32,
    /// At once.
    pub burst: u32,
}

impl LimitsConfig {
    /// No limit that anybody would meet.
    #[must_use]
    pub fn generous() -> Self {
        let all = LimitConfig { per_minute: 1_000_000, burst: 1_000_000 };
        Self { sign_in: all, failed_sign_in: all, search: all, bulk: all, export: all }
    }

    fn of(&self, what: Dear) -> LimitConfig {
        match what {
            Dear::SignIn => self.sign_in,
            Dear::FailedSignIn => self.failed_sign_in,
            Dear::Search => self.search,
            Dear::Bulk => self.bulk,
            Dear::Export => self.export,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for what in Dear::ALL {
            let limit = self.of(what);
            if limit.per_minute == 0 || limit.burst == 0 {
                let key = format!("configuration key access.limits.{}", what.as_str());
                return Err(ConfigError::new(key, "is 0", "set per_minute and burst to 1 or more"));
            }
        }
        Ok(())
    }
}

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Dear {
    SignIn,
    FailedSignIn,
    Search,
    Bulk,
    Export,
}

impl Dear {
    const ALL: [Self; 5] = [Self::SignIn, Self::FailedSignIn, Self::Search, Self::Bulk, Self::Export];

    fn as_str(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in",
            Self::FailedSignIn => "failed_sign_in",
            Self::Search => "search",
            Self::Bulk => "bulk",
            Self::Export => "export",
        }
    }

    /// What a request is, if it is dear.
    pub(super) fn of(method: &Method, path: &str) -> Option<Self> {
        let path = path.strip_prefix("/api/v1").unwrap_or(path);
        let is_post = method == Method::POST;
        match path {
            "/login" | "/login/code" | "/me/password" if is_post => Some(Self::SignIn),
            super::provider::CALLBACK => Some(Self::SignIn),
            "/jobs" | "/find" | "/errors" | "/operations/new" | "/operations/preview" if !is_post => Some(Self::Search),
            "/operations" | "/groups" if is_post => Some(Self::Bulk),
            path if is_post && path.starts_with("/groups/") && path.ends_with("/jobs") => Some(Self::Bulk),
            path if path.ends_with("/export") => Some(Self::Export),
            _ => None,
        }
    }
}

/// The buckets.
#[derive(Debug)]
pub(super) struct Throttle {
    limits: LimitsConfig,
    buckets: Mutex<HashMap<(Dear, String), Bucket>>,
}

impl Throttle {
    pub(super) fn new(limits: LimitsConfig) -> Self {
        Self { limits, buckets: Mutex::new(HashMap::new()) }
    }

    /// Takes one from somebody's bucket.
    ///
    /// # Errors
    /// 429, with the seconds until the next one.
    pub(super) fn take(&self, what: Dear, who: &str, now: DateTime<Utc>) -> Result<(), ApiError> {
        let rate = self.rate(what);
        let key = (what, who.to_owned());
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        match rate.take(buckets.get(&key).copied(), now) {
            Ok(bucket) => {
                if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(&key) {
                    self.make_room(&mut buckets, now);
                }
                buckets.insert(key, bucket);
                Ok(())
            }
            Err(at) => Err(refusal(what, at, now)),
        }
    }

    /// Whether somebody's bucket has one; takes nothing.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) fn look(&self, what: Dear, who: &str, now: DateTime<Utc>) -> Result<(), ApiError> {
        let rate = self.rate(what);
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = buckets.get(&(what, who.to_owned())).copied();
        rate.take(bucket, now).map(|_| ()).map_err(|at| refusal(what, at, now))
    }

    fn rate(&self, what: Dear) -> Rate {
        let limit = self.limits.of(what);
        Rate { tokens: limit.per_minute, per: Per::Minute, burst: limit.burst }
    }

    /// Forgets the buckets that are full again, and where that is not enough the one used longest ago.
    fn make_room(&self, buckets: &mut HashMap<(Dear, String), Bucket>, now: DateTime<Utc>) {
        buckets.retain(|(what, _), bucket| {
            let rate = self.rate(*what);
            rate.tokens_at(Some(*bucket), now) < u64::from(rate.burst)
        });
        if buckets.len() >= BUCKETS_MAX
            && let Some(oldest) = buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(key, _)| key.clone())
        {
            buckets.remove(&oldest);
        }
    }
}

fn refusal(what: Dear, at: DateTime<Utc>, now: DateTime<Utc>) -> ApiError {
    let secs = u64::try_from((at - now).num_milliseconds()).unwrap_or(0).div_ceil(1_000).max(1);
    metrics::counter!("servant_requests_throttled_total", "what" => what.as_str()).increment(1);
    let words = match what {
        Dear::SignIn | Dear::FailedSignIn => "too many attempts to sign in",
        Dear::Search => "too many searches",
        Dear::Bulk => "too many operations on many jobs",
        Dear::Export => "too many exports",
    };
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", format!("{words}; try again in {secs} s"))
        .retry_after(secs)
        .hint("[access.limits] in config/manager.toml says how many there may be")
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn throttle(per_minute: u32, burst: u32) -> Throttle {
        let limit = LimitConfig { per_minute, burst };
        Throttle::new(LimitsConfig { search: limit, ..LimitsConfig::generous() })
    }

    #[test]
    fn a_burst_is_let_through_then_one_as_each_comes_due() {
        let (throttle, start) = (throttle(6, 2), DateTime::UNIX_EPOCH);
        for _ in 0..2 {
            throttle.take(Dear::Search, "user 1", start).unwrap();
        }
        let refused = throttle.take(Dear::Search, "user 1", start).unwrap_err();
        assert_eq!((refused.status, refused.retry_after_secs), (StatusCode::TOO_MANY_REQUESTS, Some(10)));
        throttle.take(Dear::Search, "user 2", start).unwrap();
        throttle.take(Dear::Bulk, "user 1", start).unwrap();
        assert!(throttle.take(Dear::Search, "user 1", start + TimeDelta::seconds(9)).is_err());
        throttle.take(Dear::Search, "user 1", start + TimeDelta::seconds(10)).unwrap();
    }

    #[test]
    fn there_are_never_more_buckets_than_may_be() {
        let (throttle, start) = (throttle(60, 1), DateTime::UNIX_EPOCH);
        for at in 0..BUCKETS_MAX + 100 {
            throttle.take(Dear::Search, &at.to_string(), start).unwrap();
        }
        let kept = |throttle: &Throttle| throttle.buckets.lock().unwrap().len();
        assert_eq!(kept(&throttle), BUCKETS_MAX);
        throttle.take(Dear::Search, "late", start + TimeDelta::seconds(2)).unwrap();
        assert_eq!(kept(&throttle), 1, "the full ones are forgotten");
    }

    #[test]
    fn what_is_dear_is_known_by_method_and_address() {
        for (method, path, dear) in [
            (Method::POST, "/login", Some(Dear::SignIn)),
            (Method::GET, "/login", None),
            (Method::POST, "/login/code", Some(Dear::SignIn)),
            (Method::GET, "/login/oidc/callback", Some(Dear::SignIn)),
            (Method::POST, "/me/password", Some(Dear::SignIn)),
            (Method::POST, "/api/v1/me/password", Some(Dear::SignIn)),
            (Method::GET, "/me/password", None),
            (Method::GET, "/jobs", Some(Dear::Search)),
            (Method::POST, "/api/v1/jobs", None),
            (Method::GET, "/find", Some(Dear::Search)),
            (Method::GET, "/api/v1/errors", Some(Dear::Search)),
            (Method::GET, "/api/v1/operations/preview", Some(Dear::Search)),
            (Method::POST, "/operations", Some(Dear::Bulk)),
            (Method::POST, "/api/v1/groups/7/jobs", Some(Dear::Bulk)),
            (Method::GET, "/api/v1/audit/export", Some(Dear::Export)),
            (Method::GET, "/accounts", None),
        ] {
            assert_eq!(Dear::of(&method, path), dear, "{method} {path}");
        }
    }
}

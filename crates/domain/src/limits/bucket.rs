//! A token bucket in whole numbers. A token is as many parts as its period has microseconds, so that each microsecond
//! brings a whole number of parts: nothing is ever rounded, however often the bucket is looked at.

use chrono::{DateTime, TimeDelta, Utc};

/// What a rate is counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Per {
    /// A second.
    Second,
    /// A minute.
    Minute,
}

impl Per {
    /// Parts of a token.
    const fn micros(self) -> i64 {
        match self {
            Self::Second => 1_000_000,
            Self::Minute => 60_000_000,
        }
    }
}

/// How fast tokens come and how many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come in a period.
    pub tokens: u32,
    /// The period.
    pub per: Per,
    /// Tokens kept at the most.
    pub burst: u32,
}

/// What was in a bucket when it was last taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Parts of tokens: a period's microseconds make a token.
    pub parts: i64,
    /// When. Never goes back: a clock that does brings nothing until it has caught up.
    pub at: DateTime<Utc>,
}

impl Rate {
    /// How long an empty bucket takes to be full, in seconds, rounded up.
    pub(super) fn secs_to_fill(self) -> u64 {
        let period_secs = if self.per == Per::Second { 1 } else { 60 };
        (u64::from(self.burst) * period_secs).div_ceil(u64::from(self.tokens.max(1)))
    }

    /// Whole tokens in the bucket; one that was never used is full.
    #[must_use]
    pub fn tokens_at(self, bucket: Option<Bucket>, now: DateTime<Utc>) -> u64 {
        u64::try_from(self.look(bucket, now).parts / self.per.micros()).unwrap_or(0)
    }

    /// Takes a token.
    ///
    /// # Errors
    /// When the next one comes; nothing was taken.
    pub fn take(self, bucket: Option<Bucket>, now: DateTime<Utc>) -> Result<Bucket, DateTime<Utc>> {
        let Bucket { parts, at } = self.look(bucket, now);
        let token = self.per.micros();
        if parts >= token {
            return Ok(Bucket { parts: parts - token, at });
        }
        let tokens = i64::from(self.tokens.max(1));
        let wait_us = (token - parts + tokens - 1) / tokens;
        Err(at + TimeDelta::microseconds(wait_us))
    }

    /// The bucket as it is now.
    fn look(self, bucket: Option<Bucket>, now: DateTime<Utc>) -> Bucket {
        let now = DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now);
        let full = i64::from(self.burst) * self.per.micros();
        let Some(bucket) = bucket else { return Bucket { parts: full, at: now } };
        let passed_us = now.timestamp_micros().saturating_sub(bucket.at.timestamp_micros()).max(0);
        let came = i64::from(self.tokens).saturating_mul(passed_us);
        Bucket { parts: bucket.parts.saturating_add(came).min(full), at: bucket.at.max(now) }
    }
}

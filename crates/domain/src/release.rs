//! How what was held back goes again: little by little, so that a vendor does not get everything in one instant that has
//! piled up while a connection waited for its authorisation or a pause was on. Pure: time is an argument. Does not own how
//! a service comes back after an outage: `breaker` does.
//!
//! A group's pause is no such case, and its end lets everything go that has room. It holds back some jobs of connections
//! whose other jobs have gone on: what a connection bears is known, by limits, quota and breaker, and these hold for what
//! is let go as for a group that has just been made, which nobody lets in little by little either. Nor does it let many
//! connections go that nobody has heard of for a while: those of a kind, an account or everything do.

use crate::ConnectionId;
use chrono::{DateTime, TimeDelta, Utc};

/// How often the room doubles before it has no bound any more.
const DOUBLINGS: i32 = 10;

/// When jobs of a connection were let go that had been held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release {
    /// When.
    pub at: DateTime<Utc>,
    /// Other connections were let go with it: each begins at a moment of its own.
    pub is_wide: bool,
}

/// How many jobs of a released connection may be in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReleaseRoom {
    /// So many.
    pub jobs: u32,
    /// From then on, any number.
    pub until: DateTime<Utc>,
}

impl Release {
    /// The later one of a connection's own release and of one that it shares with others.
    #[must_use]
    pub fn latest(own: Option<DateTime<Utc>>, shared: Option<DateTime<Utc>>) -> Option<Self> {
        let (own, shared) = (own.map(|at| Self { at, is_wide: false }), shared.map(|at| Self { at, is_wide: true }));
        [shared, own].into_iter().flatten().max_by_key(|release| release.at)
    }

    /// The room at `now` of what goes over `over_secs`; none: it has no bound.
    ///
    /// One job goes first, and the room doubles ten times in half of the time. Where many were let go at once, each
    /// begins within the other half, always at the same moment for one connection. A clock that was set back lets one
    /// at a time through until it has caught up.
    #[must_use]
    pub fn room(self, connection: ConnectionId, over_secs: u32, now: DateTime<Utc>) -> Option<ReleaseRoom> {
        let half = TimeDelta::milliseconds(i64::from(over_secs) * 500);
        let begins = if self.is_wide { self.at + share_of(half, connection, self.at) } else { self.at };
        let until = begins + half;
        if now >= until {
            return None;
        }
        if now < self.at {
            return Some(ReleaseRoom { jobs: 1, until });
        }
        let step_ms = (half / DOUBLINGS).num_milliseconds().max(1);
        let doublings = u32::try_from((now - begins).num_milliseconds() / step_ms).unwrap_or(0);
        let jobs = if now < begins { 0 } else { 1_u32.checked_shl(doublings).unwrap_or(u32::MAX) };
        Some(ReleaseRoom { jobs, until })
    }
}

/// A part of `whole` that is as good as random, and the same each time.
fn share_of(whole: TimeDelta, connection: ConnectionId, at: DateTime<Utc>) -> TimeDelta {
    // The finaliser of SplitMix64: ids that follow each other lie far apart.
    let mut mixed = connection.0.unsigned_abs().wrapping_add(at.timestamp_micros().unsigned_abs());
    mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    let whole_us = whole.num_microseconds().unwrap_or(0).max(1).unsigned_abs();
    TimeDelta::microseconds(i64::try_from(mixed % whole_us).unwrap_or(0))
}

//! When a servant is alive, late or lost: decided here and nowhere else.
//! Does not own what is done about it: leases are rescued by the scheduler whatever this says.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a servant looks from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// Heard of within two intervals.
    Alive,
    /// One or two beats are missing.
    Late,
    /// Silent for longer than any pause excuses.
    Lost,
}

impl Liveness {
    /// The text in the API and on screens.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Late => "late",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for Liveness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Seconds between two signs of life of a servant.
pub const HEARTBEAT_SECS: i64 = 2;
/// Silence in seconds after which a servant is late.
const LATE_AFTER_SECS: i64 = 2 * HEARTBEAT_SECS + 1;
/// Silence in seconds after which a servant is lost.
const LOST_AFTER_SECS: i64 = 15;

/// Judges a servant by when it was last heard of.
#[must_use]
pub fn liveness(last_seen: DateTime<Utc>, now: DateTime<Utc>) -> Liveness {
    let silence = now - last_seen;
    if silence > TimeDelta::seconds(LOST_AFTER_SECS) {
        Liveness::Lost
    } else if silence > TimeDelta::seconds(LATE_AFTER_SECS) {
        Liveness::Late
    } else {
        Liveness::Alive
    }
}

/// What a servant says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServantState {
    /// Takes work.
    Running,
    /// Told to take no new work for now.
    Paused,
    /// Finishes what it has and stops.
    Draining,
    /// Ended by itself.
    Stopped,
}

impl ServantState {
    /// The text in the database, the API and on screens.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_turns_into_late_and_lost() {
        let seen = DateTime::UNIX_EPOCH;
        let after = |secs| liveness(seen, seen + TimeDelta::seconds(secs));
        assert_eq!(after(0), Liveness::Alive);
        assert_eq!(after(5), Liveness::Alive);
        assert_eq!(after(6), Liveness::Late);
        assert_eq!(after(15), Liveness::Late);
        assert_eq!(after(16), Liveness::Lost);
        assert_eq!(after(-60), Liveness::Alive, "a clock that stepped back is not a silence");
    }
}

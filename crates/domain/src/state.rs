//! The life of a job as data: its states, what can happen to it, and which of the two go together.
//! Owns the table of legal transitions; the statements that carry them out are in `store::jobs::transition`
//! and are tested against this table, every state against every event.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Due later: a run-at time, or the wait before a retry.
    Scheduled,
    /// Due; waits for the dispatcher (or, without a broker, for a free servant).
    Ready,
    /// Its id is on the queue, or about to be sent by the relay.
    Queued,
    /// A servant holds it under a lease.
    Running,
    /// Finished, its effects committed.
    Succeeded,
    /// Finished without success; kept for a person to look at, and may be retried by one.
    Failed,
    /// Ended by an operator before it succeeded.
    Cancelled,
}

impl JobState {
    /// All states, in the order of a job's life.
    pub const ALL: [Self; 7] =
        [Self::Scheduled, Self::Ready, Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The text in the database, the API and on screens.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Ready => "ready",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The number in the database; small, because ten million rows carry it.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Scheduled => 0,
            Self::Ready => 1,
            Self::Queued => 2,
            Self::Running => 3,
            Self::Succeeded => 4,
            Self::Failed => 5,
            Self::Cancelled => 6,
        }
    }

    /// The state that a number of the database stands for.
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.code() == code)
    }

    /// Nothing more happens to such a job by itself.
    #[must_use]
    pub const fn is_finished(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// "Pending" on a screen: not yet with a servant.
    #[must_use]
    pub const fn is_pending(self) -> bool {
        matches!(self, Self::Scheduled | Self::Ready | Self::Queued)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for JobState {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            format!("'{text}' is not a state; the states are {}", Self::ALL.map(Self::as_str).join(", "))
        })
    }
}

/// What can happen to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobEvent {
    /// Its time has come.
    Promote,
    /// The dispatcher puts it on its way to the queue.
    Dispatch,
    /// The sweeper sends it again, since nobody claimed it within the bound.
    SendAgain,
    /// A servant takes it (from the queue, or straight from the table).
    Claim,
    /// The queue delivers it while it is paused: it waits for the dispatcher again.
    Hold,
    /// The attempt succeeded.
    Succeed,
    /// The attempt failed and another is due later.
    RetryLater,
    /// The attempt failed and no other follows.
    Fail,
    /// The attempt was interrupted by a stop; it goes back uncharged.
    GiveBack,
    /// The attempt found its connection's authorisation gone: it goes back uncharged, and waits until the connection
    /// is in use again.
    Park,
    /// Its lease ran out with attempts to spare.
    Rescue,
    /// Its lease ran out on the last attempt.
    RescueFailed,
    /// An operator ends it.
    Cancel,
    /// An operator starts it anew.
    Retry,
}

impl JobEvent {
    /// All events.
    pub const ALL: [Self; 14] = [
        Self::Promote,
        Self::Dispatch,
        Self::SendAgain,
        Self::Claim,
        Self::Hold,
        Self::Succeed,
        Self::RetryLater,
        Self::Fail,
        Self::GiveBack,
        Self::Park,
        Self::Rescue,
        Self::RescueFailed,
        Self::Cancel,
        Self::Retry,
    ];
}

/// The state that follows, or `None` where the event is not legal and must change nothing.
///
/// Cancelling a running job does not move it: it asks the servant, and the attempt ends as cancelled (the
/// servant's own [`JobEvent::Cancel`]).
#[must_use]
pub const fn next(state: JobState, event: JobEvent) -> Option<JobState> {
    use JobEvent as E;
    use JobState as S;
    match (state, event) {
        (S::Scheduled, E::Promote) => Some(S::Ready),
        (S::Ready, E::Dispatch) | (S::Queued, E::SendAgain) => Some(S::Queued),
        (S::Ready | S::Queued, E::Claim) => Some(S::Running),
        (S::Queued, E::Hold) => Some(S::Ready),
        (S::Running, E::Succeed) => Some(S::Succeeded),
        (S::Running, E::RetryLater) => Some(S::Scheduled),
        (S::Running, E::Fail | E::RescueFailed) => Some(S::Failed),
        (S::Running, E::GiveBack | E::Park | E::Rescue) => Some(S::Ready),
        (S::Scheduled | S::Ready | S::Queued | S::Running, E::Cancel) => Some(S::Cancelled),
        (S::Failed | S::Cancelled, E::Retry) => Some(S::Ready),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_one_to_one() {
        for state in JobState::ALL {
            assert_eq!(JobState::from_code(state.code()), Some(state));
            assert_eq!(state.as_str().parse(), Ok(state));
        }
    }

    #[test]
    fn a_finished_job_moves_only_when_an_operator_retries_it() {
        for state in JobState::ALL.into_iter().filter(|s| s.is_finished()) {
            for event in JobEvent::ALL.into_iter().filter(|e| *e != JobEvent::Retry) {
                assert_eq!(next(state, event), None, "{state} moved on {event:?}");
            }
        }
    }

    #[test]
    fn success_is_final() {
        for event in JobEvent::ALL {
            assert_eq!(next(JobState::Succeeded, event), None);
        }
    }

    #[test]
    fn every_unfinished_state_has_a_way_out() {
        for state in JobState::ALL.into_iter().filter(|s| !s.is_finished()) {
            assert!(JobEvent::ALL.into_iter().any(|e| next(state, e).is_some_and(|to| to != state)));
        }
    }
}

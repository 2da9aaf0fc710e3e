//! How attempts end that do not succeed, and what each end means for the row. The statement is `settle` in `transition`.

use super::claimed::AttemptKey;
use chrono::{DateTime, Utc};
use domain::{AccountId, ConnectionId, Failure, JobId, JobState};
use std::collections::{BTreeSet, HashSet};
use uuid::Uuid;

/// How an attempt ends that does not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Another attempt is due then. Uncharged attempts do not count against the job's maximum.
    RetryAt {
        /// When it is due.
        due: DateTime<Utc>,
        /// Whether this attempt counts.
        charged: bool,
        /// What went wrong.
        failure: Failure,
    },
    /// No other attempt.
    Fail(Failure),
    /// Interrupted by a stop: ready again at once, uncharged.
    GiveBack,
    /// The connection's authorisation is gone. In one commit the job is ready again, uncharged, and the connection,
    /// if it was in use, is not, so that nobody claims a job of it in between. A job whose connection does not exist
    /// fails: nothing would hold it back from failing so again at once.
    Park(Failure),
    /// The lease ran out with attempts to spare: ready again at once, charged.
    Rescue(Failure),
    /// Ended on an operator's request.
    Cancelled,
}

/// An attempt and its end.
#[derive(Debug, Clone)]
pub struct FailedAttempt {
    /// The attempt.
    pub key: AttemptKey,
    /// Its end.
    pub fate: Fate,
}

/// What became of attempts that ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    applied: HashSet<JobId>,
    /// Connections that were in use until now and need to be authorised again: each is told of once.
    pub parked: BTreeSet<ConnectionId>,
}

impl Settled {
    pub(super) fn note(&mut self, job: JobId, parked: Option<ConnectionId>) {
        self.applied.insert(job);
        self.parked.extend(parked);
    }

    /// Whether the end applied to this job; else it is stale.
    #[must_use]
    pub fn contains(&self, job: &JobId) -> bool {
        self.applied.contains(job)
    }

    /// To how many it applied.
    #[must_use]
    pub fn len(&self) -> usize {
        self.applied.len()
    }

    /// Whether all of them are stale.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.applied.is_empty()
    }
}

/// What a rescue found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rescued {
    /// The job.
    pub id: JobId,
    /// Whose it is.
    pub account: AccountId,
    /// Which request asked for it.
    pub request_id: Uuid,
    /// Whether it failed for good.
    pub failed: bool,
}

impl Fate {
    pub(super) const fn state(&self) -> JobState {
        match self {
            Self::RetryAt { .. } => JobState::Scheduled,
            Self::Fail(_) => JobState::Failed,
            Self::GiveBack | Self::Park(_) | Self::Rescue(_) => JobState::Ready,
            Self::Cancelled => JobState::Cancelled,
        }
    }

    pub(super) const fn is_charged(&self) -> bool {
        !matches!(self, Self::GiveBack | Self::Park(_) | Self::RetryAt { charged: false, .. })
    }

    pub(super) const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::RetryAt { failure, .. } | Self::Fail(failure) | Self::Park(failure) | Self::Rescue(failure) => {
                Some(failure)
            }
            Self::GiveBack | Self::Cancelled => None,
        }
    }
}

//! How attempts end that do not succeed, and what each end means for the row. The statement is `settle` in `transition`.

use super::claimed::AttemptKey;
use chrono::{DateTime, Utc};
use domain::{AccountId, Failure, JobId, JobState};
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
            Self::GiveBack | Self::Rescue(_) => JobState::Ready,
            Self::Cancelled => JobState::Cancelled,
        }
    }

    pub(super) const fn is_charged(&self) -> bool {
        !matches!(self, Self::GiveBack | Self::RetryAt { charged: false, .. })
    }

    pub(super) const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::RetryAt { failure, .. } | Self::Fail(failure) | Self::Rescue(failure) => Some(failure),
            Self::GiveBack | Self::Cancelled => None,
        }
    }
}

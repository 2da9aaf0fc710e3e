//! How attempts end that do not succeed, and what each end means for the row. The statement is `settle` in `transition`.

use super::claimed::AttemptKey;
use chrono::{DateTime, Utc};
use domain::{AccountId, ConnectionId, Failure, JobId, JobState, error_digest, error_title};
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

/// What a rescue did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rescue {
    /// The jobs that leases which ran out still held.
    pub jobs: Vec<Rescued>,
    /// As many leases were looked at as may be, and not for nothing: there may be more.
    pub is_full: bool,
}

/// A job that a rescue found.
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

/// Ends of attempts, column by column, as the statement takes them.
pub(super) struct Ends<'a> {
    pub(super) ids: Vec<i64>,
    pub(super) tokens: Vec<Uuid>,
    pub(super) states: Vec<i16>,
    pub(super) charged: Vec<bool>,
    pub(super) parks: Vec<bool>,
    pub(super) due: Vec<Option<DateTime<Utc>>>,
    pub(super) classes: Vec<Option<&'a str>>,
    pub(super) errors: Vec<Option<&'a str>>,
    /// What is the same error whatever the kind; the statement adds that.
    pub(super) digests: Vec<Option<String>>,
    pub(super) titles: Vec<Option<String>>,
}

impl<'a> Ends<'a> {
    pub(super) fn of(attempts: &'a [FailedAttempt]) -> Self {
        let failures = || attempts.iter().map(|end| end.fate.failure());
        Self {
            ids: attempts.iter().map(|end| end.key.id.0).collect(),
            tokens: attempts.iter().map(|end| end.key.token.0).collect(),
            states: attempts.iter().map(|end| end.fate.state().code()).collect(),
            charged: attempts.iter().map(|end| end.fate.is_charged()).collect(),
            parks: attempts.iter().map(|end| matches!(end.fate, Fate::Park(_))).collect(),
            due: attempts
                .iter()
                .map(|end| if let Fate::RetryAt { due, .. } = &end.fate { Some(*due) } else { None })
                .collect(),
            classes: failures().map(|failure| failure.map(|f| f.class.as_str())).collect(),
            errors: failures().map(|failure| failure.map(|f| f.chain.as_str())).collect(),
            digests: failures().map(|failure| failure.map(|f| error_digest(f.class.as_str(), &f.chain))).collect(),
            titles: failures().map(|failure| failure.map(|f| error_title(&f.chain))).collect(),
        }
    }
}

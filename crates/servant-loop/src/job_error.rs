//! How a job's run ends: done, or an error whose class says what follows. The policy is `domain::RetryPolicy`.

use chrono::{DateTime, Utc};
use domain::{ErrorClass, Failure};
use store::StoreError;

/// Proof that a run is done. Made by [`Done::without_effects`] or by committing effects with `JobTx::finish`.
#[derive(Debug)]
pub struct Done {
    pub(crate) is_committed: bool,
}

impl Done {
    /// The job wrote nothing that must commit together with its completion; the loop completes it, batched.
    #[must_use]
    pub const fn without_effects() -> Self {
        Self { is_committed: false }
    }
}

/// Why a run did not succeed.
#[derive(Debug)]
pub struct JobError(pub(crate) End);

#[derive(Debug)]
pub(crate) enum End {
    /// It failed; the policy decides what follows.
    Failed(Failure),
    /// It stopped because it was told to.
    Interrupted,
    /// The attempt is somebody else's now; nothing may be written.
    LeaseLost,
}

impl JobError {
    fn failed(class: ErrorClass, error: impl Into<anyhow::Error>, until: Option<DateTime<Utc>>) -> Self {
        Self(End::Failed(Failure { class, chain: chain_of(&error.into()), until }))
    }

    /// May well succeed when tried again.
    pub fn transient(error: impl Into<anyhow::Error>) -> Self {
        Self::failed(ErrorClass::Transient, error, None)
    }

    /// A limit is reached; it opens at `until`, if that is known. Burns no attempt.
    pub fn rate_limited(error: impl Into<anyhow::Error>, until: Option<DateTime<Utc>>) -> Self {
        Self::failed(ErrorClass::RateLimited, error, until)
    }

    /// The connection's authorisation is gone: the connection is parked until a person renews it.
    pub fn auth_broken(error: impl Into<anyhow::Error>) -> Self {
        Self::failed(ErrorClass::AuthBroken, error, None)
    }

    /// Trying again cannot help.
    pub fn permanent(error: impl Into<anyhow::Error>) -> Self {
        Self::failed(ErrorClass::Permanent, error, None)
    }

    /// Our own mistake.
    pub fn bug(error: impl Into<anyhow::Error>) -> Self {
        Self::failed(ErrorClass::Bug, error, None)
    }

    /// The job saw its cancellation and stopped where its checkpoint says.
    #[must_use]
    pub const fn interrupted() -> Self {
        Self(End::Interrupted)
    }

    pub(crate) const fn lease_lost() -> Self {
        Self(End::LeaseLost)
    }

    /// What kind of failure it is, if it is one.
    #[must_use]
    pub const fn class(&self) -> Option<ErrorClass> {
        match &self.0 {
            End::Failed(failure) => Some(failure.class),
            End::Interrupted | End::LeaseLost => None,
        }
    }
}

impl From<StoreError> for JobError {
    fn from(error: StoreError) -> Self {
        let class = match error {
            _ if error.is_transient() => ErrorClass::LedgerAway,
            StoreError::NotAdmitted { .. } => ErrorClass::Permanent,
            _ => ErrorClass::Bug,
        };
        Self::failed(class, error, None)
    }
}

impl std::fmt::Display for JobError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            End::Failed(failure) => write!(f, "{}: {}", failure.class, failure.chain.replace('\n', ": ")),
            End::Interrupted => f.write_str("interrupted"),
            End::LeaseLost => f.write_str("the lease was lost"),
        }
    }
}

/// Longest stored error, in bytes; a vendor's page of HTML must not fill the ledger.
const CHAIN_BYTES_MAX: usize = 8 * 1024;

/// The causes, outermost first, one a line, cut at a bound.
pub(crate) fn chain_of(error: &anyhow::Error) -> String {
    let mut text = error.chain().map(ToString::to_string).collect::<Vec<_>>().join("\n").replace('\0', "\u{fffd}");
    if text.len() > CHAIN_BYTES_MAX {
        let end = (0..=CHAIN_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

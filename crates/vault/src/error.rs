//! What can go wrong, named by what the caller can do about it. No error holds a secret.

use std::error::Error;

/// An error of the vault.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key service does not answer: try again later.
    #[error("the key service is unavailable: {reason}")]
    Unavailable {
        /// What was seen.
        reason: String,
        /// What lies behind it.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A master key is missing or cannot be used: a person must see to it.
    #[error("{problem}; {way_out}")]
    NoMaster {
        /// What is missing.
        problem: String,
        /// What to do.
        way_out: String,
    },
    /// What was stored does not open: it was altered, or belongs to another row, account or key.
    #[error("{what} does not open: it was altered, or it is another's")]
    Sealed {
        /// What it is.
        what: &'static str,
    },
    /// A password cannot be hashed: the system lacks randomness or memory.
    #[error("the password cannot be hashed: {problem}")]
    Password {
        /// What was seen.
        problem: String,
    },
}

impl VaultError {
    pub(crate) fn no_master(problem: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self::NoMaster { problem: problem.into(), way_out: way_out.into() }
    }

    pub(crate) const fn sealed(what: &'static str) -> Self {
        Self::Sealed { what }
    }

    /// Whether the same call may succeed when made again.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

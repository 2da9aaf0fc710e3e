//! What can go wrong with a sign-on, named by what the caller can do about it.

use chrono::{DateTime, Utc};
use domain::ConnectionId;
use store::StoreError;
use vault::VaultError;

/// There is no session.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A person must authorise the connection again; nobody asks the vendor before.
    #[error("the authorisation no longer holds: {reason}")]
    Refused {
        /// The vendor's words.
        reason: String,
    },
    /// The vendor gave no session; try again later.
    #[error("no session can be had: {reason}")]
    Unavailable {
        /// What was seen, by whoever asked last.
        reason: String,
        /// Nobody asks before.
        retry_at: Option<DateTime<Utc>>,
    },
    /// The connection's credentials are not kept in the ledger.
    #[error("connection {0} has no credentials in the ledger")]
    None(ConnectionId),
    /// The ledger.
    #[error("credentials cannot be read or kept")]
    Store(#[from] StoreError),
    /// The vault.
    #[error("credentials cannot be opened or sealed")]
    Vault(#[from] VaultError),
}

impl CredentialsError {
    /// Whether the same call may succeed when made again.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::Store(error) => error.is_transient(),
            Self::Vault(error) => error.is_transient(),
            Self::Refused { .. } | Self::None(_) => false,
        }
    }
}

//! Why a sync stops, named by what the job can do about it.

use salesforce::SalesforceError;
use store::StoreError;

/// A sync stopped.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The vendor did not give what was asked for; its error says what to do.
    #[error(transparent)]
    Vendor(#[from] SalesforceError),
    /// The ledger did not take it.
    #[error("a page could not be stored")]
    Store(#[from] StoreError),
    /// The pages do not add up to what the vendor announced; the window begins again from its first page.
    #[error("salesforce announced {expected} rows of {object} and sent {seen}; the window is read again")]
    Count {
        /// The object.
        object: String,
        /// What the first page announced.
        expected: i64,
        /// What all pages held.
        seen: i64,
    },
    /// The window belongs to somebody else now.
    #[error("the window of {object} was moved on by another sync of this connection")]
    Overtaken {
        /// The object.
        object: String,
    },
    /// A page in bulk is not what was asked for; asking anew, with the fields of a new describe, may help.
    #[error("a page of {object} cannot be read: {reason}")]
    Page {
        /// The object.
        object: String,
        /// Why.
        reason: String,
    },
    /// A page cannot be kept on disk while it is written.
    #[error("a page cannot be spooled")]
    Spool(#[from] std::io::Error),
    /// No query can name all fields of the object.
    #[error("{object} has too many fields for one query: {bytes} bytes of at most {bytes_max}")]
    TooWide {
        /// The object.
        object: String,
        /// How long the query would be.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
}

impl SyncError {
    /// Whether the vendor says that what was asked for is not there, or not for us: by mistake, perhaps.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Vendor(SalesforceError::CursorExpired | SalesforceError::Rejected { .. }))
    }

    /// Whether only this object is concerned, and the others can be synced: it is gone, forbidden or cannot be asked for.
    #[must_use]
    pub const fn is_of_one_object(&self) -> bool {
        matches!(
            self,
            Self::Vendor(SalesforceError::Drift { .. } | SalesforceError::Forbidden { .. }) | Self::TooWide { .. }
        )
    }
}

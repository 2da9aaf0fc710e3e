//! Owns what can go wrong, named by what the caller can do about it. Does not own how Salesforce says so (`refusal`), nor
//! retries.

use std::error::Error;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, SalesforceError>;

/// A call failed. The variant says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SalesforceError {
    /// Try again later: the server, the network or a broken answer. Retries inside the client are used up.
    #[error("salesforce is unavailable: {reason}")]
    Unavailable {
        /// What was seen.
        reason: String,
        /// What lies behind it.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// Ask less at the same time: too many long requests run at once in this organisation, or it names a time to wait.
    #[error("salesforce refuses more requests for the moment")]
    RateLimited {
        /// How long to wait, if Salesforce says so (it mostly does not).
        retry_after_secs: Option<u64>,
    },
    /// Stop asking this organisation until its rolling 24 hours give room. Never a success.
    #[error("the daily api allowance of the organisation is used up")]
    QuotaExhausted,
    /// The connection must be authorised anew by a person.
    #[error("salesforce no longer accepts the authorisation: {reason}")]
    AuthBroken {
        /// The code and description given.
        reason: String,
    },
    /// An administrator must grant something.
    #[error("salesforce forbids this: {code}: {message}")]
    Forbidden {
        /// The code given.
        code: String,
        /// The text beside it.
        message: String,
    },
    /// The organisation's shape or the permissions changed: describe again.
    #[error("the shape of the organisation changed: {code}: {message}")]
    Drift {
        /// The code given.
        code: String,
        /// The text beside it.
        message: String,
    },
    /// Start again: the cursor, the bulk job or the time of the deletion log that was asked for is gone.
    #[error("the query's cursor, job or log is gone")]
    CursorExpired,
    /// Ask for a smaller window: it takes too long, or holds too much.
    #[error("the query is too much for salesforce: {message}")]
    QueryTimeout {
        /// The text given.
        message: String,
    },
    /// Ask for this object by REST, and remember it: the Bulk API does not have it.
    #[error("the bulk api cannot be asked for this: {message}")]
    NotInBulk {
        /// The text given.
        message: String,
    },
    /// A defect of ours, or an answer that breaks the contract: asking again changes nothing.
    #[error("salesforce rejected the request: {code}: {message}")]
    Rejected {
        /// The code given.
        code: String,
        /// The text beside it.
        message: String,
    },
}

impl SalesforceError {
    pub(crate) fn unavailable(reason: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable { reason: reason.into(), source: Some(source.into()) }
    }

    pub(crate) fn rejected(code: &str, message: impl Into<String>) -> Self {
        Self::Rejected { code: code.to_owned(), message: message.into() }
    }

    /// Whether an idempotent request may be sent again after a pause.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::RateLimited { .. })
    }
}

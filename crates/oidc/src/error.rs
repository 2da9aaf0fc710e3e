//! What can go wrong with a provider, named by who must see to it. No error holds a code, a token or a secret.

/// An error of a sign-in by a provider.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// The configuration is none: correct it.
    #[error("{problem}")]
    Config {
        /// What is wrong.
        problem: String,
    },
    /// The provider does not answer, or with an error of its own: try again later.
    #[error("the provider does not answer: {problem}")]
    Unavailable {
        /// What was seen.
        problem: String,
    },
    /// The provider refuses: the code is used or too old, or the client is not known there.
    #[error("the provider refused: {problem}")]
    Refused {
        /// Its word.
        problem: String,
    },
    /// What the provider says is not what a provider says: nobody is signed in by it.
    #[error("what the provider says is not good: {problem}")]
    NotGood {
        /// What is wrong with it.
        problem: String,
    },
    /// The sign-in was not by enough: sign in at the provider again, with what it asks for.
    #[error("the provider did not ask for enough: {problem}")]
    TooWeak {
        /// What is missing.
        problem: String,
    },
}

impl OidcError {
    pub(crate) fn config(problem: impl Into<String>) -> Self {
        Self::Config { problem: problem.into() }
    }

    pub(crate) fn unavailable(problem: impl Into<String>) -> Self {
        Self::Unavailable { problem: problem.into() }
    }

    pub(crate) fn not_good(problem: impl Into<String>) -> Self {
        Self::NotGood { problem: problem.into() }
    }
}

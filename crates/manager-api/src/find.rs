//! What a bare text may stand for, on the wire, and the call for it.

use crate::{Account, ClientError, ErrorGroup, Job, ManagerClient};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What to look for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FindQuery {
    /// A job's whole id, a kind, an account's id or its name from the beginning of any word on, a job's unique key, or
    /// words in the title of an error; whatever the case of names and words.
    #[param(max_length = 500)]
    pub text: String,
}

/// What was found, some of each sort.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Found {
    /// The job with that id, and the latest jobs with that unique key.
    pub jobs: Vec<Job>,
    /// Kinds that there are jobs of, with the text in their names.
    pub kinds: Vec<String>,
    /// The account with that id, those whose names begin so, and those with a word that does.
    pub accounts: Vec<Account>,
    /// Groups of errors that say so, those seen last first.
    pub errors: Vec<ErrorGroup>,
    /// There may be more errors that say so: `GET /api/v1/errors?text=` has them all.
    pub has_more_errors: bool,
}

impl ManagerClient {
    /// Finds what a bare text may stand for.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn find(&self, query: &FindQuery) -> Result<Found, ClientError> {
        self.get("/api/v1/find", query).await
    }
}

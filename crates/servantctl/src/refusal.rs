//! What is said when something cannot be done: one line with the cause, one with the way out, and whether it was the
//! caller's mistake. Does not own the causes: manager and queue name them.

use manager_api::ClientError;
use queue::QueueError;
use std::error::Error;
use std::fmt;
use store::StoreError;
use vault::VaultError;

/// Where a client of SQS gets what it lacks.
const AWS_WAY_OUT: &str =
    "credentials and region are found as by all of AWS's tools: AWS_REGION, AWS_PROFILE and so on";

/// A failure as an operator reads it.
#[derive(Debug)]
pub(crate) struct Refusal {
    what: String,
    way_out: Option<String>,
    /// Wrong usage or configuration; repeating does not help.
    pub(crate) is_usage: bool,
}

impl Refusal {
    pub(crate) fn new(what: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { what: what.into(), way_out: Some(way_out.into()), is_usage: false }
    }

    pub(crate) fn usage(what: impl Into<String>, way_out: Option<&str>) -> Self {
        Self { what: what.into(), way_out: way_out.map(str::to_owned), is_usage: true }
    }

    /// The cause alone.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// What to do, where that is known.
    pub(crate) fn way_out(&self) -> Option<&str> {
        self.way_out.as_deref()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.way_out {
            Some(way_out) => write!(f, "{}\n  {way_out}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl Error for Refusal {}

/// The outermost words and the innermost: what lies between is how libraries are layered.
fn in_short(error: &(dyn Error + 'static)) -> String {
    let mut root = error;
    while let Some(cause) = root.source() {
        root = cause;
    }
    if error.source().is_some() { format!("{error}: {root}") } else { error.to_string() }
}

/// The whole chain, without the causes that the words before them hold already.
fn in_full(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = next.source();
    }
    text
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let what = in_full(&error);
        match error {
            StoreError::Unavailable { .. } => {
                Self::new(what, "start PostgreSQL, or correct --database-url or DATABASE_URL")
            }
            _ if error.is_of_address() => Self::new(
                what,
                "correct the user, the password or the database's name in --database-url or DATABASE_URL",
            ),
            _ => Self { what, way_out: None, is_usage: false },
        }
    }
}

impl From<VaultError> for Refusal {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::NoMaster { problem, way_out } => Self::new(problem, way_out),
            _ => Self { what: in_full(&error), way_out: None, is_usage: false },
        }
    }
}

impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Address { .. } | ClientError::Token => Self::usage(error.to_string(), None),
            ClientError::Unavailable { .. } => Self::new(
                in_short(&error),
                "start the manager, or say where it is: --manager URL or SERVANT_MANAGER_URL",
            ),
            ClientError::Refused { body, .. } => {
                Self { what: error.to_string(), way_out: body.hint.clone(), is_usage: false }
            }
            ClientError::Foreign { .. } => Self::new(error.to_string(), "is --manager the address of a manager?"),
        }
    }
}

impl From<QueueError> for Refusal {
    fn from(error: QueueError) -> Self {
        match &error {
            QueueError::Config { .. } => Self::usage(in_short(&error), Some(AWS_WAY_OUT)),
            QueueError::Missing { .. } => Self::new(error.to_string(), "`servantctl queues ensure` creates it"),
            // The client has no error of its own for this.
            QueueError::Unavailable { .. } if in_full(&error).contains("credential") => {
                Self::new(in_short(&error), AWS_WAY_OUT)
            }
            QueueError::Unavailable { .. } => Self::new(
                in_short(&error),
                "is it running? --sqs-endpoint URL or SERVANT_SQS_ENDPOINT_URL names a server that is not Amazon's",
            ),
            QueueError::Throttled { .. } => Self::new(in_short(&error), "try again in a while"),
            QueueError::Rejected { .. } => Self::new(
                error.to_string(),
                "do AWS_PROFILE or AWS_ACCESS_KEY_ID name an account that may do this, and is AWS_REGION the queues'?",
            ),
        }
    }
}

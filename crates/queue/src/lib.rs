//! Owns job ids on their way to a servant: send, receive, delete, depth and redrive on SQS, and which backend is in use.
//! Does not own the job's state (the row decides, a message is a hint) nor the embedded backend, which is a claim in
//! the store.

mod call;
mod config;
mod error;
mod message;
pub mod naming;
mod receive;
mod redrive;
mod send;
mod sqs;

use serde::Deserialize;

pub use config::QueueConfig;
pub use error::QueueError;
pub use message::{Delivery, Malformed, Outgoing, Received};
pub use receive::DeleteReport;
pub use redrive::Redriven;
pub use send::SendReport;
pub use sqs::{QueueDepth, Sqs, SqsConfig, StaticCredentials};

/// Where job ids travel.
#[derive(Clone, Debug)]
pub enum Backend {
    /// Amazon SQS, or a server that speaks its protocol.
    Sqs(Sqs),
    /// No queue: servants claim from the database, through the store.
    Postgres,
}

/// The configured choice, before anything is connected: `backend = "sqs"` or `backend = "postgres"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendConfig {
    /// See [`Backend::Sqs`].
    Sqs,
    /// See [`Backend::Postgres`].
    Postgres,
}

impl BackendConfig {
    /// Connects what was chosen.
    ///
    /// # Errors
    /// Those of [`Sqs::connect`].
    pub async fn connect(self, sqs: SqsConfig) -> Result<Backend, QueueError> {
        match self {
            BackendConfig::Sqs => Ok(Backend::Sqs(Sqs::connect(sqs).await?)),
            BackendConfig::Postgres => Ok(Backend::Postgres),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backend_is_one_of_two_names() {
        let parse = |text: &str| serde_json::from_value::<BackendConfig>(text.into());
        assert_eq!(parse("sqs").unwrap(), BackendConfig::Sqs);
        assert_eq!(parse("postgres").unwrap(), BackendConfig::Postgres);
        assert!(parse("kafka").is_err());
    }
}

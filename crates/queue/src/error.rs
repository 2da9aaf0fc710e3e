//! Owns queue errors, named by what the caller can do. Does not own retries within one call: the client does those.

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a call on the queue failed. The source chain of the failure below is kept.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// No usable answer: try again later. The request may have been carried out.
    #[error("the queue service is unavailable")]
    Unavailable {
        /// The network's or the server's failure.
        source: Source,
    },
    /// The service asks for fewer requests, or too many messages are in flight: slow down.
    #[error("the queue service asks to slow down")]
    Throttled {
        /// The server's answer.
        source: Source,
    },
    /// The queue does not exist: create it with [`crate::Sqs::ensure`].
    #[error("queue {queue} does not exist")]
    Missing {
        /// The queue's name.
        queue: String,
    },
    /// The service understood and refused: repeating does not help.
    #[error("the queue service refused: {reason}")]
    Rejected {
        /// The server's code and message.
        reason: String,
        /// The server's answer.
        source: Option<Source>,
    },
    /// The configuration is wrong: a person must change it.
    #[error("queue configuration: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
        /// What found it out, when something below did.
        source: Option<Source>,
    },
}

impl QueueError {
    /// Sorts an SDK failure of a call on `queue`. Servers differ in whether they send the modelled code or the older
    /// one (`AWS.SimpleQueueService.NonExistentQueue`), so codes are read as text.
    pub(crate) fn from_sdk<E, R>(queue: &str, error: SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        let SdkError::ServiceError(service) = &error else {
            if matches!(error, SdkError::ConstructionFailure(_)) {
                let reason = "a request could not be built".to_owned();
                return QueueError::Config { reason, source: Some(Box::new(error)) };
            }
            return QueueError::Unavailable { source: Box::new(error) };
        };
        let code = service.err().code().unwrap_or_default().to_owned();
        let message = service.err().message().unwrap_or_default().to_owned();
        match code.as_str() {
            "QueueDoesNotExist" | "AWS.SimpleQueueService.NonExistentQueue" => {
                QueueError::Missing { queue: queue.to_owned() }
            }
            "RequestThrottled" | "Throttling" | "ThrottlingException" | "OverLimit" | "TooManyRequestsException" => {
                QueueError::Throttled { source: Box::new(error) }
            }
            "InternalError" | "InternalFailure" | "ServiceUnavailable" | "" => {
                QueueError::Unavailable { source: Box::new(error) }
            }
            _ => QueueError::Rejected { reason: format!("{code}: {message}"), source: Some(Box::new(error)) },
        }
    }
}

//! Owns the bounded second try that sends and deletions share. Does not own the SDK's own retries below it.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::{QueueError, Sqs, naming};

/// SQS's limit for entries of a batch and messages of a receive.
pub(crate) const BATCH_ENTRIES_MAX: usize = 10;
/// Batch calls of one send or delete that run at the same time.
pub(crate) const CALLS_IN_FLIGHT_MAX: usize = 16;
const ENTRY_TRIES_MAX: usize = 3;

/// The waits between the single tries of a failed entry.
pub(crate) fn entry_waits() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_times(ENTRY_TRIES_MAX)
        .with_jitter()
        .build()
}

impl Sqs {
    /// Name and URL of the kind's queue; makes the queue when the server has none.
    pub(crate) async fn place(&self, kind: &str) -> Result<(String, String), QueueError> {
        let name = naming::queue_name(&self.config.prefix, kind)?;
        let url = match self.url(&name).await {
            Err(QueueError::Missing { .. }) => self.remake(kind, &name).await?,
            other => other?,
        };
        Ok((name, url))
    }

    /// For a call that found the queue missing at the URL we remember, because the server lost its queues (a restarted
    /// simulation) or someone deleted this one: makes the queue again and gives its URL for one more try.
    pub(crate) async fn remake(&self, kind: &str, name: &str) -> Result<String, QueueError> {
        tracing::warn!(queue = name, "queue is missing, creating it");
        self.forget(name);
        self.ensure(kind).await?;
        self.url(name).await
    }
}

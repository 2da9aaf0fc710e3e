//! Owns what sends and deletions share: how a batch's answer is read, and the bounded second try. Does not own the SDK's own retries below it.

use std::{collections::HashSet, time::Duration};

use aws_sdk_sqs::types::BatchResultErrorEntry;
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

/// An entry of a batch that did not pass.
pub(crate) struct Missed {
    /// Which, counted from 0: entries are named by it.
    pub(crate) position: usize,
    /// Why, for people.
    pub(crate) reason: String,
    /// Whether it is the entry itself that is wrong, so that another try is of no use.
    pub(crate) is_senders_fault: bool,
}

/// The entries of a batch of `count` that did not pass. What the answer does not call successful has failed, whether it says
/// so or not.
pub(crate) fn missed<'a>(
    count: usize,
    passed: impl Iterator<Item = &'a str>,
    failed: &[BatchResultErrorEntry],
) -> Vec<Missed> {
    let passed: HashSet<&str> = passed.collect();
    let missed = (0..count).map(|position| (position, position.to_string())).filter(|(_, id)| !passed.contains(&**id));
    missed
        .map(|(position, id)| {
            let told = failed.iter().find(|entry| entry.id == id);
            let reason = told.map_or_else(
                || "not acknowledged".to_owned(),
                |entry| format!("{}: {}", entry.code, entry.message.as_deref().unwrap_or_default()),
            );
            Missed { position, reason, is_senders_fault: told.is_some_and(|entry| entry.sender_fault) }
        })
        .collect()
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

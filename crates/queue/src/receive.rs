//! Owns taking job ids off a queue and deleting them. Does not own claiming: a received id proves nothing.

use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName};
use domain::chain;
use futures::{StreamExt, future, stream};

use crate::{
    Delivery, Malformed, QueueError, Received, Sqs,
    call::{BATCH_ENTRIES_MAX, CALLS_IN_FLIGHT_MAX, Missed, entry_waits, missed},
    message,
};

/// What became of a deletion. A message that was not deleted comes back and is claimed in vain, which is harmless.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteReport {
    /// How many receipts the service acknowledged.
    pub deleted: usize,
    /// Receipts that it did not, each with its reason.
    pub failed: Vec<(String, String)>,
}

impl Sqs {
    /// One long poll for up to `max` messages (ten at most). Empty after the configured wait.
    ///
    /// # Errors
    /// Any [`QueueError`].
    pub async fn receive(&self, kind: &str, max: usize) -> Result<Received, QueueError> {
        self.poll(kind, max, self.config.wait_secs).await
    }

    async fn poll(&self, kind: &str, max: usize, wait_secs: u32) -> Result<Received, QueueError> {
        let mut received = Received::default();
        // Zero is refused by the service; wanting nothing is not an error here.
        let asked = max.min(BATCH_ENTRIES_MAX);
        let Ok(max @ 1..) = i32::try_from(asked) else { return Ok(received) };
        let (name, url) = self.place(kind).await?;
        let messages = match self.receive_at(&name, &url, max, wait_secs).await {
            Err(QueueError::Missing { .. }) => {
                let url = self.remake(kind, &name).await?;
                self.receive_at(&name, &url, max, wait_secs).await?
            }
            other => other?,
        };
        // Whoever asked has room for no more; what else a server sends comes back when its visibility ends.
        for message in messages.into_iter().take(asked) {
            let Some(receipt) = message.receipt_handle else { continue };
            let body = message.body.unwrap_or_default();
            let counts = message.attributes.unwrap_or_default();
            let count = counts.get(&MessageSystemAttributeName::ApproximateReceiveCount);
            let receive_count = count.and_then(|text| text.parse().ok()).unwrap_or(0);
            match message::decode(&body) {
                Ok((job_id, sent_at)) => {
                    received.deliveries.push(Delivery { job_id, sent_at, receipt, receive_count });
                }
                Err(reason) => {
                    let body_excerpt = message::excerpt(&body);
                    received.malformed.push(Malformed { receipt, body_excerpt, reason });
                }
            }
        }
        Ok(received)
    }

    async fn receive_at(&self, name: &str, url: &str, max: i32, wait_secs: u32) -> Result<Vec<Message>, QueueError> {
        let wait_secs = i32::try_from(wait_secs).unwrap_or(0);
        let visibility_secs = i32::try_from(self.config.visibility_secs).unwrap_or(i32::MAX);
        let call = self.client.receive_message().queue_url(url).max_number_of_messages(max);
        let call = call.wait_time_seconds(wait_secs).visibility_timeout(visibility_secs);
        let call = call.message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount);
        let answer = call.send().await.map_err(|error| QueueError::from_sdk(name, error))?;
        Ok(answer.messages.unwrap_or_default())
    }

    /// Receives up to `free_slots` messages in total: one long poll first, and when that came back full, further polls
    /// that do not wait, `calls_in_flight_max` at a time. Long polls side by side would hold what the first one
    /// brought until the last one gives up, and its visibility would run out meanwhile.
    ///
    /// # Errors
    /// Any [`QueueError`] of the first poll. A later poll's failure is logged, and what the others brought is returned.
    pub async fn receive_many(
        &self,
        kind: &str,
        free_slots: usize,
        calls_in_flight_max: usize,
    ) -> Result<Received, QueueError> {
        let mut all = self.receive(kind, free_slots).await?;
        if all.deliveries.len() + all.malformed.len() < BATCH_ENTRIES_MAX {
            return Ok(all);
        }
        let left = free_slots - BATCH_ENTRIES_MAX;
        let calls = left.div_ceil(BATCH_ENTRIES_MAX).min(calls_in_flight_max);
        let shares = (0..calls).map(|call| left - call * BATCH_ENTRIES_MAX);
        let polls: Vec<_> = shares.map(|share| self.poll(kind, share, 0)).collect();
        for answer in future::join_all(polls).await {
            match answer {
                Ok(received) => {
                    all.deliveries.extend(received.deliveries);
                    all.malformed.extend(received.malformed);
                }
                Err(error) => tracing::warn!(kind, error = chain(&error), "one of several receives failed"),
            }
        }
        Ok(all)
    }

    /// Deletes by receipt, ten a call, many calls at once. Receipts that expired or were replaced are not errors.
    pub async fn delete(&self, kind: &str, receipts: Vec<String>) -> DeleteReport {
        let mut report = DeleteReport::default();
        let calls: Vec<_> = receipts.chunks(BATCH_ENTRIES_MAX).map(|batch| self.delete_batch(kind, batch)).collect();
        let mut calls = stream::iter(calls).buffer_unordered(CALLS_IN_FLIGHT_MAX);
        while let Some(part) = calls.next().await {
            report.deleted += part.deleted;
            report.failed.extend(part.failed);
        }
        report
    }

    async fn delete_batch(&self, kind: &str, batch: &[String]) -> DeleteReport {
        let mut report = DeleteReport::default();
        match self.delete_once(kind, batch).await {
            Ok(failed) => {
                report.deleted = batch.len() - failed.len();
                for Missed { position, reason, is_senders_fault } in failed {
                    let Some(receipt) = batch.get(position) else { continue };
                    let outcome =
                        if is_senders_fault { Err(reason) } else { self.delete_alone(kind, receipt, reason).await };
                    match outcome {
                        Ok(()) => report.deleted += 1,
                        Err(reason) => report.failed.push((receipt.clone(), reason)),
                    }
                }
            }
            Err(error) => {
                let reason = chain(&error);
                report.failed.extend(batch.iter().map(|receipt| (receipt.clone(), reason.clone())));
            }
        }
        report
    }

    async fn delete_alone(&self, kind: &str, receipt: &String, mut reason: String) -> Result<(), String> {
        for wait in entry_waits() {
            tokio::time::sleep(wait).await;
            match self.delete_once(kind, std::slice::from_ref(receipt)).await {
                Ok(failed) => match failed.into_iter().next() {
                    None => return Ok(()),
                    Some(missed) => reason = missed.reason,
                },
                Err(error) => reason = chain(&error),
            }
        }
        Err(reason)
    }

    /// One call; the entries that failed within it.
    async fn delete_once(&self, kind: &str, batch: &[String]) -> Result<Vec<Missed>, QueueError> {
        let mut entries = Vec::with_capacity(batch.len());
        for (position, receipt) in batch.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder().id(position.to_string()).receipt_handle(receipt);
            let entry = entry.build();
            entries.push(
                entry
                    .map_err(|error| QueueError::Rejected { reason: error.to_string(), source: Some(error.into()) })?,
            );
        }
        let (name, url) = self.place(kind).await?;
        match self.delete_entries(&name, &url, entries).await {
            // The messages went with the queue. Whoever sends or receives next makes it again.
            Err(QueueError::Missing { .. }) => {
                self.forget(&name);
                Ok(Vec::new())
            }
            other => other,
        }
    }

    async fn delete_entries(
        &self,
        name: &str,
        url: &str,
        entries: Vec<DeleteMessageBatchRequestEntry>,
    ) -> Result<Vec<Missed>, QueueError> {
        let count = entries.len();
        let call = self.client.delete_message_batch().queue_url(url).set_entries(Some(entries));
        let answer = call.send().await.map_err(|error| QueueError::from_sdk(name, error))?;
        Ok(missed(count, answer.successful.iter().map(|entry| entry.id.as_str()), &answer.failed))
    }
}

//! Owns putting job ids on a queue: batches of ten, many at once, failed entries alone.
//! Does not own which jobs are sent, nor the outbox mark that says a job still has to be.

use std::collections::HashSet;

use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use chrono::{DateTime, Utc};
use domain::chain;
use futures::{StreamExt, stream};

use crate::{
    Outgoing, QueueError, Sqs,
    call::{BATCH_ENTRIES_MAX, CALLS_IN_FLIGHT_MAX, Missed, entry_waits, missed},
    message,
};

/// What became of each job id given to a send. A failed id may still be on the queue: its answer can have been lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SendReport {
    /// Ids that the service acknowledged.
    pub sent: Vec<i64>,
    /// Ids that it did not, each with its reason.
    pub failed: Vec<(i64, String)>,
}

impl Sqs {
    /// Puts jobs on the kind's queue; `sent_at` is written into each message. Never fails as a whole: every id is in
    /// the report exactly once.
    pub async fn send(&self, kind: &str, jobs: &[Outgoing], sent_at: DateTime<Utc>) -> SendReport {
        let mut report = SendReport::default();
        let calls: Vec<_> = jobs.chunks(BATCH_ENTRIES_MAX).map(|batch| self.send_batch(kind, batch, sent_at)).collect();
        let mut calls = stream::iter(calls).buffer_unordered(CALLS_IN_FLIGHT_MAX);
        while let Some(part) = calls.next().await {
            report.sent.extend(part.sent);
            report.failed.extend(part.failed);
        }
        report
    }

    async fn send_batch(&self, kind: &str, batch: &[Outgoing], sent_at: DateTime<Utc>) -> SendReport {
        let mut report = SendReport::default();
        let failed = match self.send_once(kind, batch, sent_at).await {
            Ok(failed) => failed,
            Err(error) => {
                // The client already tried the whole call several times.
                let reason = chain(&error);
                report.failed.extend(batch.iter().map(|job| (job.job_id, reason.clone())));
                return report;
            }
        };
        let positions: HashSet<usize> = failed.iter().map(|missed| missed.position).collect();
        let passed = batch.iter().enumerate().filter(|(position, _)| !positions.contains(position));
        report.sent.extend(passed.map(|(_, job)| job.job_id));
        for Missed { position, reason, .. } in failed {
            let Some(job) = batch.get(position) else { continue };
            match self.send_alone(kind, *job, sent_at, reason).await {
                Ok(()) => report.sent.push(job.job_id),
                Err(reason) => report.failed.push((job.job_id, reason)),
            }
        }
        report
    }

    async fn send_alone(
        &self,
        kind: &str,
        job: Outgoing,
        sent_at: DateTime<Utc>,
        mut reason: String,
    ) -> Result<(), String> {
        for wait in entry_waits() {
            tokio::time::sleep(wait).await;
            match self.send_once(kind, &[job], sent_at).await {
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
    async fn send_once(
        &self,
        kind: &str,
        batch: &[Outgoing],
        sent_at: DateTime<Utc>,
    ) -> Result<Vec<Missed>, QueueError> {
        let mut entries = Vec::with_capacity(batch.len());
        for (position, job) in batch.iter().enumerate() {
            let group = self.config.fair_groups.then(|| job.account_id.to_string());
            let entry = SendMessageBatchRequestEntry::builder()
                .id(position.to_string())
                .message_body(message::encode(job.job_id, sent_at))
                .set_message_group_id(group)
                .build()
                .map_err(|error| QueueError::Rejected { reason: error.to_string(), source: Some(error.into()) })?;
            entries.push(entry);
        }
        let (name, url) = self.place(kind).await?;
        match self.send_entries(&name, &url, entries.clone()).await {
            Err(QueueError::Missing { .. }) => {
                let url = self.remake(kind, &name).await?;
                self.send_entries(&name, &url, entries).await
            }
            other => other,
        }
    }

    async fn send_entries(
        &self,
        name: &str,
        url: &str,
        entries: Vec<SendMessageBatchRequestEntry>,
    ) -> Result<Vec<Missed>, QueueError> {
        let count = entries.len();
        let call = self.client.send_message_batch().queue_url(url).set_entries(Some(entries));
        let answer = call.send().await.map_err(|error| QueueError::from_sdk(name, error))?;
        Ok(missed(count, answer.successful.iter().map(|entry| entry.id.as_str()), &answer.failed))
    }
}

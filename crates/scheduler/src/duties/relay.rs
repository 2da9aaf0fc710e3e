//! Sends the outbox to the queue. An entry is forgotten only once the queue has taken it: a crash between the two
//! sends twice, and the second message's claim is refused.

use crate::Office;
use domain::Kind;
use queue::{Backend, Outgoing};
use std::collections::{BTreeMap, HashSet};
use store::{Leadership, Unsent};

/// Sends what is there.
///
/// # Errors
/// The ledger's, and the queue's when it took none of a batch.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let Backend::Sqs(sqs) = &office.queue else { return Ok(false) };
    let limit = i64::from(office.config.duties.batch_max);
    let unsent = office.store.unsent(limit).await?;
    if unsent.is_empty() {
        return Ok(false);
    }
    let is_full = i64::try_from(unsent.len())? == limit;
    let mut by_kind: BTreeMap<&Kind, Vec<&Unsent>> = BTreeMap::new();
    for entry in &unsent {
        by_kind.entry(&entry.kind).or_default().push(entry);
    }
    let mut refused = Vec::new();
    for (kind, entries) in by_kind {
        let jobs: Vec<Outgoing> =
            entries.iter().map(|entry| Outgoing { job_id: entry.job.0, account_id: entry.account.0 }).collect();
        let report = sqs.send(kind.as_str(), &jobs, office.store.now()).await;
        // A job that was sent again while its first entry waited is here twice: refused once, both entries stay.
        let refused_jobs: HashSet<i64> = report.failed.iter().map(|(job, _)| *job).collect();
        let sent: Vec<i64> =
            entries.iter().filter(|entry| !refused_jobs.contains(&entry.job.0)).map(|entry| entry.entry).collect();
        if !sent.is_empty() {
            office.store.forget_sent(leadership, &sent).await?;
        }
        refused.extend(report.failed);
    }
    if let Some((job, reason)) = refused.first() {
        anyhow::bail!("the queue did not take {} ids, the first {job}: {reason}", refused.len());
    }
    // What was dispatched meanwhile has left its own nudge.
    Ok(is_full)
}

//! Sends the outbox to the queue. An entry is forgotten only once the queue has taken it: a crash between the two
//! sends twice, and the second message's claim is refused.

use crate::Office;
use domain::Kind;
use queue::{Backend, Outgoing, Sqs};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use store::{Leadership, Unsent};

/// Sends what is there. What waits for a queue that takes nothing keeps nobody else waiting.
///
/// # Errors
/// The ledger's, and that of a queue which did not take what it was given.
pub async fn perform(office: &Office, leadership: &Leadership) -> anyhow::Result<bool> {
    let Backend::Sqs(sqs) = &office.queue else { return Ok(false) };
    let limit = i64::from(office.config.duties.batch_max);
    let mut refused = Vec::new();
    let mut refusing: Vec<String> = Vec::new();
    loop {
        let unsent = office.store.unsent_besides(&refusing, limit).await?;
        if unsent.is_empty() {
            break;
        }
        let is_full = i64::try_from(unsent.len())? == limit;
        let missed = send(office, leadership, sqs, &unsent).await?;
        if missed.is_empty() && refused.is_empty() {
            // What was dispatched meanwhile has left its own nudge.
            return Ok(is_full);
        }
        if missed.is_empty() && !is_full {
            break;
        }
        refusing.extend(missed.iter().map(|(kind, ..)| kind.as_str().to_owned()).collect::<BTreeSet<_>>());
        refused.extend(missed);
    }
    if let Some((kind, job, reason)) = refused.first() {
        anyhow::bail!("the queue did not take {} ids, the first {job} of {kind}: {reason}", refused.len());
    }
    Ok(false)
}

/// Sends these and forgets what was taken. Answers with what was not, and why.
async fn send(
    office: &Office,
    leadership: &Leadership,
    sqs: &Sqs,
    unsent: &[Unsent],
) -> anyhow::Result<Vec<(Kind, i64, String)>> {
    let mut by_kind: BTreeMap<&Kind, Vec<&Unsent>> = BTreeMap::new();
    for entry in unsent {
        by_kind.entry(&entry.kind).or_default().push(entry);
    }
    let mut missed = Vec::new();
    for (kind, entries) in by_kind {
        let jobs: Vec<Outgoing> =
            entries.iter().map(|entry| Outgoing { job_id: entry.job.0, account_id: entry.account.0 }).collect();
        let report = sqs.send(kind.as_str(), &jobs, office.store.now()).await;
        // A job that was sent again while its first entry waited is here twice: refused once, both entries stay.
        let refused_jobs: HashSet<i64> = report.failed.iter().map(|(job, _)| *job).collect();
        let sent: Vec<i64> =
            entries.iter().filter(|entry| !refused_jobs.contains(&entry.job.0)).map(|entry| entry.entry).collect();
        if !sent.is_empty() {
            office.store.forget_sent(leadership, kind, &sent).await?;
        }
        missed.extend(report.failed.into_iter().map(|(job, reason)| (kind.clone(), job, reason)));
    }
    Ok(missed)
}

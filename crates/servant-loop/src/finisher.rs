//! Writes how attempts ended, batched: whatever has ended while the last statement ran goes into the next one, and under
//! load what ends within a moment. Few ends wait without their job's slot: a slow database slows the intake.

use domain::{JobId, LeaseId, chain};
use std::{collections::HashSet, future::Future, sync::Arc, time::Duration};
use store::{AttemptKey, FailedAttempt, Settled, Store, StoreError};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};

use crate::{claims::Claims, registry::Registry};

/// An attempt that ended, with the place that it gives back once that is written.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) key: AttemptKey,
    /// Its number.
    pub(crate) attempt: u16,
    pub(crate) lease: LeaseId,
    pub(crate) end: AttemptEnd,
    /// The end of what it logged, where it did not succeed.
    pub(crate) log: Option<String>,
    /// Among those that wait without a slot, or its slot.
    pub(crate) _place: OwnedSemaphorePermit,
}

/// What is to be written.
#[derive(Debug)]
pub(crate) enum AttemptEnd {
    Succeeded,
    Settled(FailedAttempt),
    /// Nothing: its effects' transaction has written it.
    Committed,
    /// Nothing: its lease is lost.
    Lost,
}

/// Who wants to know that attempts have ended, once that is in the ledger.
#[derive(Debug)]
pub(crate) struct Ends {
    /// Rung after each batch.
    pub(crate) bell: Arc<Notify>,
    /// Takes the attempts of each batch.
    pub(crate) over: Option<mpsc::UnboundedSender<Over>>,
    /// Counts what is left of each claim.
    pub(crate) claims: Claims,
    /// Places for ends that wait to be written without a slot.
    pub(crate) unwritten: Arc<Semaphore>,
}

/// Attempts that this servant has in hand no more.
#[derive(Debug, Default)]
pub(crate) struct Over {
    /// Their end is in the ledger.
    pub(crate) ended: Vec<AttemptKey>,
    /// It is not: they are somebody else's now, or will be.
    pub(crate) lost: Vec<AttemptKey>,
}

impl Ends {
    /// Nobody waits for a slot that an end holds, nor for room that it takes under a limit.
    fn are_at_leisure(&self) -> bool {
        self.unwritten.available_permits() > 0 && !self.claims.are_counted()
    }

    /// `applied`: the ends of the batch that changed the ledger.
    fn tell(&self, batch: &[Ended], succeeded: Option<&HashSet<JobId>>, settled: Option<&Settled>) {
        let mut over = Over::default();
        for Ended { key, lease, end, .. } in batch {
            let has_ended = match end {
                AttemptEnd::Succeeded => succeeded.is_some_and(|ids| ids.contains(&key.id)),
                AttemptEnd::Settled(_) => settled.is_some_and(|settled| settled.contains(&key.id)),
                AttemptEnd::Committed => true,
                AttemptEnd::Lost => false,
            };
            if has_ended {
                self.claims.ended(*lease);
                over.ended.push(*key);
            } else {
                self.claims.lost(*lease);
                over.lost.push(*key);
            }
        }
        if let Some(sender) = &self.over {
            // When nobody takes jobs any more, nobody counts them.
            let _ = sender.send(over);
        }
    }
}

/// Statements begin at this distance from one another while more attempts run that may end: each is a commit, and one for
/// ten ends costs little more than one for one. The longer distance is for when nobody waits for them: each statement less
/// is one less that claims share the disk and the processors with.
const PACE: Duration = Duration::from_millis(2);
const PACE_AT_LEISURE: Duration = Duration::from_millis(6);
/// Longest wait between two tries to write, in milliseconds.
const RETRY_MS_MAX: u64 = 2_000;

/// Runs until all senders are gone and everything is written.
pub(crate) async fn run(
    store: Store,
    registry: Registry,
    mut ended: mpsc::UnboundedReceiver<Ended>,
    batch_max: usize,
    ends: Ends,
) {
    let mut batch = Vec::with_capacity(batch_max);
    let mut not_before = Instant::now();
    while ended.recv_many(&mut batch, batch_max).await > 0 {
        if Instant::now() < not_before && batch.len() < batch_max.min(registry.len()) {
            tokio::time::sleep_until(not_before).await;
            while batch.len() < batch_max
                && let Ok(more) = ended.try_recv()
            {
                batch.push(more);
            }
        }
        not_before = Instant::now() + if ends.are_at_leisure() { PACE_AT_LEISURE } else { PACE };
        let succeeded: Vec<AttemptKey> =
            batch.iter().filter(|e| matches!(e.end, AttemptEnd::Succeeded)).map(|e| e.key).collect();
        let failed: Vec<FailedAttempt> = batch
            .iter()
            .filter_map(|e| if let AttemptEnd::Settled(attempt) = &e.end { Some(attempt.clone()) } else { None })
            .collect();
        let (mut applied, mut settled) = (None, None);
        if !succeeded.is_empty() {
            applied = until_written("succeed", || store.succeed(&succeeded)).await;
            note_stale(succeeded.len(), applied.as_ref().map(HashSet::len));
        }
        if !failed.is_empty() {
            settled = until_written("settle", || store.settle(&failed)).await;
            note_stale(failed.len(), settled.as_ref().map(Settled::len));
            note_parked(settled.as_ref());
            keep_logs(&store, &batch, settled.as_ref()).await;
        }
        ends.tell(&batch, applied.as_ref(), settled.as_ref());
        registry.remove_all(batch.iter().map(|done| done.key));
        // With this their places are free.
        batch.clear();
        ends.bell.notify_one();
    }
}

/// What those logged that are settled. It helps a person and nobody else: without the ledger it is lost.
async fn keep_logs(store: &Store, batch: &[Ended], settled: Option<&Settled>) {
    let is_settled = |ended: &&Ended| settled.is_some_and(|settled| settled.contains(&ended.key.id));
    let logs: Vec<(JobId, u16, &str)> = batch
        .iter()
        .filter(is_settled)
        .filter_map(|ended| Some((ended.key.id, ended.attempt, ended.log.as_deref()?)))
        .collect();
    if logs.is_empty() {
        return;
    }
    if let Err(error) = store.keep_logs(&logs).await {
        tracing::debug!(error = chain(&error), "what failed attempts logged was not stored");
    }
}

/// One notice for a connection, however many of its jobs fail: of those, one has parked it.
fn note_parked(settled: Option<&Settled>) {
    for connection in settled.iter().flat_map(|settled| &settled.parked) {
        tracing::error!(ConnectionId = connection.0, "the connection needs to be authorised again; its jobs wait");
        metrics::counter!("servant_connections_parked_total").increment(1);
    }
}

fn note_stale(given: usize, applied: Option<usize>) {
    let stale = applied.map_or(0, |n| given - n);
    if stale > 0 {
        tracing::warn!(stale, "ends of attempts came too late: their leases had been lost");
        metrics::counter!("servant_stale_finishes_total").increment(stale as u64);
    }
}

/// Tries again while the database is away: the statement is fenced and idempotent, so trying too often is harmless,
/// and giving up would run a finished job again.
async fn until_written<T, F>(what: &str, write: impl Fn() -> F) -> Option<T>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut wait_ms = 20;
    loop {
        match write().await {
            Ok(applied) => {
                if wait_ms > 20 {
                    tracing::info!(what, "the ledger answers again");
                }
                return Some(applied);
            }
            Err(error) if error.is_transient() => {
                if wait_ms == 20 {
                    tracing::warn!(what, error = %chain(&error), "the ledger does not answer; trying on");
                }
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                wait_ms = (wait_ms * 2).min(RETRY_MS_MAX);
            }
            Err(error) => {
                // The rows stay under their leases, and are rescued when those run out.
                tracing::error!(what, error = %chain(&error), "the ledger refused the end of attempts");
                return None;
            }
        }
    }
}

//! Writes how attempts ended, batched: whatever has ended while the last statement ran goes into the next one.
//! A job's slot is free only once its end is in the ledger, so a slow database slows the intake.

use domain::chain;
use std::{future::Future, sync::Arc, time::Duration};
use store::{AttemptKey, FailedAttempt, Settled, Store, StoreError};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};

use crate::registry::Registry;

/// An attempt that ended, with the slot that it gives back.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) key: AttemptKey,
    pub(crate) end: AttemptEnd,
    pub(crate) _slot: OwnedSemaphorePermit,
}

/// What is to be written.
#[derive(Debug)]
pub(crate) enum AttemptEnd {
    Succeeded,
    Settled(FailedAttempt),
    /// Its effects' transaction has written it, or its lease is lost: nothing.
    Nothing,
}

/// Longest wait between two tries to write, in milliseconds.
const RETRY_MS_MAX: u64 = 2_000;

/// Runs until all senders are gone and everything is written. Says so through `has_ended` after each batch.
pub(crate) async fn run(
    store: Store,
    registry: Registry,
    mut ended: mpsc::UnboundedReceiver<Ended>,
    batch_max: usize,
    has_ended: Arc<Notify>,
) {
    let mut batch = Vec::with_capacity(batch_max);
    while ended.recv_many(&mut batch, batch_max).await > 0 {
        let succeeded: Vec<AttemptKey> =
            batch.iter().filter(|e| matches!(e.end, AttemptEnd::Succeeded)).map(|e| e.key).collect();
        let failed: Vec<FailedAttempt> = batch
            .iter()
            .filter_map(|e| if let AttemptEnd::Settled(attempt) = &e.end { Some(attempt.clone()) } else { None })
            .collect();
        if !succeeded.is_empty() {
            let applied = until_written("succeed", || store.succeed(&succeeded)).await;
            note_stale(succeeded.len(), applied.as_ref().map(std::collections::HashSet::len));
        }
        if !failed.is_empty() {
            let settled = until_written("settle", || store.settle(&failed)).await;
            note_stale(failed.len(), settled.as_ref().map(Settled::len));
            note_parked(settled.as_ref());
        }
        registry.remove_all(batch.iter().map(|done| done.key));
        // With this the slots are free.
        batch.clear();
        has_ended.notify_one();
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

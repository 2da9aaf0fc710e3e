//! Keeps the leases of everything in hand, on a thread and a connection of its own: a job that never yields may
//! starve the runtime, but not this. Tells jobs whose lease is lost, or whose time is up, to stop.

use crate::{
    claims::Claims,
    registry::{InHand, Registry, StopReason},
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Clock, ErrorClass, Failure, JobId, RetryPolicy, ServantId, ServantState, chain};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use store::{AttemptKey, FailedAttempt, Fate, Held, Store, StoreError, UsageReport};

/// What the keeper needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Keeping {
    pub(crate) database_url: String,
    pub(crate) clock: Clock,
    pub(crate) servant: ServantId,
    pub(crate) lease: TimeDelta,
    /// How long after its time is up a job may go on before the process is given up.
    pub(crate) grace: TimeDelta,
    /// How jobs of its kind are tried again.
    pub(crate) retry: RetryPolicy,
    pub(crate) registry: Registry,
    pub(crate) claims: Claims,
    pub(crate) is_paused: Arc<AtomicBool>,
    pub(crate) is_draining: Arc<AtomicBool>,
    /// Set by the owner at the end; the keeper then leaves.
    pub(crate) is_over: Arc<AtomicBool>,
}

/// Exit code of a process that a job holds hostage, or that cannot keep its leases; the supervisor starts a new one.
const EXIT_STUCK: i32 = 1;

/// Starts the keeper's thread.
pub(crate) fn start(keeping: Keeping) -> std::io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("keeper".to_owned()).spawn(move || {
        let _vital = Vital(keeping.is_over.clone());
        runtime.block_on(keep(keeping));
    })
}

/// Ends the process with the keeper, should that panic: jobs would go on while their leases run out, again and again.
struct Vital(Arc<AtomicBool>);

impl Drop for Vital {
    fn drop(&mut self) {
        if !self.0.load(Ordering::SeqCst) {
            tracing::error!("the keeper of the leases has died: this process ends");
            std::process::exit(EXIT_STUCK);
        }
    }
}

async fn keep(keeping: Keeping) {
    let round = (keeping.lease / 4).to_std().unwrap_or(Duration::from_secs(1));
    let mut store: Option<Store> = None;
    // When each lease was last known to be good: when the database is away, leases end by the clock.
    let mut good_until: HashMap<JobId, DateTime<Utc>> = HashMap::new();
    let mut was_away = false;
    while !keeping.is_over.load(Ordering::SeqCst) {
        let mut unconnected = None;
        if store.is_none() {
            // Bounded: while this waits, nobody looks whether leases have run out.
            let connecting = Store::connect(&keeping.database_url, 1, keeping.clock.clone());
            let bound = keeping.lease.to_std().unwrap_or(round);
            match tokio::time::timeout(bound, connecting).await {
                Ok(Ok(connected)) => store = Some(connected),
                Ok(Err(error)) => unconnected = Some(Err(error)),
                Err(_) => {}
            }
        }
        let kept = match &store {
            Some(store) => tokio::time::timeout(round * 2, renew(store, &keeping, &mut good_until)).await.ok(),
            None => unconnected,
        };
        match kept {
            Some(Ok(())) if was_away => {
                tracing::info!("leases are renewed again");
                was_away = false;
            }
            Some(Ok(())) => {}
            other => {
                if !was_away {
                    let error =
                        other.and_then(Result::err).map_or_else(|| "no answer".to_owned(), |error| chain(&error));
                    tracing::warn!(error, "leases could not be renewed; trying on");
                    was_away = true;
                }
                // A pool whose only connection hangs is of no use any more.
                store = None;
                give_up_expired(&keeping, &good_until);
            }
        }
        stop_overdue(&keeping, store.as_ref()).await;
        tokio::time::sleep(round).await;
    }
    if let Some(store) = store {
        let _ = drop_over(&store, &keeping).await;
        let _ = store.touch_servant(keeping.servant, ServantState::Stopped, 0).await;
    }
}

async fn renew(
    store: &Store,
    keeping: &Keeping,
    good_until: &mut HashMap<JobId, DateTime<Utc>>,
) -> Result<(), StoreError> {
    let in_hand = keeping.registry.all();
    let until = store.now() + keeping.lease;
    if !in_hand.is_empty() {
        let keys: Vec<AttemptKey> = in_hand.iter().map(|job| job.key).collect();
        let held: HashMap<JobId, Held> =
            store.renew_leases(keeping.servant, &keys, until).await?.into_iter().map(|h| (h.id, h)).collect();
        good_until.retain(|id, _| held.contains_key(id));
        for job in &in_hand {
            match held.get(&job.key.id) {
                Some(held) => {
                    good_until.insert(job.key.id, until);
                    if held.cancel_requested {
                        job.stop(StopReason::Operator);
                    }
                }
                // It may also have just finished; then the registry no longer has it, and nothing is lost.
                None if is_still_in_hand(keeping, job) => lose(job),
                None => {}
            }
        }
    }
    drop_over(store, keeping).await?;
    let progress = keeping.registry.unsaved_progress();
    if !progress.is_empty() {
        store.save_progress(&progress).await?;
    }
    save_usage(store, &keeping.registry).await?;
    let state = if keeping.is_draining.load(Ordering::SeqCst) {
        ServantState::Draining
    } else if keeping.is_paused.load(Ordering::SeqCst) {
        ServantState::Paused
    } else {
        ServantState::Running
    };
    store.touch_servant(keeping.servant, state, u32::try_from(keeping.registry.len()).unwrap_or(u32::MAX)).await
}

/// Drops the leases and permits that no job needs any more: whoever counts what is in flight looks at each job of one.
async fn drop_over(store: &Store, keeping: &Keeping) -> Result<(), StoreError> {
    let over = keeping.claims.take_over();
    if over.leases.is_empty() {
        return Ok(());
    }
    store.drop_claims(keeping.servant, &over.leases, &over.permits).await
}

/// What vendors said of customers' quotas: the sooner it is known, the less is dispatched in vain.
async fn save_usage(store: &Store, registry: &Registry) -> Result<(), StoreError> {
    let unsaved = registry.unsaved_usage();
    if unsaved.is_empty() {
        return Ok(());
    }
    let reports: Vec<UsageReport> = unsaved.iter().map(|(_, report)| *report).collect();
    let saved = store.report_usage(&reports).await;
    if saved.is_err() {
        for (job, report) in unsaved {
            job.set_usage(report);
        }
    }
    saved
}

fn is_still_in_hand(keeping: &Keeping, job: &InHand) -> bool {
    // Written by the job's own transaction but not yet removed: cancelling it then changes nothing either.
    keeping.registry.get(job.key.id).is_some_and(|now| now.key == job.key)
}

fn lose(job: &InHand) {
    if job.stop_reason() != Some(StopReason::LeaseLost) {
        tracing::debug!(JobId = job.key.id.0, AccountId = job.account.0, "the job is no longer ours");
        job.stop(StopReason::LeaseLost);
    }
}

/// Without the database, a lease that has run out by the clock is as good as lost.
fn give_up_expired(keeping: &Keeping, good_until: &HashMap<JobId, DateTime<Utc>>) {
    let now = keeping.clock.now();
    for job in keeping.registry.all() {
        let until = good_until.get(&job.key.id).copied().unwrap_or(job.started_at + keeping.lease);
        if until < now {
            lose(&job);
        }
    }
}

/// Jobs whose time is up were told to stop by the runner. One that still runs long after holds its thread: its
/// attempt is ended here, and the process with it.
async fn stop_overdue(keeping: &Keeping, store: Option<&Store>) {
    let now = keeping.clock.now();
    let is_stuck = |job: &Arc<InHand>| !job.has_returned() && job.must_end_at + keeping.grace < now;
    let stuck: Vec<Arc<InHand>> = keeping.registry.all().into_iter().filter(is_stuck).collect();
    if stuck.is_empty() {
        return;
    }
    for job in &stuck {
        tracing::error!(
            JobId = job.key.id.0,
            AccountId = job.account.0,
            Attempt = job.attempt,
            "the job does not yield: its attempt is failed and this process ends"
        );
    }
    if let Some(store) = store {
        let ends: Vec<FailedAttempt> = stuck.iter().map(|job| stuck_end(job, &keeping.retry, now)).collect();
        let _ = store.settle(&ends).await;
        let _ = store.touch_servant(keeping.servant, ServantState::Stopped, 0).await;
    }
    // The others in hand are rescued when their leases run out, in seconds.
    std::process::exit(EXIT_STUCK);
}

fn stuck_end(job: &InHand, retry: &RetryPolicy, now: DateTime<Utc>) -> FailedAttempt {
    let failure = Failure {
        class: ErrorClass::Bug,
        chain: "the job did not yield after its time was up; its process was ended".to_owned(),
        until: None,
    };
    let verdict = retry.verdict(&failure, job.attempt, job.attempts_max, false, now, 1.0);
    let fate = match verdict {
        domain::Verdict::RetryAt { due, charged } => Fate::RetryAt { due, charged, failure },
        domain::Verdict::Park | domain::Verdict::Fail => Fate::Fail(failure),
    };
    FailedAttempt { key: job.key, fate }
}

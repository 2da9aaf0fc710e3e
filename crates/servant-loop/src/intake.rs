//! Takes jobs in from the queue, never more than there are free slots, and what every way of taking them in shares. Without
//! a queue they come from the table: `table`.

use crate::{claims::Claims, runner::Runner, servant::Servant};
use chrono::TimeDelta;
use domain::{Catalogue, JobId, Kind, KindDefinition, PermitId, ServantId, chain};
use queue::Sqs;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use store::{ClaimedJob, Delivered, Store, StoreError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// What the intake of a process needs.
pub(crate) struct Intake<S> {
    pub(crate) runner: Arc<Runner<S>>,
    pub(crate) store: Store,
    pub(crate) servant: ServantId,
    pub(crate) kind: Kind,
    /// All kinds: what limits count is counted over them.
    pub(crate) catalogue: Catalogue,
    pub(crate) definition: KindDefinition,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) claim_max: usize,
    pub(crate) lease: TimeDelta,
    pub(crate) poll: Duration,
    pub(crate) is_paused: Arc<AtomicBool>,
    pub(crate) claims: Claims,
    /// Says that jobs have ended.
    pub(crate) ended: Arc<Notify>,
    /// Cancelled when no new work may be taken.
    pub(crate) stop: CancellationToken,
}

/// Wait after the ledger or the queue failed, doubled up to the second number, in milliseconds.
pub(crate) const RETRY_MS: (u64, u64) = (50, 2_000);
/// Messages that one call to the queue brings at the most (SQS's own limit).
const RECEIVE_MAX: usize = 10;
/// Jobs that the intake starts itself: below, handing them on would take longer.
const STARTED_AT_ONCE_MAX: usize = 32;
/// Calls to the queue that wait at the same time at the most.
const LANES_MAX: usize = 16;
/// How long a message that was claimed waits to be deleted together with others: a call costs as much for one as for ten.
/// Nobody waits for it, and until then it is hidden.
const DELETE_WAIT: Duration = Duration::from_millis(100);
/// Messages that are deleted at a time.
const DELETE_MAX: usize = 100;

impl<S: Servant> Intake<S> {
    /// Receives ids from the queue until told to stop. Lanes beyond the first wait at the queue only while there is
    /// more than one call can bring.
    pub(crate) async fn take_from_queue(self: Arc<Self>, sqs: Sqs) {
        let intake = self;
        let (received, batches) = mpsc::channel(LANES_MAX * 2);
        let level = Arc::new(AtomicUsize::new(1));
        let more = Arc::new(Notify::new());
        let lanes = (intake.slots.available_permits().div_ceil(RECEIVE_MAX)).clamp(1, LANES_MAX);
        let mut tasks = tokio::task::JoinSet::new();
        for lane in 0..lanes {
            tasks.spawn(intake.clone().lane(lane, sqs.clone(), received.clone(), level.clone(), more.clone()));
        }
        drop(received);
        intake.claim_received(sqs, batches).await;
        tasks.join_all().await;
    }

    async fn lane(
        self: Arc<Self>,
        lane: usize,
        sqs: Sqs,
        received: mpsc::Sender<(Vec<queue::Delivery>, Vec<OwnedSemaphorePermit>)>,
        level: Arc<AtomicUsize>,
        more: Arc<Notify>,
    ) {
        let mut retry_ms = RETRY_MS.0;
        while !self.stop.is_cancelled() {
            if lane >= level.load(Ordering::SeqCst) {
                tokio::select! {
                    () = more.notified() => {}
                    () = self.stop.cancelled() => break,
                }
                continue;
            }
            let Some((slots, _)) = self.free_slots(RECEIVE_MAX, None).await else { break };
            if self.is_paused.load(Ordering::SeqCst) {
                drop(slots);
                self.pause().await;
                continue;
            }
            let mut slots: Vec<_> = slots.into();
            slots.truncate(RECEIVE_MAX);
            if lane > 0 && slots.len() < RECEIVE_MAX {
                // Slots are what there is too little of: lanes would take them from each other.
                level.fetch_min(lane, Ordering::SeqCst);
                continue;
            }
            let answer = tokio::select! {
                answer = sqs.receive(self.kind.as_str(), slots.len()) => answer,
                () = self.stop.cancelled() => break,
            };
            match answer {
                Ok(batch) => {
                    retry_ms = RETRY_MS.0;
                    for bad in &batch.malformed {
                        tracing::error!(
                            reason = bad.reason,
                            "a message that is no job's id is left to the dead letters"
                        );
                    }
                    if batch.deliveries.is_empty() {
                        level.store(1, Ordering::SeqCst);
                        continue;
                    }
                    if batch.deliveries.len() == RECEIVE_MAX && level.load(Ordering::SeqCst) == lane + 1 {
                        level.store((lane + 2).min(LANES_MAX), Ordering::SeqCst);
                        more.notify_waiters();
                    }
                    if received.send((batch.deliveries, slots)).await.is_err() {
                        break;
                    }
                }
                Err(error) => {
                    drop(slots);
                    if retry_ms == RETRY_MS.0 {
                        tracing::warn!(error = chain(&error), "the queue does not answer; trying on");
                    }
                    self.sleep(Duration::from_millis(retry_ms)).await;
                    retry_ms = (retry_ms * 2).min(RETRY_MS.1);
                }
            }
        }
    }

    /// Claims what the lanes have received, all of it in one statement, and has the messages deleted: from
    /// here the row's lease is the only truth. Messages whose claim is refused are duplicates, and deleted too.
    async fn claim_received(
        &self,
        sqs: Sqs,
        mut batches: mpsc::Receiver<(Vec<queue::Delivery>, Vec<OwnedSemaphorePermit>)>,
    ) {
        let mut taken = Vec::new();
        let (claimed, receipts) = mpsc::unbounded_channel();
        let deleting = tokio::spawn(delete_claimed(sqs, self.kind.clone(), receipts));
        let batches_max = self.claim_max.div_ceil(RECEIVE_MAX).max(1);
        while batches.recv_many(&mut taken, batches_max).await > 0 {
            let (deliveries, slots): (Vec<_>, Vec<_>) = taken.drain(..).unzip();
            let slots: VecDeque<_> = slots.into_iter().flatten().collect();
            let deliveries: Vec<_> = deliveries.into_iter().flatten().collect();
            let ids: Vec<Delivered> =
                deliveries.iter().map(|d| Delivered { id: JobId(d.job_id), sent_at: d.sent_at }).collect();
            let until = self.store.now() + self.lease;
            match self.store.claim_delivered(self.servant, &self.kind, &ids, until).await {
                Ok(jobs) => {
                    self.start(jobs, slots, None);
                    for delivery in deliveries {
                        // It takes them until this side is gone.
                        let _ = claimed.send(delivery.receipt);
                    }
                }
                // Not deleted: the queue delivers them again when their visibility ends.
                Err(error) => {
                    tracing::warn!(error = chain(&error), "received ids could not be claimed; the queue keeps them");
                    self.sleep(Duration::from_millis(RETRY_MS.0)).await;
                }
            }
        }
        drop(claimed);
        if deleting.await.is_err() {
            tracing::error!("messages that were claimed are not deleted; they will be duplicates");
        }
    }

    /// Starts what one statement claimed, under one permit if limits count it; slots that are left over are free again.
    /// Many jobs are started on a task of their own, so that the next claim is already on its way.
    pub(crate) fn start(
        &self,
        jobs: Vec<ClaimedJob>,
        mut slots: VecDeque<OwnedSemaphorePermit>,
        permit: Option<PermitId>,
    ) {
        slots.truncate(jobs.len());
        if let Some(job) = jobs.first() {
            self.claims.began(job.lease, permit, jobs.len());
        }
        let runner = self.runner.clone();
        let is_many = jobs.len() > STARTED_AT_ONCE_MAX;
        let start_all = move || {
            // A claim answers with no more jobs than slots were asked for.
            for (job, slot) in jobs.into_iter().zip(slots) {
                runner.start(job, slot);
            }
        };
        if is_many {
            tokio::spawn(async move { start_all() });
        } else {
            start_all();
        }
    }

    /// All free slots up to a claim's size, once `wanted` are free, a moment has passed or `wake` rings, and whether it
    /// rang; `None` to stop.
    ///
    /// Under load it waits a moment for many, since a statement for ten jobs costs little more than one for one; but what
    /// has just come is not kept waiting for that.
    pub(crate) async fn free_slots(
        &self,
        wanted: usize,
        wake: Option<&Notify>,
    ) -> Option<(VecDeque<OwnedSemaphorePermit>, bool)> {
        let first = tokio::select! {
            slot = self.slots.clone().acquire_owned() => slot.ok()?,
            () = self.stop.cancelled() => return None,
        };
        let mut slots = VecDeque::from([first]);
        let moment = Duration::from_millis(2);
        let mut is_rung = false;
        if wanted > 1 && self.slots.available_permits() + 1 < wanted {
            let rest = u32::try_from(wanted - 1).unwrap_or(u32::MAX);
            let rung = async {
                match wake {
                    Some(wake) => wake.notified().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = tokio::time::timeout(moment, self.slots.clone().acquire_many_owned(rest)) => {}
                () = rung => is_rung = true,
            }
        }
        while slots.len() < self.claim_max {
            match self.slots.clone().try_acquire_owned() {
                Ok(slot) => slots.push_back(slot),
                Err(_) => break,
            }
        }
        Some((slots, is_rung))
    }

    pub(crate) async fn back_off(&self, error: &StoreError, retry_ms: &mut u64) {
        if *retry_ms == RETRY_MS.0 {
            tracing::warn!(error = chain(error), "no jobs could be claimed; trying on");
        }
        self.sleep(Duration::from_millis(*retry_ms)).await;
        *retry_ms = (*retry_ms * 2).min(RETRY_MS.1);
    }

    pub(crate) async fn pause(&self) {
        self.sleep(Duration::from_millis(200)).await;
    }

    pub(crate) async fn sleep(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// Deletes messages until no more come, as many in a call as there are within a moment.
async fn delete_claimed(sqs: Sqs, kind: Kind, mut receipts: mpsc::UnboundedReceiver<String>) {
    let mut deletes = tokio::task::JoinSet::new();
    let mut batch = Vec::new();
    while receipts.recv_many(&mut batch, DELETE_MAX).await > 0 {
        let is_over = tokio::time::sleep(DELETE_WAIT);
        tokio::pin!(is_over);
        while !batch.len().is_multiple_of(RECEIVE_MAX) {
            let wanted = RECEIVE_MAX - batch.len() % RECEIVE_MAX;
            tokio::select! {
                more = receipts.recv_many(&mut batch, wanted) => if more == 0 { break },
                () = &mut is_over => break,
            }
        }
        let (sqs, kind, batch) = (sqs.clone(), kind.clone(), std::mem::take(&mut batch));
        deletes.spawn(async move {
            let report = sqs.delete(kind.as_str(), batch).await;
            if !report.failed.is_empty() {
                tracing::warn!(failed = report.failed.len(), "messages were not deleted; they will be duplicates");
            }
        });
        while deletes.try_join_next().is_some() {}
    }
    deletes.join_all().await;
}

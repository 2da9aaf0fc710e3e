//! Runs one claimed job: decodes its payload, gives it a context and a deadline, catches its panic, and turns how it
//! ended into what is to be written. Which failures get another try is `domain::RetryPolicy`'s to say.

use crate::{
    context::JobContext,
    finisher::{AttemptEnd, Ended},
    job_error::{Done, End, JobError},
    registry::{InHand, Registry, StopReason},
    servant::Servant,
};
use chrono::{DateTime, TimeDelta, Utc};
use daemon::Excerpt;
use domain::{ErrorClass, Failure, RetryPolicy, Verdict, chain};
use futures::FutureExt;
use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};
use store::{AttemptKey, ClaimedJob, FailedAttempt, Fate, Store, UsageReport};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::Instrument;

/// What every job of this process is run with.
#[derive(Debug)]
pub(crate) struct Runner<S> {
    pub(crate) servant: S,
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) retry: RetryPolicy,
    pub(crate) run_max: TimeDelta,
    pub(crate) cancel_grace: Duration,
    pub(crate) ended: mpsc::UnboundedSender<Ended>,
    /// Places for ends that wait to be written without a slot.
    pub(crate) unwritten: Arc<Semaphore>,
}

impl<S: Servant> Runner<S> {
    /// Starts a claimed job on a task of its own. It holds `slot` until it is over; where many ends wait already, until its
    /// own is in the ledger, so that a slow database slows the intake.
    pub(crate) fn start(self: &Arc<Self>, mut job: ClaimedJob, slot: OwnedSemaphorePermit) {
        let now = self.store.now();
        let must_end_at = job.deadline_at.map_or(now + self.run_max, |deadline| deadline.min(now + self.run_max));
        let attempts = (job.attempt, job.attempts_max);
        let in_hand = Arc::new(InHand::new(job.key, attempts, job.account, now, must_end_at));
        self.registry.add(in_hand.clone());
        let context = JobContext::new(self.store.clone(), in_hand.clone(), &mut job);
        let span = tracing::info_span!(
            "job",
            JobId = job.key.id.0,
            AccountId = job.account.0,
            RequestId = %job.request_id,
            Attempt = job.attempt,
            Kind = S::KIND,
        );
        let runner = self.clone();
        tokio::spawn(
            async move {
                let excerpt = Excerpt::default();
                let end = excerpt.of(runner.run(&job, context, &in_hand)).await;
                in_hand.note_return();
                let log = matches!(end, AttemptEnd::Settled(_)).then(|| excerpt.text()).flatten();
                let place = runner.unwritten.clone().try_acquire_owned().unwrap_or(slot);
                let ended = Ended { key: job.key, attempt: job.attempt, lease: job.lease, end, log, _place: place };
                // The finisher outlives every job; without it nobody is left to tell, and the lease runs out.
                let _ = runner.ended.send(ended);
            }
            .instrument(span),
        );
    }

    async fn run(&self, job: &ClaimedJob, context: JobContext, in_hand: &InHand) -> AttemptEnd {
        if job.deadline_at.is_some_and(|deadline| deadline <= in_hand.started_at) {
            return self
                .settle(job, failure(ErrorClass::DeadlineExceeded, "the deadline passed before it could start"));
        }
        let payload = match serde_json::from_str::<S::Payload>(&job.payload) {
            Ok(payload) => payload,
            Err(error) => {
                let chain = format!("the payload is not one of this kind\n{error}");
                return self.settle(job, failure(ErrorClass::Permanent, &chain));
            }
        };
        let has_deadline = job.deadline_at.is_some_and(|deadline| deadline == in_hand.must_end_at);
        let result = self.watch(payload, &context, in_hand, has_deadline).await;
        // How far it came stays with the job.
        if let Some(progress) = in_hand.last_progress() {
            // On the heap: most jobs have none, and what a job's task might do is what each of thousands takes up.
            Box::pin(self.save_last_progress(job.key, progress)).await;
        }
        if let Some(report) = in_hand.take_usage() {
            Box::pin(self.save_last_usage(report)).await;
        }
        self.judge(job, result, in_hand.stop_reason())
    }

    /// The job itself, watched: told to stop when its time is up, dropped when it does not return after that.
    async fn watch(
        &self,
        payload: S::Payload,
        context: &JobContext,
        in_hand: &InHand,
        has_deadline: bool,
    ) -> Result<Done, JobError> {
        let mut work = std::pin::pin!(AssertUnwindSafe(self.servant.run(payload, context)).catch_unwind());
        let allowed = (in_hand.must_end_at - in_hand.started_at).to_std().unwrap_or_default();
        let is_over = async {
            tokio::select! {
                () = tokio::time::sleep(allowed) => {
                    in_hand.stop(if has_deadline { StopReason::Deadline } else { StopReason::RanTooLong });
                }
                () = in_hand.cancelled.cancelled() => {}
            }
            tokio::time::sleep(self.cancel_grace).await;
        };
        tokio::select! {
            biased;
            result = &mut work => result.unwrap_or_else(|panic| Err(JobError::bug(anyhow::anyhow!("the job panicked: {}", text_of(&*panic))))),
            () = is_over => Err(JobError::interrupted()),
        }
    }

    fn judge(&self, job: &ClaimedJob, result: Result<Done, JobError>, reason: Option<StopReason>) -> AttemptEnd {
        match (result, reason) {
            (Ok(Done { is_committed: true }), _) => AttemptEnd::Committed,
            (_, Some(StopReason::LeaseLost)) => AttemptEnd::Lost,
            (Ok(Done { is_committed: false }), _) => AttemptEnd::Succeeded,
            (Err(JobError(End::LeaseLost)), _) => {
                tracing::warn!("the attempt's writes were refused: its lease was lost");
                AttemptEnd::Lost
            }
            (Err(_), Some(StopReason::Operator)) => {
                tracing::info!("the job was cancelled by an operator");
                AttemptEnd::Settled(FailedAttempt { key: job.key, fate: Fate::Cancelled })
            }
            (Err(_), Some(StopReason::Deadline)) => {
                self.settle(job, failure(ErrorClass::DeadlineExceeded, "the deadline passed while it ran"))
            }
            (Err(JobError(End::Interrupted)), Some(StopReason::RanTooLong)) => {
                let chain = format!("the attempt took longer than {} s", self.run_max.num_seconds());
                self.settle(job, failure(ErrorClass::Transient, &chain))
            }
            (Err(JobError(End::Interrupted)), _) => {
                tracing::info!("the job was interrupted and goes back");
                AttemptEnd::Settled(FailedAttempt { key: job.key, fate: Fate::GiveBack })
            }
            (Err(JobError(End::Failed(failure))), _) => self.settle(job, failure),
        }
    }

    /// Without the ledger, the last progress is the one thing that may be lost.
    async fn save_last_progress(&self, key: AttemptKey, progress: serde_json::Value) {
        if let Err(error) = self.store.save_progress(&[(key, progress)]).await {
            tracing::debug!(error = chain(&error), "the last progress was not stored");
        }
    }

    /// Nor is a quota's last word worth more than the job's end: the next job hears another.
    async fn save_last_usage(&self, report: UsageReport) {
        if let Err(error) = self.store.report_usage(&[report]).await {
            tracing::debug!(error = chain(&error), "what the vendor said of the quota was not stored");
        }
    }

    fn settle(&self, job: &ClaimedJob, failure: Failure) -> AttemptEnd {
        let now: DateTime<Utc> = self.store.now();
        let jitter = rand::random::<f64>();
        let error = failure.chain.replace('\n', ": ");
        let class = failure.class;
        let fate =
            match self.retry.verdict(&failure, job.attempt, job.attempts_max, job.connection.is_some(), now, jitter) {
                Verdict::RetryAt { due, charged } => {
                    tracing::warn!(%class, error, retry_at = %due, "the attempt failed");
                    Fate::RetryAt { due, charged, failure }
                }
                Verdict::Park => {
                    tracing::warn!(%class, error, "the attempt failed; the job waits for its connection");
                    Fate::Park(failure)
                }
                Verdict::Fail => {
                    tracing::error!(%class, error, "the job failed");
                    Fate::Fail(failure)
                }
            };
        AttemptEnd::Settled(FailedAttempt { key: job.key, fate })
    }
}

fn failure(class: ErrorClass, chain: &str) -> Failure {
    Failure { class, chain: chain.to_owned(), until: None }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
        .replace('\0', "\u{fffd}")
}

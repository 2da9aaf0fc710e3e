//! What a job may know and do while it runs: who it is, when to stop, progress, checkpoints, effects.
//! Every write is fenced by the attempt's token: once the lease is lost, nothing a job does reaches the ledger.

use crate::{
    job_error::{Done, JobError},
    registry::{InHand, Progress},
};
use chrono::{DateTime, Utc};
use domain::{AccountId, Clock, ConnectionId, GroupId, JobId, Kind, VendorBudget};
use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};
use store::{ClaimedJob, Inserted, NewGroup, NewJob, Outcome, Store, Tx, UsageReport};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A running job's view of itself.
#[derive(Debug)]
pub struct JobContext {
    pub(crate) store: Store,
    pub(crate) in_hand: Arc<InHand>,
    pub(crate) connection: Option<ConnectionId>,
    pub(crate) group: OnceLock<GroupId>,
    pub(crate) request_id: Uuid,
    pub(crate) traceparent: Option<String>,
    pub(crate) checkpoint: Option<serde_json::Value>,
}

impl JobContext {
    pub(crate) fn new(store: Store, in_hand: Arc<InHand>, job: &mut ClaimedJob) -> Self {
        Self {
            store,
            in_hand,
            connection: job.connection,
            group: job.group.map_or_else(OnceLock::new, OnceLock::from),
            request_id: job.request_id,
            traceparent: job.traceparent.take(),
            checkpoint: job.checkpoint.take(),
        }
    }

    /// The job.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.in_hand.key.id
    }

    /// The number of this attempt; 1 is the first.
    #[must_use]
    pub fn attempt(&self) -> u16 {
        self.in_hand.attempt
    }

    /// Whose job it is.
    #[must_use]
    pub fn account(&self) -> AccountId {
        self.in_hand.account
    }

    /// The connection it works on.
    #[must_use]
    pub fn connection(&self) -> Option<ConnectionId> {
        self.connection
    }

    /// The group that it is a member of.
    #[must_use]
    pub fn group(&self) -> Option<GroupId> {
        self.group.get().copied()
    }

    /// The request that asked for it; pass it on to whoever is called.
    #[must_use]
    pub fn request_id(&self) -> Uuid {
        self.request_id
    }

    /// The trace context of that request (W3C).
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    /// When the attempt will be cancelled.
    #[must_use]
    pub fn deadline(&self) -> DateTime<Utc> {
        self.in_hand.must_end_at
    }

    /// Cancelled when the job is to stop: look at it between steps, and return [`JobError::interrupted`].
    #[must_use]
    pub fn cancelled(&self) -> &CancellationToken {
        &self.in_hand.cancelled
    }

    /// The clock to use.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        self.store.clock()
    }

    /// Says how far it is. Cheap: kept in memory, stored with the next lease renewal. Of the message, 200 characters.
    pub fn progress(&self, done: u64, total: Option<u64>, message: &str) {
        self.in_hand.set_progress(Progress::new(done, total, message));
    }

    /// Passes on what a vendor said of the quota of the job's connection: calls used by everybody, calls allowed, and
    /// when all are free again (none: what was used becomes free a day later). Cheap, so say it after each answer: kept
    /// in memory, stored with the next lease renewal and with the job's end at the latest.
    pub fn report_usage(&self, used: u64, maximum: u64, resets_at: Option<DateTime<Utc>>) {
        if let Some(connection) = self.connection {
            let budget = VendorBudget { used, maximum, reported_at: self.clock().now(), resets_at };
            self.in_hand.set_usage(UsageReport { connection, budget });
        }
    }

    /// What an earlier attempt saved.
    #[must_use]
    pub fn checkpoint(&self) -> Option<&serde_json::Value> {
        self.checkpoint.as_ref()
    }

    /// Saves what the next attempt is to start from.
    ///
    /// # Errors
    /// [`JobError`]; return it.
    pub async fn save_checkpoint(&self, checkpoint: &serde_json::Value) -> Result<(), JobError> {
        match self.store.save_checkpoint(self.in_hand.key, checkpoint).await? {
            Outcome::Applied => Ok(()),
            Outcome::Stale => Err(JobError::lease_lost()),
        }
    }

    /// What becomes known once effects are committed.
    async fn has_committed(&self, founded: Option<GroupId>, wakes: &BTreeSet<Kind>) {
        if let Some(group) = founded {
            // Only a job that is nobody's member founds one.
            let _ = self.group.set(group);
        }
        for kind in wakes {
            self.store.wake(kind).await;
        }
    }

    /// Opens a transaction for effects. Keep it short: nobody else's network belongs inside.
    ///
    /// # Errors
    /// [`JobError`]; return it.
    pub async fn begin(&self) -> Result<JobTx<'_>, JobError> {
        Ok(JobTx { job: self, tx: self.store.begin().await?, founded: None, wakes: BTreeSet::new() })
    }
}

/// Effects about to be committed. Dropping it takes them back.
#[derive(Debug)]
pub struct JobTx<'a> {
    job: &'a JobContext,
    tx: Tx,
    /// The group that exists only if the effects do.
    founded: Option<GroupId>,
    /// The kinds of the jobs that do.
    wakes: BTreeSet<Kind>,
}

impl JobTx<'_> {
    /// The transaction, for the ledger's and the records' functions.
    pub fn tx(&mut self) -> &mut Tx {
        &mut self.tx
    }

    /// Runs one statement on the kind's own tables, with its one argument, a jsonb, as `$1`; answers with the number
    /// of rows that it touched. Never for the ledger's tables.
    ///
    /// # Errors
    /// [`JobError`]; return it.
    pub async fn execute(&mut self, statement: &'static str, argument: &serde_json::Value) -> Result<u64, JobError> {
        Ok(self.tx.execute(statement, argument).await?)
    }

    /// Inserts jobs that exist only if the effects do. They join this job's group if they ask for it
    /// (`NewJob { group: job.group(), .. }`), sealed or not: the group does not end before they have.
    ///
    /// # Errors
    /// [`JobError`]; return it. It is permanent when a group takes no members.
    pub async fn insert_jobs(&mut self, jobs: &[NewJob]) -> Result<Vec<Inserted>, JobError> {
        let member_of = self.group();
        self.wakes.extend(jobs.iter().map(|job| job.kind.clone()));
        Ok(self.job.store.insert_children_in(&mut self.tx, member_of, jobs).await?)
    }

    /// The job's group, the one that this transaction founds too: what its children join.
    #[must_use]
    pub fn group(&self) -> Option<GroupId> {
        self.founded.or_else(|| self.job.group())
    }

    /// Makes a sealed group with this job, which is nobody's member, as its first one: what it inserts from now on may
    /// join; `by` says who made it. It is the job's group once the effects are committed.
    ///
    /// # Errors
    /// [`JobError`]; return it. Nothing is committed if the lease is lost.
    pub async fn found_group(&mut self, group: &NewGroup, by: &str) -> Result<GroupId, JobError> {
        let id = self.job.store.found_group_in(&mut self.tx, group, by).await?;
        match self.job.store.join_group_in(&mut self.tx, self.job.in_hand.key, id).await? {
            Outcome::Applied => {
                self.founded = Some(id);
                Ok(id)
            }
            Outcome::Stale => Err(JobError::lease_lost()),
        }
    }

    /// Saves a checkpoint with the effects, for a job that [`finish`](Self::finish)es with them and leaves it as its
    /// result.
    ///
    /// # Errors
    /// [`JobError`]; return it. Nothing is committed if the lease is lost.
    pub async fn save_checkpoint(&mut self, checkpoint: &serde_json::Value) -> Result<(), JobError> {
        match self.job.store.save_checkpoint_in(&mut self.tx, self.job.in_hand.key, checkpoint).await? {
            Outcome::Applied => Ok(()),
            Outcome::Stale => Err(JobError::lease_lost()),
        }
    }

    /// Commits the effects and the checkpoint together; the job goes on.
    ///
    /// # Errors
    /// [`JobError`]; return it. Nothing was committed if the lease is lost.
    pub async fn commit_page(mut self, checkpoint: &serde_json::Value) -> Result<(), JobError> {
        self.save_checkpoint(checkpoint).await?;
        let Self { job, tx, founded, wakes } = self;
        tx.commit().await?;
        job.has_committed(founded, &wakes).await;
        Ok(())
    }

    /// Commits the effects and the job's completion together.
    ///
    /// # Errors
    /// [`JobError`]; return it. Nothing was committed if the lease is lost.
    pub async fn finish(mut self) -> Result<Done, JobError> {
        if let Some(progress) = self.job.in_hand.last_progress() {
            self.job.store.save_progress_in(&mut self.tx, self.job.in_hand.key, &progress).await?;
        }
        // With the completion goes what was reserved for the job: what it used must be known by then.
        let usage = self.job.in_hand.take_usage();
        let in_hand = &self.job.in_hand;
        let finished = self.finish_with(usage).await;
        if let (Err(_), Some(report)) = (&finished, usage) {
            in_hand.set_usage(report);
        }
        finished
    }

    async fn finish_with(self, usage: Option<UsageReport>) -> Result<Done, JobError> {
        let Self { job, mut tx, founded, wakes } = self;
        if let Some(report) = usage {
            job.store.report_usage_in(&mut tx, &[report]).await?;
        }
        match job.store.succeed_in(&mut tx, job.in_hand.key).await? {
            Outcome::Applied => {
                tx.commit().await?;
                job.has_committed(founded, &wakes).await;
                Ok(Done { is_committed: true })
            }
            Outcome::Stale => Err(JobError::lease_lost()),
        }
    }
}

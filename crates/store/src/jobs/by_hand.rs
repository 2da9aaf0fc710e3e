//! What operators do with jobs by hand: make them, end them, start ended ones anew, and let one that waits for its time go
//! at once. Each change of a state is one of `domain::state`; who did it and why is noted in the same commit.

use super::{retry::retry, transition::cancel};
use crate::{
    Inserted, NewJob, Store, StoreError,
    audit::{Deed, job_states, new_jobs, note_each},
};
use chrono::{DateTime, Utc};
use domain::{Capability, Granted, JobId, action};
use serde_json::Value;
use sqlx::PgConnection;
use std::collections::BTreeMap;

/// What an operator does with jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobAct {
    /// [`JobEvent::Cancel`](domain::JobEvent::Cancel): pending jobs end at once, running ones are asked to stop (their
    /// servant ends them).
    Cancel,
    /// [`JobEvent::Retry`](domain::JobEvent::Retry): failed and cancelled jobs are ready again, with all their attempts
    /// and what they had saved. One whose unique key is taken again, by an unfinished job or by a newer one of those
    /// retried with it, stays where it is; so does a member of a cancelled group. A group that failed waits again for
    /// the member.
    Retry,
    /// [`JobEvent::Promote`](domain::JobEvent::Promote) before its time: jobs that wait for a retry, or for the time for
    /// which they were asked, are ready now. What else holds them back still does.
    RunNow,
}

/// An action that is done with jobs.
pub trait ActsOnJobs: Capability {
    /// What it does.
    const ACT: JobAct;
}

impl ActsOnJobs for action::CancelJob {
    const ACT: JobAct = JobAct::Cancel;
}

impl ActsOnJobs for action::RetryJob {
    const ACT: JobAct = JobAct::Retry;
}

impl ActsOnJobs for action::RunJobNow {
    const ACT: JobAct = JobAct::RunNow;
}

/// An action that makes jobs.
pub trait MakesJobs: Capability {}

impl MakesJobs for action::EnqueueJob {}
impl MakesJobs for action::RepeatJob {}
impl MakesJobs for action::SyncConnection {}

impl Store {
    /// Does it to all of `jobs` that allow it. Answers with those to which it applied.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn act_on_jobs<A: ActsOnJobs>(
        &self,
        granted: &Granted<A>,
        jobs: &[JobId],
    ) -> Result<Vec<JobId>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let applied = act_on_jobs(&mut tx, granted, jobs, None, self.clock.now()).await?;
        tx.commit().await?;
        Ok(applied)
    }

    /// [`Store::insert_jobs`], for somebody.
    ///
    /// # Errors
    /// [`StoreError`], as there.
    pub async fn enqueue<A: MakesJobs>(
        &self,
        granted: &Granted<A>,
        jobs: &[NewJob],
    ) -> Result<Vec<Inserted>, StoreError> {
        let mut tx = self.begin().await?;
        let inserted = self.insert_jobs_in(&mut tx, jobs).await?;
        let deeds = new_jobs(&mut tx.inner, &new_of(&inserted)).await?;
        note_each(&mut tx.inner, granted, "job", deeds, self.clock.now()).await?;
        tx.commit().await?;
        self.wake_for(jobs).await;
        Ok(inserted)
    }
}

/// Those that are new.
pub(crate) fn new_of(inserted: &[Inserted]) -> Vec<JobId> {
    let new = inserted.iter().filter_map(|inserted| match inserted {
        Inserted::New(id) => Some(*id),
        Inserted::Duplicate(_) => None,
    });
    new.collect()
}

/// Does it in a transaction, for the operation of that number, if it is one.
pub(crate) async fn act_on_jobs<A: ActsOnJobs>(
    conn: &mut PgConnection,
    granted: &Granted<A>,
    jobs: &[JobId],
    operation: Option<i64>,
    now: DateTime<Utc>,
) -> Result<Vec<JobId>, StoreError> {
    let mut before = job_states(conn, jobs).await?;
    let applied = match A::ACT {
        JobAct::Cancel => cancel(conn, jobs, now).await?,
        JobAct::Retry => retry(conn, jobs, now).await?,
        JobAct::RunNow => run_now(conn, jobs, now).await?,
    };
    let mut after: BTreeMap<JobId, Value> = job_states(conn, &applied).await?;
    let deed = |id: &JobId| {
        let mut after = after.remove(id);
        if let Some((Value::Object(after), operation)) = after.as_mut().zip(operation) {
            after.insert("operation".to_owned(), operation.into());
        }
        Deed { key: id.to_string(), before: before.remove(id), after }
    };
    let deeds = applied.iter().map(deed).collect();
    note_each(conn, granted, "job", deeds, now).await?;
    Ok(applied)
}

async fn run_now(conn: &mut PgConnection, jobs: &[JobId], now: DateTime<Utc>) -> Result<Vec<JobId>, StoreError> {
    let ids: Vec<i64> = jobs.iter().map(|id| id.0).collect();
    let ready = sqlx::query_scalar!(
        r#"-- run_now
        WITH found AS (
            SELECT id FROM jobs WHERE id = ANY($1) AND state = 0 ORDER BY id FOR UPDATE
        ), ready AS (
            UPDATE jobs SET state = 1, ready_at = $2, due_at = $2 FROM found WHERE jobs.id = found.id
            RETURNING jobs.id, jobs.kind, jobs.group_id
        ), counted AS (
            INSERT INTO job_count_deltas (kind, state, delta, group_id)
            SELECT kind, 0, -count(*), group_id FROM ready GROUP BY kind, group_id
            UNION ALL SELECT kind, 1, count(*), group_id FROM ready GROUP BY kind, group_id
        )
        SELECT id AS "id!" FROM ready"#,
        &ids,
        now,
    )
    .fetch_all(conn)
    .await?;
    Ok(ready.into_iter().map(JobId).collect())
}

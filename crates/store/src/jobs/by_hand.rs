//! What operators do with jobs by hand: end them, start ended ones anew, and let one that waits for its time go at once.
//! Each change of a state is one of `domain::state`; who did it and why is noted in the same commit.

use super::{retry::retry, transition::cancel};
use crate::{Store, StoreError, Who, operator_acts::note_acts};
use chrono::{DateTime, Utc};
use domain::JobId;
use sqlx::PgConnection;

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

impl JobAct {
    /// What it is called among operators' acts.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::Cancel => "cancelled",
            Self::Retry => "retried",
            Self::RunNow => "run_now",
        }
    }
}

impl Store {
    /// Does it to all of `jobs` that allow it, and notes who did it and why. Answers with those to which it applied.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn act_on_jobs(&self, jobs: &[JobId], act: JobAct, who: Who<'_>) -> Result<Vec<JobId>, StoreError> {
        let now = self.clock.now();
        let mut tx = self.pool.begin().await?;
        let applied = match act {
            JobAct::Cancel => cancel(&mut tx, jobs, now).await?,
            JobAct::Retry => retry(&mut tx, jobs, now).await?,
            JobAct::RunNow => run_now(&mut tx, jobs, now).await?,
        };
        let keys: Vec<String> = applied.iter().map(ToString::to_string).collect();
        note_acts(&mut tx, ("job", &keys), act.what(), who, now).await?;
        tx.commit().await?;
        Ok(applied)
    }
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

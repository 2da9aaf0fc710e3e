//! Numbers for screens and metrics, from maintained counters and never a count over jobs; and what went wrong:
//! a job's attempts, recent failures.

use crate::{PAGE_ROWS_MAX, Store, StoreError};
use chrono::{DateTime, Utc};
use domain::{JobId, JobState};

/// Changes of the counters that are read beside them before they are folded.
pub(crate) const DELTAS_READ_MAX: i64 = 50;

/// How many jobs of a kind are in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobCount {
    /// The kind.
    pub kind: String,
    /// The state.
    pub state: JobState,
    /// How many.
    pub jobs: i64,
}

/// An attempt that did not simply succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
    /// Its number.
    pub attempt: i16,
    /// The error's class.
    pub class: String,
    /// The whole chain of causes, one a line.
    pub error: String,
    /// The servant.
    pub servant_id: Option<i64>,
    /// When it began.
    pub claimed_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
    /// The end of what it logged.
    pub log: Option<String>,
}

/// A job that failed for good, with its last error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentFailure {
    /// The job.
    pub id: i64,
    /// Its kind.
    pub kind: String,
    /// Whose it is.
    pub account_id: i64,
    /// Attempts it had.
    pub attempt: i16,
    /// When it failed.
    pub finished_at: DateTime<Utc>,
    /// The last attempt's class.
    pub class: Option<String>,
    /// The last attempt's chain of causes.
    pub error: Option<String>,
}

struct RawCount {
    kind: String,
    state: i16,
    jobs: i64,
}

impl RawCount {
    fn check(self) -> Result<JobCount, StoreError> {
        let state = JobState::from_code(self.state).ok_or_else(|| StoreError::Corrupt {
            table: "job_counts",
            column: "state",
            row: format!("{} {}", self.kind, self.state),
        })?;
        Ok(JobCount { kind: self.kind, state, jobs: self.jobs })
    }
}

impl Store {
    /// Jobs by kind and state for people: the folded counters, with what has not been folded yet as long as that is little;
    /// else as of the last fold, which is half a second ago. So it reads no more when much happens, or when nobody folds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn job_counts(&self) -> Result<Vec<JobCount>, StoreError> {
        let rows = sqlx::query_as!(
            RawCount,
            r#"-- job_counts
            WITH fresh AS MATERIALIZED (SELECT kind, state, delta FROM job_count_deltas LIMIT $1::bigint + 1)
            SELECT kind AS "kind!", state AS "state!", sum(jobs)::bigint AS "jobs!"
            FROM (SELECT kind, state, jobs FROM job_counts
                  UNION ALL SELECT kind, state, delta FROM fresh WHERE (SELECT count(*) FROM fresh) <= $1) AS moved
            GROUP BY kind, state HAVING sum(jobs) <> 0 ORDER BY kind, state"#,
            DELTAS_READ_MAX,
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(RawCount::check).collect()
    }

    /// Jobs by kind and state, exact in one snapshot: the folded counters and all that has not been folded yet. For tests
    /// and audits: what it reads has no bound.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn exact_job_counts(&self) -> Result<Vec<JobCount>, StoreError> {
        let rows = sqlx::query_as!(
            RawCount,
            r#"-- exact_job_counts
            SELECT kind AS "kind!", state AS "state!", sum(jobs)::bigint AS "jobs!"
            FROM (SELECT kind, state, jobs FROM job_counts
                  UNION ALL SELECT kind, state, delta FROM job_count_deltas) AS moved
            GROUP BY kind, state HAVING sum(jobs) <> 0 ORDER BY kind, state"#
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(RawCount::check).collect()
    }

    /// A job's latest attempts that did not simply succeed, in order, one page of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn attempts_of(&self, id: JobId) -> Result<Vec<AttemptRow>, StoreError> {
        Ok(sqlx::query_as!(
            AttemptRow,
            "-- attempts_of
            SELECT attempt, class, error, servant_id, claimed_at, ended_at, log FROM (
                SELECT * FROM attempts WHERE job_id = $1 ORDER BY ended_at DESC, attempt DESC LIMIT $2) AS latest
            ORDER BY ended_at, attempt",
            id.0,
            PAGE_ROWS_MAX,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Jobs that failed for good, newest first, each with its last error.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn recent_failures(&self, limit: i64) -> Result<Vec<RecentFailure>, StoreError> {
        Ok(sqlx::query_as!(
            RecentFailure,
            r#"-- recent_failures
            SELECT failed.id AS "id!", failed.kind AS "kind!", failed.account_id AS "account_id!",
                   failed.attempt AS "attempt!", failed.finished_at AS "finished_at!",
                   ended.class AS "class?", ended.error AS "error?"
            FROM (SELECT id, kind, account_id, attempt, finished_at FROM finished_jobs
                  WHERE state <> 4 AND (state, id) >= (5, 0) AND (state, id) < (6, 0)
                  ORDER BY state DESC, id DESC LIMIT $1) AS failed
            LEFT JOIN LATERAL (SELECT class, error FROM attempts WHERE attempts.job_id = failed.id
                               ORDER BY ended_at DESC LIMIT 1) AS ended ON true
            ORDER BY failed.id DESC"#,
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

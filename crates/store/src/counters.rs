//! Counts of jobs by kind and state: folded from appended deltas, never counted on a request's path.
//! Reading them is in `stats`; the appends are part of each change in `jobs`.

use crate::{Leadership, Store, StoreError};

/// A counter that differs from a recount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountDrift {
    /// The kind.
    pub kind: String,
    /// The state's number.
    pub state: i16,
    /// What the counter says.
    pub counted: i64,
    /// What the rows say.
    pub actual: i64,
}

impl Store {
    /// Folds the deltas appended so far; answers with their number. Idempotent: a delta is folded and deleted by one
    /// statement.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn fold_counters(&self, leadership: &Leadership, deltas_max: i64) -> Result<u64, StoreError> {
        let folded = sqlx::query_scalar!(
            r#"-- fold_counters
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE),
            taken AS (
                DELETE FROM job_count_deltas
                WHERE ctid = ANY (ARRAY(
                    SELECT ctid FROM job_count_deltas WHERE EXISTS (SELECT FROM led)
                    LIMIT $3 FOR UPDATE SKIP LOCKED))
                RETURNING kind, state, delta
            ), folded AS (
                INSERT INTO job_counts (kind, state, jobs)
                SELECT kind, state, sum(delta)::bigint FROM taken GROUP BY kind, state
                ON CONFLICT (kind, state) DO UPDATE SET jobs = job_counts.jobs + excluded.jobs
            )
            SELECT count(*) AS "folded!" FROM taken"#,
            leadership.term.0,
            leadership.holder,
            deltas_max,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(folded.unsigned_abs())
    }

    /// Recounts everything and lists what the counters have wrong. Reads every job: for audits, not for requests.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_drift(&self) -> Result<Vec<CountDrift>, StoreError> {
        Ok(sqlx::query_as!(
            CountDrift,
            r#"-- count_drift
            WITH counted AS (
                SELECT kind, state, sum(n)::bigint AS n FROM (
                    SELECT kind, state, jobs AS n FROM job_counts
                    UNION ALL SELECT kind, state, delta FROM job_count_deltas) AS c
                GROUP BY kind, state
            ), actual AS (
                SELECT kind, state, count(*) AS n FROM (
                    SELECT kind, state FROM jobs UNION ALL SELECT kind, state FROM finished_jobs) AS j
                GROUP BY kind, state
            )
            SELECT coalesce(counted.kind, actual.kind) AS "kind!", coalesce(counted.state, actual.state) AS "state!",
                   coalesce(counted.n, 0) AS "counted!", coalesce(actual.n, 0) AS "actual!"
            FROM counted FULL JOIN actual ON counted.kind = actual.kind AND counted.state = actual.state
            WHERE coalesce(counted.n, 0) <> coalesce(actual.n, 0)"#,
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

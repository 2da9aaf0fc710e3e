//! What the planner is told of how many jobs there are. Numbers for people are in `counters` and `throughput`.

use crate::{Leadership, Store, StoreError, partitions::leads};

/// Jobs below which any plan is a good one.
const JOBS_MIN: f64 = 500.0;
/// So many times more jobs than the statistics say are a reason to renew them: plans differ by orders of magnitude.
const GROWTH: f64 = 4.0;
/// Rows looked at, in hundreds: a tenth of what is usual, since that there are many is all that is asked.
const SAMPLE: &str = "SET LOCAL default_statistics_target = 10";

impl Store {
    /// How many jobs are unfinished, if that is many times what the statistics say. (They say -1 of a table that was never
    /// looked at.)
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn jobs_beyond_statistics(&self) -> Result<Option<i64>, StoreError> {
        let found = sqlx::query!(
            r#"-- jobs_beyond_statistics
            SELECT (coalesce((SELECT sum(jobs) FROM job_counts WHERE state IN (0, 1, 2, 3)), 0)
                    + coalesce((SELECT sum(delta) FROM job_count_deltas WHERE state IN (0, 1, 2, 3)), 0))::bigint AS "jobs!",
                   (SELECT reltuples::float8 FROM pg_class WHERE oid = 'jobs'::regclass) AS "known!""#
        )
        .fetch_one(&self.pool)
        .await?;
        #[expect(clippy::cast_precision_loss, reason = "compared roughly")]
        let jobs = found.jobs as f64;
        Ok((jobs > GROWTH * found.known.max(JOBS_MIN)).then_some(found.jobs))
    }

    /// Renews the statistics of jobs, with which every connection plans its statements anew. The ledger's owner may; for
    /// others the database only warns, and its own vacuum does it within a minute or so.
    ///
    /// # Errors
    /// [`StoreError::NotLeading`] when another leads by now.
    pub async fn renew_job_statistics(&self, leadership: &Leadership) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(SAMPLE).execute(&mut *tx).await?;
        sqlx::query("ANALYZE jobs").execute(&mut *tx).await?;
        // Last: a vacuum may keep the look at the table waiting, and the lead cannot be renewed while it is locked.
        if !leads(&mut tx, leadership).await? {
            return Err(StoreError::NotLeading);
        }
        tx.commit().await?;
        Ok(())
    }
}

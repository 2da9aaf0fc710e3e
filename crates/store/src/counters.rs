//! Counts of jobs by kind and state, and of groups' members: folded from appended deltas, never counted on a request's
//! path. Reading them is in `stats`, `groups` and `throughput`; the appends are part of each change in `jobs`.

use crate::{Leadership, Store, StoreError};

/// A counter that differs from a recount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountDrift {
    /// Of what: a kind's name, or `group` and its id.
    pub of: String,
    /// The state's number; of a group also `done` and `total`, the sums of its ended members' progress.
    pub what: String,
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
                RETURNING kind, state, delta, group_id, done, total, waited_ms, waited_ms_max, ran_ms, waited_buckets,
                          ran_buckets
            ), folded AS (
                INSERT INTO job_counts (kind, state, jobs)
                SELECT kind, state, sum(delta)::bigint FROM taken GROUP BY kind, state
                ON CONFLICT (kind, state) DO UPDATE SET jobs = job_counts.jobs + excluded.jobs
            ), of_group AS (
                SELECT group_id,
                       coalesce(sum(delta) FILTER (WHERE state = 0), 0)::bigint AS scheduled,
                       coalesce(sum(delta) FILTER (WHERE state = 1), 0)::bigint AS ready,
                       coalesce(sum(delta) FILTER (WHERE state = 2), 0)::bigint AS queued,
                       coalesce(sum(delta) FILTER (WHERE state = 3), 0)::bigint AS running,
                       coalesce(sum(delta) FILTER (WHERE state = 4), 0)::bigint AS succeeded,
                       coalesce(sum(delta) FILTER (WHERE state = 5), 0)::bigint AS failed,
                       coalesce(sum(delta) FILTER (WHERE state = 6), 0)::bigint AS cancelled,
                       coalesce(sum(done), 0)::bigint AS done, coalesce(sum(total), 0)::bigint AS total
                FROM taken WHERE group_id IS NOT NULL GROUP BY group_id
            ), folded_groups AS (
                UPDATE group_counts c
                SET scheduled = c.scheduled + g.scheduled, ready = c.ready + g.ready, queued = c.queued + g.queued,
                    running = c.running + g.running, succeeded = c.succeeded + g.succeeded,
                    failed = c.failed + g.failed, cancelled = c.cancelled + g.cancelled,
                    done = c.done + g.done, total = c.total + g.total
                FROM of_group g WHERE c.group_id = g.group_id
            ), placed AS (
                SELECT of.kind, one.waited, one.bucket, count(*) AS n
                FROM taken CROSS JOIN LATERAL (VALUES (taken.kind), ('')) AS of (kind) CROSS JOIN LATERAL (
                    SELECT true, unnest(taken.waited_buckets) UNION ALL SELECT false, unnest(taken.ran_buckets)
                ) AS one (waited, bucket)
                GROUP BY of.kind, one.waited, one.bucket
            ), spread AS (
                SELECT of.kind, of.waited, array_agg(coalesce(placed.n, 0) ORDER BY bucket) AS counts
                FROM (SELECT DISTINCT kind, waited FROM placed) AS of CROSS JOIN generate_series(0, 47) AS bucket
                LEFT JOIN placed USING (kind, waited, bucket)
                GROUP BY of.kind, of.waited
            ), timed AS (
                INSERT INTO job_stats (kind, step_secs, at, succeeded, failed, cancelled, waited_ms, waited_ms_max, ran_ms,
                                       waited_latencies, ran_latencies)
                SELECT of.kind, step.secs, date_bin(make_interval(secs => step.secs), $4::timestamptz, 'epoch'::timestamptz),
                       coalesce(sum(delta) FILTER (WHERE state = 4), 0)::bigint,
                       coalesce(sum(delta) FILTER (WHERE state = 5), 0)::bigint,
                       coalesce(sum(delta) FILTER (WHERE state = 6), 0)::bigint,
                       coalesce(sum(waited_ms), 0)::bigint, coalesce(max(waited_ms_max), 0), coalesce(sum(ran_ms), 0)::bigint,
                       (SELECT counts FROM spread WHERE spread.kind = of.kind AND waited),
                       (SELECT counts FROM spread WHERE spread.kind = of.kind AND NOT waited)
                FROM taken CROSS JOIN LATERAL (VALUES (taken.kind), ('')) AS of (kind)
                CROSS JOIN (VALUES (60), (900), (3600)) AS step (secs)
                WHERE state IN (4, 5, 6) AND delta > 0 GROUP BY of.kind, step.secs
                ON CONFLICT (kind, step_secs, at) DO UPDATE SET
                    succeeded = job_stats.succeeded + excluded.succeeded, failed = job_stats.failed + excluded.failed,
                    cancelled = job_stats.cancelled + excluded.cancelled,
                    waited_ms = job_stats.waited_ms + excluded.waited_ms, ran_ms = job_stats.ran_ms + excluded.ran_ms,
                    waited_ms_max = greatest(job_stats.waited_ms_max, excluded.waited_ms_max),
                    waited_latencies = add_latencies(job_stats.waited_latencies, excluded.waited_latencies),
                    ran_latencies = add_latencies(job_stats.ran_latencies, excluded.ran_latencies)
            )
            SELECT count(*) AS "folded!" FROM taken"#,
            leadership.term.0,
            leadership.holder,
            deltas_max,
            self.clock.now(),
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
        let mut drift = self.drift_of_kinds().await?;
        drift.extend(self.drift_of_groups().await?);
        Ok(drift)
    }

    async fn drift_of_kinds(&self) -> Result<Vec<CountDrift>, StoreError> {
        Ok(sqlx::query_as!(
            CountDrift,
            r#"-- drift_of_kinds
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
            SELECT coalesce(counted.kind, actual.kind) AS "of!", coalesce(counted.state, actual.state)::text AS "what!",
                   coalesce(counted.n, 0) AS "counted!", coalesce(actual.n, 0) AS "actual!"
            FROM counted FULL JOIN actual ON counted.kind = actual.kind AND counted.state = actual.state
            WHERE coalesce(counted.n, 0) <> coalesce(actual.n, 0)"#,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Of a group also the sums of its ended members' progress; members that were pruned count on.
    async fn drift_of_groups(&self) -> Result<Vec<CountDrift>, StoreError> {
        Ok(sqlx::query_as!(
            CountDrift,
            r#"-- drift_of_groups
            WITH counted AS (
                SELECT group_id, what, sum(n)::bigint AS n FROM (
                    SELECT c.group_id, v.what, v.n FROM group_counts c CROSS JOIN LATERAL (
                        VALUES ('0', c.scheduled), ('1', c.ready), ('2', c.queued), ('3', c.running), ('4', c.succeeded),
                               ('5', c.failed), ('6', c.cancelled), ('done', c.done), ('total', c.total)) AS v (what, n)
                    UNION ALL
                    SELECT d.group_id, v.what, v.n FROM job_count_deltas d CROSS JOIN LATERAL (
                        VALUES (d.state::text, d.delta), ('done', d.done), ('total', d.total)) AS v (what, n)
                    WHERE d.group_id IS NOT NULL) AS c
                GROUP BY group_id, what
            ), member AS (
                SELECT group_id, state, 1 AS jobs, 0 AS done, 0 AS total FROM jobs WHERE group_id IS NOT NULL
                UNION ALL SELECT group_id, state, 1, progress_done(progress), progress_total(progress)
                FROM finished_jobs WHERE group_id IS NOT NULL
                UNION ALL SELECT group_id, state, jobs, done, total FROM pruned_members
            ), actual AS (
                SELECT m.group_id, v.what, sum(v.n)::bigint AS n FROM member m CROSS JOIN LATERAL (
                    VALUES (m.state::text, m.jobs), ('done', m.done), ('total', m.total)) AS v (what, n)
                GROUP BY m.group_id, v.what
            )
            SELECT 'group ' || coalesce(counted.group_id, actual.group_id) AS "of!",
                   coalesce(counted.what, actual.what) AS "what!",
                   coalesce(counted.n, 0) AS "counted!", coalesce(actual.n, 0) AS "actual!"
            FROM counted FULL JOIN actual ON counted.group_id = actual.group_id AND counted.what = actual.what
            WHERE coalesce(counted.n, 0) <> coalesce(actual.n, 0)"#,
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

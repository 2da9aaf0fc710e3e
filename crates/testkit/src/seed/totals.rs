//! What is kept beside the jobs of a seed: counters, numbers by the minute, groups of errors, groups of jobs with their
//! counts, and what operators did.

use super::{Seed, run};
use sqlx::PgConnection;

/// Steps of the statistics in seconds, and for how many hours each is kept.
const STEPS: [(i32, i32); 3] = [(60, 6), (900, 50), (3_600, 360)];

impl Seed {
    /// The groups and their counts, operations and acts.
    pub(super) async fn groups_and_acts(&self, sql: &mut PgConnection) -> anyhow::Result<()> {
        let (now, groups) = (self.at(), self.groups());
        // Nobody waits for their end: what is unfinished of the first never ends here.
        run(
            sql,
            format!(
                "INSERT INTO groups (id, name, account_id, state, state_since, created_by, created_at, request_id)
                 SELECT n, 'back-fill ' || n, 1 + n % {accounts}, CASE WHEN n = 1 THEN 'open' WHEN n % 50 = 2 THEN 'failed'
                     WHEN n % 50 = 3 THEN 'cancelled' ELSE 'finished' END, {now} - n * interval '1 min', 'seed',
                     {now} - interval '20 days', gen_random_uuid()
                 FROM generate_series(1, {groups}) AS n;
                 SELECT setval(pg_get_serial_sequence('groups', 'id'), {groups});
                 INSERT INTO group_counts (group_id, scheduled, ready, running, succeeded, failed, cancelled, done, total)
                 SELECT group_id, sum((state = 0)::int), sum((state = 1)::int), sum((state = 3)::int),
                     sum((state = 4)::int), sum((state = 5)::int), sum((state = 6)::int), sum(done), sum(total)
                 FROM (SELECT group_id, state, 0 AS done, 0 AS total FROM jobs WHERE group_id IS NOT NULL
                       UNION ALL SELECT group_id, state, progress_done(progress), progress_total(progress)
                       FROM finished_jobs WHERE group_id IS NOT NULL) AS member GROUP BY group_id;
                 INSERT INTO group_counts (group_id) SELECT id FROM groups ON CONFLICT DO NOTHING",
                accounts = self.accounts,
            ),
        )
        .await?;
        run(
            sql,
            format!(
                "INSERT INTO operations (act, search, state, below_id, expected, expected_is_exact, applied, skipped, per_second,
                     next_at, created_by, reason, created_at, ended_at)
                 SELECT 'retry', 'state:failed', 'done', 0, 5000, true, 5000, 0, 200, {now}, 'seed', 'outage',
                     {now} - n * interval '1 h', {now} - n * interval '1 h' FROM generate_series(300, 1, -1) AS n;
                 INSERT INTO operation_items (operation_id, job_id, applied)
                 SELECT max(operations.id), n, n % 9 <> 0 FROM operations, generate_series(1, 5000) AS n GROUP BY n;
                 INSERT INTO audit (at, actor_kind, actor_id, actor, role, action, subject, key, before, after, reason,
                     agent, outcome)
                 SELECT {now} - n * interval '1 min', 'user', '1', 'ada', 'operator', 'retry_job', 'job',
                     (1 + n % 5000)::text, '{{\"state\": \"failed\"}}'::jsonb, '{{\"state\": \"ready\"}}'::jsonb, 'outage', '', 'done'
                 FROM generate_series(500, 1, -1) AS n",
            ),
        )
        .await
    }

    /// Counts of everything, as folding would have left them.
    pub(super) async fn totals(&self, sql: &mut PgConnection) -> anyhow::Result<()> {
        run(
            sql,
            "INSERT INTO job_counts (kind, state, jobs)
             SELECT kind, state, count(*) FROM (
                 SELECT kind, state FROM jobs UNION ALL SELECT kind, state FROM finished_jobs) AS job GROUP BY kind, state",
        )
        .await?;
        let now = self.at();
        for (step, hours) in STEPS {
            run(
                sql,
                format!(
                    "INSERT INTO job_stats (kind, step_secs, at, succeeded, failed, cancelled, waited_ms, waited_ms_max, ran_ms)
                     SELECT of.kind, {step}, at, sum(succeeded), sum(failed), sum(cancelled), sum(waited), max(waited_max), sum(ran)
                     FROM (
                         SELECT kind, date_bin(interval '{step} s', finished_at, 'epoch'::timestamptz) AS at,
                             sum((state = 4)::int) AS succeeded, sum((state = 5)::int) AS failed,
                             sum((state = 6)::int) AS cancelled,
                             coalesce(sum(extract(epoch FROM claimed_at - ready_at) * 1000) FILTER (WHERE state = 4), 0)::bigint
                                 AS waited,
                             coalesce(max(extract(epoch FROM claimed_at - ready_at) * 1000) FILTER (WHERE state = 4), 0)::bigint
                                 AS waited_max,
                             coalesce(sum(extract(epoch FROM finished_at - claimed_at) * 1000) FILTER (WHERE state = 4), 0)::bigint
                                 AS ran
                         FROM finished_jobs WHERE finished_at > {now} - interval '{hours} h' GROUP BY 1, 2) AS each
                     CROSS JOIN LATERAL (VALUES (each.kind), ('')) AS of (kind) GROUP BY 1, 3"
                ),
            )
            .await?;
        }
        run(
            sql,
            format!(
                "INSERT INTO error_groups (fingerprint, kind, class, title, error, job_id, first_seen_at, last_seen_at,
                     first_version, last_version, attempts, failed)
                 SELECT e.fingerprint, e.kind, e.class, e.title, e.error, max(job_id), min(ended_at), max(ended_at), '1.0', '1.1',
                     count(*), count(*) FILTER (WHERE failed)
                 FROM attempts JOIN seeded_errors e USING (fingerprint)
                 GROUP BY e.fingerprint, e.kind, e.class, e.title, e.error;
                 INSERT INTO error_hours (fingerprint, hour, attempts)
                 SELECT fingerprint, date_trunc('hour', ended_at, 'UTC'), count(*) FROM attempts
                 WHERE ended_at > {now} - interval '8 days' GROUP BY 1, 2;
                 DROP TABLE seeded_errors"
            ),
        )
        .await
    }
}

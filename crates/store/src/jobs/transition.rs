//! Where a job changes state: every statement that does, but for the claims, which are in `claim`, and what operators do by
//! hand, which is in `by_hand` and `retry`.
//! The legal changes are data in `domain::state`; a test runs every state against every event here and compares.
//! Each change names the states that it leaves, and what an attempt writes is fenced by its token: a row that
//! moved on meanwhile is simply not in the answer, which callers read as [`Outcome::Stale`].

use super::{
    claimed::{AttemptKey, Outcome},
    fate::{Ends, FailedAttempt, Rescue, Settled},
    lost::{drop_empty_leases, expired_leases, lock_jobs_of},
};
use crate::{Leadership, Store, StoreError, Tx};
use chrono::{DateTime, Utc};
use domain::{ConnectionId, JobId, Kind, RetryPolicy};
use std::collections::HashSet;
use uuid::Uuid;

/// A statement that moves rows from `jobs` to `finished_jobs`, with the one list of the columns that both have.
/// `$ended` begins it and deletes the rows as `ended`; they arrive with `$state` and `$now`; `$rest` is what else the
/// statement does, and `$checked` the macro that reads its answer. PostgreSQL 15 has no way to move a row without naming its columns that survives a new column.
macro_rules! moving_to_finished {
    ($checked:ident, $name:literal, $ended:literal, $state:literal, $now:literal, $rest:literal, $($argument:expr),* $(,)?) => {
        sqlx::$checked!(
            "-- " + $name + "\nWITH " + $ended + ", kept AS (
                INSERT INTO finished_jobs (state, finished_at, id, account_id, due_at, created_at, ready_at, priority,
                    attempt, attempts_max, kind, request_id, payload, connection_id, schedule_id, unique_key,
                    deadline_at, traceparent, queued_at, checkpoint, progress, sent_at, claimed_at, servant_id, group_id)
                SELECT " + $state + ", " + $now + ", id, account_id, due_at, created_at, ready_at, priority,
                    attempt, attempts_max, kind, request_id, payload, connection_id, schedule_id, unique_key,
                    deadline_at, traceparent, queued_at, checkpoint, progress, sent_at, claimed_at, servant_id, group_id
                FROM ended
            ), " + $rest,
            $($argument),*
        )
    };
}

impl Store {
    /// [`JobEvent::Promote`](domain::JobEvent::Promote): jobs whose time has come become ready, `limit` at most.
    /// Answers with their kinds, each once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn promote(&self, leadership: &Leadership, limit: i64) -> Result<Vec<String>, StoreError> {
        let kinds = sqlx::query_scalar!(
            r#"-- promote
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE),
            due AS (
                SELECT id FROM jobs
                WHERE ready_at IS NULL AND due_at <= $3 AND state = 0 AND EXISTS (SELECT FROM led)
                ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED
            ), promoted AS (
                UPDATE jobs SET state = 1, ready_at = $3 FROM due WHERE jobs.id = due.id RETURNING jobs.kind, jobs.group_id
            ), counted AS (
                INSERT INTO job_count_deltas (kind, state, delta, group_id)
                SELECT kind, 0, -count(*), group_id FROM promoted GROUP BY kind, group_id
                UNION ALL SELECT kind, 1, count(*), group_id FROM promoted GROUP BY kind, group_id
            )
            SELECT DISTINCT kind AS "kind!" FROM promoted"#,
            leadership.term.0,
            leadership.holder,
            self.clock.now(),
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(kinds)
    }

    /// [`JobEvent::SendAgain`](domain::JobEvent::SendAgain): jobs queued longer ago than `bound_secs`, doubled with
    /// each time they were sent (at most 8 times), go to the outbox again. Looks at `dispatches_max` dispatches that
    /// old; those whose jobs have all been claimed are done with. Answers with the number of jobs.
    ///
    /// It waits for a claim that is just being written: skipped rows would be forgotten together with their dispatch.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn send_again(
        &self,
        leadership: &Leadership,
        kind: &Kind,
        bound_secs: u32,
        dispatches_max: i64,
    ) -> Result<u64, StoreError> {
        let sent = sqlx::query_scalar!(
            r#"-- send_again
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE),
            late AS (
                SELECT id, queued_at, job_ids FROM dispatches
                WHERE kind = $3 AND queued_at < $4::timestamptz - make_interval(secs => $5)
                  AND queued_at < $4::timestamptz - make_interval(secs => $5) * (1 << least(sends - 1, 3))
                  AND EXISTS (SELECT FROM led)
                ORDER BY queued_at LIMIT $6 FOR UPDATE SKIP LOCKED
            ), stuck AS (
                SELECT jobs.id FROM late CROSS JOIN LATERAL unnest(late.job_ids) AS member (id)
                JOIN jobs ON jobs.id = member.id AND jobs.state = 2 AND jobs.queued_at = late.queued_at
                ORDER BY jobs.id FOR UPDATE OF jobs
            ), marked AS (
                UPDATE jobs SET queued_at = $4, sends = least(sends + 1, 1000)
                FROM stuck WHERE jobs.id = stuck.id
                RETURNING jobs.id, jobs.account_id, jobs.sends
            ), posted AS (
                INSERT INTO outbox (job_id, account_id, kind, queued_at) SELECT id, account_id, $3, $4 FROM marked
            ), noted AS (
                INSERT INTO dispatches (kind, queued_at, sends, job_ids)
                SELECT $3, $4, sends, array_agg(id) FROM marked GROUP BY sends
            ), done AS (
                DELETE FROM dispatches USING late WHERE dispatches.id = late.id
            )
            SELECT count(*) AS "sent!" FROM marked"#,
            leadership.term.0,
            leadership.holder,
            kind.as_str(),
            self.clock.now(),
            f64::from(bound_secs),
            dispatches_max,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(sent.unsigned_abs())
    }

    /// [`JobEvent::Hold`](domain::JobEvent::Hold) of what is queued, where there is no queue any more: it is ready again.
    /// Looks at `dispatches_max` dispatches. Answers with the number of jobs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_back(
        &self,
        leadership: &Leadership,
        kind: &Kind,
        dispatches_max: i64,
    ) -> Result<u64, StoreError> {
        let taken = sqlx::query_scalar!(
            r#"-- take_back
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE),
            dispatch AS (
                SELECT id, job_ids FROM dispatches WHERE kind = $3 AND EXISTS (SELECT FROM led)
                ORDER BY queued_at LIMIT $4 FOR UPDATE SKIP LOCKED
            ), queued AS (
                SELECT jobs.id FROM dispatch CROSS JOIN LATERAL unnest(dispatch.job_ids) AS member (id)
                JOIN jobs ON jobs.id = member.id AND jobs.state = 2
                ORDER BY jobs.id FOR UPDATE OF jobs
            ), ready AS (
                UPDATE jobs SET state = 1, queued_at = NULL, sends = 0 FROM queued WHERE jobs.id = queued.id
                RETURNING jobs.id, jobs.group_id
            ), unsent AS (
                DELETE FROM outbox WHERE kind = $3 AND job_id IN (SELECT id FROM ready)
            ), done AS (
                DELETE FROM dispatches USING dispatch WHERE dispatches.id = dispatch.id
            ), counted AS (
                INSERT INTO job_count_deltas (kind, state, delta, group_id)
                SELECT $3, 2, -count(*), group_id FROM ready GROUP BY group_id
                UNION ALL SELECT $3, 1, count(*), group_id FROM ready GROUP BY group_id
            )
            SELECT count(*) AS "jobs!" FROM ready"#,
            leadership.term.0,
            leadership.holder,
            kind.as_str(),
            dispatches_max,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(taken.unsigned_abs())
    }

    /// [`JobEvent::Succeed`](domain::JobEvent::Succeed) for attempts without effects, batched. Answers with the jobs
    /// that it applied to; the others are stale.
    ///
    /// # Errors
    /// [`StoreError`]; the same call may be made again.
    pub async fn succeed(&self, attempts: &[AttemptKey]) -> Result<HashSet<JobId>, StoreError> {
        let mut conn = self.pool.acquire().await?;
        succeed(&mut conn, attempts, self.clock.now()).await
    }

    /// [`JobEvent::Succeed`](domain::JobEvent::Succeed) as part of the effects' own transaction: both commit or neither.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn succeed_in(&self, tx: &mut Tx, attempt: AttemptKey) -> Result<Outcome, StoreError> {
        let applied = succeed(&mut tx.inner, &[attempt], self.clock.now()).await?;
        Ok(if applied.is_empty() { Outcome::Stale } else { Outcome::Applied })
    }

    /// Ends attempts that did not succeed ([`JobEvent::RetryLater`](domain::JobEvent::RetryLater) and its kin, by
    /// their [`Fate`](crate::Fate)), batched. Answers with the jobs that it applied to, the others are stale, and with the
    /// connections that this parked.
    ///
    /// # Errors
    /// [`StoreError`]; the same call may be made again.
    pub async fn settle(&self, attempts: &[FailedAttempt]) -> Result<Settled, StoreError> {
        let mut conn = self.pool.acquire().await?;
        settle(&mut conn, attempts, self.clock.now()).await
    }

    /// [`JobEvent::Rescue`](domain::JobEvent::Rescue): the jobs of leases that ran out are ready again, or failed
    /// when that was their last attempt, also by `retry` of their kind. A row that a (stopped) servant's open transaction holds is left for the next
    /// round, and so is its lease: PostgreSQL ends that transaction within seconds.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rescue(
        &self,
        leadership: &Leadership,
        leases_max: i64,
        retry: impl Fn(&str) -> RetryPolicy,
    ) -> Result<Rescue, StoreError> {
        let now = self.clock.now();
        let mut tx = self.pool.begin().await?;
        let leases = expired_leases(&mut tx, leadership, now, leases_max).await?;
        if leases.is_empty() {
            return Ok(Rescue::default());
        }
        let held = lock_jobs_of(&mut tx, &leases, retry).await?;
        let (attempts, jobs): (Vec<_>, Vec<_>) = held.into_iter().unzip();
        settle(&mut tx, &attempts, now).await?;
        let dropped = drop_empty_leases(&mut tx, &leases).await?;
        tx.commit().await?;
        // Leases whose jobs' rows somebody holds are found again: they are no reason to look at once.
        let is_full =
            i64::try_from(leases.len()).is_ok_and(|leases| leases >= leases_max) && (dropped > 0 || !jobs.is_empty());
        Ok(Rescue { jobs, is_full })
    }

    /// [`JobEvent::Cancel`](domain::JobEvent::Cancel) by a schedule: pending jobs end at once, running ones are asked to
    /// stop (their servant ends them). Answers with the jobs that it applied to.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cancel_jobs(&self, jobs: &[JobId]) -> Result<Vec<JobId>, StoreError> {
        let mut conn = self.pool.acquire().await?;
        cancel(&mut conn, jobs, self.clock.now()).await
    }
}

/// Ends pending jobs and asks running ones to stop. Answers with those that there are.
pub(crate) async fn cancel(
    conn: &mut sqlx::PgConnection,
    jobs: &[JobId],
    now: DateTime<Utc>,
) -> Result<Vec<JobId>, StoreError> {
    let ids: Vec<i64> = jobs.iter().map(|id| id.0).collect();
    let cancelled = moving_to_finished!(
        query_scalar,
        "cancel_jobs",
        "found AS (
            SELECT id, state FROM jobs WHERE id = ANY($1) ORDER BY id FOR UPDATE
        ), ended AS (
            DELETE FROM jobs USING found WHERE jobs.id = found.id AND found.state IN (0, 1, 2)
            RETURNING jobs.*
        )",
        "6",
        "$2",
        "asked AS (
            UPDATE jobs SET cancel_requested = true FROM found WHERE jobs.id = found.id AND found.state = 3
        ), counted AS (
            INSERT INTO job_count_deltas (kind, state, delta, group_id, done, total)
            SELECT kind, state, -count(*), group_id, NULL::bigint, NULL::bigint FROM ended GROUP BY kind, state, group_id
            UNION ALL SELECT kind, 6, count(*), group_id,
                sum(progress_done(progress)) FILTER (WHERE group_id IS NOT NULL),
                sum(progress_total(progress)) FILTER (WHERE group_id IS NOT NULL) FROM ended GROUP BY kind, group_id
        )
        SELECT id AS \"id!\" FROM found",
        &ids,
        now,
    )
    .fetch_all(conn)
    .await?;
    Ok(cancelled.into_iter().map(JobId).collect())
}

/// Moves running jobs to `finished_jobs` as succeeded, where the token is still theirs.
async fn succeed(
    conn: &mut sqlx::PgConnection,
    attempts: &[AttemptKey],
    now: DateTime<Utc>,
) -> Result<HashSet<JobId>, StoreError> {
    let ids: Vec<i64> = attempts.iter().map(|a| a.id.0).collect();
    let tokens: Vec<Uuid> = attempts.iter().map(|a| a.token.0).collect();
    let applied = moving_to_finished!(
        query_scalar,
        "succeed",
        "ended AS (
            DELETE FROM jobs USING unnest($1::bigint[], $2::uuid[]) AS t (id, token)
            WHERE jobs.id = t.id AND jobs.state = 3 AND jobs.attempt_token = t.token
            RETURNING jobs.*
        )",
        "4",
        "$3",
        "counted AS (
            INSERT INTO job_count_deltas (kind, state, delta, group_id, done, total, waited_ms, waited_ms_max, ran_ms,
                                          waited_buckets, ran_buckets)
            SELECT kind, 3, -count(*), group_id, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint,
                   NULL::smallint[], NULL::smallint[]
            FROM ended GROUP BY kind, group_id
            UNION ALL SELECT kind, 4, count(*), group_id,
                sum(progress_done(progress)) FILTER (WHERE group_id IS NOT NULL),
                sum(progress_total(progress)) FILTER (WHERE group_id IS NOT NULL),
                (extract(epoch FROM sum(claimed_at - ready_at)) * 1000)::bigint,
                (extract(epoch FROM max(claimed_at - ready_at)) * 1000)::bigint,
                (extract(epoch FROM sum($3 - claimed_at)) * 1000)::bigint,
                array_agg(latency_bucket(claimed_at - ready_at)) FILTER (WHERE ready_at IS NOT NULL),
                array_agg(latency_bucket($3 - claimed_at)) FROM ended GROUP BY kind, group_id
        ), outcomes AS (
            INSERT INTO connection_outcomes (connection_id, started_at, ended_at, succeeded, failed)
            SELECT connection_id, max(claimed_at), $3, count(*)::integer, 0
            FROM ended WHERE connection_id IS NOT NULL GROUP BY connection_id
        )
        SELECT coalesce(array_agg(id), '{}') AS \"ids!\" FROM ended",
        &ids,
        &tokens,
        now,
    )
    .fetch_one(conn)
    .await?;
    Ok(applied.into_iter().map(JobId).collect())
}

/// Ends attempts by their fate, where the token is still theirs, and notes why.
async fn settle(
    conn: &mut sqlx::PgConnection,
    attempts: &[FailedAttempt],
    now: DateTime<Utc>,
) -> Result<Settled, StoreError> {
    let ends = Ends::of(attempts);
    let rows = moving_to_finished!(
        query,
        "settle",
        "held AS (
            SELECT jobs.id, t.charged, t.due, t.class, t.error, t.parks, t.title,
                   t.digest || '-' || jobs.kind AS fingerprint,
                   CASE WHEN t.parks AND NOT EXISTS (SELECT FROM connections WHERE connections.id = jobs.connection_id)
                        THEN 5::smallint ELSE t.to_state END AS to_state,
                   jobs.attempt, jobs.servant_id, jobs.claimed_at, jobs.kind, jobs.connection_id, jobs.group_id,
                   CASE WHEN jobs.group_id IS NOT NULL AND t.to_state IN (5, 6) THEN jobs.progress END AS progress
            FROM unnest($1::bigint[], $2::uuid[], $3::smallint[], $4::boolean[], $5::timestamptz[], $6::text[],
                        $7::text[], $9::boolean[], $10::text[], $11::text[])
                 AS t (id, token, to_state, charged, due, class, error, parks, digest, title)
            JOIN jobs ON jobs.id = t.id AND jobs.attempt_token = t.token AND jobs.state = 3
            ORDER BY jobs.id FOR UPDATE OF jobs
        ), ended AS (
            DELETE FROM jobs USING held WHERE jobs.id = held.id AND held.to_state IN (5, 6)
            RETURNING jobs.*, held.to_state
        )",
        "to_state",
        "$8",
        "again AS (
            UPDATE jobs
            SET state = held.to_state, attempt = jobs.attempt - CASE WHEN held.charged THEN 0 ELSE 1 END,
                due_at = coalesce(held.due, jobs.due_at),
                ready_at = CASE WHEN held.to_state = 1 THEN $8 END,
                queued_at = NULL, sent_at = NULL, attempt_token = NULL, lease_id = NULL, claimed_at = NULL
            FROM held WHERE jobs.id = held.id AND held.to_state IN (0, 1)
        ), parked AS (
            UPDATE connections SET state = 'needs_reauth', state_reason = broken.reason, state_since = $8
            FROM (SELECT DISTINCT ON (connection_id) connection_id, class || ': ' || error AS reason
                  FROM held WHERE parks ORDER BY connection_id, id) AS broken
            WHERE connections.id = broken.connection_id AND connections.state = 'active'
            RETURNING connections.id, connections.state_reason
        ), told AS (
            INSERT INTO connection_events (connection_id, what, by, reason, at)
            SELECT id, 'needs_reauth', 'servant', state_reason, $8 FROM parked
        ), outcomes AS (
            INSERT INTO connection_outcomes (connection_id, started_at, ended_at, succeeded, failed)
            SELECT connection_id, max(claimed_at), $8, 0, count(*)::integer
            FROM held WHERE connection_id IS NOT NULL AND class = 'transient' GROUP BY connection_id
        ), noted AS (
            INSERT INTO attempts (job_id, attempt, class, error, servant_id, claimed_at, ended_at, fingerprint, failed)
            SELECT id, attempt, class, error, servant_id, claimed_at, $8, fingerprint, to_state = 5
            FROM held WHERE class IS NOT NULL
        ), grouped AS (
            INSERT INTO error_deltas (fingerprint, attempts, failed, at, kind, class, title, error, servant_id, job_id)
            SELECT fingerprint, count(*), count(*) FILTER (WHERE to_state = 5), $8, min(kind), min(class), min(title),
                   (array_agg(error))[1], max(servant_id), max(id)
            FROM held WHERE class IS NOT NULL GROUP BY fingerprint
        ), counted AS (
            INSERT INTO job_count_deltas (kind, state, delta, group_id, done, total)
            SELECT kind, 3, -count(*), group_id, NULL::bigint, NULL::bigint FROM held GROUP BY kind, group_id
            UNION ALL SELECT kind, to_state, count(*), group_id,
                sum(progress_done(progress)) FILTER (WHERE progress IS NOT NULL),
                sum(progress_total(progress)) FILTER (WHERE progress IS NOT NULL)
            FROM held GROUP BY kind, to_state, group_id
        )
        SELECT held.id AS \"id!\", parked.id AS \"parked?\"
        FROM held LEFT JOIN parked ON parked.id = held.connection_id",
        &ends.ids,
        &ends.tokens,
        &ends.states,
        &ends.charged,
        &ends.due as &[Option<DateTime<Utc>>],
        &ends.classes as &[Option<&str>],
        &ends.errors as &[Option<&str>],
        now,
        &ends.parks,
        &ends.digests as &[Option<String>],
        &ends.titles as &[Option<String>],
    )
    .fetch_all(conn)
    .await?;
    let mut settled = Settled::default();
    for row in rows {
        settled.note(JobId(row.id), row.parked.map(ConnectionId));
    }
    Ok(settled)
}

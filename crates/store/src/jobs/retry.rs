//! [`JobEvent::Retry`](domain::JobEvent::Retry): finished jobs that did not succeed are made unfinished again, by an
//! operator's hand or as a part of a bulk operation. All other changes of state are in `transition`, `claim` and `by_hand`.

use crate::{
    StoreError,
    groups::{await_again, lock_groups_of},
};
use chrono::{DateTime, Utc};
use domain::JobId;

/// Starts failed and cancelled jobs anew, in a transaction. Answers with those that it applied to.
pub(crate) async fn retry(
    conn: &mut sqlx::PgConnection,
    jobs: &[JobId],
    now: DateTime<Utc>,
) -> Result<Vec<JobId>, StoreError> {
    let ids: Vec<i64> = jobs.iter().map(|id| id.0).collect();
    let closed = lock_groups_of(conn, &ids).await?;
    let retried = sqlx::query!(
        r#"-- retry_jobs
        WITH found AS (
            SELECT id, finished_at FROM finished_jobs WHERE id = ANY($1) AND state IN (5, 6)
              AND (group_id IS NULL OR group_id <> ALL($3))
              AND NOT EXISTS (SELECT FROM jobs WHERE jobs.kind = finished_jobs.kind
                              AND jobs.unique_key = finished_jobs.unique_key)
              AND NOT EXISTS (SELECT FROM finished_jobs newer
                              WHERE newer.id = ANY($1) AND newer.state IN (5, 6) AND newer.id > finished_jobs.id
                                AND newer.kind = finished_jobs.kind AND newer.unique_key = finished_jobs.unique_key)
            ORDER BY id FOR UPDATE
        ), taken AS (
            DELETE FROM finished_jobs f USING found
            WHERE f.id = found.id AND f.finished_at = found.finished_at
            RETURNING f.*
        ), again AS (
            INSERT INTO jobs (id, account_id, due_at, created_at, ready_at, state, priority, attempts_max, kind,
                request_id, payload, connection_id, schedule_id, unique_key, deadline_at, traceparent, checkpoint, progress,
                group_id)
            SELECT id, account_id, $2, created_at, $2, 1, priority, attempts_max, kind,
                request_id, payload, connection_id, schedule_id, unique_key, NULL, traceparent, checkpoint, progress, group_id
            FROM taken
        ), counted AS (
            INSERT INTO job_count_deltas (kind, state, delta, group_id, done, total)
            SELECT kind, state, -count(*), group_id,
                -sum(progress_done(progress)) FILTER (WHERE group_id IS NOT NULL),
                -sum(progress_total(progress)) FILTER (WHERE group_id IS NOT NULL)
            FROM taken GROUP BY kind, state, group_id
            UNION ALL SELECT kind, 1, count(*), group_id, NULL, NULL FROM taken GROUP BY kind, group_id
        ), forgiven AS (
            UPDATE attempts SET failed = false FROM taken WHERE attempts.job_id = taken.id AND attempts.failed
            RETURNING attempts.fingerprint
        ), told AS (
            INSERT INTO error_deltas (fingerprint, attempts, failed, at)
            SELECT fingerprint, 0, -count(*), $2 FROM forgiven WHERE fingerprint IS NOT NULL GROUP BY fingerprint
        )
        SELECT id AS "id!", group_id FROM taken"#,
        &ids,
        now,
        &closed,
    )
    .fetch_all(&mut *conn)
    .await?;
    let groups: Vec<i64> = retried.iter().filter_map(|row| row.group_id).collect();
    if !groups.is_empty() {
        await_again(conn, &groups, now).await?;
    }
    Ok(retried.into_iter().map(|row| JobId(row.id)).collect())
}

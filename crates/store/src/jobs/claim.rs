//! Where a servant takes jobs: straight from the table, or what the queue delivered. The only changes of state that are
//! not in `transition`; the rules there hold here. Both honour the pauses in their statement, which evaluates them once.

use super::claimed::{AttemptKey, ClaimedJob, Delivered, attempt_number};
use crate::{Store, StoreError};
use chrono::{DateTime, Utc};
use domain::{AccountId, AttemptToken, ConnectionId, GroupId, JobId, Kind, ServantId};
use uuid::Uuid;

macro_rules! claimed_job {
    ($row:expr, $token:expr) => {{
        let row = $row;
        ClaimedJob {
            key: AttemptKey { id: JobId(row.id), token: $token },
            attempt: attempt_number(row.attempt),
            attempts_max: attempt_number(row.attempts_max),
            account: AccountId(row.account_id),
            connection: row.connection_id.map(ConnectionId),
            group: row.group_id.map(GroupId),
            request_id: row.request_id,
            traceparent: row.traceparent,
            payload: row.payload,
            deadline_at: row.deadline_at,
            due_at: row.due_at,
            checkpoint: row.checkpoint,
        }
    }};
}

impl Store {
    /// [`JobEvent::Claim`](domain::JobEvent::Claim) without a broker: a servant takes up to `limit` due jobs of its
    /// kind that nothing pauses, by priority and then by the time since which they are ready.
    ///
    /// # Errors
    /// [`StoreError`]; when the answer was lost, the lease of what was claimed runs out and the jobs run again.
    pub async fn claim_ready(
        &self,
        servant: ServantId,
        kind: &Kind,
        limit: i64,
        until: DateTime<Utc>,
    ) -> Result<Vec<ClaimedJob>, StoreError> {
        let token = AttemptToken(Uuid::new_v4());
        let rows = sqlx::query!(
            r#"-- claim_ready
            WITH pause AS MATERIALIZED (
                SELECT everything OR $1 = ANY(kinds) AS of_kind, accounts, connections, groups FROM pauses_in_force
            ), due AS (
                SELECT id, state AS was FROM jobs
                WHERE kind = $1 AND ready_at IS NOT NULL AND state IN (1, 2)
                  AND NOT (SELECT of_kind FROM pause)
                  AND account_id <> ALL ((SELECT accounts FROM pause)::bigint[])
                  AND (connection_id IS NULL OR connection_id <> ALL ((SELECT connections FROM pause)::bigint[]))
                  AND (group_id IS NULL OR group_id <> ALL ((SELECT groups FROM pause)::bigint[]))
                ORDER BY priority, ready_at, id LIMIT $2 FOR UPDATE SKIP LOCKED
            ), lease AS (
                INSERT INTO leases (servant_id, until, job_ids)
                SELECT $3, $5, array_agg(id) FROM due HAVING count(*) > 0
                RETURNING id
            ), claimed AS (
                UPDATE jobs
                SET state = 3, attempt = attempt + 1, attempt_token = $6, servant_id = $3,
                    lease_id = (SELECT id FROM lease), claimed_at = $4
                FROM due WHERE jobs.id = due.id
                RETURNING jobs.id, attempt, attempts_max, account_id, connection_id, request_id, traceparent,
                          payload::text AS payload, deadline_at, due_at, checkpoint, group_id, due.was
            ), counted AS (
                INSERT INTO job_count_deltas (kind, state, delta, group_id)
                SELECT $1, was, -count(*), group_id FROM claimed GROUP BY was, group_id
                UNION ALL SELECT $1, 3, count(*), group_id FROM claimed GROUP BY group_id
            )
            SELECT id AS "id!", attempt AS "attempt!", attempts_max AS "attempts_max!", account_id AS "account_id!",
                   connection_id, request_id AS "request_id!", traceparent, payload AS "payload!", deadline_at, due_at AS "due_at!",
                   checkpoint, group_id
            FROM claimed"#,
            kind.as_str(),
            limit,
            servant.0,
            self.clock.now(),
            until,
            token.0,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| claimed_job!(row, token)).collect())
    }

    /// [`JobEvent::Claim`](domain::JobEvent::Claim) of what the queue delivered, in one statement. Ids that are not
    /// queued (duplicates, cancelled jobs, ids of another kind) are not in the answer; their messages are deleted.
    ///
    /// Nor are paused jobs ([`JobEvent::Hold`](domain::JobEvent::Hold)): they are ready again, so that the end of the
    /// pause dispatches them at once, and until then their place in the window is somebody else's.
    ///
    /// # Errors
    /// [`StoreError`]; when the answer was lost, the lease of what was claimed runs out and the jobs run again.
    pub async fn claim_delivered(
        &self,
        servant: ServantId,
        kind: &Kind,
        delivered: &[Delivered],
        until: DateTime<Utc>,
    ) -> Result<Vec<ClaimedJob>, StoreError> {
        let ids: Vec<i64> = delivered.iter().map(|d| d.id.0).collect();
        let sent: Vec<DateTime<Utc>> = delivered.iter().map(|d| d.sent_at).collect();
        let token = AttemptToken(Uuid::new_v4());
        let rows = sqlx::query!(
            r#"-- claim_delivered
            WITH given AS (
                SELECT id, min(sent_at) AS sent_at FROM unnest($1::bigint[], $2::timestamptz[]) AS t (id, sent_at)
                GROUP BY id
            ), pause AS MATERIALIZED (
                SELECT everything OR $3 = ANY(kinds) AS of_kind, accounts, connections, groups FROM pauses_in_force
            ), queued AS (
                SELECT jobs.id, given.sent_at,
                       (SELECT of_kind FROM pause)
                       OR jobs.account_id = ANY ((SELECT accounts FROM pause)::bigint[])
                       OR coalesce(jobs.connection_id = ANY ((SELECT connections FROM pause)::bigint[]), false)
                       OR coalesce(jobs.group_id = ANY ((SELECT groups FROM pause)::bigint[]), false) AS is_held
                FROM given JOIN jobs ON jobs.id = given.id
                WHERE jobs.state = 2 AND jobs.kind = $3
                ORDER BY jobs.id FOR UPDATE OF jobs SKIP LOCKED
            ), lease AS (
                INSERT INTO leases (servant_id, until, job_ids)
                SELECT $4, $6, array_agg(id) FROM queued WHERE NOT is_held HAVING count(*) > 0
                RETURNING id
            ), claimed AS (
                UPDATE jobs
                SET state = 3, attempt = attempt + 1, attempt_token = $7, servant_id = $4,
                    lease_id = (SELECT id FROM lease), claimed_at = $5, sent_at = queued.sent_at
                FROM queued WHERE jobs.id = queued.id AND NOT queued.is_held
                RETURNING jobs.id, attempt, attempts_max, account_id, connection_id, request_id, traceparent,
                          payload::text AS payload, deadline_at, due_at, checkpoint, group_id
            ), held AS (
                UPDATE jobs SET state = 1, queued_at = NULL, sends = 0
                FROM queued WHERE jobs.id = queued.id AND queued.is_held
                RETURNING jobs.id, jobs.group_id
            ), counted AS (
                INSERT INTO job_count_deltas (kind, state, delta, group_id)
                SELECT $3, 2, -count(*), group_id
                FROM (SELECT group_id FROM claimed UNION ALL SELECT group_id FROM held) AS gone GROUP BY group_id
                UNION ALL SELECT $3, 3, count(*), group_id FROM claimed GROUP BY group_id
                UNION ALL SELECT $3, 1, count(*), group_id FROM held GROUP BY group_id
            )
            SELECT id AS "id!", attempt AS "attempt!", attempts_max AS "attempts_max!", account_id AS "account_id!",
                   connection_id, request_id AS "request_id!", traceparent, payload AS "payload!", deadline_at, due_at AS "due_at!",
                   checkpoint, group_id
            FROM claimed"#,
            &ids,
            &sent,
            kind.as_str(),
            servant.0,
            self.clock.now(),
            until,
            token.0,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| claimed_job!(row, token)).collect())
    }
}

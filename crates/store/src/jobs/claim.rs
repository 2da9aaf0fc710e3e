//! Where a servant takes jobs: straight from the table those that nothing limits, from the table what it let through itself,
//! or what the queue delivered. Changes of state that are not in `transition`; the rules there hold here. Pauses are
//! honoured in the statement that finds the jobs, which evaluates them once.

use super::{
    claimed::{AttemptKey, ClaimedJob, Delivered, attempt_number},
    in_flight::{LimitsStamp, Permit},
};
use crate::{Store, StoreError, Tx};
use chrono::{DateTime, Utc};
use domain::{
    AccountId, AttemptToken, ConnectionId, Flow, GroupId, JobId, Kind, LeaseId, PermitId, Place, ServantId, Taken,
    Visit,
};
use sqlx::PgConnection;
use uuid::Uuid;

macro_rules! claimed_job {
    ($row:expr, $token:expr) => {{
        let row = $row;
        ClaimedJob {
            key: AttemptKey { id: JobId(row.id), token: $token },
            lease: LeaseId(row.lease_id),
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

/// What visits to flows have brought.
pub(super) struct Turns {
    pub(super) jobs: Vec<ClaimedJob>,
    /// Where they stood.
    pub(super) taken: Vec<Taken>,
    /// The permit of those that limits count.
    pub(super) permit: Option<PermitId>,
}

/// Visits that have room, for one who lets jobs through.
pub(super) struct Granted<'a> {
    pub(super) visits: &'a [Visit],
    /// Of which of them limits count the jobs.
    pub(super) counted: Vec<bool>,
    /// The last permit and the limits by which they have room; none: that is seen to by who holds the lock of
    /// [`Store::begin_dispatch`].
    pub(super) as_known: Option<(i64, LimitsStamp)>,
}

impl Store {
    /// [`JobEvent::Claim`](domain::JobEvent::Claim) without a broker: a servant takes up to `limit` due jobs of its
    /// kind, urgent ones first (`urgent_max` at the most), then visit by visit; of jobs without a connection and a
    /// limit only, since others have to be let through. Leaves out what is paused. `vendor` is whom the kind calls. Answers with the jobs and where they stood.
    ///
    /// # Errors
    /// [`StoreError`]; when the answer was lost, the lease of what was claimed runs out and the jobs run again.
    pub async fn claim_ready(
        &self,
        servant: ServantId,
        (kind, vendor): (&Kind, Option<&str>),
        visits: &[Visit],
        urgent_max: i64,
        limit: i64,
        until: DateTime<Utc>,
    ) -> Result<(Vec<ClaimedJob>, Vec<Taken>), StoreError> {
        let mut conn = self.pool.acquire().await?;
        let free = (Granted { visits, counted: vec![false; visits.len()], as_known: None }, false);
        let turns = self.claim_turns(&mut conn, servant, (kind, vendor), free, (urgent_max, limit), until).await?;
        Ok((turns.jobs, turns.taken))
    }

    /// The same by a servant who lets jobs through and has seen to it that these visits have room. Where that was by
    /// what was known before, nothing is claimed if another lets jobs through just now or has since, if limits have
    /// changed, or if urgent jobs wait.
    pub(super) async fn claim_granted(
        &self,
        conn: &mut PgConnection,
        servant: ServantId,
        kind: (&Kind, Option<&str>),
        granted: Granted<'_>,
        limit: i64,
        until: DateTime<Utc>,
    ) -> Result<Turns, StoreError> {
        self.claim_turns(conn, servant, kind, (granted, true), (0, limit), until).await
    }

    /// The statement of both. `is_let_through`: the visits have room; otherwise nothing is taken that is limited.
    ///
    /// The lock is taken before the sequence is read, which is outside of every snapshot: a number that still is the
    /// latest says that nobody has let anything through since, whatever the statement's snapshot shows.
    ///
    /// When every visit brought all that it was to, the permit says what was asked for: nothing is counted.
    async fn claim_turns(
        &self,
        conn: &mut PgConnection,
        servant: ServantId,
        (kind, vendor): (&Kind, Option<&str>),
        (granted, is_let_through): (Granted<'_>, bool),
        (urgent_max, limit): (i64, i64),
        until: DateTime<Utc>,
    ) -> Result<Turns, StoreError> {
        let token = AttemptToken(Uuid::new_v4());
        let Granted { visits, counted, as_known } = granted;
        let (to_permit, limits) = as_known.unzip();
        let (limits, limits_latest) = limits.unwrap_or_default();
        let connections: Vec<i64> = visits.iter().map(|visit| visit.flow.connection_key()).collect();
        let accounts: Vec<i64> = visits.iter().map(|visit| visit.flow.account.0).collect();
        let quanta: Vec<i64> = visits.iter().map(|visit| visit.quantum).collect();
        let turns: Vec<f64> = visits.iter().map(|v| v.after.map_or(f64::NEG_INFINITY, |place| place.turn)).collect();
        let ids: Vec<i64> = visits.iter().map(|visit| visit.after.map_or(0, |place| place.id.0)).collect();
        let rows = sqlx::query!(
            r#"-- claim_ready
            WITH turn AS MATERIALIZED (
                SELECT CASE WHEN $16::bigint IS NULL THEN true
                       ELSE pg_try_advisory_xact_lock(hashtextextended('dispatch', 0)) END AS is_ours
            ), known AS MATERIALIZED (
                SELECT CASE
                    WHEN NOT (SELECT is_ours FROM turn) THEN false
                    WHEN $16::bigint IS NULL THEN true
                    ELSE (SELECT CASE WHEN is_called THEN last_value ELSE 0 END = $16 FROM permits_id_seq)
                        AND (SELECT count(*) = $17 AND max(set_at) IS NOT DISTINCT FROM $18 FROM limits)
                        AND EXISTS (SELECT FROM adopted_limits WHERE limits = $17 AND latest IS NOT DISTINCT FROM $18 AND NOT must_repeat)
                        AND NOT EXISTS (SELECT FROM jobs WHERE kind = $1 AND priority = 0 AND ready_at IS NOT NULL AND state = 1)
                    END AS still
            ), pause AS MATERIALIZED (
                SELECT everything OR $1 = ANY(kinds) OR NOT (SELECT still FROM known)
                       OR NOT $15 AND (EXISTS (SELECT FROM limits WHERE scope = 'kind' AND key = $1)
                                       OR EXISTS (SELECT FROM limits WHERE scope = 'vendor' AND key = $12)) AS of_kind,
                       NOT $15 AND EXISTS (SELECT FROM limits WHERE scope = 'each_account' AND key = '') AS of_customers,
                       accounts || ARRAY(SELECT key::bigint FROM limits WHERE scope = 'account' AND NOT $15) AS accounts,
                       connections, groups
                FROM pauses_in_force
            ), visit AS MATERIALIZED (
                SELECT account_id, connection, quantum, turn, after_id, is_counted
                FROM unnest($7::bigint[], $13::bigint[], $8::bigint[], $9::float8[], $10::bigint[], $14::boolean[])
                     AS t (account_id, connection, quantum, turn, after_id, is_counted)
                WHERE NOT (SELECT of_kind FROM pause) AND account_id <> ALL ((SELECT accounts FROM pause)::bigint[])
                  AND NOT (account_id <> 0 AND (SELECT of_customers FROM pause))
                  AND (connection = 0 OR connection <> ALL ((SELECT connections FROM pause)::bigint[])
                                         AND NOT EXISTS (SELECT FROM connections c WHERE c.id = connection AND c.state <> 'active'))
            ), urgent AS MATERIALIZED (
                SELECT id FROM (
                    SELECT id FROM jobs
                    WHERE kind = $1 AND priority = 0 AND ready_at IS NOT NULL AND state = 1 AND connection_id IS NULL
                      AND NOT (SELECT of_kind FROM pause)
                      AND account_id <> ALL ((SELECT accounts FROM pause)::bigint[])
                      AND (group_id IS NULL OR group_id <> ALL ((SELECT groups FROM pause)::bigint[]))
                      AND NOT (account_id <> 0 AND (SELECT of_customers FROM pause))
                    ORDER BY ready_at, id LIMIT $11 FOR UPDATE SKIP LOCKED) AS first
            ), taken AS MATERIALIZED (
                SELECT id FROM (
                    SELECT id FROM urgent
                    UNION ALL
                    SELECT next.id FROM visit CROSS JOIN LATERAL (
                        SELECT id FROM jobs
                        WHERE kind = $1 AND account_id = visit.account_id AND coalesce(connection_id, 0) = visit.connection
                          AND ready_at IS NOT NULL AND state = 1
                          AND (group_id IS NULL OR group_id <> ALL ((SELECT groups FROM pause)::bigint[]))
                          AND ((date_part('epoch', ready_at - '2000-01-01 00:00:00+00'::timestamptz) + 60 * priority), id)
                              > (visit.turn, visit.after_id)
                          AND id <> ALL ((SELECT coalesce(array_agg(id), '{}') FROM urgent)::bigint[])
                        ORDER BY (date_part('epoch', ready_at - '2000-01-01 00:00:00+00'::timestamptz) + 60 * priority), id
                        LIMIT visit.quantum FOR UPDATE SKIP LOCKED) AS next) AS in_turn LIMIT $2
            ), lease AS (
                INSERT INTO leases (servant_id, until, job_ids)
                SELECT $3, $5, array_agg(id) FROM taken HAVING count(*) > 0
                RETURNING id, job_ids
            ), claimed AS (
                UPDATE jobs
                SET state = 3, attempt = attempt + 1, attempt_token = $6, servant_id = $3,
                    lease_id = (SELECT id FROM lease), claimed_at = $4
                WHERE id = ANY (ARRAY(SELECT id FROM taken))
                RETURNING id, lease_id, attempt, attempts_max, account_id, connection_id, request_id, traceparent,
                          payload::text AS payload, deadline_at, due_at, checkpoint, group_id,
                          date_part('epoch', ready_at - '2000-01-01 00:00:00+00'::timestamptz) + 60 * priority AS turn,
                          id = ANY (ARRAY(SELECT id FROM urgent)) AS is_urgent
            ), whole AS MATERIALIZED (
                SELECT $15 AND $11 = 0 AND true = ALL ($14::boolean[])
                       AND cardinality((SELECT job_ids FROM lease)) = (SELECT sum(quantum) FROM unnest($8::bigint[]) AS t (quantum)) AS was_brought
            ), of_flow AS (
                SELECT account_id, coalesce(connection_id, 0) AS connection, count(*)::int AS jobs
                FROM claimed WHERE $15 AND NOT is_urgent AND NOT (SELECT was_brought FROM whole) GROUP BY account_id, coalesce(connection_id, 0)
                HAVING (account_id, coalesce(connection_id, 0)) IN (SELECT account_id, connection FROM visit WHERE is_counted)
            ), permitted AS (
                INSERT INTO permits (job_ids, kind, accounts, connections, jobs)
                SELECT CASE WHEN $11 = 0 AND (SELECT bool_and(is_counted) FROM visit) THEN (SELECT job_ids FROM lease)
                       ELSE ARRAY(SELECT id FROM claimed JOIN of_flow ON of_flow.account_id = claimed.account_id
                                  AND of_flow.connection = coalesce(claimed.connection_id, 0) WHERE NOT is_urgent) END,
                       $1, array_agg(account_id), array_agg(connection), array_agg(jobs)
                FROM of_flow HAVING count(*) > 0
                UNION ALL
                SELECT (SELECT job_ids FROM lease), $1, $7, $13, $8::int[] FROM whole WHERE was_brought
                RETURNING id
            ), counted AS (
                INSERT INTO job_count_deltas (kind, state, delta, group_id)
                SELECT $1, 1, -count(*), group_id FROM claimed GROUP BY group_id
                UNION ALL SELECT $1, 3, count(*), group_id FROM claimed GROUP BY group_id
            )
            SELECT id AS "id!", lease_id AS "lease_id!", attempt AS "attempt!", attempts_max AS "attempts_max!", account_id AS "account_id!",
                   connection_id, request_id AS "request_id!", traceparent, payload AS "payload!", deadline_at, due_at AS "due_at!",
                   checkpoint, group_id, turn AS "turn!", is_urgent AS "is_urgent!", (SELECT id FROM permitted) AS permit
            FROM claimed"#,
            kind.as_str(),
            limit,
            servant.0,
            self.clock.now(),
            until,
            token.0,
            &accounts,
            &quanta,
            &turns,
            &ids,
            urgent_max,
            vendor,
            &connections,
            &counted,
            is_let_through,
            to_permit,
            limits,
            limits_latest,
        )
        .fetch_all(conn)
        .await?;
        let taken = rows
            .iter()
            .map(|row| Taken {
                flow: Flow { account: AccountId(row.account_id), connection: row.connection_id.map(ConnectionId) },
                place: Place { turn: row.turn, id: JobId(row.id) },
                is_urgent: row.is_urgent,
            })
            .collect();
        let permit = rows.first().and_then(|row| row.permit).map(PermitId);
        Ok(Turns { jobs: rows.into_iter().map(|row| claimed_job!(row, token)).collect(), taken, permit })
    }

    /// [`JobEvent::Claim`](domain::JobEvent::Claim) of what the queue delivered, in one statement. Ids that are not
    /// queued (duplicates, cancelled jobs, ids of another kind) are not in the answer; their messages are deleted.
    ///
    /// Nor are jobs that are paused or whose connection is not active ([`JobEvent::Hold`](domain::JobEvent::Hold)):
    /// they are ready again, so that the end of that dispatches them at once, and until then their place in the window
    /// is somebody else's.
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
                SELECT id, min(sent_at) AS sent_at FROM unnest($6::bigint[], $7::timestamptz[]) AS t (id, sent_at)
                GROUP BY id
            ), pause AS MATERIALIZED (
                SELECT everything OR $1 = ANY(kinds) AS of_kind, accounts, connections, groups FROM pauses_in_force
            ), queued AS (
                SELECT jobs.id, given.sent_at,
                       (SELECT of_kind FROM pause)
                       OR jobs.account_id = ANY ((SELECT accounts FROM pause)::bigint[])
                       OR coalesce(jobs.connection_id = ANY ((SELECT connections FROM pause)::bigint[]), false)
                       OR EXISTS (SELECT FROM held_connections h WHERE h.id = jobs.connection_id)
                       OR coalesce(jobs.group_id = ANY ((SELECT groups FROM pause)::bigint[]), false) AS is_held
                FROM given JOIN jobs ON jobs.id = given.id
                WHERE jobs.state = 2 AND jobs.kind = $1
                ORDER BY jobs.id FOR UPDATE OF jobs SKIP LOCKED
            ), lease AS (
                INSERT INTO leases (servant_id, until, job_ids)
                SELECT $2, $4, array_agg(id) FROM queued WHERE NOT is_held HAVING count(*) > 0
                RETURNING id
            ), claimed AS (
                UPDATE jobs
                SET state = 3, attempt = attempt + 1, attempt_token = $5, servant_id = $2,
                    lease_id = (SELECT id FROM lease), claimed_at = $3, sent_at = queued.sent_at
                FROM queued WHERE jobs.id = queued.id AND NOT queued.is_held
                RETURNING jobs.id, lease_id, attempt, attempts_max, account_id, connection_id, request_id, traceparent,
                          payload::text AS payload, deadline_at, due_at, checkpoint, group_id
            ), held AS (
                UPDATE jobs SET state = 1, queued_at = NULL, sends = 0
                FROM queued WHERE jobs.id = queued.id AND queued.is_held
                RETURNING jobs.id, jobs.group_id
            ), counted AS (
                INSERT INTO job_count_deltas (kind, state, delta, group_id)
                SELECT $1, 2, -count(*), group_id
                FROM (SELECT group_id FROM claimed UNION ALL SELECT group_id FROM held) AS gone GROUP BY group_id
                UNION ALL SELECT $1, 3, count(*), group_id FROM claimed GROUP BY group_id
                UNION ALL SELECT $1, 1, count(*), group_id FROM held GROUP BY group_id
            )
            SELECT id AS "id!", lease_id AS "lease_id!", attempt AS "attempt!", attempts_max AS "attempts_max!",
                   account_id AS "account_id!", connection_id, request_id AS "request_id!", traceparent,
                   payload AS "payload!", deadline_at, due_at AS "due_at!", checkpoint, group_id
            FROM claimed"#,
            kind.as_str(),
            servant.0,
            self.clock.now(),
            until,
            token.0,
            &ids,
            &sent,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| claimed_job!(row, token)).collect())
    }

    /// [`JobEvent::Claim`](domain::JobEvent::Claim) without a broker of jobs that were let through in `tx`, which holds
    /// them locked; `permit` says what of them limits count.
    ///
    /// # Errors
    /// [`StoreError`]; when the commit's answer is lost, the lease of what was claimed runs out and the jobs run again.
    pub async fn claim_in(
        &self,
        tx: &mut Tx,
        servant: ServantId,
        kind: &Kind,
        (jobs, permit): (&[JobId], &Permit),
        until: DateTime<Utc>,
    ) -> Result<Vec<ClaimedJob>, StoreError> {
        let ids: Vec<i64> = jobs.iter().map(|id| id.0).collect();
        let token = AttemptToken(Uuid::new_v4());
        let rows = sqlx::query!(
            r#"-- claim_let_through
            WITH lease AS (
                INSERT INTO leases (servant_id, until, job_ids) VALUES ($2, $4, $6) RETURNING id
            ), claimed AS (
                UPDATE jobs
                SET state = 3, attempt = attempt + 1, attempt_token = $5, servant_id = $2,
                    lease_id = (SELECT id FROM lease), claimed_at = $3
                FROM unnest($6::bigint[]) AS t (id) WHERE jobs.id = t.id AND jobs.state = 1
                RETURNING jobs.id, lease_id, attempt, attempts_max, account_id, connection_id, request_id, traceparent,
                          payload::text AS payload, deadline_at, due_at, checkpoint, group_id
            ), permitted AS (
                INSERT INTO permits (job_ids, kind, accounts, connections, jobs)
                SELECT $7, $1, $8, $9, $10 WHERE cardinality($7::bigint[]) > 0
            ), counted AS (
                INSERT INTO job_count_deltas (kind, state, delta, group_id)
                SELECT $1, 1, -count(*), group_id FROM claimed GROUP BY group_id
                UNION ALL SELECT $1, 3, count(*), group_id FROM claimed GROUP BY group_id
            )
            SELECT id AS "id!", lease_id AS "lease_id!", attempt AS "attempt!", attempts_max AS "attempts_max!",
                   account_id AS "account_id!", connection_id, request_id AS "request_id!", traceparent,
                   payload AS "payload!", deadline_at, due_at AS "due_at!", checkpoint, group_id
            FROM claimed"#,
            kind.as_str(),
            servant.0,
            self.clock.now(),
            until,
            token.0,
            &ids,
            &permit.job_ids,
            &permit.accounts,
            &permit.connections,
            &permit.jobs,
        )
        .fetch_all(&mut *tx.inner)
        .await?;
        Ok(rows.into_iter().map(|row| claimed_job!(row, token)).collect())
    }
}

//! What jobs are let through with: the flows that wait, the jobs whose turn it is, and putting those that have room on
//! their way to the queue. Reads, locks and marks; whose turn it is and what has room, `domain` says and `line` asks.

use super::in_flight::Permit;
use crate::{Leadership, Store, StoreError, Tx};
use domain::{AccountId, ConnectionId, Flow, JobId, Kind, Place, Release, Taken, Visit};
use std::collections::HashSet;

/// A flow with ready jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingFlow {
    /// The flow.
    pub flow: Flow,
    /// Its account's share.
    pub weight: u16,
    /// Its connection's vendor.
    pub vendor: Option<String>,
    /// Its connection's service, whose breaker counts.
    pub service: Option<String>,
    /// An operator holds it back, or its connection is not active.
    pub is_held: bool,
    /// A limit is set that covers it.
    pub is_limited: bool,
    /// When its connection was let go last, after it had been held back.
    pub release: Option<Release>,
}

impl WaitingFlow {
    /// Whether something may have a say in when its jobs go: a limit, or a connection's quota or service.
    #[must_use]
    pub fn may_be_limited(&self) -> bool {
        self.is_limited || self.flow.connection.is_some()
    }
}

/// A ready job whose turn it is; its row is locked until the transaction ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Upcoming {
    /// The job and where it stands.
    pub taken: Taken,
    /// 0 (urgent) to 4 (whenever).
    pub priority: i16,
}

impl Store {
    /// Those of `kinds` of which jobs have been made ready and are not finished.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn kinds_in_line(&self, kinds: &[&Kind]) -> Result<HashSet<String>, StoreError> {
        let kinds: Vec<String> = kinds.iter().map(|kind| kind.as_str().to_owned()).collect();
        let of_these = sqlx::query_scalar!(
            r#"-- kinds_in_line
            SELECT kind AS "kind!" FROM unnest($1::text[]) AS of_these (kind)
            WHERE (SELECT true FROM jobs WHERE jobs.kind = of_these.kind AND ready_at IS NOT NULL
                   ORDER BY jobs.kind, account_id, coalesce(connection_id, 0) LIMIT 1)"#,
            &kinds,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(of_these.into_iter().collect())
    }

    /// The flows of a kind in which jobs have been made ready and are not finished, `flows_max` at the most, beginning
    /// with the one after `last`. `vendor` is whom the kind calls. Those of `sure`, in their order, are taken to be among
    /// them: their first entry is not sought behind all that have finished since the last vacuum. (An index scan ends at
    /// dead entries only by what is said of one column, hence a search for each part of what lies between two flows.)
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn waiting_flows(
        &self,
        (kind, vendor): (&Kind, Option<&str>),
        last: Option<Flow>,
        sure: &[Flow],
        flows_max: i64,
    ) -> Result<Vec<WaitingFlow>, StoreError> {
        let stops = stops(last, sure);
        let rows = sqlx::query!(
            r#"-- waiting_flows
            WITH RECURSIVE pause AS MATERIALIZED (
                SELECT everything OR $1 = ANY(kinds) AS of_kind, accounts, connections FROM pauses_in_force
            ), step AS (
                SELECT $2::bigint AS account_id, $3::bigint AS connection, 1 AS stop, false AS is_flow
                WHERE NOT (SELECT of_kind FROM pause)
                UNION ALL
                SELECT coalesce(found.account_id, next.account_id), coalesce(found.connection, next.connection),
                       CASE WHEN found.account_id IS NULL THEN stop + 1 ELSE stop END,
                       found.account_id IS NOT NULL OR next.is_flow
                FROM step
                CROSS JOIN LATERAL (
                    SELECT ($6::bigint[])[stop] AS account_id, ($7::bigint[])[stop] AS connection, ($8::boolean[])[stop] AS is_flow
                ) AS bound
                CROSS JOIN LATERAL (
                    SELECT CASE WHEN bound.is_flow THEN bound.account_id ELSE -1 END AS account_id,
                           CASE WHEN bound.is_flow THEN bound.connection ELSE 0 END AS connection, bound.is_flow
                ) AS next
                LEFT JOIN LATERAL (
                    SELECT * FROM (
                        (SELECT account_id, coalesce(connection_id, 0) AS connection FROM jobs
                         WHERE kind = $1 AND ready_at IS NOT NULL AND account_id = step.account_id
                           AND coalesce(connection_id, 0) > step.connection
                           AND coalesce(connection_id, 0)
                               < CASE WHEN bound.account_id = step.account_id THEN bound.connection ELSE 9223372036854775807 END
                         ORDER BY coalesce(connection_id, 0) LIMIT 1)
                        UNION ALL
                        (SELECT account_id, coalesce(connection_id, 0) FROM jobs
                         WHERE kind = $1 AND ready_at IS NOT NULL AND account_id > step.account_id AND account_id < bound.account_id
                         ORDER BY account_id, coalesce(connection_id, 0) LIMIT 1)
                        UNION ALL
                        (SELECT account_id, coalesce(connection_id, 0) FROM jobs
                         WHERE kind = $1 AND ready_at IS NOT NULL AND account_id = bound.account_id
                           AND coalesce(connection_id, 0) < bound.connection AND bound.account_id > step.account_id
                         ORDER BY coalesce(connection_id, 0) LIMIT 1)) AS in_order
                    LIMIT 1) AS found ON true
                WHERE stop <= cardinality($6::bigint[])
            ), cover AS MATERIALIZED (
                SELECT EXISTS (SELECT FROM limits WHERE scope = 'kind' AND key = $1)
                       OR EXISTS (SELECT FROM limits WHERE scope = 'vendor' AND key = $5) AS of_kind,
                       EXISTS (SELECT FROM limits WHERE scope = 'each_account' AND key = '') AS of_customers
            ), ring AS (
                SELECT account_id, connection FROM step WHERE is_flow LIMIT $4
            )
            SELECT ring.account_id AS "account_id!", ring.connection AS "connection!",
                   coalesce(accounts.weight, 1) AS "weight!", connections.vendor AS "vendor?",
                   coalesce(connections.service, connections.vendor) AS service,
                   ring.account_id = ANY ((SELECT accounts FROM pause)::bigint[])
                   OR ring.connection = ANY ((SELECT connections FROM pause)::bigint[])
                   OR coalesce(connections.state <> 'active', false) AS "is_held!",
                   (SELECT of_kind FROM cover) OR (ring.account_id <> 0 AND (SELECT of_customers FROM cover))
                   OR EXISTS (SELECT FROM limits WHERE scope = 'account' AND key = ring.account_id::text) AS "is_limited!",
                   released.own_at AS "own_released_at?", released.shared_at AS "released_at?"
            FROM ring LEFT JOIN accounts ON accounts.id = ring.account_id
            LEFT JOIN connections ON connections.id = ring.connection AND ring.connection <> 0
            LEFT JOIN LATERAL (
                SELECT greatest(
                    CASE WHEN connections.state_since > connections.created_at THEN connections.state_since END,
                    (SELECT at FROM audit WHERE subject = 'pause' AND key = 'connection ' || ring.connection
                        AND action = 'resume' ORDER BY seq DESC LIMIT 1)) AS own_at,
                greatest(
                    (SELECT at FROM audit WHERE subject = 'pause' AND key = 'account ' || ring.account_id
                        AND action = 'resume' ORDER BY seq DESC LIMIT 1),
                    (SELECT at FROM audit WHERE subject = 'pause' AND key = 'kind ' || $1
                        AND action = 'resume' ORDER BY seq DESC LIMIT 1),
                    (SELECT at FROM audit WHERE subject = 'pause' AND key = 'everything'
                        AND action = 'resume' ORDER BY seq DESC LIMIT 1)) AS shared_at
            ) AS released ON connections.id IS NOT NULL"#,
            kind.as_str(),
            last.map_or(-1, |flow| flow.account.0),
            last.map_or(0, Flow::connection_key),
            flows_max,
            vendor,
            &stops.iter().map(|stop| stop.account).collect::<Vec<_>>(),
            &stops.iter().map(|stop| stop.connection).collect::<Vec<_>>(),
            &stops.iter().map(|stop| stop.is_flow).collect::<Vec<_>>(),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| WaitingFlow {
                flow: flow_of(row.account_id, row.connection),
                weight: u16::try_from(row.weight).unwrap_or(1),
                vendor: row.vendor,
                service: row.service,
                is_held: row.is_held,
                is_limited: row.is_limited,
                release: Release::latest(row.own_released_at, row.released_at),
            })
            .collect())
    }

    /// The jobs whose turn it is: of the urgent lane up to `urgent_max`, then of each visit in its order, `limit` in
    /// all. Of the flows of `urgent_only` nothing but urgent ones. What is paused is not in the answer. Their rows stay
    /// locked until the transaction ends.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn upcoming_in(
        &self,
        tx: &mut Tx,
        kind: &Kind,
        visits: &[Visit],
        urgent_only: &[Flow],
        urgent_max: i64,
        limit: i64,
    ) -> Result<Vec<Upcoming>, StoreError> {
        let flows = || visits.iter().map(|visit| visit.flow).chain(urgent_only.iter().copied());
        // A flow beyond the quanta is in the urgent lane only.
        let accounts: Vec<i64> = flows().map(|flow| flow.account.0).collect();
        let connections: Vec<i64> = flows().map(Flow::connection_key).collect();
        let quanta: Vec<i64> = visits.iter().map(|visit| visit.quantum).collect();
        let turns: Vec<f64> = visits.iter().map(|v| v.after.map_or(f64::NEG_INFINITY, |place| place.turn)).collect();
        let ids: Vec<i64> = visits.iter().map(|visit| visit.after.map_or(0, |place| place.id.0)).collect();
        let rows = sqlx::query!(
            r#"-- upcoming
            WITH pause AS MATERIALIZED (
                SELECT everything OR $1 = ANY(kinds) AS of_kind, accounts, connections, groups FROM pauses_in_force
            ), visit AS MATERIALIZED (
                SELECT account_id, connection, quantum, turn, after_id
                FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::float8[], $6::bigint[])
                     AS t (account_id, connection, quantum, turn, after_id)
                WHERE NOT (SELECT of_kind FROM pause) AND account_id <> ALL ((SELECT accounts FROM pause)::bigint[])
                  AND connection <> ALL ((SELECT connections FROM pause)::bigint[])
                  AND NOT EXISTS (SELECT FROM connections c WHERE c.id = connection AND c.state <> 'active')
            ), urgent AS MATERIALIZED (
                SELECT jobs.id, first.account_id, first.connection FROM (
                    SELECT next.id, next.ready_at, visit.account_id, visit.connection
                    FROM visit CROSS JOIN LATERAL (
                        SELECT id, ready_at FROM jobs
                        WHERE kind = $1 AND account_id = visit.account_id AND coalesce(connection_id, 0) = visit.connection
                          AND priority = 0 AND ready_at IS NOT NULL AND state = 1
                          AND (group_id IS NULL OR group_id <> ALL ((SELECT groups FROM pause)::bigint[]))
                        ORDER BY ready_at, id LIMIT $7) AS next
                    ORDER BY next.ready_at, next.id LIMIT $7) AS first
                JOIN jobs ON jobs.id = first.id WHERE jobs.state = 1 FOR UPDATE OF jobs SKIP LOCKED
            )
            SELECT id AS "id!", account_id AS "account_id!", connection AS "connection!", turn AS "turn!",
                   priority AS "priority!", is_urgent AS "is_urgent!"
            FROM (
                SELECT id, account_id, connection, 0::float8 AS turn, 0::smallint AS priority, true AS is_urgent FROM urgent
                UNION ALL
                SELECT next.id, visit.account_id, visit.connection, next.turn, next.priority, false
                FROM visit CROSS JOIN LATERAL (
                    SELECT id, priority, (date_part('epoch', ready_at - '2000-01-01 00:00:00+00'::timestamptz) + 60 * priority) AS turn
                    FROM jobs
                    WHERE kind = $1 AND account_id = visit.account_id AND coalesce(connection_id, 0) = visit.connection
                      AND ready_at IS NOT NULL AND state = 1
                      AND (group_id IS NULL OR group_id <> ALL ((SELECT groups FROM pause)::bigint[]))
                      AND ((date_part('epoch', ready_at - '2000-01-01 00:00:00+00'::timestamptz) + 60 * priority), id)
                          > (visit.turn, visit.after_id)
                      AND id <> ALL ((SELECT coalesce(array_agg(id), '{}') FROM urgent)::bigint[])
                    ORDER BY (date_part('epoch', ready_at - '2000-01-01 00:00:00+00'::timestamptz) + 60 * priority), id
                    LIMIT coalesce(visit.quantum, 0) FOR UPDATE SKIP LOCKED) AS next) AS in_turn
            LIMIT $8"#,
            kind.as_str(),
            &accounts,
            &connections,
            &quanta,
            &turns,
            &ids,
            urgent_max,
            limit,
        )
        .fetch_all(&mut *tx.inner)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Upcoming {
                taken: Taken {
                    flow: flow_of(row.account_id, row.connection),
                    place: Place { turn: row.turn, id: JobId(row.id) },
                    is_urgent: row.is_urgent,
                },
                priority: row.priority,
            })
            .collect())
    }

    /// [`JobEvent::Dispatch`](domain::JobEvent::Dispatch): upcoming jobs become queued, each with its entry in the outbox;
    /// those that limits count are noted as in flight. False when another leads: then nothing was.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn queue_in(
        &self,
        tx: &mut Tx,
        leadership: &Leadership,
        kind: &Kind,
        jobs: &[JobId],
        permit: &Permit,
    ) -> Result<bool, StoreError> {
        let ids: Vec<i64> = jobs.iter().map(|id| id.0).collect();
        let counted = sqlx::query!(
            r#"-- queue
            WITH led AS (SELECT 1 FROM leader WHERE term = $8 AND holder = $9 FOR SHARE), queued AS (
                UPDATE jobs SET state = 2, queued_at = $2, sends = 1
                FROM unnest($3::bigint[]) AS t (id) WHERE jobs.id = t.id AND jobs.state = 1 AND EXISTS (SELECT FROM led)
                RETURNING jobs.id, jobs.account_id, jobs.group_id
            ), posted AS (
                INSERT INTO outbox (job_id, account_id, kind, queued_at) SELECT id, account_id, $1, $2 FROM queued
            ), noted AS (
                INSERT INTO dispatches (kind, queued_at, sends, job_ids)
                SELECT $1, $2, 1, array_agg(id) FROM queued HAVING count(*) > 0
            ), permitted AS (
                INSERT INTO permits (job_ids, kind, accounts, connections, jobs)
                SELECT $4, $1, $5, $6, $7 WHERE cardinality($4::bigint[]) > 0 AND EXISTS (SELECT FROM led)
            )
            INSERT INTO job_count_deltas (kind, state, delta, group_id)
            SELECT $1, 1, -count(*), group_id FROM queued GROUP BY group_id
            UNION ALL SELECT $1, 2, count(*), group_id FROM queued GROUP BY group_id"#,
            kind.as_str(),
            self.clock.now(),
            &ids,
            &permit.job_ids,
            &permit.accounts,
            &permit.connections,
            &permit.jobs,
            leadership.term.0,
            leadership.holder,
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok(counted.rows_affected() > 0)
    }
}

/// Up to where a look seeks the next flow: the next one that is known, or the end of the ring's first or second part.
struct Stop {
    account: i64,
    connection: i64,
    is_flow: bool,
}

/// The stops of a look that begins after `last` and comes round to it.
fn stops(last: Option<Flow>, sure: &[Flow]) -> Vec<Stop> {
    let known = |flow: &Flow| Stop { account: flow.account.0, connection: flow.connection_key(), is_flow: true };
    let end = |account, connection| Stop { account, connection, is_flow: false };
    let (earlier, later) = sure.split_at(last.map_or(0, |last| sure.partition_point(|flow| *flow <= last)));
    let mut stops: Vec<Stop> = later.iter().map(known).collect();
    stops.push(end(i64::MAX, i64::MAX));
    if let Some(last) = last {
        stops.extend(earlier.iter().map(known));
        stops.push(end(last.account.0, last.connection_key().saturating_add(1)));
    }
    stops
}

pub(crate) fn flow_of(account: i64, connection: i64) -> Flow {
    Flow { account: AccountId(account), connection: (connection != 0).then_some(ConnectionId(connection)) }
}

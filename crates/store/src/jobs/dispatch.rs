//! What the leader dispatches with: the flows that wait, the jobs whose turn it is, and putting those that have room on
//! their way. Reads, locks and marks; what has room and whose turn it is, `domain` says and `scheduler` carries out.

use crate::{Leadership, Store, StoreError, Tx};
use domain::{AccountId, ConnectionId, Flow, JobId, Kind, Place, Taken, Visit};

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
}

/// A ready job whose turn it is; its row is locked until the transaction ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Upcoming {
    /// The job and where it stands.
    pub taken: Taken,
    /// 0 (urgent) to 4 (whenever).
    pub priority: i16,
}

/// Jobs in flight that limits count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InFlight {
    /// Their kind.
    pub kind: String,
    /// Their flow.
    pub flow: Flow,
    /// Their connection's vendor.
    pub vendor: Option<String>,
    /// Their connection's service.
    pub service: Option<String>,
    /// How many they are.
    pub jobs: i64,
}

impl Store {
    /// The flows of a kind in which jobs have been made ready and are not finished, `flows_max` at the most, beginning
    /// with the one after `last`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn waiting_flows(
        &self,
        kind: &Kind,
        last: Option<Flow>,
        flows_max: i64,
    ) -> Result<Vec<WaitingFlow>, StoreError> {
        let rows = sqlx::query!(
            r#"-- waiting_flows
            WITH RECURSIVE pause AS MATERIALIZED (
                SELECT everything OR $1 = ANY(kinds) AS of_kind, accounts, connections FROM pauses_in_force
            ), later AS (
                (SELECT account_id, coalesce(connection_id, 0) AS connection FROM jobs
                 WHERE kind = $1 AND ready_at IS NOT NULL AND (account_id, coalesce(connection_id, 0)) > ($2::bigint, $3::bigint)
                   AND NOT (SELECT of_kind FROM pause)
                 ORDER BY account_id, coalesce(connection_id, 0) LIMIT 1)
                UNION ALL
                SELECT next.account_id, next.connection FROM later CROSS JOIN LATERAL (
                    SELECT account_id, coalesce(connection_id, 0) AS connection FROM jobs
                    WHERE kind = $1 AND ready_at IS NOT NULL
                      AND (account_id, coalesce(connection_id, 0)) > (later.account_id, later.connection)
                    ORDER BY account_id, coalesce(connection_id, 0) LIMIT 1) AS next
            ), earlier AS (
                (SELECT account_id, coalesce(connection_id, 0) AS connection FROM jobs
                 WHERE kind = $1 AND ready_at IS NOT NULL AND (account_id, coalesce(connection_id, 0)) <= ($2::bigint, $3::bigint)
                   AND NOT (SELECT of_kind FROM pause)
                 ORDER BY account_id, coalesce(connection_id, 0) LIMIT 1)
                UNION ALL
                SELECT next.account_id, next.connection FROM earlier CROSS JOIN LATERAL (
                    SELECT account_id, coalesce(connection_id, 0) AS connection FROM jobs
                    WHERE kind = $1 AND ready_at IS NOT NULL
                      AND (account_id, coalesce(connection_id, 0)) > (earlier.account_id, earlier.connection)
                      AND (account_id, coalesce(connection_id, 0)) <= ($2::bigint, $3::bigint)
                    ORDER BY account_id, coalesce(connection_id, 0) LIMIT 1) AS next
            ), ring AS (
                SELECT account_id, connection FROM (SELECT * FROM later UNION ALL SELECT * FROM earlier) AS flows LIMIT $4
            )
            SELECT ring.account_id AS "account_id!", ring.connection AS "connection!",
                   coalesce(accounts.weight, 1) AS "weight!", connections.vendor AS "vendor?",
                   coalesce(connections.service, connections.vendor) AS service,
                   ring.account_id = ANY ((SELECT accounts FROM pause)::bigint[])
                   OR ring.connection = ANY ((SELECT connections FROM pause)::bigint[])
                   OR coalesce(connections.state <> 'active', false) AS "is_held!"
            FROM ring LEFT JOIN accounts ON accounts.id = ring.account_id
            LEFT JOIN connections ON connections.id = ring.connection AND ring.connection <> 0"#,
            kind.as_str(),
            last.map_or(-1, |flow| flow.account.0),
            last.map_or(0, Flow::connection_key),
            flows_max,
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
            })
            .collect())
    }

    /// The jobs in flight that limits count, by kind and flow. Only a dispatch adds to them, so what the leader reads
    /// before it dispatches can only be too much.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn in_flight_in(&self, tx: &mut Tx) -> Result<Vec<InFlight>, StoreError> {
        let rows = sqlx::query!(
            r#"-- in_flight
            WITH member AS (
                SELECT DISTINCT member.id FROM permits CROSS JOIN LATERAL unnest(job_ids) AS member (id)
            ), counted AS (
                SELECT kind, account_id, coalesce(connection_id, 0) AS connection, count(*) AS jobs
                FROM member JOIN jobs ON jobs.id = member.id AND jobs.state IN (2, 3)
                GROUP BY kind, account_id, coalesce(connection_id, 0)
            )
            SELECT kind, counted.account_id, connection AS "connection!", vendor AS "vendor?",
                   coalesce(service, vendor) AS service, jobs AS "jobs!"
            FROM counted LEFT JOIN connections ON connections.id = connection AND connection <> 0"#,
        )
        .fetch_all(&mut *tx.inner)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| InFlight {
                kind: row.kind,
                flow: flow_of(row.account_id, row.connection),
                vendor: row.vendor,
                service: row.service,
                jobs: row.jobs,
            })
            .collect())
    }

    /// Drops the permits of which no job is in flight any more, and takes the ended ones out of those that are mostly
    /// history, `permits_max` looked at.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tidy_permits(&self, leadership: &Leadership, permits_max: i64) -> Result<(), StoreError> {
        sqlx::query!(
            "-- tidy_permits
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE),
            seen AS (
                SELECT permit.id, cardinality(permit.job_ids) AS jobs, live.ids
                FROM (SELECT id, job_ids FROM permits WHERE EXISTS (SELECT FROM led) ORDER BY id LIMIT $3) AS permit
                CROSS JOIN LATERAL (
                    SELECT coalesce(array_agg(jobs.id), '{}') AS ids FROM unnest(permit.job_ids) AS member (id)
                    JOIN jobs ON jobs.id = member.id AND jobs.state IN (2, 3)) AS live
            ), dropped AS (
                DELETE FROM permits USING seen WHERE permits.id = seen.id AND cardinality(seen.ids) = 0
            )
            UPDATE permits SET job_ids = seen.ids FROM seen
            WHERE permits.id = seen.id AND cardinality(seen.ids) > 0 AND cardinality(seen.ids) * 2 < seen.jobs",
            leadership.term.0,
            leadership.holder,
            permits_max,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Notes everything that is queued or running as in flight: what was let through before a limit was set counts, too.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn adopt_in_flight(&self, leadership: &Leadership) -> Result<(), StoreError> {
        sqlx::query!(
            "-- adopt_in_flight
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE),
            member AS (
                SELECT unnest(job_ids) AS id FROM leases UNION SELECT unnest(job_ids) FROM dispatches
            ), live AS (
                SELECT array_agg(jobs.id) AS ids FROM member JOIN jobs ON jobs.id = member.id AND jobs.state IN (2, 3)
            )
            INSERT INTO permits (job_ids) SELECT ids FROM live WHERE ids IS NOT NULL AND EXISTS (SELECT FROM led)",
            leadership.term.0,
            leadership.holder,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The jobs whose turn it is: of the urgent lane up to `urgent_max`, then of each visit in its order, `limit` in
    /// all. Of the flows of `urgent_only` nothing but urgent ones. Their rows stay locked until the transaction ends.
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
            WITH pause AS MATERIALIZED (SELECT groups FROM pauses_in_force),
            visit AS MATERIALIZED (
                SELECT account_id, connection, quantum, turn, after_id
                FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::float8[], $6::bigint[])
                     AS t (account_id, connection, quantum, turn, after_id)
            ), urgent AS MATERIALIZED (
                SELECT id, account_id, connection FROM (
                    SELECT id, account_id, coalesce(connection_id, 0) AS connection FROM jobs
                    WHERE kind = $1 AND priority = 0 AND ready_at IS NOT NULL AND state = 1
                      AND (group_id IS NULL OR group_id <> ALL ((SELECT groups FROM pause)::bigint[]))
                      AND (account_id, coalesce(connection_id, 0)) IN (SELECT account_id, connection FROM visit)
                    ORDER BY ready_at, id LIMIT $7 FOR UPDATE SKIP LOCKED) AS first
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
    /// those that limits count are noted as in flight.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn queue_in(
        &self,
        tx: &mut Tx,
        kind: &Kind,
        jobs: &[JobId],
        counted: &[JobId],
    ) -> Result<(), StoreError> {
        let ids: Vec<i64> = jobs.iter().map(|id| id.0).collect();
        let counted: Vec<i64> = counted.iter().map(|id| id.0).collect();
        sqlx::query!(
            r#"-- queue
            WITH queued AS (
                UPDATE jobs SET state = 2, queued_at = $2, sends = 1
                FROM unnest($3::bigint[]) AS t (id) WHERE jobs.id = t.id AND jobs.state = 1
                RETURNING jobs.id, jobs.account_id, jobs.group_id
            ), posted AS (
                INSERT INTO outbox (job_id, account_id, kind, queued_at) SELECT id, account_id, $1, $2 FROM queued
            ), noted AS (
                INSERT INTO dispatches (kind, queued_at, sends, job_ids)
                SELECT $1, $2, 1, array_agg(id) FROM queued HAVING count(*) > 0
            ), permitted AS (
                INSERT INTO permits (job_ids) SELECT $4 WHERE cardinality($4::bigint[]) > 0
            )
            INSERT INTO job_count_deltas (kind, state, delta, group_id)
            SELECT $1, 1, -count(*), group_id FROM queued GROUP BY group_id
            UNION ALL SELECT $1, 2, count(*), group_id FROM queued GROUP BY group_id"#,
            kind.as_str(),
            self.clock.now(),
            &ids,
            &counted,
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok(())
    }
}

fn flow_of(account: i64, connection: i64) -> Flow {
    Flow { account: AccountId(account), connection: (connection != 0).then_some(ConnectionId(connection)) }
}

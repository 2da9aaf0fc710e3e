//! Whose turn it is before a job's, its account's share, and the limit or budget that has no room for it. Reads only.

use crate::{
    Concerned, Store, StoreError, Tx,
    jobs::{dispatch::flow_of, in_flight::InFlightOf, read::JobRow},
    kinds::kinds_known,
};
use chrono::{DateTime, Utc};
use domain::{
    AccountId, Candidate, Flow, InFlight, JobId, JobState, Kind, NoRoomFacts, Refusal, Release, Releasing, Rooms,
    Scope, URGENT, What,
};

/// Jobs before this one that are looked at.
pub(super) const AHEAD_MAX: i64 = 300;
/// Flows of its kind that are looked at for its share.
const FLOWS_MAX: i64 = 100;
/// Jobs that hold a limit's room, as many as are named and one more.
const HOLDERS_MAX: i64 = 6;
/// Jobs on permits that are looked at, the latest first: of more than that in flight, an account's or a connection's limit
/// may seem to have room.
const PERMITTED_MAX: i64 = 10_000;

impl Store {
    /// Ready jobs that go before this one in its flow, and whether there may be more.
    pub(super) async fn ahead_of(&self, job: &JobRow, ready_at: DateTime<Utc>) -> Result<(i64, bool), StoreError> {
        let states = sqlx::query_scalar!(
            "-- ahead_of
            SELECT state FROM jobs
            WHERE kind = $1 AND account_id = $2 AND coalesce(connection_id, 0) = $3 AND ready_at IS NOT NULL
              AND ((date_part('epoch', ready_at - '2000-01-01 00:00:00+00'::timestamptz) + 60 * priority), id)
                  < (date_part('epoch', $4::timestamptz - '2000-01-01 00:00:00+00'::timestamptz) + 60 * $5::smallint, $6::bigint)
            ORDER BY (date_part('epoch', ready_at - '2000-01-01 00:00:00+00'::timestamptz) + 60 * priority) DESC, id DESC
            LIMIT $7",
            job.kind.as_str(),
            job.account_id.0,
            job.connection_id.map_or(0, |id| id.0),
            ready_at,
            job.priority,
            job.id.0,
            AHEAD_MAX,
        )
        .fetch_all(&self.pool)
        .await?;
        let rows = |states: usize| i64::try_from(states).unwrap_or(i64::MAX);
        let ready = states.iter().filter(|state| **state == JobState::Ready.code()).count();
        Ok((rows(ready), rows(states.len()) >= AHEAD_MAX))
    }

    /// The share of a job's account in what is dispatched of its kind, in percent, by the accounts that wait now.
    pub(super) async fn share_pct(&self, job: &JobRow) -> Result<u8, StoreError> {
        let flows = self.waiting_flows((&job.kind, None), None, &[], FLOWS_MAX).await?;
        let own: i64 = i64::from(self.weight_of(job.account_id).await?);
        let mut weights = std::collections::BTreeMap::from([(job.account_id, own)]);
        weights.extend(flows.iter().filter(|flow| !flow.is_held).map(|f| (f.flow.account, i64::from(f.weight))));
        let all: i64 = weights.values().sum();
        Ok(u8::try_from((own * 100).div_euclid(all.max(1)).max(1)).unwrap_or(100))
    }

    async fn weight_of(&self, account: AccountId) -> Result<i16, StoreError> {
        let weight = sqlx::query_scalar!("-- weight_of\nSELECT weight FROM accounts WHERE id = $1", account.0)
            .fetch_optional(&self.pool)
            .await?;
        Ok(weight.unwrap_or(1))
    }

    /// The limit or budget that has no room for a ready job now. A job of a kind that no catalogue was seen to have is
    /// taken to make one call, to its connection's vendor.
    pub(super) async fn no_room(&self, job: &JobRow) -> Result<Option<NoRoomFacts>, StoreError> {
        let mut tx = self.begin().await?;
        let kinds = kinds_known(&mut tx.inner).await?;
        let calls_of = |kind: &str| kinds.get(kind).map_or(1, |facts| facts.calls_estimate);
        let vendor_of = |kind: &str| kinds.get(kind).and_then(|facts| facts.vendor.clone());
        let concerned = Concerned {
            kinds: vec![job.kind.clone()],
            accounts: vec![job.account_id],
            connections: job.connection_id.into_iter().collect(),
            vendors: vendor_of(job.kind.as_str()).into_iter().collect(),
        };
        let mut facts = self.rooms_facts_in(&mut tx, &concerned).await?;
        for counted in in_flight(&mut tx).await? {
            let Ok(kind) = Kind::new(counted.kind) else { continue };
            let jobs = counted.jobs.unsigned_abs();
            let calls = jobs * u64::from(calls_of(kind.as_str()));
            let vendor = counted.vendor.or_else(|| vendor_of(kind.as_str()));
            let Flow { account, connection } = counted.flow;
            facts.in_flight.push(InFlight { kind, account, connection, vendor, jobs, calls });
        }
        drop(tx);
        let of_connection = facts.vendors.first().map(|(_, vendor)| vendor.clone());
        let vendor = of_connection.or_else(|| vendor_of(job.kind.as_str()));
        let candidate = Candidate {
            kind: &job.kind,
            account: job.account_id,
            connection: job.connection_id,
            vendor: vendor.as_deref(),
            priority: job.priority,
            calls: calls_of(job.kind.as_str()),
        };
        let Err(refusal) = Rooms::new(facts).admit(&candidate) else { return Ok(None) };
        let held_by = match &refusal {
            Refusal::Limit { what: What::Concurrency, subject, .. } => self.holders(&subject.own_scope()).await?,
            _ => Vec::new(),
        };
        Ok(Some(NoRoomFacts { refusal, held_by }))
    }

    /// How a job's connection is let go, where that has no room for the job now.
    pub(super) async fn releasing(&self, job: &JobRow) -> Result<Option<Releasing>, StoreError> {
        let Some(connection) = job.connection_id.filter(|_| job.priority != URGENT) else { return Ok(None) };
        let row = sqlx::query!(
            r#"-- releasing
            SELECT greatest(CASE WHEN state_since > created_at THEN state_since END,
                       (SELECT max(at) FROM audit
                        WHERE subject = 'pause' AND action = 'resume' AND key = 'connection ' || $1::bigint)) AS own_at,
                   (SELECT max(at) FROM audit
                    WHERE subject = 'pause' AND action = 'resume'
                        AND key = ANY (ARRAY['everything', 'kind ' || $2::text, 'account ' || $3::bigint])) AS shared_at
            FROM connections WHERE id = $1"#,
            connection.0,
            job.kind.as_str(),
            job.account_id.0,
        )
        .fetch_optional(&self.pool)
        .await?;
        let over_secs = self.breaker_settings().await?.release_secs;
        let release = row.and_then(|row| Release::latest(row.own_at, row.shared_at));
        let room = release.and_then(|release| Some((release.at, release.room(connection, over_secs, self.now())?)));
        let Some((since, room)) = room else { return Ok(None) };
        let mut tx = self.begin().await?;
        let in_flight: i64 = in_flight(&mut tx)
            .await?
            .iter()
            .filter(|counted| counted.flow.connection == Some(connection))
            .map(|counted| counted.jobs)
            .sum();
        let is_full = in_flight >= i64::from(room.jobs);
        Ok(is_full.then_some(Releasing { connection: connection.0, since, room: room.jobs, until: room.until }))
    }

    /// The first jobs that are in flight under a limit.
    async fn holders(&self, scope: &Scope) -> Result<Vec<JobId>, StoreError> {
        let ids = sqlx::query_scalar!(
            r#"-- holders
            SELECT jobs.id AS "id!"
            FROM (SELECT unnest(job_ids) AS id
                  FROM (SELECT job_ids FROM permits ORDER BY id DESC LIMIT $4) AS permit LIMIT $4) AS member
            JOIN jobs ON jobs.id = member.id AND jobs.state IN (2, 3)
            LEFT JOIN connections ON connections.id = jobs.connection_id
            LEFT JOIN kinds ON kinds.kind = jobs.kind
            WHERE CASE $1::text WHEN 'kind' THEN jobs.kind = $2::text WHEN 'account' THEN jobs.account_id::text = $2
                       WHEN 'connection' THEN jobs.connection_id::text = $2 ELSE coalesce(connections.vendor, kinds.vendor) = $2 END
            ORDER BY 1 LIMIT $3"#,
            scope.scope(),
            scope.key(),
            2 * HOLDERS_MAX,
            PERMITTED_MAX,
        )
        .fetch_all(&self.pool)
        .await?;
        // One that is just given back or taken may be in two permits.
        let mut holders: Vec<JobId> = ids.into_iter().map(JobId).collect();
        holders.dedup();
        holders.truncate(usize::try_from(HOLDERS_MAX).unwrap_or(usize::MAX));
        Ok(holders)
    }
}

/// What is in flight of that which limits count, as far as it is looked at.
async fn in_flight(tx: &mut Tx) -> Result<Vec<InFlightOf>, StoreError> {
    let rows = sqlx::query!(
        r#"-- in_flight
        SELECT counted.kind AS "kind!", counted.account_id AS "account_id!", counted.connection AS "connection!",
               counted.jobs AS "jobs!", connections.vendor AS "vendor?",
               coalesce(connections.service, connections.vendor) AS service
        FROM (SELECT jobs.kind, jobs.account_id, coalesce(jobs.connection_id, 0) AS connection, count(DISTINCT jobs.id) AS jobs
              FROM (SELECT unnest(job_ids) AS id
                    FROM (SELECT job_ids FROM permits ORDER BY id DESC LIMIT $1) AS permit LIMIT $1) AS member
              JOIN jobs ON jobs.id = member.id AND jobs.state IN (2, 3)
              GROUP BY 1, 2, 3) AS counted
        LEFT JOIN connections ON connections.id = counted.connection AND counted.connection <> 0"#,
        PERMITTED_MAX,
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    let counted = rows.into_iter().map(|row| InFlightOf {
        kind: row.kind,
        flow: flow_of(row.account_id, row.connection),
        vendor: row.vendor,
        service: row.service,
        jobs: row.jobs,
    });
    Ok(counted.collect())
}

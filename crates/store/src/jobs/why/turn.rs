//! Whose turn it is before a job's, its account's share, and the limit or budget that has no room for it. Reads only.

use crate::{
    Concerned, Store, StoreError, Tx,
    jobs::{dispatch::flow_of, read::JobRow},
    kinds::kinds_known,
};
use chrono::{DateTime, Utc};
use domain::{
    AccountId, Candidate, Flow, InFlight, JobId, JobState, Kind, Limit, Limits, NoRoomFacts, Refusal, Release,
    Releasing, Rooms, Scope, Subject, URGENT, What,
};

/// Jobs before this one that are looked at.
pub(super) const AHEAD_MAX: i64 = 300;
/// Flows of its kind that are looked at for its share.
const FLOWS_MAX: i64 = 100;
/// Jobs that hold a limit's room, as many as are named and one more.
const HOLDERS_MAX: i32 = 6;

/// Whether there is room for a job.
pub(super) struct RoomFor {
    /// What has none.
    pub(super) none: Option<NoRoomFacts>,
    /// Jobs in flight of its connection; 0 where it has none.
    pub(super) in_flight_of_connection: i64,
    /// Jobs in flight of the service that was asked for.
    pub(super) in_flight_of_service: i64,
}

/// Which of what is in flight matters to a job: that whose number a limit, a quota or a release bounds.
struct Counted<'a> {
    kind: Option<&'a str>,
    account: Option<i64>,
    connection: Option<i64>,
    /// Everything, since a vendor's limit, or a service that recovers, covers connections of any account.
    is_all: bool,
}

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

    /// Whether a ready job has room now, and what is in flight of `service`. A job of a kind that no catalogue was seen to
    /// have is taken to make one call, to its connection's vendor.
    pub(super) async fn room_for(&self, job: &JobRow, service: Option<&str>) -> Result<RoomFor, StoreError> {
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
        let of_connection = facts.vendors.first().map(|(_, vendor)| vendor.clone());
        let vendor = of_connection.or_else(|| vendor_of(job.kind.as_str()));
        let mut wanted = Counted::of(job, vendor.as_deref(), &facts.limits);
        wanted.is_all |= service.is_some();
        let counted = in_flight(&mut tx, &wanted).await?;
        drop(tx);
        let vendor_in_flight = |flight: &InFlightOf| flight.vendor.clone().or_else(|| vendor_of(&flight.kind));
        for (flight, _) in &counted {
            let Ok(kind) = Kind::new(flight.kind.clone()) else { continue };
            let jobs = flight.jobs.unsigned_abs();
            let calls = jobs * u64::from(calls_of(kind.as_str()));
            let Flow { account, connection } = flight.flow;
            facts.in_flight.push(InFlight { kind, account, connection, vendor: vendor_in_flight(flight), jobs, calls });
        }
        let candidate = Candidate {
            kind: &job.kind,
            account: job.account_id,
            connection: job.connection_id,
            vendor: vendor.as_deref(),
            priority: job.priority,
            calls: calls_of(job.kind.as_str()),
        };
        let none = Rooms::new(facts).admit(&candidate).err().map(|refusal| {
            let held_by = match &refusal {
                Refusal::Limit { what: What::Concurrency, subject, .. } => first_of(&counted, |flight| match subject {
                    Subject::Kind(kind) => flight.kind == kind.as_str(),
                    Subject::Account(account) => flight.flow.account == *account,
                    Subject::Connection(connection) => flight.flow.connection == Some(*connection),
                    Subject::Vendor(vendor) => vendor_in_flight(flight).as_ref() == Some(vendor),
                }),
                _ => Vec::new(),
            };
            NoRoomFacts { refusal, held_by }
        });
        let in_flight = |is_of: &dyn Fn(&InFlightOf) -> bool| -> i64 {
            counted.iter().filter(|(flight, _)| is_of(flight)).map(|(flight, _)| flight.jobs).sum()
        };
        Ok(RoomFor {
            none,
            in_flight_of_connection: in_flight(&|flight| {
                flight.flow.connection.is_some() && flight.flow.connection == job.connection_id
            }),
            in_flight_of_service: in_flight(&|flight| service.is_some() && flight.service.as_deref() == service),
        })
    }

    /// How a job's connection, of which so many are in flight, is let go, where that has no room for the job now.
    pub(super) async fn releasing(
        &self,
        job: &JobRow,
        in_flight: i64,
        over_secs: u32,
    ) -> Result<Option<Releasing>, StoreError> {
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
        let release = row.and_then(|row| Release::latest(row.own_at, row.shared_at));
        let room = release.and_then(|release| Some((release.at, release.room(connection, over_secs, self.now())?)));
        let Some((since, room)) = room else { return Ok(None) };
        let is_full = in_flight >= i64::from(room.jobs);
        Ok(is_full.then_some(Releasing { connection: connection.0, since, room: room.jobs, until: room.until }))
    }
}

impl<'a> Counted<'a> {
    fn of(job: &'a JobRow, vendor: Option<&str>, limits: &Limits) -> Self {
        let has = |limit: Option<(Scope, Limit)>| limit.is_some_and(|(_, limit)| limit.concurrency.is_some());
        Self {
            kind: has(limits.of_kind(&job.kind)).then_some(job.kind.as_str()),
            account: has(limits.of_account(job.account_id)).then_some(job.account_id.0),
            // Its vendor may speak of a quota, and it may be let go little by little, whether or not it has a limit.
            connection: job.connection_id.map(|id| id.0),
            is_all: vendor.is_some_and(|vendor| has(limits.of_vendor(vendor))),
        }
    }
}

/// Jobs in flight of one kind and flow.
struct InFlightOf {
    kind: String,
    flow: Flow,
    /// Their connection's vendor and service.
    vendor: Option<String>,
    service: Option<String>,
    jobs: i64,
}

/// What is in flight of that which limits count, by kind and flow, each with its first jobs: all of the kind, the account
/// and the connection that are asked for, and of others what happens to have been let through together with those.
///
/// Each permit says of which flows it is, so that others' are not looked into; of the rest each job is read once, by its
/// id, however many the planner thinks there are (`LIMIT 1` leaves it no other way). That is no more than the fleet has in
/// hand, whatever waits.
async fn in_flight(tx: &mut Tx, counted: &Counted<'_>) -> Result<Vec<(InFlightOf, Vec<JobId>)>, StoreError> {
    let Counted { kind, account, connection, is_all } = *counted;
    if kind.is_none() && account.is_none() && connection.is_none() && !is_all {
        return Ok(Vec::new());
    }
    let rows = sqlx::query!(
        r#"-- in_flight
        WITH member AS (
            SELECT DISTINCT unnest(job_ids) AS id FROM permits
            WHERE $1 OR kind IS NULL OR kind = $2::text OR $3::bigint = ANY (accounts) OR $4::bigint = ANY (connections)
        ), counted AS (
            SELECT jobs.kind, jobs.account_id, coalesce(jobs.connection_id, 0) AS connection, count(*) AS jobs,
                   (array_agg(jobs.id ORDER BY jobs.id))[1:$5] AS first
            FROM member CROSS JOIN LATERAL (
                SELECT * FROM jobs WHERE jobs.id = member.id AND jobs.state IN (2, 3) LIMIT 1) AS jobs
            GROUP BY 1, 2, 3
        )
        SELECT counted.kind AS "kind!", counted.account_id AS "account_id!", counted.connection AS "connection!",
               counted.jobs AS "jobs!", counted.first AS "first!", connections.vendor AS "vendor?",
               coalesce(connections.service, connections.vendor) AS service
        FROM counted LEFT JOIN connections ON connections.id = counted.connection AND counted.connection <> 0"#,
        is_all,
        kind,
        account,
        connection,
        HOLDERS_MAX,
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    let counted = rows.into_iter().map(|row| {
        let flow = flow_of(row.account_id, row.connection);
        let flight = InFlightOf { kind: row.kind, flow, vendor: row.vendor, service: row.service, jobs: row.jobs };
        (flight, row.first.into_iter().map(JobId).collect())
    });
    Ok(counted.collect())
}

/// The first jobs of all that `is_under` the limit.
fn first_of(counted: &[(InFlightOf, Vec<JobId>)], is_under: impl Fn(&InFlightOf) -> bool) -> Vec<JobId> {
    let mut first: Vec<JobId> =
        counted.iter().filter(|(flight, _)| is_under(flight)).flat_map(|(_, first)| first).copied().collect();
    first.sort_unstable();
    first.truncate(usize::try_from(HOLDERS_MAX).unwrap_or(usize::MAX));
    first
}

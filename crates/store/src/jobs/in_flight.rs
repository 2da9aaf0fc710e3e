//! What is in flight of that which limits count: permits, one for each go that let such jobs through, and the tally that
//! is derived from them and the ledger. Owns no limit; what has room, `domain` says.

use super::{
    claimed::{AttemptKey, ClaimedJob},
    dispatch::{Upcoming, flow_of},
    own_attempts::OwnAttempts,
};
use crate::{Leadership, Store, StoreError, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{AttemptToken, Flow, JobId, Kind, PermitId, ServantId};
use foldhash::{HashMap, HashSet};
use std::collections::BTreeMap;

/// How long after a change of limits what is in flight is looked at once more: longer than a claim takes.
const REPEAT_AFTER: TimeDelta = TimeDelta::seconds(1);

/// Jobs that limits count and that are let through together, by flow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permit {
    pub(super) job_ids: Vec<i64>,
    pub(super) accounts: Vec<i64>,
    /// 0: none.
    pub(super) connections: Vec<i64>,
    pub(super) jobs: Vec<i32>,
}

impl Permit {
    pub(super) fn of<'a>(counted: impl Iterator<Item = &'a Upcoming>) -> Self {
        let mut permit = Self::default();
        let mut flows: BTreeMap<Flow, i32> = BTreeMap::new();
        for job in counted {
            permit.job_ids.push(job.taken.place.id.0);
            *flows.entry(job.taken.flow).or_default() += 1;
        }
        for (flow, jobs) in flows {
            permit.accounts.push(flow.account.0);
            permit.connections.push(flow.connection_key());
            permit.jobs.push(jobs);
        }
        permit
    }
}

/// Vendor and service.
type OfConnection = (Option<String>, Option<String>);

/// What is in flight, as far as one who lets jobs through knows it: counted from the ledger at some time, and every
/// permit since, less what it is told has ended: of its own servant's attempts only. What others have ended since is
/// still in it, so that it can only be too much. That is good enough while there is room; where it says that there is
/// none, count again.
#[derive(Debug, Default)]
pub struct Tally {
    /// Whose ends it is told of; none: nobody's.
    own: Option<(ServantId, Kind)>,
    /// That servant's attempts that are in it.
    attempts: OwnAttempts,
    /// Attempts of its servant of whose end nobody will tell: few, and forgotten at the first count that does not find them.
    lost: HashSet<AttemptKey>,
    /// The last permit that is in it; none: nothing was counted yet.
    to_permit: Option<i64>,
    jobs: BTreeMap<Kind, HashMap<Flow, i64>>,
    /// Vendors and services of the connections in it.
    connections: BTreeMap<i64, OfConnection>,
}

impl Tally {
    /// That of a servant, which tells it of every end.
    #[must_use]
    pub fn of_servant(servant: ServantId, kind: Kind) -> Self {
        Self { own: Some((servant, kind)), ..Self::default() }
    }

    /// Takes out attempts of its servant whose end is in the ledger. In which order with claims and counts does not
    /// matter: an attempt that is not in it any more is passed over.
    pub fn ended(&mut self, keys: impl IntoIterator<Item = AttemptKey>) {
        let Some((_, kind)) = &self.own else { return };
        let mut of_kind = self.jobs.get_mut(kind);
        for flow in keys.into_iter().filter_map(|key| self.attempts.remove(key)) {
            if let Some(jobs) = of_kind.as_mut().and_then(|flows| flows.get_mut(&flow)) {
                *jobs -= 1;
            }
        }
    }

    /// Takes note that of these attempts of its servant nobody will tell the end: their leases are lost, or the ledger takes
    /// no end of theirs. They stay in it until it is counted anew.
    pub fn lost(&mut self, keys: impl IntoIterator<Item = AttemptKey>) {
        for key in keys {
            self.attempts.remove(key);
            self.lost.insert(key);
        }
    }

    /// Takes in what its servant has claimed under `permit`, now that this is committed. Nothing else can have been let
    /// through since the last look, which was under the same lock.
    pub(super) fn took<'a>(&mut self, permit: PermitId, counted: impl Iterator<Item = &'a ClaimedJob> + Clone) {
        let is_known = |job: &ClaimedJob| job.connection.is_none_or(|id| self.connections.contains_key(&id.0));
        // Of others the next look takes in the permit.
        let Some((_, kind)) = self.own.as_ref().filter(|_| counted.clone().all(is_known)) else { return };
        let flows = self.jobs.entry(kind.clone()).or_default();
        for job in counted.clone() {
            *flows.entry(job.flow()).or_default() += 1;
        }
        self.attempts.extend(counted.map(|job| (job.key, job.flow())));
        self.to_permit = Some(permit.0);
    }

    /// The last permit that is in it, if anything was counted yet: there is none in it that came later.
    pub(super) const fn to_permit(&self) -> Option<i64> {
        self.to_permit
    }

    /// Whether another count may say less: attempts are in it of whose end nobody tells.
    pub(super) fn may_be_less(&self) -> bool {
        let all: i64 = self.jobs.values().flat_map(HashMap::values).sum();
        usize::try_from(all).is_ok_and(|all| all > self.attempts.len())
    }

    /// Jobs in flight, by kind and flow.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = (&Kind, Flow, i64)> {
        let flows =
            self.jobs.iter().flat_map(|(kind, flows)| flows.iter().map(move |(flow, jobs)| (kind, *flow, *jobs)));
        flows.filter(|(.., jobs)| *jobs > 0)
    }

    /// Vendor and service of a flow that is in it.
    pub(super) fn of_connection(&self, flow: Flow) -> Option<&OfConnection> {
        self.connections.get(&flow.connection?.0)
    }

    /// Takes in the permits since the last look. Within the lock of [`Store::begin_dispatch`] only, under which alone
    /// permits are written: so none is missed.
    pub(super) async fn follow(&mut self, tx: &mut Tx, outset: &Outset) -> Result<(), StoreError> {
        let Some(after) = self.to_permit.filter(|_| !outset.has_adopted) else {
            return self.count(tx, outset.last_permit).await;
        };
        if outset.last_permit <= after {
            return Ok(());
        }
        let rows = sqlx::query!(
            "-- follow
            SELECT id, kind, accounts, connections, jobs FROM permits WHERE id > $1 ORDER BY id",
            after,
        )
        .fetch_all(&mut *tx.inner)
        .await?;
        for row in rows {
            let (Some(Ok(kind)), Some(accounts), Some(connections), Some(jobs)) =
                (row.kind.map(Kind::new), row.accounts, row.connections, row.jobs)
            else {
                return self.count(tx, outset.last_permit).await;
            };
            let of_kind = self.jobs.entry(kind).or_default();
            for ((account, connection), jobs) in accounts.into_iter().zip(connections).zip(jobs) {
                if connection != 0 && !self.connections.contains_key(&connection) {
                    return self.count(tx, outset.last_permit).await;
                }
                *of_kind.entry(flow_of(account, connection)).or_default() += i64::from(jobs);
            }
        }
        self.to_permit = Some(outset.last_permit);
        Ok(())
    }

    /// Counts anew; `last_permit` is the latest there was. Permits of which no job is in flight any more are dropped on
    /// the way, since they alone would make the next count dearer.
    pub(super) async fn count(&mut self, tx: &mut Tx, last_permit: i64) -> Result<(), StoreError> {
        let permits = self.read(tx).await?;
        self.to_permit = self.to_permit.max(Some(last_permit));
        sqlx::query!(
            "-- drop_ended_permits\nDELETE FROM permits WHERE id <= $1 AND id <> ALL($2)",
            self.to_permit,
            &permits,
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok(())
    }

    /// Counts anew; answers with the permits of which jobs are in flight.
    async fn read(&mut self, tx: &mut Tx) -> Result<Vec<i64>, StoreError> {
        let rows = sqlx::query!(
            r#"-- count_in_flight
            WITH live AS MATERIALIZED (
                SELECT permits.id AS permit, jobs.id, jobs.kind, jobs.account_id, coalesce(jobs.connection_id, 0) AS connection,
                       CASE WHEN jobs.servant_id = $1 THEN jobs.attempt_token END AS own_token
                FROM permits CROSS JOIN LATERAL unnest(permits.job_ids) AS member (id)
                JOIN jobs ON jobs.id = member.id AND jobs.state IN (2, 3)
            ), counted AS (
                SELECT kind, account_id, connection, count(DISTINCT id) AS jobs,
                       array_agg(id) FILTER (WHERE own_token IS NOT NULL) AS own,
                       array_agg(own_token) FILTER (WHERE own_token IS NOT NULL) AS own_tokens
                FROM live
                GROUP BY kind, account_id, connection
            ), seen AS (
                SELECT (SELECT coalesce(max(id), 0) FROM permits) AS last,
                       (SELECT coalesce(array_agg(DISTINCT permit), '{}') FROM live) AS with_live
            )
            SELECT seen.last AS "last!", seen.with_live AS "with_live!", counted.kind AS "kind?",
                   counted.account_id AS "account_id?", counted.connection AS "connection?",
                   counted.jobs AS "jobs?", counted.own, counted.own_tokens, connections.vendor AS "vendor?",
                   coalesce(connections.service, connections.vendor) AS service
            FROM seen LEFT JOIN counted ON true
            LEFT JOIN connections ON connections.id = counted.connection AND counted.connection <> 0"#,
            self.own.as_ref().map(|(servant, _)| servant.0),
        )
        .fetch_all(&mut *tx.inner)
        .await?;
        let (mut with_live, mut attempts) = (Vec::new(), Vec::new());
        // Ids are given out in the order of the lock, so what was dropped before is not given out again.
        let before = self.to_permit.unwrap_or(0);
        let lost = std::mem::take(&mut self.lost);
        *self = Self { own: self.own.take(), ..Self::default() };
        for row in rows {
            self.to_permit = Some(row.last.max(before));
            with_live = row.with_live;
            let (Some(Ok(kind)), Some(account), Some(connection), Some(jobs)) =
                (row.kind.map(Kind::new), row.account_id, row.connection, row.jobs)
            else {
                continue;
            };
            if connection != 0 {
                self.connections.insert(connection, (row.vendor, row.service));
            }
            let flow = flow_of(account, connection);
            let own = row.own.into_iter().flatten().zip(row.own_tokens.into_iter().flatten());
            let keys = own.map(|(id, token)| AttemptKey { id: JobId(id), token: AttemptToken(token) });
            attempts.extend(keys.map(|key| (key, flow)));
            self.jobs.entry(kind).or_default().insert(flow, jobs);
        }
        // One that is lost may be there until it is rescued, which nobody tells either.
        self.lost.extend(attempts.iter().map(|(key, _)| *key).filter(|key| lost.contains(key)));
        self.attempts.extend(attempts.into_iter().filter(|(key, _)| !lost.contains(key)));
        Ok(with_live)
    }
}

impl Store {
    /// Opens a transaction in which jobs may be let through that limits count: one at a time does, whichever process it
    /// is, so that no two take the same room.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin_dispatch(&self) -> Result<Tx, StoreError> {
        // The lock comes with the beginning: each journey more is time in which nobody else lets anything through.
        let begin = "BEGIN; SELECT /* begin_dispatch */ pg_advisory_xact_lock(hashtextextended('dispatch', 0))";
        Ok(Tx { inner: self.pool.begin_with(begin).await? })
    }

    /// Takes the ended jobs out of permits that are mostly history, and drops those of which none is in flight,
    /// `permits_max` looked at.
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
}

/// Limits in all, and when the latest was set: another answer when any has changed.
pub(super) type LimitsStamp = (i64, Option<DateTime<Utc>>);

/// What one who lets jobs through looks at first, within the lock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outset {
    /// The limits there are.
    pub(super) limits: LimitsStamp,
    /// For which limits everything in flight was put on a permit.
    adopted: LimitsStamp,
    adopted_at: Option<DateTime<Utc>>,
    must_repeat: bool,
    /// Urgent jobs of the kind are ready.
    pub(super) has_urgent: bool,
    /// The latest permit that was begun: none can be in the ledger that came later.
    pub(super) last_permit: i64,
    /// What was in flight was put on a permit that says nothing of flows: one more than `last_permit`.
    has_adopted: bool,
}

impl Outset {
    pub(super) async fn of(tx: &mut Tx, kind: &Kind) -> Result<Self, StoreError> {
        let row = sqlx::query!(
            r#"-- outset
            SELECT adopted.limits, adopted.latest, adopted.adopted_at, adopted.must_repeat,
                   (SELECT count(*) FROM limits) AS "limits_now!", (SELECT max(set_at) FROM limits) AS latest_now,
                   EXISTS (SELECT FROM jobs WHERE kind = $1 AND priority = 0 AND ready_at IS NOT NULL AND state = 1)
                   AS "has_urgent!",
                   (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM permits_id_seq) AS "last_permit!"
            FROM adopted_limits AS adopted"#,
            kind.as_str(),
        )
        .fetch_one(&mut *tx.inner)
        .await?;
        Ok(Self {
            limits: (row.limits_now, row.latest_now),
            adopted: (row.limits, row.latest),
            adopted_at: row.adopted_at,
            must_repeat: row.must_repeat,
            has_urgent: row.has_urgent,
            last_permit: row.last_permit,
            has_adopted: false,
        })
    }
}

/// Puts everything that is queued or running on a permit when limits have changed: what was let through before a limit
/// was set counts under it, too. Done once more a moment later, since a claim under way had not seen the limit. Within the
/// lock, and `outset` not older than the limits that are decided by: so that none is for which this was not done.
///
/// The permit says nothing of flows, so that everyone counts anew.
pub(super) async fn adopt_in_flight(tx: &mut Tx, outset: &mut Outset, now: DateTime<Utc>) -> Result<(), StoreError> {
    let has_changed = outset.adopted != outset.limits;
    let is_due = outset.must_repeat && outset.adopted_at.is_none_or(|at| now - at >= REPEAT_AFTER);
    if !has_changed && !is_due {
        return Ok(());
    }
    outset.has_adopted = true;
    sqlx::query!(
        "-- adopt_in_flight
        WITH member AS (
            SELECT unnest(job_ids) AS id FROM leases UNION SELECT unnest(job_ids) FROM dispatches
        ), live AS (
            SELECT array_agg(jobs.id) AS ids FROM member JOIN jobs ON jobs.id = member.id AND jobs.state IN (2, 3)
        ), permitted AS (
            INSERT INTO permits (job_ids) SELECT ids FROM live WHERE ids IS NOT NULL
        )
        UPDATE adopted_limits SET limits = $1, latest = $2, adopted_at = $3, must_repeat = $4",
        outset.limits.0,
        outset.limits.1,
        now,
        has_changed,
    )
    .execute(&mut *tx.inner)
    .await?;
    Ok(())
}

//! What one dispatch needs to know of limits and budgets, and what it writes back: token buckets, days, paces. Only the
//! leader's dispatch writes, in a transaction that checks the lead, so that no two take the same room.

use crate::{Leadership, Store, StoreError, Tx, limits::limits_in_force};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use domain::{
    AccountId, Bucket, BudgetFacts, ConnectionId, DayUse, Gauge, Kind, LimitState, Limits, Pace, Per, RoomsFacts,
    Subject, VendorBudget,
};
use sqlx::PgConnection;
use std::sync::Arc;

/// Days after which what was not used is forgotten: a bucket is full again by then, a day is over, a pace is at rest.
const KEPT_DAYS: i64 = 8;

/// Whose jobs a dispatch looks at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Concerned {
    /// Their kinds.
    pub kinds: Vec<Kind>,
    /// Their accounts.
    pub accounts: Vec<AccountId>,
    /// Their connections. The vendors of these are concerned, too.
    pub connections: Vec<ConnectionId>,
    /// The vendors of kinds that say theirs.
    pub vendors: Vec<String>,
}

impl Store {
    /// Everything but what is in flight; `in_flight` is empty, for the caller to fill.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rooms_facts_in(&self, tx: &mut Tx, concerned: &Concerned) -> Result<RoomsFacts, StoreError> {
        let limits = Arc::new(self.limits_of(tx, concerned).await?);
        self.rooms_facts_under(tx, concerned, limits).await
    }

    /// The limits that count for them.
    pub(crate) async fn limits_of(&self, tx: &mut Tx, concerned: &Concerned) -> Result<Limits, StoreError> {
        let (accounts, connections) = (keys(concerned.accounts.iter().map(|id| id.0)), keys_of(&concerned.connections));
        limits_in_force(&mut tx.inner, &accounts, &connections).await
    }

    /// [`Self::rooms_facts_in`] under limits that are known.
    pub(crate) async fn rooms_facts_under(
        &self,
        tx: &mut Tx,
        concerned: &Concerned,
        limits: Arc<Limits>,
    ) -> Result<RoomsFacts, StoreError> {
        let conn = &mut *tx.inner;
        let (vendors, budgets) = budgets_of(conn, &concerned.connections).await?;
        let mut facts =
            RoomsFacts { now: self.clock.now(), limits, in_flight: Vec::new(), states: Vec::new(), vendors, budgets };
        if facts.limits.have_gauges() || !facts.budgets.is_empty() {
            facts.states = states_of(conn, subjects_of(concerned, &facts.vendors)).await?;
        }
        Ok(facts)
    }

    /// Remembers what a dispatch has taken, in its transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_limit_states_in(&self, tx: &mut Tx, states: &[LimitState]) -> Result<(), StoreError> {
        save_limit_states(&mut tx.inner, self.clock.now(), states).await
    }

    /// Forgets what nothing has used for long, and the budgets' history past its days, `limit` rows of each at the most.
    /// Answers with how many in all. How long what only another version remembers is good is that one's to say.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn prune_limits(&self, leadership: &Leadership, limit: i64) -> Result<u64, StoreError> {
        let before = self.clock.now() - TimeDelta::days(KEPT_DAYS);
        let pruned = sqlx::query_scalar!(
            r#"-- prune_limits
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE),
            states AS (
                DELETE FROM limit_states WHERE (scope, key, gauge) IN (
                    SELECT scope, key, gauge FROM limit_states
                    WHERE at < $3 AND EXISTS (SELECT FROM led) AND scope IN ('kind', 'account', 'connection', 'vendor')
                      AND gauge IN ('second', 'minute', 'day', 'pace') LIMIT $4)
                  AND at < $3
                RETURNING 1
            ),
            minutes AS (
                DELETE FROM vendor_budget_minutes WHERE (connection_id, minute) IN (
                    SELECT connection_id, minute FROM vendor_budget_minutes
                    WHERE minute < $3 AND EXISTS (SELECT FROM led) ORDER BY minute LIMIT $4)
                RETURNING 1
            )
            SELECT (SELECT count(*) FROM states) + (SELECT count(*) FROM minutes) AS "pruned!""#,
            leadership.term.0,
            leadership.holder,
            before,
            limit,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(u64::try_from(pruned).unwrap_or(0))
    }
}

fn keys(ids: impl Iterator<Item = i64>) -> Vec<String> {
    ids.map(|id| id.to_string()).collect()
}

fn keys_of(connections: &[ConnectionId]) -> Vec<String> {
    keys(connections.iter().map(|id| id.0))
}

/// Scope and key of everything of which something may be remembered.
fn subjects_of(concerned: &Concerned, vendors: &[(ConnectionId, String)]) -> Vec<(String, String)> {
    let mut names: Vec<&String> = concerned.vendors.iter().chain(vendors.iter().map(|(_, vendor)| vendor)).collect();
    names.sort_unstable();
    names.dedup();
    let of = |scope: &'static str, keys: Vec<String>| keys.into_iter().map(move |key| (scope.to_owned(), key));
    of("account", keys(concerned.accounts.iter().map(|id| id.0)))
        .chain(of("connection", keys_of(&concerned.connections)))
        .chain(of("kind", concerned.kinds.iter().map(|kind| kind.as_str().to_owned()).collect()))
        .chain(of("vendor", names.into_iter().cloned().collect()))
        .collect()
}

async fn states_of(conn: &mut PgConnection, subjects: Vec<(String, String)>) -> Result<Vec<LimitState>, StoreError> {
    let (scopes, keys): (Vec<String>, Vec<String>) = subjects.into_iter().unzip();
    let rows = sqlx::query!(
        "-- states_of
        SELECT s.scope, s.key, s.gauge, s.at, s.parts, s.day, s.used, s.probed_at
        FROM unnest($1::text[], $2::text[]) AS t (scope, key)
        JOIN limit_states AS s ON s.scope = t.scope AND s.key = t.key",
        &scopes,
        &keys,
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| {
            let corrupt = |column| StoreError::Corrupt {
                table: "limit_states",
                column,
                row: format!("{} {} {}", row.scope, row.key, row.gauge),
            };
            let subject = Subject::new(&row.scope, &row.key).map_err(|_| corrupt("key"))?;
            let parts = row.parts.ok_or_else(|| corrupt("parts"));
            let gauge = match row.gauge.as_str() {
                "second" => Gauge::Bucket(Per::Second, Bucket { parts: parts?, at: row.at }),
                "minute" => Gauge::Bucket(Per::Minute, Bucket { parts: parts?, at: row.at }),
                "pace" => Gauge::Pace(Pace { parts: parts?, at: row.at, probed_at: row.probed_at }),
                "day" => Gauge::Day(DayUse {
                    day: row.day.ok_or_else(|| corrupt("day"))?,
                    used: row.used.and_then(|used| u64::try_from(used).ok()).ok_or_else(|| corrupt("used"))?,
                }),
                // Of a version that measures something else as well.
                _ => return Ok(None),
            };
            Ok(Some(LimitState { subject, gauge }))
        })
        .filter_map(Result::transpose)
        .collect()
}

/// The vendors of connections, and what those vendors said.
async fn budgets_of(
    conn: &mut PgConnection,
    connections: &[ConnectionId],
) -> Result<(Vec<(ConnectionId, String)>, Vec<BudgetFacts>), StoreError> {
    if connections.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let ids: Vec<i64> = connections.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"-- budgets_of
        SELECT c.id, c.vendor, b.used AS "used?", b.maximum AS "maximum?", b.reported_at AS "reported_at?", b.resets_at,
               coalesce(own.share_pct, common.share_pct) AS share_pct,
               coalesce(own.health_pct, common.health_pct) AS health_pct
        FROM unnest($1::bigint[]) AS t (id)
        JOIN connections AS c ON c.id = t.id
        LEFT JOIN vendor_budgets AS b ON b.connection_id = c.id
        LEFT JOIN budget_settings AS own ON own.connection_id = c.id
        LEFT JOIN budget_settings AS common ON common.connection_id = 0"#,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    let mut budgets = Vec::new();
    let mut vendors = Vec::new();
    for row in rows {
        let connection = ConnectionId(row.id);
        vendors.push((connection, row.vendor));
        let (Some(used), Some(maximum), Some(reported_at)) = (row.used, row.maximum, row.reported_at) else { continue };
        let calls = |calls: i64| u64::try_from(calls).unwrap_or(0);
        let budget = VendorBudget { used: calls(used), maximum: calls(maximum), reported_at, resets_at: row.resets_at };
        let settings = crate::budgets::settings_of(row.share_pct, row.health_pct).unwrap_or_default();
        budgets.push(BudgetFacts { connection, budget, settings });
    }
    Ok((vendors, budgets))
}

/// Remembers what a dispatch has taken.
pub(crate) async fn save_limit_states(
    conn: &mut PgConnection,
    now: DateTime<Utc>,
    states: &[LimitState],
) -> Result<(), StoreError> {
    if states.is_empty() {
        return Ok(());
    }
    let columns = |gauge: &Gauge| match gauge {
        Gauge::Bucket(_, bucket) => (bucket.at, Some(bucket.parts), None, None, None),
        Gauge::Day(day) => (now, None, Some(day.day), Some(i64::try_from(day.used).unwrap_or(i64::MAX)), None),
        Gauge::Pace(pace) => (pace.at, Some(pace.parts), None, None, pace.probed_at),
    };
    type Columns = (DateTime<Utc>, Option<i64>, Option<NaiveDate>, Option<i64>, Option<DateTime<Utc>>);
    let columns: Vec<Columns> = states.iter().map(|state| columns(&state.gauge)).collect();
    let names = states.iter().map(|state| state.subject.own_scope());
    let (scopes, keys): (Vec<String>, Vec<String>) = names.map(|scope| (scope.scope().to_owned(), scope.key())).unzip();
    sqlx::query!(
        "-- save_limit_states
        INSERT INTO limit_states (scope, key, gauge, at, parts, day, used, probed_at)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::bigint[], $6::date[],
                             $7::bigint[], $8::timestamptz[])
        ON CONFLICT (scope, key, gauge) DO UPDATE SET at = excluded.at, parts = excluded.parts, day = excluded.day,
            used = excluded.used, probed_at = excluded.probed_at",
        &scopes,
        &keys,
        &states.iter().map(|state| state.gauge.name().to_owned()).collect::<Vec<_>>(),
        &columns.iter().map(|c| c.0).collect::<Vec<_>>(),
        &columns.iter().map(|c| c.1).collect::<Vec<_>>() as &[Option<i64>],
        &columns.iter().map(|c| c.2).collect::<Vec<_>>() as &[Option<NaiveDate>],
        &columns.iter().map(|c| c.3).collect::<Vec<_>>() as &[Option<i64>],
        &columns.iter().map(|c| c.4).collect::<Vec<_>>() as &[Option<DateTime<Utc>>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

//! The audit as people read it: the latest first, or from a time on to be kept elsewhere.

use crate::{PAGE_ROWS_MAX, Store, StoreError};
use chrono::{DateTime, TimeDelta, Utc};
use domain::AccountId;
use serde_json::Value;
use uuid::Uuid;

/// A row of the audit.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditRow {
    /// Its number; later ones are greater, and some are missing: a number is used up by what was rolled back.
    pub seq: i64,
    /// When.
    pub at: DateTime<Utc>,
    /// user, token, servant, system or open.
    pub actor_kind: String,
    /// The row of users, tokens or servants.
    pub actor_id: String,
    /// The name that people read.
    pub actor: String,
    /// The role.
    pub role: String,
    /// The account that was looked at as its customer does.
    pub on_behalf_of: Option<i64>,
    /// What.
    pub action: String,
    /// With what.
    pub subject: String,
    /// With which one.
    pub key: String,
    /// What changed, as it was.
    pub before: Option<Value>,
    /// What changed, as it is.
    pub after: Option<Value>,
    /// Why; empty where nobody said.
    pub reason: String,
    /// Which request.
    pub request_id: Option<Uuid>,
    /// The other end of the connection.
    pub ip: Option<String>,
    /// What the program said of itself.
    pub agent: String,
    /// done, denied, failed or lapsed.
    pub outcome: String,
    /// Of all of the above.
    pub row_hash: Vec<u8>,
    /// Of the row before and of this one; none: not sealed yet.
    pub chain_hash: Option<Vec<u8>>,
}

/// Which rows of the audit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// By that name.
    pub actor: Option<String>,
    /// Of that action.
    pub action: Option<String>,
    /// With that sort of thing.
    pub subject: Option<String>,
    /// With that one.
    pub key: Option<String>,
    /// While that account was looked at as its customer does.
    pub account: Option<AccountId>,
    /// From then on.
    pub since: Option<DateTime<Utc>>,
    /// Numbers below this one.
    pub before: Option<i64>,
}

/// Rows that one page looks at where no index has what is asked for.
const LOOK_MAX: i64 = 400;

/// Further than this no two rows are out of order: a number is taken within the deed's transaction, the time before it, by
/// a clock of its own host, and both together make minutes at the most.
const ORDER_SLACK: TimeDelta = TimeDelta::hours(2);

/// A page of the audit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuditFound {
    /// The latest first.
    pub rows: Vec<AuditRow>,
    /// Below which number to look on; none: there are no more.
    pub next_before: Option<i64>,
}

/// A page of an export.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuditExported {
    /// The oldest first.
    pub rows: Vec<AuditRow>,
    /// Behind which number to look on; none: there are no more.
    pub next_after: Option<i64>,
}

/// The next rows of the audit, as far as a page of an export looks.
struct Looked {
    rows: i64,
    /// The greatest number among those that are sealed.
    sealed: Option<i64>,
    /// One of them is so late that none behind it can be meant.
    is_past: bool,
}

impl Store {
    /// Rows of the audit, the latest first, `limit` at most: as far as it takes to find them. What somebody waits for is
    /// [`Self::search_audit`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_audit(&self, filter: &AuditFilter, limit: i64) -> Result<Vec<AuditRow>, StoreError> {
        let (mut filter, mut rows) = (filter.clone(), Vec::new());
        let limit = limit.clamp(1, PAGE_ROWS_MAX);
        loop {
            let left = limit - i64::try_from(rows.len()).unwrap_or(i64::MAX);
            let found = self.search_audit(&filter, left).await?;
            rows.extend(found.rows);
            let is_full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= limit);
            match found.next_before {
                Some(next) if !is_full => filter.before = Some(next),
                _ => return Ok(rows),
            }
        }
    }

    /// One page of the audit, the latest first, `limit` at most, from a bounded number of rows: it may be short, and say
    /// below which number to look on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn search_audit(&self, filter: &AuditFilter, limit: i64) -> Result<AuditFound, StoreError> {
        let (before, limit) = (filter.before.unwrap_or(i64::MAX), limit.clamp(1, PAGE_ROWS_MAX));
        let (rows, horizon) = match (&filter.subject, &filter.key) {
            // What was done with one thing has an index in its order.
            (Some(subject), Some(key)) => (self.audit_of(filter, (subject, key), before, limit).await?, None),
            _ => {
                let horizon = self.audit_horizon(before).await?;
                (self.audit_above(filter, horizon.unwrap_or(0), before, limit).await?, horizon)
            }
        };
        let is_full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= limit);
        let next_before = if is_full { rows.last().map(|row| row.seq) } else { horizon };
        Ok(AuditFound { rows, next_before })
    }

    async fn audit_of(
        &self,
        filter: &AuditFilter,
        (subject, key): (&str, &str),
        before: i64,
        limit: i64,
    ) -> Result<Vec<AuditRow>, StoreError> {
        Ok(sqlx::query_as!(
            AuditRow,
            "-- audit_of
            SELECT seq, at, actor_kind, actor_id, actor, role, on_behalf_of, action, subject, key, before, after,
                   reason, request_id, ip, agent, outcome, row_hash, chain_hash
            FROM audit
            WHERE subject = $1 AND key = $2 AND seq < $3 AND ($4::text IS NULL OR actor = $4)
                AND ($5::text IS NULL OR action = $5) AND ($6::bigint IS NULL OR on_behalf_of = $6)
                AND ($7::timestamptz IS NULL OR at >= $7)
            ORDER BY seq DESC LIMIT $8",
            subject,
            key,
            before,
            filter.actor.as_deref(),
            filter.action.as_deref(),
            filter.account.map(|account| account.0),
            filter.since,
            limit,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// What was done last with each of those things, by subject and key, the latest of all first: `each` of one, and no more
    /// than a page of all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_of_things(&self, things: &[(&str, String)], each: i64) -> Result<Vec<AuditRow>, StoreError> {
        let (subjects, keys): (Vec<String>, Vec<String>) =
            things.iter().map(|(subject, key)| ((*subject).to_owned(), key.clone())).unzip();
        Ok(sqlx::query_as!(
            AuditRow,
            "-- audit_of_things
            SELECT a.seq, a.at, a.actor_kind, a.actor_id, a.actor, a.role, a.on_behalf_of, a.action, a.subject, a.key,
                   a.before, a.after, a.reason, a.request_id, a.ip, a.agent, a.outcome, a.row_hash, a.chain_hash
            FROM unnest($1::text[], $2::text[]) AS thing (subject, key) CROSS JOIN LATERAL (
                SELECT * FROM audit WHERE subject = thing.subject AND key = thing.key ORDER BY seq DESC LIMIT $3) AS a
            ORDER BY a.seq DESC LIMIT $4",
            &subjects,
            &keys,
            each.clamp(1, PAGE_ROWS_MAX),
            PAGE_ROWS_MAX,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// The number down to which one page looks; none: there are no more below.
    async fn audit_horizon(&self, before: i64) -> Result<Option<i64>, StoreError> {
        Ok(sqlx::query_scalar!(
            r#"-- audit_horizon
            SELECT min(seq) AS "seq?" FROM (SELECT seq FROM audit WHERE seq < $1 ORDER BY seq DESC LIMIT $2) AS looked
            HAVING count(*) >= $2"#,
            before,
            LOOK_MAX,
        )
        .fetch_optional(&self.pool)
        .await?
        .flatten())
    }

    async fn audit_above(
        &self,
        filter: &AuditFilter,
        horizon: i64,
        before: i64,
        limit: i64,
    ) -> Result<Vec<AuditRow>, StoreError> {
        Ok(sqlx::query_as!(
            AuditRow,
            "-- audit_above
            SELECT seq, at, actor_kind, actor_id, actor, role, on_behalf_of, action, subject, key, before, after,
                   reason, request_id, ip, agent, outcome, row_hash, chain_hash
            FROM audit
            WHERE seq < $1 AND seq >= $9 AND ($2::text IS NULL OR actor = $2) AND ($3::text IS NULL OR action = $3)
                AND ($4::text IS NULL OR subject = $4) AND ($5::text IS NULL OR key = $5)
                AND ($6::bigint IS NULL OR on_behalf_of = $6) AND ($7::timestamptz IS NULL OR at >= $7)
            ORDER BY seq DESC LIMIT $8",
            before,
            filter.actor.as_deref(),
            filter.action.as_deref(),
            filter.subject.as_deref(),
            filter.key.as_deref(),
            filter.account.map(|account| account.0),
            filter.since,
            limit,
            horizon,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// A page of the sealed rows from `since` until before `until`, the oldest first, behind the number `after`, `limit` at
    /// most, from a bounded number of rows: it may be short or empty, and say behind which number to look on. What is kept
    /// elsewhere is complete up to there, since nothing comes in between any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn export_audit(
        &self,
        after: i64,
        (since, until): (Option<DateTime<Utc>>, Option<DateTime<Utc>>),
        limit: i64,
    ) -> Result<AuditExported, StoreError> {
        let limit = limit.clamp(1, PAGE_ROWS_MAX);
        let after = match since.and_then(|since| since.checked_sub_signed(ORDER_SLACK)) {
            Some(well_before) => after.max(self.audit_before(well_before).await?.unwrap_or(0)),
            None => after,
        };
        let looked = self.audit_looked(after, until.and_then(|until| until.checked_add_signed(ORDER_SLACK))).await?;
        let Some(horizon) = looked.sealed else { return Ok(AuditExported::default()) };
        let rows = self.audit_sealed(after, horizon, (since, until), limit).await?;
        let is_full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= limit);
        let is_last = looked.rows < LOOK_MAX || looked.is_past;
        let next_after = if is_full { rows.last().map(|row| row.seq) } else { Some(horizon).filter(|_| !is_last) };
        Ok(AuditExported { rows, next_after })
    }

    /// The number of the latest row before that time: no row up to it is [`ORDER_SLACK`] later than that.
    async fn audit_before(&self, at: DateTime<Utc>) -> Result<Option<i64>, StoreError> {
        Ok(sqlx::query_scalar!(
            "-- audit_before
            SELECT seq FROM audit WHERE at < $1 ORDER BY at DESC, seq DESC LIMIT 1",
            at,
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// What one page of an export looks at.
    async fn audit_looked(&self, after: i64, past: Option<DateTime<Utc>>) -> Result<Looked, StoreError> {
        Ok(sqlx::query_as!(
            Looked,
            r#"-- audit_looked
            SELECT count(*) AS "rows!", max(seq) FILTER (WHERE chain_hash IS NOT NULL) AS sealed,
                   coalesce(bool_or(at >= $3), false) AS "is_past!"
            FROM (SELECT seq, at, chain_hash FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2) AS looked"#,
            after,
            LOOK_MAX,
            past,
        )
        .fetch_one(&self.pool)
        .await?)
    }

    async fn audit_sealed(
        &self,
        after: i64,
        horizon: i64,
        (since, until): (Option<DateTime<Utc>>, Option<DateTime<Utc>>),
        limit: i64,
    ) -> Result<Vec<AuditRow>, StoreError> {
        Ok(sqlx::query_as!(
            AuditRow,
            "-- audit_sealed
            SELECT seq, at, actor_kind, actor_id, actor, role, on_behalf_of, action, subject, key, before, after,
                   reason, request_id, ip, agent, outcome, row_hash, chain_hash
            FROM audit
            WHERE seq > $1 AND seq <= $5 AND chain_hash IS NOT NULL AND ($2::timestamptz IS NULL OR at >= $2)
                AND ($3::timestamptz IS NULL OR at < $3)
            ORDER BY seq LIMIT $4",
            after,
            since,
            until,
            limit,
            horizon,
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

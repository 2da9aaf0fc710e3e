//! Looks at accounts as their customers see them: who begins one, why, until when, and what was looked at meanwhile.
//! Owns these rows; events are only ever appended. What is shown during one is `assumed`'s and the manager's.

use crate::{
    PAGE_ROWS_MAX, Store, StoreError,
    audit::{Deed, note_each},
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{AccountId, Granted, action};
use serde_json::json;
use sqlx::PgConnection;

/// From its beginning to its end at the latest, in minutes. The table holds no longer one.
const MINUTES: i64 = 30;

/// A look that begins.
#[derive(Debug, Clone, Copy)]
pub struct NewAssumption<'a> {
    /// At which account.
    pub account: AccountId,
    /// Why.
    pub reason: &'a str,
    /// The ticket of whoever asked for it.
    pub ticket: &'a str,
    /// SHA-256 of what the browser's cookie holds.
    pub token_digest: &'a [u8],
}

/// A look at an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssumptionRow {
    /// Its id.
    pub id: i64,
    /// What kind of principal.
    pub principal_kind: String,
    /// The principal's row.
    pub principal_id: String,
    /// The principal's name, as it was.
    pub principal_name: String,
    /// At which account.
    pub account_id: i64,
    /// Why.
    pub reason: String,
    /// The ticket.
    pub ticket: String,
    /// Since when.
    pub started_at: DateTime<Utc>,
    /// Until when, at the latest.
    pub ends_at: DateTime<Utc>,
    /// When it ended; none: it has not, or nobody has noticed yet.
    pub ended_at: Option<DateTime<Utc>>,
}

impl AssumptionRow {
    /// Whether it goes on at that time.
    #[must_use]
    pub fn is_open(&self, now: DateTime<Utc>) -> bool {
        self.ended_at.is_none() && now < self.ends_at
    }
}

/// What happened during a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookedAt {
    /// Something was shown.
    Looked,
    /// Something was asked for that is not shown, or not done.
    Refused,
}

impl LookedAt {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Looked => "looked",
            Self::Refused => "refused",
        }
    }
}

/// Something that happened during a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssumptionEvent {
    /// Its id; later ones are greater.
    pub id: i64,
    /// started, looked, refused, ended or expired.
    pub what: String,
    /// The method and the address.
    pub at_what: String,
    /// When.
    pub at: DateTime<Utc>,
}

impl Store {
    /// Begins a look, and ends those whose time is over.
    ///
    /// # Errors
    /// [`StoreError`]; `Rejected` when there is no such account.
    pub async fn begin_assumption(
        &self,
        granted: &Granted<action::AssumeAccount>,
        new: &NewAssumption<'_>,
    ) -> Result<AssumptionRow, StoreError> {
        let (now, principal) = (self.clock.now(), granted.principal());
        let mut tx = self.begin().await?;
        expire(&mut tx.inner, now).await?;
        let row = sqlx::query_as!(
            AssumptionRow,
            "-- begin_assumption
            INSERT INTO assumptions (principal_kind, principal_id, principal_name, account_id, reason, ticket,
                                     token_digest, started_at, ends_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            RETURNING id, principal_kind, principal_id, principal_name, account_id, reason, ticket, started_at, ends_at,
                      ended_at",
            principal.kind().as_str(),
            principal.id(),
            principal.name(),
            new.account.0,
            new.reason,
            new.ticket,
            new.token_digest,
            now,
            now + TimeDelta::minutes(MINUTES),
        )
        .fetch_one(&mut *tx.inner)
        .await?;
        append(&mut tx.inner, row.id, "started", "", now).await?;
        let after = json!({ "assumption": row.id, "reason": new.reason, "ticket": new.ticket });
        let deed = Deed { key: new.account.to_string(), before: None, after: Some(after) };
        note_each(&mut tx.inner, granted, "account", vec![deed], now).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// The look whose cookie has that digest, whether it goes on or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn assumption_of(&self, token_digest: &[u8]) -> Result<Option<AssumptionRow>, StoreError> {
        Ok(sqlx::query_as!(
            AssumptionRow,
            "-- assumption_of
            SELECT id, principal_kind, principal_id, principal_name, account_id, reason, ticket, started_at, ends_at,
                   ended_at
            FROM assumptions WHERE token_digest = $1",
            token_digest,
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// One look.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_assumption(&self, id: i64) -> Result<Option<AssumptionRow>, StoreError> {
        Ok(sqlx::query_as!(
            AssumptionRow,
            "-- find_assumption
            SELECT id, principal_kind, principal_id, principal_name, account_id, reason, ticket, started_at, ends_at,
                   ended_at
            FROM assumptions WHERE id = $1",
            id,
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Looks at one account or at all, the latest first; `before` is the last id of the page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_assumptions(
        &self,
        account: Option<AccountId>,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<AssumptionRow>, StoreError> {
        let (before, limit) = (before.unwrap_or(i64::MAX), limit.clamp(1, PAGE_ROWS_MAX));
        // Two statements, each with an index in its order.
        Ok(match account {
            Some(account) => {
                sqlx::query_as!(
                    AssumptionRow,
                    "-- assumptions_of_account
                    SELECT id, principal_kind, principal_id, principal_name, account_id, reason, ticket, started_at,
                           ends_at, ended_at
                    FROM assumptions WHERE account_id = $1 AND id < $2 ORDER BY account_id DESC, id DESC LIMIT $3",
                    account.0,
                    before,
                    limit,
                )
                .fetch_all(&self.pool)
                .await?
            }
            None => {
                sqlx::query_as!(
                    AssumptionRow,
                    "-- list_assumptions
                    SELECT id, principal_kind, principal_id, principal_name, account_id, reason, ticket, started_at,
                           ends_at, ended_at
                    FROM assumptions WHERE id < $1 ORDER BY id DESC LIMIT $2",
                    before,
                    limit,
                )
                .fetch_all(&self.pool)
                .await?
            }
        })
    }

    /// Notes what is looked at, before it is shown.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing may be shown.
    pub async fn note_look(&self, assumption: i64, what: LookedAt, at_what: &str) -> Result<(), StoreError> {
        let mut conn = self.pool.acquire().await?;
        append(&mut conn, assumption, what.as_str(), at_what, self.clock.now()).await
    }

    /// Ends a look before its time; false when it is over, or there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_assumption(&self, granted: &Granted<action::EndAssumption>, id: i64) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let mut tx = self.begin().await?;
        let ended = sqlx::query!(
            "-- end_assumption
            UPDATE assumptions SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL AND ends_at > $2
            RETURNING account_id",
            id,
            now,
        )
        .fetch_optional(&mut *tx.inner)
        .await?;
        let Some(ended) = ended else { return Ok(false) };
        append(&mut tx.inner, id, "ended", "", now).await?;
        let deed = Deed { key: ended.account_id.to_string(), before: None, after: Some(json!({ "assumption": id })) };
        note_each(&mut tx.inner, granted, "account", vec![deed], now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Ends the looks whose time is over; answers with how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expire_assumptions(&self) -> Result<u64, StoreError> {
        let mut conn = self.pool.acquire().await?;
        expire(&mut conn, self.clock.now()).await
    }

    /// What happened during a look, the latest first; `before` is the last id of the page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn assumption_events(
        &self,
        assumption: i64,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<AssumptionEvent>, StoreError> {
        Ok(sqlx::query_as!(
            AssumptionEvent,
            "-- assumption_events
            SELECT id, what, at_what, at FROM assumption_events
            WHERE (assumption_id, id) < ($1, $2) AND (assumption_id, id) >= ($1, 0)
            ORDER BY assumption_id DESC, id DESC LIMIT $3",
            assumption,
            before.unwrap_or(i64::MAX),
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

/// One statement: whoever finds one that is over ends it and says so, and nobody does so twice.
async fn expire(conn: &mut PgConnection, now: DateTime<Utc>) -> Result<u64, StoreError> {
    let expired = sqlx::query!(
        "-- expire_assumptions
        WITH over AS (
            UPDATE assumptions SET ended_at = ends_at WHERE ended_at IS NULL AND ends_at <= $1 RETURNING id, ends_at
        )
        INSERT INTO assumption_events (assumption_id, what, at_what, at) SELECT id, 'expired', '', ends_at FROM over",
        now,
    )
    .execute(conn)
    .await?;
    Ok(expired.rows_affected())
}

async fn append(
    conn: &mut PgConnection,
    assumption: i64,
    what: &str,
    at_what: &str,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- append_assumption_event
        INSERT INTO assumption_events (assumption_id, what, at_what, at) VALUES ($1, $2, $3, $4)",
        assumption,
        what,
        at_what,
        at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

//! Looks at accounts as their customers see them: who begins one, why, until when, and what was looked at meanwhile.
//! Owns these rows; events are only ever appended, each with its row of the audit in the same transaction. What is shown
//! during one is `assumed`'s and the manager's.

use crate::{
    Leadership, PAGE_ROWS_MAX, Store, StoreError, Tx,
    audit::{Deed, Outcome, note_each, note_outcome},
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{AccountId, Action, Granted, Principal, PrincipalKind, Role, action};
use serde_json::{Value, json};
use sqlx::PgConnection;

/// From its beginning to its end at the latest, in minutes. The table holds no longer one.
const MINUTES: i64 = 30;
/// Looks ended in one go, because their time is over.
const LAPSED_MAX: i64 = 100;
/// Of the latest events, so many are looked through for an address that was written down just now.
const EVENTS_AGAIN_MAX: i64 = 20;
/// Seconds for which a page that fetches itself again is the same look at it.
const AGAIN_SECS: i64 = 60;

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

    const fn outcome(self) -> Outcome {
        match self {
            Self::Looked => Outcome::Done,
            Self::Refused => Outcome::Denied,
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
    /// Begins a look.
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
        let row = sqlx::query_as!(
            AssumptionRow,
            "-- begin_assumption
            INSERT INTO assumptions (principal_kind, principal_id, principal_name, account_id, reason, ticket,
                                     token_digest, started_at, ends_at, principal_role)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
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
            principal.role().as_str(),
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

    /// Notes what is looked at, before it is shown: in the look's own list and in the audit. By whom: the principal that
    /// looks, for the account that is looked at. A page that fetches itself again is the same look at it for a minute.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing may be shown.
    pub async fn note_look(
        &self,
        by: &Principal,
        assumption: i64,
        what: LookedAt,
        (at_what, is_again): (&str, bool),
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        if is_again && self.is_looked_at(assumption, what, at_what, now).await? {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        append(&mut tx.inner, assumption, what.as_str(), at_what, now).await?;
        let deed = Deed::told(assumption.to_string(), ("look", ""), Value::Null, json!({ "request": at_what }));
        let said = (by, Action::AssumeAccount);
        note_outcome(&mut tx.inner, said, ("assumption", deed), what.outcome(), now).await?;
        tx.commit().await
    }

    async fn is_looked_at(
        &self,
        assumption: i64,
        what: LookedAt,
        at_what: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar!(
            r#"-- is_looked_at
            SELECT EXISTS (
                SELECT FROM (SELECT what, at_what, at FROM assumption_events WHERE assumption_id = $1
                             ORDER BY assumption_id DESC, id DESC LIMIT $5) AS latest
                WHERE what = $2 AND at_what = $3 AND at > $4) AS "is!""#,
            assumption,
            what.as_str(),
            at_what,
            now - TimeDelta::seconds(AGAIN_SECS),
            EVENTS_AGAIN_MAX,
        )
        .fetch_one(&self.pool)
        .await?)
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

    /// Ends looks whose time is over, up to a hundred; answers with how many. Whoever finds one ends it, and nobody does
    /// so twice. That it lapsed is in the audit under the name of whoever began it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expire_assumptions(&self) -> Result<u64, StoreError> {
        let tx = self.begin().await?;
        self.expire_in(tx).await
    }

    /// The same by the leader, of its own accord.
    ///
    /// # Errors
    /// [`StoreError::NotLeading`] when another leads by now.
    pub async fn lapse_assumptions(&self, leadership: &Leadership) -> Result<u64, StoreError> {
        let tx = self.begin_led(leadership).await?.ok_or(StoreError::NotLeading)?;
        self.expire_in(tx).await
    }

    async fn expire_in(&self, mut tx: Tx) -> Result<u64, StoreError> {
        let now = self.clock.now();
        let lapsed = sqlx::query!(
            "-- expire_assumptions
            UPDATE assumptions SET ended_at = ends_at
            WHERE ended_at IS NULL AND id IN (
                SELECT id FROM assumptions WHERE ended_at IS NULL AND ends_at <= $1
                ORDER BY ends_at LIMIT $2 FOR UPDATE SKIP LOCKED)
            RETURNING id, ends_at, account_id, principal_kind, principal_id, principal_name, principal_role",
            now,
            LAPSED_MAX,
        )
        .fetch_all(&mut *tx.inner)
        .await?;
        for look in &lapsed {
            append(&mut tx.inner, look.id, "expired", "", look.ends_at).await?;
            let kind = look.principal_kind.parse().unwrap_or(PrincipalKind::User);
            // Of a look that an older manager began no role is known: the least that may.
            let role = look.principal_role.as_deref().and_then(|role| role.parse().ok()).unwrap_or(Role::Support);
            let by = Principal::new(kind, &look.principal_id, &look.principal_name, role);
            let after = json!({ "assumption": look.id, "ended_at": look.ends_at });
            let deed = Deed { key: look.account_id.to_string(), before: None, after: Some(after) };
            let said = (&by.assuming(AccountId(look.account_id)), Action::EndAssumption);
            note_outcome(&mut tx.inner, said, ("account", deed), Outcome::Lapsed, now).await?;
        }
        tx.commit().await?;
        Ok(lapsed.len() as u64)
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

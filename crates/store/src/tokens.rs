//! Tokens of programs that call the API. Like a session's row, a token's decides at every request.

use crate::{
    PAGE_ROWS_MAX, Store, StoreError,
    audit::Deed,
    sessions::{USED_EVERY_SECS, role_of},
    users::note,
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Granted, Role, action};
use serde_json::{Value, json};

/// A token to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewApiToken<'a> {
    /// What is kept of it.
    pub digest: &'a [u8],
    /// What people read.
    pub name: &'a str,
    /// What for.
    pub role: Role,
    /// Until when it is good.
    pub expires_at: DateTime<Utc>,
}

/// A token, as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// The id.
    pub id: i64,
    /// What people read.
    pub name: String,
    /// viewer, support, operator or admin.
    pub role: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// Until when it is good.
    pub expires_at: DateTime<Utc>,
    /// The last use, to the minute.
    pub used_at: Option<DateTime<Utc>>,
    /// Since when it is good no more.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A token that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownToken {
    /// The id.
    pub id: i64,
    /// What people read.
    pub name: String,
    /// What for.
    pub role: Role,
    /// The last use, to the minute.
    pub used_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Makes a token.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_token(
        &self,
        token: NewApiToken<'_>,
        by: &Granted<action::ManagePeople>,
    ) -> Result<i64, StoreError> {
        let mut tx = self.pool.begin().await?;
        let now = self.clock.now();
        let id = sqlx::query_scalar!(
            "-- create_token
            INSERT INTO api_tokens (digest, name, role, created_by, created_at, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
            token.digest,
            token.name,
            token.role.as_str(),
            by.by(),
            now,
            token.expires_at,
        )
        .fetch_one(&mut *tx)
        .await?;
        let after = json!({ "role": token.role.as_str(), "expires_at": token.expires_at });
        note(
            &mut tx,
            "token",
            Deed::told(id.to_string(), ("create", token.name), Value::Null, after),
            by.principal(),
            now,
        )
        .await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Tokens, the newest first; `before` is the last id of the page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_tokens(&self, before: Option<i64>, limit: i64) -> Result<Vec<TokenRow>, StoreError> {
        Ok(sqlx::query_as!(
            TokenRow,
            "-- list_tokens
            SELECT id, name, role, created_by, created_at, expires_at, used_at, revoked_at
            FROM api_tokens WHERE id < $1 ORDER BY id DESC LIMIT $2",
            before.unwrap_or(i64::MAX),
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Makes a token good no more; false when there is none that is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke_token(&self, id: i64, by: &Granted<action::ManagePeople>) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await?;
        let now = self.clock.now();
        let revoked = sqlx::query!(
            "-- revoke_token
            UPDATE api_tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL RETURNING name, role, expires_at",
            id,
            now,
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(revoked) = revoked else { return Ok(false) };
        let before = json!({ "role": revoked.role, "expires_at": revoked.expires_at });
        let deed =
            Deed::told(id.to_string(), ("revoke", &revoked.name), before, json!({ "role": null, "expires_at": null }));
        note(&mut tx, "token", deed, by.principal(), now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The token with that digest, if it is good.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_token(&self, digest: &[u8]) -> Result<Option<KnownToken>, StoreError> {
        let row = sqlx::query!(
            "-- find_token
            SELECT id, name, role, used_at FROM api_tokens
            WHERE digest = $1 AND revoked_at IS NULL AND expires_at > $2",
            digest,
            self.clock.now(),
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let role = role_of("api_tokens", row.id, &row.role)?;
        Ok(Some(KnownToken { id: row.id, name: row.name, role, used_at: row.used_at }))
    }

    /// Notes that a token is used, at most once a minute.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn touch_token(&self, token: &KnownToken) -> Result<(), StoreError> {
        let now = self.clock.now();
        if token.used_at.is_some_and(|used_at| now - used_at < TimeDelta::seconds(USED_EVERY_SECS)) {
            return Ok(());
        }
        sqlx::query!(
            "-- touch_token
            UPDATE api_tokens SET used_at = $2 WHERE id = $1",
            token.id,
            now,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

//! What servants send heartbeats with: a credential is one kind's, on one host or on any. Which row of `servants` it may
//! write is settled by the first heartbeat of that row (`record_heartbeat`).

use crate::{PAGE_ROWS_MAX, Store, StoreError, audit::Deed, sessions::USED_EVERY_SECS, users::note};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Granted, Kind, action};
use serde_json::{Value, json};

/// A credential that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServantCredential {
    /// The id.
    pub id: i64,
    /// The one kind whose it is.
    pub kind: String,
    /// The one host; none: any.
    pub host: Option<String>,
    /// The last use, to the minute.
    pub used_at: Option<DateTime<Utc>>,
}

/// A credential, as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServantCredentialRow {
    /// The id.
    pub id: i64,
    /// The one kind whose it is.
    pub kind: String,
    /// The one host; none: any.
    pub host: Option<String>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// The last use, to the minute.
    pub used_at: Option<DateTime<Utc>>,
    /// Since when it is good no more.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Where it does not matter on which host.
const ANY_HOST: &str = "any";

/// How people call a credential, which has no name of its own.
fn called(kind: &str, host: Option<&str>) -> String {
    host.map_or_else(|| format!("of {kind}"), |host| format!("of {kind} on {host}"))
}

impl Store {
    /// Makes a credential.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_servant_credential(
        &self,
        digest: &[u8],
        kind: &Kind,
        host: Option<&str>,
        by: &Granted<action::ManagePeople>,
    ) -> Result<i64, StoreError> {
        let mut tx = self.pool.begin().await?;
        let now = self.clock.now();
        let id = sqlx::query_scalar!(
            "-- create_servant_credential
            INSERT INTO servant_credentials (digest, kind, host, created_by, created_at)
            VALUES ($1, $2, $3, $4, $5) RETURNING id",
            digest,
            kind.as_str(),
            host,
            by.by(),
            now,
        )
        .fetch_one(&mut *tx)
        .await?;
        let after = json!({ "kind": kind.as_str(), "host": host.unwrap_or(ANY_HOST) });
        let deed = Deed::told(id.to_string(), ("create", &called(kind.as_str(), host)), Value::Null, after);
        note(&mut tx, "credential", deed, by.principal(), now).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Credentials, the newest first; `before` is the last id of the page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_servant_credentials(
        &self,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<ServantCredentialRow>, StoreError> {
        Ok(sqlx::query_as!(
            ServantCredentialRow,
            "-- list_servant_credentials
            SELECT id, kind, host, created_by, created_at, used_at, revoked_at
            FROM servant_credentials WHERE id < $1 ORDER BY id DESC LIMIT $2",
            before.unwrap_or(i64::MAX),
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Makes a credential good no more; false when there is none that is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke_servant_credential(
        &self,
        id: i64,
        by: &Granted<action::ManagePeople>,
    ) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await?;
        let now = self.clock.now();
        let revoked = sqlx::query!(
            "-- revoke_servant_credential
            UPDATE servant_credentials SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL RETURNING kind, host",
            id,
            now,
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(revoked) = revoked else { return Ok(false) };
        let host = revoked.host.as_deref();
        let before = json!({ "kind": revoked.kind, "host": host.unwrap_or(ANY_HOST) });
        let deed = Deed::told(
            id.to_string(),
            ("revoke", &called(&revoked.kind, host)),
            before,
            json!({ "kind": null, "host": null }),
        );
        note(&mut tx, "credential", deed, by.principal(), now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The credential with that digest, if it is good.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_servant_credential(&self, digest: &[u8]) -> Result<Option<ServantCredential>, StoreError> {
        Ok(sqlx::query_as!(
            ServantCredential,
            "-- find_servant_credential
            SELECT id, kind, host, used_at FROM servant_credentials WHERE digest = $1 AND revoked_at IS NULL",
            digest,
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Notes that a credential is used, at most once a minute.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn touch_servant_credential(&self, credential: &ServantCredential) -> Result<(), StoreError> {
        let now = self.clock.now();
        if credential.used_at.is_some_and(|used_at| now - used_at < TimeDelta::seconds(USED_EVERY_SECS)) {
            return Ok(());
        }
        sqlx::query!(
            "-- touch_servant_credential
            UPDATE servant_credentials SET used_at = $2 WHERE id = $1",
            credential.id,
            now,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

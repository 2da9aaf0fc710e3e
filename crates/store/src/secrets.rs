//! Connections' sealed credentials and sessions: one row each, and who signs on now. Owns SQL only: what is in them and
//! when to sign on is others' to know. No function here opens anything.

use crate::{
    Store, StoreError,
    connections::{Event, Of, note_event},
};
use chrono::{DateTime, Utc};
use domain::{AccountId, ConnectionId, SecretPlace};
use uuid::Uuid;

/// The table, as sealed values are bound to it.
const TABLE: &str = "secrets";

/// What is kept of a connection's credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretsRow {
    /// Whose connection it is.
    pub account_id: i64,
    /// The connection's state.
    pub connection_state: String,
    /// Why it is in that state.
    pub connection_reason: Option<String>,
    /// The version of the account's keys that seals both.
    pub key_version: i32,
    /// What was granted, sealed; none: sessions are had without.
    pub credential: Option<Vec<u8>>,
    /// The last session, sealed.
    pub session: Option<Vec<u8>>,
    /// Counts the sessions.
    pub generation: i64,
    /// When the last session was had.
    pub signed_on_at: Option<DateTime<Utc>>,
    /// The last sign-on failed, for a reason that passes: not before.
    pub retry_at: Option<DateTime<Utc>>,
    /// Why it failed.
    pub failure: Option<String>,
    /// When the customer last agreed.
    pub authorised_at: DateTime<Utc>,
}

/// What a row holds once it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSecrets {
    /// The version of the account's keys that seals both.
    pub key_version: i32,
    /// What was granted.
    pub credential: Option<Vec<u8>>,
    /// The session.
    pub session: Option<Vec<u8>>,
}

/// A row to be sealed anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretsBehind {
    /// The connection.
    pub connection: ConnectionId,
    /// Whose it is.
    pub account: AccountId,
    /// What it holds.
    pub sealed: SealedSecrets,
}

/// A sign-on in progress: whose, and which session it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SigningOn {
    /// The connection.
    pub connection: ConnectionId,
    /// The generation that it was begun at.
    pub generation: i64,
    /// Random, fresh for each.
    pub by: Uuid,
}

/// Where a connection's credential lies.
#[must_use]
pub const fn credential_place(connection: ConnectionId) -> SecretPlace {
    SecretPlace { table: TABLE, row: connection.0, field: "credential" }
}

/// Where a connection's session lies.
#[must_use]
pub const fn session_place(connection: ConnectionId) -> SecretPlace {
    SecretPlace { table: TABLE, row: connection.0, field: "session" }
}

impl Store {
    /// What is kept of a connection's credentials; none: they are not kept here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_secrets(&self, connection: ConnectionId) -> Result<Option<SecretsRow>, StoreError> {
        Ok(sqlx::query_as!(
            SecretsRow,
            "-- find_secrets
            SELECT s.account_id, c.state AS connection_state, c.state_reason AS connection_reason, s.key_version,
                   s.credential, s.session, s.generation, s.signed_on_at, s.retry_at, s.failure, s.authorised_at
            FROM secrets s JOIN connections c ON c.id = s.connection_id
            WHERE s.connection_id = $1",
            connection.0,
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// Makes the row of a connection that signs on without anything that the customer granted; nothing is done where
    /// there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ensure_secrets(&self, connection: ConnectionId, key_version: i32) -> Result<(), StoreError> {
        sqlx::query!(
            "-- ensure_secrets
            INSERT INTO secrets (connection_id, account_id, key_version, authorised_at)
            SELECT id, account_id, $2, $3 FROM connections WHERE id = $1
            ON CONFLICT DO NOTHING",
            connection.0,
            key_version,
            self.clock.now(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Makes the caller the one who signs on until that time; false: the session is another by now, somebody else signs
    /// on, a failure is too recent, or the customer must authorise anew first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_sign_on(&self, claim: SigningOn, until: DateTime<Utc>) -> Result<bool, StoreError> {
        let claimed = sqlx::query!(
            "-- claim_sign_on
            UPDATE secrets SET signing_on = $3, signing_on_until = $4
            WHERE connection_id = $1 AND generation = $2
              AND (signing_on_until IS NULL OR signing_on_until < $5)
              AND (retry_at IS NULL OR retry_at <= $5)
              AND NOT EXISTS (SELECT FROM connections c WHERE c.id = $1 AND c.state = 'needs_reauth')",
            claim.connection.0,
            claim.generation,
            claim.by,
            until,
            self.clock.now(),
        )
        .execute(&self.pool)
        .await?;
        Ok(claimed.rows_affected() == 1)
    }

    /// Keeps what a sign-on brought, in the place of what was there when it was begun; false: another brought a session
    /// meanwhile, and that one stays.
    ///
    /// # Errors
    /// [`StoreError`]; `Rejected` when the key that sealed it is gone.
    pub async fn keep_session(&self, claim: SigningOn, sealed: &SealedSecrets) -> Result<bool, StoreError> {
        let kept = sqlx::query!(
            "-- keep_session
            UPDATE secrets
            SET key_version = $3, credential = $4, session = $5, generation = generation + 1, signed_on_at = $6,
                signing_on = NULL, signing_on_until = NULL, retry_at = NULL, failure = NULL
            WHERE connection_id = $1 AND generation = $2",
            claim.connection.0,
            claim.generation,
            sealed.key_version,
            sealed.credential,
            sealed.session,
            self.clock.now(),
        )
        .execute(&self.pool)
        .await?;
        Ok(kept.rows_affected() == 1)
    }

    /// Ends a sign-on that failed for a reason that passes: nobody tries before that time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn fail_sign_on(
        &self,
        claim: SigningOn,
        reason: &str,
        retry_at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "-- fail_sign_on
            UPDATE secrets SET signing_on = NULL, signing_on_until = NULL, retry_at = $4, failure = $5
            WHERE connection_id = $1 AND generation = $2 AND signing_on = $3",
            claim.connection.0,
            claim.generation,
            claim.by,
            retry_at,
            reason,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Ends a sign-on that the vendor refused for good: the connection waits for a person, and nobody signs on for it
    /// until then. False: the claim had been lost, and the refusal may be of a token that another has replaced.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn refuse_sign_on(&self, claim: SigningOn, reason: &str) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let mut tx = self.begin().await?;
        let ended = sqlx::query!(
            "-- end_refused_sign_on
            UPDATE secrets SET signing_on = NULL, signing_on_until = NULL
            WHERE connection_id = $1 AND generation = $2 AND signing_on = $3",
            claim.connection.0,
            claim.generation,
            claim.by,
        )
        .execute(&mut *tx.inner)
        .await?;
        if ended.rows_affected() == 0 {
            return Ok(false);
        }
        let parked = sqlx::query!(
            "-- refuse_sign_on
            UPDATE connections SET state = 'needs_reauth', state_reason = $2, state_since = $3
            WHERE id = $1 AND state = 'active'",
            claim.connection.0,
            reason,
            now,
        )
        .execute(&mut *tx.inner)
        .await?;
        if parked.rows_affected() == 1 {
            let event = Event { of: Of::Connection(claim.connection), what: "needs_reauth", by: "servant", reason };
            note_event(&mut tx.inner, &event, now).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Rows that are sealed by a key which is not their account's newest, in the order of connections.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn secrets_behind(
        &self,
        after: Option<ConnectionId>,
        limit: i64,
    ) -> Result<Vec<SecretsBehind>, StoreError> {
        let rows = sqlx::query!(
            "-- secrets_behind
            SELECT connection_id, account_id, key_version, credential, session FROM secrets s
            WHERE connection_id > $1
              AND key_version < (SELECT max(version) FROM account_keys k WHERE k.account_id = s.account_id)
            ORDER BY connection_id LIMIT $2",
            after.map_or(i64::MIN, |connection| connection.0),
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| SecretsBehind {
                connection: ConnectionId(row.connection_id),
                account: AccountId(row.account_id),
                sealed: SealedSecrets {
                    key_version: row.key_version,
                    credential: row.credential,
                    session: row.session,
                },
            })
            .collect())
    }

    /// Puts a row's new sealing in the place of the old one; false: it holds something else by now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reseal(&self, old: &SecretsBehind, new: &SealedSecrets) -> Result<bool, StoreError> {
        let changed = sqlx::query!(
            "-- reseal
            UPDATE secrets SET key_version = $4, credential = $5, session = $6
            WHERE connection_id = $1 AND credential IS NOT DISTINCT FROM $2 AND session IS NOT DISTINCT FROM $3",
            old.connection.0,
            old.sealed.credential,
            old.sealed.session,
            new.key_version,
            new.credential,
            new.session,
        )
        .execute(&self.pool)
        .await?;
        Ok(changed.rows_affected() == 1)
    }
}

//! Connections' sealed credentials and sessions: one row each, and who signs on now. Owns SQL only: what is in them and
//! when to sign on is others' to know. No function here opens anything.

use crate::{
    Store, StoreError,
    by_operators::note_step,
    connections::{Event, Of, note_event},
};
use chrono::{DateTime, Utc};
use domain::{AccountId, ConnectionId, Granted, SecretPlace, WrappedKey, action};
use uuid::Uuid;

/// The table, as sealed values are bound to it.
const TABLE: &str = "secrets";

/// What is kept of a connection's credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretsRow {
    /// The connection's state.
    pub connection_state: String,
    /// Why it is in that state.
    pub connection_reason: Option<String>,
    /// The key of the account's that seals both.
    pub key: WrappedKey,
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
    /// Until when whoever signs on is thought to be alive; past, where nobody has followed yet.
    pub signing_on_until: Option<DateTime<Utc>>,
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

/// A row to be sealed anew, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretsBehind {
    /// The connection.
    pub connection: ConnectionId,
    /// What it holds.
    pub sealed: SealedSecrets,
    /// The key that sealed it.
    pub old: WrappedKey,
    /// The account's newest.
    pub new: WrappedKey,
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
        // The key in the same statement: a rotation may delete it once it has sealed the row anew.
        let row = sqlx::query!(
            "-- find_secrets
            SELECT c.state, c.state_reason, s.account_id, s.key_version, k.master, k.wrapped, s.credential, s.session,
                   s.generation, s.signed_on_at, s.retry_at, s.failure, s.authorised_at,
                   s.signing_on_until
            FROM secrets s
            JOIN connections c ON c.id = s.connection_id
            JOIN account_keys k ON k.account_id = s.account_id AND k.version = s.key_version
            WHERE s.connection_id = $1",
            connection.0,
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| SecretsRow {
            connection_state: row.state,
            connection_reason: row.state_reason,
            key: WrappedKey {
                account: AccountId(row.account_id),
                version: row.key_version,
                master: row.master,
                wrapped: row.wrapped,
            },
            credential: row.credential,
            session: row.session,
            generation: row.generation,
            signed_on_at: row.signed_on_at,
            retry_at: row.retry_at,
            failure: row.failure,
            authorised_at: row.authorised_at,
            signing_on_until: row.signing_on_until,
        }))
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

    /// Says that whoever signs on is alive, and goes on until that time at the most; false: it is another's turn by now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn renew_sign_on(&self, claim: SigningOn, until: DateTime<Utc>) -> Result<bool, StoreError> {
        let renewed = sqlx::query!(
            "-- renew_sign_on
            UPDATE secrets SET signing_on_until = $4
            WHERE connection_id = $1 AND generation = $2 AND signing_on = $3",
            claim.connection.0,
            claim.generation,
            claim.by,
            until,
        )
        .execute(&self.pool)
        .await?;
        Ok(renewed.rows_affected() == 1)
    }

    /// Keeps what a sign-on brought, in the place of what was there when it was begun; false: another brought a session
    /// meanwhile, and that one stays. `failure`: it brought no session that is of use; nobody tries before that time.
    ///
    /// # Errors
    /// [`StoreError`]; `Rejected` when the key that sealed it is gone.
    pub async fn keep_session(
        &self,
        claim: SigningOn,
        sealed: &SealedSecrets,
        failure: Option<(&str, DateTime<Utc>)>,
    ) -> Result<bool, StoreError> {
        let kept = sqlx::query!(
            "-- keep_session
            UPDATE secrets
            SET key_version = $3, credential = $4, session = $5, generation = generation + 1,
                signed_on_at = CASE WHEN $5::bytea IS NOT NULL THEN $6::timestamptz END,
                signing_on = NULL, signing_on_until = NULL, failure = $7, retry_at = $8
            WHERE connection_id = $1 AND generation = $2",
            claim.connection.0,
            claim.generation,
            sealed.key_version,
            sealed.credential,
            sealed.session,
            self.clock.now(),
            failure.map(|(reason, _)| reason),
            failure.map(|(_, retry_at)| retry_at),
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
            SELECT s.connection_id, s.account_id, s.key_version, s.credential, s.session,
                   o.master AS old_master, o.wrapped AS old_wrapped,
                   n.version AS new_version, n.master AS new_master, n.wrapped AS new_wrapped
            FROM secrets s
            JOIN account_keys o ON o.account_id = s.account_id AND o.version = s.key_version
            JOIN account_keys n ON n.account_id = s.account_id
                AND n.version = (SELECT max(version) FROM account_keys k WHERE k.account_id = s.account_id)
            WHERE s.connection_id > $1 AND n.version > s.key_version
            ORDER BY s.connection_id LIMIT $2",
            after.map_or(i64::MIN, |connection| connection.0),
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                let key = |version, master, wrapped| WrappedKey {
                    account: AccountId(row.account_id),
                    version,
                    master,
                    wrapped,
                };
                SecretsBehind {
                    connection: ConnectionId(row.connection_id),
                    sealed: SealedSecrets {
                        key_version: row.key_version,
                        credential: row.credential,
                        session: row.session,
                    },
                    old: key(row.key_version, row.old_master, row.old_wrapped),
                    new: key(row.new_version, row.new_master, row.new_wrapped),
                }
            })
            .collect())
    }

    /// Puts each row's new sealing in the place of its old one, and answers with how many still held what the caller saw.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reseal(
        &self,
        rows: &[(SecretsBehind, SealedSecrets)],
        by: &Granted<action::RotateKeys>,
    ) -> Result<u64, StoreError> {
        let mut tx = self.pool.begin().await?;
        let ids: Vec<i64> = rows.iter().map(|(old, _)| old.connection.0).collect();
        let old_credentials: Vec<Option<Vec<u8>>> = rows.iter().map(|(old, _)| old.sealed.credential.clone()).collect();
        let old_sessions: Vec<Option<Vec<u8>>> = rows.iter().map(|(old, _)| old.sealed.session.clone()).collect();
        let versions: Vec<i32> = rows.iter().map(|(_, new)| new.key_version).collect();
        let credentials: Vec<Option<Vec<u8>>> = rows.iter().map(|(_, new)| new.credential.clone()).collect();
        let sessions: Vec<Option<Vec<u8>>> = rows.iter().map(|(_, new)| new.session.clone()).collect();
        let changed = sqlx::query!(
            "-- reseal
            UPDATE secrets s SET key_version = t.version, credential = t.credential, session = t.session
            FROM unnest($1::bigint[], $2::bytea[], $3::bytea[], $4::integer[], $5::bytea[], $6::bytea[])
                AS t (id, old_credential, old_session, version, credential, session)
            WHERE s.connection_id = t.id AND s.credential IS NOT DISTINCT FROM t.old_credential
              AND s.session IS NOT DISTINCT FROM t.old_session",
            &ids,
            &old_credentials as &[Option<Vec<u8>>],
            &old_sessions as &[Option<Vec<u8>>],
            &versions,
            &credentials as &[Option<Vec<u8>>],
            &sessions as &[Option<Vec<u8>>],
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        note_step(&mut tx, by, ("seal connections' secrets anew", changed), self.clock.now()).await?;
        tx.commit().await?;
        Ok(changed)
    }
}

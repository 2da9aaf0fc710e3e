//! Authorisations: where a customer may begin one, those that a browser has begun, each good once, and what becomes of the
//! connection when one succeeds. Does not own how a vendor is asked, nor what is sealed.

use crate::{
    SealedSecrets, Store, StoreError,
    audit::{Subject, note, snapshot},
    connections::{Event, Of, note_event},
    expired::forget_expired,
};
use chrono::{DateTime, Utc};
use domain::{AccountId, ConnectionId, Granted, Principal, action};
use serde_json::Value;

/// Authorisations that may be open at a time; each is gone after minutes.
const OPEN_MAX: i64 = 10_000;

/// An authorisation that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BegunAuthorisation {
    /// The digest of the PKCE verifier, which the browser keeps.
    pub verifier_digest: Vec<u8>,
    /// For whom.
    pub account: AccountId,
    /// At which vendor.
    pub vendor: String,
    /// The connection to be authorised again; none: a new one.
    pub connection: Option<ConnectionId>,
    /// Until when it is good.
    pub expires_at: DateTime<Utc>,
}

/// A connection that a customer has authorised.
#[derive(Debug, Clone, PartialEq)]
pub struct Authorised<'a> {
    /// The connection; new unless it exists.
    pub connection: ConnectionId,
    /// Whose it is.
    pub account: AccountId,
    /// At which vendor.
    pub vendor: &'a str,
    /// What a client needs besides secrets; merged into what is there.
    pub settings: &'a Value,
    /// The name under which the application's own secrets are kept.
    pub secret_ref: &'a str,
    /// What was granted, sealed for that connection.
    pub sealed: SealedSecrets,
}

impl Store {
    /// Keeps the digest of an address at which a customer may begin, until it is too old.
    ///
    /// # Errors
    /// [`StoreError`]; `Rejected` when there is no such account.
    pub async fn create_consent_link(
        &self,
        digest: &[u8],
        (account, connection): (AccountId, Option<ConnectionId>),
        expires_at: DateTime<Utc>,
        by: &Principal,
    ) -> Result<(), StoreError> {
        forget_expired!(
            "forget_expired_consent_links",
            "consent_links",
            "digest",
            "expires_at",
            self.clock.now(),
            &self.pool
        );
        sqlx::query!(
            "-- create_consent_link
            INSERT INTO consent_links (digest, account_id, connection_id, created_by, expires_at)
            VALUES ($1, $2, $3, $4, $5)",
            digest,
            account.0,
            connection.map(|connection| connection.0),
            by.name(),
            expires_at,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Whether a customer may begin there, for that account and connection.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_consent_link(
        &self,
        digest: &[u8],
        (account, connection): (AccountId, Option<ConnectionId>),
    ) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar!(
            r#"-- has_consent_link
            SELECT EXISTS (SELECT FROM consent_links WHERE digest = $1 AND account_id = $2
                           AND connection_id IS NOT DISTINCT FROM $3 AND expires_at > $4) AS "has!""#,
            digest,
            account.0,
            connection.map(|connection| connection.0),
            self.clock.now(),
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Enters an authorisation that a browser begins; false: too many are open.
    ///
    /// # Errors
    /// [`StoreError`]; `Rejected` when there is no such account or connection.
    pub async fn begin_authorisation(
        &self,
        state_digest: &[u8],
        begun: &BegunAuthorisation,
    ) -> Result<bool, StoreError> {
        forget_expired!(
            "forget_expired_authorisations",
            "authorisations",
            "state_digest",
            "expires_at",
            self.clock.now(),
            &self.pool
        );
        let entered = sqlx::query!(
            "-- begin_authorisation
            INSERT INTO authorisations (state_digest, verifier_digest, account_id, vendor, connection_id, expires_at)
            SELECT $1, $2, $3, $4, $5, $6 WHERE (SELECT count(*) FROM authorisations) < $7",
            state_digest,
            begun.verifier_digest,
            begun.account.0,
            begun.vendor,
            begun.connection.map(|connection| connection.0),
            begun.expires_at,
            OPEN_MAX,
        )
        .execute(&self.pool)
        .await?;
        Ok(entered.rows_affected() == 1)
    }

    /// Takes a begun authorisation: nobody gets it again, whatever becomes of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_authorisation(&self, state_digest: &[u8]) -> Result<Option<BegunAuthorisation>, StoreError> {
        let row = sqlx::query!(
            "-- take_authorisation
            DELETE FROM authorisations WHERE state_digest = $1
            RETURNING verifier_digest, account_id, vendor, connection_id, expires_at",
            state_digest,
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| BegunAuthorisation {
            verifier_digest: row.verifier_digest,
            account: AccountId(row.account_id),
            vendor: row.vendor,
            connection: row.connection_id.map(ConnectionId),
            expires_at: row.expires_at,
        }))
    }

    /// The account's connection to that organisation of the vendor; the oldest, should there be several.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_organisation(
        &self,
        account: AccountId,
        vendor: &str,
        organisation: &str,
    ) -> Result<Option<ConnectionId>, StoreError> {
        let found = sqlx::query_scalar!(
            "-- find_organisation
            SELECT id FROM connections
            WHERE account_id = $1 AND vendor = $2 AND settings ? 'organisation' AND settings ->> 'organisation' = $3
            ORDER BY id LIMIT 1",
            account.0,
            vendor,
            organisation,
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(found.map(ConnectionId))
    }

    /// An id for a connection that is yet to be made: what is sealed for it is bound to it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn reserve_connection(&self) -> Result<ConnectionId, StoreError> {
        let id = sqlx::query_scalar!(
            r#"-- reserve_connection
            SELECT nextval(pg_get_serial_sequence('connections', 'id')) AS "id!""#,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(ConnectionId(id))
    }

    /// Enters or renews a connection with what its customer granted, and wakes those who do its jobs. One that is
    /// disabled stays so.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn authorise_connection(
        &self,
        granted: &Granted<action::AuthoriseConnection>,
        authorised: &Authorised<'_>,
    ) -> Result<(), StoreError> {
        let of = Subject::Connection(authorised.connection);
        let now = self.clock.now();
        let id = authorised.connection;
        let mut tx = self.begin().await?;
        let before = snapshot(&mut tx.inner, &of).await?;
        sqlx::query!(
            "-- authorise_connection
            INSERT INTO connections (id, account_id, vendor, settings, secret_ref, state_since, created_at)
            VALUES ($1, $2, $3, $4, $5, $6, $6)
            ON CONFLICT (id) DO UPDATE
            SET settings = connections.settings || excluded.settings, secret_ref = excluded.secret_ref,
                state = CASE connections.state WHEN 'disabled' THEN 'disabled' ELSE 'active' END,
                state_reason = CASE connections.state WHEN 'disabled' THEN connections.state_reason END,
                state_since = CASE WHEN connections.state IN ('disabled', 'active') THEN connections.state_since
                                   ELSE excluded.state_since END",
            id.0,
            authorised.account.0,
            authorised.vendor,
            authorised.settings,
            authorised.secret_ref,
            now,
        )
        .execute(&mut *tx.inner)
        .await?;
        let sealed = &authorised.sealed;
        sqlx::query!(
            "-- keep_grant
            INSERT INTO secrets (connection_id, account_id, key_version, credential, session, generation, signed_on_at,
                                 authorised_at)
            VALUES ($1, $2, $3, $4, $5, 1, CASE WHEN $5::bytea IS NOT NULL THEN $6::timestamptz END, $6)
            ON CONFLICT (connection_id) DO UPDATE
            SET key_version = excluded.key_version, credential = excluded.credential, session = excluded.session,
                generation = secrets.generation + 1, signed_on_at = excluded.signed_on_at, signing_on = NULL,
                signing_on_until = NULL, retry_at = NULL, failure = NULL, authorised_at = excluded.authorised_at",
            id.0,
            authorised.account.0,
            sealed.key_version,
            sealed.credential,
            sealed.session,
            now,
        )
        .execute(&mut *tx.inner)
        .await?;
        let event = Event { of: Of::Connection(id), what: "authorised", by: granted.by(), reason: granted.reason() };
        note_event(&mut tx.inner, &event, now).await?;
        let after = snapshot(&mut tx.inner, &of).await?;
        note(&mut tx.inner, granted, &of, (before, after), now).await?;
        // Schedules that were put off because of it are due at once.
        sqlx::query!(
            "-- end_hold_of_authorised
            UPDATE schedules SET held_until = NULL
            WHERE connection_id = $1 AND held_until IS NOT NULL
              AND EXISTS (SELECT FROM connections WHERE id = $1 AND state = 'active')",
            id.0,
        )
        .execute(&mut *tx.inner)
        .await?;
        tx.commit().await?;
        self.wake_every_kind().await;
        Ok(())
    }
}

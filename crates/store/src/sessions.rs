//! Sessions of people's browsers. The row decides at every request: what is deleted or too old is over at once, whichever
//! manager is asked. Does not own the cookie.

use crate::{
    Store, StoreError,
    audit::{Deed, note_by},
    expired::forget_expired,
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Action, Origin, Principal, PrincipalKind, Role};
use serde_json::{Value, json};
use sqlx::PgConnection;

/// Seconds between two notes of when something was last used.
pub(crate) const USED_EVERY_SECS: i64 = 60;

/// A session to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewSession<'a> {
    /// What is kept of its secret.
    pub digest: &'a [u8],
    /// Whose.
    pub user: i64,
    /// When it ends, whatever happens.
    pub ends_at: DateTime<Utc>,
    /// From where.
    pub origin: &'a Origin,
}

/// A session that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSession {
    /// Whose.
    pub user: i64,
    /// What people read.
    pub name: String,
    /// What for.
    pub role: Role,
    /// The last act, to the minute.
    pub seen_at: DateTime<Utc>,
}

impl Store {
    /// Begins a session of a person who is not out; false: the person is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin_session(&self, session: NewSession<'_>) -> Result<bool, StoreError> {
        let now = self.clock.now();
        forget_expired!("forget_ended_sessions", "sessions", "digest", "ends_at", now, &self.pool);
        let mut tx = self.pool.begin().await?;
        let person = sqlx::query!(
            r#"-- begin_session
            WITH person AS (
                UPDATE users SET signed_in_at = $3 WHERE id = $2 AND disabled_at IS NULL RETURNING id, name, role
            ), session AS (
                INSERT INTO sessions (digest, user_id, created_at, seen_at, ends_at, ip, agent)
                SELECT $1, id, $3, $3, $4, $5, $6 FROM person
            )
            SELECT name AS "name!", role AS "role!" FROM person"#,
            session.digest,
            session.user,
            now,
            session.ends_at,
            session.origin.ip.map(|ip| ip.to_string()),
            session.origin.agent,
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(person) = person else { return Ok(false) };
        let person = Person { id: session.user, name: person.name, role: person.role };
        let after = json!({ "session_ends_at": session.ends_at });
        note(&mut tx, person, (Action::SignIn, after), session.origin, now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The session with that digest, if it has not ended, was used since `idle` ago, and its person is not out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_session(&self, digest: &[u8], idle: TimeDelta) -> Result<Option<KnownSession>, StoreError> {
        let now = self.clock.now();
        let row = sqlx::query!(
            "-- find_session
            SELECT users.id, users.name, users.role, sessions.seen_at
            FROM sessions JOIN users ON users.id = sessions.user_id
            WHERE sessions.digest = $1 AND sessions.ends_at > $2 AND sessions.seen_at > $3
              AND users.disabled_at IS NULL",
            digest,
            now,
            now - idle,
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let role = role_of("users", row.id, &row.role)?;
        Ok(Some(KnownSession { user: row.id, name: row.name, role, seen_at: row.seen_at }))
    }

    /// Notes that a session is used, at most once a minute.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn touch_session(&self, digest: &[u8], seen_at: DateTime<Utc>) -> Result<(), StoreError> {
        let now = self.clock.now();
        if now - seen_at < TimeDelta::seconds(USED_EVERY_SECS) {
            return Ok(());
        }
        sqlx::query!(
            "-- touch_session
            UPDATE sessions SET seen_at = greatest(seen_at, $2) WHERE digest = $1",
            digest,
            now,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Ends a session, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_session(&self, digest: &[u8], origin: &Origin) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        let person = sqlx::query_as!(
            Person,
            "-- end_session
            DELETE FROM sessions USING users WHERE sessions.digest = $1 AND users.id = sessions.user_id
            RETURNING users.id, users.name, users.role",
            digest,
        )
        .fetch_optional(&mut *tx)
        .await?;
        let Some(person) = person else { return Ok(()) };
        note(&mut tx, person, (Action::SignOut, Value::Null), origin, self.clock.now()).await?;
        Ok(tx.commit().await?)
    }

    /// Takes the way back from a provider; false: it was taken before. Good until `expires_at`, when it is too old anyway.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_returned_sign_in(
        &self,
        state_digest: &[u8],
        expires_at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        forget_expired!(
            "forget_returned_sign_ins",
            "returned_sign_ins",
            "state_digest",
            "expires_at",
            self.clock.now(),
            &self.pool
        );
        let taken = sqlx::query!(
            "-- take_returned_sign_in
            INSERT INTO returned_sign_ins (state_digest, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            state_digest,
            expires_at,
        )
        .execute(&self.pool)
        .await?;
        Ok(taken.rows_affected() == 1)
    }
}

/// Whose a session is.
struct Person {
    id: i64,
    name: String,
    role: String,
}

/// Notes that somebody signs in or out.
async fn note(
    conn: &mut PgConnection,
    person: Person,
    (action, after): (Action, Value),
    origin: &Origin,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let role = role_of("users", person.id, &person.role)?;
    let id = person.id.to_string();
    let what = action.as_str().replace('_', " ");
    let deed = Deed::told(id.as_str(), (&what, &person.name), Value::Null, after);
    let by = Principal::new(PrincipalKind::User, id, person.name, role).from_origin(origin.clone());
    note_by(conn, &by, action, "user", deed, now).await
}

/// A role as it is stored.
pub(crate) fn role_of(table: &'static str, id: i64, text: &str) -> Result<Role, StoreError> {
    text.parse().map_err(|_| StoreError::Corrupt { table, column: "role", row: id.to_string() })
}

//! Customers' connections to vendors: who works on which service, and which wait for a person. Holds no credentials: a
//! connection names where they are kept. That a failed attempt parks its connection is in `jobs::transition`, since both
//! are one commit.

use crate::{
    Leadership, PAGE_ROWS_MAX, Store, StoreError,
    accounts::BY_ITSELF,
    audit::{Deed, Subject, note, note_by, note_each, snapshot},
};
use chrono::{DateTime, Utc};
use domain::{
    AccountId, Action, Capability, CircuitFacts, ConnectionFacts, ConnectionId, ForcedFacts, Granted, Principal, action,
};
use serde_json::{Value, json};

/// A customer's connection to one vendor.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionRow {
    /// Its id.
    pub id: i64,
    /// Whose it is.
    pub account_id: i64,
    /// Which vendor.
    pub vendor: String,
    /// Which service of theirs, by the host's name: connections of one service share its circuit breaker.
    pub service: String,
    /// What a client needs besides secrets.
    pub settings: Value,
    /// The name under which the credentials are kept.
    pub secret_ref: Option<String>,
    /// active, needs_reauth, parked or disabled.
    pub state: String,
    /// Why.
    pub state_reason: Option<String>,
    /// Since when.
    pub state_since: DateTime<Utc>,
}

/// What an operator does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionAct {
    /// The customer has authorised it again, or what it was parked for is over.
    Reauthorised,
    /// Its jobs wait.
    Park,
    /// It is out of use; its jobs wait.
    Disable,
    /// It is in use again.
    Enable,
}

impl ConnectionAct {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Reauthorised, Self::Park, Self::Disable, Self::Enable];

    /// The verb in the API and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reauthorised => "reauthorised",
            Self::Park => "park",
            Self::Disable => "disable",
            Self::Enable => "enable",
        }
    }

    /// The states that it leaves, the state that follows, and what the event is called.
    const fn change(self) -> (&'static [&'static str], &'static str, &'static str) {
        match self {
            Self::Reauthorised => (&["needs_reauth", "parked"], "active", "reauthorised"),
            Self::Park => (&["active"], "parked", "parked"),
            Self::Disable => (&["active", "needs_reauth", "parked"], "disabled", "disabled"),
            Self::Enable => (&["disabled"], "active", "enabled"),
        }
    }
}

/// An action that is done with a connection.
pub trait ChangesConnection: Capability {
    /// What it does.
    const ACT: ConnectionAct;
}

impl ChangesConnection for action::Reauthorised {
    const ACT: ConnectionAct = ConnectionAct::Reauthorised;
}

impl ChangesConnection for action::ParkConnection {
    const ACT: ConnectionAct = ConnectionAct::Park;
}

impl ChangesConnection for action::DisableConnection {
    const ACT: ConnectionAct = ConnectionAct::Disable;
}

impl ChangesConnection for action::EnableConnection {
    const ACT: ConnectionAct = ConnectionAct::Enable;
}

/// What happened to a connection or to a service's breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionEvent {
    /// What.
    pub what: String,
    /// Who; `servant` or `scheduler` when it happened by itself.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// Whose event it is.
pub(crate) enum Of<'a> {
    Connection(ConnectionId),
    Service(&'a str),
}

/// An event to be noted.
pub(crate) struct Event<'a> {
    pub(crate) of: Of<'a>,
    pub(crate) what: &'a str,
    pub(crate) by: &'a str,
    pub(crate) reason: &'a str,
}

impl Store {
    /// Enters a customer's connection, as the system itself does it.
    ///
    /// # Errors
    /// [`StoreError`]; `Rejected` when there is no such account.
    pub async fn create_connection(
        &self,
        account: AccountId,
        vendor: &str,
        settings: &Value,
        secret_ref: Option<&str>,
    ) -> Result<ConnectionId, StoreError> {
        let mut tx = self.pool.begin().await?;
        let now = self.clock.now();
        let (id, deed) = insert_connection(&mut tx, (account, vendor, settings, secret_ref), now).await?;
        let by = Principal::system(BY_ITSELF);
        note_by(&mut tx, &by, Action::CreateConnection, "connection", deed, now).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Enters a customer's connection.
    ///
    /// # Errors
    /// [`StoreError`]; `Rejected` when there is no such account.
    pub async fn create_connection_by(
        &self,
        account: AccountId,
        (vendor, settings, secret_ref): (&str, &Value, Option<&str>),
        by: &Granted<action::CreateConnection>,
    ) -> Result<ConnectionId, StoreError> {
        let mut tx = self.pool.begin().await?;
        let now = self.clock.now();
        let (id, deed) = insert_connection(&mut tx, (account, vendor, settings, secret_ref), now).await?;
        note_each(&mut tx, by, "connection", vec![deed], now).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// One connection.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_connection(&self, id: ConnectionId) -> Result<Option<ConnectionRow>, StoreError> {
        Ok(sqlx::query_as!(
            ConnectionRow,
            r#"-- find_connection
            SELECT id, account_id, vendor, coalesce(service, vendor) AS "service!", settings, secret_ref, state,
                   state_reason, state_since
            FROM connections WHERE id = $1"#,
            id.0,
        )
        .fetch_optional(&self.pool)
        .await?)
    }
    /// Connections, newest first, of one state or of all; `before` is the last id of the page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_connections(
        &self,
        state: Option<&str>,
        before: Option<ConnectionId>,
        limit: i64,
    ) -> Result<Vec<ConnectionRow>, StoreError> {
        let before = before.map_or(i64::MAX, |id| id.0);
        let limit = limit.clamp(1, PAGE_ROWS_MAX);
        // Two statements, each with an index in its order.
        let rows = match state {
            Some(state) => {
                sqlx::query_as!(
                    ConnectionRow,
                    r#"-- list_connections_of_state
                SELECT id, account_id, vendor, coalesce(service, vendor) AS "service!", settings, secret_ref, state,
                       state_reason, state_since
                FROM connections WHERE (state, id) < ($1, $2) AND (state, id) >= ($1, 0)
                ORDER BY state DESC, id DESC LIMIT $3"#,
                    state,
                    before,
                    limit,
                )
                .fetch_all(&self.pool)
                .await?
            }
            None => {
                sqlx::query_as!(
                    ConnectionRow,
                    r#"-- list_connections
                SELECT id, account_id, vendor, coalesce(service, vendor) AS "service!", settings, secret_ref, state,
                       state_reason, state_since
                FROM connections WHERE id < $1 ORDER BY id DESC LIMIT $2"#,
                    before,
                    limit,
                )
                .fetch_all(&self.pool)
                .await?
            }
        };
        Ok(rows)
    }

    /// Notes which service a connection works on; nothing is written when that is known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_service(&self, connection: ConnectionId, service: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "-- note_service
            UPDATE connections SET service = $2 WHERE id = $1 AND service IS DISTINCT FROM $2",
            connection.0,
            service,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Changes a connection's state as an operator says. When it is in use again, wakes those who do its jobs. Answers
    /// with false when its state does not allow that, or when there is no such connection.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change_connection<A: ChangesConnection>(
        &self,
        granted: &Granted<A>,
        connection: ConnectionId,
    ) -> Result<bool, StoreError> {
        let (from, to, what) = A::ACT.change();
        let (by, reason) = (granted.by(), granted.reason());
        let from: Vec<String> = from.iter().map(|state| (*state).to_owned()).collect();
        let (of, now) = (Subject::Connection(connection), self.clock.now());
        let mut tx = self.begin().await?;
        let before = snapshot(&mut tx.inner, &of).await?;
        let changed = sqlx::query!(
            "-- change_connection
            UPDATE connections
            SET state = $2, state_reason = CASE WHEN $2 <> 'active' THEN $3 END, state_since = $4
            WHERE id = $1 AND state = ANY($5)",
            connection.0,
            to,
            reason,
            now,
            &from,
        )
        .execute(&mut *tx.inner)
        .await?;
        if changed.rows_affected() == 0 {
            return Ok(false);
        }
        note_event(&mut tx.inner, &Event { of: Of::Connection(connection), what, by, reason }, now).await?;
        let after = snapshot(&mut tx.inner, &of).await?;
        note(&mut tx.inner, granted, &of, (before, after), now).await?;
        if to == "active" {
            // Schedules that were put off because of it are due at once.
            sqlx::query!(
                "-- end_hold
                UPDATE schedules SET held_until = NULL WHERE connection_id = $1 AND held_until IS NOT NULL",
                connection.0,
            )
            .execute(&mut *tx.inner)
            .await?;
        }
        tx.commit().await?;
        if to == "active" {
            self.wake_every_kind().await;
        }
        Ok(true)
    }

    /// What happened to a connection, the latest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn connection_events(
        &self,
        connection: ConnectionId,
        limit: i64,
    ) -> Result<Vec<ConnectionEvent>, StoreError> {
        Ok(sqlx::query_as!(
            ConnectionEvent,
            "-- connection_events
            SELECT what, by, reason, at FROM connection_events WHERE connection_id = $1 ORDER BY id DESC LIMIT $2",
            connection.0,
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Forgets events from before that time, `limit` at the most. Answers with how many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_connection_events(
        &self,
        leadership: &Leadership,
        before: DateTime<Utc>,
        limit: i64,
    ) -> Result<u64, StoreError> {
        let gone = sqlx::query!(
            "-- forget_connection_events
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE)
            DELETE FROM connection_events WHERE id IN (
                SELECT id FROM connection_events WHERE at < $3 AND EXISTS (SELECT FROM led) ORDER BY at LIMIT $4)",
            leadership.term.0,
            leadership.holder,
            before,
            limit,
        )
        .execute(&self.pool)
        .await?;
        Ok(gone.rows_affected())
    }

    /// What a connection has to do with the waiting of its jobs; none when there is no such connection.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn connection_facts(&self, id: ConnectionId) -> Result<Option<ConnectionFacts>, StoreError> {
        let Some(row) = self.find_connection(id).await? else { return Ok(None) };
        let by = match row.state.as_str() {
            "active" => None,
            _ => self.connection_events(id, 1).await?.pop().map(|event| event.by),
        };
        let circuit = self.find_breaker(&row.service).await?.map(|found| CircuitFacts {
            service: found.service,
            state: found.breaker.state,
            since: found.breaker.since,
            reason: found.breaker.reason,
            forced: found.breaker.forced.zip(found.forced).map(|(forced, by)| ForcedFacts {
                forced,
                by: by.by,
                reason: by.reason,
                since: by.at,
            }),
            has_room: false,
        });
        let (state, reason, since) = (row.state, row.state_reason, row.state_since);
        Ok(Some(ConnectionFacts { connection: id, state, by, reason, since, circuit, releasing: None }))
    }

    /// What happened to a service's breaker, the latest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn breaker_events(&self, service: &str, limit: i64) -> Result<Vec<ConnectionEvent>, StoreError> {
        Ok(sqlx::query_as!(
            ConnectionEvent,
            "-- breaker_events
            SELECT what, by, reason, at FROM connection_events WHERE service = $1 ORDER BY id DESC LIMIT $2",
            service,
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

/// Notes what happened, in the transaction in which it does.
pub(crate) async fn note_event(
    conn: &mut sqlx::PgConnection,
    event: &Event<'_>,
    at: DateTime<Utc>,
) -> Result<(), StoreError> {
    let (connection, service) = match event.of {
        Of::Connection(id) => (Some(id.0), None),
        Of::Service(name) => (None, Some(name)),
    };
    sqlx::query!(
        "-- note_event
        INSERT INTO connection_events (connection_id, service, what, by, reason, at) VALUES ($1, $2, $3, $4, $5, $6)",
        connection,
        service,
        event.what,
        event.by,
        event.reason,
        at,
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn insert_connection(
    conn: &mut sqlx::PgConnection,
    (account, vendor, settings, secret_ref): (AccountId, &str, &Value, Option<&str>),
    now: DateTime<Utc>,
) -> Result<(ConnectionId, Deed), StoreError> {
    let id = sqlx::query_scalar!(
        "-- create_connection
        INSERT INTO connections (account_id, vendor, settings, secret_ref, state_since, created_at)
        VALUES ($1, $2, $3, $4, $5, $5) RETURNING id",
        account.0,
        vendor,
        settings,
        secret_ref,
        now,
    )
    .fetch_one(conn)
    .await?;
    // Neither settings nor the name of a secret: what the audit keeps, many read.
    let after = json!({ "account_id": account.0, "vendor": vendor });
    Ok((ConnectionId(id), Deed::told(id.to_string(), ("create", ""), Value::Null, after)))
}

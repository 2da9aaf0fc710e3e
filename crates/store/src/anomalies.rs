//! Anomalies as rows: one for each thing that is out of the ordinary, however often it is seen. What seeing one again or a
//! person's act does to it is `domain`'s to say.

use crate::{
    Store, StoreError, Tx,
    audit::{Subject, note, snapshot},
};
use chrono::{DateTime, Utc};
use domain::{AccountId, AnomalyAct, AnomalyKind, AnomalyState, Capability, ConnectionId, Granted, Severity, action};
use serde_json::Value;

/// Who a sighting is by, and who resolves what is over by itself.
const BY_ITSELF: &str = "servant";

/// An action that is done with an anomaly.
pub trait ChangesAnomaly: Capability {
    /// What it does.
    const ACT: AnomalyAct;
}

impl ChangesAnomaly for action::AcknowledgeAnomaly {
    const ACT: AnomalyAct = AnomalyAct::Acknowledge;
}

impl ChangesAnomaly for action::ResolveAnomaly {
    const ACT: AnomalyAct = AnomalyAct::Resolve;
}

impl ChangesAnomaly for action::MuteAnomaly {
    const ACT: AnomalyAct = AnomalyAct::Mute;
}

/// Something out of the ordinary, seen once.
#[derive(Debug, Clone)]
pub struct Sighting<'a> {
    /// By which connection.
    pub connection: ConnectionId,
    /// Of which object; empty: of the whole connection.
    pub object: &'a str,
    /// What.
    pub kind: AnomalyKind,
    /// What of the object: a field's name, or empty.
    pub subject: &'a str,
    /// How grave.
    pub severity: Severity,
    /// A sentence for a person.
    pub summary: &'a str,
    /// What it was seen by: figures, names, ids. Replaces that of the sighting before.
    pub evidence: &'a Value,
}

/// An anomaly.
#[derive(Debug, Clone, PartialEq)]
pub struct AnomalyRow {
    /// Its id.
    pub id: i64,
    /// Whose data.
    pub account: AccountId,
    /// By which connection.
    pub connection: ConnectionId,
    /// Of which object; empty: of the whole connection.
    pub object: String,
    /// What: an [`AnomalyKind`]'s name, or one that only a newer version knows.
    pub kind: String,
    /// What of the object.
    pub subject: String,
    /// How grave it was when it was seen last.
    pub severity: Severity,
    /// Where it stands.
    pub state: AnomalyState,
    /// A sentence for a person.
    pub summary: String,
    /// What it was seen by.
    pub evidence: Value,
    /// How often it was seen.
    pub sightings: i64,
    /// When first.
    pub first_seen_at: DateTime<Utc>,
    /// When last.
    pub last_seen_at: DateTime<Utc>,
    /// Who brought it into its state.
    pub state_by: String,
    /// Why.
    pub state_reason: String,
    /// Since when.
    pub state_since: DateTime<Utc>,
    /// Whose it is to look after.
    pub assigned_to: Option<String>,
}

/// Which anomalies.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnomalyFilter {
    /// In this state.
    pub state: Option<AnomalyState>,
    /// At least so grave.
    pub severity: Option<Severity>,
    /// Of this account.
    pub account: Option<AccountId>,
    /// Of this connection.
    pub connection: Option<ConnectionId>,
    /// Ids below this one.
    pub before: Option<i64>,
}

/// What a person's act came to.
#[derive(Debug, Clone, PartialEq)]
pub enum AnomalyChange {
    /// It stands there now.
    Done(Box<AnomalyRow>),
    /// It stands where that act makes no sense.
    Senseless(AnomalyState),
    /// There is none.
    Missing,
}

pub(crate) struct RawAnomaly {
    pub(crate) id: i64,
    pub(crate) account_id: i64,
    pub(crate) connection_id: i64,
    pub(crate) object: String,
    pub(crate) kind: String,
    pub(crate) subject: String,
    pub(crate) severity: i16,
    pub(crate) state: String,
    pub(crate) summary: String,
    pub(crate) evidence: Value,
    pub(crate) sightings: i64,
    pub(crate) first_seen_at: DateTime<Utc>,
    pub(crate) last_seen_at: DateTime<Utc>,
    pub(crate) state_by: String,
    pub(crate) state_reason: String,
    pub(crate) state_since: DateTime<Utc>,
    pub(crate) assigned_to: Option<String>,
}

impl RawAnomaly {
    pub(crate) fn check(self) -> Result<AnomalyRow, StoreError> {
        let id = self.id;
        let corrupt = |column| StoreError::Corrupt { table: "anomalies", column, row: id.to_string() };
        Ok(AnomalyRow {
            kind: self.kind,
            severity: Severity::from_code(self.severity).ok_or_else(|| corrupt("severity"))?,
            state: self.state.parse().map_err(|_| corrupt("state"))?,
            id: self.id,
            account: AccountId(self.account_id),
            connection: ConnectionId(self.connection_id),
            object: self.object,
            subject: self.subject,
            summary: self.summary,
            evidence: self.evidence,
            sightings: self.sightings,
            first_seen_at: self.first_seen_at,
            last_seen_at: self.last_seen_at,
            state_by: self.state_by,
            state_reason: self.state_reason,
            state_since: self.state_since,
            assigned_to: self.assigned_to,
        })
    }
}

impl Store {
    /// Notes that something out of the ordinary was seen, in the transaction of what it was seen in. Answers with the
    /// state that the anomaly had before, none if it is new, and the one that it has now.
    ///
    /// # Errors
    /// [`StoreError`]; `Rejected` when there is no such connection.
    pub async fn note_anomaly(
        &self,
        tx: &mut Tx,
        seen: &Sighting<'_>,
    ) -> Result<(Option<AnomalyState>, AnomalyState), StoreError> {
        let now = self.clock.now();
        let inserted = sqlx::query_scalar!(
            "-- note_anomaly
            INSERT INTO anomalies (account_id, connection_id, object, kind, subject, severity, state, summary, evidence,
                                   first_seen_at, last_seen_at, state_by, state_reason, state_since)
            SELECT account_id, id, $2, $3, $4, $5, 'open', $6, $7, $8, $8, $9, '', $8 FROM connections WHERE id = $1
            ON CONFLICT (connection_id, object, kind, subject) DO NOTHING RETURNING id",
            seen.connection.0,
            seen.object,
            seen.kind.as_str(),
            seen.subject,
            seen.severity.code(),
            seen.summary,
            seen.evidence,
            now,
            BY_ITSELF,
        )
        .fetch_optional(&mut *tx.inner)
        .await?;
        if inserted.is_some() {
            return Ok((None, AnomalyState::Open));
        }
        let row = lock_same(tx, seen.connection, seen.object, seen.kind, seen.subject).await?;
        let row = row.ok_or(StoreError::Rejected(sqlx::Error::RowNotFound))?;
        let state = row.state.seen_again(row.severity, seen.severity);
        sqlx::query!(
            "-- note_anomaly: again
            UPDATE anomalies
            SET severity = $2, summary = $3, evidence = $4, sightings = sightings + 1, last_seen_at = $5, state = $6,
                state_by = CASE WHEN state = $6 THEN state_by ELSE $7 END,
                state_reason = CASE WHEN state = $6 THEN state_reason ELSE '' END,
                state_since = CASE WHEN state = $6 THEN state_since ELSE $5 END
            WHERE id = $1",
            row.id,
            seen.severity.code(),
            seen.summary,
            seen.evidence,
            now,
            state.as_str(),
            BY_ITSELF,
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok((Some(row.state), state))
    }

    /// Resolves an anomaly that is over by itself; false when there is none, or a person has done so, or muted it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn settle_anomaly(
        &self,
        tx: &mut Tx,
        connection: ConnectionId,
        (object, kind, subject): (&str, AnomalyKind, &str),
        reason: &str,
    ) -> Result<bool, StoreError> {
        let row = lock_same(tx, connection, object, kind, subject).await?;
        let Some(row) = row.filter(|row| !matches!(row.state, AnomalyState::Muted | AnomalyState::Resolved)) else {
            return Ok(false);
        };
        self.set_anomaly_state(tx, row.id, AnomalyState::Resolved, BY_ITSELF, reason).await?;
        Ok(true)
    }

    /// Does with an anomaly what a person wants.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change_anomaly<A: ChangesAnomaly>(
        &self,
        granted: &Granted<A>,
        id: i64,
    ) -> Result<AnomalyChange, StoreError> {
        let (act, by, reason) = (A::ACT, granted.by(), granted.reason());
        let of = Subject::Anomaly(id);
        let mut tx = self.begin().await?;
        let raw = sqlx::query_as!(
            RawAnomaly,
            "-- change_anomaly
            SELECT id, account_id, connection_id, object, kind, subject, severity, state, summary, evidence, sightings,
                   first_seen_at, last_seen_at, state_by, state_reason, state_since, assigned_to
            FROM anomalies WHERE id = $1 FOR UPDATE",
            id,
        )
        .fetch_optional(&mut *tx.inner)
        .await?;
        let Some(row) = raw.map(RawAnomaly::check).transpose()? else { return Ok(AnomalyChange::Missing) };
        let Some(state) = act.of(row.state) else { return Ok(AnomalyChange::Senseless(row.state)) };
        let before = snapshot(&mut tx.inner, &of).await?;
        let at = self.set_anomaly_state(&mut tx, id, state, by, reason).await?;
        let after = snapshot(&mut tx.inner, &of).await?;
        note(&mut tx.inner, granted, &of, (before, after), at).await?;
        tx.commit().await?;
        let (state_by, state_reason) = (by.to_owned(), reason.to_owned());
        Ok(AnomalyChange::Done(Box::new(AnomalyRow { state, state_by, state_reason, state_since: at, ..row })))
    }

    /// Makes an anomaly somebody's to look after, or nobody's; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn assign_anomaly(
        &self,
        granted: &Granted<action::AssignAnomaly>,
        id: i64,
        to: Option<&str>,
    ) -> Result<Option<AnomalyRow>, StoreError> {
        let of = Subject::Anomaly(id);
        let mut tx = self.begin().await?;
        let before = snapshot(&mut tx.inner, &of).await?;
        let raw = sqlx::query_as!(
            RawAnomaly,
            "-- assign_anomaly
            UPDATE anomalies SET assigned_to = $2 WHERE id = $1
            RETURNING id, account_id, connection_id, object, kind, subject, severity, state, summary, evidence, sightings,
                      first_seen_at, last_seen_at, state_by, state_reason, state_since, assigned_to",
            id,
            to,
        )
        .fetch_optional(&mut *tx.inner)
        .await?;
        let Some(row) = raw.map(RawAnomaly::check).transpose()? else { return Ok(None) };
        let after = snapshot(&mut tx.inner, &of).await?;
        note(&mut tx.inner, granted, &of, (before, after), self.clock.now()).await?;
        tx.commit().await?;
        Ok(Some(row))
    }

    async fn set_anomaly_state(
        &self,
        tx: &mut Tx,
        id: i64,
        state: AnomalyState,
        by: &str,
        reason: &str,
    ) -> Result<DateTime<Utc>, StoreError> {
        let now = self.clock.now();
        sqlx::query!(
            "-- set_anomaly_state
            UPDATE anomalies SET state = $2, state_by = $3, state_reason = $4, state_since = $5 WHERE id = $1",
            id,
            state.as_str(),
            by,
            reason,
            now,
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok(now)
    }
}

/// The anomaly of that connection, object, kind and subject, locked until the transaction ends.
async fn lock_same(
    tx: &mut Tx,
    connection: ConnectionId,
    object: &str,
    kind: AnomalyKind,
    subject: &str,
) -> Result<Option<AnomalyRow>, StoreError> {
    let raw = sqlx::query_as!(
        RawAnomaly,
        "-- lock_same
        SELECT id, account_id, connection_id, object, kind, subject, severity, state, summary, evidence, sightings,
               first_seen_at, last_seen_at, state_by, state_reason, state_since, assigned_to
        FROM anomalies WHERE connection_id = $1 AND object = $2 AND kind = $3 AND subject = $4 FOR UPDATE",
        connection.0,
        object,
        kind.as_str(),
        subject,
    )
    .fetch_optional(&mut *tx.inner)
    .await?;
    raw.map(RawAnomaly::check).transpose()
}

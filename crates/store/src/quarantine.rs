//! Records in quarantine as people see them: one with its bytes, what somebody does with one, and when one that has
//! ended is forgotten. Lists are in `list`; how a record gets in and out by itself is in `records/quarantine`.

use crate::{
    Inserted, Leadership, NewJob, Store, StoreError, Tx, Unique,
    audit::{Subject, new_jobs, note, note_each, snapshot},
    jobs::new_of,
};
use chrono::{DateTime, Utc};
use domain::{AccountId, ConnectionId, Granted, Kind, QuarantineState, action};
use serde_json::json;
use uuid::Uuid;

/// A record in quarantine, or one that was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineRow {
    /// Its number.
    pub id: i64,
    /// Whose record.
    pub account: AccountId,
    /// By which connection.
    pub connection: ConnectionId,
    /// Its object.
    pub object: String,
    /// The vendor's id, if it can be read.
    pub record_id: Option<String>,
    /// What is wrong with it.
    pub reason: String,
    /// How many bytes it has.
    pub bytes: i64,
    /// When these bytes were first seen.
    pub first_seen_at: DateTime<Utc>,
    /// When last.
    pub last_seen_at: DateTime<Utc>,
    /// Where it stands.
    pub state: QuarantineState,
    /// Who brought it there.
    pub state_by: String,
    /// Why.
    pub state_reason: String,
    /// Since when.
    pub state_since: DateTime<Utc>,
    /// When somebody last had it asked for once more.
    pub retried_at: Option<DateTime<Utc>>,
    /// When the vendor says that it changed last, if that can be read.
    pub version_at: Option<DateTime<Utc>>,
    /// Whether it lies in the vendor's recycle bin, as far as is known.
    pub is_deleted: Option<bool>,
    /// Of which version of the record these are the bytes, counted since it is in quarantine: those before have ended with
    /// it, and are in the lists of what is resolved.
    pub versions: i32,
}

/// What dismissing one came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dismissed {
    /// It rests.
    Done(Box<QuarantineRow>),
    /// It is not open.
    Senseless(QuarantineState),
    /// There is none.
    Missing,
}

/// What asking for one once more came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordRetry {
    /// A job asks for it, or one that asks for the same is unfinished.
    Asked(Inserted),
    /// It is in quarantine no more.
    Senseless,
    /// Nobody can ask for it by its id: that cannot be read.
    Nameless,
    /// Its connection is in this state, in which nobody is asked.
    AtRest(String),
    /// There is none.
    Missing,
}

struct Raw {
    id: i64,
    account_id: i64,
    connection_id: i64,
    object: String,
    record_id: Option<String>,
    reason: String,
    bytes: i64,
    first_seen_at: DateTime<Utc>,
    last_seen_at: DateTime<Utc>,
    state: String,
    state_by: String,
    state_reason: String,
    state_since: DateTime<Utc>,
    retried_at: Option<DateTime<Utc>>,
    version_at: Option<DateTime<Utc>>,
    is_deleted: Option<bool>,
    versions: i32,
}

impl Raw {
    fn check(self) -> Result<QuarantineRow, StoreError> {
        let corrupt =
            |_| StoreError::Corrupt { table: "quarantined_records", column: "state", row: self.id.to_string() };
        Ok(QuarantineRow {
            state: self.state.parse().map_err(corrupt)?,
            id: self.id,
            account: AccountId(self.account_id),
            connection: ConnectionId(self.connection_id),
            object: self.object,
            record_id: self.record_id,
            reason: self.reason,
            bytes: self.bytes,
            first_seen_at: self.first_seen_at,
            last_seen_at: self.last_seen_at,
            state_by: self.state_by,
            state_reason: self.state_reason,
            state_since: self.state_since,
            retried_at: self.retried_at,
            version_at: self.version_at,
            is_deleted: self.is_deleted,
            versions: self.versions,
        })
    }
}

/// One checked statement: the columns of a [`Raw`] from `$from`, which names `q`.
macro_rules! quarantined {
    ($name:literal, $from:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            Raw,
            "-- " + $name + "\nSELECT q.id, q.account_id, q.connection_id, q.object, q.record_id, q.reason,
                octet_length(q.body)::bigint AS \"bytes!\", q.first_seen_at, q.last_seen_at, q.state, q.state_by,
                q.state_reason, coalesce(q.state_since, q.first_seen_at) AS \"state_since!\", q.retried_at,
                q.version_at, q.is_deleted, q.versions
            FROM " + $from,
            $($argument),*
        )
    };
}

mod list;
pub use list::QuarantineFilter;

impl Store {
    /// One record in quarantine, and its bytes, of which at most `bytes_max`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_quarantined(
        &self,
        id: i64,
        bytes_max: i32,
    ) -> Result<Option<(QuarantineRow, Vec<u8>)>, StoreError> {
        let raw = quarantined!("find_quarantined", "quarantined_records q WHERE q.id = $1", id);
        let Some(raw) = raw.fetch_optional(&self.pool).await? else { return Ok(None) };
        let body = sqlx::query_scalar!(
            r#"-- find_quarantined: its bytes
            SELECT substring(body FROM 1 FOR $2) AS "body!" FROM quarantined_records WHERE id = $1"#,
            id,
            bytes_max,
        )
        .fetch_optional(&self.pool)
        .await?;
        // Forgotten in between: there is none.
        body.map(|body| Ok((raw.check()?, body))).transpose()
    }

    /// Lets an open one rest: it is kept, and nobody is told of these bytes again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn dismiss_quarantined(
        &self,
        granted: &Granted<action::DismissRecord>,
        id: i64,
    ) -> Result<Dismissed, StoreError> {
        let of = Subject::Quarantine(id);
        let (mut tx, now) = (self.begin().await?, self.clock.now());
        let Some(row) = lock(&mut tx, id).await? else { return Ok(Dismissed::Missing) };
        if row.state != QuarantineState::Open {
            return Ok(Dismissed::Senseless(row.state));
        }
        let before = snapshot(&mut tx.inner, &of).await?;
        let state = QuarantineState::Dismissed;
        sqlx::query!(
            "-- dismiss_quarantined
            UPDATE quarantined_records SET state = $2, state_by = $3, state_reason = $4, state_since = $5 WHERE id = $1",
            id,
            state.as_str(),
            granted.by(),
            granted.reason(),
            now,
        )
        .execute(&mut *tx.inner)
        .await?;
        let after = snapshot(&mut tx.inner, &of).await?;
        note(&mut tx.inner, granted, &of, (before, after), now).await?;
        tx.commit().await?;
        let (state_by, state_reason) = (granted.by().to_owned(), granted.reason().to_owned());
        Ok(Dismissed::Done(Box::new(QuarantineRow { state, state_by, state_reason, state_since: now, ..row })))
    }

    /// Has the vendor asked once more for the record of an open or dismissed one: by a job, made in the transaction that
    /// notes who wanted it. What becomes of the record is that job's to write.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn retry_quarantined(
        &self,
        granted: &Granted<action::RetryRecord>,
        id: i64,
        request_id: Uuid,
    ) -> Result<RecordRetry, StoreError> {
        let (mut tx, now) = (self.begin().await?, self.clock.now());
        let Some(row) = lock(&mut tx, id).await? else { return Ok(RecordRetry::Missing) };
        if row.state == QuarantineState::Resolved {
            return Ok(RecordRetry::Senseless);
        }
        let Some(record) = &row.record_id else { return Ok(RecordRetry::Nameless) };
        let connection = sqlx::query!(
            "-- retry_quarantined: its connection
            SELECT vendor, state FROM connections WHERE id = $1",
            row.connection.0,
        )
        .fetch_optional(&mut *tx.inner)
        .await?;
        let Some(connection) = connection else { return Ok(RecordRetry::Missing) };
        // A kind that holds records against a vendor's is called so.
        let kind = Kind::new(format!("{}_reconcile", connection.vendor)).ok();
        let Some(kind) = kind.filter(|_| connection.state == "active") else {
            return Ok(RecordRetry::AtRest(connection.state));
        };
        let job = NewJob {
            account: row.account,
            connection: Some(row.connection),
            priority: 0,
            unique: Some(Unique { key: format!("record:{}/{}/{record}", row.connection, row.object), for_secs: None }),
            request_id,
            ..NewJob::new(kind, json!({ "object": row.object, "records": [record] }))
        };
        let jobs = [job];
        let inserted = self.insert_jobs_in(&mut tx, &jobs).await?;
        let of = Subject::Quarantine(id);
        let before = snapshot(&mut tx.inner, &of).await?;
        sqlx::query!(
            "-- retry_quarantined
            UPDATE quarantined_records SET retried_at = $2 WHERE id = $1",
            id,
            now,
        )
        .execute(&mut *tx.inner)
        .await?;
        let after = snapshot(&mut tx.inner, &of).await?;
        note(&mut tx.inner, granted, &of, (before, after), now).await?;
        let deeds = new_jobs(&mut tx.inner, &new_of(&inserted)).await?;
        note_each(&mut tx.inner, granted, "job", deeds, now).await?;
        tx.commit().await?;
        self.wake_for(&jobs).await;
        Ok(inserted.into_iter().next().map_or(RecordRetry::Missing, RecordRetry::Asked))
    }

    /// Forgets records that are dismissed or resolved since before `cutoff`, and that the vendor has not shown since.
    /// Those that are open stay. Answers with their number, `limit` at the most.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_quarantined(
        &self,
        leadership: &Leadership,
        cutoff: DateTime<Utc>,
        limit: i64,
    ) -> Result<u64, StoreError> {
        let gone = sqlx::query!(
            "-- forget_quarantined
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE)
            DELETE FROM quarantined_records WHERE id IN (
                SELECT id FROM quarantined_records
                WHERE state <> 'open' AND last_seen_at < $3 AND state_since < $3 AND EXISTS (SELECT FROM led)
                ORDER BY last_seen_at LIMIT $4)",
            leadership.term.0,
            leadership.holder,
            cutoff,
            limit,
        )
        .execute(&self.pool)
        .await?;
        Ok(gone.rows_affected())
    }
}

async fn lock(tx: &mut Tx, id: i64) -> Result<Option<QuarantineRow>, StoreError> {
    let raw = quarantined!("lock_quarantined", "quarantined_records q WHERE q.id = $1 FOR UPDATE", id);
    raw.fetch_optional(&mut *tx.inner).await?.map(Raw::check).transpose()
}

//! Readings of a whole object, to be held against its stored records: which job reads, how far it is, and the ids it met.
//! Owns the page mark. Does not own the comparison (`records`) nor what is read (`sync`).

use crate::{Outcome, Store, StoreError, Tx};
use chrono::{DateTime, Utc};
use domain::{ConnectionId, JobId};

/// Ids forgotten at once.
const FORGOTTEN_IDS: i64 = 50_000;

/// A reading of a whole object, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Its number, greater than that of each reading of the stream before it.
    pub id: i64,
    /// Of which stream.
    pub stream: i64,
    /// When it began, by the vendor's clock.
    pub began_at: DateTime<Utc>,
    /// When it began, by ours.
    pub opened_at: DateTime<Utc>,
    /// The fields that are read beside the id.
    pub fields: Vec<String>,
    /// The vendor's job, if it is read in bulk, and that job's version of the API.
    pub vendor_job: Option<(String, String)>,
    /// What the vendor says it holds.
    pub rows_expected: Option<i64>,
    /// Rows of committed pages.
    pub rows_seen: i64,
    /// Committed pages.
    pub pages: i32,
    /// Where the page after those is.
    pub next_page: Option<String>,
    /// All pages are committed.
    pub is_read: bool,
}

/// What a new reading is to be.
#[derive(Debug, Clone)]
pub struct NewSnapshot<'a> {
    /// By the vendor's clock.
    pub began_at: DateTime<Utc>,
    /// The fields beside the id.
    pub fields: &'a [String],
    /// The vendor's job, if it is read in bulk, and that job's version of the API.
    pub vendor_job: Option<(&'a str, &'a str)>,
}

/// What a job that wants to read an object finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotFound {
    /// Its own reading, to go on with.
    Own(SnapshotRow),
    /// None: it may begin one, for this stream.
    Free(i64),
    /// Another running job reads the object.
    Busy,
    /// The object has not been read once yet: there is nothing to hold it against.
    Unread,
}

struct RawSnapshot {
    id: i64,
    stream_id: i64,
    job_id: i64,
    began_at: DateTime<Utc>,
    opened_at: DateTime<Utc>,
    fields: Vec<String>,
    vendor_job: Option<String>,
    api_version: Option<String>,
    rows_expected: Option<i64>,
    rows_seen: i64,
    pages: i32,
    next_page: Option<String>,
    is_read: bool,
}

impl RawSnapshot {
    fn row(self) -> SnapshotRow {
        SnapshotRow {
            id: self.id,
            stream: self.stream_id,
            began_at: self.began_at,
            opened_at: self.opened_at,
            fields: self.fields,
            vendor_job: self.vendor_job.zip(self.api_version),
            rows_expected: self.rows_expected,
            rows_seen: self.rows_seen,
            pages: self.pages,
            next_page: self.next_page,
            is_read: self.is_read,
        }
    }
}

impl Store {
    /// The reading of an object that `job` is at, or whether it may begin one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_snapshot(
        &self,
        connection: ConnectionId,
        object: &str,
        job: JobId,
    ) -> Result<SnapshotFound, StoreError> {
        let stream = sqlx::query!(
            "-- find_snapshot: the stream
            SELECT id, watermark FROM streams WHERE connection_id = $1 AND object = $2",
            connection.0,
            object,
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(stream) = stream.filter(|stream| stream.watermark.is_some()) else {
            return Ok(SnapshotFound::Unread);
        };
        let found = sqlx::query_as!(
            RawSnapshot,
            "-- find_snapshot
            SELECT id, stream_id, job_id, began_at, opened_at, fields, vendor_job, api_version, rows_expected, rows_seen, pages,
                   next_page, is_read
            FROM snapshots WHERE stream_id = $1 AND (job_id = $2 OR EXISTS (
                SELECT FROM jobs WHERE jobs.id = snapshots.job_id AND jobs.state = 3))",
            stream.id,
            job.0,
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(match found {
            None => SnapshotFound::Free(stream.id),
            Some(raw) if raw.job_id == job.0 => SnapshotFound::Own(raw.row()),
            Some(_) => SnapshotFound::Busy,
        })
    }

    /// Begins to read an object, in place of a reading that is nobody's any more. None: somebody else has begun meanwhile.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin_snapshot(
        &self,
        stream: i64,
        job: JobId,
        new: &NewSnapshot<'_>,
    ) -> Result<Option<SnapshotRow>, StoreError> {
        let (vendor_job, api_version) = new.vendor_job.unzip();
        let raw = sqlx::query_as!(
            RawSnapshot,
            "-- begin_snapshot
            INSERT INTO snapshots (stream_id, job_id, began_at, opened_at, fields, vendor_job, api_version)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT (stream_id) DO UPDATE
            SET id = excluded.id, job_id = excluded.job_id, began_at = excluded.began_at, opened_at = excluded.opened_at,
                fields = excluded.fields, vendor_job = excluded.vendor_job, api_version = excluded.api_version,
                rows_expected = NULL, rows_seen = 0, pages = 0, next_page = NULL, is_read = false
            WHERE snapshots.job_id = excluded.job_id OR NOT EXISTS (
                SELECT FROM jobs WHERE jobs.id = snapshots.job_id AND jobs.state = 3)
            RETURNING id, stream_id, job_id, began_at, opened_at, fields, vendor_job, api_version, rows_expected, rows_seen,
                      pages, next_page, is_read",
            stream,
            job.0,
            new.began_at,
            self.clock.now(),
            new.fields,
            vendor_job,
            api_version,
        )
        .fetch_optional(&self.pool)
        .await?;
        if let Some(raw) = &raw {
            // What readings before this one left behind.
            self.forget_snapshot_ids(stream, raw.id - 1).await?;
        }
        Ok(raw.map(RawSnapshot::row))
    }

    /// Notes the ids of one page more, and the mark, in the transaction that commits the page. Stale when the reading has
    /// moved on from what the caller knows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mark_snapshot_page(
        &self,
        tx: &mut Tx,
        from: &SnapshotRow,
        to: &SnapshotRow,
        ids: &[&str],
    ) -> Result<Outcome, StoreError> {
        let marked = sqlx::query!(
            "-- mark_snapshot_page
            UPDATE snapshots SET rows_expected = $4, rows_seen = $5, pages = $6, next_page = $7, is_read = $8
            WHERE stream_id = $1 AND id = $2 AND pages = $3",
            from.stream,
            from.id,
            from.pages,
            to.rows_expected,
            to.rows_seen,
            to.pages,
            to.next_page,
            to.is_read,
        )
        .execute(&mut *tx.inner)
        .await?;
        if marked.rows_affected() == 0 {
            return Ok(Outcome::Stale);
        }
        sqlx::query!(
            "-- mark_snapshot_page: the ids
            INSERT INTO snapshot_ids (stream_id, snapshot_id, record_id)
            SELECT $1, $2, id FROM unnest($3::text[]) AS t (id) ORDER BY id ON CONFLICT DO NOTHING",
            from.stream,
            from.id,
            ids as &[&str],
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok(Outcome::Applied)
    }

    /// Ends a reading that has been held against what is stored, and notes the fields that it brought.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_snapshot(&self, tx: &mut Tx, snapshot: &SnapshotRow) -> Result<Outcome, StoreError> {
        let ended = sqlx::query!(
            "-- end_snapshot
            WITH ended AS (DELETE FROM snapshots WHERE stream_id = $1 AND id = $2 RETURNING stream_id, began_at)
            UPDATE streams SET reconciled_at = ended.began_at FROM ended WHERE streams.id = ended.stream_id",
            snapshot.stream,
            snapshot.id,
        )
        .execute(&mut *tx.inner)
        .await?;
        if ended.rows_affected() == 0 {
            return Ok(Outcome::Stale);
        }
        sqlx::query!(
            "-- end_snapshot: the fields
            UPDATE stream_fields SET unfilled_since = NULL
            WHERE stream_id = $1 AND name = ANY($2) AND unfilled_since <= $3",
            snapshot.stream,
            &snapshot.fields,
            snapshot.opened_at,
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok(Outcome::Applied)
    }

    /// Begins a reading again at `place`, without the vendor's job, which came to nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn restart_snapshot(&self, snapshot: &SnapshotRow, place: &str) -> Result<SnapshotRow, StoreError> {
        sqlx::query!(
            "-- restart_snapshot
            UPDATE snapshots SET vendor_job = NULL, api_version = NULL, next_page = $4, rows_expected = NULL, rows_seen = 0
            WHERE stream_id = $1 AND id = $2 AND pages = $3",
            snapshot.stream,
            snapshot.id,
            snapshot.pages,
            place,
        )
        .execute(&self.pool)
        .await?;
        self.forget_snapshot_ids(snapshot.stream, snapshot.id).await?;
        // One that is somebody else's stays as it was: its next mark is refused.
        let next_page = Some(place.to_owned());
        Ok(SnapshotRow { vendor_job: None, rows_expected: None, rows_seen: 0, next_page, ..snapshot.clone() })
    }

    /// Gives a reading up: its cursor or job is gone, or what came does not add up. The next one begins anew.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_snapshot(&self, snapshot: &SnapshotRow) -> Result<(), StoreError> {
        sqlx::query!(
            "-- drop_snapshot
            DELETE FROM snapshots WHERE stream_id = $1 AND id = $2",
            snapshot.stream,
            snapshot.id,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Forgets the ids of a stream's readings up to one, some at a time: there may be millions.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_snapshot_ids(&self, stream: i64, until: i64) -> Result<(), StoreError> {
        loop {
            let forgotten = sqlx::query!(
                "-- forget_snapshot_ids
                DELETE FROM snapshot_ids WHERE ctid = ANY (ARRAY (
                    SELECT ctid FROM snapshot_ids WHERE stream_id = $1 AND snapshot_id <= $2 LIMIT $3))",
                stream,
                until,
                FORGOTTEN_IDS,
            )
            .execute(&self.pool)
            .await?;
            if forgotten.rows_affected() < FORGOTTEN_IDS.unsigned_abs() {
                return Ok(());
            }
        }
    }
}

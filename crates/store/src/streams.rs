//! How far a customer's objects are followed: streams, their watermark, and the window that is being read.
//! Owns the page mark. Does not own the records (`records`) nor which windows to read (`sync`).

use crate::{Outcome, Store, StoreError, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{ConnectionId, JobId};

/// The piece of time of one object that is being read, and how far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Its id.
    pub id: i64,
    /// From this time on; `None`: from the beginning.
    pub lo: Option<DateTime<Utc>>,
    /// Until before this time.
    pub hi: DateTime<Utc>,
    /// What the vendor says it holds, once the first page is here.
    pub rows_expected: Option<i64>,
    /// Rows of committed pages.
    pub rows_seen: i64,
    /// Committed pages.
    pub pages: i32,
    /// Where the page after those is.
    pub next_page: Option<String>,
}

/// One committed page more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageMark {
    /// What the vendor says the window holds.
    pub rows_expected: i64,
    /// Rows of this page.
    pub rows: i64,
    /// Where the page after it is; `None` after the last.
    pub next_page: Option<String>,
}

/// How far one object of a connection is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRow {
    /// The object.
    pub object: String,
    /// Every change before this is in the records.
    pub watermark: Option<DateTime<Utc>>,
    /// When a window was last read to its end.
    pub synced_at: Option<DateTime<Utc>>,
    /// `ok` or `needs_attention`.
    pub health: String,
    /// Why.
    pub health_reason: Option<String>,
}

impl Store {
    /// Makes `job` the one that syncs a connection; false while another running job does.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hold_connection(&self, connection: ConnectionId, job: JobId) -> Result<bool, StoreError> {
        let held = sqlx::query!(
            "-- hold_connection
            UPDATE connections SET sync_job_id = $2
            WHERE id = $1 AND NOT EXISTS (
                SELECT FROM jobs WHERE jobs.id = connections.sync_job_id AND jobs.id <> $2 AND jobs.state = 3)",
            connection.0,
            job.0,
        )
        .execute(&self.pool)
        .await?;
        Ok(held.rows_affected() == 1)
    }

    /// The streams of a connection, by object.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_streams(&self, connection: ConnectionId) -> Result<Vec<StreamRow>, StoreError> {
        Ok(sqlx::query_as!(
            StreamRow,
            "-- list_streams
            SELECT object, watermark, synced_at, health, health_reason FROM streams
            WHERE connection_id = $1 ORDER BY object",
            connection.0,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// The open window of an object: the one that an earlier attempt began, else a new one from the watermark less
    /// `overlap` until `hi`. Makes the stream too, when it is new.
    ///
    /// # Errors
    /// [`StoreError`]; `Rejected` when there is no such connection.
    pub async fn open_window(
        &self,
        connection: ConnectionId,
        object: &str,
        hi: DateTime<Utc>,
        overlap: TimeDelta,
    ) -> Result<Window, StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query!(
            "-- open_window: the stream
            INSERT INTO streams (account_id, connection_id, object) SELECT account_id, id, $2 FROM connections WHERE id = $1
            ON CONFLICT (connection_id, object) DO NOTHING",
            connection.0,
            object,
        )
        .execute(&mut *tx)
        .await?;
        sqlx::query!(
            "-- open_window: the window
            INSERT INTO windows (stream_id, lo, hi, opened_at)
            SELECT id, watermark - make_interval(secs => $4), greatest($3, watermark), $5 FROM streams
            WHERE connection_id = $1 AND object = $2
            ON CONFLICT (stream_id) DO NOTHING",
            connection.0,
            object,
            hi,
            overlap.as_seconds_f64(),
            self.clock.now(),
        )
        .execute(&mut *tx)
        .await?;
        let window = sqlx::query_as!(
            Window,
            "-- open_window
            SELECT windows.id, lo, hi, rows_expected, rows_seen, pages, next_page
            FROM windows JOIN streams ON streams.id = windows.stream_id
            WHERE streams.connection_id = $1 AND streams.object = $2",
            connection.0,
            object,
        )
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(window)
    }

    /// Notes that one page more of `window` is committed, in the transaction that commits it. Stale when the window
    /// has moved on from what the caller knows: then the page is somebody else's already.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mark_page(&self, tx: &mut Tx, window: &Window, mark: &PageMark) -> Result<Outcome, StoreError> {
        let marked = sqlx::query!(
            "-- mark_page
            UPDATE windows SET rows_expected = $3, rows_seen = rows_seen + $4, pages = pages + 1, next_page = $5
            WHERE id = $1 AND pages = $2",
            window.id,
            window.pages,
            mark.rows_expected,
            mark.rows,
            mark.next_page,
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok(if marked.rows_affected() == 1 { Outcome::Applied } else { Outcome::Stale })
    }

    /// Ends a window: its stream's watermark moves to the window's end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn close_window(&self, tx: &mut Tx, window: &Window) -> Result<Outcome, StoreError> {
        let closed = sqlx::query!(
            "-- close_window
            WITH closed AS (DELETE FROM windows WHERE id = $1 RETURNING stream_id, hi)
            UPDATE streams SET watermark = closed.hi, synced_at = $2, health = 'ok', health_reason = NULL
            FROM closed WHERE streams.id = closed.stream_id",
            window.id,
            self.clock.now(),
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok(if closed.rows_affected() == 1 { Outcome::Applied } else { Outcome::Stale })
    }

    /// Begins a window again from its first page: its cursor is gone, or what came does not add up. The records that
    /// are stored stay; reading them again changes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn restart_window(&self, window: &Window) -> Result<Window, StoreError> {
        sqlx::query!(
            "-- restart_window
            UPDATE windows SET rows_expected = NULL, rows_seen = 0, pages = 0, next_page = NULL WHERE id = $1",
            window.id,
        )
        .execute(&self.pool)
        .await?;
        Ok(Window { rows_expected: None, rows_seen: 0, pages: 0, next_page: None, ..window.clone() })
    }

    /// Says that a person should look at a stream. Its window stays as it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn flag_stream(&self, connection: ConnectionId, object: &str, reason: &str) -> Result<(), StoreError> {
        sqlx::query!(
            "-- flag_stream
            INSERT INTO streams (account_id, connection_id, object, health, health_reason)
            SELECT account_id, id, $2, 'needs_attention', $3 FROM connections WHERE id = $1
            ON CONFLICT (connection_id, object)
            DO UPDATE SET health = excluded.health, health_reason = excluded.health_reason",
            connection.0,
            object,
            reason,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

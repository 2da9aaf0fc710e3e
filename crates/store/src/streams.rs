//! How far a customer's objects are followed: streams, their watermark, and the window that is being read.
//! Owns the page mark of windows that are read by REST, and what a stream learns when a window ends. Does not own windows
//! that are read in bulk (`windows`), the records (`records`), nor which windows to read (`sync`).

use crate::{IdRange, Outcome, PAGE_ROWS_MAX, Store, StoreError, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{ConnectionId, JobId};
use sqlx::PgConnection;

/// The piece of time of one object that is being read, and how far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Its id.
    pub id: i64,
    /// From this time on; `None`: from the beginning.
    pub lo: Option<DateTime<Utc>>,
    /// Until before this time.
    pub hi: DateTime<Utc>,
    /// Of these ids only, where it is a part of a window.
    pub ids: IdRange,
    /// What the vendor says it holds, once the first page is here.
    pub rows_expected: Option<i64>,
    /// Rows of committed pages.
    pub rows_seen: i64,
    /// Committed pages.
    pub pages: i32,
    /// Where the page after those is.
    pub next_page: Option<String>,
    /// Its beginning: every later one makes this one's work void.
    pub fence: i32,
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
    /// The oldest of the records that changed something.
    pub oldest_change: Option<DateTime<Utc>>,
}

/// What has to be known of a stream to decide how it is read next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPlan {
    /// The object.
    pub object: String,
    /// Every change before this is in the records.
    pub watermark: Option<DateTime<Utc>>,
    /// How far its windows reach back, once lateness was seen.
    pub overlap: Option<TimeDelta>,
    /// Up to here, deletions are known by the vendor's log of them.
    pub deleted_until: Option<DateTime<Utc>>,
    /// The vendor's bulk interface does not have it.
    pub is_rest_only: bool,
    /// A window is open, and read like this.
    pub window: Option<WindowKind>,
}

/// How a window is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowKind {
    /// Page behind page, by the job that syncs the connection.
    Rest,
    /// As units of work that any servant may take.
    Bulk,
}

/// A stream of which the vendor says that nothing happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quiet {
    /// The object.
    pub object: String,
    /// Nothing happened before this.
    pub until: DateTime<Utc>,
    /// How far its next window reaches back.
    pub overlap: TimeDelta,
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
    /// What is known of those of `objects` that have a stream.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn stream_plans(
        &self,
        connection: ConnectionId,
        objects: &[String],
    ) -> Result<Vec<StreamPlan>, StoreError> {
        let rows = sqlx::query!(
            r#"-- stream_plans
            SELECT object, watermark, overlap_secs, deleted_until, is_rest_only, kind AS "kind?"
            FROM streams LEFT JOIN windows ON stream_id = streams.id
            WHERE connection_id = $1 AND object = ANY($2)"#,
            connection.0,
            objects,
        )
        .fetch_all(&self.pool)
        .await?;
        let window = |kind: &str| if kind == "bulk" { WindowKind::Bulk } else { WindowKind::Rest };
        let plans = rows.into_iter().map(|row| StreamPlan {
            object: row.object,
            watermark: row.watermark,
            overlap: row.overlap_secs.map(|secs| TimeDelta::seconds(secs.into())),
            deleted_until: row.deleted_until,
            is_rest_only: row.is_rest_only,
            window: row.kind.as_deref().map(window),
        });
        Ok(plans.collect())
    }

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

    /// The streams of a connection, by object; `after` is the last object of the page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_streams(
        &self,
        connection: ConnectionId,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<StreamRow>, StoreError> {
        Ok(sqlx::query_as!(
            StreamRow,
            "-- list_streams
            SELECT object, watermark, synced_at, health, health_reason FROM streams
            WHERE connection_id = $1 AND object > $2 ORDER BY object LIMIT $3",
            connection.0,
            after.unwrap_or_default(),
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// The open window of an object: the one that an earlier attempt began, else a new one from the watermark less
    /// `overlap`, or what was learnt to be better, until `hi`; none while one is read in bulk. Makes the stream too, when it is new.
    ///
    /// # Errors
    /// [`StoreError`]; `Rejected` when there is no such connection.
    pub async fn open_window(
        &self,
        connection: ConnectionId,
        object: &str,
        hi: DateTime<Utc>,
        overlap: TimeDelta,
    ) -> Result<Option<Window>, StoreError> {
        let mut tx = self.pool.begin().await?;
        make_stream(&mut tx, connection, object).await?;
        sqlx::query!(
            "-- open_window: the window
            INSERT INTO windows (stream_id, lo, hi, opened_at)
            SELECT id, watermark - make_interval(secs => greatest($4::double precision, overlap_secs)), greatest($3, watermark), $5 FROM streams
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
        let window = sqlx::query!(
            "-- open_window
            SELECT windows.id, lo, hi, ids_from, ids_until, rows_expected, rows_seen, pages, next_page, fence
            FROM windows JOIN streams ON streams.id = windows.stream_id
            WHERE streams.connection_id = $1 AND streams.object = $2 AND kind = 'rest'",
            connection.0,
            object,
        )
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(window.map(|row| Window {
            id: row.id,
            lo: row.lo,
            hi: row.hi,
            ids: IdRange { from: row.ids_from, until: row.ids_until },
            rows_expected: row.rows_expected,
            rows_seen: row.rows_seen,
            pages: row.pages,
            next_page: row.next_page,
            fence: row.fence,
        }))
    }

    /// Notes that one page more of `window` is committed, in the transaction that commits it. Stale when the window
    /// has moved on from what the caller knows: then the page is somebody else's already.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mark_page(&self, tx: &mut Tx, window: &Window, mark: &PageMark) -> Result<Outcome, StoreError> {
        let marked = sqlx::query!(
            "-- mark_page
            UPDATE windows SET rows_expected = $3, rows_seen = rows_seen + $4, pages = pages + 1, next_page = $5,
                               oldest_change = least(oldest_change, $7)
            WHERE id = $1 AND pages = $2 AND fence = $6",
            window.id,
            window.pages,
            mark.rows_expected,
            mark.rows,
            mark.next_page,
            window.fence,
            mark.oldest_change,
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok(if marked.rows_affected() == 1 { Outcome::Applied } else { Outcome::Stale })
    }

    /// Moves the watermarks of streams in which nothing happened, in one statement; not of those with an open window.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pass_quiet_streams(
        &self,
        tx: &mut Tx,
        connection: ConnectionId,
        quiet: &[Quiet],
    ) -> Result<(), StoreError> {
        let objects: Vec<&str> = quiet.iter().map(|quiet| quiet.object.as_str()).collect();
        let until: Vec<DateTime<Utc>> = quiet.iter().map(|quiet| quiet.until).collect();
        let overlaps: Vec<i32> =
            quiet.iter().map(|quiet| i32::try_from(quiet.overlap.num_seconds()).unwrap_or(i32::MAX)).collect();
        sqlx::query!(
            "-- pass_quiet_streams
            UPDATE streams SET watermark = t.until, synced_at = $5, overlap_secs = t.overlap_secs
            FROM unnest($2::text[], $3::timestamptz[], $4::integer[]) AS t (object, until, overlap_secs)
            WHERE connection_id = $1 AND streams.object = t.object AND watermark <= t.until
              AND NOT EXISTS (SELECT FROM windows WHERE stream_id = streams.id)",
            connection.0,
            &objects as &[&str],
            &until,
            &overlaps,
            self.clock.now(),
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok(())
    }

    /// Notes up to where deletions of an object are known by the vendor's log of them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_deleted_until(
        &self,
        tx: &mut Tx,
        connection: ConnectionId,
        known: &[(String, DateTime<Utc>)],
    ) -> Result<(), StoreError> {
        let objects: Vec<&str> = known.iter().map(|(object, _)| object.as_str()).collect();
        let until: Vec<DateTime<Utc>> = known.iter().map(|(_, until)| *until).collect();
        sqlx::query!(
            "-- note_deleted_until
            UPDATE streams SET deleted_until = greatest(deleted_until, t.until)
            FROM unnest($2::text[], $3::timestamptz[]) AS t (object, until)
            WHERE connection_id = $1 AND streams.object = t.object",
            connection.0,
            &objects as &[&str],
            &until,
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok(())
    }

    /// Begins a window again from its first page: its cursor is gone, or what came does not add up. The records that
    /// are stored stay; reading them again changes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn restart_window(&self, window: &Window) -> Result<Window, StoreError> {
        let fence = sqlx::query_scalar!(
            "-- restart_window
            UPDATE windows SET rows_expected = NULL, rows_seen = 0, pages = 0, next_page = NULL, fence = fence + 1
            WHERE id = $1 AND fence = $2 RETURNING fence",
            window.id,
            window.fence,
        )
        .fetch_optional(&self.pool)
        .await?;
        // One that is somebody else's stays as it was: its next mark is refused.
        let fence = fence.unwrap_or(window.fence);
        Ok(Window { rows_expected: None, rows_seen: 0, pages: 0, next_page: None, fence, ..window.clone() })
    }

    /// Says that a person should look at a stream. Its window stays as it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn flag_stream(&self, connection: ConnectionId, object: &str, reason: &str) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        self.flag_stream_in(&mut tx, connection, object, reason).await?;
        tx.commit().await
    }

    /// The same as part of a transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn flag_stream_in(
        &self,
        tx: &mut Tx,
        connection: ConnectionId,
        object: &str,
        reason: &str,
    ) -> Result<(), StoreError> {
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
        .execute(&mut *tx.inner)
        .await?;
        Ok(())
    }
}

/// Makes the stream of an object, unless it is there.
pub(crate) async fn make_stream(
    conn: &mut PgConnection,
    connection: ConnectionId,
    object: &str,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- make_stream
        INSERT INTO streams (account_id, connection_id, object) SELECT account_id, id, $2 FROM connections WHERE id = $1
        ON CONFLICT (connection_id, object) DO NOTHING",
        connection.0,
        object,
    )
    .execute(conn)
    .await?;
    Ok(())
}

//! Windows that are read in bulk: the vendor's job, and the window's beginnings, of which only the last may write.
//! Owns when one begins again, and which nobody works on. Does not own its pages (`window_pages`) and parts (`window_parts`),
//! what the vendor is asked (`sync`), nor the jobs that do it (`servants`).

use crate::{IdRange, Inserted, Outcome, Store, StoreError, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{AccountId, ConnectionId, JobId};
use serde_json::Value;
use sqlx::PgConnection;

/// A window that is read in bulk.
#[derive(Debug, Clone, PartialEq)]
pub struct BulkWindow {
    /// Its id.
    pub id: i64,
    /// Whose records.
    pub account: AccountId,
    /// By which connection.
    pub connection: ConnectionId,
    /// Of which object.
    pub object: String,
    /// From this time on; `None`: from the beginning.
    pub lo: Option<DateTime<Utc>>,
    /// Until before this time.
    pub hi: DateTime<Utc>,
    /// Of these ids only, where it is a part of a window.
    pub ids: IdRange,
    /// Its beginning: every later one makes this one's work void.
    pub fence: i32,
    /// The vendor's job, once it is made.
    pub external: Option<ExternalJob>,
    /// What the vendor says it holds, once it knows.
    pub rows_expected: Option<i64>,
    /// Rows of committed pages.
    pub rows_seen: i64,
    /// How many pages there are; `None`: each tells where the next is.
    pub pages_expected: Option<i32>,
    /// Committed pages.
    pub pages: i32,
    /// Beginnings that came to nothing.
    pub failures: i32,
}

/// What the vendor was asked to collect.
#[derive(Debug, Clone, PartialEq)]
pub struct ExternalJob {
    /// Its id at the vendor.
    pub id: String,
    /// The version of the vendor's API that it was made with.
    pub api_version: String,
    /// The fields that were asked for and their types.
    pub fields: Value,
}

/// A window that nobody works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftWindow {
    /// Its id.
    pub id: i64,
    /// Its beginning.
    pub fence: i32,
    /// Its object.
    pub object: String,
    /// What the vendor says it holds, less what is committed; 0 when not known.
    pub rows_left: i64,
}

impl Store {
    /// Opens a window that is to be read in bulk, from the watermark less `overlap`, or what was learnt to be better, until `hi`, unless one is open.
    /// Makes the stream too, when it is new. Answers with its id and beginning; none when a window is open already.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_bulk_window_in(
        &self,
        tx: &mut Tx,
        connection: ConnectionId,
        object: &str,
        hi: DateTime<Utc>,
        overlap: TimeDelta,
    ) -> Result<Option<(i64, i32)>, StoreError> {
        crate::streams::make_stream(&mut tx.inner, connection, object).await?;
        let opened = sqlx::query!(
            "-- open_bulk_window
            INSERT INTO windows (stream_id, lo, hi, opened_at, kind)
            SELECT id, watermark - make_interval(secs => greatest($4::double precision, overlap_secs)), greatest($3, watermark), $5, 'bulk' FROM streams
            WHERE connection_id = $1 AND object = $2
            ON CONFLICT (stream_id) DO NOTHING RETURNING id, fence",
            connection.0,
            object,
            hi,
            overlap.as_seconds_f64(),
            self.clock.now(),
        )
        .fetch_optional(&mut *tx.inner)
        .await?;
        Ok(opened.map(|row| (row.id, row.fence)))
    }

    /// Has an object's open window, of which nothing is committed yet, be read in bulk instead of by REST. Answers with its
    /// id and beginning; none when there is no such window.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read_in_bulk_in(
        &self,
        tx: &mut Tx,
        connection: ConnectionId,
        object: &str,
    ) -> Result<Option<(i64, i32)>, StoreError> {
        let changed = sqlx::query!(
            "-- read_in_bulk
            UPDATE windows SET kind = 'bulk', fence = fence + 1, rows_expected = NULL, next_page = NULL
            FROM streams WHERE streams.id = stream_id AND connection_id = $1 AND object = $2 AND kind = 'rest' AND pages = 0
            RETURNING windows.id, fence",
            connection.0,
            object,
        )
        .fetch_optional(&mut *tx.inner)
        .await?;
        Ok(changed.map(|row| (row.id, row.fence)))
    }

    /// A window that is read in bulk, if it is open and `fence` is its last beginning.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_bulk_window(&self, id: i64, fence: i32) -> Result<Option<BulkWindow>, StoreError> {
        let row = sqlx::query!(
            "-- find_bulk_window
            SELECT windows.id, account_id, connection_id, object, lo, hi, ids_from, ids_until, external_job_id,
                   api_version, fields, rows_expected, rows_seen, pages_expected, pages, failures
            FROM windows JOIN streams ON streams.id = stream_id
            WHERE windows.id = $1 AND fence = $2 AND kind = 'bulk'",
            id,
            fence,
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| BulkWindow {
            id: row.id,
            account: AccountId(row.account_id),
            connection: ConnectionId(row.connection_id),
            object: row.object,
            lo: row.lo,
            hi: row.hi,
            ids: IdRange { from: row.ids_from, until: row.ids_until },
            fence,
            external: row
                .external_job_id
                .zip(row.api_version)
                .zip(row.fields)
                .map(|((id, api_version), fields)| ExternalJob { id, api_version, fields }),
            rows_expected: row.rows_expected,
            rows_seen: row.rows_seen,
            pages_expected: row.pages_expected,
            pages: row.pages,
            failures: row.failures,
        }))
    }

    /// Says which job has the vendor collect a window: while it is unfinished, nobody else needs to.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_collector_in(&self, tx: &mut Tx, window: i64, job: Inserted) -> Result<(), StoreError> {
        let (Inserted::New(JobId(job)) | Inserted::Duplicate(Some(JobId(job)))) = job else { return Ok(()) };
        sqlx::query!("-- note_collector\nUPDATE windows SET job_id = $2 WHERE id = $1", window, job)
            .execute(&mut *tx.inner)
            .await?;
        Ok(())
    }

    /// Notes what the vendor was asked to collect.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_external_in(
        &self,
        tx: &mut Tx,
        window: &BulkWindow,
        external: &ExternalJob,
    ) -> Result<Outcome, StoreError> {
        let noted = sqlx::query!(
            "-- note_external
            UPDATE windows SET external_job_id = $3, api_version = $4, fields = $5
            WHERE id = $1 AND fence = $2 AND external_job_id IS NULL",
            window.id,
            window.fence,
            external.id,
            external.api_version,
            external.fields,
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok(outcome(noted.rows_affected()))
    }

    /// Begins a window again, with another job of the vendor's. The records that are stored stay; reading them again
    /// changes nothing. Once it has failed `failures_max` times it is given up until `retry_at` instead, and answers with
    /// no new beginning. Stale when somebody else has begun it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin_again_in(
        &self,
        tx: &mut Tx,
        window: &BulkWindow,
        failures_max: i32,
        retry_at: DateTime<Utc>,
    ) -> Result<Option<Again>, StoreError> {
        let row = sqlx::query!(
            r#"-- begin_again
            UPDATE windows
            SET fence = fence + 1, external_job_id = NULL, api_version = NULL, fields = NULL, rows_expected = NULL,
                rows_seen = 0, pages = 0, pages_expected = NULL, next_page = NULL,
                failures = CASE WHEN failures + 1 >= $3 THEN 0 ELSE failures + 1 END,
                retry_at = CASE WHEN failures + 1 >= $3 THEN $4::timestamptz END
            WHERE id = $1 AND fence = $2 AND kind = 'bulk'
            RETURNING fence, retry_at IS NOT NULL AS "is_given_up!""#,
            window.id,
            window.fence,
            failures_max,
            retry_at,
        )
        .fetch_optional(&mut *tx.inner)
        .await?;
        let Some(row) = row else { return Ok(None) };
        forget_pages(&mut tx.inner, window.id).await?;
        Ok(Some(if row.is_given_up { Again::GivenUp } else { Again::Begun { fence: row.fence } }))
    }

    /// Has a window be read by REST, and every later one of its object, since the vendor's bulk interface does not have
    /// it. Stale when somebody else has begun it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn read_by_rest_in(&self, tx: &mut Tx, window: &BulkWindow) -> Result<Outcome, StoreError> {
        let changed = sqlx::query!(
            "-- read_by_rest
            WITH changed AS (
                UPDATE windows
                SET kind = 'rest', hi = coalesce(goal, hi), goal = NULL, goal_rows = 0, ids_from = NULL,
                    ids_until = NULL, fence = fence + 1, external_job_id = NULL, api_version = NULL, fields = NULL,
                    rows_expected = NULL, rows_seen = 0, pages = 0, pages_expected = NULL, next_page = NULL
                WHERE id = $1 AND fence = $2 AND kind = 'bulk' RETURNING stream_id
            )
            UPDATE streams SET is_rest_only = true FROM changed WHERE streams.id = changed.stream_id",
            window.id,
            window.fence,
        )
        .execute(&mut *tx.inner)
        .await?;
        if changed.rows_affected() == 1 {
            forget_pages(&mut tx.inner, window.id).await?;
        }
        Ok(outcome(changed.rows_affected()))
    }

    /// The windows of a connection that are read in bulk and that no unfinished job works on; not those that were given up
    /// a short time ago.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn windows_left(&self, connection: ConnectionId) -> Result<Vec<LeftWindow>, StoreError> {
        Ok(sqlx::query_as!(
            LeftWindow,
            r#"-- windows_left
            SELECT windows.id, fence, object, greatest(coalesce(rows_expected, 0) - rows_seen, 0) AS "rows_left!"
            FROM windows JOIN streams ON streams.id = stream_id
            WHERE connection_id = $1 AND kind = 'bulk' AND (retry_at IS NULL OR retry_at <= $2)
              AND NOT EXISTS (SELECT FROM jobs WHERE jobs.id = windows.job_id)
              AND NOT EXISTS (SELECT FROM pages JOIN jobs ON jobs.id = pages.job_id
                              WHERE pages.window_id = windows.id AND pages.state = 'open')
            ORDER BY object"#,
            connection.0,
            self.clock.now(),
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

/// What beginning a window again came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It has begun again.
    Begun {
        /// Its beginning.
        fence: i32,
    },
    /// It has failed too often, and rests.
    GivenUp,
}

pub(crate) const fn outcome(rows: u64) -> Outcome {
    if rows == 1 { Outcome::Applied } else { Outcome::Stale }
}

pub(crate) async fn forget_pages(conn: &mut PgConnection, window: i64) -> Result<(), StoreError> {
    sqlx::query!("-- forget_pages\nDELETE FROM pages WHERE window_id = $1", window).execute(conn).await?;
    Ok(())
}

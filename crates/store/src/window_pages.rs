//! The pages of windows that are read in bulk, as units of work: where each is, whose job takes it, and which is the last.
//! Owns that a page counts once and under the fence of its window's beginning, and that the sum of the pages is known when
//! the last is committed. Does not own what follows from that (`windows`).

use crate::{BulkWindow, Outcome, Store, StoreError, Tx, windows::outcome};
use chrono::{DateTime, Utc};
use domain::JobId;

/// A page of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowPage {
    /// Its place.
    pub seq: i32,
    /// Where it is, as the vendor says.
    pub locator: String,
    /// Its rows are in the records.
    pub is_committed: bool,
}

/// A page that is about to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageDone {
    /// Its place.
    pub seq: i32,
    /// Its rows, those in quarantine included.
    pub rows: i64,
    /// Its bytes, unpacked.
    pub bytes: i64,
    /// The oldest of its records that changed something.
    pub oldest_change: Option<DateTime<Utc>>,
    /// No page comes after it, and that was not known before.
    pub ends_chain: bool,
}

/// Where a window stands with one page more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageOutcome {
    /// The page was committed before, or the window has begun again: nothing may be written.
    Stale,
    /// Others are open.
    More,
    /// It was the last. The window's row is locked, so that nobody else finds the same.
    Last {
        /// What the vendor said the window holds.
        rows_expected: i64,
        /// The sum of its pages.
        rows_seen: i64,
    },
}

impl Store {
    /// Notes the pages of a window and the jobs that take them, from `first` on. `are_all`: no other will come.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_pages_in(
        &self,
        tx: &mut Tx,
        window: &BulkWindow,
        rows_expected: i64,
        pages: &[(i32, String, JobId)],
        are_all: bool,
    ) -> Result<Outcome, StoreError> {
        let pages_expected = i32::try_from(pages.len()).ok().filter(|_| are_all);
        let noted = sqlx::query!(
            "-- add_pages: the window
            UPDATE windows SET rows_expected = $3, pages_expected = coalesce($4, pages_expected)
            WHERE id = $1 AND fence = $2",
            window.id,
            window.fence,
            rows_expected,
            pages_expected,
        )
        .execute(&mut *tx.inner)
        .await?;
        let seqs: Vec<i32> = pages.iter().map(|(seq, ..)| *seq).collect();
        let locators: Vec<&str> = pages.iter().map(|(_, locator, _)| locator.as_str()).collect();
        let jobs: Vec<i64> = pages.iter().map(|(.., job)| job.0).collect();
        sqlx::query!(
            "-- add_pages
            INSERT INTO pages (window_id, seq, locator, job_id)
            SELECT $1, seq, locator, job_id FROM unnest($2::integer[], $3::text[], $4::bigint[]) AS t (seq, locator, job_id)",
            window.id,
            &seqs,
            &locators as &[&str],
            &jobs,
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok(outcome(noted.rows_affected()))
    }

    /// One page of a window.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_page(&self, window: &BulkWindow, seq: i32) -> Result<Option<WindowPage>, StoreError> {
        Ok(sqlx::query_as!(
            WindowPage,
            r#"-- find_page
            SELECT seq, locator, state = 'committed' AS "is_committed!" FROM pages WHERE window_id = $1 AND seq = $2"#,
            window.id,
            seq,
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// The pages of a window that are open and whose job has ended or is gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pages_left(&self, window: &BulkWindow) -> Result<Vec<i32>, StoreError> {
        Ok(sqlx::query_scalar!(
            "-- pages_left
            SELECT seq FROM pages
            WHERE window_id = $1 AND state = 'open' AND NOT EXISTS (SELECT FROM jobs WHERE jobs.id = pages.job_id)
            ORDER BY seq",
            window.id,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Says which jobs take pages from now on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn give_pages_in(
        &self,
        tx: &mut Tx,
        window: &BulkWindow,
        pages: &[(i32, JobId)],
    ) -> Result<(), StoreError> {
        let seqs: Vec<i32> = pages.iter().map(|(seq, _)| *seq).collect();
        let jobs: Vec<i64> = pages.iter().map(|(_, job)| job.0).collect();
        sqlx::query!(
            "-- give_pages
            UPDATE pages SET job_id = t.job_id FROM unnest($2::integer[], $3::bigint[]) AS t (seq, job_id)
            WHERE window_id = $1 AND pages.seq = t.seq AND state = 'open'",
            window.id,
            &seqs,
            &jobs,
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok(())
    }

    /// Notes, in the transaction of its rows, that a page is committed. The window's row is locked by it, briefly: commit
    /// soon.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn commit_page_in(
        &self,
        tx: &mut Tx,
        window: &BulkWindow,
        page: &PageDone,
    ) -> Result<PageOutcome, StoreError> {
        let row = sqlx::query!(
            "-- commit_page
            WITH marked AS (
                UPDATE pages SET state = 'committed', rows = $4, bytes = $5, committed_at = $6
                WHERE window_id = $1 AND seq = $3 AND state = 'open' RETURNING window_id
            )
            UPDATE windows SET pages = pages + 1, rows_seen = rows_seen + $4, oldest_change = least(oldest_change, $8),
                               pages_expected = CASE WHEN $7 THEN pages + 1 ELSE pages_expected END
            FROM marked WHERE windows.id = marked.window_id AND windows.fence = $2
            RETURNING pages, pages_expected, rows_seen, rows_expected",
            window.id,
            window.fence,
            page.seq,
            page.rows,
            page.bytes,
            self.clock.now(),
            page.ends_chain,
            page.oldest_change,
        )
        .fetch_optional(&mut *tx.inner)
        .await?;
        Ok(match row {
            None => PageOutcome::Stale,
            Some(row) if row.pages_expected.is_some_and(|expected| row.pages >= expected) => {
                PageOutcome::Last { rows_expected: row.rows_expected.unwrap_or(0), rows_seen: row.rows_seen }
            }
            Some(_) => PageOutcome::More,
        })
    }
}

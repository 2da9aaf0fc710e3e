//! Windows that the vendor cannot answer for in time, and that are therefore read in parts: first by time, and where all
//! stamps are one, by the records' ids. Owns where a part ends and how the next one is opened. Does not own where it is
//! best divided (`sync`), nor that the watermark moves with the last part (`window_end`).

use crate::{Store, StoreError, Tx, windows::forget_pages};
use chrono::{DateTime, Utc};

/// Which ids of an object belong to a part; in their order, which is that of their bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdRange {
    /// From this one on; `None`: from the first.
    pub from: Option<String>,
    /// Until before this one; `None`: to the last.
    pub until: Option<String>,
}

/// Where the part ends that is read first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartEnd {
    /// Before this stamp.
    Stamp(DateTime<Utc>),
    /// Before this id.
    Id(String),
}

/// What the part after one that is over consists of.
pub(crate) struct NextPart<'a> {
    pub(crate) stream: i64,
    pub(crate) kind: &'a str,
    pub(crate) lo: Option<DateTime<Utc>>,
    pub(crate) hi: DateTime<Utc>,
    pub(crate) goal: DateTime<Utc>,
    pub(crate) ids_from: Option<&'a str>,
}

impl Store {
    /// Has a window be read in parts: it ends at `end` instead, and begins again; where it ended, the last part will, in
    /// which `rows_after` records are believed to be. Answers with the new beginning; none when somebody else has begun
    /// it, or `end` is not within it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn narrow_window_in(
        &self,
        tx: &mut Tx,
        (window, fence): (i64, i32),
        end: &PartEnd,
        rows_after: i64,
    ) -> Result<Option<i32>, StoreError> {
        let (hi, ids_until) = match end {
            PartEnd::Stamp(hi) => (Some(*hi), None),
            PartEnd::Id(id) => (None, Some(id.as_str())),
        };
        let fence = sqlx::query_scalar!(
            "-- narrow_window
            UPDATE windows
            SET hi = coalesce($3, hi), ids_until = coalesce($5, ids_until), goal = coalesce(goal, hi),
                goal_rows = goal_rows + $4, fence = fence + 1, external_job_id = NULL, api_version = NULL, fields = NULL,
                rows_expected = NULL, rows_seen = 0, pages = 0, pages_expected = NULL, next_page = NULL
            WHERE id = $1 AND fence = $2 AND ($3::timestamptz IS NULL OR ($3 < hi AND ids_until IS NULL))
                AND ($5::text IS NULL OR ($5 < coalesce(ids_until, '~') AND $5 > coalesce(ids_from, '')))
            RETURNING fence",
            window,
            fence,
            hi,
            rows_after,
            ids_until,
        )
        .fetch_optional(&mut *tx.inner)
        .await?;
        if fence.is_some() {
            forget_pages(&mut tx.inner, window).await?;
        }
        Ok(fence)
    }

    /// All that is left of a window, so far.
    pub(crate) async fn open_next_part(&self, tx: &mut Tx, part: &NextPart<'_>) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar!(
            "-- open_next_part
            INSERT INTO windows (stream_id, kind, lo, hi, goal, ids_from, opened_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
            RETURNING id",
            part.stream,
            part.kind,
            part.lo,
            part.hi,
            part.goal,
            part.ids_from,
            self.clock.now(),
        )
        .fetch_one(&mut *tx.inner)
        .await?)
    }
}

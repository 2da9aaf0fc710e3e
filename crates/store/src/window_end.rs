//! The end of a window: its row goes, and its stream moves on, or the next part of it is opened.
//! Owns what is learnt of lateness then. Does not own windows before that (`streams`, `windows`), nor how they are divided
//! (`window_parts`).

use crate::{LeftWindow, Store, StoreError, Tx, window_parts::NextPart};
use chrono::TimeDelta;
use domain::ReachBack;

/// What a window's end says of its stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowClosed {
    /// The object.
    pub object: String,
    /// How late the latest change was, if any was late.
    pub lateness: Option<TimeDelta>,
    /// How far the window reached back; none for the first of a stream.
    pub reached_back: Option<TimeDelta>,
    /// How far the next window reaches back.
    pub overlap: TimeDelta,
    /// It was one of several parts: of lateness it says nothing.
    pub is_part: bool,
    /// The part that is to be read next. The watermark moves with the last.
    pub rest: Option<LeftWindow>,
}

impl Store {
    /// Ends a window: its stream's watermark moves to the window's end, and what was late in it says how far the next one
    /// reaches back, `base` at least. Without `base` that does not get less. None when the window has begun again, or is
    /// over.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn close_window(
        &self,
        tx: &mut Tx,
        window: i64,
        fence: i32,
        base: Option<TimeDelta>,
    ) -> Result<Option<WindowClosed>, StoreError> {
        let closed = sqlx::query!(
            r#"-- close_window: the window
            WITH closed AS (
                DELETE FROM windows WHERE id = $1 AND fence = $2
                RETURNING stream_id, kind, lo, hi, oldest_change, goal, goal_rows, ids_until
            )
            SELECT streams.id, object, kind, lo, hi, oldest_change, goal, goal_rows, ids_until, watermark
            FROM closed JOIN streams ON streams.id = closed.stream_id FOR UPDATE OF streams"#,
            window,
            fence,
        )
        .fetch_optional(&mut *tx.inner)
        .await?;
        let Some(closed) = closed else { return Ok(None) };
        let is_part = closed.goal.is_some();
        if let Some(goal) = closed.goal.filter(|goal| *goal > closed.hi || closed.ids_until.is_some()) {
            // The other ids of the same time come first, then what is left of the time.
            let (lo, hi) = if closed.ids_until.is_some() { (closed.lo, closed.hi) } else { (Some(closed.hi), goal) };
            let ids_from = closed.ids_until.as_deref();
            let part = NextPart { stream: closed.id, kind: &closed.kind, lo, hi, goal, ids_from };
            let rest = self.open_next_part(tx, &part).await?;
            let rest = LeftWindow { id: rest, fence: 0, object: closed.object.clone(), rows_left: closed.goal_rows };
            let (lateness, reached_back, overlap) = (None, None, TimeDelta::zero());
            let object = closed.object;
            return Ok(Some(WindowClosed { object, lateness, reached_back, overlap, is_part, rest: Some(rest) }));
        }
        let current = closed.watermark.zip(closed.lo).map(|(watermark, lo)| watermark - lo).filter(|_| !is_part);
        let lateness = closed.watermark.zip(closed.oldest_change).map(|(watermark, oldest)| watermark - oldest);
        let lateness = lateness.filter(|lateness| *lateness > TimeDelta::zero() && !is_part);
        // Nothing is late in the first window of all, and nothing was learnt from it.
        let overlap = current.map(|current| ReachBack { current, base: base.unwrap_or(current) }.after(lateness));
        sqlx::query!(
            "-- close_window
            UPDATE streams SET watermark = $2, synced_at = $3, health = 'ok', health_reason = NULL,
                               overlap_secs = coalesce($4, overlap_secs), lateness_secs = coalesce($5, lateness_secs),
                               deleted_until = coalesce(deleted_until, $2)
            WHERE id = $1",
            closed.id,
            closed.hi,
            self.clock.now(),
            overlap.and_then(|overlap| i32::try_from(overlap.num_seconds()).ok()),
            lateness.and_then(|lateness| i32::try_from(lateness.num_seconds()).ok()),
        )
        .execute(&mut *tx.inner)
        .await?;
        let overlap = overlap.or(base).unwrap_or_default();
        let object = closed.object;
        Ok(Some(WindowClosed { object, lateness, reached_back: current, overlap, is_part, rest: None }))
    }
}

//! The older jobs that a fire ends, where its schedule's overlap policy is to cancel them: at once where nobody holds their
//! rows, else a little later, by the leader that made the fire. What becomes of a cancelled job, `jobs` says.

use crate::{Leadership, Store, StoreError, jobs::cancel, partitions::leads};
use domain::JobId;
use sqlx::PgConnection;

/// Longest wait for the rows of jobs that are to be told to stop, while their servants hold them.
const LOCK_WAIT: &str = "SET LOCAL lock_timeout = '1s'";

impl Store {
    /// [`JobEvent::Cancel`](domain::JobEvent::Cancel) by fires whose older jobs were held by somebody: those that wait end,
    /// those that run are asked to stop. False when they are still held after a second; then nothing was done.
    ///
    /// # Errors
    /// [`StoreError::NotLeading`] when another leads by now: its next fire of the schedule cancels them.
    pub async fn cancel_older(&self, leadership: &Leadership, jobs: &[JobId]) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(LOCK_WAIT).execute(&mut *tx).await?;
        match cancel(&mut tx, jobs, self.clock.now()).await {
            Ok(_) => {}
            Err(StoreError::Conflict(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
        // Last: the lead cannot be renewed while it is looked at, and these rows may take their time.
        if !leads(&mut tx, leadership).await? {
            return Err(StoreError::NotLeading);
        }
        tx.commit().await?;
        Ok(true)
    }
}

/// The unfinished jobs that fires of these schedules cancel, and whether each one's row could be locked at once: the
/// lead is locked meanwhile, so nobody is waited for here.
pub(crate) async fn lock_older(conn: &mut PgConnection, schedules: &[i64]) -> Result<Vec<(JobId, bool)>, StoreError> {
    let older = sqlx::query!(
        r#"-- lock_older
        WITH older AS (
            SELECT j.id FROM schedules s JOIN jobs j ON j.schedule_id = s.id
            WHERE s.id = ANY($1) AND s.overlap = 'cancel_older' AND NOT j.cancel_requested
              AND (j.unique_key IS NULL OR j.unique_key NOT LIKE 'backfill:%')
        ), free AS (
            SELECT id FROM jobs WHERE id IN (SELECT id FROM older) ORDER BY id FOR UPDATE SKIP LOCKED
        )
        SELECT older.id AS "id!", free.id IS NOT NULL AS "free!" FROM older LEFT JOIN free ON free.id = older.id"#,
        schedules,
    )
    .fetch_all(conn)
    .await?;
    Ok(older.into_iter().map(|row| (JobId(row.id), row.free)).collect())
}

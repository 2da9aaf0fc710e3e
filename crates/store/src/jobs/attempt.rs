//! What a running attempt writes besides its end: lease renewals, progress and checkpoints, all fenced by its token.
//! Changes no job's state.

use super::claimed::{AttemptKey, Outcome};
use crate::{Store, StoreError, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{GroupId, JobId, LeaseId, PermitId, ServantId};
use sqlx::PgConnection;
use uuid::Uuid;

/// How long ago an attempt may have ended whose log comes, in seconds: earlier ones of the same number are others, which
/// were given back.
const ENDED_SECS_MAX: i64 = 60;

/// An attempt that is still its servant's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The job.
    pub id: JobId,
    /// Whether an operator wants it to stop.
    pub cancel_requested: bool,
}

impl Store {
    /// Renews, in one statement, the leases under which a servant process holds `attempts`, and says which attempts
    /// are still its own. Those that are not in the answer are lost: another servant may run them already.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing is known, and the leases may run out.
    pub async fn renew_leases(
        &self,
        servant: ServantId,
        attempts: &[AttemptKey],
        until: DateTime<Utc>,
    ) -> Result<Vec<Held>, StoreError> {
        let ids: Vec<i64> = attempts.iter().map(|a| a.id.0).collect();
        let tokens: Vec<Uuid> = attempts.iter().map(|a| a.token.0).collect();
        let rows = sqlx::query!(
            r#"-- renew_leases
            WITH held AS (
                SELECT jobs.id, jobs.lease_id, jobs.cancel_requested
                FROM unnest($2::bigint[], $3::uuid[]) AS t (id, token)
                JOIN jobs ON jobs.id = t.id AND jobs.attempt_token = t.token AND jobs.state = 3
            ), renewed AS (
                UPDATE leases SET until = $4
                WHERE id IN (SELECT lease_id FROM held) AND servant_id = $1
                RETURNING id
            )
            SELECT held.id AS "id!", held.cancel_requested AS "cancel_requested!"
            FROM held JOIN renewed ON renewed.id = held.lease_id"#,
            servant.0,
            &ids,
            &tokens,
            until,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|r| Held { id: JobId(r.id), cancel_requested: r.cancel_requested }).collect())
    }

    /// Drops leases and permits of a servant of which no job is running any more, which the caller has seen to.
    ///
    /// # Errors
    /// [`StoreError`]; then the leases run out, and the permits are found to be over where jobs in flight are counted.
    pub async fn drop_claims(
        &self,
        servant: ServantId,
        leases: &[LeaseId],
        permits: &[PermitId],
    ) -> Result<(), StoreError> {
        let leases: Vec<i64> = leases.iter().map(|lease| lease.0).collect();
        let permits: Vec<i64> = permits.iter().map(|permit| permit.0).collect();
        sqlx::query!(
            "-- drop_claims
            WITH permitted AS (DELETE FROM permits WHERE id = ANY($3))
            DELETE FROM leases WHERE id = ANY($1) AND servant_id = $2",
            &leases,
            servant.0,
            &permits,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Makes a running job, which is nobody's member, a member of a group that the same transaction makes. Stale when
    /// the attempt is no longer its servant's, or the job a member already.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn join_group_in(&self, tx: &mut Tx, attempt: AttemptKey, group: GroupId) -> Result<Outcome, StoreError> {
        let joined = sqlx::query_scalar!(
            r#"-- join_group
            WITH joined AS (
                UPDATE jobs SET group_id = $3::bigint
                WHERE id = $1 AND attempt_token = $2 AND state = 3 AND group_id IS NULL RETURNING kind
            ), counted AS (
                INSERT INTO job_count_deltas (kind, state, delta, group_id)
                SELECT kind, 3, -1, NULL::bigint FROM joined UNION ALL SELECT kind, 3, 1, $3::bigint FROM joined
            )
            SELECT count(*) AS "joined!" FROM joined"#,
            attempt.id.0,
            attempt.token.0,
            group.0,
        )
        .fetch_one(&mut *tx.inner)
        .await?;
        Ok(if joined == 1 { Outcome::Applied } else { Outcome::Stale })
    }

    /// Stores what attempts logged that have just ended without success, by their jobs and numbers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_logs(&self, logs: &[(JobId, u16, &str)]) -> Result<(), StoreError> {
        let ids: Vec<i64> = logs.iter().map(|(id, ..)| id.0).collect();
        let numbers: Vec<i16> = logs.iter().map(|(_, number, _)| i16::try_from(*number).unwrap_or(i16::MAX)).collect();
        let texts: Vec<&str> = logs.iter().map(|(.., text)| *text).collect();
        sqlx::query!(
            "-- keep_logs
            UPDATE attempts SET log = t.log FROM unnest($1::bigint[], $2::smallint[], $3::text[]) AS t (id, attempt, log)
            WHERE attempts.job_id = t.id AND attempts.attempt = t.attempt AND attempts.log IS NULL
                AND attempts.ended_at >= $4",
            &ids,
            &numbers,
            &texts as &[&str],
            self.clock.now() - TimeDelta::seconds(ENDED_SECS_MAX),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Stores the progress of attempts, in one statement.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_progress(&self, progress: &[(AttemptKey, serde_json::Value)]) -> Result<(), StoreError> {
        let mut conn = self.pool.acquire().await?;
        save_progress(&mut conn, progress).await
    }

    /// Stores an attempt's last progress in the transaction of its completion.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_progress_in(
        &self,
        tx: &mut Tx,
        attempt: AttemptKey,
        progress: &serde_json::Value,
    ) -> Result<(), StoreError> {
        save_progress(&mut tx.inner, &[(attempt, progress.clone())]).await
    }

    /// Stores what the next attempt is to start from.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_checkpoint(
        &self,
        attempt: AttemptKey,
        checkpoint: &serde_json::Value,
    ) -> Result<Outcome, StoreError> {
        let mut conn = self.pool.acquire().await?;
        save_checkpoint(&mut conn, attempt, checkpoint).await
    }

    /// Stores it in the transaction of the effects that it speaks of. It locks the job's row, so no rescue can come
    /// between this and the commit.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn save_checkpoint_in(
        &self,
        tx: &mut Tx,
        attempt: AttemptKey,
        checkpoint: &serde_json::Value,
    ) -> Result<Outcome, StoreError> {
        save_checkpoint(&mut tx.inner, attempt, checkpoint).await
    }
}

async fn save_progress(
    conn: &mut PgConnection,
    progress: &[(AttemptKey, serde_json::Value)],
) -> Result<(), StoreError> {
    let ids: Vec<i64> = progress.iter().map(|(key, _)| key.id.0).collect();
    let tokens: Vec<Uuid> = progress.iter().map(|(key, _)| key.token.0).collect();
    let values: Vec<&serde_json::Value> = progress.iter().map(|(_, value)| value).collect();
    sqlx::query!(
        "-- save_progress
        UPDATE jobs SET progress = t.progress
        FROM unnest($1::bigint[], $2::uuid[], $3::jsonb[]) AS t (id, token, progress)
        WHERE jobs.id = t.id AND jobs.attempt_token = t.token AND jobs.state = 3",
        &ids,
        &tokens,
        &values as &[&serde_json::Value],
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn save_checkpoint(
    conn: &mut PgConnection,
    attempt: AttemptKey,
    checkpoint: &serde_json::Value,
) -> Result<Outcome, StoreError> {
    let saved = sqlx::query!(
        "-- save_checkpoint
        UPDATE jobs SET checkpoint = $3 WHERE id = $1 AND attempt_token = $2 AND state = 3",
        attempt.id.0,
        attempt.token.0,
        checkpoint,
    )
    .execute(conn)
    .await?;
    Ok(if saved.rows_affected() == 1 { Outcome::Applied } else { Outcome::Stale })
}

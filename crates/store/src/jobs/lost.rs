//! Finds what a rescue is about: leases that ran out and the jobs they still hold. Changes no job's state;
//! `transition` does, with what this finds.

use super::{
    claimed::{AttemptKey, attempt_number},
    fate::{FailedAttempt, Fate, Rescued},
};
use crate::{Leadership, Store, StoreError};
use chrono::{DateTime, Utc};
use domain::{AccountId, AttemptToken, ErrorClass, Failure, JobId, LeaseId, RetryPolicy, Verdict};

/// Leases that ran out, locked; empty when another scheduler leads.
pub(super) async fn expired_leases(
    conn: &mut sqlx::PgConnection,
    leadership: &Leadership,
    now: DateTime<Utc>,
    leases_max: i64,
) -> Result<Vec<i64>, StoreError> {
    Ok(sqlx::query_scalar!(
        "-- expired_leases
        WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE)
        SELECT id FROM leases WHERE until < $3 AND EXISTS (SELECT FROM led)
        ORDER BY until LIMIT $4 FOR UPDATE SKIP LOCKED",
        leadership.term.0,
        leadership.holder,
        now,
        leases_max,
    )
    .fetch_all(conn)
    .await?)
}

/// The running jobs of leases, locked, each with what becomes of it by `retry` of its kind.
pub(super) async fn lock_jobs_of(
    conn: &mut sqlx::PgConnection,
    leases: &[i64],
    retry: impl Fn(&str) -> RetryPolicy,
) -> Result<Vec<(FailedAttempt, Rescued)>, StoreError> {
    let rows = sqlx::query!(
        r#"-- lock_jobs_of
        SELECT jobs.id, jobs.attempt_token AS "attempt_token!", jobs.attempt, jobs.attempts_max, jobs.servant_id,
               jobs.account_id, jobs.request_id, jobs.kind
        FROM leases CROSS JOIN LATERAL unnest(leases.job_ids) AS member (id)
        JOIN jobs ON jobs.id = member.id AND jobs.lease_id = leases.id AND jobs.state = 3
        WHERE leases.id = ANY($1)
        FOR UPDATE OF jobs SKIP LOCKED"#,
        leases,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let key = AttemptKey { id: JobId(row.id), token: AttemptToken(row.attempt_token) };
            let servant = row.servant_id.unwrap_or(0);
            let failure = Failure {
                class: ErrorClass::LeaseLost,
                chain: format!("servant {servant} did not renew its lease: it died, stalled or lost the database"),
                until: None,
            };
            let verdict = retry(&row.kind).verdict(
                &failure,
                attempt_number(row.attempt),
                attempt_number(row.attempts_max),
                false,
                DateTime::UNIX_EPOCH,
                0.0,
            );
            let failed = verdict == Verdict::Fail;
            let fate = if failed { Fate::Fail(failure) } else { Fate::Rescue(failure) };
            (
                FailedAttempt { key, fate },
                Rescued { id: key.id, account: AccountId(row.account_id), request_id: row.request_id, failed },
            )
        })
        .collect())
}

/// Deletes the leases of which no job is running any more, and says how many those were.
pub(super) async fn drop_empty_leases(conn: &mut sqlx::PgConnection, leases: &[i64]) -> Result<u64, StoreError> {
    let dropped = sqlx::query!(
        "-- drop_empty_leases
        DELETE FROM leases
        WHERE id = ANY($1) AND NOT EXISTS (
            SELECT FROM unnest(leases.job_ids) AS member (id)
            JOIN jobs ON jobs.id = member.id AND jobs.lease_id = leases.id AND jobs.state = 3
        )",
        leases,
    )
    .execute(conn)
    .await?;
    Ok(dropped.rows_affected())
}

impl Store {
    /// When the first lease runs out, unless it is renewed; none: nothing runs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next_lease_end(&self) -> Result<Option<DateTime<Utc>>, StoreError> {
        Ok(sqlx::query_scalar!("-- next_lease_end\nSELECT min(until) FROM leases").fetch_one(&self.pool).await?)
    }

    /// The lease that a job runs under; for tests and for screens.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lease_of(&self, job: JobId) -> Result<Option<LeaseId>, StoreError> {
        let lease = sqlx::query_scalar!("-- lease_of\nSELECT lease_id FROM jobs WHERE id = $1", job.0)
            .fetch_optional(&self.pool)
            .await?;
        Ok(lease.flatten().map(LeaseId))
    }
}

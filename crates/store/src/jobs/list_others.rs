//! Lists of jobs that are found by something else than the words of the search: by a servant's leases, by their schedule, by
//! their unique key.

use super::{
    list::{Bounds, PAGE_ROWS_MAX},
    read::{JobRow, RawJob, finished_jobs, live_jobs},
};
use crate::{Store, StoreError};
use domain::{JobState, ScheduleId, ServantId};

impl Store {
    /// Jobs in a servant's hands, newest first.
    pub(super) async fn running_on(&self, servant: ServantId, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        if !bounds.states.contains(&JobState::Running) {
            return Ok(Vec::new());
        }
        Ok(live_jobs!(
            "running_on",
            "(SELECT member.id AS member_id, leases.id AS held_under
                FROM leases CROSS JOIN LATERAL unnest(leases.job_ids) AS member (id)
                WHERE leases.servant_id = $1 AND member.id < $4 AND member.id >= $7 ORDER BY member.id DESC) AS held
            CROSS JOIN LATERAL (
                SELECT * FROM jobs WHERE jobs.id = held.member_id AND jobs.lease_id = held.held_under
                    AND jobs.state = 3 AND (kind = ANY($6) OR $6 = '{}') AND created_at <= $2 AND created_at >= $3
                    OFFSET 0) AS jobs
            ORDER BY held.member_id DESC LIMIT $5",
            servant.0,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
            &bounds.kinds,
            bounds.from_id,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Jobs with that unique key, newest first: of those that are unfinished one of each of these kinds at the most, of the
    /// others the latest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn jobs_of_key(&self, kinds: &[String], key: &str, limit: i64) -> Result<Vec<JobRow>, StoreError> {
        let limit = limit.clamp(1, PAGE_ROWS_MAX);
        let mut rows = live_jobs!(
            "live_of_key",
            "jobs WHERE kind = ANY($1) AND unique_key = $2 AND unique_key IS NOT NULL ORDER BY id DESC LIMIT $3",
            kinds,
            key,
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        rows.extend(
            finished_jobs!(
                "finished_of_key",
                "finished_jobs WHERE unique_key = $1 ORDER BY unique_key DESC, id DESC LIMIT $2",
                key,
                limit,
            )
            .fetch_all(&self.pool)
            .await?,
        );
        super::list::page_of(rows, limit)
    }

    /// The latest jobs of a schedule, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn jobs_of_schedule(&self, schedule: ScheduleId, limit: i64) -> Result<Vec<JobRow>, StoreError> {
        let limit = limit.clamp(1, PAGE_ROWS_MAX);
        let mut rows = live_jobs!(
            "live_of_schedule",
            "jobs WHERE schedule_id = $1 ORDER BY schedule_id DESC, id DESC LIMIT $2",
            schedule.0,
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        rows.extend(
            finished_jobs!(
                "finished_of_schedule",
                "finished_jobs WHERE schedule_id = $1 ORDER BY schedule_id DESC, id DESC LIMIT $2",
                schedule.0,
                limit,
            )
            .fetch_all(&self.pool)
            .await?,
        );
        super::list::page_of(rows, limit)
    }
}

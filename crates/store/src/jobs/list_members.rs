//! Lists of a group's members, newest first.

use super::{
    list::Bounds,
    read::{RawJob, finished_jobs, live_jobs},
};
use crate::{Store, StoreError};
use domain::{GroupId, JobState};

impl Store {
    /// Of the unfinished ones all or none: less than that is looked for.
    pub(super) async fn members(&self, group: GroupId, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        let mut rows = Vec::new();
        if bounds.wants(JobState::Ready) {
            rows.extend(self.unfinished_members(group, bounds).await?);
        }
        for state in bounds.states.iter().filter(|state| state.is_finished()) {
            rows.extend(self.finished_members(group, *state, bounds).await?);
        }
        Ok(rows)
    }

    async fn unfinished_members(&self, group: GroupId, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        Ok(live_jobs!(
            "unfinished_members",
            "jobs WHERE (group_id, id) < ($1, $5) AND (group_id, id) >= ($1, $7) AND group_id IS NOT NULL
                AND state = ANY($2) AND created_at <= $3 AND created_at >= $4
            ORDER BY group_id DESC, id DESC LIMIT $6",
            group.0,
            &bounds.codes(),
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
            bounds.from_id,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    async fn finished_members(
        &self,
        group: GroupId,
        state: JobState,
        bounds: &Bounds,
    ) -> Result<Vec<RawJob>, StoreError> {
        Ok(finished_jobs!(
            "finished_members",
            "finished_jobs
            WHERE group_id = ANY(ARRAY[$1::bigint]) AND (state, id) < ($6, $4) AND (state, id) >= ($6, $7)
                AND group_id IS NOT NULL AND created_at <= $2 AND created_at >= $3
                AND finished_at >= $3 - interval '1 hour'
            ORDER BY group_id DESC, state DESC, id DESC LIMIT $5",
            group.0,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
            state.code(),
            bounds.from_id,
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

//! Lists of a group's members, newest first. Of the unfinished ones, those that are queued or running are few among the
//! many that wait: when only they are wanted, they are found by the dispatches and leases that name them. Those two look
//! up each of these (`OFFSET 0`) by its id alone (`IS NOT DISTINCT FROM`, which no index answers): else the planner reads
//! the whole group.

use super::{
    list::Bounds,
    read::{RawJob, finished_jobs, live_jobs},
};
use crate::{Store, StoreError};
use domain::{AccountId, GroupId, JobState};

impl Store {
    pub(super) async fn members(
        &self,
        group: GroupId,
        account: Option<AccountId>,
        bounds: &Bounds,
    ) -> Result<Vec<RawJob>, StoreError> {
        let account = account.map(|account| account.0);
        let wants = |state| bounds.states.contains(&state);
        let mut rows = Vec::new();
        if wants(JobState::Scheduled) || wants(JobState::Ready) {
            rows.extend(self.unfinished_members(group, account, bounds).await?);
        } else {
            if wants(JobState::Queued) {
                rows.extend(self.queued_members(group, account, bounds).await?);
            }
            if wants(JobState::Running) {
                rows.extend(self.running_members(group, account, bounds).await?);
            }
        }
        for state in bounds.states.iter().filter(|state| state.is_finished()) {
            rows.extend(self.finished_members(group, account, *state, bounds).await?);
        }
        Ok(rows)
    }

    async fn unfinished_members(
        &self,
        group: GroupId,
        account: Option<i64>,
        bounds: &Bounds,
    ) -> Result<Vec<RawJob>, StoreError> {
        Ok(live_jobs!(
            "unfinished_members",
            "jobs WHERE (group_id, id) < ($1, $6) AND (group_id, id) >= ($1, $9) AND group_id IS NOT NULL
                AND state = ANY($2) AND (kind = ANY($3) OR $3 = '{}') AND created_at <= $4 AND created_at >= $5
                AND (account_id = $8 OR $8 IS NULL)
            ORDER BY group_id DESC, id DESC LIMIT $7",
            group.0,
            &bounds.codes(),
            &bounds.kinds,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
            account,
            bounds.from_id,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    async fn queued_members(
        &self,
        group: GroupId,
        account: Option<i64>,
        bounds: &Bounds,
    ) -> Result<Vec<RawJob>, StoreError> {
        Ok(live_jobs!(
            "queued_members",
            "(SELECT member.id AS member_id, dispatches.queued_at AS sent_with
                FROM dispatches CROSS JOIN LATERAL unnest(dispatches.job_ids) AS member (id)
                WHERE member.id < $4 AND member.id >= $8 ORDER BY member.id DESC) AS sent
            CROSS JOIN LATERAL (
                SELECT * FROM jobs WHERE jobs.id = sent.member_id AND jobs.queued_at = sent.sent_with
                    AND jobs.state = 2 AND jobs.group_id IS NOT DISTINCT FROM $1 AND (kind = ANY($6) OR $6 = '{}')
                    AND created_at <= $2 AND created_at >= $3 AND (account_id = $7 OR $7 IS NULL) OFFSET 0) AS jobs
            ORDER BY sent.member_id DESC LIMIT $5",
            group.0,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
            &bounds.kinds,
            account,
            bounds.from_id,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    async fn running_members(
        &self,
        group: GroupId,
        account: Option<i64>,
        bounds: &Bounds,
    ) -> Result<Vec<RawJob>, StoreError> {
        Ok(live_jobs!(
            "running_members",
            "(SELECT member.id AS member_id, leases.id AS held_under
                FROM leases CROSS JOIN LATERAL unnest(leases.job_ids) AS member (id)
                WHERE member.id < $4 AND member.id >= $8 ORDER BY member.id DESC) AS held
            CROSS JOIN LATERAL (
                SELECT * FROM jobs WHERE jobs.id = held.member_id AND jobs.lease_id = held.held_under
                    AND jobs.state = 3 AND jobs.group_id IS NOT DISTINCT FROM $1 AND (kind = ANY($6) OR $6 = '{}')
                    AND created_at <= $2 AND created_at >= $3 AND (account_id = $7 OR $7 IS NULL) OFFSET 0) AS jobs
            ORDER BY held.member_id DESC LIMIT $5",
            group.0,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
            &bounds.kinds,
            account,
            bounds.from_id,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    async fn finished_members(
        &self,
        group: GroupId,
        account: Option<i64>,
        state: JobState,
        bounds: &Bounds,
    ) -> Result<Vec<RawJob>, StoreError> {
        Ok(finished_jobs!(
            "finished_members",
            "finished_jobs
            WHERE group_id = ANY(ARRAY[$1::bigint]) AND (state, id) < ($7, $5) AND (state, id) >= ($7, $9)
                AND group_id IS NOT NULL AND (kind = ANY($2) OR $2 = '{}') AND created_at <= $3 AND created_at >= $4
                AND finished_at >= $4 - interval '1 hour'
                AND (account_id = $8 OR $8 IS NULL)
            ORDER BY group_id DESC, state DESC, id DESC LIMIT $6",
            group.0,
            &bounds.kinds,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
            state.code(),
            account,
            bounds.from_id,
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

//! Reading groups: one, lists, how far one is. Counts are the counters', never a count over jobs; progress reads a bounded
//! number of members. Owns no change of anything.

use crate::{PAGE_ROWS_MAX, Store, StoreError};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{AccountId, Finishing, GroupCounts, GroupId, GroupState, JobId, Kind, ProgressPace, time_left};
use sqlx::PgConnection;
use std::collections::BTreeMap;

/// Unfinished members whose progress is read at the most.
const MEMBERS_READ_MAX: i64 = 800;

/// By so many of the last members to succeed it is told how fast a group goes.
const PACE_MEMBERS: i64 = 16;

/// A group as the ledger has it.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupRow {
    /// Its id.
    pub id: GroupId,
    /// What people call it.
    pub name: String,
    /// Whose it is.
    pub account: AccountId,
    /// Where it stands.
    pub state: GroupState,
    /// Since when.
    pub state_since: DateTime<Utc>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// What runs once it has ended.
    pub finishing: Option<Finishing>,
    /// The job that this became.
    pub finishing_job: Option<JobId>,
    /// Who cancelled it.
    pub cancelled_by: Option<String>,
    /// Why.
    pub cancel_reason: Option<String>,
    /// Its members, by the counters.
    pub counts: GroupCounts,
}

/// Which groups to list. The default is all of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupFilter {
    /// In this state.
    pub state: Option<GroupState>,
    /// Of this account.
    pub account: Option<AccountId>,
    /// The next page: the last id of the one before.
    pub before: Option<GroupId>,
}

/// The sum of what members say of their progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GroupProgress {
    /// Done.
    pub done: i64,
    /// To do, as far as members know: those that have not begun too, if they were made with it.
    pub total: i64,
    /// There are more unfinished members than were read.
    pub is_partial: bool,
    /// How long it will still take, by how fast its last members were; `None`: unknown, or it has ended.
    pub left: Option<TimeDelta>,
}

struct RawGroup {
    id: i64,
    name: String,
    account_id: i64,
    state: String,
    state_since: DateTime<Utc>,
    created_by: String,
    created_at: DateTime<Utc>,
    finishing: Option<serde_json::Value>,
    finishing_job_id: Option<i64>,
    cancelled_by: Option<String>,
    cancel_reason: Option<String>,
}

impl RawGroup {
    /// What is not understood is a group, too: it keeps no other from being shown. What would run in the end matters as
    /// long as it may.
    fn read(self, counts: GroupCounts) -> GroupRow {
        let (state, finishing) = match (state_of(&self.state), read_finishing(self.finishing)) {
            (GroupState::Open | GroupState::Sealed, Err(_)) => (GroupState::NotUnderstood, None),
            (state, finishing) => (state, finishing.unwrap_or_default()),
        };
        GroupRow {
            state,
            finishing,
            id: GroupId(self.id),
            name: self.name,
            account: AccountId(self.account_id),
            state_since: self.state_since,
            created_by: self.created_by,
            created_at: self.created_at,
            finishing_job: self.finishing_job_id.map(JobId),
            cancelled_by: self.cancelled_by,
            cancel_reason: self.cancel_reason,
            counts,
        }
    }
}

/// One checked statement over groups: the columns of a [`RawGroup`], from the condition on.
macro_rules! groups {
    ($name:literal, $where:literal, $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            RawGroup,
            "-- " + $name + "\nSELECT id, name, account_id, state, state_since, created_by, created_at, finishing,
                finishing_job_id, cancelled_by, cancel_reason
            FROM groups WHERE " + $where,
            $($argument),*
        )
    };
}

impl Store {
    /// One group.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_group(&self, id: GroupId) -> Result<Option<GroupRow>, StoreError> {
        let row = groups!("find_group", "id = $1", id.0).fetch_optional(&self.pool).await?;
        Ok(self.counted(row.into_iter().collect()).await?.pop())
    }

    /// Groups that a filter lets through, newest first, [`PAGE_ROWS_MAX`] at the most.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_groups(&self, filter: &GroupFilter, limit: i64) -> Result<Vec<GroupRow>, StoreError> {
        let before = filter.before.map_or(i64::MAX, |id| id.0);
        let account = filter.account.map(|id| id.0);
        let limit = limit.clamp(1, PAGE_ROWS_MAX);
        let rows = match (filter.state, account) {
            (Some(state), _) => {
                groups!(
                    "groups_in_state",
                    "(state, id) < ($1, $2) AND (state, id) >= ($1, 0) AND (account_id = $3 OR $3 IS NULL)
                    ORDER BY state DESC, id DESC LIMIT $4",
                    state.as_str(),
                    before,
                    account,
                    limit,
                )
                .fetch_all(&self.pool)
                .await?
            }
            (None, Some(account @ 1..)) => {
                groups!(
                    "groups_of_account",
                    "(account_id, id) < ($1, $2) AND (account_id, id) >= ($1, 0) AND account_id <> 0
                    ORDER BY account_id DESC, id DESC LIMIT $3",
                    account,
                    before,
                    limit,
                )
                .fetch_all(&self.pool)
                .await?
            }
            (None, account) => {
                groups!(
                    "newest_groups",
                    "id < $1 AND (account_id = $2 OR $2 IS NULL) ORDER BY id DESC LIMIT $3",
                    before,
                    account,
                    limit,
                )
                .fetch_all(&self.pool)
                .await?
            }
        };
        self.counted(rows).await
    }

    /// Groups that jobs of one kind made: those that go on, newest first, then those that ended since then, the latest
    /// first; `limit` of each at the most.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn groups_made_by(
        &self,
        kind: &Kind,
        ended_since: DateTime<Utc>,
        limit: i64,
    ) -> Result<Vec<GroupRow>, StoreError> {
        let limit = limit.clamp(1, PAGE_ROWS_MAX);
        let mut rows = groups!(
            "groups_going_on",
            "created_by = $1 AND state IN ('open', 'sealed', 'cancelling') ORDER BY created_by DESC, id DESC LIMIT $2",
            kind.as_str(),
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        let ended = groups!(
            "groups_ended_since",
            "created_by = $1 AND state_since >= $2 AND state IN ('finished', 'failed', 'cancelled')
            ORDER BY created_by DESC, state_since DESC LIMIT $3",
            kind.as_str(),
            ended_since,
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        // One that ended between the two is in both, and the later answer is true.
        rows.retain(|row| !ended.iter().any(|over| over.id == row.id));
        rows.extend(ended);
        self.counted(rows).await
    }

    async fn counted(&self, rows: Vec<RawGroup>) -> Result<Vec<GroupRow>, StoreError> {
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let mut conn = self.pool.acquire().await?;
        let counts = counts_of(&mut conn, &ids).await?;
        let read = |row: RawGroup| {
            let counts = counts.get(&row.id).copied().unwrap_or_default();
            row.read(counts)
        };
        Ok(rows.into_iter().map(read).collect())
    }

    /// How far a group is: what its ended members said, and what the first of the others say.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn group_progress(&self, group: &GroupRow) -> Result<GroupProgress, StoreError> {
        self.group_progress_of(group, MEMBERS_READ_MAX).await
    }

    /// The same, from `members` unfinished members at the most, where several groups are looked at for one page.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn group_progress_of(&self, group: &GroupRow, members: i64) -> Result<GroupProgress, StoreError> {
        let others = sqlx::query!(
            r#"-- unfinished_progress
            SELECT coalesce(sum(progress_done(progress)), 0)::bigint AS "done!",
                   coalesce(sum(progress_total(progress)), 0)::bigint AS "total!", count(*) AS "jobs!",
                   coalesce(sum(progress_done(progress)) FILTER (WHERE state = 3), 0)::bigint AS "lately!",
                   min(claimed_at) FILTER (WHERE state = 3 AND progress_done(progress) > 0) AS since
            FROM (SELECT state, progress, claimed_at FROM jobs
                  WHERE (group_id, id) >= ($1, 0) AND (group_id, id) < ($1 + 1, 0) AND group_id IS NOT NULL
                  ORDER BY group_id, id LIMIT $2) AS member"#,
            group.id.0,
            members.clamp(1, MEMBERS_READ_MAX),
        )
        .fetch_one(&self.pool)
        .await?;
        let (done, total) = (group.counts.done + others.done, group.counts.total + others.total);
        let ended = if group.state.is_ended() { ProgressPace::default() } else { self.pace_of_ended(group).await? };
        let since = [ended.since, others.since].into_iter().flatten().min();
        let pace = ProgressPace { done: ended.done + others.lately, since };
        Ok(GroupProgress {
            done,
            total,
            is_partial: others.jobs < group.counts.unfinished(),
            left: if group.state.is_ended() { None } else { time_left(done, total, pace, self.clock.now()) },
        })
    }

    /// What the last members to succeed have done, and since when.
    async fn pace_of_ended(&self, group: &GroupRow) -> Result<ProgressPace, StoreError> {
        let lately = sqlx::query!(
            r#"-- pace_of_ended
            SELECT coalesce(sum(progress_done(progress)), 0)::bigint AS "done!", min(claimed_at) AS since
            FROM (SELECT progress, claimed_at FROM finished_jobs
                  WHERE group_id = $1 AND state = 4 ORDER BY group_id, state, id DESC LIMIT $2) AS member
            WHERE progress_done(progress) > 0"#,
            group.id.0,
            PACE_MEMBERS,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(ProgressPace { done: lately.done, since: lately.since })
    }
}

/// The members of groups by state: the folded counters and what has not been folded yet, in one snapshot.
pub(crate) async fn counts_of(
    conn: &mut PgConnection,
    groups: &[i64],
) -> Result<BTreeMap<i64, GroupCounts>, StoreError> {
    let rows = sqlx::query!(
        r#"-- counts_of_groups
        SELECT group_id AS "group_id!", sum(scheduled)::bigint AS "scheduled!", sum(ready)::bigint AS "ready!",
               sum(queued)::bigint AS "queued!", sum(running)::bigint AS "running!",
               sum(succeeded)::bigint AS "succeeded!", sum(failed)::bigint AS "failed!",
               sum(cancelled)::bigint AS "cancelled!", sum(done)::bigint AS "done!", sum(total)::bigint AS "total!"
        FROM (
            SELECT group_id, scheduled, ready, queued, running, succeeded, failed, cancelled, done, total
            FROM group_counts WHERE group_id = ANY($1)
            UNION ALL
            SELECT group_id, CASE WHEN state = 0 THEN delta ELSE 0 END, CASE WHEN state = 1 THEN delta ELSE 0 END,
                   CASE WHEN state = 2 THEN delta ELSE 0 END, CASE WHEN state = 3 THEN delta ELSE 0 END,
                   CASE WHEN state = 4 THEN delta ELSE 0 END, CASE WHEN state = 5 THEN delta ELSE 0 END,
                   CASE WHEN state = 6 THEN delta ELSE 0 END, coalesce(done, 0), coalesce(total, 0)
            FROM job_count_deltas WHERE group_id = ANY($1)
        ) AS c GROUP BY group_id"#,
        groups,
    )
    .fetch_all(conn)
    .await?;
    let counts = rows.into_iter().map(|row| {
        let jobs = [row.scheduled, row.ready, row.queued, row.running, row.succeeded, row.failed, row.cancelled];
        (row.group_id, GroupCounts { jobs, done: row.done, total: row.total })
    });
    Ok(counts.collect())
}

/// Where a group stands, by the text in its row.
pub(crate) fn state_of(text: &str) -> GroupState {
    text.parse().unwrap_or(GroupState::NotUnderstood)
}

/// What runs once a group has ended, by the value in its row.
pub(crate) fn read_finishing(value: Option<serde_json::Value>) -> Result<Option<Finishing>, serde_json::Error> {
    value.map(serde_json::from_value).transpose()
}

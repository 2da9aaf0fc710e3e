//! Lists of jobs by filter, newest first, paged by id. Owns which index answers which filter: a page reads some times
//! its own length however many jobs there are and however rare the wanted ones. No statement counts jobs.
//!
//! Unfinished jobs have no index on their state, since it would have to be written on every claim; each state has
//! another way to its rows.
//!
//! Bounds are written as rows, `(kind, id) < (.., ..)`, and the order with all columns of the index: to `kind = ..
//! ORDER BY id` the planner prefers the order of ids for as long as it does not know that the kind is rare.

use super::read::{JobRow, RawJob, finished_jobs, live_jobs};
use crate::{Store, StoreError};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{AccountId, Fingerprint, GroupId, JobId, JobState, Kind, Search, ServantId};
use std::cmp::Reverse;

/// Rows of one page at the most.
pub const PAGE_ROWS_MAX: i64 = 200;

/// Which jobs to list. The default is all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// In any of these states; none named: in all.
    pub states: Vec<JobState>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Of this account.
    pub account: Option<AccountId>,
    /// A member of this group.
    pub group: Option<GroupId>,
    /// Running on this servant.
    pub servant: Option<ServantId>,
    /// Failed with an error of this group.
    pub error: Option<Fingerprint>,
    /// Created at this time or before.
    pub older_than: Option<DateTime<Utc>>,
    /// Created at this time or after.
    pub newer_than: Option<DateTime<Utc>>,
    /// The next page: the last id of the one before.
    pub before_id: Option<JobId>,
}

impl JobFilter {
    /// Of what a person searches; ages count from `now`.
    #[must_use]
    pub fn of(search: &Search, now: DateTime<Utc>) -> Self {
        let ago = |secs: u32| now - TimeDelta::seconds(i64::from(secs));
        Self {
            states: search.states.clone(),
            kind: search.kind.clone(),
            account: search.account,
            group: search.group,
            servant: search.servant,
            error: search.error.clone(),
            older_than: search.older_secs.map(ago),
            newer_than: search.newer_secs.map(ago),
            before_id: None,
        }
    }
}

/// A filter as arguments of statements.
pub(super) struct Bounds {
    pub(super) states: Vec<JobState>,
    pub(super) kinds: Vec<String>,
    pub(super) older_than: DateTime<Utc>,
    pub(super) newer_than: DateTime<Utc>,
    pub(super) before_id: i64,
    pub(super) limit: i64,
}

impl Bounds {
    fn wants(&self, state: JobState) -> bool {
        self.states.contains(&state)
    }

    pub(super) fn codes(&self) -> Vec<i16> {
        self.states.iter().map(|state| state.code()).collect()
    }
}

impl Store {
    /// Jobs that a filter lets through, newest first, [`PAGE_ROWS_MAX`] at the most.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_jobs(&self, filter: &JobFilter, limit: i64) -> Result<Vec<JobRow>, StoreError> {
        let mut bounds = Bounds {
            states: if filter.states.is_empty() { JobState::ALL.to_vec() } else { filter.states.clone() },
            kinds: filter.kind.iter().map(ToString::to_string).collect(),
            older_than: filter.older_than.unwrap_or_else(far_future),
            newer_than: filter.newer_than.unwrap_or(DateTime::UNIX_EPOCH),
            before_id: filter.before_id.map_or(i64::MAX, |id| id.0),
            limit: limit.clamp(1, PAGE_ROWS_MAX),
        };
        let is_everything = filter.kind.is_none() && filter.states.is_empty();
        if let Some(error) = &filter.error {
            return page_of(self.failed_with(error, (filter.account, filter.group), &bounds).await?, bounds.limit);
        }
        if let Some(servant) = filter.servant {
            return page_of(self.running_on(servant, (filter.account, filter.group), &bounds).await?, bounds.limit);
        }
        if let Some(group) = filter.group {
            return page_of(self.members(group, filter.account, &bounds).await?, bounds.limit);
        }
        if filter.kind.is_none() && !is_everything {
            bounds.kinds = self.kinds_in(&bounds.codes()).await?;
        }
        let mut rows = Vec::new();
        let is_system_only = filter.account == Some(AccountId::SYSTEM);
        if is_system_only || (is_everything && filter.account.is_none()) {
            // The system's own jobs are in no account's index, which spares those that have no account the writing.
            rows.extend(self.newest_live(&bounds, is_system_only).await?);
            rows.extend(self.newest_finished(&bounds, is_system_only).await?);
        } else if let Some(account) = filter.account {
            if bounds.states.iter().any(|state| !state.is_finished()) {
                rows.extend(self.live_of_account(account, &bounds).await?);
            }
            for state in bounds.states.iter().filter(|state| state.is_finished()) {
                rows.extend(match state {
                    JobState::Succeeded => self.succeeded_of_account(account, &bounds).await?,
                    trouble => self.trouble_of_account(account, *trouble, &bounds).await?,
                });
            }
        } else {
            rows.extend(self.live_by_state(&bounds).await?);
            for state in bounds.states.iter().filter(|state| state.is_finished()) {
                rows.extend(self.finished_in(*state, &bounds).await?);
            }
        }
        page_of(rows, bounds.limit)
    }

    /// The jobs of a kind that are due or under way and its latest finished ones, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn latest_of_kind(&self, kind: &Kind, limit: i64) -> Result<Vec<JobRow>, StoreError> {
        let states = JobState::ALL.into_iter().filter(|state| *state != JobState::Scheduled).collect();
        self.list_jobs(&JobFilter { states, kind: Some(kind.clone()), ..JobFilter::default() }, limit).await
    }

    /// The kinds that have or had jobs in any of these states, by the counters.
    async fn kinds_in(&self, states: &[i16]) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar!(
            r#"-- kinds_in
            SELECT kind AS "kind!" FROM job_counts WHERE state = ANY($1)
            UNION SELECT kind FROM job_count_deltas WHERE state = ANY($1)"#,
            states,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    async fn newest_live(&self, bounds: &Bounds, is_system_only: bool) -> Result<Vec<RawJob>, StoreError> {
        Ok(live_jobs!(
            "newest_live",
            "jobs WHERE state = ANY($5) AND (kind = ANY($6) OR $6 = '{}') AND (account_id = 0 OR NOT $7)
                AND created_at <= $1 AND created_at >= $2 AND id < $3 ORDER BY id DESC LIMIT $4",
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
            &bounds.codes(),
            &bounds.kinds,
            is_system_only,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    async fn newest_finished(&self, bounds: &Bounds, is_system_only: bool) -> Result<Vec<RawJob>, StoreError> {
        Ok(finished_jobs!(
            "newest_finished",
            "finished_jobs WHERE state = ANY($5) AND (kind = ANY($6) OR $6 = '{}') AND (account_id = 0 OR NOT $7)
                AND created_at <= $1 AND created_at >= $2 AND id < $3 ORDER BY id DESC LIMIT $4",
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
            &bounds.codes(),
            &bounds.kinds,
            is_system_only,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Each wanted state of unfinished jobs by its own way.
    async fn live_by_state(&self, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        let mut rows = Vec::new();
        if bounds.wants(JobState::Scheduled) {
            rows.extend(self.scheduled(bounds).await?);
        }
        if bounds.wants(JobState::Ready) {
            // On the way to ready jobs lie the queued and the running ones: if those are wanted too, here they are.
            rows.extend(self.due(bounds).await?);
        } else {
            if bounds.wants(JobState::Queued) {
                rows.extend(self.queued(bounds).await?);
            }
            if bounds.wants(JobState::Running) {
                rows.extend(self.running(bounds).await?);
            }
        }
        Ok(rows)
    }

    async fn scheduled(&self, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        Ok(live_jobs!(
            "scheduled",
            "unnest($1::text[]) AS wanted (one) CROSS JOIN LATERAL (
                SELECT * FROM jobs WHERE (kind, id) < (wanted.one, $4) AND (kind, id) >= (wanted.one, 0)
                    AND ready_at IS NULL AND created_at <= $2 AND created_at >= $3
                ORDER BY kind DESC, id DESC LIMIT $5) AS jobs
            ORDER BY id DESC LIMIT $5",
            &bounds.kinds,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Jobs whose time has come. Those that are queued or running are no more than the window and the fleet's slots.
    async fn due(&self, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        Ok(live_jobs!(
            "due",
            "unnest($1::text[]) AS wanted (one) CROSS JOIN LATERAL (
                SELECT * FROM jobs WHERE (kind, id) < (wanted.one, $4) AND (kind, id) >= (wanted.one, 0)
                    AND ready_at IS NOT NULL AND state = ANY($6) AND created_at <= $2 AND created_at >= $3
                ORDER BY kind DESC, id DESC LIMIT $5) AS jobs
            ORDER BY id DESC LIMIT $5",
            &bounds.kinds,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
            &bounds.codes(),
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Jobs on the queue, by the dispatches that name them.
    async fn queued(&self, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        Ok(live_jobs!(
            "queued",
            "(SELECT member.id AS member_id, dispatches.queued_at AS sent_with
                FROM dispatches CROSS JOIN LATERAL unnest(dispatches.job_ids) AS member (id)
                WHERE dispatches.kind = ANY($1) AND member.id < $4 ORDER BY member.id DESC) AS sent
            CROSS JOIN LATERAL (
                SELECT * FROM jobs WHERE jobs.id = sent.member_id AND jobs.queued_at = sent.sent_with
                    AND jobs.state = 2 AND created_at <= $2 AND created_at >= $3) AS jobs
            ORDER BY sent.member_id DESC LIMIT $5",
            &bounds.kinds,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Jobs in servants' hands, by the leases that name them.
    async fn running(&self, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        Ok(live_jobs!(
            "running",
            "(SELECT member.id AS member_id, leases.id AS held_under
                FROM leases CROSS JOIN LATERAL unnest(leases.job_ids) AS member (id)
                WHERE leases.servant_id IN (SELECT servants.id FROM servants WHERE servants.kind = ANY($1))
                    AND member.id < $4 ORDER BY member.id DESC) AS held
            CROSS JOIN LATERAL (
                SELECT * FROM jobs WHERE jobs.id = held.member_id AND jobs.lease_id = held.held_under
                    AND jobs.state = 3 AND created_at <= $2 AND created_at >= $3) AS jobs
            ORDER BY held.member_id DESC LIMIT $5",
            &bounds.kinds,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    async fn finished_in(&self, state: JobState, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        Ok(finished_jobs!(
            "finished_in",
            "unnest($1::text[]) AS wanted (one) CROSS JOIN LATERAL (
                SELECT * FROM finished_jobs
                WHERE (kind, state, id) < (wanted.one, $6, $4) AND (kind, state, id) >= (wanted.one, $6, 0)
                    AND created_at <= $2 AND created_at >= $3
                ORDER BY kind DESC, state DESC, id DESC LIMIT $5) AS finished_jobs
            ORDER BY id DESC LIMIT $5",
            &bounds.kinds,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
            state.code(),
        )
        .fetch_all(&self.pool)
        .await?)
    }

    async fn live_of_account(&self, account: AccountId, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        Ok(live_jobs!(
            "live_of_account",
            "jobs WHERE (account_id, id) < ($1, $6) AND (account_id, id) >= ($1, 0) AND account_id <> 0
                AND state = ANY($2) AND (kind = ANY($3) OR $3 = '{}') AND created_at <= $4 AND created_at >= $5
            ORDER BY account_id DESC, id DESC LIMIT $7",
            account.0,
            &bounds.codes(),
            &bounds.kinds,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    async fn succeeded_of_account(&self, account: AccountId, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        Ok(finished_jobs!(
            "succeeded_of_account",
            "finished_jobs WHERE (account_id, id) < ($1, $5) AND (account_id, id) >= ($1, 0) AND account_id <> 0
                AND state = 4 AND (kind = ANY($2) OR $2 = '{}') AND created_at <= $3 AND created_at >= $4
            ORDER BY account_id DESC, id DESC LIMIT $6",
            account.0,
            &bounds.kinds,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// `state <> 4` names the small index of jobs that did not succeed.
    async fn trouble_of_account(
        &self,
        account: AccountId,
        state: JobState,
        bounds: &Bounds,
    ) -> Result<Vec<RawJob>, StoreError> {
        Ok(finished_jobs!(
            "trouble_of_account",
            "finished_jobs WHERE (account_id, state, id) < ($1, $7, $5) AND (account_id, state, id) >= ($1, $7, 0)
                AND state <> 4 AND (kind = ANY($2) OR $2 = '{}') AND created_at <= $3 AND created_at >= $4
            ORDER BY account_id DESC, state DESC, id DESC LIMIT $6",
            account.0,
            &bounds.kinds,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
            state.code(),
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

pub(super) fn page_of(mut rows: Vec<RawJob>, limit: i64) -> Result<Vec<JobRow>, StoreError> {
    // A job that finished between two statements is in both answers; the later one is true.
    rows.sort_by_key(|row| Reverse((row.id, row.finished_at)));
    rows.dedup_by_key(|row| row.id);
    rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    rows.into_iter().map(RawJob::check).collect()
}

/// PostgreSQL's timestamps end before chrono's; no job is created later than this.
fn far_future() -> DateTime<Utc> {
    DateTime::from_timestamp(253_402_300_799, 0).unwrap_or(DateTime::UNIX_EPOCH)
}

//! Lists of jobs by filter, newest first, paged by id. Owns which index answers which filter: a page reads some times
//! its own length however many jobs there are and however rare the wanted ones. No statement counts jobs.
//! Those by kind and state alone are in `list_kinds`.
//!
//! Bounds are written as rows, `(kind, id) < (.., ..)`, and the order with all columns of the index: to `kind = ..
//! ORDER BY id` the planner prefers the order of ids for as long as it does not know that the kind is rare. A scan ends only
//! where the first column of such a bound does. So what comes before a state in an index is asked for as one of an array of
//! one, that a scan may end with the state; and where the age has a bound, days that are too old are left out, by when
//! their jobs finished (an hour is for clocks that differ).

use super::{
    list_looked::JobsFound,
    read::{JobRow, RawJob, finished_jobs, live_jobs},
};
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

    /// Whether an index has all that is asked for: then a page is as many rows as are wanted, of each state.
    #[must_use]
    pub fn is_indexed(&self) -> bool {
        !self.has_no_index()
    }

    /// What is asked for together is in no index. The system's own jobs are in no account's, which spares those that have no
    /// account the writing.
    fn has_no_index(&self) -> bool {
        if self.error.is_some() {
            return true;
        }
        if self.servant.is_some() {
            return self.account.is_some() || self.group.is_some();
        }
        let wants = |state| self.states.is_empty() || self.states.contains(&state);
        let wants_in_hand = wants(JobState::Queued) || wants(JobState::Running);
        // An account's jobs by state have one, as a group's; but for those that wait for their time, those that wait for
        // their turn, and those that are in hand.
        let is_part = match (wants(JobState::Scheduled), wants(JobState::Ready)) {
            (true, true) => false,
            (false, false) => wants_in_hand,
            _ => true,
        };
        if self.group.is_some() {
            return is_part || self.account.is_some() || self.kind.is_some();
        }
        match self.account {
            None => false,
            Some(AccountId::SYSTEM) => true,
            Some(_) => is_part || self.kind.is_some(),
        }
    }
}

/// A filter as arguments of statements.
pub(super) struct Bounds {
    pub(super) states: Vec<JobState>,
    /// None named: all.
    pub(super) kinds: Vec<String>,
    pub(super) older_than: DateTime<Utc>,
    pub(super) newer_than: DateTime<Utc>,
    /// Ids from `from_id` until below `before_id`.
    pub(super) before_id: i64,
    pub(super) from_id: i64,
    pub(super) limit: i64,
}

impl Bounds {
    pub(super) fn wants(&self, state: JobState) -> bool {
        self.states.contains(&state)
    }

    pub(super) fn codes(&self) -> Vec<i16> {
        self.states.iter().map(|state| state.code()).collect()
    }
}

impl Store {
    /// Jobs that a filter lets through, newest first, [`PAGE_ROWS_MAX`] at the most: as far as it takes to find them. What
    /// somebody waits for is [`Self::search_jobs`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_jobs(&self, filter: &JobFilter, limit: i64) -> Result<Vec<JobRow>, StoreError> {
        let (mut filter, mut jobs) = (filter.clone(), Vec::new());
        loop {
            let left = limit.clamp(1, PAGE_ROWS_MAX) - i64::try_from(jobs.len()).unwrap_or(i64::MAX);
            let found = self.search_jobs(&filter, left).await?;
            jobs.extend(found.jobs);
            let is_full = i64::try_from(jobs.len()).is_ok_and(|rows| rows >= limit.clamp(1, PAGE_ROWS_MAX));
            match found.next_before {
                Some(next) if !is_full => filter.before_id = Some(next),
                _ => return Ok(jobs),
            }
        }
    }

    /// One page of the jobs that a filter lets through, newest first, [`PAGE_ROWS_MAX`] at the most, from a bounded number
    /// of rows: it may be short, and say from where to look on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn search_jobs(&self, filter: &JobFilter, limit: i64) -> Result<JobsFound, StoreError> {
        let bounds = self.bounds_of(filter, limit).await?;
        if filter.has_no_index() {
            return self.look(filter, &bounds).await;
        }
        let jobs = self.indexed(filter, bounds).await?;
        let is_full = i64::try_from(jobs.len()).is_ok_and(|rows| rows >= limit.clamp(1, PAGE_ROWS_MAX));
        let next_before = jobs.last().filter(|_| is_full).map(|job| job.id);
        Ok(JobsFound { jobs, next_before })
    }

    async fn bounds_of(&self, filter: &JobFilter, limit: i64) -> Result<Bounds, StoreError> {
        let mut bounds = Bounds {
            states: if filter.states.is_empty() { JobState::ALL.to_vec() } else { filter.states.clone() },
            kinds: filter.kind.iter().map(ToString::to_string).collect(),
            older_than: filter.older_than.unwrap_or_else(far_future),
            newer_than: filter.newer_than.unwrap_or(DateTime::UNIX_EPOCH),
            before_id: filter.before_id.map_or(i64::MAX, |id| id.0),
            from_id: 0,
            limit: limit.clamp(1, PAGE_ROWS_MAX),
        };
        if let Some(at) = filter.older_than {
            bounds.before_id = bounds.before_id.min(self.id_after(at).await?);
        }
        if let Some(at) = filter.newer_than {
            bounds.from_id = self.id_before(at).await?;
        }
        Ok(bounds)
    }

    /// Where an index has all that is asked for.
    async fn indexed(&self, filter: &JobFilter, bounds: Bounds) -> Result<Vec<JobRow>, StoreError> {
        let is_everything = filter.kind.is_none() && filter.states.is_empty();
        if let Some(servant) = filter.servant {
            return page_of(self.running_on(servant, &bounds).await?, bounds.limit);
        }
        if let Some(group) = filter.group {
            return page_of(self.members(group, &bounds).await?, bounds.limit);
        }
        let mut rows = Vec::new();
        if is_everything && filter.account.is_none() {
            rows.extend(self.newest_live(&bounds).await?);
            rows.extend(self.newest_finished(&bounds).await?);
        } else if let Some(account) = filter.account {
            if bounds.wants(JobState::Ready) {
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

    async fn newest_live(&self, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        Ok(live_jobs!(
            "newest_live",
            "jobs WHERE state = ANY($5) AND (kind = ANY($6) OR $6 = '{}')
                AND created_at <= $1 AND created_at >= $2 AND id < $3 AND id >= $7 ORDER BY id DESC LIMIT $4",
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
            &bounds.codes(),
            &bounds.kinds,
            bounds.from_id,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    async fn newest_finished(&self, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        Ok(finished_jobs!(
            "newest_finished",
            "finished_jobs WHERE state = ANY($5) AND (kind = ANY($6) OR $6 = '{}')
                AND created_at <= $1 AND created_at >= $2 AND id < $3 AND id >= $7 ORDER BY id DESC LIMIT $4",
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
            &bounds.codes(),
            &bounds.kinds,
            bounds.from_id,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    async fn live_of_account(&self, account: AccountId, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        Ok(live_jobs!(
            "live_of_account",
            "jobs WHERE (account_id, id) < ($1, $6) AND (account_id, id) >= ($1, $8) AND account_id <> 0
                AND state = ANY($2) AND (kind = ANY($3) OR $3 = '{}') AND created_at <= $4 AND created_at >= $5
            ORDER BY account_id DESC, id DESC LIMIT $7",
            account.0,
            &bounds.codes(),
            &bounds.kinds,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
            bounds.from_id,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    async fn succeeded_of_account(&self, account: AccountId, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        Ok(finished_jobs!(
            "succeeded_of_account",
            "finished_jobs WHERE (account_id, id) < ($1, $5) AND (account_id, id) >= ($1, $7) AND account_id <> 0
                AND state = 4 AND (kind = ANY($2) OR $2 = '{}') AND created_at <= $3 AND created_at >= $4
                AND finished_at >= $4 - interval '1 hour'
            ORDER BY account_id DESC, id DESC LIMIT $6",
            account.0,
            &bounds.kinds,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
            bounds.from_id,
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
            "finished_jobs WHERE account_id = ANY(ARRAY[$1::bigint]) AND (state, id) < ($7, $5) AND (state, id) >= ($7, $8)
                AND state <> 4 AND (kind = ANY($2) OR $2 = '{}') AND created_at <= $3 AND created_at >= $4
                AND finished_at >= $4 - interval '1 hour'
            ORDER BY account_id DESC, state DESC, id DESC LIMIT $6",
            account.0,
            &bounds.kinds,
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

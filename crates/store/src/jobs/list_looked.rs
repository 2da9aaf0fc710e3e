//! Lists of jobs by what no index has together: a kind within an account or a group, an account within the failures of one
//! error, the system's own jobs; and those that have failed with an error, by the marks of their attempts. So many rows are
//! looked at, in the order of an index that has some of it; what fits is the page, and the next one goes on where the look
//! ended. A page may thus be short, or empty, and have another behind it. What is in hand is in `list_in_hand`.

use super::{
    list::{Bounds, JobFilter},
    read::{JobRow, RawJob, finished_jobs, live_jobs},
};
use crate::{Store, StoreError};
use domain::{AccountId, Fingerprint, GroupId, JobId, JobState};

/// Rows of each source that one page looks at.
const LOOK_MAX: i64 = 300;

/// A page of jobs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobsFound {
    /// Newest first.
    pub jobs: Vec<JobRow>,
    /// From where to look on; none: there are no more.
    pub next_before: Option<JobId>,
}

/// What a look at one source saw: each id, newest first, and whether it is wanted.
pub(super) struct Seen {
    jobs: Vec<SeenJob>,
    /// There may be more behind the last.
    pub(super) is_cut: bool,
}

pub(super) struct SeenJob {
    pub(super) id: i64,
    pub(super) fits: bool,
}

impl Seen {
    /// What a look at so many rows brought.
    pub(super) fn of(jobs: Vec<SeenJob>, rows: i64) -> Self {
        Self { is_cut: i64::try_from(jobs.len()).is_ok_and(|seen| seen >= rows), jobs }
    }
}

/// The wanted ids of all that was seen, and from where to look on.
fn page_of(seen: &[Seen], limit: i64) -> (Vec<i64>, Option<i64>) {
    // Below the last id of a source that was not read to its end, it may have more.
    let horizon = seen.iter().filter(|seen| seen.is_cut).filter_map(|seen| seen.jobs.last()).map(|job| job.id).max();
    let wanted = seen.iter().flat_map(|seen| &seen.jobs).filter(|job| job.fits).map(|job| job.id);
    let mut ids: Vec<i64> = wanted.filter(|id| horizon.is_none_or(|horizon| *id >= horizon)).collect();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    ids.dedup();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if ids.len() > limit {
        ids.truncate(limit);
        let last = ids.last().copied();
        return (ids, last);
    }
    (ids, horizon)
}

impl Store {
    /// One page of what a filter lets through, of which no index has all.
    pub(super) async fn look(&self, filter: &JobFilter, bounds: &Bounds) -> Result<JobsFound, StoreError> {
        let mut seen = Vec::new();
        if let Some(error) = &filter.error {
            seen.push(self.look_at_marks(error, (filter.account, filter.group), bounds).await?);
        } else if filter.servant.is_some() {
            seen.extend(self.look_in_hand(filter, bounds).await?);
        } else if let Some(group) = filter.group {
            if bounds.wants(JobState::Scheduled) || bounds.wants(JobState::Ready) {
                seen.push(self.look_at_live_members(group, filter.account, bounds, LOOK_MAX).await?);
            } else {
                seen.extend(self.look_in_hand(filter, bounds).await?);
            }
            for state in bounds.states.iter().filter(|state| state.is_finished()) {
                seen.push(self.look_at_finished_members(group, filter.account, *state, bounds).await?);
            }
        } else if let Some(account) = filter.account {
            if bounds.wants(JobState::Scheduled) || bounds.wants(JobState::Ready) {
                seen.push(self.look_at_live(account, bounds, LOOK_MAX).await?);
            } else {
                seen.extend(self.look_in_hand(filter, bounds).await?);
            }
            if bounds.wants(JobState::Succeeded) || account == AccountId::SYSTEM {
                if bounds.states.iter().any(|state| state.is_finished()) {
                    seen.push(self.look_at_finished(account, bounds).await?);
                }
            } else {
                for state in bounds.states.iter().filter(|state| state.is_finished()) {
                    seen.push(self.look_at_trouble(account, *state, bounds).await?);
                }
            }
        }
        let (ids, next_before) = page_of(&seen, bounds.limit);
        Ok(JobsFound { jobs: self.of_ids(&ids).await?, next_before: next_before.map(JobId) })
    }

    async fn of_ids(&self, ids: &[i64]) -> Result<Vec<JobRow>, StoreError> {
        let mut rows: Vec<RawJob> =
            live_jobs!("live_of_ids", "jobs WHERE id = ANY($1)", ids).fetch_all(&self.pool).await?;
        rows.extend(
            finished_jobs!("finished_of_ids", "finished_jobs WHERE id = ANY($1)", ids).fetch_all(&self.pool).await?,
        );
        super::list::page_of(rows, i64::MAX)
    }

    /// Unfinished jobs of an account; the system has no index of its own.
    pub(super) async fn look_at_live(
        &self,
        account: AccountId,
        bounds: &Bounds,
        rows: i64,
    ) -> Result<Seen, StoreError> {
        if account == AccountId::SYSTEM {
            let jobs = sqlx::query_as!(
                SeenJob,
                r#"-- look_at_live_of_system
                SELECT id, account_id = 0 AND state = ANY($1) AND (kind = ANY($2) OR $2 = '{}') AND created_at <= $3
                    AND created_at >= $4 AS "fits!"
                FROM jobs WHERE id < $5 AND id >= $6 ORDER BY id DESC LIMIT $7"#,
                &bounds.codes(),
                &bounds.kinds,
                bounds.older_than,
                bounds.newer_than,
                bounds.before_id,
                bounds.from_id,
                rows,
            )
            .fetch_all(&self.pool)
            .await?;
            return Ok(Seen::of(jobs, rows));
        }
        let jobs = sqlx::query_as!(
            SeenJob,
            r#"-- look_at_live
            SELECT id, state = ANY($1) AND (kind = ANY($2) OR $2 = '{}') AND created_at <= $3 AND created_at >= $4 AS "fits!"
            FROM jobs WHERE (account_id, id) < ($8, $5) AND (account_id, id) >= ($8, $6) AND account_id <> 0
            ORDER BY account_id DESC, id DESC LIMIT $7"#,
            &bounds.codes(),
            &bounds.kinds,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.from_id,
            rows,
            account.0,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(Seen::of(jobs, rows))
    }

    async fn look_at_finished(&self, account: AccountId, bounds: &Bounds) -> Result<Seen, StoreError> {
        if account == AccountId::SYSTEM {
            let jobs = sqlx::query_as!(
                SeenJob,
                r#"-- look_at_finished_of_system
                SELECT id, account_id = 0 AND state = ANY($1) AND (kind = ANY($2) OR $2 = '{}') AND created_at <= $3
                    AND created_at >= $4 AS "fits!"
                FROM finished_jobs WHERE id < $5 AND id >= $6 ORDER BY id DESC LIMIT $7"#,
                &bounds.codes(),
                &bounds.kinds,
                bounds.older_than,
                bounds.newer_than,
                bounds.before_id,
                bounds.from_id,
                LOOK_MAX,
            )
            .fetch_all(&self.pool)
            .await?;
            return Ok(Seen::of(jobs, LOOK_MAX));
        }
        let jobs = sqlx::query_as!(
            SeenJob,
            r#"-- look_at_finished
            SELECT id, state = ANY($1) AND (kind = ANY($2) OR $2 = '{}') AND created_at <= $3 AND created_at >= $4 AS "fits!"
            FROM finished_jobs WHERE (account_id, id) < ($8, $5) AND (account_id, id) >= ($8, $6) AND account_id <> 0
                AND finished_at >= $4 - interval '1 hour'
            ORDER BY account_id DESC, id DESC LIMIT $7"#,
            &bounds.codes(),
            &bounds.kinds,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.from_id,
            LOOK_MAX,
            account.0,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(Seen::of(jobs, LOOK_MAX))
    }

    async fn look_at_trouble(&self, account: AccountId, state: JobState, bounds: &Bounds) -> Result<Seen, StoreError> {
        let jobs = sqlx::query_as!(
            SeenJob,
            r#"-- look_at_trouble
            SELECT id, (kind = ANY($1) OR $1 = '{}') AND created_at <= $2 AND created_at >= $3 AS "fits!"
            FROM finished_jobs
            WHERE account_id = ANY(ARRAY[$4::bigint]) AND (state, id) < ($5, $6) AND (state, id) >= ($5, $7) AND state <> 4
                AND finished_at >= $3 - interval '1 hour'
            ORDER BY account_id DESC, state DESC, id DESC LIMIT $8"#,
            &bounds.kinds,
            bounds.older_than,
            bounds.newer_than,
            account.0,
            state.code(),
            bounds.before_id,
            bounds.from_id,
            LOOK_MAX,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(Seen::of(jobs, LOOK_MAX))
    }

    pub(super) async fn look_at_live_members(
        &self,
        group: GroupId,
        account: Option<AccountId>,
        bounds: &Bounds,
        rows: i64,
    ) -> Result<Seen, StoreError> {
        let jobs = sqlx::query_as!(
            SeenJob,
            r#"-- look_at_live_members
            SELECT id, state = ANY($1) AND (kind = ANY($2) OR $2 = '{}') AND created_at <= $3 AND created_at >= $4
                AND (account_id = $9 OR $9 IS NULL) AS "fits!"
            FROM jobs WHERE (group_id, id) < ($8, $5) AND (group_id, id) >= ($8, $6) AND group_id IS NOT NULL
            ORDER BY group_id DESC, id DESC LIMIT $7"#,
            &bounds.codes(),
            &bounds.kinds,
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.from_id,
            rows,
            group.0,
            account.map(|id| id.0),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(Seen::of(jobs, rows))
    }

    async fn look_at_finished_members(
        &self,
        group: GroupId,
        account: Option<AccountId>,
        state: JobState,
        bounds: &Bounds,
    ) -> Result<Seen, StoreError> {
        // Three states may be wanted beside what is unfinished: of each a part of the rows.
        let rows = LOOK_MAX / 3;
        let jobs = sqlx::query_as!(
            SeenJob,
            r#"-- look_at_finished_members
            SELECT id, (kind = ANY($1) OR $1 = '{}') AND created_at <= $2 AND created_at >= $3
                AND (account_id = $9 OR $9 IS NULL) AS "fits!"
            FROM finished_jobs
            WHERE group_id = ANY(ARRAY[$4::bigint]) AND (state, id) < ($5, $6) AND (state, id) >= ($5, $7) AND group_id IS NOT NULL
                AND finished_at >= $3 - interval '1 hour'
            ORDER BY group_id DESC, state DESC, id DESC LIMIT $8"#,
            &bounds.kinds,
            bounds.older_than,
            bounds.newer_than,
            group.0,
            state.code(),
            bounds.before_id,
            bounds.from_id,
            rows,
            account.map(|id| id.0),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(Seen::of(jobs, rows))
    }

    async fn look_at_marks(
        &self,
        error: &Fingerprint,
        (account, group): (Option<AccountId>, Option<GroupId>),
        bounds: &Bounds,
    ) -> Result<Seen, StoreError> {
        if !bounds.wants(JobState::Failed) {
            return Ok(Seen { jobs: Vec::new(), is_cut: false });
        }
        // All that have the error fit, unless more is asked for. A retry takes the mark from its attempts.
        let is_all = account.is_none() && group.is_none() && bounds.kinds.is_empty();
        let rows = if is_all { bounds.limit } else { LOOK_MAX };
        let jobs = sqlx::query_as!(
            SeenJob,
            r#"-- look_at_marks
            SELECT marked.job_id AS "id!", coalesce(job.fits, false) AS "fits!"
            FROM (SELECT job_id FROM attempts
                  WHERE (fingerprint, job_id) < ($1, $2) AND (fingerprint, job_id) >= ($1, $3) AND failed
                  ORDER BY fingerprint DESC, job_id DESC LIMIT $4) AS marked
            LEFT JOIN LATERAL (
                SELECT state = 5 AND (kind = ANY($5) OR $5 = '{}') AND created_at <= $6 AND created_at >= $7
                    AND (account_id = $8 OR $8 IS NULL) AND (group_id = $9 OR $9 IS NULL) AS fits
                FROM finished_jobs WHERE finished_jobs.id = marked.job_id LIMIT 1) AS job ON true
            ORDER BY marked.job_id DESC"#,
            error.as_str(),
            bounds.before_id,
            bounds.from_id,
            rows,
            &bounds.kinds,
            bounds.older_than,
            bounds.newer_than,
            account.map(|id| id.0),
            group.map(|id| id.0),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(Seen::of(jobs, rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ids: impl IntoIterator<Item = i64>, fits: impl Fn(i64) -> bool) -> Seen {
        Seen::of(ids.into_iter().map(|id| SeenJob { id, fits: fits(id) }).collect(), LOOK_MAX)
    }

    #[test]
    fn a_page_ends_where_a_source_was_not_read_on() {
        let long = seen((1_000 - LOOK_MAX..1_000).rev(), |id| id % 100 == 0);
        let short = seen([999, 650, 3], |id| id != 999);
        assert_eq!(page_of(&[long, short], 50), (vec![900, 800, 700], Some(1_000 - LOOK_MAX)));
        let short = seen([9, 6, 3], |id| id != 9);
        assert_eq!(page_of(&[short], 50), (vec![6, 3], None));
        let many = seen([9, 6, 3], |_| true);
        assert_eq!(page_of(&[many], 2), (vec![9, 6], Some(6)));
        let nothing = seen((1..=LOOK_MAX).rev(), |_| false);
        assert_eq!(page_of(&[nothing], 50), (vec![], Some(1)), "it goes on behind what was looked at");
    }
}

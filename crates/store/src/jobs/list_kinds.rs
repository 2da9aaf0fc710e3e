//! Lists of jobs by kind and state, newest first. Where all kinds are wanted, each is read a little at a time in the order
//! of its index, and only as far as the page needs of it: not a page of each.
//!
//! Unfinished jobs have no index on their state, since it would have to be written on every claim; each state has
//! another way to its rows.

use super::{
    list::Bounds,
    read::{RawJob, finished_jobs, live_jobs},
};
use crate::{Store, StoreError, stats::DELTAS_READ_MAX};
use domain::JobState;
use std::cmp::Reverse;

/// Rows of a kind that are read at once at the least, however many kinds there are.
const ROWS_OF_KIND: i64 = 2;

/// Kinds that are read on, each from below an id, and how many rows of each.
struct Part {
    kinds: Vec<String>,
    below: Vec<i64>,
    rows: Vec<i64>,
}

/// Jobs of one kind from one source, newest first.
struct Stream {
    source: Source,
    kind: String,
    /// It is read on below this id.
    below: i64,
    /// Rows that have come.
    came: i64,
    /// Rows to read next.
    rows: i64,
}

/// Plans what to read next: of each stream as much as it has, by its rows so far, down to where the page ends by all of
/// them. The one that is least far is always read on.
fn plan(open: &mut [Stream], found: &[RawJob], limit: i64) {
    let (Some(horizon), Some(newest)) = (open.iter().map(|stream| stream.below).max(), found.first()) else { return };
    // What is newer than all that is still open is on the page.
    let sure = found.partition_point(|row| row.id >= horizon);
    let rows_of_page = i64::try_from(sure).unwrap_or(i64::MAX).max(1);
    let goal = newest.id - (newest.id - horizon + 1).saturating_mul(limit) / rows_of_page;
    for stream in open {
        let left = stream.below - goal;
        let dense = stream.came.saturating_mul(left) / (newest.id - stream.below + 1).max(1);
        let is_wanted = left > 0 || stream.below == horizon;
        stream.rows = if is_wanted { dense.clamp(ROWS_OF_KIND.min(limit), limit) } else { 0 };
    }
}

/// What is read of each kind, in an order of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// Their time has not come.
    Scheduled,
    Due,
    Finished(JobState),
}

impl Source {
    /// The states that it has of those that are wanted.
    fn codes(self, bounds: &Bounds) -> Vec<i16> {
        match self {
            Self::Scheduled => vec![JobState::Scheduled.code()],
            Self::Due => [JobState::Ready, JobState::Queued, JobState::Running]
                .into_iter()
                .filter(|state| bounds.wants(*state))
                .map(JobState::code)
                .collect(),
            Self::Finished(state) => vec![state.code()],
        }
    }
}

impl Store {
    /// The kinds that have or had jobs in any of these states, by the counters; of changes that are not folded yet the first.
    async fn kinds_in(&self, states: &[i16]) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar!(
            r#"-- kinds_in
            SELECT kind AS "kind!" FROM job_counts WHERE state = ANY($1)
            UNION SELECT kind FROM (SELECT kind, state FROM job_count_deltas LIMIT $2) AS fresh WHERE state = ANY($1)"#,
            states,
            DELTAS_READ_MAX,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// The newest rows of all kinds from these sources, from reading some of each.
    async fn merged(&self, sources: &[Source], bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        if sources.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = usize::try_from(bounds.limit).unwrap_or(usize::MAX);
        let kinds = if bounds.kinds.is_empty() {
            self.kinds_in(&sources.iter().flat_map(|source| source.codes(bounds)).collect::<Vec<_>>()).await?
        } else {
            bounds.kinds.clone()
        };
        let of_each = bounds.limit / i64::try_from(kinds.len() * sources.len()).unwrap_or(i64::MAX).max(1);
        let rows = of_each.max(ROWS_OF_KIND).min(bounds.limit);
        let stream =
            |source, kind: &String| Stream { source, kind: kind.clone(), below: bounds.before_id, came: 0, rows };
        let mut open: Vec<Stream> =
            sources.iter().flat_map(|source| kinds.iter().map(move |kind| stream(*source, kind))).collect();
        let mut found: Vec<RawJob> = Vec::new();
        while !open.is_empty() {
            for source in sources {
                found.extend(self.read_on(*source, &mut open, bounds).await?);
            }
            found.sort_by_key(|row| Reverse(row.id));
            found.dedup_by_key(|row| row.id);
            found.truncate(wanted);
            // A stream whose last row is beyond the page is needed no more.
            let end = found.last().filter(|_| found.len() == wanted).map_or(0, |row| row.id);
            open.retain(|stream| stream.below > end);
            plan(&mut open, &found, bounds.limit);
        }
        Ok(found)
    }

    /// So many rows more of each open stream of a source as are planned. One that has fewer is at its end.
    async fn read_on(
        &self,
        source: Source,
        open: &mut Vec<Stream>,
        bounds: &Bounds,
    ) -> Result<Vec<RawJob>, StoreError> {
        let mut part = Part { kinds: Vec::new(), below: Vec::new(), rows: Vec::new() };
        for stream in open.iter().filter(|stream| stream.source == source && stream.rows > 0) {
            part.kinds.push(stream.kind.clone());
            part.below.push(stream.below);
            part.rows.push(stream.rows);
        }
        if part.kinds.is_empty() {
            return Ok(Vec::new());
        }
        let read = match source {
            Source::Scheduled => self.scheduled(&part, bounds).await?,
            Source::Due => self.due(&part, bounds).await?,
            Source::Finished(state) => self.finished_of_kinds(state, &part, bounds).await?,
        };
        open.retain_mut(|stream| {
            if stream.source != source || stream.rows == 0 {
                return true;
            }
            let of_stream = || read.iter().filter(|row| row.kind == stream.kind).map(|row| row.id);
            let came = i64::try_from(of_stream().count()).unwrap_or(i64::MAX);
            stream.below = of_stream().min().unwrap_or(stream.below);
            stream.came += came;
            came >= stream.rows
        });
        Ok(read)
    }

    /// Each wanted state of unfinished jobs by its own way.
    pub(super) async fn live_by_state(&self, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        // On the way to ready jobs lie the queued and the running ones: if those are wanted too, there they are.
        let ways = [(JobState::Scheduled, Source::Scheduled), (JobState::Ready, Source::Due)];
        let sources: Vec<_> =
            ways.into_iter().filter(|(state, _)| bounds.wants(*state)).map(|(_, source)| source).collect();
        let mut rows = self.merged(&sources, bounds).await?;
        if !bounds.wants(JobState::Ready) {
            if bounds.wants(JobState::Queued) {
                rows.extend(self.queued(bounds).await?);
            }
            if bounds.wants(JobState::Running) {
                rows.extend(self.running(bounds).await?);
            }
        }
        Ok(rows)
    }

    async fn scheduled(&self, part: &Part, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        Ok(live_jobs!(
            "scheduled",
            "unnest($1::text[], $4::bigint[], $5::bigint[]) AS wanted (one, below, rows) CROSS JOIN LATERAL (
                SELECT * FROM jobs
                WHERE (kind, id) < (wanted.one, wanted.below) AND (kind, id) >= (wanted.one, $6)
                    AND ready_at IS NULL AND created_at <= $2 AND created_at >= $3
                ORDER BY kind DESC, id DESC LIMIT wanted.rows) AS jobs",
            &part.kinds,
            bounds.older_than,
            bounds.newer_than,
            &part.below,
            &part.rows,
            bounds.from_id,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Jobs whose time has come. Those that are queued or running are no more than the window and the fleet's slots.
    async fn due(&self, part: &Part, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        Ok(live_jobs!(
            "due",
            "unnest($1::text[], $4::bigint[], $5::bigint[]) AS wanted (one, below, rows) CROSS JOIN LATERAL (
                SELECT * FROM jobs
                WHERE (kind COLLATE \"C\", id) < (wanted.one, wanted.below) AND (kind COLLATE \"C\", id) >= (wanted.one, $6)
                    AND ready_at > '-infinity' AND state = ANY($7) AND created_at <= $2 AND created_at >= $3
                ORDER BY kind COLLATE \"C\" DESC, id DESC LIMIT wanted.rows) AS jobs",
            &part.kinds,
            bounds.older_than,
            bounds.newer_than,
            &part.below,
            &part.rows,
            bounds.from_id,
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
                WHERE (dispatches.kind = ANY($1) OR $1 = '{}') AND member.id < $4 AND member.id >= $6
                ORDER BY member.id DESC) AS sent
            CROSS JOIN LATERAL (
                SELECT * FROM jobs WHERE jobs.id = sent.member_id AND jobs.queued_at = sent.sent_with
                    AND jobs.state = 2 AND created_at <= $2 AND created_at >= $3
                    AND (kind = ANY($1) OR $1 = '{}') OFFSET 0) AS jobs
            ORDER BY sent.member_id DESC LIMIT $5",
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

    /// Jobs in servants' hands, by the leases that name them. Each lease's servant is looked up (`OFFSET 0`): many more
    /// servants have ended than are there.
    async fn running(&self, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        Ok(live_jobs!(
            "running",
            "(SELECT member.id AS member_id, leases.id AS held_under
                FROM leases CROSS JOIN LATERAL unnest(leases.job_ids) AS member (id)
                WHERE ($1::text[] = '{}' OR EXISTS (
                        SELECT FROM servants WHERE servants.id = leases.servant_id AND servants.kind = ANY($1) OFFSET 0))
                    AND member.id < $4 AND member.id >= $6
                ORDER BY member.id DESC) AS held
            CROSS JOIN LATERAL (
                SELECT * FROM jobs WHERE jobs.id = held.member_id AND jobs.lease_id = held.held_under
                    AND jobs.state = 3 AND created_at <= $2 AND created_at >= $3
                    AND (kind = ANY($1) OR $1 = '{}') OFFSET 0) AS jobs
            ORDER BY held.member_id DESC LIMIT $5",
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

    /// Finished jobs of a state.
    pub(super) async fn finished_in(&self, state: JobState, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        let is_of_all_kinds = bounds.kinds.is_empty();
        if is_of_all_kinds && state != JobState::Succeeded {
            return self.trouble_in(state, bounds).await;
        }
        if is_of_all_kinds {
            // Nearly all are: unless much failed just now, the newest are enough.
            let newest = self.succeeded_lately(bounds).await?;
            if i64::try_from(newest.len()).is_ok_and(|rows| rows >= bounds.limit) {
                return Ok(newest);
            }
        }
        self.merged(&[Source::Finished(state)], bounds).await
    }

    async fn finished_of_kinds(
        &self,
        state: JobState,
        part: &Part,
        bounds: &Bounds,
    ) -> Result<Vec<RawJob>, StoreError> {
        Ok(finished_jobs!(
            "finished_of_kinds",
            "unnest($1::text[], $4::bigint[], $5::bigint[]) AS wanted (one, below, rows) CROSS JOIN LATERAL (
                SELECT * FROM finished_jobs
                WHERE kind = ANY(ARRAY[wanted.one]) AND (state, id) < ($6, wanted.below) AND (state, id) >= ($6, $7)
                    AND created_at <= $2 AND created_at >= $3 AND finished_at >= $3 - interval '1 hour'
                ORDER BY kind DESC, state DESC, id DESC LIMIT wanted.rows) AS finished_jobs",
            &part.kinds,
            bounds.older_than,
            bounds.newer_than,
            &part.below,
            &part.rows,
            state.code(),
            bounds.from_id,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// `state <> 4` names the small index of jobs that did not succeed.
    async fn trouble_in(&self, state: JobState, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        Ok(finished_jobs!(
            "trouble_in",
            "finished_jobs WHERE state <> 4 AND (state, id) < ($1, $4) AND (state, id) >= ($1, $6)
                AND created_at <= $2 AND created_at >= $3 AND finished_at >= $3 - interval '1 hour'
            ORDER BY state DESC, id DESC LIMIT $5",
            state.code(),
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
            bounds.from_id,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Those that have succeeded of the newest: of twice as many as the page has.
    async fn succeeded_lately(&self, bounds: &Bounds) -> Result<Vec<RawJob>, StoreError> {
        Ok(finished_jobs!(
            "succeeded_lately",
            "(SELECT * FROM finished_jobs WHERE id < $3 AND id >= $5 ORDER BY id DESC LIMIT 2 * $4::bigint) AS finished_jobs
            WHERE state = 4 AND created_at <= $1 AND created_at >= $2 ORDER BY id DESC LIMIT $4",
            bounds.older_than,
            bounds.newer_than,
            bounds.before_id,
            bounds.limit,
            bounds.from_id,
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

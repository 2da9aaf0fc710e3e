//! What is queued or running of an account, of a group, or of a servant for one of these: by the dispatches and leases that
//! name it, since an account or a group may have many more jobs that wait. So many jobs in hand are looked at, whosever they
//! are, newest first; the next page goes on where the look ended. Where an account or a group has few unfinished jobs, all
//! of these are looked at instead, and the page is whole however much is in hand.

use super::{
    list::{Bounds, JobFilter},
    list_looked::{Seen, SeenJob},
};
use crate::{Store, StoreError};
use domain::JobState;

/// Jobs in hand that one page looks at: of each state, if both are wanted, half.
const IN_HAND_MAX: i64 = 150;
/// Unfinished jobs of an account or a group that are few.
const FEW: i64 = 50;

/// A look at the jobs that a table's lists name: which lists, what of them a job bears while it is in hand by them, and that it
/// does. Arguments are those of `$bounds` and `$filter`, as `$1` to `$8`, and what follows.
macro_rules! look {
    ($name:literal, $table:literal, $which:literal, $borne:literal, $bears:literal, $bounds:expr, $filter:expr, $rows:expr
        $(, $argument:expr)*) => {
        sqlx::query_as!(
            SeenJob,
            "-- " + $name + "
            SELECT named.id AS \"id!\", coalesce(job.fits, false) AS \"fits!\"
            FROM (SELECT member.id, " + $borne + " AS borne
                  FROM " + $table + " AS list CROSS JOIN LATERAL unnest(list.job_ids) AS member (id)
                  WHERE " + $which + " AND member.id < $4 AND member.id >= $5 ORDER BY member.id DESC) AS named
            CROSS JOIN LATERAL (
                SELECT (kind = ANY($1) OR $1 = '{}') AND created_at <= $2 AND created_at >= $3
                    AND (account_id = $6 OR $6 IS NULL) AND (group_id = $7 OR $7 IS NULL) AS fits
                FROM jobs WHERE jobs.id = named.id AND " + $bears + " OFFSET 0) AS job
            ORDER BY named.id DESC LIMIT $8",
            &$bounds.kinds,
            $bounds.older_than,
            $bounds.newer_than,
            $bounds.before_id,
            $bounds.from_id,
            $filter.account.map(|id| id.0),
            $filter.group.map(|id| id.0),
            $rows
            $(, $argument)*
        )
    };
}

impl Store {
    /// A look at what is in hand of what a filter wants.
    pub(super) async fn look_in_hand(&self, filter: &JobFilter, bounds: &Bounds) -> Result<Vec<Seen>, StoreError> {
        let wanted = [JobState::Queued, JobState::Running].map(|state| bounds.wants(state));
        if wanted == [false, false] {
            return Ok(Vec::new());
        }
        let all = match (filter.servant, filter.group, filter.account) {
            (None, Some(group), account) => Some(self.look_at_live_members(group, account, bounds, FEW).await?),
            (None, None, Some(account)) => Some(self.look_at_live(account, bounds, FEW).await?),
            _ => None,
        };
        if let Some(all) = all.filter(|all| !all.is_cut) {
            return Ok(vec![all]);
        }
        let rows = if wanted == [true, true] { IN_HAND_MAX / 2 } else { IN_HAND_MAX };
        let mut seen = Vec::new();
        if bounds.wants(JobState::Queued) && filter.servant.is_none() {
            seen.push(self.look_at_queued(filter, bounds, rows).await?);
        }
        if bounds.wants(JobState::Running) {
            seen.push(self.look_at_running(filter, bounds, rows).await?);
        }
        Ok(seen)
    }

    async fn look_at_queued(&self, filter: &JobFilter, bounds: &Bounds, rows: i64) -> Result<Seen, StoreError> {
        let jobs = look!(
            "look_at_queued",
            "dispatches",
            "(list.kind = ANY($1) OR $1 = '{}')",
            "list.queued_at",
            "jobs.queued_at = named.borne AND jobs.state = 2",
            bounds,
            filter,
            rows
        );
        Ok(Seen::of(jobs.fetch_all(&self.pool).await?, rows))
    }

    /// Each lease's servant is looked up (`OFFSET 0`): many more servants have ended than are there.
    async fn look_at_running(&self, filter: &JobFilter, bounds: &Bounds, rows: i64) -> Result<Seen, StoreError> {
        let jobs = look!(
            "look_at_running",
            "leases",
            "(list.servant_id = $9 OR $9 IS NULL) AND ($1::text[] = '{}' OR EXISTS (
                SELECT FROM servants WHERE servants.id = list.servant_id AND servants.kind = ANY($1) OFFSET 0))",
            "list.id",
            "jobs.lease_id = named.borne AND jobs.state = 3",
            bounds,
            filter,
            rows,
            filter.servant.map(|id| id.0)
        );
        Ok(Seen::of(jobs.fetch_all(&self.pool).await?, rows))
    }
}

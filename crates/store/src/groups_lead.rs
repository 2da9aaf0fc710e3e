//! What the leader does with groups: ends those whose last member has ended, carries out their cancellation, forgets old
//! ones. Each is one transaction that checks the lead, and repeating it changes nothing.

use crate::{
    Leadership, NewJob, Store, StoreError,
    groups_read::{counts_of, read_finishing, state_of},
    jobs::{cancel, insert_plain},
};
use chrono::{DateTime, Utc};
use domain::{AccountId, Finishing, GroupCounts, GroupId, GroupState, GroupVerdict, JobId, Kind};
use sqlx::PgConnection;
use uuid::Uuid;

/// A group that has just ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupEnd {
    /// The group.
    pub id: GroupId,
    /// How it ended.
    pub state: GroupState,
    /// Its members.
    pub counts: GroupCounts,
    /// Its finishing job, and which kind has to be woken.
    pub finishing_job: Option<(JobId, Kind)>,
}

/// What a look at the groups that may have ended brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndedGroups {
    /// Those that have ended.
    pub ended: Vec<GroupEnd>,
    /// Those that were met and are not understood, another version's or damaged, and in which column. They stay as they
    /// are.
    pub unclear: Vec<(GroupId, &'static str)>,
}

/// Members that were ended or asked to stop because their group is cancelled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MembersCancelled {
    /// How many.
    pub jobs: usize,
    /// As many as were looked for: there may be more.
    pub is_full: bool,
}

/// A group that may have ended, locked.
struct Ending {
    id: i64,
    account: AccountId,
    state: GroupState,
    finishing: Option<Finishing>,
    request_id: Uuid,
}

impl Store {
    /// Ends the groups whose last member has ended, `limit` at the most: its finishing job is inserted by the transaction
    /// that takes it out of the state in which that may happen, so it is inserted once, whatever crashes.
    ///
    /// A group's row is locked before its members are counted. Whoever adds or retries members holds that row, so none
    /// can come in between. A group that this program does not understand is left as it is, and keeps no other from ending.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing has changed, unless the answer to the commit was lost.
    pub async fn end_groups(&self, leadership: &Leadership, limit: i64) -> Result<EndedGroups, StoreError> {
        let now = self.clock.now();
        let mut tx = self.pool.begin().await?;
        let (endings, unclear) = first_endings(&mut tx, leadership, limit).await?;
        let mut all = EndedGroups { ended: Vec::new(), unclear };
        if endings.is_empty() {
            return Ok(all);
        }
        let ids: Vec<i64> = endings.iter().map(|ending| ending.id).collect();
        let counts = counts_of(&mut tx, &ids).await?;
        for ending in &endings {
            let counts = counts.get(&ending.id).copied().unwrap_or_default();
            let when = ending.finishing.as_ref().map(|finishing| finishing.when);
            let GroupVerdict::End { state, finishing_runs } = ending.state.verdict(when, &counts) else { continue };
            let finishing_job = match ending.finishing.as_ref().filter(|_| finishing_runs) {
                Some(finishing) => {
                    let job = finishing_job(ending, finishing);
                    let inserted = insert_plain(&mut tx, &[&job], now).await?;
                    inserted.first().map(|id| (*id, job.kind))
                }
                None => None,
            };
            let job = finishing_job.as_ref().map(|(id, _)| *id);
            if !end(&mut tx, ending, state, job, now).await? {
                // Not while its row is locked; were it so, the finishing job must not stay.
                return Ok(EndedGroups { ended: Vec::new(), ..all });
            }
            all.ended.push(GroupEnd { id: GroupId(ending.id), state, counts, finishing_job });
        }
        tx.commit().await?;
        Ok(all)
    }

    /// Ends pending members of cancelled groups and asks running ones to stop, `limit` at the most. Members whose rows
    /// somebody holds, and those that come back from a failed attempt, are found by the next call.
    ///
    /// # Errors
    /// [`StoreError`]; the same call may be made again.
    pub async fn cancel_members(&self, leadership: &Leadership, limit: i64) -> Result<MembersCancelled, StoreError> {
        let mut tx = self.pool.begin().await?;
        let members = lock_members_to_cancel(&mut tx, leadership, limit).await?;
        if members.is_empty() {
            return Ok(MembersCancelled::default());
        }
        let cancelled = cancel(&mut tx, &members, self.clock.now()).await?;
        tx.commit().await?;
        let is_full = i64::try_from(members.len()).is_ok_and(|members| members == limit);
        Ok(MembersCancelled { jobs: cancelled.len(), is_full })
    }

    /// Forgets groups that ended before `cutoff` and of which no member is left, `limit` at the most.
    ///
    /// # Errors
    /// [`StoreError`]; the same call may be made again.
    pub async fn drop_groups(
        &self,
        leadership: &Leadership,
        cutoff: DateTime<Utc>,
        limit: i64,
    ) -> Result<u64, StoreError> {
        let dropped = sqlx::query_scalar!(
            r#"-- drop_groups
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE),
            old AS (
                SELECT id FROM groups g
                WHERE state IN ('finished', 'failed', 'cancelled') AND state_since < $3 AND EXISTS (SELECT FROM led)
                  AND NOT EXISTS (SELECT FROM jobs WHERE jobs.group_id = g.id)
                  AND NOT EXISTS (SELECT FROM finished_jobs WHERE finished_jobs.group_id = g.id)
                  AND NOT EXISTS (SELECT FROM job_count_deltas WHERE job_count_deltas.group_id = g.id)
                ORDER BY id LIMIT $4 FOR UPDATE SKIP LOCKED
            ), dropped AS (
                DELETE FROM groups USING old WHERE groups.id = old.id
            ), uncounted AS (
                DELETE FROM group_counts USING old WHERE group_id = old.id
            ), unpruned AS (
                DELETE FROM pruned_members USING old WHERE group_id = old.id
            )
            SELECT count(*) AS "dropped!" FROM old"#,
            leadership.term.0,
            leadership.holder,
            cutoff,
            limit,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(dropped.unsigned_abs())
    }
}

fn finishing_job(ending: &Ending, finishing: &Finishing) -> NewJob {
    NewJob {
        account: ending.account,
        connection: finishing.connection,
        priority: finishing.priority,
        request_id: ending.request_id,
        ..NewJob::new(finishing.kind.clone(), finishing.payload.clone())
    }
}

/// The first groups that may have ended and are understood, `limit` at the most, and those that are not and were passed
/// over on the way, a page of them at a time.
async fn first_endings(
    conn: &mut PgConnection,
    leadership: &Leadership,
    limit: i64,
) -> Result<(Vec<Ending>, Vec<(GroupId, &'static str)>), StoreError> {
    let (mut after, mut unclear) = (0, Vec::new());
    loop {
        let found = lock_ending(conn, leadership, after, limit).await?;
        let is_full = i64::try_from(found.len()).is_ok_and(|found| found >= limit);
        let last = found.iter().map(|(id, _)| *id).max().unwrap_or(after);
        let mut understood = Vec::new();
        for (id, ending) in found {
            match ending {
                Ok(ending) => understood.push(ending),
                Err(column) => unclear.push((GroupId(id), column)),
            }
        }
        if !is_full || !understood.is_empty() {
            return Ok((understood, unclear));
        }
        after = last;
    }
}

/// Groups after `after` of which no member is unfinished by the folded counters, locked, each as far as it is understood;
/// none when another scheduler leads. Those whose rows somebody holds are found again. Their counters are locked too, so
/// that folding waits for this and this for nobody.
async fn lock_ending(
    conn: &mut PgConnection,
    leadership: &Leadership,
    after: i64,
    limit: i64,
) -> Result<Vec<(i64, Result<Ending, &'static str>)>, StoreError> {
    let rows = sqlx::query!(
        "-- lock_ending
        WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE),
        idle AS MATERIALIZED (
            SELECT group_id FROM group_counts WHERE is_awaited AND is_idle AND EXISTS (SELECT FROM led) AND group_id > $4
            ORDER BY group_id LIMIT $3 FOR UPDATE SKIP LOCKED
        )
        SELECT g.id, g.account_id, g.state, g.finishing, g.request_id
        FROM idle CROSS JOIN LATERAL (SELECT * FROM groups WHERE id = idle.group_id FOR UPDATE SKIP LOCKED) AS g",
        leadership.term.0,
        leadership.holder,
        limit,
        after,
    )
    .fetch_all(conn)
    .await?;
    let ending = |id, state: &str, finishing, account_id, request_id| {
        let finishing = match (state_of(state), read_finishing(finishing)) {
            (GroupState::NotUnderstood, _) => return Err("state"),
            // It does not run.
            (GroupState::Cancelling, _) => None,
            (_, finishing) => finishing.map_err(|_| "finishing")?,
        };
        Ok(Ending { id, account: AccountId(account_id), state: state_of(state), finishing, request_id })
    };
    let endings =
        rows.into_iter().map(|row| (row.id, ending(row.id, &row.state, row.finishing, row.account_id, row.request_id)));
    Ok(endings.collect())
}

/// False when it is no longer in the state in which it was found.
async fn end(
    conn: &mut PgConnection,
    ending: &Ending,
    state: GroupState,
    finishing_job: Option<JobId>,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let ended = sqlx::query_scalar!(
        r#"-- end_group
        WITH ended AS (
            UPDATE groups SET state = $3, state_since = $4, finishing_job_id = coalesce($5, finishing_job_id)
            WHERE id = $1 AND state = $2 RETURNING id
        ), no_longer_awaited AS (
            UPDATE group_counts SET is_awaited = false FROM ended WHERE group_id = ended.id
        )
        SELECT count(*) AS "ended!" FROM ended"#,
        ending.id,
        ending.state.as_str(),
        state.as_str(),
        now,
        finishing_job.map(|id| id.0),
    )
    .fetch_one(conn)
    .await?;
    Ok(ended > 0)
}

/// Unfinished members of cancelled groups that have not been asked to stop.
async fn lock_members_to_cancel(
    conn: &mut PgConnection,
    leadership: &Leadership,
    limit: i64,
) -> Result<Vec<JobId>, StoreError> {
    let ids = sqlx::query_scalar!(
        r#"-- lock_members_to_cancel
        WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE)
        SELECT member.id AS "id!" FROM groups g CROSS JOIN LATERAL (
            SELECT id FROM jobs
            WHERE (group_id, id) >= (g.id, 0) AND (group_id, id) < (g.id + 1, 0) AND group_id IS NOT NULL
              AND NOT (state = 3 AND cancel_requested)
            ORDER BY group_id, id LIMIT $3 FOR UPDATE SKIP LOCKED
        ) AS member
        WHERE g.state = 'cancelling' AND EXISTS (SELECT FROM led)
        LIMIT $3"#,
        leadership.term.0,
        leadership.holder,
        limit,
    )
    .fetch_all(conn)
    .await?;
    Ok(ids.into_iter().map(JobId).collect())
}

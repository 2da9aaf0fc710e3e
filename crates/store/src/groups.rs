//! Groups of jobs: making, sealing and cancelling them. Owns who may join and that this is exact: whoever adds members
//! holds the group's row against its end until the commit. What the leader does with groups is in `groups_lead`; reading
//! them in `groups_read`; how members are counted, in `counters`.

use crate::{
    Inserted, NewJob, Store, StoreError, Tx,
    audit::{Subject, new_jobs, note, note_each, snapshot},
    groups_read::state_of,
    jobs::new_of,
};
use chrono::{DateTime, Utc};
use domain::{AccountId, Capability, Finishing, Granted, GroupId, GroupState, action};
use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// A group to be.
#[derive(Debug, Clone, PartialEq)]
pub struct NewGroup {
    /// What people call it.
    pub name: String,
    /// Whose it is.
    pub account: AccountId,
    /// What runs once it has ended.
    pub finishing: Option<Finishing>,
    /// Which request asked for it.
    pub request_id: Uuid,
}

/// What became of an order to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupChange {
    /// It is as ordered.
    Done,
    /// It stands where the order means nothing.
    Stands(GroupState),
    /// There is none.
    Missing,
}

impl Store {
    /// Makes a group with its first members in one transaction, and seals it if those are all.
    ///
    /// # Errors
    /// [`StoreError`]; then there is neither the group nor a member.
    pub async fn create_group(
        &self,
        granted: &Granted<action::CreateGroup>,
        group: &NewGroup,
        members: &[NewJob],
        is_sealed: bool,
    ) -> Result<(GroupId, Vec<Inserted>), StoreError> {
        let now = self.clock.now();
        let mut tx = self.begin().await?;
        let id = insert_group(&mut tx.inner, group, granted.by(), now).await?;
        let inserted = self.join(&mut tx, id, members).await?;
        if is_sealed {
            seal(&mut tx.inner, id, now).await?;
        }
        let of = Subject::Group(id);
        let after = snapshot(&mut tx.inner, &of).await?;
        note(&mut tx.inner, granted, &of, (None, after), now).await?;
        note_members(&mut tx, granted, &inserted, now).await?;
        tx.commit().await?;
        self.wake_for(members).await;
        if is_sealed {
            self.call_for_groups().await;
        }
        Ok((id, inserted))
    }

    /// Adds members to an open group.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::NotAdmitted`] when it takes none.
    pub async fn add_members(
        &self,
        granted: &Granted<action::AddToGroup>,
        group: GroupId,
        members: &[NewJob],
    ) -> Result<Vec<Inserted>, StoreError> {
        let mut tx = self.begin().await?;
        let inserted = self.join(&mut tx, group, members).await?;
        note_members(&mut tx, granted, &inserted, self.clock.now()).await?;
        tx.commit().await?;
        self.wake_for(members).await;
        Ok(inserted)
    }

    /// Makes a sealed group within the transaction that gives it its first member, a job's; `by` is the job's kind.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn found_group_in(&self, tx: &mut Tx, group: &NewGroup, by: &str) -> Result<GroupId, StoreError> {
        let now = self.clock.now();
        let id = insert_group(&mut tx.inner, group, by, now).await?;
        seal(&mut tx.inner, id, now).await?;
        Ok(id)
    }

    async fn join(&self, tx: &mut Tx, group: GroupId, members: &[NewJob]) -> Result<Vec<Inserted>, StoreError> {
        let members: Vec<NewJob> = members.iter().map(|job| NewJob { group: Some(group), ..job.clone() }).collect();
        self.insert_jobs_in(tx, &members).await
    }

    /// Says that all members of an open group are known.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn seal_group(
        &self,
        granted: &Granted<action::SealGroup>,
        id: GroupId,
    ) -> Result<GroupChange, StoreError> {
        let (of, now) = (Subject::Group(id), self.clock.now());
        let mut tx = self.pool.begin().await?;
        let before = snapshot(&mut tx, &of).await?;
        let is_done = seal(&mut tx, id, now).await?;
        if is_done {
            let after = snapshot(&mut tx, &of).await?;
            note(&mut tx, granted, &of, (before, after), now).await?;
        }
        tx.commit().await?;
        self.changed(id, is_done).await
    }

    /// Orders that a group's members be ended. The leader does it, batch by batch; from here on nobody joins.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn cancel_group(
        &self,
        granted: &Granted<action::CancelGroup>,
        id: GroupId,
    ) -> Result<GroupChange, StoreError> {
        let (of, now) = (Subject::Group(id), self.clock.now());
        let mut tx = self.pool.begin().await?;
        let before = snapshot(&mut tx, &of).await?;
        let cancelled = sqlx::query_scalar!(
            r#"-- cancel_group
            WITH cancelled AS (
                UPDATE groups SET state = 'cancelling', state_since = $2, cancelled_by = $3, cancel_reason = $4
                WHERE id = $1 AND state IN ('open', 'sealed')
                RETURNING id
            ), awaited AS (
                UPDATE group_counts SET is_awaited = true FROM cancelled WHERE group_id = cancelled.id
            )
            SELECT count(*) AS "cancelled!" FROM cancelled"#,
            id.0,
            now,
            granted.by(),
            granted.reason(),
        )
        .fetch_one(&mut *tx)
        .await?;
        if cancelled > 0 {
            let after = snapshot(&mut tx, &of).await?;
            note(&mut tx, granted, &of, (before, after), now).await?;
        }
        tx.commit().await?;
        self.changed(id, cancelled > 0).await
    }

    async fn changed(&self, id: GroupId, is_done: bool) -> Result<GroupChange, StoreError> {
        if is_done {
            self.call_for_groups().await;
            return Ok(GroupChange::Done);
        }
        let state = sqlx::query_scalar!("-- state_of_group\nSELECT state FROM groups WHERE id = $1", id.0)
            .fetch_optional(&self.pool)
            .await?;
        match state {
            Some(state) => Ok(GroupChange::Stands(state_of(&state))),
            None => Ok(GroupChange::Missing),
        }
    }
}

async fn note_members<A: Capability>(
    tx: &mut Tx,
    granted: &Granted<A>,
    inserted: &[Inserted],
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let deeds = new_jobs(&mut tx.inner, &new_of(inserted)).await?;
    note_each(&mut tx.inner, granted, "job", deeds, now).await
}

async fn insert_group(
    conn: &mut PgConnection,
    group: &NewGroup,
    by: &str,
    now: DateTime<Utc>,
) -> Result<GroupId, StoreError> {
    let finishing = group.finishing.as_ref().and_then(|finishing| serde_json::to_value(finishing).ok());
    let id = sqlx::query_scalar!(
        r#"-- insert_group
        WITH made AS (
            INSERT INTO groups (name, account_id, state_since, created_by, created_at, request_id, finishing)
            VALUES ($1, $2, $3, $4, $3, $5, $6) RETURNING id
        )
        INSERT INTO group_counts (group_id) SELECT id FROM made RETURNING group_id"#,
        group.name,
        group.account.0,
        now,
        by,
        group.request_id,
        finishing,
    )
    .fetch_one(conn)
    .await?;
    Ok(GroupId(id))
}

/// Waits for whoever is adding members: what they add is there before the group can end.
async fn seal(conn: &mut PgConnection, id: GroupId, now: DateTime<Utc>) -> Result<bool, StoreError> {
    let sealed = sqlx::query_scalar!(
        r#"-- seal_group
        WITH sealed AS (
            UPDATE groups SET state = 'sealed', state_since = $2 WHERE id = $1 AND state = 'open' RETURNING id
        ), awaited AS (
            UPDATE group_counts SET is_awaited = true FROM sealed WHERE group_id = sealed.id
        )
        SELECT count(*) AS "sealed!" FROM sealed"#,
        id.0,
        now,
    )
    .fetch_one(conn)
    .await?;
    Ok(sealed > 0)
}

/// Refuses jobs whose group does not admit them, and holds the groups of the others against being sealed, cancelled or
/// ended until the transaction is over.
pub(crate) async fn admit(
    conn: &mut PgConnection,
    jobs: &[NewJob],
    member_of: Option<GroupId>,
) -> Result<(), StoreError> {
    let wanted: BTreeSet<i64> = jobs.iter().filter_map(|job| job.group).map(|group| group.0).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = wanted.into_iter().collect();
    let rows = sqlx::query!(
        "-- hold_groups
        SELECT id, state FROM groups WHERE id = ANY($1) ORDER BY id FOR SHARE",
        &ids,
    )
    .fetch_all(conn)
    .await?;
    let found: BTreeMap<i64, &str> = rows.iter().map(|row| (row.id, row.state.as_str())).collect();
    for id in ids {
        let refuse = |why: String| Err(StoreError::NotAdmitted { group: GroupId(id), why });
        let Some(state) = found.get(&id) else { return refuse("there is no such group".to_owned()) };
        let state = state_of(state);
        if !state.admits(member_of == Some(GroupId(id))) {
            return refuse(format!("it is {state}"));
        }
    }
    Ok(())
}

/// Holds the groups of finished jobs against being ended; answers with those of them whose members are not retried.
pub(crate) async fn lock_groups_of(conn: &mut PgConnection, jobs: &[i64]) -> Result<Vec<i64>, StoreError> {
    let rows = sqlx::query!(
        "-- lock_groups_of
        SELECT id, state FROM groups
        WHERE id IN (SELECT group_id FROM finished_jobs WHERE finished_jobs.id = ANY($1) AND group_id IS NOT NULL)
        ORDER BY id FOR UPDATE",
        jobs,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().filter(|row| !state_of(&row.state).allows_retries()).map(|row| row.id).collect())
}

/// Groups that failed wait again, for the members that were started anew.
pub(crate) async fn await_again(conn: &mut PgConnection, groups: &[i64], now: DateTime<Utc>) -> Result<(), StoreError> {
    let (from, to) = (GroupState::Failed, GroupState::Failed.after_retry());
    sqlx::query!(
        "-- await_again
        WITH again AS (
            UPDATE groups SET state = $3, state_since = $2 WHERE id = ANY($1) AND state = $4 RETURNING id
        )
        UPDATE group_counts SET is_awaited = true FROM again WHERE group_id = again.id",
        groups,
        now,
        to.as_str(),
        from.as_str(),
    )
    .execute(conn)
    .await?;
    Ok(())
}

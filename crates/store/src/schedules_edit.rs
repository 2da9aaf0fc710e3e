//! Schedules' rows as operators and the catalogue write them: made, declared, edited, paused, resumed, deleted.
//! Makes no jobs; that is `schedules`.

use crate::{
    ScheduleRow, Store, StoreError,
    audit::{Subject, note, snapshot},
    schedules::lock_schedule,
    schedules_read::find_schedule,
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{AccountId, CatchUp, ConnectionId, Granted, Kind, Overlap, Plan, Policy, Schedule, ScheduleId, action};
use serde_json::Value;
use sqlx::PgConnection;

/// A schedule to be.
#[derive(Debug, Clone)]
pub struct NewSchedule {
    /// Unique; declaring it again changes nothing.
    pub name: String,
    /// The kind of its jobs.
    pub kind: Kind,
    /// Whose jobs.
    pub account: AccountId,
    /// The connection they work on.
    pub connection: Option<ConnectionId>,
    /// Their payload.
    pub payload: Value,
    /// Their priority.
    pub priority: i16,
    /// Their attempts.
    pub attempts_max: u16,
    /// When.
    pub rule: Schedule,
    /// How.
    pub policy: Policy,
    /// The first fire; none: never.
    pub first_due_at: Option<DateTime<Utc>>,
    /// Whether it comes from the catalogue.
    pub declared: bool,
}

/// What became of a schedule that an operator makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It is in the ledger.
    New(ScheduleId),
    /// Another has this name.
    NameTaken,
    /// There is no such account.
    NoAccount,
    /// The account has no such connection.
    NoConnection,
}

/// What an operator changes of a schedule; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScheduleEdit {
    /// The rule; the next fire is as if the schedule were new.
    pub rule: Option<Schedule>,
    /// While its last job is unfinished.
    pub overlap: Option<Overlap>,
    /// The spread.
    pub jitter_secs: Option<u32>,
    /// The start, or none.
    pub starts_at: Option<Option<DateTime<Utc>>>,
    /// The end, or none.
    pub ends_at: Option<Option<DateTime<Utc>>>,
    /// The catch-up window.
    pub catch_up_secs: Option<u32>,
    /// Missed fires made good.
    pub catch_up_max: Option<u16>,
    /// The jobs' payload.
    pub payload: Option<Value>,
    /// The jobs' priority.
    pub priority: Option<i16>,
}

impl ScheduleEdit {
    /// The policy that this makes of another.
    #[must_use]
    pub fn policy_over(&self, before: Policy) -> Policy {
        Policy {
            overlap: self.overlap.unwrap_or(before.overlap),
            jitter_secs: self.jitter_secs.unwrap_or(before.jitter_secs),
            starts_at: self.starts_at.unwrap_or(before.starts_at),
            ends_at: self.ends_at.unwrap_or(before.ends_at),
            catch_up: CatchUp {
                secs: self.catch_up_secs.unwrap_or(before.catch_up.secs),
                fires_max: self.catch_up_max.unwrap_or(before.catch_up.fires_max),
            },
        }
    }
}

/// What became of an edit.
#[derive(Debug, Clone, PartialEq)]
pub enum Edited {
    /// There is no such schedule.
    Missing,
    /// What makes no sense, and why.
    Refused(String),
    /// As it is now.
    Done(Box<ScheduleRow>),
}

/// What became of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// There is no such schedule.
    Missing,
    /// It comes from the catalogue and would come back.
    Declared,
    /// It is gone; its jobs stay.
    Done,
}

impl Store {
    /// Adds schedules unless ones of their names exist (additive: deployments never delete each other's, and an
    /// operator's edits stay). Answers with the number of new ones.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn declare_schedules(&self, schedules: &[NewSchedule]) -> Result<u64, StoreError> {
        let mut conn = self.pool.acquire().await?;
        Ok(u64::try_from(insert_schedules(&mut conn, schedules).await?.len()).unwrap_or(u64::MAX))
    }

    /// Makes one schedule for an operator.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_schedule(
        &self,
        granted: &Granted<action::CreateSchedule>,
        schedule: &NewSchedule,
    ) -> Result<Created, StoreError> {
        let mut tx = self.pool.begin().await?;
        let owner = sqlx::query!(
            r#"-- owner_of_schedule
            SELECT EXISTS (SELECT FROM accounts WHERE id = $1) AS "account!",
                   ($2::bigint IS NULL OR EXISTS (SELECT FROM connections WHERE id = $2 AND account_id = $1))
                   AS "connection!""#,
            schedule.account.0,
            schedule.connection.map(|c| c.0),
        )
        .fetch_one(&mut *tx)
        .await?;
        if !owner.account {
            return Ok(Created::NoAccount);
        }
        if !owner.connection {
            return Ok(Created::NoConnection);
        }
        let created = insert_schedules(&mut tx, std::slice::from_ref(schedule)).await?;
        let Some(id) = created.first().map(|id| ScheduleId(*id)) else { return Ok(Created::NameTaken) };
        let of = Subject::Schedule(id);
        let after = snapshot(&mut tx, &of).await?;
        note(&mut tx, granted, &of, (None, after), self.clock.now()).await?;
        tx.commit().await?;
        Ok(Created::New(id))
    }

    /// Changes a schedule. Its next due time changes only with what decides it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn edit_schedule(
        &self,
        granted: &Granted<action::EditSchedule>,
        id: ScheduleId,
        edit: &ScheduleEdit,
    ) -> Result<Edited, StoreError> {
        let of = Subject::Schedule(id);
        let mut tx = self.pool.begin().await?;
        if !lock_schedule(&mut tx, id).await? {
            return Ok(Edited::Missing);
        }
        let Some(row) = find_schedule(&mut tx, id).await? else { return Ok(Edited::Missing) };
        let (policy, before) = (edit.policy_over(row.policy()?), row.plan());
        if let Err(problem) = policy.check() {
            return Ok(Edited::Refused(problem));
        }
        let plan_of = |rule: Schedule| policy.plan(rule, AccountId(row.account_id), &row.name);
        let now = self.clock.now();
        let (rule, next) = match &edit.rule {
            Some(rule) => (rule.clone(), plan_of(rule.clone()).first(now)),
            None => {
                let before = before?;
                let plan = plan_of(before.rule.clone());
                let next = next_after_edit(&before, &plan, row.next_due_at, row.last_due_at, now);
                (before.rule, next)
            }
        };
        let payload = edit.payload.as_ref().unwrap_or(&row.payload);
        let old = snapshot(&mut tx, &of).await?;
        write_schedule(&mut tx, id, &rule, &policy, next, payload, edit.priority.unwrap_or(row.priority)).await?;
        let row = find_schedule(&mut tx, id).await?;
        let new = snapshot(&mut tx, &of).await?;
        note(&mut tx, granted, &of, (old, new), now).await?;
        tx.commit().await?;
        Ok(row.map_or(Edited::Missing, |row| Edited::Done(Box::new(row))))
    }

    /// Keeps a schedule from firing. Pausing it again changes who and why.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pause_schedule(
        &self,
        granted: &Granted<action::PauseSchedule>,
        id: ScheduleId,
    ) -> Result<Option<ScheduleRow>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let row = pause(&mut tx, granted, id, self.clock.now()).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Lets a schedule fire again. What would have fired meanwhile is not made good; only a one-off keeps its due time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn resume_schedule(
        &self,
        granted: &Granted<action::ResumeSchedule>,
        id: ScheduleId,
    ) -> Result<Option<ScheduleRow>, StoreError> {
        let (of, now) = (Subject::Schedule(id), self.clock.now());
        let mut tx = self.pool.begin().await?;
        if !lock_schedule(&mut tx, id).await? {
            return Ok(None);
        }
        let Some(row) = find_schedule(&mut tx, id).await? else { return Ok(None) };
        let before = snapshot(&mut tx, &of).await?;
        let next = match (row.next_due_at, row.plan()) {
            (Some(due), Ok(plan)) if row.paused_by.is_some() && due <= now => match plan.rule {
                Schedule::Once(_) => Some(due),
                Schedule::EverySecs(_) | Schedule::Cron(_) => plan.next_after(due, now),
            },
            (due, _) => due,
        };
        sqlx::query!(
            "-- resume_schedule
            UPDATE schedules SET paused_by = NULL, paused_reason = NULL, paused_at = NULL, next_due_at = $2,
                                 held_until = NULL
            WHERE id = $1",
            id.0,
            next,
        )
        .execute(&mut *tx)
        .await?;
        if row.paused_by.is_some() {
            let after = snapshot(&mut tx, &of).await?;
            note(&mut tx, granted, &of, (before, after), now).await?;
        }
        let row = find_schedule(&mut tx, id).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Deletes a schedule; one that the catalogue declares only if `even_declared`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_schedule(
        &self,
        granted: &Granted<action::DeleteSchedule>,
        id: ScheduleId,
        even_declared: bool,
    ) -> Result<Deleted, StoreError> {
        let of = Subject::Schedule(id);
        let mut tx = self.pool.begin().await?;
        let before = snapshot(&mut tx, &of).await?;
        let deleted = sqlx::query_scalar!(
            r#"-- delete_schedule
            WITH found AS (SELECT id, declared FROM schedules WHERE id = $1),
            gone AS (DELETE FROM schedules USING found WHERE schedules.id = found.id AND ($2 OR NOT found.declared)
                     RETURNING schedules.id)
            SELECT EXISTS (SELECT FROM gone) AS "gone!" FROM found"#,
            id.0,
            even_declared,
        )
        .fetch_optional(&mut *tx)
        .await?;
        if deleted == Some(true) {
            note(&mut tx, granted, &of, (before, None), self.clock.now()).await?;
            tx.commit().await?;
        }
        Ok(match deleted {
            None => Deleted::Missing,
            Some(true) => Deleted::Done,
            Some(false) => Deleted::Declared,
        })
    }
}

/// The next due time of a schedule whose rule stays: what had not fired yet is not lost and what had does not fire again.
fn next_after_edit(
    before: &Plan,
    plan: &Plan,
    next: Option<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let is_same = before.jitter == plan.jitter && before.starts_at == plan.starts_at && before.ends_at == plan.ends_at;
    if is_same {
        return next;
    }
    match (&plan.rule, next.or(last)) {
        (Schedule::Once(_), _) => plan.first(now).filter(|_| next.is_some() || last.is_none()),
        (_, Some(anchor)) => {
            let anchor = anchor - before.jitter + plan.jitter;
            let from = next.map_or(now, |next| now.min(next - TimeDelta::microseconds(1)));
            plan.next_after(anchor, from)
        }
        (_, None) => plan.first(now),
    }
}

fn int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn small(number: u16) -> i16 {
    i16::try_from(number).unwrap_or(i16::MAX)
}

fn data(rule: &Schedule) -> Value {
    serde_json::to_value(rule).unwrap_or_default()
}

/// Writes everything that an edit can change.
async fn write_schedule(
    conn: &mut PgConnection,
    id: ScheduleId,
    rule: &Schedule,
    policy: &Policy,
    next: Option<DateTime<Utc>>,
    payload: &Value,
    priority: i16,
) -> Result<(), StoreError> {
    sqlx::query!(
        "-- write_schedule
        UPDATE schedules
        SET rule = $2, overlap = $3, jitter_secs = $4, starts_at = $5, ends_at = $6, catch_up_secs = $7,
            catch_up_max = $8, next_due_at = $9, held_until = NULL, payload = $10, priority = $11
        WHERE id = $1",
        id.0,
        data(rule),
        policy.overlap.as_str(),
        int(policy.jitter_secs),
        policy.starts_at,
        policy.ends_at,
        int(policy.catch_up.secs),
        small(policy.catch_up.fires_max),
        next,
        payload,
        priority,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Keeps a schedule from firing, and notes who does it.
pub(crate) async fn pause(
    conn: &mut PgConnection,
    granted: &Granted<action::PauseSchedule>,
    id: ScheduleId,
    now: DateTime<Utc>,
) -> Result<Option<ScheduleRow>, StoreError> {
    let of = Subject::Schedule(id);
    let before = snapshot(conn, &of).await?;
    sqlx::query!(
        "-- pause_schedule
        UPDATE schedules SET paused_by = $2, paused_reason = $3, paused_at = $4 WHERE id = $1",
        id.0,
        granted.by(),
        granted.reason(),
        now,
    )
    .execute(&mut *conn)
    .await?;
    let row = find_schedule(conn, id).await?;
    if row.is_some() {
        let after = snapshot(conn, &of).await?;
        note(conn, granted, &of, (before, after), now).await?;
    }
    Ok(row)
}

/// Inserts schedules whose names are free. Answers with their ids.
pub(crate) async fn insert_schedules(
    conn: &mut PgConnection,
    schedules: &[NewSchedule],
) -> Result<Vec<i64>, StoreError> {
    fn column<T>(schedules: &[NewSchedule], of: impl Fn(&NewSchedule) -> T) -> Vec<T> {
        schedules.iter().map(of).collect()
    }
    let ids = sqlx::query_scalar!(
        "-- insert_schedules
        INSERT INTO schedules (name, kind, account_id, connection_id, payload, priority, attempts_max, rule, overlap,
                               jitter_secs, starts_at, ends_at, catch_up_secs, catch_up_max, next_due_at, declared)
        SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::jsonb[], $6::smallint[],
                             $7::smallint[], $8::jsonb[], $9::text[], $10::integer[], $11::timestamptz[],
                             $12::timestamptz[], $13::integer[], $14::smallint[], $15::timestamptz[], $16::boolean[])
        ON CONFLICT (name) DO NOTHING
        RETURNING id",
        &column(schedules, |s| s.name.clone()),
        &column(schedules, |s| s.kind.as_str().to_owned()),
        &column(schedules, |s| s.account.0),
        &column(schedules, |s| s.connection.map(|c| c.0)) as &[Option<i64>],
        &column(schedules, |s| s.payload.clone()),
        &column(schedules, |s| s.priority),
        &column(schedules, |s| small(s.attempts_max)),
        &column(schedules, |s| data(&s.rule)),
        &column(schedules, |s| s.policy.overlap.as_str().to_owned()),
        &column(schedules, |s| int(s.policy.jitter_secs)),
        &column(schedules, |s| s.policy.starts_at) as &[Option<DateTime<Utc>>],
        &column(schedules, |s| s.policy.ends_at) as &[Option<DateTime<Utc>>],
        &column(schedules, |s| int(s.policy.catch_up.secs)),
        &column(schedules, |s| small(s.policy.catch_up.fires_max)),
        &column(schedules, |s| s.first_due_at) as &[Option<DateTime<Utc>>],
        &column(schedules, |s| s.declared),
    )
    .fetch_all(conn)
    .await?;
    Ok(ids)
}

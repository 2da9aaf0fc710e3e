//! Reading schedules: for people, and for the tick. Editing is in `schedules_edit`, firing in `schedules`.

use crate::{PAGE_ROWS_MAX, Store, StoreError};
use chrono::{DateTime, Utc};
use domain::{AccountId, CatchUp, Plan, Policy, Schedule, ScheduleId};
use serde::Deserialize as _;
use serde_json::Value;

/// A schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleRow {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// The kind of its jobs.
    pub kind: String,
    /// Whose jobs they are.
    pub account_id: i64,
    /// The connection they work on.
    pub connection_id: Option<i64>,
    /// What they are to do.
    pub payload: Value,
    /// Their priority.
    pub priority: i16,
    /// Their attempts.
    pub attempts_max: i16,
    /// The rule as data.
    pub rule: Value,
    /// While its last job is unfinished.
    pub overlap: String,
    /// How far the fires of many accounts are spread, in seconds.
    pub jitter_secs: i32,
    /// No fire before this.
    pub starts_at: Option<DateTime<Utc>>,
    /// No fire from this on.
    pub ends_at: Option<DateTime<Utc>>,
    /// How old a missed fire may be that is made good, in seconds.
    pub catch_up_secs: i32,
    /// How many are.
    pub catch_up_max: i16,
    /// When it fires next; none: never again.
    pub next_due_at: Option<DateTime<Utc>>,
    /// When it fired last.
    pub last_due_at: Option<DateTime<Utc>>,
    /// The fire that waits for its unfinished job.
    pub buffered_due_at: Option<DateTime<Utc>>,
    /// Fires that were missed and not made good.
    pub dropped_fires: i64,
    /// Entered from the catalogue.
    pub declared: bool,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Why.
    pub paused_reason: Option<String>,
    /// Since when.
    pub paused_at: Option<DateTime<Utc>>,
}

impl ScheduleRow {
    /// How it behaves.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the row holds what no row may hold.
    pub fn policy(&self) -> Result<Policy, StoreError> {
        policy(&self.overlap, self.jitter_secs, self.starts_at, self.ends_at, self.catch_up_secs, self.catch_up_max)
            .ok_or_else(|| self.corrupt("policy"))
    }

    /// When it fires.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the row holds what no row may hold, or what only a newer program understands.
    pub fn plan(&self) -> Result<Plan, StoreError> {
        let rule: Schedule = serde_json::from_value(self.rule.clone()).map_err(|_| self.corrupt("rule"))?;
        Ok(self.policy()?.plan(rule, AccountId(self.account_id), &self.name))
    }

    fn corrupt(&self, column: &'static str) -> StoreError {
        StoreError::Corrupt { table: "schedules", column, row: self.id.to_string() }
    }
}

fn policy(
    overlap: &str,
    jitter_secs: i32,
    starts_at: Option<DateTime<Utc>>,
    ends_at: Option<DateTime<Utc>>,
    catch_up_secs: i32,
    catch_up_max: i16,
) -> Option<Policy> {
    let catch_up = CatchUp { secs: catch_up_secs.try_into().ok()?, fires_max: catch_up_max.try_into().ok()? };
    Some(Policy {
        overlap: overlap.parse().ok()?,
        jitter_secs: jitter_secs.try_into().ok()?,
        starts_at,
        ends_at,
        catch_up,
    })
}

/// A schedule that has come due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueSchedule {
    /// The schedule.
    pub id: ScheduleId,
    /// Its name.
    pub name: String,
    /// The due time that is persisted.
    pub due_at: DateTime<Utc>,
    /// Its connection is not active: it waits.
    pub is_held: bool,
    account: AccountId,
    rule: Value,
    policy: Option<Policy>,
}

impl DueSchedule {
    /// When it fires. Cron is read here, which takes a moment: thousands are not read while somebody waits for the rows.
    ///
    /// # Errors
    /// What is wrong with its row.
    pub fn plan(&self) -> Result<Plan, String> {
        let policy = self.policy.ok_or("its policy makes no sense")?;
        let rule = Schedule::deserialize(&self.rule).map_err(|error| format!("its rule: {error}"))?;
        Ok(policy.plan(rule, self.account, &self.name))
    }
}

impl Store {
    /// Schedules, newest first; `after` is the last id of the page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_schedules(&self, after: Option<ScheduleId>, limit: i64) -> Result<Vec<ScheduleRow>, StoreError> {
        Ok(sqlx::query_as!(
            ScheduleRow,
            "-- list_schedules
            SELECT id, name, kind, account_id, connection_id, payload, priority, attempts_max, rule, overlap,
                   jitter_secs, starts_at, ends_at, catch_up_secs, catch_up_max, next_due_at, last_due_at,
                   buffered_due_at, dropped_fires, declared, paused_by, paused_reason, paused_at
            FROM schedules WHERE id < $1 ORDER BY id DESC LIMIT $2",
            after.map_or(i64::MAX, |id| id.0),
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Schedules that somebody paused, the latest first; `after` is the last of the page before, and since when it is paused.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn paused_schedules(
        &self,
        after: Option<(DateTime<Utc>, ScheduleId)>,
        limit: i64,
    ) -> Result<Vec<ScheduleRow>, StoreError> {
        let (paused_at, id) = after.unzip();
        Ok(sqlx::query_as!(
            ScheduleRow,
            "-- paused_schedules
            SELECT id, name, kind, account_id, connection_id, payload, priority, attempts_max, rule, overlap,
                   jitter_secs, starts_at, ends_at, catch_up_secs, catch_up_max, next_due_at, last_due_at,
                   buffered_due_at, dropped_fires, declared, paused_by, paused_reason, paused_at
            FROM schedules
            WHERE paused_at IS NOT NULL AND (paused_at, id) < (coalesce($1::timestamptz, 'infinity'), coalesce($2::bigint, 0))
            ORDER BY paused_at DESC, id DESC LIMIT $3",
            paused_at,
            id.map(|id| id.0),
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// One schedule.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_schedule(&self, id: ScheduleId) -> Result<Option<ScheduleRow>, StoreError> {
        let mut conn = self.pool.acquire().await?;
        find_schedule(&mut conn, id).await
    }

    /// Schedules whose next fire is due, the longest overdue first; those of a connection that is not active only as
    /// often as [`Self::hold_schedules`] lets them be looked at.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn due_schedules(&self, limit: i64) -> Result<Vec<DueSchedule>, StoreError> {
        let rows = sqlx::query!(
            r#"-- due_schedules
            SELECT s.id, s.name, s.account_id, s.next_due_at AS "due_at!", s.rule, s.overlap, s.jitter_secs,
                   s.starts_at, s.ends_at, s.catch_up_secs, s.catch_up_max,
                   coalesce(c.state <> 'active', false) AS "is_held!"
            FROM schedules s LEFT JOIN connections c ON c.id = s.connection_id
            WHERE greatest(s.next_due_at, s.held_until) <= $1 AND s.next_due_at IS NOT NULL AND s.paused_by IS NULL
            ORDER BY greatest(s.next_due_at, s.held_until) LIMIT $2"#,
            self.clock.now(),
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|r| {
                let policy = policy(&r.overlap, r.jitter_secs, r.starts_at, r.ends_at, r.catch_up_secs, r.catch_up_max);
                DueSchedule {
                    id: ScheduleId(r.id),
                    name: r.name,
                    due_at: r.due_at,
                    is_held: r.is_held,
                    account: AccountId(r.account_id),
                    rule: r.rule,
                    policy,
                }
            })
            .collect())
    }

    /// When the next schedule is due, if not after `until`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn next_due(&self, until: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, StoreError> {
        Ok(sqlx::query_scalar!(
            r#"-- next_due
            SELECT greatest(next_due_at, held_until) AS "at!" FROM schedules
            WHERE greatest(next_due_at, held_until) <= $1 AND next_due_at IS NOT NULL AND paused_by IS NULL
            ORDER BY greatest(next_due_at, held_until) LIMIT 1"#,
            until,
        )
        .fetch_optional(&self.pool)
        .await?)
    }
}

pub(crate) async fn find_schedule(
    conn: &mut sqlx::PgConnection,
    id: ScheduleId,
) -> Result<Option<ScheduleRow>, StoreError> {
    Ok(sqlx::query_as!(
        ScheduleRow,
        "-- find_schedule
        SELECT id, name, kind, account_id, connection_id, payload, priority, attempts_max, rule, overlap,
               jitter_secs, starts_at, ends_at, catch_up_secs, catch_up_max, next_due_at, last_due_at,
               buffered_due_at, dropped_fires, declared, paused_by, paused_reason, paused_at
        FROM schedules WHERE id = $1",
        id.0,
    )
    .fetch_optional(conn)
    .await?)
}

//! Schedules' writes: declaring, and firing by compare-and-swap. When a rule is due is `domain::Schedule`'s to say;
//! lists are in `schedules_read`.

use crate::{Leadership, Store, StoreError};
use chrono::{DateTime, Utc};
use domain::{AccountId, ConnectionId, Kind, Schedule, ScheduleId};

/// A schedule that has come due.
#[derive(Debug, Clone, PartialEq)]
pub struct DueSchedule {
    /// The schedule.
    pub id: ScheduleId,
    /// The due time to be made good.
    pub due_at: DateTime<Utc>,
    /// The rule.
    pub rule: Schedule,
}

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
    pub payload: serde_json::Value,
    /// Their attempts.
    pub attempts_max: u16,
    /// When.
    pub rule: Schedule,
    /// The first fire.
    pub first_due_at: DateTime<Utc>,
}

fn rule_of(id: i64, rule: serde_json::Value) -> Result<Schedule, StoreError> {
    serde_json::from_value(rule).map_err(|_| StoreError::Corrupt {
        table: "schedules",
        column: "rule",
        row: id.to_string(),
    })
}

/// A schedule, the due time that fires, and the next one.
pub type Fire = (ScheduleId, DateTime<Utc>, Option<DateTime<Utc>>);

impl Store {
    /// Adds a schedule unless one of that name exists (additive: deployments never delete each other's). Answers
    /// whether it is new.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn declare_schedule(&self, schedule: &NewSchedule) -> Result<bool, StoreError> {
        let rule = serde_json::to_value(schedule.rule).unwrap_or_default();
        let added = sqlx::query!(
            "-- declare_schedule
            INSERT INTO schedules (name, kind, account_id, connection_id, payload, attempts_max, rule, next_due_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (name) DO NOTHING",
            schedule.name,
            schedule.kind.as_str(),
            schedule.account.0,
            schedule.connection.map(|c| c.0),
            schedule.payload,
            i16::try_from(schedule.attempts_max).unwrap_or(i16::MAX),
            rule,
            schedule.first_due_at,
        )
        .execute(&self.pool)
        .await?;
        Ok(added.rows_affected() == 1)
    }

    /// Schedules whose next fire is due, the longest overdue first. Those of a connection that is not active wait.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn due_schedules(&self, limit: i64) -> Result<Vec<DueSchedule>, StoreError> {
        let rows = sqlx::query!(
            r#"-- due_schedules
            SELECT s.id, s.next_due_at AS "due_at!", s.rule FROM schedules s
            LEFT JOIN connections c ON c.id = s.connection_id
            WHERE s.next_due_at <= $1 AND s.paused_by IS NULL AND (c.id IS NULL OR c.state = 'active')
            ORDER BY s.next_due_at LIMIT $2"#,
            self.clock.now(),
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|r| Ok(DueSchedule { id: ScheduleId(r.id), due_at: r.due_at, rule: rule_of(r.id, r.rule)? }))
            .collect()
    }

    /// Fires schedules: each becomes a ready job and its next fire is stored, by one statement that compares the due
    /// time first, so that no crash and no second leader fires twice. A schedule whose last job is unfinished makes
    /// no second one. Answers with the kinds of the new jobs.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn fire_schedules(&self, leadership: &Leadership, fires: &[Fire]) -> Result<Vec<String>, StoreError> {
        let ids: Vec<i64> = fires.iter().map(|(id, _, _)| id.0).collect();
        let due: Vec<DateTime<Utc>> = fires.iter().map(|(_, due, _)| *due).collect();
        let next: Vec<Option<DateTime<Utc>>> = fires.iter().map(|(_, _, next)| *next).collect();
        let kinds = sqlx::query_scalar!(
            r#"-- fire_schedules
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE),
            fired AS (
                UPDATE schedules s SET next_due_at = t.next, last_due_at = t.due
                FROM unnest($4::bigint[], $5::timestamptz[], $6::timestamptz[]) AS t (id, due, next)
                WHERE s.id = t.id AND s.next_due_at = t.due AND s.paused_by IS NULL AND EXISTS (SELECT FROM led)
                RETURNING s.*, t.due AS fired_for
            ), inserted AS (
                INSERT INTO jobs (account_id, due_at, created_at, ready_at, state, priority, attempts_max, kind,
                                  request_id, payload, connection_id, schedule_id, unique_key)
                SELECT account_id, fired_for, $3, $3, 1, priority, attempts_max, kind,
                       gen_random_uuid(), payload, connection_id, id, 'schedule:' || id
                FROM fired
                ON CONFLICT DO NOTHING
                RETURNING kind
            ), counted AS (
                INSERT INTO job_count_deltas (kind, state, delta)
                SELECT kind, 1, count(*) FROM inserted GROUP BY kind
            )
            SELECT DISTINCT kind AS "kind!" FROM inserted"#,
            leadership.term.0,
            leadership.holder,
            self.clock.now(),
            &ids,
            &due,
            &next as &[Option<DateTime<Utc>>],
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(kinds)
    }
}

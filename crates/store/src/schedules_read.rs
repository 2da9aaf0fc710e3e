//! Reading schedules for people. Declaring and firing them is in `schedules`.

use crate::{PAGE_ROWS_MAX, Store, StoreError};
use chrono::{DateTime, Utc};
use domain::ScheduleId;
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
    /// The rule as data.
    pub rule: Value,
    /// When it fires next; none: never again.
    pub next_due_at: Option<DateTime<Utc>>,
    /// When it fired last.
    pub last_due_at: Option<DateTime<Utc>>,
    /// Who paused it.
    pub paused_by: Option<String>,
    /// Why.
    pub paused_reason: Option<String>,
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
            SELECT id, name, kind, account_id, connection_id, rule, next_due_at, last_due_at, paused_by, paused_reason
            FROM schedules WHERE id < $1 ORDER BY id DESC LIMIT $2",
            after.map_or(i64::MAX, |id| id.0),
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

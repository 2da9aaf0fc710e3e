//! What deeds are done with, and what of it the audit keeps: names, states, figures; no secret, and of a payload only a
//! digest.

use super::Deed;
use crate::StoreError;
use domain::{AccountId, ConnectionId, GroupId, JobId, JobState, Kind, PauseTarget, ScheduleId, Scope, ServantId};
use serde_json::{Value, json};
use sqlx::PgConnection;
use std::collections::BTreeMap;

/// One thing that something is done with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subject<'a> {
    Pause(&'a PauseTarget),
    Limit(&'a Scope),
    Share(ConnectionId),
    Account(AccountId),
    Schedule(ScheduleId),
    Connection(ConnectionId),
    Breaker(&'a str),
    Anomaly(i64),
    Quarantine(i64),
    Group(GroupId),
    Operation(i64),
    Servant(ServantId),
    Queue(&'a Kind),
}

impl Subject<'_> {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Pause(_) => "pause",
            Self::Limit(_) => "limit",
            Self::Share(_) => "budget",
            Self::Account(_) => "account",
            Self::Schedule(_) => "schedule",
            Self::Connection(_) => "connection",
            Self::Breaker(_) => "breaker",
            Self::Anomaly(_) => "anomaly",
            Self::Quarantine(_) => "quarantine",
            Self::Group(_) => "group",
            Self::Operation(_) => "operation",
            Self::Servant(_) => "servant",
            Self::Queue(_) => "queue",
        }
    }

    pub(crate) fn key(&self) -> String {
        match self {
            Self::Pause(target) => target.to_string(),
            Self::Limit(scope) => format!("{} {}", scope.scope(), scope.key()).trim_end().to_owned(),
            Self::Share(id) | Self::Connection(id) => id.to_string(),
            Self::Account(id) => id.to_string(),
            Self::Schedule(id) => id.to_string(),
            Self::Breaker(service) => (*service).to_owned(),
            Self::Anomaly(id) | Self::Quarantine(id) | Self::Operation(id) => id.to_string(),
            Self::Group(id) => id.to_string(),
            Self::Servant(id) => id.to_string(),
            Self::Queue(kind) => kind.as_str().to_owned(),
        }
    }
}

/// As it is now, in the transaction of the deed; none: there is no such thing.
pub(crate) async fn snapshot(conn: &mut PgConnection, subject: &Subject<'_>) -> Result<Option<Value>, StoreError> {
    let found = match subject {
        Subject::Pause(target) => {
            sqlx::query_scalar!(
                "-- snapshot_pause
                SELECT jsonb_build_object('paused_by', paused_by, 'reason', reason, 'paused_at', paused_at)
                FROM pauses WHERE scope = $1 AND key = $2",
                target.scope(),
                target.key(),
            )
            .fetch_optional(conn)
            .await?
        }
        Subject::Limit(scope) => {
            sqlx::query_scalar!(
                "-- snapshot_limit
                SELECT jsonb_strip_nulls(jsonb_build_object('concurrency', concurrency, 'per_second', per_second,
                    'per_minute', per_minute, 'burst', burst, 'per_day', per_day, 'reserve_pct', reserve_pct))
                FROM limits WHERE scope = $1 AND key = $2 AND source = 'operator'",
                scope.scope(),
                scope.key(),
            )
            .fetch_optional(conn)
            .await?
        }
        Subject::Share(connection) => {
            sqlx::query_scalar!(
                "-- snapshot_share
                SELECT jsonb_build_object('share_pct', share_pct, 'health_pct', health_pct)
                FROM budget_settings WHERE connection_id = $1",
                connection.0,
            )
            .fetch_optional(conn)
            .await?
        }
        Subject::Account(id) => {
            sqlx::query_scalar!(
                "-- snapshot_account
                SELECT jsonb_build_object('weight', weight) FROM accounts WHERE id = $1 FOR UPDATE",
                id.0,
            )
            .fetch_optional(conn)
            .await?
        }
        Subject::Schedule(id) => {
            sqlx::query_scalar!(
                "-- snapshot_schedule
                SELECT jsonb_strip_nulls(to_jsonb(s) - ARRAY['id', 'payload', 'last_due_at', 'buffered_due_at',
                           'dropped_fires', 'held_until'])
                       || jsonb_build_object('payload_sha256', encode(sha256(convert_to(payload::text, 'UTF8')), 'hex'))
                FROM schedules AS s WHERE id = $1",
                id.0,
            )
            .fetch_optional(conn)
            .await?
        }
        Subject::Connection(id) => {
            sqlx::query_scalar!(
                "-- snapshot_connection
                SELECT jsonb_build_object('state', state, 'state_reason', state_reason)
                FROM connections WHERE id = $1 FOR UPDATE",
                id.0,
            )
            .fetch_optional(conn)
            .await?
        }
        Subject::Breaker(service) => {
            sqlx::query_scalar!(
                "-- snapshot_breaker
                SELECT jsonb_build_object('state', state, 'forced', forced, 'forced_by', forced_by)
                FROM breakers WHERE service = $1",
                *service,
            )
            .fetch_optional(conn)
            .await?
        }
        Subject::Anomaly(id) => {
            sqlx::query_scalar!(
                "-- snapshot_anomaly
                SELECT jsonb_build_object('state', state, 'state_by', state_by, 'assigned_to', assigned_to) FROM anomalies WHERE id = $1",
                *id,
            )
            .fetch_optional(conn)
            .await?
        }
        Subject::Quarantine(id) => {
            sqlx::query_scalar!(
                "-- snapshot_quarantine
                SELECT jsonb_build_object('state', state, 'state_by', state_by, 'retried_at', retried_at, 'object', object)
                FROM quarantined_records WHERE id = $1",
                *id,
            )
            .fetch_optional(conn)
            .await?
        }
        Subject::Group(id) => {
            sqlx::query_scalar!(
                "-- snapshot_group
                SELECT jsonb_build_object('state', state, 'name', name, 'account_id', account_id)
                FROM groups WHERE id = $1",
                id.0,
            )
            .fetch_optional(conn)
            .await?
        }
        Subject::Operation(id) => {
            sqlx::query_scalar!(
                "-- snapshot_operation
                SELECT jsonb_build_object('act', act, 'search', search, 'state', state, 'expected', expected,
                    'per_second', per_second) FROM operations WHERE id = $1 FOR UPDATE",
                *id,
            )
            .fetch_optional(conn)
            .await?
        }
        Subject::Servant(id) => {
            sqlx::query_scalar!(
                "-- snapshot_servant
                SELECT jsonb_build_object('ordered', ordered) FROM servants WHERE id = $1 FOR UPDATE",
                id.0,
            )
            .fetch_optional(conn)
            .await?
        }
        Subject::Queue(kind) => {
            sqlx::query_scalar!(
                "-- snapshot_queue
                SELECT jsonb_build_object('dead', dead, 'redrive_by', redrive_by) FROM queue_states WHERE kind = $1",
                kind.as_str(),
            )
            .fetch_optional(conn)
            .await?
        }
    };
    Ok(found.flatten())
}

/// The states of jobs, by id; those that are unfinished are locked until the transaction ends.
pub(crate) async fn job_states(conn: &mut PgConnection, jobs: &[JobId]) -> Result<BTreeMap<JobId, Value>, StoreError> {
    let ids: Vec<i64> = jobs.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"-- job_states
        WITH unfinished AS (
            SELECT id, state, cancel_requested FROM jobs WHERE id = ANY($1) ORDER BY id FOR UPDATE
        )
        SELECT id AS "id!", state AS "state!", cancel_requested AS "cancel_requested!" FROM unfinished
        UNION ALL SELECT id, state, false FROM finished_jobs WHERE id = ANY($1)"#,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    let state = |code: i16| JobState::from_code(code).map_or("?", JobState::as_str);
    Ok(rows
        .into_iter()
        .map(|row| (JobId(row.id), json!({ "state": state(row.state), "cancel_requested": row.cancel_requested })))
        .collect())
}

/// Jobs that were made in this transaction, as the audit keeps them.
pub(crate) async fn new_jobs(conn: &mut PgConnection, jobs: &[JobId]) -> Result<Vec<Deed>, StoreError> {
    let ids: Vec<i64> = jobs.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"-- new_jobs
        SELECT id, jsonb_strip_nulls(jsonb_build_object('kind', kind, 'account_id', account_id,
                   'connection_id', connection_id, 'group_id', group_id, 'priority', priority, 'due_at', due_at,
                   'payload_sha256', encode(sha256(convert_to(payload::text, 'UTF8')), 'hex'))) AS "after!"
        FROM jobs WHERE id = ANY($1) ORDER BY id"#,
        &ids,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| Deed { key: row.id.to_string(), before: None, after: Some(row.after) }).collect())
}

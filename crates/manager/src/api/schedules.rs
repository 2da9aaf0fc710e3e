//! Schedules over HTTP: list, show, make, change, pause, run, back-fill, preview, delete.

use super::jobs::summary_of;
use crate::{
    App,
    allowed::Allowed,
    error::ApiError,
    filter::{limit_of, next_of},
    gate::RequestId,
    sight,
};
use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use chrono::{DateTime, Utc};
use domain::{AccountId, ConnectionId, Kind, Plan, Policy, RetryPolicy, ScheduleId, Sensitive, action};
use manager_api::{
    BackfillReply, BackfillRequest, ByWhom, CreateSchedule, DeleteQuery, DeleteReply, ErrorEnvelope, PauseSchedule,
    PreviewQuery, PreviewedFire, RunReply, Schedule, ScheduleDetail, SchedulePage, SchedulePreview, ScheduleQuery,
    ScheduleSettings, UpdateSchedule,
};
use serde_json::Value;
use store::{Created, Deleted, Edited, NewSchedule, RanNow, ScheduleEdit, ScheduleRow, StoreError};

/// Jobs shown with a schedule.
const JOBS_MAX: i64 = 10;
/// Due times of one back-fill.
const BACKFILL_MAX: usize = 10_000;
/// Fires of a preview, unless said and at the most.
const PREVIEW: usize = 50;
const PREVIEW_MAX: usize = 500;
/// Characters of a name.
const NAME_CHARS_MAX: usize = 200;

/// Lists schedules, newest first.
#[utoipa::path(get, path = "/api/v1/schedules", tag = "schedules", params(ScheduleQuery),
    responses((status = 200, body = SchedulePage), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn list(
    _: Allowed<action::ReadSchedules>,
    State(app): State<App>,
    Query(query): Query<ScheduleQuery>,
) -> Result<Json<SchedulePage>, ApiError> {
    let limit = limit_of(query.limit)?;
    let (before, only_paused) = (query.before.map(ScheduleId), query.paused == Some(true));
    let rows = match sight::narrow(&app, query.account.map(AccountId))? {
        Some(account) => app.store.schedules_of(account, before, limit).await?,
        None if only_paused => app.store.paused_schedules(paused_before(&app, before).await?, limit).await?,
        None => app.store.list_schedules(before, limit).await?,
    };
    let next_before = next_of(&rows, limit, |row| row.id);
    let wanted = rows.into_iter().filter(|row| !only_paused || row.paused_at.is_some());
    Ok(Json(SchedulePage { schedules: wanted.map(schedule_of).collect(), next_before }))
}

/// Where a page of those that are paused begins: behind the last of the page before, if it is paused still.
async fn paused_before(app: &App, before: Option<ScheduleId>) -> Result<Option<(DateTime<Utc>, ScheduleId)>, ApiError> {
    let Some(id) = before else { return Ok(None) };
    let paused_at = app.store.find_schedule(id).await?.and_then(|row| row.paused_at);
    let paused_at = paused_at.ok_or_else(|| {
        ApiError::bad_request(format!("before: schedule {id} is not paused any more")).hint("begin with the first page")
    })?;
    Ok(Some((paused_at, id)))
}

/// Shows one schedule, and the jobs that it made last.
#[utoipa::path(get, path = "/api/v1/schedules/{id}", tag = "schedules", params(("id" = i64, Path, description = "The schedule")),
    responses((status = 200, body = ScheduleDetail), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn show(
    _: Allowed<action::ReadSchedules>,
    _: Allowed<action::ReadJobs>,
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Json<ScheduleDetail>, ApiError> {
    let schedule = schedule_of(find(&app, id).await?);
    let jobs = app.store.jobs_of_schedule(ScheduleId(id), JOBS_MAX).await?;
    let shown = jobs.iter().filter(|job| sight::shows(&app, job.account_id));
    Ok(Json(ScheduleDetail { schedule, jobs: shown.map(summary_of).collect() }))
}

/// Makes a schedule.
#[utoipa::path(post, path = "/api/v1/schedules", tag = "schedules", request_body = CreateSchedule,
    responses((status = 201, body = Schedule), (status = 400, body = ErrorEnvelope),
              (status = 404, body = ErrorEnvelope, description = "There is no such account or connection"),
              (status = 409, body = ErrorEnvelope, description = "The name is taken"),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn create(
    allowed: Allowed<action::CreateSchedule>,
    State(app): State<App>,
    Json(request): Json<CreateSchedule>,
) -> Result<(StatusCode, Json<Schedule>), ApiError> {
    words("name", &request.name, NAME_CHARS_MAX)?;
    let account = AccountId(request.account_id.unwrap_or(0));
    let rule = rule_of(request.rule)?;
    let edit = edit_of(None, request.settings)?;
    let policy = edit.policy_over(Policy::default());
    policy.check().map_err(ApiError::bad_request)?;
    let first_due_at = policy.plan(rule.clone(), account, &request.name).first(app.store.now());
    let kind = Kind::new(request.kind).map_err(|error| ApiError::bad_request(format!("kind: {error}")))?;
    let attempts_max = match request.attempts_max {
        Some(attempts) => Some(attempts),
        None => app.store.attempts_max_of(&kind).await?,
    };
    let schedule = NewSchedule {
        kind,
        account,
        connection: request.connection_id.map(ConnectionId),
        payload: edit.payload.unwrap_or_else(|| serde_json::json!({})),
        priority: edit.priority.unwrap_or(2),
        attempts_max: attempts_max.unwrap_or(RetryPolicy::default().attempts_max).max(1),
        rule,
        policy,
        first_due_at,
        declared: false,
        name: request.name,
    };
    let id = match app.store.create_schedule(allowed.granted(), &schedule).await? {
        Created::New(id) => id,
        Created::NameTaken => {
            return Err(ApiError::conflict(format!("there is a schedule named '{}' already", schedule.name)));
        }
        Created::NoAccount => return Err(ApiError::not_found(format!("there is no account {account}"))),
        Created::NoConnection => {
            return Err(ApiError::not_found(format!("account {account} has no such connection")));
        }
    };
    tracing::info!(schedule_id = id.0, schedule = schedule.name, "schedule made by an operator");
    Ok((StatusCode::CREATED, Json(schedule_of(find(&app, id.0).await?))))
}

/// Changes a schedule; what is not said stays.
#[utoipa::path(patch, path = "/api/v1/schedules/{id}", tag = "schedules", request_body = UpdateSchedule,
    params(("id" = i64, Path, description = "The schedule")),
    responses((status = 200, body = Schedule), (status = 400, body = ErrorEnvelope), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn update(
    allowed: Allowed<action::EditSchedule>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<UpdateSchedule>,
) -> Result<Json<Schedule>, ApiError> {
    let edit = edit_of(request.rule, request.settings)?;
    match app.store.edit_schedule(allowed.granted(), ScheduleId(id), &edit).await? {
        Edited::Missing => Err(missing(id)),
        Edited::Refused(problem) => Err(ApiError::bad_request(problem)),
        Edited::Done(row) => {
            tracing::info!(schedule_id = id, schedule = row.name, "schedule changed by an operator");
            Ok(Json(schedule_of(*row)))
        }
    }
}

/// Deletes a schedule; its jobs stay.
#[utoipa::path(delete, path = "/api/v1/schedules/{id}", tag = "schedules",
    params(("id" = i64, Path, description = "The schedule"), DeleteQuery),
    responses((status = 200, body = DeleteReply), (status = 404, body = ErrorEnvelope),
              (status = 409, body = ErrorEnvelope, description = "The catalogue declares it"),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn delete(
    allowed: Allowed<action::DeleteSchedule>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Query(query): Query<DeleteQuery>,
) -> Result<Json<DeleteReply>, ApiError> {
    match app.store.delete_schedule(allowed.granted(), ScheduleId(id), query.force.unwrap_or(false)).await? {
        Deleted::Missing => Err(missing(id)),
        Deleted::Declared => Err(ApiError::conflict(format!("schedule {id} is declared in the catalogue of jobs"))
            .hint("pause it; or take it out of config/jobs.toml first, and delete it with force")),
        Deleted::Done => {
            tracing::info!(schedule_id = id, "schedule deleted by an operator");
            Ok(Json(DeleteReply { id }))
        }
    }
}

/// Keeps a schedule from firing.
#[utoipa::path(post, path = "/api/v1/schedules/{id}/pause", tag = "schedules", request_body = PauseSchedule,
    params(("id" = i64, Path, description = "The schedule")),
    responses((status = 200, body = Schedule), (status = 400, body = ErrorEnvelope), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn pause(
    allowed: Allowed<action::PauseSchedule>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<PauseSchedule>,
) -> Result<Json<Schedule>, ApiError> {
    let granted = allowed.because(request.by.as_deref(), &request.reason)?;
    let row = app.store.pause_schedule(&granted, ScheduleId(id)).await?;
    tracing::info!(schedule_id = id, by = granted.by(), "schedule paused by an operator");
    row.map(|row| Json(schedule_of(row))).ok_or_else(|| missing(id))
}

/// Lets a schedule fire again; what it missed meanwhile is not made good.
#[utoipa::path(post, path = "/api/v1/schedules/{id}/resume", tag = "schedules", request_body = Option<ByWhom>,
    params(("id" = i64, Path, description = "The schedule")),
    responses((status = 200, body = Schedule), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn resume(
    allowed: Allowed<action::ResumeSchedule>,
    State(app): State<App>,
    Path(id): Path<i64>,
    whom: Option<Json<ByWhom>>,
) -> Result<Json<Schedule>, ApiError> {
    let whom = whom.map(|Json(whom)| whom).unwrap_or_default();
    let granted = allowed.said(&whom)?;
    let row = app.store.resume_schedule(&granted, ScheduleId(id)).await?;
    tracing::info!(schedule_id = id, by = granted.by(), "schedule resumed by an operator");
    row.map(|row| Json(schedule_of(row))).ok_or_else(|| missing(id))
}

/// Makes a job of a schedule now, by its overlap policy, paused or not; its next fire stays.
#[utoipa::path(post, path = "/api/v1/schedules/{id}/run", tag = "schedules",
    params(("id" = i64, Path, description = "The schedule")),
    responses((status = 200, body = RunReply), (status = 404, body = ErrorEnvelope),
              (status = 409, body = ErrorEnvelope, description = "Its last job is unfinished, and its policy makes no second one"),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn run(
    allowed: Allowed<action::RunSchedule>,
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    Path(id): Path<i64>,
) -> Result<Json<RunReply>, ApiError> {
    let job_id = match app.store.run_schedule(allowed.granted(), ScheduleId(id), request_id.0).await? {
        RanNow::Missing => return Err(missing(id)),
        RanNow::Inserted(job) => Some(job.0),
        RanNow::Buffered => None,
        RanNow::Busy(job) => {
            let job = job.map_or_else(|| "its last job".to_owned(), |job| format!("its job {job}"));
            return Err(ApiError::conflict(format!("{job} is unfinished, and its overlap policy makes no other"))
                .hint("wait for it, cancel it, or change the schedule's overlap policy"));
        }
    };
    tracing::info!(RequestId = %request_id.0, schedule_id = id, JobId = job_id, "schedule run by an operator");
    Ok(Json(RunReply { job_id, request_id: request_id.0.to_string() }))
}

/// Makes one job for each due time of a range in the past, at the lowest priority; the same due time once.
#[utoipa::path(post, path = "/api/v1/schedules/{id}/backfill", tag = "schedules", request_body = BackfillRequest,
    params(("id" = i64, Path, description = "The schedule")),
    responses((status = 200, body = BackfillReply), (status = 400, body = ErrorEnvelope), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn backfill(
    allowed: Allowed<action::BackfillSchedule>,
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    Path(id): Path<i64>,
    Json(range): Json<BackfillRequest>,
) -> Result<Json<BackfillReply>, ApiError> {
    let row = find(&app, id).await?;
    if range.from >= range.to {
        return Err(ApiError::bad_request("to is not after from"));
    }
    if range.to > app.store.now() {
        return Err(ApiError::bad_request("to lies in the future, which needs no back-fill"));
    }
    let anchor = row.next_due_at.or(row.last_due_at).unwrap_or(range.from);
    let due = plan_of(&row)?.between(anchor, range.from, range.to, BACKFILL_MAX + 1);
    if due.len() > BACKFILL_MAX {
        return Err(ApiError::bad_request(format!("the range has more than {BACKFILL_MAX} due times"))
            .hint("back-fill it in pieces"));
    }
    let inserted = app.store.backfill_schedule(allowed.granted(), ScheduleId(id), &due, request_id.0).await?;
    tracing::info!(RequestId = %request_id.0, schedule_id = id, inserted, "schedule back-filled by an operator");
    let due_times = u64::try_from(due.len()).unwrap_or(u64::MAX);
    Ok(Json(BackfillReply { due_times, inserted, request_id: request_id.0.to_string() }))
}

/// Shows the next fires, and which of them a change of the zone's clock touches.
#[utoipa::path(get, path = "/api/v1/schedules/{id}/preview", tag = "schedules",
    params(("id" = i64, Path, description = "The schedule"), PreviewQuery),
    responses((status = 200, body = SchedulePreview), (status = 400, body = ErrorEnvelope), (status = 404, body = ErrorEnvelope),
              (status = 409, body = ErrorEnvelope, description = "Another version wrote when it fires"),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn preview(
    _: Allowed<action::ReadSchedules>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Query(query): Query<PreviewQuery>,
) -> Result<Json<SchedulePreview>, ApiError> {
    let count = query.count.unwrap_or(PREVIEW);
    if !(1..=PREVIEW_MAX).contains(&count) {
        return Err(ApiError::bad_request(format!("count is {count}, not between 1 and {PREVIEW_MAX}")));
    }
    let row = find(&app, id).await?;
    let plan = plan_of(&row)?;
    let fires = plan.preview(row.next_due_at, count).into_iter().map(|fire| PreviewedFire {
        at: fire.at,
        local: fire.local,
        dst: fire.touched.map(|touched| touched.as_str().to_owned()),
    });
    Ok(Json(SchedulePreview { id, zone: plan.zone().to_owned(), fires: fires.collect(), paused_by: row.paused_by }))
}

/// When it fires; a refusal where another version wrote that.
fn plan_of(row: &ScheduleRow) -> Result<Plan, ApiError> {
    row.plan().map_err(|error| match error {
        StoreError::Corrupt { column, .. } => ApiError::conflict(format!(
            "schedule {} is not understood: another version wrote its {column}, or it is damaged",
            row.id
        ))
        .hint("`servantctl schedules update` gives it a rule that is"),
        error => error.into(),
    })
}

fn missing(id: i64) -> ApiError {
    ApiError::not_found(format!("there is no schedule {id}")).hint("GET /api/v1/schedules lists them")
}

async fn find(app: &App, id: i64) -> Result<ScheduleRow, ApiError> {
    let row = app.store.find_schedule(ScheduleId(id)).await?;
    row.filter(|row| sight::shows(app, AccountId(row.account_id))).ok_or_else(|| missing(id))
}

fn words(key: &str, text: &str, chars_max: usize) -> Result<(), ApiError> {
    if text.trim().is_empty() || text.chars().count() > chars_max {
        return Err(ApiError::bad_request(format!("{key} has 1 to {chars_max} characters")));
    }
    Ok(())
}

fn rule_of(rule: Value) -> Result<domain::Schedule, ApiError> {
    serde_json::from_value(rule).map_err(|error| ApiError::bad_request(format!("rule: {error}")))
}

fn edit_of(rule: Option<Value>, settings: ScheduleSettings) -> Result<ScheduleEdit, ApiError> {
    if let Some(priority) = settings.priority.filter(|priority| !(0..=4).contains(priority)) {
        return Err(ApiError::bad_request(format!("priority is {priority}, not between 0 (urgent) and 4")));
    }
    // The ledger keeps microseconds.
    let whole = |at: chrono::DateTime<chrono::Utc>| DateTime::from_timestamp_micros(at.timestamp_micros());
    Ok(ScheduleEdit {
        rule: rule.map(rule_of).transpose()?,
        overlap: settings.overlap.map(|text| text.parse()).transpose().map_err(ApiError::bad_request)?,
        jitter_secs: settings.jitter_secs,
        starts_at: settings.starts_at.map(|at| at.and_then(whole)),
        ends_at: settings.ends_at.map(|at| at.and_then(whole)),
        catch_up_secs: settings.catch_up_secs,
        catch_up_max: settings.catch_up_max,
        payload: settings.payload,
        priority: settings.priority,
    })
}

/// A row of the ledger as the API shows it.
pub(super) fn schedule_of(row: ScheduleRow) -> Schedule {
    Schedule {
        id: row.id,
        name: row.name,
        kind: row.kind,
        account_id: row.account_id,
        connection_id: row.connection_id,
        payload: sight::value(Sensitive::new(row.payload)),
        priority: row.priority,
        attempts_max: row.attempts_max,
        rule: row.rule,
        overlap: row.overlap,
        jitter_secs: row.jitter_secs,
        starts_at: row.starts_at,
        ends_at: row.ends_at,
        catch_up_secs: row.catch_up_secs,
        catch_up_max: row.catch_up_max,
        next_due_at: row.next_due_at,
        last_due_at: row.last_due_at,
        buffered_due_at: row.buffered_due_at,
        dropped_fires: row.dropped_fires,
        declared: row.declared,
        paused_by: row.paused_by,
        paused_reason: row.paused_reason,
        paused_at: row.paused_at,
    }
}

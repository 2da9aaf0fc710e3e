//! Pauses over HTTP: list, pause, resume. `everything` has no key, and an address of its own.

use crate::{
    App,
    allowed::Allowed,
    error::ApiError,
    filter::{limit_of, next_of},
};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use chrono::{DateTime, SecondsFormat};
use domain::{PauseTarget, action};
use manager_api::{ByWhom, ErrorEnvelope, Pause, PauseList, PauseQuery, PauseRequest, ResumeReply};
use store::{PauseRow, PausesAfter};

/// Lists what is paused, by whom and why.
#[utoipa::path(get, path = "/api/v1/pauses", tag = "pauses", params(PauseQuery),
    responses((status = 200, body = PauseList), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn list(
    allowed: Allowed<action::ReadLimits>,
    State(app): State<App>,
    Query(query): Query<PauseQuery>,
) -> Result<Json<PauseList>, ApiError> {
    let limit = limit_of(query.limit)?;
    let after = query.after.as_deref().map(after_of).transpose()?;
    let rows = in_force(&allowed, &app, after.as_ref(), limit).await?;
    let next_after = next_of(&rows, limit, cursor_of);
    Ok(Json(PauseList { pauses: rows.iter().map(pause_of).collect(), next_after }))
}

/// What both the API and the pages say of what is paused, the latest first.
pub(crate) async fn in_force(
    _: &Allowed<action::ReadLimits>,
    app: &App,
    after: Option<&PausesAfter>,
    limit: i64,
) -> Result<Vec<PauseRow>, ApiError> {
    Ok(app.store.list_pauses(after, limit).await?)
}

/// The pause of one thing, if it is paused by itself.
pub(crate) async fn pause_in_force(
    _: &Allowed<action::ReadLimits>,
    app: &App,
    target: &PauseTarget,
) -> Result<Option<PauseRow>, ApiError> {
    Ok(app.store.find_pause(target).await?)
}

/// What holds back a kind's jobs all together: `everything`, and kinds by name.
pub(crate) async fn of_kinds(_: &Allowed<action::ReadLimits>, app: &App) -> Result<Vec<PauseRow>, ApiError> {
    Ok(app.store.pauses_of_kinds().await?)
}

/// Holds back the jobs of a kind, an account, a connection or a group; those that run go on.
#[utoipa::path(put, path = "/api/v1/pauses/{scope}/{key}", tag = "pauses", request_body = PauseRequest,
    params(("scope" = String, Path, description = "kind, account, connection or group"),
           ("key" = String, Path, description = "The kind's name, or the id")),
    responses((status = 200, body = Pause), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn pause(
    allowed: Allowed<action::Pause>,
    State(app): State<App>,
    Path((scope, key)): Path<(String, String)>,
    Json(request): Json<PauseRequest>,
) -> Result<Json<Pause>, ApiError> {
    Ok(Json(pause_target(&app, &allowed, &target_of(&scope, &key)?, &request).await?))
}

/// Holds back every job; those that run go on.
#[utoipa::path(put, path = "/api/v1/pauses/everything", tag = "pauses", request_body = PauseRequest,
    responses((status = 200, body = Pause), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn pause_everything(
    allowed: Allowed<action::Pause>,
    State(app): State<App>,
    Json(request): Json<PauseRequest>,
) -> Result<Json<Pause>, ApiError> {
    Ok(Json(pause_target(&app, &allowed, &PauseTarget::Everything, &request).await?))
}

/// Ends the pause of a kind, an account, a connection or a group.
#[utoipa::path(delete, path = "/api/v1/pauses/{scope}/{key}", tag = "pauses",
    params(("scope" = String, Path, description = "kind, account, connection or group"),
           ("key" = String, Path, description = "The kind's name, or the id"), ByWhom),
    responses((status = 200, body = ResumeReply), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn resume(
    allowed: Allowed<action::Resume>,
    State(app): State<App>,
    Path((scope, key)): Path<(String, String)>,
    Query(whom): Query<ByWhom>,
) -> Result<Json<ResumeReply>, ApiError> {
    Ok(Json(resume_target(&app, &allowed, &target_of(&scope, &key)?, &whom).await?))
}

/// Ends the pause of everything; what else is paused stays so.
#[utoipa::path(delete, path = "/api/v1/pauses/everything", tag = "pauses", params(ByWhom),
    responses((status = 200, body = ResumeReply), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn resume_everything(
    allowed: Allowed<action::Resume>,
    State(app): State<App>,
    Query(whom): Query<ByWhom>,
) -> Result<Json<ResumeReply>, ApiError> {
    Ok(Json(resume_target(&app, &allowed, &PauseTarget::Everything, &whom).await?))
}

fn target_of(scope: &str, key: &str) -> Result<PauseTarget, ApiError> {
    PauseTarget::new(scope, key).map_err(ApiError::bad_request)
}

async fn pause_target(
    app: &App,
    allowed: &Allowed<action::Pause>,
    target: &PauseTarget,
    request: &PauseRequest,
) -> Result<Pause, ApiError> {
    let granted = allowed.because(request.by.as_deref(), &request.reason)?;
    let row = app.store.pause(&granted, target).await?;
    tracing::info!(scope = target.scope(), key = target.key(), by = granted.by(), "jobs paused by an operator");
    Ok(pause_of(&row))
}

async fn resume_target(
    app: &App,
    allowed: &Allowed<action::Resume>,
    target: &PauseTarget,
    whom: &ByWhom,
) -> Result<ResumeReply, ApiError> {
    let granted = allowed.said(whom)?;
    if !app.store.resume(&granted, target).await? {
        return Err(ApiError::not_found(format!("{target} is not paused"))
            .hint("GET /api/v1/pauses lists what is; a servant's own pause is ended by `servantctl servants resume`"));
    }
    tracing::info!(scope = target.scope(), key = target.key(), by = granted.by(), "jobs resumed by an operator");
    Ok(ResumeReply { scope: target.scope().to_owned(), key: target.key() })
}

fn cursor_of(row: &PauseRow) -> String {
    let since = row.paused_at.to_rfc3339_opts(SecondsFormat::Micros, true);
    format!("{since}/{}/{}", row.target.scope(), row.target.key())
}

fn after_of(text: &str) -> Result<PausesAfter, ApiError> {
    let mut parts = text.splitn(3, '/');
    let at = parts.next().and_then(|since| DateTime::parse_from_rfc3339(since).ok());
    let (Some(paused_at), Some(scope), Some(key)) = (at, parts.next(), parts.next()) else {
        return Err(ApiError::bad_request("after is not what a page before this one ended with"));
    };
    Ok(PausesAfter { paused_at: paused_at.into(), target: PauseTarget::of_row(scope.to_owned(), key.to_owned()) })
}

fn pause_of(row: &PauseRow) -> Pause {
    Pause {
        scope: row.target.scope().to_owned(),
        key: row.target.key(),
        paused_by: row.paused_by.clone(),
        reason: row.reason.clone(),
        paused_at: row.paused_at,
    }
}

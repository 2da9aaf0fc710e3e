//! Pauses over HTTP: list, pause, resume. `everything` has no key, and an address of its own.

use super::who_of;
use crate::{App, error::ApiError, filter::who_and_why};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use domain::PauseTarget;
use manager_api::{ByWhom, ErrorEnvelope, Pause, PauseList, PauseRequest, ResumeReply};
use store::PauseRow;

/// Lists what is paused, by whom and why.
#[utoipa::path(get, path = "/api/v1/pauses", tag = "pauses", responses((status = 200, body = PauseList)))]
pub(crate) async fn list(State(app): State<App>) -> Result<Json<PauseList>, ApiError> {
    Ok(Json(PauseList { pauses: app.store.list_pauses().await?.iter().map(pause_of).collect() }))
}

/// Holds back the jobs of a kind, an account, a connection or a group; those that run go on.
#[utoipa::path(put, path = "/api/v1/pauses/{scope}/{key}", tag = "pauses", request_body = PauseRequest,
    params(("scope" = String, Path, description = "kind, account, connection or group"),
           ("key" = String, Path, description = "The kind's name, or the id")),
    responses((status = 200, body = Pause), (status = 400, body = ErrorEnvelope)))]
pub(crate) async fn pause(
    State(app): State<App>,
    Path((scope, key)): Path<(String, String)>,
    Json(request): Json<PauseRequest>,
) -> Result<Json<Pause>, ApiError> {
    Ok(Json(pause_target(&app, &target_of(&scope, &key)?, &request).await?))
}

/// Holds back every job; those that run go on.
#[utoipa::path(put, path = "/api/v1/pauses/everything", tag = "pauses", request_body = PauseRequest,
    responses((status = 200, body = Pause), (status = 400, body = ErrorEnvelope)))]
pub(crate) async fn pause_everything(
    State(app): State<App>,
    Json(request): Json<PauseRequest>,
) -> Result<Json<Pause>, ApiError> {
    Ok(Json(pause_target(&app, &PauseTarget::Everything, &request).await?))
}

/// Ends the pause of a kind, an account, a connection or a group.
#[utoipa::path(delete, path = "/api/v1/pauses/{scope}/{key}", tag = "pauses",
    params(("scope" = String, Path, description = "kind, account, connection or group"),
           ("key" = String, Path, description = "The kind's name, or the id"), ByWhom),
    responses((status = 200, body = ResumeReply), (status = 404, body = ErrorEnvelope)))]
pub(crate) async fn resume(
    State(app): State<App>,
    Path((scope, key)): Path<(String, String)>,
    Query(whom): Query<ByWhom>,
) -> Result<Json<ResumeReply>, ApiError> {
    Ok(Json(resume_target(&app, &target_of(&scope, &key)?, &whom).await?))
}

/// Ends the pause of everything; what else is paused stays so.
#[utoipa::path(delete, path = "/api/v1/pauses/everything", tag = "pauses", params(ByWhom),
    responses((status = 200, body = ResumeReply), (status = 404, body = ErrorEnvelope)))]
pub(crate) async fn resume_everything(
    State(app): State<App>,
    Query(whom): Query<ByWhom>,
) -> Result<Json<ResumeReply>, ApiError> {
    Ok(Json(resume_target(&app, &PauseTarget::Everything, &whom).await?))
}

fn target_of(scope: &str, key: &str) -> Result<PauseTarget, ApiError> {
    PauseTarget::new(scope, key).map_err(ApiError::bad_request)
}

async fn pause_target(app: &App, target: &PauseTarget, request: &PauseRequest) -> Result<Pause, ApiError> {
    let (by, reason) = who_and_why(&request.by, &request.reason)?;
    let row = app.store.pause(target, by, reason).await?;
    tracing::info!(scope = target.scope(), key = target.key(), by, "jobs paused by an operator");
    Ok(pause_of(&row))
}

async fn resume_target(app: &App, target: &PauseTarget, whom: &ByWhom) -> Result<ResumeReply, ApiError> {
    let who = who_of(whom)?;
    if !app.store.resume(target, who).await? {
        return Err(ApiError::not_found(format!("{target} is not paused"))
            .hint("GET /api/v1/pauses lists what is; a servant's own pause is ended by `servantctl servants resume`"));
    }
    tracing::info!(scope = target.scope(), key = target.key(), by = who.by, "jobs resumed by an operator");
    Ok(ResumeReply { scope: target.scope().to_owned(), key: target.key() })
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

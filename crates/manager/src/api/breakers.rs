//! Circuit breakers over HTTP: list, show, hold open or closed, let go.

use super::connections::{EVENTS_MAX, event_of};
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
use domain::{BreakerState, Forced, action};
use manager_api::{Breaker, BreakerDetail, BreakerPage, BreakerQuery, ErrorEnvelope, OverrideRequest};
use store::{BreakerRow, ForcesBreaker};

/// Lists the services' breakers by name.
#[utoipa::path(get, path = "/api/v1/breakers", tag = "breakers", params(BreakerQuery),
    responses((status = 200, body = BreakerPage), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn list(
    _: Allowed<action::ReadLimits>,
    State(app): State<App>,
    Query(query): Query<BreakerQuery>,
) -> Result<Json<BreakerPage>, ApiError> {
    let limit = limit_of(query.limit)?;
    let after = query.after.as_deref();
    let rows = if query.troubled == Some(true) {
        app.store.troubled_breakers(after, limit).await?
    } else {
        app.store.list_breakers(after, limit).await?
    };
    let next_after = next_of(&rows, limit, |row| row.service.clone());
    Ok(Json(BreakerPage { breakers: rows.iter().map(breaker_of).collect(), next_after }))
}

/// Shows one service's breaker and what happened to it.
#[utoipa::path(get, path = "/api/v1/breakers/{service}", tag = "breakers",
    params(("service" = String, Path, description = "The service")),
    responses((status = 200, body = BreakerDetail), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn show(
    _: Allowed<action::ReadLimits>,
    State(app): State<App>,
    Path(service): Path<String>,
) -> Result<Json<BreakerDetail>, ApiError> {
    let row = app.store.find_breaker(&service).await?;
    let row = row.ok_or_else(|| ApiError::not_found(format!("no attempt on '{service}' was ever seen")))?;
    Ok(Json(detail_of(&app, &row).await?))
}

/// Holds it open: no job of the service starts, whatever its outcomes say.
#[utoipa::path(post, path = "/api/v1/breakers/{service}/open", tag = "breakers", request_body = OverrideRequest,
    params(("service" = String, Path, description = "The service")),
    responses((status = 200, body = BreakerDetail), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn open(
    allowed: Allowed<action::OpenBreaker>,
    State(app): State<App>,
    Path(service): Path<String>,
    Json(request): Json<OverrideRequest>,
) -> Result<Json<BreakerDetail>, ApiError> {
    force(&app, &allowed, &service, &request).await
}

/// Holds it closed: the jobs of the service start, whatever its outcomes say.
#[utoipa::path(post, path = "/api/v1/breakers/{service}/close", tag = "breakers", request_body = OverrideRequest,
    params(("service" = String, Path, description = "The service")),
    responses((status = 200, body = BreakerDetail), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn close(
    allowed: Allowed<action::CloseBreaker>,
    State(app): State<App>,
    Path(service): Path<String>,
    Json(request): Json<OverrideRequest>,
) -> Result<Json<BreakerDetail>, ApiError> {
    force(&app, &allowed, &service, &request).await
}

/// Lets its outcomes decide again: one that was held open recovers little by little.
#[utoipa::path(post, path = "/api/v1/breakers/{service}/clear", tag = "breakers", request_body = OverrideRequest,
    params(("service" = String, Path, description = "The service")),
    responses((status = 200, body = BreakerDetail), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn clear(
    allowed: Allowed<action::ClearBreaker>,
    State(app): State<App>,
    Path(service): Path<String>,
    Json(request): Json<OverrideRequest>,
) -> Result<Json<BreakerDetail>, ApiError> {
    force(&app, &allowed, &service, &request).await
}

async fn force<A: ForcesBreaker>(
    app: &App,
    allowed: &Allowed<A>,
    service: &str,
    request: &OverrideRequest,
) -> Result<Json<BreakerDetail>, ApiError> {
    let granted = allowed.because(request.by.as_deref(), &request.reason)?;
    if !app.store.knows_service(service).await? {
        return Err(ApiError::not_found(format!("no connection works on '{service}'"))
            .hint("`servantctl connections list` shows which service each works on"));
    }
    let row = app.store.force_breaker(&granted, service).await?;
    let row = row.ok_or_else(|| {
        ApiError::not_found(format!("nobody holds the breaker of '{service}'"))
            .hint("`servantctl breakers list` shows which are held")
    })?;
    let act = A::FORCED.map_or("clear", Forced::as_str);
    tracing::info!(service, act, by = granted.by(), "a circuit breaker was overridden by an operator");
    Ok(Json(detail_of(app, &row).await?))
}

async fn detail_of(app: &App, row: &BreakerRow) -> Result<BreakerDetail, ApiError> {
    let events = app.store.breaker_events(&row.service, EVENTS_MAX).await?;
    Ok(BreakerDetail { breaker: breaker_of(row), events: events.into_iter().map(event_of).collect() })
}

pub(super) fn breaker_of(row: &BreakerRow) -> Breaker {
    let breaker = &row.breaker;
    let (mut next_probe_at, mut probe_sent_at, mut room) = (None, None, None);
    match breaker.state {
        BreakerState::Closed | BreakerState::NotUnderstood => {}
        BreakerState::Open { next_probe_at: at } => next_probe_at = Some(at),
        BreakerState::HalfOpen { probe_at } => probe_sent_at = Some(probe_at),
        BreakerState::Recovering { room: jobs, .. } => room = Some(jobs),
    }
    let total = breaker.window.total();
    let forced = row.forced.as_ref();
    Breaker {
        service: row.service.clone(),
        state: breaker.state.as_str().to_owned(),
        since: breaker.since,
        reason: breaker.reason.clone(),
        openings: breaker.openings,
        next_probe_at,
        probe_sent_at,
        room,
        succeeded: total.succeeded,
        failed: total.failed,
        forced: breaker.forced.map(|forced| forced.as_str().to_owned()),
        forced_by: forced.map(|forced| forced.by.clone()),
        forced_reason: forced.map(|forced| forced.reason.clone()),
        forced_at: forced.map(|forced| forced.at),
    }
}

//! Anomalies over HTTP: list, show, acknowledge, resolve, mute.

use crate::{
    App,
    allowed::Allowed,
    error::ApiError,
    filter::{limit_of, next_of, words},
    sight,
};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use domain::{AccountId, ConnectionId, Sensitive, action};
use manager_api::{Anomaly, AnomalyPage, AnomalyQuery, AssignRequest, ByWhom, ErrorEnvelope, OverrideRequest};
use std::str::FromStr;
use store::{AnomalyChange, AnomalyFilter, AnomalyRow, ChangesAnomaly};

/// Lists anomalies, newest first.
#[utoipa::path(get, path = "/api/v1/anomalies", tag = "anomalies", params(AnomalyQuery),
    responses((status = 200, body = AnomalyPage), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn list(
    _: Allowed<action::ReadAnomalies>,
    State(app): State<App>,
    Query(query): Query<AnomalyQuery>,
) -> Result<Json<AnomalyPage>, ApiError> {
    let limit = limit_of(query.limit)?;
    let filter = AnomalyFilter {
        state: word(query.state.as_deref())?,
        severity: word(query.severity.as_deref())?,
        account: sight::narrow(&app, query.account.map(AccountId))?,
        connection: query.connection.map(ConnectionId),
        before: query.before,
    };
    let rows = app.store.list_anomalies(&filter, limit).await?;
    let next_before = next_of(&rows, limit, |row| row.id);
    Ok(Json(AnomalyPage { anomalies: rows.into_iter().map(anomaly_of).collect(), next_before }))
}

/// Shows one anomaly and what it was seen by.
#[utoipa::path(get, path = "/api/v1/anomalies/{id}", tag = "anomalies",
    params(("id" = i64, Path, description = "The anomaly")),
    responses((status = 200, body = Anomaly), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn show(
    _: Allowed<action::ReadAnomalies>,
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Json<Anomaly>, ApiError> {
    let row = app.store.find_anomaly(id).await?.filter(|row| sight::shows(&app, row.account));
    Ok(Json(anomaly_of(row.ok_or_else(|| missing(id))?)))
}

/// Makes it somebody's to look after, or nobody's.
#[utoipa::path(post, path = "/api/v1/anomalies/{id}/assign", tag = "anomalies", request_body = AssignRequest,
    params(("id" = i64, Path, description = "The anomaly")),
    responses((status = 200, body = Anomaly), (status = 404, body = ErrorEnvelope)))]
pub(crate) async fn assign(
    allowed: Allowed<action::AssignAnomaly>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<AssignRequest>,
) -> Result<Json<Anomaly>, ApiError> {
    let granted = allowed.said(&ByWhom { by: request.by, reason: request.reason })?;
    let to = request.to.as_deref().filter(|to| !to.trim().is_empty()).map(|to| words("to", to)).transpose()?;
    let row = app.store.assign_anomaly(&granted, id, to).await?.ok_or_else(|| missing(id))?;
    tracing::info!(anomaly_id = id, to, by = granted.by(), "an anomaly was assigned");
    Ok(Json(anomaly_of(row)))
}

/// Says that somebody is at it. It is open again once it is seen graver than it is.
#[utoipa::path(post, path = "/api/v1/anomalies/{id}/acknowledge", tag = "anomalies", request_body = OverrideRequest,
    params(("id" = i64, Path, description = "The anomaly")),
    responses((status = 200, body = Anomaly), (status = 404, body = ErrorEnvelope), (status = 409, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn acknowledge(
    allowed: Allowed<action::AcknowledgeAnomaly>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<OverrideRequest>,
) -> Result<Json<Anomaly>, ApiError> {
    change(&app, &allowed, id, &request).await
}

/// Says that it is over. It is open again once it is seen again.
#[utoipa::path(post, path = "/api/v1/anomalies/{id}/resolve", tag = "anomalies", request_body = OverrideRequest,
    params(("id" = i64, Path, description = "The anomaly")),
    responses((status = 200, body = Anomaly), (status = 404, body = ErrorEnvelope), (status = 409, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn resolve(
    allowed: Allowed<action::ResolveAnomaly>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<OverrideRequest>,
) -> Result<Json<Anomaly>, ApiError> {
    change(&app, &allowed, id, &request).await
}

/// Says that nobody wants to hear more of it, however often it is seen.
#[utoipa::path(post, path = "/api/v1/anomalies/{id}/mute", tag = "anomalies", request_body = OverrideRequest,
    params(("id" = i64, Path, description = "The anomaly")),
    responses((status = 200, body = Anomaly), (status = 404, body = ErrorEnvelope), (status = 409, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn mute(
    allowed: Allowed<action::MuteAnomaly>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<OverrideRequest>,
) -> Result<Json<Anomaly>, ApiError> {
    change(&app, &allowed, id, &request).await
}

async fn change<A: ChangesAnomaly>(
    app: &App,
    allowed: &Allowed<A>,
    id: i64,
    request: &OverrideRequest,
) -> Result<Json<Anomaly>, ApiError> {
    let granted = allowed.because(request.by.as_deref(), &request.reason)?;
    let act = A::ACT;
    match app.store.change_anomaly(&granted, id).await? {
        AnomalyChange::Done(row) => {
            let by = granted.by();
            tracing::info!(anomaly_id = id, act = act.as_str(), by, "an anomaly was looked at by an operator");
            Ok(Json(anomaly_of(*row)))
        }
        AnomalyChange::Senseless(state) => {
            let (state, act) = (state.as_str(), act.as_str());
            Err(ApiError::conflict(format!("anomaly {id} is {state}, which '{act}' does not change")))
        }
        AnomalyChange::Missing => Err(missing(id)),
    }
}

fn missing(id: i64) -> ApiError {
    ApiError::not_found(format!("there is no anomaly {id}")).hint("`servantctl anomalies list` shows which there are")
}

/// A word of a query, if it is given.
fn word<T: FromStr<Err = String>>(text: Option<&str>) -> Result<Option<T>, ApiError> {
    text.filter(|text| !text.is_empty()).map(str::parse).transpose().map_err(ApiError::bad_request)
}

pub(super) fn anomaly_of(row: AnomalyRow) -> Anomaly {
    Anomaly {
        id: row.id,
        account_id: row.account.0,
        connection_id: row.connection.0,
        object: row.object,
        kind: row.kind,
        subject: row.subject,
        severity: row.severity.as_str().to_owned(),
        state: row.state.as_str().to_owned(),
        summary: sight::words(row.summary),
        evidence: sight::value(Sensitive::new(row.evidence)),
        sightings: row.sightings,
        first_seen_at: row.first_seen_at,
        last_seen_at: row.last_seen_at,
        state_by: row.state_by,
        state_reason: row.state_reason,
        state_since: row.state_since,
        assigned_to: row.assigned_to,
    }
}

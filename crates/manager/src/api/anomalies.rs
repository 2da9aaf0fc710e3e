//! Anomalies over HTTP: list, show, acknowledge, resolve, mute.

use super::who_of;
use crate::{
    App,
    error::ApiError,
    filter::{limit_of, who_and_why, words},
};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use domain::{AccountId, AnomalyAct, ConnectionId};
use manager_api::{Anomaly, AnomalyPage, AnomalyQuery, AssignRequest, ByWhom, ErrorEnvelope, OverrideRequest};
use std::str::FromStr;
use store::{AnomalyChange, AnomalyFilter, AnomalyRow};

/// Lists anomalies, newest first.
#[utoipa::path(get, path = "/api/v1/anomalies", tag = "anomalies", params(AnomalyQuery),
    responses((status = 200, body = AnomalyPage), (status = 400, body = ErrorEnvelope)))]
pub(crate) async fn list(
    State(app): State<App>,
    Query(query): Query<AnomalyQuery>,
) -> Result<Json<AnomalyPage>, ApiError> {
    let limit = limit_of(query.limit)?;
    let filter = AnomalyFilter {
        state: word(query.state.as_deref())?,
        severity: word(query.severity.as_deref())?,
        account: query.account.map(AccountId),
        connection: query.connection.map(ConnectionId),
        before: query.before,
    };
    let rows = app.store.list_anomalies(&filter, limit).await?;
    let is_full = i64::try_from(rows.len()).is_ok_and(|rows| rows == limit);
    let next_before = rows.last().filter(|_| is_full).map(|row| row.id);
    Ok(Json(AnomalyPage { anomalies: rows.into_iter().map(anomaly_of).collect(), next_before }))
}

/// Shows one anomaly and what it was seen by.
#[utoipa::path(get, path = "/api/v1/anomalies/{id}", tag = "anomalies",
    params(("id" = i64, Path, description = "The anomaly")),
    responses((status = 200, body = Anomaly), (status = 404, body = ErrorEnvelope)))]
pub(crate) async fn show(State(app): State<App>, Path(id): Path<i64>) -> Result<Json<Anomaly>, ApiError> {
    let row = app.store.find_anomaly(id).await?.ok_or_else(|| missing(id))?;
    Ok(Json(anomaly_of(row)))
}

/// Makes it somebody's to look after, or nobody's.
#[utoipa::path(post, path = "/api/v1/anomalies/{id}/assign", tag = "anomalies", request_body = AssignRequest,
    params(("id" = i64, Path, description = "The anomaly")),
    responses((status = 200, body = Anomaly), (status = 404, body = ErrorEnvelope)))]
pub(crate) async fn assign(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<AssignRequest>,
) -> Result<Json<Anomaly>, ApiError> {
    let whom = ByWhom { by: request.by, reason: request.reason };
    let who = who_of(&whom)?;
    let to = request.to.as_deref().filter(|to| !to.trim().is_empty()).map(|to| words("to", to)).transpose()?;
    let row = app.store.assign_anomaly(id, to, who).await?.ok_or_else(|| missing(id))?;
    tracing::info!(anomaly_id = id, to, by = who.by, "an anomaly was assigned");
    Ok(Json(anomaly_of(row)))
}

/// Says that somebody is at it. It is open again once it is seen graver than it is.
#[utoipa::path(post, path = "/api/v1/anomalies/{id}/acknowledge", tag = "anomalies", request_body = OverrideRequest,
    params(("id" = i64, Path, description = "The anomaly")),
    responses((status = 200, body = Anomaly), (status = 404, body = ErrorEnvelope), (status = 409, body = ErrorEnvelope)))]
pub(crate) async fn acknowledge(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<OverrideRequest>,
) -> Result<Json<Anomaly>, ApiError> {
    change(&app, id, AnomalyAct::Acknowledge, &request).await
}

/// Says that it is over. It is open again once it is seen again.
#[utoipa::path(post, path = "/api/v1/anomalies/{id}/resolve", tag = "anomalies", request_body = OverrideRequest,
    params(("id" = i64, Path, description = "The anomaly")),
    responses((status = 200, body = Anomaly), (status = 404, body = ErrorEnvelope), (status = 409, body = ErrorEnvelope)))]
pub(crate) async fn resolve(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<OverrideRequest>,
) -> Result<Json<Anomaly>, ApiError> {
    change(&app, id, AnomalyAct::Resolve, &request).await
}

/// Says that nobody wants to hear more of it, however often it is seen.
#[utoipa::path(post, path = "/api/v1/anomalies/{id}/mute", tag = "anomalies", request_body = OverrideRequest,
    params(("id" = i64, Path, description = "The anomaly")),
    responses((status = 200, body = Anomaly), (status = 404, body = ErrorEnvelope), (status = 409, body = ErrorEnvelope)))]
pub(crate) async fn mute(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<OverrideRequest>,
) -> Result<Json<Anomaly>, ApiError> {
    change(&app, id, AnomalyAct::Mute, &request).await
}

async fn change(app: &App, id: i64, act: AnomalyAct, request: &OverrideRequest) -> Result<Json<Anomaly>, ApiError> {
    let (by, reason) = who_and_why(&request.by, &request.reason)?;
    match app.store.change_anomaly(id, act, by, reason).await? {
        AnomalyChange::Done(row) => {
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
        kind: row.kind.as_str().to_owned(),
        subject: row.subject,
        severity: row.severity.as_str().to_owned(),
        state: row.state.as_str().to_owned(),
        summary: row.summary,
        evidence: row.evidence,
        sightings: row.sightings,
        first_seen_at: row.first_seen_at,
        last_seen_at: row.last_seen_at,
        state_by: row.state_by,
        state_reason: row.state_reason,
        state_since: row.state_since,
        assigned_to: row.assigned_to,
    }
}

//! Connections over HTTP: list, show, and what an operator does with one.

use super::breakers::breaker_of;
use crate::{
    App,
    allowed::Allowed,
    error::ApiError,
    filter::{limit_of, next_of},
    sight,
};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use domain::{AccountId, ConnectionId, Sensitive, action};
use manager_api::{
    Connection, ConnectionDetail, ConnectionEvent, ConnectionPage, ConnectionQuery, ErrorEnvelope, ObjectsRequest,
    OverrideRequest,
};
use store::{ChangesConnection, ConnectionRow};

/// What a connection can be.
pub(crate) const STATES: [&str; 4] = ["active", "needs_reauth", "parked", "disabled"];
/// Objects of one connection, and bytes of a name: more than any organisation has, and than any vendor gives.
const OBJECTS_MAX: usize = 500;
const OBJECT_BYTES_MAX: usize = 120;
/// Events shown with a connection or a breaker.
pub(super) const EVENTS_MAX: i64 = 50;

/// Lists connections, newest first.
#[utoipa::path(get, path = "/api/v1/connections", tag = "connections", params(ConnectionQuery),
    responses((status = 200, body = ConnectionPage), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn list(
    _: Allowed<action::ReadAccounts>,
    State(app): State<App>,
    Query(query): Query<ConnectionQuery>,
) -> Result<Json<ConnectionPage>, ApiError> {
    let limit = limit_of(query.limit)?;
    let state = query.state.as_deref().filter(|state| !state.is_empty());
    if let Some(state) = state.filter(|state| !STATES.contains(state)) {
        let message = format!("'{state}' is no state of a connection; they are {}", STATES.join(", "));
        return Err(ApiError::bad_request(message));
    }
    if let Some(account) = app.store.viewed() {
        let rows = app.store.connections_of(account, limit).await?;
        let of_state = rows.iter().filter(|row| state.is_none_or(|state| row.state == state));
        return Ok(Json(ConnectionPage { connections: of_state.map(connection_of).collect(), next_before: None }));
    }
    let rows = app.store.list_connections(state, query.before.map(ConnectionId), limit).await?;
    let next_before = next_of(&rows, limit, |row| row.id);
    Ok(Json(ConnectionPage { connections: rows.iter().map(connection_of).collect(), next_before }))
}

/// Shows one connection, its service's breaker and what happened to it.
#[utoipa::path(get, path = "/api/v1/connections/{id}", tag = "connections",
    params(("id" = i64, Path, description = "The connection")),
    responses((status = 200, body = ConnectionDetail), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn show(
    _: Allowed<action::ReadAccounts>,
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Json<ConnectionDetail>, ApiError> {
    Ok(Json(detail_of(&app, ConnectionId(id)).await?))
}

/// Says that the customer has authorised it again, or that what it was parked for is over: its jobs start again.
#[utoipa::path(post, path = "/api/v1/connections/{id}/reauthorised", tag = "connections",
    request_body = OverrideRequest, params(("id" = i64, Path, description = "The connection")),
    responses((status = 200, body = ConnectionDetail), (status = 404, body = ErrorEnvelope),
              (status = 409, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn reauthorised(
    allowed: Allowed<action::Reauthorised>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<OverrideRequest>,
) -> Result<Json<ConnectionDetail>, ApiError> {
    change(&app, &allowed, id, &request).await
}

/// Lets its jobs wait; those that run go on.
#[utoipa::path(post, path = "/api/v1/connections/{id}/park", tag = "connections",
    request_body = OverrideRequest, params(("id" = i64, Path, description = "The connection")),
    responses((status = 200, body = ConnectionDetail), (status = 404, body = ErrorEnvelope),
              (status = 409, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn park(
    allowed: Allowed<action::ParkConnection>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<OverrideRequest>,
) -> Result<Json<ConnectionDetail>, ApiError> {
    change(&app, &allowed, id, &request).await
}

/// Takes it out of use; its jobs wait, those that run go on.
#[utoipa::path(post, path = "/api/v1/connections/{id}/disable", tag = "connections",
    request_body = OverrideRequest, params(("id" = i64, Path, description = "The connection")),
    responses((status = 200, body = ConnectionDetail), (status = 404, body = ErrorEnvelope),
              (status = 409, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn disable(
    allowed: Allowed<action::DisableConnection>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<OverrideRequest>,
) -> Result<Json<ConnectionDetail>, ApiError> {
    change(&app, &allowed, id, &request).await
}

/// Takes a disabled connection into use again.
#[utoipa::path(post, path = "/api/v1/connections/{id}/enable", tag = "connections",
    request_body = OverrideRequest, params(("id" = i64, Path, description = "The connection")),
    responses((status = 200, body = ConnectionDetail), (status = 404, body = ErrorEnvelope),
              (status = 409, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn enable(
    allowed: Allowed<action::EnableConnection>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<OverrideRequest>,
) -> Result<Json<ConnectionDetail>, ApiError> {
    change(&app, &allowed, id, &request).await
}

/// Chooses the objects that are followed, from the next sync on. One that is followed no more stays as it is.
#[utoipa::path(put, path = "/api/v1/connections/{id}/objects", tag = "connections",
    request_body = ObjectsRequest, params(("id" = i64, Path, description = "The connection")),
    responses((status = 200, body = ConnectionDetail), (status = 400, body = ErrorEnvelope),
              (status = 404, body = ErrorEnvelope), (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn choose_objects(
    allowed: Allowed<action::ChooseObjects>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<ObjectsRequest>,
) -> Result<Json<ConnectionDetail>, ApiError> {
    let granted = allowed.because(request.by.as_deref(), &request.reason)?;
    let (id, objects) = (ConnectionId(id), objects_of(&request.objects)?);
    if app.store.choose_objects(&granted, id, &objects).await? {
        tracing::info!(ConnectionId = id.0, objects = objects.len(), by = granted.by(), "objects were chosen");
    }
    Ok(Json(detail_of(&app, id).await?))
}

async fn change<A: ChangesConnection>(
    app: &App,
    allowed: &Allowed<A>,
    id: i64,
    request: &OverrideRequest,
) -> Result<Json<ConnectionDetail>, ApiError> {
    let granted = allowed.because(request.by.as_deref(), &request.reason)?;
    let (id, act) = (ConnectionId(id), A::ACT);
    if !app.store.change_connection(&granted, id).await? {
        let detail = detail_of(app, id).await?;
        let message =
            format!("connection {id} is {}, which '{}' does not change", detail.connection.state, act.as_str());
        return Err(ApiError::conflict(message).hint(
            "reauthorised: from needs_reauth or parked; park: from active; enable: from disabled; disable: else",
        ));
    }
    let by = granted.by();
    tracing::info!(ConnectionId = id.0, act = act.as_str(), by, "a connection was changed by an operator");
    Ok(Json(detail_of(app, id).await?))
}

/// What both the API and the pages say of what happened to one, the latest first.
pub(crate) async fn events_of(
    _: &Allowed<action::ReadAccounts>,
    app: &App,
    id: ConnectionId,
    limit: i64,
) -> Result<Vec<ConnectionEvent>, ApiError> {
    latest_events(app, id, limit).await
}

async fn latest_events(app: &App, id: ConnectionId, limit: i64) -> Result<Vec<ConnectionEvent>, ApiError> {
    Ok(app.store.connection_events(id, limit).await?.into_iter().map(event_of).collect())
}

async fn find(app: &App, id: ConnectionId) -> Result<Option<ConnectionRow>, ApiError> {
    Ok(app.store.find_connection(id).await?.filter(|row| sight::shows(app, AccountId(row.account_id))))
}

pub(super) async fn detail_of(app: &App, id: ConnectionId) -> Result<ConnectionDetail, ApiError> {
    let row = find(app, id).await?;
    let row = row.ok_or_else(|| ApiError::not_found(format!("there is no connection {id}")))?;
    let breaker = app.store.find_breaker(&row.service).await?;
    Ok(ConnectionDetail {
        connection: connection_of(&row),
        settings: sight::value(Sensitive::new(row.settings)),
        breaker: breaker.as_ref().map(breaker_of),
        events: latest_events(app, id, EVENTS_MAX).await?,
    })
}

pub(super) fn connection_of(row: &ConnectionRow) -> Connection {
    Connection {
        id: row.id,
        account_id: row.account_id,
        vendor: row.vendor.clone(),
        service: row.service.clone(),
        state: row.state.clone(),
        state_reason: row.state_reason.clone().map(sight::words),
        state_since: row.state_since,
        objects: row.settings["objects"].as_array().into_iter().flatten().filter_map(name_of).collect(),
    }
}

fn name_of(name: &serde_json::Value) -> Option<String> {
    name.as_str().map(str::to_owned)
}

/// The names, each once, in their order, as far as they may be names of objects.
pub(super) fn objects_of(names: &[String]) -> Result<Vec<String>, ApiError> {
    let is_name = |name: &str| {
        name.len() <= OBJECT_BYTES_MAX
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let mut objects: Vec<String> = Vec::new();
    for name in names {
        if !is_name(name) {
            let shown: String = name.chars().take(OBJECT_BYTES_MAX).collect();
            let message = format!("'{shown}' is no name of an object");
            return Err(ApiError::bad_request(message).hint("a name is as in Account or Invoice__c"));
        }
        if !objects.contains(name) {
            objects.push(name.clone());
        }
    }
    if objects.len() > OBJECTS_MAX {
        return Err(ApiError::bad_request(format!("{} objects are more than {OBJECTS_MAX}", objects.len())));
    }
    Ok(objects)
}

pub(super) fn event_of(row: store::ConnectionEvent) -> ConnectionEvent {
    let (by, reason) = (sight::words(row.by), sight::words(row.reason));
    ConnectionEvent { what: row.what, by, reason, at: row.at }
}

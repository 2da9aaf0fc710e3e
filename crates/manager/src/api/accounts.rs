//! One customer over HTTP: its connections and what is open, its streams, and syncing a connection now. Lists of customers
//! and their weights are in `others`.

use super::{anomalies::anomaly_of, audit::entry_of, connections::connection_of, others::account_of};
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
use domain::{AccountId, ConnectionId, Kind, action};
use manager_api::{
    AccountDetail, ChangeList, ChangeQuery, EnqueueReply, ErrorEnvelope, Stream, StreamPage, StreamQuery,
};
use store::{Inserted, NewJob, StreamOfAccount, Unique};

/// Connections and anomalies shown.
const CONNECTIONS_MAX: i64 = 50;
const ANOMALIES_MAX: i64 = 20;
/// Changes of one thing, unless said and at the most.
const CHANGES: i64 = 5;
const CHANGES_MAX: i64 = 20;
/// Connections and schedules whose changes are listed, the newest.
const CHANGED_MAX: i64 = 5;

/// Shows one customer with its connections and what is open.
#[utoipa::path(get, path = "/api/v1/accounts/{id}", tag = "accounts", params(("id" = i64, Path, description = "The account")),
    responses((status = 200, body = AccountDetail), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn show(
    _: Allowed<action::ReadAccounts>,
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Json<AccountDetail>, ApiError> {
    let account = AccountId(id);
    let row = app.store.find_account(account).await?.filter(|_| sight::shows(&app, account));
    let row = row.ok_or_else(|| missing(id))?;
    Ok(Json(AccountDetail {
        account: account_of(row),
        connections: app.store.connections_of(account, CONNECTIONS_MAX).await?.iter().map(connection_of).collect(),
        anomalies: app.store.open_anomalies_of(account, ANOMALIES_MAX).await?.into_iter().map(anomaly_of).collect(),
    }))
}

/// Lists how far a customer's objects are followed, by connection and object.
#[utoipa::path(get, path = "/api/v1/accounts/{id}/streams", tag = "accounts",
    params(("id" = i64, Path, description = "The account"), StreamQuery),
    responses((status = 200, body = StreamPage), (status = 400, body = ErrorEnvelope), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn streams(
    _: Allowed<action::ReadAccounts>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Query(query): Query<StreamQuery>,
) -> Result<Json<StreamPage>, ApiError> {
    let limit = limit_of(query.limit)?;
    if !sight::shows(&app, AccountId(id)) || !app.store.has_account(AccountId(id)).await? {
        return Err(missing(id));
    }
    let after = query.after.as_deref().filter(|after| !after.is_empty());
    let wrong = || ApiError::bad_request("after is not what a page before this one ended with");
    let after = after
        .map(|text| {
            let (connection, object) = text.split_once('/').ok_or_else(wrong)?;
            Ok::<_, ApiError>((ConnectionId(connection.parse().map_err(|_| wrong())?), object))
        })
        .transpose()?;
    let now = app.store.now();
    let rows = app.store.streams_of(AccountId(id), after, limit).await?;
    let next_after = next_of(&rows, limit, |row| format!("{}/{}", row.connection_id, row.object));
    Ok(Json(StreamPage { streams: rows.into_iter().map(|row| stream_of(row, now)).collect(), next_after }))
}

/// Lists what people changed of what decides how a customer's jobs go: its share, pauses, limits, quotas, schedules; the
/// latest first. What happened to its connections is told by their events.
#[utoipa::path(get, path = "/api/v1/accounts/{id}/changes", tag = "accounts",
    params(("id" = i64, Path, description = "The account"), ChangeQuery),
    responses((status = 200, body = ChangeList), (status = 400, body = ErrorEnvelope), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn changes(
    _: Allowed<action::ReadAudit>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Query(query): Query<ChangeQuery>,
) -> Result<Json<ChangeList>, ApiError> {
    let each = query.limit.unwrap_or(CHANGES);
    if !(1..=CHANGES_MAX).contains(&each) {
        return Err(ApiError::bad_request(format!("limit is {each}, not between 1 and {CHANGES_MAX}")));
    }
    let account = AccountId(id);
    if !sight::shows(&app, account) || !app.store.has_account(account).await? {
        return Err(missing(id));
    }
    let of_account = format!("account {id}");
    let mut things = vec![("account", id.to_string()), ("pause", of_account.clone()), ("limit", of_account)];
    for connection in app.store.connections_of(account, CHANGED_MAX).await? {
        let of_connection = format!("connection {}", connection.id);
        let of_both = [("pause", of_connection.clone()), ("limit", of_connection)];
        things.extend([("budget", connection.id.to_string())].into_iter().chain(of_both));
    }
    let schedules = app.store.schedules_of(account, None, CHANGED_MAX).await?;
    things.extend(schedules.iter().map(|schedule| ("schedule", schedule.id.to_string())));
    let rows = app.store.audit_of_things(&things, each).await?;
    Ok(Json(ChangeList { changes: rows.into_iter().map(entry_of).collect() }))
}

/// Inserts a job that syncs a connection now, at once urgent; none while one that was asked for so is unfinished.
#[utoipa::path(post, path = "/api/v1/connections/{id}/sync", tag = "connections",
    params(("id" = i64, Path, description = "The connection")),
    responses((status = 201, body = EnqueueReply), (status = 200, body = EnqueueReply, description = "One is on its way"),
              (status = 404, body = ErrorEnvelope), (status = 409, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn sync(
    allowed: Allowed<action::SyncConnection>,
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    Path(id): Path<i64>,
) -> Result<(StatusCode, Json<EnqueueReply>), ApiError> {
    let row = app.store.find_connection(ConnectionId(id)).await?;
    let row = row.ok_or_else(|| ApiError::not_found(format!("there is no connection {id}")))?;
    if row.state != "active" {
        return Err(ApiError::conflict(format!("connection {id} is {}", row.state))
            .hint("have it authorised again, or enable it, first"));
    }
    // A kind that keeps a vendor's records is called so.
    let kind = Kind::new(format!("{}_sync", row.vendor)).map_err(|error| ApiError::conflict(error.to_string()))?;
    let job = NewJob {
        account: AccountId(row.account_id),
        connection: Some(ConnectionId(id)),
        priority: 0,
        unique: Some(Unique { key: format!("sync-now:{id}"), for_secs: None }),
        request_id: request_id.0,
        ..NewJob::new(kind, serde_json::json!({}))
    };
    let inserted = app.store.enqueue(allowed.granted(), &[job]).await?.into_iter().next();
    let (status, job_id, duplicate) = match inserted {
        Some(Inserted::New(job)) => (StatusCode::CREATED, Some(job.0), false),
        Some(Inserted::Duplicate(holder)) => (StatusCode::OK, holder.map(|job| job.0), true),
        None => (StatusCode::OK, None, true),
    };
    let by = allowed.granted().by();
    tracing::info!(RequestId = %request_id.0, ConnectionId = id, JobId = job_id, by, "a sync was asked for by an operator");
    Ok((status, Json(EnqueueReply { id: job_id, duplicate, request_id: request_id.0.to_string() })))
}

fn missing(id: i64) -> ApiError {
    ApiError::not_found(format!("there is no account {id}")).hint("GET /api/v1/accounts lists them")
}

fn stream_of(row: StreamOfAccount, now: DateTime<Utc>) -> Stream {
    let left = match (row.rows_seen, row.rows_expected, row.opened_at) {
        (Some(seen), Some(expected), Some(opened)) if seen > 0 && expected >= seen => {
            let took = (now - opened).num_seconds().max(0);
            Some(took.saturating_mul(expected - seen) / seen)
        }
        _ => None,
    };
    Stream {
        connection_id: row.connection_id,
        object: row.object,
        lag_secs: row.watermark.map(|at| (now - at).num_seconds().max(0)),
        watermark: row.watermark,
        synced_at: row.synced_at,
        health: row.health,
        health_reason: row.health_reason.map(sight::words),
        rows_seen: row.rows_seen,
        rows_expected: row.rows_expected,
        left_secs: left,
    }
}

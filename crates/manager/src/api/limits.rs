//! Limits over HTTP: list, set, remove. Those for each account, and for each connection of any vendor, have no key.

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
use domain::{Scope, action};
use manager_api::{
    Bounds, ByWhom, ErrorEnvelope, Holder, HolderList, HolderQuery, Limit, LimitPage, LimitQuery, LimitRemoved,
    LimitRequest,
};
use store::{HolderRow, LimitRow, LimitsAfter};

/// Lists limits, those that do not count included, by scope and key.
#[utoipa::path(get, path = "/api/v1/limits", tag = "limits", params(LimitQuery),
    responses((status = 200, body = LimitPage), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn list(
    _: Allowed<action::ReadLimits>,
    State(app): State<App>,
    Query(query): Query<LimitQuery>,
) -> Result<Json<LimitPage>, ApiError> {
    let limit = limit_of(query.limit)?;
    let after = query.after.as_deref().map(after_of).transpose()?;
    let rows = app.store.list_limits(after.as_ref(), limit).await?;
    let next_after = next_of(&rows, limit, cursor_of);
    Ok(Json(LimitPage { limits: rows.iter().map(limit_row).collect(), next_after }))
}

/// Lists who holds a limit: the jobs that are queued or running and count under it, by kind, account and connection.
#[utoipa::path(get, path = "/api/v1/holders", tag = "limits", params(HolderQuery),
    responses((status = 200, body = HolderList), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn holders(
    _: Allowed<action::ReadLimits>,
    _: Allowed<action::ReadJobs>,
    State(app): State<App>,
    Query(query): Query<HolderQuery>,
) -> Result<Json<HolderList>, ApiError> {
    let scope = scope_of(&query.scope, query.key.as_deref().unwrap_or_default())?;
    let held = app.store.holders_of(&scope).await?;
    let holder = |row: HolderRow| Holder {
        kind: row.kind.to_string(),
        account_id: row.account.0,
        connection_id: row.connection.map(|id| id.0),
        jobs: row.jobs,
    };
    Ok(Json(HolderList { holders: held.rows.into_iter().map(holder).collect(), is_partial: held.is_partial }))
}

/// Sets an operator's limit on a kind, an account, a connection, a vendor, or each connection of a vendor.
#[utoipa::path(put, path = "/api/v1/limits/{scope}/{key}", tag = "limits", request_body = LimitRequest,
    params(("scope" = String, Path, description = "kind, account, connection, vendor or each_connection"),
           ("key" = String, Path, description = "The kind's or vendor's name, or the id")),
    responses((status = 200, body = Limit), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn set(
    allowed: Allowed<action::SetLimit>,
    State(app): State<App>,
    Path((scope, key)): Path<(String, String)>,
    Json(request): Json<LimitRequest>,
) -> Result<Json<Limit>, ApiError> {
    Ok(Json(set_limit(&app, &allowed, &scope_of(&scope, &key)?, &request).await?))
}

/// Sets an operator's limit on each account, or on each connection of any vendor.
#[utoipa::path(put, path = "/api/v1/limits/{scope}", tag = "limits", request_body = LimitRequest,
    params(("scope" = String, Path, description = "each_account or each_connection")),
    responses((status = 200, body = Limit), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn set_each(
    allowed: Allowed<action::SetLimit>,
    State(app): State<App>,
    Path(scope): Path<String>,
    Json(request): Json<LimitRequest>,
) -> Result<Json<Limit>, ApiError> {
    Ok(Json(set_limit(&app, &allowed, &scope_of(&scope, "")?, &request).await?))
}

/// Removes an operator's limit; one that is declared counts again.
#[utoipa::path(delete, path = "/api/v1/limits/{scope}/{key}", tag = "limits",
    params(("scope" = String, Path, description = "kind, account, connection, vendor or each_connection"),
           ("key" = String, Path, description = "The kind's or vendor's name, or the id"), ByWhom),
    responses((status = 200, body = LimitRemoved), (status = 404, body = ErrorEnvelope),
              (status = 409, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn remove(
    allowed: Allowed<action::RemoveLimit>,
    State(app): State<App>,
    Path((scope, key)): Path<(String, String)>,
    Query(whom): Query<ByWhom>,
) -> Result<Json<LimitRemoved>, ApiError> {
    Ok(Json(remove_limit(&app, &allowed, &scope_of(&scope, &key)?, &whom).await?))
}

/// Removes an operator's limit on each account, or on each connection of any vendor.
#[utoipa::path(delete, path = "/api/v1/limits/{scope}", tag = "limits",
    params(("scope" = String, Path, description = "each_account or each_connection"), ByWhom),
    responses((status = 200, body = LimitRemoved), (status = 404, body = ErrorEnvelope),
              (status = 409, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn remove_each(
    allowed: Allowed<action::RemoveLimit>,
    State(app): State<App>,
    Path(scope): Path<String>,
    Query(whom): Query<ByWhom>,
) -> Result<Json<LimitRemoved>, ApiError> {
    Ok(Json(remove_limit(&app, &allowed, &scope_of(&scope, "")?, &whom).await?))
}

fn scope_of(scope: &str, key: &str) -> Result<Scope, ApiError> {
    Scope::new(scope, key).map_err(ApiError::bad_request)
}

async fn set_limit(
    app: &App,
    allowed: &Allowed<action::SetLimit>,
    scope: &Scope,
    request: &LimitRequest,
) -> Result<Limit, ApiError> {
    let granted = allowed.because(request.by.as_deref(), &request.reason)?;
    let Bounds { concurrency, per_second, per_minute, burst, per_day, reserve_pct } = request.bounds;
    let limit = domain::Limit { concurrency, per_second, per_minute, burst, per_day, reserve_pct };
    limit.check().map_err(ApiError::bad_request)?;
    let row = app.store.set_limit(&granted, scope, &limit).await?;
    tracing::info!(scope = scope.scope(), key = scope.key(), by = granted.by(), "a limit was set by an operator");
    Ok(limit_row(&row))
}

async fn remove_limit(
    app: &App,
    allowed: &Allowed<action::RemoveLimit>,
    scope: &Scope,
    whom: &ByWhom,
) -> Result<LimitRemoved, ApiError> {
    let granted = allowed.said(whom)?;
    match app.store.remove_limit(&granted, scope).await? {
        store::LimitRemoved::Done => {}
        store::LimitRemoved::Declared => {
            return Err(ApiError::conflict(format!("the limit on {scope} is declared"))
                .hint("take it out of config/jobs.toml, or set another in its place"));
        }
        store::LimitRemoved::Missing => {
            return Err(ApiError::not_found(format!("there is no limit on {scope}"))
                .hint("GET /api/v1/limits lists those that there are"));
        }
    }
    tracing::info!(scope = scope.scope(), key = scope.key(), by = granted.by(), "a limit was removed by an operator");
    Ok(LimitRemoved { scope: scope.scope().to_owned(), key: scope.key() })
}

const fn source_of(row: &LimitRow) -> &'static str {
    if row.is_declared { "declared" } else { "operator" }
}

fn cursor_of(row: &LimitRow) -> String {
    format!("{}/{}/{}", row.scope.scope(), row.scope.key(), source_of(row))
}

fn after_of(text: &str) -> Result<LimitsAfter, ApiError> {
    let parts = text.split_once('/').and_then(|(scope, rest)| Some((scope, rest.rsplit_once('/')?)));
    let Some((scope, (key, source @ ("declared" | "operator")))) = parts else {
        return Err(ApiError::bad_request("after is not what a page before this one ended with"));
    };
    Ok(LimitsAfter { scope: Scope::of_row(scope.to_owned(), key.to_owned()), is_declared: source == "declared" })
}

fn limit_row(row: &LimitRow) -> Limit {
    let domain::Limit { concurrency, per_second, per_minute, burst, per_day, reserve_pct } = row.limit;
    Limit {
        scope: row.scope.scope().to_owned(),
        key: row.scope.key(),
        source: source_of(row).to_owned(),
        in_force: row.is_in_force,
        bounds: Bounds { concurrency, per_second, per_minute, burst, per_day, reserve_pct },
        set_by: row.set_by.clone(),
        reason: row.reason.clone(),
        set_at: row.set_at,
    }
}

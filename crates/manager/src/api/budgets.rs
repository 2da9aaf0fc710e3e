//! Customers' quotas over HTTP: list, show with history, and our share of one of them.

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
use domain::{BudgetSettings, ConnectionId, Spending, action};
use manager_api::{
    Budget, BudgetDetail, BudgetMinute, BudgetPage, BudgetQuery, ByWhom, ErrorEnvelope, MinuteQuery, ShareReply,
    ShareRequest,
};
use store::BudgetRow;

/// Lists the quotas on which a vendor has spoken, by connection.
#[utoipa::path(get, path = "/api/v1/budgets", tag = "budgets", params(BudgetQuery),
    responses((status = 200, body = BudgetPage), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn list(
    _: Allowed<action::ReadLimits>,
    State(app): State<App>,
    Query(query): Query<BudgetQuery>,
) -> Result<Json<BudgetPage>, ApiError> {
    let limit = limit_of(query.limit)?;
    let rows = app.store.list_budgets(query.after.map(ConnectionId), limit).await?;
    let next_after = next_of(&rows, limit, |row| row.connection.0);
    Ok(Json(BudgetPage { budgets: rows.into_iter().map(budget_of).collect(), next_after }))
}

/// Shows a connection's quota and its history by the minute, the latest first.
#[utoipa::path(get, path = "/api/v1/budgets/{connection}", tag = "budgets",
    params(("connection" = i64, Path, description = "The connection"), MinuteQuery),
    responses((status = 200, body = BudgetDetail), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn show(
    _: Allowed<action::ReadLimits>,
    State(app): State<App>,
    Path(connection): Path<i64>,
    Query(query): Query<MinuteQuery>,
) -> Result<Json<BudgetDetail>, ApiError> {
    let limit = limit_of(query.limit)?;
    let connection = ConnectionId(connection);
    let row = app.store.find_budget(connection).await?.filter(|row| sight::shows(&app, row.account));
    let Some(row) = row else {
        return Err(ApiError::not_found(format!("no vendor has spoken of a quota of connection {connection}"))
            .hint("it is known once a job of the connection has called the vendor"));
    };
    let rows = app.store.budget_minutes(connection, query.before, limit).await?;
    let next_before = next_of(&rows, limit, |row| row.minute);
    let day = app.store.budget_day(connection).await?;
    Ok(Json(BudgetDetail {
        budget: budget_of(row),
        day: day.into_iter().map(minute_of).collect(),
        minutes: rows.into_iter().map(minute_of).collect(),
        next_before,
    }))
}

fn minute_of(row: store::BudgetMinute) -> BudgetMinute {
    BudgetMinute {
        minute: row.minute,
        used: row.used,
        maximum: row.maximum,
        ceiling: row.ceiling,
        reserved: row.reserved,
    }
}

/// Sets our share of one connection's quota; it counts until it is taken back, whatever is declared.
#[utoipa::path(put, path = "/api/v1/budgets/{connection}/share", tag = "budgets", request_body = ShareRequest,
    params(("connection" = i64, Path, description = "The connection")),
    responses((status = 200, body = ShareReply), (status = 400, body = ErrorEnvelope),
              (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn set_share(
    allowed: Allowed<action::SetShare>,
    State(app): State<App>,
    Path(connection_id): Path<i64>,
    Json(request): Json<ShareRequest>,
) -> Result<Json<ShareReply>, ApiError> {
    let granted = allowed.because(request.by.as_deref(), &request.reason)?;
    let settings = BudgetSettings { share_pct: request.share_pct, health_pct: request.health_pct };
    settings.check().map_err(ApiError::bad_request)?;
    if !app.store.set_budget_settings(&granted, ConnectionId(connection_id), settings).await? {
        return Err(ApiError::not_found(format!("there is no connection {connection_id}")));
    }
    tracing::info!(ConnectionId = connection_id, by = granted.by(), "our share of a quota was set by an operator");
    Ok(Json(ShareReply { connection_id }))
}

/// Takes a connection's own share back: the deployment's counts again.
#[utoipa::path(delete, path = "/api/v1/budgets/{connection}/share", tag = "budgets",
    params(("connection" = i64, Path, description = "The connection"), ByWhom),
    responses((status = 200, body = ShareReply), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn remove_share(
    allowed: Allowed<action::RemoveShare>,
    State(app): State<App>,
    Path(connection_id): Path<i64>,
    Query(whom): Query<ByWhom>,
) -> Result<Json<ShareReply>, ApiError> {
    let granted = allowed.said(&whom)?;
    if !app.store.remove_budget_settings(&granted, ConnectionId(connection_id)).await? {
        return Err(ApiError::not_found(format!("connection {connection_id} has no share of its own"))
            .hint("the deployment's is in config/jobs.toml, [limits.budget]"));
    }
    tracing::info!(ConnectionId = connection_id, by = granted.by(), "our share of a quota is the deployment's again");
    Ok(Json(ShareReply { connection_id }))
}

fn budget_of(row: BudgetRow) -> Budget {
    let spending = Spending { budget: row.budget, settings: row.settings, reserved: 0, pace: None };
    Budget {
        connection_id: row.connection.0,
        account_id: row.account.0,
        vendor: row.vendor,
        used: row.budget.used,
        maximum: row.budget.maximum,
        ceiling: spending.ceiling(),
        reported_at: row.budget.reported_at,
        resets_at: row.budget.resets_at,
        share_pct: row.settings.share_pct,
        health_pct: row.settings.health_pct,
        share_is_own: row.settings_by.is_own,
        share_set_by: row.settings_by.set_by,
        share_reason: row.settings_by.reason,
        share_set_at: row.settings_by.set_at,
    }
}

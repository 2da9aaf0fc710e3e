//! Looks at accounts over HTTP: begin, end, and who looked at what. What is served during one is `assume`'s.

use crate::{
    App,
    allowed::Allowed,
    error::ApiError,
    filter::{limit_of, next_of, words},
};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use chrono::{DateTime, Utc};
use domain::{AccountId, Role, action};
use manager_api::{
    AssumeReply, AssumeRequest, Assumption, AssumptionDetail, AssumptionEvent, AssumptionPage, AssumptionQuery,
    ErrorEnvelope, PageQuery,
};
use salesforce::new_secret;
use store::{AssumptionRow, NewAssumption};
use vault::{ExposeSecret as _, digest};

/// Lists who looked at which account, and why, the latest first.
#[utoipa::path(get, path = "/api/v1/assumptions", tag = "assumptions", params(AssumptionQuery),
    responses((status = 200, body = AssumptionPage), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn list(
    _: Allowed<action::ReadAssumptions>,
    State(app): State<App>,
    Query(query): Query<AssumptionQuery>,
) -> Result<Json<AssumptionPage>, ApiError> {
    let limit = limit_of(query.limit)?;
    let rows = app.store.list_assumptions(query.account.map(AccountId), query.before, limit).await?;
    let next_before = next_of(&rows, limit, |row| row.id);
    let now = app.store.now();
    Ok(Json(AssumptionPage { assumptions: rows.into_iter().map(|row| assumption_of(row, now)).collect(), next_before }))
}

/// Shows one look and what was looked at, the latest first.
#[utoipa::path(get, path = "/api/v1/assumptions/{id}", tag = "assumptions",
    params(("id" = i64, Path, description = "The look"), PageQuery),
    responses((status = 200, body = AssumptionDetail), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope), (status = 404, body = ErrorEnvelope)))]
pub(crate) async fn show(
    _: Allowed<action::ReadAssumptions>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Query(page): Query<PageQuery>,
) -> Result<Json<AssumptionDetail>, ApiError> {
    let limit = limit_of(page.limit)?;
    let row = find(&app, id).await?;
    let events = app.store.assumption_events(id, page.before, limit).await?;
    let next_before = next_of(&events, limit, |event| event.id);
    let event = |event: store::AssumptionEvent| AssumptionEvent {
        id: event.id,
        what: event.what,
        at_what: event.at_what,
        at: event.at,
    };
    let events = events.into_iter().map(event).collect();
    Ok(Json(AssumptionDetail { assumption: assumption_of(row, app.store.now()), events, next_before }))
}

/// Begins to look at an account as its customer does: for 30 minutes, nothing can be changed, nobody is called, what
/// tells of persons is masked, and every page is written down.
#[utoipa::path(post, path = "/api/v1/assumptions", tag = "assumptions", request_body = AssumeRequest,
    responses((status = 201, body = AssumeReply), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope), (status = 404, body = ErrorEnvelope),
              (status = 409, body = ErrorEnvelope, description = "The database has no role for it")))]
pub(crate) async fn start(
    allowed: Allowed<action::AssumeAccount>,
    State(app): State<App>,
    Json(request): Json<AssumeRequest>,
) -> Result<(StatusCode, Json<AssumeReply>), ApiError> {
    let why = |error: ApiError| error.hint("the customer may ask who looked at their data, and why");
    let reason = words("reason", &request.reason).map_err(why)?;
    let ticket = words("ticket", &request.ticket).map_err(why)?;
    let account = AccountId(request.account_id);
    if account == AccountId::SYSTEM || !app.store.has_account(account).await? {
        return Err(ApiError::not_found(format!("there is no account {account}")));
    }
    // Better now than on the first page.
    app.store.assumed(account).await?.close().await;
    let token = new_secret();
    let granted = allowed.because(None, reason)?;
    let new = NewAssumption { account, reason, ticket, token_digest: &digest(&token) };
    let row = app.store.begin_assumption(&granted, &new).await?;
    tracing::info!(AccountId = account.0, assumption_id = row.id, by = granted.by(), "an account is looked at");
    let assumption = assumption_of(row, app.store.now());
    Ok((StatusCode::CREATED, Json(AssumeReply { assumption, token: token.expose_secret().to_owned() })))
}

/// Ends a look before its time.
#[utoipa::path(post, path = "/api/v1/assumptions/{id}/end", tag = "assumptions",
    params(("id" = i64, Path, description = "The look")),
    responses((status = 200, body = Assumption), (status = 403, body = ErrorEnvelope),
              (status = 404, body = ErrorEnvelope), (status = 409, body = ErrorEnvelope)))]
pub(crate) async fn end(
    allowed: Allowed<action::EndAssumption>,
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Json<Assumption>, ApiError> {
    let row = find(&app, id).await?;
    let principal = allowed.granted().principal();
    let is_own =
        (row.principal_kind.as_str(), row.principal_id.as_str()) == (principal.kind().as_str(), principal.id());
    if !is_own && principal.role() != Role::Admin {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", format!("look {id} is somebody else's")));
    }
    if !app.store.end_assumption(allowed.granted(), id).await? {
        return Err(ApiError::conflict(format!("look {id} has ended already")));
    }
    tracing::info!(AccountId = row.account_id, assumption_id = id, by = principal.name(), "a look has ended");
    Ok(Json(assumption_of(find(&app, id).await?, app.store.now())))
}

async fn find(app: &App, id: i64) -> Result<AssumptionRow, ApiError> {
    let row = app.store.find_assumption(id).await?;
    row.ok_or_else(|| ApiError::not_found(format!("there is no look {id}")).hint("GET /api/v1/assumptions lists them"))
}

fn assumption_of(row: AssumptionRow, now: DateTime<Utc>) -> Assumption {
    Assumption {
        is_open: row.is_open(now),
        id: row.id,
        account_id: row.account_id,
        by: row.principal_name,
        reason: row.reason,
        ticket: row.ticket,
        started_at: row.started_at,
        ends_at: row.ends_at,
        ended_at: row.ended_at,
    }
}

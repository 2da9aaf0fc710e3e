//! Accounts and statistics over HTTP.

use crate::{
    App,
    allowed::Allowed,
    api::servants::fleet_of,
    error::ApiError,
    filter::{limit_of, next_of},
    sight,
};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use domain::{AccountId, Liveness, action};
use manager_api::{
    Account, AccountPage, Build, ErrorEnvelope, Failure, JobCount, PageQuery, Processes, Servant, Stats, WeightRequest,
};
use std::collections::BTreeMap;
use store::{AccountRow, BuildRow, RecentFailure};

/// Failures shown with the statistics.
const FAILURES_MAX: i64 = 10;

/// Lists accounts, newest first.
#[utoipa::path(get, path = "/api/v1/accounts", tag = "accounts", params(PageQuery),
    responses((status = 200, body = AccountPage), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn accounts(
    _: Allowed<action::ReadAccounts>,
    State(app): State<App>,
    Query(page): Query<PageQuery>,
) -> Result<Json<AccountPage>, ApiError> {
    let limit = limit_of(page.limit)?;
    if let Some(account) = app.store.viewed() {
        let own = app.store.find_account(account).await?;
        return Ok(Json(AccountPage { accounts: own.into_iter().map(account_of).collect(), next_before: None }));
    }
    let rows = app.store.list_accounts(page.before.map(AccountId), limit).await?;
    let next_before = next_of(&rows, limit, |row| row.id);
    Ok(Json(AccountPage { accounts: rows.into_iter().map(account_of).collect(), next_before }))
}

/// Sets an account's share of what is dispatched, beside others that wait for the same kind of work.
#[utoipa::path(put, path = "/api/v1/accounts/{id}/weight", tag = "accounts", request_body = WeightRequest,
    params(("id" = i64, Path, description = "The account")),
    responses((status = 200, body = Account), (status = 400, body = ErrorEnvelope), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn set_weight(
    allowed: Allowed<action::SetWeight>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<WeightRequest>,
) -> Result<Json<Account>, ApiError> {
    if !(1..=100).contains(&request.weight) {
        return Err(ApiError::bad_request("weight is 1 to 100").hint("to hold an account back, pause it"));
    }
    let granted = allowed.because(request.by.as_deref(), &request.reason)?;
    let row = app.store.set_account_weight(&granted, AccountId(id), request.weight).await?;
    let row = row.ok_or_else(|| ApiError::not_found(format!("there is no account {id}")))?;
    let (by, reason) = (granted.by(), granted.reason());
    tracing::info!(AccountId = id, weight = request.weight, by, reason, "an operator set the account's share");
    Ok(Json(account_of(row)))
}

pub(super) fn account_of(row: AccountRow) -> Account {
    Account { id: row.id, name: row.name, weight: row.weight, created_at: row.created_at }
}

fn processes(kind: String, expected: i32, servants: &[Servant]) -> Processes {
    let of_kind = servants.iter().filter(|servant| servant.kind == kind);
    let alive = of_kind.filter(|servant| servant.liveness != Liveness::Lost.as_str()).count();
    Processes { kind, expected, alive }
}

/// What both the API and the pages say of how many jobs there are, by kind and state.
pub(crate) async fn counts(_: &Allowed<action::ReadStats>, app: &App) -> Result<Vec<JobCount>, ApiError> {
    let counts = app.store.job_counts().await?;
    Ok(counts.into_iter().map(|c| JobCount { kind: c.kind, state: c.state, jobs: c.jobs }).collect())
}

/// What both say of how many processes of each kind there should be.
pub(crate) async fn expected(_: &Allowed<action::ReadStats>, app: &App) -> Result<BTreeMap<String, i32>, ApiError> {
    Ok(app.store.expected_processes().await?)
}

/// What both say of builds, the latest first.
pub(crate) async fn builds(_: &Allowed<action::ReadStats>, app: &App) -> Result<Vec<Build>, ApiError> {
    let build = |BuildRow { version, kinds, first_at }| Build { version, kinds, first_at };
    Ok(app.store.builds().await?.into_iter().map(build).collect())
}

/// What both say of the jobs that failed last.
pub(crate) async fn failures(_: &Allowed<action::ReadStats>, app: &App) -> Result<Vec<Failure>, ApiError> {
    let failure = |row: RecentFailure| Failure {
        id: row.id,
        kind: row.kind,
        account_id: row.account_id,
        attempt: row.attempt,
        finished_at: row.finished_at,
        class: row.class,
        error: row.error.map(sight::words),
    };
    Ok(app.store.recent_failures(FAILURES_MAX).await?.into_iter().map(failure).collect())
}

/// The whole at a glance.
#[utoipa::path(get, path = "/api/v1/stats", tag = "stats", responses((status = 200, body = Stats),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn stats(
    allowed: Allowed<action::ReadStats>,
    State(app): State<App>,
) -> Result<Json<Stats>, ApiError> {
    let servants = fleet_of(&app).await?;
    let servants_alive = servants.iter().filter(|servant| servant.liveness == Liveness::Alive.as_str()).count();
    let expected = expected(&allowed, &app).await?;
    Ok(Json(Stats {
        now: app.store.now(),
        counts: counts(&allowed, &app).await?,
        processes: expected.into_iter().map(|(kind, expected)| processes(kind, expected, &servants)).collect(),
        builds: builds(&allowed, &app).await?,
        servants_alive,
        servants_silent: servants.len() - servants_alive,
        recent_failures: failures(&allowed, &app).await?,
    }))
}

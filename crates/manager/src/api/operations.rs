//! Bulk operations over HTTP: preview, order, list, show, stop. They are carried out by the leading scheduler.

use crate::{
    App,
    allowed::Allowed,
    error::ApiError,
    filter::{limit_of, next_of},
};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use domain::{BulkAct, JobId, JobState, Search, action};
use manager_api::{
    ByWhom, CancelOperation, CreateOperation, ErrorEnvelope, ItemPage, ItemQuery, Operation, OperationItem,
    OperationPage, OperationPreview, PageQuery, PreviewOperationQuery,
};
use store::{JobFilter, NewOperation, OperationRow};

/// Jobs a second, unless said and at the most.
const PER_SECOND: u32 = 200;
const PER_SECOND_MAX: u32 = 10_000;
/// Jobs looked at for a count that no counter has.
const COUNTED_MAX: i64 = 400;

/// Lists operations, newest first.
#[utoipa::path(get, path = "/api/v1/operations", tag = "operations", params(PageQuery),
    responses((status = 200, body = OperationPage), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn list(
    _: Allowed<action::ReadOperations>,
    State(app): State<App>,
    Query(page): Query<PageQuery>,
) -> Result<Json<OperationPage>, ApiError> {
    let limit = limit_of(page.limit)?;
    let rows = app.store.list_operations(page.before, limit).await?;
    let next_before = next_of(&rows, limit, |row| row.id);
    Ok(Json(OperationPage { operations: rows.into_iter().map(operation_of).collect(), next_before }))
}

/// Shows one operation.
#[utoipa::path(get, path = "/api/v1/operations/{id}", tag = "operations",
    params(("id" = i64, Path, description = "The operation")),
    responses((status = 200, body = Operation), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn show(
    _: Allowed<action::ReadOperations>,
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Json<Operation>, ApiError> {
    Ok(Json(operation_of(find(&app, id).await?)))
}

/// Says what an operation would be done to; changes nothing.
#[utoipa::path(get, path = "/api/v1/operations/preview", tag = "operations", params(PreviewOperationQuery),
    responses((status = 200, body = OperationPreview), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn preview(
    _: Allowed<action::ReadOperations>,
    State(app): State<App>,
    Query(query): Query<PreviewOperationQuery>,
) -> Result<Json<OperationPreview>, ApiError> {
    let (act, search) = meant(&query.act, &query.q)?;
    let Counted { jobs, most } = count(&app, &search).await?;
    let (act, is_exact) = (act.as_str().to_owned(), most == Some(jobs));
    Ok(Json(OperationPreview { act, q: search.to_string(), jobs, is_exact, jobs_max: most }))
}

/// Orders that every job which a search finds is retried or cancelled. Jobs that come later are not concerned.
#[utoipa::path(post, path = "/api/v1/operations", tag = "operations", request_body = CreateOperation,
    responses((status = 201, body = Operation), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn create(
    allowed: Allowed<action::CreateOperation>,
    State(app): State<App>,
    Json(request): Json<CreateOperation>,
) -> Result<(StatusCode, Json<Operation>), ApiError> {
    let (act, search) = meant(&request.act, &request.q)?;
    let granted = allowed.because(request.by.as_deref(), &request.reason)?;
    let per_second = request.per_second.unwrap_or(PER_SECOND);
    if !(1..=PER_SECOND_MAX).contains(&per_second) {
        return Err(ApiError::bad_request(format!("per_second is not between 1 and {PER_SECOND_MAX}")));
    }
    let Counted { jobs: expected, most } = count(&app, &search).await?;
    let expected_is_exact = most == Some(expected);
    let new = NewOperation { act, search, expected, expected_is_exact, per_second };
    let id = app.store.create_operation(&granted, &new).await?;
    let by = granted.by();
    tracing::info!(operation_id = id, act = act.as_str(), jobs = expected, by, "a bulk operation was ordered");
    Ok((StatusCode::CREATED, Json(operation_of(find(&app, id).await?))))
}

/// Stops an operation; what it has done stays.
#[utoipa::path(post, path = "/api/v1/operations/{id}/cancel", tag = "operations", request_body = CancelOperation,
    params(("id" = i64, Path, description = "The operation")),
    responses((status = 200, body = Operation), (status = 400, body = ErrorEnvelope), (status = 404, body = ErrorEnvelope),
              (status = 409, body = ErrorEnvelope, description = "It has ended"),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn cancel(
    allowed: Allowed<action::CancelOperation>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<CancelOperation>,
) -> Result<Json<Operation>, ApiError> {
    let granted = allowed.said(&ByWhom { by: request.by, reason: None })?;
    let is_stopped = app.store.cancel_operation(&granted, id).await?;
    let row = find(&app, id).await?;
    if !is_stopped {
        return Err(ApiError::conflict(format!("operation {id} is {} already", row.state)));
    }
    tracing::info!(operation_id = id, by = granted.by(), "a bulk operation was stopped");
    Ok(Json(operation_of(row)))
}

/// Lists what became of an operation's jobs, newest first.
#[utoipa::path(get, path = "/api/v1/operations/{id}/items", tag = "operations",
    params(("id" = i64, Path, description = "The operation"), ItemQuery),
    responses((status = 200, body = ItemPage), (status = 400, body = ErrorEnvelope), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn items(
    _: Allowed<action::ReadOperations>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Query(query): Query<ItemQuery>,
) -> Result<Json<ItemPage>, ApiError> {
    let limit = limit_of(query.limit)?;
    find(&app, id).await?;
    let rows = app.store.operation_items(id, query.before.map(JobId), limit).await?;
    let next_before = next_of(&rows, limit, |row| row.job_id);
    let items = rows.into_iter().map(|row| OperationItem { job_id: row.job_id, applied: row.applied });
    Ok(Json(ItemPage { items: items.collect(), next_before }))
}

/// The act and the search with its states. Nobody means everything without saying a word.
fn meant(act: &str, q: &str) -> Result<(BulkAct, Search), ApiError> {
    let act: BulkAct = act.parse().map_err(ApiError::bad_request)?;
    let search: Search = q.parse().map_err(ApiError::bad_request)?;
    if search == Search::default() {
        return Err(ApiError::bad_request("the search is empty: that would be every job")
            .hint("say at least a state or a kind, as state:failed"));
    }
    Ok((act, act.within(search).map_err(ApiError::bad_request)?))
}

/// How many jobs a search finds.
#[derive(Debug, Clone, Copy)]
struct Counted {
    /// At least so many.
    jobs: i64,
    /// At most so many; the same where that is all.
    most: Option<i64>,
}

impl Counted {
    const fn exactly(jobs: i64) -> Self {
        Self { jobs, most: Some(jobs) }
    }
}

/// How many jobs a search finds: from a counter where one has the number, else by looking at the first ones, and no more
/// than the least of the counters that it is within.
async fn count(app: &App, search: &Search) -> Result<Counted, ApiError> {
    let only = |rest: Search| rest == Search { states: search.states.clone(), ..Search::default() };
    let sum = |of: &dyn Fn(JobState) -> i64| search.states.iter().map(|state| of(*state)).sum::<i64>();
    if only(Search { kind: None, ..search.clone() }) {
        return Ok(Counted::exactly(of_kind_and_state(app, search).await?));
    }
    let mut most = i64::MAX;
    if let Some(group) = search.group {
        let row = app.store.find_group(group).await?;
        let members = row.map_or(0, |row| sum(&|state| row.counts.of(state)));
        if only(Search { group: None, ..search.clone() }) {
            return Ok(Counted::exactly(members));
        }
        most = most.min(members);
    }
    if let Some(error) = &search.error {
        let row = app.store.find_error(error).await?.filter(|_| search.states.contains(&JobState::Failed));
        // Each group of errors is of one kind.
        let is_meant = |kind: &str| search.kind.as_ref().is_none_or(|meant| meant.as_str() == kind);
        let failed = row.filter(|row| is_meant(&row.kind)).map_or(0, |row| row.failed.max(0));
        if only(Search { error: None, kind: None, ..search.clone() }) {
            return Ok(Counted::exactly(failed));
        }
        most = most.min(failed);
    }
    let mut filter = JobFilter::of(search, app.store.now());
    let mut jobs = 0;
    while jobs < COUNTED_MAX {
        let page = app.store.search_jobs(&filter, store::PAGE_ROWS_MAX).await?;
        let rows = i64::try_from(page.jobs.len()).unwrap_or(i64::MAX);
        jobs += rows;
        // A short page has looked at many more than it shows.
        if page.next_before.is_none() || rows < store::PAGE_ROWS_MAX {
            if page.next_before.is_none() {
                return Ok(Counted::exactly(jobs));
            }
            break;
        }
        filter.before_id = page.next_before;
    }
    let most = most.min(of_kind_and_state(app, search).await?);
    // Counters are as old as their last fold, and bound nothing that was seen.
    Ok(Counted { jobs, most: Some(most).filter(|most| *most > jobs) })
}

/// How many jobs there are of the kind and in the states that are meant, whatever else is.
async fn of_kind_and_state(app: &App, search: &Search) -> Result<i64, ApiError> {
    let is_meant = |kind: &str| search.kind.as_ref().is_none_or(|meant| meant.as_str() == kind);
    let counts = app.store.job_counts().await?;
    let meant = counts.iter().filter(|row| is_meant(&row.kind) && search.states.contains(&row.state));
    Ok(meant.map(|row| row.jobs).sum())
}

async fn find(app: &App, id: i64) -> Result<OperationRow, ApiError> {
    app.store.find_operation(id).await?.ok_or_else(|| {
        ApiError::not_found(format!("there is no operation {id}")).hint("GET /api/v1/operations lists them")
    })
}

fn operation_of(row: OperationRow) -> Operation {
    Operation {
        id: row.id,
        act: row.act,
        q: row.search,
        state: row.state,
        expected: row.expected,
        expected_is_exact: row.expected_is_exact,
        applied: row.applied,
        skipped: row.skipped,
        per_second: row.per_second,
        created_by: row.created_by,
        reason: row.reason,
        created_at: row.created_at,
        ended_at: row.ended_at,
        cancelled_by: row.cancelled_by,
    }
}

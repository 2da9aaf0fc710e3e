//! Bulk operations: the look before one is ordered, the order, its progress, what became of each job, the stop.

use super::{ROWS, field, name, render};
use crate::{
    App,
    allowed::Asker,
    api::operations as api,
    error::ApiError,
    view::{BarView, When, encode, grouped, when},
};
use askama::Template;
use axum::{
    Form, Json, Router,
    extract::{Path, Query, State},
    response::{Redirect, Response},
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use manager_api::{
    CancelOperation, CreateOperation, ItemQuery, Operation, OperationItem, OperationPreview, PageQuery,
    PreviewOperationQuery,
};
use serde::Deserialize;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/operations", get(list).post(order))
        .route("/operations/new", get(preview))
        .route("/operations/{id}", get(one))
        .route("/operations/{id}/cancel", post(cancel))
}

/// An operation as a page shows it.
struct OperationView {
    bar: BarView,
    created: When,
    ended: Option<When>,
    jobs_url: String,
    is_running: bool,
    row: Operation,
}

impl OperationView {
    fn new(row: Operation, now: DateTime<Utc>) -> Self {
        let number = |jobs: i64| u64::try_from(jobs).unwrap_or(0);
        let done = row.applied + row.skipped;
        let is_running = row.state == "running";
        let of =
            if row.expected_is_exact { grouped(row.expected) } else { format!("{} or more", grouped(row.expected)) };
        let total = match (is_running, row.expected_is_exact) {
            (true, false) => None,
            (true, true) => Some(number(row.expected.max(done).max(1))),
            (false, _) => Some(number(done).max(1)),
        };
        let message = if row.skipped > 0 { format!("{} not", grouped(row.skipped)) } else { String::new() };
        Self {
            bar: BarView { done: number(done), total, count: format!("{} / {of}", grouped(done)), message },
            created: when(row.created_at, now),
            ended: row.ended_at.map(|at| when(at, now)),
            jobs_url: format!("/jobs?q={}", encode(&row.q)),
            is_running,
            row,
        }
    }
}

#[derive(Template)]
#[template(path = "operations.html")]
struct OperationsPage {
    operations: Vec<OperationView>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "operation_new.html")]
struct PreviewPage {
    preview: OperationPreview,
    /// How many.
    jobs: String,
    jobs_url: String,
}

#[derive(Template)]
#[template(path = "operation.html")]
struct OperationPage {
    view: OperationView,
    applied: String,
    skipped: String,
    items: Vec<OperationItem>,
    next: Option<String>,
}

async fn list(asker: Asker, State(app): State<App>, Query(mut page): Query<PageQuery>) -> Result<Response, ApiError> {
    let now = app.store.now();
    page.limit = Some(ROWS);
    let Json(page) = api::list(asker.allow(&app).await?, State(app), Query(page)).await?;
    render(&OperationsPage {
        operations: page.operations.into_iter().map(|row| OperationView::new(row, now)).collect(),
        next: page.next_before.map(|before| format!("/operations?before={before}")),
    })
}

async fn preview(
    asker: Asker,
    State(app): State<App>,
    Query(query): Query<PreviewOperationQuery>,
) -> Result<Response, ApiError> {
    let Json(preview) = api::preview(asker.allow(&app).await?, State(app), Query(query)).await?;
    render(&PreviewPage {
        jobs: preview.how_many(grouped),
        jobs_url: format!("/jobs?q={}", encode(&preview.q)),
        preview,
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderForm {
    act: String,
    q: String,
    #[serde(default)]
    per_second: String,
    #[serde(default)]
    by: String,
    reason: String,
}

async fn order(asker: Asker, State(app): State<App>, Form(form): Form<OrderForm>) -> Result<Redirect, ApiError> {
    let per_second = field("per_second", &form.per_second)?;
    let request = CreateOperation { act: form.act, q: form.q, per_second, by: name(&form.by), reason: form.reason };
    let (_, Json(operation)) = api::create(asker.allow(&app).await?, State(app), Json(request)).await?;
    Ok(Redirect::to(&format!("/operations/{}", operation.id)))
}

async fn one(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    Query(mut query): Query<ItemQuery>,
) -> Result<Response, ApiError> {
    let now = app.store.now();
    query.limit = Some(ROWS);
    let Json(row) = api::show(asker.allow(&app).await?, State(app.clone()), Path(id)).await?;
    let Json(page) = api::items(asker.allow(&app).await?, State(app), Path(id), Query(query)).await?;
    render(&OperationPage {
        applied: grouped(row.applied),
        skipped: grouped(row.skipped),
        view: OperationView::new(row, now),
        items: page.items,
        next: page.next_before.map(|before| format!("/operations/{id}?before={before}")),
    })
}

async fn cancel(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    Form(form): Form<CancelOperation>,
) -> Result<Redirect, ApiError> {
    let Json(_) = api::cancel(asker.allow(&app).await?, State(app), Path(id), Json(form)).await?;
    Ok(Redirect::to(&format!("/operations/{id}")))
}

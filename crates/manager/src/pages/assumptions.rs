//! Who looked at which account as its customer sees it; and beginning and ending a look, by a cookie of its own.

use super::render;
use crate::{
    App,
    allowed::Asker,
    api::assumptions as api,
    assume::{cookie, no_cookie},
    error::ApiError,
    view::{When, moment, url_of, when},
};
use askama::Template;
use axum::{
    Form, Json, Router,
    extract::{Path, Query, State},
    http::header,
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use manager_api::{AssumeRequest, Assumption, AssumptionQuery, PageQuery};
use serde::Deserialize;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/assumptions", get(list))
        .route("/assumptions/{id}", get(one))
        .route("/assumptions/{id}/end", post(end))
        .route("/accounts/{id}/assume", post(start))
}

/// A look in a table.
struct LookView {
    row: Assumption,
    started: When,
    /// Until when it went, or goes.
    until: When,
}

impl LookView {
    fn new(row: Assumption, now: DateTime<Utc>) -> Self {
        let until = row.ended_at.unwrap_or(row.ends_at);
        Self { started: when(row.started_at, now), until: when(until, now), row }
    }
}

struct EventView {
    at: String,
    what: String,
    at_what: String,
}

#[derive(Template)]
#[template(path = "assumptions.html")]
struct AssumptionsPage {
    looks: Vec<LookView>,
    account: Option<i64>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "assumption.html")]
struct AssumptionPage {
    view: LookView,
    events: Vec<EventView>,
    next: Option<String>,
}

async fn list(
    asker: Asker,
    State(app): State<App>,
    Query(query): Query<AssumptionQuery>,
) -> Result<Response, ApiError> {
    let now = app.store.now();
    let account = query.account;
    let Json(page) = api::list(asker.allow(&app).await?, State(app), Query(query)).await?;
    let address = |before: i64| {
        let entries = [("account", account.map(|id| id.to_string())), ("before", Some(before.to_string()))];
        url_of("/assumptions", &entries)
    };
    render(&AssumptionsPage {
        account,
        next: page.next_before.map(address),
        looks: page.assumptions.into_iter().map(|row| LookView::new(row, now)).collect(),
    })
}

async fn one(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    Query(page): Query<PageQuery>,
) -> Result<Response, ApiError> {
    let now = app.store.now();
    let Json(detail) = api::show(asker.allow(&app).await?, State(app), Path(id), Query(page)).await?;
    let event = |event: manager_api::AssumptionEvent| EventView {
        at: moment(event.at),
        what: event.what,
        at_what: event.at_what,
    };
    render(&AssumptionPage {
        view: LookView::new(detail.assumption, now),
        next: detail.next_before.map(|before| format!("/assumptions/{id}?before={before}")),
        events: detail.events.into_iter().map(event).collect(),
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartForm {
    reason: String,
    ticket: String,
}

/// To the account, as its customer sees it.
async fn start(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    Form(form): Form<StartForm>,
) -> Result<Response, ApiError> {
    let request = AssumeRequest { account_id: id, reason: form.reason, ticket: form.ticket };
    let (_, Json(reply)) = api::start(asker.allow(&app).await?, State(app), Json(request)).await?;
    let to = Redirect::to(&format!("/accounts/{id}"));
    Ok(([(header::SET_COOKIE, cookie(&reply.token))], to).into_response())
}

/// To the account, as oneself.
async fn end(asker: Asker, State(app): State<App>, Path(id): Path<i64>) -> Result<Response, ApiError> {
    let Json(look) = api::end(asker.allow(&app).await?, State(app), Path(id)).await?;
    let to = Redirect::to(&format!("/accounts/{}", look.account_id));
    Ok(([(header::SET_COOKIE, no_cookie())], to).into_response())
}

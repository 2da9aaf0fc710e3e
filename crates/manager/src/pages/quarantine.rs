//! Records that could not be stored, one with its bytes, and what people do with one.

use super::{ROWS, WhyForm, back, render};
use crate::{
    App,
    allowed::Asker,
    api::quarantine as api,
    error::ApiError,
    gate::RequestId,
    view::{Link, When, url_of, when},
};
use askama::Template;
use axum::{
    Extension, Form, Json, Router,
    extract::{Path, Query, State},
    http::HeaderMap,
    response::{Redirect, Response},
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use domain::{QuarantineState, action};
use manager_api::{ByWhom, QuarantineQuery, QuarantinedRecord};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/quarantine", get(list))
        .route("/quarantine/{id}", get(one))
        .route("/quarantine/{id}/dismiss", post(dismiss))
        .route("/quarantine/{id}/retry", post(retry))
}

/// A record as a page shows it.
struct RecordView {
    row: QuarantinedRecord,
    first_seen: When,
    last_seen: When,
    since: When,
    retried: Option<When>,
    version: Option<When>,
    /// Where all its versions are, if there are several.
    versions: Option<String>,
}

impl RecordView {
    fn new(row: QuarantinedRecord, now: DateTime<Utc>) -> Self {
        Self {
            first_seen: when(row.first_seen_at, now),
            last_seen: when(row.last_seen_at, now),
            since: when(row.state_since, now),
            retried: row.retried_at.map(|at| when(at, now)),
            version: row.version_at.map(|at| when(at, now)),
            versions: row.record_id.clone().filter(|_| row.versions > 1).map(|record| {
                address(&QuarantineQuery {
                    state: Some("all".to_owned()),
                    connection: Some(row.connection_id),
                    object: Some(row.object.clone()),
                    record: Some(record),
                    ..QuarantineQuery::default()
                })
            }),
            row,
        }
    }
}

#[derive(Template)]
#[template(path = "quarantine.html")]
struct QuarantinePage {
    states: Vec<Link>,
    records: Vec<RecordView>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "quarantined.html")]
struct QuarantinedPage {
    view: RecordView,
    body: String,
    encoding: String,
    is_cut: bool,
    can_retry: bool,
    can_dismiss: bool,
}

fn address(query: &QuarantineQuery) -> String {
    url_of(
        "/quarantine",
        &[
            ("state", query.state.clone()),
            ("account", query.account.map(|id| id.to_string())),
            ("connection", query.connection.map(|id| id.to_string())),
            ("object", query.object.clone()),
            ("record", query.record.clone()),
            ("before", query.before.map(|id| id.to_string())),
        ],
    )
}

async fn list(
    asker: Asker,
    State(app): State<App>,
    Query(mut query): Query<QuarantineQuery>,
) -> Result<Response, ApiError> {
    let now = app.store.now();
    query.limit = Some(ROWS);
    // Without a word it is what nobody has seen to.
    let shown = query.state.clone().unwrap_or_else(|| QuarantineState::Open.as_str().to_owned());
    let link = |state: &str| Link {
        text: state.to_owned(),
        url: address(&QuarantineQuery { state: Some(state.to_owned()), before: None, limit: None, ..query.clone() }),
        is_current: shown == state,
    };
    let mut states: Vec<Link> = QuarantineState::ALL.iter().map(|state| link(state.as_str())).collect();
    states.push(link("all"));
    let asked = QuarantineQuery { state: Some(shown.clone()).filter(|state| state != "all"), ..query.clone() };
    let Json(page) = api::list(asker.allow(&app).await?, State(app), Query(asked)).await?;
    let next = page.next_before.map(|before| {
        address(&QuarantineQuery { state: Some(shown), before: Some(before), limit: None, ..query.clone() })
    });
    let records = page.records.into_iter().map(|row| RecordView::new(row, now)).collect();
    render(&QuarantinePage { states, records, next })
}

async fn one(asker: Asker, State(app): State<App>, Path(id): Path<i64>) -> Result<Response, ApiError> {
    let now = app.store.now();
    let Json(detail) = api::show(asker.allow(&app).await?, State(app), Path(id)).await?;
    let state = detail.record.state.as_str();
    render(&QuarantinedPage {
        can_retry: state != QuarantineState::Resolved.as_str()
            && detail.record.is_askable
            && asker.may::<action::RetryRecord>(),
        can_dismiss: state == QuarantineState::Open.as_str() && asker.may::<action::DismissRecord>(),
        body: detail.body,
        encoding: detail.encoding,
        is_cut: detail.is_cut,
        view: RecordView::new(detail.record, now),
    })
}

async fn dismiss(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
    Form(form): Form<WhyForm>,
) -> Result<Redirect, ApiError> {
    let Json(_) = api::dismiss(asker.allow(&app).await?, State(app), Path(id), Json(form.into())).await?;
    Ok(back(&headers, &format!("/quarantine/{id}")))
}

async fn retry(
    asker: Asker,
    State(app): State<App>,
    request_id: Extension<RequestId>,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> Result<Redirect, ApiError> {
    let whom = Json(ByWhom::default());
    let (_, Json(_)) = api::retry(asker.allow(&app).await?, State(app), request_id, Path(id), whom).await?;
    Ok(back(&headers, &format!("/quarantine/{id}")))
}

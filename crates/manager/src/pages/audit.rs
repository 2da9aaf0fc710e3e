//! What anybody did, was denied or failed at: the list, the whole of it to keep elsewhere, and the proof that nobody
//! edited it.

use super::render;
use crate::{
    App,
    allowed::{Allowed, Asker},
    api::audit as api,
    error::ApiError,
    view::{When, url_of, when},
};
use askama::Template;
use axum::{
    Json, Router,
    body::Body,
    extract::{Query, State},
    http::header,
    response::{IntoResponse as _, Response},
    routing::get,
};
use chrono::{DateTime, Utc};
use domain::action;
use futures::stream;
use manager_api::{AuditEntry, AuditExportQuery, AuditQuery, AuditVerified, AuditVerifyQuery};
use std::io;

/// Rows of an export that are read at a time.
const EXPORT_ROWS: i64 = 200;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/audit", get(list)).route("/audit/export", get(export)).route("/audit/verify", get(verify))
}

struct EntryView {
    at: When,
    deed: String,
    thing: String,
    changes: Vec<String>,
    row: AuditEntry,
}

impl EntryView {
    fn new(row: AuditEntry, now: DateTime<Utc>) -> Self {
        Self { at: when(row.at, now), deed: row.deed(), thing: row.thing(), changes: row.changes(), row }
    }
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    query: AuditQuery,
    entries: Vec<EntryView>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "audit_verify.html")]
struct VerifyPage {
    verified: AuditVerified,
    /// The first row that is not what it was.
    bad: Option<String>,
    next: Option<String>,
}

fn address(query: &AuditQuery) -> String {
    url_of(
        "/audit",
        &[
            ("actor", query.actor.clone()),
            ("action", query.action.clone()),
            ("subject", query.subject.clone()),
            ("key", query.key.clone()),
            ("account", query.account.clone()),
            ("since", query.since.clone()),
            ("before", query.before.map(|seq| seq.to_string())),
        ],
    )
}

async fn list(asker: Asker, State(app): State<App>, Query(query): Query<AuditQuery>) -> Result<Response, ApiError> {
    let now = app.store.now();
    let Json(page) = api::list(asker.allow(&app).await?, State(app), Query(query.clone())).await?;
    let next = page.next_before.map(|before| address(&AuditQuery { before: Some(before), ..query.clone() }));
    render(&AuditPage { query, entries: page.entries.into_iter().map(|row| EntryView::new(row, now)).collect(), next })
}

/// All sealed rows as JSON, one a line, read page by page as the browser takes them.
async fn export(
    allowed: Allowed<action::ReadAudit>,
    State(app): State<App>,
    Query(query): Query<AuditExportQuery>,
) -> Response {
    let (from, range) = ((allowed, app, query.after.or(Some(0))), (query.since, query.until));
    let pages = stream::try_unfold(from, move |(allowed, app, after)| async move {
        let Some(after) = after else { return Ok::<_, io::Error>(None) };
        let page = api::exported(&allowed, &app, after, range, EXPORT_ROWS).await;
        let page = page.map_err(|error| io::Error::other(error.message))?;
        let lines: String = page
            .entries
            .iter()
            .filter_map(|entry| serde_json::to_string(entry).ok())
            .flat_map(|line| [line, "\n".to_owned()])
            .collect();
        Ok(Some((lines, (allowed, app, page.next_after))))
    });
    let kind = (header::CONTENT_TYPE, "application/x-ndjson");
    ([kind, (header::CONTENT_DISPOSITION, "attachment; filename=audit.jsonl")], Body::from_stream(pages))
        .into_response()
}

async fn verify(
    asker: Asker,
    State(app): State<App>,
    Query(query): Query<AuditVerifyQuery>,
) -> Result<Response, ApiError> {
    let Json(verified) = api::verify(asker.allow(&app).await?, State(app), Query(query)).await?;
    let next = verified.next_after.clone().map(|after| url_of("/audit/verify", &[("after", Some(after))]));
    let what = verified.bad_what.as_deref().unwrap_or_default();
    let bad = verified.bad_seq.map(|seq| format!("Row {seq} is not what it was: {what}"));
    render(&VerifyPage { bad, verified, next })
}

//! Errors by group: the list, and one group with its latest text, its hours, what helps, and its failed jobs.

use super::render;
use crate::{
    App,
    allowed::Asker,
    api::{errors as api, jobs},
    chart::{Bar, spark},
    error::ApiError,
    view::{JobView, Link, When, encode, grouped, url_of, when},
};
use askama::Template;
use axum::{
    Json, Router,
    extract::{Path, Query, State},
    response::Response,
    routing::get,
};
use chrono::{DateTime, Utc};
use domain::ErrorClass;
use manager_api::{ErrorGroup, ErrorQuery, JobQuery};

/// Jobs shown of one group.
const JOBS_MAX: i64 = 20;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/errors", get(list)).route("/errors/{fingerprint}", get(one))
}

/// A group as a page shows it.
pub(crate) struct ErrorView {
    pub(crate) first: When,
    pub(crate) last: When,
    pub(crate) attempts: String,
    pub(crate) failed: String,
    pub(crate) bars: Vec<Bar>,
    pub(crate) label: String,
    pub(crate) row: ErrorGroup,
}

impl ErrorView {
    pub(crate) fn new(row: ErrorGroup, now: DateTime<Utc>) -> Self {
        Self {
            first: when(row.first_seen_at, now),
            last: when(row.last_seen_at, now),
            attempts: grouped(row.attempts),
            failed: grouped(row.failed),
            bars: spark(&row.hours),
            label: format!("{} in the last 24 hours", grouped(row.hours.iter().sum::<i64>())),
            row,
        }
    }
}

#[derive(Template)]
#[template(path = "errors.html")]
struct ErrorsPage {
    classes: Vec<Link>,
    kind: Option<(String, String)>,
    text: String,
    errors: Vec<ErrorView>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "error_group.html")]
struct ErrorGroupPage {
    view: ErrorView,
    runbook: &'static str,
    jobs: Vec<JobView>,
    jobs_url: String,
    retry_url: String,
}

/// What helps, by class.
fn runbook(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Transient => {
            "Tried again by itself, later and later. Look whether the circuit of the service is open (Limits); retry the \
             failed ones once it is back."
        }
        ErrorClass::RateLimited => {
            "The vendor asked us to wait; its jobs wait until it said, and no attempt is charged."
        }
        ErrorClass::AuthBroken => {
            "The authorisation of the customer is gone and the connection waits for a person: have it authorised again on \
             the page of the account; its jobs then start by themselves."
        }
        ErrorClass::Permanent => {
            "Trying again gives the same: the payload or the data of the customer is wrong. Mend that, then retry the group."
        }
        ErrorClass::Bug => "Ours. See which build had it first; retry the group once a build without it runs.",
        ErrorClass::LeaseLost => {
            "Its servant died, stalled or lost the database; the job ran again elsewhere. Many at once: look at the memory \
             of the host and at the builds of the servants."
        }
        ErrorClass::LedgerAway => {
            "The database did not answer in time. Look at its load and connections; nothing is lost."
        }
        ErrorClass::DeadlineExceeded => {
            "The deadline of the job passed before it was done. If it is still wanted, run it again."
        }
    }
}

fn address(query: &ErrorQuery) -> String {
    let ErrorQuery { kind, class, text, before, limit: _ } = query.clone();
    url_of("/errors", &[("kind", kind), ("class", class), ("text", text), ("before", before)])
}

async fn list(asker: Asker, State(app): State<App>, Query(query): Query<ErrorQuery>) -> Result<Response, ApiError> {
    let now = app.store.now();
    let class = query.class.as_deref().filter(|class| !class.is_empty());
    let link = |text: &str, name: Option<&str>| Link {
        text: text.to_owned(),
        url: address(&ErrorQuery { class: name.map(str::to_owned), before: None, ..query.clone() }),
        is_current: class == name,
    };
    let mut classes = vec![link("all", None)];
    classes.extend(ErrorClass::ALL.map(ErrorClass::as_str).map(|name| link(name, Some(name))));
    let Json(page) =
        api::list(asker.allow(&app).await?, State(app), Query(ErrorQuery { limit: None, ..query.clone() })).await?;
    let kind = query.kind.clone().filter(|kind| !kind.is_empty());
    render(&ErrorsPage {
        classes,
        kind: kind.map(|kind| (kind, address(&ErrorQuery { kind: None, before: None, ..query.clone() }))),
        text: query.text.clone().unwrap_or_default(),
        errors: page.errors.into_iter().map(|row| ErrorView::new(row, now)).collect(),
        next: page.next_before.map(|before| address(&ErrorQuery { before: Some(before), ..query })),
    })
}

async fn one(asker: Asker, State(app): State<App>, Path(fingerprint): Path<String>) -> Result<Response, ApiError> {
    let now = app.store.now();
    let Json(row) = api::show(asker.allow(&app).await?, State(app.clone()), Path(fingerprint)).await?;
    let q = format!("error:{}", row.fingerprint);
    let asked = Query(JobQuery { q: Some(q.clone()), limit: Some(JOBS_MAX.to_string()), ..JobQuery::default() });
    let Json(found) = jobs::list(asker.allow(&app).await?, State(app), asked).await?;
    let q = encode(&q);
    render(&ErrorGroupPage {
        runbook: row.class.parse().map_or("", runbook),
        jobs: found.jobs.iter().map(|job| JobView::new(job, now)).collect(),
        jobs_url: format!("/jobs?q={q}"),
        retry_url: format!("/operations/new?act=retry&q={q}"),
        view: ErrorView::new(row, now),
    })
}

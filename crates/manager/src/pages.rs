//! The pages: each one whole without JavaScript, live with it. Owns routes and templates; numbers and words of a
//! page are made in `view`.

use crate::{
    App,
    api::{cancel_job, detail_of, retry_job, servant_of, summary_of, why_of},
    error::ApiError,
    filter,
    view::{
        AttemptView, CountRow, FailureView, JobView, Link, PauseView, ServantView, StepView, count_rows, jobs_url,
        moment, state_links,
    },
};
use askama::Template;
use axum::{
    Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use domain::{AccountId, ConnectionId, JobId, Kind};
use manager_api::{ErrorBody, JobDetail, JobQuery, Why};
use store::Who;

/// The kind whose progress is a customer's onboarding.
const ONBOARDING_KIND: &str = "salesforce_sync";
/// Onboardings shown.
const ONBOARDINGS_MAX: i64 = 5;
/// Who acts where a page's button is pressed: the manager does not know its users.
const BY_PAGE: Who<'_> = Who { by: "a page", reason: "" };
/// Failures shown.
const FAILURES_MAX: i64 = 10;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(overview))
        .route("/jobs", get(jobs))
        .route("/jobs/{id}", get(job))
        .route("/jobs/{id}/retry", post(retry))
        .route("/jobs/{id}/cancel", post(cancel))
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    pauses: Vec<PauseView>,
    counts: Vec<CountRow>,
    servants: Vec<ServantView>,
    failures: Vec<FailureView>,
    onboardings: Vec<JobView>,
}

#[derive(Template)]
#[template(path = "jobs.html")]
struct JobsPage {
    jobs: Vec<JobView>,
    states: Vec<Link>,
    query: JobQuery,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    job: JobView,
    detail: JobDetail,
    steps: Vec<StepView>,
    attempts: Vec<AttemptView>,
    deadline: Option<String>,
    why: Option<Why>,
    payload: String,
    checkpoint: Option<String>,
    can_retry: bool,
    can_cancel: bool,
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    status: StatusCode,
    error: &'a ErrorBody,
}

#[derive(Template)]
#[template(path = "connected.html")]
struct ConnectedPage {
    account: AccountId,
    connection: ConnectionId,
}

async fn overview(State(app): State<App>) -> Result<Response, ApiError> {
    let now = app.store.now();
    let onboardings = match Kind::new(ONBOARDING_KIND) {
        Ok(kind) => app.store.latest_of_kind(&kind, ONBOARDINGS_MAX).await?,
        Err(_) => Vec::new(),
    };
    let servants = app.store.all_servants().await?;
    let pauses = app.store.list_pauses().await?;
    render(&OverviewPage {
        pauses: pauses.iter().map(|row| PauseView::new(row, now)).collect(),
        counts: count_rows(&app.store.job_counts().await?, &pauses),
        servants: servants.into_iter().map(|row| ServantView::new(servant_of(row, now))).collect(),
        failures: app
            .store
            .recent_failures(FAILURES_MAX)
            .await?
            .into_iter()
            .map(|f| FailureView::new(f, now))
            .collect(),
        onboardings: onboardings.iter().map(|row| JobView::new(&summary_of(row), now)).collect(),
    })
}

async fn jobs(State(app): State<App>, Query(query): Query<JobQuery>) -> Result<Response, ApiError> {
    let now = app.store.now();
    let (filter, limit) = filter::of_query(&query, now)?;
    let rows = app.store.list_jobs(&filter, limit).await?;
    let is_full = i64::try_from(rows.len()).is_ok_and(|rows| rows == limit);
    let next = rows
        .last()
        .filter(|_| is_full)
        .map(|row| jobs_url(&JobQuery { before: Some(row.id.to_string()), ..query.clone() }));
    render(&JobsPage {
        jobs: rows.iter().map(|row| JobView::new(&summary_of(row), now)).collect(),
        states: state_links(&query),
        query,
        next,
    })
}

async fn job(State(app): State<App>, Path(id): Path<i64>) -> Result<Response, ApiError> {
    let now = app.store.now();
    let detail = detail_of(&app, JobId(id)).await?;
    let state = detail.job.state;
    let why = if state.is_pending() { Some(why_of(&app, JobId(id)).await?) } else { None };
    render(&JobPage {
        job: JobView::new(&detail.job, now),
        steps: detail.timeline.iter().map(StepView::new).collect(),
        attempts: detail.attempts.iter().map(AttemptView::new).collect(),
        deadline: detail.deadline_at.map(moment),
        why,
        payload: pretty(&detail.payload),
        checkpoint: detail.checkpoint.as_ref().map(pretty),
        can_retry: state.is_finished() && state != domain::JobState::Succeeded,
        can_cancel: !state.is_finished() && !detail.job.cancel_requested,
        detail,
    })
}

async fn retry(State(app): State<App>, Path(id): Path<i64>) -> Result<Redirect, ApiError> {
    retry_job(&app, JobId(id), BY_PAGE).await?;
    Ok(Redirect::to(&format!("/jobs/{id}")))
}

async fn cancel(State(app): State<App>, Path(id): Path<i64>) -> Result<Redirect, ApiError> {
    cancel_job(&app, JobId(id), BY_PAGE).await?;
    Ok(Redirect::to(&format!("/jobs/{id}")))
}

/// What a customer sees who has consented.
pub(crate) fn connected_page(account: AccountId, connection: ConnectionId) -> Result<Response, ApiError> {
    render(&ConnectedPage { account, connection })
}

/// A refusal as a page.
pub(crate) fn error_page(status: StatusCode, error: &ErrorBody) -> Response {
    let text = ErrorPage { status, error }.render().unwrap_or_else(|_| error.message.clone());
    (status, Html(text)).into_response()
}

fn render(page: &impl Template) -> Result<Response, ApiError> {
    let text = page.render().map_err(|error| {
        tracing::error!(error = error.to_string(), "a page cannot be rendered");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the page cannot be rendered")
    })?;
    Ok(Html(text).into_response())
}

fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

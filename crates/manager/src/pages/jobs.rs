//! Lists of jobs with tabs, search and what is done to all that it finds; one job's page and what is done to it.

use super::{WhyForm, back, field, json_field, pretty, render};
use crate::{
    App,
    allowed::{Allowed, Asker},
    api::{cancel_job, detail_of, jobs as api, others, retry_job, servants::fleet, why_of},
    error::ApiError,
    filter,
    gate::RequestId,
    sight,
    view::{AttemptView, JobView, Link, StepView, When, encode, grouped, jobs_url, moment, url_of, when},
};
use askama::Template;
use axum::{
    Extension, Form, Json, Router,
    extract::{Path, Query, State},
    http::HeaderMap,
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use domain::{BulkAct, JobId, JobState, Search, action};
use manager_api::{Act, EnqueueRequest, JobCount, JobDetail, JobPage as FoundJobs, JobQuery, Why};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use store::JobFilter;

/// Jobs that are counted where no counter says.
const TALLY_MAX: i64 = 50;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/jobs", get(jobs).post(enqueue))
        .route("/jobs/new", get(new))
        .route("/jobs/{id}", get(job))
        .route("/jobs/{id}/retry", post(retry))
        .route("/jobs/{id}/cancel", post(cancel))
        .route("/jobs/{id}/again", post(again))
        .route("/jobs/{id}/run-now", post(run_now))
}

/// A state to choose, with how many jobs are in it, where a counter says.
struct Tab {
    link: Link,
    count: Option<String>,
}

#[derive(Template)]
#[template(path = "jobs.html")]
struct JobsPage {
    /// The words of the search, in their order.
    q: String,
    jobs: Vec<JobView>,
    tabs: Vec<Tab>,
    suggestions: Vec<String>,
    /// A kind that there are no jobs of, which may have been meant for something else, and where that is looked for.
    elsewhere: Option<(String, String)>,
    /// What can be done to all that the search finds, and where.
    bulk: Vec<(&'static str, String)>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "job_new.html")]
struct NewJobPage {
    kinds: Vec<String>,
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    job: JobView,
    detail: JobDetail,
    steps: Vec<StepView>,
    attempts: Vec<AttemptView>,
    /// What people did with it, and when.
    acts: Vec<(Act, When)>,
    deadline: Option<String>,
    why: Option<Why>,
    payload: String,
    checkpoint: Option<String>,
    can_retry: bool,
    /// It waits for its time.
    can_run_now: bool,
    can_cancel: bool,
}

/// The address of what a search finds.
pub(crate) fn search_url(search: &Search) -> String {
    let q = search.to_string();
    jobs_url(&JobQuery { q: Some(q).filter(|q| !q.is_empty()), ..JobQuery::default() })
}

async fn jobs(asker: Asker, State(app): State<App>, Query(query): Query<JobQuery>) -> Result<Response, ApiError> {
    let now = app.store.now();
    let read_jobs: Allowed<action::ReadJobs> = asker.allow(&app).await?;
    // A number is a job.
    if let Some(id) = query.q.as_deref().and_then(|q| q.trim().parse::<i64>().ok()) {
        return Ok(Redirect::to(&format!("/jobs/{id}")).into_response());
    }
    let counts = others::counts(&asker.allow(&app).await?, &app).await?;
    if let Some(elsewhere) = free_text(&counts, &query) {
        return Ok(Redirect::to(&elsewhere).into_response());
    }
    let mut search = filter::search_of(&query)?;
    search.account = sight::narrow(&app, search.account)?;
    let Json(found) = api::list(read_jobs, State(app.clone()), Query(query.clone())).await?;
    let tally = tally(&asker, &app, (&search, &query), &found, now).await?;
    let q = search.to_string();
    let next = found.next_before.map(|id| {
        let q = Some(q.clone()).filter(|q| !q.is_empty());
        jobs_url(&JobQuery { q, before: Some(id.to_string()), limit: query.limit.clone(), ..JobQuery::default() })
    });
    let bulk = [("Retry all of these", BulkAct::Retry), ("Cancel all of these", BulkAct::Cancel)];
    let bulk = bulk.into_iter().filter(|(_, act)| !q.is_empty() && act.within(search.clone()).is_ok());
    render(&JobsPage {
        jobs: found.jobs.iter().map(|job| JobView::new(job, now)).collect(),
        tabs: tabs(&search, &counts, tally.as_ref()),
        suggestions: suggestions(&search, &counts),
        elsewhere: no_kind(&counts, &search),
        bulk: bulk
            .map(|(text, act)| (text, format!("/operations/new?act={}&q={}", act.as_str(), encode(&q))))
            .collect(),
        q,
        next,
    })
}

/// Words that are none of the search and name no kind of which there is a job are looked for in everything else: the
/// address of that. None: it is a search of jobs.
fn free_text(counts: &[JobCount], query: &JobQuery) -> Option<String> {
    let text = query.q.as_deref().map_or("", str::trim);
    if text.is_empty() || text.contains(':') || !sight::has_page("/find") {
        return None;
    }
    let is_kind = counts.iter().any(|row| row.kind == text);
    (!is_kind).then(|| url_of("/find", &[("text", Some(text.to_owned()))]))
}

/// The kind that is searched, if there is no job of it: a bare word beside others is read as one.
fn no_kind(counts: &[JobCount], search: &Search) -> Option<(String, String)> {
    let kind = search.kind.as_ref().filter(|_| sight::has_page("/find"))?;
    let is_known = counts.iter().any(|row| row.kind == kind.as_str());
    (!is_known).then(|| (kind.to_string(), url_of("/find", &[("text", Some(kind.to_string()))])))
}

/// How many jobs that a search finds are in each state, as far as somebody looked.
struct Tally {
    states: BTreeMap<JobState, i64>,
    /// Nobody looked further: there may be more in each state.
    is_partial: bool,
}

impl Tally {
    fn of(page: &FoundJobs) -> Self {
        let mut states = BTreeMap::new();
        for job in &page.jobs {
            *states.entry(job.state).or_default() += 1;
        }
        Self { states, is_partial: page.next_before.is_some() }
    }

    /// None: nobody knows.
    fn count(&self, wanted: &[JobState]) -> Option<String> {
        let jobs: i64 =
            self.states.iter().filter(|(state, _)| wanted.is_empty() || wanted.contains(state)).map(|(_, n)| n).sum();
        match (self.is_partial, jobs) {
            (false, jobs) => Some(grouped(jobs)),
            (true, 0) => None,
            (true, jobs) => Some(format!("{}+", grouped(jobs))),
        }
    }
}

fn is_counted(search: &Search) -> bool {
    Search { states: Vec::new(), kind: None, ..search.clone() } == Search::default()
}

/// Of a search that no counter is of: from what is shown if that is all there is, else from the latest of it. None:
/// there are counters, or it would be too much to read.
async fn tally(
    asker: &Asker,
    app: &App,
    (search, query): (&Search, &JobQuery),
    shown: &FoundJobs,
    now: DateTime<Utc>,
) -> Result<Option<Tally>, ApiError> {
    if is_counted(search) {
        return Ok(None);
    }
    if search.states.is_empty() && query.before.is_none() && shown.next_before.is_none() {
        return Ok(Some(Tally::of(shown)));
    }
    let rest = Search { states: Vec::new(), ..search.clone() };
    if !JobFilter::of(&rest, now).is_indexed() {
        return Ok(None);
    }
    let limit = Some(TALLY_MAX.to_string());
    let query = JobQuery { q: Some(rest.to_string()), limit, ..JobQuery::default() };
    let Json(page) = api::list(asker.allow(app).await?, State(app.clone()), Query(query)).await?;
    Ok(Some(Tally::of(&page)))
}

/// Counts are of the kind that is searched, or of all; of anything narrower there is no counter, and only a tally.
fn tabs(search: &Search, counts: &[JobCount], tally: Option<&Tally>) -> Vec<Tab> {
    let is_counted = is_counted(search);
    let tab = |text: &str, states: Vec<JobState>| {
        let of_kind = |row: &&JobCount| search.kind.as_ref().is_none_or(|kind| kind.as_str() == row.kind);
        let in_states = |row: &&JobCount| states.is_empty() || states.contains(&row.state);
        let jobs: i64 = counts.iter().filter(of_kind).filter(in_states).map(|row| row.jobs).sum();
        let count = if is_counted { Some(grouped(jobs)) } else { tally.and_then(|tally| tally.count(&states)) };
        let is_current = search.states == states;
        let url = search_url(&Search { states, ..search.clone() });
        Tab { link: Link { text: text.to_owned(), url, is_current }, count }
    };
    let pending = JobState::ALL.into_iter().filter(|state| state.is_pending()).collect();
    let mut tabs = vec![tab("all", Vec::new()), tab("pending", pending)];
    tabs.extend(JobState::ALL.into_iter().map(|state| tab(state.as_str(), vec![state])));
    tabs
}

/// The search with one more word: each kind, and what else there is to say.
fn suggestions(search: &Search, counts: &[JobCount]) -> Vec<String> {
    let text = search.to_string();
    let mut words: Vec<String> = Vec::new();
    if search.kind.is_none() {
        let kinds: BTreeSet<&str> = counts.iter().map(|row| row.kind.as_str()).collect();
        words.extend(kinds.into_iter().map(|kind| format!("kind:{kind}")));
    }
    if search.states.is_empty() {
        words.extend(["failed", "pending", "running"].map(|state| format!("state:{state}")));
    }
    if search.newer_secs.is_none() {
        words.extend(["age:<1h", "age:<1d"].map(str::to_owned));
    }
    words.into_iter().map(|word| format!("{text} {word}").trim().to_owned()).collect()
}

async fn new(asker: Asker, State(app): State<App>) -> Result<Response, ApiError> {
    let _: Allowed<action::EnqueueJob> = asker.allow(&app).await?;
    let counts = others::counts(&asker.allow(&app).await?, &app).await?;
    let servants = fleet(&asker.allow(&app).await?, &app).await?;
    let kinds = counts.into_iter().map(|row| row.kind).chain(servants.into_iter().map(|row| row.kind));
    render(&NewJobPage { kinds: kinds.collect::<BTreeSet<_>>().into_iter().collect() })
}

/// A job as a form sends it; what is left empty is not said.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobForm {
    kind: String,
    payload: String,
    account: String,
    connection: String,
    priority: String,
    run_at: String,
    unique_key: String,
}

/// To the new job, or to the one that has its key.
async fn enqueue(
    asker: Asker,
    State(app): State<App>,
    request_id: Extension<RequestId>,
    Form(form): Form<JobForm>,
) -> Result<Redirect, ApiError> {
    let request = EnqueueRequest {
        kind: form.kind.trim().to_owned(),
        payload: json_field("payload", &form.payload)?,
        account_id: field("account", &form.account)?,
        connection_id: field("connection", &form.connection)?,
        priority: field("priority", &form.priority)?,
        run_at: field("run_at", &form.run_at)?,
        unique_key: Some(form.unique_key).filter(|key| !key.is_empty()),
        ..EnqueueRequest::default()
    };
    let (_, Json(reply)) = api::enqueue(asker.allow(&app).await?, State(app), request_id, Json(request)).await?;
    Ok(Redirect::to(&reply.id.map_or_else(|| "/jobs".to_owned(), |id| format!("/jobs/{id}"))))
}

async fn job(asker: Asker, State(app): State<App>, Path(id): Path<i64>) -> Result<Response, ApiError> {
    let now = app.store.now();
    let _: Allowed<action::ReadJobs> = asker.allow(&app).await?;
    let detail = detail_of(&app, JobId(id)).await?;
    let state = detail.job.state;
    let why = if state.is_pending() { Some(why_of(&app, JobId(id)).await?) } else { None };
    render(&JobPage {
        job: JobView::new(&detail.job, now),
        steps: detail.timeline.iter().map(StepView::new).collect(),
        attempts: detail.attempts.iter().map(AttemptView::new).collect(),
        acts: detail.acts.iter().map(|act| (act.clone(), when(act.at, now))).collect(),
        deadline: detail.deadline_at.map(moment),
        why,
        payload: pretty(&detail.payload),
        checkpoint: detail.checkpoint.as_ref().map(pretty),
        can_run_now: state == JobState::Scheduled,
        can_retry: state.is_finished() && state != JobState::Succeeded,
        can_cancel: !state.is_finished() && !detail.job.cancel_requested,
        detail,
    })
}

async fn retry(
    allowed: Allowed<action::RetryJob>,
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> Result<Redirect, ApiError> {
    retry_job(&app, JobId(id), allowed.granted()).await?;
    Ok(back(&headers, &format!("/jobs/{id}")))
}

async fn cancel(
    allowed: Allowed<action::CancelJob>,
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> Result<Redirect, ApiError> {
    cancel_job(&app, JobId(id), allowed.granted()).await?;
    Ok(back(&headers, &format!("/jobs/{id}")))
}

/// To the new job.
async fn run_now(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
    Form(form): Form<WhyForm>,
) -> Result<Redirect, ApiError> {
    let Json(_) = api::run_now(asker.allow(&app).await?, State(app), Path(id), Json(form.into())).await?;
    Ok(back(&headers, &format!("/jobs/{id}")))
}

async fn again(
    asker: Asker,
    State(app): State<App>,
    request_id: Extension<RequestId>,
    Path(id): Path<i64>,
) -> Result<Redirect, ApiError> {
    let (_, Json(reply)) = api::again(asker.allow(&app).await?, State(app), request_id, Path(id)).await?;
    Ok(Redirect::to(&format!("/jobs/{}", reply.id.unwrap_or(id))))
}

//! What holds jobs back: pauses, limits, customers' quotas, circuit breakers; and every act on them.

use super::{ROWS, WhyForm, back, field, name, render};
use crate::{
    App,
    allowed::Asker,
    api::{breakers, budgets, limits, others, pauses},
    error::ApiError,
    view::{BarView, When, encode, grouped, url_of, when},
};
use askama::Template;
use axum::{
    Form, Json, Router,
    extract::{Path, Query, State},
    http::HeaderMap,
    response::{Redirect, Response},
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use domain::JobState;
use manager_api::{
    Bounds, Breaker, BreakerQuery, Budget, BudgetQuery, ByWhom, JobCount, Limit, LimitQuery, LimitRequest, Pause,
    PauseQuery, PauseRequest, ShareRequest,
};
use serde::Deserialize;

const PAGE: &str = "/limits";

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route(PAGE, get(show).post(set))
        .route("/limits/remove", post(remove))
        .route("/limits/share", post(set_share))
        .route("/limits/share/remove", post(remove_share))
        .route("/pauses", post(pause))
        .route("/pauses/resume", post(resume))
        .route("/breakers/{service}/{act}", post(force))
}

pub(crate) struct PauseRow {
    pub(crate) row: Pause,
    pub(crate) since: When,
}

pub(crate) struct LimitRow {
    pub(crate) row: Limit,
    pub(crate) bounds: String,
    pub(crate) since: When,
    /// Jobs under it that are queued or running; none: it bounds each of many.
    pub(crate) used: Option<BarView>,
    /// Where it is said who holds it.
    pub(crate) holders: Option<String>,
}

/// A quota with what is used of it.
pub(crate) struct BudgetView {
    pub(crate) row: Budget,
    pub(crate) bar: BarView,
    pub(crate) ceiling: String,
    pub(crate) reported: When,
    pub(crate) resets: Option<When>,
    pub(crate) is_spent: bool,
}

impl BudgetView {
    pub(crate) fn new(row: Budget, now: DateTime<Utc>) -> Self {
        Self {
            bar: BarView {
                done: row.used,
                total: Some(row.maximum).filter(|maximum| *maximum > 0),
                count: format!("{} / {}", grouped(row.used), grouped(row.maximum)),
                message: String::new(),
            },
            ceiling: grouped(row.ceiling),
            reported: when(row.reported_at, now),
            resets: row.resets_at.map(|at| when(at, now)),
            is_spent: row.used >= row.ceiling,
            row,
        }
    }
}

pub(crate) struct BreakerView {
    pub(crate) row: Breaker,
    pub(crate) path: String,
    /// Where it stands, for people.
    pub(crate) state: String,
    pub(crate) is_understood: bool,
    pub(crate) since: When,
    pub(crate) next_probe: Option<When>,
}

impl BreakerView {
    pub(crate) fn new(row: Breaker, now: DateTime<Utc>) -> Self {
        Self {
            path: format!("/breakers/{}", encode(&row.service)),
            state: row.state.replace('_', " "),
            is_understood: row.state != domain::BreakerState::NotUnderstood.as_str(),
            since: when(row.since, now),
            next_probe: row.next_probe_at.map(|at| when(at, now)),
            row,
        }
    }
}

#[derive(Template)]
#[template(path = "limits.html")]
struct LimitsPage {
    pauses: Vec<PauseRow>,
    pauses_next: Option<String>,
    limits: Vec<LimitRow>,
    limits_next: Option<String>,
    budgets: Vec<BudgetView>,
    budgets_next: Option<String>,
    breakers: Vec<BreakerView>,
    breakers_next: Option<String>,
}

/// Each list has its own place in the address.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PageOf {
    pauses_after: Option<String>,
    limits_after: Option<String>,
    budgets_after: Option<i64>,
    breakers_after: Option<String>,
}

fn bounds_text(bounds: &Bounds) -> String {
    let mut parts = Vec::new();
    let mut part = |number: Option<u32>, words: &str| {
        parts.extend(number.map(|number| format!("{} {words}", grouped(number))));
    };
    part(bounds.concurrency, "at a time");
    part(bounds.per_second, "a second");
    part(bounds.per_minute, "a minute");
    part(bounds.burst, "at once");
    part(bounds.per_day, "a day");
    parts.extend(bounds.reserve_pct.map(|pct| format!("{pct} % kept for urgent ones")));
    parts.join(", ")
}

/// Jobs of a limited kind that are queued or running, by the counters; of anything else there is none.
fn in_flight(counts: &[JobCount], limit: &Limit) -> Option<i64> {
    let is_in_flight = |state| matches!(state, JobState::Queued | JobState::Running);
    let of_kind = counts.iter().filter(|row| row.kind == limit.key && is_in_flight(row.state));
    (limit.scope == "kind").then(|| of_kind.map(|row| row.jobs).sum())
}

/// Where it is said who holds a limit; none: it does not count, or means nothing to this version.
fn holders_of(limit: &Limit) -> Option<String> {
    let counts = limit.in_force && domain::Scope::new(&limit.scope, &limit.key).is_ok();
    let key = Some(limit.key.clone()).filter(|key| !key.is_empty());
    counts.then(|| url_of("/holders", &[("scope", Some(limit.scope.clone())), ("key", key)]))
}

async fn show(asker: Asker, State(app): State<App>, Query(page): Query<PageOf>) -> Result<Response, ApiError> {
    let now = app.store.now();
    let query = PauseQuery { after: page.pauses_after, limit: Some(ROWS) };
    let Json(paused) = pauses::list(asker.allow(&app).await?, State(app.clone()), Query(query)).await?;
    let query = LimitQuery { after: page.limits_after, limit: Some(ROWS) };
    let Json(listed) = limits::list(asker.allow(&app).await?, State(app.clone()), Query(query)).await?;
    let query = BudgetQuery { after: page.budgets_after, limit: Some(ROWS) };
    let Json(quotas) = budgets::list(asker.allow(&app).await?, State(app.clone()), Query(query)).await?;
    let query = BreakerQuery { after: page.breakers_after, limit: Some(ROWS), ..BreakerQuery::default() };
    let Json(circuits) = breakers::list(asker.allow(&app).await?, State(app.clone()), Query(query)).await?;
    let counts = others::counts(&asker.allow(&app).await?, &app).await?;
    let limit_row = |row: Limit| {
        let used = row.bounds.concurrency.filter(|_| row.in_force).and_then(|most| {
            let jobs = in_flight(&counts, &row)?;
            let count = format!("{} / {}", grouped(jobs), grouped(most));
            let done = u64::try_from(jobs).unwrap_or(0);
            Some(BarView { done, total: Some(u64::from(most)), count, message: String::new() })
        });
        LimitRow {
            bounds: bounds_text(&row.bounds),
            since: when(row.set_at, now),
            holders: holders_of(&row),
            used,
            row,
        }
    };
    render(&LimitsPage {
        pauses_next: paused.next_after.map(|after| format!("{PAGE}?pauses_after={}", encode(&after))),
        pauses: paused.pauses.into_iter().map(|row| PauseRow { since: when(row.paused_at, now), row }).collect(),
        limits_next: listed.next_after.map(|after| format!("{PAGE}?limits_after={}", encode(&after))),
        limits: listed.limits.into_iter().map(limit_row).collect(),
        budgets_next: quotas.next_after.map(|after| format!("{PAGE}?budgets_after={after}")),
        budgets: quotas.budgets.into_iter().map(|row| BudgetView::new(row, now)).collect(),
        breakers_next: circuits.next_after.map(|after| format!("{PAGE}?breakers_after={}", encode(&after))),
        breakers: circuits.breakers.into_iter().map(|row| BreakerView::new(row, now)).collect(),
    })
}

/// A limit as a form sets it: all of it, what is left empty does not bind.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitForm {
    scope: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    concurrency: String,
    #[serde(default)]
    per_second: String,
    #[serde(default)]
    per_minute: String,
    #[serde(default)]
    burst: String,
    #[serde(default)]
    per_day: String,
    #[serde(default)]
    reserve_pct: String,
    #[serde(default)]
    by: String,
    reason: String,
}

async fn set(
    asker: Asker,
    State(app): State<App>,
    headers: HeaderMap,
    Form(form): Form<LimitForm>,
) -> Result<Redirect, ApiError> {
    let bounds = Bounds {
        concurrency: field("concurrency", &form.concurrency)?,
        per_second: field("per_second", &form.per_second)?,
        per_minute: field("per_minute", &form.per_minute)?,
        burst: field("burst", &form.burst)?,
        per_day: field("per_day", &form.per_day)?,
        reserve_pct: field("reserve_pct", &form.reserve_pct)?,
    };
    let request = Json(LimitRequest { bounds, by: name(&form.by), reason: form.reason });
    let (scope, key) = (form.scope, form.key.trim().to_owned());
    if key.is_empty() {
        let Json(_) = limits::set_each(asker.allow(&app).await?, State(app), Path(scope), request).await?;
    } else {
        let Json(_) = limits::set(asker.allow(&app).await?, State(app), Path((scope, key)), request).await?;
    }
    Ok(back(&headers, PAGE))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scoped {
    scope: String,
    #[serde(default)]
    key: String,
}

async fn remove(
    asker: Asker,
    State(app): State<App>,
    headers: HeaderMap,
    Form(form): Form<Scoped>,
) -> Result<Redirect, ApiError> {
    if form.key.is_empty() {
        let Json(_) =
            limits::remove_each(asker.allow(&app).await?, State(app), Path(form.scope), Query(ByWhom::default()))
                .await?;
    } else {
        let Json(_) = limits::remove(
            asker.allow(&app).await?,
            State(app),
            Path((form.scope, form.key)),
            Query(ByWhom::default()),
        )
        .await?;
    }
    Ok(back(&headers, PAGE))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShareForm {
    connection: i64,
    share_pct: u8,
    health_pct: u8,
    #[serde(default)]
    by: String,
    reason: String,
}

async fn set_share(
    asker: Asker,
    State(app): State<App>,
    headers: HeaderMap,
    Form(form): Form<ShareForm>,
) -> Result<Redirect, ApiError> {
    let request = ShareRequest {
        share_pct: form.share_pct,
        health_pct: form.health_pct,
        by: name(&form.by),
        reason: form.reason,
    };
    let Json(_) =
        budgets::set_share(asker.allow(&app).await?, State(app), Path(form.connection), Json(request)).await?;
    Ok(back(&headers, PAGE))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfConnection {
    connection: i64,
}

async fn remove_share(
    asker: Asker,
    State(app): State<App>,
    headers: HeaderMap,
    Form(form): Form<OfConnection>,
) -> Result<Redirect, ApiError> {
    let Json(_) =
        budgets::remove_share(asker.allow(&app).await?, State(app), Path(form.connection), Query(ByWhom::default()))
            .await?;
    Ok(back(&headers, PAGE))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PauseForm {
    scope: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    by: String,
    reason: String,
}

async fn pause(
    asker: Asker,
    State(app): State<App>,
    headers: HeaderMap,
    Form(form): Form<PauseForm>,
) -> Result<Redirect, ApiError> {
    let request = Json(PauseRequest { by: name(&form.by), reason: form.reason });
    if form.scope == "everything" {
        let Json(_) = pauses::pause_everything(asker.allow(&app).await?, State(app), request).await?;
    } else {
        let Json(_) = pauses::pause(
            asker.allow(&app).await?,
            State(app),
            Path((form.scope, form.key.trim().to_owned())),
            request,
        )
        .await?;
    }
    Ok(back(&headers, PAGE))
}

async fn resume(
    asker: Asker,
    State(app): State<App>,
    headers: HeaderMap,
    Form(form): Form<Scoped>,
) -> Result<Redirect, ApiError> {
    if form.scope == "everything" {
        let Json(_) = pauses::resume_everything(asker.allow(&app).await?, State(app), Query(ByWhom::default())).await?;
    } else {
        let Json(_) = pauses::resume(
            asker.allow(&app).await?,
            State(app),
            Path((form.scope, form.key)),
            Query(ByWhom::default()),
        )
        .await?;
    }
    Ok(back(&headers, PAGE))
}

async fn force(
    asker: Asker,
    State(app): State<App>,
    Path((service, act)): Path<(String, String)>,
    headers: HeaderMap,
    Form(form): Form<WhyForm>,
) -> Result<Redirect, ApiError> {
    let (at, service, request) = (State(app.clone()), Path(service), Json(form.into()));
    let Json(_) = match act.as_str() {
        "open" => breakers::open(asker.allow(&app).await?, at, service, request).await?,
        "close" => breakers::close(asker.allow(&app).await?, at, service, request).await?,
        "clear" => breakers::clear(asker.allow(&app).await?, at, service, request).await?,
        other => return Err(ApiError::not_found(format!("'{other}' is nothing that is done with a breaker"))),
    };
    Ok(back(&headers, PAGE))
}

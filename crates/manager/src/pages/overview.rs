//! The overview: the whole at a glance, and what needs a person.

use super::{
    accounts::{CONNECTION_STATES_BAD, ConnectionRow},
    anomalies::AnomalyView,
    limits::BreakerView,
    render,
    servants::{KindOfServants, by_kind, pending_of},
};
use crate::{
    App,
    allowed::{Allowed, Asker},
    api::{anomalies, breakers, connections, queues, servant_of, summary_of},
    chart::{Chart, Timeline},
    error::ApiError,
    view::{CountRow, FailureView, JobView, Link, PauseView, When, count_rows, grouped, span, when},
};
use askama::Template;
use axum::{
    Json, Router,
    extract::{Query, State},
    response::Response,
    routing::get,
};
use chrono::{DateTime, Utc};
use domain::{JobState, Kind, action};
use manager_api::{AnomalyQuery, BreakerQuery, ConnectionQuery, Servant, ThroughputQuery};
use serde::Deserialize;

/// The kind whose progress is a customer's onboarding.
const ONBOARDING_KIND: &str = "salesforce_sync";
/// Onboardings shown.
const ONBOARDINGS_MAX: i64 = 5;
/// Failures shown, and of each sort of trouble.
const FAILURES_MAX: i64 = 10;
const TROUBLES_MAX: i64 = 5;
/// Builds told of, the latest.
const DEPLOYS_MAX: usize = 5;
/// Breakers looked through for those that are not closed.
const BREAKERS_MAX: i64 = 100;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/", get(overview))
}

/// One number.
struct Tile {
    name: &'static str,
    number: String,
    url: &'static str,
    /// How worrying.
    class: &'static str,
}

/// A build, as it is told beside the charts that it is marked in.
struct Deploy {
    version: String,
    kinds: String,
    first: When,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    pauses: Vec<PauseView>,
    tiles: Vec<Tile>,
    spans: Vec<Link>,
    ended: Chart,
    waited: Chart,
    ran: Chart,
    deploys: Vec<Deploy>,
    counts: Vec<CountRow>,
    kinds: Vec<KindOfServants>,
    connections: Vec<ConnectionRow>,
    breakers: Vec<BreakerView>,
    anomalies: Vec<AnomalyView>,
    failures: Vec<FailureView>,
    onboardings: Vec<JobView>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OverviewQuery {
    span: Option<String>,
}

async fn overview(
    asker: Asker,
    State(app): State<App>,
    Query(query): Query<OverviewQuery>,
) -> Result<Response, ApiError> {
    let now = app.store.now();
    let _: Allowed<action::ReadJobs> = asker.allow(&app).await?;
    let _: Allowed<action::ReadServants> = asker.allow(&app).await?;
    let _: Allowed<action::ReadLimits> = asker.allow(&app).await?;
    let onboardings = match Kind::new(ONBOARDING_KIND) {
        Ok(kind) => app.store.latest_of_kind(&kind, ONBOARDINGS_MAX).await?,
        Err(_) => Vec::new(),
    };
    let servants: Vec<Servant> = app.store.all_servants().await?.into_iter().map(|row| servant_of(row, now)).collect();
    let pauses = app.store.list_pauses().await?;
    let counts = app.store.job_counts().await?;
    let shown = query.span.clone().filter(|span| !span.is_empty()).unwrap_or_else(|| "1h".to_owned());
    let over = |span: &str| Query(ThroughputQuery { span: Some(span.to_owned()), kind: None });
    let Json(hour) = queues::throughput(asker.allow(&app).await?, State(app.clone()), over("1h")).await?;
    let Json(throughput) = queues::throughput(asker.allow(&app).await?, State(app.clone()), over(&shown)).await?;
    let kinds = by_kind(&servants, &pending_of(&counts), &app.store.expected_processes().await?);
    let builds = app.store.builds().await?;
    let marks: Vec<_> =
        builds.iter().map(|build| (build.first_at, format!("{}: {}", build.version, build.kinds.join(", ")))).collect();
    let timeline = Timeline::new(&throughput);
    let failed_lately: i64 = hour.points.iter().map(|point| point.failed).sum();
    let oldest = app.store.queue_states().await?.into_iter().filter_map(|row| row.oldest_ready_at).min();
    render(&OverviewPage {
        pauses: pauses.iter().map(|row| PauseView::new(row, now)).collect(),
        tiles: tiles(&counts, oldest.map(|at| (now - at).num_seconds().max(0)), failed_lately, &kinds),
        spans: ["1h", "24h", "7d"]
            .map(|span| Link { text: span.to_owned(), url: format!("/?span={span}"), is_current: span == shown })
            .into(),
        ended: timeline.ended(&marks),
        waited: timeline.waited(&marks),
        ran: timeline.ran(&marks),
        deploys: builds
            .into_iter()
            .take(DEPLOYS_MAX)
            .map(|build| Deploy {
                version: build.version,
                kinds: build.kinds.join(", "),
                first: when(build.first_at, now),
            })
            .collect(),
        counts: count_rows(&counts, &pauses),
        kinds,
        connections: broken_connections(&asker, &app, now).await?,
        breakers: open_breakers(&asker, &app, now).await?,
        anomalies: grave_anomalies(&asker, &app, now).await?,
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

fn tiles(
    counts: &[store::JobCount],
    oldest_secs: Option<i64>,
    failed_lately: i64,
    kinds: &[KindOfServants],
) -> Vec<Tile> {
    let sum = |meant: &dyn Fn(JobState) -> bool| -> i64 {
        counts.iter().filter(|row| meant(row.state)).map(|row| row.jobs).sum()
    };
    let alive: usize = kinds.iter().map(|kind| kind.alive).sum();
    let is_missing = kinds.iter().any(|kind| kind.is_missing || kind.is_short());
    let failed = sum(&|state| state == JobState::Failed);
    let worry = |is_bad: bool| if is_bad { "bad" } else { "" };
    let tile = |name, number, url, class| Tile { name, number, url, class };
    vec![
        tile("pending", grouped(sum(&|state| state.is_pending())), "/jobs?q=state%3Apending", ""),
        tile("running", grouped(sum(&|state| state == JobState::Running)), "/jobs?q=state%3Arunning", ""),
        tile("failed, not retried", grouped(failed), "/jobs?q=state%3Afailed", worry(failed > 0)),
        tile("failed in the last hour", grouped(failed_lately), "/errors", worry(failed_lately > 0)),
        tile("oldest wait", oldest_secs.map_or_else(|| "–".to_owned(), span), "/queues", ""),
        tile("servants alive", alive.to_string(), "/servants", worry(is_missing)),
    ]
}

async fn broken_connections(asker: &Asker, app: &App, now: DateTime<Utc>) -> Result<Vec<ConnectionRow>, ApiError> {
    let mut rows = Vec::new();
    for state in CONNECTION_STATES_BAD {
        let query =
            ConnectionQuery { state: Some(state.to_owned()), limit: Some(TROUBLES_MAX), ..ConnectionQuery::default() };
        let Json(page) = connections::list(asker.allow(app).await?, State(app.clone()), Query(query)).await?;
        rows.extend(page.connections.into_iter().map(|row| ConnectionRow::new(row, now)));
    }
    Ok(rows)
}

async fn open_breakers(asker: &Asker, app: &App, now: DateTime<Utc>) -> Result<Vec<BreakerView>, ApiError> {
    let query = BreakerQuery { after: None, limit: Some(BREAKERS_MAX) };
    let Json(page) = breakers::list(asker.allow(app).await?, State(app.clone()), Query(query)).await?;
    let open = page.breakers.into_iter().filter(|row| row.state != "closed" || row.forced.is_some());
    Ok(open.map(|row| BreakerView::new(row, now)).collect())
}

async fn grave_anomalies(asker: &Asker, app: &App, now: DateTime<Utc>) -> Result<Vec<AnomalyView>, ApiError> {
    let query = AnomalyQuery {
        state: Some("open".to_owned()),
        severity: Some("warning".to_owned()),
        limit: Some(TROUBLES_MAX),
        ..AnomalyQuery::default()
    };
    let Json(page) = anomalies::list(asker.allow(app).await?, State(app.clone()), Query(query)).await?;
    Ok(page.anomalies.into_iter().map(|row| AnomalyView::new(row, now)).collect())
}

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
    caller::Caller,
    chart::{Chart, Timeline},
    error::ApiError,
    glance::Shared,
    sight,
    view::{CountRow, FailureView, JobView, Link, PauseView, When, count_rows, grouped, span, when},
};
use askama::Template;
use axum::{
    Extension, Json, Router,
    extract::{Query, State},
    response::Response,
    routing::get,
};
use chrono::{DateTime, Utc};
use domain::{JobState, Kind, action};
use manager_api::{AnomalyQuery, ConnectionQuery, Servant, Throughput, ThroughputQuery};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};

/// The kind whose progress is a customer's onboarding.
const ONBOARDING_KIND: &str = "salesforce_sync";
/// Onboardings shown.
const ONBOARDINGS_MAX: i64 = 5;
/// Failures shown, and of each sort of trouble.
const FAILURES_MAX: i64 = 10;
const TROUBLES_MAX: i64 = 5;
/// Builds told of, the latest.
const DEPLOYS_MAX: usize = 5;
/// Breakers shown that are not simply closed.
const BREAKERS_MAX: i64 = 20;

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

/// The whole, as of one moment.
struct Overview {
    pauses: Vec<PauseView>,
    tiles: Vec<Tile>,
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

/// The spans of the charts.
const SPANS: [&str; 3] = ["1h", "24h", "7d"];

/// The overview of each span, shared by all who see the same of it: with masks, and without.
pub(crate) struct Glance([[Shared<Overview>; SPANS.len()]; 2]);

impl Glance {
    pub(crate) fn new(shared_for: Duration) -> Self {
        Self([(), ()].map(|()| SPANS.map(|_| Shared::new(shared_for))))
    }

    fn of(&self, span: &str, sees_personal_data: bool) -> Option<&Shared<Overview>> {
        let place = SPANS.iter().position(|of| *of == span)?;
        Some(&self.0[usize::from(sees_personal_data)][place])
    }
}

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage<'a> {
    pauses: &'a [PauseView],
    tiles: &'a [Tile],
    spans: Vec<Link>,
    ended: &'a Chart,
    waited: &'a Chart,
    ran: &'a Chart,
    deploys: &'a [Deploy],
    counts: &'a [CountRow],
    kinds: &'a [KindOfServants],
    connections: &'a [ConnectionRow],
    breakers: &'a [BreakerView],
    anomalies: &'a [AnomalyView],
    failures: &'a [FailureView],
    onboardings: &'a [JobView],
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OverviewQuery {
    span: Option<String>,
}

async fn overview(
    asker: Asker,
    State(app): State<App>,
    Extension(glance): Extension<Arc<Glance>>,
    Caller(caller): Caller,
    Query(query): Query<OverviewQuery>,
) -> Result<Response, ApiError> {
    let _: Allowed<action::ReadJobs> = asker.allow(&app).await?;
    let _: Allowed<action::ReadServants> = asker.allow(&app).await?;
    let _: Allowed<action::ReadLimits> = asker.allow(&app).await?;
    let shown = query.span.filter(|span| !span.is_empty()).unwrap_or_else(|| SPANS[0].to_owned());
    // Who sees one account only sees nothing that was read for others, and who sees masks nothing that has none.
    let shared = if caller.assumed().is_none() { glance.of(&shown, sight::personal().is_some()) } else { None };
    let whole = match shared {
        Some(shared) => shared.get(read(&asker, &app, &shown)).await?,
        None => Arc::new(read(&asker, &app, &shown).await?),
    };
    render(&OverviewPage {
        pauses: &whole.pauses,
        tiles: &whole.tiles,
        spans: SPANS
            .map(|span| Link { text: span.to_owned(), url: format!("/?span={span}"), is_current: span == shown })
            .into(),
        ended: &whole.ended,
        waited: &whole.waited,
        ran: &whole.ran,
        deploys: &whole.deploys,
        counts: &whole.counts,
        kinds: &whole.kinds,
        connections: &whole.connections,
        breakers: &whole.breakers,
        anomalies: &whole.anomalies,
        failures: &whole.failures,
        onboardings: &whole.onboardings,
    })
}

async fn read(asker: &Asker, app: &App, shown: &str) -> Result<Overview, ApiError> {
    let now = app.store.now();
    let onboardings = match Kind::new(ONBOARDING_KIND) {
        Ok(kind) => app.store.latest_of_kind(&kind, ONBOARDINGS_MAX).await?,
        Err(_) => Vec::new(),
    };
    let servants: Vec<Servant> = app.store.all_servants().await?.into_iter().map(|row| servant_of(row, now)).collect();
    let pauses = app.store.list_pauses().await?;
    let counts = app.store.job_counts().await?;
    let over = |span: &str| Query(ThroughputQuery { span: Some(span.to_owned()), kind: None });
    let Json(throughput) = queues::throughput(asker.allow(app).await?, State(app.clone()), over(shown)).await?;
    let failed_of = |over: &Throughput| over.points.iter().map(|point| point.failed).sum::<i64>();
    let failed_lately: i64 = if shown == SPANS[0] {
        failed_of(&throughput)
    } else {
        let Json(hour) = queues::throughput(asker.allow(app).await?, State(app.clone()), over(SPANS[0])).await?;
        failed_of(&hour)
    };
    let kinds = by_kind(&servants, &pending_of(&counts), &app.store.expected_processes().await?);
    let builds = app.store.builds().await?;
    let marks: Vec<_> =
        builds.iter().map(|build| (build.first_at, format!("{}: {}", build.version, build.kinds.join(", ")))).collect();
    let timeline = Timeline::new(&throughput);
    let oldest = app.store.queue_states().await?.into_iter().filter_map(|row| row.oldest_ready_at).min();
    let failures = app.store.recent_failures(FAILURES_MAX).await?;
    Ok(Overview {
        pauses: pauses.iter().map(|row| PauseView::new(row, now)).collect(),
        tiles: tiles(&counts, oldest.map(|at| (now - at).num_seconds().max(0)), failed_lately, &kinds),
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
        connections: broken_connections(asker, app, now).await?,
        breakers: troubled_breakers(app, now).await?,
        anomalies: grave_anomalies(asker, app, now).await?,
        failures: failures.into_iter().map(|failure| FailureView::new(failure, now)).collect(),
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
    let is_missing = kinds.iter().any(KindOfServants::is_missed);
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

async fn troubled_breakers(app: &App, now: DateTime<Utc>) -> Result<Vec<BreakerView>, ApiError> {
    let rows = app.store.troubled_breakers(BREAKERS_MAX).await?;
    Ok(rows.iter().map(|row| BreakerView::new(breakers::breaker_of(row), now)).collect())
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

//! The overview: the whole at a glance, and what needs a person.

use super::{
    attention::{self, Attention},
    render,
    servants::{KindOfServants, by_kind, pending_of},
};
use crate::{
    App,
    allowed::{Allowed, Asker},
    api::{onboardings, others, pauses, queues, servants::fleet},
    caller::Caller,
    chart::{Chart, Timeline},
    error::ApiError,
    glance::Shared,
    sight,
    view::{BarView, CountRow, FailureView, Link, PauseView, When, count_rows, grouped, span, when},
};
use askama::Template;
use axum::{
    Extension, Json, Router,
    extract::{Query, State},
    response::Response,
    routing::get,
};
use chrono::{DateTime, Utc};
use domain::{GroupState, JobState, about, action};
use manager_api::{GroupDetail, JobCount, OnboardingQuery, Throughput, ThroughputQuery};
use serde::Deserialize;
use std::{sync::Arc, time::Duration};

/// Builds told of, the latest.
const DEPLOYS_MAX: usize = 5;

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

/// What a customer has for the first time, and how far that is.
struct Onboarding {
    id: i64,
    account_id: i64,
    state: GroupState,
    bar: BarView,
    left: String,
    /// When it began, or ended.
    since: When,
}

impl Onboarding {
    fn new(GroupDetail { group: row, progress }: GroupDetail, now: DateTime<Utc>) -> Self {
        let number = |units: i64| u64::try_from(units).unwrap_or(0);
        let failed = row.counts.failed;
        // What is not read of a long list only adds to what is.
        let more = if progress.is_partial { "+" } else { "" };
        let left = match progress.secs_left {
            _ if row.state.is_ended() => String::new(),
            Some(left) if progress.is_partial => format!("at least {}", about(left)),
            Some(left) => about(left),
            None => "not known yet".to_owned(),
        };
        Self {
            bar: BarView {
                done: number(progress.done),
                total: Some(number(progress.total)).filter(|total| *total > 0),
                count: format!("{} / {}{more}", grouped(progress.done), grouped(progress.total)),
                message: if failed > 0 { format!("{} jobs failed", grouped(failed)) } else { String::new() },
            },
            left,
            since: when(if row.state.is_ended() { row.state_since } else { row.created_at }, now),
            id: row.id,
            account_id: row.account_id,
            state: row.state,
        }
    }
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
    attention: Vec<Attention>,
    failures: Vec<FailureView>,
    onboardings: Vec<Onboarding>,
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
    attention: &'a [Attention],
    failures: &'a [FailureView],
    onboardings: &'a [Onboarding],
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
    let _: Allowed<action::ReadStats> = asker.allow(&app).await?;
    let _: Allowed<action::ReadQueues> = asker.allow(&app).await?;
    let _: Allowed<action::ReadGroups> = asker.allow(&app).await?;
    let _: Allowed<action::ReadSchedules> = asker.allow(&app).await?;
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
        attention: &whole.attention,
        failures: &whole.failures,
        onboardings: &whole.onboardings,
    })
}

async fn read(asker: &Asker, app: &App, shown: &str) -> Result<Overview, ApiError> {
    let now = app.store.now();
    let stats = asker.allow(app).await?;
    let servants = fleet(&asker.allow(app).await?, app).await?;
    let pauses = pauses::in_force(&asker.allow(app).await?, app, None, store::PAGE_ROWS_MAX).await?;
    let counts = others::counts(&stats, app).await?;
    let over = |span: &str| Query(ThroughputQuery { span: Some(span.to_owned()), kind: None });
    let Json(throughput) = queues::throughput(asker.allow(app).await?, State(app.clone()), over(shown)).await?;
    let failed_of = |over: &Throughput| over.points.iter().map(|point| point.failed).sum::<i64>();
    let failed_lately: i64 = if shown == SPANS[0] {
        failed_of(&throughput)
    } else {
        let Json(hour) = queues::throughput(asker.allow(app).await?, State(app.clone()), over(SPANS[0])).await?;
        failed_of(&hour)
    };
    let kinds = by_kind(&servants, &pending_of(&counts), &others::expected(&stats, app).await?);
    let builds = others::builds(&stats, app).await?;
    let marks: Vec<_> =
        builds.iter().map(|build| (build.first_at, format!("{}: {}", build.version, build.kinds.join(", ")))).collect();
    let timeline = Timeline::new(&throughput);
    let Json(waiting) = queues::list(asker.allow(app).await?, State(app.clone())).await?;
    let oldest = waiting.queues.iter().filter_map(|row| row.oldest_ready_at).min();
    let failures = others::failures(&stats, app).await?;
    let query = Query(OnboardingQuery::default());
    let Json(onboarded) = onboardings::list(asker.allow(app).await?, State(app.clone()), query).await?;
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
        counts: count_rows(&counts, &pauses::of_kinds(&asker.allow(app).await?, app).await?),
        kinds,
        attention: attention::read(asker, app, &pauses, now).await?,
        failures: failures.into_iter().map(|failure| FailureView::new(failure, now)).collect(),
        onboardings: onboarded.onboardings.into_iter().map(|row| Onboarding::new(row, now)).collect(),
    })
}

fn tiles(counts: &[JobCount], oldest_secs: Option<i64>, failed_lately: i64, kinds: &[KindOfServants]) -> Vec<Tile> {
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

//! What waits of each kind, where there is a queue how deep it is, dead letters and their way back, and what SQS costs.

use super::{back, render};
use crate::{
    App,
    allowed::Asker,
    api::{others, queues as api, servants::fleet},
    error::ApiError,
    view::{When, grouped, span, when},
};
use askama::Template;
use axum::{
    Form, Json, Router,
    extract::{Path, Query, State},
    http::HeaderMap,
    response::{Redirect, Response},
    routing::{get, post},
};
use domain::{JobState, Liveness};
use manager_api::{Queue, RedriveRequest, ThroughputQuery};
use std::collections::BTreeMap;

/// SQS's price of a million requests to a standard queue, in US dollars (us-east-1, after the first million of a month).
const DOLLARS_PER_MILLION: f64 = 0.40;
/// Requests of one job: sent, received and deleted, in batches of ten or alone.
const REQUESTS_BATCHED: f64 = 0.3;
const REQUESTS_ALONE: f64 = 3.0;
/// An idle servant asks every 20 s: requests of a month of 30 days.
const POLLS_PER_MONTH: f64 = 30.0 * 86_400.0 / 20.0;

pub(super) fn routes() -> Router<App> {
    Router::new().route("/queues", get(list)).route("/queues/{kind}/redrive", post(redrive))
}

struct QueueView {
    seen: When,
    /// The oldest job that is due has waited so long.
    oldest: Option<String>,
    pending: String,
    running: String,
    redriven: Option<When>,
    /// Messages on the queue, by where they are.
    depths: Vec<(&'static str, String)>,
    row: Queue,
}

#[derive(Template)]
#[template(path = "queues.html")]
struct QueuesPage {
    queues: Vec<QueueView>,
    has_sqs: bool,
    /// Jobs that ended in the last 24 hours.
    jobs: String,
    /// What a month of such days costs.
    cost: String,
    per_million: String,
}

async fn list(asker: Asker, State(app): State<App>) -> Result<Response, ApiError> {
    let now = app.store.now();
    let Json(list) = api::list(asker.allow(&app).await?, State(app.clone())).await?;
    let mut counts: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for count in others::counts(&asker.allow(&app).await?, &app).await? {
        let of_kind = counts.entry(count.kind).or_default();
        if count.state.is_pending() {
            of_kind.0 += count.jobs;
        } else if count.state == JobState::Running {
            of_kind.1 += count.jobs;
        }
    }
    let query = ThroughputQuery { span: Some("24h".to_owned()), kind: None };
    let Json(day) = api::throughput(asker.allow(&app).await?, State(app.clone()), Query(query)).await?;
    let jobs: i64 = day.points.iter().map(|point| point.succeeded + point.failed + point.cancelled).sum();
    let servants = fleet(&asker.allow(&app).await?, &app).await?;
    let alive = servants.iter().filter(|servant| servant.liveness != Liveness::Lost.as_str()).count();
    let has_sqs = list.queues.iter().any(|row| row.visible.is_some());
    let view = |row: Queue| {
        let (pending, running) = counts.get(&row.kind).copied().unwrap_or_default();
        QueueView {
            seen: when(row.seen_at, now),
            oldest: row.oldest_ready_at.map(|at| span((now - at).num_seconds().max(0))),
            pending: grouped(pending),
            running: grouped(running),
            redriven: row.redriven_at.map(|at| when(at, now)),
            depths: [
                ("On the queue", row.visible),
                ("In flight", row.in_flight),
                ("Delayed", row.delayed),
                ("Dead letters", row.dead),
            ]
            .map(|(label, messages)| (label, messages.map(grouped).unwrap_or_default()))
            .into(),
            row,
        }
    };
    render(&QueuesPage {
        queues: list.queues.into_iter().map(view).collect(),
        has_sqs,
        jobs: grouped(jobs),
        cost: cost_of(jobs, alive),
        per_million: per_million(),
    })
}

/// What a million jobs take, beside the polls of servants that are idle.
fn per_million() -> String {
    let (least, most) = (REQUESTS_BATCHED, REQUESTS_ALONE);
    let dollars = [least, most].map(|requests| format!("${:.2}", requests * DOLLARS_PER_MILLION));
    format!("{least:.1} to {most:.1} million requests, {} to {}", dollars[0], dollars[1])
}

/// A month of days of so many jobs, with so many servants that ask.
fn cost_of(jobs_a_day: i64, servants: usize) -> String {
    let dollars = |requests: f64| {
        let polls = POLLS_PER_MONTH * servants as f64;
        (jobs_a_day as f64 * 30.0 * requests + polls) / 1e6 * DOLLARS_PER_MILLION
    };
    format!("${:.2} to ${:.2} a month", dollars(REQUESTS_BATCHED), dollars(REQUESTS_ALONE))
}

async fn redrive(
    asker: Asker,
    State(app): State<App>,
    Path(kind): Path<String>,
    headers: HeaderMap,
    Form(form): Form<RedriveRequest>,
) -> Result<Redirect, ApiError> {
    let Json(_) = api::redrive(asker.allow(&app).await?, State(app), Path(kind), Json(form)).await?;
    Ok(back(&headers, "/queues"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_million_jobs_a_month_cost_what_the_price_list_says() {
        assert_eq!(cost_of(0, 0), "$0.00 to $0.00 a month");
        assert_eq!(cost_of(1_000_000, 0), "$3.60 to $36.00 a month");
        assert_eq!(cost_of(0, 12), "$0.62 to $0.62 a month");
        assert_eq!(per_million(), "0.3 to 3.0 million requests, $0.12 to $1.20");
    }
}

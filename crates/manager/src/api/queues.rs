//! What waits, and how many jobs ended, over HTTP; and the order to move dead letters back.

use crate::{App, allowed::Allowed, error::ApiError};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Kind, action, latency_percentile_ms};
use manager_api::{
    ByWhom, ErrorEnvelope, Percentiles, Queue, QueueList, RedriveRequest, Throughput, ThroughputPoint, ThroughputQuery,
};
use store::{QueueStateRow, StatPoint};

/// Lists what waits by kind, as the leading scheduler saw it last.
#[utoipa::path(get, path = "/api/v1/queues", tag = "queues", responses((status = 200, body = QueueList),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn list(_: Allowed<action::ReadQueues>, State(app): State<App>) -> Result<Json<QueueList>, ApiError> {
    Ok(Json(queues_of(&app).await?))
}

async fn queues_of(app: &App) -> Result<QueueList, ApiError> {
    let rows = app.store.queue_states().await?;
    Ok(QueueList { queues: rows.into_iter().map(queue_of).collect() })
}

/// Orders a kind's dead letters to be moved back; the leading scheduler does it.
#[utoipa::path(post, path = "/api/v1/queues/{kind}/redrive", tag = "queues", request_body = RedriveRequest,
    params(("kind" = String, Path, description = "The kind")),
    responses((status = 200, body = QueueList), (status = 400, body = ErrorEnvelope), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn redrive(
    allowed: Allowed<action::Redrive>,
    State(app): State<App>,
    Path(kind): Path<String>,
    Json(request): Json<RedriveRequest>,
) -> Result<Json<QueueList>, ApiError> {
    let granted = allowed.said(&ByWhom { by: request.by, reason: None })?;
    let kind = kind_of(&kind)?;
    if !app.store.order_redrive(&granted, &kind).await? {
        return Err(ApiError::not_found(format!("no queue of kind {kind} was seen"))
            .hint("without a broker there are no dead letters; with one, a scheduler has to lead"));
    }
    tracing::info!(kind = kind.as_str(), by = granted.by(), "dead letters are to be moved back");
    Ok(Json(queues_of(&app).await?))
}

/// Says how many jobs ended over time, and how long they waited and ran.
#[utoipa::path(get, path = "/api/v1/throughput", tag = "stats", params(ThroughputQuery),
    responses((status = 200, body = Throughput), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn throughput(
    _: Allowed<action::ReadStats>,
    State(app): State<App>,
    Query(query): Query<ThroughputQuery>,
) -> Result<Json<Throughput>, ApiError> {
    let (step_secs, points) = match query.span.as_deref().filter(|span| !span.is_empty()).unwrap_or("1h") {
        "1h" => (60, 60),
        "24h" => (900, 96),
        "7d" => (3_600, 168),
        other => return Err(ApiError::bad_request(format!("span is '{other}', not 1h, 24h or 7d"))),
    };
    let kind = query.kind.as_deref().filter(|kind| !kind.is_empty()).map(kind_of).transpose()?;
    let step = i64::from(step_secs);
    let now = app.store.now().timestamp();
    let last = now - now.rem_euclid(step);
    let at = |secs: i64| DateTime::<Utc>::from_timestamp(secs, 0).unwrap_or_default();
    let from = at(last) - TimeDelta::seconds(step * (points - 1));
    let rows = app.store.throughput(kind.as_ref(), step_secs, from).await?;
    Ok(Json(Throughput { step_secs, from, until: at(last), points: rows.into_iter().map(point_of).collect() }))
}

fn kind_of(text: &str) -> Result<Kind, ApiError> {
    Kind::new(text).map_err(|error| ApiError::bad_request(format!("kind: {error}")))
}

fn percentiles(counts: Option<&[i64]>) -> Percentiles {
    let at = |share| latency_percentile_ms(counts.unwrap_or_default(), share).unwrap_or(0);
    Percentiles { p50: at(0.5), p95: at(0.95), p99: at(0.99) }
}

fn point_of(row: StatPoint) -> ThroughputPoint {
    let mean = |sum: i64| if row.succeeded > 0 { sum / row.succeeded } else { 0 };
    ThroughputPoint {
        at: row.at,
        succeeded: row.succeeded,
        failed: row.failed,
        cancelled: row.cancelled,
        waited_ms_mean: mean(row.waited_ms),
        waited_ms_max: row.waited_ms_max,
        waited_ms: percentiles(row.waited.as_deref()),
        ran_ms_mean: mean(row.ran_ms),
        ran_ms: percentiles(row.ran.as_deref()),
    }
}

fn queue_of(row: QueueStateRow) -> Queue {
    Queue {
        kind: row.kind,
        seen_at: row.seen_at,
        oldest_ready_at: row.oldest_ready_at,
        visible: row.visible,
        in_flight: row.in_flight,
        delayed: row.delayed,
        dead: row.dead,
        redrive_by: row.redrive_by,
        redrive_outcome: row.redrive_outcome,
        redriven_at: row.redriven_at,
    }
}

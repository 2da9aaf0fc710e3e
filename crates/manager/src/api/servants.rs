//! Servants over HTTP: list, order, heartbeats.

use crate::{App, allowed::Allowed, error::ApiError, people::BeatingServant, sight};
use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use chrono::{DateTime, Utc};
use domain::{ServantId, action, liveness};
use manager_api::{
    ByWhom, CurrentJob, ErrorEnvelope, Heartbeat, HeartbeatReply, OrderRequest, Servant, ServantList, ServantQuery,
};
use store::{BeatenBy, HeartbeatFacts, ServantRow};

/// Jobs of one heartbeat that are kept.
const JOBS_KEPT_MAX: usize = 200;
/// What a servant may say of its state.
const STATES: [&str; 4] = ["running", "paused", "draining", "stopped"];

/// Lists the servants heard of lately.
#[utoipa::path(get, path = "/api/v1/servants", tag = "servants", params(ServantQuery),
    responses((status = 200, body = ServantList), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn list(
    _: Allowed<action::ReadServants>,
    State(app): State<App>,
    Query(query): Query<ServantQuery>,
) -> Result<Json<ServantList>, ApiError> {
    let now = app.store.now();
    let limit = query.limit.unwrap_or(store::PAGE_ROWS_MAX).clamp(1, store::PAGE_ROWS_MAX);
    let rows = app.store.list_servants(query.after.map(ServantId), limit).await?;
    let next_after = crate::filter::next_of(&rows, limit, |row| row.id);
    Ok(Json(ServantList { servants: rows.into_iter().map(|row| servant_of(row, now)).collect(), next_after }))
}

/// All servants heard of lately; what both the API and the pages count and show.
pub(crate) async fn fleet(_: &Allowed<action::ReadServants>, app: &App) -> Result<Vec<Servant>, ApiError> {
    fleet_of(app).await
}

pub(super) async fn fleet_of(app: &App) -> Result<Vec<Servant>, ApiError> {
    let now = app.store.now();
    Ok(app.store.all_servants().await?.into_iter().map(|row| servant_of(row, now)).collect())
}

/// Shows one servant, whenever it was heard of.
#[utoipa::path(get, path = "/api/v1/servants/{id}", tag = "servants",
    params(("id" = i64, Path, description = "The servant")),
    responses((status = 200, body = Servant), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn show(
    _: Allowed<action::ReadServants>,
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Json<Servant>, ApiError> {
    let row = app.store.find_servant(ServantId(id)).await?;
    let row = row.ok_or_else(|| ApiError::not_found(format!("there is no servant {id}")))?;
    Ok(Json(servant_of(row, app.store.now())))
}

/// Orders a servant to pause, resume or drain; it obeys with its next heartbeat.
#[utoipa::path(post, path = "/api/v1/servants/{id}/order", tag = "servants", request_body = OrderRequest,
    params(("id" = i64, Path, description = "The servant")),
    responses((status = 200, body = OrderRequest), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn order(
    allowed: Allowed<action::OrderServant>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<OrderRequest>,
) -> Result<Json<OrderRequest>, ApiError> {
    let whom = ByWhom { by: request.by.clone(), reason: request.reason.clone() };
    let granted = allowed.said(&whom)?;
    if !app.store.order_servant(&granted, ServantId(id), request.order.as_str()).await? {
        return Err(ApiError::not_found(format!("there is no servant {id} that runs"))
            .hint("GET /api/v1/servants lists those that do"));
    }
    tracing::info!(
        servant_id = id,
        order = request.order.as_str(),
        by = granted.by(),
        "servant ordered by an operator"
    );
    Ok(Json(request))
}

/// Takes a servant's word on how it is, and answers with its orders. Which kind and whose row it is follows from the
/// credential; a body that says otherwise is refused.
#[utoipa::path(post, path = "/api/v1/heartbeats", tag = "servants", request_body = Heartbeat,
    responses((status = 200, body = HeartbeatReply), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn heartbeat(
    allowed: Allowed<action::Heartbeat>,
    State(app): State<App>,
    beating: Option<Extension<BeatingServant>>,
    Json(mut beat): Json<Heartbeat>,
) -> Result<Json<HeartbeatReply>, ApiError> {
    if !STATES.contains(&beat.state.as_str()) {
        return Err(ApiError::bad_request(format!("'{}' is no state of a servant", beat.state)));
    }
    let beating = beating.map(|Extension(beating)| beating);
    let (servant_id, kind) = (beat.servant_id, beat.kind.clone());
    let anothers = || {
        tracing::warn!(servant_id, kind, "a heartbeat for another's row was refused");
        ApiError::new(StatusCode::FORBIDDEN, "not_yours", "this row is another servant's, or of another kind")
            .hint("a credential is for one kind, and a row for the process that wrote it first")
    };
    if beating.as_ref().is_some_and(|beating| beating.credential.kind != beat.kind) {
        return Err(anothers());
    }
    let by = beating.as_ref().map(|b| BeatenBy { credential: &b.credential, boot_digest: &b.boot_digest });
    beat.jobs.truncate(JOBS_KEPT_MAX);
    let facts = HeartbeatFacts {
        state: beat.state,
        rss_bytes: beat.rss_bytes.and_then(|bytes| i64::try_from(bytes).ok()),
        cpu_pct: beat.cpu_pct.and_then(|pct| i32::try_from(pct).ok()),
        running: i32::try_from(beat.running).unwrap_or(i32::MAX),
        current_jobs: serde_json::to_value(&beat.jobs).unwrap_or_else(|_| serde_json::json!([])),
    };
    let granted = allowed.granted();
    let Some(orders) = app.store.record_heartbeat(granted, ServantId(beat.servant_id), &facts, by).await? else {
        if by.is_some() {
            return Err(anothers());
        }
        return Err(ApiError::not_found(format!("there is no servant {}", beat.servant_id))
            .hint("a servant registers in the database before its first heartbeat"));
    };
    let ordered = orders.ordered.as_deref();
    metrics::counter!("servant_heartbeats_total", "kind" => beat.kind).increment(1);
    Ok(Json(HeartbeatReply {
        pause: ordered == Some("pause"),
        resume: ordered == Some("resume"),
        drain: ordered == Some("drain"),
        cancel: orders.cancel.into_iter().map(|id| id.0).collect(),
    }))
}

fn current_of(jobs: serde_json::Value) -> Vec<CurrentJob> {
    let jobs: Vec<CurrentJob> = serde_json::from_value(jobs).unwrap_or_default();
    jobs.into_iter().map(|job| CurrentJob { progress: sight::progress(job.progress), ..job }).collect()
}

/// A row of the ledger as the API shows it.
pub(crate) fn servant_of(row: ServantRow, now: DateTime<Utc>) -> Servant {
    Servant {
        liveness: liveness(row.seen_at, now).as_str().to_owned(),
        silent_secs: (now - row.seen_at).num_seconds().max(0),
        // What an older servant wrote in another shape is not shown.
        jobs: current_of(row.current_jobs),
        id: row.id,
        kind: row.kind,
        host: row.host,
        pid: row.pid,
        version: row.version,
        state: row.state,
        ordered: row.ordered,
        ordered_by: row.ordered_by,
        ordered_reason: row.ordered_reason,
        ordered_at: row.ordered_at,
        concurrency: row.concurrency,
        running: row.running,
        started_at: row.started_at,
        seen_at: row.seen_at,
        heartbeat_at: row.heartbeat_at,
        rss_bytes: row.rss_bytes,
        cpu_pct: row.cpu_pct,
    }
}

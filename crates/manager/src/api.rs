//! The HTTP API under `/api/v1` and its description at `/api/openapi.json`.

pub(crate) mod accounts;
pub(crate) mod anomalies;
pub(crate) mod assumptions;
pub(crate) mod audit;
pub(crate) mod authorise;
pub(crate) mod breakers;
pub(crate) mod budgets;
pub(crate) mod connections;
mod describe;
pub(crate) mod errors;
mod examples;
pub(crate) mod find;
pub(crate) mod groups;
pub(crate) mod jobs;
pub(crate) mod limits;
pub(crate) mod onboardings;
pub(crate) mod operations;
pub(crate) mod others;
pub(crate) mod pauses;
pub(crate) mod quarantine;
pub(crate) mod queues;
pub(crate) mod schedules;
pub(crate) mod servants;
pub(crate) mod tokens;
pub(crate) mod users;

use crate::{App, error::ApiError};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{FromRequest as _, Request},
    http::header,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post, put},
};
use utoipa::OpenApi;

pub(crate) use jobs::{cancel_job, detail_of, retry_job, why_of};

/// The description, generated from the handlers.
#[derive(OpenApi)]
#[openapi(
    info(title = "Servant manager", description = "Jobs, servants, schedules and accounts of one deployment."),
    paths(
        jobs::list,
        jobs::show,
        jobs::why,
        jobs::enqueue,
        jobs::retry,
        jobs::cancel,
        jobs::run_now,
        jobs::again,
        operations::list,
        operations::show,
        operations::preview,
        operations::create,
        operations::cancel,
        operations::items,
        find::find,
        errors::list,
        errors::show,
        queues::list,
        queues::redrive,
        queues::throughput,
        onboardings::list,
        groups::list,
        groups::show,
        groups::create,
        groups::add,
        groups::members,
        groups::seal,
        groups::cancel,
        servants::list,
        servants::show,
        servants::order,
        servants::heartbeat,
        schedules::list,
        schedules::show,
        schedules::create,
        schedules::update,
        schedules::delete,
        schedules::pause,
        schedules::resume,
        schedules::run,
        schedules::backfill,
        schedules::preview,
        pauses::list,
        pauses::pause,
        pauses::pause_everything,
        pauses::resume,
        pauses::resume_everything,
        limits::list,
        limits::holders,
        limits::set,
        limits::set_each,
        limits::remove,
        limits::remove_each,
        budgets::list,
        budgets::show,
        budgets::set_share,
        budgets::remove_share,
        connections::list,
        connections::show,
        connections::reauthorised,
        connections::park,
        connections::disable,
        connections::enable,
        connections::choose_objects,
        authorise::authorise,
        authorise::create,
        breakers::list,
        breakers::show,
        breakers::open,
        breakers::close,
        breakers::clear,
        anomalies::list,
        anomalies::show,
        anomalies::assign,
        anomalies::acknowledge,
        anomalies::resolve,
        anomalies::mute,
        quarantine::list,
        quarantine::show,
        quarantine::dismiss,
        quarantine::retry,
        audit::list,
        audit::export,
        audit::verify,
        assumptions::list,
        assumptions::show,
        assumptions::start,
        assumptions::end,
        others::accounts,
        accounts::show,
        accounts::streams,
        accounts::changes,
        accounts::sync,
        others::set_weight,
        others::stats,
        users::me,
        users::change_password,
        users::list,
        users::create,
        users::set_role,
        users::disable,
        users::enable,
        users::sign_out,
        users::code,
        tokens::list,
        tokens::create,
        tokens::revoke,
        tokens::credentials,
        tokens::create_credential,
        tokens::revoke_credential,
    ),
    components(schemas(manager_api::ErrorEnvelope, manager_api::ErrorBody))
)]
struct Description;

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/jobs", get(jobs::list).post(jobs::enqueue))
        .route("/api/v1/jobs/{id}", get(jobs::show))
        .route("/api/v1/jobs/{id}/why", get(jobs::why))
        .route("/api/v1/jobs/{id}/retry", post(jobs::retry))
        .route("/api/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/api/v1/jobs/{id}/run-now", post(jobs::run_now))
        .route("/api/v1/audit", get(audit::list))
        .route("/api/v1/audit/export", get(audit::export))
        .route("/api/v1/audit/verify", get(audit::verify))
        .route("/api/v1/jobs/{id}/again", post(jobs::again))
        .route("/api/v1/operations", get(operations::list).post(operations::create))
        .route("/api/v1/operations/preview", get(operations::preview))
        .route("/api/v1/operations/{id}", get(operations::show))
        .route("/api/v1/operations/{id}/cancel", post(operations::cancel))
        .route("/api/v1/operations/{id}/items", get(operations::items))
        .route("/api/v1/find", get(find::find))
        .route("/api/v1/errors", get(errors::list))
        .route("/api/v1/errors/{fingerprint}", get(errors::show))
        .route("/api/v1/queues", get(queues::list))
        .route("/api/v1/queues/{kind}/redrive", post(queues::redrive))
        .route("/api/v1/throughput", get(queues::throughput))
        .route("/api/v1/onboardings", get(onboardings::list))
        .route("/api/v1/groups", get(groups::list).post(groups::create))
        .route("/api/v1/groups/{id}", get(groups::show))
        .route("/api/v1/groups/{id}/jobs", get(groups::members).post(groups::add))
        .route("/api/v1/groups/{id}/seal", post(groups::seal))
        .route("/api/v1/groups/{id}/cancel", post(groups::cancel))
        .route("/api/v1/servants", get(servants::list))
        .route("/api/v1/servants/{id}", get(servants::show))
        .route("/api/v1/servants/{id}/order", post(servants::order))
        .route("/api/v1/heartbeats", post(servants::heartbeat))
        .route("/api/v1/schedules", get(schedules::list).post(schedules::create))
        .route("/api/v1/schedules/{id}", get(schedules::show).patch(schedules::update).delete(schedules::delete))
        .route("/api/v1/schedules/{id}/pause", post(schedules::pause))
        .route("/api/v1/schedules/{id}/resume", post(schedules::resume))
        .route("/api/v1/schedules/{id}/run", post(schedules::run))
        .route("/api/v1/schedules/{id}/backfill", post(schedules::backfill))
        .route("/api/v1/schedules/{id}/preview", get(schedules::preview))
        .route("/api/v1/pauses", get(pauses::list))
        .route("/api/v1/pauses/everything", put(pauses::pause_everything).delete(pauses::resume_everything))
        .route("/api/v1/pauses/{scope}/{key}", put(pauses::pause).delete(pauses::resume))
        .route("/api/v1/limits", get(limits::list))
        .route("/api/v1/holders", get(limits::holders))
        .route("/api/v1/limits/{scope}", put(limits::set_each).delete(limits::remove_each))
        .route("/api/v1/limits/{scope}/{key}", put(limits::set).delete(limits::remove))
        .route("/api/v1/budgets", get(budgets::list))
        .route("/api/v1/budgets/{connection}", get(budgets::show))
        .route("/api/v1/budgets/{connection}/share", put(budgets::set_share).delete(budgets::remove_share))
        .route("/api/v1/connections", get(connections::list).post(authorise::create))
        .route("/api/v1/connections/authorise", post(authorise::authorise))
        .route("/api/v1/connections/{id}", get(connections::show))
        .route("/api/v1/connections/{id}/sync", post(accounts::sync))
        .route("/api/v1/connections/{id}/reauthorised", post(connections::reauthorised))
        .route("/api/v1/connections/{id}/park", post(connections::park))
        .route("/api/v1/connections/{id}/disable", post(connections::disable))
        .route("/api/v1/connections/{id}/enable", post(connections::enable))
        .route("/api/v1/connections/{id}/objects", put(connections::choose_objects))
        .route("/api/v1/breakers", get(breakers::list))
        .route("/api/v1/breakers/{service}", get(breakers::show))
        .route("/api/v1/breakers/{service}/open", post(breakers::open))
        .route("/api/v1/breakers/{service}/close", post(breakers::close))
        .route("/api/v1/breakers/{service}/clear", post(breakers::clear))
        .route("/api/v1/anomalies", get(anomalies::list))
        .route("/api/v1/anomalies/{id}", get(anomalies::show))
        .route("/api/v1/anomalies/{id}/assign", post(anomalies::assign))
        .route("/api/v1/anomalies/{id}/acknowledge", post(anomalies::acknowledge))
        .route("/api/v1/anomalies/{id}/resolve", post(anomalies::resolve))
        .route("/api/v1/anomalies/{id}/mute", post(anomalies::mute))
        .route("/api/v1/quarantine", get(quarantine::list))
        .route("/api/v1/quarantine/{id}", get(quarantine::show))
        .route("/api/v1/quarantine/{id}/dismiss", post(quarantine::dismiss))
        .route("/api/v1/quarantine/{id}/retry", post(quarantine::retry))
        .route("/api/v1/assumptions", get(assumptions::list).post(assumptions::start))
        .route("/api/v1/assumptions/{id}", get(assumptions::show))
        .route("/api/v1/assumptions/{id}/end", post(assumptions::end))
        .route("/api/v1/accounts", get(others::accounts))
        .route("/api/v1/accounts/{id}", get(accounts::show))
        .route("/api/v1/accounts/{id}/streams", get(accounts::streams))
        .route("/api/v1/accounts/{id}/changes", get(accounts::changes))
        .route("/api/v1/accounts/{id}/weight", put(others::set_weight))
        .route("/api/v1/stats", get(others::stats))
        .route("/api/v1/me", get(users::me))
        .route("/api/v1/me/password", post(users::change_password))
        .route("/api/v1/users", get(users::list).post(users::create))
        .route("/api/v1/users/{id}/role", put(users::set_role))
        .route("/api/v1/users/{id}/disable", post(users::disable))
        .route("/api/v1/users/{id}/enable", post(users::enable))
        .route("/api/v1/users/{id}/sign-out", post(users::sign_out))
        .route("/api/v1/users/{id}/code", post(users::code))
        .route("/api/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/api/v1/tokens/{id}/revoke", post(tokens::revoke))
        .route("/api/v1/credentials", get(tokens::credentials).post(tokens::create_credential))
        .route("/api/v1/credentials/{id}/revoke", post(tokens::revoke_credential))
        .route("/api/openapi.json", get(|| async { Json(describe::description()) }))
        .layer(middleware::from_fn(objects_only))
}

/// Refuses bodies that are not objects: structures would be read from arrays, too, by their order, which nobody described.
async fn objects_only(request: Request, next: Next) -> Response {
    if request.headers().get(header::CONTENT_TYPE).is_none() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let body = match Bytes::from_request(Request::from_parts(parts.clone(), body), &()).await {
        Ok(body) => body,
        Err(refusal) => return refusal.into_response(),
    };
    if body.trim_ascii_start().starts_with(b"[") {
        return ApiError::bad_request("the body is an array, not an object")
            .hint("GET /api/openapi.json describes every request")
            .into_response();
    }
    next.run(Request::from_parts(parts, Body::from(body))).await
}

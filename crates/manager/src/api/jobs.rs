//! Jobs over HTTP: list, show, enqueue, retry, cancel, run before their time.

use super::audit::{ACTS_MAX, act_of};
use crate::{App, allowed::Allowed, error::ApiError, filter, gate::RequestId, sight};
use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use domain::{AccountId, ConnectionId, Fingerprint, Granted, JobId, JobState, Kind, action};
use manager_api::{
    Attempt, ByWhom, CancelReply, EnqueueReply, EnqueueRequest, ErrorEnvelope, Job, JobDetail, JobPage, JobQuery,
    OverrideRequest, RetryReply, TimelineStep, Why,
};
use std::collections::BTreeMap;
use store::{ActsOnJobs, AttemptRow, AuditFilter, Inserted, JobRow, NewJob, Unique};

/// Lists jobs, newest first.
#[utoipa::path(get, path = "/api/v1/jobs", tag = "jobs", params(JobQuery),
    responses((status = 200, body = JobPage), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn list(
    _: Allowed<action::ReadJobs>,
    State(app): State<App>,
    Query(query): Query<JobQuery>,
) -> Result<Json<JobPage>, ApiError> {
    let (mut filter, limit) = filter::of_query(&query, app.store.now())?;
    filter.account = sight::narrow(&app, filter.account)?;
    let found = app.store.search_jobs(&filter, limit).await?;
    let next_before = found.next_before.map(|id| id.0);
    Ok(Json(JobPage { jobs: found.jobs.iter().map(summary_of).collect(), next_before }))
}

/// Shows one job with its timeline and its attempts.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", tag = "jobs", params(("id" = i64, Path, description = "The job")),
    responses((status = 200, body = JobDetail), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn show(
    _: Allowed<action::ReadJobs>,
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Json<JobDetail>, ApiError> {
    Ok(Json(detail_of(&app, JobId(id)).await?))
}

/// Says why a job does not run: the first cause that binds, and what would clear it.
///
/// Of the jobs that go before it 300 are looked at: `is_at_least` says that there may be more.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/why", tag = "jobs", params(("id" = i64, Path, description = "The job")),
    responses((status = 200, body = Why), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn why(
    _: Allowed<action::ReadJobs>,
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Json<Why>, ApiError> {
    Ok(Json(why_of(&app, JobId(id)).await?))
}

/// Inserts a job.
#[utoipa::path(post, path = "/api/v1/jobs", tag = "jobs", request_body = EnqueueRequest,
    responses((status = 201, body = EnqueueReply, description = "Inserted"),
              (status = 200, body = EnqueueReply, description = "Its unique key was taken"),
              (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn enqueue(
    allowed: Allowed<action::EnqueueJob>,
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    Json(mut request): Json<EnqueueRequest>,
) -> Result<(StatusCode, Json<EnqueueReply>), ApiError> {
    fill_attempts(&app, std::slice::from_mut(&mut request)).await?;
    let job = job_of(request, request_id)?;
    let kind = job.kind.clone();
    let inserted = app.store.enqueue(allowed.granted(), &[job]).await?.into_iter().next();
    let (status, id, duplicate) = match inserted {
        Some(Inserted::New(id)) => (StatusCode::CREATED, Some(id.0), false),
        Some(Inserted::Duplicate(holder)) => (StatusCode::OK, holder.map(|id| id.0), true),
        None => (StatusCode::OK, None, true),
    };
    tracing::info!(RequestId = %request_id.0, JobId = id, kind = kind.as_str(), duplicate, "job enqueued");
    Ok((status, Json(EnqueueReply { id, duplicate, request_id: request_id.0.to_string() })))
}

/// Attempts where none are asked for: as many as the catalogue gives the kind.
pub(super) async fn fill_attempts(app: &App, requests: &mut [EnqueueRequest]) -> Result<(), ApiError> {
    let mut known = BTreeMap::new();
    for request in requests.iter_mut().filter(|request| request.attempts_max.is_none()) {
        // What is no kind is refused by whoever reads the request.
        let Ok(kind) = Kind::new(request.kind.as_str()) else { continue };
        request.attempts_max = match known.get(&kind) {
            Some(attempts) => *attempts,
            None => {
                let attempts = app.store.attempts_max_of(&kind).await?;
                known.insert(kind, attempts);
                attempts
            }
        };
    }
    Ok(())
}

/// A job as it was asked for, checked.
pub(super) fn job_of(request: EnqueueRequest, request_id: RequestId) -> Result<NewJob, ApiError> {
    let kind = Kind::new(request.kind).map_err(|error| ApiError::bad_request(format!("kind: {error}")))?;
    let mut job = NewJob::new(kind, request.payload.unwrap_or_else(|| serde_json::json!({})));
    job.account = AccountId(request.account_id.unwrap_or(0));
    job.connection = request.connection_id.map(ConnectionId);
    job.priority = request.priority.unwrap_or(job.priority);
    if !(0..=4).contains(&job.priority) {
        return Err(ApiError::bad_request(format!("priority is {}, not between 0 (urgent) and 4", job.priority)));
    }
    job.attempts_max = request.attempts_max.unwrap_or(job.attempts_max);
    job.due_at = request.run_at;
    job.deadline_at = request.deadline_at;
    job.unique = match (request.unique_key, request.unique_secs) {
        (Some(key), _) if key.is_empty() => return Err(ApiError::bad_request("unique_key is empty")),
        (Some(key), for_secs) => Some(Unique { key, for_secs }),
        (None, Some(_)) => return Err(ApiError::bad_request("unique_secs is given without unique_key")),
        (None, None) => None,
    };
    job.request_id = request_id.0;
    Ok(job)
}

/// Starts a failed or cancelled job anew.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/retry", tag = "jobs", request_body = Option<ByWhom>,
    params(("id" = i64, Path, description = "The job")),
    responses((status = 200, body = RetryReply), (status = 404, body = ErrorEnvelope), (status = 409, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn retry(
    allowed: Allowed<action::RetryJob>,
    State(app): State<App>,
    Path(id): Path<i64>,
    whom: Option<Json<ByWhom>>,
) -> Result<Json<RetryReply>, ApiError> {
    let whom = whom.map(|Json(whom)| whom).unwrap_or_default();
    Ok(Json(RetryReply { id, state: retry_job(&app, JobId(id), &allowed.said(&whom)?).await? }))
}

/// Ends an unfinished job; a running one as soon as its servant obeys.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/cancel", tag = "jobs", request_body = Option<ByWhom>,
    params(("id" = i64, Path, description = "The job")),
    responses((status = 200, body = CancelReply), (status = 404, body = ErrorEnvelope), (status = 409, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn cancel(
    allowed: Allowed<action::CancelJob>,
    State(app): State<App>,
    Path(id): Path<i64>,
    whom: Option<Json<ByWhom>>,
) -> Result<Json<CancelReply>, ApiError> {
    let whom = whom.map(|Json(whom)| whom).unwrap_or_default();
    Ok(Json(CancelReply { id, state: cancel_job(&app, JobId(id), &allowed.said(&whom)?).await? }))
}

/// Lets a job go at once that waits for its retry, or for the time for which it was asked.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/run-now", tag = "jobs", request_body = OverrideRequest,
    params(("id" = i64, Path, description = "The job")),
    responses((status = 200, body = RetryReply), (status = 400, body = ErrorEnvelope),
              (status = 404, body = ErrorEnvelope), (status = 409, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn run_now(
    allowed: Allowed<action::RunJobNow>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<OverrideRequest>,
) -> Result<Json<RetryReply>, ApiError> {
    let granted = allowed.because(request.by.as_deref(), &request.reason)?;
    let (job, has_changed) = act_on(&app, JobId(id), &granted).await?;
    if !has_changed {
        return Err(ApiError::conflict(format!(
            "job {id} is {}; only one that waits for its time goes before it",
            job.state
        ))
        .hint("GET /api/v1/jobs/{id}/why says what it waits for"));
    }
    app.store.wake(&job.kind).await;
    Ok(Json(RetryReply { id, state: job.state }))
}

/// Inserts a job like one that there is: the same work for the same account and connection, now, as a job of its own.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/again", tag = "jobs", params(("id" = i64, Path, description = "The job")),
    responses((status = 201, body = EnqueueReply), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn again(
    allowed: Allowed<action::RepeatJob>,
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    Path(id): Path<i64>,
) -> Result<(StatusCode, Json<EnqueueReply>), ApiError> {
    let row = find(&app, JobId(id)).await?;
    // A mask would be a payload of another job.
    let see = sight::personal().ok_or_else(|| {
        ApiError::new(StatusCode::FORBIDDEN, "forbidden", "who may not see a payload does not run it again")
    })?;
    let payload = row.payload.expose(&see).clone();
    let job = NewJob {
        account: row.account_id,
        connection: row.connection_id,
        priority: row.priority,
        attempts_max: u16::try_from(row.attempts_max).unwrap_or(1),
        request_id: request_id.0,
        ..NewJob::new(row.kind, payload)
    };
    let new = app.store.enqueue(allowed.granted(), &[job]).await?.into_iter().find_map(|inserted| match inserted {
        Inserted::New(id) => Some(id.0),
        Inserted::Duplicate(_) => None,
    });
    tracing::info!(RequestId = %request_id.0, JobId = new, like = id, "job run again by an operator");
    let reply = EnqueueReply { id: new, duplicate: new.is_none(), request_id: request_id.0.to_string() };
    Ok((StatusCode::CREATED, Json(reply)))
}

/// What both the API and the page do to retry.
pub(crate) async fn retry_job(app: &App, id: JobId, granted: &Granted<action::RetryJob>) -> Result<JobState, ApiError> {
    let (job, has_changed) = act_on(app, id, granted).await?;
    if !has_changed {
        return Err(ApiError::conflict(format!(
            "job {id} is {}; only a failed or cancelled job is retried",
            job.state
        ))
        .hint("nor one whose unique key is taken again, nor a member of a cancelled group"));
    }
    app.store.wake(&job.kind).await;
    Ok(job.state)
}

/// What both the API and the page do to cancel.
pub(crate) async fn cancel_job(
    app: &App,
    id: JobId,
    granted: &Granted<action::CancelJob>,
) -> Result<JobState, ApiError> {
    let (job, has_changed) = act_on(app, id, granted).await?;
    if !has_changed {
        return Err(ApiError::conflict(format!("job {id} is {} already", job.state)));
    }
    Ok(job.state)
}

/// Does it, and answers with the job as it is then and whether it applied.
async fn act_on<A: ActsOnJobs>(app: &App, id: JobId, granted: &Granted<A>) -> Result<(JobRow, bool), ApiError> {
    let has_changed = !app.store.act_on_jobs(granted, &[id]).await?.is_empty();
    let job = find(app, id).await?;
    if has_changed {
        let (by, act) = (granted.by(), A::ACTION.as_str());
        tracing::info!(JobId = id.0, AccountId = job.account_id.0, act, by, "an operator acted on the job");
    }
    Ok((job, has_changed))
}

/// What both the API and the page say of why a job does not run.
pub(crate) async fn why_of(app: &App, id: JobId) -> Result<Why, ApiError> {
    let job = find(app, id).await?;
    let mut facts = app.store.why_facts(&job).await?;
    if let Some(failure) = &mut facts.last_failure {
        failure.error = sight::words(std::mem::take(&mut failure.error));
    }
    if let Some(connection) = &mut facts.connection {
        connection.reason = connection.reason.take().map(sight::words);
        connection.by = connection.by.take().map(sight::words);
    }
    let cause = domain::why(&facts);
    Ok(Why {
        id: id.0,
        state: job.state,
        now: facts.now,
        says: cause.says(),
        cleared_by: cause.cleared_by(),
        why: cause,
    })
}

async fn find(app: &App, id: JobId) -> Result<JobRow, ApiError> {
    let row = app.store.find_job(id).await?.filter(|row| sight::shows(app, row.account_id));
    row.ok_or_else(|| {
        ApiError::not_found(format!("there is no job {id}")).hint("finished jobs are dropped after their retention")
    })
}

/// A row of the ledger as a row of a list.
pub(crate) fn summary_of(row: &JobRow) -> Job {
    Job {
        id: row.id.0,
        kind: row.kind.as_str().to_owned(),
        state: row.state,
        account_id: row.account_id.0,
        group_id: row.group_id.map(|id| id.0),
        priority: row.priority,
        attempt: row.attempt,
        attempts_max: row.attempts_max,
        cancel_requested: row.cancel_requested,
        created_at: row.created_at,
        due_at: row.due_at,
        claimed_at: row.claimed_at,
        finished_at: row.finished_at,
        servant_id: row.servant_id.map(|id| id.0),
        progress: sight::progress(row.progress.clone()),
    }
}

/// Everything known of one job.
pub(crate) async fn detail_of(app: &App, id: JobId) -> Result<JobDetail, ApiError> {
    let row = find(app, id).await?;
    let attempts = app.store.attempts_of(id).await?;
    let of_job = AuditFilter { subject: Some("job".to_owned()), key: Some(id.to_string()), ..AuditFilter::default() };
    let acts = app.store.list_audit(&of_job, ACTS_MAX).await?;
    Ok(JobDetail {
        job: summary_of(&row),
        timeline: timeline_of(&row),
        request_id: row.request_id.to_string(),
        payload: sight::value(row.payload),
        checkpoint: row.checkpoint.map(sight::value),
        connection_id: row.connection_id.map(|id| id.0),
        schedule_id: row.schedule_id.map(|id| id.0),
        unique_key: row.unique_key.map(sight::words),
        deadline_at: row.deadline_at,
        traceparent: row.traceparent,
        attempts: attempts.into_iter().map(|attempt| attempt_of(attempt, row.kind.as_str())).collect(),
        acts: acts.into_iter().map(act_of).collect(),
    })
}

fn attempt_of(row: AttemptRow, kind: &str) -> Attempt {
    Attempt {
        fingerprint: Fingerprint::of(kind, &row.class, &row.error).to_string(),
        attempt: row.attempt,
        class: row.class,
        error: sight::words(row.error),
        servant_id: row.servant_id,
        claimed_at: row.claimed_at,
        ended_at: row.ended_at,
        log: row.log.map(sight::log),
    }
}

/// The stamps in the order of a life, each with the time since the one before it.
fn timeline_of(row: &JobRow) -> Vec<TimelineStep> {
    let stamps = [
        ("created", Some(row.created_at)),
        ("due", Some(row.due_at)),
        ("queued", row.queued_at),
        ("sent", row.sent_at),
        ("claimed", row.claimed_at),
        ("finished", row.finished_at),
    ];
    let mut steps: Vec<TimelineStep> = Vec::new();
    for (step, at) in stamps.into_iter().filter_map(|(step, at)| Some((step, at?))) {
        // A stamp of an earlier attempt lies before the present due time: it has no lag.
        let lag_ms = steps.last().map(|before| (at - before.at).num_milliseconds()).filter(|lag| *lag >= 0);
        steps.push(TimelineStep { step: step.to_owned(), at, lag_ms });
    }
    steps
}

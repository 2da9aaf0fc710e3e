//! Groups of jobs over HTTP: make, add members, seal, cancel, list, show.

use super::jobs;
use crate::{App, allowed::Allowed, error::ApiError, filter, gate::RequestId, sight};
use axum::{
    Extension, Json,
    extract::{Path, Query, State},
    http::StatusCode,
};
use domain::{AccountId, ConnectionId, Finishing, GroupId, GroupState, JobState, Kind, Sensitive, action};
use manager_api::{
    AddJobs, AddedJob, ByWhom, CancelGroup, CreateGroup, EnqueueRequest, ErrorEnvelope, FinishingJob, Group,
    GroupDetail, GroupPage, GroupProgress, GroupQuery, GroupReply, JobPage, JobQuery, MemberCounts,
};
use store::{GroupChange, GroupFilter, GroupRow, Inserted, NewGroup, NewJob};

/// Members of one request.
const JOBS_MAX: usize = 1_000;

/// Lists groups, newest first.
#[utoipa::path(get, path = "/api/v1/groups", tag = "groups", params(GroupQuery),
    responses((status = 200, body = GroupPage), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn list(
    _: Allowed<action::ReadGroups>,
    State(app): State<App>,
    Query(query): Query<GroupQuery>,
) -> Result<Json<GroupPage>, ApiError> {
    let wrong = |error| ApiError::bad_request(format!("state: {error}"));
    let filter = GroupFilter {
        state: query.state.as_deref().map(str::parse::<GroupState>).transpose().map_err(wrong)?,
        account: sight::narrow(&app, query.account.map(AccountId))?,
        before: query.before.map(GroupId),
    };
    let limit = filter::limit_of(query.limit)?;
    let rows = app.store.list_groups(&filter, limit).await?;
    let next_before = filter::next_of(&rows, limit, |row| row.id.0);
    Ok(Json(GroupPage { groups: rows.into_iter().map(group_of).collect(), next_before }))
}

/// Shows one group with its members by state and its progress.
#[utoipa::path(get, path = "/api/v1/groups/{id}", tag = "groups",
    params(("id" = i64, Path, description = "The group")),
    responses((status = 200, body = GroupDetail), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn show(
    _: Allowed<action::ReadGroups>,
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Json<GroupDetail>, ApiError> {
    let row = find(&app, id).await?;
    let progress = app.store.group_progress(&row).await?;
    Ok(Json(detail_of(row, progress)))
}

/// A group as the API shows it, with how far it is.
pub(super) fn detail_of(row: GroupRow, progress: store::GroupProgress) -> GroupDetail {
    let progress = GroupProgress {
        done: progress.done,
        total: progress.total,
        is_partial: progress.is_partial,
        secs_left: progress.left.map(|left| left.num_seconds()),
    };
    GroupDetail { group: group_of(row), progress }
}

/// Makes a group with its first members, and seals it if those are all: all of it or nothing.
#[utoipa::path(post, path = "/api/v1/groups", tag = "groups", request_body = CreateGroup,
    responses((status = 201, body = GroupReply), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn create(
    allowed: Allowed<action::CreateGroup>,
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    Json(request): Json<CreateGroup>,
) -> Result<(StatusCode, Json<GroupReply>), ApiError> {
    let account = AccountId(request.account_id.unwrap_or(0));
    let granted = allowed.said(&ByWhom { by: request.by, reason: None })?;
    let group = NewGroup {
        name: filter::words("name", &request.name)?.to_owned(),
        account,
        finishing: request.finishing.map(finishing_of).transpose()?,
        request_id: request_id.0,
    };
    let members = members_of(&app, request.jobs, account, request_id).await?;
    let (id, inserted) = app.store.create_group(&granted, &group, &members, request.seal).await?;
    tracing::info!(RequestId = %request_id.0, GroupId = id.0, jobs = members.len(), by = granted.by(), "group made");
    Ok((StatusCode::CREATED, Json(reply(&app, id.0, inserted, request_id).await?)))
}

/// Adds members to an open group: all of them or none.
#[utoipa::path(post, path = "/api/v1/groups/{id}/jobs", tag = "groups", request_body = AddJobs,
    params(("id" = i64, Path, description = "The group")),
    responses((status = 201, body = GroupReply), (status = 400, body = ErrorEnvelope), (status = 404, body = ErrorEnvelope),
              (status = 409, body = ErrorEnvelope, description = "It takes no members any more"),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn add(
    allowed: Allowed<action::AddToGroup>,
    State(app): State<App>,
    Extension(request_id): Extension<RequestId>,
    Path(id): Path<i64>,
    Json(request): Json<AddJobs>,
) -> Result<(StatusCode, Json<GroupReply>), ApiError> {
    let row = find(&app, id).await?;
    let members = members_of(&app, request.jobs, row.account, request_id).await?;
    let inserted = app.store.add_members(allowed.granted(), row.id, &members).await?;
    tracing::info!(RequestId = %request_id.0, GroupId = id, jobs = members.len(), "members added to a group");
    Ok((StatusCode::CREATED, Json(reply(&app, id, inserted, request_id).await?)))
}

/// Lists a group's members, newest first.
#[utoipa::path(get, path = "/api/v1/groups/{id}/jobs", tag = "groups",
    params(("id" = i64, Path, description = "The group"), JobQuery),
    responses((status = 200, body = JobPage), (status = 400, body = ErrorEnvelope), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn members(
    allowed: Allowed<action::ReadJobs>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Query(mut query): Query<JobQuery>,
) -> Result<Json<JobPage>, ApiError> {
    find(&app, id).await?;
    query.group = Some(id.to_string());
    jobs::list(allowed, State(app), Query(query)).await
}

/// Says that all members are known: the group ends with the last of them. Its running members may still add some.
#[utoipa::path(post, path = "/api/v1/groups/{id}/seal", tag = "groups",
    params(("id" = i64, Path, description = "The group")),
    responses((status = 200, body = Group), (status = 404, body = ErrorEnvelope), (status = 409, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn seal(
    allowed: Allowed<action::SealGroup>,
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Json<Group>, ApiError> {
    let change = app.store.seal_group(allowed.granted(), GroupId(id)).await?;
    changed(id, change, "only an open group is sealed")?;
    tracing::info!(GroupId = id, "group sealed by an operator");
    Ok(Json(group_of(find(&app, id).await?)))
}

/// Ends a group's members: pending ones within moments, running ones as soon as their servants obey. Nobody joins any
/// more, and its finishing job does not run.
#[utoipa::path(post, path = "/api/v1/groups/{id}/cancel", tag = "groups", request_body = CancelGroup,
    params(("id" = i64, Path, description = "The group")),
    responses((status = 200, body = Group), (status = 400, body = ErrorEnvelope), (status = 404, body = ErrorEnvelope),
              (status = 409, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn cancel(
    allowed: Allowed<action::CancelGroup>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<CancelGroup>,
) -> Result<Json<Group>, ApiError> {
    let granted = allowed.because(request.by.as_deref(), &request.reason)?;
    let change = app.store.cancel_group(&granted, GroupId(id)).await?;
    changed(id, change, "only an open or sealed group is cancelled")?;
    tracing::info!(GroupId = id, by = granted.by(), "group cancelled by an operator");
    Ok(Json(group_of(find(&app, id).await?)))
}

fn missing(id: i64) -> ApiError {
    ApiError::not_found(format!("there is no group {id}"))
        .hint("GET /api/v1/groups lists them; groups that ended are dropped after their members' retention")
}

async fn find(app: &App, id: i64) -> Result<GroupRow, ApiError> {
    let row = app.store.find_group(GroupId(id)).await?.filter(|row| sight::shows(app, row.account));
    row.ok_or_else(|| missing(id))
}

fn changed(id: i64, change: GroupChange, rule: &str) -> Result<(), ApiError> {
    match change {
        GroupChange::Done => Ok(()),
        GroupChange::Missing => Err(missing(id)),
        GroupChange::Stands(state) => Err(ApiError::conflict(format!("group {id} is {state}; {rule}"))),
    }
}

async fn reply(app: &App, id: i64, inserted: Vec<Inserted>, request_id: RequestId) -> Result<GroupReply, ApiError> {
    let jobs = inserted.into_iter().map(|inserted| match inserted {
        Inserted::New(id) => AddedJob { id: Some(id.0), duplicate: false },
        Inserted::Duplicate(holder) => AddedJob { id: holder.map(|id| id.0), duplicate: true },
    });
    let jobs = jobs.collect();
    Ok(GroupReply { group: group_of(find(app, id).await?), jobs, request_id: request_id.0.to_string() })
}

async fn members_of(
    app: &App,
    mut requests: Vec<EnqueueRequest>,
    account: AccountId,
    request_id: RequestId,
) -> Result<Vec<NewJob>, ApiError> {
    if requests.len() > JOBS_MAX {
        return Err(ApiError::bad_request(format!("{} jobs are more than {JOBS_MAX}", requests.len()))
            .hint("add them to the open group in pieces, then seal it"));
    }
    jobs::fill_attempts(app, &mut requests).await?;
    let member = |(at, mut request): (usize, EnqueueRequest)| {
        request.account_id = request.account_id.or(Some(account.0));
        jobs::job_of(request, request_id)
            .map_err(|error| ApiError { message: format!("jobs[{at}]: {}", error.message), ..error })
    };
    requests.into_iter().enumerate().map(member).collect()
}

fn finishing_of(job: FinishingJob) -> Result<Finishing, ApiError> {
    let priority = job.priority.unwrap_or(2);
    if !(0..=4).contains(&priority) {
        return Err(ApiError::bad_request(format!("finishing: priority is {priority}, not between 0 (urgent) and 4")));
    }
    Ok(Finishing {
        kind: Kind::new(job.kind).map_err(|error| ApiError::bad_request(format!("finishing: kind: {error}")))?,
        payload: job.payload.unwrap_or_else(|| serde_json::json!({})),
        priority,
        connection: job.connection_id.map(ConnectionId),
        when: job.when,
    })
}

/// A row of the ledger as the API shows it.
fn group_of(row: GroupRow) -> Group {
    let counts = row.counts;
    Group {
        id: row.id.0,
        name: row.name,
        account_id: row.account.0,
        state: row.state,
        state_since: row.state_since,
        created_by: row.created_by,
        created_at: row.created_at,
        members: counts.members(),
        counts: MemberCounts {
            scheduled: counts.of(JobState::Scheduled),
            ready: counts.of(JobState::Ready),
            queued: counts.of(JobState::Queued),
            running: counts.of(JobState::Running),
            succeeded: counts.of(JobState::Succeeded),
            failed: counts.of(JobState::Failed),
            cancelled: counts.of(JobState::Cancelled),
        },
        finishing: row.finishing.map(|finishing| FinishingJob {
            kind: finishing.kind.to_string(),
            payload: Some(sight::value(Sensitive::new(finishing.payload))),
            priority: Some(finishing.priority),
            connection_id: finishing.connection.map(|id| id.0),
            when: finishing.when,
        }),
        finishing_job_id: row.finishing_job.map(|id| id.0),
        cancelled_by: row.cancelled_by,
        cancel_reason: row.cancel_reason,
    }
}

//! People over HTTP, and who asks.

use crate::{
    App,
    allowed::Allowed,
    caller::Caller,
    error::ApiError,
    filter::{limit_of, next_of, words},
    people,
};
use axum::{
    Json,
    extract::{Path, Query, State},
    http::HeaderMap,
};
use domain::{Granted, Role, action};
use manager_api::{
    ChangePassword, CreateUser, ErrorEnvelope, Me, OneTimeCode, PasswordChanged, RoleRequest, User, UserPage, UserQuery,
};
use store::{NewCode, NewUser, UserChange, UserRow};
use vault::{ExposeSecret as _, TokenFor, digest, new_token};

/// Says who asks.
#[utoipa::path(get, path = "/api/v1/me", tag = "people",
    responses((status = 200, body = Me), (status = 401, body = ErrorEnvelope)))]
pub(crate) async fn me(Caller(caller): Caller) -> Json<Me> {
    Json(Me {
        kind: caller.kind().as_str().to_owned(),
        id: caller.id().to_owned(),
        name: caller.name().to_owned(),
        role: caller.role().to_string(),
    })
}

/// Changes the password of the person who is signed in, and ends their other sessions.
#[utoipa::path(post, path = "/api/v1/me/password", tag = "people", request_body = ChangePassword,
    responses((status = 200, body = PasswordChanged), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope), (status = 409, body = ErrorEnvelope)))]
pub(crate) async fn change_password(
    allowed: Allowed<action::ChangePassword>,
    State(app): State<App>,
    headers: HeaderMap,
    Json(request): Json<ChangePassword>,
) -> Result<Json<PasswordChanged>, ApiError> {
    let sessions_ended = people::change_password(&app, allowed.granted(), &headers, request).await?;
    Ok(Json(PasswordChanged { sessions_ended }))
}

/// Lists people.
#[utoipa::path(get, path = "/api/v1/users", tag = "people", params(UserQuery),
    responses((status = 200, body = UserPage), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn list(
    _: Allowed<action::ReadPeople>,
    State(app): State<App>,
    Query(query): Query<UserQuery>,
) -> Result<Json<UserPage>, ApiError> {
    let limit = limit_of(query.limit)?;
    let rows = app.store.list_users(query.after, limit).await?;
    let next_after = next_of(&rows, limit, |row| row.id);
    Ok(Json(UserPage { users: rows.into_iter().map(user_of).collect(), next_after }))
}

/// Makes a person, who signs in the first time with the one-time code that is answered.
#[utoipa::path(post, path = "/api/v1/users", tag = "people", request_body = CreateUser,
    responses((status = 200, body = OneTimeCode), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope), (status = 409, body = ErrorEnvelope)))]
pub(crate) async fn create(
    allowed: Allowed<action::ManagePeople>,
    State(app): State<App>,
    Json(request): Json<CreateUser>,
) -> Result<Json<OneTimeCode>, ApiError> {
    let by = allowed.granted();
    let (name, role) = (words("name", &request.name)?, role_of(&request.role)?);
    let email = request.email.trim();
    if !email.is_empty() {
        words("email", email)?;
    }
    let id = app.store.create_user(NewUser { name, email, role }, by).await?;
    let id = id.ok_or_else(|| ApiError::conflict("somebody has that name"))?;
    tracing::info!(user_id = id, role = role.as_str(), by = by.by(), "a person was made");
    new_code(&app, id, role, by).await
}

/// Gives a person another role, and ends the sessions.
#[utoipa::path(put, path = "/api/v1/users/{id}/role", tag = "people", request_body = RoleRequest,
    params(("id" = i64, Path, description = "The person")),
    responses((status = 200, body = User), (status = 400, body = ErrorEnvelope), (status = 403, body = ErrorEnvelope),
              (status = 404, body = ErrorEnvelope), (status = 409, body = ErrorEnvelope)))]
pub(crate) async fn set_role(
    allowed: Allowed<action::ManagePeople>,
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(request): Json<RoleRequest>,
) -> Result<Json<User>, ApiError> {
    change(&app, allowed.granted(), id, UserChange::Role(role_of(&request.role)?)).await
}

/// Disables a person: every session ends at once, and no new one begins.
#[utoipa::path(post, path = "/api/v1/users/{id}/disable", tag = "people",
    params(("id" = i64, Path, description = "The person")),
    responses((status = 200, body = User), (status = 403, body = ErrorEnvelope),
              (status = 404, body = ErrorEnvelope), (status = 409, body = ErrorEnvelope)))]
pub(crate) async fn disable(
    allowed: Allowed<action::ManagePeople>,
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Json<User>, ApiError> {
    change(&app, allowed.granted(), id, UserChange::Disable).await
}

/// Lets a person in again.
#[utoipa::path(post, path = "/api/v1/users/{id}/enable", tag = "people",
    params(("id" = i64, Path, description = "The person")),
    responses((status = 200, body = User), (status = 403, body = ErrorEnvelope), (status = 404, body = ErrorEnvelope)))]
pub(crate) async fn enable(
    allowed: Allowed<action::ManagePeople>,
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Json<User>, ApiError> {
    change(&app, allowed.granted(), id, UserChange::Enable).await
}

/// Ends every session of a person.
#[utoipa::path(post, path = "/api/v1/users/{id}/sign-out", tag = "people",
    params(("id" = i64, Path, description = "The person")),
    responses((status = 200, body = User), (status = 403, body = ErrorEnvelope), (status = 404, body = ErrorEnvelope)))]
pub(crate) async fn sign_out(
    allowed: Allowed<action::ManagePeople>,
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Json<User>, ApiError> {
    change(&app, allowed.granted(), id, UserChange::SignOut).await
}

/// Makes a one-time code, by which a person sets a password, also another one.
#[utoipa::path(post, path = "/api/v1/users/{id}/code", tag = "people",
    params(("id" = i64, Path, description = "The person")),
    responses((status = 200, body = OneTimeCode), (status = 403, body = ErrorEnvelope),
              (status = 404, body = ErrorEnvelope), (status = 409, body = ErrorEnvelope)))]
pub(crate) async fn code(
    allowed: Allowed<action::ManagePeople>,
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Json<OneTimeCode>, ApiError> {
    let by = allowed.granted();
    let user = find(&app, id).await?;
    if user.issuer.is_some() || user.disabled_at.is_some() {
        return Err(ApiError::conflict("this person has no password here, or is disabled"));
    }
    let role = role_of(&user.role)?;
    new_code(&app, id, role, by).await
}

async fn change(
    app: &App,
    by: &Granted<action::ManagePeople>,
    id: i64,
    change: UserChange,
) -> Result<Json<User>, ApiError> {
    let is_self = by.principal().kind() == domain::PrincipalKind::User && by.principal().id() == id.to_string();
    // So that there is always one left who can undo it.
    if is_self && matches!(change, UserChange::Role(_) | UserChange::Disable) {
        return Err(ApiError::conflict("nobody disables themselves or takes another role").hint("ask another admin"));
    }
    if !app.store.change_user(id, change, by).await? {
        return Err(ApiError::not_found(format!("there is no user {id}")));
    }
    tracing::info!(user_id = id, change = ?change, by = by.by(), "a person was changed");
    Ok(Json(user_of(find(app, id).await?)))
}

async fn find(app: &App, id: i64) -> Result<UserRow, ApiError> {
    app.store.find_user(id).await?.ok_or_else(|| ApiError::not_found(format!("there is no user {id}")))
}

async fn new_code(
    app: &App,
    id: i64,
    role: Role,
    by: &Granted<action::ManagePeople>,
) -> Result<Json<OneTimeCode>, ApiError> {
    let secret = new_token(TokenFor::Code);
    let expires_at = app.store.now() + app.access.code();
    let code = NewCode { digest: &digest(&secret), user: Some(id), role, sets_password: true, expires_at };
    app.store.create_code(code, by).await?;
    let path = format!("/login/code?code={}", secret.expose_secret());
    Ok(Json(OneTimeCode { user_id: id, path, expires_at }))
}

pub(super) fn role_of(text: &str) -> Result<Role, ApiError> {
    text.parse().map_err(|error: String| ApiError::bad_request(error))
}

fn user_of(row: UserRow) -> User {
    User {
        id: row.id,
        name: row.name,
        email: row.email,
        role: row.role,
        issuer: row.issuer,
        has_password: row.has_password,
        created_by: row.created_by,
        created_at: row.created_at,
        signed_in_at: row.signed_in_at,
        disabled_at: row.disabled_at,
        sessions: row.sessions,
    }
}

//! Programs' tokens and servants' credentials over HTTP. A secret is answered once, when it is made.

use super::users::role_of;
use crate::{
    App,
    allowed::Allowed,
    error::ApiError,
    filter::{limit_of, next_of, words},
};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use chrono::TimeDelta;
use domain::{Kind, action};
use manager_api::{
    Changed, CreateCredential, CreateToken, Credential, CredentialPage, ErrorEnvelope, NewSecret, PageQuery, Token,
    TokenPage,
};
use store::{NewApiToken, ServantCredentialRow, TokenRow};
use vault::{ExposeSecret as _, TokenFor, digest, new_token};

/// Days that a token is good at the most.
const DAYS_MAX: u32 = 366;

/// Lists programs' tokens, without their secrets.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", params(PageQuery),
    responses((status = 200, body = TokenPage), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn list(
    _: Allowed<action::ReadPeople>,
    State(app): State<App>,
    Query(page): Query<PageQuery>,
) -> Result<Json<TokenPage>, ApiError> {
    let limit = limit_of(page.limit)?;
    let rows = app.store.list_tokens(page.before, limit).await?;
    let next_before = next_of(&rows, limit, |row| row.id);
    Ok(Json(TokenPage { tokens: rows.into_iter().map(token_of).collect(), next_before }))
}

/// Makes a token. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = CreateToken,
    responses((status = 200, body = NewSecret), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn create(
    allowed: Allowed<action::ManagePeople>,
    State(app): State<App>,
    Json(request): Json<CreateToken>,
) -> Result<Json<NewSecret>, ApiError> {
    let by = allowed.granted();
    let (name, role) = (words("name", &request.name)?, role_of(&request.role)?);
    if !(1..=DAYS_MAX).contains(&request.days) {
        return Err(ApiError::bad_request(format!("days is 1 to {DAYS_MAX}")));
    }
    let secret = new_token(TokenFor::Api);
    let expires_at = app.store.now() + TimeDelta::days(i64::from(request.days));
    let id = app.store.create_token(NewApiToken { digest: &digest(&secret), name, role, expires_at }, by).await?;
    tracing::info!(token_id = id, role = role.as_str(), by = by.by(), "a token was made");
    Ok(Json(NewSecret { id, secret: secret.expose_secret().to_owned() }))
}

/// Makes a token good no more, at once.
#[utoipa::path(post, path = "/api/v1/tokens/{id}/revoke", tag = "tokens",
    params(("id" = i64, Path, description = "The token")),
    responses((status = 200, body = Changed), (status = 403, body = ErrorEnvelope),
              (status = 404, body = ErrorEnvelope)))]
pub(crate) async fn revoke(
    allowed: Allowed<action::ManagePeople>,
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Json<Changed>, ApiError> {
    let by = allowed.granted();
    if !app.store.revoke_token(id, by).await? {
        return Err(ApiError::not_found(format!("there is no token {id} that is good")));
    }
    tracing::info!(token_id = id, by = by.by(), "a token was revoked");
    Ok(Json(Changed { id }))
}

/// Lists servants' credentials, without their secrets.
#[utoipa::path(get, path = "/api/v1/credentials", tag = "tokens", params(PageQuery),
    responses((status = 200, body = CredentialPage), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn credentials(
    _: Allowed<action::ReadPeople>,
    State(app): State<App>,
    Query(page): Query<PageQuery>,
) -> Result<Json<CredentialPage>, ApiError> {
    let limit = limit_of(page.limit)?;
    let rows = app.store.list_servant_credentials(page.before, limit).await?;
    let next_before = next_of(&rows, limit, |row| row.id);
    Ok(Json(CredentialPage { credentials: rows.into_iter().map(credential_of).collect(), next_before }))
}

/// Makes a credential for the servants of a kind. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/v1/credentials", tag = "tokens", request_body = CreateCredential,
    responses((status = 200, body = NewSecret), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn create_credential(
    allowed: Allowed<action::ManagePeople>,
    State(app): State<App>,
    Json(request): Json<CreateCredential>,
) -> Result<Json<NewSecret>, ApiError> {
    let by = allowed.granted();
    let kind = Kind::new(request.kind.trim()).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let host = request.host.as_deref().map(str::trim).filter(|host| !host.is_empty());
    let host = host.map(|host| words("host", host)).transpose()?;
    let secret = new_token(TokenFor::Servant);
    let id = app.store.create_servant_credential(&digest(&secret), &kind, host, by).await?;
    tracing::info!(credential_id = id, kind = kind.as_str(), by = by.by(), "a servants' credential was made");
    Ok(Json(NewSecret { id, secret: secret.expose_secret().to_owned() }))
}

/// Makes a credential good no more, at once. Work goes on; heartbeats do not.
#[utoipa::path(post, path = "/api/v1/credentials/{id}/revoke", tag = "tokens",
    params(("id" = i64, Path, description = "The credential")),
    responses((status = 200, body = Changed), (status = 403, body = ErrorEnvelope),
              (status = 404, body = ErrorEnvelope)))]
pub(crate) async fn revoke_credential(
    allowed: Allowed<action::ManagePeople>,
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Json<Changed>, ApiError> {
    let by = allowed.granted();
    if !app.store.revoke_servant_credential(id, by).await? {
        return Err(ApiError::not_found(format!("there is no credential {id} that is good")));
    }
    tracing::info!(credential_id = id, by = by.by(), "a servants' credential was revoked");
    Ok(Json(Changed { id }))
}

fn token_of(row: TokenRow) -> Token {
    let TokenRow { id, name, role, created_by, created_at, expires_at, used_at, revoked_at } = row;
    Token { id, name, role, created_by, created_at, expires_at, used_at, revoked_at }
}

fn credential_of(row: ServantCredentialRow) -> Credential {
    let ServantCredentialRow { id, kind, host, created_by, created_at, used_at, revoked_at } = row;
    Credential { id, kind, host, created_by, created_at, used_at, revoked_at }
}

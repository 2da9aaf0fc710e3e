//! Who may ask: people, programs' tokens, servants' credentials; and what is done with them. A new secret is on the page
//! that answers the form, and on no other.

use super::{ROWS, back, render};
use crate::{
    App,
    allowed::Asker,
    api::{tokens, users as api},
    error::ApiError,
    view::{When, when},
};
use askama::Template;
use axum::{
    Form, Json, Router,
    extract::{Path, Query, State},
    http::HeaderMap,
    response::{Redirect, Response},
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use manager_api::{
    CreateCredential, CreateToken, CreateUser, Credential, PageQuery, RoleRequest, Token, User, UserQuery,
};
use serde::Deserialize;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/admin", get(show))
        .route("/admin/users", post(create_user))
        .route("/admin/users/{id}/role", post(set_role))
        .route("/admin/users/{id}/code", post(code))
        .route("/admin/users/{id}/disable", post(disable))
        .route("/admin/users/{id}/enable", post(enable))
        .route("/admin/users/{id}/sign-out", post(sign_out))
        .route("/admin/tokens", post(create_token))
        .route("/admin/tokens/{id}/revoke", post(revoke_token))
        .route("/admin/credentials", post(create_credential))
        .route("/admin/credentials/{id}/revoke", post(revoke_credential))
}

/// A row with its moments in words.
struct Row<T> {
    row: T,
    used: Option<When>,
    ends: Option<When>,
    gone: Option<When>,
}

#[derive(Template)]
#[template(path = "admin.html")]
struct AdminPage {
    users: Vec<Row<User>>,
    users_next: Option<String>,
    tokens: Vec<Row<Token>>,
    tokens_next: Option<String>,
    credentials: Vec<Row<Credential>>,
    credentials_next: Option<String>,
}

#[derive(Template)]
#[template(path = "admin_secret.html")]
struct SecretPage<'a> {
    what: &'a str,
    secret: &'a str,
    /// Whether it is an address of this manager.
    is_address: bool,
    good_until: Option<When>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AdminQuery {
    users_after: Option<i64>,
    tokens_before: Option<i64>,
    credentials_before: Option<i64>,
}

async fn show(asker: Asker, State(app): State<App>, Query(query): Query<AdminQuery>) -> Result<Response, ApiError> {
    let now = app.store.now();
    let moment = |at: Option<DateTime<Utc>>| at.map(|at| when(at, now));
    let people = UserQuery { after: query.users_after, limit: Some(ROWS) };
    let Json(people) = api::list(asker.allow(&app).await?, State(app.clone()), Query(people)).await?;
    let page = |before| Query(PageQuery { before, limit: Some(ROWS) });
    let Json(tokens) = tokens::list(asker.allow(&app).await?, State(app.clone()), page(query.tokens_before)).await?;
    let Json(credentials) =
        tokens::credentials(asker.allow(&app).await?, State(app), page(query.credentials_before)).await?;
    render(&AdminPage {
        users_next: people.next_after.map(|after| format!("/admin?users_after={after}")),
        users: people
            .users
            .into_iter()
            .map(|row| Row { used: moment(row.signed_in_at), ends: None, gone: moment(row.disabled_at), row })
            .collect(),
        tokens_next: tokens.next_before.map(|before| format!("/admin?tokens_before={before}")),
        tokens: tokens
            .tokens
            .into_iter()
            .map(|row| Row {
                used: moment(row.used_at),
                ends: moment(Some(row.expires_at)),
                gone: moment(row.revoked_at),
                row,
            })
            .collect(),
        credentials_next: credentials.next_before.map(|before| format!("/admin?credentials_before={before}")),
        credentials: credentials
            .credentials
            .into_iter()
            .map(|row| Row { used: moment(row.used_at), ends: None, gone: moment(row.revoked_at), row })
            .collect(),
    })
}

async fn create_user(
    asker: Asker,
    State(app): State<App>,
    Form(request): Form<CreateUser>,
) -> Result<Response, ApiError> {
    let now = app.store.now();
    let Json(code) = api::create(asker.allow(&app).await?, State(app), Json(request)).await?;
    code_page(&code, now)
}

async fn code(asker: Asker, State(app): State<App>, Path(id): Path<i64>) -> Result<Response, ApiError> {
    let now = app.store.now();
    let Json(code) = api::code(asker.allow(&app).await?, State(app), Path(id)).await?;
    code_page(&code, now)
}

fn code_page(code: &manager_api::OneTimeCode, now: DateTime<Utc>) -> Result<Response, ApiError> {
    let good_until = Some(when(code.expires_at, now));
    render(&SecretPage { what: "One-time code", secret: &code.path, is_address: true, good_until })
}

async fn create_token(
    asker: Asker,
    State(app): State<App>,
    Form(request): Form<CreateToken>,
) -> Result<Response, ApiError> {
    let Json(new) = tokens::create(asker.allow(&app).await?, State(app), Json(request)).await?;
    render(&SecretPage { what: "Token", secret: &new.secret, is_address: false, good_until: None })
}

async fn create_credential(
    asker: Asker,
    State(app): State<App>,
    Form(request): Form<CreateCredential>,
) -> Result<Response, ApiError> {
    let Json(new) = tokens::create_credential(asker.allow(&app).await?, State(app), Json(request)).await?;
    render(&SecretPage { what: "Servants’ credential", secret: &new.secret, is_address: false, good_until: None })
}

async fn set_role(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
    Form(request): Form<RoleRequest>,
) -> Result<Redirect, ApiError> {
    let Json(_) = api::set_role(asker.allow(&app).await?, State(app), Path(id), Json(request)).await?;
    Ok(back(&headers, "/admin"))
}

async fn disable(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> Result<Redirect, ApiError> {
    let Json(_) = api::disable(asker.allow(&app).await?, State(app), Path(id)).await?;
    Ok(back(&headers, "/admin"))
}

async fn enable(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> Result<Redirect, ApiError> {
    let Json(_) = api::enable(asker.allow(&app).await?, State(app), Path(id)).await?;
    Ok(back(&headers, "/admin"))
}

async fn sign_out(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> Result<Redirect, ApiError> {
    let Json(_) = api::sign_out(asker.allow(&app).await?, State(app), Path(id)).await?;
    Ok(back(&headers, "/admin"))
}

async fn revoke_token(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> Result<Redirect, ApiError> {
    let Json(_) = tokens::revoke(asker.allow(&app).await?, State(app), Path(id)).await?;
    Ok(back(&headers, "/admin"))
}

async fn revoke_credential(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> Result<Redirect, ApiError> {
    let Json(_) = tokens::revoke_credential(asker.allow(&app).await?, State(app), Path(id)).await?;
    Ok(back(&headers, "/admin"))
}

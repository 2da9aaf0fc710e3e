//! Signing in by a one-time code: the first time, or without the old password. To look at the address changes nothing; the
//! form uses the code.

use super::sign_in::begin;
use crate::{App, error::ApiError, filter::words, pages};
use askama::Template;
use axum::{
    Extension, Form, Router,
    extract::{Query, State},
    http::HeaderMap,
    response::Response,
    routing::get,
};
use domain::Origin;
use salesforce::SecretString;
use serde::Deserialize;
use store::{CodeRow, NewPerson};
use vault::{check_password, digest, hash_password};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/login/code", get(page).post(take))
}

#[derive(Template)]
#[template(path = "login_code.html")]
struct CodePage<'a> {
    code: &'a str,
    /// The person's, where the code is somebody's.
    name: Option<&'a str>,
    sets_password: bool,
    chars_min: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CodeQuery {
    code: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CodeForm {
    code: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: String,
}

async fn find(app: &App, code: &str) -> Result<(Vec<u8>, CodeRow), ApiError> {
    let digest = digest(&SecretString::from(code.trim()));
    let row = app.store.find_code(&digest).await?;
    row.map(|row| (digest, row)).ok_or_else(|| {
        tracing::warn!("a one-time code that is not good was shown");
        ApiError::bad_request("this code is not known, too old, or used already").hint("ask an admin for another")
    })
}

async fn page(State(app): State<App>, Query(query): Query<CodeQuery>) -> Result<Response, ApiError> {
    let (_, row) = find(&app, &query.code).await?;
    pages::render(&CodePage {
        code: query.code.trim(),
        name: row.name.as_deref(),
        sets_password: row.sets_password,
        chars_min: vault::PASSWORD_CHARS_MIN,
    })
}

async fn take(
    State(app): State<App>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    Form(form): Form<CodeForm>,
) -> Result<Response, ApiError> {
    let (digest, row) = find(&app, &form.code).await?;
    let name = match &row.name {
        Some(name) => name.clone(),
        None => words("name", &form.name)?.to_owned(),
    };
    let password = if row.sets_password {
        let password = SecretString::from(form.password);
        check_password(&password).map_err(ApiError::bad_request)?;
        let hash = app.access.hashing(move || hash_password(&password)).await?;
        Some(hash.map_err(|error| crate::connect::of_vault(&error))?)
    } else {
        None
    };
    let person = NewPerson { name: &name, password: password.as_deref() };
    let user = app.store.use_code(&digest, person).await?;
    let user = user.ok_or_else(|| ApiError::conflict("somebody has that name, or the code was just used"))?;
    begin(&app, user, &origin, &headers, "/").await
}

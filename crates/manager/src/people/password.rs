//! One's own password: the page, and what page and API do. Whoever forgot it is given a one-time code (`codes`).

use super::{
    cookie::{SESSION, cookie_of},
    throttle::Dear,
};
use crate::{
    App,
    allowed::{Allowed, Asker},
    api::users as api,
    caller::Caller,
    error::ApiError,
    pages,
};
use askama::Template;
use axum::{
    Form, Json, Router,
    extract::{Query, State},
    http::HeaderMap,
    response::{Redirect, Response},
    routing::get,
};
use domain::{Granted, Principal, PrincipalKind, action};
use manager_api::ChangePassword;
use salesforce::SecretString;
use serde::Deserialize;
use store::{NewPassword, person_of};
use vault::{check_password, digest, hash_password, verify_password};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/me/password", get(page).post(submit))
}

#[derive(Template)]
#[template(path = "password.html")]
struct PasswordPage {
    /// Why there is nothing to change.
    refusal: Option<String>,
    /// Other sessions that ended, behind a change.
    ended: Option<u64>,
    chars_min: usize,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PasswordQuery {
    ended: Option<u64>,
}

async fn page(
    Caller(caller): Caller,
    State(app): State<App>,
    Query(query): Query<PasswordQuery>,
) -> Result<Response, ApiError> {
    let refusal = match own_password(&app, &caller).await {
        Ok(_) => None,
        Err(refusal) if refusal.status.is_client_error() => Some(match refusal.hint {
            Some(hint) => format!("{}: {hint}", refusal.message),
            None => refusal.message,
        }),
        Err(failure) => return Err(failure),
    };
    pages::render(&PasswordPage { refusal, ended: query.ended, chars_min: vault::PASSWORD_CHARS_MIN })
}

async fn submit(
    asker: Asker,
    State(app): State<App>,
    headers: HeaderMap,
    Form(request): Form<ChangePassword>,
) -> Result<Redirect, ApiError> {
    let allowed: Allowed<action::ChangePassword> = asker.allow(&app).await?;
    let Json(changed) = api::change_password(allowed, State(app), headers, Json(request)).await?;
    Ok(Redirect::to(&format!("/me/password?ended={}", changed.sessions_ended)))
}

/// The name and what is kept of the password of whoever asks.
async fn own_password(app: &App, principal: &Principal) -> Result<(String, String), ApiError> {
    let Some(id) = person_of(principal) else {
        return Err(ApiError::conflict(match principal.kind() {
            PrincipalKind::Open => "nobody signs in at this manager, so nobody has a password",
            _ => "a program has a token and no password; a person who is signed in changes the own one",
        }));
    };
    let gone = || ApiError::not_found(format!("there is no user {id}"));
    let user = app.store.find_user(id).await?.ok_or_else(gone)?;
    if let Some(issuer) = user.issuer {
        let message = format!("{} signs in by {issuer}, and changes the password there", user.name);
        return Err(ApiError::conflict(message));
    }
    let local = app.store.find_local_user(&user.name).await?.ok_or_else(gone)?;
    let kept = local.password.ok_or_else(|| {
        ApiError::conflict(format!("{} has no password yet", user.name))
            .hint("with a one-time code, which an admin makes, the next sign-in sets one")
    })?;
    Ok((local.name, kept))
}

/// Changes the password of whoever asks, who says the old one, and answers with how many of their sessions ended.
pub(crate) async fn change_password(
    app: &App,
    by: &Granted<action::ChangePassword>,
    headers: &HeaderMap,
    request: ChangePassword,
) -> Result<u64, ApiError> {
    let (name, kept) = own_password(app, by.principal()).await?;
    let (name, now) = (name.to_lowercase(), app.store.now());
    // Whoever found an open browser guesses no more often than at the door.
    app.access.throttle().look(Dear::FailedSignIn, &name, now)?;
    let (old, new) = (SecretString::from(request.old_password), SecretString::from(request.new_password));
    check_password(&new).map_err(ApiError::bad_request)?;
    let was = kept.clone();
    let hash = app.access.hashing(move || verify_password(Some(&was), &old).then(|| hash_password(&new))).await?;
    let Some(hash) = hash else {
        tracing::warn!(user_id = by.principal().id(), "a password was not changed: the old one was wrong");
        let _ = app.access.throttle().take(Dear::FailedSignIn, &name, now);
        return Err(ApiError::bad_request("the old password is not right"));
    };
    let hash = hash.map_err(|error| crate::connect::of_vault(&error))?;
    // Without a session nothing goes on.
    let session = cookie_of(headers, SESSION).map(|secret| digest(&secret)).unwrap_or_default();
    let change = NewPassword { old: &kept, new: &hash, session: &session };
    let ended = app.store.change_password(change, by).await?;
    let ended = ended.ok_or_else(|| ApiError::conflict("the password was just changed by somebody else"))?;
    tracing::info!(user_id = by.principal().id(), sessions_ended = ended, "a person changed the own password");
    Ok(ended)
}

//! Signing in by name and password, and out. Owns the beginning and the end of a session; how it is known is `identify`'s.

use super::{
    cookie::{SESSION, cookie_of, set},
    throttle::Dear,
};
use crate::{App, caller::Caller, error::ApiError, gate::Whole, pages};
use askama::Template;
use axum::{
    Extension, Form, Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use domain::Origin;
use salesforce::SecretString;
use serde::Deserialize;
use store::NewSession;
use vault::{ExposeSecret as _, TokenFor, digest, new_token, verify_password};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/login", get(page).post(sign_in)).route("/logout", post(sign_out))
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    to: &'a str,
    failure: Option<&'a str>,
    has_provider: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginQuery {
    #[serde(default)]
    to: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginForm {
    name: String,
    password: String,
    #[serde(default)]
    to: String,
}

async fn page(
    State(app): State<App>,
    Query(query): Query<LoginQuery>,
    caller: Option<Extension<Caller>>,
) -> Result<Response, ApiError> {
    let to = own_address(query.to.as_deref().unwrap_or_default());
    // Whoever is known already goes on.
    if caller.is_some() {
        return Ok(Redirect::to(&to).into_response());
    }
    render(&app, &to, None)
}

fn render(app: &App, to: &str, failure: Option<&str>) -> Result<Response, ApiError> {
    pages::render(&LoginPage { to, failure, has_provider: app.access.vouching().is_some() })
}

async fn sign_in(
    State(app): State<App>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    Form(form): Form<LoginForm>,
) -> Result<Response, ApiError> {
    let to = own_address(&form.to);
    let name = form.name.trim().to_lowercase();
    let now = app.store.now();
    app.access.throttle().look(Dear::FailedSignIn, &name, now)?;
    let user = app.store.find_local_user(&name).await?;
    let (kept, password) = (user.as_ref().and_then(|user| user.password.clone()), SecretString::from(form.password));
    // As long for nobody, for somebody who is out, and for a wrong password.
    let is_right = app.access.hashing(move || verify_password(kept.as_deref(), &password)).await?;
    let Some(user) = user.filter(|user| is_right && !user.is_disabled) else {
        let ip = origin.ip.map(|ip| ip.to_string());
        tracing::warn!(ip, "a sign-in failed");
        metrics::counter!("servant_sign_ins_total", "outcome" => "failed").increment(1);
        // The name is not logged: people type passwords there.
        let _ = app.access.throttle().take(Dear::FailedSignIn, &name, now);
        let mut answer = render(&app, &to, Some("That name and that password do not go together."))?;
        *answer.status_mut() = StatusCode::UNAUTHORIZED;
        answer.extensions_mut().insert(Whole);
        return Ok(answer);
    };
    begin(&app, user.id, &origin, &headers, &to).await
}

/// A session with a new secret for whoever has just proved who they are; what the browser had before is over.
pub(super) async fn begin(
    app: &App,
    user: i64,
    origin: &Origin,
    headers: &HeaderMap,
    to: &str,
) -> Result<Response, ApiError> {
    if let Some(before) = cookie_of(headers, SESSION) {
        app.store.end_session(&digest(&before), origin).await?;
    }
    let secret = new_token(TokenFor::Session);
    let lasts = app.access.session();
    let ip = origin.ip.map(|ip| ip.to_string());
    let session = NewSession { digest: &digest(&secret), user, ends_at: app.store.now() + lasts, origin };
    if !app.store.begin_session(session).await? {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "disabled", "this user is disabled").hint("ask an admin"));
    }
    tracing::info!(user_id = user, ip, "a person signed in");
    metrics::counter!("servant_sign_ins_total", "outcome" => "succeeded").increment(1);
    let cookie = set(SESSION, secret.expose_secret(), lasts.num_seconds())?;
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(to)).into_response())
}

async fn sign_out(State(app): State<App>, caller: Caller, headers: HeaderMap) -> Result<Response, ApiError> {
    if let Some(secret) = cookie_of(&headers, SESSION) {
        app.store.end_session(&digest(&secret), caller.0.origin()).await?;
        tracing::info!(user_id = caller.0.id(), "a person signed out");
    }
    Ok(([(header::SET_COOKIE, set(SESSION, "", 0)?)], Redirect::to("/login")).into_response())
}

/// An address of our own; anything else is the overview.
pub(super) fn own_address(to: &str) -> String {
    let mut letters = to.chars();
    let is_own = letters.next() == Some('/') && !matches!(letters.next(), Some('/' | '\\'));
    let is_plain = to.is_ascii() && !to.chars().any(|c| c.is_control() || c == ' ' || c == '\\');
    if is_own && is_plain && !to.starts_with("/login") { to.to_owned() } else { "/".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_elsewhere_after_signing_in() {
        for own in ["/", "/jobs?q=state%3Afailed", "/accounts/7"] {
            assert_eq!(own_address(own), own);
        }
        for foreign in ["", "//evil.test", "/\\evil.test", "https://evil.test", "jobs", "/a\nb", "/login?to=/", "/\t/x"]
        {
            assert_eq!(own_address(foreign), "/", "{foreign:?}");
        }
    }
}

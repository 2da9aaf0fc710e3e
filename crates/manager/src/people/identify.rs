//! Finds out who asks, before any handler runs: by the session's cookie, or by what `Authorization: Bearer` holds. Refuses
//! whoever cannot be known, what a servant may not ask, and what is asked too often.
//!
//! Nothing a request says of itself counts: no header names a person, and the address is the connection's other end, or
//! what our own proxies say (`proxies`).

use super::{
    cookie::{SESSION, cookie_of},
    throttle::Dear,
};
use crate::{
    App,
    caller::{Caller, origin_of},
    error::ApiError,
    gate,
    proxies::neighbourhood,
    view::encode,
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Redirect, Response},
};
use chrono::{DateTime, Utc};
use domain::{Action, Principal, PrincipalKind, Role};
use salesforce::SecretString;
use store::{KnownToken, ServantCredential};
use vault::{ExposeSecret as _, TokenFor, digest};

/// The one thing that servants ask.
const HEARTBEATS: &str = "/api/v1/heartbeats";
/// Where a servant's process says its own secret.
const BOOT: &str = "servant-boot";

tokio::task_local! {
    /// Who the page that is being made is for.
    static ME: Principal;
}

/// Who is signed in, for the head of a page.
pub(crate) fn me() -> Option<Principal> {
    ME.try_with(|me| (me.kind() != PrincipalKind::Open).then(|| me.clone())).ok().flatten()
}

/// Whether a page offers this to whoever it is made for. What is done is decided where it is done, whatever was offered.
pub(crate) fn may(action: Action) -> bool {
    ME.try_with(|me| me.kind() == PrincipalKind::Open || action.is_for(me.role())).unwrap_or(true)
}

/// The credential that a heartbeat came with, and the digest of the process's own secret.
#[derive(Debug, Clone)]
pub(crate) struct BeatingServant {
    pub(crate) credential: ServantCredential,
    pub(crate) boot_digest: Vec<u8>,
}

/// Somebody, and what is noted of the visit.
enum Found {
    Nobody,
    Person { principal: Principal, digest: Vec<u8>, seen_at: DateTime<Utc> },
    Program { principal: Principal, token: KnownToken },
    Servant { principal: Principal, beating: BeatingServant },
}

/// What becomes of a request.
enum Admitted {
    /// Its handler knows who asks.
    Somebody(Principal),
    /// Its handler asks nobody.
    Anybody,
    /// A browser goes there first.
    ToSignIn(String),
}

pub(crate) async fn identify(State(app): State<App>, mut request: Request, next: Next) -> Response {
    match admit(&app, &mut request).await {
        Ok(Admitted::Somebody(principal)) => ME.scope(principal, next.run(request)).await,
        Ok(Admitted::Anybody) => next.run(request).await,
        Ok(Admitted::ToSignIn(address)) => Redirect::to(&address).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// Whoever it is, told to the handlers.
async fn admit(app: &App, request: &mut Request) -> Result<Admitted, ApiError> {
    let origin = origin_of(request.headers(), request.extensions(), app.access.proxies());
    request.extensions_mut().insert(origin.clone());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    if app.access.is_open() {
        let principal = Principal::open("anybody").from_origin(origin);
        request.extensions_mut().insert(Caller(principal.clone()));
        return Ok(Admitted::Somebody(principal));
    }
    let found = find(app, request.headers()).await?;
    let dear = Dear::of(&method, &path);
    let now = app.store.now();
    if dear == Some(Dear::SignIn) {
        let ip = origin.ip.map_or_else(|| "unknown".to_owned(), neighbourhood);
        app.access.throttle().take(Dear::SignIn, &ip, now)?;
    }
    let principal = match found {
        Found::Nobody if is_open_to_all(&path) => return Ok(Admitted::Anybody),
        Found::Nobody => return unknown(&method, request),
        Found::Person { principal, digest, seen_at } => {
            // What a page asks for by itself is no act: a forgotten page must not keep a session.
            if !is_background(request.headers()) {
                app.store.touch_session(&digest, seen_at).await?;
            }
            principal
        }
        Found::Program { principal, token } => {
            app.store.touch_token(&token).await?;
            principal
        }
        Found::Servant { principal, beating } => {
            app.store.touch_servant_credential(&beating.credential).await?;
            request.extensions_mut().insert(beating);
            principal
        }
    };
    let is_servant = principal.kind() == PrincipalKind::Servant;
    let is_heartbeat = path == HEARTBEATS && method == Method::POST;
    if is_servant != is_heartbeat && !is_open_to_all(&path) {
        tracing::warn!(
            by = principal.name(),
            path,
            "a servant's credential was shown for something else, or none for a heartbeat"
        );
        let words =
            if is_servant { "a servant sends heartbeats, and nothing else" } else { "heartbeats are for servants" };
        return Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", words));
    }
    if let Some(dear) = dear.filter(|dear| *dear != Dear::SignIn) {
        let who = format!("{} {}", principal.kind().as_str(), principal.id());
        app.access.throttle().take(dear, &who, now)?;
    }
    let principal = principal.from_origin(origin);
    request.extensions_mut().insert(Caller(principal.clone()));
    Ok(Admitted::Somebody(principal))
}

/// What nobody needs to be known for. Salesforce's customers are not ours to know: their way is checked by itself.
fn is_open_to_all(path: &str) -> bool {
    path.starts_with("/assets/")
        || path == "/login"
        || path.starts_with("/login/")
        || path == crate::connect::START
        || path == crate::connect::CALLBACK
}

async fn find(app: &App, headers: &HeaderMap) -> Result<Found, ApiError> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        return bearer(app, value.to_str().unwrap_or_default(), headers).await;
    }
    let Some(secret) = cookie_of(headers, SESSION).filter(|secret| is_for(secret, TokenFor::Session)) else {
        return Ok(Found::Nobody);
    };
    let digest = digest(&secret);
    Ok(match app.store.find_session(&digest, app.access.idle()).await? {
        Some(known) => {
            let id = known.user.to_string();
            let principal = Principal::new(PrincipalKind::User, id, known.name, known.role);
            Found::Person { principal, digest, seen_at: known.seen_at }
        }
        None => Found::Nobody,
    })
}

async fn bearer(app: &App, text: &str, headers: &HeaderMap) -> Result<Found, ApiError> {
    let refused = || {
        ApiError::new(StatusCode::UNAUTHORIZED, "bad_token", "this token is not good, or no longer")
            .hint("`servantctl tokens create` makes another")
    };
    let (scheme, secret) = text.split_once(' ').ok_or_else(refused)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(refused());
    }
    let secret = SecretString::from(secret.trim());
    if is_for(&secret, TokenFor::Api) {
        let token = app.store.find_token(&digest(&secret)).await?.ok_or_else(|| {
            tracing::warn!("a token that is not good was shown");
            refused()
        })?;
        let principal = Principal::new(PrincipalKind::Token, token.id.to_string(), token.name.clone(), token.role);
        return Ok(Found::Program { principal, token });
    }
    if is_for(&secret, TokenFor::Servant) {
        let credential = app.store.find_servant_credential(&digest(&secret)).await?.ok_or_else(|| {
            tracing::warn!("a servant's credential that is not good was shown");
            refused()
        })?;
        let boot = headers.get(BOOT).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty());
        let boot = boot.ok_or_else(|| ApiError::bad_request("the header servant-boot is missing"))?;
        let boot_digest = digest(&SecretString::from(boot));
        let (id, kind) = (credential.id.to_string(), credential.kind.clone());
        let principal = Principal::new(PrincipalKind::Servant, id, kind, Role::Viewer);
        return Ok(Found::Servant { principal, beating: BeatingServant { credential, boot_digest } });
    }
    Err(refused())
}

fn is_for(secret: &SecretString, what: TokenFor) -> bool {
    secret.expose_secret().starts_with(what.prefix())
}

/// A browser is led to sign in and back; a program is told.
fn unknown(method: &Method, request: &Request) -> Result<Admitted, ApiError> {
    if gate::wants_page(request.uri().path(), request.headers()) {
        let to = match (method, request.uri().path_and_query()) {
            (&Method::GET, Some(address)) if address.as_str() != "/" => format!("?to={}", encode(address.as_str())),
            _ => String::new(),
        };
        return Ok(Admitted::ToSignIn(format!("/login{to}")));
    }
    Err(ApiError::new(StatusCode::UNAUTHORIZED, "not_signed_in", "the manager does not know who asks")
        .hint("send a token as Authorization: Bearer …; `servantctl tokens create` makes one"))
}

/// Browsers tell a page's own requests from those that a person makes.
fn is_background(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-dest").is_some_and(|dest| dest == "empty")
}

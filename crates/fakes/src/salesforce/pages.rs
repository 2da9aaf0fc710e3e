//! Owns what a person meets when an application asks for access, and what an application asks about its user: the
//! consent page, the redirect back, revocation, identity. Does not own grants.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Form, Path, Query, State},
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
    routing::{get, post},
};
use chrono::Utc;
use serde_json::json;

use super::{
    fault::Call,
    http,
    oauth::{Consent, DEFAULT_USER, ORGANISATION_ID, user_id},
    reply::{Early, Refusal, answer, json_answer},
    service::Service,
};

type Parameters = HashMap<String, String>;

/// The routes of sign-on.
pub(super) fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/services/oauth2/token", post(http::token))
        .route("/services/oauth2/authorize", get(ask).post(decide))
        .route("/services/oauth2/revoke", get(revoke_by_query).post(revoke_by_form))
        .route("/services/oauth2/userinfo", get(user_info).post(user_info))
        .route("/id/{organisation}/{user}", get(identity))
}

/// Where to send the person back, and with what.
struct Request {
    redirect_uri: String,
    state: Option<String>,
    scope: String,
    challenge: Option<String>,
}

fn page(status: StatusCode, body: &str) -> Response<Body> {
    let page =
        format!("<!doctype html><html><head><title>Simulated Salesforce</title></head><body>{body}</body></html>");
    answer(status, "text/html;charset=UTF-8", page.into_bytes())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

impl Request {
    /// Back to the application, with these parameters and its `state`.
    fn back(&self, parameters: &[(&str, &str)]) -> Response<Body> {
        let state = self.state.as_deref().map(|state| ("state", state));
        let query: Vec<String> =
            parameters.iter().copied().chain(state).map(|(name, value)| format!("{name}={}", percent(value))).collect();
        let joint = if self.redirect_uri.contains('?') { '&' } else { '?' };
        let mut answer = page(StatusCode::FOUND, "");
        if let Ok(location) = HeaderValue::try_from(format!("{}{joint}{}", self.redirect_uri, query.join("&"))) {
            answer.headers_mut().insert(header::LOCATION, location);
        }
        answer
    }
}

/// An address on the machine itself, where no configuration names one.
fn is_here(uri: &str) -> bool {
    let rest = uri.strip_prefix("http://").or_else(|| uri.strip_prefix("https://")).unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

/// Reads the application's wish. An error about the application itself is shown and never sent back: the address to
/// send it to is not to be trusted then.
fn read(service: &Service, parameters: &Parameters) -> Result<Request, Early> {
    let options = &service.options;
    let parameter = |name: &str| parameters.get(name).cloned().filter(|value| !value.is_empty());
    let shown = |error: &str, description: &str| {
        let text = format!("error={error}&amp;error_description={}", percent(description));
        Box::new(page(StatusCode::BAD_REQUEST, &text))
    };
    if parameter("client_id").as_ref() != Some(&options.client_id) {
        return Err(shown("invalid_client_id", "client identifier invalid"));
    }
    let redirect_uri = parameter("redirect_uri").unwrap_or_default();
    let is_known = if options.redirect_uris.is_empty() {
        is_here(&redirect_uri)
    } else {
        options.redirect_uris.contains(&redirect_uri)
    };
    if !is_known {
        return Err(shown("redirect_uri_mismatch", "redirect_uri must match configuration"));
    }
    let scope = parameter("scope").unwrap_or_else(|| "refresh_token api".to_owned());
    let request = Request { redirect_uri, state: parameter("state"), scope, challenge: parameter("code_challenge") };
    let refused = |error, description| Box::new(request.back(&[("error", error), ("error_description", description)]));
    if parameter("response_type").as_deref() != Some("code") {
        return Err(refused("unsupported_response_type", "response type not supported"));
    }
    if request.challenge.is_none() && options.require_pkce {
        return Err(refused("invalid_request", "missing required code challenge"));
    }
    let method = parameter("code_challenge_method");
    let is_hash = request.challenge.as_ref().is_none_or(|challenge| (43..=128).contains(&challenge.len()));
    if !is_hash || method.is_some_and(|method| method != "S256") {
        return Err(refused("invalid_request", "invalid code challenge"));
    }
    Ok(request)
}

fn agree(service: &Service, request: Request, user: &str) -> Response<Body> {
    let consent = Consent {
        user: user.to_owned(),
        scope: request.scope.clone(),
        redirect_uri: request.redirect_uri.clone(),
        challenge: request.challenge.clone(),
    };
    let code = service.grants().code(consent, Utc::now());
    request.back(&[("code", &code)])
}

/// Asks the person, on a page with a form that a program can send as well.
async fn ask(State(service): State<Arc<Service>>, Query(parameters): Query<Parameters>) -> Response<Body> {
    let request = match read(&service, &parameters) {
        Ok(request) => request,
        Err(answer) => return *answer,
    };
    let hint = parameters.get("login_hint").map_or(DEFAULT_USER, String::as_str);
    if service.options.approve_at_once {
        return agree(&service, request, hint);
    }
    let kept =
        ["response_type", "client_id", "redirect_uri", "state", "scope", "code_challenge", "code_challenge_method"];
    let hidden: String = kept
        .into_iter()
        .filter_map(|name| {
            let value = escape(parameters.get(name)?);
            Some(format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">"))
        })
        .collect();
    page(
        StatusCode::OK,
        &format!(
            "<h1>Allow access?</h1><p>The application <b>{}</b> asks for: {}</p>\
             <form method=\"post\" action=\"/services/oauth2/authorize\">{hidden}\
             <label>User <input name=\"username\" value=\"{}\"></label> \
             <button name=\"decision\" value=\"allow\">Allow</button> \
             <button name=\"decision\" value=\"deny\">Deny</button></form>",
            escape(&service.options.client_id),
            escape(&request.scope),
            escape(hint),
        ),
    )
}

async fn decide(State(service): State<Arc<Service>>, Form(parameters): Form<Parameters>) -> Response<Body> {
    let request = match read(&service, &parameters) {
        Ok(request) => request,
        Err(answer) => return *answer,
    };
    if parameters.get("decision").is_none_or(|decision| decision != "allow") {
        return request.back(&[("error", "access_denied"), ("error_description", "end-user denied authorization")]);
    }
    let user = parameters.get("username").map_or(DEFAULT_USER, String::as_str);
    agree(&service, request, user)
}

fn revoke(service: &Service, parameters: &Parameters) -> Response<Body> {
    service.count(Call::Revoke);
    let token = parameters.get("token").map_or("", String::as_str);
    if service.grants().revoke(token) {
        return answer(StatusCode::OK, "application/json", Vec::new());
    }
    let body = json!({ "error": "unsupported_token_type", "error_description": "this token type is not supported" });
    json_answer(StatusCode::BAD_REQUEST, &body)
}

async fn revoke_by_query(State(service): State<Arc<Service>>, Query(parameters): Query<Parameters>) -> Response<Body> {
    revoke(&service, &parameters)
}

async fn revoke_by_form(State(service): State<Arc<Service>>, Form(parameters): Form<Parameters>) -> Response<Body> {
    revoke(&service, &parameters)
}

/// Both identity calls lie outside the API: they need a session, and do not count.
fn user_of(service: &Service, headers: &HeaderMap) -> Result<String, Early> {
    service.count(Call::Identity);
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    service.session_user(authorization, Utc::now()).map_err(|_| {
        // Not the array of a data call, but bare text.
        Box::new(answer(StatusCode::FORBIDDEN, "text/html;charset=UTF-8", b"Bad_OAuth_Token".to_vec()))
    })
}

fn urls(service: &Service) -> serde_json::Value {
    let at = |path: &str| format!("{}/services/data/v{{version}}/{path}", service.url);
    json!({ "rest": at(""), "sobjects": at("sobjects/"), "query": at("query/"), "custom_domain": service.url })
}

async fn user_info(State(service): State<Arc<Service>>, headers: HeaderMap) -> Response<Body> {
    let user = match user_of(&service, &headers) {
        Ok(user) => user,
        Err(answer) => return *answer,
    };
    let body = json!({
        "sub": format!("{}/id/{ORGANISATION_ID}/{}", service.url, user_id(&user)), "user_id": user_id(&user),
        "organization_id": ORGANISATION_ID, "preferred_username": user, "name": user, "email": user,
        "email_verified": true, "zoneinfo": "Europe/London", "user_type": "STANDARD", "language": "en_US",
        "urls": urls(&service),
    });
    json_answer(StatusCode::OK, &body)
}

async fn identity(
    State(service): State<Arc<Service>>,
    Path((organisation, user_asked)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response<Body> {
    let user = match user_of(&service, &headers) {
        Ok(user) => user,
        Err(answer) => return *answer,
    };
    if organisation != ORGANISATION_ID || user_asked != user_id(&user) {
        return Refusal::not_found().answer();
    }
    let body = json!({
        "id": format!("{}/id/{ORGANISATION_ID}/{user_asked}", service.url), "asserted_user": true,
        "user_id": user_asked, "organization_id": ORGANISATION_ID, "username": user, "display_name": user,
        "email": user, "active": true, "user_type": "STANDARD", "language": "en_US", "locale": "en_US",
        "urls": urls(&service),
    });
    json_answer(StatusCode::OK, &body)
}

//! What every request passes: its id in and out, the refusal of cross-site writes, the error envelope, one log line,
//! the security headers. Does not know what any route does, nor who asks (`people`).

use crate::{
    error::ApiError,
    pages,
    sight::{self, Look, Sight},
};
use axum::{
    Json,
    body::to_bytes,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use manager_api::{ErrorBody, ErrorEnvelope};
use std::time::Instant;
use tracing::Instrument as _;
use uuid::Uuid;

/// Where a request's id comes and goes.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Bytes read of an answer that becomes an error's message.
const MESSAGE_BYTES_MAX: usize = 4_096;
/// Nothing from elsewhere, nothing inline, no plug-ins, no frames; and no text becomes a page but by the script's one policy.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; object-src 'none'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types own-page";
/// On every answer, whatever it is. HSTS for two years: browsers obey it over https alone.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::STRICT_TRANSPORT_SECURITY, "max-age=63072000; includeSubDomains"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// The id of the request that a handler works for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestId(pub(crate) Uuid);

/// On an answer that is a whole page although its status is a refusal's: it stays as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole;

/// The security headers, also where nothing else of this file is passed.
pub(crate) async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

pub(crate) async fn pass(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = id_of(request.headers());
    request.extensions_mut().insert(RequestId(id));
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let wants_page = wants_page(&path, request.headers());
    let from = (method == Method::POST).then(|| pages::own_referer(request.headers())).flatten();
    let span = tracing::info_span!("request", RequestId = %id);

    let response = if method == Method::TRACE {
        // It would send cookies back to whoever made the browser ask.
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "TRACE is answered nowhere").into_response()
    } else if is_cross_site_write(&method, request.headers()) {
        ApiError::new(StatusCode::FORBIDDEN, "cross_site", "a write from another site was refused")
            .hint("send it from the manager's own pages, or from a program that is no browser")
            .into_response()
    } else {
        next.run(request).instrument(span.clone()).await
    };
    let status = response.status();
    let is_whole = response.extensions().get::<Whole>().is_some();
    let mut response = if !is_whole && (status.is_client_error() || status.is_server_error()) {
        refuse(response, id, (wants_page, from.as_deref())).await
    } else {
        response
    };
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(REQUEST_ID, value);
    }
    let millis = started.elapsed().as_millis();
    span.in_scope(|| tracing::debug!(%method, path, status = status.as_u16(), millis, "request served"));
    response
}

fn id_of(headers: &HeaderMap) -> Uuid {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    given.and_then(|text| Uuid::parse_str(text).ok()).unwrap_or_else(Uuid::new_v4)
}

/// Whether whoever asks would rather have a page than the envelope.
pub(crate) fn wants_page(path: &str, headers: &HeaderMap) -> bool {
    !path.starts_with("/api/") && accepts_html(headers)
}

fn accepts_html(headers: &HeaderMap) -> bool {
    headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|text| text.contains("text/html"))
}

/// Browsers say where a request comes from; older ones at least name the origin. Programs say neither.
fn is_cross_site_write(method: &Method, headers: &HeaderMap) -> bool {
    if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return false;
    }
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    match text(HeaderName::from_static("sec-fetch-site")) {
        Some(site) => !matches!(site, "same-origin" | "none"),
        None => text(header::ORIGIN).is_some_and(|origin| {
            let own = text(header::HOST).unwrap_or_default();
            origin.split_once("://").is_none_or(|(_, host)| host != own)
        }),
    }
}

/// Turns any refusal, ours or the framework's, into the envelope; or into the error page, with the page whose form was
/// refused.
async fn refuse(response: Response, id: Uuid, (wants_page, from): (bool, Option<&str>)) -> Response {
    let (parts, body) = response.into_parts();
    let error = match parts.extensions.get::<ApiError>() {
        Some(error) => error.clone(),
        None => {
            let text = to_bytes(body, MESSAGE_BYTES_MAX).await.unwrap_or_default();
            foreign(parts.status, String::from_utf8_lossy(&text).trim())
        }
    };
    let envelope = ErrorEnvelope {
        error: ErrorBody {
            code: error.code.to_owned(),
            message: error.message,
            request_id: id.to_string(),
            hint: error.hint.map(str::to_owned),
        },
    };
    let mut answer = if wants_page {
        let sight = Sight { personal: None, look: parts.extensions.get::<Look>().cloned() };
        sight::within_now(sight, || pages::error_page(error.status, &envelope.error, from))
    } else {
        (error.status, Json(envelope)).into_response()
    };
    for kept in [header::ALLOW, header::SET_COOKIE] {
        if let Some(value) = parts.headers.get(&kept) {
            answer.headers_mut().insert(kept, value.clone());
        }
    }
    if let Some(secs) = error.retry_after_secs {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
    }
    if error.status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

/// The framework's refusals: its text where it has one, our words where it has none.
fn foreign(status: StatusCode, text: &str) -> ApiError {
    let (code, words) = match status {
        StatusCode::NOT_FOUND => ("not_found", "there is nothing at this address"),
        StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", "this address does not take that method"),
        StatusCode::PAYLOAD_TOO_LARGE => ("body_too_large", "the body is larger than manager.body_bytes_max"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            ("unsupported_media_type", "send the body as JSON, with Content-Type: application/json")
        }
        StatusCode::UNPROCESSABLE_ENTITY | StatusCode::BAD_REQUEST => ("bad_request", "the request makes no sense"),
        _ => ("internal", "the request failed"),
    };
    ApiError::new(status, code, if text.is_empty() { words } else { text })
        .hint("GET /api/openapi.json describes every request")
}

//! Owns the way of a data call or token request through HTTP: the path, failures in between, headers.
//! Does not own what a call answers.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::{ConnectInfo, Form, Query, Request, State},
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::Utc;
use serde_json::json;

use super::{
    damage::{self, cut_connection},
    fault::{Call, Fault, Strike},
    reply::{Early, answer, gzip, json_answer},
    resources::{self, Ask, Parameters, Reply, Streamed},
    service::Service,
    usage::Running,
    wire::Line,
};

/// Salesforce refuses a longer path and query.
const URI_BYTES_MAX: usize = 16_384;
/// No request that is understood here has a longer body.
const BODY_BYTES_MAX: usize = 1_048_576;

/// Closes or answers, if a failure was ordered for this call. What is left is done with the true answer.
fn strike(service: &Service, call: Call) -> Result<Option<Strike>, Early> {
    service.count(call);
    let Some(order) = service.with_faults(|faults| faults.strike(call)) else { return Ok(None) };
    match order.fault {
        Fault::CutConnection => cut_connection(),
        Fault::Auth401 | Fault::Auth401MidQuery => service.end_sessions(),
        _ => {}
    }
    match order.fault.answer(Utc::now()) {
        Some(answer) => Err(Box::new(answer)),
        None => Ok(Some(order)),
    }
}

async fn linger(order: Option<&Strike>) {
    if let Some(Strike { fault: Fault::SlowMs, ms, .. }) = order {
        tokio::time::sleep(Duration::from_millis(*ms)).await;
    }
}

/// Finishes an answer: compressed if the client can take it, broken if that was ordered.
async fn finish(accepts_gzip: bool, order: Option<&Strike>, line: &Line, mut answer: Response<Body>) -> Response<Body> {
    if order.is_none() && answer.extensions().get::<Streamed>().is_some() {
        return answer;
    }
    let body = std::mem::take(answer.body_mut());
    let Ok(body) = to_bytes(body, usize::MAX).await else { return answer };
    let body = if accepts_gzip && !answer.headers().contains_key(header::CONTENT_ENCODING) {
        gzip(&mut answer, body.to_vec())
    } else {
        body.to_vec()
    };
    damage::fill(&mut answer, body, order, line);
    answer
}

/// The client id and secret of a `Basic` header, which stand for those of the form.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let pair = String::from_utf8(STANDARD.decode(text.trim()).ok()?).ok()?;
    pair.split_once(':').map(|(id, secret)| (id.to_owned(), secret.to_owned()))
}

pub(super) async fn token(
    State(service): State<Arc<Service>>,
    ConnectInfo(line): ConnectInfo<Line>,
    headers: HeaderMap,
    Form(mut form): Form<Parameters>,
) -> Response<Body> {
    let order = match strike(&service, Call::Token) {
        Ok(order) => order,
        Err(answer) => return *answer,
    };
    linger(order.as_ref()).await;
    if let Some((id, secret)) = basic(&headers) {
        form.entry("client_id".to_owned()).or_insert(id);
        form.entry("client_secret".to_owned()).or_insert(secret);
    }
    let now = Utc::now();
    let spoilt = order.as_ref().map_or(Ok(()), |order| service.spoil_token(order.fault, &form, now));
    let mut answer = match spoilt.and_then(|()| service.token(&form, now)) {
        Ok(reply) => json_answer(StatusCode::OK, &reply),
        Err((error, description)) => {
            json_answer(StatusCode::BAD_REQUEST, &json!({ "error": error, "error_description": description }))
        }
    };
    if order.as_ref().is_some_and(|order| order.fault == Fault::RotationLost) {
        cut_connection();
    }
    answer
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache,must-revalidate,max-age=0,no-store,private"));
    finish(false, order.as_ref(), &line, answer).await
}

pub(super) async fn data(
    State(service): State<Arc<Service>>,
    ConnectInfo(line): ConnectInfo<Line>,
    Query(parameters): Query<Parameters>,
    request: Request,
) -> Response<Body> {
    if !request.uri().path().starts_with("/services/data") {
        return answer(StatusCode::NOT_FOUND, "text/html", b"<html><body>not found</body></html>".to_vec());
    }
    if request.uri().to_string().len() > URI_BYTES_MAX {
        return answer(StatusCode::URI_TOO_LONG, "text/html", b"<html><body>URI Too Long</body></html>".to_vec());
    }
    let (head, body) = request.into_parts();
    let (method, path, headers) = (head.method, head.uri.path().to_owned(), head.headers);
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        return answer(StatusCode::PAYLOAD_TOO_LARGE, "text/html", Vec::new());
    };
    let call = match resources::route(&method, &path) {
        Ok((call, ..)) => call,
        Err(refusal) => return refusal.answer(),
    };
    let order = match strike(&service, call) {
        Ok(order) => order,
        Err(answer) => return *answer,
    };
    let running = match admit(&service, call, &headers) {
        Ok(running) => running,
        Err(answer) => return *answer,
    };
    linger(order.as_ref()).await;
    let fault = order.as_ref().map(|order| order.fault);
    let accepts_gzip = headers
        .get(header::ACCEPT_ENCODING)
        .is_some_and(|value| value.as_bytes().windows(4).any(|part| part == b"gzip"));
    let server = Arc::clone(&service);
    // A query looks at every record: that must not hold up the other connections.
    let served = tokio::task::spawn_blocking(move || {
        let ask = Ask { method: &method, path: &path, parameters: &parameters, headers: &headers, body: &body, fault };
        resources::serve(&server, &ask).map_or_else(|refusal| refusal.answer(), Reply::answer)
    });
    let Ok(mut answer) = served.await else { cut_connection() };
    if running.is_some() {
        tell_usage(&service, &mut answer);
    }
    let answer = finish(accepts_gzip, order.as_ref(), &line, answer).await;
    drop(running);
    answer
}

/// Lets a call in that has a session and fits into the limits; the list of versions needs neither.
fn admit(service: &Arc<Service>, call: Call, headers: &HeaderMap) -> Result<Option<Running>, Early> {
    if call == Call::Versions {
        return Ok(None);
    }
    let now = Utc::now();
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    service.session_user(authorization, now).map_err(|refusal| Box::new(refusal.answer()))?;
    service.admit(now).map(Some).map_err(|refusal| {
        let mut answer = refusal.answer();
        tell_usage(service, &mut answer);
        Box::new(answer)
    })
}

fn tell_usage(service: &Service, answer: &mut Response<Body>) {
    if let Ok(info) = HeaderValue::try_from(service.limit_info(Utc::now())) {
        answer.headers_mut().insert("Sforce-Limit-Info", info);
    }
}

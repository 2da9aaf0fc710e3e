//! Owns the way of a data call or token request through HTTP: the path, failures in between, headers.
//! Does not own what a call answers.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::{Form, Query, Request, State},
    http::{HeaderValue, Response, StatusCode, header},
};
use bytes::Bytes;
use serde_json::json;

use super::{
    fault::{Call, Fault, Order},
    reply::{answer, gzip, json_answer},
    resources::{self, Ask, Parameters, Reply, Streamed},
    service::Service,
};

/// Salesforce refuses a longer path and query.
const URI_BYTES_MAX: usize = 16_384;
/// No request that is understood here has a longer body.
const BODY_BYTES_MAX: usize = 1_048_576;

/// Closes the connection without an answer. Unwinding is the only way out of a handler that leaves the socket without
/// one; it is not a panic, so nothing is printed.
fn cut_connection() -> ! {
    std::panic::resume_unwind(Box::new("the connection was cut on request"))
}

/// Half of the body, then the end of the connection.
fn cut_body(answer: &mut Response<Body>, body: &[u8]) -> Body {
    let half = Bytes::copy_from_slice(&body[..body.len() / 2]);
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    let parts = futures::stream::iter([Ok(half), Err(std::io::Error::other("the body was cut on request"))]);
    Body::from_stream(parts)
}

/// Waits, closes or answers, if a failure was ordered for this call. What is left is done with the true answer.
async fn strike(service: &Service, call: Call) -> Result<Option<Order>, Response<Body>> {
    service.count(call);
    let Some(order) = service.with_faults(|faults| faults.strike(call)) else { return Ok(None) };
    match order.fault {
        Fault::SlowMs => tokio::time::sleep(Duration::from_millis(order.ms)).await,
        Fault::CutConnection => cut_connection(),
        Fault::Auth401 | Fault::Auth401MidQuery => service.end_sessions(),
        _ => {}
    }
    match order.fault.answer() {
        Some(answer) => Err(answer),
        None => Ok(Some(order)),
    }
}

/// Finishes an answer: compressed if the client can take it, cut if that was ordered.
async fn finish(accepts_gzip: bool, order: Option<Order>, mut answer: Response<Body>) -> Response<Body> {
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
    *answer.body_mut() = match order {
        Some(Order { fault: Fault::CutBody, .. }) => cut_body(&mut answer, &body),
        _ => Body::from(body),
    };
    answer
}

pub(super) async fn token(State(service): State<Arc<Service>>, Form(form): Form<Parameters>) -> Response<Body> {
    let order = match strike(&service, Call::Token).await {
        Ok(order) => order,
        Err(answer) => return answer,
    };
    let reply = match order {
        Some(Order { fault: Fault::InvalidGrant, .. }) => Err(("invalid_grant", "expired access/refresh token")),
        _ => service.token(&form),
    };
    let answer = match reply {
        Ok(reply) => json_answer(StatusCode::OK, &reply),
        Err((error, description)) => {
            json_answer(StatusCode::BAD_REQUEST, &json!({ "error": error, "error_description": description }))
        }
    };
    finish(false, order, answer).await
}

pub(super) async fn data(
    State(service): State<Arc<Service>>,
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
    let order = match strike(&service, call).await {
        Ok(order) => order,
        Err(answer) => return answer,
    };
    let fault = order.as_ref().map(|order| order.fault);
    let accepts_gzip = headers
        .get(header::ACCEPT_ENCODING)
        .is_some_and(|value| value.as_bytes().windows(4).any(|part| part == b"gzip"));
    // A query looks at every record: that must not hold up the other connections.
    let served = tokio::task::spawn_blocking(move || {
        let ask = Ask { method: &method, path: &path, parameters: &parameters, headers: &headers, body: &body, fault };
        let authorization = ask.header("authorization");
        let admitted = if call == Call::Versions { Ok(()) } else { service.admit(authorization) };
        let served = admitted.and_then(|()| resources::serve(&service, &ask));
        let mut answer = served.map_or_else(|refusal| refusal.answer(), Reply::answer);
        if let (true, Ok(info)) = (call != Call::Versions, HeaderValue::from_str(&service.limit_info())) {
            answer.headers_mut().insert("Sforce-Limit-Info", info);
        }
        answer
    });
    match served.await {
        Ok(answer) => finish(accepts_gzip, order, answer).await,
        Err(_) => cut_connection(),
    }
}

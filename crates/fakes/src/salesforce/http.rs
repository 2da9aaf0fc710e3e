//! Owns the way of a data call or token request through HTTP: the path, failures in between, headers.
//! Does not own what a call answers.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::{Form, Query, Request, State},
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::json;

use super::{
    fault::{Call, Fault, Order},
    reply::{Refusal, answer, gzip, json_answer},
    service::{API_VERSION, Service},
};

/// Salesforce refuses a longer path and query.
const URI_BYTES_MAX: usize = 16_384;

type Parameters = HashMap<String, String>;

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
    let body = std::mem::take(answer.body_mut());
    let Ok(body) = to_bytes(body, usize::MAX).await else { return answer };
    let body = if accepts_gzip { gzip(&mut answer, body.to_vec()) } else { body.to_vec() };
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

/// What a path below `/services/data` asks for: the call, the version and the rest.
fn route(path: &str) -> Result<(Call, &str, Vec<&str>), Refusal> {
    let parts: Vec<&str> =
        path.trim_start_matches("/services/data").split('/').filter(|part| !part.is_empty()).collect();
    let Some((version, rest)) = parts.split_first() else { return Ok((Call::Versions, "", Vec::new())) };
    let number =
        version.strip_prefix('v').and_then(|number| number.strip_suffix(".0")).and_then(|n| n.parse::<u32>().ok());
    if !number.is_some_and(|number| (31..=67).contains(&number)) {
        return Err(Refusal::not_found());
    }
    let call = match rest {
        ["sobjects"] => Call::Objects,
        ["sobjects", _, "describe"] => Call::Describe,
        ["sobjects", _, "deleted"] => Call::Deleted,
        ["query" | "queryAll"] => Call::Query,
        ["query" | "queryAll", _] => Call::QueryNext,
        ["limits"] => Call::Limits,
        _ => return Err(Refusal::not_found()),
    };
    Ok((call, version, rest.to_vec()))
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
    if request.method() != Method::GET {
        let refusal = Refusal::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "METHOD_NOT_ALLOWED",
            "HTTP Method not allowed. Allowed are GET",
        );
        return refusal.answer();
    }
    let path = request.uri().path().to_owned();
    let headers = request.headers().clone();
    let call = match route(&path) {
        Ok((call, _, _)) => call,
        Err(refusal) => return refusal.answer(),
    };
    let order = match strike(&service, call).await {
        Ok(order) => order,
        Err(answer) => return answer,
    };
    let accepts_gzip = headers
        .get(header::ACCEPT_ENCODING)
        .is_some_and(|value| value.as_bytes().windows(4).any(|part| part == b"gzip"));
    // A query looks at every record: that must not hold up the other connections.
    let served = tokio::task::spawn_blocking(move || {
        let mut answer = serve(&service, &path, &parameters, &headers).unwrap_or_else(|refusal| refusal.answer());
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

fn serve(
    service: &Service,
    path: &str,
    parameters: &Parameters,
    headers: &HeaderMap,
) -> Result<Response<Body>, Refusal> {
    let (call, version, rest) = route(path)?;
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if call != Call::Versions {
        service.admit(header("authorization"))?;
    }
    let missing = |name: &str| Refusal::new(StatusCode::BAD_REQUEST, "MISSING_ARGUMENT", format!("{name} is missing"));
    let parameter = |name: &str| parameters.get(name).ok_or_else(|| missing(name));
    let time = |name: &str| -> Result<DateTime<Utc>, Refusal> {
        let time = DateTime::parse_from_rfc3339(parameter(name)?);
        time.map(|time| time.to_utc())
            .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "INVALID_REPLICATION_DATE", name))
    };
    let body = match (call, rest.as_slice()) {
        (Call::Versions, _) => json!([
            { "label": "Spring '26", "url": format!("/services/data/v{API_VERSION}"), "version": API_VERSION },
        ]),
        (Call::Objects, _) => {
            let objects: Vec<_> = service.read().objects.values().map(super::organisation::Object::summary).collect();
            json!({ "encoding": "UTF-8", "maxBatchSize": 200, "sobjects": objects })
        }
        (Call::Describe, ["sobjects", name, _]) => {
            service.read().object(name).ok_or_else(Refusal::not_found)?.describe()
        }
        (Call::Deleted, ["sobjects", name, _]) => service.deleted(name, time("start")?, time("end")?)?,
        (Call::Limits, _) => service.limits(),
        (Call::Query, [name]) => {
            let sizes =
                header("sforce-query-options").split(',').filter_map(|option| option.trim().strip_prefix("batchSize="));
            // Salesforce takes it as a hint and never sends pages of less than 200; tests set a small page size instead.
            let size =
                sizes.filter_map(|size| size.parse::<usize>().ok()).next_back().map(|size| size.clamp(200, 2_000));
            service.query(version, parameter("q")?, *name == "queryAll", size)?
        }
        (Call::QueryNext, [_, locator]) => service.next_page(version, locator)?,
        _ => return Err(Refusal::not_found()),
    };
    Ok(json_answer(StatusCode::OK, &body))
}

//! Owns the way of a data call or token request through HTTP: the path, failures in between, headers.
//! Does not own what a call answers.

use std::{collections::HashMap, ops::RangeInclusive, sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::{ConnectInfo, Form, Query, Request, State},
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};

use super::{
    damage::{self, cut_connection},
    fault::{Call, Fault, Strike},
    ids::with_checksum,
    reply::{Early, Refusal, answer, gzip, json_answer},
    service::Service,
    usage::Running,
    wire::Line,
};

/// Salesforce refuses a longer path and query.
const URI_BYTES_MAX: usize = 16_384;
/// Older ones are retired.
const VERSIONS: RangeInclusive<u32> = 31..=67;

type Parameters = HashMap<String, String>;

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
    let body = std::mem::take(answer.body_mut());
    let Ok(body) = to_bytes(body, usize::MAX).await else { return answer };
    let body = if accepts_gzip { gzip(&mut answer, body.to_vec()) } else { body.to_vec() };
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

/// What a path below `/services/data` asks for: the call, the version and the rest.
fn route(path: &str) -> Result<(Call, &str, Vec<&str>), Refusal> {
    let parts: Vec<&str> =
        path.trim_start_matches("/services/data").split('/').filter(|part| !part.is_empty()).collect();
    let Some((version, rest)) = parts.split_first() else { return Ok((Call::Versions, "", Vec::new())) };
    let number =
        version.strip_prefix('v').and_then(|number| number.strip_suffix(".0")).and_then(|n| n.parse::<u32>().ok());
    if !number.is_some_and(|number| VERSIONS.contains(&number)) {
        return Err(Refusal::not_found());
    }
    let call = match rest {
        [] => Call::Resources,
        ["sobjects"] => Call::Objects,
        ["sobjects", _] => Call::Object,
        ["sobjects", _, "describe"] => Call::Describe,
        ["sobjects", _, "deleted"] => Call::Deleted,
        ["sobjects", _, _] => Call::Record,
        ["query" | "queryAll"] => Call::Query,
        ["query" | "queryAll", _] => Call::QueryNext,
        ["limits"] => Call::Limits,
        _ => return Err(Refusal::not_found()),
    };
    Ok((call, version, rest.to_vec()))
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
    let order = match strike(&service, call) {
        Ok(order) => order,
        Err(answer) => return *answer,
    };
    let running = match admit(&service, call, &headers) {
        Ok(running) => running,
        Err(answer) => return *answer,
    };
    linger(order.as_ref()).await;
    let accepts_gzip = headers
        .get(header::ACCEPT_ENCODING)
        .is_some_and(|value| value.as_bytes().windows(4).any(|part| part == b"gzip"));
    let server = Arc::clone(&service);
    // A query looks at every record: that must not hold up the other connections.
    let served = tokio::task::spawn_blocking(move || {
        serve(&server, &path, &parameters, &headers).unwrap_or_else(|refusal| refusal.answer())
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

/// Every version, oldest first; three seasons a year.
fn versions() -> Json {
    let version = |number: u32| {
        let season = ["Winter", "Spring", "Summer"][(number as usize + 1) % 3];
        let year = (number + 13) / 3;
        let path = format!("/services/data/v{number}.0");
        json!({ "label": format!("{season} '{year}"), "url": path, "version": format!("{number}.0") })
    };
    VERSIONS.map(version).collect()
}

/// One record, with the fields asked for or all.
fn record(service: &Service, version: &str, parameters: &Parameters, name: &str, id: &str) -> Result<Json, Refusal> {
    if !matches!(id.len(), 15 | 18) || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Refusal::not_found());
    }
    let fields = match parameters.get("fields") {
        Some(fields) => fields.clone(),
        None => {
            let organisation = service.read();
            let object = organisation.object(name).ok_or_else(Refusal::not_found)?;
            let visible = object.fields.iter().filter(|field| !field.hidden).map(|field| field.name.as_str());
            visible.collect::<Vec<_>>().join(", ")
        }
    };
    let id = if id.len() == 15 { with_checksum(id) } else { id.to_owned() };
    let soql = format!("SELECT {fields} FROM {name} WHERE Id = '{id}'");
    let mut page = service.query(version, &soql, true, None)?;
    let record = page["records"].get_mut(0).map(Json::take).ok_or_else(Refusal::not_found)?;
    if record["IsDeleted"] == true {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "ENTITY_IS_DELETED", "entity is deleted"));
    }
    Ok(record)
}

fn serve(
    service: &Service,
    path: &str,
    parameters: &Parameters,
    headers: &HeaderMap,
) -> Result<Response<Body>, Refusal> {
    let (call, version, rest) = route(path)?;
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let missing = |name: &str| Refusal::new(StatusCode::BAD_REQUEST, "MISSING_ARGUMENT", format!("{name} is missing"));
    let parameter = |name: &str| parameters.get(name).ok_or_else(|| missing(name));
    let time = |name: &str| -> Result<DateTime<Utc>, Refusal> {
        let time = DateTime::parse_from_rfc3339(parameter(name)?);
        time.map(|time| time.to_utc())
            .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "INVALID_REPLICATION_DATE", name))
    };
    let body = match (call, rest.as_slice()) {
        (Call::Versions, _) => versions(),
        (Call::Resources, _) => {
            let at = |name: &str| (name.to_owned(), json!(format!("/services/data/{version}/{name}")));
            Json::Object(["sobjects", "query", "queryAll", "limits", "jobs", "composite"].map(at).into_iter().collect())
        }
        (Call::Object, [_, name]) => {
            let organisation = service.read();
            let object = organisation.object(name).ok_or_else(Refusal::not_found)?;
            json!({ "objectDescribe": object.summary(), "recentItems": [] })
        }
        (Call::Record, [_, name, id]) => record(service, version, parameters, name, id)?,
        (Call::Objects, _) => {
            let objects: Vec<_> = service.read().objects.values().map(super::organisation::Object::summary).collect();
            json!({ "encoding": "UTF-8", "maxBatchSize": 200, "sobjects": objects })
        }
        (Call::Describe, ["sobjects", name, _]) => {
            service.read().object(name).ok_or_else(Refusal::not_found)?.describe()
        }
        (Call::Deleted, ["sobjects", name, _]) => service.deleted(name, time("start")?, time("end")?)?,
        (Call::Limits, _) => service.limits(Utc::now()),
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

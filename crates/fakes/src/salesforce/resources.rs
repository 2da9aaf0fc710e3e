//! Owns the table of REST resources: which call a path is, and who answers it.
//! Does not own HTTP, ordered failures, admission, nor the answers.

use std::{collections::HashMap, ops::RangeInclusive};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header},
};
use chrono::{DateTime, Utc};
use serde_json::{Value as Json, json};

use super::{
    bulk, composite,
    fault::{Call, Fault},
    reply::{Refusal, answer},
    service::Service,
    values,
};

/// Older ones are retired.
const VERSIONS: RangeInclusive<u32> = 31..=67;

/// Parameters of a query string.
pub(super) type Parameters = HashMap<String, String>;

/// What is asked.
pub(super) struct Ask<'a> {
    /// GET, POST, PATCH or DELETE.
    pub method: &'a Method,
    /// The path, from `/services/data` on.
    pub path: &'a str,
    /// What follows it.
    pub parameters: &'a Parameters,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body; empty for GET.
    pub body: &'a [u8],
    /// The failure that was ordered for this call, if its answer is not the whole failure.
    pub fault: Option<Fault>,
}

impl Ask<'_> {
    /// A header, or nothing.
    #[must_use]
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// A parameter that must be there.
    pub(super) fn parameter(&self, name: &str) -> Result<&String, Refusal> {
        let missing = || Refusal::new(StatusCode::BAD_REQUEST, "MISSING_ARGUMENT", format!("{name} is missing"));
        self.parameters.get(name).ok_or_else(missing)
    }

    fn time(&self, name: &str) -> Result<DateTime<Utc>, Refusal> {
        let text = self.parameter(name)?;
        let time =
            DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"));
        time.map(|time| time.to_utc())
            .map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "INVALID_REPLICATION_DATE", name))
    }
}

/// The body of an answer.
pub(super) enum Content {
    /// All of it.
    Whole(Vec<u8>),
    /// As it comes, compressed already if the client can take that.
    Streamed(Body),
}

/// Marks an answer whose body is not to be collected.
#[derive(Clone, Copy)]
pub(super) struct Streamed;

/// An answer that is none of the refusals.
pub(super) struct Reply {
    /// The status.
    pub status: StatusCode,
    /// What the body is.
    pub content_type: &'static str,
    /// Headers beside the usual ones.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub content: Content,
}

impl Reply {
    /// An answer in JSON.
    #[must_use]
    pub(super) fn json(body: &Json) -> Self {
        Self::bytes(body.to_string().into_bytes())
    }

    /// An answer whose body is JSON already.
    #[must_use]
    pub(super) fn bytes(body: Vec<u8>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: "application/json;charset=UTF-8",
            headers: Vec::new(),
            content: Content::Whole(body),
        }
    }

    /// An answer without a body.
    #[must_use]
    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, ..Self::bytes(Vec::new()) }
    }

    /// The answer as it is sent.
    #[must_use]
    pub(super) fn answer(self) -> Response<Body> {
        let mut answer = match self.content {
            Content::Whole(body) => answer(self.status, self.content_type, body),
            Content::Streamed(body) => {
                let mut answer = answer(self.status, self.content_type, Vec::new());
                *answer.body_mut() = body;
                answer.extensions_mut().insert(Streamed);
                answer
            }
        };
        answer.headers_mut().extend(self.headers);
        answer
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

/// What a path below `/services/data` asks for: the call, the version and the rest.
pub(super) fn route<'a>(method: &Method, path: &'a str) -> Result<(Call, &'a str, Vec<&'a str>), Refusal> {
    let parts: Vec<&str> =
        path.trim_start_matches("/services/data").split('/').filter(|part| !part.is_empty()).collect();
    let Some((version, rest)) = parts.split_first() else { return Ok((Call::Versions, "", Vec::new())) };
    let number =
        version.strip_prefix('v').and_then(|number| number.strip_suffix(".0")).and_then(|n| n.parse::<u32>().ok());
    if !number.is_some_and(|number| VERSIONS.contains(&number)) {
        return Err(Refusal::not_found());
    }
    let call = match (method.as_str(), rest) {
        ("GET", []) => Call::Resources,
        ("GET", ["sobjects"]) => Call::Objects,
        ("GET", ["sobjects", _]) => Call::Object,
        ("GET", ["sobjects", _, "describe"]) => Call::Describe,
        ("GET", ["sobjects", _, "deleted"]) => Call::Deleted,
        ("GET", ["sobjects", _, "updated"]) => Call::Updated,
        ("GET", ["sobjects", _, _]) => Call::Record,
        ("GET", ["query" | "queryAll"]) => Call::Query,
        ("GET", ["query" | "queryAll", _]) => Call::QueryNext,
        ("GET", ["limits"]) => Call::Limits,
        ("GET", ["limits", "recordCount"]) => Call::RecordCount,
        ("POST", ["composite"]) => Call::Composite,
        ("POST", ["jobs", "query"]) => Call::BulkCreate,
        ("GET", ["jobs", "query"]) => Call::BulkList,
        ("GET", ["jobs", "query", _]) => Call::BulkJob,
        ("PATCH", ["jobs", "query", _]) => Call::BulkAbort,
        ("DELETE", ["jobs", "query", _]) => Call::BulkDelete,
        ("GET", ["jobs", "query", _, "results"]) => Call::BulkResults,
        ("GET", ["jobs", "query", _, "resultPages"]) => Call::BulkPages,
        (method, ["sobjects" | "query" | "queryAll" | "limits" | "composite" | "jobs", ..]) if method != "GET" => {
            return Err(Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "METHOD_NOT_ALLOWED",
                format!("HTTP Method '{method}' not allowed. Allowed are HEAD,GET"),
            ));
        }
        _ => return Err(Refusal::not_found()),
    };
    Ok((call, version, rest.to_vec()))
}

/// Answers a call that was let in.
pub(super) fn serve(service: &Service, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let (call, version, rest) = route(ask.method, ask.path)?;
    let now = Utc::now();
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
        (Call::Objects, _) => {
            let objects: Vec<_> = service.read().objects.values().map(super::organisation::Object::summary).collect();
            json!({ "encoding": "UTF-8", "maxBatchSize": 200, "sobjects": objects })
        }
        (Call::Describe, ["sobjects", name, _]) => return describe(service, name, ask.header("if-modified-since")),
        (Call::Deleted, ["sobjects", name, _]) => service.deleted(name, ask.time("start")?, ask.time("end")?, now)?,
        (Call::Updated, ["sobjects", name, _]) => service.updated(name, ask.time("start")?, ask.time("end")?, now)?,
        (Call::Record, ["sobjects", name, id]) => {
            return service.record(version, name, id, ask.parameters.get("fields")).map(Reply::bytes);
        }
        (Call::Limits, _) => service.limits(now),
        (Call::RecordCount, _) => service.record_count(ask.parameters.get("sObjects")),
        (Call::Query, [name]) => {
            let options = ask.header("sforce-query-options").split(',');
            let sizes = options.filter_map(|option| option.trim().strip_prefix("batchSize="));
            // Salesforce takes it as a hint and never sends pages of less than 200; tests set a small page size instead.
            let size =
                sizes.filter_map(|size| size.parse::<usize>().ok()).next_back().map(|size| size.clamp(200, 2_000));
            return service.query(version, ask.parameter("q")?, *name == "queryAll", size).map(Reply::bytes);
        }
        (Call::QueryNext, [_, locator]) => return service.next_page(version, locator).map(Reply::bytes),
        (Call::Composite, _) => composite::serve(service, ask)?,
        (_, ["jobs", "query", rest @ ..]) => return bulk::serve(service, ask, call, version, rest),
        _ => return Err(Refusal::not_found()),
    };
    Ok(Reply::json(&body))
}

/// How HTTP writes a time in its headers.
const HTTP_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";

/// An object's fields, or that they are what the client knows already.
fn describe(service: &Service, name: &str, since: &str) -> Result<Reply, Refusal> {
    let organisation = service.read();
    let object = organisation.object(name).ok_or_else(Refusal::not_found)?;
    let since = chrono::NaiveDateTime::parse_from_str(since, HTTP_DATE).ok().map(|since| since.and_utc());
    let known = since.is_some_and(|since| object.described_at.timestamp() <= since.timestamp());
    let mut reply = if known { Reply::empty(StatusCode::NOT_MODIFIED) } else { Reply::json(&object.describe()) };
    if let Ok(modified) = HeaderValue::from_str(&object.described_at.format(HTTP_DATE).to_string()) {
        reply.headers.push((header::LAST_MODIFIED, modified));
    }
    Ok(reply)
}

/// One record by its id, or some of its fields.
impl Service {
    fn record(&self, version: &str, name: &str, id: &str, fields: Option<&String>) -> Result<Vec<u8>, Refusal> {
        let organisation = self.read();
        let object = organisation.object(name).ok_or_else(Refusal::not_found)?;
        let record = super::ids::key(id).and_then(|key| object.records.get(&key)).ok_or_else(Refusal::not_found)?;
        if record.is_deleted() {
            return Err(Refusal::new(StatusCode::NOT_FOUND, "ENTITY_IS_DELETED", "entity is deleted"));
        }
        let places = match fields {
            Some(fields) => fields
                .split(',')
                .map(|field| object.place(field.trim()).ok_or_else(|| Refusal::no_field(field, &object.name)))
                .collect::<Result<Vec<_>, _>>()?,
            None => object.visible_places(),
        };
        let mut body = Vec::new();
        values::write_record(&mut body, object, record, &places, Some(&format!("/services/data/{version}")));
        Ok(body)
    }
}

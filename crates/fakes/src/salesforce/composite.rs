//! Owns composite requests: up to 25 in one call, which counts once.
//! Does not own what they ask for; writes and references from one to another are refused.

use axum::http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::{
    fault::Call,
    reply::Refusal,
    resources::{Ask, Content, Parameters, Reply, route, serve as serve_one},
    service::Service,
};

/// So many requests fit into one.
const REQUESTS_MAX: usize = 25;
/// So many of them may be queries.
const QUERIES_MAX: usize = 5;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Composite {
    composite_request: Vec<Request>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    method: String,
    url: String,
    reference_id: String,
    #[serde(default)]
    http_headers: Map<String, Json>,
}

fn bad(code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, code, message)
}

/// Answers all of them.
pub(super) fn serve(service: &Service, ask: &Ask<'_>) -> Result<Json, Refusal> {
    let composite: Composite =
        serde_json::from_slice(ask.body).map_err(|error| bad("JSON_PARSER_ERROR", error.to_string()))?;
    let requests = composite.composite_request;
    if requests.is_empty() || requests.len() > REQUESTS_MAX {
        return Err(bad("LIMIT_EXCEEDED", format!("The limit of {REQUESTS_MAX} subrequests was exceeded.")));
    }
    let is_query = |request: &&Request| {
        let path = request.url.split('?').next().unwrap_or_default();
        matches!(route(&Method::GET, path), Ok((Call::Query | Call::QueryNext, ..)))
    };
    if requests.iter().filter(is_query).count() > QUERIES_MAX {
        return Err(bad("LIMIT_EXCEEDED", format!("The limit of {QUERIES_MAX} query subrequests was exceeded.")));
    }
    let mut answers = Vec::new();
    for request in &requests {
        if answers.iter().any(|answer: &Json| answer["referenceId"] == *request.reference_id) {
            return Err(bad("INVALID_INPUT", "A referenceId is there twice."));
        }
        answers.push(answer_one(service, request));
    }
    Ok(json!({ "compositeResponse": answers }))
}

fn answer_one(service: &Service, request: &Request) -> Json {
    let (status, headers, body) = match reply(service, request) {
        Ok(Reply { status, headers, content: Content::Whole(body), .. }) => {
            let headers =
                headers.iter().filter_map(|(name, value)| Some((name.to_string(), json!(value.to_str().ok()?))));
            (status, headers.collect(), serde_json::from_slice(&body).unwrap_or(Json::Null))
        }
        Ok(_) => (StatusCode::BAD_REQUEST, Map::new(), bad("INVALID_INPUT", "This cannot be a subrequest.").body()),
        Err(refusal) => (refusal.status, Map::new(), refusal.body()),
    };
    json!({
        "body": body, "httpHeaders": headers, "httpStatusCode": status.as_u16(), "referenceId": request.reference_id,
    })
}

fn reply(service: &Service, request: &Request) -> Result<Reply, Refusal> {
    if request.method != "GET" {
        return Err(bad("METHOD_NOT_ALLOWED", "Only GET is simulated within a composite request."));
    }
    let (path, query) = request.url.split_once('?').unwrap_or((&request.url, ""));
    match route(&Method::GET, path)?.0 {
        Call::Composite | Call::BulkList | Call::BulkJob | Call::BulkResults | Call::BulkPages => {
            return Err(bad("INVALID_INPUT", "This cannot be a subrequest."));
        }
        _ => {}
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &request.http_headers {
        let name: axum::http::HeaderName = name.parse().map_err(|_| bad("INVALID_INPUT", "A header has no name."))?;
        let value = value.as_str().and_then(|value| value.parse().ok());
        headers.insert(name, value.ok_or_else(|| bad("INVALID_INPUT", "A header has no value."))?);
    }
    let parameters = parameters(query).ok_or_else(|| bad("INVALID_INPUT", "The URL is not encoded well."))?;
    let ask = Ask { method: &Method::GET, path, parameters: &parameters, headers: &headers, body: &[], fault: None };
    serve_one(service, &ask)
}

/// The parameters of a query string. Unlike a request line, a URL in a body may hold what should be encoded.
fn parameters(query: &str) -> Option<Parameters> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(name)?, decode(value)?))
        })
        .collect()
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let found = parameters("q=SELECT+Id FROM%20X&start=a%2Bb").unwrap();
        assert_eq!((found["q"].as_str(), found["start"].as_str()), ("SELECT Id FROM X", "a+b"));
        assert!(parameters("q=%4").is_none() && parameters("q=%FF").is_none());
    }
}

//! The pages: each one whole without JavaScript, live with it. Owns the navigation, what all pages share, and how a form
//! becomes a call of the API; numbers and words of a page are made in `view`. Reads and acts through the API's functions.

mod accounts;
mod admin;
mod anomalies;
mod assumptions;
mod attention;
mod audit;
mod connection_forms;
mod connections;
mod errors;
mod find;
mod groups;
mod holders;
mod jobs;
mod limits;
mod operations;
mod overview;
mod quarantine;
mod queues;
mod schedules;
mod servants;

use crate::{App, error::ApiError, people, sight};
use askama::Template;
use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::get,
};
use domain::{AccountId, Action, ConnectionId};
use manager_api::{ErrorBody, OverrideRequest};
use serde::Deserialize;
use std::{fmt::Display, str::FromStr};

pub(crate) use overview::Glance;

/// Rows of a list on a page.
const ROWS: i64 = 50;

/// A page of the navigation.
pub(crate) struct NavPage {
    pub(crate) name: &'static str,
    pub(crate) path: &'static str,
    /// With `g` before it.
    pub(crate) key: &'static str,
    /// What it is there for.
    pub(crate) shows: Action,
}

impl NavPage {
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// Whether it is there for whoever the page is made for.
    pub(crate) fn is_open(&self) -> bool {
        sight::has_page(self.path) && people::may(self.shows)
    }
}

/// The navigation.
pub(crate) const NAV: [NavPage; 12] = [
    NavPage { name: "Overview", path: "/", key: "o", shows: Action::ReadStats },
    NavPage { name: "Jobs", path: "/jobs", key: "j", shows: Action::ReadJobs },
    NavPage { name: "Errors", path: "/errors", key: "e", shows: Action::ReadErrors },
    NavPage { name: "Accounts", path: "/accounts", key: "a", shows: Action::ReadAccounts },
    NavPage { name: "Servants", path: "/servants", key: "s", shows: Action::ReadServants },
    NavPage { name: "Queues", path: "/queues", key: "q", shows: Action::ReadQueues },
    NavPage { name: "Schedules", path: "/schedules", key: "c", shows: Action::ReadSchedules },
    NavPage { name: "Limits", path: "/limits", key: "l", shows: Action::ReadLimits },
    NavPage { name: "Anomalies", path: "/anomalies", key: "n", shows: Action::ReadAnomalies },
    NavPage { name: "Groups", path: "/groups", key: "g", shows: Action::ReadGroups },
    NavPage { name: "Audit", path: "/audit", key: "d", shows: Action::ReadAudit },
    NavPage { name: "Admin", path: "/admin", key: "m", shows: Action::ReadPeople },
];

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/keys", get(keys))
        .merge(overview::routes())
        .merge(jobs::routes())
        .merge(operations::routes())
        .merge(find::routes())
        .merge(errors::routes())
        .merge(accounts::routes())
        .merge(connections::routes())
        .merge(connection_forms::routes())
        .merge(queues::routes())
        .merge(servants::routes())
        .merge(schedules::routes())
        .merge(limits::routes())
        .merge(holders::routes())
        .merge(anomalies::routes())
        .merge(quarantine::routes())
        .merge(groups::routes())
        .merge(audit::routes())
        .merge(assumptions::routes())
        .merge(admin::routes())
}

#[derive(Template)]
#[template(path = "keys.html")]
struct KeysPage;

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    status: StatusCode,
    error: &'a ErrorBody,
    from: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "connected.html")]
struct ConnectedPage {
    account: AccountId,
    connection: ConnectionId,
}

async fn keys() -> Result<Response, ApiError> {
    render(&KeysPage)
}

/// What a customer sees who has consented.
pub(crate) fn connected_page(account: AccountId, connection: ConnectionId) -> Result<Response, ApiError> {
    render(&ConnectedPage { account, connection })
}

/// A refusal as a page; `from` is the page whose form was refused.
pub(crate) fn error_page(status: StatusCode, error: &ErrorBody, from: Option<&str>) -> Response {
    let text = ErrorPage { status, error, from }.render().unwrap_or_else(|_| error.message.clone());
    (status, Html(text)).into_response()
}

pub(crate) fn render(page: &impl Template) -> Result<Response, ApiError> {
    let text = page.render().map_err(|error| {
        tracing::error!(error = error.to_string(), "a page cannot be rendered");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the page cannot be rendered")
    })?;
    Ok(Html(text).into_response())
}

fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// Why, as every form that overrides something asks.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WhyForm {
    /// Asked for only where nobody signs on.
    #[serde(default)]
    by: String,
    reason: String,
}

impl From<WhyForm> for OverrideRequest {
    fn from(form: WhyForm) -> Self {
        Self { by: name(&form.by), reason: form.reason }
    }
}

/// A name as a form sends it: an empty one is none.
fn name(by: &str) -> Option<String> {
    Some(by.trim().to_owned()).filter(|by| !by.is_empty())
}

/// Back to the page with the form, with its filter; else to `otherwise`. Only to an address of our own.
fn back(headers: &HeaderMap, otherwise: &str) -> Redirect {
    Redirect::to(own_referer(headers).as_deref().unwrap_or(otherwise))
}

/// The page that a browser comes from, if it is one of ours.
pub(crate) fn own_referer(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let (host, path) = text(header::REFERER)?.split_once("://")?.1.split_once('/')?;
    (Some(host) == text(header::HOST)).then(|| format!("/{}", path.trim_start_matches('/')))
}

/// A field of a form that may be left empty.
fn field<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<Option<T>, ApiError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| ApiError::bad_request(format!("{name}: '{text}': {error}")))
}

/// A field that holds JSON, or nothing.
fn json_field(name: &str, text: &str) -> Result<Option<serde_json::Value>, ApiError> {
    field(name, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn location(referer: &'static str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("servant.test:8080"));
        headers.insert(header::REFERER, HeaderValue::from_static(referer));
        let answer = back(&headers, "/jobs").into_response();
        answer.headers()[header::LOCATION].to_str().unwrap().to_owned()
    }

    #[test]
    fn an_act_leads_back_to_its_page_and_nowhere_else() {
        assert_eq!(location("http://servant.test:8080/anomalies?state=open"), "/anomalies?state=open");
        assert_eq!(location("http://servant.test:8080//elsewhere.test/"), "/elsewhere.test/");
        for foreign in ["http://elsewhere.test/jobs/1", "servant.test:8080/x", "", "http://servant.test:8080"] {
            assert_eq!(location(foreign), "/jobs", "{foreign}");
        }
    }

    #[test]
    fn empty_fields_are_not_given_and_wrong_ones_are_named() {
        assert_eq!(field::<u32>("burst", " ").unwrap(), None);
        assert_eq!(field::<u32>("burst", " 7 ").unwrap(), Some(7));
        assert!(field::<u32>("burst", "-7").unwrap_err().message.starts_with("burst: '-7'"));
        assert!(json_field("payload", "{").unwrap_err().message.starts_with("payload: "));
    }

    #[test]
    fn no_two_pages_have_one_key() {
        for (at, page) in NAV.iter().enumerate() {
            assert!(NAV[..at].iter().all(|other| other.key != page.key && other.path != page.path), "{}", page.name);
        }
    }
}

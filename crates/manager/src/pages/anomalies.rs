//! The inbox of what is out of the ordinary in customers' data, and what people do with it.

use super::{ROWS, WhyForm, back, pretty, render};
use crate::{
    App,
    allowed::Asker,
    api::anomalies as api,
    error::ApiError,
    sight,
    view::{Link, When, url_of, when},
};
use askama::Template;
use axum::{
    Form, Json, Router,
    extract::{Path, Query, State},
    http::HeaderMap,
    response::{Redirect, Response},
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use domain::AnomalyKind;
use manager_api::{Anomaly, AnomalyQuery, AssignRequest};
use serde::Deserialize;

const STATES: [&str; 4] = ["open", "acknowledged", "muted", "resolved"];
const SEVERITIES: [&str; 3] = ["info", "warning", "critical"];

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/anomalies", get(list))
        .route("/anomalies/{id}", get(one))
        .route("/anomalies/{id}/assign", post(assign))
        .route("/anomalies/{id}/{act}", post(act))
}

/// An anomaly as a page shows it.
pub(crate) struct AnomalyView {
    pub(crate) row: Anomaly,
    /// The object and what of it.
    pub(crate) of: String,
    pub(crate) first_seen: When,
    pub(crate) last_seen: When,
    pub(crate) since: When,
}

impl AnomalyView {
    pub(crate) fn new(row: Anomaly, now: DateTime<Utc>) -> Self {
        let of: Vec<&str> =
            [row.object.as_str(), row.subject.as_str()].into_iter().filter(|part| !part.is_empty()).collect();
        Self {
            of: of.join("."),
            first_seen: when(row.first_seen_at, now),
            last_seen: when(row.last_seen_at, now),
            since: when(row.state_since, now),
            row,
        }
    }

    pub(crate) fn can_acknowledge(&self) -> bool {
        self.row.state == "open"
    }

    pub(crate) fn can_resolve(&self) -> bool {
        self.row.state != "resolved"
    }

    pub(crate) fn can_mute(&self) -> bool {
        self.row.state != "muted"
    }
}

#[derive(Template)]
#[template(path = "anomalies.html")]
struct AnomaliesPage {
    states: Vec<Link>,
    severities: Vec<Link>,
    anomalies: Vec<AnomalyView>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "anomaly.html")]
struct AnomalyPage {
    view: AnomalyView,
    evidence: String,
    /// Where the records are that it tells of.
    quarantine: Option<String>,
}

fn address(query: &AnomalyQuery) -> String {
    url_of(
        "/anomalies",
        &[
            ("state", query.state.clone()),
            ("severity", query.severity.clone()),
            ("account", query.account.map(|id| id.to_string())),
            ("connection", query.connection.map(|id| id.to_string())),
            ("before", query.before.map(|id| id.to_string())),
        ],
    )
}

async fn list(
    asker: Asker,
    State(app): State<App>,
    Query(mut query): Query<AnomalyQuery>,
) -> Result<Response, ApiError> {
    let now = app.store.now();
    query.limit = Some(ROWS);
    // Without a word it is the inbox: what is open.
    let shown = query.state.clone().unwrap_or_else(|| "open".to_owned());
    let link = |text: &str, state: Option<&str>, severity: Option<&str>, is_current: bool| {
        let query = AnomalyQuery {
            state: state.map(str::to_owned),
            severity: severity.map(str::to_owned),
            before: None,
            limit: None,
            ..query.clone()
        };
        Link { text: text.to_owned(), url: address(&query), is_current }
    };
    let severity = query.severity.as_deref().filter(|severity| !severity.is_empty());
    let mut states: Vec<Link> =
        STATES.into_iter().map(|state| link(state, Some(state), severity, shown == state)).collect();
    states.push(link("all", Some("all"), severity, shown == "all"));
    let given = Some(shown.as_str());
    let mut severities = vec![link("any", given, None, severity.is_none())];
    severities.extend(SEVERITIES.into_iter().map(|name| {
        let text = if name == "critical" { "critical".to_owned() } else { format!("{name} or graver") };
        link(&text, given, Some(name), severity == Some(name))
    }));
    let asked = AnomalyQuery { state: Some(shown.clone()).filter(|state| state != "all"), ..query.clone() };
    let Json(page) = api::list(asker.allow(&app).await?, State(app), Query(asked)).await?;
    let next = page.next_before.map(|before| {
        address(&AnomalyQuery { state: Some(shown), before: Some(before), limit: None, ..query.clone() })
    });
    let anomalies = page.anomalies.into_iter().map(|row| AnomalyView::new(row, now)).collect();
    render(&AnomaliesPage { states, severities, anomalies, next })
}

async fn one(asker: Asker, State(app): State<App>, Path(id): Path<i64>) -> Result<Response, ApiError> {
    let now = app.store.now();
    let Json(row) = api::show(asker.allow(&app).await?, State(app), Path(id)).await?;
    let is_of_records = row.kind == AnomalyKind::RecordsDamaged.as_str() && sight::look().is_none();
    let of = || [("connection", Some(row.connection_id.to_string())), ("object", Some(row.object.clone()))];
    let quarantine = is_of_records.then(|| url_of("/quarantine", &of()));
    render(&AnomalyPage { evidence: pretty(&row.evidence), quarantine, view: AnomalyView::new(row, now) })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AssignForm {
    /// Empty: nobody.
    to: String,
    /// Asked for only where nobody signs on.
    #[serde(default)]
    by: String,
    reason: String,
}

async fn assign(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
    Form(form): Form<AssignForm>,
) -> Result<Redirect, ApiError> {
    let request = AssignRequest { to: Some(form.to), by: Some(form.by), reason: Some(form.reason) };
    let Json(_) = api::assign(asker.allow(&app).await?, State(app), Path(id), Json(request)).await?;
    Ok(back(&headers, &format!("/anomalies/{id}")))
}

async fn act(
    asker: Asker,
    State(app): State<App>,
    Path((id, act)): Path<(i64, String)>,
    headers: HeaderMap,
    Form(form): Form<WhyForm>,
) -> Result<Redirect, ApiError> {
    let (at, of, request) = (State(app.clone()), Path(id), Json(form.into()));
    let Json(_) = match act.as_str() {
        "acknowledge" => api::acknowledge(asker.allow(&app).await?, at, of, request).await?,
        "resolve" => api::resolve(asker.allow(&app).await?, at, of, request).await?,
        "mute" => api::mute(asker.allow(&app).await?, at, of, request).await?,
        other => return Err(ApiError::not_found(format!("'{other}' is nothing that is done with an anomaly"))),
    };
    Ok(back(&headers, &format!("/anomalies/{id}")))
}

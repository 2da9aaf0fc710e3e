//! Jobs that belong together: the list, one group with its progress, seal and cancel.

use super::{ROWS, WhyForm, back, pretty, render};
use crate::{
    App,
    allowed::Asker,
    api::groups as api,
    error::ApiError,
    gate::RequestId,
    view::{BarView, Link, When, grouped, url_of, when},
};
use askama::Template;
use axum::{
    Extension, Form, Json, Router,
    extract::{Path, Query, State},
    http::HeaderMap,
    response::{Redirect, Response},
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use domain::{GroupState, JobState, about};
use manager_api::{CancelGroup, Group, GroupQuery};
use serde::{Deserialize, de::DeserializeOwned};

const STATES: [&str; 6] = ["open", "sealed", "cancelling", "finished", "failed", "cancelled"];

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/groups", get(list).post(create))
        .route("/groups/{id}", get(one))
        .route("/groups/{id}/jobs", post(add))
        .route("/groups/{id}/seal", post(seal))
        .route("/groups/{id}/cancel", post(cancel))
}

/// A group in a table.
pub(crate) struct GroupView {
    pub(crate) row: Group,
    /// Where it stands, for people.
    pub(crate) state: String,
    pub(crate) is_understood: bool,
    pub(crate) created: When,
    pub(crate) since: When,
    /// Members that have ended, of all.
    pub(crate) members: BarView,
}

impl GroupView {
    pub(crate) fn new(row: Group, now: DateTime<Utc>) -> Self {
        let ended = row.counts.succeeded + row.counts.failed + row.counts.cancelled;
        let number = |jobs: i64| u64::try_from(jobs).unwrap_or(0);
        Self {
            state: row.state.as_str().replace('_', " "),
            is_understood: row.state != GroupState::NotUnderstood,
            created: when(row.created_at, now),
            since: when(row.state_since, now),
            members: BarView {
                done: number(ended),
                total: Some(number(row.members).max(1)),
                count: format!("{} / {} jobs", grouped(ended), grouped(row.members)),
                message: if row.counts.failed > 0 {
                    format!("{} failed", grouped(row.counts.failed))
                } else {
                    String::new()
                },
            },
            row,
        }
    }

    fn cells(&self) -> Vec<(&'static str, i64, String)> {
        let counts = &self.row.counts;
        let of = |state: JobState| match state {
            JobState::Scheduled => counts.scheduled,
            JobState::Ready => counts.ready,
            JobState::Queued => counts.queued,
            JobState::Running => counts.running,
            JobState::Succeeded => counts.succeeded,
            JobState::Failed => counts.failed,
            JobState::Cancelled => counts.cancelled,
        };
        JobState::ALL.map(|state| (state.as_str(), of(state), grouped(of(state)))).to_vec()
    }
}

#[derive(Template)]
#[template(path = "groups.html")]
struct GroupsPage {
    states: Vec<Link>,
    groups: Vec<GroupView>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "group.html")]
struct GroupPage {
    cells: Vec<(&'static str, i64, String)>,
    view: GroupView,
    /// What the members say of their own progress, summed.
    work: BarView,
    is_partial: bool,
    finishing: Option<String>,
    can_seal: bool,
    can_cancel: bool,
}

fn address(query: &GroupQuery) -> String {
    url_of(
        "/groups",
        &[
            ("state", query.state.clone()),
            ("account", query.account.map(|id| id.to_string())),
            ("before", query.before.map(|id| id.to_string())),
        ],
    )
}

async fn list(asker: Asker, State(app): State<App>, Query(mut query): Query<GroupQuery>) -> Result<Response, ApiError> {
    let now = app.store.now();
    query.limit = Some(ROWS);
    query.state = query.state.filter(|state| !state.is_empty());
    let link = |text: &str, state: Option<&str>| Link {
        text: text.to_owned(),
        url: address(&GroupQuery { state: state.map(str::to_owned), before: None, ..query.clone() }),
        is_current: query.state.as_deref() == state,
    };
    let mut states = vec![link("all", None)];
    states.extend(STATES.into_iter().map(|state| link(state, Some(state))));
    let Json(page) = api::list(asker.allow(&app).await?, State(app), Query(query.clone())).await?;
    let next = page.next_before.map(|before| address(&GroupQuery { before: Some(before), ..query }));
    let groups = page.groups.into_iter().map(|row| GroupView::new(row, now)).collect();
    render(&GroupsPage { states, groups, next })
}

async fn one(asker: Asker, State(app): State<App>, Path(id): Path<i64>) -> Result<Response, ApiError> {
    let now = app.store.now();
    let Json(detail) = api::show(asker.allow(&app).await?, State(app), Path(id)).await?;
    let number = |units: i64| u64::try_from(units).unwrap_or(0);
    let (done, total) = (detail.progress.done, detail.progress.total);
    let left = match detail.progress.secs_left {
        _ if detail.group.state.is_ended() || total <= 0 => String::new(),
        Some(left) => format!("about {} left", about(left)),
        None => "time left unknown".to_owned(),
    };
    let view = GroupView::new(detail.group, now);
    let state = view.row.state;
    render(&GroupPage {
        cells: view.cells(),
        work: BarView {
            done: number(done),
            total: Some(number(total)).filter(|total| *total > 0),
            count: format!("{} / {}", grouped(done), grouped(total)),
            message: left,
        },
        is_partial: detail.progress.is_partial,
        finishing: view.row.finishing.as_ref().and_then(|job| Some(pretty(&serde_json::to_value(job).ok()?))),
        can_seal: state == GroupState::Open,
        can_cancel: matches!(state, GroupState::Open | GroupState::Sealed | GroupState::NotUnderstood),
        view,
    })
}

/// A group, or members, as the API takes them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonForm {
    definition: String,
}

impl JsonForm {
    fn read<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_str(&self.definition).map_err(|error| ApiError::bad_request(format!("definition: {error}")))
    }
}

async fn create(
    asker: Asker,
    State(app): State<App>,
    request_id: Extension<RequestId>,
    Form(form): Form<JsonForm>,
) -> Result<Redirect, ApiError> {
    let (_, Json(reply)) = api::create(asker.allow(&app).await?, State(app), request_id, Json(form.read()?)).await?;
    Ok(Redirect::to(&format!("/groups/{}", reply.group.id)))
}

async fn add(
    asker: Asker,
    State(app): State<App>,
    request_id: Extension<RequestId>,
    Path(id): Path<i64>,
    Form(form): Form<JsonForm>,
) -> Result<Redirect, ApiError> {
    let (_, Json(_)) = api::add(asker.allow(&app).await?, State(app), request_id, Path(id), Json(form.read()?)).await?;
    Ok(Redirect::to(&format!("/groups/{id}")))
}

async fn seal(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> Result<Redirect, ApiError> {
    let Json(_) = api::seal(asker.allow(&app).await?, State(app), Path(id)).await?;
    Ok(back(&headers, &format!("/groups/{id}")))
}

async fn cancel(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
    Form(form): Form<WhyForm>,
) -> Result<Redirect, ApiError> {
    let Json(_) = api::cancel(
        asker.allow(&app).await?,
        State(app),
        Path(id),
        Json(CancelGroup { by: super::name(&form.by), reason: form.reason }),
    )
    .await?;
    Ok(back(&headers, &format!("/groups/{id}")))
}

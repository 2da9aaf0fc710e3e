//! What fires by itself: the list, one schedule with its next fires and last jobs, and every act on it.

use super::{ROWS, WhyForm, back, field, json_field, pretty, render};
use crate::{
    App,
    allowed::Asker,
    api::schedules as api,
    error::ApiError,
    gate::RequestId,
    view::{JobView, Link, When, moment, url_of, when},
};
use askama::Template;
use axum::{
    Extension, Form, Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{Redirect, Response},
    routing::{get, post},
};
use chrono::{DateTime, Utc};
use manager_api::{
    BackfillRequest, CreateSchedule, DeleteQuery, PauseSchedule, PreviewQuery, PreviewedFire, Schedule, ScheduleDetail,
    ScheduleQuery, ScheduleSettings, UpdateSchedule,
};
use serde::Deserialize;
use serde_json::Value;

/// Fires shown of one schedule.
const FIRES: usize = 12;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/schedules", get(list).post(create))
        .route("/schedules/{id}", get(one))
        .route("/schedules/{id}/edit", post(edit))
        .route("/schedules/{id}/pause", post(pause))
        .route("/schedules/{id}/resume", post(resume))
        .route("/schedules/{id}/run", post(run))
        .route("/schedules/{id}/backfill", post(backfill))
        .route("/schedules/{id}/delete", post(delete))
}

/// A schedule in a table.
pub(crate) struct ScheduleView {
    pub(crate) row: Schedule,
    pub(crate) rule: String,
    pub(crate) next: Option<When>,
    pub(crate) last: Option<When>,
}

impl ScheduleView {
    pub(crate) fn new(row: Schedule, now: DateTime<Utc>) -> Self {
        Self {
            rule: rule_text(&row.rule),
            next: row.next_due_at.map(|at| when(at, now)),
            last: row.last_due_at.map(|at| when(at, now)),
            row,
        }
    }
}

/// A rule as people say it; what is none of ours is shown as it is.
fn rule_text(rule: &Value) -> String {
    if let Some(secs) = rule.get("every_secs").and_then(Value::as_u64) {
        return format!("every {secs} s");
    }
    if let Some(at) = rule.get("once").and_then(Value::as_str) {
        return format!("once at {at}");
    }
    let cron = rule.get("cron");
    let text = |key: &str| cron.and_then(|cron| cron.get(key)).and_then(Value::as_str);
    match (text("expression"), text("zone")) {
        (Some(expression), Some(zone)) => format!("{expression} ({zone})"),
        _ => rule.to_string(),
    }
}

#[derive(Template)]
#[template(path = "schedules.html")]
struct SchedulesPage {
    tabs: Vec<Link>,
    schedules: Vec<ScheduleView>,
    next: Option<String>,
}

/// A fire to come.
struct FireView {
    at: String,
    fire: PreviewedFire,
}

#[derive(Template)]
#[template(path = "schedule.html")]
struct SchedulePage {
    view: ScheduleView,
    zone: String,
    /// Why it is not known when it fires.
    unclear: Option<String>,
    fires: Vec<FireView>,
    jobs: Vec<JobView>,
    rule: String,
    payload: String,
    overlaps: [&'static str; 4],
}

fn address(query: &ScheduleQuery) -> String {
    url_of(
        "/schedules",
        &[
            ("paused", query.paused.map(|paused| paused.to_string())),
            ("account", query.account.map(|id| id.to_string())),
            ("before", query.before.map(|id| id.to_string())),
        ],
    )
}

async fn list(
    asker: Asker,
    State(app): State<App>,
    Query(mut query): Query<ScheduleQuery>,
) -> Result<Response, ApiError> {
    let now = app.store.now();
    query.limit = Some(ROWS);
    query.paused = query.paused.filter(|paused| *paused);
    let link = |text: &str, paused: Option<bool>| Link {
        text: text.to_owned(),
        url: address(&ScheduleQuery { paused, before: None, ..query.clone() }),
        is_current: query.paused == paused,
    };
    let tabs = vec![link("all", None), link("paused", Some(true))];
    let Json(page) = api::list(asker.allow(&app).await?, State(app), Query(query.clone())).await?;
    render(&SchedulesPage {
        tabs,
        schedules: page.schedules.into_iter().map(|row| ScheduleView::new(row, now)).collect(),
        next: page.next_before.map(|before| address(&ScheduleQuery { before: Some(before), ..query })),
    })
}

async fn one(asker: Asker, State(app): State<App>, Path(id): Path<i64>) -> Result<Response, ApiError> {
    let now = app.store.now();
    let (schedules, jobs) = (asker.allow(&app).await?, asker.allow(&app).await?);
    let Json(detail) = api::show(schedules, jobs, State(app.clone()), Path(id)).await?;
    let ScheduleDetail { schedule: row, jobs } = detail;
    let query = PreviewQuery { count: Some(FIRES) };
    let preview = api::preview(asker.allow(&app).await?, State(app), Path(id), Query(query)).await;
    let (preview, unclear) = match preview {
        Ok(Json(preview)) => (Some(preview), None),
        Err(error) if error.status == StatusCode::CONFLICT => (None, Some(error.message)),
        Err(error) => return Err(error),
    };
    let (zone, fires) = preview.map(|preview| (preview.zone, preview.fires)).unwrap_or_default();
    render(&SchedulePage {
        zone,
        unclear,
        fires: fires.into_iter().map(|fire| FireView { at: moment(fire.at), fire }).collect(),
        jobs: jobs.iter().map(|job| JobView::new(job, now)).collect(),
        rule: pretty(&row.rule),
        payload: pretty(&row.payload),
        overlaps: ["skip", "buffer_one", "cancel_older", "allow"],
        view: ScheduleView::new(row, now),
    })
}

/// What can be set of a schedule, as a form sends it: what is left empty is not said.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SettingsForm {
    name: String,
    kind: String,
    account: String,
    connection: String,
    rule: String,
    overlap: String,
    jitter_secs: String,
    catch_up_secs: String,
    catch_up_max: String,
    priority: String,
    payload: String,
}

impl SettingsForm {
    fn settings(&self) -> Result<ScheduleSettings, ApiError> {
        Ok(ScheduleSettings {
            overlap: field("overlap", &self.overlap)?,
            jitter_secs: field("jitter_secs", &self.jitter_secs)?,
            starts_at: None,
            ends_at: None,
            catch_up_secs: field("catch_up_secs", &self.catch_up_secs)?,
            catch_up_max: field("catch_up_max", &self.catch_up_max)?,
            payload: json_field("payload", &self.payload)?,
            priority: field("priority", &self.priority)?,
        })
    }
}

async fn create(asker: Asker, State(app): State<App>, Form(form): Form<SettingsForm>) -> Result<Redirect, ApiError> {
    let rule = json_field("rule", &form.rule)?.ok_or_else(|| ApiError::bad_request("rule is empty"))?;
    let request = CreateSchedule {
        rule,
        account_id: field("account", &form.account)?,
        connection_id: field("connection", &form.connection)?,
        attempts_max: None,
        settings: form.settings()?,
        name: form.name.trim().to_owned(),
        kind: form.kind.trim().to_owned(),
    };
    let (_, Json(schedule)) = api::create(asker.allow(&app).await?, State(app), Json(request)).await?;
    Ok(Redirect::to(&format!("/schedules/{}", schedule.id)))
}

async fn edit(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    Form(form): Form<SettingsForm>,
) -> Result<Redirect, ApiError> {
    let (schedules, jobs) = (asker.allow(&app).await?, asker.allow(&app).await?);
    let Json(before) = api::show(schedules, jobs, State(app.clone()), Path(id)).await?;
    // The same rule again would move the next fire.
    let rule = json_field("rule", &form.rule)?.filter(|rule| *rule != before.schedule.rule);
    let request = UpdateSchedule { rule, settings: form.settings()? };
    let Json(_) = api::update(asker.allow(&app).await?, State(app), Path(id), Json(request)).await?;
    Ok(Redirect::to(&format!("/schedules/{id}")))
}

async fn pause(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
    Form(form): Form<WhyForm>,
) -> Result<Redirect, ApiError> {
    let Json(_) = api::pause(
        asker.allow(&app).await?,
        State(app),
        Path(id),
        Json(PauseSchedule { by: super::name(&form.by), reason: form.reason }),
    )
    .await?;
    Ok(back(&headers, &format!("/schedules/{id}")))
}

async fn resume(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> Result<Redirect, ApiError> {
    let Json(_) = api::resume(asker.allow(&app).await?, State(app), Path(id), None).await?;
    Ok(back(&headers, &format!("/schedules/{id}")))
}

/// To the new job, or back where it is made later.
async fn run(
    asker: Asker,
    State(app): State<App>,
    request_id: Extension<RequestId>,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> Result<Redirect, ApiError> {
    let Json(ran) = api::run(asker.allow(&app).await?, State(app), request_id, Path(id)).await?;
    Ok(match ran.job_id {
        Some(job) => Redirect::to(&format!("/jobs/{job}")),
        None => back(&headers, &format!("/schedules/{id}")),
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BackfillForm {
    from: String,
    to: String,
}

async fn backfill(
    asker: Asker,
    State(app): State<App>,
    request_id: Extension<RequestId>,
    Path(id): Path<i64>,
    Form(form): Form<BackfillForm>,
) -> Result<Redirect, ApiError> {
    let needed = |name: &str, text: &str| {
        field::<DateTime<Utc>>(name, text)?
            .ok_or_else(|| ApiError::bad_request(format!("{name} is empty; write 2030-01-02T03:04:05Z")))
    };
    let range = BackfillRequest { from: needed("from", &form.from)?, to: needed("to", &form.to)? };
    let Json(_) = api::backfill(asker.allow(&app).await?, State(app), request_id, Path(id), Json(range)).await?;
    Ok(Redirect::to(&format!("/schedules/{id}")))
}

async fn delete(asker: Asker, State(app): State<App>, Path(id): Path<i64>) -> Result<Redirect, ApiError> {
    let Json(_) = api::delete(asker.allow(&app).await?, State(app), Path(id), Query(DeleteQuery::default())).await?;
    Ok(Redirect::to("/schedules"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_are_said_in_words() {
        assert_eq!(rule_text(&json!({"every_secs": 60})), "every 60 s");
        assert_eq!(
            rule_text(&json!({"cron": {"expression": "0 9 * * *", "zone": "Europe/Berlin"}})),
            "0 9 * * * (Europe/Berlin)"
        );
        assert_eq!(rule_text(&json!({"once": "2030-01-02T03:04:05Z"})), "once at 2030-01-02T03:04:05Z");
        assert_eq!(rule_text(&json!({"lunar": 1})), r#"{"lunar":1}"#);
    }
}

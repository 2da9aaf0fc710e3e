//! Customers: the list, and one customer's whole: connections, streams, quota, groups, anomalies, schedules, and one
//! timeline of its jobs and of what happened to its connections; and what is done to them.

use super::{
    ROWS, WhyForm, anomalies::AnomalyView, back, groups::GroupView, limits::BudgetView, render, schedules::ScheduleView,
};
use crate::{
    App,
    allowed::Asker,
    api::{accounts as api, authorise, budgets, connections, groups, jobs, others, pauses, schedules},
    caller::Caller,
    chart::{Bar, day},
    error::ApiError,
    gate::RequestId,
    sight,
    view::{BarView, JobView, PauseView, When, grouped, span, url_of, when},
};
use askama::Template;
use axum::{
    Extension, Form, Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use chrono::{DateTime, SecondsFormat, Utc};
use domain::{AccountId, PauseTarget, action};
use manager_api::{
    Account, AuditEntry, AuthoriseRequest, ChangeQuery, Connection, ConnectionEvent, GroupQuery, Job, JobQuery,
    MinuteQuery, PageQuery, ScheduleQuery, Stream, StreamQuery, WeightRequest,
};
use serde::Deserialize;
use std::cmp::Reverse;

/// Connections whose quota and events are shown, the newest.
const CONNECTIONS_MAX: usize = 5;
/// Events of one connection in the timeline, and jobs.
const EVENTS_MAX: i64 = 20;
const JOBS_MAX: i64 = 20;
const GROUPS_MAX: i64 = 5;
const SCHEDULES_MAX: i64 = 20;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/accounts", get(list))
        .route("/accounts/{id}", get(one))
        .route("/accounts/{id}/weight", post(weight))
        .route("/accounts/{id}/connect", post(connect))
        .route("/connections/{id}/sync", post(sync))
        .route("/connections/{id}/{act}", post(change))
}

#[derive(Template)]
#[template(path = "consent.html")]
struct ConsentPage {
    url: String,
}

struct AccountView {
    row: Account,
    created: When,
}

#[derive(Template)]
#[template(path = "accounts.html")]
struct AccountsPage {
    accounts: Vec<AccountView>,
    next: Option<String>,
}

/// A connection with its quota.
struct ConnectionView {
    since: When,
    budget: Option<BudgetView>,
    /// The quota over the last day: used, of all.
    bars: Vec<Bar>,
    row: Connection,
}

impl ConnectionView {
    /// The chosen objects, as the form takes them.
    fn objects(&self) -> String {
        self.row.objects.join(", ")
    }
}

struct StreamView {
    /// Every change before is here.
    cursor: Option<String>,
    lag: String,
    synced: Option<When>,
    bar: Option<BarView>,
    left: Option<String>,
    row: Stream,
}

/// The states in which a connection waits for a person.
pub(crate) const CONNECTION_STATES_BAD: [&str; 2] = ["needs_reauth", "parked"];

/// One thing that happened.
struct Happening {
    at: When,
    what: String,
    state: &'static str,
    url: Option<String>,
    text: String,
}

#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage {
    row: Account,
    created: When,
    pause: Option<PauseView>,
    can_connect: bool,
    can_create: bool,
    /// It is a customer's, and not looked at already.
    can_assume: bool,
    connections: Vec<ConnectionView>,
    streams: Vec<StreamView>,
    streams_next: Option<String>,
    groups: Vec<GroupView>,
    anomalies: Vec<AnomalyView>,
    schedules: Vec<ScheduleView>,
    timeline: Vec<Happening>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ListQuery {
    before: Option<i64>,
    /// An account's id or a word of its name, typed in.
    id: Option<String>,
}

async fn list(asker: Asker, State(app): State<App>, Query(query): Query<ListQuery>) -> Result<Response, ApiError> {
    if let Some(text) = query.id.as_deref().map(str::trim).filter(|text| !text.is_empty()) {
        let name = || url_of("/find", &[("text", Some(text.to_owned()))]);
        let url = text.parse::<i64>().map_or_else(|_| name(), |id| format!("/accounts/{id}"));
        return Ok(Redirect::to(&url).into_response());
    }
    let now = app.store.now();
    let page = PageQuery { before: query.before, limit: Some(ROWS) };
    let Json(page) = others::accounts(asker.allow(&app).await?, State(app), Query(page)).await?;
    let view = |row: Account| AccountView { created: when(row.created_at, now), row };
    render(&AccountsPage {
        accounts: page.accounts.into_iter().map(view).collect(),
        next: page.next_before.map(|before| url_of("/accounts", &[("before", Some(before.to_string()))])),
    })
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OneQuery {
    streams_after: Option<String>,
}

async fn one(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    Query(query): Query<OneQuery>,
) -> Result<Response, ApiError> {
    let now = app.store.now();
    let account = AccountId(id);
    let Json(detail) = api::show(asker.allow(&app).await?, State(app.clone()), Path(id)).await?;
    let asked = StreamQuery { after: query.streams_after, limit: Some(ROWS) };
    let Json(streams) = api::streams(asker.allow(&app).await?, State(app.clone()), Path(id), Query(asked)).await?;
    let asked = GroupQuery { account: Some(id), limit: Some(GROUPS_MAX), ..GroupQuery::default() };
    // Account 0 is the system: its groups are in no account's list.
    let groups = if id == 0 {
        Vec::new()
    } else {
        groups::list(asker.allow(&app).await?, State(app.clone()), Query(asked)).await?.0.groups
    };
    let mut happened: Vec<(DateTime<Utc>, Happening)> = jobs_of(&asker, &app, account, now).await?;
    let mut views = Vec::new();
    for (at, row) in detail.connections.into_iter().enumerate() {
        let mut view = ConnectionView { since: when(row.state_since, now), budget: None, bars: Vec::new(), row };
        if at < CONNECTIONS_MAX {
            let connection = view.row.id;
            happened.extend(events_of(&asker, &app, &view.row, now).await?);
            let query = Query(MinuteQuery { before: None, limit: Some(1) });
            let budget = budgets::show(asker.allow(&app).await?, State(app.clone()), Path(connection), query).await;
            match budget {
                Ok(Json(budget)) => {
                    let quarters: Vec<_> = budget.day.iter().map(|m| (m.minute, m.used, m.maximum)).collect();
                    view.bars = day(&quarters, now);
                    view.budget = Some(BudgetView::new(budget.budget, now));
                }
                // No vendor has spoken of one.
                Err(error) if error.status == StatusCode::NOT_FOUND => {}
                Err(error) => return Err(error),
            }
        }
        views.push(view);
    }
    let asked = ScheduleQuery { account: Some(id), limit: Some(SCHEDULES_MAX), ..ScheduleQuery::default() };
    let Json(planned) = schedules::list(asker.allow(&app).await?, State(app.clone()), Query(asked)).await?;
    happened.extend(changes_of(&asker, &app, account, now).await?);
    happened.sort_by_key(|(at, _)| Reverse(*at));
    let paused = pauses::pause_in_force(&asker.allow(&app).await?, &app, &PauseTarget::Account(account)).await?;
    render(&AccountPage {
        created: when(detail.account.created_at, now),
        pause: paused.map(|row| PauseView::new(&row, now)),
        can_connect: app.connect.is_some() && id != 0,
        can_create: app.connect.is_some() && id != 0 && asker.may::<action::CreateConnection>(),
        can_assume: id != 0 && asker.may::<action::AssumeAccount>(),
        connections: views,
        streams_next: streams
            .next_after
            .map(|after| url_of(&format!("/accounts/{id}"), &[("streams_after", Some(after))])),
        streams: streams.streams.into_iter().map(|row| stream_view(row, now)).collect(),
        groups: groups.into_iter().map(|row| GroupView::new(row, now)).collect(),
        anomalies: detail.anomalies.into_iter().map(|row| AnomalyView::new(row, now)).collect(),
        schedules: planned.schedules.into_iter().map(|row| ScheduleView::new(row, now)).collect(),
        timeline: happened.into_iter().map(|(_, happening)| happening).collect(),
        row: detail.account,
    })
}

fn stream_view(row: Stream, now: DateTime<Utc>) -> StreamView {
    let number = |rows: i64| u64::try_from(rows).unwrap_or(0);
    let bar = row.rows_seen.map(|seen| BarView {
        done: number(seen),
        total: row.rows_expected.map(number).filter(|rows| *rows > 0),
        count: row.rows_expected.map_or_else(|| grouped(seen), |all| format!("{} / {}", grouped(seen), grouped(all))),
        message: String::new(),
    });
    StreamView {
        cursor: row.watermark.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true)),
        lag: row.lag_secs.map_or_else(|| "never read".to_owned(), span),
        synced: row.synced_at.map(|at| when(at, now)),
        bar,
        left: row.left_secs.map(|secs| format!("{} left", span(secs))),
        row,
    }
}

/// The account's latest jobs as things that happened.
async fn jobs_of(
    asker: &Asker,
    app: &App,
    account: AccountId,
    now: DateTime<Utc>,
) -> Result<Vec<(DateTime<Utc>, Happening)>, ApiError> {
    let (account, limit) = (Some(account.to_string()), Some(JOBS_MAX.to_string()));
    let query = Query(JobQuery { account, limit, ..JobQuery::default() });
    let Json(page) = jobs::list(asker.allow(app).await?, State(app.clone()), query).await?;
    let happening = |row: &Job| {
        let at = row.finished_at.or(row.claimed_at).unwrap_or(row.created_at);
        let job = JobView::new(row, now);
        let text = job.bar.map(|bar| format!("{} {}", bar.count, bar.message)).unwrap_or_default();
        let (what, url) = (format!("{} {}", job.kind, job.id), Some(format!("/jobs/{}", job.id)));
        (at, Happening { at: when(at, now), what, state: job.state, url, text })
    };
    Ok(page.jobs.iter().map(happening).collect())
}

/// What happened to a connection.
async fn events_of(
    asker: &Asker,
    app: &App,
    connection: &Connection,
    now: DateTime<Utc>,
) -> Result<Vec<(DateTime<Utc>, Happening)>, ApiError> {
    let Json(detail) = connections::show(asker.allow(app).await?, State(app.clone()), Path(connection.id)).await?;
    let happening = |event: ConnectionEvent| {
        let what = format!("connection {}: {}", connection.id, event.what);
        let text = if event.reason.is_empty() { event.by } else { format!("{}: {}", event.by, event.reason) };
        (event.at, Happening { at: when(event.at, now), what, state: "event", url: None, text })
    };
    let most = usize::try_from(EVENTS_MAX).unwrap_or(usize::MAX);
    Ok(detail.events.into_iter().take(most).map(happening).collect())
}

/// What people changed of what decides how the account's jobs go. Whoever may not read the audit reads of none.
async fn changes_of(
    asker: &Asker,
    app: &App,
    account: AccountId,
    now: DateTime<Utc>,
) -> Result<Vec<(DateTime<Utc>, Happening)>, ApiError> {
    if account == AccountId::SYSTEM || !asker.may::<action::ReadAudit>() {
        return Ok(Vec::new());
    }
    let (id, query) = (Path(account.0), Query(ChangeQuery::default()));
    let Json(list) = api::changes(asker.allow(app).await?, State(app.clone()), id, query).await?;
    let happening = |entry: AuditEntry| {
        let changes = entry.changes().join(", ");
        let said = [entry.reason.as_str(), &changes].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
        let by = if said.is_empty() { entry.actor.clone() } else { format!("{}: {}", entry.actor, said.join("; ")) };
        let text = sight::words(by);
        let what = sight::words(format!("{}: {}", entry.deed(), entry.thing()));
        (entry.at, Happening { at: when(entry.at, now), what, state: "event", url: None, text })
    };
    Ok(list.changes.into_iter().map(happening).collect())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WeightForm {
    weight: i16,
    #[serde(default)]
    by: String,
    reason: String,
}

async fn weight(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
    Form(form): Form<WeightForm>,
) -> Result<Redirect, ApiError> {
    let request = WeightRequest { weight: form.weight, reason: form.reason, by: super::name(&form.by) };
    let Json(_) = others::set_weight(asker.allow(&app).await?, State(app), Path(id), Json(request)).await?;
    Ok(back(&headers, &format!("/accounts/{id}")))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ConnectForm {
    /// One that exists; empty: a new one.
    connection: String,
}

/// To where the browser begins to consent; not by a redirect, since browsers hold the redirects of a form against the
/// policy's `form-action` too, and those end at the vendor.
async fn connect(
    asker: Asker,
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<i64>,
    Form(form): Form<ConnectForm>,
) -> Result<Response, ApiError> {
    let connection_id = super::field("connection", &form.connection)?;
    let request = AuthoriseRequest { account_id: id, vendor: crate::connect::VENDOR.to_owned(), connection_id };
    let Json(reply) = authorise::authorise(asker.allow(&app).await?, State(app), caller, Json(request)).await?;
    let refresh = HeaderValue::try_from(format!("0; url={}", reply.url))
        .map_err(|_| ApiError::conflict("connect.public_url is no address of the web"))?;
    let mut page = render(&ConsentPage { url: reply.url })?;
    page.headers_mut().insert(header::REFRESH, refresh);
    Ok(page)
}

/// To the job that syncs.
async fn sync(
    asker: Asker,
    State(app): State<App>,
    request_id: Extension<RequestId>,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> Result<Redirect, ApiError> {
    let (_, Json(reply)) = api::sync(asker.allow(&app).await?, State(app), request_id, Path(id)).await?;
    Ok(reply.id.map_or_else(|| back(&headers, "/accounts"), |job| Redirect::to(&format!("/jobs/{job}"))))
}

async fn change(
    asker: Asker,
    State(app): State<App>,
    Path((id, act)): Path<(i64, String)>,
    headers: HeaderMap,
    Form(form): Form<WhyForm>,
) -> Result<Redirect, ApiError> {
    let (at, id, request) = (State(app.clone()), Path(id), Json(form.into()));
    let Json(detail) = match act.as_str() {
        "reauthorised" => connections::reauthorised(asker.allow(&app).await?, at, id, request).await?,
        "park" => connections::park(asker.allow(&app).await?, at, id, request).await?,
        "disable" => connections::disable(asker.allow(&app).await?, at, id, request).await?,
        "enable" => connections::enable(asker.allow(&app).await?, at, id, request).await?,
        other => return Err(ApiError::not_found(format!("'{other}' is nothing that is done with a connection"))),
    };
    Ok(back(&headers, &format!("/accounts/{}", detail.connection.account_id)))
}

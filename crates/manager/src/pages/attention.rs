//! What needs a person, as the overview lists it: what operators hold by hand, connections, services, customers' data; each
//! with why, and with who is behind it. Does not own what is done about it, nor how much of it there may be.

use super::accounts::CONNECTION_STATES_BAD;
use crate::{
    App,
    allowed::Asker,
    api::{anomalies, breakers, connections, schedules},
    error::ApiError,
    view::{When, encode, when},
};
use axum::{
    Json,
    extract::{Query, State},
};
use chrono::{DateTime, Utc};
use domain::{ConnectionId, PauseTarget};
use manager_api::{AnomalyQuery, Breaker, BreakerQuery, Connection, ConnectionQuery, ScheduleQuery};
use store::PauseRow;

/// Shown of each sort of trouble, and of what operators hold back.
const TROUBLES_MAX: i64 = 5;
const HELD_MAX: usize = 10;
/// Breakers shown that are not simply closed.
const BREAKERS_MAX: i64 = 20;

/// One thing that needs a person.
pub(super) struct Attention {
    pub(super) what: String,
    pub(super) url: String,
    /// Whose it is, as " of account 7".
    pub(super) of: String,
    pub(super) class: String,
    pub(super) state: String,
    pub(super) since: When,
    /// Who did it; none: nobody in particular.
    pub(super) by: Option<String>,
    pub(super) why: String,
}

/// What operators hold back first, then what is broken: whoever looks may wonder about the second because of the first.
pub(super) async fn read(
    asker: &Asker,
    app: &App,
    pauses: &[PauseRow],
    now: DateTime<Utc>,
) -> Result<Vec<Attention>, ApiError> {
    let mut rows: Vec<Attention> = pauses.iter().take(HELD_MAX).map(|pause| of_pause(pause, now)).collect();
    let held = i64::try_from(HELD_MAX).unwrap_or(TROUBLES_MAX);
    let query = ScheduleQuery { paused: Some(true), limit: Some(held), ..ScheduleQuery::default() };
    let Json(page) = schedules::list(asker.allow(app).await?, State(app.clone()), Query(query)).await?;
    rows.extend(page.schedules.into_iter().filter_map(|schedule| {
        let since = when(schedule.paused_at?, now);
        Some(Attention {
            what: schedule.name,
            url: format!("/schedules/{}", schedule.id),
            of: " (schedule)".to_owned(),
            class: "paused".to_owned(),
            state: "paused".to_owned(),
            since,
            by: schedule.paused_by,
            why: schedule.paused_reason.unwrap_or_default(),
        })
    }));
    for state in CONNECTION_STATES_BAD {
        let query =
            ConnectionQuery { state: Some(state.to_owned()), limit: Some(TROUBLES_MAX), ..ConnectionQuery::default() };
        let Json(page) = connections::list(asker.allow(app).await?, State(app.clone()), Query(query)).await?;
        for row in page.connections {
            let allowed = asker.allow(app).await?;
            let latest = connections::events_of(&allowed, app, ConnectionId(row.id), 1).await?;
            rows.push(of_connection(row, latest.into_iter().next().map(|event| event.by), now));
        }
    }
    let query = BreakerQuery { troubled: Some(true), limit: Some(BREAKERS_MAX), ..BreakerQuery::default() };
    let Json(page) = breakers::list(asker.allow(app).await?, State(app.clone()), Query(query)).await?;
    rows.extend(page.breakers.into_iter().map(|row| of_breaker(row, now)));
    let query = AnomalyQuery {
        state: Some("open".to_owned()),
        severity: Some("warning".to_owned()),
        limit: Some(TROUBLES_MAX),
        ..AnomalyQuery::default()
    };
    let Json(page) = anomalies::list(asker.allow(app).await?, State(app.clone()), Query(query)).await?;
    rows.extend(page.anomalies.into_iter().map(|row| Attention {
        what: format!("anomaly {}", row.id),
        url: format!("/anomalies/{}", row.id),
        of: format!(" of account {}", row.account_id),
        class: row.severity.clone(),
        state: row.severity,
        since: when(row.first_seen_at, now),
        by: None,
        why: row.summary,
    }));
    Ok(rows)
}

fn of_pause(pause: &PauseRow, now: DateTime<Utc>) -> Attention {
    let url = match &pause.target {
        PauseTarget::Everything | PauseTarget::Connection(_) | PauseTarget::Unknown { .. } => "/limits".to_owned(),
        PauseTarget::Kind(kind) => format!("/servants?kind={}", encode(kind.as_str())),
        PauseTarget::Account(id) => format!("/accounts/{id}"),
        PauseTarget::Group(id) => format!("/groups/{id}"),
    };
    Attention {
        what: pause.target.to_string(),
        url,
        of: String::new(),
        class: "paused".to_owned(),
        state: "paused".to_owned(),
        since: when(pause.paused_at, now),
        by: Some(pause.paused_by.clone()),
        why: pause.reason.clone(),
    }
}

fn of_connection(row: Connection, by: Option<String>, now: DateTime<Utc>) -> Attention {
    Attention {
        what: format!("connection {}", row.id),
        url: format!("/accounts/{}", row.account_id),
        of: format!(" of account {}", row.account_id),
        class: row.state.clone(),
        state: row.state,
        since: when(row.state_since, now),
        by,
        why: row.state_reason.unwrap_or_default(),
    }
}

/// Where somebody holds it, that is the reason, not what the outcomes say.
fn of_breaker(row: Breaker, now: DateTime<Utc>) -> Attention {
    let (class, state, since, by, why) = match (row.forced, row.forced_at) {
        (Some(forced), Some(at)) => {
            (forced.clone(), format!("held {forced}"), at, row.forced_by, row.forced_reason.unwrap_or_default())
        }
        _ => (row.state.clone(), row.state, row.since, None, row.reason),
    };
    Attention {
        what: "circuit".to_owned(),
        url: "/limits".to_owned(),
        of: format!(" of {}", row.service),
        class,
        state,
        since: when(since, now),
        by,
        why,
    }
}

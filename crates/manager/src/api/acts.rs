//! What operators did by hand, over HTTP. That it is noted is the ledger's: with the deed, or not at all.

use crate::{
    App,
    error::ApiError,
    filter::{limit_of, words},
};
use axum::{
    Json,
    extract::{Query, State},
};
use manager_api::{Act, ActPage, ActQuery, ByWhom, ErrorEnvelope};
use store::{OperatorAct, Who};

/// Acts shown with a job.
pub(super) const ACTS_MAX: i64 = 50;

/// Lists what operators did, the latest first: with one thing, or with all.
#[utoipa::path(get, path = "/api/v1/acts", tag = "acts", params(ActQuery),
    responses((status = 200, body = ActPage), (status = 400, body = ErrorEnvelope)))]
pub(crate) async fn list(State(app): State<App>, Query(query): Query<ActQuery>) -> Result<Json<ActPage>, ApiError> {
    let limit = limit_of(query.limit)?;
    let of = match (&query.subject, &query.key) {
        (Some(subject), Some(key)) => Some((subject.as_str(), key.as_str())),
        (None, None) => None,
        _ => return Err(ApiError::bad_request("subject and key go together")),
    };
    let rows = app.store.operator_acts(of, query.before, limit).await?;
    let is_full = i64::try_from(rows.len()).is_ok_and(|rows| rows == limit);
    let next_before = rows.last().filter(|_| is_full).map(|row| row.id);
    Ok(Json(ActPage { acts: rows.into_iter().map(act_of).collect(), next_before }))
}

pub(super) fn act_of(row: OperatorAct) -> Act {
    let OperatorAct { id, subject, key, what, by, reason, at } = row;
    Act { id, subject, key, what, by, reason, at }
}

/// Who does it and why, as far as it is said.
pub(crate) fn who_of(said: &ByWhom) -> Result<Who<'_>, ApiError> {
    let by = given("by", &said.by)?.unwrap_or("unknown");
    let reason = given("reason", &said.reason)?.unwrap_or_default();
    Ok(Who { by, reason })
}

fn given<'a>(name: &str, text: &'a Option<String>) -> Result<Option<&'a str>, ApiError> {
    text.as_deref().filter(|text| !text.trim().is_empty()).map(|text| words(name, text)).transpose()
}

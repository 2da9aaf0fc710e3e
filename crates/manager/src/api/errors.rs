//! Groups of errors over HTTP: list, show. Their jobs are found by `error:<fingerprint>`, and retried by a bulk operation.

use crate::{App, allowed::Allowed, error::ApiError, sight};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use chrono::DateTime;
use domain::{Fingerprint, action};
use manager_api::{ErrorEnvelope, ErrorGroup, ErrorPage, ErrorQuery};
use store::{ERROR_GROUPS_MAX, ErrorFilter, ErrorGroupRow};

/// Lists groups of errors, those seen last first.
#[utoipa::path(get, path = "/api/v1/errors", tag = "errors", params(ErrorQuery),
    responses((status = 200, body = ErrorPage), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn list(
    _: Allowed<action::ReadErrors>,
    State(app): State<App>,
    Query(query): Query<ErrorQuery>,
) -> Result<Json<ErrorPage>, ApiError> {
    let limit = query.limit.unwrap_or(ERROR_GROUPS_MAX);
    if !(1..=ERROR_GROUPS_MAX).contains(&limit) {
        return Err(ApiError::bad_request(format!("limit is {limit}, not between 1 and {ERROR_GROUPS_MAX}")));
    }
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let before = given(query.before).map(|text| before_of(&text)).transpose()?;
    let filter = ErrorFilter { kind: given(query.kind), class: given(query.class), before };
    let place = |at: DateTime<chrono::Utc>, fingerprint: &str| format!("{}/{fingerprint}", at.timestamp_micros());
    if let Some(text) = given(query.text).filter(|text| !text.trim().is_empty()) {
        let text = crate::filter::words("text", &text)?;
        let found = app.store.search_errors(&filter, text, limit).await?;
        let next_before = found.next_before.map(|(at, fingerprint)| place(at, &fingerprint));
        return Ok(Json(ErrorPage { errors: found.groups.into_iter().map(group_of).collect(), next_before }));
    }
    let rows = app.store.list_errors(&filter, limit).await?;
    let next_before = crate::filter::next_of(&rows, limit, |row| place(row.last_seen_at, &row.fingerprint));
    Ok(Json(ErrorPage { errors: rows.into_iter().map(group_of).collect(), next_before }))
}

/// Shows one group of errors.
#[utoipa::path(get, path = "/api/v1/errors/{fingerprint}", tag = "errors",
    params(("fingerprint" = String, Path, description = "The group")),
    responses((status = 200, body = ErrorGroup), (status = 404, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn show(
    _: Allowed<action::ReadErrors>,
    State(app): State<App>,
    Path(fingerprint): Path<String>,
) -> Result<Json<ErrorGroup>, ApiError> {
    let missing = || ApiError::not_found(format!("there is no group of errors {fingerprint}"));
    let parsed: Fingerprint = fingerprint.parse().map_err(|_| missing())?;
    Ok(Json(group_of(app.store.find_error(&parsed).await?.ok_or_else(missing)?)))
}

fn before_of(text: &str) -> Result<(DateTime<chrono::Utc>, String), ApiError> {
    let parsed = text.split_once('/').and_then(|(at, fingerprint)| {
        Some((DateTime::from_timestamp_micros(at.parse().ok()?)?, fingerprint.to_owned()))
    });
    parsed.ok_or_else(|| ApiError::bad_request("before is not what a page before this one ended with"))
}

pub(crate) fn group_of(row: ErrorGroupRow) -> ErrorGroup {
    ErrorGroup {
        is_spike: row.is_spike(),
        fingerprint: row.fingerprint,
        kind: row.kind,
        class: row.class,
        title: sight::words(row.title),
        error: sight::words(row.error),
        job_id: row.job_id,
        first_seen_at: row.first_seen_at,
        last_seen_at: row.last_seen_at,
        first_version: row.first_version,
        last_version: row.last_version,
        attempts: row.attempts,
        failed: row.failed.max(0),
        hours: row.hours,
    }
}

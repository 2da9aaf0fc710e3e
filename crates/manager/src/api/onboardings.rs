//! Onboardings over HTTP: the groups of what a customer's connection reads for the first time.

use super::groups::detail_of;
use crate::{App, allowed::Allowed, error::ApiError};
use axum::{
    Json,
    extract::{Query, State},
};
use chrono::TimeDelta;
use domain::{Kind, action};
use manager_api::{ErrorEnvelope, OnboardingList, OnboardingQuery};

/// The kind whose jobs make a group of what they read for the first time.
const KIND: &str = "salesforce_sync";
/// Of those that go on, and of those that have ended, unless said and at the most.
const SHOWN: i64 = 3;
const SHOWN_MAX: i64 = 10;
/// Ended so many hours ago at the most.
const ENDED_HOURS_MAX: i64 = 24;
/// Unfinished members that are read of all of them together, for their progress.
const MEMBERS_MAX: i64 = 360;

/// Lists onboardings with their progress: those that go on, newest first, then those that ended within a day.
#[utoipa::path(get, path = "/api/v1/onboardings", tag = "onboardings", params(OnboardingQuery),
    responses((status = 200, body = OnboardingList), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn list(
    _: Allowed<action::ReadGroups>,
    State(app): State<App>,
    Query(query): Query<OnboardingQuery>,
) -> Result<Json<OnboardingList>, ApiError> {
    let limit = query.limit.unwrap_or(SHOWN);
    if !(1..=SHOWN_MAX).contains(&limit) {
        return Err(ApiError::bad_request(format!("limit is {limit}, not between 1 and {SHOWN_MAX}")));
    }
    let kind = Kind::new(KIND).map_err(|error| ApiError::conflict(error.to_string()))?;
    let ended_since = app.store.now() - TimeDelta::hours(ENDED_HOURS_MAX);
    let mut onboardings = Vec::new();
    for row in app.store.groups_made_by(&kind, ended_since, limit).await? {
        let progress = app.store.group_progress_of(&row, MEMBERS_MAX / (2 * limit)).await?;
        onboardings.push(detail_of(row, progress));
    }
    Ok(Json(OnboardingList { onboardings }))
}

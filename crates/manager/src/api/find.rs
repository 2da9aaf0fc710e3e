//! What a bare text may stand for, over HTTP: a job, a kind, an account, a unique key, an error. Each look is bounded; whoever
//! knows what they look for says so with a word of the search (`filter`).

use super::{errors, jobs::summary_of, others};
use crate::{App, allowed::Allowed, error::ApiError, filter::words};
use axum::{
    Json,
    extract::{Query, State},
};
use domain::{AccountId, JobId, action};
use manager_api::{ErrorEnvelope, ErrorQuery, FindQuery, Found};

/// Shown of each sort.
const EACH_MAX: usize = 10;

/// Finds what a text may stand for: a job, a kind, an account, a unique key, an error.
#[utoipa::path(get, path = "/api/v1/find", tag = "jobs", params(FindQuery),
    responses((status = 200, body = Found), (status = 400, body = ErrorEnvelope),
              (status = 403, body = ErrorEnvelope)))]
pub(crate) async fn find(
    _: Allowed<action::ReadJobs>,
    _: Allowed<action::ReadAccounts>,
    read_errors: Allowed<action::ReadErrors>,
    read_stats: Allowed<action::ReadStats>,
    State(app): State<App>,
    Query(query): Query<FindQuery>,
) -> Result<Json<Found>, ApiError> {
    let text = words("text", &query.text)?;
    let most = i64::try_from(EACH_MAX).unwrap_or(i64::MAX);
    let id: Option<i64> = text.parse().ok();
    let mut every: Vec<String> = others::counts(&read_stats, &app).await?.into_iter().map(|row| row.kind).collect();
    every.sort_unstable();
    every.dedup();
    let mut jobs = app.store.jobs_of_key(&every, text, most).await?;
    let mut accounts = app.store.accounts_named(text, most).await?;
    for account in app.store.accounts_with_word(text, most).await? {
        if accounts.len() < EACH_MAX && !accounts.contains(&account) {
            accounts.push(account);
        }
    }
    if let Some(id) = id {
        jobs.extend(app.store.find_job(JobId(id)).await?);
        accounts.extend(app.store.find_account(AccountId(id)).await?);
    }
    let lower = text.to_lowercase();
    let asked = ErrorQuery { text: Some(text.to_owned()), limit: Some(most), ..ErrorQuery::default() };
    let Json(errors) = errors::list(read_errors, State(app), Query(asked)).await?;
    Ok(Json(Found {
        jobs: jobs.iter().map(summary_of).collect(),
        kinds: every.into_iter().filter(|kind| kind.contains(&lower)).take(EACH_MAX).collect(),
        accounts: accounts.into_iter().map(others::account_of).collect(),
        errors: errors.errors,
        has_more_errors: errors.next_before.is_some(),
    }))
}

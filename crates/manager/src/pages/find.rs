//! What a bare text may stand for: a job, a kind, an account, a unique key, an error; and straight to it where it is one thing.

use super::{errors::ErrorView, jobs::search_url, render};
use crate::{
    App,
    allowed::Asker,
    api::find as api,
    error::ApiError,
    view::{JobView, url_of},
};
use askama::Template;
use axum::{
    Json, Router,
    extract::{Query, State},
    response::{IntoResponse as _, Redirect, Response},
    routing::get,
};
use domain::{Kind, Search};
use manager_api::{Account, FindQuery, Found};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/find", get(show))
}

#[derive(Template)]
#[template(path = "find.html")]
struct FindPage {
    text: String,
    jobs: Vec<JobView>,
    /// Their names, and where their jobs are.
    kinds: Vec<(String, String)>,
    accounts: Vec<Account>,
    errors: Vec<ErrorView>,
    /// Where all of them are.
    errors_url: Option<String>,
}

async fn show(asker: Asker, State(app): State<App>, Query(query): Query<FindQuery>) -> Result<Response, ApiError> {
    let now = app.store.now();
    let text = query.text.trim().to_owned();
    let (jobs, accounts) = (asker.allow(&app).await?, asker.allow(&app).await?);
    let (errors, stats) = (asker.allow(&app).await?, asker.allow(&app).await?);
    let Json(found) = api::find(jobs, accounts, errors, stats, State(app), Query(query)).await?;
    if let Some(url) = only_one(&found, &text) {
        return Ok(Redirect::to(&url).into_response());
    }
    render(&FindPage {
        jobs: found.jobs.iter().map(|job| JobView::new(job, now)).collect(),
        kinds: found.kinds.into_iter().map(|kind| (kind.clone(), kind_url(&kind))).collect(),
        accounts: found.accounts,
        errors: found.errors.into_iter().map(|row| ErrorView::new(row, now)).collect(),
        errors_url: found.has_more_errors.then(|| errors_url(&text)),
        text,
    })
}

fn kind_url(kind: &str) -> String {
    search_url(&Search { kind: Kind::new(kind).ok(), ..Search::default() })
}

fn errors_url(text: &str) -> String {
    url_of("/errors", &[("text", Some(text.to_owned()))])
}

/// The address of what was found, if that is of one sort alone, and of all but errors only one. Where nothing was found at
/// all, errors are, since there may be older ones.
fn only_one(found: &Found, text: &str) -> Option<String> {
    match (&found.jobs[..], &found.kinds[..], &found.accounts[..]) {
        ([], [], []) => Some(errors_url(text)),
        ([job], [], []) if found.errors.is_empty() => Some(format!("/jobs/{}", job.id)),
        ([], [kind], []) if found.errors.is_empty() => Some(kind_url(kind)),
        ([], [], [account]) if found.errors.is_empty() => Some(format!("/accounts/{}", account.id)),
        _ => None,
    }
}

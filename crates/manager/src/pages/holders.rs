//! Who holds a limit: how many of the jobs under it are whose, with the way to them.

use super::{jobs::search_url, render};
use crate::{App, allowed::Asker, api::limits as api, error::ApiError, view::grouped};
use askama::Template;
use axum::{
    Json, Router,
    extract::{Query, State},
    response::Response,
    routing::get,
};
use domain::{AccountId, JobState, Kind, Search};
use manager_api::{Holder, HolderQuery};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/holders", get(show))
}

/// Jobs of one kind, account and connection.
struct HolderView {
    row: Holder,
    jobs: String,
    url: String,
}

impl HolderView {
    fn new(row: Holder) -> Self {
        let search = Search {
            states: vec![JobState::Queued, JobState::Running],
            kind: Kind::new(&*row.kind).ok(),
            account: Some(AccountId(row.account_id)),
            ..Search::default()
        };
        Self { url: search_url(&search), jobs: grouped(row.jobs), row }
    }
}

#[derive(Template)]
#[template(path = "holders.html")]
struct HoldersPage {
    scope: String,
    key: String,
    holders: Vec<HolderView>,
    is_partial: bool,
}

async fn show(asker: Asker, State(app): State<App>, Query(query): Query<HolderQuery>) -> Result<Response, ApiError> {
    let (limits, jobs) = (asker.allow(&app).await?, asker.allow(&app).await?);
    let Json(list) = api::holders(limits, jobs, State(app), Query(query.clone())).await?;
    render(&HoldersPage {
        scope: query.scope.replace('_', " "),
        key: query.key.unwrap_or_default(),
        holders: list.holders.into_iter().map(HolderView::new).collect(),
        is_partial: list.is_partial,
    })
}

//! What operators did by hand, the latest first.

use super::render;
use crate::{
    App,
    api::acts as api,
    error::ApiError,
    view::{When, encode, when},
};
use askama::Template;
use axum::{
    Json, Router,
    extract::{Query, State},
    response::Response,
    routing::get,
};
use manager_api::{Act, ActQuery};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/acts", get(list))
}

struct ActView {
    at: When,
    act: Act,
}

#[derive(Template)]
#[template(path = "acts.html")]
struct ActsPage {
    acts: Vec<ActView>,
    next: Option<String>,
}

async fn list(State(app): State<App>, Query(query): Query<ActQuery>) -> Result<Response, ApiError> {
    let now = app.store.now();
    let Json(page) = api::list(State(app), Query(query.clone())).await?;
    let of = match (&query.subject, &query.key) {
        (Some(subject), Some(key)) => format!("&subject={}&key={}", encode(subject), encode(key)),
        _ => String::new(),
    };
    render(&ActsPage {
        next: page.next_before.map(|before| format!("/acts?before={before}{of}")),
        acts: page.acts.into_iter().map(|act| ActView { at: when(act.at, now), act }).collect(),
    })
}

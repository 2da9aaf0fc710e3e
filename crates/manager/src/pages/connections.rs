//! All customers' connections by state: who waits for a person, and since when. One customer's are on its own page.

use super::{ROWS, render};
use crate::{
    App,
    allowed::Asker,
    api::connections as api,
    error::ApiError,
    view::{Link, When, url_of, when},
};
use askama::Template;
use axum::{
    Json, Router,
    extract::{Query, State},
    response::Response,
    routing::get,
};
use manager_api::{Connection, ConnectionQuery};

pub(super) fn routes() -> Router<App> {
    Router::new().route("/connections", get(list))
}

struct ConnectionView {
    since: When,
    row: Connection,
}

#[derive(Template)]
#[template(path = "connections.html")]
struct ConnectionsPage {
    states: Vec<Link>,
    connections: Vec<ConnectionView>,
    next: Option<String>,
}

fn address(state: Option<&str>, before: Option<i64>) -> String {
    url_of("/connections", &[("state", state.map(str::to_owned)), ("before", before.map(|id| id.to_string()))])
}

async fn list(
    asker: Asker,
    State(app): State<App>,
    Query(mut query): Query<ConnectionQuery>,
) -> Result<Response, ApiError> {
    let now = app.store.now();
    query.limit = Some(ROWS);
    let state = query.state.clone().filter(|state| !state.is_empty());
    let Json(page) = api::list(asker.allow(&app).await?, State(app), Query(query)).await?;
    let link = |text: &str, of: Option<&str>| Link {
        text: text.to_owned(),
        url: address(of, None),
        is_current: state.as_deref() == of,
    };
    let mut states = vec![link("all", None)];
    states.extend(api::STATES.map(|name| link(name, Some(name))));
    render(&ConnectionsPage {
        states,
        connections: page
            .connections
            .into_iter()
            .map(|row| ConnectionView { since: when(row.state_since, now), row })
            .collect(),
        next: page.next_before.map(|before| address(state.as_deref(), Some(before))),
    })
}

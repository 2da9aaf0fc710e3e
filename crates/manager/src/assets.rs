//! The one style sheet and the one script, built into the program.

use crate::App;
use axum::{Router, http::header, response::IntoResponse, routing::get};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route(
            "/assets/servant.css",
            get(|| async { asset("text/css; charset=utf-8", include_str!("../assets/servant.css")) }),
        )
        .route(
            "/assets/servant.js",
            get(|| async { asset("text/javascript; charset=utf-8", include_str!("../assets/servant.js")) }),
        )
}

/// Changes with the program only, but has no version in its name: looked at again after a minute.
fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=60")], text)
}

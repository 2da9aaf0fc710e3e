//! What is chosen of customers' connections by forms: one that signs on in a user's name, and the objects of one. What else is
//! done with connections is on their account's page (`accounts`).

use super::{back, name};
use crate::{
    App,
    allowed::Asker,
    api::{authorise, connections},
    error::ApiError,
};
use axum::{
    Form, Json, Router,
    extract::{Path, State},
    http::HeaderMap,
    response::Redirect,
    routing::post,
};
use manager_api::{CreateConnection, ObjectsRequest};
use serde::Deserialize;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/accounts/{id}/connections", post(create))
        .route("/connections/{id}/objects", post(choose_objects))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateForm {
    username: String,
    /// Asked for only where nobody signs on.
    #[serde(default)]
    by: String,
    reason: String,
}

async fn create(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    Form(form): Form<CreateForm>,
) -> Result<Redirect, ApiError> {
    let request = CreateConnection {
        account_id: id,
        vendor: crate::connect::VENDOR.to_owned(),
        username: form.username,
        objects: Vec::new(),
        by: name(&form.by),
        reason: Some(form.reason),
    };
    let (_, Json(_)) = authorise::create(asker.allow(&app).await?, State(app), Json(request)).await?;
    Ok(Redirect::to(&format!("/accounts/{id}")))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ObjectsForm {
    /// Names with commas or blanks between them; none: the usual ones.
    objects: String,
    /// Asked for only where nobody signs on.
    #[serde(default)]
    by: String,
    reason: String,
}

async fn choose_objects(
    asker: Asker,
    State(app): State<App>,
    Path(id): Path<i64>,
    headers: HeaderMap,
    Form(form): Form<ObjectsForm>,
) -> Result<Redirect, ApiError> {
    let names = form.objects.split(|c: char| c == ',' || c.is_whitespace()).filter(|name| !name.is_empty());
    let objects = names.map(str::to_owned).collect();
    let request = ObjectsRequest { objects, reason: form.reason, by: name(&form.by) };
    let Json(detail) =
        connections::choose_objects(asker.allow(&app).await?, State(app), Path(id), Json(request)).await?;
    Ok(back(&headers, &format!("/accounts/{}", detail.connection.account_id)))
}

//! Owns what tests and scenarios ask of the simulated Salesforce's data over HTTP: changes by dice, damage, the digest.
//! Does not own how any of it is done.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::{get, post},
};
use chrono::{DateTime, Utc};

use super::{
    data_fault::{self, DataOrder, Struck},
    digest::{self, Digest},
    mutations::{self, Made, Mutations},
    service::Service,
};

/// The routes.
pub(super) fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/_mutations", post(mutate))
        .route("/_data_faults", post(strike))
        .route("/_settle", post(settle))
        .route("/_objects", get(objects))
        .route("/_digest/{object}", get(digest_of))
}

/// Runs on a thread that may wait: this takes as long as there are records.
async fn aside<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Result<T, StatusCode> {
    tokio::task::spawn_blocking(act).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

async fn mutate(State(service): State<Arc<Service>>, Json(asked): Json<Mutations>) -> Result<Json<Made>, StatusCode> {
    aside(move || mutations::run(&service, &asked, Utc::now())).await.map(Json)
}

async fn strike(
    State(service): State<Arc<Service>>,
    Json(order): Json<DataOrder>,
) -> Result<Json<Struck>, (StatusCode, String)> {
    let struck = aside(move || data_fault::strike(&service, &order, Utc::now())).await;
    let struck = struck.map_err(|status| (status, String::new()))?;
    struck.map(Json).map_err(|message| (StatusCode::BAD_REQUEST, message))
}

async fn settle(State(service): State<Arc<Service>>) {
    make_all_visible(&service);
}

/// What is late is seen from now on.
pub(super) fn make_all_visible(service: &Service) {
    service.settle(&mut service.write(), DateTime::<Utc>::MAX_UTC);
}

async fn objects(State(service): State<Arc<Service>>) -> Json<Vec<String>> {
    Json(service.read().objects.keys().cloned().collect())
}

async fn digest_of(
    State(service): State<Arc<Service>>,
    Path(object): Path<String>,
    Query(parameters): Query<HashMap<String, String>>,
) -> Result<Json<Digest>, StatusCode> {
    let fields: Option<Vec<String>> =
        parameters.get("fields").map(|fields| fields.split(',').map(str::to_owned).collect());
    let digest = aside(move || digest::of_object(&service, &object, fields.as_deref())).await?;
    digest.map(Json).ok_or(StatusCode::NOT_FOUND)
}

//! Owns what tests ask of the simulated Salesforce beside its protocol: failures, truth, counters, changes.
//! Does not own the protocol.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{delete, get},
};
use chrono::Utc;
use serde_json::{Map, Value as JsonValue};

use super::{
    fault::Order,
    mutate::{self, Mutated, Mutation},
    service::{Service, Stats},
    usage::{UsageChange, UsageSeen},
    values,
};

/// What a test asks beside failures and data.
pub(super) fn routes() -> Router<Arc<Service>> {
    Router::new()
        .route("/_faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/_stats", get(stats))
        .route("/_usage", get(usage).post(change_usage))
        .route("/_sessions", delete(end_sessions))
        .route("/_grants", delete(revoke_grants))
}

type Refused = (StatusCode, String);

async fn faults(State(service): State<Arc<Service>>) -> Json<Vec<Order>> {
    Json(service.with_faults(|faults| faults.pending()))
}

async fn add_fault(State(service): State<Arc<Service>>, Json(order): Json<Order>) {
    service.with_faults(|faults| faults.push(order));
}

async fn clear_faults(State(service): State<Arc<Service>>) {
    service.with_faults(super::fault::Faults::clear);
}

async fn stats(State(service): State<Arc<Service>>) -> Json<Stats> {
    Json(service.stats())
}

async fn usage(State(service): State<Arc<Service>>) -> Json<UsageSeen> {
    Json(service.usage_seen(Utc::now()))
}

async fn change_usage(State(service): State<Arc<Service>>, Json(change): Json<UsageChange>) -> Json<UsageSeen> {
    Json(service.change_usage(&change, Utc::now()))
}

async fn end_sessions(State(service): State<Arc<Service>>) {
    service.end_sessions();
}

async fn revoke_grants(State(service): State<Arc<Service>>) {
    service.revoke_grants();
}

pub(super) async fn truth(
    State(service): State<Arc<Service>>,
    Path(object): Path<String>,
) -> Result<String, StatusCode> {
    let records = truth_of(&service, &object).ok_or(StatusCode::NOT_FOUND)?;
    Ok(records.into_iter().map(|record| JsonValue::Object(record).to_string() + "\n").collect())
}

pub(super) async fn mutate(
    State(service): State<Arc<Service>>,
    Json(mutation): Json<Mutation>,
) -> Result<Json<Mutated>, Refused> {
    mutate::change(&service, &mutation, Utc::now()).map(Json).map_err(|message| (StatusCode::BAD_REQUEST, message))
}

/// Every record, the deleted ones too, with all fields as REST writes them; in the order of ids.
pub(super) fn truth_of(service: &Service, object: &str) -> Option<Vec<Map<String, JsonValue>>> {
    let organisation = service.read();
    let object = organisation.object(object)?;
    let places: Vec<usize> = (0..object.fields.len()).collect();
    let told = |record: &Arc<_>| {
        let mut json = Vec::new();
        values::write_record(&mut json, object, record, &places, None);
        serde_json::from_slice(&json).unwrap_or_default()
    };
    Some(object.records.values().map(told).collect())
}

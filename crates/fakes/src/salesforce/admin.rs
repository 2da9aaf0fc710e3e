//! Owns what tests ask of the simulated Salesforce beside its protocol: failures, truth, counters, changes.
//! Does not own the protocol.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use chrono::Utc;
use serde_json::{Map, Value as JsonValue};

use super::{
    fault::Order,
    mutate::{self, Mutated, Mutation},
    service::{Service, Stats},
    values,
};

type Refused = (StatusCode, String);

pub(super) async fn faults(State(service): State<Arc<Service>>) -> Json<Vec<Order>> {
    Json(service.with_faults(|faults| faults.pending()))
}

pub(super) async fn add_fault(State(service): State<Arc<Service>>, Json(order): Json<Order>) {
    service.with_faults(|faults| faults.push(order));
}

pub(super) async fn clear_faults(State(service): State<Arc<Service>>) {
    service.with_faults(super::fault::Faults::clear);
}

pub(super) async fn stats(State(service): State<Arc<Service>>) -> Json<Stats> {
    Json(service.stats())
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

//! Owns what tests ask of the simulated Salesforce beside its protocol: failures, truth, counters, changes.
//! Does not own the protocol.

use std::sync::{Arc, PoisonError};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{delete, get},
};
use chrono::{DateTime, NaiveDate, Timelike, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as JsonValue};

use super::{
    fault::Order,
    ids::id_for,
    organisation::{FieldType, Object, Value},
    service::{Service, Stats},
    usage::{UsageChange, UsageSeen},
};

/// A change of one object's records or fields.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mutation {
    /// The API name of the object.
    pub object: String,
    /// Field values; with `Id` they go over that record, without they make a new one. `IsDeleted: false` undeletes.
    pub upsert: Vec<Map<String, JsonValue>>,
    /// Ids that go to the recycle bin.
    pub delete: Vec<String>,
    /// Ids that vanish without a trace.
    pub purge: Vec<String>,
    /// Fields that nobody may see from now on.
    pub hide_fields: Vec<String>,
    /// Hidden fields that can be seen again.
    pub show_fields: Vec<String>,
    /// When the change is said to have happened; without it, now.
    pub system_modstamp: Option<DateTime<Utc>>,
}

/// What a [`Mutation`] did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mutated {
    /// The ids written, in the order of `upsert`.
    pub upserted: Vec<String>,
    /// The `SystemModstamp` of what was written, in whole seconds.
    pub system_modstamp: DateTime<Utc>,
}

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
    change(&service, &mutation, Utc::now()).map(Json).map_err(|message| (StatusCode::BAD_REQUEST, message))
}

/// Every record, the deleted ones too, with all fields as REST writes them; in the order of ids.
pub(super) fn truth_of(service: &Service, object: &str) -> Option<Vec<Map<String, JsonValue>>> {
    let organisation = service.read();
    let object = organisation.object(object)?;
    let wire = |record: &Arc<_>| {
        let fields = object.fields.iter().enumerate();
        fields.map(|(place, field)| (field.name.clone(), object.wire_value(record, place))).collect()
    };
    Some(object.records.values().map(wire).collect())
}

/// Does all of it or, if something in it is wrong, nothing.
pub(super) fn change(service: &Service, mutation: &Mutation, now: DateTime<Utc>) -> Result<Mutated, String> {
    let now = mutation.system_modstamp.unwrap_or(now);
    let now = now.with_nanosecond(0).unwrap_or(now);
    let mut organisation = service.organisation.write().unwrap_or_else(PoisonError::into_inner);
    let object =
        organisation.objects.get_mut(&mutation.object).ok_or_else(|| format!("no object {}", mutation.object))?;
    let mut puts = Vec::new();
    for (index, fields) in mutation.upsert.iter().enumerate() {
        let id = match fields.get("Id") {
            Some(id) => id.as_str().ok_or("Id is not text")?.to_owned(),
            None => new_id(object, index),
        };
        let values = fields.iter().filter(|(name, _)| *name != "Id").map(|(name, json)| {
            let place = object.place(name).ok_or_else(|| format!("no field {name}"))?;
            let value =
                from_json(object.fields[place].field_type, json).ok_or_else(|| format!("{name} cannot be {json}"))?;
            Ok((place, value))
        });
        puts.push((id, values.collect::<Result<Vec<_>, String>>()?));
    }
    if let Some(id) = mutation.delete.iter().chain(&mutation.purge).find(|id| !object.records.contains_key(*id)) {
        return Err(format!("no record {id}"));
    }
    let deleted = object.place("IsDeleted").unwrap_or(1);
    let upserted = puts.iter().map(|(id, _)| id.clone()).collect();
    for (id, values) in puts {
        object.put(&id, values, now);
    }
    for id in &mutation.delete {
        object.put(id, vec![(deleted, Value::Bool(true))], now);
    }
    for id in &mutation.purge {
        object.records.remove(id);
    }
    for field in &mut object.fields {
        field.hidden =
            (field.hidden || mutation.hide_fields.contains(&field.name)) && !mutation.show_fields.contains(&field.name);
    }
    Ok(Mutated { upserted, system_modstamp: now })
}

fn new_id(object: &Object, index: usize) -> String {
    let mut place = object.records.len() + index;
    loop {
        let id = id_for(&object.name, &format!("new/{place}"));
        if !object.records.contains_key(&id) {
            return id;
        }
        // A purge made the count smaller than it was.
        place += 1_000_003;
    }
}

fn from_json(field_type: FieldType, json: &JsonValue) -> Option<Value> {
    use FieldType as T;
    Some(match (field_type, json) {
        (T::Boolean, json) => Value::Bool(json.as_bool()?),
        (T::Address, _) => return None,
        (_, JsonValue::Null) => Value::Null,
        (T::Int, json) => Value::Int(json.as_i64()?),
        (T::Double | T::Currency | T::Percent, json) => Value::Double(json.as_f64()?),
        (T::Date, json) => Value::Date(json.as_str()?.parse::<NaiveDate>().ok()?),
        (T::Datetime, json) => {
            Value::Datetime(DateTime::parse_from_str(json.as_str()?, "%Y-%m-%dT%H:%M:%S%.f%#z").ok()?.to_utc())
        }
        (_, json) => Value::text(json.as_str()?),
    })
}

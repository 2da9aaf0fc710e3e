//! Owns a change that a test or a scenario orders: records made, changed, deleted, merged, lost, damaged; fields and objects
//! that come and go. Does not own changes by dice.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Duration, NaiveDate, Timelike, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{
    field::FieldType,
    ids::{Key, id_for, key},
    organisation::{Late, Object, Organisation},
    record::{Record, Value, decimal},
    schema,
    service::Service,
};

/// A change of one object's records or fields. What a client sees of it, it sees all at once.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mutation {
    /// The API name of the object.
    pub object: String,
    /// Field values; with `Id` they go over that record, without they make a new one. `IsDeleted: false` undeletes.
    pub upsert: Vec<Map<String, Json>>,
    /// Field values that go over records as a formula's do: no stamp moves.
    pub recalculate: Vec<Map<String, Json>>,
    /// Ids that go to the recycle bin.
    pub delete: Vec<String>,
    /// Ids that come out of it.
    pub undelete: Vec<String>,
    /// Ids that vanish, and are in the log of deletions.
    pub hard_delete: Vec<String>,
    /// Ids that vanish without a trace.
    pub purge: Vec<String>,
    /// Records that become part of another.
    pub merge: Vec<Merge>,
    /// Ids that the user may not see any more.
    pub lose: Vec<String>,
    /// Ids that the user may see again.
    pub regain: Vec<String>,
    /// Values that are not of their field's type.
    pub damage: Vec<Damage>,
    /// Fields that nobody may see from now on, removed or forbidden.
    pub hide_fields: Vec<String>,
    /// Hidden fields that can be seen again.
    pub show_fields: Vec<String>,
    /// New fields, filled by dice; no stamp moves.
    pub add_fields: Vec<NewField>,
    /// Fields by name, and the type that each has from now on. What does not fit it becomes null; no stamp moves.
    pub retype_fields: BTreeMap<String, String>,
    /// The whole object is gone, and keeps its records for when it comes back.
    pub remove_object: bool,
    /// The object comes back.
    pub restore_object: bool,
    /// When the change is said to have happened; without it, now.
    pub system_modstamp: Option<DateTime<Utc>>,
    /// What is upserted, deleted and undeleted is seen only so many seconds later.
    pub visible_after_secs: u32,
}

/// Records that become part of another: they go to the recycle bin and name their master.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merge {
    /// The id of the record that stays.
    pub master: String,
    /// The ids of the others.
    pub losers: Vec<String>,
}

/// A value that is not of its field's type; no stamp moves.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Damage {
    /// Which record.
    pub id: String,
    /// Which field.
    pub field: String,
    /// What it says then.
    pub text: String,
}

/// A field that did not exist.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewField {
    /// Its API name.
    pub name: String,
    /// Its type, as describe calls it.
    #[serde(rename = "type")]
    pub field_type: String,
    /// Of the dice that fill it.
    #[serde(default)]
    pub seed: u64,
}

/// What a [`Mutation`] did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mutated {
    /// The ids written, in the order of `upsert`.
    pub upserted: Vec<String>,
    /// The `SystemModstamp` of what was written, in whole seconds.
    pub system_modstamp: DateTime<Utc>,
}

/// Does all of it or, if something in it is wrong, nothing.
pub(super) fn change(service: &Service, mutation: &Mutation, now: DateTime<Utc>) -> Result<Mutated, String> {
    let mut organisation = service.write();
    let mutated = apply(&mut organisation, mutation, now)?;
    service.settle(&mut organisation, now);
    Ok(mutated)
}

/// Does all of it or, if something in it is wrong, nothing.
pub(super) fn apply(
    organisation: &mut Organisation,
    mutation: &Mutation,
    now: DateTime<Utc>,
) -> Result<Mutated, String> {
    let at = mutation.system_modstamp.unwrap_or(now);
    let at = at.with_nanosecond(0).unwrap_or(at);
    if mutation.restore_object {
        let (name, object) = organisation.gone.remove_entry(&mutation.object).ok_or("the object is not gone")?;
        organisation.objects.insert(name, object);
    }
    let object =
        organisation.objects.get_mut(&mutation.object).ok_or_else(|| format!("no object {}", mutation.object))?;
    let puts = checked(object, mutation)?;
    schema::change(object, mutation, now)?;
    let upserted = puts.iter().map(|(key, _)| text(*key)).collect();
    let mut versions = Vec::new();
    for (key, values) in puts {
        versions.push(object.version(key, values, at));
    }
    for (ids, deleted) in [(&mutation.delete, true), (&mutation.undelete, false)] {
        for key in ids.iter().filter_map(|id| key(id)) {
            versions.push(object.version(key, vec![Object::deletion(deleted)], at));
        }
    }
    let visible_at = now + Duration::seconds(mutation.visible_after_secs.into());
    for record in versions {
        if mutation.visible_after_secs > 0 {
            object.late.retain(|late| late.key != record.key());
            object.late.push(Late { visible_at, key: record.key(), record });
        } else {
            object.put(record);
        }
    }
    for merge in &mutation.merge {
        merge_records(object, merge, at);
    }
    for id in &mutation.hard_delete {
        object.purge(key(id).unwrap_or_default(), true, at);
    }
    for id in &mutation.purge {
        object.purge(key(id).unwrap_or_default(), false, at);
    }
    mutation.lose.iter().filter_map(|id| key(id)).for_each(|key| object.lose(key));
    mutation.regain.iter().filter_map(|id| key(id)).for_each(|key| object.regain(key));
    recalculate(object, mutation);
    for damage in &mutation.damage {
        let (Some(key), Some(place)) = (key(&damage.id), object.place(&damage.field)) else { continue };
        if let Some(old) = object.records.get(&key) {
            let record = old.with(&object.fields, &[(place, Value::text(&damage.text))]);
            object.records.insert(key, Arc::new(record));
            object.damaged.insert(key);
        }
    }
    if mutation.remove_object
        && let Some((name, object)) = organisation.objects.remove_entry(&mutation.object)
    {
        organisation.gone.insert(name, object);
    }
    Ok(Mutated { upserted, system_modstamp: at })
}

type Puts = Vec<(Key, Vec<(usize, Value)>)>;

/// The records to be written, once everything in the mutation was found to be there.
fn checked(object: &Object, mutation: &Mutation) -> Result<Puts, String> {
    let values = |fields: &Map<String, Json>| {
        let fields = fields.iter().filter(|(name, _)| *name != "Id");
        let values = fields.map(|(name, json)| {
            let place = object.place(name).ok_or_else(|| format!("no field {name}"))?;
            let value =
                from_json(object.fields[place].field_type, json).ok_or_else(|| format!("{name} cannot be {json}"))?;
            Ok((place, value))
        });
        values.collect::<Result<Vec<_>, String>>()
    };
    let mut puts = Vec::new();
    for (index, fields) in mutation.upsert.iter().enumerate() {
        let id = match fields.get("Id") {
            Some(id) => key(id.as_str().ok_or("Id is not text")?).ok_or("Id is no id")?,
            None => new_id(object, index),
        };
        puts.push((id, values(fields)?));
    }
    for fields in &mutation.recalculate {
        values(fields)?;
    }
    let losers = mutation.merge.iter().flat_map(|merge| merge.losers.iter().chain([&merge.master]));
    let damaged = mutation.damage.iter().map(|damage| &damage.id);
    let recalculated = mutation.recalculate.iter().map(|fields| fields.get("Id").and_then(Json::as_str).unwrap_or(""));
    let mut ids = [&mutation.delete, &mutation.undelete, &mutation.hard_delete, &mutation.purge, &mutation.lose]
        .into_iter()
        .flatten()
        .chain(losers)
        .chain(damaged)
        .map(String::as_str)
        .chain(recalculated);
    if let Some(id) = ids.find(|id| key(id).is_none_or(|key| !object.records.contains_key(&key))) {
        return Err(format!("no record {id}"));
    }
    if let Some(damage) = mutation.damage.iter().find(|damage| object.place(&damage.field).is_none()) {
        return Err(format!("no field {}", damage.field));
    }
    Ok(puts)
}

/// The losers go to the recycle bin and name their master; all are stamped alike.
pub(super) fn merge_records(object: &mut Object, merge: &Merge, at: DateTime<Utc>) {
    let master_place = object.place("MasterRecordId");
    for key in merge.losers.iter().filter_map(|id| key(id)) {
        let mut values = vec![Object::deletion(true)];
        values.extend(master_place.map(|place| (place, Value::text(&merge.master))));
        let record = object.version(key, values, at);
        object.put(record);
    }
    if let Some(key) = key(&merge.master) {
        let record = object.version(key, Vec::new(), at);
        object.put(record);
    }
}

fn recalculate(object: &mut Object, mutation: &Mutation) {
    for fields in &mutation.recalculate {
        let Some(key) = fields.get("Id").and_then(Json::as_str).and_then(key) else { continue };
        let values: Vec<_> = fields
            .iter()
            .filter_map(|(name, json)| {
                let place = object.place(name).filter(|_| name != "Id")?;
                Some((place, from_json(object.fields[place].field_type, json)?))
            })
            .collect();
        rewrite(object, key, &values);
    }
}

/// Puts values over a record without a stamp, the version not yet seen included.
pub(super) fn rewrite(object: &mut Object, key: Key, values: &[(usize, Value)]) {
    let Object { fields, records, late, .. } = object;
    let anew = |record: &mut Arc<Record>| *record = Arc::new(record.with(fields, values));
    records.get_mut(&key).into_iter().for_each(anew);
    late.iter_mut().filter(|late| late.key == key).map(|late| &mut late.record).for_each(anew);
}

fn text(key: Key) -> String {
    String::from_utf8_lossy(&key).into_owned()
}

/// An id that no record has or had.
pub(super) fn new_id(object: &Object, index: usize) -> Key {
    let mut place = object.records.len() + index;
    loop {
        let id = key(&id_for(&object.name, &format!("new/{place}"))).unwrap_or_default();
        let known = object.records.contains_key(&id)
            || object.purged.contains(&id)
            || object.unseen.contains_key(&id)
            || object.late.iter().any(|late| late.key == id);
        if !known {
            return id;
        }
        // A purge made the count smaller than it was.
        place += 1_000_003;
    }
}

fn from_json(field_type: FieldType, json: &Json) -> Option<Value> {
    use FieldType as T;
    Some(match (field_type, json) {
        (T::Boolean, json) => Value::Bool(json.as_bool()?),
        (T::Address, _) => return None,
        (_, Json::Null) => Value::Null,
        (T::Int, json) => Value::Int(json.as_i64()?),
        (T::Double | T::Currency | T::Percent, Json::Number(number)) => Value::Decimal(decimal(&number.to_string())?),
        // A number in quotes may have more digits than JSON's parsers keep.
        (T::Double | T::Currency | T::Percent, json) => Value::Decimal(decimal(json.as_str()?)?),
        (T::Date, json) => Value::Date(json.as_str()?.parse::<NaiveDate>().ok()?),
        (T::Datetime, json) => {
            Value::Datetime(DateTime::parse_from_str(json.as_str()?, "%Y-%m-%dT%H:%M:%S%.f%#z").ok()?.to_utc())
        }
        (_, json) => Value::text(json.as_str()?),
    })
}

//! Owns changes of an object's fields: hidden, shown, added, of another type. Does not own records but for what these need.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    field::{Field, FieldType},
    generate,
    mutate::Mutation,
    organisation::Object,
    record::{Record, Value, parse},
};

/// Does what the mutation says of fields, after finding that all of it can be done.
pub(super) fn change(object: &mut Object, mutation: &Mutation, now: DateTime<Utc>) -> Result<(), String> {
    let named = |name: &str| FieldType::named(name).ok_or_else(|| format!("no type {name}"));
    let mut retyped = Vec::new();
    for (name, field_type) in &mutation.retype_fields {
        let place = object.place(name).ok_or_else(|| format!("no field {name}"))?;
        retyped.push((place, named(field_type)?));
    }
    let mut added = Vec::new();
    for field in &mutation.add_fields {
        if object.place(&field.name).is_some() {
            return Err(format!("the field {} is there", field.name));
        }
        added.push((Field::new(&field.name, named(&field.field_type)?), field.seed));
    }
    let known = |name: &String| object.fields.iter().any(|field| field.name == *name);
    if let Some(name) = mutation.hide_fields.iter().chain(&mutation.show_fields).find(|name| !known(name)) {
        return Err(format!("no field {name}"));
    }
    let mut changed = !retyped.is_empty() || !added.is_empty();
    for field in &mut object.fields {
        let hidden =
            (field.hidden || mutation.hide_fields.contains(&field.name)) && !mutation.show_fields.contains(&field.name);
        changed |= hidden != field.hidden;
        field.hidden = hidden;
    }
    for (place, field_type) in retyped {
        retype(object, place, field_type);
    }
    for (field, seed) in added {
        add(object, field, seed);
    }
    if changed {
        object.described_anew(now);
    }
    Ok(())
}

/// Gives a field another type; what does not fit it becomes null.
fn retype(object: &mut Object, place: usize, field_type: FieldType) {
    object.fields[place].field_type = field_type;
    each(object, |record| {
        let text = record.text(place);
        let text = if field_type == FieldType::Int { text.trim_end_matches(".0") } else { &text };
        let null = if field_type == FieldType::Boolean { Value::Bool(false) } else { Value::Null };
        let value = parse(field_type, text).filter(|value| *value != Value::Null).unwrap_or(null);
        vec![(place, value)]
    });
}

/// Adds a field and fills it.
fn add(object: &mut Object, field: Field, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let (place, field_type) = (object.fields.len(), field.field_type);
    object.fields.push(field);
    each(object, |_| {
        let dice: u64 = random.random();
        let null = if field_type == FieldType::Boolean { Value::Bool(false) } else { Value::Null };
        vec![(place, if dice.is_multiple_of(3) { null } else { generate::invent(field_type, dice, dice >> 40) })]
    });
}

/// Puts values over every record, without a stamp.
fn each(object: &mut Object, mut values: impl FnMut(&Record) -> Vec<(usize, Value)>) {
    let Object { fields, records, unseen, late, .. } = object;
    let all = records.values_mut().chain(unseen.values_mut()).chain(late.iter_mut().map(|late| &mut late.record));
    for record in all {
        *record = Arc::new(record.with(fields, &values(record)));
    }
}

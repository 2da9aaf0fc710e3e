//! Owns an invented object of any width and length, for measuring: about 1 KB in 25 columns.
//! Does not own the organisation that resembles a customer's.

use std::sync::{Arc, LazyLock};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    field::{Field, FieldType as T, SYSTEM_FIELDS},
    generate,
    ids::{id_for, key},
    organisation::{Object, Organisation, stamps},
    record::{Record, Value},
};

/// The types of the columns beyond those that the object has of its own.
const TYPES: [T; 10] = [
    T::TextArea,
    T::TextArea,
    T::String,
    T::Currency,
    T::Datetime,
    T::Picklist,
    T::Int,
    T::Boolean,
    T::Date,
    T::String,
];
/// So many of them are long texts.
const LONG_TEXTS: usize = 2;
/// About so many bytes have these.
const LONG_BYTES: usize = 250;
const DAYS_SECS: i64 = 600 * 86_400;

/// Prose, of which long texts are pieces.
static PROSE: LazyLock<String> = LazyLock::new(|| {
    let mut random = StdRng::seed_from_u64(1);
    let words: Vec<String> = (0..1_000)
        .map(|at| {
            let dice: u64 = random.random();
            let plain =
                ["the", "customer", "wants", "to", "see", "an", "offer", "by", "Friday", "für", "naïve", "renewal"];
            let word = plain[usize::try_from(dice % plain.len() as u64).unwrap_or(0)];
            match at % 23 {
                0 => format!("{word}.\n"),
                11 => format!("\"{word}\","),
                _ => word.to_owned(),
            }
        })
        .collect();
    words.join(" ")
});

/// An organisation of one object of `records` records in `columns` columns, compounds not counted.
#[must_use]
pub(super) fn one(name: &str, records: u64, columns: usize, seed: u64) -> Organisation {
    let own = columns.saturating_sub(SYSTEM_FIELDS.len());
    let specs = generate::own_fields(name, own);
    let mut fields: Vec<Field> = specs.iter().map(|(spec, field_type)| generate::field(spec, *field_type)).collect();
    let more = own.saturating_sub(fields.iter().filter(|field| field.field_type != T::Address).count());
    let added: Vec<(T, bool)> = (0..more).map(|at| (TYPES[at % TYPES.len()], at < LONG_TEXTS)).collect();
    fields.extend(
        added.iter().enumerate().map(|(at, (field_type, _))| Field::new(&format!("Column_{at:03}__c"), *field_type)),
    );
    let mut object = Object::new(name, fields);
    let mut random = StdRng::seed_from_u64(seed);
    let step_secs = DAYS_SECS / i64::try_from(records / 7 + 1).unwrap_or(i64::MAX);
    let mut all = Vec::with_capacity(usize::try_from(records).unwrap_or(0));
    for index in 0..records {
        let id = id_for(name, &generate::key(seed, index));
        let (created, modified) = stamps(index, step_secs);
        let mut record = vec![
            Value::text(&id),
            Value::Bool(false),
            Value::Datetime(created),
            Value::Datetime(modified),
            Value::Datetime(modified),
        ];
        record.extend(specs.iter().map(|spec| generate::value(spec, index, records, seed, &mut random)));
        for (field_type, is_long) in &added {
            let dice: u64 = random.random();
            record.push(if *is_long { prose(dice) } else { generate::invent(*field_type, dice, index) });
        }
        all.push((key(&id).unwrap_or_default(), Arc::new(Record::new(&record))));
    }
    object.records = all.into_iter().collect();
    let mut organisation = Organisation::default();
    organisation.objects.insert(name.to_owned(), object);
    organisation
}

fn prose(dice: u64) -> Value {
    let prose: &str = &PROSE;
    let mut from = usize::try_from(dice % 4_000).unwrap_or(0);
    let mut until = from + LONG_BYTES - 50 + usize::try_from(dice >> 32).unwrap_or(0) % 100;
    while !prose.is_char_boundary(from) {
        from += 1;
    }
    while !prose.is_char_boundary(until) {
        until += 1;
    }
    Value::text(prose[from..until].trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_the_width_and_the_size_that_are_measured() {
        for (name, columns) in [("Account", 25), ("Account", 500), ("Measured__c", 25), ("Contact", 10)] {
            let organisation = one(name, 500, columns, 3);
            let object = &organisation.objects[name];
            let stored = object.fields.iter().filter(|field| field.field_type != T::Address).count();
            assert_eq!((stored, object.records.len()), (columns, 500), "{name}");
            let last = object.fields.len() - 1;
            let bytes: usize = object.records.values().map(|record| record.run(0, last).unwrap().len()).sum();
            println!("{name} of {columns} columns: {} bytes a record", bytes / 500);
            if columns == 25 {
                assert!((850..1_150).contains(&(bytes / 500)), "{name}: {}", bytes / 500);
            }
        }
        let again = one("Account", 50, 25, 3);
        assert_eq!(format!("{again:?}"), format!("{:?}", one("Account", 50, 25, 3)));
    }
}

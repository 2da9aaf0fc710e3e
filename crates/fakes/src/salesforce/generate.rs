//! Owns an invented organisation of any size: the same seed and size give the same records on every machine.
//! Does not own ids, nor the shape of a record.

use chrono::{Duration, NaiveDate};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    field::{Field, FieldType as T},
    ids::id_for,
    organisation::{Object, Organisation, stamps},
    record::Value,
};

/// Seconds over which the modification times are spread, about 20 months.
const SPREAD_SECS: i64 = 600 * 86_400;

const WORDS: [&str; 16] = [
    "Alpha", "Brücke", "Cobalt", "Dædalus", "Éclair", "Fjord", "Granit", "Horizon", "Ōsaka", "Juniper", "Kraków",
    "Lumen", "Møller", "Nimbus", "日本", "Zenith",
];
const NOTES: [&str; 8] = [
    "NA",
    "called back,\nwants a quote \"today\"",
    "None",
    "line one\r\nline two, with comma",
    "price agreed ✅ — sign soon",
    "=1+1; 'quoted' \\ backslash",
    "\\N and \\. and \\u0000 are text\there\r, \u{a0}\u{2028}\u{1f}",
    "NULL",
];

/// A field: its name, with the signs explained at [`OBJECTS`], and its type.
pub(super) type Spec = (&'static str, T);
/// Fields by name.
type Fields = &'static [Spec];

/// What is in the organisation: the object, its share of a thousand records and its fields.
/// A `?` after a name makes a third of the values null, `>Object` names what a reference refers to.
const OBJECTS: [(&str, u64, Fields); 9] = [
    (
        "User",
        20,
        &[
            ("Username", T::String),
            ("FirstName?", T::String),
            ("LastName", T::String),
            ("Email", T::Email),
            ("Title?", T::String),
            ("IsActive", T::Boolean),
            ("LastLoginDate?", T::Datetime),
        ],
    ),
    (
        "Account",
        150,
        &[
            ("Name", T::String),
            ("Type?", T::Picklist),
            ("Industry?", T::Picklist),
            ("Phone?", T::Phone),
            ("Website?", T::Url),
            ("AnnualRevenue?", T::Currency),
            ("NumberOfEmployees?", T::Int),
            ("BillingStreet?", T::TextArea),
            ("BillingCity?", T::String),
            ("BillingCountry?", T::String),
            ("BillingAddress", T::Address),
            ("Description?", T::TextArea),
            ("OwnerId>User", T::Reference),
            ("MasterRecordId", T::Reference),
            ("Regions__c?", T::MultiPicklist),
            ("Health__c", T::Double),
        ],
    ),
    (
        "Contact",
        250,
        &[
            ("AccountId?>Account", T::Reference),
            ("FirstName?", T::String),
            ("LastName", T::String),
            ("Email?", T::Email),
            ("Phone?", T::Phone),
            ("Title?", T::String),
            ("Birthdate?", T::Date),
            ("HasOptedOutOfEmail", T::Boolean),
            ("LeadSource?", T::Picklist),
            ("Description?", T::TextArea),
            ("OwnerId>User", T::Reference),
            ("MasterRecordId", T::Reference),
        ],
    ),
    (
        "Lead",
        180,
        &[
            ("FirstName?", T::String),
            ("LastName", T::String),
            ("Company", T::String),
            ("Status", T::Picklist),
            ("Email?", T::Email),
            ("Rating?", T::Picklist),
            ("AnnualRevenue?", T::Currency),
            ("IsConverted", T::Boolean),
            ("ConvertedDate?", T::Date),
            ("Description?", T::TextArea),
            ("OwnerId>User", T::Reference),
            ("MasterRecordId", T::Reference),
        ],
    ),
    (
        "Opportunity",
        150,
        &[
            ("Name", T::String),
            ("AccountId?>Account", T::Reference),
            ("StageName", T::Picklist),
            ("Amount?", T::Currency),
            ("Probability?", T::Percent),
            ("CloseDate", T::Date),
            ("IsWon", T::Boolean),
            ("NextStep?", T::String),
            ("Description?", T::TextArea),
            ("OwnerId>User", T::Reference),
            ("Expected_Revenue__c", T::Currency),
        ],
    ),
    (
        "Task",
        200,
        &[
            ("WhoId?>Contact", T::Reference),
            ("WhatId?>Account", T::Reference),
            ("Subject?", T::String),
            ("Status", T::Picklist),
            ("Priority", T::Picklist),
            ("ActivityDate?", T::Date),
            ("IsClosed", T::Boolean),
            ("Description?", T::TextArea),
            ("CallDurationInSeconds?", T::Int),
            ("OwnerId>User", T::Reference),
        ],
    ),
    (
        "OpportunityHistory",
        15,
        &[
            ("OpportunityId>Opportunity", T::Reference),
            ("StageName", T::Picklist),
            ("Amount?", T::Currency),
            ("Probability?", T::Percent),
            ("CloseDate?", T::Date),
            ("CreatedById>User", T::Reference),
        ],
    ),
    (
        "Event",
        15,
        &[
            ("WhoId?>Contact", T::Reference),
            ("WhatId?>Account", T::Reference),
            ("Subject?", T::String),
            ("Location?", T::String),
            ("StartDateTime", T::Datetime),
            ("DurationInMinutes?", T::Int),
            ("IsAllDayEvent", T::Boolean),
            ("Description?", T::TextArea),
            ("OwnerId>User", T::Reference),
        ],
    ),
    (
        "Case",
        20,
        &[
            ("CaseNumber", T::String),
            ("AccountId?>Account", T::Reference),
            ("Subject?", T::String),
            ("Status", T::Picklist),
            ("Priority?", T::Picklist),
            ("IsClosed", T::Boolean),
            ("ClosedDate?", T::Datetime),
            ("Description?", T::TextArea),
            ("OwnerId>User", T::Reference),
        ],
    ),
];

/// Formula fields: values that move without the modification stamp.
const CALCULATED: [&str; 2] = ["Health__c", "Expected_Revenue__c"];

/// How many of `records` are of the object at `place`; the shares of all objects sum to `records`.
fn share(place: usize, records: u64) -> u64 {
    let until = |places: usize| OBJECTS[..places].iter().map(|object| object.1).sum::<u64>() * records / 1_000;
    until(place + 1) - until(place)
}

/// What the id of a record is made of.
#[must_use]
pub(super) fn key(seed: u64, place: u64) -> String {
    format!("{seed}/{place}")
}

/// An organisation of `records` records in all.
#[must_use]
pub(super) fn generate(records: u64, seed: u64) -> Organisation {
    let mut organisation = Organisation::default();
    for (place, (name, _, specs)) in OBJECTS.iter().enumerate() {
        let count = share(place, records);
        let mut random = StdRng::seed_from_u64(seed ^ (place as u64) << 56);
        let mut object = Object::new(name, specs.iter().map(|(spec, field_type)| field(spec, *field_type)).collect());
        let step_secs = SPREAD_SECS / i64::try_from(count / 7 + 1).unwrap_or(i64::MAX);
        for index in 0..count {
            let (created, modified) = stamps(index, step_secs);
            let values = specs.iter().map(|spec| value(spec, index, records, seed, &mut random)).collect();
            object.insert(&id_for(name, &key(seed, index)), created, modified, values);
        }
        organisation.objects.insert((*name).to_owned(), object);
    }
    organisation
}

/// The fields of an object that is known here, at most `own` of them without compounds.
#[must_use]
pub(super) fn own_fields(name: &str, own: usize) -> Vec<Spec> {
    let all = OBJECTS.iter().find(|object| object.0 == name).map_or(&[] as Fields, |object| object.2);
    let mut stored = 0;
    all.iter()
        .take_while(|(_, field_type)| {
            stored += usize::from(*field_type != T::Address);
            stored <= own
        })
        .copied()
        .collect()
}

/// The field that a specification describes.
#[must_use]
pub(super) fn field(spec: &str, field_type: T) -> Field {
    let name = spec.split(['?', '>']).next().unwrap_or(spec);
    let compound = (name.starts_with("Billing") && field_type != T::Address).then(|| "BillingAddress".to_owned());
    Field { calculated: CALCULATED.contains(&name), compound, ..Field::new(name, field_type) }
}

/// What is in that field of the record at `index`.
#[must_use]
pub(super) fn value((spec, field_type): &Spec, index: u64, records: u64, seed: u64, random: &mut StdRng) -> Value {
    let (name, target) = spec.split_once('>').unwrap_or((*spec, ""));
    // Drawn even if the value is null, so that a change to one field leaves the others alone.
    let dice: u64 = random.random();
    if name.ends_with('?') && (dice >> 60).is_multiple_of(3) {
        return Value::Null;
    }
    match field_type {
        T::Reference => {
            let place = OBJECTS.iter().position(|object| object.0 == target);
            match place.map_or(0, |place| share(place, records)) {
                0 => Value::Null,
                count => Value::text(&id_for(target, &key(seed, dice % count))),
            }
        }
        _ => invent(*field_type, dice, index),
    }
}

/// A value of a type, by dice; `index` tells it from others.
#[must_use]
pub(super) fn invent(field_type: T, dice: u64, index: u64) -> Value {
    let word = |shift: u32| WORDS[usize::try_from((dice >> shift) % 16).unwrap_or(0)];
    let cents = |max: u64| {
        let cents = dice % max;
        let text = if cents.is_multiple_of(10) {
            format!("{}.{}", cents / 100, cents / 10 % 10)
        } else {
            format!("{}.{:02}", cents / 100, cents % 100)
        };
        Value::Decimal(text.into())
    };
    match field_type {
        T::Boolean => Value::Bool(dice.is_multiple_of(2)),
        T::Int => Value::Int(i64::try_from(dice % 100_000).unwrap_or(0)),
        T::Percent => cents(10_000),
        T::Double | T::Currency => cents(100_000_000_000),
        T::Date => Value::Date(NaiveDate::default() + Duration::days(i64::try_from(dice % 20_000).unwrap_or(0))),
        T::Datetime => Value::Datetime(stamps(dice % 100_000, 600).1),
        T::Email => Value::text(&format!("{index}.{}@example.com", dice % 1_000)),
        T::Phone => Value::text(&format!("+49 30 {:07}", dice % 10_000_000)),
        T::Url => Value::text(&format!("https://example.com/{index}?a=1&b={}", dice % 9)),
        T::Picklist => {
            Value::text(["New", "Open", "In Progress", "Closed", "NA"][usize::try_from(dice % 5).unwrap_or(0)])
        }
        T::MultiPicklist => Value::text(&format!("{};{}", word(8), word(12))),
        T::TextArea => Value::text(NOTES[usize::try_from(dice % NOTES.len() as u64).unwrap_or(0)]),
        T::Id | T::Address | T::Reference => Value::Null,
        T::String | T::Hologram => Value::text(&format!("{} {} {index}", word(4), word(16))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_add_up_and_seeds_repeat() {
        for records in [0, 1, 7, 999, 2_500] {
            let organisation = generate(records, 3);
            let sum: usize = organisation.objects.values().map(|object| object.records.len()).sum();
            assert_eq!(sum as u64, records);
        }
        let (one, two) = (generate(500, 1), generate(500, 1));
        assert_eq!(format!("{one:?}"), format!("{two:?}"));
        assert_ne!(format!("{one:?}"), format!("{:?}", generate(500, 2)));
    }

    #[test]
    fn references_refer_to_records() {
        let organisation = generate(1_000, 9);
        let contacts = &organisation.objects["Contact"];
        let place = contacts.place("AccountId").unwrap();
        let mut referred = 0;
        for record in contacts.records.values() {
            if let Some(key) = crate::salesforce::ids::key(record.raw(place)) {
                assert!(organisation.objects["Account"].records.contains_key(&key));
                referred += 1;
            }
        }
        assert!(referred > 100);
    }
}

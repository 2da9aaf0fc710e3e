//! Owns the ledger digest: one number for all records of an object, which whoever holds a copy of them can compute too.
//! Does not own the records.
//!
//! A record's text has one line for each field that is visible, is no compound and is not null, in the order of the bytes of
//! the fields' names: the name, `=`, the value, and a line feed. A value is written so:
//!
//! - true or false: `true`, `false`; text, ids and pick-lists: as they are;
//! - numbers: digits without an exponent, without zeros at the end of the fraction, without a point if there is no
//!   fraction, `0` for zero (PostgreSQL: `trim_scale(n)::text`);
//! - days: `2024-09-24`; instants: `2024-09-24T03:26:07Z`.
//!
//! Its MD5 is read as two numbers of 64 bits, big-endian. The digest is the sum of the first ones and the sum of the second
//! ones over all records, each modulo 2^64, as 32 hexadecimal digits: the order of records does not matter. In PostgreSQL a
//! half is `('x' || substr(md5(text), 1, 16))::bit(64)::bigint`, summed as numeric.
//!
//! Records with a damaged value are left out and named: nobody can hold a copy of them.

use chrono::{DateTime, Utc};
use md5::{Digest as _, Md5};
use serde::Serialize;

use super::{
    field::FieldType,
    ids::Key,
    organisation::Object,
    record::{Record, Value},
    service::Service,
};

/// The sum over some records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// How many records.
    pub records: u64,
    /// 32 hexadecimal digits.
    pub digest: String,
}

/// What the truth is about an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Digest {
    /// The fields that take part, in order.
    pub fields: Vec<String>,
    /// The records that are not deleted.
    pub live: Sum,
    /// The records in the recycle bin.
    pub recycled: Sum,
    /// Every record that was there and is not any more: recycled, deleted hard, purged, or not to be seen. The text of each
    /// is its id alone.
    pub gone: Sum,
    /// The ids of the records left out, since a value of theirs is damaged.
    pub damaged: Vec<String>,
}

#[derive(Default)]
struct Summing {
    records: u64,
    halves: [u64; 2],
}

impl Summing {
    fn add(&mut self, text: &str) {
        self.records += 1;
        let digest = Md5::digest(text);
        for (half, bytes) in self.halves.iter_mut().zip(digest.chunks(8)) {
            *half = half.wrapping_add(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)));
        }
    }

    fn finish(self) -> Sum {
        Sum { records: self.records, digest: format!("{:016x}{:016x}", self.halves[0], self.halves[1]) }
    }
}

/// The digest of an object over all fields or over some; none if there is no such object or field.
pub(super) fn of_object(service: &Service, name: &str, fields: Option<&[String]>) -> Option<Digest> {
    let organisation = service.read();
    let object = organisation.object(name)?;
    let places = match fields {
        Some(fields) => fields.iter().map(|name| object.place(name.trim())).collect::<Option<Vec<_>>>()?,
        None => object.visible_places(),
    };
    Some(digest(object, places))
}

fn digest(object: &Object, mut places: Vec<usize>) -> Digest {
    places.retain(|place| object.fields[*place].field_type != FieldType::Address);
    places.sort_by_key(|place| &object.fields[*place].name);
    places.dedup();
    let (mut live, mut recycled, mut gone) = (Summing::default(), Summing::default(), Summing::default());
    let mut text = String::new();
    for (key, record) in &object.records {
        if record.is_deleted() {
            gone.add(record.id());
        }
        if object.damaged.contains(key) {
            continue;
        }
        text.clear();
        places.iter().for_each(|place| write(&mut text, object, record, *place));
        if record.is_deleted() { recycled.add(&text) } else { live.add(&text) }
    }
    let id = |key: &Key| String::from_utf8_lossy(key).into_owned();
    object.purged.iter().chain(object.unseen.keys()).for_each(|key| gone.add(&id(key)));
    Digest {
        fields: places.iter().map(|place| object.fields[*place].name.clone()).collect(),
        live: live.finish(),
        recycled: recycled.finish(),
        gone: gone.finish(),
        damaged: object.damaged.iter().map(id).collect(),
    }
}

fn write(text: &mut String, object: &Object, record: &Record, place: usize) {
    let value = record.text(place);
    if value.is_empty() {
        return;
    }
    let field = &object.fields[place];
    text.push_str(&field.name);
    text.push('=');
    match field.field_type {
        FieldType::Double | FieldType::Currency | FieldType::Percent => {
            text.push_str(value.strip_suffix(".0").unwrap_or(&value));
        }
        FieldType::Datetime => match record.value(place, field.field_type) {
            Value::Datetime(at) => text.push_str(&instant(at)),
            _ => text.push_str(&value),
        },
        _ => text.push_str(&value),
    }
    text.push('\n');
}

fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::salesforce::field::Field;

    #[test]
    fn the_form_is_the_one_described() {
        let fields = [("Name", FieldType::String), ("Amount", FieldType::Currency), ("None", FieldType::Date)];
        let mut object = Object::new("X", fields.iter().map(|(name, kind)| Field::new(name, *kind)).collect());
        let at = DateTime::from_timestamp(1_727_148_367, 0).unwrap();
        let values = || vec![Value::text("a \"b\""), Value::Decimal("12.0".into()), Value::Null];
        assert!(object.insert("001000000000001AAA", at, at, values()));
        let text = "Amount=12\nCreatedDate=2024-09-24T03:26:07Z\nId=001000000000001AAA\nIsDeleted=false\n\
                    LastModifiedDate=2024-09-24T03:26:07Z\nName=a \"b\"\nSystemModstamp=2024-09-24T03:26:07Z\n";
        let mut expected = Summing::default();
        expected.add(text);
        let found = digest(&object, object.visible_places());
        assert_eq!(found.live, expected.finish());
        assert_eq!((found.fields[0].as_str(), found.fields.len()), ("Amount", 8));
        // One record: the digest is its MD5.
        assert_eq!(found.live.digest, format!("{:032x}", u128::from_be_bytes(Md5::digest(text).into())));
        object.insert("001000000000002AAA", at, at, values());
        let two = digest(&object, object.visible_places());
        assert_ne!(two.live.digest, found.live.digest);
        let now = at + chrono::Duration::seconds(1);
        object.purge(*b"001000000000002AAA", true, now);
        let one = digest(&object, object.visible_places());
        assert_eq!((one.live, one.gone.records), (found.live, 1));
    }
}

//! Owns a value and the compact form of a record: one line of CSV, every field in quotes, as bulk results send it.
//! Does not own fields, nor how a value looks anywhere but in that line.
//!
//! A million records of 1 KB have to fit into memory and leave it faster than anybody stores them. So a record is kept as
//! the line that leaves: a bulk page is copied, and everything else reads the fields out of the line.

use std::{borrow::Cow, fmt::Write as _};

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Timelike, Utc};

use super::{
    field::{Field, FieldType},
    ids::{Key, key},
};

/// The places of the system fields in every record.
pub(super) const ID: usize = 0;
pub(super) const IS_DELETED: usize = 1;
pub(super) const CREATED: usize = 2;
pub(super) const LAST_MODIFIED: usize = 3;
pub(super) const SYSTEM_MODSTAMP: usize = 4;

/// One value of a record.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// No value; Salesforce keeps no empty string either.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number, as [`decimal`] writes it.
    Decimal(Box<str>),
    /// Text, ids and pick-lists.
    Text(Box<str>),
    /// A day.
    Date(NaiveDate),
    /// An instant, in whole seconds.
    Datetime(DateTime<Utc>),
}

impl Value {
    /// Text, or null if there is none.
    #[must_use]
    pub(super) fn text(text: &str) -> Self {
        if text.is_empty() { Self::Null } else { Self::Text(text.into()) }
    }

    fn write(&self, line: &mut String) {
        // Writing into a string cannot fail.
        let _: std::fmt::Result = match self {
            Self::Null => Ok(()),
            Self::Bool(value) => write!(line, "{value}"),
            Self::Int(value) => write!(line, "{value}"),
            Self::Decimal(value) => write!(line, "{value}"),
            Self::Text(value) if value.contains('"') => write!(line, "{}", value.replace('"', "\"\"")),
            Self::Text(value) => {
                line.push_str(value);
                Ok(())
            }
            Self::Date(value) => write!(line, "{:04}-{:02}-{:02}", value.year(), value.month(), value.day()),
            Self::Datetime(at) => write!(
                line,
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.000Z",
                at.year(),
                at.month(),
                at.day(),
                at.hour(),
                at.minute(),
                at.second()
            ),
        };
    }
}

/// A decimal as Salesforce writes it: no exponent, no zeros at the end, but one digit after the point.
/// None if the text is not a decimal.
#[must_use]
pub(super) fn decimal(text: &str) -> Option<Box<str>> {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (mantissa, exponent) = digits.split_once(['e', 'E']).map_or((digits, Some(0)), |(m, e)| (m, e.parse().ok()));
    let exponent: i32 = exponent.filter(|exponent| (-400..=400).contains(exponent))?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut digits = format!("{whole}{fraction}");
    let mut point = i32::try_from(whole.len()).ok()? + exponent;
    while point < 1 {
        digits.insert(0, '0');
        point += 1;
    }
    while point > i32::try_from(digits.len()).ok()? {
        digits.push('0');
    }
    let (whole, fraction) = digits.split_at(usize::try_from(point).ok()?);
    let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
    let (whole, fraction) =
        (if whole.is_empty() { "0" } else { whole }, if fraction.is_empty() { "0" } else { fraction });
    let sign = if whole == "0" && fraction == "0" { "" } else { sign };
    Some(format!("{sign}{whole}.{fraction}").into())
}

/// The values of one record, in the order of its object's fields.
#[derive(Debug, PartialEq)]
pub(super) struct Record {
    modified_secs: i64,
    deleted: bool,
    /// Where each field ends in the line, its closing quote included; the next begins after a comma.
    ends: Box<[u32]>,
    line: Box<str>,
}

impl Record {
    /// A record of `values`, system fields first.
    #[must_use]
    pub(super) fn new(values: &[Value]) -> Self {
        let mut line = Line::default();
        values.iter().for_each(|value| line.push(value));
        line.finish()
    }

    /// This record with `changes` over it; `fields` are its object's, of which it may lack those added later.
    #[must_use]
    pub(super) fn with(&self, fields: &[Field], changes: &[(usize, Value)]) -> Self {
        let mut line = Line::default();
        for (place, field) in fields.iter().enumerate() {
            match changes.iter().rev().find(|(changed, _)| *changed == place) {
                Some((_, value)) => line.push(value),
                None if place < self.ends.len() => line.push_raw(self.raw(place)),
                None => line.push(&empty(field)),
            }
        }
        line.finish()
    }

    /// The 18-character id.
    #[must_use]
    pub(super) fn id(&self) -> &str {
        self.raw(ID)
    }

    /// The id as a key.
    #[must_use]
    pub(super) fn key(&self) -> Key {
        key(self.id()).unwrap_or_default()
    }

    /// In the recycle bin.
    #[must_use]
    pub(super) fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// When it changed last.
    #[must_use]
    pub(super) fn modified_at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.modified_secs, 0).unwrap_or_default()
    }

    /// The text of a field as it is in the line, quotes in it doubled; empty if null.
    #[must_use]
    pub(super) fn raw(&self, place: usize) -> &str {
        let Some(end) = self.ends.get(place) else { return "" };
        let start = if place == 0 { 0 } else { self.ends[place - 1] as usize + 1 };
        &self.line[start + 1..*end as usize - 1]
    }

    /// The fields from `first` to `last` as they are in the line, if the record has them all.
    #[must_use]
    pub(super) fn run(&self, first: usize, last: usize) -> Option<&str> {
        let end = *self.ends.get(last)? as usize;
        let start = if first == 0 { 0 } else { self.ends[first - 1] as usize + 1 };
        Some(&self.line[start..end])
    }

    /// The text of a field; empty if null.
    #[must_use]
    pub(super) fn text(&self, place: usize) -> Cow<'_, str> {
        let raw = self.raw(place);
        if raw.contains('"') { Cow::Owned(raw.replace("\"\"", "\"")) } else { Cow::Borrowed(raw) }
    }

    /// The value of a field; null if it is damaged.
    #[must_use]
    pub(super) fn value(&self, place: usize, field_type: FieldType) -> Value {
        match place {
            IS_DELETED => Value::Bool(self.deleted),
            SYSTEM_MODSTAMP => Value::Datetime(self.modified_at()),
            _ => parse(field_type, &self.text(place)).unwrap_or(Value::Null),
        }
    }
}

/// What a field holds that was never set.
fn empty(field: &Field) -> Value {
    if field.field_type == FieldType::Boolean { Value::Bool(false) } else { Value::Null }
}

/// A record without values.
#[must_use]
pub(super) fn empty_record(fields: &[Field], changes: &[(usize, Value)]) -> Record {
    Record { modified_secs: 0, deleted: false, ends: Box::default(), line: Box::default() }.with(fields, changes)
}

/// The value that a text in the line stands for; none if it is not of the type.
#[must_use]
pub(super) fn parse(field_type: FieldType, text: &str) -> Option<Value> {
    use FieldType as T;
    if text.is_empty() {
        return Some(Value::Null);
    }
    Some(match field_type {
        T::Boolean => Value::Bool(text.parse().ok()?),
        T::Int => Value::Int(text.parse().ok()?),
        T::Double | T::Currency | T::Percent => Value::Decimal(decimal(text)?),
        T::Date => Value::Date(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?),
        T::Datetime => Value::Datetime(NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.fZ").ok()?.and_utc()),
        _ => Value::text(text),
    })
}

/// A line in the making.
#[derive(Default)]
struct Line {
    text: String,
    ends: Vec<u32>,
    modified_secs: i64,
    deleted: bool,
}

impl Line {
    fn begin(&mut self) {
        self.text.push_str(if self.ends.is_empty() { "\"" } else { ",\"" });
    }

    fn end(&mut self) {
        self.text.push('"');
        // A line beyond 4 GB does not fit into memory as often as there are records.
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }

    fn push(&mut self, value: &Value) {
        match (self.ends.len(), value) {
            (IS_DELETED, Value::Bool(deleted)) => self.deleted = *deleted,
            (SYSTEM_MODSTAMP, Value::Datetime(at)) => self.modified_secs = at.timestamp(),
            _ => {}
        }
        self.begin();
        value.write(&mut self.text);
        self.end();
    }

    fn push_raw(&mut self, raw: &str) {
        match self.ends.len() {
            IS_DELETED => self.deleted = raw == "true",
            SYSTEM_MODSTAMP => {
                if let Some(Value::Datetime(at)) = parse(FieldType::Datetime, raw) {
                    self.modified_secs = at.timestamp();
                }
            }
            _ => {}
        }
        self.begin();
        self.text.push_str(raw);
        self.end();
    }

    fn finish(self) -> Record {
        Record {
            modified_secs: self.modified_secs,
            deleted: self.deleted,
            ends: self.ends.into(),
            line: self.text.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_and_of_one_form() {
        for (text, expected) in [
            ("10.50", "10.5"),
            ("12", "12.0"),
            ("0012.00", "12.0"),
            ("-0.0", "0.0"),
            ("-.5", ""),
            ("1e3", "1000.0"),
            ("12.5E-3", "0.0125"),
            ("1234567890123456.78", "1234567890123456.78"),
            ("1,5", ""),
            ("", ""),
        ] {
            assert_eq!(decimal(text).as_deref().unwrap_or(""), expected, "{text}");
        }
    }

    #[test]
    fn a_record_keeps_what_it_was_given() {
        let fields: Vec<_> = ["Id", "IsDeleted", "A", "B", "SystemModstamp", "Text", "New"]
            .into_iter()
            .map(|name| Field::new(name, FieldType::String))
            .collect();
        let at = DateTime::from_timestamp(1_727_148_367, 0).unwrap();
        let values = [
            Value::text("001000000000001AAA"),
            Value::Bool(true),
            Value::Null,
            Value::Decimal("1.5".into()),
            Value::Datetime(at),
            Value::text("a \"b\",\r\n"),
        ];
        let record = Record::new(&values);
        assert_eq!(record.run(2, 4).unwrap(), "\"\",\"1.5\",\"2024-09-24T03:26:07.000Z\"");
        assert_eq!((record.text(5).as_ref(), record.raw(6), record.run(5, 6)), ("a \"b\",\r\n", "", None));
        let changed = record.with(&fields, &[(2, Value::text("x")), (1, Value::Bool(false))]);
        assert!(record.is_deleted() && !changed.is_deleted());
        assert_eq!((changed.text(2).as_ref(), changed.text(5).as_ref()), ("x", "a \"b\",\r\n"));
        assert_eq!((changed.modified_at(), changed.run(6, 6)), (at, Some("\"\"")));
    }
}

//! Owns the shapes that Salesforce sends, as far as they are used. Does not own what they mean for storage.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{
    address::checked_next,
    error::{Result, SalesforceError},
    record_id::id18,
};

/// One object's fields.
#[derive(Clone, Debug)]
pub struct Describe {
    /// The API name of the object.
    pub name: String,
    /// Its fields, in the order given.
    pub fields: Vec<Field>,
}

/// One object's fields, and since when they are so.
#[derive(Clone, Debug)]
pub struct Described {
    /// The fields.
    pub describe: Describe,
    /// What to ask with the next time, if Salesforce told a time at all.
    pub last_modified: Option<DateTime<Utc>>,
}

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The API name.
    pub name: String,
    /// What Salesforce calls the type: `string`, `currency`, `datetime`, …; new ones may come.
    pub field_type: String,
    /// It may be null.
    pub nillable: bool,
    /// The most characters; 0 if that says nothing.
    pub length: u32,
    /// The digits in all; 0 if that says nothing.
    pub precision: u32,
    /// The digits after the point.
    pub scale: u32,
    /// A formula or summary: its value changes without the record's modification stamp.
    pub calculated: bool,
    /// Made of other fields (`address`, `location`): its parts are fields of their own.
    pub compound: bool,
}

#[derive(Deserialize)]
pub(crate) struct WireDescribe {
    name: String,
    fields: Vec<WireField>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireField {
    name: String,
    r#type: String,
    #[serde(default)]
    nillable: bool,
    #[serde(default)]
    length: u32,
    #[serde(default)]
    precision: u32,
    #[serde(default)]
    scale: u32,
    #[serde(default)]
    calculated: bool,
}

impl From<WireDescribe> for Describe {
    fn from(wire: WireDescribe) -> Self {
        let field = |field: WireField| Field {
            compound: matches!(field.r#type.as_str(), "address" | "location"),
            name: field.name,
            field_type: field.r#type,
            nillable: field.nillable,
            length: field.length,
            precision: field.precision,
            scale: field.scale,
            calculated: field.calculated,
        };
        Self { name: wire.name, fields: wire.fields.into_iter().map(field).collect() }
    }
}

/// One page of a query.
#[derive(Clone, Debug)]
pub struct Page {
    /// Records of the whole query, over all pages.
    pub total_size: u64,
    /// There is no further page.
    pub done: bool,
    /// Where the next page is: checked to be a path below `/services/data/`, good for two days.
    pub next_records_url: Option<String>,
    /// The records as sent, unread: the fields asked for and `attributes`. Unread, so that numbers keep every digit and
    /// one damaged record does not spoil its page.
    pub records: Vec<Box<RawValue>>,
    /// The server's clock when it answered, from the `Date` header; whole seconds.
    pub server_time: Option<DateTime<Utc>>,
}

impl Page {
    pub(crate) fn read(wire: WirePage, server_time: Option<DateTime<Utc>>) -> Result<Self> {
        let next_records_url = match wire.next_records_url.filter(|_| !wire.done) {
            Some(next) => Some(checked_next(&next)?),
            None if wire.done => None,
            None => return Err(broken("a page is not the last and names no next one")),
        };
        let WirePage { total_size, done, records, .. } = wire;
        Ok(Self { total_size, done, next_records_url, records, server_time })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WirePage {
    total_size: u64,
    done: bool,
    next_records_url: Option<String>,
    #[serde(default)]
    records: Vec<Box<RawValue>>,
}

/// An answer that breaks the contract, as a cut or mixed-up one does: asking again may help.
pub(crate) fn broken(reason: &str) -> SalesforceError {
    SalesforceError::Unavailable { reason: reason.to_owned(), source: None }
}

/// What the log of deletions says of a span of time.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The ids, 18 characters, and when each was deleted.
    pub records: Vec<(String, DateTime<Utc>)>,
    /// Entries that cannot be read, as sent.
    pub damaged: Vec<Box<RawValue>>,
    /// How far the log reaches back.
    pub earliest_available: DateTime<Utc>,
    /// Up to where this answer tells everything: the start of the next question.
    pub latest_covered: DateTime<Utc>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireDeleted {
    deleted_records: Vec<Box<RawValue>>,
    earliest_date_available: String,
    latest_date_covered: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireDeletedRecord {
    id: String,
    deleted_date: String,
}

impl TryFrom<WireDeleted> for Deleted {
    type Error = SalesforceError;

    fn try_from(wire: WireDeleted) -> Result<Self> {
        let (mut records, mut damaged) = (Vec::with_capacity(wire.deleted_records.len()), Vec::new());
        for raw in wire.deleted_records {
            let read = serde_json::from_str::<WireDeletedRecord>(raw.get()).ok();
            match read.and_then(|record| Some((id18(&record.id)?, stamp(&record.deleted_date)?))) {
                Some(record) => records.push(record),
                None => damaged.push(raw),
            }
        }
        Ok(Self {
            records,
            damaged,
            earliest_available: covered(&wire.earliest_date_available)?,
            latest_covered: covered(&wire.latest_date_covered)?,
        })
    }
}

/// What the log of changes says of a span of time.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The ids of records that were inserted or changed, 18 characters.
    pub ids: Vec<String>,
    /// Entries that are no ids, as sent.
    pub damaged: Vec<Box<RawValue>>,
    /// Up to where this answer tells everything: the start of the next question.
    pub latest_covered: DateTime<Utc>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireChanged {
    ids: Vec<Box<RawValue>>,
    latest_date_covered: String,
}

impl TryFrom<WireChanged> for Changed {
    type Error = SalesforceError;

    fn try_from(wire: WireChanged) -> Result<Self> {
        let (mut ids, mut damaged) = (Vec::with_capacity(wire.ids.len()), Vec::new());
        for raw in wire.ids {
            match serde_json::from_str::<String>(raw.get()).ok().and_then(|id| id18(&id)) {
                Some(id) => ids.push(id),
                None => damaged.push(raw),
            }
        }
        Ok(Self { ids, damaged, latest_covered: covered(&wire.latest_date_covered)? })
    }
}

/// A stamp in any of the forms that Salesforce uses: `…000+0000` by REST, `…000Z` in bulk.
fn stamp(text: &str) -> Option<DateTime<Utc>> {
    let read = DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"));
    read.ok().map(|stamp| stamp.to_utc())
}

fn covered(text: &str) -> Result<DateTime<Utc>> {
    stamp(text).ok_or_else(|| broken("a log does not say what it covers"))
}

#[derive(Deserialize)]
pub(crate) struct WireVersion {
    pub(crate) version: String,
}

#[derive(Deserialize)]
pub(crate) struct WireObjects {
    pub(crate) sobjects: Vec<WireObject>,
}

#[derive(Deserialize)]
pub(crate) struct WireObject {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) queryable: bool,
}

/// An allowance of the organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Limit {
    /// The whole allowance.
    pub max: i64,
    /// What is left; can be below zero.
    pub remaining: i64,
}

pub(crate) type WireLimits = BTreeMap<String, Value>;

/// How much of the organisation's rolling 24 hours is used, by all its applications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiUsage {
    /// Calls made.
    pub used: u64,
    /// Calls allowed.
    pub max: u64,
}

impl ApiUsage {
    /// Reads `api-usage=U/M`, which other entries may follow.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let usage = header.split([';', ',']).find_map(|entry| entry.trim().strip_prefix("api-usage="))?;
        let (used, max) = usage.split_once('/')?;
        Some(Self { used: used.trim().parse().ok()?, max: max.trim().parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read() {
        assert_eq!(ApiUsage::parse("api-usage=18/5000; api-bursts=1/2"), Some(ApiUsage { used: 18, max: 5_000 }));
        assert_eq!(ApiUsage::parse("api-usage=x/5000"), None);
        assert_eq!(ApiUsage::parse(""), None);
    }

    #[test]
    fn stamps_are_read_in_either_form() {
        let expected = "2024-09-24T03:26:07Z".parse().ok();
        for text in ["2024-09-24T03:26:07.000+0000", "2024-09-24T03:26:07.000Z", "2024-09-24T05:26:07+02:00"] {
            assert_eq!(stamp(text), expected, "{text}");
        }
        assert_eq!(stamp("yesterday"), None);
    }
}

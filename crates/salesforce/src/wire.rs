//! Owns the shapes that Salesforce sends, as far as they are used. Does not own what they mean for storage.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// One object's fields.
#[derive(Clone, Debug)]
pub struct Describe {
    /// The API name of the object.
    pub name: String,
    /// Its fields, in the order given.
    pub fields: Vec<Field>,
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WirePage {
    pub(crate) total_size: u64,
    pub(crate) done: bool,
    pub(crate) next_records_url: Option<String>,
    #[serde(default)]
    pub(crate) records: Vec<Box<RawValue>>,
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
}

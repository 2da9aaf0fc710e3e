//! Owns what an organisation holds: objects, their fields, records and values, and how a value looks on the wire.
//! Does not own where records come from, nor how they are asked for.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Duration, NaiveDate, Utc};
use serde_json::{Map, Value as Json, json};

/// What Salesforce calls the type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldType {
    /// The record's own id.
    Id,
    /// Text on one line.
    String,
    /// Text on many lines.
    TextArea,
    /// One value of a list.
    Picklist,
    /// Several values of a list, joined by `;`.
    MultiPicklist,
    /// A telephone number.
    Phone,
    /// An e-mail address.
    Email,
    /// A web address.
    Url,
    /// The id of another record.
    Reference,
    /// Never null.
    Boolean,
    /// A whole number.
    Int,
    /// A number with a fraction.
    Double,
    /// Money.
    Currency,
    /// A share of a hundred.
    Percent,
    /// A day.
    Date,
    /// An instant, in whole seconds.
    Datetime,
    /// A compound of the fields that share its prefix.
    Address,
}

impl FieldType {
    /// The name in describe.
    #[must_use]
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::String => "string",
            Self::TextArea => "textarea",
            Self::Picklist => "picklist",
            Self::MultiPicklist => "multipicklist",
            Self::Phone => "phone",
            Self::Email => "email",
            Self::Url => "url",
            Self::Reference => "reference",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Double => "double",
            Self::Currency => "currency",
            Self::Percent => "percent",
            Self::Date => "date",
            Self::Datetime => "datetime",
            Self::Address => "address",
        }
    }

    fn length(self) -> u32 {
        match self {
            Self::Id | Self::Reference => 18,
            Self::TextArea => 32_000,
            Self::MultiPicklist => 4_099,
            Self::Phone => 40,
            Self::Email => 80,
            Self::String | Self::Picklist | Self::Url => 255,
            _ => 0,
        }
    }

    fn precision_and_scale(self) -> (u32, u32) {
        match self {
            Self::Double | Self::Currency => (18, 2),
            Self::Percent => (5, 2),
            _ => (0, 0),
        }
    }
}

/// One field of an object.
#[derive(Clone, Debug)]
pub(super) struct Field {
    /// The API name.
    pub name: String,
    /// Its type.
    pub field_type: FieldType,
    /// A formula: its value moves without the record's modification stamp.
    pub calculated: bool,
    /// The compound this field is a part of.
    pub compound: Option<String>,
    /// Taken out of describe and of queries, as by a loss of permission.
    pub hidden: bool,
}

impl Field {
    /// A field that is neither calculated nor part of a compound.
    #[must_use]
    pub(super) fn new(name: &str, field_type: FieldType) -> Self {
        Self { name: name.to_owned(), field_type, calculated: false, compound: None, hidden: false }
    }

    fn describe(&self) -> Json {
        let (precision, scale) = self.field_type.precision_and_scale();
        let nillable =
            self.field_type != FieldType::Boolean && !SYSTEM_FIELDS.iter().any(|(name, _)| *name == self.name);
        json!({
            "name": self.name, "label": self.name.trim_end_matches("__c").replace('_', " "),
            "type": self.field_type.name(), "nillable": nillable, "length": self.field_type.length(),
            "digits": if self.field_type == FieldType::Int { 9 } else { 0 }, "precision": precision, "scale": scale,
            "calculated": self.calculated, "compoundFieldName": self.compound, "custom": self.name.ends_with("__c"),
            "filterable": self.field_type != FieldType::Address, "sortable": self.field_type != FieldType::Address,
        })
    }
}

/// The fields of every object, at these places in every record.
pub(super) const SYSTEM_FIELDS: [(&str, FieldType); 5] = [
    ("Id", FieldType::Id),
    ("IsDeleted", FieldType::Boolean),
    ("CreatedDate", FieldType::Datetime),
    ("LastModifiedDate", FieldType::Datetime),
    ("SystemModstamp", FieldType::Datetime),
];

const ID: usize = 0;
const IS_DELETED: usize = 1;
const LAST_MODIFIED: usize = 3;
const SYSTEM_MODSTAMP: usize = 4;

/// One value of a record.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// No value; Salesforce keeps no empty string either.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Double(f64),
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

    fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Bool(value) => json!(value),
            Self::Int(value) => json!(value),
            Self::Double(value) => json!(value),
            Self::Text(value) => json!(value),
            Self::Date(value) => json!(value.format("%Y-%m-%d").to_string()),
            Self::Datetime(value) => json!(wire_datetime(*value)),
        }
    }
}

/// An instant as REST writes it, `2024-09-24T03:26:07.000+0000`.
#[must_use]
pub(super) fn wire_datetime(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S.000+0000").to_string()
}

/// The values of one record, in the order of its object's fields.
#[derive(Debug)]
pub(super) struct Record(pub Box<[Value]>);

impl Record {
    /// The 18-character id.
    #[must_use]
    pub(super) fn id(&self) -> &str {
        if let Value::Text(id) = &self.0[ID] { id } else { "" }
    }

    /// In the recycle bin.
    #[must_use]
    pub(super) fn is_deleted(&self) -> bool {
        self.0[IS_DELETED] == Value::Bool(true)
    }

    /// When it changed last.
    #[must_use]
    pub(super) fn modified_at(&self) -> Option<DateTime<Utc>> {
        if let Value::Datetime(at) = self.0[SYSTEM_MODSTAMP] { Some(at) } else { None }
    }
}

/// One object: its fields and its records by id.
#[derive(Debug)]
pub(super) struct Object {
    /// The API name.
    pub name: String,
    /// System fields first.
    pub fields: Vec<Field>,
    /// Every record, the deleted ones too. Readers share a record; a writer puts a new one in its place.
    pub records: BTreeMap<String, Arc<Record>>,
}

impl Object {
    /// An object without records; the system fields come before `fields`.
    #[must_use]
    pub(super) fn new(name: &str, fields: Vec<Field>) -> Self {
        let system = SYSTEM_FIELDS.iter().map(|(name, field_type)| Field::new(name, *field_type));
        Self { name: name.to_owned(), fields: system.chain(fields).collect(), records: BTreeMap::new() }
    }

    /// Adds a record whose own values are `values`, in the order of the fields given to [`Object::new`].
    /// Answers false if the id is taken.
    pub(super) fn insert(
        &mut self,
        id: String,
        created_at: DateTime<Utc>,
        modified_at: DateTime<Utc>,
        values: Vec<Value>,
    ) -> bool {
        let system = [
            Value::text(&id),
            Value::Bool(false),
            Value::Datetime(created_at),
            Value::Datetime(modified_at),
            Value::Datetime(modified_at),
        ];
        let record = Record(system.into_iter().chain(values).collect());
        self.records.insert(id, Arc::new(record)).is_none()
    }

    /// The place of a visible field; names ignore case, as in SOQL.
    #[must_use]
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| !field.hidden && field.name.eq_ignore_ascii_case(name))
    }

    /// Puts `values` over the record `id`, or over an empty one, stamped `now`.
    pub(super) fn put(&mut self, id: &str, values: Vec<(usize, Value)>, now: DateTime<Utc>) {
        let empty =
            |field: &Field| if field.field_type == FieldType::Boolean { Value::Bool(false) } else { Value::Null };
        let mut new: Box<[Value]> = match self.records.get(id) {
            Some(old) => old.0.clone(),
            None => {
                let mut new: Box<[Value]> = self.fields.iter().map(empty).collect();
                new[ID] = Value::text(id);
                new[2] = Value::Datetime(now);
                new
            }
        };
        for (place, value) in values {
            new[place] = value;
        }
        new[LAST_MODIFIED] = Value::Datetime(now);
        new[SYSTEM_MODSTAMP] = Value::Datetime(now);
        self.records.insert(id.to_owned(), Arc::new(Record(new)));
    }

    /// The describe of this object.
    #[must_use]
    pub(super) fn describe(&self) -> Json {
        let fields: Vec<Json> = self.fields.iter().filter(|field| !field.hidden).map(Field::describe).collect();
        let mut describe = self.summary();
        describe["fields"] = Json::Array(fields);
        describe
    }

    /// The line of this object in the list of all objects.
    #[must_use]
    pub(super) fn summary(&self) -> Json {
        json!({
            "name": self.name, "label": self.name, "queryable": true, "replicateable": true, "retrieveable": true,
            "custom": self.name.ends_with("__c"),
        })
    }

    /// One value as REST writes it.
    #[must_use]
    pub(super) fn wire_value(&self, record: &Record, place: usize) -> Json {
        let field = &self.fields[place];
        if field.field_type != FieldType::Address {
            return record.0[place].to_json();
        }
        let prefix = field.name.trim_end_matches("Address");
        let mut address = Map::new();
        for (part, value) in self.fields.iter().zip(&record.0) {
            if part.compound.as_deref() == Some(&field.name) {
                let name = part.name.trim_start_matches(prefix);
                let name = name[..1].to_lowercase() + &name[1..];
                address.insert(name, value.to_json());
            }
        }
        if address.values().all(Json::is_null) { Json::Null } else { Json::Object(address) }
    }
}

/// A whole organisation.
#[derive(Debug, Default)]
pub(super) struct Organisation {
    /// Objects by API name.
    pub objects: BTreeMap<String, Object>,
}

impl Organisation {
    /// An object by its name, which ignores case as in SOQL.
    #[must_use]
    pub(super) fn object(&self, name: &str) -> Option<&Object> {
        self.objects.get(name).or_else(|| self.objects.values().find(|object| object.name.eq_ignore_ascii_case(name)))
    }
}

/// When a record with no time of its own was made and changed, by its place: seven share each second, as imports do.
#[must_use]
pub(super) fn stamps(place: u64, spread_secs: i64) -> (DateTime<Utc>, DateTime<Utc>) {
    // Fixed, so that the same organisation comes out on any day; in the past, so that any window of today includes it.
    let first = DateTime::from_timestamp(1_704_067_200, 0).unwrap_or_default();
    let group = i64::try_from(place / 7).unwrap_or(i64::MAX);
    let modified = first + Duration::seconds(group.saturating_mul(spread_secs.max(1)));
    (modified - Duration::seconds(group % 90 * 86_400), modified)
}

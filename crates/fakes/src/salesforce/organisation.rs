//! Owns what an organisation holds: objects, their fields and records, what was deleted, and what is not yet to be seen.
//! Does not own where records come from, how they are asked for, nor how a value looks on the wire.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value as Json, json};

use super::{
    field::{Field, SYSTEM_FIELDS},
    ids::{Key, key},
    record::{CREATED, ID, IS_DELETED, LAST_MODIFIED, Record, SYSTEM_MODSTAMP, Value, empty_record, parse},
};

/// A version of a record that becomes visible later than its stamp says.
#[derive(Debug)]
pub(super) struct Late {
    /// From when on it is seen.
    pub visible_at: DateTime<Utc>,
    /// Which record.
    pub key: Key,
    /// What it is then.
    pub record: Arc<Record>,
}

/// One object: its fields and its records by id.
#[derive(Debug)]
pub(super) struct Object {
    /// The API name.
    pub name: String,
    /// System fields first. Fields are added at the end and never taken away: what is removed is hidden.
    pub fields: Vec<Field>,
    /// Every record, the deleted ones too. Readers share a record; a writer puts a new one in its place.
    pub records: BTreeMap<Key, Arc<Record>>,
    /// Records that the user may not see any more.
    pub unseen: BTreeMap<Key, Arc<Record>>,
    /// Versions that are not yet to be seen.
    pub late: Vec<Late>,
    /// The log of deletions, hard ones too, which outlives the records: when, and which.
    pub deletions: Vec<(DateTime<Utc>, Key)>,
    /// Records that are gone without having stayed in the recycle bin.
    pub purged: BTreeSet<Key>,
    /// Records with a value that is not of its field's type.
    pub damaged: BTreeSet<Key>,
    /// When describe changed last.
    pub described_at: DateTime<Utc>,
}

impl Object {
    /// An object without records; the system fields come before `fields`.
    #[must_use]
    pub(super) fn new(name: &str, fields: Vec<Field>) -> Self {
        let system = SYSTEM_FIELDS.iter().map(|(name, field_type)| Field::new(name, *field_type));
        Self {
            name: name.to_owned(),
            fields: system.chain(fields).collect(),
            records: BTreeMap::new(),
            unseen: BTreeMap::new(),
            late: Vec::new(),
            deletions: Vec::new(),
            purged: BTreeSet::new(),
            damaged: BTreeSet::new(),
            described_at: first_instant(),
        }
    }

    /// Adds a record whose own values are `values`, in the order of the fields given to [`Object::new`].
    /// Answers false if the id is taken or is none.
    pub(super) fn insert(
        &mut self,
        id: &str,
        created_at: DateTime<Utc>,
        modified_at: DateTime<Utc>,
        values: Vec<Value>,
    ) -> bool {
        let Some(key) = key(id) else { return false };
        let mut all = Vec::with_capacity(SYSTEM_FIELDS.len() + values.len());
        all.extend([
            Value::text(id),
            Value::Bool(false),
            Value::Datetime(created_at),
            Value::Datetime(modified_at),
            Value::Datetime(modified_at),
        ]);
        all.extend(values);
        self.records.insert(key, Arc::new(Record::new(&all))).is_none()
    }

    /// The place of a visible field; names ignore case, as in SOQL.
    #[must_use]
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| !field.hidden && field.name.eq_ignore_ascii_case(name))
    }

    /// The places of all visible fields.
    #[must_use]
    pub(super) fn visible_places(&self) -> Vec<usize> {
        (0..self.fields.len()).filter(|place| !self.fields[*place].hidden).collect()
    }

    /// The record `key` with `values` over it, or over an empty one, stamped `now`.
    #[must_use]
    pub(super) fn version(&self, key: Key, mut values: Vec<(usize, Value)>, now: DateTime<Utc>) -> Arc<Record> {
        values.extend([(LAST_MODIFIED, Value::Datetime(now)), (SYSTEM_MODSTAMP, Value::Datetime(now))]);
        Arc::new(match self.records.get(&key) {
            Some(old) => old.with(&self.fields, &values),
            None => {
                values.push((ID, Value::text(&String::from_utf8_lossy(&key))));
                if !values.iter().any(|(place, _)| *place == CREATED) {
                    values.push((CREATED, Value::Datetime(now)));
                }
                empty_record(&self.fields, &values)
            }
        })
    }

    /// Makes `record` the newest version. A version not yet to be seen is passed over: a newer one came.
    pub(super) fn put(&mut self, record: Arc<Record>) {
        let key = record.key();
        self.late.retain(|late| late.key != key);
        self.place_version(key, record);
    }

    fn place_version(&mut self, key: Key, record: Arc<Record>) {
        let was_deleted = self.records.get(&key).is_some_and(|old| old.is_deleted());
        match (was_deleted, record.is_deleted()) {
            (false, true) => self.deletions.push((record.modified_at(), key)),
            (true, false) => self.deletions.retain(|(_, deleted)| *deleted != key),
            _ => {}
        }
        if self.damaged.contains(&key) && !self.is_damaged(&record) {
            self.damaged.remove(&key);
        }
        self.purged.remove(&key);
        self.records.insert(key, record);
    }

    fn is_damaged(&self, record: &Record) -> bool {
        let mut fields = self.fields.iter().enumerate();
        fields.any(|(place, field)| parse(field.field_type, &record.text(place)).is_none())
    }

    /// Takes a record away for good: `logged` leaves a line in the log of deletions.
    pub(super) fn purge(&mut self, key: Key, logged: bool, now: DateTime<Utc>) {
        self.late.retain(|late| late.key != key);
        if self.records.remove(&key).is_some() {
            self.damaged.remove(&key);
            self.purged.insert(key);
            if logged && !self.deletions.iter().any(|(_, deleted)| *deleted == key) {
                self.deletions.push((now, key));
            }
        }
    }

    /// Takes a record out of the user's sight.
    pub(super) fn lose(&mut self, key: Key) {
        self.late.retain(|late| late.key != key);
        self.damaged.remove(&key);
        if let Some(record) = self.records.remove(&key) {
            self.unseen.insert(key, record);
        }
    }

    /// Puts a record back into the user's sight.
    pub(super) fn regain(&mut self, key: Key) {
        if let Some(record) = self.unseen.remove(&key) {
            self.records.insert(key, record);
        }
    }

    /// Makes visible what is due by `now`; answers when the next is due.
    pub(super) fn settle(&mut self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let (due, later) = std::mem::take(&mut self.late).into_iter().partition(|late| late.visible_at <= now);
        self.late = later;
        let due: Vec<Late> = due;
        for late in due {
            self.place_version(late.key, late.record);
        }
        self.late.iter().map(|late| late.visible_at).min()
    }

    /// Notes that describe changed: its stamp moves by a whole second at least, as HTTP compares whole seconds.
    pub(super) fn described_anew(&mut self, now: DateTime<Utc>) {
        self.described_at = now.max(self.described_at + Duration::seconds(1));
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

    /// The change that puts a record into the recycle bin, or takes it out.
    #[must_use]
    pub(super) fn deletion(deleted: bool) -> (usize, Value) {
        (IS_DELETED, Value::Bool(deleted))
    }
}

/// A whole organisation.
#[derive(Debug, Default)]
pub(super) struct Organisation {
    /// Objects by API name.
    pub objects: BTreeMap<String, Object>,
    /// Objects that are gone, and may come back.
    pub gone: BTreeMap<String, Object>,
}

impl Organisation {
    /// An object by its name, which ignores case as in SOQL.
    #[must_use]
    pub(super) fn object(&self, name: &str) -> Option<&Object> {
        self.objects.get(name).or_else(|| self.objects.values().find(|object| object.name.eq_ignore_ascii_case(name)))
    }

    /// Makes visible what is due by `now`; answers when the next is due.
    pub(super) fn settle(&mut self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.objects.values_mut().filter_map(|object| object.settle(now)).min()
    }
}

/// Before every invented record. Fixed, so that the same organisation comes out on any day; in the past, so that any
/// window of today includes it.
fn first_instant() -> DateTime<Utc> {
    DateTime::from_timestamp(1_704_067_200, 0).unwrap_or_default()
}

/// When a record with no time of its own was made and changed, by its place: seven share each second, as imports do.
#[must_use]
pub(super) fn stamps(place: u64, spread_secs: i64) -> (DateTime<Utc>, DateTime<Utc>) {
    let group = i64::try_from(place / 7).unwrap_or(i64::MAX);
    let modified = first_instant() + Duration::seconds(group.saturating_mul(spread_secs.max(1)));
    (modified - Duration::seconds(group % 90 * 86_400), modified)
}

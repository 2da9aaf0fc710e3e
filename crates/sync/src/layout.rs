//! How an object's fields lie in its table, and how a record becomes a row of it.
//! Owns which fields are read and which of them say what a record is: its id, its version, whether it is deleted.

use crate::value::{Reading, instant, string};
use salesforce::Describe;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value, value::RawValue};
use std::{borrow::Cow, collections::HashMap, fmt};
use store::{Quarantined, RecordBatch, RecordColumn, RecordHead, RecordTable};

/// The stamps that order an object's versions, the best first. Records that nobody can change have the last one only.
const VERSION_FIELDS: [&str; 4] = ["SystemModstamp", "LastModifiedDate", "CreatedDate", "LoginTime"];
const ID: &str = "Id";
const IS_DELETED: &str = "IsDeleted";

/// A field that is read.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) reading: Reading,
    /// The place of its column in the table; without one its value goes to the extra fields.
    pub(crate) cell: Option<usize>,
}

/// An object's fields and where they go.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) fields: Vec<Field>,
    pub(crate) places: HashMap<String, usize>,
    pub(crate) id: Option<usize>,
    pub(crate) version: Option<usize>,
    pub(crate) is_deleted: Option<usize>,
    pub(crate) cells: usize,
}

impl Layout {
    /// All fields that hold a value of their own.
    pub(crate) fn of(describe: &Describe) -> Self {
        let read = |field: &salesforce::Field| {
            Some(Field { name: field.name.clone(), reading: Reading::of(&field.field_type)?, cell: None })
        };
        let fields: Vec<Field> = describe.fields.iter().filter_map(read).collect();
        let places: HashMap<String, usize> =
            fields.iter().enumerate().map(|(place, field)| (field.name.clone(), place)).collect();
        let place = |name: &str| places.get(name).copied();
        Self {
            id: place(ID),
            version: VERSION_FIELDS.iter().find_map(|name| place(name)),
            is_deleted: place(IS_DELETED),
            fields,
            places,
            cells: 0,
        }
    }

    /// The columns that a table should have: one for each field but the id, which every table has.
    pub(crate) fn wanted(&self) -> Vec<RecordColumn> {
        let column = |field: &Field| RecordColumn {
            name: field.name.to_ascii_lowercase(),
            field: field.name.clone(),
            column_type: field.reading.column_type(),
        };
        self.fields.iter().filter(|field| field.name != ID).map(column).collect()
    }

    /// Gives each field its column in `table`, as far as the table has it.
    pub(crate) fn bind(&mut self, table: &RecordTable) {
        let places: HashMap<&str, usize> =
            table.columns().iter().enumerate().map(|(place, column)| (column.name.as_str(), place)).collect();
        for field in &mut self.fields {
            field.cell = places.get(field.name.to_ascii_lowercase().as_str()).copied();
        }
        self.cells = table.columns().len();
    }

    /// The names of the fields that are read.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name.as_str())
    }

    /// The fields that say what a record is: its id, its version, whether it is deleted.
    pub(crate) fn mark_names(&self) -> Vec<&str> {
        let places = [self.id, self.version, self.is_deleted].into_iter().flatten();
        places.map(|place| self.fields[place].name.as_str()).collect()
    }

    /// The field that orders versions, if the object has one.
    pub(crate) fn version_field(&self) -> Option<&str> {
        self.version.map(|place| self.fields[place].name.as_str())
    }

    /// Adds a record to `batch`, or says why it cannot be stored.
    pub(crate) fn read(&self, record: &RawValue, batch: &mut RecordBatch) -> Result<(), Quarantined> {
        let body = || record.get().as_bytes().to_vec();
        let values = match self.values(record) {
            Ok(values) => values,
            Err(error) => {
                let reason = format!("the record cannot be read: {error}");
                return Err(Quarantined { reason, body: body(), ..Quarantined::default() });
            }
        };
        let is_deleted = self.is_deleted.and_then(|place| values[place]).map(|raw| raw.get() == "true");
        let stamp = self.version.and_then(|place| values[place]).and_then(|raw| string(raw.get()));
        let version_at = stamp.and_then(|stamp| instant(&stamp));
        let refuse = |record_id: Option<String>, reason: String| {
            Err(Quarantined { record_id, version_at, is_deleted, reason, body: body() })
        };
        let text = |place: Option<usize>| place.and_then(|place| values[place]).and_then(|raw| string(raw.get()));
        let Some(id) = text(self.id).and_then(|id| salesforce::id18(&id)) else {
            // PostgreSQL stores no NUL, and a record that cannot even be held would hold up its page.
            let shown = text(self.id).map(|id| id.replace('\0', ""));
            return refuse(shown, "the record has no valid Id".to_owned());
        };
        if let (Some(place), None) = (self.version, version_at) {
            return refuse(Some(id), format!("{} is no date and time", self.fields[place].name));
        }
        match self.cells_of(&values) {
            Ok((cells, extra)) => {
                let is_deleted = is_deleted == Some(true);
                let mut row = batch.begin(&RecordHead { id: &id, version_at, is_deleted });
                cells.iter().for_each(|cell| row.cell(cell.as_deref()));
                row.finish(&extra);
                Ok(())
            }
            Err(reason) => refuse(Some(id), reason),
        }
    }

    #[expect(clippy::type_complexity, reason = "the cells and the extra fields of one record")]
    fn cells_of<'r>(
        &self,
        values: &[Option<&'r RawValue>],
    ) -> Result<(Vec<Option<Cow<'r, str>>>, Map<String, Value>), String> {
        let mut cells = vec![None; self.cells];
        let mut extra = Map::new();
        for (place, (field, raw)) in self.fields.iter().zip(values).enumerate() {
            let Some(raw) = raw.map(RawValue::get) else { continue };
            if Some(place) == self.id {
                continue;
            }
            let cell = field.reading.cell(raw).map_err(|reason| format!("{}: {reason}", field.name))?;
            match (field.cell, cell) {
                (Some(place), cell) => cells[place] = cell,
                (None, Some(text)) => {
                    extra.insert(field.name.clone(), text.into());
                }
                (None, None) => {}
            }
        }
        Ok((cells, extra))
    }

    fn values<'r>(&self, record: &'r RawValue) -> serde_json::Result<Vec<Option<&'r RawValue>>> {
        let mut json = serde_json::Deserializer::from_str(record.get());
        Values(self).deserialize(&mut json)
    }
}

/// Reads a record's object into its fields' places; what was not asked for is passed over.
struct Values<'l>(&'l Layout);

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = Vec<Option<&'de RawValue>>;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = Vec<Option<&'de RawValue>>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = vec![None; self.0.fields.len()];
        while let Some(place) = map.next_key_seed(Place(&self.0.places))? {
            match place {
                Some(place) => values[place] = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(values)
    }
}

/// A key's place, without a copy of the key.
struct Place<'l>(&'l HashMap<String, usize>);

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = Option<usize>;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Place<'_> {
    type Value = Option<usize>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }
    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.get(name).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_stamp_there_is_orders_versions() {
        let field = |name: &str| salesforce::Field {
            name: name.to_owned(),
            field_type: "datetime".to_owned(),
            nillable: false,
            length: 0,
            precision: 0,
            scale: 0,
            calculated: false,
            compound: false,
        };
        let version_of = |names: &[&str]| {
            let fields = names.iter().map(|name| field(name)).collect();
            Layout::of(&Describe { name: "X".to_owned(), fields }).version_field().map(str::to_owned)
        };
        let best = |names: &[&str], best: Option<&str>| assert_eq!(version_of(names).as_deref(), best, "{names:?}");
        best(&["Id", "CreatedDate", "SystemModstamp", "LastModifiedDate"], Some("SystemModstamp"));
        best(&["Id", "CreatedDate", "LastModifiedDate"], Some("LastModifiedDate"));
        best(&["Id", "CreatedDate", "LoginTime"], Some("CreatedDate"));
        best(&["Id", "LoginTime"], Some("LoginTime"));
        best(&["Id", "Name"], None);
    }
}

//! Owns an organisation read from a folder of CSV files, which its `organisation.toml` maps to objects and fields.
//! Does not own the shape of a record.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, NaiveDate};
use serde::Deserialize;

use super::{
    field::{Field, FieldType},
    ids::id_for,
    organisation::{Object, Organisation, stamps},
    record::{Value, decimal},
};

/// Seconds between the modification times of neighbouring groups of records.
const STEP_SECS: i64 = 3_600;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapping {
    file: String,
    key: String,
    fields: Vec<Column>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Column {
    name: String,
    column: String,
    #[serde(rename = "type")]
    field_type: String,
    lookup: Option<String>,
    format: Option<String>,
}

impl Column {
    fn field_type(&self) -> Result<FieldType> {
        let named = FieldType::named(&self.field_type);
        named.with_context(|| format!("field {}: the type {} is not known", self.name, self.field_type))
    }

    fn value(&self, field_type: FieldType, text: &str) -> Result<Value> {
        if text.is_empty() {
            return Ok(if field_type == FieldType::Boolean { Value::Bool(false) } else { Value::Null });
        }
        Ok(match field_type {
            FieldType::Boolean => Value::Bool(text.to_ascii_lowercase().parse()?),
            FieldType::Int => Value::Int(text.parse()?),
            FieldType::Double | FieldType::Currency | FieldType::Percent => {
                Value::Decimal(decimal(text).context("it is not a decimal")?)
            }
            FieldType::Date => {
                Value::Date(NaiveDate::parse_from_str(text, self.format.as_deref().unwrap_or("%Y-%m-%d"))?)
            }
            FieldType::Datetime => Value::Datetime(match &self.format {
                Some(format) => chrono::NaiveDateTime::parse_from_str(text, format)?.and_utc(),
                None => DateTime::parse_from_rfc3339(text)?.to_utc(),
            }),
            _ => Value::text(text),
        })
    }
}

struct Table {
    mapping: Mapping,
    header: csv::StringRecord,
    rows: Vec<csv::StringRecord>,
}

impl Table {
    fn read(folder: &Path, mapping: Mapping) -> Result<Self> {
        let mut reader = csv::Reader::from_path(folder.join(&mapping.file))?;
        let header = reader.headers()?.clone();
        let rows = reader.records().collect::<Result<_, _>>()?;
        Ok(Self { mapping, header, rows })
    }

    fn column(&self, name: &str) -> Result<usize> {
        self.header.iter().position(|column| column == name).with_context(|| format!("there is no column {name}"))
    }

    /// The id of each key.
    fn ids(&self, object: &str) -> Result<HashMap<String, String>> {
        let column = self.column(&self.mapping.key)?;
        let mut ids = HashMap::new();
        for row in &self.rows {
            let key = &row[column];
            ensure!(!key.is_empty(), "a key is empty");
            ensure!(ids.insert(key.to_owned(), id_for(object, key)).is_none(), "the key {key} is there twice");
        }
        Ok(ids)
    }
}

/// Reads a folder.
///
/// A field with `lookup` holds a key of the other object and becomes the id of that record. A key that no record has
/// leaves the field null and stays as text in a further field, `<name>__c`.
///
/// # Errors
/// A file is missing or malformed, a key is empty or not unique, a value is not of its type: the error says where.
pub(super) fn read(folder: &Path) -> Result<Organisation> {
    let file = folder.join("organisation.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
    let mappings: BTreeMap<String, Mapping> = toml::from_str(&text).with_context(|| file.display().to_string())?;
    let (mut tables, mut ids) = (Vec::new(), HashMap::new());
    for (name, mapping) in mappings {
        let file = mapping.file.clone();
        let table = Table::read(folder, mapping).with_context(|| file.clone())?;
        ids.insert(name.clone(), table.ids(&name).with_context(|| file)?);
        tables.push((name, table));
    }
    let mut organisation = Organisation::default();
    for (name, table) in tables {
        let object = object(&name, &table, &ids).with_context(|| table.mapping.file.clone())?;
        organisation.objects.insert(name, object);
    }
    Ok(organisation)
}

fn object(name: &str, table: &Table, ids: &HashMap<String, HashMap<String, String>>) -> Result<Object> {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for column in &table.mapping.fields {
        let field_type = column.field_type()?;
        fields.push(Field::new(&column.name, field_type));
        let others = match &column.lookup {
            Some(other) => {
                fields.push(Field::new(&format!("{}__c", column.name), FieldType::String));
                Some(ids.get(other).with_context(|| format!("field {}: there is no object {other}", column.name))?)
            }
            None => None,
        };
        columns.push((column, field_type, table.column(&column.column)?, others));
    }
    let key = table.column(&table.mapping.key)?;
    let mut object = Object::new(name, fields);
    for (index, row) in table.rows.iter().enumerate() {
        let mut values = Vec::new();
        for (column, field_type, place, others) in &columns {
            let text = &row[*place];
            if let Some(others) = others {
                let id = others.get(text);
                values.push(id.map_or(Value::Null, |id| Value::text(id)));
                values.push(if id.is_some() { Value::Null } else { Value::text(text) });
            } else {
                let value = column.value(*field_type, text);
                values.push(value.with_context(|| format!("record {}: {} = {text:?}", index + 1, column.column))?);
            }
        }
        let (created, modified) = stamps(index as u64, STEP_SECS);
        object.insert(&ids[name][&row[key]], created, modified, values);
    }
    Ok(object)
}

//! Compares what the tables of records hold with what a vendor says is true.
//! Knows tables and JSON; does not know which vendor or simulation the truth comes from.

use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::collections::BTreeMap;

/// Every stored record of an object by its id, a column a key.
///
/// # Panics
/// When the table cannot be read.
pub async fn stored_records(url: &str, vendor: &str, object: &str) -> BTreeMap<String, Value> {
    let mut sql = match PgConnection::connect(url).await {
        Ok(sql) => sql,
        Err(error) => panic!("the test database does not answer: {error}"),
    };
    let statement = format!("SELECT id, to_jsonb(r) FROM {vendor}.\"{}\" r", object.to_ascii_lowercase());
    match sqlx::query_as::<_, (String, Value)>(AssertSqlSafe(statement)).fetch_all(&mut sql).await {
        Ok(rows) => rows.into_iter().collect(),
        Err(error) => panic!("{vendor}.{object} cannot be read: {error}"),
    }
}

/// Every record of `truth` is stored as it is, deleted ones marked so, and nothing else is.
///
/// # Panics
/// When it is not so; names the record and the field.
pub async fn assert_records_equal(url: &str, vendor: &str, object: &str, truth: &[Map<String, Value>]) {
    let stored = stored_records(url, vendor, object).await;
    for record in truth {
        let id = record["Id"].as_str().unwrap_or_default();
        let Some(row) = stored.get(id) else { panic!("{object} {id} is not stored") };
        for (name, value) in record {
            let column =
                row.get(name.to_ascii_lowercase()).or_else(|| row["extra_fields"].get(name)).unwrap_or(&Value::Null);
            // A compound is stored by its parts.
            assert!(value.is_object() || is_same(value, column), "{object} {id} {name}: {value} is stored as {column}");
        }
    }
    assert_eq!(stored.len(), truth.len(), "the number of {object} stored");
}

fn is_same(truth: &Value, stored: &Value) -> bool {
    let instant = |text: &str| {
        let formats = ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%:z"];
        formats.iter().find_map(|format| chrono::DateTime::parse_from_str(text, format).ok())
    };
    match (truth, stored) {
        (Value::Number(truth), Value::Number(stored)) => truth.as_f64() == stored.as_f64(),
        (Value::String(truth), Value::String(stored)) => {
            truth == stored || instant(truth).is_some_and(|at| instant(stored) == Some(at))
        }
        (truth, stored) => truth == stored,
    }
}

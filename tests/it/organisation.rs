//! A whole organisation by one command: `cargo up -- --org-data DIR --exit-when-synced`, and then what PostgreSQL holds
//! against the files, row for row, with a queue and without one. Reads the files by itself, not with the simulation's code.

use crate::fleet::LIMIT;
use serde::Deserialize;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};
use testkit::Process;

/// A folder of somebody's real data to be tried as well.
const FOLDER_VARIABLE: &str = "SERVANT_ORG_DATA";
/// A server to queue at instead of the simulated one.
const SERVER_VARIABLE: &str = "SERVANT_SQS_ENDPOINT_URL";

#[derive(Deserialize)]
struct Mapping {
    file: String,
    key: String,
    fields: Vec<Field>,
}

#[derive(Deserialize)]
struct Field {
    name: String,
    column: String,
    r#type: String,
    lookup: Option<String>,
    format: Option<String>,
}

/// A row: the field's name and its value as text; what is empty is not there.
type Record = BTreeMap<String, String>;

fn mappings(folder: &Path) -> BTreeMap<String, Mapping> {
    toml::from_str(&std::fs::read_to_string(folder.join("organisation.toml")).unwrap()).unwrap()
}

/// One way to write each number, date and text.
fn normal(field: &Field, text: &str) -> String {
    match field.r#type.as_str() {
        "currency" | "double" | "percent" if text.contains('.') => {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        "date" if field.format.is_some() => {
            chrono::NaiveDate::parse_from_str(text, field.format.as_ref().unwrap()).unwrap().to_string()
        }
        "boolean" => text.to_ascii_lowercase(),
        _ => text.to_owned(),
    }
}

/// What the files say: of each object, its records by key.
fn from_files(folder: &Path) -> BTreeMap<String, BTreeMap<String, Record>> {
    let mappings = mappings(folder);
    let mut tables: HashMap<&str, Vec<HashMap<String, String>>> = HashMap::new();
    for (object, mapping) in &mappings {
        let mut reader = csv::Reader::from_path(folder.join(&mapping.file)).unwrap();
        tables.insert(object, reader.deserialize().collect::<Result<_, _>>().unwrap());
    }
    let keys =
        |object: &str| -> Vec<&String> { tables[object].iter().map(|row| &row[&mappings[object].key]).collect() };
    let mut objects = BTreeMap::new();
    for (object, mapping) in &mappings {
        let mut records = BTreeMap::new();
        for row in &tables[object.as_str()] {
            let mut record = Record::new();
            for field in &mapping.fields {
                let text = &row[&field.column];
                if text.is_empty() {
                    continue;
                }
                // A reference to nobody stays as text beside it.
                let is_dangling = field.lookup.as_ref().is_some_and(|other| !keys(other).contains(&text));
                let name = if is_dangling { format!("{}__c", field.name) } else { field.name.clone() };
                record.insert(name, normal(field, text));
            }
            records.insert(row[&mapping.key].clone(), record);
        }
        objects.insert(object.clone(), records);
    }
    objects
}

/// What the tables say, in the same shape.
async fn from_tables(folder: &Path, sql: &mut PgConnection) -> BTreeMap<String, BTreeMap<String, Record>> {
    let mappings = mappings(folder);
    let mut raw: BTreeMap<String, Vec<HashMap<String, String>>> = BTreeMap::new();
    for (object, mapping) in &mappings {
        let mut names: Vec<String> = mapping.fields.iter().map(|field| field.name.clone()).collect();
        names.extend(mapping.fields.iter().filter(|f| f.lookup.is_some()).map(|field| format!("{}__c", field.name)));
        names.push("Id".to_owned());
        let columns: Vec<String> = names.iter().map(|name| format!("{}::text", name.to_ascii_lowercase())).collect();
        let statement = format!("SELECT {} FROM salesforce.{object} WHERE NOT is_deleted", columns.join(", "));
        let rows = sqlx::query(AssertSqlSafe(statement)).fetch_all(&mut *sql).await.unwrap();
        let read = |row: &sqlx::postgres::PgRow| {
            let cells = names.iter().enumerate();
            cells.filter_map(|(place, name)| Some((name.clone(), row.get::<Option<String>, _>(place)?))).collect()
        };
        raw.insert(object.clone(), rows.iter().map(read).collect());
    }
    let key_field =
        |object: &str| mappings[object].fields.iter().find(|field| field.column == mappings[object].key).unwrap();
    let mut objects = BTreeMap::new();
    for (object, mapping) in &mappings {
        let mut records = BTreeMap::new();
        for row in &raw[object] {
            let mut record = Record::new();
            for field in &mapping.fields {
                let Some(value) = row.get(&field.name) else { continue };
                let value = match &field.lookup {
                    // An id stands for the record that has it, and it must be there.
                    Some(other) => {
                        let referred = raw[other].iter().find(|row| row["Id"] == *value).expect("an id of no record");
                        referred[&key_field(other).name].clone()
                    }
                    None => normal(
                        &Field {
                            format: None,
                            lookup: None,
                            name: String::new(),
                            column: String::new(),
                            r#type: field.r#type.clone(),
                        },
                        value,
                    ),
                };
                record.insert(field.name.clone(), value);
            }
            for field in mapping.fields.iter().filter(|field| field.lookup.is_some()) {
                let name = format!("{}__c", field.name);
                if let Some(text) = row.get(&name) {
                    record.insert(name, text.clone());
                }
            }
            records.insert(row[&key_field(object).name].clone(), record);
        }
        assert_eq!(records.len(), raw[object].len(), "two rows of {object} have one key");
        objects.insert(object.clone(), records);
    }
    objects
}

async fn onboard_and_compare(folder: &Path, queue: &str) {
    let database = testkit::database().await;
    let directory = folder.to_str().unwrap();
    let mut arguments = vec!["--org-data", directory, "--exit-when-synced", "--queue", queue, "--port", "0"];
    let server = std::env::var(SERVER_VARIABLE).ok().filter(|_| queue == "sqs");
    if let Some(server) = &server {
        arguments.extend(["--sqs-endpoint", server]);
    }
    let mut up = Process::start("devstack", &arguments, &[("DATABASE_URL", database.url())]).await;
    let status = up.exit(LIMIT).await;
    let output = up.output();
    assert!(status.success(), "cargo up ended with {status}: {output}");

    let files = from_files(folder);
    let mut sql = PgConnection::connect(database.url()).await.unwrap();
    let tables = from_tables(folder, &mut sql).await;
    for (object, records) in &files {
        assert_eq!(tables[object].len(), records.len(), "the number of {object}");
        for (key, record) in records {
            assert_eq!(tables[object].get(key), Some(record), "{object} {key}");
        }
    }
    let summary = output.lines().find(|line| line.starts_with("{\"records\"")).expect("a summary");
    let summary: serde_json::Value = serde_json::from_str(summary).unwrap();
    for (object, records) in &files {
        assert_eq!(summary["records"][object].as_u64(), Some(records.len() as u64), "{object} in {summary}");
    }
    assert_eq!(summary["jobs"], serde_json::json!({"succeeded": 1}));
}

/// Files with everything that makes trouble on the way: quotes, line breaks, "NA", references to nobody, no value.
fn difficult_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "organisation.toml",
        r#"
[Account]
file = "accounts.csv"
key = "name"
fields = [
  { name = "Name", column = "name", type = "string" },
  { name = "Description", column = "notes", type = "textarea" },
  { name = "AnnualRevenue", column = "revenue", type = "currency" },
  { name = "NumberOfEmployees", column = "employees", type = "int" },
]
[Visit__c]
file = "visits.csv"
key = "number"
fields = [
  { name = "Number__c", column = "number", type = "string" },
  { name = "AccountId", column = "account", type = "reference", lookup = "Account" },
  { name = "Day__c", column = "day", type = "date", format = "%d.%m.%Y" },
  { name = "Done__c", column = "done", type = "boolean" },
]
"#,
    );
    write(
        "accounts.csv",
        "name,notes,revenue,employees\nNA,\"line one\r\nline \"\"two\"\"\ttab\",1100.04,0\nNULL,\\N,,\n\"Brücke, 日本 ✅\",None,-0.5,2147483647\n",
    );
    write("visits.csv", "number,account,day,done\n1,NA,29.02.2024,TRUE\n2,Nobody & Sons,01.01.1970,false\n3,,,false\n");
    folder
}

#[tokio::test]
async fn an_organisation_of_files_arrives_row_for_row() {
    let folder = difficult_folder();
    let real = std::env::var_os(FOLDER_VARIABLE).map(|real| PathBuf::from(real).canonicalize().unwrap());
    for queue in ["postgres", "sqs"] {
        onboard_and_compare(folder.path(), queue).await;
        if let Some(real) = &real {
            onboard_and_compare(real, queue).await;
        }
    }
}

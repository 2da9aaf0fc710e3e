//! Owns the proof that the simulated Salesforce reads a folder as its organisation.toml says.
//! Does not own the protocol, which the client's tests go through.

use std::{fs, path::PathBuf};

use fakes::salesforce::{Content, FakeSalesforce, Options, id_for};
use serde_json::{Value, json};

struct Folder(PathBuf);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("organisation-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

async fn start(folder: PathBuf) -> anyhow::Result<FakeSalesforce> {
    FakeSalesforce::start(Options { content: Content::Folder(folder), ..Options::default() }).await
}

const MAPPING: &str = r#"
[Account]
file = "firms.csv"
key = "firm"
fields = [
  { name = "Name", column = "firm", type = "string" },
  { name = "NumberOfEmployees", column = "heads", type = "int" },
]

[Opportunity]
file = "deals.csv"
key = "deal"
fields = [
  { name = "AccountId", column = "firm", type = "reference", lookup = "Account" },
  { name = "CloseDate", column = "closed", type = "date", format = "%m/%d/%Y" },
  { name = "Amount", column = "worth", type = "currency" },
]
"#;

#[tokio::test]
async fn a_folder_becomes_an_organisation() {
    let folder = Folder::new(&[
        ("organisation.toml", MAPPING),
        ("firms.csv", "firm,heads\n\"Blue, Ltd\",12\nRød,\n"),
        ("deals.csv", "deal,firm,closed,worth\nd1,\"Blue, Ltd\",3/1/2017,10.50\nd2,Blue Ltd,,\nd3,,,\n"),
    ]);
    let fake = start(folder.0.clone()).await.unwrap();
    assert_eq!(fake.objects(), ["Account", "Opportunity"]);
    let firms = fake.truth("Account");
    let red = firms.iter().find(|firm| firm["Name"] == "Rød").unwrap();
    assert_eq!((&red["NumberOfEmployees"], &red["Id"]), (&Value::Null, &json!(id_for("Account", "Rød"))));
    let deals = fake.truth("Opportunity");
    let deal = |key| deals.iter().find(|deal| deal["Id"] == id_for("Opportunity", key)).unwrap();
    let matched = deal("d1");
    assert_eq!(matched["AccountId"], id_for("Account", "Blue, Ltd"));
    assert_eq!(
        (&matched["AccountId__c"], &matched["CloseDate"], &matched["Amount"]),
        (&Value::Null, &json!("2017-03-01"), &json!(10.5))
    );
    assert_eq!((&deal("d2")["AccountId"], &deal("d2")["AccountId__c"]), (&Value::Null, &json!("Blue Ltd")));
    assert_eq!((&deal("d3")["AccountId__c"], &deal("d3")["CloseDate"]), (&Value::Null, &Value::Null));
    assert!(matched["SystemModstamp"].as_str().unwrap().ends_with(".000+0000"));
}

#[tokio::test]
async fn a_wrong_folder_says_where() {
    for (files, expected) in [
        (vec![("organisation.toml", "[A]\nfile = 1")], "organisation.toml"),
        (
            vec![("organisation.toml", MAPPING), ("firms.csv", "firm,heads\na,1\na,2\n"), ("deals.csv", "deal\n")],
            "there twice",
        ),
        (
            vec![
                ("organisation.toml", MAPPING),
                ("firms.csv", "firm,heads\na,x\n"),
                ("deals.csv", "deal,firm,closed,worth\n"),
            ],
            "heads",
        ),
        (vec![("organisation.toml", MAPPING), ("firms.csv", "firm\na\n"), ("deals.csv", "deal\n")], "no column heads"),
    ] {
        let folder = Folder::new(&files);
        let error = format!("{:#}", start(folder.0.clone()).await.err().unwrap());
        assert!(error.contains(expected), "{error}");
    }
}

/// Runs on the folder that `SERVANT_TEST_ORG_DATA` names, if it names one.
#[tokio::test]
async fn the_named_folder_loads_whole() {
    let Ok(folder) = std::env::var("SERVANT_TEST_ORG_DATA") else { return };
    let folder = PathBuf::from(folder);
    let mapping: toml::Table = fs::read_to_string(folder.join("organisation.toml")).unwrap().parse().unwrap();
    let fake = start(folder.clone()).await.unwrap();
    assert_eq!(fake.objects().len(), mapping.len());
    for (object, table) in &mapping {
        let rows = csv::Reader::from_path(folder.join(table["file"].as_str().unwrap())).unwrap().into_records().count();
        let truth = fake.truth(object);
        assert_eq!(truth.len(), rows, "{object}");
        for field in table["fields"].as_array().unwrap() {
            let name = field["name"].as_str().unwrap();
            let filled = truth.iter().filter(|record| !record[name].is_null()).count();
            let kept = truth
                .iter()
                .filter(|record| record.get(&format!("{name}__c")).is_some_and(|text| !text.is_null()))
                .count();
            println!("{object}.{name}: {filled} values, {kept} kept as text");
            assert!(filled > 0, "{object}.{name}");
        }
    }
}

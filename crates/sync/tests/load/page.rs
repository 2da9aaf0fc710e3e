//! Owns the proof that a page of CSV becomes the rows that it says, damaged records apart, in pieces as in one.

use domain::{AnomalyKind, Clock, ConnectionId};
use salesforce::{Describe, Field};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use store::{AnomalyFilter, PageOrigin, Store};
use sync::{PageWriter, PageWritten, Spool, SyncError};
use testkit::{TestDatabase, stored_records};

const FIELDS: [(&str, &str); 9] = [
    ("Id", "id"),
    ("IsDeleted", "boolean"),
    ("Name", "string"),
    ("Amount__c", "currency"),
    ("Seats__c", "double"),
    ("Born__c", "date"),
    ("OwnerId", "reference"),
    ("SystemModstamp", "datetime"),
    // Its name is none for a column.
    ("Ünlike__c", "string"),
];

struct World {
    database: TestDatabase,
    store: Store,
    writer: PageWriter,
    origin: PageOrigin,
}

impl World {
    async fn new() -> Self {
        let database = testkit::database().await;
        let store = database.store_of_one(Clock::system()).await;
        let field = |(name, field_type): &(&str, &str)| Field {
            name: (*name).to_owned(),
            field_type: (*field_type).to_owned(),
            nillable: true,
            length: 0,
            precision: 0,
            scale: 0,
            calculated: false,
            compound: false,
        };
        let describe = Describe { name: "Deal__c".to_owned(), fields: FIELDS.iter().map(field).collect() };
        let writer = PageWriter::prepare(&store, "salesforce", &describe).await.unwrap();
        let account = store.create_account("a customer").await.unwrap();
        let connection: ConnectionId = store.create_connection(account, "salesforce", &json!({}), None).await.unwrap();
        let origin = PageOrigin { account, connection, read_at: store.now() };
        Self { database, store, writer, origin }
    }

    async fn write(&self, page: impl Into<Vec<u8>>) -> Result<PageWritten, SyncError> {
        let mut spool = Spool::new().await?;
        let page = page.into();
        for piece in page.chunks(100_000) {
            spool.write(piece).await?;
        }
        assert_eq!(spool.bytes(), page.len() as u64);
        let mut tx = self.store.begin().await?;
        let written = self.writer.write_csv(&self.store, &mut tx, self.origin, spool.finish().await?).await?;
        tx.commit().await?;
        Ok(written)
    }

    async fn stored(&self) -> BTreeMap<String, Value> {
        stored_records(self.database.url(), "salesforce", "Deal__c").await
    }

    async fn quarantined(&self) -> Vec<(Option<String>, String, Vec<u8>)> {
        let rows = self.store.list_quarantined(self.origin.connection, None, 200).await.unwrap();
        rows.into_iter().map(|row| (row.record_id, row.reason, row.body)).collect()
    }
}

fn header() -> String {
    let names: Vec<String> = FIELDS.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    names.join(",") + "\n"
}

fn id(number: usize) -> String {
    format!("a00{number:015}")
}

fn line(number: usize, name: &str) -> String {
    let name = name.replace('"', "\"\"");
    format!(
        "\"{}\",\"false\",\"{name}\",\"10.50\",\"7.0\",\"2024-02-29\",\"005D000000IRFma\",\"2024-09-24T03:26:07.000Z\",\"\"\n",
        id(number)
    )
}

/// Records, changed ones, and those in quarantine.
fn counts(written: PageWritten) -> (u64, u64, u64) {
    (written.records, written.changed, written.quarantined)
}

#[tokio::test]
async fn a_page_becomes_typed_rows() {
    let world = World::new().await;
    let odd = "NA, \"quoted\"\nand \\N\tmore";
    let extra = line(2, "b").replace(",\"\"\n", ",\"ä\"\n").replace("false", "true").replace("\"10.50\"", "");
    let page = format!("\u{feff}{}{}{extra}\n", header(), line(1, odd));
    let written = world.write(page.clone()).await.unwrap();
    assert_eq!(counts(written), (2, 2, 0));
    let stored = world.stored().await;
    let (one, two) = (&stored[&id(1)], &stored[&id(2)]);
    assert_eq!((&one["name"], &one["amount__c"], &one["born__c"]), (&json!(odd), &json!(10.50), &json!("2024-02-29")));
    assert_eq!((&one["ownerid"], &one["extra_fields"]), (&json!("005D000000IRFmaIAH"), &Value::Null));
    assert_eq!(one["systemmodstamp"].as_str().map(|at| &at[..19]), Some("2024-09-24T03:26:07"));
    assert_eq!((&two["is_deleted"], &two["amount__c"]), (&json!(true), &Value::Null));
    assert_eq!(two["extra_fields"], json!({"Ünlike__c": "ä"}));
    assert_eq!(world.write(page.replace('\n', "\r\n").replace("\"\r\nand", "\"\nand")).await.unwrap().changed, 0);
}

#[tokio::test]
async fn damaged_records_are_kept_whole_and_their_neighbours_go_on() {
    let world = World::new().await;
    let bad_date = line(1, "a").replace("2024-02-29", "2023-02-29");
    let bad_stamp = line(2, "b").replace("03:26", "99:26");
    let no_id = line(3, "c").replace(&id(3), "what?");
    let open_quote = line(4, "d").replace("\"d\"", "\"d");
    let short = format!("\"{}\",\"false\"\n", id(5));
    let mut page =
        format!("{}{bad_date}{}{bad_stamp}{no_id}{open_quote}{short}", header(), line(6, "good")).into_bytes();
    let not_utf8: Vec<u8> =
        line(7, "#").into_bytes().into_iter().map(|byte| if byte == b'#' { 0xff } else { byte }).collect();
    page.extend_from_slice(&not_utf8);
    page.extend_from_slice(line(8, "good").as_bytes());
    let written = world.write(page).await.unwrap();
    assert_eq!(counts(written), (8, 2, 6));
    assert_eq!(world.stored().await.into_keys().collect::<Vec<_>>(), [id(6), id(8)]);
    let mut bodies: Vec<Vec<u8>> = world.quarantined().await.into_iter().map(|row| row.2).collect();
    let texts = [bad_date, bad_stamp, no_id, open_quote, short];
    let mut wanted: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
    wanted.push(not_utf8);
    bodies.sort();
    wanted.sort();
    assert_eq!(bodies, wanted);
    for (record_id, reason, _) in world.quarantined().await {
        assert!(!reason.is_empty());
        assert!(record_id.is_none_or(|id| id == "what?" || id.starts_with("a00")));
    }
    let anomalies = world.store.list_anomalies(&AnomalyFilter::default(), 10).await.unwrap();
    let [anomaly] = anomalies.as_slice() else { panic!("{anomalies:?}") };
    assert_eq!((anomaly.kind.as_str(), anomaly.object.as_str()), (AnomalyKind::RecordsDamaged.as_str(), "Deal__c"));
    assert_eq!(anomaly.evidence["records"], 6);
    // They come again, readable: out of quarantine as far as their ids were known.
    world.write(format!("{}{}{}", header(), line(1, "a"), line(2, "b"))).await.unwrap();
    assert_eq!(world.quarantined().await.len(), 4);
}

#[tokio::test]
async fn a_page_of_many_pieces_is_one_transaction() {
    let world = World::new().await;
    let long = "x".repeat(1_500);
    let lines: String = (0..10_000).map(|number| line(number, &long)).collect();
    let page = header() + &lines;
    assert!(page.len() > 12 << 20, "it is more than two pieces");
    assert_eq!(world.write(page.clone()).await.unwrap().changed, 10_000);
    assert_eq!(counts(world.write(page.clone()).await.unwrap()), (10_000, 0, 0));
    assert_eq!(world.write(page.replace("10.50", "10.51")).await.unwrap().changed, 10_000);
    assert_eq!(world.stored().await.len(), 10_000);
}

#[tokio::test]
async fn a_page_of_other_fields_is_refused_whole() {
    let world = World::new().await;
    let page = header().replace("Amount__c", "Sum__c") + &line(1, "a");
    assert!(matches!(world.write(page).await, Err(SyncError::Page { reason, .. }) if reason.contains("Amount__c")));
    assert!(matches!(world.write("\"Id\",\"Na").await, Err(SyncError::Page { .. })));
    assert_eq!(world.write(header()).await.unwrap(), PageWritten::default(), "a page may be empty");
}

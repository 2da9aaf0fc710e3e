//! Owns the proof that an object of five hundred fields is stored whole by its bulk pages: every value in a typed column
//! as long as a row of PostgreSQL can hold them, and not one of them lost where it cannot.

use domain::{Clock, ConnectionId};
use salesforce::{Describe, Field};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use store::{PageOrigin, Store};
use sync::{PageWriter, PageWritten, Spool};
use testkit::{TestDatabase, stored_records};

const FIELDS: usize = 500;
const OBJECT: &str = "Wide__c";

struct World {
    database: TestDatabase,
    store: Store,
    writer: PageWriter,
    origin: PageOrigin,
    names: Vec<String>,
}

fn field(name: &str, field_type: &str) -> Field {
    Field {
        name: name.to_owned(),
        field_type: field_type.to_owned(),
        nillable: true,
        length: 0,
        precision: 0,
        scale: 0,
        calculated: false,
        compound: false,
    }
}

impl World {
    /// An object of which all fields but three are of one of these types, in turn.
    async fn new(types: &[&str]) -> Self {
        let database = testkit::database().await;
        let store = database.store_of_one(Clock::system()).await;
        let mut fields = vec![field("Id", "id"), field("IsDeleted", "boolean"), field("SystemModstamp", "datetime")];
        let own = FIELDS - fields.len();
        fields.extend((0..own).map(|at| field(&format!("Column_{at:03}__c"), types[at % types.len()])));
        let names = fields.iter().map(|field| field.name.clone()).collect();
        let describe = Describe { name: OBJECT.to_owned(), fields };
        let writer = PageWriter::prepare(&store, "salesforce", &describe).await.unwrap();
        let account = store.create_account("a customer").await.unwrap();
        let connection: ConnectionId = store.create_connection(account, "salesforce", &json!({}), None).await.unwrap();
        let origin = PageOrigin { account, connection, read_at: store.now() };
        Self { database, store, writer, origin, names }
    }

    fn page(&self, records: &[Vec<String>]) -> Vec<u8> {
        let mut page = self.names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(",");
        for record in records {
            let cells: Vec<String> = record.iter().map(|cell| format!("\"{}\"", cell.replace('"', "\"\""))).collect();
            page.push('\n');
            page.push_str(&cells.join(","));
        }
        page.push('\n');
        page.into_bytes()
    }

    async fn write(&self, records: &[Vec<String>]) -> PageWritten {
        let mut spool = Spool::new().await.unwrap();
        spool.write(&self.page(records)).await.unwrap();
        let mut tx = self.store.begin().await.unwrap();
        let file = spool.finish().await.unwrap();
        let written = self.writer.write_csv(&self.store, &mut tx, self.origin, file).await.unwrap();
        tx.commit().await.unwrap();
        written
    }

    async fn stored(&self) -> BTreeMap<String, Value> {
        stored_records(self.database.url(), "salesforce", OBJECT).await
    }

    /// Every value of these records is stored, in its column or among the extra fields, and in one of them only. Answers
    /// with the number of values that lie among the extra fields.
    async fn assert_whole(&self, records: &[Vec<String>]) -> usize {
        let stored = self.stored().await;
        let mut extra = 0;
        for record in records {
            let row = &stored[&record[0]];
            for (name, value) in self.names.iter().zip(record).skip(3) {
                let (column, beside) = (&row[name.to_ascii_lowercase()], &row["extra_fields"][name]);
                let lies = match (column, beside) {
                    (Value::Null, beside) => beside,
                    (column, Value::Null) => column,
                    both => panic!("{name} of {} lies in two places: {both:?}", record[0]),
                };
                extra += usize::from(!beside.is_null());
                let text = lies.as_str().map_or_else(|| lies.to_string(), str::to_owned);
                let wanted = if value.is_empty() { "null" } else { value };
                assert!(text == *wanted, "{name} of {}: {value} is stored as {text}", record[0]);
            }
        }
        extra
    }
}

fn id(number: usize) -> String {
    format!("a00{number:015}")
}

/// A record whose values beyond the first three are these.
fn record(number: usize, stamp: &str, value: impl Fn(usize) -> String) -> Vec<String> {
    let marks = [id(number), "false".to_owned(), format!("2024-09-24T{stamp}.000Z")];
    marks.into_iter().chain((0..FIELDS - 3).map(value)).collect()
}

/// Text of so many bytes that does not compress.
fn noise(seed: usize, bytes: usize) -> String {
    let mut state = u64::try_from(seed).unwrap().wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + u8::try_from(state >> 58).unwrap() % 75)
    });
    next.take(bytes).collect()
}

#[tokio::test]
async fn whatever_fills_five_hundred_fields_is_stored_and_is_found_again() {
    let world = World::new(&["string"]).await;
    let records: Vec<Vec<String>> = vec![
        // What fits.
        record(1, "03:26:07", |at| if at % 5 == 0 { noise(at, 12) } else { String::new() }),
        record(2, "03:26:07", |at| noise(at, 8)),
        // What a row cannot hold: too long to stay in it, too many to lie outside it.
        record(3, "03:26:07", |at| noise(at, 20)),
        record(4, "03:26:07", |at| noise(at, 60)),
        record(5, "03:26:07", |at| "ab".repeat(50 + at % 7)),
        record(6, "03:26:07", |at| noise(at, 4_000)),
        record(7, "03:26:07", |at| if at % 2 == 0 { noise(at, 24) } else { "\"\\\n\t,".repeat(5) }),
    ];
    let written = world.write(&records).await;
    assert_eq!((written.records, written.changed, written.quarantined), (7, 7, 0));
    assert!(world.assert_whole(&records).await > 0, "some lie beside their columns");
    assert_eq!(world.assert_whole(&records[..2]).await, 0, "and none where there is room");
    assert_eq!(world.write(&records).await.changed, 0, "what is read again changes nothing");
    // A record gets narrower, another wider: each value is in one place afterwards.
    let mut changed = records.clone();
    changed[3] = record(4, "03:26:08", |at| if at < 9 { noise(at, 9) } else { String::new() });
    changed[0] = record(1, "03:26:08", |at| noise(at, 30));
    assert_eq!(world.write(&changed).await.changed, 2);
    world.assert_whole(&changed).await;
    assert_eq!(world.assert_whole(&changed[3..4]).await, 0);
}

#[tokio::test]
async fn five_hundred_fields_of_every_type_lie_in_typed_columns() {
    let world = World::new(&["string", "double", "textarea", "boolean", "date", "int", "picklist"]).await;
    let value = |at: usize| match at % 7 {
        0 => noise(at, 40),
        1 => format!("{}.5", at * 1_000_003),
        2 => noise(at, 300),
        3 => "true".to_owned(),
        4 => "2024-02-29".to_owned(),
        5 => (at * 77).to_string(),
        _ => "Closed Won".to_owned(),
    };
    let records: Vec<Vec<String>> = (0..300).map(|number| record(number, "03:26:07", value)).collect();
    let written = world.write(&records).await;
    assert_eq!((written.records, written.changed, written.quarantined), (300, 300, 0));
    assert_eq!(world.assert_whole(&records).await, 0);
}

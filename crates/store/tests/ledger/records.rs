//! Records on their way into their table, and the change log beside them.

use crate::world::World;
use chrono::{DateTime, TimeDelta, Utc};
use domain::AccountId;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, time::Duration};
use store::{
    ChangeCursor, ChangeOp, ColumnType, PageOrigin, Quarantined, RecordBatch, RecordChange, RecordColumn, RecordHead,
    RecordTable, Store,
};

const ACCOUNT: AccountId = AccountId(7);

/// A version of a record: its id, its stamp in seconds, whether it is deleted, its name.
type Version = (u32, i64, bool, &'static str);

struct Table {
    world: World,
    table: RecordTable,
    connection: domain::ConnectionId,
}

fn at(secs: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(secs, 0).unwrap()
}

fn id(number: u32) -> String {
    format!("003{number:015}")
}

fn name() -> RecordColumn {
    RecordColumn { name: "name".to_owned(), field: "Name".to_owned(), column_type: ColumnType::Text }
}

impl Table {
    async fn new() -> Self {
        let world = World::new().await;
        let column = name();
        let table = world.store.record_table("salesforce", "Contact", &[column]).await.unwrap();
        let connection = world.connection("salesforce").await;
        Self { world, table, connection }
    }

    fn batch(&self, versions: &[Version]) -> RecordBatch {
        let mut batch = RecordBatch::new(&self.table);
        for (number, secs, is_deleted, name) in versions {
            let (id, is_deleted) = (id(*number), *is_deleted);
            let mut row = batch.begin(&RecordHead { id: &id, version_at: Some(at(*secs)), is_deleted });
            row.cell(Some(name));
            row.finish(&Map::new());
        }
        batch
    }

    fn read_at(&self, secs: i64) -> PageOrigin {
        PageOrigin { account: ACCOUNT, connection: self.connection, read_at: at(secs) }
    }

    async fn write_read_at(&self, secs: i64, versions: &[Version]) -> u64 {
        let mut tx = self.world.store.begin().await.unwrap();
        let mut batch = self.batch(versions);
        let origin = self.read_at(secs);
        let changed = self.world.store.write_records(&mut tx, &self.table, origin, &mut batch).await.unwrap();
        tx.commit().await.unwrap();
        changed
    }

    async fn write(&self, versions: &[Version]) -> u64 {
        self.write_read_at(1_000_000, versions).await
    }

    async fn delete(&self, numbers: &[u32], seen: i64) -> u64 {
        let ids: Vec<String> = numbers.iter().map(|number| id(*number)).collect();
        let mut tx = self.world.store.begin().await.unwrap();
        let gone = self.world.store.delete_records(&mut tx, &self.table, ACCOUNT, &ids, at(seen)).await.unwrap();
        tx.commit().await.unwrap();
        gone
    }

    /// Every change, read `limit` at a time.
    async fn changes(&self, limit: i64) -> Vec<RecordChange> {
        let mut all = Vec::new();
        self.read_all(&mut ChangeCursor::default(), limit, &mut all).await;
        all
    }

    /// Reads on until all that is there has been read. Transactions of other tests, on the same server, may be older.
    async fn read_all(&self, cursor: &mut ChangeCursor, limit: i64, all: &mut Vec<RecordChange>) {
        let there = usize::try_from(self.world.count("SELECT count(*) FROM record_changes").await).unwrap();
        let cell = tokio::sync::Mutex::new((cursor, all));
        let read = async || {
            let (cursor, all) = &mut *cell.lock().await;
            all.extend(read_on(&self.world.store, cursor, limit).await);
            (all.len() >= there).then_some(())
        };
        testkit::eventually(Duration::from_secs(20), "older transactions have ended", read).await;
    }

    async fn ops(&self, number: u32) -> Vec<ChangeOp> {
        let changes = self.changes(1_000).await;
        changes.iter().filter(|change| change.record_id == id(number)).map(|change| change.op).collect()
    }

    /// Id, hash and whether it is deleted, of every record.
    async fn state(&self) -> BTreeMap<String, (i64, bool)> {
        let rows: Vec<(String, i64, bool)> =
            sqlx::query_as("SELECT id, content_hash, is_deleted FROM salesforce.contact")
                .fetch_all(&self.world.sql)
                .await
                .unwrap();
        rows.into_iter().map(|(id, hash, is_deleted)| (id, (hash, is_deleted))).collect()
    }
}

async fn read_on(store: &Store, cursor: &mut ChangeCursor, limit: i64) -> Vec<RecordChange> {
    let mut all = Vec::new();
    loop {
        let (changes, next) = store.read_changes(ACCOUNT, *cursor, limit).await.unwrap();
        *cursor = ChangeCursor::from_parts(next.parts());
        if changes.is_empty() {
            return all;
        }
        all.extend(changes);
    }
}

/// What the table must hold by the log.
fn replayed(changes: &[RecordChange]) -> BTreeMap<String, (i64, bool)> {
    let mut state: BTreeMap<String, (i64, bool)> = BTreeMap::new();
    for change in changes {
        let before = state.get(&change.record_id).copied();
        let is_deleted = match (change.op, before) {
            (ChangeOp::Insert, None) => false,
            (ChangeOp::Update, Some((_, is_deleted))) => is_deleted,
            (ChangeOp::Delete, None | Some((_, false))) => true,
            (ChangeOp::Undelete, Some((_, true))) => false,
            _ => panic!("{change:?} after {before:?}"),
        };
        state.insert(change.record_id.clone(), (change.content_hash, is_deleted));
    }
    state
}

#[tokio::test]
async fn each_change_is_noted_once_and_as_what_it_is() {
    let table = Table::new().await;
    assert_eq!(table.write(&[(1, 10, false, "a"), (2, 10, true, "b"), (3, 10, false, "c")]).await, 3);
    assert_eq!(table.write(&[(1, 10, false, "a"), (2, 10, true, "b"), (3, 10, false, "c")]).await, 0, "again");
    assert_eq!(table.write(&[(1, 9, false, "older"), (3, 10, false, "as old")]).await, 1);
    assert_eq!(table.write(&[(1, 11, true, "a"), (3, 12, false, "d"), (4, 12, false, "new")]).await, 3);
    assert_eq!(table.write(&[(1, 12, true, "a, still deleted"), (2, 12, false, "b")]).await, 2);
    use ChangeOp::{Delete, Insert, Undelete, Update};
    assert_eq!(table.ops(1).await, [Insert, Delete, Update]);
    assert_eq!(table.ops(2).await, [Delete, Undelete]);
    assert_eq!(table.ops(3).await, [Insert, Update, Update]);
    assert_eq!(table.ops(4).await, [Insert]);
    for limit in [1, 2, 1_000] {
        assert_eq!(replayed(&table.changes(limit).await), table.state().await, "read {limit} at a time");
    }
}

#[tokio::test]
async fn what_was_found_gone_comes_back_only_by_what_was_read_later() {
    let table = Table::new().await;
    table.write_read_at(100, &[(1, 10, false, "a"), (2, 10, false, "b"), (3, 150, false, "c")]).await;
    assert_eq!(table.delete(&[1, 2, 3, 4], 120).await, 2, "3 changed after that, 4 was never there");
    assert_eq!(table.delete(&[1, 2], 130).await, 0, "again");
    assert_eq!(table.write_read_at(110, &[(1, 10, false, "a"), (2, 20, false, "b")]).await, 0, "read before");
    assert_eq!(table.write_read_at(140, &[(1, 10, false, "a")]).await, 1, "it is in sight again, as it was");
    assert_eq!(table.write_read_at(150, &[(1, 10, false, "a")]).await, 0);
    assert_eq!(table.ops(1).await, [ChangeOp::Insert, ChangeOp::Delete, ChangeOp::Undelete]);
    assert_eq!(table.ops(2).await, [ChangeOp::Insert, ChangeOp::Delete]);
    assert_eq!(replayed(&table.changes(1_000).await), table.state().await);
}

#[tokio::test]
async fn a_long_page_goes_in_whatever_of_it_is_known() {
    let table = Table::new().await;
    let page = |secs, name| (0..5_000).map(|number| (number, secs, number % 50 == 0, name)).collect::<Vec<Version>>();
    // Between those that are looked for: the copy meets it, and the page goes in by the other way.
    table.write(&[(1, 5, false, "known")]).await;
    assert_eq!(table.write(&page(10, "a")).await, 5_000);
    assert_eq!(table.write(&page(10, "a")).await, 0);
    assert_eq!(table.write(&page(11, "b")).await, 5_000);
    assert_eq!(table.write(&[page(11, "b"), vec![(9_999, 1, false, "c")]].concat()).await, 1, "one is new");
    let changes = table.changes(777).await;
    assert_eq!(changes.len(), 1 + 5_000 + 5_000 + 1);
    assert_eq!(replayed(&changes), table.state().await);
}

#[tokio::test]
async fn an_unchanged_page_writes_nothing() {
    let table = Table::new().await;
    let page: Vec<Version> = (0..3_000).map(|number| (number, 10, false, "a")).collect();
    table.write(&page).await;
    let stamps = "SELECT string_agg(ctid::text || xmin::text, ' ' ORDER BY id) FROM salesforce.contact";
    let before: String = sqlx::query_scalar(stamps).fetch_one(&table.world.sql).await.unwrap();
    let mut tx = table.world.store.begin().await.unwrap();
    let mut batch = table.batch(&page);
    table.world.store.write_records(&mut tx, &table.table, table.read_at(20), &mut batch).await.unwrap();
    tx.commit().await.unwrap();
    let xmax = "SELECT count(*) FROM salesforce.contact WHERE xmax::text <> '0'";
    assert_eq!(table.world.count(xmax).await, 0, "no row is even locked");
    let after: String = sqlx::query_scalar(stamps).fetch_one(&table.world.sql).await.unwrap();
    assert_eq!(before, after, "each row is the same one, in its place");
    assert_eq!(table.changes(10_000).await.len(), 3_000);
}

#[tokio::test]
async fn a_reader_misses_nothing_of_a_transaction_that_ends_late() {
    let table = Table::new().await;
    let store = &table.world.store;
    let mut cursor = ChangeCursor::default();
    // The early one draws its numbers first and ends last.
    let mut early = store.begin().await.unwrap();
    let mut batch = table.batch(&[(1, 10, false, "a")]);
    store.write_records(&mut early, &table.table, table.read_at(20), &mut batch).await.unwrap();
    table.write(&[(2, 10, false, "b")]).await;
    let first = read_on(store, &mut cursor, 10).await;
    early.commit().await.unwrap();
    table.write(&[(1, 11, false, "a, later")]).await;
    let mut seen = first;
    table.read_all(&mut cursor, 10, &mut seen).await;
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert_eq!(replayed(&seen), table.state().await);
}

#[tokio::test]
async fn a_readable_version_ends_the_quarantine_of_its_record_even_unchanged() {
    let table = Table::new().await;
    table.write(&[(1, 10, false, "a")]).await;
    let store = &table.world.store;
    let keep = async |version_at| {
        let reason = "it broke".to_owned();
        let bad = Quarantined {
            record_id: Some(id(1)),
            version_at,
            reason,
            body: b"bytes".to_vec(),
            ..Quarantined::default()
        };
        let mut tx = store.begin().await.unwrap();
        store.quarantine_records(&mut tx, table.read_at(20), "Contact", &[bad]).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(store.list_quarantined(table.connection, None, 10).await.unwrap().len(), 1);
    };
    keep(None).await;
    assert_eq!(table.write(&[(1, 10, false, "a")]).await, 0);
    assert_eq!(store.list_quarantined(table.connection, None, 10).await.unwrap(), []);
    // What is older than the damage, and was not read after it, does not speak for the record.
    keep(Some(at(15))).await;
    assert_eq!(table.write_read_at(20, &[(1, 10, false, "a")]).await, 0);
    assert_eq!(store.list_quarantined(table.connection, None, 10).await.unwrap().len(), 1);
    for (read_at, version) in [(20, 15), (21, 12)] {
        keep(Some(at(15))).await;
        table.write_read_at(read_at, &[(1, version, false, "b")]).await;
        assert_eq!(store.list_quarantined(table.connection, None, 10).await.unwrap(), [], "{read_at} {version}");
    }
}

#[tokio::test]
async fn a_table_of_an_earlier_program_gains_what_it_lacks() {
    let world = World::new().await;
    for statement in [
        "CREATE TABLE salesforce.lead (account_id bigint NOT NULL, id text NOT NULL, version_at timestamptz NOT NULL,
            is_deleted boolean NOT NULL, extra_fields jsonb, content_hash bigint NOT NULL, written_at timestamptz NOT NULL,
            name text, PRIMARY KEY (account_id, id))",
        "INSERT INTO salesforce.lead VALUES (7, '00Q000000000000001', '1970-01-01', false, NULL, 1, '1970-01-01', 'a')",
    ] {
        sqlx::query(statement).execute(&world.sql).await.unwrap();
    }
    let column = name();
    let table = world.store.record_table("salesforce", "Lead", &[column]).await.unwrap();
    let mut batch = RecordBatch::new(&table);
    let head = RecordHead { id: "00Q000000000000001", version_at: Some(at(9)), is_deleted: true };
    let mut row = batch.begin(&head);
    row.cell(Some("b"));
    row.finish(&Map::from_iter([("Other".to_owned(), Value::from("c"))]));
    let connection = world.connection("salesforce").await;
    let origin = PageOrigin { account: ACCOUNT, connection, read_at: world.clock.now() + TimeDelta::seconds(1) };
    let mut tx = world.store.begin().await.unwrap();
    assert_eq!(world.store.write_records(&mut tx, &table, origin, &mut batch).await.unwrap(), 1);
    tx.commit().await.unwrap();
    let op = "SELECT op::bigint FROM record_changes";
    assert_eq!(world.count(op).await, i64::from(ChangeOp::Delete.code()));
}

/// A page of one writer: a few versions of records, some twice, all contents following from id and version.
fn random_page(random: &mut u64) -> Vec<Version> {
    let mut draw = |below: u64| {
        *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*random >> 33) % below
    };
    let names = ["a", "b", "c"];
    let versions = 1 + draw(30);
    (0..versions)
        .map(|_| {
            let (number, version) = (draw(40), draw(12));
            let is_deleted = (number + version) % 3 == 0;
            let name = names[usize::try_from((number * 7 + version) % 3).unwrap()];
            (u32::try_from(number).unwrap(), i64::try_from(version).unwrap(), is_deleted, name)
        })
        .collect()
}

#[tokio::test]
async fn writers_at_the_same_time_leave_a_log_that_replays_to_what_is_stored() {
    let table = Table::new().await;
    let written = tokio::sync::Mutex::new(BTreeMap::<String, i64>::new());
    let writer = async |seed: u64| {
        let mut random = seed;
        for _ in 0..25 {
            let page = random_page(&mut random);
            loop {
                let mut tx = table.world.store.begin().await.unwrap();
                let (mut batch, origin) = (table.batch(&page), table.read_at(20));
                match table.world.store.write_records(&mut tx, &table.table, origin, &mut batch).await {
                    Ok(_) => tx.commit().await.unwrap(),
                    // Two that met each other's rows: what every job does, it tries again.
                    Err(error) if error.is_transient() => continue,
                    Err(error) => panic!("{error:?}"),
                }
                break;
            }
            let mut written = written.lock().await;
            for (number, version, ..) in page {
                let newest = written.entry(id(number)).or_insert(version);
                *newest = version.max(*newest);
            }
        }
    };
    tokio::join!(writer(1), writer(2), writer(3));
    let changes = table.changes(50).await;
    assert_eq!(replayed(&changes), table.state().await);
    let versions: Vec<(String, i64)> =
        sqlx::query_as("SELECT id, extract(epoch FROM version_at)::bigint FROM salesforce.contact")
            .fetch_all(&table.world.sql)
            .await
            .unwrap();
    assert_eq!(versions.into_iter().collect::<BTreeMap<_, _>>(), written.into_inner());
}

//! Owns the proof that a pass stores what the vendor has: over real HTTP from the simulated Salesforce into a real
//! PostgreSQL, with everything going wrong on the way that can. Does not own the job around it (the servant's tests).

use crate::customer::{Customer, VENDOR};
use chrono::TimeDelta;
use domain::{AccountId, AnomalyKind, AnomalyState, ConnectionId};
use fakes::salesforce::{
    Call, Content, DataFault, DataOrder, FakeSalesforce, Fault, Mutation, Options as FakeOptions, Order,
};
use salesforce::{Client, SalesforceError};
use serde_json::json;
use store::{AnomalyFilter, Store};
use sync::{Pass, Source, SyncError, probe};
use testkit::{TestDatabase, assert_records_equal, stored_records};

/// A customer with an organisation, and a client signed on to it.
struct World {
    database: TestDatabase,
    store: Store,
    fake: FakeSalesforce,
    client: Client,
    account: AccountId,
    connection: ConnectionId,
}

impl World {
    async fn new(records: u64) -> Self {
        Self::with(Content::Generated { records, seed: 11 }).await
    }

    async fn with(content: Content) -> Self {
        Self::of(FakeOptions { content, page_size: 20, ..FakeOptions::default() }).await
    }

    async fn of(options: FakeOptions) -> Self {
        let Customer { database, store, fake, client, account, connection } = Customer::of(options).await;
        Self { database, store, fake, client, account, connection }
    }

    fn source(&self) -> Source<'_> {
        Source {
            client: &self.client,
            store: &self.store,
            account: self.account,
            connection: self.connection,
            // Into the future: what a test changed this very second belongs to the window.
            settle: TimeDelta::seconds(-2),
            overlap: TimeDelta::seconds(900),
        }
    }

    /// Reads up to `pages_max` pages; answers with the rows that changed and the records in quarantine.
    async fn read(&self, object: &str, pages_max: usize) -> Result<(u64, usize), SyncError> {
        let mut pass = Pass::begin(self.source(), object).await?;
        let (mut changed, mut quarantined) = (0, 0);
        for _ in 0..pages_max {
            let page = pass.next_page().await?;
            let mut tx = self.store.begin().await.unwrap();
            let written = match pass.write(&mut tx, &page).await {
                Ok(written) => written,
                Err(error) => {
                    drop(tx);
                    pass.restart().await?;
                    return Err(error);
                }
            };
            tx.commit().await.unwrap();
            changed += written.changed;
            quarantined += written.quarantined;
            let is_last = written.is_last;
            pass.committed(written).await?;
            if is_last {
                break;
            }
        }
        Ok((changed, quarantined))
    }

    async fn sync(&self, object: &str) -> (u64, usize) {
        self.read(object, usize::MAX).await.unwrap()
    }

    /// Reads all of a window, divided as often as the vendor cannot answer for it; says how often that was.
    async fn sync_in_parts(&self, object: &str) -> usize {
        let mut pass = Pass::begin(self.source(), object).await.unwrap();
        let mut divided = 0;
        loop {
            let page = match pass.next_page().await {
                Err(SyncError::Vendor(SalesforceError::QueryTimeout { .. })) => {
                    assert!(pass.divide().await.unwrap(), "it can be divided");
                    divided += 1;
                    continue;
                }
                page => page.unwrap(),
            };
            let mut tx = self.store.begin().await.unwrap();
            let written = pass.write(&mut tx, &page).await.unwrap();
            tx.commit().await.unwrap();
            let is_last = written.is_last;
            pass.committed(written).await.unwrap();
            if is_last {
                return divided;
            }
        }
    }

    async fn watermark(&self, object: &str) -> Option<chrono::DateTime<chrono::Utc>> {
        let plans = self.store.stream_plans(self.connection, &[object.to_owned()]).await.unwrap();
        plans.first().and_then(|plan| plan.watermark)
    }

    async fn assert_equal(&self, object: &str) {
        assert_records_equal(self.database.url(), VENDOR, object, &self.fake.truth(object)).await;
    }

    fn ids(&self, object: &str) -> Vec<String> {
        self.fake.truth(object).iter().map(|record| record["Id"].as_str().unwrap().to_owned()).collect()
    }

    fn upsert(&self, object: &str, fields: serde_json::Value) {
        let upsert = vec![fields.as_object().unwrap().clone()];
        self.fake.mutate(&Mutation { object: object.to_owned(), upsert, ..Mutation::default() }).unwrap();
    }
}

#[tokio::test]
async fn every_object_is_stored_as_it_is_and_read_again_for_nothing() {
    let world = World::new(600).await;
    for object in world.client.objects().await.unwrap() {
        let rows = world.fake.truth(&object).len() as u64;
        assert_eq!(world.sync(&object).await, (rows, 0), "{object}");
        world.assert_equal(&object).await;
    }
    // An overlap of years reads everything once more.
    let source = Source { overlap: TimeDelta::days(10_000), ..world.source() };
    let mut pass = Pass::begin(source, "Contact").await.unwrap();
    let page = pass.next_page().await.unwrap();
    assert_eq!(page.window_rows(), world.ids("Contact").len() as u64);
    let mut tx = world.store.begin().await.unwrap();
    assert_eq!(pass.write(&mut tx, &page).await.unwrap().changed, 0);
}

#[tokio::test]
async fn an_object_of_five_hundred_fields_is_stored_whole() {
    let object = "Wide__c";
    let content = Content::One { object: object.to_owned(), records: 50, columns: 500, seed: 3 };
    let world = World::with(content).await;
    assert_eq!(world.sync(object).await, (50, 0));
    world.assert_equal(object).await;
    world.upsert(object, json!({"Id": world.ids(object)[7], "Column_002__c": "another"}));
    assert_eq!(world.sync(object).await, (1, 0));
    world.assert_equal(object).await;
}

#[tokio::test]
async fn a_pass_goes_on_behind_the_last_committed_page() {
    let world = World::new(600).await;
    world.read("Contact", 3).await.unwrap();
    let pages = world.fake.stats().pages;
    world.sync("Contact").await;
    world.assert_equal("Contact").await;
    // 150 contacts are 8 pages, and 3 of them came in the first go.
    assert_eq!(world.fake.stats().pages - pages, 5);
}

#[tokio::test]
async fn a_cursor_that_is_gone_begins_the_window_again() {
    let world = World::new(600).await;
    world.read("Contact", 2).await.unwrap();
    world.fake.fault(Fault::CursorExpired, 1);
    world.read("Contact", 1).await.unwrap();
    assert!(world.fake.pending_faults().is_empty());
    let told = async || {
        let all = world.store.list_anomalies(&AnomalyFilter::default(), 10).await.unwrap();
        let [told] = &all[..] else { panic!("one thing is told: {all:?}") };
        let lost = (AnomalyKind::CursorLost.as_str(), 1, &json!(40));
        assert_eq!((told.kind.as_str(), told.sightings, &told.evidence["rows_read"]), lost);
        told.state
    };
    assert_eq!(told().await, AnomalyState::Open);
    world.sync("Contact").await;
    assert_eq!(told().await, AnomalyState::Resolved);
    world.assert_equal("Contact").await;
}

#[tokio::test]
async fn what_cannot_be_answered_in_time_is_read_in_parts_by_stamps_and_then_by_ids() {
    let content = Content::Generated { records: 1_000, seed: 11 };
    let timely_records_max = Some(40);
    let world = World::of(FakeOptions { content, page_size: 20, timely_records_max, ..FakeOptions::default() }).await;
    assert!(world.sync_in_parts("Lead").await >= 180 / 40);
    world.assert_equal("Lead").await;
    let watermark = world.watermark("Lead").await.expect("the window is over");
    // Of one second, so that no time can be halved.
    let order = DataOrder { records: 120, ..DataOrder::new(DataFault::EqualModstamps, "Lead", 7) };
    assert_eq!(world.fake.data_fault(&order).unwrap().ids.len(), 120);
    assert!(world.sync_in_parts("Lead").await >= 120 / 40);
    world.assert_equal("Lead").await;
    // It moves by whole seconds of the vendor's clock: both may be over within one.
    assert!(world.watermark("Lead").await >= Some(watermark));
}

#[tokio::test]
async fn what_goes_wrong_on_the_wire_costs_no_record() {
    for (fault, times) in [
        (Fault::Auth401MidQuery, 1),
        (Fault::CutConnection, 2),
        (Fault::CutBody, 2),
        (Fault::BadJson, 2),
        (Fault::Http502Html, 2),
        (Fault::Http503, 2),
        (Fault::Http406, 2),
        (Fault::LimitConcurrent, 2),
    ] {
        let world = World::new(400).await;
        world.fake.order(Order { on: Some(Call::QueryNext), ..Order::new(fault, times) });
        world.sync("Lead").await;
        assert!(world.fake.pending_faults().is_empty(), "{fault:?}");
        world.assert_equal("Lead").await;
    }
}

#[tokio::test]
async fn changes_deletions_and_undeletions_follow() {
    let world = World::new(400).await;
    world.sync("Account").await;
    let ids = world.ids("Account");
    world.upsert("Account", json!({"Id": ids[0], "Name": "renamed", "AnnualRevenue": 0.1}));
    world.upsert("Account", json!({"Name": "new"}));
    let delete = Mutation { object: "Account".to_owned(), delete: vec![ids[1].clone()], ..Mutation::default() };
    world.fake.mutate(&delete).unwrap();
    assert_eq!(world.sync("Account").await, (3, 0));
    world.assert_equal("Account").await;
    let stored = stored_records(world.database.url(), VENDOR, "Account").await;
    assert_eq!(stored[&ids[1]]["is_deleted"], json!(true));
    world.upsert("Account", json!({"Id": ids[1], "IsDeleted": false}));
    world.sync("Account").await;
    world.assert_equal("Account").await;
}

#[tokio::test]
async fn a_change_that_shows_late_is_met_by_the_overlap() {
    let world = World::new(400).await;
    world.sync("Account").await;
    let late = Mutation {
        object: "Account".to_owned(),
        upsert: vec![json!({"Id": world.ids("Account")[3], "Name": "late"}).as_object().unwrap().clone()],
        system_modstamp: Some(chrono::Utc::now() - TimeDelta::seconds(600)),
        ..Mutation::default()
    };
    world.fake.mutate(&late).unwrap();
    assert_eq!(world.sync("Account").await, (1, 0));
    world.assert_equal("Account").await;
}

#[tokio::test]
async fn a_damaged_record_is_kept_and_its_neighbours_go_on() {
    let world = World::new(400).await;
    let id = world.ids("Account")[5].clone();
    world.upsert("Account", json!({"Id": id, "Name": "a\u{0}b"}));
    let rows = world.ids("Account").len() as u64;
    assert_eq!(world.sync("Account").await, (rows - 1, 1));
    let kept = world.store.list_quarantined(world.connection, None, 10).await.unwrap();
    assert_eq!((kept.len(), kept[0].record_id.as_deref()), (1, Some(id.as_str())));
    assert!(kept[0].reason.contains("Name") && String::from_utf8_lossy(&kept[0].body).contains("a\\u0000b"));
    // Read again, the same damage is one row; mended, it is none.
    assert_eq!(world.sync("Account").await, (0, 1));
    assert_eq!(world.store.list_quarantined(world.connection, None, 10).await.unwrap().len(), 1);
    world.upsert("Account", json!({"Id": id, "Name": "mended"}));
    assert_eq!(world.sync("Account").await, (1, 0));
    assert_eq!(world.store.list_quarantined(world.connection, None, 10).await.unwrap(), vec![]);
    world.assert_equal("Account").await;
}

#[tokio::test]
async fn an_object_that_is_gone_is_its_own_trouble_only() {
    let world = World::new(100).await;
    let error = world.read("Nothing__c", 1).await.unwrap_err();
    assert!(error.is_of_one_object(), "{error}");
    world.fake.order(Order { on: Some(Call::Query), ..Order::new(Fault::InsufficientAccess, 1) });
    let error = world.read("Lead", 1).await.unwrap_err();
    assert!(error.is_of_one_object(), "{error}");
    world.sync("Lead").await;
    world.assert_equal("Lead").await;
}

#[tokio::test]
async fn a_field_that_is_lost_stays_as_it_was_and_the_others_go_on() {
    let world = World::new(200).await;
    world.sync("Account").await;
    let before = stored_records(world.database.url(), VENDOR, "Account").await;
    let id = world.ids("Account")[0].clone();
    let hide = Mutation { object: "Account".to_owned(), hide_fields: vec!["Type".to_owned()], ..Mutation::default() };
    world.fake.mutate(&hide).unwrap();
    world.upsert("Account", json!({"Id": id, "Name": "after"}));
    world.sync("Account").await;
    let after = stored_records(world.database.url(), VENDOR, "Account").await;
    assert_eq!((&after[&id]["name"], &after[&id]["type"]), (&json!("after"), &before[&id]["type"]));
}

#[tokio::test]
async fn customers_do_not_mix_and_types_that_disagree_share_a_table() {
    let one = World::new(100).await;
    one.sync("User").await;
    // A second customer whose Title is a number there: its column is text already, so the values go into a version of it.
    let wanted = vec![store::RecordColumn {
        name: "title".to_owned(),
        field: "Title".to_owned(),
        column_type: store::ColumnType::Numeric,
    }];
    let table = one.store.record_table(VENDOR, "User", &wanted).await.unwrap();
    assert_eq!(table.columns(), wanted);
    let stored = stored_records(one.database.url(), VENDOR, "User").await;
    assert!(stored.values().all(|row| row.get("title__numeric") == Some(&json!(null))));
    assert!(stored.values().any(|row| row["title"].is_string()));
    let other = one.store.create_account("another").await.unwrap();
    assert_eq!(one.store.count_records(&table, other).await.unwrap(), 0);
    assert_eq!(one.store.count_records(&table, one.account).await.unwrap(), one.ids("User").len() as i64);
    one.assert_equal("User").await;
}

#[tokio::test]
async fn two_passes_cannot_commit_the_same_page() {
    let world = World::new(200).await;
    let mut first = Pass::begin(world.source(), "Lead").await.unwrap();
    let mut second = Pass::begin(world.source(), "Lead").await.unwrap();
    let (page, same) = (first.next_page().await.unwrap(), second.next_page().await.unwrap());
    let mut tx = world.store.begin().await.unwrap();
    let written = first.write(&mut tx, &page).await.unwrap();
    tx.commit().await.unwrap();
    first.committed(written).await.unwrap();
    let mut tx = world.store.begin().await.unwrap();
    assert!(matches!(second.write(&mut tx, &same).await, Err(SyncError::Overtaken { .. })));
}

#[tokio::test]
async fn twenty_five_objects_are_looked_at_by_one_call() {
    let world = World::new(100).await;
    let now = chrono::Utc::now();
    let look = |deletions_are_due| probe::Look {
        object: "Account".to_owned(),
        changed_from: now - TimeDelta::hours(1),
        deleted_from: now - TimeDelta::hours(1),
        deletions_are_due,
    };
    let calls = || world.fake.stats().calls.get(&Call::Composite).copied().unwrap_or(0);
    let looked = probe::look(&world.client, &vec![look(false); 25], now).await.unwrap();
    assert_eq!((looked.len(), calls()), (25, 1));
    assert!(looked.iter().all(|looked| looked.changed.is_ok() && looked.deleted.is_none()), "there is no room");
    // With fewer objects deletions cost nothing, and where they are due they are asked for.
    let looked = probe::look(&world.client, &vec![look(false); 12], now).await.unwrap();
    assert_eq!((looked.iter().filter(|looked| looked.deleted.is_some()).count(), calls()), (12, 2));
    let looked = probe::look(&world.client, &vec![look(true); 25], now).await.unwrap();
    assert_eq!((looked.iter().filter(|looked| looked.deleted.is_some()).count(), calls()), (25, 4));
    assert!(looked.iter().all(|looked| matches!(looked.deleted, Some(Ok(_)))));
    // One that is gone is its own trouble.
    let mut gone = look(true);
    gone.object = "Nothing__c".to_owned();
    let looked = probe::look(&world.client, &[gone, look(true)], now).await.unwrap();
    assert!(looked[0].changed.is_err() && looked[1].changed.is_ok());
    let sizes = probe::sizes(&world.client, &["Nothing__c".to_owned(), "Account".to_owned()]).await.unwrap();
    assert!(sizes[0].is_err());
    assert_eq!(*sizes[1].as_ref().unwrap(), world.ids("Account").len() as u64);
}

//! Owns the proof that changes of data are seen as a client of Salesforce would see them, and that the digest tells.

use fakes::salesforce::{Content, DataFault, DataOrder, Kind, Merge, Mutation, Mutations, NewField, Options};
use serde_json::{Value, json};

use crate::common::World;

async fn world() -> World {
    World::generated(2_000, |options| options.bulk_delay_ms = 0).await
}

fn mutation() -> Mutation {
    Mutation { object: "Account".to_owned(), ..Mutation::default() }
}

fn ids(world: &World) -> Vec<String> {
    world.fake.truth("Account").iter().map(|record| record["Id"].as_str().unwrap().to_owned()).collect()
}

async fn deleted(world: &World) -> Vec<String> {
    let now = chrono::Utc::now();
    let form = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let (start, end) = (form(now - chrono::Duration::hours(1)), form(now + chrono::Duration::hours(1)));
    let found =
        world.get(&format!("/services/data/v66.0/sobjects/Account/deleted?start={start}&end={end}")).await.json();
    found["deletedRecords"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn deletions_merges_and_their_undoing_are_seen_where_they_are_said() {
    let world = world().await;
    let ids = ids(&world);
    let change = Mutation {
        delete: vec![ids[0].clone(), ids[1].clone()],
        hard_delete: vec![ids[2].clone()],
        purge: vec![ids[3].clone()],
        lose: vec![ids[4].clone()],
        merge: vec![Merge { master: ids[5].clone(), losers: vec![ids[6].clone()] }],
        ..mutation()
    };
    world.fake.mutate(&change).unwrap();
    let mut found = deleted(&world).await;
    found.sort();
    assert_eq!(found, [&ids[0], &ids[1], &ids[2], &ids[6]].map(Clone::clone));
    let loser = world.query(&format!("SELECT IsDeleted, MasterRecordId FROM Account WHERE Id = '{}'", ids[6])).await;
    assert_eq!(loser["records"][0]["MasterRecordId"], json!(ids[5]));
    assert_eq!(loser["records"][0]["IsDeleted"], true);
    let digest = world.fake.digest("Account", None).unwrap();
    assert_eq!((digest.live.records, digest.recycled.records, digest.gone.records), (300 - 6, 3, 6));
    world
        .fake
        .mutate(&Mutation { undelete: vec![ids[0].clone()], regain: vec![ids[4].clone()], ..mutation() })
        .unwrap();
    assert!(!deleted(&world).await.contains(&ids[0]));
    let count = world.query("SELECT COUNT() FROM Account WHERE IsDeleted = false").await["totalSize"].clone();
    assert_eq!(count, 296);
    let early =
        world.get("/services/data/v66.0/sobjects/Account/deleted?start=2020-01-01T00:00:00Z&end=2020-02-01T00:00:00Z");
    assert_eq!(early.await.json()[0]["errorCode"], "INVALID_REPLICATION_DATE");
}

#[tokio::test]
async fn a_late_change_has_an_old_stamp_when_it_is_seen() {
    let world = world().await;
    let id = ids(&world)[0].clone();
    let upsert = vec![json!({ "Id": id, "Name": "late" }).as_object().unwrap().clone()];
    let at = world.fake.mutate(&Mutation { upsert, visible_after_secs: 3_600, ..mutation() }).unwrap().system_modstamp;
    let soql = format!("SELECT Name, SystemModstamp FROM Account WHERE Id = '{id}'");
    assert_ne!(world.query(&soql).await["records"][0]["Name"], "late");
    let before = world.fake.digest("Account", None).unwrap();
    world.fake.settle();
    let seen = world.query(&soql).await["records"][0].clone();
    assert_eq!(
        (&seen["Name"], &seen["SystemModstamp"]),
        (&json!("late"), &json!(at.format("%Y-%m-%dT%H:%M:%S.000+0000").to_string()))
    );
    assert_ne!(world.fake.digest("Account", None).unwrap().live, before.live);
}

#[tokio::test]
async fn fields_come_change_and_go_without_a_stamp() {
    let world = world().await;
    let stamps = "SELECT Id, SystemModstamp FROM Account ORDER BY Id";
    let before = world.query(stamps).await;
    let added = NewField { name: "Score__c".to_owned(), field_type: "currency".to_owned(), seed: 4 };
    let retype = [("NumberOfEmployees".to_owned(), "string".to_owned())].into();
    world.fake.mutate(&Mutation { add_fields: vec![added], retype_fields: retype, ..mutation() }).unwrap();
    assert_eq!(world.query(stamps).await, before);
    let found = world.query("SELECT Score__c, NumberOfEmployees FROM Account WHERE Score__c != null").await;
    assert!(found["totalSize"].as_u64().unwrap() > 100);
    assert!(found["records"].as_array().unwrap().iter().all(|record| !record["NumberOfEmployees"].is_number()));
    let job = world.bulk("SELECT Id, Score__c FROM Account").await.json();
    let page = world.get(&format!("/services/data/v66.0/jobs/query/{}/results", job["id"].as_str().unwrap())).await;
    assert_eq!(page.rows().iter().skip(1).filter(|row| !row[1].is_empty()).count() as u64, found["totalSize"]);
    world.fake.mutate(&Mutation { remove_object: true, ..mutation() }).unwrap();
    assert_eq!(world.get("/services/data/v66.0/sobjects/Account/describe").await.status, 404);
    assert_eq!(world.bulk("SELECT Id FROM Account").await.json()[0]["errorCode"], "INVALID_TYPE");
    world.fake.mutate(&Mutation { restore_object: true, ..mutation() }).unwrap();
    assert_eq!(world.query(stamps).await, before);
}

#[tokio::test]
async fn dice_make_every_kind_of_change_and_repeat() {
    let (one, two) = (world().await, world().await);
    let asked = Mutations { seed: 11, count: 3_000, late_secs_max: 1, only: Vec::new() };
    let made = one.fake.mutate_by_dice(&asked);
    assert_eq!(made, two.fake.mutate_by_dice(&asked));
    assert_eq!(made.len(), 12, "{made:?}");
    assert!(made[&Kind::Update] > 1_000);
    // A record's stamp never goes back, so that the newest version of it is the one with the greatest stamp.
    one.fake.settle();
    two.fake.settle();
    for object in one.fake.objects() {
        let fields: Vec<String> = world_fields(&one, &object);
        let digests = [&one, &two].map(|world| world.fake.digest(&object, Some(&fields)).unwrap());
        assert_eq!(digests[0], digests[1], "{object}");
    }
}

/// The fields that do not depend on when the change was made.
fn world_fields(world: &World, object: &str) -> Vec<String> {
    let fields = world.fake.digest(object, None).unwrap().fields;
    let timed = ["CreatedDate", "LastModifiedDate", "SystemModstamp"];
    fields.into_iter().filter(|name| !timed.contains(&name.as_str())).collect()
}

#[tokio::test]
async fn every_fault_of_the_data_strikes_by_name_and_seed() {
    use DataFault as F;
    for fault in [
        F::EqualModstamps,
        F::LateRow,
        F::BackdatedModstamp,
        F::FieldRemoved,
        F::FieldAdded,
        F::FieldRetyped,
        F::PermissionLost,
        F::ObjectGone,
        F::OddText,
        F::NaText,
        F::HardDelete,
        F::Merge,
        F::Undelete,
        F::FormulaDrift,
        F::VisibilityLost,
        F::DamagedRecord,
    ] {
        let world = world().await;
        world.fake.mutate(&Mutation { delete: ids(&world)[..9].to_vec(), ..mutation() }).unwrap();
        let before = world.fake.digest("Account", None).unwrap();
        let order = DataOrder::new(fault, "Account", 3);
        let struck = world.fake.data_fault(&order).unwrap();
        if fault == F::LateRow {
            assert_eq!(world.fake.digest("Account", None), Some(before.clone()));
            world.fake.settle();
        }
        let after = world.fake.digest("Account", None);
        assert_ne!(after.as_ref(), Some(&before), "{fault:?}");
        assert_eq!(after.map_or(0, |after| after.damaged.len()), if fault == F::DamagedRecord { 5 } else { 0 });
        if let (F::OddText, Some(field)) = (fault, &struck.field) {
            let job = world.bulk(&format!("SELECT Id, {field} FROM Account")).await.json();
            let path = format!("/services/data/v66.0/jobs/query/{}/results", job["id"].as_str().unwrap());
            let rows = world.get(&path).await.rows();
            let truth = world.fake.truth("Account");
            for id in &struck.ids {
                let row = rows.iter().find(|row| row[0] == *id).unwrap();
                let record = truth.iter().find(|record| record["Id"] == **id).unwrap();
                assert_eq!(record[field], Value::String(row[1].clone()));
            }
        }
    }
}

#[tokio::test]
async fn a_wide_object_is_served_and_changes_run_by_themselves() {
    let content = Content::One { object: "Wide__c".to_owned(), records: 300, columns: 500, seed: 1 };
    let options = Options { content, mutations_per_s: 200, bulk_delay_ms: 0, ..Options::default() };
    let world = World::start(options).await;
    let before = world.fake.digest("Wide__c", None).unwrap();
    assert_eq!(before.fields.len(), 500);
    let job = world.bulk(&format!("SELECT {} FROM Wide__c", before.fields.join(", "))).await.json();
    let page = world.get(&format!("/services/data/v66.0/jobs/query/{}/results", job["id"].as_str().unwrap())).await;
    assert!(page.rows().iter().all(|row| row.len() == 500));
    testkit::eventually(std::time::Duration::from_secs(20), "the records to change", async || {
        (world.fake.digest("Wide__c", None).unwrap() != before).then_some(())
    })
    .await;
}

//! Syncs that are not the first, by a real servant from a simulated Salesforce: what they cost when nothing happened, and
//! what they find that does not come by itself: late changes, records deleted for good, records that are back.

use crate::{customer::World, fleet::LIMIT};
use chrono::{TimeDelta, Utc};
use domain::{AnomalyKind, Severity};
use fakes::salesforce::{Call, Mutation, Options};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use store::AnomalyFilter;
use testkit::{eventually, stored_records};

const OBJECT: &str = "Account";

async fn stored(world: &World) -> BTreeMap<String, Value> {
    stored_records(&world.fleet.deployment.database_url, "salesforce", OBJECT).await
}

fn ids(world: &World) -> Vec<String> {
    world.fake.truth(OBJECT).iter().map(|record| record["Id"].as_str().unwrap().to_owned()).collect()
}

fn of_accounts() -> Mutation {
    Mutation { object: OBJECT.to_owned(), ..Mutation::default() }
}

/// What the change log says of a record, in its order: 1 inserted, 2 changed, 3 deleted, 4 back.
async fn ops(world: &World, id: &str) -> Vec<i16> {
    let sql = sqlx::PgPool::connect(&world.fleet.deployment.database_url).await.unwrap();
    let statement = "SELECT op FROM record_changes WHERE object = 'Account' AND record_id = $1 ORDER BY seq";
    sqlx::query_scalar(statement).bind(id).fetch_all(&sql).await.unwrap()
}

#[tokio::test]
async fn a_tick_without_changes_is_one_call_for_all_objects() {
    let world = World::new(Options::default()).await;
    let _servant = world.servant().await;
    world.onboard().await.unwrap();
    let synced = "SELECT count(*) FROM streams WHERE synced_at > now() - interval '1 minute'";
    let objects = world.fake.objects().len() as i64;
    let before = world.fake.stats();
    for _ in 0..3 {
        world.a_second_passes().await;
        world.tick().await;
    }
    let after = world.fake.stats();
    assert_eq!(after.api_used - before.api_used, 3, "{:?} after {:?}", after.calls, before.calls);
    assert_eq!(after.calls[&Call::Composite] - before.calls[&Call::Composite], 3);
    assert_eq!(after.calls[&Call::Token], before.calls[&Call::Token], "and no sign-on");
    assert_eq!(world.number(synced).await, objects);
    let watermarks = "SELECT count(DISTINCT watermark) FROM streams";
    assert_eq!(world.number(watermarks).await, 1, "the watermarks have moved on together");
    world.assert_equal().await;
}

#[tokio::test]
async fn a_change_that_shows_late_makes_windows_reach_further_back() {
    let world = World::new(Options::default()).await;
    let _servant = world.servant().await;
    world.onboard().await.unwrap();
    world.tick().await;
    let reach = "SELECT coalesce(overlap_secs, 0)::bigint FROM streams WHERE object = 'Account'";
    let before = world.number(reach).await;
    assert!(before <= 900, "{before}");
    let late = json!({"Id": ids(&world)[3], "Name": "late"}).as_object().unwrap().clone();
    let stamp = Some(Utc::now() - TimeDelta::seconds(600));
    world.fake.mutate(&Mutation { upsert: vec![late], system_modstamp: stamp, ..of_accounts() }).unwrap();
    world.tick().await;
    world.assert_equal().await;
    let after = world.number(reach).await;
    assert!((1_150..=1_300).contains(&after), "twice as far as the lateness seen: {after}");
    let late = "SELECT lateness_secs::bigint FROM streams WHERE object = 'Account'";
    assert!((570..=650).contains(&world.number(late).await));
    let filter = AnomalyFilter { connection: Some(world.connection), ..AnomalyFilter::default() };
    let told = world.fleet.store.list_anomalies(&filter, 10).await.unwrap();
    // Once, and since more than half of the reach was used up, as a warning.
    let told: Vec<_> = told.iter().map(|told| (told.kind.as_str(), told.severity)).collect();
    assert_eq!(told, [(AnomalyKind::ChangesLate.as_str(), Severity::Warning)]);
    // What is later than the first overlap is within reach now.
    let later = json!({"Id": ids(&world)[4], "Name": "later"}).as_object().unwrap().clone();
    let stamp = Some(Utc::now() - TimeDelta::seconds(1_000));
    world.fake.mutate(&Mutation { upsert: vec![later], system_modstamp: stamp, ..of_accounts() }).unwrap();
    world.tick().await;
    world.assert_equal().await;
}

#[tokio::test]
async fn what_is_deleted_for_good_is_found_and_what_is_undeleted_is_back() {
    let world = World::new(Options::default()).await;
    let _servant = world.servant().await;
    world.onboard().await.unwrap();
    let ids = ids(&world);
    let (soft, hard) = (&ids[1], &ids[2]);
    world.fake.mutate(&Mutation { delete: vec![soft.clone()], ..of_accounts() }).unwrap();
    world.fake.mutate(&Mutation { hard_delete: vec![hard.clone()], ..of_accounts() }).unwrap();
    world.a_second_passes().await;
    world.tick().await;
    let records = stored(&world).await;
    for id in [soft, hard] {
        assert_eq!(records[id]["is_deleted"], json!(true), "{id}");
        assert_eq!(ops(&world, id).await, [1, 3], "{id}");
    }
    assert!(world.fake.truth(OBJECT).iter().all(|record| record["Id"] != json!(hard)));
    assert_eq!(records.len(), ids.len(), "what is gone is kept, marked");

    // The same tick again finds nothing, and reads nothing.
    let before = world.fake.stats().api_used;
    world.a_second_passes().await;
    world.tick().await;
    assert_eq!(world.fake.stats().api_used - before, 1);
    assert_eq!(ops(&world, hard).await, [1, 3]);

    world.fake.mutate(&Mutation { undelete: vec![soft.clone()], ..of_accounts() }).unwrap();
    world.a_second_passes().await;
    world.tick().await;
    let records = stored(&world).await;
    assert_eq!((&records[soft]["is_deleted"], &records[hard]["is_deleted"]), (&json!(false), &json!(true)));
    assert_eq!(ops(&world, soft).await, [1, 3, 4]);
}

#[tokio::test]
async fn a_tick_in_which_something_happened_reads_that_object_only() {
    let world = World::new(Options::default()).await;
    let _servant = world.servant().await;
    world.onboard().await.unwrap();
    let renamed = json!({"Id": ids(&world)[0], "Name": "renamed"}).as_object().unwrap().clone();
    world.fake.mutate(&Mutation { upsert: vec![renamed], ..of_accounts() }).unwrap();
    world.a_second_passes().await;
    let before = world.fake.stats().calls;
    eventually(LIMIT, "the change to arrive", async || {
        world.tick().await;
        (stored(&world).await[&ids(&world)[0]]["name"] == json!("renamed")).then_some(())
    })
    .await;
    let after = world.fake.stats().calls;
    assert_eq!(after[&Call::Query] - before[&Call::Query], 1);
    assert_eq!(after[&Call::Describe] - before[&Call::Describe], 1);
    world.assert_equal().await;
}

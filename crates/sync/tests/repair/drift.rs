//! Fields and objects that come, go and change.

use crate::world::{OBJECT, World};
use domain::{AnomalyKind, AnomalyState, Severity};
use fakes::salesforce::{Mutation, NewField};
use serde_json::{Value, json};
use store::JobFilter;

fn add(name: &str, field_type: &str) -> Mutation {
    let field = NewField { name: name.to_owned(), field_type: field_type.to_owned(), seed: 4 };
    Mutation { add_fields: vec![field], ..Mutation::default() }
}

fn retype(name: &str, field_type: &str) -> Mutation {
    Mutation { retype_fields: [(name.to_owned(), field_type.to_owned())].into(), ..Mutation::default() }
}

async fn reconcile_jobs(world: &World) -> usize {
    let jobs = world.store.list_jobs(&JobFilter::default(), 100).await.unwrap();
    jobs.iter().filter(|job| job.kind.as_str() == "salesforce_reconcile").count()
}

#[tokio::test]
async fn an_added_field_is_told_and_records_get_it() {
    for field_type in ["currency", "string", "date", "datetime", "boolean", "int"] {
        let world = World::new().await;
        world.mutate(add("Score__c", field_type));
        world.sync().await;
        let row = world.assert_anomaly(AnomalyKind::FieldAdded, "Score__c", AnomalyState::Open).await;
        assert_eq!((row.severity, &row.evidence["type"]), (Severity::Info, &json!(field_type)));
        assert_eq!(reconcile_jobs(&world).await, 1, "somebody asks for it");
        let lacks = world.stored().await.values().all(|row| row["score__c"] == Value::Null);
        assert!(lacks, "no stamp moved");
        let compared = world.compare().await;
        assert!(compared.patched > 50 && compared.fetched == 0, "{compared:?}");
        world.assert_equal().await;
        world.assert_anomaly(AnomalyKind::FieldAdded, "Score__c", AnomalyState::Resolved).await;
        assert_eq!(world.compare().await.patched, 0, "{field_type}");
        world.sync().await;
        assert_eq!(
            world.assert_anomaly(AnomalyKind::FieldAdded, "Score__c", AnomalyState::Resolved).await.sightings,
            1
        );
    }
}

#[tokio::test]
async fn a_lost_field_stays_and_is_read_again_when_it_is_back() {
    let world = World::new().await;
    let before = world.stored().await;
    let id = world.ids()[0].clone();
    let name = || vec!["Type".to_owned()];
    world.mutate(Mutation { hide_fields: name(), ..Mutation::default() });
    world.sync().await;
    world.sync().await;
    let row = world.assert_anomaly(AnomalyKind::FieldLost, "Type", AnomalyState::Open).await;
    assert_eq!((row.severity, row.sightings), (Severity::Warning, 1));
    assert_eq!(world.stored().await[&id]["type"], before[&id]["type"]);
    let stream = world.store.stream_schema(world.connection, OBJECT).await.unwrap().stream;
    let known = world.store.known_fields(stream).await.unwrap();
    assert!(known.iter().find(|field| field.name == "Type").unwrap().stale_since.is_some());
    world.mutate(Mutation { show_fields: name(), ..Mutation::default() });
    world.mutate(Mutation {
        recalculate: vec![json!({ "Id": id, "Type": "other now" }).as_object().unwrap().clone()],
        ..Mutation::default()
    });
    world.sync().await;
    world.assert_anomaly(AnomalyKind::FieldLost, "Type", AnomalyState::Resolved).await;
    assert_eq!(world.compare().await.patched, 1);
    world.assert_equal().await;
}

#[tokio::test]
async fn whole_numbers_that_become_decimals_widen_their_column() {
    let world = World::new().await;
    world.mutate(retype("NumberOfEmployees", "double"));
    let id = world.ids()[0].clone();
    world.upsert(&json!({ "Id": id, "NumberOfEmployees": 7.25 }));
    world.sync().await;
    let row = world.assert_anomaly(AnomalyKind::FieldRetyped, "NumberOfEmployees", AnomalyState::Open).await;
    assert_eq!((row.severity, &row.evidence["is_widened"]), (Severity::Info, &json!(true)));
    assert_eq!(world.stored().await[&id]["numberofemployees"], json!(7.25));
    world.compare().await;
    world.assert_equal().await;
    world.assert_anomaly(AnomalyKind::FieldRetyped, "NumberOfEmployees", AnomalyState::Resolved).await;
}

#[tokio::test]
async fn values_of_another_kind_go_into_a_version_of_the_column() {
    let world = World::new().await;
    let before = world.stored().await;
    let id = world.ids()[0].clone();
    world.mutate(retype("NumberOfEmployees", "string"));
    world.upsert(&json!({ "Id": id, "NumberOfEmployees": "a dozen" }));
    world.sync().await;
    let row = world.assert_anomaly(AnomalyKind::FieldRetyped, "NumberOfEmployees", AnomalyState::Open).await;
    assert_eq!((row.severity, &row.evidence["from"]), (Severity::Warning, &json!("int")));
    world.compare().await;
    let stored = world.stored().await;
    assert_eq!(stored[&id]["numberofemployees__text"], json!("a dozen"));
    for record in world.fake.truth(OBJECT) {
        let id = record["Id"].as_str().unwrap();
        assert_eq!(stored[id]["numberofemployees__text"], record["NumberOfEmployees"], "{id}");
        assert_eq!(stored[id]["numberofemployees"], before[id]["numberofemployees"], "what was there stays");
    }
    world.assert_anomaly(AnomalyKind::FieldRetyped, "NumberOfEmployees", AnomalyState::Resolved).await;
}

#[tokio::test]
async fn a_field_of_a_type_that_nobody_knows_is_text_and_told() {
    let world = World::new().await;
    world.mutate(add("Aura__c", "hologram"));
    world.sync().await;
    let row = world.assert_anomaly(AnomalyKind::FieldTypeUnknown, "Aura__c", AnomalyState::Open).await;
    assert_eq!((row.severity, row.sightings), (Severity::Warning, 1));
    assert_eq!(row.evidence, json!({ "field": "Aura__c", "type": "hologram", "read_as": "text" }));
    world.sync().await;
    assert_eq!(world.anomaly(AnomalyKind::FieldTypeUnknown, "Aura__c").await.unwrap().sightings, 1, "told once");
    world.compare().await;
    assert!(world.stored().await.values().any(|row| row["aura__c"].is_string()), "its values are kept");
    world.assert_equal().await;
    world.mutate(retype("Aura__c", "string"));
    world.sync().await;
    world.assert_anomaly(AnomalyKind::FieldTypeUnknown, "Aura__c", AnomalyState::Resolved).await;
}

#[tokio::test]
async fn an_object_that_is_gone_needs_attention_and_recovers() {
    let world = World::new().await;
    world.mutate(Mutation { remove_object: true, ..Mutation::default() });
    for sightings in 1..3 {
        let error = world.try_sync().await.unwrap_err();
        assert!(error.is_of_one_object(), "{error}");
        let row = world.assert_anomaly(AnomalyKind::ObjectLost, "", AnomalyState::Open).await;
        assert_eq!((row.severity, row.sightings), (Severity::Critical, sightings));
    }
    let streams = world.store.list_streams(world.connection, None, 10).await.unwrap();
    assert_eq!(streams[0].health, "needs_attention");
    assert!(world.stored().await.values().all(|row| row["is_deleted"] == false), "nothing is deleted for it");
    world.fake.mutate(&Mutation { object: OBJECT.to_owned(), restore_object: true, ..Mutation::default() }).unwrap();
    world.sync().await;
    world.assert_anomaly(AnomalyKind::ObjectLost, "", AnomalyState::Resolved).await;
    assert_eq!(world.store.list_streams(world.connection, None, 10).await.unwrap()[0].health, "ok");
}

//! Anomalies: seen again they are the same, and a person's word stands until something worse comes.

use crate::world::World;
use chrono::TimeDelta;
use domain::{AnomalyAct, AnomalyKind, AnomalyState, ConnectionId, Severity, action};
use serde_json::json;
use store::{AnomalyChange, AnomalyFilter, AnomalyRow, Sighting};

async fn see(
    world: &World,
    connection: ConnectionId,
    subject: &str,
    severity: Severity,
) -> (Option<AnomalyState>, AnomalyState) {
    let evidence = json!({ "field": subject });
    let (object, kind, summary) = ("Contact", AnomalyKind::FieldLost, "a field is gone");
    let seen = Sighting { connection, object, kind, subject, severity, summary, evidence: &evidence };
    let mut tx = world.store.begin().await.unwrap();
    let states = world.store.note_anomaly(&mut tx, &seen).await.unwrap();
    tx.commit().await.unwrap();
    world.clock.advance(TimeDelta::minutes(1));
    states
}

async fn list(world: &World, filter: AnomalyFilter) -> Vec<AnomalyRow> {
    world.store.list_anomalies(&filter, 50).await.unwrap()
}

#[tokio::test]
async fn one_thing_is_one_anomaly_however_often_it_is_seen() {
    let world = World::new().await;
    let (one, other) = (world.connection("salesforce").await, world.connection("salesforce").await);
    for _ in 0..3 {
        see(&world, one, "Phone", Severity::Info).await;
    }
    see(&world, one, "Fax", Severity::Critical).await;
    see(&world, other, "Phone", Severity::Info).await;
    let all = list(&world, AnomalyFilter::default()).await;
    let seen: Vec<_> = all.iter().map(|row| (row.connection, row.subject.as_str(), row.sightings)).collect();
    assert_eq!(seen, [(other, "Phone", 1), (one, "Fax", 1), (one, "Phone", 3)], "the newest first");
    assert_eq!(all[2].last_seen_at - all[2].first_seen_at, TimeDelta::minutes(2));
    let grave = AnomalyFilter { severity: Some(Severity::Warning), ..AnomalyFilter::default() };
    assert_eq!(list(&world, grave).await, [all[1].clone()]);
    let of = AnomalyFilter { connection: Some(other), state: Some(AnomalyState::Open), ..AnomalyFilter::default() };
    assert_eq!(list(&world, of).await, [all[0].clone()]);
    let behind = AnomalyFilter { before: Some(all[1].id), ..AnomalyFilter::default() };
    assert_eq!(list(&world, behind).await, [all[2].clone()]);
}

#[tokio::test]
async fn what_only_a_newer_version_knows_is_listed_and_left_to_it() {
    let world = World::new().await;
    let connection = world.connection("salesforce").await;
    see(&world, connection, "Phone", Severity::Info).await;
    sqlx::query("UPDATE anomalies SET kind = 'of_a_newer_version'").execute(&world.sql).await.unwrap();
    see(&world, connection, "Fax", Severity::Info).await;
    let all = list(&world, AnomalyFilter::default()).await;
    let kinds: Vec<_> = all.iter().map(|row| row.kind.as_str()).collect();
    assert_eq!(kinds, [AnomalyKind::FieldLost.as_str(), "of_a_newer_version"]);
    let mut tx = world.store.begin().await.unwrap();
    let open = world.store.open_anomalies(&mut tx, connection, "Contact").await.unwrap();
    assert_eq!(open.iter().map(|row| row.subject.as_str()).collect::<Vec<_>>(), ["Fax"]);
}

#[tokio::test]
async fn a_persons_word_stands_until_it_is_worse_or_begins_anew() {
    let world = World::new().await;
    let connection = world.connection("salesforce").await;
    assert_eq!(see(&world, connection, "", Severity::Info).await, (None, AnomalyState::Open));
    let id = list(&world, AnomalyFilter::default()).await[0].id;
    let store = &world.store;
    let act = async |act| {
        let changed = match act {
            AnomalyAct::Acknowledge => {
                store.change_anomaly(&testkit::granted::<action::AcknowledgeAnomaly>(), id).await
            }
            AnomalyAct::Resolve => store.change_anomaly(&testkit::granted::<action::ResolveAnomaly>(), id).await,
            AnomalyAct::Mute => store.change_anomaly(&testkit::granted::<action::MuteAnomaly>(), id).await,
        };
        match changed.unwrap() {
            AnomalyChange::Done(row) => {
                assert_eq!(world.store.find_anomaly(id).await.unwrap(), Some(*row.clone()));
                Ok(row.state)
            }
            AnomalyChange::Senseless(state) => Err(state),
            AnomalyChange::Missing => panic!("it is gone"),
        }
    };
    use AnomalyState::{Acknowledged, Muted, Open, Resolved};
    assert_eq!(act(AnomalyAct::Acknowledge).await, Ok(Acknowledged));
    assert_eq!(act(AnomalyAct::Acknowledge).await, Err(Acknowledged));
    assert_eq!(see(&world, connection, "", Severity::Info).await, (Some(Acknowledged), Acknowledged));
    assert_eq!(world.store.find_anomaly(id).await.unwrap().unwrap().state_by, "ada");
    assert_eq!(see(&world, connection, "", Severity::Warning).await, (Some(Acknowledged), Open));
    assert_eq!(world.store.find_anomaly(id).await.unwrap().unwrap().state_by, "servant");
    assert_eq!(act(AnomalyAct::Resolve).await, Ok(Resolved));
    assert_eq!(see(&world, connection, "", Severity::Info).await, (Some(Resolved), Open));
    assert_eq!(act(AnomalyAct::Mute).await, Ok(Muted));
    assert_eq!(see(&world, connection, "", Severity::Critical).await, (Some(Muted), Muted));
    let missing =
        world.store.change_anomaly(&testkit::granted_to::<action::MuteAnomaly>("ada", "x"), id + 1).await.unwrap();
    assert_eq!(missing, AnomalyChange::Missing);
}

#[tokio::test]
async fn what_is_over_by_itself_is_resolved_unless_muted() {
    let world = World::new().await;
    let connection = world.connection("salesforce").await;
    let settle = async || {
        let mut tx = world.store.begin().await.unwrap();
        let key = ("Contact", AnomalyKind::FieldLost, "Fax");
        let settled = world.store.settle_anomaly(&mut tx, connection, key, "the field is back").await.unwrap();
        tx.commit().await.unwrap();
        settled
    };
    assert!(!settle().await, "there is none");
    see(&world, connection, "Fax", Severity::Warning).await;
    assert!(settle().await);
    assert!(!settle().await, "it is over already");
    let row = list(&world, AnomalyFilter::default()).await.remove(0);
    assert_eq!((row.state, row.state_reason.as_str()), (AnomalyState::Resolved, "the field is back"));
    world
        .store
        .change_anomaly(&testkit::granted_to::<action::MuteAnomaly>("ada", "it comes and goes"), row.id)
        .await
        .unwrap();
    assert!(!settle().await);
}

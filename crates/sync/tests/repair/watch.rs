//! What is out of the ordinary in a stream's changes is noticed once a window is closed, and taken back when it is over.

use crate::world::{OBJECT, World};
use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use domain::{AnomalyKind, AnomalyState, Severity};
use fakes::salesforce::{Mutation, UsageChange};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use store::HourHistory;
use sync::watch;

/// An hour that is over, as far as windows are concerned, and has been judged by nobody.
struct Hour {
    at: DateTime<Utc>,
    sql: sqlx::PgPool,
    stream: i64,
}

impl Hour {
    /// Every hour of the week was so for the last weeks.
    async fn of(world: &World, changes: &[i64], deletes: &[i64]) -> Self {
        let sql = sqlx::PgPool::connect(world.database.url()).await.unwrap();
        let stream = world.store.stream_schema(world.connection, OBJECT).await.unwrap().stream;
        let history = HourHistory { changes: changes.to_vec(), deletes: deletes.to_vec() };
        let histories: BTreeMap<i16, HourHistory> = (0..168).map(|hour| (hour, history.clone())).collect();
        let mut tx = world.store.begin().await.unwrap();
        world.store.keep_hour_histories(&mut tx, stream, &histories).await.unwrap();
        tx.commit().await.unwrap();
        let at = Utc::now().duration_trunc(TimeDelta::hours(1)).unwrap() - TimeDelta::hours(3);
        Self { at, sql, stream }
    }

    /// As if it had just ended: it is judged with the next window.
    async fn is_over(&self) {
        sqlx::query("UPDATE stream_statistics SET judged_until = $2 WHERE stream_id = $1")
            .bind(self.stream)
            .bind(self.at)
            .execute(&self.sql)
            .await
            .unwrap();
    }
}

fn touched(ids: &[String], fields: &Value) -> Vec<Map<String, Value>> {
    let touch = |id: &String| {
        let mut record = fields.as_object().unwrap().clone();
        record.insert("Id".to_owned(), json!(id));
        record
    };
    ids.iter().map(touch).collect()
}

#[tokio::test]
async fn an_hour_out_of_the_ordinary_is_noticed_and_the_next_one_is_not() {
    let mut world = World::new().await;
    world.overlap = TimeDelta::hours(12);
    let hour = Hour::of(&world, &[2, 3, 2, 4, 3], &[0, 0, 0, 0, 0]).await;
    hour.is_over().await;
    let ids = world.ids();
    world.mutate(Mutation {
        upsert: touched(&ids[..60], &json!({ "Name": "a storm" })),
        delete: ids[60..100].to_vec(),
        system_modstamp: Some(hour.at + TimeDelta::minutes(5)),
        ..Mutation::default()
    });
    assert_eq!(world.sync().await, 100);
    let row = world.assert_anomaly(AnomalyKind::VolumeUnusual, "", AnomalyState::Open).await;
    assert_eq!((&row.evidence["count"], &row.evidence["median"]), (&json!(100), &json!(3.0)));
    let row = world.assert_anomaly(AnomalyKind::DeletesUnusual, "", AnomalyState::Open).await;
    assert_eq!((&row.evidence["count"], &row.evidence["median"]), (&json!(40), &json!(0.0)));
    let hour = Hour::of(&world, &[0, 0, 0, 0], &[0, 0, 0, 0]).await;
    hour.is_over().await;
    // A quiet connection is looked at too.
    assert_eq!(watch::look_at_all(&world.store, world.connection).await.unwrap(), 1);
    world.assert_anomaly(AnomalyKind::VolumeUnusual, "", AnomalyState::Resolved).await;
    world.assert_anomaly(AnomalyKind::DeletesUnusual, "", AnomalyState::Resolved).await;
}

#[tokio::test]
async fn a_busy_hour_in_which_nothing_comes_is_noticed() {
    let world = World::new().await;
    let hour = Hour::of(&world, &[200, 210, 190, 205], &[0, 0, 0, 0]).await;
    hour.is_over().await;
    watch::look_at_all(&world.store, world.connection).await.unwrap();
    let row = world.assert_anomaly(AnomalyKind::VolumeUnusual, "", AnomalyState::Open).await;
    assert_eq!((&row.evidence["count"], row.sightings), (&json!(0), 1));
    watch::look_at_all(&world.store, world.connection).await.unwrap();
    assert_eq!(world.assert_anomaly(AnomalyKind::VolumeUnusual, "", AnomalyState::Open).await.sightings, 1);
}

#[tokio::test]
async fn a_field_that_turns_empty_is_noticed() {
    let world = World::with(fakes::salesforce::Options {
        content: fakes::salesforce::Content::Generated { records: 3_000, seed: 11 },
        ..Default::default()
    })
    .await;
    let ids = world.ids();
    world.mutate(Mutation { upsert: touched(&ids[..120], &json!({ "Name": "x" })), ..Mutation::default() });
    world.sync().await;
    assert!(world.anomaly(AnomalyKind::NullsUnusual, "ownerid").await.is_none());
    world.mutate(Mutation { upsert: touched(&ids[120..240], &json!({ "OwnerId": null })), ..Mutation::default() });
    world.sync().await;
    let row = world.assert_anomaly(AnomalyKind::NullsUnusual, "ownerid", AnomalyState::Open).await;
    assert!(row.evidence["empty"].as_u64().unwrap() >= 120, "{}", row.evidence);
    world.mutate(Mutation { upsert: touched(&ids, &json!({ "OwnerId": ids[0] })), ..Mutation::default() });
    world.sync().await;
    world.assert_anomaly(AnomalyKind::NullsUnusual, "ownerid", AnomalyState::Resolved).await;
}

#[tokio::test]
async fn lateness_that_uses_up_the_overlap_is_noticed() {
    let world = World::new().await;
    let late = |secs: i64, name: &str| Mutation {
        upsert: touched(&world.ids()[3..4], &json!({ "Name": name })),
        system_modstamp: Some(Utc::now() - TimeDelta::seconds(secs)),
        ..Mutation::default()
    };
    world.mutate(late(100, "a little"));
    world.sync().await;
    let row = world.assert_anomaly(AnomalyKind::ChangesLate, "", AnomalyState::Open).await;
    assert_eq!(row.severity, Severity::Info, "it is far within reach: {}", row.evidence);
    world.mutate(late(80, "in between"));
    world.sync().await;
    // A record of its own, since the stamp of one never goes back.
    world.mutate(Mutation {
        upsert: touched(&world.ids()[9..10], &json!({ "Name": "very" })),
        system_modstamp: Some(Utc::now() - TimeDelta::seconds(700)),
        ..Mutation::default()
    });
    assert_eq!(world.sync().await, 1);
    let row = world.assert_anomaly(AnomalyKind::ChangesLate, "", AnomalyState::Open).await;
    assert!(row.evidence["late_secs"].as_i64().unwrap() > 600, "{}", row.evidence);
    assert_eq!(row.severity, Severity::Warning);
    world.sync().await;
    world.assert_anomaly(AnomalyKind::ChangesLate, "", AnomalyState::Resolved).await;
}

#[tokio::test]
async fn clocks_that_disagree_are_noticed() {
    let world = World::new().await;
    let ahead = domain::Clock::system();
    let store = world.database.store_with(ahead.clone()).await;
    ahead.set_offset(TimeDelta::seconds(90));
    let source = sync::Source { store: &store, ..world.source() };
    sync::drift::describe(source, OBJECT).await.unwrap();
    let row = world.assert_anomaly(AnomalyKind::ClocksApart, "", AnomalyState::Open).await;
    assert_eq!(row.object, "");
    assert!((-93..=-87).contains(&row.evidence["secs"].as_i64().unwrap()), "{}", row.evidence);
    world.sync().await;
    world.assert_anomaly(AnomalyKind::ClocksApart, "", AnomalyState::Resolved).await;
}

#[tokio::test]
async fn a_quota_that_will_not_last_is_noticed() {
    let world = World::new().await;
    assert!(world.fake.usage(&UsageChange { spend: 99_000, ..UsageChange::default() }).used > 99_000);
    let budget =
        domain::VendorBudget { used: 60_000, maximum: 100_000, reported_at: world.store.now(), resets_at: None };
    let report = store::UsageReport { connection: world.connection, budget };
    let mut tx = world.store.begin().await.unwrap();
    world.store.report_usage_in(&mut tx, &[report]).await.unwrap();
    tx.commit().await.unwrap();
    let sql = sqlx::PgPool::connect(world.database.url()).await.unwrap();
    let before = "UPDATE vendor_budget_minutes SET minute = minute - interval '30 minutes'";
    sqlx::query(before).execute(&sql).await.unwrap();
    world.sync().await;
    let row = world.assert_anomaly(AnomalyKind::QuotaShort, "", AnomalyState::Open).await;
    assert!(row.evidence["lasts_hours"].as_f64().unwrap() < 1.0, "{}", row.evidence);
    assert_eq!(world.fake.usage(&UsageChange { age_secs: 2 * 86_400, ..UsageChange::default() }).used, 0);
    world.sync().await;
    world.assert_anomaly(AnomalyKind::QuotaShort, "", AnomalyState::Resolved).await;
}

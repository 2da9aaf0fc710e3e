//! The page of what holds jobs back.

use crate::world::{KIND, World};
use chrono::TimeDelta;
use domain::{ConnectionId, VendorBudget};
use serde_json::json;
use store::UsageReport;

#[tokio::test]
async fn pauses_limits_and_breakers_are_set_and_taken_back() {
    let world = World::new().await;
    world.holds("/limits", &["Nothing is limited.", "No attempt on a service was seen yet."]).await;
    let why = [("by", "ada"), ("reason", "they <asked>")];
    let with = |fields: &[(&'static str, &'static str)]| [&why[..], fields].concat();
    world.submit("/limits", "/pauses", &with(&[("scope", "kind"), ("key", KIND)])).await;
    world.holds("/limits", &["they &#60;asked&#62;", "Resume"]).await;
    world.submit("/limits", "/pauses/resume", &[("scope", "kind"), ("key", KIND)]).await;
    world.submit("/limits", "/pauses", &with(&[("scope", "everything"), ("key", "")])).await;
    world.holds("/", &["everything is paused"]).await;
    world.submit("/limits", "/pauses/resume", &[("scope", "everything"), ("key", "")]).await;
    world.lacks("/limits", &["they &#60;asked&#62;"]).await;

    world.running().await;
    let bounds = [("concurrency", "40"), ("per_minute", "6000"), ("burst", "")];
    world.submit("/limits", "/limits", &with(&[&[("scope", "kind"), ("key", KIND)][..], &bounds].concat())).await;
    let holders = format!("/jobs?q=state%3Aqueued,running%20kind%3A{KIND}");
    world.holds("/limits", &["40 at a time, 6,000 a minute", "1 / 40", &holders]).await;
    let text = world.refused("/limits", &with(&[("scope", "kind"), ("key", KIND), ("concurrency", "many")]), 400).await;
    assert!(text.contains("concurrency: &#39;many&#39;"), "{text}");
    world.submit("/limits", "/limits", &with(&[("scope", "each_account"), ("key", ""), ("per_day", "9")])).await;
    world.holds("/limits", &["each_account", "9 a day"]).await;
    world.submit("/limits", "/limits/remove", &[("scope", "each_account"), ("key", "")]).await;
    world.submit("/limits", "/limits/remove", &[("scope", "kind"), ("key", KIND)]).await;
    world.holds("/limits", &["Nothing is limited."]).await;

    let connection = connection(&world).await;
    let of_connection = [("scope", "connection"), ("key", "1"), ("concurrency", "3")];
    assert_eq!(connection.0, 1);
    world.submit("/limits", "/limits", &with(&of_connection)).await;
    world.holds("/limits", &["connection 1", "/jobs?q=state%3Aqueued,running%20account%3A1"]).await;
    world.store.note_service(connection, "na1.example.com").await.unwrap();
    assert!(world.refused("/breakers/nowhere/open", &why, 404).await.contains("no connection works on"));
    world.submit("/limits", "/breakers/na1.example.com/open", &why).await;
    world.holds("/limits", &["na1.example.com", "held open</span> <span class=\"dim\">by ada", "Let go"]).await;
    world.holds("/", &["Needs attention", "na1.example.com"]).await;
    world.submit("/limits", "/breakers/na1.example.com/clear", &why).await;
    world.lacks("/limits", &["held open</span>"]).await;
}

async fn connection(world: &World) -> ConnectionId {
    let account = world.store.create_account("Acme").await.unwrap();
    world.store.create_connection(account, "salesforce", &json!({}), None).await.unwrap()
}

#[tokio::test]
async fn quotas_show_what_is_used_and_whose_share_it_is() {
    let world = World::new().await;
    let connection = connection(&world).await;
    let leadership = &world.lead;
    world.store.declare_limits(leadership, "main", &[], domain::BudgetSettings::default()).await.unwrap();
    let budget = VendorBudget { used: 14_000, maximum: 15_000, reported_at: world.clock.now(), resets_at: None };
    world.store.report_usage(&[UsageReport { connection, budget }]).await.unwrap();
    world.clock.advance(TimeDelta::minutes(2));
    world.holds("/limits", &["14,000 / 15,000", "11,250", "used up for us", "call by call"]).await;
    let id = connection.0.to_string();
    let share = [("connection", id.as_str()), ("share_pct", "99"), ("health_pct", "1")];
    world
        .submit("/limits", "/limits/share", &[&share[..], &[("by", "ada"), ("reason", "theirs alone")]].concat())
        .await;
    world.holds("/limits", &["99 %, 1 % kept", "by ada: theirs alone", "14,700"]).await;
    world.submit("/limits", "/limits/share/remove", &share[..1]).await;
    world.holds("/limits", &["80 %, 5 % kept"]).await;
}

//! The page of what holds jobs back.

use crate::world::{KIND, World};
use chrono::TimeDelta;
use domain::{AccountId, ConnectionId, Kind, VendorBudget};
use serde_json::json;
use store::{NewJob, UsageReport};

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
    let holders = format!("/holders?scope=kind&#38;key={KIND}");
    world.holds("/limits", &["40 at a time, 6,000 a minute", "1 / 40", "who holds it", &holders]).await;
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
    world.holds("/limits", &["connection 1", "/holders?scope=connection&#38;key=1"]).await;
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

/// So many jobs of an account and a connection, on the queue.
async fn queued(world: &World, account: i64, connection: Option<ConnectionId>, jobs: usize) {
    let kind = Kind::new(KIND).unwrap();
    let job = NewJob { account: AccountId(account), connection, ..NewJob::new(kind.clone(), json!({})) };
    world.store.insert_jobs(&vec![job; jobs]).await.unwrap();
    let dispatched = testkit::dispatch(&world.store, &world.lead, &kind, 100).await.unwrap();
    assert_eq!(dispatched, u64::try_from(jobs).unwrap());
}

#[tokio::test]
async fn each_limit_says_who_holds_it() {
    let world = World::new().await;
    let connection = connection(&world).await;
    let account = world.store.find_connection(connection).await.unwrap().unwrap().account_id;
    let other = world.store.create_account("Other").await.unwrap();
    let theirs = world.store.create_connection(other, "slack", &json!({}), None).await.unwrap();
    queued(&world, account, Some(connection), 3).await;
    queued(&world, other.0, Some(theirs), 2).await;
    queued(&world, 0, None, 1).await;
    let row = |account: i64, jobs: usize| {
        format!(r#"/jobs?q=state%3Aqueued,running%20kind%3A{KIND}%20account%3A{account}">{jobs}</a>"#)
    };
    let page = "/holders?scope=vendor&key=salesforce";
    world.holds(page, &["Who holds the limit on vendor salesforce", "Nobody."]).await;
    let why = [("concurrency", "9"), ("by", "ada"), ("reason", "a test")];
    let limit = async |scope: &'static str, key: &str| {
        world.submit("/limits", "/limits", &[&[("scope", scope), ("key", key)][..], &why].concat()).await;
    };
    limit("vendor", "salesforce").await;
    world.holds("/limits", &["/holders?scope=vendor&#38;key=salesforce"]).await;
    world.holds(page, &[&row(account, 3), &format!(r#"<a href="/accounts/{account}">"#)]).await;
    world.lacks(page, &[&row(other.0, 2), &row(0, 1), "Nobody."]).await;
    // The system's own jobs are no account's, and who has a limit of its own is not under that of each.
    limit("each_account", "").await;
    world.holds("/holders?scope=each_account", &["limit on each account", &row(account, 3), &row(other.0, 2)]).await;
    world.lacks("/holders?scope=each_account", &[&row(0, 1)]).await;
    limit("account", &account.to_string()).await;
    world.lacks("/holders?scope=each_account", &[&row(account, 3)]).await;
    world.holds(&format!("/holders?scope=account&key={account}"), &[&row(account, 3)]).await;
    limit("kind", KIND).await;
    let all = [&*row(account, 3), &*row(other.0, 2), &*row(0, 1)];
    world.holds(&format!("/holders?scope=kind&key={KIND}"), &all).await;
    limit("connection", &theirs.to_string()).await;
    world.holds(&format!("/holders?scope=connection&key={theirs}"), &[&row(other.0, 2)]).await;
    world.holds("/holders?scope=connection&key=999", &["Nobody."]).await;
    assert!(world.page("/holders?scope=group&key=1", 400).await.contains("has no limits"));
    assert!(world.page("/holders?scope=account&key=Acme", 400).await.contains("&#39;Acme&#39; is no account&#39;s id"));
}

//! Customers' pages.

use crate::world::{KIND, World};
use chrono::TimeDelta;
use domain::{AccountId, ConnectionId, Kind, VendorBudget};
use serde_json::json;
use store::{NewJob, Outcome, PageMark, UsageReport};

const WHY: [(&str, &str); 2] = [("by", "ada"), ("reason", "they <renewed> it")];

async fn customer(world: &World) -> (AccountId, ConnectionId) {
    let account = world.store.create_account("Acme <Ltd>").await.unwrap();
    let connection = world.store.create_connection(account, "salesforce", &json!({}), None).await.unwrap();
    (account, connection)
}

#[tokio::test]
async fn a_customers_page_has_connections_streams_quota_and_what_happened() {
    let world = World::new().await;
    let (account, connection) = customer(&world).await;
    let page = format!("/accounts/{account}");
    world.holds("/accounts", &["Acme &#60;Ltd&#62;", &page]).await;
    world
        .holds(&page, &["Acme &#60;Ltd&#62;", "create: account Acme", r#"<span class="state active">active</span>"#])
        .await;

    let store = &world.store;
    let window = store.open_window(connection, "Contact", world.clock.now(), TimeDelta::zero()).await.unwrap().unwrap();
    let mut tx = store.begin().await.unwrap();
    let mark = PageMark { rows_expected: 4_000, rows: 1_000, next_page: Some("2".to_owned()), oldest_change: None };
    assert_eq!(store.mark_page(&mut tx, &window, &mark).await.unwrap(), Outcome::Applied);
    tx.commit().await.unwrap();
    store.declare_limits(&world.lead, "main", &[], domain::BudgetSettings::default()).await.unwrap();
    let budget = VendorBudget { used: 9_000, maximum: 15_000, reported_at: world.clock.now(), resets_at: None };
    store.report_usage(&[UsageReport { connection, budget }]).await.unwrap();
    let mut job = NewJob::new(Kind::new("nobodys").unwrap(), json!({}));
    job.account = account;
    store.insert_jobs(&[job]).await.unwrap();
    world.clock.advance(TimeDelta::minutes(10));
    let facts = ["never read", "1,000 / 4,000", "30 min left", "9,000 / 15,000", "nobodys", "10 min ago"];
    world.holds(&page, &facts).await;

    let window = store.open_window(connection, "Contact", world.clock.now(), TimeDelta::zero()).await.unwrap().unwrap();
    let mut tx = store.begin().await.unwrap();
    assert!(store.close_window(&mut tx, window.id, window.fence, None).await.unwrap().is_some());
    tx.commit().await.unwrap();
    store.flag_stream(connection, "Lead", "its <fields> are gone").await.unwrap();
    world.clock.advance(TimeDelta::hours(5));
    world.holds(&page, &["5 h", "needs_attention", "its &#60;fields&#62; are gone"]).await;
    world.page("/accounts/999", 404).await;
    world.holds("/accounts/0", &["account 0"]).await;
}

#[tokio::test]
async fn a_connection_is_synced_parked_and_brought_back() {
    let world = World::new().await;
    let (account, connection) = customer(&world).await;
    let page = format!("/accounts/{account}");
    let job = world.submit(&page, &format!("/connections/{connection}/sync"), &[]).await;
    world.holds(&job, &[KIND, "Priority</dt><dd>0"]).await;
    assert_eq!(world.submit(&page, &format!("/connections/{connection}/sync"), &[]).await, job, "one is on its way");
    world.submit(&page, &format!("/connections/{connection}/park"), &WHY).await;
    world.holds(&page, &["they &#60;renewed&#62; it", "It is authorised again"]).await;
    world.holds("/", &["Needs attention", &format!("connection {connection}</a>")]).await;
    world
        .holds("/connections?state=parked", &[&format!("salesforce {connection}</a>"), "they &#60;renewed&#62; it"])
        .await;
    world.holds("/connections?state=needs_reauth", &["None."]).await;
    let text = world.refused(&format!("/connections/{connection}/sync"), &[], 409).await;
    assert!(text.contains("is parked"), "{text}");
    world.submit(&page, &format!("/connections/{connection}/reauthorised"), &WHY).await;
    world.holds(&page, &["Sync now", "ada: they &#60;renewed&#62; it"]).await;
    assert!(world.refused(&format!("/connections/{connection}/enable"), &WHY, 409).await.contains("does not change"));
    let weight = [("weight", "7")];
    world.submit(&page, &format!("{page}/weight"), &[&weight[..], &WHY].concat()).await;
    world.holds(&page, &["Share: 7", &format!("set weight: account {account}"), "weight: 1 → 7"]).await;
    let client = manager_api::ManagerClient::new(&world.url).unwrap();
    let changes = client.changes(account.0, &manager_api::ChangeQuery::default()).await.unwrap().changes;
    assert_eq!(changes[0].changes(), ["weight: 1 → 7"], "the API says the same");
    client.changes(999, &manager_api::ChangeQuery::default()).await.unwrap_err();
    let id = account.to_string();
    let pause = [("scope", "account"), ("key", id.as_str())];
    assert_eq!(world.submit(&page, "/pauses", &[&pause[..], &WHY].concat()).await, page);
    world.holds(&page, &["Paused by ada"]).await;
    world.submit(&page, "/pauses/resume", &pause).await;
    world.lacks(&page, &["Paused by"]).await;
}

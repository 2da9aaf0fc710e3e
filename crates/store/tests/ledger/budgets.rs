//! Quotas as rows: the latest word stands, minutes are kept, and a connection may have a share of its own.

use crate::world::World;
use chrono::{DateTime, TimeDelta, Utc};
use domain::{AccountId, BudgetSettings, ConnectionId, VendorBudget};
use serde_json::json;
use store::{BudgetMinute, Concerned, UsageReport};

async fn connection(world: &World) -> ConnectionId {
    world.store.create_connection(AccountId::SYSTEM, "salesforce", &json!({}), None).await.unwrap()
}

fn report(connection: ConnectionId, used: u64, reported_at: DateTime<Utc>) -> UsageReport {
    UsageReport { connection, budget: VendorBudget { used, maximum: 15_000, reported_at, resets_at: None } }
}

#[tokio::test]
async fn the_latest_word_stands_whoever_brings_it_first() {
    let world = World::new().await;
    let (one, two) = (connection(&world).await, connection(&world).await);
    assert_eq!(world.store.find_budget(one).await.unwrap(), None);
    let (first, later) = (world.clock.now(), world.after_secs(5));
    let reports = [report(two, 7, first), report(one, 30, later), report(one, 20, first)];
    world.store.report_usage(&reports).await.unwrap();
    world.store.report_usage(&[report(one, 25, world.after_secs(3)), report(one, 10, first)]).await.unwrap();
    let row = world.store.find_budget(one).await.unwrap().unwrap();
    assert_eq!((row.budget.used, row.budget.reported_at, row.vendor.as_str()), (30, later, "salesforce"));
    let minute = BudgetMinute { minute: first, used: 30, maximum: 15_000, ceiling: 11_250, reserved: 0 };
    assert_eq!(world.store.budget_minutes(one, None, 10).await.unwrap(), [minute]);
    let listed = world.store.list_budgets(None, 1).await.unwrap();
    assert_eq!(listed, [row]);
    let next = world.store.list_budgets(Some(one), 10).await.unwrap();
    assert_eq!(next.iter().map(|row| (row.connection, row.budget.used)).collect::<Vec<_>>(), [(two, 7)]);
}

#[tokio::test]
async fn minutes_are_kept_for_a_week_and_a_day() {
    let world = World::new().await;
    let id = connection(&world).await;
    let start = world.clock.now();
    for minute in 0..5 {
        let at = start + TimeDelta::seconds(minute * 60 + 10);
        world.store.report_usage(&[report(id, minute.unsigned_abs(), at)]).await.unwrap();
    }
    for (calls, secs) in [(40, 0), (60, 20), (20, 40), (90, 300)] {
        world.clock.advance(TimeDelta::seconds(secs));
        let mut tx = world.store.begin().await.unwrap();
        world.store.note_reserved_in(&mut tx, &[(id, calls), (ConnectionId(999), 5)]).await.unwrap();
        tx.commit().await.unwrap();
    }
    let page = world.store.budget_minutes(id, None, 4).await.unwrap();
    let rest = world.store.budget_minutes(id, Some(page[3].minute), 10).await.unwrap();
    let all: Vec<_> = page.iter().chain(&rest).map(|m| (m.used, m.reserved)).collect();
    assert_eq!(all, [(4, 90), (4, 0), (3, 0), (2, 0), (1, 20), (0, 60)]);
    world.clock.advance(TimeDelta::days(8) - TimeDelta::seconds(200));
    let lead = world.store.lead("boot-2", 10).await.unwrap().unwrap();
    assert_eq!(world.store.prune_limits(&lead, 100).await.unwrap(), 3, "those of more than eight days ago");
    assert_eq!(world.store.budget_minutes(id, None, 10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_connection_may_have_a_share_of_its_own() {
    let world = World::new().await;
    let (one, two) = (connection(&world).await, connection(&world).await);
    let now = world.clock.now();
    world.store.report_usage(&[report(one, 1, now), report(two, 2, now)]).await.unwrap();
    let declared = BudgetSettings { share_pct: 60, health_pct: 10 };
    assert_eq!(world.store.declare_limits(&world.lead, "blue", &[], declared).await.unwrap(), 1);
    let own = BudgetSettings { share_pct: 100, health_pct: 0 };
    assert!(world.store.set_budget_settings(&testkit::granted_to("ada", "they asked for it"), one, own).await.unwrap());
    assert!(!world.store.set_budget_settings(&testkit::granted(), ConnectionId(999), own).await.unwrap());
    let rows = world.store.list_budgets(None, 10).await.unwrap();
    let told: Vec<_> = rows.iter().map(|r| (r.settings, r.settings_by.is_own, r.settings_by.set_by.as_str())).collect();
    assert_eq!(told, [(own, true, "ada"), (declared, false, "blue")]);
    let mut tx = world.store.begin().await.unwrap();
    let concerned = Concerned { connections: vec![two, one], ..Concerned::default() };
    let mut facts = world.store.rooms_facts_in(&mut tx, &concerned).await.unwrap();
    drop(tx);
    facts.budgets.sort_by_key(|budget| budget.connection);
    let read: Vec<_> = facts.budgets.iter().map(|b| (b.connection, b.budget.used, b.settings)).collect();
    assert_eq!(read, [(one, 1, own), (two, 2, declared)]);
    world.store.report_usage(&[report(one, 5, world.after_secs(90))]).await.unwrap();
    let ceilings = world.store.budget_minutes(one, None, 10).await.unwrap();
    assert_eq!(ceilings.iter().map(|minute| minute.ceiling).collect::<Vec<_>>(), [15_000, 11_250]);
    assert!(world.store.remove_budget_settings(&testkit::granted(), one).await.unwrap());
    assert!(!world.store.remove_budget_settings(&testkit::granted(), one).await.unwrap());
    assert!(
        !world.store.remove_budget_settings(&testkit::granted(), ConnectionId(0)).await.unwrap(),
        "the common one stays"
    );
    assert_eq!(world.store.find_budget(one).await.unwrap().unwrap().settings, declared);
}

#[tokio::test]
async fn a_quotas_day_is_told_by_quarters_however_many_minutes_it_has() {
    let world = World::new().await;
    let one = connection(&world).await;
    let began = world.clock.now();
    for used in 0..600 {
        world.store.report_usage(&[report(one, used, world.clock.now())]).await.unwrap();
        world.clock.advance(chrono::TimeDelta::minutes(1));
    }
    world.clock.advance(chrono::TimeDelta::hours(9));
    let quarters = world.store.budget_day(one).await.unwrap();
    // Ten hours of calls, and nine of silence; the first call may be in a quarter of its own.
    assert!((40..=41).contains(&quarters.len()) && quarters[0].used == 599, "{quarters:?}");
    assert!(quarters.is_sorted_by(|late, early| late.minute > early.minute));
    assert!(quarters.last().unwrap().minute < began + chrono::TimeDelta::minutes(16), "from the first on");
    world.clock.advance(chrono::TimeDelta::days(1));
    assert!(world.store.budget_day(one).await.unwrap().is_empty());
}

//! What the catalogue declares: entered where it is missing, for the system or for every account, and never taken back.

use crate::world::{World, office, tick_and_die};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{AccountId, ConnectionId, ScheduleId};
use scheduler::duties::tick;
use serde_json::json;
use std::collections::BTreeSet;
use store::{PAGE_ROWS_MAX, ScheduleEdit, ScheduleRow};

const GLOBAL: &str = "{ name = \"sweep\", every_secs = 60, payload = { deep = true }, priority = 3 }";
const EACH: &str = "{ name = \"nightly\", cron = \"0 2 * * *\", zone = \"Europe/Berlin\", per_account = true, \
                    jitter_secs = 600, overlap = \"buffer_one\" }";

async fn rows(world: &World) -> Vec<ScheduleRow> {
    let mut rows = world.office.store.list_schedules(None, PAGE_ROWS_MAX).await.unwrap();
    rows.reverse();
    rows
}

async fn tick(world: &World) {
    let lead = world.office.store.lead("boot", 3_600).await.unwrap().unwrap();
    while tick::perform(&world.office, &lead).await.unwrap() {}
}

#[tokio::test]
async fn every_account_has_its_own_new_ones_too() {
    let world = World::new("2030-05-06T12:00:00Z", &format!("{GLOBAL}, {EACH}")).await;
    let one = world.office.store.create_account("one").await.unwrap();
    let two = world.office.store.create_account("two").await.unwrap();
    for _ in 0..3 {
        tick(&world).await;
    }
    let found = rows(&world).await;
    let names: BTreeSet<_> = found.iter().map(|row| (row.name.clone(), row.account_id)).collect();
    let expected = [("sweep".to_owned(), 0), (format!("nightly/{one}"), one.0), (format!("nightly/{two}"), two.0)];
    assert_eq!(names, BTreeSet::from(expected));
    assert!(found.iter().all(|row| row.declared));
    let sweep = found.iter().find(|row| row.name == "sweep").unwrap();
    assert_eq!((sweep.priority, &sweep.payload), (3, &serde_json::json!({"deep": true})));
    let due: BTreeSet<_> = found.iter().filter(|row| row.account_id > 0).map(|row| row.next_due_at).collect();
    assert_eq!(due.len(), 2, "not at once");
    let midnight: chrono::DateTime<chrono::Utc> = "2030-05-07T00:00:00Z".parse().unwrap();
    assert!(due.iter().all(|at| at.is_some_and(|at| at >= midnight && at < midnight + TimeDelta::minutes(10))));

    // Long after the others were seen to.
    world.clock.advance(TimeDelta::hours(5));
    tick(&world).await;
    let three = world.office.store.create_account("three").await.unwrap();
    tick(&world).await;
    let found = rows(&world).await;
    assert_eq!(found.last().map(|row| row.name.clone()), Some(format!("nightly/{three}")));
    assert_eq!(found.len(), 4);
}

#[tokio::test]
async fn every_connection_to_the_vendor_has_its_own_and_its_jobs_carry_it() {
    let each = "{ name = \"sync\", every_secs = 3600, per_account = true, connection = \"salesforce\" }";
    let world = World::new("2030-05-06T12:00:00Z", each).await;
    let store = &world.office.store;
    let (one, two) = (store.create_account("one").await.unwrap(), store.create_account("two").await.unwrap());
    let connect =
        async |account, vendor: &str| store.create_connection(account, vendor, &json!({}), None).await.unwrap();
    let first = connect(one, "salesforce").await;
    let second = connect(one, "salesforce").await;
    connect(two, "mailbox").await;
    tick(&world).await;
    let named = |found: &[ScheduleRow]| -> Vec<_> {
        found.iter().map(|row| (row.name.clone(), row.account_id, row.connection_id)).collect()
    };
    let expected = |connection: ConnectionId, account: AccountId| {
        (format!("sync/{account}/{connection}"), account.0, Some(connection.0))
    };
    assert_eq!(named(&rows(&world).await), [expected(first, one), expected(second, one)]);
    let carried: Vec<Option<i64>> =
        sqlx::query_scalar("SELECT connection_id FROM jobs ORDER BY 1").fetch_all(&world.sql).await.unwrap();
    assert_eq!(carried, [Some(first.0), Some(second.0)]);
    // One that comes later, long after the others were seen to.
    world.clock.advance(TimeDelta::hours(1));
    let third = connect(two, "salesforce").await;
    tick(&world).await;
    assert_eq!(named(&rows(&world).await), [expected(first, one), expected(second, one), expected(third, two)]);
}

#[tokio::test]
async fn an_account_that_was_committed_late_is_found_and_none_is_looked_at_for_ever() {
    let world = World::new("2030-05-06T12:00:00Z", EACH).await;
    let early = world.clock.now();
    world.clock.advance(TimeDelta::minutes(5));
    world.office.store.create_account("young").await.unwrap();
    tick(&world).await;
    // The walk has passed this time.
    let enter = async |name: &str, at: DateTime<Utc>| {
        let insert =
            sqlx::query("INSERT INTO accounts (name, created_at) VALUES ($1, $2)").bind(name.to_owned()).bind(at);
        insert.execute(&world.sql).await.unwrap();
    };
    enter("late", early).await;
    world.clock.advance(TimeDelta::seconds(61));
    tick(&world).await;
    tick(&world).await;
    assert_eq!(rows(&world).await.len(), 2);
    // No transaction is open for so long; the walk does not go back there.
    world.clock.advance(TimeDelta::minutes(30));
    world.office.store.create_account("younger").await.unwrap();
    tick(&world).await;
    enter("too late", early).await;
    world.clock.advance(TimeDelta::minutes(30));
    tick(&world).await;
    tick(&world).await;
    assert_eq!(rows(&world).await.len(), 3);
}

#[tokio::test]
async fn a_leader_that_dies_at_any_request_leaves_nobody_without() {
    let schedules = format!("{GLOBAL}, {EACH}");
    let world = World::new("2030-05-06T12:00:00Z", &schedules).await;
    let lead = world.office.store.lead("boot", 3_600).await.unwrap().unwrap();
    let (mut deaths, mut expected) = (0, 0);
    loop {
        world.office.store.create_account("new").await.unwrap();
        world.clock.advance(TimeDelta::seconds(1));
        expected += 1;
        let died = tick_and_die(&world, &lead, &schedules, deaths / 2, deaths % 2 == 1).await;
        if !died {
            break;
        }
        deaths += 1;
        if deaths % 2 == 0 {
            tick(&world).await;
            assert_eq!(rows(&world).await.len(), expected + 1, "after {deaths} deaths");
        }
    }
    assert!(deaths / 2 > 6, "{deaths}");
    assert_eq!(rows(&world).await.len(), expected + 1);
}

#[tokio::test]
async fn edits_stay_and_deployments_take_nothing_from_each_other() {
    let world = World::new("2030-05-06T12:00:00Z", GLOBAL).await;
    tick(&world).await;
    let id = ScheduleId(rows(&world).await[0].id);
    let edit =
        ScheduleEdit { priority: Some(0), rule: Some(domain::Schedule::EverySecs(7)), ..ScheduleEdit::default() };
    world.office.store.edit_schedule(&testkit::granted(), id, &edit).await.unwrap();
    world.office.store.pause_schedule(&testkit::granted_to("ada", "a reason"), id).await.unwrap();
    let before = rows(&world).await;
    let other = office(&world.database, &world.clock, "{ name = \"other\", every_secs = 60 }").await;
    let lead = world.office.store.lead("boot", 3_600).await.unwrap().unwrap();
    tick::perform(&other, &lead).await.unwrap();
    tick(&world).await;
    let after = rows(&world).await;
    assert_eq!(after[0], before[0]);
    assert_eq!(after.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["sweep", "other"]);
}

#[tokio::test]
async fn a_schedule_that_is_not_understood_is_paused_and_keeps_nobody_from_firing() {
    let world =
        World::new("2030-05-06T12:00:00Z", "{ name = \"new\", every_secs = 60 }, { name = \"old\", every_secs = 60 }")
            .await;
    tick(&world).await;
    sqlx::query("UPDATE schedules SET rule = '{\"by_moon\": 1}', next_due_at = $1 WHERE name = 'new'")
        .bind(world.clock.now())
        .execute(&world.sql)
        .await
        .unwrap();
    world.clock.advance(TimeDelta::seconds(60));
    tick(&world).await;
    let found = rows(&world).await;
    let new = found.iter().find(|row| row.name == "new").unwrap();
    assert_eq!(new.paused_by.as_deref(), Some("scheduler"));
    assert!(new.paused_reason.as_deref().unwrap().contains("unknown variant `by_moon`"), "{:?}", new.paused_reason);
    let old = found.iter().find(|row| row.name == "old").unwrap();
    assert_eq!(old.last_due_at, Some(world.clock.now()));
}

#[tokio::test]
async fn a_fire_that_waits_goes_with_the_tick_after_the_job_has_finished() {
    let world = World::new("2030-05-06T12:00:00Z", "{ name = \"b\", every_secs = 60, overlap = \"buffer_one\" }").await;
    let unfinished =
        async || -> i64 { sqlx::query_scalar("SELECT count(*) FROM jobs").fetch_one(&world.sql).await.unwrap() };
    tick(&world).await;
    world.clock.advance(TimeDelta::seconds(60));
    tick(&world).await;
    assert_eq!(unfinished().await, 1);
    let kind = domain::Kind::new("noop").unwrap();
    let until = world.clock.now() + TimeDelta::seconds(60);
    let jobs = testkit::claim_ready(&world.office.store, domain::ServantId(1), &kind, 10, until).await.unwrap();
    tick(&world).await;
    assert_eq!(unfinished().await, 1, "it still runs");
    world.office.store.succeed(&[jobs[0].key]).await.unwrap();
    tick(&world).await;
    assert_eq!(unfinished().await, 1, "the one that waited");
    assert_eq!(rows(&world).await[0].buffered_due_at, None);
}

#[tokio::test]
async fn ten_thousand_accounts_cost_little() {
    let each = "{ name = \"each\", every_secs = 3600, per_account = true, jitter_secs = 60, catch_up_max = 2 }";
    let world = World::new("2030-05-06T12:00:00Z", each).await;
    sqlx::query("INSERT INTO accounts (name, created_at) SELECT 'a' || n, $1 FROM generate_series(1, 10000) AS n")
        .bind(world.clock.now())
        .execute(&world.sql)
        .await
        .unwrap();
    let timed = async |what: &str| {
        let started = std::time::Instant::now();
        tick(&world).await;
        println!("{what}: {} ms", started.elapsed().as_millis());
        started.elapsed()
    };
    let declared = timed("10,000 schedules declared").await;
    let count = |statement: &'static str| sqlx::query_scalar::<_, i64>(statement).fetch_one(&world.sql);
    assert_eq!(count("SELECT count(*) FROM schedules").await.unwrap(), 10_000);
    assert!(count("SELECT count(*) FROM jobs").await.unwrap() < 10, "they are spread over a minute");
    world.clock.advance(TimeDelta::seconds(60));
    let fired = timed("10,000 due fires made jobs").await;
    assert_eq!(count("SELECT count(*) FROM jobs").await.unwrap(), 10_000);
    world.clock.advance(TimeDelta::minutes(15));
    tick(&world).await;
    let idle = timed("an idle tick").await;
    // Unoptimised, on a machine that does other things too.
    assert!(
        declared.as_secs() < 20 && fired.as_secs() < 10 && idle.as_millis() < 500,
        "{declared:?} {fired:?} {idle:?}"
    );
    assert_eq!(world.office.store.count_drift().await.unwrap(), []);
}

//! The Salesforce servant as real processes against a simulated Salesforce: killed in the middle, refused, cut off,
//! exhausted, and in the end equal to the truth.

use crate::{
    customer::{PAGE_SIZE, World},
    fleet::LIMIT,
};
use domain::JobState;
use fakes::salesforce::{Call, FakeSalesforce, Fault, Mutation, Options, Order};
use serde_json::json;
use testkit::eventually;

/// Pages that a first sync needs if nothing goes wrong.
fn pages(fake: &FakeSalesforce) -> u64 {
    fake.objects().iter().map(|object| fake.truth(object).len().div_ceil(PAGE_SIZE) as u64).sum()
}

#[tokio::test]
async fn a_servant_killed_in_the_middle_costs_a_page_and_no_record() {
    let world = World::new(Options::default()).await;
    // Slow enough that the kills land within pages.
    world.fake.order(Order { on: Some(Call::QueryNext), ms: 30, ..Order::new(Fault::SlowMs, 1_000) });
    let job = world.enqueue().await;
    let mut kills = 0;
    for pages in [3, 11, 23] {
        let mut doomed = world.servant().await;
        world.until_pages(pages).await;
        doomed.kill();
        kills += 1;
    }
    let _heir = world.servant().await;
    world.until(job, JobState::Succeeded).await;
    world.assert_equal().await;
    let sent = world.fake.stats().pages;
    assert!(sent <= pages(&world.fake) + kills, "{sent} pages for {} and {kills} kills", pages(&world.fake));
}

#[tokio::test]
async fn what_goes_wrong_at_salesforce_costs_no_record() {
    // The session ends by the refusal below, and not by itself at the same moment: two refusals of one call mean that no
    // session is any good, and park the connection.
    let world = World::new(Options { rotate_refresh_tokens: true, ..Options::default() }).await;
    for (fault, on) in [
        (Fault::Http503, Call::Describe),
        (Fault::CutBody, Call::QueryNext),
        (Fault::Auth401MidQuery, Call::QueryNext),
        (Fault::CursorExpired, Call::QueryNext),
        (Fault::Http502Html, Call::Query),
        (Fault::QueryTimeout, Call::Query),
        (Fault::BadJson, Call::QueryNext),
    ] {
        world.fake.order(Order { on: Some(on), ..Order::new(fault, 1) });
    }
    let _servant = world.servant().await;
    let job = world.enqueue().await;
    world.until(job, JobState::Succeeded).await;
    world.assert_equal().await;
    assert!(world.fake.pending_faults().is_empty(), "{:?}", world.fake.pending_faults());
    // What changes afterwards comes with the next sync, and the token that was rotated meanwhile is good for it.
    let upsert = vec![json!({"LastName": "Newcomer"}).as_object().unwrap().clone()];
    world.fake.mutate(&Mutation { object: "Contact".to_owned(), upsert, ..Mutation::default() }).unwrap();
    eventually(LIMIT, "the change to be old enough", async || {
        let next = world.enqueue().await;
        world.until(next, JobState::Succeeded).await;
        let stored = testkit::stored_records(&world.fleet.deployment.database_url, "salesforce", "Contact").await;
        (stored.len() == world.fake.truth("Contact").len()).then_some(())
    })
    .await;
    world.assert_equal().await;
}

#[tokio::test]
async fn an_exhausted_allowance_delays_and_a_revoked_grant_parks() {
    let world = World::new(Options { daily_limit: 10, ..Options::default() }).await;
    let _servant = world.servant().await;
    let job = world.enqueue().await;
    let delayed = eventually(LIMIT, "the sync to be delayed", async || {
        let row = world.fleet.store.find_job(job).await.ok()??;
        assert_ne!(row.state, JobState::Succeeded, "an exhausted allowance is no success");
        (row.state == JobState::Scheduled).then_some(row)
    })
    .await;
    assert_eq!(delayed.attempt, 0, "it burns no attempt");
    assert!(delayed.due_at > world.fleet.store.now() + chrono::TimeDelta::minutes(10));
    let says = domain::why(&world.fleet.store.why_facts(&delayed).await.unwrap()).says();
    let resumes = delayed.due_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    assert!(says.starts_with(&format!("it is delayed until {resumes}")), "{says}");
    let budget = world.fleet.store.find_budget(world.connection).await.unwrap().expect("the last word of Salesforce");
    assert_eq!((budget.budget.used, budget.budget.maximum, budget.budget.resets_at), (10, 10, None));
    assert_eq!(budget.account, world.account);
    world.an_hour_passes_for_the_quota().await;

    world.fake.revoke_grant();
    let job = world.enqueue().await;
    let parked = eventually(LIMIT, "the connection to be parked", async || {
        let connection = world.fleet.store.find_connection(world.connection).await.ok()??;
        (connection.state == "needs_reauth").then_some(connection)
    })
    .await;
    assert!(parked.state_reason.unwrap().starts_with("auth_broken: "));
    world.until(job, JobState::Ready).await;
    let tokens = world.fake.stats().calls[&Call::Token];
    // Another job does not ask again: it waits like the first, and says why.
    let another = world.enqueue().await;
    let row = world.fleet.store.find_job(another).await.unwrap().unwrap();
    let cause = domain::why(&world.fleet.store.why_facts(&row).await.unwrap());
    assert!(matches!(cause, domain::Cause::NeedsReauth { .. }), "{cause:?}");
    // Nor does anybody while servants are free for something else, and that has been done.
    let elsewhere = world.elsewhere().await;
    world.until(elsewhere, JobState::Failed).await;
    for job in [job, another] {
        let row = world.fleet.store.find_job(job).await.unwrap().unwrap();
        assert_eq!((row.state, row.attempt), (JobState::Ready, 0), "a revoked grant uses no job up");
    }
    assert_eq!(world.fake.stats().calls[&Call::Token], tokens);
    let events = world.fleet.store.connection_events(world.connection, 10).await.unwrap();
    assert_eq!(events.len(), 1, "one notice: {events:?}");
    let host = world.fake.url().split_once("//").unwrap().1.to_owned();
    let connection = world.fleet.store.find_connection(world.connection).await.unwrap().unwrap();
    assert_eq!(connection.service, host, "its breaker is the instance's");
}

/// Salesforce refuses before its numbers say so, which lag behind: the refusal is believed, and the next try succeeds.
#[tokio::test]
async fn a_refused_quota_is_known_to_be_used_up_and_costs_no_attempt() {
    let world = World::new(Options::default()).await;
    world.fake.order(Order { on: Some(Call::QueryNext), ..Order::new(Fault::LimitDaily, 1) });
    let _servant = world.servant().await;
    let job = world.enqueue().await;
    let delayed = eventually(LIMIT, "the sync to be delayed", async || {
        let row = world.fleet.store.find_job(job).await.ok()??;
        assert!(!row.state.is_finished(), "it is {}", row.state);
        (row.state == JobState::Scheduled).then_some(row)
    })
    .await;
    assert_eq!(delayed.attempt, 0, "it burns no attempt");
    let store = &world.fleet.store;
    let exhausted = store.find_budget(world.connection).await.unwrap().unwrap().budget;
    assert_eq!((exhausted.used, exhausted.maximum), (100_000, 100_000));
    let minutes = store.budget_minutes(world.connection, None, 10).await.unwrap();
    assert_eq!((minutes[0].used, minutes[0].ceiling), (100_000, 75_000));
    // What was used a day ago is free again, and the delayed job finds out.
    world.an_hour_passes_for_the_quota().await;
    let sql = sqlx::PgPool::connect(&world.fleet.deployment.database_url).await.unwrap();
    sqlx::query("UPDATE jobs SET due_at = now() WHERE id = $1").bind(job.0).execute(&sql).await.unwrap();
    world.until(job, JobState::Succeeded).await;
    world.assert_equal().await;
    let known = store.find_budget(world.connection).await.unwrap().unwrap().budget;
    assert_eq!(known.used, world.fake.stats().api_used, "the last answer's word, when the job is done");
}

//! Who holds a job: claims, tokens, leases and rescues.

use crate::world::{LEASE_SECS, World, failure, kind, nobodys};
use chrono::TimeDelta;
use domain::{JobState, RetryPolicy};
use std::collections::BTreeSet;
use store::{Fate, Outcome};

#[tokio::test]
async fn two_servants_never_claim_the_same_job() {
    let world = World::new().await;
    let kind = kind("noop");
    let other = world.another_servant().await;
    let all: BTreeSet<_> = world.insert_many(&kind, 200).await.into_iter().collect();
    let until = world.after_secs(LEASE_SECS);
    let take = async |servant| {
        let mut mine = Vec::new();
        for _ in 0..20 {
            mine.extend(testkit::claim_ready(&world.store, servant, &kind, 10, until).await.unwrap());
        }
        mine
    };
    let (mine, theirs) = tokio::join!(take(world.servant), take(other));
    let claimed: BTreeSet<_> = mine.iter().chain(&theirs).map(|job| job.key.id).collect();
    assert_eq!(mine.len() + theirs.len(), 200);
    assert_eq!(claimed, all);
    world.assert_counted("two servants").await;
}

#[tokio::test]
async fn a_token_of_the_past_changes_nothing() {
    let world = World::new().await;
    let kind = kind("noop");
    let (id, old) = world.job_in(JobState::Running, &kind, 9).await;
    assert!(world.settle(old, Fate::GiveBack).await);
    let new = world.claim(&kind, 1).await[0].key;
    assert_eq!(new.id, id);
    for stale in [old, nobodys(id)] {
        assert!(world.store.succeed(&[stale]).await.unwrap().is_empty());
        assert!(!world.settle(stale, Fate::Fail(failure())).await);
        let saved = world.store.save_checkpoint(stale, &serde_json::json!({"page": 1})).await.unwrap();
        assert_eq!(saved, Outcome::Stale);
        let held = world.store.renew_leases(world.servant, &[stale], world.after_secs(60)).await.unwrap();
        assert_eq!(held, []);
    }
    assert_eq!(world.state(id).await, JobState::Running);
    assert_eq!(world.store.save_checkpoint(new, &serde_json::json!({"page": 2})).await.unwrap(), Outcome::Applied);
    assert!(world.settle(new, Fate::GiveBack).await);
    assert_eq!(world.claim(&kind, 1).await[0].checkpoint, Some(serde_json::json!({"page": 2})));
}

#[tokio::test]
async fn a_rescue_leaves_nothing_behind() {
    let world = World::new().await;
    let kind = kind("noop");
    let (spare, _) = world.job_in(JobState::Running, &kind, 2).await;
    let (last, _) = world.job_in(JobState::Running, &kind, 1).await;
    let (_, done) = world.job_in(JobState::Running, &kind, 2).await;
    assert_eq!(world.store.succeed(&[done]).await.unwrap().len(), 1);
    assert_eq!(
        world.store.rescue(&world.lead, 100, |_| RetryPolicy::default()).await.unwrap().jobs,
        [],
        "the leases are good"
    );
    world.clock.advance(TimeDelta::seconds(LEASE_SECS + 1));
    let mut rescued = world.store.rescue(&world.lead, 100, |_| RetryPolicy::default()).await.unwrap().jobs;
    rescued.sort_by_key(|r| r.id);
    assert_eq!(rescued.iter().map(|r| (r.id, r.failed)).collect::<Vec<_>>(), [(spare, false), (last, true)]);
    assert_eq!(world.state(spare).await, JobState::Ready);
    assert_eq!(world.state(last).await, JobState::Failed);
    assert_eq!(world.count("SELECT count(*) FROM leases").await, 0);
    let orphans =
        "SELECT count(*) FROM jobs LEFT JOIN leases ON leases.id = lease_id WHERE state = 3 AND leases.id IS NULL";
    assert_eq!(world.count(orphans).await, 0);
    assert_eq!(world.count("SELECT count(*) FROM attempts WHERE class = 'lease_lost'").await, 2);
    assert_eq!(world.attempt(spare).await, 1, "a rescue is charged");
    world.assert_counted("a rescue").await;
}

#[tokio::test]
async fn a_renewed_lease_is_not_rescued() {
    let world = World::new().await;
    let (id, key) = world.job_in(JobState::Running, &kind("noop"), 2).await;
    world.clock.advance(TimeDelta::seconds(LEASE_SECS - 1));
    let held = world.store.renew_leases(world.servant, &[key], world.after_secs(LEASE_SECS)).await.unwrap();
    assert_eq!(held.len(), 1);
    world.clock.advance(TimeDelta::seconds(LEASE_SECS - 1));
    assert_eq!(world.store.rescue(&world.lead, 100, |_| RetryPolicy::default()).await.unwrap().jobs, []);
    assert_eq!(world.state(id).await, JobState::Running);
}

#[tokio::test]
async fn a_row_in_an_open_transaction_is_rescued_later() {
    let world = World::new().await;
    let kind = kind("noop");
    world.insert_many(&kind, 2).await;
    let keys: Vec<_> = world.claim(&kind, 2).await.iter().map(|job| job.key).collect();
    world.clock.advance(TimeDelta::seconds(LEASE_SECS + 1));
    let mut open = world.sql.begin().await.unwrap();
    sqlx::query("SELECT FROM jobs WHERE id = $1 FOR UPDATE").bind(keys[0].id.0).execute(&mut *open).await.unwrap();
    let first = world.store.rescue(&world.lead, 100, |_| RetryPolicy::default()).await.unwrap().jobs;
    assert_eq!(first.iter().map(|r| r.id).collect::<Vec<_>>(), [keys[1].id]);
    assert!(world.store.lease_of(keys[0].id).await.unwrap().is_some());
    open.rollback().await.unwrap();
    let second = world.store.rescue(&world.lead, 100, |_| RetryPolicy::default()).await.unwrap().jobs;
    assert_eq!(second.iter().map(|r| r.id).collect::<Vec<_>>(), [keys[0].id]);
    assert_eq!(world.count("SELECT count(*) FROM leases").await, 0);
    world.assert_counted("two rescues").await;
}

#[tokio::test]
async fn what_is_given_back_is_not_charged() {
    let world = World::new().await;
    let kind = kind("noop");
    let (id, key) = world.job_in(JobState::Running, &kind, 1).await;
    assert_eq!(world.attempt(id).await, 1);
    assert!(world.settle(key, Fate::GiveBack).await);
    assert_eq!(world.attempt(id).await, 0);
    let key = world.claim(&kind, 1).await[0].key;
    let later = Fate::RetryAt { due: world.after_secs(5), charged: false, failure: failure() };
    assert!(world.settle(key, later).await);
    assert_eq!(world.attempt(id).await, 0);
    assert_eq!(world.count("SELECT count(*) FROM attempts").await, 1, "a failure leaves a row, a stop does not");
}

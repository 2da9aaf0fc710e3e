//! Servants without a queue who claim what is limited in one statement, by what they know from before: whatever others
//! let through meanwhile counts, and no limit is passed.

use crate::{
    dispatch::job,
    world::{Taker, World},
};
use domain::{AccountId, Limit, Scope, ServantId, URGENT};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

fn at_a_time(jobs: u32) -> Limit {
    Limit { concurrency: Some(jobs), ..Limit::default() }
}

/// A ledger without a queue, whose limits have been in force for a while.
async fn world_under(limit: u32) -> (World, AccountId) {
    let mut world = World::new().await;
    world.office.queue = queue::Backend::Postgres;
    let account = world.account("limited", 1).await;
    world.limit(Scope::Account(account), at_a_time(limit)).await;
    (world, account)
}

/// A servant that has let a job through before, more than a second after the limits were set and again since: it knows.
async fn knowing(world: &World) -> (Taker, ServantId) {
    let servant = world.servant(100).await;
    let mut taker = Taker::of(servant);
    for _ in 0..2 {
        assert_eq!(taker.claim(world, servant, 1).await.len(), 1);
        world.advance_secs(2);
    }
    (taker, servant)
}

#[tokio::test]
async fn a_claim_by_what_is_known_passes_no_limit_and_sees_every_change() {
    let (world, account) = world_under(6).await;
    world.insert(&vec![job(account, 2); 40]).await;
    let (mut one, servant) = knowing(&world).await;
    // The last statement is the claim itself, and not the end of a transaction.
    let is_at_once = "SELECT CASE WHEN query LIKE '-- claim_ready%' THEN 1 ELSE 0 END::int8 FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY query_start DESC NULLS LAST LIMIT 1";
    assert_eq!(world.number(is_at_once).await, 0);
    let third = one.claim(&world, servant, 1).await;
    assert_eq!((third.len(), world.number(is_at_once).await), (1, 1), "one statement");

    let mut other = Taker::of(world.servant(100).await);
    assert_eq!(other.claim(&world, servant, 1).await.len(), 1);
    assert_eq!(one.claim(&world, servant, 100).await.len(), 2, "what the other has let through counts");
    assert_eq!(other.claim(&world, servant, 100).await, [], "and the other way round");

    world.office.store.succeed(&third).await.unwrap();
    one.ended(&third);
    assert_eq!(one.claim(&world, servant, 100).await.len(), 1, "room that it was told of");

    world.limit(Scope::Account(account), at_a_time(8)).await;
    assert_eq!(one.claim(&world, servant, 100).await.len(), 2, "another limit");
    world.limit(Scope::Account(account), at_a_time(3)).await;
    assert_eq!(one.claim(&world, servant, 100).await, [], "a lower one");
    world.assert_counted().await;
}

/// Nobody tells a servant when an attempt that it lost is over: it counts again for as long as it counts that one.
#[tokio::test]
async fn a_lost_attempt_that_was_counted_is_counted_again() {
    let (world, account) = world_under(3).await;
    world.insert(&vec![job(account, 2); 10]).await;
    let (mut one, servant) = knowing(&world).await;
    let third = one.claim(&world, servant, 1).await;
    one.lost(&third);
    assert_eq!(one.claim(&world, servant, 100).await, [], "nobody has rescued it yet");
    world.office.store.succeed(&third).await.unwrap();
    assert_eq!(one.claim(&world, servant, 100).await.len(), 1, "whoever has ended it");
    world.assert_counted().await;
}

#[tokio::test]
async fn an_urgent_job_goes_first_whatever_was_known() {
    let (world, account) = world_under(10).await;
    world.insert(&vec![job(account, 2); 40]).await;
    let (mut one, servant) = knowing(&world).await;
    let urgent = world.insert(&[job(account, URGENT)]).await;
    assert_eq!(one.claim(&world, servant, 1).await.iter().map(|key| key.id).collect::<Vec<_>>(), urgent);
}

#[tokio::test]
async fn a_claim_waits_for_one_who_lets_jobs_through_just_now() {
    let (world, account) = world_under(10).await;
    world.insert(&vec![job(account, 2); 40]).await;
    let (mut one, servant) = knowing(&world).await;
    let other = world.office.store.begin_dispatch().await.unwrap();
    let claim = one.claim(&world, servant, 1);
    tokio::pin!(claim);
    let waits = async {
        let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        let seen = async || (world.number(waiting).await == 1).then_some(());
        testkit::eventually(std::time::Duration::from_secs(30), "the claim waits", seen).await;
    };
    tokio::select! {
        claimed = &mut claim => panic!("claimed {claimed:?} beside another"),
        () = waits => {}
    }
    other.commit().await.unwrap();
    assert_eq!(claim.await.len(), 1);
}

#[tokio::test]
async fn many_servants_at_once_never_pass_a_limit() {
    const LIMIT: u32 = 7;
    const JOBS: usize = 600;
    let (world, account) = world_under(LIMIT).await;
    world.insert(&vec![job(account, 2); JOBS]).await;
    let world = Arc::new(world);
    let is_done = Arc::new(AtomicBool::new(false));
    let watch = tokio::spawn({
        let (world, is_done) = (world.clone(), is_done.clone());
        async move {
            let (mut most, mut looks) = (0, 0);
            while !is_done.load(SeqCst) {
                most = most.max(world.number("SELECT count(*) FROM jobs WHERE state = 3").await);
                looks += 1;
            }
            (most, looks)
        }
    });
    let mut servants = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let world = world.clone();
        servants.spawn(async move {
            let servant = world.servant(100).await;
            let mut taker = Taker::of(servant);
            while world.number("SELECT count(*) FROM jobs").await > 0 {
                let taken = taker.claim(&world, servant, 3).await;
                world.office.store.succeed(&taken).await.unwrap();
                taker.ended(&taken);
            }
        });
    }
    while let Some(servant) = servants.join_next().await {
        servant.unwrap();
    }
    is_done.store(true, SeqCst);
    let (most, looks) = watch.await.unwrap();
    assert!((1..=i64::from(LIMIT)).contains(&most), "{most} jobs at a time, in {looks} looks");
    assert_eq!(world.number("SELECT count(*) FROM finished_jobs WHERE state = 4").await, i64::try_from(JOBS).unwrap());
    world.assert_counted().await;
}

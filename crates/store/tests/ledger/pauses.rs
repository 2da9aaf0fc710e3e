//! Pauses: what each scope holds back from the dispatch and from both claims, that the rest goes on, and that what was
//! held is taken up again.

use crate::world::{LEASE_SECS, World, kind};
use domain::{AccountId, ConnectionId, JobId, JobState, PauseTarget};
use std::collections::BTreeSet;
use store::{Delivered, NewJob};

/// One job of its own account and connection, and one of others.
async fn two_jobs(world: &World, name: &str) -> (JobId, JobId) {
    let of = |account, connection| NewJob {
        account: AccountId(account),
        connection,
        ..NewJob::new(kind(name), serde_json::json!({}))
    };
    let ids = world.insert(&[of(7, Some(ConnectionId(70))), of(8, None)]).await;
    (ids[0], ids[1])
}

async fn claim_ready(world: &World, name: &str) -> BTreeSet<JobId> {
    world.claim(&kind(name), 10).await.into_iter().map(|job| job.key.id).collect()
}

async fn claim_delivered(world: &World, name: &str, ids: &[JobId]) -> BTreeSet<JobId> {
    let delivered: Vec<_> = ids.iter().map(|id| Delivered { id: *id, sent_at: world.clock.now() }).collect();
    let until = world.after_secs(LEASE_SECS);
    let claimed = world.store.claim_delivered(world.servant, &kind(name), &delivered, until).await.unwrap();
    claimed.into_iter().map(|job| job.key.id).collect()
}

/// Every sort of pause, and whether it also holds back the job of another account and connection.
fn targets(name: &str) -> [(PauseTarget, bool); 4] {
    [
        (PauseTarget::Everything, true),
        (PauseTarget::Kind(kind(name)), true),
        (PauseTarget::Account(AccountId(7)), false),
        (PauseTarget::Connection(ConnectionId(70)), false),
    ]
}

#[tokio::test]
async fn each_scope_holds_back_what_it_names_and_nothing_else() {
    let world = World::new().await;
    let others = [
        PauseTarget::Kind(kind("elsewhere")),
        PauseTarget::Account(AccountId(99)),
        PauseTarget::Connection(ConnectionId(7)),
    ];
    for other in &others {
        world.store.pause(&testkit::granted_to("ada", "somebody else's"), other).await.unwrap();
    }
    for (at, (_, holds_both)) in targets("x").into_iter().enumerate() {
        // Straight from the table.
        let name = format!("table_{at}");
        let (named, other) = two_jobs(&world, &name).await;
        let target = targets(&name)[at].0.clone();
        world.store.pause(&testkit::granted(), &target).await.unwrap();
        let free = if holds_both { BTreeSet::new() } else { BTreeSet::from([other]) };
        assert_eq!(claim_ready(&world, &name).await, free, "{target}");
        assert!(world.store.resume(&testkit::granted(), &target).await.unwrap());
        assert!(!world.store.resume(&testkit::granted(), &target).await.unwrap(), "there is no pause any more");
        let rest: BTreeSet<_> = BTreeSet::from([named, other]).difference(&free).copied().collect();
        assert_eq!(claim_ready(&world, &name).await, rest, "after {target}");

        // By the dispatcher, then delivered during another pause.
        let name = format!("queue_{at}");
        let (named, other) = two_jobs(&world, &name).await;
        let target = targets(&name)[at].0.clone();
        world.store.pause(&testkit::granted(), &target).await.unwrap();
        let dispatched = testkit::dispatch(&world.store, &world.lead, &kind(&name), 10).await.unwrap();
        assert_eq!(dispatched, u64::from(!holds_both), "{target}");
        assert_eq!(world.state(named).await, JobState::Ready, "{target}");
        world.store.resume(&testkit::granted(), &target).await.unwrap();
        assert_eq!(testkit::dispatch(&world.store, &world.lead, &kind(&name), 10).await.unwrap(), 2 - dispatched);

        world.store.pause(&testkit::granted_to("ada", "again"), &target).await.unwrap();
        let free = if holds_both { BTreeSet::new() } else { BTreeSet::from([other]) };
        assert_eq!(claim_delivered(&world, &name, &[named, other, named]).await, free, "{target}");
        assert_eq!(world.state(named).await, JobState::Ready, "it waits for the dispatcher, not on the queue");
        world.assert_counted(&format!("a delivery while {target} is paused")).await;
        assert_eq!(
            world.store.in_hand_of(&kind(&name), None).await.unwrap().queued,
            0,
            "its place in the window is free"
        );
        world.store.resume(&testkit::granted(), &target).await.unwrap();
        let held: BTreeSet<_> = BTreeSet::from([named, other]).difference(&free).copied().collect();
        let again = testkit::dispatch(&world.store, &world.lead, &kind(&name), 10).await.unwrap();
        assert_eq!(usize::try_from(again).unwrap(), held.len(), "at once, not by the sweep");
        assert_eq!(claim_delivered(&world, &name, &[named, other]).await, held, "after {target}");
        world.assert_counted(&format!("the end of {target}'s pause")).await;
    }
    assert_eq!(world.store.list_pauses(None, 100).await.unwrap().len(), others.len());
}

#[tokio::test]
async fn what_runs_goes_on_and_a_stale_dispatch_sends_nothing_twice() {
    let world = World::new().await;
    let kind = kind("noop");
    let (running, key) = world.job_in(JobState::Running, &kind, 3).await;
    let (queued, _) = world.job_in(JobState::Queued, &kind, 3).await;
    world.store.pause(&testkit::granted(), &PauseTarget::Everything).await.unwrap();
    assert!(world.store.succeed(&[key]).await.unwrap().contains(&running));
    assert!(claim_delivered(&world, "noop", &[queued]).await.is_empty());
    // The dispatch that the pause undid is swept: its job is no longer its business.
    world.clock.advance(chrono::TimeDelta::seconds(60));
    assert_eq!(world.store.send_again(&world.lead, &kind, 10, 10).await.unwrap(), 0);
    assert_eq!(world.count("SELECT count(*) FROM dispatches").await, 0);
    world.store.resume(&testkit::granted(), &PauseTarget::Everything).await.unwrap();
    assert_eq!(testkit::dispatch(&world.store, &world.lead, &kind, 10).await.unwrap(), 1);
    assert_eq!(claim_delivered(&world, "noop", &[queued]).await, BTreeSet::from([queued]));
    world.assert_counted("a pause").await;
}

#[tokio::test]
async fn a_pause_tells_who_why_and_since_when() {
    let world = World::new().await;
    let target = PauseTarget::Kind(kind("noop"));
    let first = world.store.pause(&testkit::granted_to("ada", "the vendor is down"), &target).await.unwrap();
    assert_eq!(first.paused_at, world.clock.now());
    world.clock.advance(chrono::TimeDelta::seconds(5));
    let again = world.store.pause(&testkit::granted_to("bob", "and stays so"), &target).await.unwrap();
    assert_eq!((again.paused_by.as_str(), again.reason.as_str()), ("bob", "and stays so"));
    assert_eq!(again.paused_at, first.paused_at, "it has been paused since then");
    assert_eq!(world.store.list_pauses(None, 100).await.unwrap(), [again]);
}

/// Without a pause and with one, a claim finds its jobs by the index that has them in order, and reads the pauses once.
#[tokio::test]
async fn a_claim_finds_its_jobs_by_the_index_whatever_is_paused() {
    let world = World::new().await;
    let kind = kind("noop");
    let deep = "INSERT INTO jobs (account_id, due_at, created_at, ready_at, state, priority, attempts_max, kind,
            request_id, payload)
        SELECT 8, '2030-05-06', '2030-05-06', '2030-05-06', 1, 2, 3, 'noop', gen_random_uuid(), '{}'
        FROM generate_series(1, 20000)";
    sqlx::query(deep).execute(&world.sql).await.unwrap();
    world.store.close().await;
    for paused in [None, Some(PauseTarget::Account(AccountId(7))), Some(PauseTarget::Kind(kind.clone()))] {
        if let Some(target) = &paused {
            let store = world.reopened().await;
            store.pause(&testkit::granted(), target).await.unwrap();
            store.close().await;
        }
        let before = world.rows_read().await;
        let store = world.reopened().await;
        let until = world.after_secs(LEASE_SECS);
        let claimed = testkit::claim_ready(&store, world.servant, &kind, 10, until).await.unwrap().len();
        store.close().await;
        let is_held = matches!(paused, Some(PauseTarget::Kind(_)));
        assert_eq!(claimed, if is_held { 0 } else { 10 }, "{paused:?}");
        let read = world.rows_read().await - before;
        assert!(read <= 200, "{read} rows were read for {claimed} while {paused:?}");
    }
}

#[tokio::test]
async fn the_end_of_a_pause_wakes_those_that_it_held_back() {
    let world = World::new().await;
    let mut wake_ups = world.store.wake_ups().await.unwrap();
    for target in [
        PauseTarget::Everything,
        PauseTarget::Kind(kind("noop")),
        PauseTarget::Account(AccountId(7)),
        PauseTarget::Connection(ConnectionId(70)),
    ] {
        world.store.pause(&testkit::granted(), &target).await.unwrap();
        assert!(world.store.resume(&testkit::granted(), &target).await.unwrap());
        let heard = tokio::time::timeout(std::time::Duration::from_secs(10), wake_ups.next()).await;
        assert!(heard.expect("a wake-up").unwrap().ready.contains_key("noop"), "{target}");
    }
}

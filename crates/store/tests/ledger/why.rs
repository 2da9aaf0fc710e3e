//! The facts that say why a job does not run: each cause brought about by the real statements, and decided.

use crate::world::{LEASE_SECS, World, failure, kind, revoked};
use chrono::TimeDelta;
use domain::{
    AccountId, BreakerSettings, Cause, Dispatching, JobId, JobState, Limit, LimitCause, PauseTarget, Scope,
    ServantState, why,
};
use store::{Fate, NewJob};

const DISPATCHING: Dispatching =
    Dispatching { window_per_slot: 3, window_min: 20, look_ahead_ms: 5, unclaimed_secs: 15 };

async fn cause(world: &World, id: JobId) -> Cause {
    let job = world.store.find_job(id).await.unwrap().expect("the job");
    why(&world.store.why_facts(&job).await.unwrap())
}

#[tokio::test]
async fn what_has_ended_or_runs_says_since_when() {
    let world = World::new().await;
    let now = world.clock.now();
    let (ended, _) = world.job_in(JobState::Cancelled, &kind("ended"), 3).await;
    assert_eq!(cause(&world, ended).await, Cause::Finished { state: JobState::Cancelled, at: Some(now) });
    let (running, _) = world.job_in(JobState::Running, &kind("running"), 3).await;
    let lease_until = Some(world.after_secs(LEASE_SECS));
    let expected = Cause::Running { servant: Some(world.servant.0), since: Some(now), lease_until };
    assert_eq!(cause(&world, running).await, expected);
}

#[tokio::test]
async fn a_pause_binds_before_a_lost_authorisation_and_that_before_the_due_time() {
    let world = World::new().await;
    let now = world.clock.now();
    let connection = world.connection("salesforce").await;
    let mut new = NewJob::new(kind("noop"), serde_json::json!({}));
    new.connection = Some(connection);
    new.due_at = Some(world.after_secs(600));
    let id = world.insert(&[new]).await[0];
    assert_eq!(cause(&world, id).await, Cause::Due { at: world.after_secs(600), after: None });
    let mut tried = NewJob::new(kind("tried"), serde_json::json!({}));
    tried.connection = Some(connection);
    world.insert(&[tried]).await;
    let key = world.claim(&kind("tried"), 1).await[0].key;
    assert!(world.settle(key, Fate::Park(revoked())).await);
    let expected =
        Cause::NeedsReauth { connection: connection.0, reason: Some("auth_broken: revoked".to_owned()), since: now };
    assert_eq!(cause(&world, id).await, expected);
    world
        .store
        .pause(&testkit::granted_to("bob", "another account"), &PauseTarget::Account(AccountId(1)))
        .await
        .unwrap();
    assert_eq!(cause(&world, id).await, expected);
    for target in [
        PauseTarget::Connection(connection),
        PauseTarget::Account(AccountId::SYSTEM),
        PauseTarget::Kind(kind("noop")),
        PauseTarget::Everything,
    ] {
        world.store.pause(&testkit::granted(), &target).await.unwrap();
        let paused = Cause::Paused {
            scope: target.scope().to_owned(),
            key: target.key(),
            by: "ada".to_owned(),
            reason: "a test".to_owned(),
            since: now,
        };
        assert_eq!(cause(&world, id).await, paused, "the widest binds");
    }
}

#[tokio::test]
async fn a_retrys_wait_names_the_failure_before_it() {
    let world = World::new().await;
    let (id, key) = world.job_in(JobState::Running, &kind("noop"), 3).await;
    let due = world.after_secs(30);
    assert!(world.settle(key, Fate::RetryAt { due, charged: true, failure: failure() }).await);
    let Cause::Due { at, after: Some(after) } = cause(&world, id).await else { panic!("it waits for its retry") };
    assert_eq!((at, after.attempt, after.class.as_str()), (due, 1, "transient"));
    assert_eq!((after.error.as_str(), after.at), ("it broke", world.clock.now()));
    world.clock.advance(TimeDelta::seconds(31));
    let Cause::NoScheduler { since } = cause(&world, id).await else { panic!("the lead ran out") };
    assert_eq!(since, Some(world.clock.now() - TimeDelta::seconds(21)));
    world.store.lead("boot-2", 10).await.unwrap().unwrap();
    assert!(!matches!(cause(&world, id).await, Cause::NoScheduler { .. }));
}

#[tokio::test]
async fn servants_that_are_gone_or_rest_are_told_apart() {
    let world = World::new().await;
    let orphan = world.insert_many(&kind("nobodys"), 1).await[0];
    let never = Cause::NoServant { kind: "nobodys".to_owned(), last_seen_at: None, resting: 0 };
    assert_eq!(cause(&world, orphan).await, never);

    let id = world.insert_many(&kind("noop"), 1).await[0];
    assert_eq!(cause(&world, id).await, Cause::Slot { busy: 0, slots: 10 });
    let seen = world.clock.now();
    world.store.touch_servant(world.servant, ServantState::Paused, 0).await.unwrap();
    let resting = Cause::NoServant { kind: "noop".to_owned(), last_seen_at: Some(seen), resting: 1 };
    assert_eq!(cause(&world, id).await, resting);
    world.store.touch_servant(world.servant, ServantState::Stopped, 0).await.unwrap();
    let gone = Cause::NoServant { kind: "noop".to_owned(), last_seen_at: Some(seen), resting: 0 };
    assert_eq!(cause(&world, id).await, gone, "one that stopped by itself is remembered");
    world.another_servant().await;
    world.clock.advance(TimeDelta::seconds(16));
    assert_eq!(cause(&world, id).await, gone, "one that fell silent is no servant");
}

#[tokio::test]
async fn the_queue_the_order_and_the_window_come_last() {
    let world = World::new().await;
    let noop = kind("noop");
    world.store.note_dispatching(&world.lead, DISPATCHING, &BreakerSettings::default(), true).await.unwrap();
    let first = world.insert_many(&noop, 1).await[0];
    assert_eq!(testkit::dispatch(&world.store, &world.lead, &noop, 1).await.unwrap(), 1);
    let queued = |sends, sweep_at| Cause::Queued { since: Some(world.clock.now()), sends, sweep_at: Some(sweep_at) };
    assert_eq!(cause(&world, first).await, queued(1, world.after_secs(15)));
    world.clock.advance(TimeDelta::seconds(16));
    let lead = world.store.lead("boot-1", 60).await.unwrap().unwrap();
    world.store.touch_servant(world.servant, ServantState::Running, 0).await.unwrap();
    assert_eq!(world.store.send_again(&lead, &noop, 15, 10).await.unwrap(), 1);
    assert_eq!(cause(&world, first).await, queued(2, world.after_secs(30)));

    let next = world.insert_many(&noop, 1).await[0];
    assert_eq!(cause(&world, next).await, Cause::Window { queued: 1, busy: 0, slots: 10 });
    let mut urgent = NewJob::new(noop.clone(), serde_json::json!({}));
    urgent.priority = 0;
    world.insert(&[urgent.clone()]).await;
    let behind = |jobs, is_at_least, share_pct| Cause::Behind { jobs, is_at_least, share_pct };
    assert_eq!(cause(&world, next).await, behind(1, false, 100), "a more urgent one goes first");
    urgent.account = AccountId(7);
    let elsewhere = world.insert(&[urgent]).await[0];
    assert_eq!(cause(&world, next).await, behind(1, false, 50), "another account's does not, but takes its share");
    world.store.pause(&testkit::granted(), &PauseTarget::Account(AccountId(7))).await.unwrap();
    assert_eq!(cause(&world, next).await, behind(1, false, 100), "a paused one does not");
    assert!(matches!(cause(&world, elsewhere).await, Cause::Paused { .. }));
    let crowd = world.insert_many(&noop, 600).await;
    assert_eq!(cause(&world, crowd[9]).await, behind(11, false, 100));
    assert_eq!(cause(&world, crowd[599]).await, behind(300, true, 100));
}

#[tokio::test]
async fn the_facts_are_read_by_indexes() {
    let world = World::new().await;
    let deep = "INSERT INTO jobs (account_id, due_at, created_at, ready_at, state, priority, attempts_max, kind,
            request_id, payload)
        SELECT 0, '2030-05-06', '2030-05-06', '2030-05-06', 1, 2, 3, 'noop', gen_random_uuid(), '{}'
        FROM generate_series(1, 20000)";
    sqlx::query(deep).execute(&world.sql).await.unwrap();
    let id = world.insert_many(&kind("noop"), 1).await[0];
    world.store.close().await;
    let before = world.rows_read().await;
    let store = world.reopened().await;
    let job = store.find_job(id).await.unwrap().unwrap();
    let facts = store.why_facts(&job).await.unwrap();
    store.close().await;
    assert_eq!(why(&facts), Cause::Behind { jobs: 300, is_at_least: true, share_pct: 100 });
    let read = world.rows_read().await - before;
    assert!(read <= 1_000, "{read} rows were read");
}

/// What a limit counts is counted whole, however much that is; each job in flight is read by its id, and what is under
/// other limits alone is not read at all.
#[tokio::test]
async fn what_is_in_flight_is_counted_whole_and_no_more_is_read() {
    const IN_FLIGHT: u32 = 12_000;
    let world = World::new().await;
    let fill = "WITH made AS (
            INSERT INTO jobs (account_id, due_at, created_at, ready_at, state, priority, attempts_max, kind, request_id, payload)
            SELECT $2, '2030-05-06', '2030-05-06', '2030-05-06', 2, 2, 3, 'noop', gen_random_uuid(), '{}'
            FROM generate_series(1, $1) RETURNING id)
        INSERT INTO permits (job_ids, kind, accounts, connections, jobs)
        SELECT array_agg(id), 'noop', ARRAY[$2], ARRAY[0::bigint], ARRAY[count(*)::integer] FROM made GROUP BY id % 50";
    for (account, jobs) in [(3_i64, i64::from(IN_FLIGHT) - 3), (7, 3)] {
        sqlx::query(fill).bind(jobs).bind(account).execute(&world.sql).await.unwrap();
    }
    for statement in [
        // Given back and let through anew: they are on two permits.
        "INSERT INTO permits (job_ids) SELECT array_agg(id) FROM jobs WHERE account_id = 7",
        "INSERT INTO jobs (account_id, due_at, created_at, ready_at, state, priority, attempts_max, kind, request_id, payload)
         SELECT 0, '2030-05-06', '2030-05-06', '2030-05-06', 1, 2, 3, 'other', gen_random_uuid(), '{}'
         FROM generate_series(1, 60000)",
        "ANALYZE jobs, permits",
    ] {
        sqlx::query(statement).execute(&world.sql).await.unwrap();
    }
    let mut new = NewJob::new(kind("noop"), serde_json::json!({}));
    new.account = AccountId(7);
    let id = world.insert(&[new]).await[0];
    world.store.close().await;

    let (said, read) = limited(&world, id, Scope::Account(AccountId(7)), 3).await;
    assert_eq!((said.used, said.maximum, said.held_by.len()), (3, 3, 3), "{said:?}");
    assert!(read <= 500, "{read} rows were read for an account that has three jobs in flight");
    let (said, read) = limited(&world, id, Scope::Kind(kind("noop")), IN_FLIGHT).await;
    assert_eq!((said.used, said.maximum), (IN_FLIGHT.into(), IN_FLIGHT.into()));
    let first = world.count("SELECT min(id) FROM jobs WHERE account_id = 3").await;
    assert_eq!(said.held_by, (first..first + 6).map(JobId).collect::<Vec<_>>());
    assert!(read <= i64::from(IN_FLIGHT) + 500, "{read} rows were read");
}

/// The limit that a job waits for while there is this one, and how many rows it took to say so.
async fn limited(world: &World, id: JobId, scope: Scope, jobs: u32) -> (LimitCause, i64) {
    let store = world.reopened().await;
    let limit = Limit { concurrency: Some(jobs), ..Limit::default() };
    store.set_limit(&testkit::granted(), &scope, &limit).await.unwrap();
    store.close().await;
    let before = world.rows_read().await;
    let store = world.reopened().await;
    let job = store.find_job(id).await.unwrap().unwrap();
    let facts = store.why_facts(&job).await.unwrap();
    store.close().await;
    let read = world.rows_read().await - before;
    let store = world.reopened().await;
    store.remove_limit(&testkit::granted(), &scope).await.unwrap();
    store.close().await;
    let full = facts.no_room.expect("no room under the limit");
    let Cause::Limit(limit) = full.refusal.cause(&full.held_by) else { panic!("{full:?}") };
    (limit, read)
}

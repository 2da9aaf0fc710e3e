//! Services' failures become open circuits and their recoveries wake those who wait, whoever leads.

use crate::world::{World, kind};
use domain::{AccountId, BreakerState, Cause, ConnectionId, ErrorClass, Failure, Room, action, why};
use scheduler::duties::breakers;
use std::time::Duration;
use store::{FailedAttempt, Fate, NewJob};

const OUTCOMES: &str = "SELECT count(*) FROM connection_outcomes";

async fn connection(world: &World) -> ConnectionId {
    world.office.store.create_connection(AccountId::SYSTEM, "acme", &serde_json::json!({}), None).await.unwrap()
}

/// So many attempts on a connection that fail, each in a statement of its own.
async fn fail(world: &World, connection: ConnectionId, count: usize) {
    let job = NewJob { connection: Some(connection), ..NewJob::new(kind(), serde_json::json!({})) };
    world.insert(&vec![job; count]).await;
    for job in world.claim(i64::try_from(count).unwrap(), 60).await {
        let failure = Failure { class: ErrorClass::Transient, chain: "503".to_owned(), until: None };
        let fate = Fate::RetryAt { due: world.after_secs(86_400), charged: true, failure };
        assert_eq!(world.office.store.settle(&[FailedAttempt { key: job.key, fate }]).await.unwrap().len(), 1);
    }
}

async fn state(world: &World) -> Option<BreakerState> {
    world.office.store.find_breaker("acme").await.unwrap().map(|row| row.breaker.state)
}

#[tokio::test]
async fn five_failures_open_the_circuit_once_and_an_old_leader_opens_none() {
    let mut world = World::new().await;
    let connection = connection(&world).await;
    fail(&world, connection, 4).await;
    assert!(!breakers::perform(&world.office, &world.lead).await.unwrap());
    assert_eq!(state(&world).await, Some(BreakerState::Closed));
    fail(&world, connection, 1).await;
    let old = world.depose().await;
    assert!(!breakers::perform(&world.office, &old).await.unwrap());
    assert_eq!((state(&world).await, world.number(OUTCOMES).await), (Some(BreakerState::Closed), 1));
    for _ in 0..2 {
        breakers::perform(&world.office, &world.lead).await.unwrap();
        let row = world.office.store.find_breaker("acme").await.unwrap().unwrap();
        let BreakerState::Open { next_probe_at } = row.breaker.state else { panic!("{row:?}") };
        assert!(next_probe_at >= world.after_secs(5) && next_probe_at <= world.after_secs(10), "{next_probe_at}");
        assert_eq!((row.breaker.openings, world.number(OUTCOMES).await), (1, 0), "done twice is done once");
    }
    world.assert_counted().await;
}

#[tokio::test]
async fn a_full_batch_of_outcomes_is_followed_by_another() {
    let mut world = World::new().await;
    world.office.config.duties.batch_max = 3;
    let connection = connection(&world).await;
    fail(&world, connection, 4).await;
    assert!(breakers::perform(&world.office, &world.lead).await.unwrap());
    assert!(!breakers::perform(&world.office, &world.lead).await.unwrap());
    assert_eq!(world.number(OUTCOMES).await, 0);
}

#[tokio::test]
async fn a_circuit_that_is_not_understood_stays_lets_one_job_at_a_time_through_and_stops_no_other() {
    for (newer, column) in [
        ("UPDATE breakers SET state = 'throttled', state_at = since WHERE service = 'acme'", "state"),
        (
            "UPDATE breakers SET forced = 'half', forced_by = 'ada', forced_reason = 'x', forced_at = since
             WHERE service = 'acme'",
            "forced",
        ),
    ] {
        let world = World::new().await;
        let (acme, other) = (connection(&world).await, world.connection_of(AccountId::SYSTEM, "other").await);
        fail(&world, acme, 1).await;
        breakers::perform(&world.office, &world.lead).await.unwrap();
        sqlx::query("ALTER TABLE breakers DROP CONSTRAINT breakers_state_check, DROP CONSTRAINT breakers_forced_check")
            .execute(&world.sql)
            .await
            .unwrap();
        sqlx::query(newer).execute(&world.sql).await.unwrap();
        let wrote = "SELECT to_jsonb(b) FROM breakers b WHERE service = 'acme'";
        let row = async || -> serde_json::Value { sqlx::query_scalar(wrote).fetch_one(&world.sql).await.unwrap() };
        let before = row().await;
        breakers::perform(&world.office, &world.lead).await.unwrap();
        let reason = format!("another version wrote its {column}, or it is damaged");
        assert!(!world.office.told.is_news(format!("the circuit of acme: {reason}")), "it was told of");

        fail(&world, other, 5).await;
        fail(&world, acme, 5).await;
        breakers::perform(&world.office, &world.lead).await.unwrap();
        let others = world.office.store.find_breaker("other").await.unwrap().unwrap();
        assert!(matches!(others.breaker.state, BreakerState::Open { .. }), "{others:?}");
        assert_eq!((row().await, world.number(OUTCOMES).await), (before.clone(), 0), "it stays as it was written");
        let found = world.office.store.find_breaker("acme").await.unwrap().unwrap();
        assert_eq!((found.breaker.state, found.breaker.reason), (BreakerState::NotUnderstood, reason));

        world.servant(20).await;
        let job = NewJob { connection: Some(acme), ..NewJob::new(kind(), serde_json::json!({})) };
        let jobs = world.insert(&vec![job; 5]).await;
        for _ in 0..2 {
            assert_eq!(world.queued().await, 1, "one at a time");
        }
        let dispatching = world.office.config.duties.dispatching();
        let breaker = world.office.config.breaker;
        world.office.store.note_dispatching(&world.lead, dispatching, &breaker, true).await.unwrap();
        let waits = world.office.store.find_job(jobs[4]).await.unwrap().unwrap();
        let cause = why(&world.office.store.why_facts(&waits).await.unwrap());
        assert!(matches!(&cause, Cause::CircuitUnclear(unclear) if unclear.service == "acme"), "{cause:?}");
        world.finish_queued(1).await;
        assert_eq!(world.queued().await, 1, "then the next");
        assert_eq!(row().await, before, "no dispatch writes over it either");

        let clear = testkit::granted_to::<action::ClearBreaker>("ada", "it is well");
        let cleared = world.office.store.force_breaker(&clear, "acme").await.unwrap().expect("something to clear");
        assert!(matches!(cleared.breaker.state, BreakerState::Recovering { room: 1, .. }), "{cleared:?}");
        world.assert_counted().await;
    }
}

#[tokio::test]
async fn a_probes_success_wakes_who_waits_and_time_ends_the_recovery() {
    let world = World::new().await;
    let connection = connection(&world).await;
    fail(&world, connection, 5).await;
    breakers::perform(&world.office, &world.lead).await.unwrap();
    world.advance_secs(9);
    let (store, settings) = (&world.office.store, world.office.config.breaker);
    let lead = store.lead("boot-1", 600).await.unwrap().unwrap();
    world.advance_secs(2);
    let mut tx = store.begin().await.unwrap();
    let mut rows = store.lock_breakers(&mut tx, &["acme".to_owned()]).await.unwrap();
    let row = rows.get_mut("acme").unwrap();
    assert_eq!(row.breaker.room(&settings, 0, world.clock.now()), Room::AtMost(1));
    store.note_probe(&mut tx, row).await.unwrap();
    tx.commit().await.unwrap();
    let probe = NewJob { connection: Some(connection), ..NewJob::new(kind(), serde_json::json!({})) };
    world.insert(&[probe]).await;
    world.run(1).await;
    let mut wake_ups = store.wake_ups().await.unwrap();
    breakers::perform(&world.office, &lead).await.unwrap();
    assert!(matches!(state(&world).await, Some(BreakerState::Recovering { room: 1, .. })));
    let woken = tokio::time::timeout(Duration::from_secs(20), wake_ups.next()).await.expect("a wake-up").unwrap();
    assert!(woken.ready.contains_key("noop"));
    world.advance_secs(49);
    breakers::perform(&world.office, &lead).await.unwrap();
    assert!(matches!(state(&world).await, Some(BreakerState::Recovering { room: 512, .. })));
    world.advance_secs(1);
    breakers::perform(&world.office, &lead).await.unwrap();
    assert_eq!(state(&world).await, Some(BreakerState::Closed));
}

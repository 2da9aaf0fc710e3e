//! Connections that wait for a person and services that are down: what parks a connection and brings it back, what
//! that does to its jobs, and which outcomes reach a service's breaker.

use crate::schedules::new;
use crate::world::{LEASE_SECS, World, failure, kind, nobodys, revoked};
use chrono::TimeDelta;
use domain::{
    AccountId, BreakerSettings, BreakerState, Cause, ConnectionId, ErrorClass, Failure, Forced, JobId, JobState,
    Overlap, Room, action, why,
};
use std::collections::BTreeSet;
use store::{AttemptKey, ConnectionAct, Delivered, FailedAttempt, Fate, NewJob};

async fn jobs_of(world: &World, name: &str, connection: ConnectionId, count: usize) -> Vec<JobId> {
    let job = NewJob { connection: Some(connection), ..NewJob::new(kind(name), serde_json::json!({})) };
    world.insert(&vec![job; count]).await
}

async fn claimed(world: &World, name: &str, count: i64) -> Vec<AttemptKey> {
    world.claim(&kind(name), count).await.into_iter().map(|job| job.key).collect()
}

async fn state_of(world: &World, connection: ConnectionId) -> (String, Option<String>) {
    let row = world.store.find_connection(connection).await.unwrap().unwrap();
    (row.state, row.state_reason)
}

fn park(key: AttemptKey) -> FailedAttempt {
    FailedAttempt { key, fate: Fate::Park(revoked()) }
}

async fn whats(world: &World, connection: ConnectionId) -> Vec<(String, String)> {
    let events = world.store.connection_events(connection, 10).await.unwrap();
    events.into_iter().map(|event| (event.what, event.by)).collect()
}

#[tokio::test]
async fn broken_authorisation_costs_one_notice_and_uses_no_job_up() {
    let world = World::new().await;
    let (broken, sound) = (world.connection("salesforce").await, world.connection("salesforce").await);
    let jobs = jobs_of(&world, "a", broken, 4).await;
    let running = claimed(&world, "a", 3).await;
    let other = jobs_of(&world, "a", sound, 1).await[0];

    // Two that ran at the same time, ended by one statement, and a third by the next: one of them parks.
    let settled = world.store.settle(&[park(running[0]), park(running[1])]).await.unwrap();
    assert_eq!((settled.len(), settled.parked), (2, BTreeSet::from([broken])));
    let settled = world.store.settle(&[park(running[2])]).await.unwrap();
    assert_eq!((settled.len(), settled.parked), (1, BTreeSet::new()), "it is told of once");
    assert_eq!(state_of(&world, broken).await, ("needs_reauth".to_owned(), Some("auth_broken: revoked".to_owned())));
    assert_eq!(whats(&world, broken).await, [("needs_reauth".to_owned(), "servant".to_owned())]);
    for id in &jobs {
        assert_eq!((world.state(*id).await, world.attempt(*id).await), (JobState::Ready, 0));
    }
    assert_eq!(world.count("SELECT count(*) FROM attempts WHERE class = 'auth_broken'").await, 3, "each is noted");
    world.assert_counted("parking").await;

    // Nobody tries again, and the others' jobs go on.
    let next: Vec<_> = claimed(&world, "a", 10).await.iter().map(|key| key.id).collect();
    assert_eq!(next, [other]);
    let row = world.store.find_job(jobs[0]).await.unwrap().unwrap();
    let cause = why(&world.store.why_facts(&row).await.unwrap());
    assert!(matches!(&cause, Cause::NeedsReauth { connection, .. } if *connection == broken.0), "{cause:?}");

    assert!(
        world
            .store
            .change_connection(&testkit::granted_to::<action::Reauthorised>("ada", "they renewed it"), broken)
            .await
            .unwrap()
    );
    assert!(
        !world
            .store
            .change_connection(&testkit::granted_to::<action::Reauthorised>("ada", "again"), broken)
            .await
            .unwrap()
    );
    assert_eq!(state_of(&world, broken).await, ("active".to_owned(), None));
    assert_eq!(whats(&world, broken).await[0], ("reauthorised".to_owned(), "ada".to_owned()));
    let again = claimed(&world, "a", 10).await;
    assert_eq!(again.iter().map(|key| key.id).collect::<BTreeSet<_>>(), jobs.iter().copied().collect());
    assert_eq!(world.store.succeed(&again).await.unwrap().len(), 4, "with all their attempts");
}

#[tokio::test]
async fn a_job_whose_connection_does_not_exist_fails_and_a_token_of_the_past_parks_nothing() {
    let world = World::new().await;
    let nowhere = ConnectionId(999);
    let lost = jobs_of(&world, "a", nowhere, 1).await[0];
    let without = world.insert_many(&kind("a"), 1).await[0];
    let keys = claimed(&world, "a", 2).await;
    let settled = world.store.settle(&keys.into_iter().map(park).collect::<Vec<_>>()).await.unwrap();
    assert_eq!((settled.len(), settled.parked), (2, BTreeSet::new()));
    for id in [lost, without] {
        assert_eq!(world.state(id).await, JobState::Failed, "nothing would hold it back");
    }
    let connection = world.connection("salesforce").await;
    let job = jobs_of(&world, "a", connection, 1).await[0];
    claimed(&world, "a", 1).await;
    assert!(world.store.settle(&[park(nobodys(job))]).await.unwrap().is_empty());
    assert_eq!(state_of(&world, connection).await.0, "active");
    world.assert_counted("failing").await;
}

#[tokio::test]
async fn an_operator_parks_disables_and_brings_back_with_a_reason() {
    use ConnectionAct::{Disable, Enable, Park, Reauthorised};
    let world = World::new().await;
    let connection = world.connection("salesforce").await;
    let job = jobs_of(&world, "a", connection, 1).await[0];
    for (act, applies, state) in [
        (Enable, false, "active"),
        (Reauthorised, false, "active"),
        (Park, true, "parked"),
        (Park, false, "parked"),
        (Reauthorised, true, "active"),
        (Park, true, "parked"),
        (Disable, true, "disabled"),
        (Reauthorised, false, "disabled"),
        (Enable, true, "active"),
        (Disable, true, "disabled"),
    ] {
        let applied = testkit::change_connection(&world.store, connection, act).await.unwrap();
        assert_eq!((applied, state_of(&world, connection).await.0.as_str()), (applies, state), "{act:?}");
    }
    assert!(claimed(&world, "a", 1).await.is_empty());
    let row = world.store.find_job(job).await.unwrap().unwrap();
    let says = why(&world.store.why_facts(&row).await.unwrap()).says();
    assert!(says.contains("is disabled by ada since 2030-05-06T12:00:00Z: a test"), "{says}");
    assert_eq!(whats(&world, connection).await.len(), 6);
    let ids = async |state, before| {
        let page = world.store.list_connections(state, before, 2).await.unwrap();
        page.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    let (second, third) = (world.connection("gmail").await, world.connection("gmail").await);
    assert_eq!(ids(None, None).await, [third.0, second.0]);
    assert_eq!(ids(None, Some(second)).await, [connection.0]);
    assert_eq!(ids(Some("disabled"), None).await, [connection.0]);
    assert_eq!(ids(Some("active"), Some(third)).await, [second.0]);
}

#[tokio::test]
async fn what_is_queued_already_goes_back_when_its_connection_is_parked() {
    let world = World::new().await;
    let connection = world.connection("salesforce").await;
    let jobs = jobs_of(&world, "a", connection, 2).await;
    assert_eq!(testkit::dispatch(&world.store, &world.lead, &kind("a"), 10).await.unwrap(), 2);
    assert!(world.store.change_connection(&testkit::granted::<action::ParkConnection>(), connection).await.unwrap());
    let delivered: Vec<_> = jobs.iter().map(|id| Delivered { id: *id, sent_at: world.clock.now() }).collect();
    let until = world.after_secs(LEASE_SECS);
    assert!(world.store.claim_delivered(world.servant, &kind("a"), &delivered, until).await.unwrap().is_empty());
    assert_eq!(world.state(jobs[0]).await, JobState::Ready);
    world.assert_counted("a delivery to a parked connection").await;
}

#[tokio::test]
async fn only_transient_failures_and_successes_on_a_connection_are_outcomes() {
    let world = World::new().await;
    let connection = world.connection("salesforce").await;
    for class in ErrorClass::ALL {
        let name = format!("of_{class}");
        jobs_of(&world, &name, connection, 1).await;
        let key = claimed(&world, &name, 1).await[0];
        let failure = Failure { class, ..failure() };
        let due = world.after_secs(60);
        let fate = if class == ErrorClass::AuthBroken {
            Fate::Fail(failure)
        } else {
            Fate::RetryAt { due, charged: true, failure }
        };
        assert!(world.settle(key, fate).await);
    }
    world.job_in(JobState::Succeeded, &kind("without"), 3).await;
    world.job_in(JobState::Failed, &kind("without"), 3).await;
    assert_eq!(world.count("SELECT count(*) FROM connection_outcomes").await, 1, "the transient one");
    jobs_of(&world, "good", connection, 3).await;
    world.store.succeed(&claimed(&world, "good", 3).await).await.unwrap();
    let (rows, jobs) = ("SELECT count(*) FROM connection_outcomes", "SELECT sum(succeeded) FROM connection_outcomes");
    assert_eq!((world.count(rows).await, world.count(jobs).await), (2, 3), "a row for a statement");
}

#[tokio::test]
async fn a_breaker_opens_by_the_outcomes_of_its_service_and_a_probe_closes_it() {
    let world = World::new().await;
    let settings = BreakerSettings::default();
    let (one, two, other) =
        (world.connection("salesforce").await, world.connection("salesforce").await, world.connection("gmail").await);
    world.store.note_service(one, "na1.example.com").await.unwrap();
    world.store.note_service(two, "na1.example.com").await.unwrap();
    assert_eq!(world.store.find_connection(other).await.unwrap().unwrap().service, "gmail", "the vendor, unless said");
    let fold = async || world.store.fold_outcomes(&world.lead, &settings, 100, || 0.0).await.unwrap();
    let fail = async |connection, count| {
        jobs_of(&world, "down", connection, count).await;
        for key in claimed(&world, "down", 10).await {
            let due = world.after_secs(3_600);
            assert!(world.settle(key, Fate::RetryAt { due, charged: true, failure: failure() }).await);
        }
    };
    fail(one, 3).await;
    fail(other, 4).await;
    assert_eq!((fold().await.outcomes, fold().await.outcomes), (7, 0), "each is folded once");
    fail(two, 2).await;
    let waiting = jobs_of(&world, "down", one, 2).await;
    let of_other = jobs_of(&world, "down", other, 1).await[0];
    let changed = fold().await.changed;
    assert_eq!(changed.len(), 1);
    let (row, was) = &changed[0];
    let next_probe_at = world.after_secs(5);
    assert_eq!((row.service.as_str(), *was), ("na1.example.com", BreakerState::Closed));
    assert_eq!(row.breaker.state, BreakerState::Open { next_probe_at });
    assert_eq!(world.store.breaker_events("na1.example.com", 5).await.unwrap()[0].reason, "5 of 5 attempts failed");

    // Nobody claims a job of the service; other services' go on.
    assert_eq!(claimed(&world, "down", 10).await.iter().map(|key| key.id).collect::<Vec<_>>(), [of_other]);
    let job = world.store.find_job(waiting[0]).await.unwrap().unwrap();
    world.another_servant_of("down").await;
    let cause = why(&world.store.why_facts(&job).await.unwrap());
    assert!(matches!(&cause, Cause::CircuitOpen(open) if open.next_probe_at == Some(next_probe_at)), "{cause:?}");

    // The dispatch's own transaction finds room for one and notes the probe.
    world.clock.advance(TimeDelta::seconds(5));
    let now = world.clock.now();
    let mut tx = world.store.begin().await.unwrap();
    let services = world.store.services_of(&mut tx, &[one, other]).await.unwrap();
    let names: Vec<String> = services.into_values().collect();
    assert_eq!(names, ["na1.example.com", "gmail"]);
    let mut breakers = world.store.lock_breakers(&mut tx, &names).await.unwrap();
    let row = breakers.get_mut("na1.example.com").unwrap();
    assert_eq!(row.breaker.room(&settings, 0, now), Room::AtMost(1));
    world.store.note_probe(&mut tx, row).await.unwrap();
    tx.commit().await.unwrap();
    let state = async || world.store.find_breaker("na1.example.com").await.unwrap().unwrap().breaker.state;
    assert_eq!(state().await, BreakerState::HalfOpen { probe_at: now });

    let probe = claimed(&world, "down", 1).await;
    world.store.succeed(&probe).await.unwrap();
    assert_eq!(fold().await.changed.len(), 1);
    assert_eq!(state().await, BreakerState::Recovering { room: 1, grown_at: now });
    world.clock.advance(TimeDelta::seconds(4));
    assert_eq!(fold().await.changed, []);
    world.clock.advance(TimeDelta::seconds(60));
    let lead = world.store.lead("boot-1", 60).await.unwrap().unwrap();
    assert_eq!(world.store.fold_outcomes(&lead, &settings, 100, || 0.0).await.unwrap().changed.len(), 1);
    assert_eq!(state().await, BreakerState::Closed, "time alone ends a recovery");
}

#[tokio::test]
async fn a_leader_of_the_past_folds_nothing() {
    let world = World::new().await;
    let connection = world.connection("salesforce").await;
    jobs_of(&world, "a", connection, 1).await;
    world.store.succeed(&claimed(&world, "a", 1).await).await.unwrap();
    world.clock.advance(TimeDelta::seconds(11));
    let new = world.store.lead("boot-2", 10).await.unwrap().unwrap();
    let settings = BreakerSettings::default();
    let fold = async |lead| world.store.fold_outcomes(lead, &settings, 100, || 0.0).await.unwrap().outcomes;
    assert_eq!((fold(&world.lead).await, fold(&new).await), (0, 1));
}

#[tokio::test]
async fn an_operator_holds_a_breaker_open_or_closed_and_lets_go() {
    let world = World::new().await;
    let connection = world.connection("salesforce").await;
    let job = jobs_of(&world, "a", connection, 1).await[0];
    let store = &world.store;
    let force = async |forced| {
        let (by, why) = ("ada", "they asked us to");
        let done = match forced {
            Some(Forced::Open) => {
                store.force_breaker(&testkit::granted_to::<action::OpenBreaker>(by, why), "salesforce").await
            }
            Some(Forced::Closed) => {
                store.force_breaker(&testkit::granted_to::<action::CloseBreaker>(by, why), "salesforce").await
            }
            None => store.force_breaker(&testkit::granted_to::<action::ClearBreaker>(by, why), "salesforce").await,
        };
        done.unwrap()
    };
    assert_eq!(force(None).await, None, "there is nothing to clear");
    force(Some(Forced::Open)).await.unwrap();
    assert!(claimed(&world, "a", 1).await.is_empty());
    let row = world.store.find_job(job).await.unwrap().unwrap();
    let says = why(&world.store.why_facts(&row).await.unwrap()).says();
    assert_eq!(says, "the circuit of salesforce is held open by ada since 2030-05-06T12:00:00Z: they asked us to");
    let cleared = force(None).await.unwrap();
    assert!(matches!(cleared.breaker.state, BreakerState::Recovering { room: 1, .. }), "no stampede");
    assert_eq!(claimed(&world, "a", 1).await.len(), 1);

    let held = force(Some(Forced::Closed)).await.unwrap();
    assert_eq!(held.breaker.room(&BreakerSettings::default(), 99, world.clock.now()), Room::Unlimited);
    assert_eq!(world.store.list_breakers(None, 10).await.unwrap(), [held]);
    assert!(world.store.list_breakers(Some("salesforce"), 10).await.unwrap().is_empty());
    assert_eq!(force(None).await.unwrap().breaker.state, BreakerState::Closed);
    let events = world.store.breaker_events("salesforce", 10).await.unwrap();
    let whats: Vec<_> = events.iter().map(|event| event.what.as_str()).collect();
    assert_eq!(whats, ["cleared", "forced_closed", "cleared", "forced_open"]);
    assert!(events.iter().all(|event| event.by == "ada" && event.reason == "they asked us to"));
}

/// A claim finds what it may take by its indexes, however many connections are at rest.
#[tokio::test]
async fn connections_at_rest_cost_a_claim_a_look_for_each_job() {
    let world = World::new().await;
    let rest = "INSERT INTO connections (account_id, vendor, state) SELECT 0, 'salesforce', 'needs_reauth'
        FROM generate_series(1, 20000)";
    sqlx::query(rest).execute(&world.sql).await.unwrap();
    let connection =
        world.store.create_connection(AccountId::SYSTEM, "gmail", &serde_json::json!({}), None).await.unwrap();
    jobs_of(&world, "a", connection, 10).await;
    world.store.close().await;
    let before = world.rows_read().await;
    let store = world.reopened().await;
    let until = world.after_secs(LEASE_SECS);
    assert_eq!(testkit::claim(&store, &world.lead, world.servant, &kind("a"), 10, until).await.unwrap().len(), 10);
    store.close().await;
    let read = world.rows_read().await - before;
    assert!(read <= 200, "{read} rows were read");
}

#[tokio::test]
async fn a_connection_in_use_again_makes_its_schedules_due_at_once() {
    let world = World::new().await;
    let (renewed, broken) = (world.connection("salesforce").await, world.connection("salesforce").await);
    let mut ids = Vec::new();
    for (name, connection) in [("renewed", renewed), ("broken", broken)] {
        let mut schedule = new(&world, name, Overlap::Skip);
        schedule.connection = Some(connection);
        ids.push(world.schedule(&schedule).await);
        assert!(
            world.store.change_connection(&testkit::granted::<action::ParkConnection>(), connection).await.unwrap()
        );
    }
    world.advance_secs(60);
    world.store.hold_schedules(&world.lead, &ids).await.unwrap();
    assert_eq!(world.store.due_schedules(10).await.unwrap(), [], "both wait");
    assert!(world.store.change_connection(&testkit::granted::<action::DisableConnection>(), broken).await.unwrap());
    assert_eq!(world.store.due_schedules(10).await.unwrap(), [], "that is no end of it");
    assert!(world.store.change_connection(&testkit::granted::<action::Reauthorised>(), renewed).await.unwrap());
    let due = async || world.store.due_schedules(10).await.unwrap().iter().map(|due| due.id).collect::<Vec<_>>();
    assert_eq!(due().await, ids[..1], "and the other's still wait");
    assert!(world.store.change_connection(&testkit::granted::<action::EnableConnection>(), broken).await.unwrap());
    assert_eq!(due().await, ids);
}

//! What a job that a dispatch did not take is said to wait for: the limit, the budget, the circuit, or its turn.

use crate::dispatch::{job, on};
use crate::world::World;
use domain::{
    AccountId, BreakerSettings, BudgetCause, Cause, CircuitOpen, JobId, Limit, LimitCause, Scope, VendorBudget, What,
    action, why,
};
use scheduler::duties::declare_limits;
use store::UsageReport;

async fn world() -> World {
    let world = World::new().await;
    let dispatching = world.office.config.duties.dispatching();
    world.office.store.note_dispatching(&world.lead, dispatching, &BreakerSettings::default(), true).await.unwrap();
    world.servant(19).await;
    world
}

async fn cause(world: &World, id: JobId) -> Cause {
    let job = world.office.store.find_job(id).await.unwrap().unwrap();
    why(&world.office.store.why_facts(&job).await.unwrap())
}

#[tokio::test]
async fn a_limit_is_named_with_the_jobs_that_hold_it() {
    let world = world().await;
    let account = world.account("a", 1).await;
    world.limit(Scope::EachAccount, Limit { concurrency: Some(2), ..Limit::default() }).await;
    let jobs = world.insert(&vec![job(account, 2); 3]).await;
    assert_eq!(world.queued().await, 2);
    let limit = |scope: &str, key: &str, what, used, held_by: &[JobId], frees_at| {
        let (scope, key, subject) = (scope.to_owned(), key.to_owned(), format!("account {account}"));
        Cause::Limit(LimitCause { scope, key, subject, what, used, maximum: 2, frees_at, held_by: held_by.to_vec() })
    };
    assert_eq!(cause(&world, jobs[2]).await, limit("each_account", "", What::Concurrency, 2, &jobs[..2], None));
    assert!(matches!(cause(&world, jobs[0]).await, Cause::Queued { .. }));
    world.finish_queued(1).await;
    assert!(!matches!(cause(&world, jobs[2]).await, Cause::Limit(_)), "there is room again");

    let own = Scope::Account(account);
    world.limit(own, Limit { per_minute: Some(2), burst: Some(2), ..Limit::default() }).await;
    let more = world.insert(&vec![job(account, 2); 4]).await;
    world.queued().await;
    let key = account.to_string();
    let rate = limit("account", &key, What::PerMinute, 2, &[], Some(world.after_secs(30)));
    assert_eq!(cause(&world, more[3]).await, rate);
}

#[tokio::test]
async fn a_vendors_limit_is_named_to_a_job_without_a_connection() {
    let mut world = world().await;
    let text = "[limits.vendor.acme]\nconcurrency = 2\n[noop]\nlabel = \"n\"\nrun_secs_max = 60\nconcurrency = 10\n\
                vendor = \"acme\"\n";
    let tables: toml::Table = text.parse().unwrap();
    world.office.catalogue = domain::Catalogue::new(tables.try_into().unwrap()).unwrap();
    declare_limits::perform(&world.office, &world.lead).await.unwrap();
    let jobs = world.insert_many(4).await;
    assert_eq!(world.queued().await, 2);
    let limit = |held_by: &[JobId]| {
        let (scope, key, subject) = ("vendor".to_owned(), "acme".to_owned(), "vendor acme".to_owned());
        let (what, held_by) = (What::Concurrency, held_by.to_vec());
        Cause::Limit(LimitCause { scope, key, subject, what, used: 2, maximum: 2, frees_at: None, held_by })
    };
    let said = cause(&world, jobs[2]).await;
    assert_eq!(said, limit(&jobs[..2]));
    assert!(
        said.says().contains(&format!("concurrency at 2 of 2 (held by jobs {}, {})", jobs[0], jobs[1])),
        "{}",
        said.says()
    );
    world.finish_queued(1).await;
    assert!(!matches!(cause(&world, jobs[2]).await, Cause::Limit(_)), "there is room again");
    assert_eq!(world.queued().await, 2);
    assert_eq!(cause(&world, jobs[3]).await, limit(&jobs[1..3]));

    // A job that works on a connection of the vendor's is under the same limit, and holds room of it.
    let connection = world.connection_of(AccountId::SYSTEM, "acme").await;
    let connected = world.insert(&[on(connection, AccountId::SYSTEM)]).await[0];
    assert_eq!(cause(&world, connected).await, limit(&jobs[1..3]));
    let other = world.connection_of(AccountId::SYSTEM, "other").await;
    let elsewhere = world.insert(&[on(other, AccountId::SYSTEM)]).await[0];
    assert!(!matches!(cause(&world, elsewhere).await, Cause::Limit(_)), "its connection says whom it calls");
}

#[tokio::test]
async fn a_budget_is_named_with_what_is_used_and_when_it_frees() {
    let world = world().await;
    let connection = world.connection_of(AccountId::SYSTEM, "salesforce").await;
    let resets_at = Some(world.after_secs(600));
    let budget = VendorBudget { used: 80, maximum: 100, reported_at: world.clock.now(), resets_at };
    world.office.store.report_usage(&[UsageReport { connection, budget }]).await.unwrap();
    let id = world.insert(&[on(connection, AccountId::SYSTEM)]).await[0];
    assert_eq!(world.queued().await, 0);
    let said = cause(&world, id).await;
    let Cause::Budget(BudgetCause { used, ceiling, is_paced, frees_at, .. }) = &said else { panic!("{said:?}") };
    assert_eq!((*used, *is_paced, *frees_at), (80, false, resets_at));
    assert!((75..=80).contains(ceiling), "{ceiling}");
}

#[tokio::test]
async fn an_open_circuit_is_named_with_who_holds_it() {
    let world = world().await;
    let connection = world.connection_of(AccountId::SYSTEM, "acme").await;
    world
        .office
        .store
        .force_breaker(&testkit::granted_to::<action::OpenBreaker>("ada", "they are down"), "acme")
        .await
        .unwrap();
    let id = world.insert(&[on(connection, AccountId::SYSTEM)]).await[0];
    assert_eq!(world.queued().await, 0);
    let said = cause(&world, id).await;
    let Cause::CircuitOpen(CircuitOpen { service, forced_by, .. }) = &said else { panic!("{said:?}") };
    assert_eq!((service.as_str(), forced_by.as_deref()), ("acme", Some("ada")));
}

#[tokio::test]
async fn a_recovery_is_named_while_it_has_no_room_and_no_longer() {
    let world = world().await;
    let connection = world.connection_of(AccountId::SYSTEM, "acme").await;
    let store = &world.office.store;
    store.force_breaker(&testkit::granted::<action::OpenBreaker>(), "acme").await.unwrap();
    store.force_breaker(&testkit::granted::<action::ClearBreaker>(), "acme").await.unwrap();
    let jobs = world.insert(&vec![on(connection, AccountId::SYSTEM); 2]).await;
    assert_eq!(world.queued().await, 1);
    let said = cause(&world, jobs[1]).await;
    assert!(matches!(&said, Cause::CircuitRecovering(recovers) if recovers.room == 1), "{said:?}");
    world.finish_queued(1).await;
    let said = cause(&world, jobs[1]).await;
    assert!(matches!(said, Cause::Window { .. }), "{said:?}");
}

#[tokio::test]
async fn a_turn_is_named_with_the_jobs_before_it_and_the_accounts_share() {
    let world = world().await;
    let (light, heavy) = (world.account("light", 1).await, world.account("heavy", 3).await);
    let lights = world.insert(&vec![job(light, 2); 40]).await;
    let heavies = world.insert(&vec![job(heavy, 2); 40]).await;
    let queued = world.go().await;
    assert_eq!((queued[&light.0], queued[&heavy.0]), (5, 15), "{queued:?}");
    let behind = |jobs, share_pct| Cause::Behind { jobs, is_at_least: false, share_pct };
    assert_eq!(cause(&world, lights[39]).await, behind(34, 25));
    assert_eq!(cause(&world, heavies[39]).await, behind(24, 75));
    assert!(matches!(cause(&world, lights[5]).await, Cause::Window { queued: 20, .. }), "the next of its kind");
}

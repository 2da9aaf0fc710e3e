//! Who is dispatched, and when not: shares, priorities, rates, budgets, breakers, and what costs nothing.

use crate::world::{Taker, World, kind};
use chrono::TimeDelta;
use domain::{
    AccountId, BreakerState, ConnectionId, ErrorClass, Failure, JobId, JobState, Limit, PauseTarget, Scope, URGENT,
    VendorBudget, action,
};
use scheduler::duties::{breakers, dispatch, sweep_unclaimed};
use std::collections::BTreeMap;
use store::{FailedAttempt, Fate, NewJob, UsageReport};

pub(crate) fn job(account: AccountId, priority: i16) -> NewJob {
    NewJob { account, priority, ..NewJob::new(kind(), serde_json::json!({})) }
}

pub(crate) fn on(connection: ConnectionId, account: AccountId) -> NewJob {
    NewJob { connection: Some(connection), ..job(account, 2) }
}

impl World {
    pub(crate) async fn account(&self, name: &str, weight: i16) -> AccountId {
        let id = self.office.store.create_account(name).await.unwrap();
        let weigh = sqlx::query("UPDATE accounts SET weight = $2 WHERE id = $1").bind(id.0).bind(weight);
        weigh.execute(&self.sql).await.unwrap();
        id
    }

    pub(crate) async fn connection_of(&self, account: AccountId, vendor: &str) -> ConnectionId {
        self.office.store.create_connection(account, vendor, &serde_json::json!({}), None).await.unwrap()
    }

    /// One dispatch; answers with how many each account has queued.
    pub(crate) async fn go(&self) -> BTreeMap<i64, i64> {
        dispatch::perform(&self.office, &self.lead).await.unwrap();
        let queued = "SELECT account_id, count(*) FROM jobs WHERE state = 2 GROUP BY account_id";
        sqlx::query_as(queued).fetch_all(&self.sql).await.unwrap().into_iter().collect()
    }

    pub(crate) async fn queued(&self) -> i64 {
        self.go().await.into_values().sum()
    }

    /// Servants take and finish so many of what was dispatched; answers with their jobs.
    pub(crate) async fn finish_queued(&self, jobs: i64) -> Vec<JobId> {
        let servant = self.servant(0).await;
        let until = self.after_secs(60);
        let claimed =
            testkit::claim_queued(&self.office.store, &self.lead, servant, &kind(), jobs, until).await.unwrap();
        let keys: Vec<_> = claimed.iter().map(|job| job.key).collect();
        self.office.store.succeed(&keys).await.unwrap();
        keys.iter().map(|key| key.id).collect()
    }

    pub(crate) async fn limit(&self, scope: Scope, limit: Limit) {
        self.office.store.set_limit(&testkit::granted(), &scope, &limit).await.unwrap();
    }
}

#[tokio::test]
async fn one_that_has_thousands_leaves_the_others_their_share() {
    let world = World::new().await;
    world.servant(59).await;
    let greedy = world.account("greedy", 1).await;
    world.insert(&vec![job(greedy, 2); 5_000]).await;
    let mut few = Vec::new();
    for at in 0..10 {
        let account = world.account(&format!("few {at}"), 1).await;
        world.insert(&vec![job(account, 2); 3]).await;
        few.push(account.0);
    }
    let queued = world.go().await;
    assert_eq!(queued.values().sum::<i64>(), 60, "the window is full");
    assert_eq!(queued[&greedy.0], 30, "what the others leave");
    assert!(few.iter().all(|account| queued[account] == 3), "{queued:?}");
    world.assert_counted().await;
}

#[tokio::test]
async fn weights_are_kept_however_small_the_window_is() {
    let world = World::new().await;
    let (light, heavy) = (world.account("light", 1).await, world.account("heavy", 3).await);
    for account in [light, heavy] {
        world.insert(&vec![job(account, 2); 200]).await;
    }
    assert_eq!(world.go().await, BTreeMap::from([(light.0, 5), (heavy.0, 15)]));
    let mut finished = 0;
    while finished < 100 {
        finished += world.finish_queued(1).await.len();
        world.go().await;
    }
    let heavys = "SELECT count(*) FROM finished_jobs WHERE account_id = (SELECT id FROM accounts WHERE name = 'heavy')";
    let of_heavy = world.number(heavys).await;
    assert!((72..=78).contains(&of_heavy), "{of_heavy} of 100");
}

#[tokio::test]
async fn weights_are_kept_where_a_limit_binds() {
    let world = World::new().await;
    let (light, heavy) = (world.account("light", 1).await, world.account("heavy", 3).await);
    for account in [light, heavy] {
        world.insert(&vec![job(account, 2); 100]).await;
    }
    world.limit(Scope::Kind(kind()), Limit { concurrency: Some(1), ..Limit::default() }).await;
    for _ in 0..80 {
        assert_eq!(world.queued().await, 1);
        assert_eq!(world.finish_queued(5).await.len(), 1);
    }
    let heavys = "SELECT count(*) FROM finished_jobs WHERE account_id = (SELECT id FROM accounts WHERE name = 'heavy')";
    assert_eq!(world.number(heavys).await, 60);
}

#[tokio::test]
async fn urgent_jobs_go_first_and_waiting_makes_up_for_priority() {
    let world = World::new().await;
    let (account, other) = (world.account("a", 1).await, world.account("b", 1).await);
    world.limit(Scope::Kind(kind()), Limit { concurrency: Some(1), ..Limit::default() }).await;
    let late = world.insert(&[job(account, 4)]).await[0];
    let usual = world.insert(&[job(account, 2)]).await[0];
    world.advance_secs(119);
    world.office.store.lead("boot-1", 1_000).await.unwrap();
    let sooner = world.insert(&[job(account, 2)]).await[0];
    world.advance_secs(2);
    let later = world.insert(&[job(account, 2)]).await[0];
    let urgent = world.insert(&[job(other, URGENT)]).await[0];
    let mut order = Vec::new();
    for _ in 0..5 {
        world.queued().await;
        order.extend(world.finish_queued(5).await);
    }
    assert_eq!(order, [urgent, usual, sooner, late, later]);
}

#[tokio::test]
async fn a_rate_lets_a_burst_go_and_then_so_many_a_minute() {
    let world = World::new().await;
    world.office.store.lead("boot-1", 100_000).await.unwrap();
    world.insert_many(400).await;
    world.limit(Scope::Kind(kind()), Limit { per_minute: Some(30), burst: Some(4), ..Limit::default() }).await;
    let mut went = vec![0];
    for step in 0..100 {
        world.queued().await;
        let jobs = i64::try_from(world.finish_queued(100).await.len()).unwrap();
        went.push(went[step] + jobs);
        world.advance_secs(3);
    }
    for from in 0..went.len() {
        for until in from + 1..went.len() {
            let secs = 3 * i64::try_from(until - from - 1).unwrap();
            let jobs = went[until] - went[from];
            assert!(jobs <= 4 + secs / 2, "{jobs} jobs in {secs} s");
        }
    }
    assert!(went[100] >= 4 + 99 * 3 / 2 - 1, "and no fewer: {}", went[100]);
}

#[tokio::test]
async fn a_days_reserve_is_for_urgent_jobs() {
    let world = World::new().await;
    let limit = Limit { per_day: Some(10), reserve_pct: Some(20), ..Limit::default() };
    world.limit(Scope::Kind(kind()), limit).await;
    world.insert_many(12).await;
    assert_eq!(world.queued().await, 8);
    world.insert(&vec![job(AccountId::SYSTEM, URGENT); 5]).await;
    assert_eq!(world.queued().await, 10);
    world.finish_queued(10).await;
    assert_eq!(world.queued().await, 0);
    world.office.store.lead("boot-1", 1_000_000).await.unwrap();
    world.advance_secs(86_400);
    assert_eq!(world.queued().await, 7, "the next day");
}

#[tokio::test]
async fn a_vendors_budget_at_its_ceiling_delays_and_frees() {
    let world = World::new().await;
    let connection = world.connection_of(AccountId::SYSTEM, "salesforce").await;
    let report = |used| {
        let budget = VendorBudget { used, maximum: 100, reported_at: world.clock.now(), resets_at: None };
        [UsageReport { connection, budget }]
    };
    world.office.store.report_usage(&report(80)).await.unwrap();
    let ids = world.insert(&vec![on(connection, AccountId::SYSTEM); 3]).await;
    assert_eq!(world.queued().await, 0, "our share is 80 %");
    assert_eq!(world.state(ids[0]).await, JobState::Ready);
    world.office.store.lead("boot-1", 1_000).await.unwrap();
    world.advance_secs(60);
    world.office.store.report_usage(&report(10)).await.unwrap();
    assert!(world.queued().await > 0);
    assert_eq!(world.number("SELECT count(*) FROM attempts").await, 0, "no attempt was burnt");
}

#[tokio::test]
async fn what_is_parked_or_paused_costs_nothing() {
    let world = World::new().await;
    let (first, second) = (world.account("a", 1).await, world.account("b", 1).await);
    let parked = world.connection_of(first, "salesforce").await;
    let paused = world.connection_of(first, "slack").await;
    for connection in [parked, paused] {
        for _ in 0..10 {
            world.insert(&vec![on(connection, first); 1_000]).await;
        }
    }
    world.insert(&vec![job(second, 2); 10]).await;
    assert!(world.office.store.change_connection(&testkit::granted::<action::ParkConnection>(), parked).await.unwrap());
    world.office.store.pause(&testkit::granted(), &PauseTarget::Connection(paused)).await.unwrap();
    sqlx::query("ANALYZE jobs").execute(&world.sql).await.unwrap();
    world.office.store.close().await;
    let before = world.ready_jobs_read().await;
    let office = world.another_office().await;
    dispatch::perform(&office, &world.lead).await.unwrap();
    office.store.close().await;
    let read = world.ready_jobs_read().await - before;
    assert!(read < 1_000, "{read} entries read");
    let queued = "SELECT count(*) FROM jobs WHERE state = 2 AND connection_id IS NULL";
    assert_eq!(world.number(queued).await, 10);
}

#[tokio::test]
async fn flows_that_are_held_do_not_hide_those_behind_them() {
    let world = World::new().await;
    let (first, second) = (world.account("a", 1).await, world.account("b", 1).await);
    let connect = "INSERT INTO connections (account_id, vendor, settings, state, state_since, created_at)
        SELECT $1, 'acme', '{}', 'parked', now(), now() FROM generate_series(1, 1100) RETURNING id";
    let held: Vec<i64> = sqlx::query_scalar(connect).bind(first.0).fetch_all(&world.sql).await.unwrap();
    let jobs: Vec<_> = held.iter().map(|id| on(ConnectionId(*id), first)).collect();
    world.insert(&jobs).await;
    world.insert(&[job(second, 2)]).await;
    assert_eq!(world.go().await, BTreeMap::from([(second.0, 1)]));
}

#[tokio::test]
async fn an_open_breaker_lets_nothing_go_then_one_probe_then_more() {
    let world = World::new().await;
    let lead = world.office.store.lead("boot-1", 1_000).await.unwrap().unwrap();
    let connection = world.connection_of(AccountId::SYSTEM, "acme").await;
    world.insert(&vec![on(connection, AccountId::SYSTEM); 40]).await;
    let servant = world.servant(0).await;
    world.queued().await;
    let until = world.after_secs(600);
    let claimed = testkit::claim_queued(&world.office.store, &lead, servant, &kind(), 5, until).await.unwrap();
    for job in &claimed {
        let failure = Failure { class: ErrorClass::Transient, chain: "503".to_owned(), until: None };
        let fate = Fate::RetryAt { due: world.after_secs(86_400), charged: true, failure };
        world.office.store.settle(&[FailedAttempt { key: job.key, fate }]).await.unwrap();
    }
    breakers::perform(&world.office, &lead).await.unwrap();
    let state = async || world.office.store.find_breaker("acme").await.unwrap().unwrap().breaker.state;
    let BreakerState::Open { next_probe_at } = state().await else { panic!("{:?}", state().await) };
    let before = world.number("SELECT count(*) FROM jobs WHERE state = 2").await;
    assert_eq!(world.queued().await, before, "nothing goes");
    // What had gone before comes back, and stays.
    while world.number("SELECT count(*) FROM outbox").await > 0 {
        assert_eq!(world.finish_queued(10).await, [], "nor is it claimed");
    }
    assert_eq!(world.number("SELECT count(*) FROM jobs WHERE state = 2").await, 0);
    world.clock.advance(next_probe_at - world.clock.now() - TimeDelta::milliseconds(1));
    assert_eq!(world.queued().await, 0, "too early");
    world.clock.advance(TimeDelta::milliseconds(1));
    for _ in 0..3 {
        assert_eq!(world.queued().await, 1, "the probe");
    }
    assert!(matches!(state().await, BreakerState::HalfOpen { .. }));
    world.advance_secs(2);
    assert_eq!(world.finish_queued(5).await.len(), 1);
    breakers::perform(&world.office, &lead).await.unwrap();
    let BreakerState::Recovering { room, .. } = state().await else { panic!("{:?}", state().await) };
    assert_eq!(world.queued().await, i64::from(room));
}

#[tokio::test]
async fn without_a_queue_servants_let_jobs_through_by_the_same_rules() {
    let mut world = World::new().await;
    world.office.queue = queue::Backend::Postgres;
    let (free, limited) = (world.account("free", 1).await, world.account("limited", 1).await);
    let connection = world.connection_of(free, "acme").await;
    world.limit(Scope::Account(limited), Limit { concurrency: Some(2), ..Limit::default() }).await;
    let open = world.insert(&vec![job(free, 2); 4]).await;
    let connected = world.insert(&[on(connection, free)]).await;
    let few = world.insert(&vec![job(limited, 2); 5]).await;
    assert_eq!(world.go().await, BTreeMap::new(), "nothing is put on a queue");
    let servant = world.servant(10).await;
    let store = &world.office.store;
    let plain = testkit::claim_ready(store, servant, &kind(), 1, world.after_secs(60)).await.unwrap();
    assert_eq!(plain.iter().map(|job| job.key.id).collect::<Vec<_>>(), open[..1], "what nothing limits");
    let mut taker = Taker::default();
    let first = taker.claim(&world, servant, 100).await;
    let mut expected = [&open[1..], &connected, &few[..2]].concat();
    expected.sort();
    assert_eq!(
        first.iter().map(|key| key.id).collect::<std::collections::BTreeSet<_>>(),
        expected.into_iter().collect()
    );
    let mut another = Taker::default();
    assert_eq!(another.claim(&world, servant, 100).await, [], "the limit is one for all servants");
    let of_limited: Vec<_> = first.iter().filter(|key| few.contains(&key.id)).copied().collect();
    store.succeed(&of_limited[..1]).await.unwrap();
    assert_eq!(another.claim(&world, servant, 100).await.iter().map(|key| key.id).collect::<Vec<_>>(), few[2..3]);
    assert_eq!(taker.claim(&world, servant, 100).await, [], "what the other has taken counts");
    world.assert_counted().await;
}

#[tokio::test]
async fn what_is_queued_from_a_time_with_a_queue_is_ready_again_without_one() {
    let mut world = World::new().await;
    world.insert_many(3).await;
    assert_eq!(world.queued().await, 3);
    world.office.queue = queue::Backend::Postgres;
    sweep_unclaimed::perform(&world.office, &world.lead).await.unwrap();
    assert_eq!(world.number("SELECT count(*) FROM jobs WHERE state = 1").await, 3);
    assert_eq!(world.number("SELECT count(*) FROM outbox").await, 0);
    world.run(3).await;
    world.assert_counted().await;
}

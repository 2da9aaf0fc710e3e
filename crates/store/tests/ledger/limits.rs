//! Limits as rows: who declares and who overrides, what a dispatch reads of them and what it remembers.

use crate::world::{World, kind};
use chrono::TimeDelta;
use domain::{
    AccountId, Bucket, BudgetSettings, Candidate, ConnectionId, DayUse, Gauge, Limit, LimitState, Pace, Per, Rooms,
    Scope, Subject,
};
use serde_json::json;
use store::{Concerned, LimitRemoved, LimitRow, LimitsAfter, StoreError};

fn concurrency(jobs: u32) -> Limit {
    Limit { concurrency: Some(jobs), ..Limit::default() }
}

async fn declare(world: &World, deployment: &str, limits: &[(Scope, Limit)]) -> u64 {
    world.store.declare_limits(&world.lead, deployment, limits, BudgetSettings::default()).await.unwrap()
}

/// Concurrencies in force, by what they cover.
async fn in_force(world: &World) -> Vec<(String, u32)> {
    let rows = world.store.list_limits(None, 100).await.unwrap();
    let counts = rows.into_iter().filter(|row| row.is_in_force);
    counts.map(|row| (row.scope.to_string(), row.limit.concurrency.unwrap_or(0))).collect()
}

fn of(names: &[(&str, u32)]) -> Vec<(String, u32)> {
    names.iter().map(|(name, jobs)| ((*name).to_owned(), *jobs)).collect()
}

#[tokio::test]
async fn a_deployment_takes_away_what_it_declared_and_nothing_else() {
    let world = World::new().await;
    let ours = [(Scope::Kind(kind("noop")), concurrency(5)), (Scope::EachAccount, concurrency(3))];
    assert_eq!(declare(&world, "blue", &ours).await, 2);
    assert_eq!(declare(&world, "blue", &ours).await, 0, "nothing has changed");
    let theirs = [(Scope::Kind(kind("other")), concurrency(7)), (Scope::EachAccount, concurrency(4))];
    assert_eq!(declare(&world, "green", &theirs).await, 2);
    assert_eq!(in_force(&world).await, of(&[("each account", 4), ("kind noop", 5), ("kind other", 7)]));
    assert_eq!(declare(&world, "blue", &[(Scope::Kind(kind("noop")), concurrency(6))]).await, 1);
    assert_eq!(in_force(&world).await, of(&[("each account", 4), ("kind noop", 6), ("kind other", 7)]));
    assert_eq!(declare(&world, "green", &[]).await, 2);
    assert_eq!(in_force(&world).await, of(&[("kind noop", 6)]));

    world.clock.advance(TimeDelta::seconds(60));
    let next = world.store.lead("boot-2", 10).await.unwrap().unwrap();
    let late = world.store.declare_limits(&world.lead, "blue", &[], BudgetSettings::default()).await;
    assert!(matches!(late, Err(StoreError::NotLeading)), "{late:?}");
    assert_eq!(world.store.declare_limits(&next, "blue", &[], BudgetSettings::default()).await.unwrap(), 1);
}

#[tokio::test]
async fn an_operators_limit_counts_until_it_is_removed() {
    let world = World::new().await;
    let scope = Scope::Kind(kind("noop"));
    assert_eq!(world.store.remove_limit(&testkit::granted(), &scope).await.unwrap(), LimitRemoved::Missing);
    declare(&world, "blue", &[(scope.clone(), concurrency(5))]).await;
    assert_eq!(world.store.remove_limit(&testkit::granted(), &scope).await.unwrap(), LimitRemoved::Declared);
    let limit =
        Limit { per_minute: Some(60), burst: Some(2), per_day: Some(9), reserve_pct: Some(10), ..concurrency(1) };
    let set = world.store.set_limit(&testkit::granted_to("ada", "the vendor is slow"), &scope, &limit).await.unwrap();
    assert_eq!((set.is_declared, set.is_in_force, set.set_at), (false, true, world.clock.now()));
    declare(&world, "blue", &[(scope.clone(), concurrency(8))]).await;
    let rows = world.store.list_limits(None, 100).await.unwrap();
    assert_eq!(
        rows.iter().map(|row| (row.is_declared, row.is_in_force)).collect::<Vec<_>>(),
        [(true, false), (false, true)]
    );
    assert_eq!(rows[1], set);
    let facts = facts(&world, &Concerned::default()).await;
    assert_eq!(facts.limits.of_kind(&kind("noop")).unwrap().1, limit);
    assert_eq!(world.store.remove_limit(&testkit::granted(), &scope).await.unwrap(), LimitRemoved::Done);
    assert_eq!(in_force(&world).await, of(&[("kind noop", 8)]));
}

#[tokio::test]
async fn limits_are_listed_page_after_page() {
    let world = World::new().await;
    for id in 0..25 {
        world.store.set_limit(&testkit::granted(), &Scope::Account(AccountId(id)), &concurrency(1)).await.unwrap();
    }
    declare(&world, "blue", &[(Scope::Account(AccountId(3)), concurrency(1))]).await;
    let mut all: Vec<LimitRow> = Vec::new();
    loop {
        let last = all.last().map(|row| LimitsAfter { scope: row.scope.clone(), is_declared: row.is_declared });
        let page = world.store.list_limits(last.as_ref(), 10).await.unwrap();
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    assert_eq!(all, world.store.list_limits(None, 100).await.unwrap());
    assert_eq!((all.len(), all.iter().filter(|row| row.is_in_force).count()), (26, 25));
}

async fn facts(world: &World, concerned: &Concerned) -> domain::RoomsFacts {
    let mut tx = world.store.begin().await.unwrap();
    world.store.rooms_facts_in(&mut tx, concerned).await.unwrap()
}

#[tokio::test]
async fn what_a_dispatch_remembers_the_next_one_reads() {
    let world = World::new().await;
    let now = world.clock.now();
    let connection = world.store.create_connection(AccountId::SYSTEM, "salesforce", &json!({}), None).await.unwrap();
    let of = |subject: &Subject, gauge| LimitState { subject: subject.clone(), gauge };
    let mut states = Vec::new();
    for subject in [
        Subject::Kind(kind("noop")),
        Subject::Account(AccountId(7)),
        Subject::Connection(connection),
        Subject::Vendor("salesforce".to_owned()),
    ] {
        states.push(of(&subject, Gauge::Bucket(Per::Second, Bucket { parts: 5, at: now })));
        states.push(of(&subject, Gauge::Bucket(Per::Minute, Bucket { parts: 6, at: now })));
        states.push(of(&subject, Gauge::Day(DayUse { day: now.date_naive(), used: 7 })));
    }
    let pace = Pace { parts: -8, at: now, probed_at: Some(now) };
    states.push(of(&Subject::Connection(connection), Gauge::Pace(pace)));
    let mut tx = world.store.begin().await.unwrap();
    world.store.save_limit_states_in(&mut tx, &states).await.unwrap();
    // Anew, and only then committed.
    world.store.save_limit_states_in(&mut tx, &states).await.unwrap();
    tx.commit().await.unwrap();
    // Without one that has something to remember, nothing is looked for.
    let rate = Limit { per_second: Some(5), ..Limit::default() };
    world.store.set_limit(&testkit::granted(), &Scope::Kind(kind("noop")), &rate).await.unwrap();

    let concerned = Concerned {
        kinds: vec![kind("noop")],
        accounts: vec![AccountId(7)],
        connections: vec![connection, ConnectionId(999)],
        vendors: vec!["slack".to_owned()],
    };
    let sorted = |mut states: Vec<LimitState>| {
        states.sort_by_key(|state| (state.subject.clone(), state.gauge.name()));
        states
    };
    let read = facts(&world, &concerned).await;
    assert_eq!(read.vendors, [(connection, "salesforce".to_owned())]);
    assert_eq!(sorted(read.states), sorted(states));
    assert!(facts(&world, &Concerned::default()).await.states.is_empty());

    assert_eq!(world.store.prune_limits(&world.lead, 100).await.unwrap(), 0);
    world.clock.advance(TimeDelta::days(9));
    assert_eq!(world.store.prune_limits(&world.lead, 100).await.unwrap(), 13);
}

/// Pass after pass from what the ledger says and remembers: as many as a minute gives, to the job.
#[tokio::test]
async fn dispatches_from_the_ledger_take_what_the_limit_gives() {
    let world = World::new().await;
    let scope = Scope::Vendor("salesforce".to_owned());
    let limit =
        Limit { per_minute: Some(90), burst: Some(4), per_day: Some(40), reserve_pct: Some(25), ..Limit::default() };
    world.store.set_limit(&testkit::granted(), &scope, &limit).await.unwrap();
    let noop = kind("noop");
    let concerned = Concerned { vendors: vec!["salesforce".to_owned()], ..Concerned::default() };
    let mut gone = Vec::new();
    for _ in 0..30 {
        let mut tx = world.store.begin().await.unwrap();
        let mut rooms = Rooms::new(world.store.rooms_facts_in(&mut tx, &concerned).await.unwrap());
        let candidate = |priority| Candidate {
            kind: &noop,
            account: AccountId(7),
            connection: None,
            vendor: Some("salesforce"),
            priority,
            calls: 1,
        };
        let mut jobs = 0;
        while rooms.admit(&candidate(2)).is_ok() {
            jobs += 1;
        }
        gone.push(jobs);
        world.store.save_limit_states_in(&mut tx, &rooms.changed()).await.unwrap();
        tx.commit().await.unwrap();
        world.clock.advance(TimeDelta::milliseconds(500));
    }
    // 4 at once, then three in two seconds, until the day has no more for what is not urgent.
    assert_eq!(gone[..9], [4, 0, 1, 1, 1, 0, 1, 1, 1]);
    assert_eq!(gone.iter().sum::<i32>(), 25);
    world.clock.advance(TimeDelta::seconds(60));
    let mut rooms = Rooms::new(facts(&world, &concerned).await);
    let urgent = |priority| Candidate {
        kind: &noop,
        account: AccountId(7),
        connection: None,
        vendor: Some("salesforce"),
        priority,
        calls: 1,
    };
    assert_eq!(rooms.places(&urgent(2)), 4);
}

#[tokio::test]
async fn limits_are_read_by_indexes() {
    let world = World::new().await;
    for fill in [
        "INSERT INTO limits (scope, key, source, concurrency, set_by, reason, set_at)
         SELECT 'account', g::text, 'operator', 5, 'ada', '', now() FROM generate_series(1, 20000) AS g",
        "INSERT INTO limit_states (scope, key, gauge, at, parts)
         SELECT 'account', g::text, 'second', now(), 5 FROM generate_series(1, 20000) AS g",
        "INSERT INTO vendor_budgets SELECT g, 5, 10, now(), NULL FROM generate_series(1, 20000) AS g",
    ] {
        sqlx::query(fill).execute(&world.sql).await.unwrap();
    }
    // Without one that has something to remember, nothing is looked for.
    let rate = Limit { per_second: Some(5), ..Limit::default() };
    world.store.set_limit(&testkit::granted(), &Scope::Kind(kind("noop")), &rate).await.unwrap();
    world.store.close().await;
    let before = world.rows_read().await;
    let store = world.reopened().await;
    let concerned = Concerned {
        accounts: (1..=10).map(AccountId).collect(),
        connections: (1..=10).map(ConnectionId).collect(),
        ..Concerned::default()
    };
    let mut tx = store.begin().await.unwrap();
    let facts = store.rooms_facts_in(&mut tx, &concerned).await.unwrap();
    drop(tx);
    store.close().await;
    assert_eq!(facts.states.len(), 10);
    assert!(facts.limits.of_account(AccountId(10)).is_some() && facts.limits.of_account(AccountId(11)).is_none());
    let read = world.rows_read().await - before;
    assert!(read <= 200, "{read} rows were read");
}

//! Room under everything at once: a job has it everywhere or takes nothing, and what is taken is what is written back.

use crate::at_us;
use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    AccountId, BudgetFacts, BudgetSettings, Candidate, ConnectionId, Gauge, InFlight, Kind, Limit, LimitState, Refusal,
    Rooms, RoomsFacts, Scope, Subject, VendorBudget, What,
};
use proptest::prelude::*;
use std::{collections::HashMap, sync::Arc, time::Instant};

fn facts(limits: impl IntoIterator<Item = (Scope, Limit)>) -> RoomsFacts {
    RoomsFacts {
        now: at_us(0),
        limits: Arc::new(limits.into_iter().collect()),
        in_flight: Vec::new(),
        states: Vec::new(),
        vendors: Vec::new(),
        budgets: Vec::new(),
    }
}

fn concurrency(jobs: u32) -> Limit {
    Limit { concurrency: Some(jobs), ..Limit::default() }
}

fn noop() -> Kind {
    Kind::new("noop").unwrap()
}

fn vendor() -> String {
    "salesforce".to_owned()
}

fn candidate(kind: &Kind) -> Candidate<'_> {
    Candidate {
        kind,
        account: AccountId(7),
        connection: Some(ConnectionId(70)),
        vendor: Some("salesforce"),
        priority: 2,
        calls: 20,
    }
}

fn flight(jobs: u64) -> InFlight {
    InFlight {
        kind: noop(),
        account: AccountId(7),
        connection: Some(ConnectionId(70)),
        vendor: Some(vendor()),
        jobs,
        calls: jobs * 20,
    }
}

#[test]
fn each_limit_holds_alone_and_says_its_numbers() {
    let kind = noop();
    for (scope, text) in [
        (Scope::Kind(noop()), "limit kind noop: concurrency at 5 of 5"),
        (Scope::Account(AccountId(7)), "limit account 7: concurrency at 5 of 5"),
        (Scope::EachAccount, "limit account 7: concurrency at 5 of 5"),
        (Scope::Connection(ConnectionId(70)), "limit connection 70: concurrency at 5 of 5"),
        (Scope::EachConnection(None), "limit connection 70: concurrency at 5 of 5"),
        (Scope::EachConnection(Some(vendor())), "limit connection 70: concurrency at 5 of 5"),
        (Scope::Vendor(vendor()), "limit vendor salesforce: concurrency at 5 of 5"),
    ] {
        let mut facts = facts([(scope.clone(), concurrency(5))]);
        facts.in_flight = vec![flight(2), flight(1)];
        let mut rooms = Rooms::new(facts);
        assert_eq!(rooms.places(&candidate(&kind)), 2, "{scope}");
        assert!(rooms.blocked(2) == domain::Blocked::default());
        assert_eq!(rooms.admit(&candidate(&kind)), Ok(()));
        assert_eq!(rooms.admit(&candidate(&kind)), Ok(()));
        let refusal = rooms.admit(&candidate(&kind)).unwrap_err();
        assert_eq!(refusal.to_string(), text);
        let Refusal::Limit { scope: said, what: What::Concurrency, .. } = refusal else { panic!("{refusal}") };
        assert_eq!(said, scope);
        let blocked = rooms.blocked(0);
        let all = blocked.kinds.len() + blocked.accounts.len() + blocked.connections.len() + blocked.vendors.len();
        assert_eq!(all, 1, "{scope}: {blocked:?}");
        assert!(rooms.changed().is_empty(), "what is in flight is not remembered");
    }
}

#[test]
fn a_job_without_room_somewhere_takes_nothing_anywhere() {
    let kind = noop();
    let daily = Limit { per_day: Some(10), per_second: Some(10), ..Limit::default() };
    let mut rooms = Rooms::new(facts([
        (Scope::Kind(noop()), daily),
        (Scope::EachAccount, daily),
        (Scope::Connection(ConnectionId(70)), concurrency(1)),
    ]));
    assert_eq!(rooms.admit(&candidate(&kind)), Ok(()));
    let once = rooms.changed();
    assert_eq!(once.len(), 4);
    for _ in 0..20 {
        rooms.admit(&candidate(&kind)).unwrap_err();
    }
    let sorted = |mut states: Vec<LimitState>| {
        states.sort_by_key(|state| (state.subject.clone(), state.gauge.name()));
        states
    };
    assert_eq!(sorted(rooms.changed()), sorted(once));
    let other = Candidate { connection: None, vendor: None, ..candidate(&kind) };
    assert_eq!(rooms.places(&other), 9);
}

#[test]
fn what_was_written_back_goes_on_where_it_stood() {
    let kind = noop();
    let limit =
        Limit { per_minute: Some(60), burst: Some(3), per_day: Some(6), reserve_pct: Some(10), ..Limit::default() };
    let mut facts = facts([(Scope::Vendor(vendor()), limit)]);
    let mut admitted = Vec::new();
    for second in 0..6 {
        facts.now = at_us(second * 1_000_000);
        let mut rooms = Rooms::new(facts.clone());
        let mut jobs = 0;
        while rooms.admit(&candidate(&kind)).is_ok() {
            jobs += 1;
        }
        admitted.push(jobs);
        if jobs > 0 {
            facts.states = rooms.changed();
        }
    }
    assert_eq!(admitted, [3, 1, 1, 0, 0, 0]);
    let mut rooms = Rooms::new(facts);
    let refusal = rooms.admit(&candidate(&kind)).unwrap_err();
    let text = "limit vendor salesforce: per_day at 5 of 5, frees at 2030-05-07T00:00:00Z";
    assert_eq!(refusal.to_string(), text);
    let urgent = Candidate { priority: 0, ..candidate(&kind) };
    assert_eq!(rooms.admit(&urgent), Ok(()), "the reserve is for urgent ones");
    assert!(rooms.blocked(2).vendors == [vendor()] && rooms.blocked(0).vendors == [vendor()]);
    assert_eq!(rooms.admit(&urgent).unwrap_err().to_string(), text.replace("5 of 5", "6 of 6"));
}

#[test]
fn a_budget_reserves_for_what_is_in_flight_and_for_what_it_lets_go() {
    let kind = noop();
    let budget = VendorBudget { used: 11_150, maximum: 15_000, reported_at: at_us(0), resets_at: None };
    let mut facts = facts([]);
    facts.in_flight = vec![flight(2)];
    facts.budgets = vec![BudgetFacts { connection: ConnectionId(70), budget, settings: BudgetSettings::default() }];
    let mut rooms = Rooms::new(facts.clone());
    let urgent = Candidate { priority: 0, ..candidate(&kind) };
    assert_eq!(rooms.places(&urgent), 3);
    for _ in 0..3 {
        assert_eq!(rooms.admit(&urgent), Ok(()));
    }
    assert_eq!(rooms.reserved(), [(ConnectionId(70), 100)]);
    let refusal = rooms.admit(&urgent).unwrap_err();
    assert_eq!(refusal.to_string(), "budget of connection 70: 11,250 of 11,250, frees at 2030-05-06T12:15:00Z");
    assert_eq!(rooms.blocked(0).connections, [ConnectionId(70)]);
    assert!(rooms.changed().is_empty(), "urgent jobs leave the pace as it is");
    let elsewhere = Candidate { connection: Some(ConnectionId(71)), ..urgent };
    assert_eq!(rooms.admit(&elsewhere), Ok(()));

    let mut paced = Rooms::new(facts);
    assert_eq!(paced.places(&candidate(&kind)), 1, "an hour brings a sixth of what is left");
    assert_eq!(paced.admit(&candidate(&kind)), Ok(()));
    let refusal = paced.admit(&candidate(&kind)).unwrap_err();
    assert!(matches!(refusal, Refusal::Budget { is_paced: true, frees_at: Some(_), .. }), "{refusal}");
    let [LimitState { subject: Subject::Connection(ConnectionId(70)), gauge: Gauge::Pace(_) }] = paced.changed()[..]
    else {
        panic!("{:?}", paced.changed())
    };
}

#[derive(Debug, Clone)]
enum Step {
    Pass(i64, Vec<(u8, u8, bool)>),
    Finish(usize),
}

fn limit() -> impl Strategy<Value = Limit> {
    let bound = |most| prop::option::of(1_u32..most);
    (bound(6), bound(4), bound(60), bound(40), 0_u8..50).prop_map(
        |(concurrency, per_second, per_minute, per_day, pct)| {
            let limit =
                Limit { concurrency, per_second, per_minute, per_day, burst: None, reserve_pct: per_day.map(|_| pct) };
            if limit.check().is_ok() { limit } else { Limit { concurrency: Some(3), ..Limit::default() } }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_i64..3_000, prop::collection::vec((0_u8..2, 0_u8..3, any::<bool>()), 0..20))
            .prop_map(|(ms, jobs)| Step::Pass(ms, jobs)),
        (0_usize..50).prop_map(Step::Finish),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A ledger of jobs, dispatched pass after pass from what the ledger says: at no instant is any limit passed.
    #[test]
    fn no_limit_is_ever_passed(
        of_kind in prop::option::of(limit()), each_account in prop::option::of(limit()),
        each_connection in prop::option::of(limit()), of_vendor in prop::option::of(limit()),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let limits: Vec<(Scope, Limit)> = [
            (Scope::Kind(noop()), of_kind), (Scope::EachAccount, each_account),
            (Scope::EachConnection(None), each_connection), (Scope::Vendor(vendor()), of_vendor),
        ].into_iter().filter_map(|(scope, limit)| Some((scope, limit?))).collect();
        let mut facts = facts(limits.clone());
        let kind = noop();
        let mut in_flight: Vec<InFlight> = Vec::new();
        let mut gone: Vec<(DateTime<Utc>, InFlight)> = Vec::new();
        let mut states: HashMap<(Subject, &'static str), LimitState> = HashMap::new();
        for step in steps {
            match step {
                Step::Finish(at) if at < in_flight.len() => drop(in_flight.swap_remove(at)),
                Step::Finish(_) => {}
                Step::Pass(ms, jobs) => {
                    facts.now += TimeDelta::milliseconds(ms);
                    facts.in_flight = in_flight.clone();
                    facts.states = states.values().cloned().collect();
                    let mut rooms = Rooms::new(facts.clone());
                    for (account, connection, is_urgent) in jobs {
                        let asks = Candidate {
                            account: AccountId(account.into()),
                            connection: (connection > 0).then(|| ConnectionId(connection.into())),
                            vendor: (connection > 0).then_some("salesforce"),
                            priority: if is_urgent { 0 } else { 2 },
                            ..candidate(&kind)
                        };
                        let places = rooms.places(&asks);
                        let outcome = rooms.admit(&asks);
                        prop_assert_eq!(places > 0, outcome.is_ok(), "{} places and {:?}", places, outcome);
                        if outcome.is_ok() {
                            let job = InFlight {
                                kind: noop(), account: asks.account, connection: asks.connection,
                                vendor: asks.vendor.map(str::to_owned), jobs: 1, calls: 1,
                            };
                            in_flight.push(job.clone());
                            gone.push((facts.now, job));
                        }
                    }
                    for state in rooms.changed() {
                        states.insert((state.subject.clone(), state.gauge.name()), state);
                    }
                }
            }
            for (scope, limit) in &limits {
                // The jobs of each subject that the limit counts by itself.
                let subject = |job: &InFlight| match scope {
                    Scope::Kind(_) => Some(0),
                    Scope::EachAccount => Some(job.account.0).filter(|id| *id != 0),
                    Scope::EachConnection(_) => job.connection.map(|id| id.0),
                    _ => job.vendor.as_ref().map(|_| 0),
                };
                let mut now: HashMap<i64, u32> = HashMap::new();
                for id in in_flight.iter().filter_map(subject) {
                    *now.entry(id).or_default() += 1;
                }
                let mut ever: HashMap<i64, Vec<DateTime<Utc>>> = HashMap::new();
                for (at, job) in &gone {
                    if let Some(id) = subject(job) {
                        ever.entry(id).or_default().push(*at);
                    }
                }
                prop_assert!(now.values().all(|jobs| limit.concurrency.is_none_or(|most| *jobs <= most)));
                for (times, (tokens, per_ms)) in ever.values().flat_map(|times| {
                    let rates = [limit.per_second.map(|n| (n, 1_000)), limit.per_minute.map(|n| (n, 60_000))];
                    rates.into_iter().flatten().map(move |rate| (times, rate))
                }) {
                    let burst = i64::from((tokens / u32::try_from(per_ms / 1_000).unwrap()).max(1));
                    for (at, first) in times.iter().enumerate() {
                        let last = times.last().unwrap();
                        let count = i64::try_from(times.len() - at).unwrap();
                        let window_ms = (*last - *first).num_milliseconds();
                        prop_assert!(count * per_ms <= burst * per_ms + i64::from(tokens) * window_ms);
                    }
                }
                prop_assert!(ever.values().all(|times| limit.per_day.is_none_or(|most| times.len() <= most as usize)));
            }
        }
    }
}

#[test]
fn a_thousand_candidates_cost_no_time() {
    let limit = Limit { concurrency: Some(600), per_second: Some(600), per_day: Some(600), ..Limit::default() };
    let mut facts = facts([
        (Scope::Kind(noop()), limit),
        (Scope::EachAccount, limit),
        (Scope::EachConnection(None), limit),
        (Scope::Vendor(vendor()), limit),
    ]);
    facts.in_flight = vec![flight(1); 100];
    let kind = noop();
    let mut rooms = Rooms::new(facts);
    let before = Instant::now();
    let admitted = (0..1_000).filter(|_| rooms.admit(&candidate(&kind)).is_ok()).count();
    let took = before.elapsed();
    assert_eq!(admitted, 500);
    println!("1,000 candidates under 4 limits: {took:?}");
    assert!(took.as_millis() < 100, "{took:?}");
}

//! Whatever happens in whatever order, there is never more in flight under a limit than it allows, and all is done in
//! the end: dispatches, claims, ends of every sort, lost leases, operators' retries, changes of leader and of limits.

use crate::world::{Taker, World, kind};
use domain::{AccountId, ConnectionId, ErrorClass, Failure, Kind, Limit, RetryPolicy, Scope, action};
use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use scheduler::duties::dispatch;
use std::collections::BTreeMap;
use store::{AttemptKey, FailedAttempt, Fate, NewJob};

const STEPS: usize = 150;
const CATALOGUE: &str = "
[noop]
label = \"Nothing\"
run_secs_max = 60
concurrency = 10

[other]
label = \"Another\"
run_secs_max = 60
concurrency = 10
";
const IN_FLIGHT: &str = "
    SELECT jobs.kind, jobs.account_id, coalesce(connection_id, 0), coalesce(vendor, '')
    FROM jobs LEFT JOIN connections ON connections.id = connection_id WHERE jobs.state IN (2, 3)";

struct Walk {
    world: World,
    random: StdRng,
    /// Servants, where there is no queue.
    takers: [Taker; 3],
    kinds: [Kind; 2],
    accounts: Vec<AccountId>,
    connections: Vec<(AccountId, ConnectionId)>,
    limits: BTreeMap<(String, String), (Scope, u32)>,
    running: Vec<AttemptKey>,
    failed: Vec<domain::JobId>,
    inserted: i64,
}

impl Walk {
    async fn new(seed: u64, has_queue: bool) -> Self {
        let mut world = World::new().await;
        let tables: toml::Table = CATALOGUE.parse().unwrap();
        world.office.catalogue = domain::Catalogue::new(tables.try_into().unwrap()).unwrap();
        if !has_queue {
            world.office.queue = queue::Backend::Postgres;
        }
        let (mut accounts, mut connections) = (Vec::new(), Vec::new());
        for at in 0..3 {
            let account = world.office.store.create_account(&format!("account {at}")).await.unwrap();
            for vendor in ["salesforce", "slack"] {
                let settings = serde_json::json!({});
                let id = world.office.store.create_connection(account, vendor, &settings, None).await.unwrap();
                connections.push((account, id));
            }
            accounts.push(account);
        }
        let random = StdRng::seed_from_u64(seed);
        let kinds = [kind(), Kind::new("other").unwrap()];
        let mut walk = Self {
            world,
            random,
            takers: Default::default(),
            kinds,
            accounts,
            connections,
            limits: BTreeMap::new(),
            running: Vec::new(),
            failed: Vec::new(),
            inserted: 0,
        };
        for scope in walk.scopes() {
            walk.set(scope).await;
        }
        walk
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![
            Scope::Kind(kind()),
            Scope::Account(self.accounts[0]),
            Scope::Connection(self.connections[0].1),
            Scope::Vendor("slack".to_owned()),
            Scope::EachAccount,
            Scope::EachConnection(Some("salesforce".to_owned())),
        ]
    }

    async fn set(&mut self, scope: Scope) {
        let jobs = self.random.random_range(1..8);
        let limit = Limit { concurrency: Some(jobs), ..Limit::default() };
        self.world.office.store.set_limit(&testkit::granted(), &scope, &limit).await.unwrap();
        self.limits.insert((scope.scope().to_owned(), scope.key()), (scope, jobs));
    }

    fn one_in(&mut self, of: u32) -> bool {
        self.random.random_ratio(1, of)
    }

    fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.random.next_u64() % u64::try_from(count).unwrap()).unwrap()
    }

    /// What is in flight under each limit, by what it counts.
    async fn in_flight(&self) -> BTreeMap<(&'static str, String), u32> {
        let rows: Vec<(String, i64, i64, String)> = sqlx::query_as(IN_FLIGHT).fetch_all(&self.world.sql).await.unwrap();
        let mut used: BTreeMap<_, u32> = BTreeMap::new();
        for (kind, account, connection, vendor) in rows {
            for (subject, limited) in [
                (("kind", kind.clone()), self.limit("kind", &kind)),
                (
                    ("account", account.to_string()),
                    self.limit("account", &account.to_string()).or(self.limit("each_account", "")),
                ),
                (
                    ("connection", connection.to_string()),
                    self.limit("connection", &connection.to_string()).or(self.limit("each_connection", &vendor)),
                ),
                (("vendor", vendor.clone()), self.limit("vendor", &vendor)),
            ] {
                if limited.is_some() {
                    *used.entry(subject).or_default() += 1;
                }
            }
        }
        used
    }

    fn limit(&self, scope: &str, key: &str) -> Option<u32> {
        self.limits.get(&(scope.to_owned(), key.to_owned())).map(|(_, jobs)| *jobs)
    }

    fn most(&self, (scope, key): &(&'static str, String), vendors: &BTreeMap<String, String>) -> u32 {
        let each = match *scope {
            "account" => self.limit("each_account", ""),
            "connection" => vendors.get(key).and_then(|vendor| self.limit("each_connection", vendor)),
            _ => None,
        };
        self.limit(scope, key).or(each).unwrap_or(u32::MAX)
    }

    async fn step(&mut self) -> &'static str {
        match self.random.random_range(0..20) {
            0..=2 => {
                let jobs: Vec<NewJob> = (0..self.random.random_range(1..12)).map(|_| self.job()).collect();
                self.world.insert(&jobs).await;
                self.inserted += i64::try_from(jobs.len()).unwrap();
                "insert"
            }
            3..=7 => {
                dispatch::perform(&self.world.office, &self.world.lead).await.unwrap();
                "dispatch"
            }
            8..=11 => {
                self.claim().await;
                "claim"
            }
            12..=14 => {
                let count = self.pick(self.running.len() + 1);
                let keys: Vec<_> = self.running.drain(..count).collect();
                self.world.office.store.succeed(&keys).await.unwrap();
                "succeed"
            }
            15 => {
                self.fail().await;
                "settle"
            }
            16 => {
                let failed = std::mem::take(&mut self.failed);
                self.world.office.store.act_on_jobs(&testkit::granted::<action::RetryJob>(), &failed).await.unwrap();
                "an operator's retry"
            }
            17 => {
                self.world.advance_secs(61);
                self.lead().await;
                let store = &self.world.office.store;
                store.rescue(&self.world.lead, 100, |_| RetryPolicy::default()).await.unwrap();
                "rescue"
            }
            18 => {
                self.world.depose().await;
                if self.one_in(2) {
                    self.world.office.desk = tokio::sync::Mutex::default();
                }
                "a change of leader"
            }
            _ => {
                let scopes = self.scopes();
                let scope = scopes[self.pick(scopes.len())].clone();
                if self.one_in(3) {
                    self.limits.remove(&(scope.scope().to_owned(), scope.key()));
                    self.world.office.store.remove_limit(&testkit::granted(), &scope).await.unwrap();
                } else {
                    self.set(scope).await;
                }
                "a change of limits"
            }
        }
    }

    fn job(&mut self) -> NewJob {
        let kind = self.kinds[self.pick(2)].clone();
        let priority = i16::try_from(self.pick(5)).unwrap();
        let (account, connection) = if self.one_in(2) {
            let at = self.pick(self.accounts.len());
            (self.accounts[at], None)
        } else {
            let at = self.pick(self.connections.len());
            let (account, id) = self.connections[at];
            (account, Some(id))
        };
        NewJob { account, connection, priority, attempts_max: 50, ..NewJob::new(kind, serde_json::json!({})) }
    }

    /// Servants take some of what was dispatched or, where there is no queue, of what nothing limits and what has room.
    async fn claim(&mut self) {
        for kind in self.kinds.clone() {
            let (servant, until) = (self.world.servant(0).await, self.world.after_secs(60));
            let limit = self.random.random_range(1..10);
            let store = &self.world.office.store;
            if self.world.office.has_queue() {
                let lead = &self.world.lead;
                let claimed = testkit::claim_queued(store, lead, servant, &kind, limit, until).await.unwrap();
                self.running.extend(claimed.into_iter().map(|job| job.key));
            } else {
                let plain = testkit::claim_ready(store, servant, &kind, limit, until).await.unwrap();
                self.running.extend(plain.into_iter().map(|job| job.key));
                let at = self.pick(self.takers.len());
                self.running.extend(self.takers[at].claim_of(&self.world, &kind, servant, limit).await);
            }
        }
    }

    async fn fail(&mut self) {
        let count = self.pick(self.running.len() + 1);
        for key in self.running.drain(..count).collect::<Vec<_>>() {
            let failure = Failure { class: ErrorClass::Permanent, chain: "it broke".to_owned(), until: None };
            let fate = match self.random.random_range(0..3) {
                0 => Fate::RetryAt { due: self.world.clock.now(), charged: false, failure },
                1 => Fate::GiveBack,
                _ => Fate::Fail(failure),
            };
            let is_end = matches!(fate, Fate::Fail(_));
            let settled = self.world.office.store.settle(&[FailedAttempt { key, fate }]).await.unwrap();
            if is_end && settled.contains(&key.id) {
                self.failed.push(key.id);
            }
        }
    }

    async fn lead(&mut self) {
        self.world.advance_secs(11);
        self.world.lead = self.world.office.store.lead("boot-3", 10).await.unwrap().unwrap();
    }

    async fn take(mut self, seed: u64) {
        let vendors: BTreeMap<String, String> = sqlx::query_as("SELECT id::text, vendor FROM connections")
            .fetch_all(&self.world.sql)
            .await
            .unwrap()
            .into_iter()
            .collect();
        let mut before = self.in_flight().await;
        let mut steps = Vec::new();
        for _ in 0..STEPS {
            steps.push(self.step().await);
            let after = self.in_flight().await;
            let is_new_limit = steps.last() == Some(&"a change of limits");
            for (subject, jobs) in after.iter().filter(|_| !is_new_limit) {
                let most = self.most(subject, &vendors).max(before.get(subject).copied().unwrap_or(0));
                assert!(*jobs <= most, "seed {seed}: {jobs} of {subject:?} are in flight, not {most}: {steps:?}");
            }
            before = after;
        }
        for round in 0.. {
            assert!(round < 200, "seed {seed}: jobs were left: {steps:?}");
            self.lead().await;
            scheduler::duties::promote::perform(&self.world.office, &self.world.lead).await.unwrap();
            dispatch::perform(&self.world.office, &self.world.lead).await.unwrap();
            self.claim().await;
            let keys = std::mem::take(&mut self.running);
            self.world.office.store.succeed(&keys).await.unwrap();
            self.world.advance_secs(61);
            self.lead().await;
            self.world.office.store.rescue(&self.world.lead, 100, |_| RetryPolicy::default()).await.unwrap();
            if self.world.number("SELECT count(*) FROM jobs").await == 0 {
                break;
            }
        }
        assert_eq!(self.world.number("SELECT count(*) FROM finished_jobs").await, self.inserted);
        self.world.assert_counted().await;
    }
}

#[tokio::test]
async fn no_limit_is_ever_passed_and_nothing_starves() {
    for seed in 0..2 {
        Walk::new(seed, true).await.take(seed).await;
    }
}

#[tokio::test]
async fn no_limit_is_ever_passed_without_a_queue() {
    for seed in 10..12 {
        Walk::new(seed, false).await.take(seed).await;
    }
}

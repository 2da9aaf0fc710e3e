//! Servants killed at each commit of a first load, on both sides of it, and at any other instant: no record is lost, no
//! change is told twice, and a kill costs one page at the most. The killed are real processes, and so are their heirs.

use crate::{
    Slice,
    customer::{Customer, End},
    ledger, number,
    tap::{Boundary, Side, Tap},
    world::{BULK, SYNC, World, kinds},
};
use domain::JobState;
use fakes::salesforce::Options;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};
use testkit::{Process, eventually};

/// Kills in an ordinary run of the tests, of each kind of servant.
const KILLS: u64 = 12;
/// Kills of one customer's servants before they may finish.
const KILLS_OF_ONE: u64 = 6;
/// Worlds of each kind in which servants are killed at a time, where kills are many: they mostly wait.
const LANES: usize = 3;
/// The organisation's dice: all customers have the same records, so that they need the same pages.
const SEED: u64 = 77;
const RECORDS: u64 = 500;
const PAGE_SIZE: usize = 40;
const OBJECTS: [&str; 3] = ["Account", "Contact", "Opportunity"];
/// Where the numbers of those scenarios begin that no side of a commit is planned for.
const FURTHER: u64 = 1_000_000;
/// An instant within a life, in milliseconds from its start.
const LIFE_MS_MAX: u64 = 500;

/// The kinds that take part in a first load.
fn doomed_kinds() -> Vec<String> {
    kinds().into_iter().filter(|kind| kind == SYNC || kind == BULK).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_servant_costs_a_page_and_no_record() {
    let kinds = doomed_kinds();
    let kills = number("SERVANT_PROOF_KILLS", KILLS * kinds.len() as u64).div_ceil(kinds.len() as u64);
    let kills = kills.div_ceil(Slice::asked().of as u64);
    let is_each = std::env::var("SERVANT_PROOF_KILLS").is_ok();
    futures::future::join_all(kinds.iter().map(|kind| all_of(kind, kills, is_each))).await;
}

/// All kills of one kind.
async fn all_of(kind: &str, kills: u64, is_each: bool) {
    let from = Instant::now();
    let count = if is_each { LANES } else { 1 };
    let lanes = futures::future::join_all((0..count).map(|_| Lane::open(kind))).await;
    // How many commits a first load makes varies a little with what finds what together.
    let commits = lanes.iter().map(|lane| lane.commits).max().unwrap();
    let in_line: Vec<_> = Slice::asked().take((0..).zip(in_line(commits, kills, is_each))).collect();
    let planned = in_line.len();
    let share = kills.div_ceil(count as u64);
    let lanes = lanes.iter().enumerate().map(|(place, lane)| {
        let scenarios = Slice { place, of: count }.take(in_line.clone()).collect();
        lane.run(scenarios, share, FURTHER * (1 + place as u64))
    });
    let outcomes = futures::future::join_all(lanes).await;
    let (done, met) = outcomes.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!(
        "{kind}: {done} kills, {met} of them at the {planned} sides of commits in line; {commits} commits a first load; {} s",
        from.elapsed().as_secs()
    );
}

/// The sides of commits at which a first kill is planned: both of each, or as many as make so many kills, spread over
/// the load from its first commit to its last.
fn in_line(commits: u64, kills: u64, is_each: bool) -> Vec<Boundary> {
    let sides = 2 * commits;
    let count = if is_each { sides } else { kills.div_ceil(KILLS_OF_ONE).clamp(2, sides) };
    let side = |place: u64| Boundary {
        commit: 1 + place / 2,
        side: if place.is_multiple_of(2) { Side::Before } else { Side::After },
    };
    (0..count).map(|at| side(at * (sides - 1) / (count - 1))).collect()
}

/// A world in which servants of one kind are killed.
struct Lane {
    world: World,
    kind: String,
    wire: SocketAddr,
    wire_url: String,
    _proxy: testkit::Proxy,
    _others: Vec<Process>,
    /// Pages that a first load needs when nothing happens.
    pages: u64,
    /// Commits that the doomed kind makes in one.
    commits: u64,
}

impl Lane {
    async fn open(kind: &str) -> Self {
        let world = World::new().await;
        let (proxy, wire_url) = world.wire().await;
        let mut others = Vec::new();
        for other in world.kinds.iter().filter(|other| *other != kind) {
            others.push(world.servant(other, "1", None).await);
        }
        let wire = proxy.address();
        let mut lane =
            Self { world, kind: kind.to_owned(), wire, wire_url, _proxy: proxy, _others: others, pages: 0, commits: 0 };
        lane.measure().await;
        lane
    }

    /// So many kills at the least, those in line first. Answers with how many there were, and how many of those in line
    /// were where they were planned.
    async fn run(&self, mut scenarios: VecDeque<(u64, Boundary)>, kills: u64, mut more: u64) -> (u64, u64) {
        let (mut done, mut met) = (0, 0);
        while done < kills || !scenarios.is_empty() {
            let left = kills.saturating_sub(done).div_ceil(scenarios.len().max(1) as u64);
            let (scenario, at) = match scenarios.pop_front() {
                Some((scenario, at)) => (scenario, Some(at)),
                // Kills that came too late are made up for.
                None => (more, None),
            };
            more += 1;
            let (killed, is_met) = self.kill(scenario, at, left.clamp(1, KILLS_OF_ONE)).await;
            (done, met) = (done + killed, met + u64::from(is_met));
        }
        (done, met)
    }

    /// Where a servant finds the ledger by way of a tap.
    fn url(&self, tap: &Tap) -> String {
        self.wire_url.replace(&self.wire.to_string(), &tap.address.to_string())
    }

    async fn customer(&self) -> Customer {
        let options = Options { page_size: PAGE_SIZE, bulk_page_records: PAGE_SIZE, ..Options::default() };
        Customer::new(&self.world, RECORDS, SEED, &OBJECTS, options).await
    }

    /// A first load in peace.
    async fn measure(&mut self) {
        let customer = self.customer().await;
        let tap = Tap::to(self.wire, None).await;
        let mut servant = self.world.servant(&self.kind, "1", Some(&self.url(&tap))).await;
        let job = customer.enqueue(&self.world, SYNC).await;
        let end = customer.until_at_rest(&self.world, job).await;
        assert_eq!(end, End::Done(JobState::Succeeded));
        (self.pages, self.commits) = (customer.fake.stats().pages, tap.commits());
        assert!(servant.terminate(crate::world::LIMIT).await.success());
        self.assert_equal(&customer, "in peace").await;
        assert!(self.pages > 3, "{} pages are too few to prove anything", self.pages);
        // One that decides who reads what and one that ends the job; or, of each object, one that asks for it, one that
        // knows its pages, and one for each page.
        let commits_min = if self.kind == SYNC { 2 } else { 3 * OBJECTS.len() as u64 };
        assert!(self.commits >= commits_min, "{} commits where {commits_min} are the least", self.commits);
    }

    async fn assert_equal(&self, customer: &Customer, when: &str) {
        let wrong = ledger::faults(customer, &self.world, &BTreeSet::new()).await;
        assert!(wrong.is_empty(), "{when}: {}", wrong.join("\n"));
    }

    /// Kills servants of one customer so often, the first of them at `in_line`, and lets the last one finish. Answers with
    /// how many were killed, and whether the first was where it was planned.
    async fn kill(&self, scenario: u64, in_line: Option<Boundary>, kills_max: u64) -> (u64, bool) {
        let mut dice = StdRng::seed_from_u64(scenario);
        let customer = self.customer().await;
        let job = customer.enqueue(&self.world, SYNC).await;
        let (mut kills, mut plans, mut is_met) = (0, Vec::new(), false);
        for life in 0..kills_max {
            let any = Boundary {
                commit: dice.random_range(1..=self.commits.min(6)),
                side: if dice.random() { Side::Before } else { Side::After },
            };
            let any = dice.random::<bool>().then_some(any);
            let plan = in_line.filter(|_| life == 0).or(any);
            let instant = Duration::from_millis(dice.random_range(1..LIFE_MS_MAX));
            plans.push((plan, instant));
            let tap = Tap::to(self.wire, plan).await;
            let mut doomed = self.world.servant(&self.kind, "1", Some(&self.url(&tap))).await;
            let mut commits_at_rest = None;
            let is_killed = tokio::select! {
                () = tap.reached() => true,
                () = tokio::time::sleep(instant), if plan.is_none() => true,
                _ = customer.until_at_rest(&self.world, job) => {
                    let commits = *commits_at_rest.insert(tap.commits());
                    // Others see the last commit before whoever made it is told of it.
                    let is_behind = plan.is_some_and(|at| commits >= at.commit);
                    if is_behind {
                        tap.reached().await;
                    }
                    is_behind
                }
            };
            doomed.kill();
            if life == 0
                && let Some(at) = in_line
            {
                // Nothing but a load without such a commit excuses a kill that was not there. (At rest, a servant still looks
                // for work, and commits what it looked at.)
                let excuses = |commits| commits < at.commit;
                assert!(is_killed || commits_at_rest.is_some_and(excuses), "{} passed {at:?}", self.kind);
                is_met = is_killed;
            }
            if !is_killed {
                break;
            }
            kills += 1;
            self.bury().await;
        }
        let mut heir = self.world.servant(&self.kind, "1", None).await;
        let mut end = customer.until_at_rest(&self.world, job).await;
        let told = format!("{} killed as scenario {scenario} has it: {plans:?}", self.kind);
        if end == End::Parked {
            // Killed between Salesforce's word, by which the old token is worth nothing, and the commit of the new one. No
            // order of the two can help: the customer consents once more, and nothing else is lost.
            customer.authorise(&self.world).await;
            end = customer.until_at_rest(&self.world, job).await;
        }
        assert_eq!(end, End::Done(JobState::Succeeded), "{told}");
        self.assert_equal(&customer, &told).await;
        let sent = customer.fake.stats().pages;
        assert!(sent <= self.pages + kills, "{sent} pages for {} and {kills} kills; {told}", self.pages);
        heir.ask_to_end();
        heir.exit(crate::world::LIMIT).await;
        (kills, is_met)
    }

    /// Dead servants' leases run out at once, and so does the time for which one that signed on was thought to be alive.
    async fn bury(&self) {
        let over = [
            "UPDATE leases SET until = now() - interval '1 second'",
            "UPDATE secrets SET signing_on_until = now() - interval '1 second' WHERE signing_on_until > now()",
        ];
        for statement in over {
            eventually(crate::world::LIMIT, "a dead servant's time to end", async || {
                sqlx::query(statement).execute(&self.world.sql).await.ok()
            })
            .await;
        }
    }
}

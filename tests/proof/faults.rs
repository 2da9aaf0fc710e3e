//! Everything that can go wrong, by itself and three at a time, while records change: in the end ledger and vendor agree.

use crate::{
    Slice,
    customer::Customer,
    harm::{CATALOGUE, Harm, UNSTAMPED},
    ledger, number,
    world::{RECONCILE, SYNC, World},
};
use fakes::salesforce::Options;
use futures::{StreamExt as _, stream};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};
use testkit::eventually;

/// Cases in an ordinary run of the tests.
const SEEDS: u64 = 10;
/// From one of those to the next, so that they are spread over the catalogue.
const STRIDE: u64 = 11;
/// Cases at a time.
const AT_ONCE: u64 = 8;
const RECORDS: u64 = 700;
const PAGE_SIZE: usize = 25;
/// Syncs while things go wrong.
const TICKS: u64 = 3;
/// The same, while one that is harmed by a single fault has not met it.
const TICKS_MAX: u64 = 20;
/// Turns of the dice while one of these runs, of two changes each: more than a page of the larger objects, fewer than
/// are worth a bulk job.
const TURNS: usize = 60;
/// Syncs afterwards, until all is equal.
const ROUNDS_MAX: usize = 3;
/// Calls that may be refused once the allowance is used up: what was under way.
const REFUSED_MAX: u64 = 4;

/// What goes wrong by a seed.
fn harms(world: &World, seed: u64) -> Vec<Harm> {
    let mut all = CATALOGUE.to_vec();
    if world.has(RECONCILE) {
        all.extend(UNSTAMPED);
    }
    if seed.is_multiple_of(2) {
        let place = usize::try_from(seed / 2).unwrap() % all.len();
        return vec![all[place]];
    }
    all.sample(&mut StdRng::seed_from_u64(seed), 3).copied().collect()
}

/// The seeds of this run.
fn seeds() -> Vec<u64> {
    match (std::env::var("SERVANT_PROOF_SEED"), std::env::var("SERVANT_PROOF_SEEDS")) {
        (Ok(_), _) => vec![number("SERVANT_PROOF_SEED", 0)],
        (_, Ok(_)) => Slice::asked().take(0..number("SERVANT_PROOF_SEEDS", SEEDS)).collect(),
        _ => Slice::asked().take((0..SEEDS).map(|at| at * STRIDE)).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_ledger_and_vendor_agree_in_the_end() {
    let world = World::new().await;
    let at_once = number("SERVANT_PROOF_AT_ONCE", AT_ONCE);
    let mut servants = Vec::new();
    for kind in &world.kinds {
        servants.push(world.servant(kind, &at_once.to_string(), None).await);
    }
    let world = &world;
    let cases = seeds().into_iter().map(|seed| async move {
        let harms = harms(world, seed);
        let from = Instant::now();
        let wrong = case(world, seed, &harms).await;
        println!("seed {seed}: {harms:?}, {} wrong, {} s", wrong.len(), from.elapsed().as_secs());
        (seed, harms, wrong)
    });
    let at_once = usize::try_from(at_once).unwrap();
    let outcomes: Vec<_> = stream::iter(cases).buffer_unordered(at_once).collect().await;
    let failures: Vec<String> = outcomes
        .iter()
        .filter(|(_, _, wrong)| !wrong.is_empty())
        .map(|(seed, harms, wrong)| format!("SERVANT_PROOF_SEED={seed} ({harms:?}):\n    {}", wrong.join("\n    ")))
        .collect();
    assert!(failures.is_empty(), "{} of {} cases:\n  {}", failures.len(), outcomes.len(), failures.join("\n  "));
}

/// One customer, harmed; what is wrong in the end.
async fn case(world: &World, seed: u64, harms: &[Harm]) -> Vec<String> {
    let mut dice = StdRng::seed_from_u64(seed);
    let all = ["Account", "Contact", "Lead", "Opportunity", "Task"];
    let objects: Vec<&str> = all.sample(&mut dice, 3).copied().collect();
    let options = Options { page_size: PAGE_SIZE, bulk_page_records: PAGE_SIZE, ..Options::default() };
    let customer = Customer::new(world, RECORDS, seed, &objects, options).await;
    harms.iter().for_each(|harm| harm.begin(&customer, seed));
    let mutator = customer.mutate(world, seed, Duration::from_millis(20));
    let mut left_out = BTreeSet::new();
    let mut wrong = Vec::new();
    let is_exhausted = harms.contains(&Harm::Exhaustion);
    world.be_patient(customer.account, is_exhausted);
    if is_exhausted {
        mutator.grant(TURNS);
        wrong.extend(exhausted(world, &customer).await);
        left_out.extend(strike_all(&customer, world, harms, seed, (0, &AtomicBool::new(true))).await);
        customer.run_whatever_comes(world, SYNC).await;
    } else {
        let is_unstruck = || harms.len() == 1 && !harms[0].has_struck(&customer, world, seed);
        // A fault that comes only with several pages waits for a sync that has them: what changes meanwhile makes them.
        for tick in (0..TICKS_MAX).take_while(|tick| *tick < TICKS || is_unstruck()) {
            let is_over = AtomicBool::new(false);
            mutator.grant(TURNS);
            if tick >= TICKS {
                mutator.until_spent().await;
            }
            let sync = async {
                customer.run_whatever_comes(world, SYNC).await;
                is_over.store(true, Ordering::Relaxed);
            };
            if tick == 0 {
                let when = (dice.random_range(1..6), &is_over);
                let ((), struck) = tokio::join!(sync, strike_all(&customer, world, harms, seed, when));
                left_out.extend(struck);
            } else {
                sync.await;
            }
        }
    }
    mutator.stop().await;
    if let [harm] = harms
        && !harm.has_struck(&customer, world, seed)
    {
        wrong.push(format!("{harm:?} never struck"));
    }
    customer.fake.clear_faults();
    harms.iter().for_each(|harm| harm.heal(&customer));
    customer.fake.settle();
    if world.store.find_connection(customer.connection).await.unwrap().unwrap().state == "needs_reauth" {
        customer.authorise(world).await;
    }
    let mut unequal = Vec::new();
    for _ in 0..ROUNDS_MAX {
        unequal = match customer.settle(world).await {
            Ok(()) => ledger::faults(&customer, world, &left_out).await,
            Err(what) => vec![what],
        };
        if unequal.is_empty() {
            break;
        }
    }
    wrong.extend(unequal);
    wrong.extend(over_budget(&customer, is_exhausted));
    wrong
}

async fn strike_all(
    customer: &Customer,
    world: &World,
    harms: &[Harm],
    seed: u64,
    when: (u64, &AtomicBool),
) -> Vec<String> {
    let mut left_out = Vec::new();
    for harm in harms {
        left_out.extend(harm.strike_under_way(customer, world, seed, when).await);
    }
    left_out
}

/// The allowance ends in the middle of a sync: the sync is delayed, is no success, and nothing more is asked.
async fn exhausted(world: &World, customer: &Customer) -> Option<String> {
    let job = customer.enqueue(world, SYNC).await;
    let later = || world.store.now() + chrono::TimeDelta::minutes(5);
    // Refused by the vendor, or not even let through, since the vendor said that nothing is left.
    let delayed = "SELECT EXISTS (SELECT FROM jobs WHERE account_id = $1 AND ready_at IS NULL AND due_at > $2)
        OR EXISTS (SELECT FROM vendor_budgets b JOIN connections c ON c.id = b.connection_id
                   WHERE c.account_id = $1 AND b.used >= b.maximum)
           AND EXISTS (SELECT FROM jobs WHERE account_id = $1 AND ready_at IS NOT NULL)
           AND NOT EXISTS (SELECT FROM jobs WHERE account_id = $1 AND state IN (2, 3))";
    let is_delayed = eventually(crate::world::LIMIT, "the sync to be delayed", async || {
        let connection = world.store.find_connection(customer.connection).await.ok()??;
        if connection.state == "needs_reauth" {
            customer.authorise(world).await;
        }
        let query = sqlx::query_scalar(delayed).bind(customer.account.0).bind(later());
        let is_delayed: bool = query.fetch_one(&world.sql).await.ok()?;
        (is_delayed || !customer.has_jobs(world).await?).then_some(is_delayed)
    })
    .await;
    // As when a day has passed.
    Harm::Exhaustion.heal(customer);
    world.be_patient(customer.account, false);
    let end = customer.until_at_rest(world, job).await;
    (!is_delayed).then(|| format!("with nothing left of the day the sync is not delayed; it ends as {end:?}"))
}

/// What the vendor says of its limits.
fn over_budget(customer: &Customer, is_exhausted: bool) -> Option<String> {
    let usage = customer.fake.usage(&fakes::salesforce::UsageChange::default());
    let refused_max = if is_exhausted { REFUSED_MAX } else { 0 };
    let is_over = usage.refused_daily > refused_max || usage.refused_concurrent > 0;
    is_over.then(|| format!("the vendor had to refuse: {usage:?}"))
}

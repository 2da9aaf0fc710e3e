//! What everything stands on goes away and comes back: PostgreSQL, the queue, the manager, free connections.
//! No process ends over it, and the ledger is sound afterwards.

use crate::fleet::{Backend, Fleet, LIMIT};
use domain::{JobId, JobState, ServantId};
use fakes::sqs::{Fault, Faults, Rule};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::{Process, Proxy, STUCK_SECS, eventually};

/// What a test's dice are thrown with; printed, and set by `SERVANT_TEST_SEED`.
fn seed() -> u64 {
    let seed = std::env::var("SERVANT_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("SERVANT_TEST_SEED={seed}");
    seed
}

fn some_payloads(dice: &mut StdRng, count: usize) -> Vec<Value> {
    let mut one = || {
        json!({
            "pages": dice.random_range(1..4),
            "page_ms": dice.random_range(0..150),
            "hold_ms": dice.random_range(0..30),
            "transient_attempts": u8::from(dice.random_bool(0.1)),
            "children": u8::from(dice.random_bool(0.1)),
        })
    };
    (0..count).map(|_| one()).collect()
}

fn assert_all_run(processes: &mut [Process]) {
    for process in processes {
        assert!(process.ended().is_none(), "a process ended: {}", process.output());
    }
}

async fn restart_postgres_under_load(backend: Backend, seed: u64) {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut fleet = Fleet::on_own_server(backend, 100).await;
    let mut processes = [fleet.impatient_scheduler().await, fleet.effects("10").await, fleet.effects("10").await];
    let mut committed: Vec<JobId> = Vec::new();
    for is_crash in [true, false, true] {
        // So much has to run and to have run since the last one, that the next hits everything under way.
        let mut waves = 0;
        let before = fleet.count(JobState::Succeeded).await;
        eventually(LIMIT, "load", async || {
            waves += 1;
            if waves <= 8 {
                let payloads = some_payloads(&mut dice, 25);
                committed.extend(fleet.try_enqueue_effects(&payloads, 50).await.unwrap_or_default());
            }
            let (running, done) = (fleet.count(JobState::Running).await, fleet.count(JobState::Succeeded).await);
            (running >= 5 && done >= before + 20).then_some(())
        })
        .await;
        let server = fleet.server.as_mut().unwrap();
        if is_crash { server.crash().await.unwrap() } else { server.restart().await.unwrap() }
    }
    fleet.assert_sound(&committed).await;
    assert_all_run(&mut processes);
    // With that many attempts, none may have failed for good.
    fleet.until(JobState::Succeeded, i64::try_from(committed.len()).unwrap()).await;
}

#[tokio::test]
async fn postgres_restarts_under_load() {
    let seed = seed();
    let without_broker = restart_postgres_under_load(Backend::Postgres, seed);
    tokio::join!(without_broker, restart_postgres_under_load(Backend::Sqs, seed));
}

/// One servant alone loses the ledger, for longer than its lease; everybody else still has it.
#[tokio::test]
async fn a_servant_cut_off_from_the_ledger_changes_nothing() {
    tokio::join!(cut_a_servant_off(Backend::Postgres), cut_a_servant_off(Backend::Sqs));
}

async fn cut_a_servant_off(backend: Backend) {
    let fleet = Fleet::on_own_server(backend, 100).await;
    let (wire, url) = fleet.server.as_ref().unwrap().wire().await.unwrap();
    let mut processes = vec![fleet.scheduler().await];
    let short = ("SERVANT_WORK__LEASE_SECS", "3");
    let mut cut_off = fleet.deployment.start("effects", &[short, ("DATABASE_URL", &url)]).await;
    // Some would finish while they are cut off, some would after.
    let payloads = [json!({"page_ms": 2_000}), json!({"hold_ms": 2_000}), json!({"deaf_ms": 5_000})];
    let payloads: Vec<Value> = payloads.iter().cycle().take(9).cloned().collect();
    let jobs = fleet.enqueue_effects(&payloads).await;
    fleet.until_tried(&jobs, 1).await;
    wire.refuse();
    let cut = Instant::now();
    processes.push(fleet.deployment.start("effects", &[short]).await);
    cut_off.line_with(LIMIT, "leases could not be renewed").await;
    fleet.assert_sound(&jobs).await;
    for id in &jobs {
        let pids: Vec<_> = fleet.tries(*id).await.into_iter().map(|(_, pid)| pid.unsigned_abs()).collect();
        assert_eq!(pids, [cut_off.pid(), processes[1].pid()], "job {id} was taken over");
    }
    // Longer than any job may take to yield, which is another thing than to wait for the ledger.
    let is_long = async || (cut.elapsed().as_secs() > STUCK_SECS + 2).then_some(());
    eventually(LIMIT, "a long outage", is_long).await;
    wire.forward();
    cut_off.line_with(LIMIT, "leases are renewed again").await;
    assert!(processes.remove(1).terminate(LIMIT).await.success());
    let more = fleet.enqueue_effects(&vec![json!({}); 20]).await;
    fleet.assert_sound(&[jobs, more].concat()).await;
    assert!(cut_off.terminate(LIMIT).await.success());
}

#[tokio::test]
async fn the_queue_may_do_its_worst() {
    let mut dice = StdRng::seed_from_u64(seed());
    let mut fleet = Fleet::on_sqs().await;
    let sqs_address = fleet.sqs.as_ref().unwrap().addr().to_string();
    let wire = Proxy::to_tcp(&sqs_address).await.unwrap();
    fleet.deployment.sqs_url = Some(format!("http://{}", wire.address()));
    let mut processes = [fleet.impatient_scheduler().await, fleet.effects("10").await];
    let mut committed = Vec::new();

    let faults = [
        (Fault::Duplicate, 1.0),
        (Fault::Reorder, 1.0),
        (Fault::Lose, 0.2),
        (Fault::Delay, 0.7),
        (Fault::AnswerLostAfterExecution, 0.3),
        (Fault::Throttle, 0.3),
        (Fault::Http5xx, 0.3),
        (Fault::EntryFailed, 0.5),
    ];
    for (fault, probability) in faults {
        let started = Instant::now();
        let sqs = fleet.sqs.as_ref().unwrap();
        sqs.set_faults(Faults::from([(fault, Rule::with_probability(probability))]));
        let jobs = fleet.enqueue_effects(&some_payloads(&mut dice, 30)).await;
        committed.extend(&jobs);
        fleet.until(JobState::Succeeded, i64::try_from(committed.len()).unwrap()).await;
        sqs.clear_faults();
        eprintln!("the queue: {fault:?} with {probability}: {:?}", started.elapsed());
    }

    eprintln!("the queue: down, then slow");
    wire.refuse();
    committed.extend(fleet.enqueue_effects(&some_payloads(&mut dice, 30)).await);
    processes[0].line_with(LIMIT, "the queue did not take").await;
    wire.delay(Duration::from_millis(40));
    fleet.until(JobState::Succeeded, i64::try_from(committed.len()).unwrap()).await;
    wire.forward();

    eprintln!("the queue: forgets everything");
    let forgetting = fleet.sqs.take().unwrap();
    let options = fakes::sqs::Options { addr: forgetting.addr(), ..fakes::sqs::Options::default() };
    committed.extend(fleet.enqueue_effects(&some_payloads(&mut dice, 30)).await);
    forgetting.stop().await;
    fleet.sqs = Some(fakes::sqs::FakeSqs::start(options).await.unwrap());
    fleet.assert_sound(&committed).await;
    assert_all_run(&mut processes);
}

#[tokio::test]
async fn work_goes_on_without_the_manager() {
    tokio::join!(work_without_the_manager(Backend::Postgres), work_without_the_manager(Backend::Sqs));
}

async fn work_without_the_manager(backend: Backend) {
    let mut fleet = Fleet::on(backend).await;
    let mut manager = fleet.deployment.start("manager", &[]).await;
    let address = manager.address(LIMIT).await;
    fleet.deployment.manager_url = format!("http://{address}");
    let mut processes = [fleet.scheduler().await, fleet.effects("5").await];
    let heartbeat = async || {
        let servants = fleet.store.all_servants().await.ok()?;
        servants.first().and_then(|servant| Some((ServantId(servant.id), servant.heartbeat_at?)))
    };
    eventually(LIMIT, "a heartbeat", heartbeat).await;
    manager.kill();
    processes[1].line_with(LIMIT, "the manager does not take heartbeats").await;
    let jobs = fleet.enqueue_effects(&vec![json!({"page_ms": 50}); 20]).await;
    fleet.assert_sound(&jobs).await;
    let last = heartbeat().await.unwrap();
    let _manager = fleet.deployment.start("manager", &[("SERVANT_MANAGER__LISTEN", &address)]).await;
    processes[1].line_with(LIMIT, "the manager answers again").await;
    eventually(LIMIT, "heartbeats again", async || heartbeat().await.filter(|now| now.1 > last.1)).await;
    assert_all_run(&mut processes);
}

/// One after the other: six hundred sessions at once are the machine's to bear, and no question of this test.
#[tokio::test]
async fn jobs_run_beside_three_hundred_idle_connections() {
    for backend in [Backend::Postgres, Backend::Sqs] {
        run_beside_idle_connections(backend).await;
    }
}

async fn run_beside_idle_connections(backend: Backend) {
    let fleet = Fleet::on_own_server(backend, 350).await;
    let _idle = fleet.server.as_ref().unwrap().idle_connections(300).await.unwrap();
    let mut processes = [fleet.scheduler().await, fleet.effects("20").await, fleet.effects("20").await];
    let jobs = fleet.enqueue_effects(&vec![json!({"page_ms": 20}); 300]).await;
    fleet.assert_sound(&jobs).await;
    assert_all_run(&mut processes);
}

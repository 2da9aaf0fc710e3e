//! A scheduler's office without a broker, whose catalogue and clock are a test's to choose.

use domain::{Catalogue, Clock, ManualClock};
use queue::Backend;
use scheduler::{Office, SchedulerConfig, duties::tick};
use sqlx::PgPool;
use store::{Leadership, Store};
use testkit::TestDatabase;
use tokio::sync::Notify;

pub(crate) struct World {
    pub(crate) database: TestDatabase,
    pub(crate) clock: ManualClock,
    pub(crate) office: Office,
    pub(crate) sql: PgPool,
}

impl World {
    pub(crate) async fn new(start: &str, catalogue: &str) -> Self {
        let database = testkit::database().await;
        let clock = ManualClock::at(start.parse().unwrap());
        let office = office(&database, &clock, catalogue).await;
        let sql = PgPool::connect(database.url()).await.unwrap();
        Self { database, clock, office, sql }
    }
}

/// One kind, `noop`, with these schedules.
pub(crate) async fn office(database: &TestDatabase, clock: &ManualClock, schedules: &str) -> Office {
    office_on(database.store_with(Clock::Manual(clock.clone())).await, schedules)
}

fn office_on(store: Store, schedules: &str) -> Office {
    let mut config: toml::Table = include_str!("../../../../config/scheduler.toml").parse().unwrap();
    config.remove("process");
    let config: SchedulerConfig = config.try_into().unwrap();
    let text = format!("[noop]\nlabel = \"n\"\nrun_secs_max = 60\nconcurrency = 10\nschedules = [{schedules}]");
    let catalogue: toml::Table = text.parse().unwrap();
    Office {
        store,
        queue: Backend::Postgres,
        catalogue: Catalogue::new(catalogue.try_into().unwrap()).unwrap(),
        config,
        outbox_filled: Notify::new(),
        jobs_ready: scheduler::JobsReady::default(),
        desk: tokio::sync::Mutex::default(),
        nudges: scheduler::Nudges::default(),
        told: scheduler::Told::default(),
    }
}

/// Ticks as a process of its own that dies after so many requests to the ledger: with the one that is then under way
/// gone astray, or done without anybody to hear the answer. False when it did not get so far, and lives.
pub(crate) async fn tick_and_die(
    world: &World,
    lead: &Leadership,
    schedules: &str,
    requests: u64,
    is_done: bool,
) -> bool {
    let (wire, url) = world.database.wire().await.unwrap();
    let store = Store::connect(&url, 2, Clock::Manual(world.clock.clone())).await.unwrap();
    let office = office_on(store, schedules);
    wire.refuse_after(requests, is_done);
    loop {
        match tick::perform(&office, lead).await {
            Ok(true) if !wire.refuses() => {}
            ended => {
                assert!(ended.is_ok() || wire.refuses(), "{ended:?}");
                return wire.refuses();
            }
        }
    }
}

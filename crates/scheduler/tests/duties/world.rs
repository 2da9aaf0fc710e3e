//! A scheduler's office on a database and a queue of its own, whose time is moved by hand.

use chrono::{DateTime, TimeDelta, Utc};
use domain::{Catalogue, Clock, JobId, JobState, Kind, ManualClock, ServantId};
use fakes::sqs::{FakeSqs, Options};
use queue::{Backend, Sqs, SqsConfig, StaticCredentials};
use scheduler::{Office, SchedulerConfig};
use sqlx::PgPool;
use std::{collections::BTreeMap, time::Duration};
use store::{AttemptKey, ClaimedJob, Inserted, Leadership, Line, NewJob, NewServant, Store, Tally, Terms};
use testkit::{Proxy, TestDatabase};
use tokio::sync::Notify;

/// One kind, with one schedule.
const CATALOGUE: &str = r#"
[noop]
label = "Nothing"
run_secs_max = 60
concurrency = 10
schedules = [{ name = "every_minute", every_secs = 60 }]
"#;

pub(crate) struct World {
    pub(crate) office: Office,
    pub(crate) lead: Leadership,
    pub(crate) clock: ManualClock,
    pub(crate) fake: FakeSqs,
    pub(crate) sqs: Sqs,
    pub(crate) sql: PgPool,
    database: TestDatabase,
}

pub(crate) fn kind() -> Kind {
    Kind::new("noop").unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
        let database = testkit::database().await;
        let clock = ManualClock::at("2030-05-06T12:00:00Z".parse().unwrap());
        let fake = FakeSqs::start(Options::default()).await.unwrap();
        let sqs = sqs_of(&fake, &SqsConfig::default().prefix).await;
        let office = office(&database, &clock, sqs.clone()).await;
        let lead = office.store.lead("boot-1", 10).await.unwrap().unwrap();
        let sql = PgPool::connect(database.url()).await.unwrap();
        Self { office, lead, clock, fake, sqs, sql, database }
    }

    /// Another scheduler on the same ledger and queue.
    pub(crate) async fn another_office(&self) -> Office {
        office(&self.database, &self.clock, self.sqs.clone()).await
    }

    /// Another scheduler whose requests to the ledger pass over a wire that a test can cut.
    pub(crate) async fn office_on_a_wire(&self) -> (Proxy, Office) {
        let (wire, url) = self.database.wire().await.unwrap();
        let store = Store::connect(&url, 2, Clock::Manual(self.clock.clone())).await.unwrap();
        (wire, office_on(store, self.sqs.clone()))
    }

    /// The lead runs out and another scheduler takes it; answers with what the old one had.
    pub(crate) async fn depose(&mut self) -> Leadership {
        self.advance_secs(11);
        let new = self.office.store.lead("boot-2", 10).await.unwrap().unwrap();
        std::mem::replace(&mut self.lead, new)
    }

    pub(crate) fn advance_secs(&self, secs: i64) {
        self.clock.advance(TimeDelta::seconds(secs));
    }

    pub(crate) fn after_secs(&self, secs: i64) -> DateTime<Utc> {
        self.clock.now() + TimeDelta::seconds(secs)
    }

    pub(crate) async fn insert(&self, jobs: &[NewJob]) -> Vec<JobId> {
        let new = |i| if let Inserted::New(id) = i { id } else { panic!("a duplicate") };
        self.office.store.insert_jobs(jobs).await.unwrap().into_iter().map(new).collect()
    }

    pub(crate) async fn insert_many(&self, count: usize) -> Vec<JobId> {
        self.insert(&vec![NewJob::new(kind(), serde_json::json!({})); count]).await
    }

    pub(crate) async fn servant(&self, concurrency: u32) -> ServantId {
        let (host, version) = ("here".to_owned(), "0".to_owned());
        let new = NewServant { kind: kind(), host, pid: 1, version, concurrency };
        self.office.store.register_servant(&new).await.unwrap()
    }

    pub(crate) async fn claim(&self, jobs: i64, lease_secs: i64) -> Vec<ClaimedJob> {
        let servant = self.servant(1).await;
        let until = self.after_secs(lease_secs);
        testkit::claim(&self.office.store, &self.lead, servant, &kind(), jobs, until).await.unwrap()
    }

    /// Claims and finishes so many jobs.
    pub(crate) async fn run(&self, jobs: i64) {
        let keys: Vec<_> = self.claim(jobs, 60).await.iter().map(|job| job.key).collect();
        assert_eq!(self.office.store.succeed(&keys).await.unwrap().len(), keys.len());
    }

    pub(crate) async fn state(&self, id: JobId) -> JobState {
        self.office.store.find_job(id).await.unwrap().expect("a job was lost").state
    }

    pub(crate) async fn number(&self, statement: &'static str) -> i64 {
        sqlx::query_scalar(statement).fetch_one(&self.sql).await.unwrap()
    }

    /// Entries of ready jobs that have been read so far, in the indexes of their turns or by going through the table.
    /// Sessions tell their numbers at their end for certain, so the ledger's have to have ended: close its store before.
    pub(crate) async fn ready_jobs_read(&self) -> i64 {
        let sessions = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()
                AND query SIMILAR TO '(-- |SELECT /\\*|BEGIN|COMMIT|ROLLBACK)%'";
        let ended = async || (self.number(sessions).await == 0).then_some(());
        testkit::eventually(Duration::from_secs(10), "the ledger's sessions have ended", ended).await;
        self.number(
            "SELECT (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'jobs') + sum(idx_tup_read)::bigint
            FROM pg_stat_user_indexes WHERE indexrelname IN ('jobs_flow_idx', 'jobs_urgent_idx')",
        )
        .await
    }

    /// Messages for the kind, wherever they are on the queue.
    pub(crate) fn messages(&self) -> usize {
        let stats = self.fake.stats();
        stats.queues.get("servant-noop").map_or(0, |depth| depth.visible + depth.in_flight + depth.delayed)
    }

    pub(crate) async fn assert_counted(&self) {
        assert_eq!(self.office.store.count_drift().await.unwrap(), []);
    }
}

/// One who takes jobs from the table as servants do where there is no queue, and what it keeps between two goes.
#[derive(Default)]
pub(crate) struct Taker {
    lines: BTreeMap<Kind, Line>,
    tally: Tally,
}

impl Taker {
    /// One that is told of every end of its own.
    pub(crate) fn of(servant: ServantId) -> Self {
        Self { tally: Tally::of_servant(servant, kind()), ..Self::default() }
    }

    pub(crate) fn ended(&mut self, keys: &[AttemptKey]) {
        self.tally.ended(keys.iter().copied());
    }

    pub(crate) fn lost(&mut self, keys: &[AttemptKey]) {
        self.tally.lost(keys.iter().copied());
    }

    /// One go for jobs of the world's kind.
    pub(crate) async fn claim(&mut self, world: &World, servant: ServantId, jobs: i64) -> Vec<AttemptKey> {
        self.claim_of(world, &kind(), servant, jobs).await
    }

    pub(crate) async fn claim_of(
        &mut self,
        world: &World,
        kind: &Kind,
        servant: ServantId,
        jobs: i64,
    ) -> Vec<AttemptKey> {
        let Office { store, catalogue, config, .. } = &world.office;
        let terms = Terms { catalogue, breaker: &config.breaker };
        let line = self.lines.entry(kind.clone()).or_default();
        let of = (kind, catalogue.get(kind).unwrap());
        line.look(store, (kind, None)).await.unwrap();
        let by = (servant, world.after_secs(60));
        let claimed = line.claim(store, (terms, &mut self.tally), of, by, jobs).await.unwrap();
        claimed.jobs.iter().map(|job| job.key).collect()
    }
}

/// A connection whose queues' names begin with `prefix`.
pub(crate) async fn sqs_of(fake: &FakeSqs, prefix: &str) -> Sqs {
    let static_credentials = Some(StaticCredentials {
        access_key_id: "test".to_owned(),
        secret_access_key: "test".to_owned().into(),
        region: "us-east-1".to_owned(),
    });
    let config = SqsConfig {
        endpoint_url: Some(fake.url()),
        prefix: prefix.to_owned(),
        wait_secs: 0,
        static_credentials,
        ..SqsConfig::default()
    };
    Sqs::connect(config).await.unwrap()
}

async fn office(database: &TestDatabase, clock: &ManualClock, sqs: Sqs) -> Office {
    office_on(database.store_with(Clock::Manual(clock.clone())).await, sqs)
}

fn office_on(store: Store, sqs: Sqs) -> Office {
    let mut config: toml::Table = include_str!("../../../../config/scheduler.toml").parse().unwrap();
    config.remove("process");
    let config: SchedulerConfig = config.try_into().unwrap();
    let catalogue: toml::Table = CATALOGUE.parse().unwrap();
    Office {
        store,
        queue: Backend::Sqs(sqs),
        catalogue: Catalogue::new(catalogue.try_into().unwrap()).unwrap(),
        config,
        outbox_filled: Notify::new(),
        jobs_ready: scheduler::JobsReady::default(),
        desk: tokio::sync::Mutex::default(),
        nudges: scheduler::Nudges::default(),
        told: scheduler::Told::default(),
    }
}

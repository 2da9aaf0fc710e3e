//! A scheduler, servants and their queue as real processes on a database of their own, and what must hold at the
//! end of every test of them.

use domain::{Clock, JobId, JobState, Kind};
use fakes::sqs::{FakeSqs, Options};
use std::time::Duration;
use store::{Inserted, JobFilter, NewJob, Store};
use testkit::{Process, TestDatabase, eventually};

/// Longest wait for anything that takes seconds; several times what it should be, for slow machines.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// The processes' world.
pub(crate) struct Fleet {
    pub(crate) database: TestDatabase,
    pub(crate) store: Store,
    pub(crate) sqs: Option<FakeSqs>,
}

impl Fleet {
    /// Without a broker.
    pub(crate) async fn on_postgres() -> Self {
        testkit::build_binaries().unwrap();
        let database = testkit::database().await;
        let store = database.store_with(Clock::system()).await;
        Self { database, store, sqs: None }
    }

    /// On a simulated SQS.
    pub(crate) async fn on_sqs() -> Self {
        let sqs = FakeSqs::start(Options::default()).await.unwrap();
        Self { sqs: Some(sqs), ..Self::on_postgres().await }
    }

    pub(crate) async fn scheduler(&self) -> Process {
        self.start("scheduler", &[]).await
    }

    pub(crate) async fn servant(&self, concurrency: &str) -> Process {
        let silent = ("SERVANT_MANAGER__URL", "");
        self.start("noop", &[silent, ("SERVANT_WORK__CONCURRENCY", concurrency)]).await
    }

    async fn start(&self, program: &str, more: &[(&str, &str)]) -> Process {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
        let file = if program == "scheduler" { "scheduler" } else { "servant" };
        let (config, jobs) = (format!("{root}/config/{file}.toml"), format!("{root}/config/jobs.toml"));
        let url = self.sqs.as_ref().map(FakeSqs::url).unwrap_or_default();
        let mut environment = vec![
            ("DATABASE_URL", self.database.url()),
            ("SERVANT_JOBS_FILE", jobs.as_str()),
            ("SERVANT_QUEUE__BACKEND", if self.sqs.is_some() { "sqs" } else { "postgres" }),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
        ];
        if self.sqs.is_some() {
            environment.push(("SERVANT_SQS_ENDPOINT_URL", url.as_str()));
        }
        environment.extend_from_slice(more);
        Process::start(program, &["--config", &config], &environment).await
    }

    /// Inserts so many jobs that sleep for `sleep_ms`.
    pub(crate) async fn enqueue(&self, jobs: usize, sleep_ms: u64) -> Vec<JobId> {
        let kind = Kind::new("noop").unwrap();
        let payload = serde_json::json!({"sleep_ms": sleep_ms});
        let new: Vec<NewJob> = (0..jobs).map(|_| NewJob::new(kind.clone(), payload.clone())).collect();
        let inserted = self.store.insert_jobs(&new).await.unwrap();
        let ids = inserted.into_iter().map(|i| if let Inserted::New(id) = i { id } else { panic!("a duplicate") });
        ids.collect()
    }

    /// Jobs by state, by the counters.
    pub(crate) async fn count(&self, state: JobState) -> i64 {
        let counts = self.store.job_counts().await.unwrap_or_default();
        counts.iter().filter(|c| c.state == state).map(|c| c.jobs).sum()
    }

    pub(crate) async fn until(&self, state: JobState, jobs: i64) {
        eventually(LIMIT, &format!("{jobs} jobs {state}"), async || (self.count(state).await >= jobs).then_some(()))
            .await;
    }

    /// Every job succeeded, once, and the counters equal a recount.
    pub(crate) async fn assert_all_succeeded(&self, jobs: &[JobId]) {
        self.until(JobState::Succeeded, i64::try_from(jobs.len()).unwrap()).await;
        assert_eq!(self.store.count_drift().await.unwrap(), vec![]);
        for id in [jobs.first(), jobs.last()].into_iter().flatten() {
            let job = self.store.find_job(*id).await.unwrap().expect("a job was lost");
            assert_eq!(job.state, JobState::Succeeded);
        }
        let filter = JobFilter { states: JobState::ALL[..4].to_vec(), ..JobFilter::default() };
        assert!(self.store.list_jobs(&filter, 1).await.unwrap().is_empty(), "an unfinished job is left");
    }
}

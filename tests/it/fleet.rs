//! A scheduler, servants and their queue as real processes on a database of their own, and what must hold at the
//! end of every test of them.

use domain::{Clock, JobId, JobState, Kind};
use fakes::sqs::{FakeSqs, Options};
use serde_json::{Value, json};
use std::time::Duration;
use store::{Inserted, JobFilter, JobRow, NewJob, Store, StoreError};
use testkit::{Deployment, OwnServer, Process, TestDatabase, eventually};

/// Longest wait for anything that takes seconds; several times what it should be, for slow machines.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// Between a scheduler and its servants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Postgres,
    Sqs,
}

/// The processes' world.
pub(crate) struct Fleet {
    pub(crate) deployment: Deployment,
    pub(crate) store: Store,
    pub(crate) sqs: Option<FakeSqs>,
    /// A server of the fleet's own, for tests that restart it; else the database is one of many on a shared one.
    pub(crate) server: Option<OwnServer>,
    _database: Option<TestDatabase>,
}

impl Fleet {
    /// Without a broker.
    pub(crate) async fn on_postgres() -> Self {
        Self::on(Backend::Postgres).await
    }

    /// On a simulated SQS.
    pub(crate) async fn on_sqs() -> Self {
        Self::on(Backend::Sqs).await
    }

    pub(crate) async fn on(backend: Backend) -> Self {
        let database = testkit::database().await;
        Self::start(backend, database.url().to_owned(), Some(database), None).await
    }

    /// On a PostgreSQL of its own.
    pub(crate) async fn on_own_server(backend: Backend, max_connections: u32) -> Self {
        let server = OwnServer::start(max_connections).await.unwrap();
        Self::start(backend, server.url().to_owned(), None, Some(server)).await
    }

    async fn start(backend: Backend, url: String, database: Option<TestDatabase>, server: Option<OwnServer>) -> Self {
        let sqs = match backend {
            Backend::Postgres => None,
            Backend::Sqs => Some(FakeSqs::start(Options::default()).await.unwrap()),
        };
        let store = Store::connect(&url, 8, Clock::system()).await.unwrap();
        testkit::create_effects_tables(&url).await.unwrap();
        let deployment = Deployment::new(&url, sqs.as_ref().map(FakeSqs::url)).unwrap();
        Self { deployment, store, sqs, server, _database: database }
    }

    pub(crate) async fn scheduler(&self) -> Process {
        self.deployment.start("scheduler", &[]).await
    }

    /// A scheduler that sends again what nobody claimed for two seconds.
    pub(crate) async fn impatient_scheduler(&self) -> Process {
        self.deployment.start("scheduler", &[("SERVANT_DUTIES__UNCLAIMED_SECS", "2")]).await
    }

    /// A servant whose jobs do nothing.
    pub(crate) async fn servant(&self, concurrency: &str) -> Process {
        self.deployment.start("noop", &[("SERVANT_WORK__CONCURRENCY", concurrency)]).await
    }

    /// A servant whose jobs have effects.
    pub(crate) async fn effects(&self, concurrency: &str) -> Process {
        self.deployment.start("effects", &[("SERVANT_WORK__CONCURRENCY", concurrency)]).await
    }

    /// Inserts so many jobs that sleep for `sleep_ms`.
    pub(crate) async fn enqueue(&self, jobs: usize, sleep_ms: u64) -> Vec<JobId> {
        let kind = Kind::new("noop").unwrap();
        let new: Vec<NewJob> = (0..jobs).map(|_| NewJob::new(kind.clone(), json!({"sleep_ms": sleep_ms}))).collect();
        ids(self.store.insert_jobs(&new).await.unwrap())
    }

    /// Inserts one job with effects for each payload.
    pub(crate) async fn enqueue_effects(&self, payloads: &[Value]) -> Vec<JobId> {
        self.try_enqueue_effects(payloads, 10).await.unwrap()
    }

    /// The same while the ledger may be away.
    pub(crate) async fn try_enqueue_effects(
        &self,
        payloads: &[Value],
        attempts_max: u16,
    ) -> Result<Vec<JobId>, StoreError> {
        let kind = Kind::new("effects").unwrap();
        let new = |payload: &Value| NewJob { attempts_max, ..NewJob::new(kind.clone(), payload.clone()) };
        Ok(ids(self.store.insert_jobs(&payloads.iter().map(new).collect::<Vec<_>>()).await?))
    }

    /// The row of a job that must be there.
    pub(crate) async fn job(&self, id: JobId) -> JobRow {
        self.store.find_job(id).await.unwrap().expect("a job was lost")
    }

    /// Attempts that began, and the processes that they ran in.
    pub(crate) async fn tries(&self, id: JobId) -> Vec<(i16, i32)> {
        testkit::tries_of(&self.deployment.database_url, id).await.unwrap()
    }

    /// Waits until each job has begun so often.
    pub(crate) async fn until_tried(&self, jobs: &[JobId], times: usize) {
        eventually(LIMIT, &format!("{} jobs to begin {times} times", jobs.len()), async || {
            for id in jobs {
                if self.tries(*id).await.len() < times {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }

    /// Jobs by state, by the counters.
    pub(crate) async fn count(&self, state: JobState) -> i64 {
        let counts = self.store.exact_job_counts().await.unwrap_or_default();
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
            assert_eq!(self.job(*id).await.state, JobState::Succeeded);
        }
        let filter = JobFilter { states: JobState::ALL[..4].to_vec(), ..JobFilter::default() };
        assert!(self.store.list_jobs(&filter, 1).await.unwrap().is_empty(), "an unfinished job is left");
    }

    /// Waits until nothing is under way, and reads the whole ledger: nothing lost, nothing twice, nothing left over.
    pub(crate) async fn assert_sound(&self, committed: &[JobId]) {
        let url = &self.deployment.database_url;
        testkit::until_at_rest(url, LIMIT).await;
        let violations = testkit::audit(url, committed).await.unwrap();
        assert!(violations.is_empty(), "the ledger is not sound:\n  {}", violations.join("\n  "));
    }
}

fn ids(inserted: Vec<Inserted>) -> Vec<JobId> {
    inserted.into_iter().map(|i| if let Inserted::New(id) = i { id } else { panic!("a duplicate") }).collect()
}

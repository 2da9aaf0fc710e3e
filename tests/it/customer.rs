//! A customer with a simulated organisation, a scheduler, and servants of both kinds that bring its records, as real
//! processes. Owns what their tests have in common; says nothing of what must hold.

use crate::fleet::{Fleet, LIMIT};
use chrono::{TimeDelta, Utc};
use domain::{AccountId, Clock, ConnectionId, GroupId, JobId, JobState, Kind};
use fakes::salesforce::{Content, FakeSalesforce, Options};
use serde_json::json;
use std::io::Write as _;
use store::{GroupRow, Inserted, NewJob};
use testkit::{Process, assert_records_equal, eventually};

const KIND: &str = "salesforce_sync";
pub(crate) const PAGE_SIZE: usize = 50;
const RECORDS: u64 = 2_000;
const KEYS_FILE: &str = "master.keys";
/// Records on a page in bulk.
pub(crate) const BULK_PAGE: usize = 40;
/// Among generated records, most objects have more.
pub(crate) const IN_BULK: (&str, &str) = ("bulk_records_min = 10000", "bulk_records_min = 100");

/// A customer, an organisation, and what their servant needs to know.
pub(crate) struct World {
    pub(crate) fleet: Fleet,
    pub(crate) fake: FakeSalesforce,
    pub(crate) account: AccountId,
    pub(crate) connection: ConnectionId,
    jobs_file: tempfile::NamedTempFile,
    /// Where the master key is that seals sessions.
    keys: tempfile::TempDir,
    _secrets: tempfile::NamedTempFile,
    _scheduler: Process,
}

impl World {
    /// Of which everything is read by REST.
    pub(crate) async fn new(options: Options) -> Self {
        Self::with(options, &[]).await
    }

    /// Of which most is read in bulk.
    pub(crate) async fn in_bulk(options: Options) -> Self {
        Self::with(Options { bulk_page_records: BULK_PAGE, ..options }, &[IN_BULK]).await
    }

    /// With other words than the shipped ones in the catalogue of kinds.
    pub(crate) async fn with(options: Options, others: &[(&str, &str)]) -> Self {
        let secrets = "client_secret = \"fake-secret\"\nrefresh_token = \"fake-refresh\"\n";
        Self::signing_on(options, others, secrets, None).await
    }

    /// By these secrets of its application, and in this user's name where it is by the application's key.
    pub(crate) async fn signing_on(
        options: Options,
        others: &[(&str, &str)],
        application: &str,
        username: Option<&str>,
    ) -> Self {
        let fleet = Fleet::on_postgres().await;
        let content = match options.content {
            one @ Content::One { .. } => one,
            _ => Content::Generated { records: RECORDS, seed: 5 },
        };
        let fake = FakeSalesforce::start(Options { content, page_size: PAGE_SIZE, ..options }).await.unwrap();
        let mut secrets = tempfile::NamedTempFile::new().unwrap();
        write!(secrets, "[acme]\n{application}").unwrap();
        let mut jobs_file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        let shipped = include_str!("../../config/jobs.toml");
        let ours = [
            (".servant/secrets.toml", secrets.path().to_str().unwrap()),
            // Of each kind, whichever way it is written: the shipped waits add up to minutes.
            ("first_delay_ms = 2000, delay_max_ms = 900000", "first_delay_ms = 20, delay_max_ms = 200"),
            ("first_delay_ms = 2000\ndelay_max_ms = 900000", "first_delay_ms = 20\ndelay_max_ms = 200"),
            ("settle_secs = 5", "settle_secs = 0"),
        ];
        let ours = ours.iter().chain(others).fold(shipped.to_owned(), |ours, (shipped, other)| {
            assert!(ours.contains(shipped), "{shipped}");
            ours.replace(shipped, other)
        });
        jobs_file.write_all(ours.as_bytes()).unwrap();
        let account = fleet.store.create_account("Acme").await.unwrap();
        let mut settings = json!({"login_url": fake.url(), "client_id": "fake-client", "objects": fake.objects()});
        if let Some(username) = username {
            settings["username"] = json!(username);
        }
        let connection = fleet.store.create_connection(account, "salesforce", &settings, Some("acme")).await.unwrap();
        // What goes wrong here is a handful at once; that it stops a service's jobs is another test's.
        let lenient = [("SERVANT_BREAKER__FAILURES_MIN", "1000"), ("SERVANT_BREAKER__OUTCOMES_MAX", "2000")];
        let scheduler = fleet.deployment.start("scheduler", &lenient).await;
        let keys = tempfile::tempdir().unwrap();
        let sealing = vault::Config { keys_file: keys.path().join(KEYS_FILE), ..vault::Config::default() };
        vault::Vault::new(sealing, Clock::system()).generate_master().unwrap();
        Self { fleet, fake, account, connection, jobs_file, keys, _secrets: secrets, _scheduler: scheduler }
    }

    pub(crate) async fn servant(&self) -> Process {
        self.start(KIND).await
    }

    /// One that takes pages.
    pub(crate) async fn bulk_servant(&self) -> Process {
        self.start("salesforce_bulk").await
    }

    async fn start(&self, kind: &str) -> Process {
        let jobs_file = self.jobs_file.path().display().to_string();
        let keys_file = self.keys.path().join(KEYS_FILE).display().to_string();
        let ours = [
            ("SERVANT_JOBS_FILE", jobs_file.as_str()),
            ("SERVANT_SALESFORCE_HOSTS", "development"),
            ("SERVANT_VAULT__KEYS_FILE", &keys_file),
        ];
        self.fleet.deployment.start(kind, &ours).await
    }

    pub(crate) async fn enqueue(&self) -> JobId {
        let mut job = NewJob::new(Kind::new(KIND).unwrap(), json!({}));
        job.account = self.account;
        job.connection = Some(self.connection);
        match self.fleet.store.insert_jobs(&[job]).await.unwrap()[0] {
            Inserted::New(id) => id,
            Inserted::Duplicate(_) => panic!("a duplicate"),
        }
    }

    /// A job that the same servant takes later than those before it, and that fails at once: it names no connection.
    pub(crate) async fn elsewhere(&self) -> JobId {
        let job = NewJob::new(Kind::new(KIND).unwrap(), json!({}));
        match self.fleet.store.insert_jobs(&[job]).await.unwrap()[0] {
            Inserted::New(id) => id,
            Inserted::Duplicate(_) => panic!("a duplicate"),
        }
    }

    pub(crate) async fn until(&self, job: JobId, state: JobState) {
        eventually(LIMIT, &format!("the sync to be {state}"), async || {
            let row = self.fleet.store.find_job(job).await.ok()??;
            let is_finished = row.finished_at.is_some();
            assert!(row.state == state || !is_finished, "the sync is {}", row.state);
            (row.state == state).then_some(())
        })
        .await;
    }

    pub(crate) async fn until_pages(&self, pages: u64) {
        eventually(LIMIT, "pages to be sent", async || (self.fake.stats().pages >= pages).then_some(())).await;
    }

    /// So that a job may look whether an exhausted quota gives room again.
    pub(crate) async fn an_hour_passes_for_the_quota(&self) {
        let sql = sqlx::PgPool::connect(&self.fleet.deployment.database_url).await.unwrap();
        let back = "UPDATE vendor_budgets SET reported_at = reported_at - interval '1 hour'";
        sqlx::query(back).execute(&sql).await.unwrap();
    }

    pub(crate) async fn assert_equal(&self) {
        for object in self.fake.objects() {
            let truth = self.fake.truth(&object);
            assert_records_equal(&self.fleet.deployment.database_url, "salesforce", &object, &truth).await;
        }
        assert_eq!(self.fleet.store.count_drift().await.unwrap(), vec![]);
    }

    /// A sync to its end, and what belongs to it: the onboarding's group, if there is one.
    pub(crate) async fn onboard(&self) -> Option<GroupRow> {
        let job = self.enqueue().await;
        self.until(job, JobState::Succeeded).await;
        let row = self.fleet.store.find_job(job).await.unwrap().unwrap();
        match row.group_id {
            Some(group) => Some(self.until_ended(group).await),
            None => None,
        }
    }

    pub(crate) async fn until_ended(&self, group: GroupId) -> GroupRow {
        eventually(LIMIT, "the group to end", async || {
            let row = self.fleet.store.find_group(group).await.ok()??;
            row.state.is_ended().then_some(row)
        })
        .await
    }

    /// A sync that is not the first.
    pub(crate) async fn tick(&self) {
        let job = self.enqueue().await;
        self.until(job, JobState::Succeeded).await;
    }

    /// Answers by one number.
    pub(crate) async fn number(&self, statement: &'static str) -> i64 {
        let sql = sqlx::PgPool::connect(&self.fleet.deployment.database_url).await.unwrap();
        sqlx::query_scalar(statement).fetch_one(&sql).await.unwrap()
    }

    /// What was changed until now is older than the second that Salesforce's stamps are given in.
    pub(crate) async fn a_second_passes(&self) {
        let from = Utc::now();
        let is_over = async || (Utc::now() - from > TimeDelta::milliseconds(1_100)).then_some(());
        eventually(LIMIT, "a second to pass", is_over).await;
    }
}

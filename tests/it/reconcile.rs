//! The reconciling servant as real processes against a simulated Salesforce: killed in the middle, held by the fuse, let go by
//! an operator, and in the end equal to what is shown.

use crate::fleet::{Fleet, LIMIT};
use domain::{AccountId, AnomalyKind, AnomalyState, ConnectionId, JobId, JobState, Kind};
use fakes::salesforce::{Call, Content, FakeSalesforce, Fault, Mutation, Options, Order};
use serde_json::{Value, json};
use std::io::Write as _;
use store::{AnomalyFilter, Inserted, JobFilter, NewJob};
use testkit::{Process, eventually, stored_records};

const SYNC: &str = "salesforce_sync";
const RECONCILE: &str = "salesforce_reconcile";
const PAGE_SIZE: usize = 25;

/// A customer whose organisation has been read once.
struct World {
    fleet: Fleet,
    fake: FakeSalesforce,
    account: AccountId,
    connection: ConnectionId,
    jobs_file: tempfile::NamedTempFile,
    _secrets: tempfile::NamedTempFile,
    _scheduler: Process,
    _sync: Process,
}

impl World {
    async fn new() -> Self {
        let fleet = Fleet::on_postgres().await;
        let content = Content::Generated { records: 1_000, seed: 5 };
        let options = Options { content, page_size: PAGE_SIZE, bulk_page_records: 40, ..Options::default() };
        let fake = FakeSalesforce::start(options).await.unwrap();
        let mut secrets = tempfile::NamedTempFile::new().unwrap();
        write!(secrets, "[acme]\nclient_secret = \"fake-secret\"\nrefresh_token = \"fake-refresh\"\n").unwrap();
        let mut jobs_file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
        let ours = include_str!("../../config/jobs.toml")
            .replace(".servant/secrets.toml", secrets.path().to_str().unwrap())
            .replace("first_delay_ms = 2000, delay_max_ms = 900000", "first_delay_ms = 20, delay_max_ms = 200")
            .replace("settle_secs = 5", "settle_secs = 0")
            // The largest object is read in bulk, the others are not.
            .replace("rest_rows_max = 20000", "rest_rows_max = 200");
        jobs_file.write_all(ours.as_bytes()).unwrap();
        let account = fleet.store.create_account("Acme").await.unwrap();
        let settings = json!({"login_url": fake.url(), "client_id": "fake-client", "objects": fake.objects()});
        let connection = fleet.store.create_connection(account, "salesforce", &settings, Some("acme")).await.unwrap();
        let jobs = jobs_file.path().display().to_string();
        let scheduler = fleet.deployment.start("scheduler", &[("SERVANT_JOBS_FILE", &jobs)]).await;
        let environment = [("SERVANT_JOBS_FILE", jobs.as_str()), ("SERVANT_SALESFORCE_HOSTS", "development")];
        let sync = fleet.deployment.start(SYNC, &environment).await;
        let world =
            Self { fleet, fake, account, connection, jobs_file, _secrets: secrets, _scheduler: scheduler, _sync: sync };
        let first = world.enqueue(SYNC, json!({})).await;
        world.until_succeeded(first).await;
        world
    }

    async fn servant(&self) -> Process {
        let jobs = self.jobs_file.path().display().to_string();
        let environment = [("SERVANT_JOBS_FILE", jobs.as_str()), ("SERVANT_SALESFORCE_HOSTS", "development")];
        self.fleet.deployment.start(RECONCILE, &environment).await
    }

    async fn enqueue(&self, kind: &str, payload: Value) -> JobId {
        let mut job = NewJob::new(Kind::new(kind).unwrap(), payload);
        job.account = self.account;
        job.connection = Some(self.connection);
        match self.fleet.store.insert_jobs(&[job]).await.unwrap()[0] {
            Inserted::New(id) => id,
            Inserted::Duplicate(_) => panic!("a duplicate"),
        }
    }

    async fn until_succeeded(&self, job: JobId) {
        eventually(LIMIT, "the job to succeed", async || {
            let row = self.fleet.store.find_job(job).await.ok()??;
            assert!(row.state == JobState::Succeeded || row.finished_at.is_none(), "the job is {}", row.state);
            (row.state == JobState::Succeeded).then_some(())
        })
        .await;
    }

    /// Until every job of the kind has succeeded; answers with their number.
    async fn until_all_compared(&self) -> usize {
        let filter = JobFilter { kind: Some(Kind::new(RECONCILE).unwrap()), ..JobFilter::default() };
        eventually(LIMIT, "all objects to be compared", async || {
            let jobs = self.fleet.store.list_jobs(&filter, 100).await.ok()?;
            assert!(jobs.iter().all(|job| job.state != JobState::Failed));
            jobs.iter().all(|job| job.state == JobState::Succeeded).then_some(jobs.len())
        })
        .await
    }

    fn ids(&self, object: &str) -> Vec<String> {
        self.fake.truth(object).iter().map(|record| record["Id"].as_str().unwrap().to_owned()).collect()
    }

    async fn live(&self, object: &str) -> Vec<String> {
        let stored = stored_records(&self.fleet.deployment.database_url, "salesforce", object).await;
        stored.into_iter().filter(|(_, row)| row["is_deleted"] == false).map(|(id, _)| id).collect()
    }

    async fn anomaly(&self, kind: AnomalyKind) -> Option<AnomalyState> {
        let all = self.fleet.store.list_anomalies(&AnomalyFilter::default(), 100).await.unwrap();
        all.into_iter().find(|row| row.kind == kind.as_str()).map(|row| row.state)
    }
}

#[tokio::test]
async fn a_connection_is_compared_object_by_object_whoever_is_killed() {
    let world = World::new().await;
    for object in ["Contact", "Lead"] {
        let purge = world.ids(object)[..3].to_vec();
        world.fake.mutate(&Mutation { object: object.to_owned(), purge, ..Mutation::default() }).unwrap();
    }
    world.fake.order(Order { on: Some(Call::QueryNext), ms: 40, ..Order::new(Fault::SlowMs, 1_000) });
    let pages = world.fake.stats().pages;
    world.enqueue(RECONCILE, json!({})).await;
    let mut doomed = world.servant().await;
    eventually(LIMIT, "pages to be read", async || (world.fake.stats().pages >= pages + 8).then_some(())).await;
    doomed.kill();
    let _heir = world.servant().await;
    // And one that watches, if its hour has come.
    assert!(world.until_all_compared().await > world.fake.objects().len());
    for object in world.fake.objects() {
        assert_eq!(world.live(&object).await, world.ids(&object), "{object}");
    }
    assert_eq!(world.anomaly(AnomalyKind::CountsDiffer).await, None);
    assert_eq!(world.fleet.store.count_drift().await.unwrap(), vec![]);
}

#[tokio::test]
async fn held_deletes_are_let_go_by_an_operator_with_a_reason() {
    let world = World::new().await;
    let _servant = world.servant().await;
    let lose = world.ids("Account")[..30].to_vec();
    world.fake.mutate(&Mutation { object: "Account".to_owned(), lose, ..Mutation::default() }).unwrap();
    let held = world.enqueue(RECONCILE, json!({ "object": "Account" })).await;
    world.until_succeeded(held).await;
    assert_eq!(world.live("Account").await.len(), world.ids("Account").len() + 30);
    assert_eq!(world.anomaly(AnomalyKind::DeletesHeld).await, Some(AnomalyState::Open));

    let refused = world.enqueue(RECONCILE, json!({ "release_fuse": { "reason": "all of them" } })).await;
    eventually(LIMIT, "a release of everything to be refused", async || {
        let row = world.fleet.store.find_job(refused).await.ok()??;
        (row.state == JobState::Failed).then_some(())
    })
    .await;
    let released = json!({ "object": "Account", "release_fuse": { "reason": "they left that region" } });
    let released = world.enqueue(RECONCILE, released).await;
    world.until_succeeded(released).await;
    assert_eq!(world.live("Account").await, world.ids("Account"));
    assert_eq!(world.anomaly(AnomalyKind::DeletesHeld).await, Some(AnomalyState::Resolved));
    let watch = world.enqueue(RECONCILE, json!({ "task": "watch" })).await;
    world.until_succeeded(watch).await;
}

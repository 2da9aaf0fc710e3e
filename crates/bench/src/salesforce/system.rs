//! The system under measurement: a simulated Salesforce, a scheduler, one servant that plans and K that take pages, each a
//! process of its own as it is shipped.
//! Owns how a sync is set off and when it is over. Does not own what is compared with it.

use crate::{
    fleet::{ALLOCATOR, listening},
    measure::{cpu_secs, rss_mb},
};
use anyhow::Context as _;
use domain::{AccountId, ConnectionId, Kind};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use store::{NewJob, Store};
use tokio::process::{Child, Command};

/// The object that is read.
pub(super) const OBJECT: &str = "Bench__c";
/// Its table.
pub(super) const TABLE: &str = "salesforce.bench__c";
const PLANNER: &str = "salesforce_sync";
const TAKER: &str = "salesforce_bulk";
/// Longest start of everything, and longest sync.
const START_MAX: Duration = Duration::from_secs(60);
const SYNC_MAX: Duration = Duration::from_secs(3_600);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// So many changes of all records, each of one field of theirs, besides both stamps.
const FIELDS_CHANGED: u64 = 2;

/// Where built programs are.
pub(super) fn programs() -> anyhow::Result<PathBuf> {
    let programs = std::env::current_exe()?.parent().context("no directory")?.to_owned();
    for program in ["scheduler", PLANNER, TAKER, "fake_salesforce"] {
        anyhow::ensure!(
            programs.join(program).exists(),
            "{program} is not built: run `cargo build --release --workspace --bins` first"
        );
    }
    Ok(programs)
}

/// The simulated Salesforce.
pub(super) struct Vendor {
    _child: Child,
    url: String,
}

impl Vendor {
    pub(super) async fn start(options: &super::Options) -> anyhow::Result<Self> {
        let [records, columns, page_records] =
            [options.records, options.columns, options.page_records].map(|n| n.to_string());
        let per_s = options.vendor_records_per_s.map(|n| n.to_string());
        let mut arguments = vec![
            ["--object", OBJECT],
            ["--records", &records],
            ["--columns", &columns],
            ["--bulk-page-records", &page_records],
            ["--daily-limit", "10000000"],
        ];
        arguments.extend(per_s.iter().map(|n| ["--bulk-records-per-s", n]));
        let (child, url) = listening(&programs()?.join("fake_salesforce"), arguments.as_flattened()).await?;
        Ok(Self { _child: child, url })
    }

    /// Data calls so far.
    pub(super) async fn calls(&self) -> anyhow::Result<u64> {
        let stats: Value = reqwest::get(format!("{}/_stats", self.url)).await?.error_for_status()?.json().await?;
        stats["api_used"].as_u64().context("the simulated Salesforce does not count")
    }

    /// Changes every record.
    pub(super) async fn change_all(&self, records: usize) -> anyhow::Result<()> {
        for seed in 0..FIELDS_CHANGED {
            let order = json!({"fault": "equal_modstamps", "object": OBJECT, "seed": seed, "records": records});
            let address = format!("{}/_data_faults", self.url);
            reqwest::Client::new().post(address).json(&order).send().await?.error_for_status()?;
        }
        // Stamps are whole seconds, and what is as old as the window's end is not in it.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(())
    }
}

/// Everything on one ledger.
pub(super) struct System<'a> {
    pub(super) store: Store,
    sql: PgConnection,
    vendor: &'a Vendor,
    account: AccountId,
    connection: ConnectionId,
    takers: Vec<Child>,
    others: Vec<Child>,
}

/// What a sync was.
#[derive(Debug, Default)]
pub(super) struct Synced {
    /// From the order to the commit of the last page.
    pub(super) secs: f64,
    /// Rows that changed.
    pub(super) changed: usize,
    /// Data calls that it made.
    pub(super) api_calls: u64,
    /// Of the servant that had the most.
    pub(super) rss_mb_peak: f64,
    /// Of all servants that take pages.
    pub(super) cpu_secs: f64,
}

impl<'a> System<'a> {
    /// Starts it on a fresh database; `directory` is for its files.
    pub(super) async fn start(
        url: &str,
        directory: &Path,
        vendor: &'a Vendor,
        servants: usize,
    ) -> anyhow::Result<Self> {
        let store = Store::connect(url, 4, domain::Clock::system()).await?;
        store.migrate().await?;
        let secrets = directory.join("secrets.toml");
        let mut file = std::fs::File::create(&secrets)?;
        write!(file, "[bench]\nclient_secret = \"fake-secret\"\nrefresh_token = \"fake-refresh\"\n")?;
        let jobs = directory.join("jobs.toml");
        let shipped = std::fs::read_to_string("config/jobs.toml").context("config/jobs.toml")?;
        let quoted = secrets.to_str().context("the directory's name is no text")?;
        let ours = shipped.replace(".servant/secrets.toml", quoted).replace("settle_secs = 5", "settle_secs = 0");
        std::fs::write(&jobs, ours)?;
        let account = store.create_account("a customer").await?;
        let settings = json!({"login_url": vendor.url, "client_id": "fake-client", "objects": [OBJECT]});
        let connection = store.create_connection(account, "salesforce", &settings, Some("bench")).await?;
        let start = |program: &str, config: &str| spawn(program, config, url, &jobs);
        let others = vec![start("scheduler", "config/scheduler.toml")?, start(PLANNER, "config/servant.toml")?];
        let takers = (0..servants).map(|_| start(TAKER, "config/servant.toml")).collect::<anyhow::Result<Vec<_>>>()?;
        let sql = PgConnection::connect(url).await?;
        let mut system = Self { store, sql, vendor, account, connection, takers, others };
        system.wait_for(servants + 1).await?;
        Ok(system)
    }

    async fn wait_for(&mut self, servants: usize) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let running: i64 = sqlx::query_scalar("SELECT count(*) FROM servants WHERE state = 'running'")
                .fetch_one(&mut self.sql)
                .await?;
            if usize::try_from(running)? >= servants {
                return Ok(());
            }
            anyhow::ensure!(began.elapsed() < START_MAX, "{running} of {servants} servants have started");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// One sync, as if the object had never been read.
    pub(super) async fn sync(&mut self) -> anyhow::Result<Synced> {
        sqlx::query("UPDATE streams SET watermark = NULL, synced_at = NULL").execute(&mut self.sql).await?;
        let changes = "SELECT count(*) FROM record_changes";
        let before: i64 = sqlx::query_scalar(changes).fetch_one(&mut self.sql).await?;
        let calls = self.vendor.calls().await?;
        let cpu = self.cpu_secs();
        let mut job = NewJob::new(Kind::new(PLANNER)?, json!({}));
        (job.account, job.connection) = (self.account, Some(self.connection));
        let ordered_at = self.store.now();
        self.store.insert_jobs(&[job]).await?;
        let began = Instant::now();
        let synced_at = loop {
            let streams = self.store.list_streams(self.connection, None, 10).await?;
            if let Some(synced_at) = streams.first().and_then(|stream| stream.synced_at) {
                break synced_at;
            }
            let trouble: Option<String> =
                sqlx::query_scalar("SELECT error FROM attempts WHERE class <> 'rate_limited' LIMIT 1")
                    .fetch_optional(&mut self.sql)
                    .await?;
            anyhow::ensure!(trouble.is_none(), "a job failed: {}", trouble.unwrap_or_default());
            anyhow::ensure!(began.elapsed() < SYNC_MAX, "the sync does not end");
            tokio::time::sleep(LOOK_EVERY).await;
        };
        self.rest().await?;
        let after: i64 = sqlx::query_scalar(changes).fetch_one(&mut self.sql).await?;
        let peak = self.pids().filter_map(rss_mb).map(|(_, peak)| peak).fold(0.0, f64::max);
        Ok(Synced {
            secs: (synced_at - ordered_at).as_seconds_f64(),
            changed: usize::try_from(after - before)?,
            api_calls: self.vendor.calls().await? - calls,
            rss_mb_peak: peak,
            cpu_secs: self.cpu_secs() - cpu,
        })
    }

    /// Until no job is left, those that only clean up too: their calls count.
    async fn rest(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let left: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs").fetch_one(&mut self.sql).await?;
            if left == 0 {
                return Ok(());
            }
            anyhow::ensure!(began.elapsed() < START_MAX, "{left} jobs do not end");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn pids(&self) -> impl Iterator<Item = u32> {
        self.takers.iter().filter_map(Child::id)
    }

    fn cpu_secs(&self) -> f64 {
        self.pids().map(cpu_secs).sum()
    }

    /// Ends every process of it, so that what comes next has the machine to itself.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        for child in self.takers.iter_mut().chain(&mut self.others) {
            child.kill().await?;
        }
        self.store.close().await;
        Ok(())
    }
}

fn spawn(program: &str, config: &str, url: &str, jobs: &Path) -> anyhow::Result<Child> {
    let mut command = Command::new(programs()?.join(program));
    command.args(["--config", config]).envs(ALLOCATOR).env("DATABASE_URL", url).env("SERVANT_JOBS_FILE", jobs);
    command.env("SERVANT_QUEUE__BACKEND", "postgres").env("SERVANT_PROCESS__LOG_FILTER", "warn");
    command.env("SERVANT_SALESFORCE_HOSTS", "development").stdout(Stdio::null()).kill_on_drop(true);
    if program != "scheduler" {
        command.env("SERVANT_MANAGER__URL", "");
    }
    command.spawn().with_context(|| format!("{program} does not start"))
}

//! Servants that take pages: processes of this program, told to begin all at once.
//! Owns what one does with a page, which is what the sync does: receive it whole, write it in one transaction, commit.

use super::feed::{self, Feed, Version};
use crate::measure::{cpu_secs, rss_mb};
use anyhow::Context as _;
use clap::Args;
use domain::{AccountId, ConnectionId};
use serde_json::{Value, json};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};
use store::{PageOrigin, Store};
use sync::{PageWriter, Spool};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
};

/// Bytes that arrive at once.
const ARRIVING_BYTES: usize = 64 * 1024;

/// Which pages a servant takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[arg(long)]
    url: String,
    #[arg(long)]
    pages: PathBuf,
    #[arg(long)]
    columns: usize,
    #[arg(long)]
    later: bool,
    /// This page and every `step`th after it.
    #[arg(long)]
    first: usize,
    #[arg(long)]
    step: usize,
    #[arg(long)]
    account: i64,
    #[arg(long)]
    connection: i64,
}

/// Takes pages until there is none, once a line on standard input says so.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let store = Store::connect(&options.url, 2, domain::Clock::system()).await?;
    let writer = PageWriter::prepare(&store, feed::VENDOR, &feed::describe(options.columns)).await?;
    let (account, connection) = (AccountId(options.account), ConnectionId(options.connection));
    writeln!(std::io::stdout(), "ready")?;
    // Nothing else happens here until then.
    std::io::stdin().read_line(&mut String::new())?;
    let version = if options.later { Version::Later } else { Version::First };
    let (mut records, mut changed) = (0, 0);
    for page in (options.first..).step_by(options.step) {
        let path = feed::path(&options.pages, version, page);
        if !path.exists() {
            break;
        }
        let origin = PageOrigin { account, connection, read_at: store.now() };
        let page = receive(&path).await?;
        let mut tx = store.begin().await?;
        let written = writer.write_csv(&store, &mut tx, origin, page.finish().await?).await?;
        tx.commit().await?;
        records += written.records;
        changed += written.changed;
    }
    let pid = std::process::id();
    let rss_mb_peak = rss_mb(pid).map_or(0.0, |(_, peak)| peak);
    let done = json!({ "records": records, "changed": changed, "rss_mb_peak": rss_mb_peak, "cpu_secs": cpu_secs(pid) });
    writeln!(std::io::stdout(), "{done}")?;
    Ok(())
}

/// A page, whole, before its transaction begins. The one place that knows where pages come from.
async fn receive(path: &Path) -> anyhow::Result<Spool> {
    let (mut from, mut spool) = (tokio::fs::File::open(path).await?, Spool::new().await?);
    let mut bytes = vec![0; ARRIVING_BYTES];
    loop {
        match from.read(&mut bytes).await? {
            0 => return Ok(spool),
            read => spool.write(&bytes[..read]).await?,
        }
    }
}

/// Servants on one ledger.
pub(super) struct Servants<'a> {
    pub(super) url: &'a str,
    pub(super) feed: &'a Feed,
    pub(super) account: AccountId,
    pub(super) connection: ConnectionId,
    pub(super) count: usize,
}

/// What they did together.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) secs: f64,
    pub(super) records: usize,
    pub(super) changed: usize,
    /// Of the one that had the most.
    pub(super) rss_mb_peak: f64,
    pub(super) cpu_secs: f64,
}

impl Servants<'_> {
    /// Has them take every page of a version, from the moment that all are ready until the last has committed.
    pub(super) async fn work(&self, version: Version) -> anyhow::Result<Done> {
        let mut servants = Vec::new();
        for first in 0..self.count {
            let mut child = self.start(version, first)?;
            let mut lines = BufReader::new(child.stdout.take().context("a servant has no output")?).lines();
            let ready = lines.next_line().await?;
            anyhow::ensure!(ready.as_deref() == Some("ready"), "a servant did not get ready");
            servants.push((child, lines));
        }
        let began = Instant::now();
        for (child, _) in &mut servants {
            child.stdin.as_mut().context("a servant has no input")?.write_all(b"go\n").await?;
        }
        let mut done = Done::default();
        for (mut child, mut lines) in servants {
            let line = lines.next_line().await?.context("a servant ended without a word")?;
            let said: Value = serde_json::from_str(&line)?;
            let number = |name: &str| said[name].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
            done.records += number("records");
            done.changed += number("changed");
            done.cpu_secs += said["cpu_secs"].as_f64().unwrap_or(0.0);
            done.rss_mb_peak = done.rss_mb_peak.max(said["rss_mb_peak"].as_f64().unwrap_or(0.0));
            done.secs = began.elapsed().as_secs_f64();
            anyhow::ensure!(child.wait().await?.success(), "a servant failed");
        }
        Ok(done)
    }

    fn start(&self, version: Version, first: usize) -> anyhow::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("salesforce-servant").args(["--url", self.url]).arg("--pages").arg(self.feed.directory());
        if version == Version::Later {
            command.arg("--later");
        }
        for (name, value) in [
            ("--columns", self.feed.columns().to_string()),
            ("--first", first.to_string()),
            ("--step", self.count.to_string()),
            ("--account", self.account.to_string()),
            ("--connection", self.connection.to_string()),
        ] {
            command.args([name, &value]);
        }
        Ok(command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?)
    }
}

//! The manager at size: a ledger of millions of jobs, the real scheduler, servants and manager, a steady stream of new
//! jobs, and people who look at everything there is to see.
//!
//! Four things are measured, one after the other on the same ledger: the rows that the worst request reads (nobody else is
//! there), what open dashboards cost PostgreSQL, how long each page and list takes while all look and jobs run, and whether
//! the counters equal a recount at the end.
//!
//! What is not as in a deployment: of the seeded servants only the rows live, and the bench keeps them fresh as their
//! heartbeats would; the seeded jobs that wait belong to kinds that nobody serves, so that they go on waiting. Viewers
//! share the machine with what they look at.

mod load;
mod rows;
mod server;
mod viewers;

use crate::{
    fleet::{Fleet, Queue, Setup},
    measure::{percentile, rounded, to_f64, tree_cpu_secs},
};
use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use server::Manager;
use sqlx::{Connection as _, PgConnection};
use std::{
    io::Write as _,
    time::{Duration, Instant},
};
use testkit::{Read, Seed};
use viewers::{Timing, Viewers};

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Jobs in the ledger.
    #[arg(long, default_value_t = 10_000_000)]
    jobs: u32,
    /// Customers.
    #[arg(long, default_value_t = 20_000)]
    accounts: u32,
    /// Kinds of jobs.
    #[arg(long, default_value_t = 30)]
    kinds: u32,
    /// Servants.
    #[arg(long, default_value_t = 200)]
    servants: u32,
    /// People, each with an open overview that asks again every two seconds, and with another page that they click.
    #[arg(long, default_value_t = 50)]
    viewers: u32,
    /// Between two clicks of one of them, in milliseconds, on average.
    #[arg(long, default_value_t = 1_000)]
    think_ms: u64,
    /// Jobs that are inserted and run in a second meanwhile.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// How long all of them look, in seconds.
    #[arg(long, default_value_t = 180)]
    secs: u64,
    /// Through which queue.
    #[arg(long, value_enum, default_value_t = Queue::Postgres)]
    queue: Queue,
    /// Only the last line: the result as JSON, without the table of pages on stderr.
    #[arg(long)]
    json: bool,
}

/// Jobs at a time in the servant that runs what is inserted.
const SLOTS: u32 = 500;
/// How long jobs flow before anything is measured, and how long nobody looks.
const WARM_SECS: u64 = 10;
const ALONE_SECS: u64 = 10;
/// How long dashboards alone are looked at, in seconds.
const DASHBOARD_SECS: u64 = 20;
/// Different things that people look at.
const SAMPLES: i64 = 40;

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let kinds: Vec<String> = (1..options.kinds.max(3))
        .map(|n| if n == 1 { "salesforce_sync".to_owned() } else { format!("kind_{n:02}") })
        .collect();
    let setup = Setup { jobs: Some(catalogue(&kinds)), ..Setup::default() };
    let mut fleet = Fleet::prepare(options.queue, setup).await?;
    let seed = Seed {
        jobs: i64::from(options.jobs),
        accounts: i64::from(options.accounts),
        kinds,
        servants: i64::from(options.servants),
        now: fleet.store.now(),
    };
    let start = Instant::now();
    seed.fill(&fleet.database_url, |what| say(&format!("{:.0} s: {what}", start.elapsed().as_secs_f64()))).await?;
    let samples = samples(&seed, &fleet.database_url).await?;
    let mut sql = PgConnection::connect(&fleet.database_url).await?;

    let worst = rows::worst(&fleet, &mut sql, samples.first().context("no samples")?).await?;
    say(&format!("the worst request reads {} rows: {}", worst.rows, worst.address));

    fleet.start_scheduler(&[])?;
    fleet.start_servants(1, SLOTS)?;
    let manager = Manager::start(&fleet, None).await?;
    let load = load::Load::start(&fleet.store, &fleet.database_url, seed.servants, seed.accounts, options.rate);
    tokio::time::sleep(Duration::from_secs(WARM_SECS)).await;
    let dashboards = dashboards(&fleet, &manager, &mut sql, &options).await?;
    say(&format!("open dashboards: {:.3} % of the machine's processors", dashboards.of_machine_pct));

    let done = load.inserted();
    let viewers = Viewers::start(&manager.url, options.viewers, &samples, Duration::from_millis(options.think_ms))?;
    tokio::time::sleep(Duration::from_secs(options.secs)).await;
    let pages = viewers.stop().await?;
    let rate = to_f64(load.inserted() - done) / Duration::from_secs(options.secs).as_secs_f64();
    fleet.check_scheduler()?;
    let inserted = load.stop().await?;
    load::wait_until_done(&mut sql, inserted).await?;
    manager.stop().await?;
    let drift = fleet.store.count_drift().await?;
    for wrong in &drift {
        say(&format!("a counter is wrong: {wrong:?}"));
    }
    report(&options, &pages, &worst, &dashboards, rate, drift.len())?;
    drop(sql);
    fleet.stop().await
}

/// Nothing but kinds: no schedules, which would make jobs of their own.
fn catalogue(kinds: &[String]) -> String {
    let table = |kind: &str| {
        format!(
            "[{kind}]\nlabel = \"{kind}\"\nrun_secs_max = 60\nconcurrency = 8\n\
             retry = {{ attempts_max = 10, first_delay_ms = 1000, delay_max_ms = 900000 }}\n"
        )
    };
    kinds.iter().map(String::as_str).chain(["noop"]).map(table).collect::<Vec<_>>().join("\n")
}

/// Every address, of other things each time. By a session of its own, since what one reads is counted some time after.
async fn samples(seed: &Seed, database_url: &str) -> anyhow::Result<Vec<Vec<Read>>> {
    let mut sql = PgConnection::connect(database_url).await?;
    let mut samples = Vec::new();
    for n in 0..SAMPLES {
        let names = seed.names(&mut sql, n).await?;
        samples.push(testkit::reads(|name| names.get(name).cloned().unwrap_or_default()));
    }
    sql.close().await?;
    Ok(samples)
}

/// What open dashboards cost.
struct Dashboards {
    /// CPU time of the manager's sessions more than without anybody looking, of all that the machine has.
    of_machine_pct: f64,
    /// The same, of what PostgreSQL used in that time.
    of_postgres_pct: f64,
}

/// Looks at the CPU time of the manager's own sessions, so that what jobs cost meanwhile is not in it.
async fn dashboards(
    fleet: &Fleet,
    manager: &Manager,
    sql: &mut PgConnection,
    options: &Options,
) -> anyhow::Result<Dashboards> {
    let before = manager.sessions_cpu(sql).await?;
    tokio::time::sleep(Duration::from_secs(ALONE_SECS)).await;
    let alone = manager.sessions_cpu(sql).await?.since(&before) / Duration::from_secs(ALONE_SECS).as_secs_f64();
    let viewers = Viewers::start(&manager.url, options.viewers, &[], Duration::MAX)?;
    let postgres = fleet.postgres_pid().context("PostgreSQL has no pid")?;
    let (before, all_before, start) = (manager.sessions_cpu(sql).await?, tree_cpu_secs(postgres), Instant::now());
    tokio::time::sleep(Duration::from_secs(DASHBOARD_SECS)).await;
    let spent = manager.sessions_cpu(sql).await?.since(&before);
    let (all, secs) = (tree_cpu_secs(postgres) - all_before, start.elapsed().as_secs_f64());
    viewers.stop().await?;
    let cores = to_f64(std::thread::available_parallelism()?.get());
    let more = (spent / secs - alone).max(0.0);
    Ok(Dashboards { of_machine_pct: 100.0 * more / cores, of_postgres_pct: 100.0 * more * secs / all.max(0.001) })
}

fn report(
    options: &Options,
    pages: &[Timing],
    worst: &rows::Worst,
    dashboards: &Dashboards,
    rate: f64,
    drift: usize,
) -> anyhow::Result<()> {
    let mut all: Vec<f64> = pages.iter().flat_map(|page| page.millis.iter().copied()).collect();
    let mut table = Vec::new();
    for page in pages {
        let mut millis = page.millis.clone();
        let [p50, p95, p99] = [0.50, 0.95, 0.99].map(|share| rounded(percentile(&mut millis, share)));
        table.push((
            p95,
            json!({"page": page.page, "requests": millis.len(), "ms_p50": p50, "ms_p95": p95, "ms_p99": p99}),
        ));
    }
    table.sort_by(|a, b| b.0.total_cmp(&a.0));
    if !options.json {
        for (_, row) in &table {
            say(&row.to_string());
        }
    }
    let slowest = table.first().map(|(_, row)| row.clone()).unwrap_or_default();
    let pages: Vec<_> = table.into_iter().map(|(_, row)| row).collect();
    writeln!(std::io::stdout(), "{}", json!({"pages": pages}))?;
    let result = json!({
        "bench": "manager",
        "jobs": options.jobs,
        "accounts": options.accounts,
        "kinds": options.kinds,
        "servants": options.servants,
        "viewers": options.viewers,
        "queue": options.queue.as_str(),
        "jobs_per_s": rounded(rate),
        "requests": all.len(),
        "page_ms_p50": rounded(percentile(&mut all, 0.50)),
        "page_ms_p95": rounded(percentile(&mut all, 0.95)),
        "page_ms_p99": rounded(percentile(&mut all, 0.99)),
        "slowest_page": slowest["page"],
        "slowest_page_ms_p95": slowest["ms_p95"],
        "slowest_page_ms_p99": slowest["ms_p99"],
        "rows_read_max": worst.rows,
        "rows_read_max_page": worst.address,
        "db_cpu_pct": rounded(dashboards.of_machine_pct),
        "db_cpu_share_pct": rounded(dashboards.of_postgres_pct),
        "counters_wrong": drift,
    });
    writeln!(std::io::stdout(), "{result}")?;
    Ok(())
}

fn say(progress: &str) {
    // Nobody reading is no reason to stop measuring.
    let _ = writeln!(std::io::stderr(), "bench: {progress}");
}

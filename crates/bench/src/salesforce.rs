//! How fast a customer's records get from Salesforce into the ledger, end to end and durably by the page, next to psql's
//! COPY of the same rows into the same table in the same run. Everything is a process of its own, as it is shipped;
//! Salesforce is simulated, and takes its part of the machine.

mod baseline;
mod system;

use crate::measure::{rounded, to_f64};
use clap::{Args, ValueEnum};
use local_postgres::{Durability, LocalPostgres};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::{io::Write as _, time::Duration};
use system::{System, TABLE, Vendor};

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Records of the object.
    #[arg(long, default_value_t = 200_000)]
    records: usize,
    /// Fields of a record; about 25 of them make 1 KB.
    #[arg(long, default_value_t = 25)]
    columns: usize,
    /// Servants that take pages.
    #[arg(long, default_value_t = 1)]
    servants: usize,
    /// What of the records is stored already.
    #[arg(long, value_enum, default_value_t = Mode::First)]
    mode: Mode,
    /// Records of a page.
    #[arg(long, default_value_t = 50_000)]
    page_records: usize,
    /// Records that Salesforce gives in a second on one connection; as many as can be read, unless said. A servant reads
    /// two pages at a time, each on a connection.
    #[arg(long)]
    vendor_records_per_s: Option<u32>,
    /// How often both are measured; the median counts.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
}

/// What of the records is stored already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Nothing.
    First,
    /// All of them, as they are.
    Unchanged,
    /// All of them, each with four fields that were different.
    Changed,
}

impl Mode {
    const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
        }
    }
}

/// What one round gave.
struct Round {
    rows_per_s: f64,
    copy_rows_per_s: f64,
    copy_upsert_rows_per_s: f64,
    rss_mb_peak: f64,
    servant_cpu_secs: f64,
    dead_tuples: i64,
    api_calls: u64,
    bytes: u64,
}

/// Measures, and says what it found.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    anyhow::ensure!(
        options.records > 0 && options.page_records > 0 && options.servants > 0 && options.rounds > 0,
        "nothing to measure"
    );
    let directory = tempfile::Builder::new().prefix("servant-bench-").tempdir()?;
    let postgres = LocalPostgres::start(local_postgres::Options {
        data_dir: directory.path().join("data"),
        durability: Durability::Full,
        // What each servant may open, and the others.
        max_connections: 40 + 15 * u32::try_from(options.servants)?,
        shared_buffers_mb: 1024,
    })
    .await?;
    say(&format!("{} records of {} fields are made", options.records, options.columns));
    let vendor = Vendor::start(&options).await?;
    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        let name = format!("round_{round}");
        postgres.create_database(&name).await?;
        rounds.push(measure(&options, &vendor, &postgres.url(&name), directory.path()).await?);
        let mut sql = PgConnection::connect(&postgres.url("postgres")).await?;
        sqlx::query(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).execute(&mut sql).await?;
    }
    let median =
        |of: fn(&Round) -> f64| crate::measure::percentile(&mut rounds.iter().map(of).collect::<Vec<_>>(), 0.5);
    let bytes = median(|round| to_f64(usize::try_from(round.bytes).unwrap_or(0)));
    let (ours, theirs) = (median(|round| round.rows_per_s), median(|round| round.copy_upsert_rows_per_s));
    let result = json!({
        "bench": "salesforce",
        "source": "simulated Salesforce, Bulk API 2.0",
        "records": options.records,
        "columns": options.columns,
        "bytes_per_record": rounded(bytes / to_f64(options.records)),
        "servants": options.servants,
        "vendor_records_per_s": options.vendor_records_per_s,
        "mode": options.mode.as_str(),
        "rows_per_s": ours.round(),
        "copy_rows_per_s": median(|round| round.copy_rows_per_s).round(),
        "copy_upsert_rows_per_s": theirs.round(),
        "ratio": rounded(ours / theirs),
        "api_calls": rounds.iter().map(|round| round.api_calls).max(),
        "rss_mb_peak": rounded(rounds.iter().map(|round| round.rss_mb_peak).fold(0.0, f64::max)),
        "servant_cpu_secs": rounded(median(|round| round.servant_cpu_secs)),
        "dead_tuples": rounds.iter().map(|round| round.dead_tuples).max(),
    });
    writeln!(std::io::stdout(), "{result}")?;
    Ok(())
}

async fn measure(options: &Options, vendor: &Vendor, url: &str, directory: &std::path::Path) -> anyhow::Result<Round> {
    let mut system = System::start(url, directory, vendor, options.servants).await?;
    let mut sql = PgConnection::connect(url).await?;
    if options.mode != Mode::First {
        say("the records are stored first");
        system.sync().await?;
        if options.mode == Mode::Changed {
            vendor.change_all(options.records).await?;
        }
        settle(&mut sql).await?;
    }
    let before = dead_tuples(&mut sql).await?;
    say(&format!("{} servants take the pages", options.servants));
    let done = system.sync().await?;
    let expected = if options.mode == Mode::Unchanged { 0 } else { options.records };
    anyhow::ensure!(done.changed == expected, "{} rows changed, not {expected}", done.changed);
    system.stop().await?;
    let dead_tuples = dead_tuples(&mut sql).await? - before;
    let stored: i64 =
        sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {TABLE}"))).fetch_one(&mut sql).await?;
    anyhow::ensure!(usize::try_from(stored)? == options.records, "{stored} of {} records came", options.records);
    settle(&mut sql).await?;
    say("psql does the same");
    let psql = baseline::Psql { url, table: TABLE, directory };
    let baseline = psql.measure(&mut sql, options.mode != Mode::First).await?;
    let rate = |secs: f64| to_f64(options.records) / secs;
    Ok(Round {
        rows_per_s: rate(done.secs),
        copy_rows_per_s: rate(baseline.copy_secs),
        copy_upsert_rows_per_s: rate(baseline.copy_upsert_secs),
        rss_mb_peak: done.rss_mb_peak,
        servant_cpu_secs: done.cpu_secs,
        dead_tuples,
        api_calls: done.api_calls,
        bytes: baseline.bytes,
    })
}

/// What the statistics say of the table once they have come to rest; sessions tell them at their end.
async fn dead_tuples(sql: &mut PgConnection) -> anyhow::Result<i64> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let dead = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = to_regclass($1)";
    Ok(sqlx::query_scalar(dead).bind(TABLE).fetch_optional(sql).await?.unwrap_or(0))
}

/// Whatever was written before does not weigh on what is measured next.
async fn settle(sql: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::query("CHECKPOINT").execute(sql).await?;
    Ok(())
}

fn say(progress: &str) {
    // Nobody reading is no reason to stop measuring.
    let _ = writeln!(std::io::stderr(), "bench: {progress}");
}

//! How fast a customer's records get into the ledger, durably by the page, next to psql's COPY of the same rows into the
//! same table in the same run. Servants are processes of their own, so that their memory is what a servant's is.

mod baseline;
mod feed;
mod servant;

pub(crate) use servant::{Options as ServantOptions, run as run_servant};

use crate::measure::{rounded, to_f64};
use clap::{Args, ValueEnum};
use feed::{Feed, Version};
use local_postgres::{Durability, LocalPostgres};
use serde_json::json;
use servant::Servants;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use std::{io::Write as _, time::Duration};
use store::Store;

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

    const fn version(self) -> Version {
        if matches!(self, Self::Changed) { Version::Later } else { Version::First }
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
        max_connections: 40,
        shared_buffers_mb: 1024,
    })
    .await?;
    say(&format!("{} records of {} fields are made", options.records, options.columns));
    let feed = Feed::make(directory.path(), options.records, options.columns, options.page_records)?;
    let bytes = feed.write(Version::First)?;
    if options.mode.version() == Version::Later {
        feed.write(Version::Later)?;
    }
    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        let name = format!("round_{round}");
        postgres.create_database(&name).await?;
        rounds.push(measure(&options, &feed, &postgres.url(&name), directory.path()).await?);
        let mut sql = PgConnection::connect(&postgres.url("postgres")).await?;
        sqlx::query(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).execute(&mut sql).await?;
    }
    let median =
        |of: fn(&Round) -> f64| crate::measure::percentile(&mut rounds.iter().map(of).collect::<Vec<_>>(), 0.5);
    let (ours, theirs) = (median(|round| round.rows_per_s), median(|round| round.copy_upsert_rows_per_s));
    let result = json!({
        "bench": "salesforce",
        "source": "pages of CSV on disk",
        "records": options.records,
        "columns": feed.columns(),
        "bytes_per_record": rounded(to_f64(bytes) / to_f64(options.records)),
        "servants": options.servants,
        "mode": options.mode.as_str(),
        "rows_per_s": ours.round(),
        "copy_rows_per_s": median(|round| round.copy_rows_per_s).round(),
        "copy_upsert_rows_per_s": theirs.round(),
        "ratio": rounded(ours / theirs),
        "api_calls": feed.pages(),
        "rss_mb_peak": rounded(rounds.iter().map(|round| round.rss_mb_peak).fold(0.0, f64::max)),
        "servant_cpu_secs": rounded(median(|round| round.servant_cpu_secs)),
        "dead_tuples": rounds.iter().map(|round| round.dead_tuples).max(),
    });
    writeln!(std::io::stdout(), "{result}")?;
    Ok(())
}

async fn measure(options: &Options, feed: &Feed, url: &str, directory: &std::path::Path) -> anyhow::Result<Round> {
    let store = Store::connect(url, 2, domain::Clock::system()).await?;
    store.migrate().await?;
    let account = store.create_account("a customer").await?;
    let connection = store.create_connection(account, "salesforce", &json!({}), None).await?;
    let writer = sync::PageWriter::prepare(&store, feed::VENDOR, &feed.describe()).await?;
    let table = writer.table().name().to_owned();
    let mut sql = PgConnection::connect(url).await?;
    let servants = Servants { url, feed, account, connection, count: options.servants };
    if options.mode != Mode::First {
        say("the records are stored first");
        servants.work(Version::First).await?;
        settle(&mut sql).await?;
    }
    say(&format!("{} servants take {} pages", options.servants, feed.pages()));
    let done = servants.work(options.mode.version()).await?;
    anyhow::ensure!(done.records == options.records, "{} of {} records came", done.records, options.records);
    let expected = if options.mode == Mode::Unchanged { 0 } else { options.records };
    anyhow::ensure!(done.changed == expected, "{} rows changed, not {expected}", done.changed);
    let dead_tuples = dead_tuples(&mut sql, &table).await?;
    settle(&mut sql).await?;
    say("psql does the same");
    let psql = baseline::Psql { url, table: &table, directory };
    let baseline = psql.measure(&mut sql, options.mode != Mode::First).await?;
    let rate = |secs: f64| to_f64(options.records) / secs;
    Ok(Round {
        rows_per_s: rate(done.secs),
        copy_rows_per_s: rate(baseline.copy_secs),
        copy_upsert_rows_per_s: rate(baseline.copy_upsert_secs),
        rss_mb_peak: done.rss_mb_peak,
        servant_cpu_secs: done.cpu_secs,
        dead_tuples,
    })
}

/// What the statistics say once they have come to rest; sessions tell them at their end.
async fn dead_tuples(sql: &mut PgConnection, table: &str) -> anyhow::Result<i64> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let dead = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = $1::text::regclass";
    Ok(sqlx::query_scalar(dead).bind(table).fetch_one(sql).await?)
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

//! The scheduler's figures: what a million schedules cost, what fairness and limits cost, and how little an account with
//! a long backlog is felt by the others. Each part has a file and a fleet of its own, and can be run by itself.

mod due;
mod fairness;
mod limits;
mod load;
mod quiet;

use crate::fleet::Queue;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use std::io::Write as _;

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Schedules in the ledger.
    #[arg(long, default_value_t = 1_000_000)]
    schedules: u32,
    /// Accounts that have them; one schedule of each account is declared in the catalogue.
    #[arg(long, default_value_t = 100_000)]
    accounts: u32,
    /// Schedules that are due at one moment.
    #[arg(long, default_value_t = 10_000)]
    due: u32,
    /// Through which queue.
    #[arg(long, value_enum, default_value_t = Queue::Postgres)]
    queue: Queue,
    /// Which parts; all of them unless said.
    #[arg(long, value_enum, value_delimiter = ',')]
    parts: Vec<Part>,
    /// How often each comparison is made; the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Jobs of each drain that is compared.
    #[arg(long, default_value_t = 200_000)]
    jobs: usize,
    /// Jobs of one account that are to run at a time, at the most, where limits are measured.
    #[arg(long, default_value_t = 40)]
    limit: u32,
    /// Jobs of the account with the long backlog.
    #[arg(long, default_value_t = 1_000_000)]
    backlog: usize,
    /// How long the quiet accounts are listened to, with the backlog and without, in seconds: so long that one moment in
    /// which the disk stands still is less than one in a hundred.
    #[arg(long, default_value_t = 60)]
    quiet_secs: u32,
    /// Slots that all accounts share there.
    #[arg(long, default_value_t = 400)]
    quiet_slots: u32,
    /// What a job of the backlog takes on the average, in milliseconds. The less it is, the more of them end in a second, until
    /// it is the processors that everybody waits for (how busy they are is printed).
    #[arg(long, default_value_t = 1_000)]
    quiet_job_ms: u32,
}

/// A part of the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Fires that are due at once, and the idle tick.
    Due,
    /// The cost of fair shares.
    Fairness,
    /// The quiet accounts beside one with a backlog.
    Quiet,
    /// The cost of a limit that binds.
    Limits,
}

/// Measures part by part.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    anyhow::ensure!(options.due > 0 && options.accounts > 0 && options.rounds > 0, "nothing to measure");
    anyhow::ensure!(
        options.due.saturating_mul(options.rounds) <= options.schedules - options.accounts.min(options.schedules),
        "{} rounds of {} due schedules need more schedules besides the {} declared ones",
        options.rounds,
        options.due,
        options.accounts
    );
    let wanted = |part| options.parts.is_empty() || options.parts.contains(&part);
    let mut result = Map::from_iter([
        ("bench".to_owned(), json!("scheduler")),
        ("queue".to_owned(), json!(options.queue.as_str())),
        ("schedules".to_owned(), json!(options.schedules)),
        ("accounts".to_owned(), json!(options.accounts)),
        ("due".to_owned(), json!(options.due)),
    ]);
    if wanted(Part::Due) {
        note(&mut result, due::measure(&options).await?)?;
    }
    if wanted(Part::Fairness) {
        note(&mut result, fairness::measure(&options).await?)?;
    }
    if wanted(Part::Quiet) {
        note(&mut result, quiet::measure(&options).await?)?;
    }
    if wanted(Part::Limits) {
        note(&mut result, limits::measure(&options).await?)?;
    }
    writeln!(std::io::stdout(), "{}", Value::Object(result))?;
    Ok(())
}

/// A part's figures: a line of their own at once, and in the last line.
fn note(result: &mut Map<String, Value>, figures: Vec<(&'static str, f64)>) -> anyhow::Result<()> {
    let figures = figures.into_iter().map(|(name, value)| (name.to_owned(), json!(crate::measure::rounded(value))));
    let figures = Map::from_iter(figures);
    writeln!(std::io::stdout(), "{}", Value::Object(figures.clone()))?;
    result.extend(figures);
    Ok(())
}

fn say(progress: &str) {
    // Nobody reading is no reason to stop measuring.
    let _ = writeln!(std::io::stderr(), "bench: {progress}");
}

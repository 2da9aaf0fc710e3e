//! Measures the system as its users would: real binaries, a real PostgreSQL with full durability.
//! Progress goes to stderr and JSON lines to stdout; the last line is the result. Figures of one run compare with each
//! other, not with another day's.

mod bare_sdk;
mod chaos;
mod fleet;
mod jobs;
mod manager;
mod measure;
mod salesforce;
mod scheduler;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Measures Servant with its real programs and a PostgreSQL of its own. Build everything with --release first:
/// `cargo build --release --workspace --bins`. Progress goes to stderr, results to stdout as JSON lines.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Enqueue rate, drain rate and start latency of jobs that do nothing, and what each job costs.
    Jobs(jobs::Options),
    /// What a million schedules cost, and limits, and fairness: fires that are due at once, an idle tick, and the same
    /// jobs with and without.
    Scheduler(scheduler::Options),
    /// A customer's records from a simulated Salesforce into the ledger, page by page, next to psql's COPY of the same
    /// rows.
    Salesforce(salesforce::Options),
    /// How fast every page and list of the manager is on a ledger of millions of jobs, while people look and jobs run, and
    /// what that costs the database.
    Manager(manager::Options),
    /// Kills, stops and restarts everything under load, then reads the whole ledger; exit code 1 when it is not sound.
    Chaos(chaos::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from).and_then(
            |runtime| {
                runtime.block_on(async {
                    match arguments.bench {
                        Bench::Jobs(options) => jobs::run(options).await,
                        Bench::Scheduler(options) => scheduler::run(options).await,
                        Bench::Salesforce(options) => salesforce::run(options).await,
                        Bench::Manager(options) => manager::run(options).await,
                        Bench::Chaos(options) => chaos::run(options).await,
                    }
                })
            },
        );
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

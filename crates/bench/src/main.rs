//! Measures the system as its users would: real binaries, a real PostgreSQL with full durability.
//! Prints JSON lines; the last one is the result. Figures of one run compare with each other, not with another day's.

mod chaos;
mod fleet;
mod jobs;
mod measure;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Measures Servant. Build with --release.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Enqueue rate, drain rate and start latency of jobs that do nothing.
    Jobs(jobs::Options),
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

//! Owns the command line of the simulated SQS. Does not own the server, which tests also start in their own process.

use std::{io::Write, net::SocketAddr};

use anyhow::Context;
use clap::Parser;
use fakes::sqs::{Clock, FakeSqs, Fault, Faults, Options, Rule};
use tokio::signal::unix::{SignalKind, signal};

/// A simulated SQS in memory.
#[derive(Parser)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Seeds the dice of the faults.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A fault and its probability, as `duplicate=0.01`; may be given several times.
    #[arg(long, value_parser = fault)]
    fault: Vec<(Fault, Rule)>,
}

fn fault(text: &str) -> anyhow::Result<(Fault, Rule)> {
    let (name, probability) = text.split_once('=').context("write name=probability")?;
    let probability: f64 = probability.parse().context("the probability is not a number")?;
    anyhow::ensure!((0.0..=1.0).contains(&probability), "the probability is not between 0 and 1");
    Ok((name.parse()?, Rule::with_probability(probability)))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut terminated = signal(SignalKind::terminate())?;
    let faults = Faults::from_iter(arguments.fault);
    let options = Options { addr: arguments.listen, clock: Clock::Real, faults, seed: arguments.seed };
    let server = FakeSqs::start(options).await.context("the address cannot be bound")?;
    // The line that a parent process waits for.
    println!("listening on {}", server.url());
    std::io::stdout().flush()?;
    tokio::select! {
        _ = terminated.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    server.stop().await;
    Ok(())
}

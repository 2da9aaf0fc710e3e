//! What a limit that binds costs: the same jobs over a hundred accounts with a limit of each account and without. What
//! the accounts may run at a time together is more than there are slots, so that the limit takes no work away, and less
//! than would be dispatched without it, so that it binds.

use super::{
    Options,
    load::{catalogue, drain_rate, loss_pct, median},
    say,
};
use crate::fleet::{Fleet, Setup};
use std::time::{Duration, Instant};

/// How long a fleet runs before it is measured: for a second after limits were set everyone asks before each claim, which
/// is what setting them costs.
const WARM_UP: Duration = Duration::from_secs(2);
const ACCOUNTS: usize = 100;
const SLOTS: u32 = 2_000;

pub(super) async fn measure(options: &Options) -> anyhow::Result<Vec<(&'static str, f64)>> {
    let limits = format!("[limits]\neach_account = {{ concurrency = {} }}", options.limit);
    let limits = catalogue("", &limits)?;
    let with_limit = || Setup { jobs: Some(limits.clone()), ..Setup::default() };
    let mut losses = Vec::new();
    for round in 0..options.rounds {
        // In turn the one and the other goes first: what the machine does meanwhile is not to favour either.
        let (without, with) = if round % 2 == 0 {
            let without = rate(options, Setup::default()).await?;
            (without, rate(options, with_limit()).await?)
        } else {
            let with = rate(options, with_limit()).await?;
            (rate(options, Setup::default()).await?, with)
        };
        say(&format!("jobs a second: {without:.0} without a limit, {with:.0} with it"));
        losses.push(loss_pct(without, with));
    }
    Ok(vec![("limit_cost_pct", median(losses))])
}

/// Jobs a second of a fresh fleet that has warmed up.
async fn rate(options: &Options, setup: Setup<'_>) -> anyhow::Result<f64> {
    let mut fleet = Fleet::start_with(options.queue, setup).await?;
    let start = Instant::now();
    while start.elapsed() < WARM_UP {
        drain_rate(&mut fleet, options.jobs / 5, ACCOUNTS, SLOTS).await?;
    }
    let rate = drain_rate(&mut fleet, options.jobs, ACCOUNTS, SLOTS).await?;
    fleet.stop().await?;
    Ok(rate)
}

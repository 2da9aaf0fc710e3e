//! What fair shares cost: the same jobs over a hundred accounts and over one.

use super::{
    Options,
    load::{drain_rate, loss_pct, median},
    say,
};
use crate::fleet::Fleet;

const ACCOUNTS: usize = 100;
const SLOTS: u32 = 2_000;

pub(super) async fn measure(options: &Options) -> anyhow::Result<Vec<(&'static str, f64)>> {
    let mut fleet = Fleet::start(options.queue).await?;
    // Warms up what is the first of its sort in a fresh database.
    drain_rate(&mut fleet, options.jobs / 5, ACCOUNTS, SLOTS).await?;
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        one.push(drain_rate(&mut fleet, options.jobs, 1, SLOTS).await?);
        many.push(drain_rate(&mut fleet, options.jobs, ACCOUNTS, SLOTS).await?);
        say(&format!("jobs a second: {:.0?} of one account, {:.0?} of {ACCOUNTS}", one.last(), many.last()));
    }
    fleet.stop().await?;
    Ok(vec![("fairness_cost_pct", loss_pct(median(one), median(many)))])
}

//! One seeded run in which everything that can be killed, stopped or restarted is, under load, on real processes;
//! then the whole ledger is read. Owns the run and its verdict; what is done to the world is in `acts` and `outage`, the
//! load in `load`, what limits it in `rules`, and whether that held in `watch`. The seed fixes the order of acts and the jobs; how they meet is the machine's to say.

mod acts;
mod load;
mod outage;
mod rules;
mod watch;

use crate::fleet::Queue;
use acts::World;
use anyhow::bail;
use clap::Args;
use domain::JobState;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use rules::Rules;
use serde_json::{Value, json};
use std::{
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long, and which chaos.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Seconds of chaos; then everything is mended and comes to rest.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Fixes the acts and the jobs; drawn and printed when absent.
    #[arg(long)]
    seed: Option<u64>,
    /// The queue.
    #[arg(long, value_enum, default_value_t = Queue::Sqs)]
    queue: Queue,
}

/// Longest wait for the rest that must follow.
const REST_MAX: Duration = Duration::from_secs(300);
/// Between two looks at processes and acts.
const STEP: Duration = Duration::from_millis(100);
/// Waits between two acts, in milliseconds.
const ACT_EVERY_MS: std::ops::Range<u64> = 300..2_500;

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let seed = options.seed.unwrap_or_else(rand::random);
    let mut dice = StdRng::seed_from_u64(seed);
    say(&format!("chaos --seed {seed} --seconds {} --queue {}", options.seconds, options.queue.as_str()));
    let mut world = World::start(options.queue).await?;
    let rules = Arc::new(Rules::set(&world.store, world.url(), seed).await?);
    let watch = watch::start(world.url(), &rules);
    let load = load::start(world.store.clone(), rules, seed);
    let outage = outage::start(world.url(), options.seconds);

    let started = Instant::now();
    let (end, mut next_act) = (started + Duration::from_secs(options.seconds), started);
    while Instant::now() < end {
        world.mend_due(Instant::now()).await?;
        world.keep_posts().await;
        if Instant::now() >= next_act {
            let act = world.act(&mut dice).await?;
            say(&format!("{:>7.1} s  {act}", started.elapsed().as_secs_f64()));
            next_act = Instant::now() + Duration::from_millis(dice.random_range(ACT_EVERY_MS));
        }
        tokio::time::sleep(STEP).await;
    }
    let mut committed = load.stop().await?;
    committed.append(&mut world.committed);
    say(&format!("{:>7.1} s  all is mended; {} jobs were committed", started.elapsed().as_secs_f64(), committed.len()));

    outage.await?;
    world.mend_all().await?;
    let resting = Instant::now();
    while !testkit::until_at_rest(world.url(), Duration::from_secs(1)).await && resting.elapsed() < REST_MAX {
        world.keep_posts().await;
    }
    say(&format!("{:>7.1} s  at rest", started.elapsed().as_secs_f64()));
    let mut violations = testkit::audit(world.url(), &committed).await?;
    let (figures, broken) = watch::judge(world.url(), watch.stop().await?).await?;
    violations.extend(broken);
    let counts = world.counts().await?;
    let of = |state| counts.iter().filter(|count| count.state == state).map(|count| count.jobs).sum::<i64>();
    let mut verdict = json!({
        "bench": "chaos",
        "seed": seed,
        "seconds": options.seconds,
        "queue": options.queue.as_str(),
        "jobs": counts.iter().map(|count| count.jobs).sum::<i64>(),
        "succeeded": of(JobState::Succeeded),
        "failed": of(JobState::Failed),
        "cancelled": of(JobState::Cancelled),
        "acts": world.acts,
        "violations": violations,
    });
    if let (Some(verdict), Value::Object(figures)) = (verdict.as_object_mut(), figures) {
        verdict.extend(figures);
    }
    if !violations.is_empty() {
        world.show_last_words();
    }
    writeln!(std::io::stdout(), "{verdict}")?;
    if !violations.is_empty() {
        bail!("{} violations; run it again with --seed {seed}", violations.len());
    }
    Ok(())
}

/// To stderr: stdout is for results.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

//! Jobs over many accounts: put in before there is a servant, and drained; what the parts of the bench compare.

use crate::{
    fleet::Fleet,
    measure::{percentile, to_f64},
};
use anyhow::bail;
use chrono::{DateTime, Utc};
use domain::{AccountId, JobState, Kind};
use serde_json::Value;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use store::{NewJob, Store};

/// Jobs in one call of the bulk enqueue.
const BULK: usize = 1_000;
const BULKS_IN_FLIGHT: usize = 2;
const DRAIN_SECS_MAX: u64 = 900;
/// How often the ledger is asked: times are exact to this.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The catalogue with more in it: lines of `noop`'s table, and tables of their own.
pub(super) fn catalogue(of_noop: &str, tables: &str) -> anyhow::Result<String> {
    let shipped = std::fs::read_to_string("config/jobs.toml")?;
    let with = shipped.replacen("[noop]\n", &format!("[noop]\n{of_noop}\n"), 1);
    anyhow::ensure!(with != shipped, "config/jobs.toml has no [noop]");
    Ok(format!("{with}\n{tables}\n"))
}

/// Enqueues jobs of the accounts from `first` on in turn, in calls of [`BULK`].
pub(super) async fn enqueue(
    store: &Store,
    jobs: usize,
    first: i64,
    accounts: usize,
    payload: impl Fn(usize) -> Value + Copy + Send + 'static,
) -> anyhow::Result<()> {
    let kind = Kind::new("noop")?;
    let next = Arc::new(AtomicUsize::new(0));
    let mut lanes = tokio::task::JoinSet::new();
    for _ in 0..BULKS_IN_FLIGHT {
        let (store, next, kind) = (store.clone(), next.clone(), kind.clone());
        lanes.spawn(async move {
            loop {
                let from = next.fetch_add(BULK, SeqCst);
                if from >= jobs {
                    return anyhow::Ok(());
                }
                let new = |n: usize| {
                    let account = AccountId(first + i64::try_from(n % accounts)?);
                    Ok(NewJob { account, ..NewJob::new(kind.clone(), payload(n)) })
                };
                let batch: Vec<NewJob> = (from..jobs.min(from + BULK)).map(new).collect::<anyhow::Result<_>>()?;
                store.insert_jobs(&batch).await?;
            }
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    Ok(())
}

/// Jobs in one of these states.
pub(super) async fn count(store: &Store, states: &[JobState]) -> anyhow::Result<i64> {
    let counts = store.exact_job_counts().await?;
    Ok(counts.iter().filter(|count| states.contains(&count.state)).map(|count| count.jobs).sum())
}

/// Waits until so many jobs are in one of these states; answers with the moment.
pub(super) async fn wait_for(fleet: &mut Fleet, states: &[JobState], jobs: usize) -> anyhow::Result<DateTime<Utc>> {
    let (start, jobs) = (Instant::now(), i64::try_from(jobs)?);
    while start.elapsed() < Duration::from_secs(DRAIN_SECS_MAX) {
        if count(&fleet.store, states).await? >= jobs {
            return Ok(fleet.store.now());
        }
        fleet.check_scheduler()?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    bail!("the jobs were not {states:?} within {DRAIN_SECS_MAX} s")
}

/// Jobs a second of a drain by one servant with so many slots, from the moment at which it is let go to the
/// last commit. The jobs are there before.
pub(super) async fn drain_rate(fleet: &mut Fleet, jobs: usize, accounts: usize, slots: u32) -> anyhow::Result<f64> {
    let done = usize::try_from(count(&fleet.store, &[JobState::Succeeded]).await?)?;
    enqueue(&fleet.store, jobs, 1, accounts, |_| serde_json::json!({})).await?;
    let go_at = fleet.start_servants_together(1, slots).await?;
    let done_at = wait_for(fleet, &[JobState::Succeeded], done + jobs).await?;
    fleet.stop_servants().await?;
    Ok(to_f64(jobs) / (done_at - go_at).as_seconds_f64())
}

/// The middle one.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    percentile(&mut values, 0.5)
}

/// How much less the second is than the first, in percent of it.
pub(super) fn loss_pct(without: f64, with: f64) -> f64 {
    (1.0 - with / without) * 100.0
}

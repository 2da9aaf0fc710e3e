//! Owns what a run with `--exit-when-synced` says at its end.

use domain::JobState;
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};
use store::{JobRow, Store};

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long jobs besides the first sync may take to end, in looks.
const LOOKS_MAX: u32 = 150;

/// The one line on standard output.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    records: BTreeMap<String, i64>,
    jobs: BTreeMap<String, i64>,
    seconds: f64,
}

impl Summary {
    /// Reads it from the ledger once everything has come to rest.
    pub(crate) async fn read(store: &Store, first: &JobRow) -> anyhow::Result<Self> {
        let mut jobs = counts(store).await?;
        for _ in 0..LOOKS_MAX {
            let is_busy = ["ready", "queued", "running"].iter().any(|state| jobs.contains_key(*state));
            if !is_busy {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            jobs = counts(store).await?;
        }
        let took = first.finished_at.unwrap_or_else(|| store.now()) - first.created_at;
        let seconds = took.as_seconds_f64();
        Ok(Self { records: records(store, first).await?, jobs, seconds: (seconds * 1000.0).round() / 1000.0 })
    }

    /// Whether every job succeeded.
    pub(crate) fn is_success(&self) -> bool {
        self.jobs.keys().all(|state| state == JobState::Succeeded.as_str()) && !self.jobs.is_empty()
    }
}

async fn counts(store: &Store) -> anyhow::Result<BTreeMap<String, i64>> {
    let mut jobs = BTreeMap::new();
    for count in store.job_counts().await? {
        *jobs.entry(count.state.to_string()).or_default() += count.jobs;
    }
    Ok(jobs)
}

async fn records(_store: &Store, first: &JobRow) -> anyhow::Result<BTreeMap<String, i64>> {
    let checkpoint = first.checkpoint.clone().unwrap_or_default();
    Ok(checkpoint["records"]
        .as_object()
        .map(|objects| objects.iter().map(|(name, count)| (name.clone(), count.as_i64().unwrap_or(0))).collect())
        .unwrap_or_default())
}

//! Owns what a run with `--exit-when-synced` says at its end.

use crate::onboarding::Onboarded;
use anyhow::Context;
use domain::JobState;
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};
use store::Store;

/// The schema of the records.
const VENDOR: &str = "salesforce";

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
    pub(crate) async fn read(store: &Store, onboarded: &Onboarded) -> anyhow::Result<Self> {
        let mut jobs = counts(store).await?;
        for _ in 0..LOOKS_MAX {
            let is_busy = ["ready", "queued", "running"].iter().any(|state| jobs.contains_key(*state));
            if !is_busy {
                break;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            jobs = counts(store).await?;
        }
        let first = &onboarded.first;
        let ended = onboarded.group.as_ref().map(|group| group.state_since);
        let ended = ended.or(first.finished_at).unwrap_or_else(|| store.now());
        let seconds = (ended - first.created_at).as_seconds_f64();
        Ok(Self { records: records(store, onboarded).await?, jobs, seconds: (seconds * 1000.0).round() / 1000.0 })
    }

    /// Whether every job succeeded.
    pub(crate) fn is_success(&self) -> bool {
        self.jobs.keys().all(|state| state == JobState::Succeeded.as_str()) && !self.jobs.is_empty()
    }
}

async fn counts(store: &Store) -> anyhow::Result<BTreeMap<String, i64>> {
    let mut jobs = BTreeMap::new();
    for count in store.exact_job_counts().await? {
        *jobs.entry(count.state.to_string()).or_default() += count.jobs;
    }
    Ok(jobs)
}

/// What is stored of each object that was read to its end.
async fn records(store: &Store, onboarded: &Onboarded) -> anyhow::Result<BTreeMap<String, i64>> {
    let first = &onboarded.first;
    let connection = first.connection_id.context("the first sync names no connection")?;
    let mut records = BTreeMap::new();
    for stream in store.list_streams(connection, None, store::PAGE_ROWS_MAX).await? {
        if stream.synced_at.is_some() {
            let table = store.record_table(VENDOR, &stream.object, &[]).await?;
            records.insert(stream.object, store.count_records(&table, first.account_id).await?);
        }
    }
    Ok(records)
}

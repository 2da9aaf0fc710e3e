//! Brings a customer's Salesforce records up to date: every object of the connection, one window each, page by page.
//! Owns the order of objects. Does not own how the customer is reached and what an error means (`servants::salesforce`),
//! pages and mapping (`sync`), the vendor's wire (`salesforce`), nor SQL (`store`).

use anyhow::anyhow;
use chrono::TimeDelta;
use domain::ConnectionId;
use serde::{Deserialize, Serialize};
use servant_loop::{Done, JobContext, JobError, Servant, Setup};
use servants::salesforce::{Customers, job_error, note_usage};
use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};
use store::Store;
use sync::{FetchedPage, Pass, Source, SyncError, Written};

fn main() -> ExitCode {
    servant_loop::main::<SalesforceSync>()
}

/// How long a job waits when another one syncs the same connection, in seconds.
const BUSY_SECS: i64 = 30;

struct SalesforceSync {
    store: Store,
    customers: Customers,
    settle: TimeDelta,
    overlap: TimeDelta,
}

/// The connection says everything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Applications' client secrets and private keys, and refresh tokens that are not in the ledger, under the name that
    /// the connection gives.
    secrets_file: PathBuf,
    /// How old a change must be to be read, in seconds.
    settle_secs: u32,
    /// How far a window reaches back into the one before it, in seconds.
    overlap_secs: u32,
}

/// What the next attempt starts from. Where an object's window stands is in the window itself.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Checkpoint {
    /// Rows read of each object.
    records: BTreeMap<String, u64>,
    /// Objects that are up to date.
    done: Vec<String>,
    /// Rows of all first loads, as announced when the job began.
    total: Option<u64>,
}

impl Checkpoint {
    fn rows(&self) -> u64 {
        self.records.values().sum()
    }
}

impl Servant for SalesforceSync {
    const KIND: &'static str = env!("CARGO_BIN_NAME");
    type Payload = Payload;
    type Config = Config;

    async fn connect(config: Config, setup: &Setup) -> anyhow::Result<Self> {
        Ok(Self {
            store: setup.store.clone(),
            customers: Customers::new(config.secrets_file, setup)?,
            settle: TimeDelta::seconds(config.settle_secs.into()),
            overlap: TimeDelta::seconds(config.overlap_secs.into()),
        })
    }

    async fn run(&self, Payload {}: Payload, job: &JobContext) -> Result<Done, JobError> {
        let connection = self.customers.find(job).await?;
        let id = ConnectionId(connection.id);
        if !self.store.hold_connection(id, job.id()).await? {
            let until = job.clock().now() + TimeDelta::seconds(BUSY_SECS);
            return Err(JobError::rate_limited(anyhow!("another job syncs this connection"), Some(until)));
        }
        let customer = self.customers.open(&connection, job).await?;
        let source = Source {
            client: &customer.client,
            store: &self.store,
            account: job.account(),
            connection: id,
            settle: self.settle,
            overlap: self.overlap,
        };
        sync_all(source, &customer.settings.objects(), job).await
    }
}

/// Every object once; one that cannot be synced is flagged and does not stop the others.
async fn sync_all(source: Source<'_>, objects: &[String], job: &JobContext) -> Result<Done, JobError> {
    let mut checkpoint: Checkpoint =
        job.checkpoint().and_then(|saved| serde_json::from_value(saved.clone()).ok()).unwrap_or_default();
    if checkpoint.total.is_none() {
        let total = announced(source, objects).await;
        note_usage(source.client, job, &total);
        checkpoint.total = total.map_err(|error| job_error(error, job.clock().now()))?;
    }
    let mut flagged = 0_usize;
    for object in objects {
        if checkpoint.done.contains(object) {
            continue;
        }
        match sync_object(source, object, &mut checkpoint, job).await? {
            Ok(()) => checkpoint.done.push(object.clone()),
            Err(error) => {
                tracing::warn!(object, error = %error, "the object cannot be synced; the others go on");
                sync::drift::lost(source, object, &error).await.map_err(|error| job_error(error, job.clock().now()))?;
                flagged += 1;
            }
        }
    }
    let rows = checkpoint.rows();
    let message = match flagged {
        0 => "up to date".to_owned(),
        _ => format!("up to date, but {flagged} of {} objects need attention", objects.len()),
    };
    job.progress(rows, Some(rows), &message);
    tracing::info!(rows, flagged, calls = source.client.calls(), "the connection is up to date");
    let mut tx = job.begin().await?;
    tx.save_checkpoint(&to_json(&checkpoint)).await?;
    tx.finish().await
}

/// Rows of the objects that were never read, if there are any: what a person watching an onboarding waits for.
async fn announced(source: Source<'_>, objects: &[String]) -> Result<Option<u64>, SyncError> {
    let known = source.store.objects_read_once(source.connection, objects).await?;
    let mut total = None;
    for object in objects.iter().filter(|object| !known.contains(object)) {
        match source.count(object).await {
            Ok(rows) => total = Some(total.unwrap_or(0) + rows),
            // What is wrong with the object will be said when its turn comes.
            Err(error) if error.is_of_one_object() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

/// One object to the end of its window. The inner error is the object's own; the outer one ends the attempt.
async fn sync_object(
    source: Source<'_>,
    object: &str,
    checkpoint: &mut Checkpoint,
    job: &JobContext,
) -> Result<Result<(), SyncError>, JobError> {
    let fail = |error| job_error(error, job.clock().now());
    let begun = Pass::begin(source, object).await;
    note_usage(source.client, job, &begun);
    let mut pass = match begun {
        Ok(pass) => pass,
        Err(error) if error.is_of_one_object() => return Ok(Err(error)),
        Err(error) => return Err(fail(error)),
    };
    loop {
        if job.cancelled().is_cancelled() {
            return Err(JobError::interrupted());
        }
        let page = pass.next_page().await;
        note_usage(source.client, job, &page);
        let page = match page {
            Ok(page) => page,
            Err(error) if error.is_of_one_object() && pass.is_untouched() => return Ok(Err(error)),
            Err(error) => return Err(fail(error)),
        };
        let written = match write(&pass, &page, checkpoint, object, job).await {
            Ok(written) => written,
            Err(Stop::Object(error @ SyncError::Count { .. })) => {
                pass.restart().await.map_err(fail)?;
                return Err(fail(error));
            }
            Err(Stop::Object(error)) => return Err(fail(error)),
            Err(Stop::Job(error)) => return Err(error),
        };
        let is_last = written.is_last;
        pass.committed(written);
        let rows = checkpoint.rows();
        job.progress(rows, Some(checkpoint.total.unwrap_or_else(|| page.window_rows()).max(rows)), object);
        if is_last {
            return Ok(Ok(()));
        }
    }
}

enum Stop {
    Object(SyncError),
    Job(JobError),
}

/// A page's rows, its mark and the job's checkpoint, in one commit.
async fn write(
    pass: &Pass<'_>,
    page: &FetchedPage,
    checkpoint: &mut Checkpoint,
    object: &str,
    job: &JobContext,
) -> Result<Written, Stop> {
    let mut tx = job.begin().await.map_err(Stop::Job)?;
    let written = pass.write(tx.tx(), page).await.map_err(Stop::Object)?;
    checkpoint.records.insert(object.to_owned(), written.rows_seen());
    tx.commit_page(&to_json(checkpoint)).await.map_err(Stop::Job)?;
    Ok(written)
}

fn to_json(checkpoint: &Checkpoint) -> serde_json::Value {
    serde_json::to_value(checkpoint).unwrap_or_default()
}

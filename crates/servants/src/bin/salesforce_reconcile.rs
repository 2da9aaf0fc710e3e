//! Holds what is stored of a customer's Salesforce records against all that Salesforce shows: records that we lack are
//! fetched, formulas and new fields are brought up to date, and what is shown no more is marked deleted, unless that is too
//! much to be believed. Owns the order of steps and what a payload means. Does not own how an object is read and compared
//! (`sync`), how the customer is reached and what an error means (`servants::salesforce`), nor SQL (`store`).

use anyhow::anyhow;
use chrono::TimeDelta;
use domain::{ConnectionId, DeleteFuse, Kind};
use serde::{Deserialize, Serialize};
use servant_loop::{Done, JobContext, JobError, Servant, Setup};
use servants::salesforce::{Customers, Settings, job_error, note_usage};
use std::{path::PathBuf, process::ExitCode, time::Duration};
use store::{NewJob, Store, Unique};
use sync::{Asked, Begun, Release, Snapshot, SnapshotSettings, Source, Step, SyncError, is_id, watch};

fn main() -> ExitCode {
    servant_loop::main::<SalesforceReconcile>()
}

/// How long a job waits when another one reads the same object, in seconds.
const BUSY_SECS: i64 = 30;
/// How long a vendor's job is waited for within an attempt, in milliseconds, and for how long the next attempt waits, in
/// seconds: an attempt that waits keeps others from running.
const WAIT_MS_MAX: u64 = 20_000;
const WAIT_SECS: i64 = 30;
const LOOK_MS_FIRST: u64 = 100;
const LOOK_MS_MAX: u64 = 4_000;

struct SalesforceReconcile {
    store: Store,
    customers: Customers,
    settings: SnapshotSettings,
    settle: TimeDelta,
    overlap: TimeDelta,
}

/// Without anything: one job for each object of the connection.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    /// What is to be done; `reconcile` unless said.
    #[serde(default)]
    task: Task,
    /// The one object to be compared.
    object: Option<String>,
    /// Lets deletes go that the fuse holds back; goes with `object`.
    release_fuse: Option<ReleaseFuse>,
    /// Only these records, by their ids: each is asked for once more and written as it is now. Goes with `object`.
    #[serde(default)]
    records: Vec<String>,
}

#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Task {
    /// Compares records.
    #[default]
    Reconcile,
    /// Looks at what is out of the ordinary in the hours that are over. Asks Salesforce nothing.
    Watch,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseFuse {
    /// Why; it is kept with the anomaly.
    reason: String,
}

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
    /// Objects of more records are read in bulk.
    rest_rows_max: u64,
    /// Records of an object that may be marked deleted without a person, in per cent of them.
    delete_fuse_pct: u32,
    /// And at the most.
    delete_fuse_rows: u64,
}

/// What the next attempt knows of this one. How far it is, is with the reading itself.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Checkpoint {
    /// Rows read.
    rows: u64,
    /// Records that were missing or old, and were written whole.
    fetched: u64,
    /// Records of which some fields were written.
    patched: u64,
    /// Records marked deleted.
    deleted: u64,
}

impl Servant for SalesforceReconcile {
    const KIND: &'static str = env!("CARGO_BIN_NAME");
    type Payload = Payload;
    type Config = Config;

    async fn connect(config: Config, setup: &Setup) -> anyhow::Result<Self> {
        let fuse = DeleteFuse { pct_max: config.delete_fuse_pct, rows_max: config.delete_fuse_rows };
        Ok(Self {
            store: setup.store.clone(),
            customers: Customers::new(config.secrets_file, setup)?,
            settings: SnapshotSettings { rest_rows_max: config.rest_rows_max, fuse },
            settle: TimeDelta::seconds(config.settle_secs.into()),
            overlap: TimeDelta::seconds(config.overlap_secs.into()),
        })
    }

    async fn run(&self, payload: Payload, job: &JobContext) -> Result<Done, JobError> {
        let release = match payload.release_fuse {
            Some(release) if payload.object.is_none() || release.reason.trim().is_empty() => {
                return Err(JobError::permanent(anyhow!("release_fuse goes with an object, and with a reason")));
            }
            release => release.map(|release| Release { reason: release.reason }),
        };
        let records = payload.records;
        if !records.is_empty() && (payload.object.is_none() || release.is_some()) {
            return Err(JobError::permanent(anyhow!("records go with an object, and not with release_fuse")));
        }
        let connection = self.customers.find(job).await?;
        let id = ConnectionId(connection.id);
        match (payload.task, payload.object) {
            (Task::Watch, None) => {
                let looked = watch::look_at_all(&self.store, id).await.map_err(|e| job_error(e, job.clock().now()))?;
                job.progress(looked, Some(looked), "streams looked at");
                Ok(Done::without_effects())
            }
            (Task::Watch, Some(_)) => Err(JobError::permanent(anyhow!("watch looks at all objects of a connection"))),
            (Task::Reconcile, None) => {
                let settings: Settings = serde_json::from_value(connection.settings).map_err(JobError::permanent)?;
                plan(&settings.objects(), id, job).await
            }
            (Task::Reconcile, Some(object)) => {
                let customer = self.customers.open(&connection, job).await?;
                let source = Source {
                    client: &customer.client,
                    store: &self.store,
                    account: job.account(),
                    connection: id,
                    settle: self.settle,
                    overlap: self.overlap,
                };
                if !records.is_empty() {
                    return ask_again(source, &object, &records, job).await;
                }
                reconcile(source, &object, self.settings, release.as_ref(), job).await
            }
        }
    }
}

/// One job for each object, with this one's end: whichever servant is free takes it, and none waits for another.
async fn plan(objects: &[String], connection: ConnectionId, job: &JobContext) -> Result<Done, JobError> {
    let kind = Kind::new(SalesforceReconcile::KIND).map_err(JobError::permanent)?;
    let of = |object: &String| NewJob {
        account: job.account(),
        connection: Some(connection),
        group: job.group(),
        unique: Some(Unique { key: format!("{connection}/{object}"), for_secs: None }),
        request_id: job.request_id(),
        traceparent: job.traceparent().map(str::to_owned),
        ..NewJob::new(kind.clone(), serde_json::json!({ "object": object }))
    };
    let jobs: Vec<NewJob> = objects.iter().map(of).collect();
    let mut tx = job.begin().await?;
    tx.insert_jobs(&jobs).await?;
    tx.finish().await
}

/// Some records, as they are now.
async fn ask_again(source: Source<'_>, object: &str, records: &[String], job: &JobContext) -> Result<Done, JobError> {
    let fail = |error| job_error(error, job.clock().now());
    if let Some(wrong) = records.iter().find(|id| !is_id(id)) {
        return Err(JobError::permanent(anyhow!("'{wrong}' is no id that can be asked for")));
    }
    let asked = Asked::of(source, object, records).await;
    note_usage(source.client, job, &asked);
    let asked = asked.map_err(fail)?;
    let mut tx = job.begin().await?;
    let gone = asked.write(source, tx.tx()).await.map_err(fail)?;
    let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
    job.progress(count, Some(count), object);
    tracing::info!(object, records = count, gone, "records were asked for once more");
    tx.finish().await
}

/// One object, from its first page to the end of the comparison.
async fn reconcile(
    source: Source<'_>,
    object: &str,
    settings: SnapshotSettings,
    release: Option<&Release>,
    job: &JobContext,
) -> Result<Done, JobError> {
    let fail = |error| job_error(error, job.clock().now());
    let mut checkpoint: Checkpoint =
        job.checkpoint().and_then(|saved| serde_json::from_value(saved.clone()).ok()).unwrap_or_default();
    let begun = Snapshot::begin(source, object, job.id(), settings).await;
    note_usage(source.client, job, &begun);
    let mut snapshot = match begun {
        Ok(Begun::Snapshot(snapshot)) => *snapshot,
        Ok(Begun::Busy) => {
            let until = job.clock().now() + TimeDelta::seconds(BUSY_SECS);
            return Err(JobError::rate_limited(anyhow!("another job reads {object}"), Some(until)));
        }
        Ok(Begun::Unread) => {
            job.progress(0, Some(0), &format!("{object} has not been read once yet"));
            return Ok(Done::without_effects());
        }
        // Its anomaly says so, and its stream needs attention; the job has nothing to try again.
        Err(error) if error.is_of_one_object() => {
            tracing::warn!(object, error = %error, "the object cannot be compared");
            job.progress(0, Some(0), &format!("{object} cannot be compared: {error}"));
            return Ok(Done::without_effects());
        }
        Err(error) => return Err(fail(error)),
    };
    read(&mut snapshot, object, &mut checkpoint, job).await?;

    let absences = snapshot.absences().await.map_err(fail)?;
    let held = (release.is_none() && snapshot.is_held(&absences)).then_some(absences);
    if held.is_none() {
        delete(&snapshot, &mut checkpoint, job).await?;
    }
    let gone = snapshot.gone_from_quarantine().await.map_err(fail)?;
    let mut tx = job.begin().await?;
    snapshot.end_quarantine(tx.tx(), &gone).await.map_err(fail)?;
    tx.commit_page(&to_json(&checkpoint)).await?;
    let outcome = snapshot.outcome(held).await;
    note_usage(source.client, job, &outcome);
    let outcome = outcome.map_err(fail)?;
    let message = match &outcome.held {
        Some(absences) => format!("{object}: {} deletes are held", absences.absent),
        None => format!("{object} is as salesforce shows it"),
    };
    job.progress(checkpoint.rows, Some(checkpoint.rows), &message);
    tracing::info!(
        object,
        rows = checkpoint.rows,
        fetched = checkpoint.fetched,
        patched = checkpoint.patched,
        deleted = checkpoint.deleted,
        is_held = outcome.held.is_some(),
        calls = source.client.calls(),
        "the object was compared"
    );
    let mut tx = job.begin().await?;
    snapshot.finish(tx.tx(), &outcome, release).await.map_err(fail)?;
    tx.save_checkpoint(&to_json(&checkpoint)).await?;
    let done = tx.finish().await?;
    // Only now: before the end, the ids are what a second attempt would go by. What stays is cleared by the next reading.
    if let Err(error) = snapshot.clean_up().await {
        tracing::warn!(object, error = %error, "what the comparison left behind was not cleared away");
    }
    Ok(done)
}

/// Reads the object page by page, each one commit.
async fn read(
    snapshot: &mut Snapshot<'_>,
    object: &str,
    checkpoint: &mut Checkpoint,
    job: &JobContext,
) -> Result<(), JobError> {
    let fail = |error| job_error(error, job.clock().now());
    let (mut waited, mut pause) = (0, LOOK_MS_FIRST);
    loop {
        if job.cancelled().is_cancelled() {
            return Err(JobError::interrupted());
        }
        let step = snapshot.step().await;
        note_usage(snapshot.client(), job, &step);
        let page = match step.map_err(fail)? {
            Step::Read => return Ok(()),
            Step::Page(page) => page,
            Step::Wait if waited >= WAIT_MS_MAX => {
                let until = job.clock().now() + TimeDelta::seconds(WAIT_SECS);
                return Err(JobError::rate_limited(
                    anyhow!("salesforce prepares the records of {object}"),
                    Some(until),
                ));
            }
            Step::Wait => {
                tokio::select! {
                    () = job.cancelled().cancelled() => {}
                    () = tokio::time::sleep(Duration::from_millis(pause)) => {}
                }
                waited += pause;
                pause = (pause * 2).min(LOOK_MS_MAX);
                continue;
            }
        };
        let mut tx = job.begin().await?;
        let written = match snapshot.write(tx.tx(), page).await {
            Ok(written) => written,
            Err(error @ SyncError::Count { .. }) => {
                drop(tx);
                snapshot.give_up().await.map_err(fail)?;
                return Err(fail(error));
            }
            Err(error) => return Err(fail(error)),
        };
        checkpoint.fetched += written.fetched;
        checkpoint.patched += written.patched;
        checkpoint.rows = written.rows_seen();
        tx.commit_page(&to_json(checkpoint)).await?;
        snapshot.committed(written);
        job.progress(checkpoint.rows, snapshot.rows_expected(), object);
    }
}

/// Marks deleted what is gone, a stretch at a time, each one commit.
async fn delete(snapshot: &Snapshot<'_>, checkpoint: &mut Checkpoint, job: &JobContext) -> Result<(), JobError> {
    let fail = |error| job_error(error, job.clock().now());
    let mut after = String::new();
    loop {
        if job.cancelled().is_cancelled() {
            return Err(JobError::interrupted());
        }
        let gone = snapshot.next_gone(&after).await;
        note_usage(snapshot.client(), job, &gone);
        let Some(gone) = gone.map_err(fail)? else { return Ok(()) };
        after.clone_from(&gone.after);
        let mut tx = job.begin().await?;
        checkpoint.deleted += snapshot.write_gone(tx.tx(), gone).await.map_err(fail)?;
        tx.commit_page(&to_json(checkpoint)).await?;
    }
}

fn to_json(checkpoint: &Checkpoint) -> serde_json::Value {
    serde_json::to_value(checkpoint).unwrap_or_default()
}

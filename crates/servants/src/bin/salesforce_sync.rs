//! Brings a customer's Salesforce records up to date: finds out what there is to read, reads what is little by itself, page
//! by page, and has the rest read in bulk.
//! Owns the order of objects and who reads them. Does not own how the customer is reached and what an error means
//! (`servants::salesforce`), what a tick costs and means (`sync::probe`), pages and mapping (`sync`), nor SQL (`store`).

use anyhow::anyhow;
use chrono::{TimeDelta, Timelike};
use domain::{ConnectionId, ReachBack};
use salesforce::SalesforceError;
use serde::{Deserialize, Serialize};
use servant_loop::{Done, JobContext, JobError, Servant, Setup};
use servants::{
    bulk as bulk_jobs,
    salesforce::{Customers, job_error, note_usage},
};
use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};
use store::{NewGroup, Quiet, Store, StreamPlan, WindowKind};
use sync::{
    Deletions, FetchedPage, Pass, Source, SyncError, Written,
    probe::{self, Look, Looked},
};

fn main() -> ExitCode {
    servant_loop::main::<SalesforceSync>()
}

/// How long a job waits when another one syncs the same connection, in seconds.
const BUSY_SECS: i64 = 30;
/// Who makes onboardings.
const MADE_BY: &str = "salesforce_sync";

struct SalesforceSync {
    store: Store,
    customers: Customers,
    config: Config,
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
    /// How far a window reaches back into the one before it at least, in seconds.
    overlap_secs: u32,
    /// A window with so many records is read in bulk, unless the connection says otherwise.
    bulk_records_min: u64,
    /// How old what is known of deletions may be, in seconds, where asking for it costs a call.
    deletions_secs: u32,
}

/// What the next attempt starts from. Where an object's window stands is in the window itself.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Checkpoint {
    /// Rows read of each object.
    records: BTreeMap<String, u64>,
    /// Objects that are up to date, or are somebody else's to read.
    done: Vec<String>,
    /// Rows of all first loads that this job reads itself, as announced when it began.
    total: Option<u64>,
    /// Objects that need attention.
    flagged: usize,
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
        let customers = Customers::new(config.secrets_file.clone(), setup)?;
        Ok(Self { store: setup.store.clone(), customers, config })
    }

    async fn run(&self, Payload {}: Payload, job: &JobContext) -> Result<Done, JobError> {
        let connection = self.customers.find(job).await?;
        let id = ConnectionId(connection.id);
        if !self.store.hold_connection(id, job.id()).await? {
            let until = job.clock().now() + TimeDelta::seconds(BUSY_SECS);
            return Err(JobError::rate_limited(anyhow!("another job syncs this connection"), Some(until)));
        }
        let customer = self.customers.open(&connection, job).await?;
        let calls = customer.client.calls();
        let source = Source {
            client: &customer.client,
            store: &self.store,
            account: job.account(),
            connection: id,
            settle: TimeDelta::seconds(self.config.settle_secs.into()),
            overlap: TimeDelta::seconds(self.config.overlap_secs.into()),
        };
        let checkpoint = job.checkpoint().and_then(|saved| serde_json::from_value(saved.clone()).ok());
        let mut run = Run {
            source,
            bulk_records_min: customer.settings.bulk_records_min(self.config.bulk_records_min),
            deletions_age_max: TimeDelta::seconds(self.config.deletions_secs.into()),
            job,
            checkpoint: checkpoint.unwrap_or_default(),
            deletions: Deletions::default(),
        };
        let objects = customer.settings.objects();
        let little = run.plan(&objects).await?;
        for (object, in_bulk) in &little {
            run.read(object, *in_bulk).await?;
        }
        run.finish(objects.len(), calls).await
    }
}

/// One go over a connection.
struct Run<'a> {
    source: Source<'a>,
    /// A window with so many records is read in bulk.
    bulk_records_min: u64,
    /// How old what is known of deletions may be where asking for it costs a call.
    deletions_age_max: TimeDelta,
    job: &'a JobContext,
    checkpoint: Checkpoint,
    /// What was told of deletions, to be carried out once the windows are read.
    deletions: Deletions,
}

/// What planning found.
#[derive(Debug, Default)]
struct Found {
    /// To be read by this job, and whether they may go to bulk when they turn out large.
    little: Vec<(String, bool)>,
    /// To be read in bulk, with the records that are believed to be there.
    large: Vec<(String, u64)>,
    /// There are objects that nobody has tried to read before.
    is_first: bool,
    /// Rows of first loads among the little ones.
    first_rows: Option<u64>,
    /// Nothing happened in them.
    quiet: Vec<Quiet>,
}

impl Run<'_> {
    fn fail(&self, error: SyncError) -> JobError {
        job_error(error, self.job.clock().now())
    }

    fn noted<T>(&self, outcome: Result<T, SyncError>) -> Result<T, JobError> {
        note_usage(self.source.client, self.job, &outcome);
        outcome.map_err(|error| self.fail(error))
    }

    /// Decides who reads what, and makes it so in one commit; answers with what is left for this job to read.
    async fn plan(&mut self, objects: &[String]) -> Result<Vec<(String, bool)>, JobError> {
        let connection = self.source.connection;
        let known = self.source.store.stream_plans(connection, objects).await?;
        let mut plans: BTreeMap<String, StreamPlan> =
            known.into_iter().map(|plan| (plan.object.clone(), plan)).collect();
        let (mut found, mut fresh, mut settled) = (Found::default(), Vec::new(), Vec::new());
        for object in objects.iter().filter(|object| !self.checkpoint.done.contains(object)) {
            match plans.remove(object) {
                // Somebody reads it, or will: the next tick after that goes on.
                Some(StreamPlan { window: Some(WindowKind::Bulk), .. }) => {}
                Some(plan @ StreamPlan { window: Some(WindowKind::Rest), .. }) => {
                    found.little.push((object.clone(), !plan.is_rest_only));
                }
                Some(plan @ StreamPlan { watermark: Some(_), .. }) => settled.push(plan),
                plan => fresh.push((object.clone(), plan)),
            }
        }
        self.size(fresh, &mut found).await?;
        self.look(settled, &mut found).await?;
        self.carry_out(&mut found).await?;
        Ok(found.little)
    }

    /// Objects that were never read: how large they are decides.
    async fn size(&mut self, fresh: Vec<(String, Option<StreamPlan>)>, found: &mut Found) -> Result<(), JobError> {
        if fresh.is_empty() {
            return Ok(());
        }
        let objects: Vec<String> = fresh.iter().map(|(object, _)| object.clone()).collect();
        let sizes = self.noted(probe::sizes(self.source.client, &objects).await)?;
        for ((object, plan), size) in fresh.into_iter().zip(sizes) {
            let may_be_bulk = !plan.as_ref().is_some_and(|plan| plan.is_rest_only);
            found.is_first |= plan.is_none() && size.is_ok();
            match size {
                Ok(rows) if rows >= self.bulk_records_min && may_be_bulk => found.large.push((object, rows)),
                // What is wrong with an object that cannot be counted will be said when its turn comes.
                size => {
                    found.first_rows = Some(found.first_rows.unwrap_or(0) + size.unwrap_or(0));
                    found.little.push((object, may_be_bulk));
                }
            }
        }
        Ok(())
    }

    /// Objects that were read before: whether anything happened in them is known by a few calls for all of them.
    async fn look(&mut self, settled: Vec<StreamPlan>, found: &mut Found) -> Result<(), JobError> {
        if settled.is_empty() {
            return Ok(());
        }
        let now = self.job.clock().now();
        let until = (now - self.source.settle).with_nanosecond(0).unwrap_or(now);
        let base = self.source.overlap;
        let overlap = |plan: &StreamPlan| plan.overlap.unwrap_or(base).max(base);
        let looks: Vec<Look> = settled
            .iter()
            .map(|plan| {
                let watermark = plan.watermark.unwrap_or(until);
                let deletions = plan.deleted_until.unwrap_or(watermark);
                Look {
                    object: plan.object.clone(),
                    changed_from: watermark - overlap(plan),
                    deleted_from: deletions - overlap(plan),
                    deletions_are_due: now - deletions >= self.deletions_age_max,
                }
            })
            .collect();
        let looked = self.noted(probe::look(self.source.client, &looks, until).await)?;
        // By the vendor's clock, as these answers had it.
        let until = until.min(self.source.window_end());
        let mut to_read = BTreeMap::new();
        for (plan, Looked { object, changed, .. }) in settled.iter().zip(&looked) {
            match changed {
                Ok(changed) if changed.ids.is_empty() && changed.damaged.is_empty() => {
                    let overlap = ReachBack { current: overlap(plan), base }.after(None);
                    let until = until.min(changed.latest_covered);
                    found.quiet.push(Quiet { object: object.clone(), until, overlap });
                }
                Ok(changed) => {
                    to_read.insert(object.clone(), changed.ids.len() as u64);
                }
                // Not every object has that log, and not every span fits into it: then the window itself tells.
                Err(_) => {
                    to_read.insert(object.clone(), 0);
                }
            }
        }
        self.deletions = Deletions::of(self.source, looked, until).await.map_err(|error| self.fail(error))?;
        for object in self.deletions.news(self.source).await.map_err(|error| self.fail(error))? {
            found.quiet.retain(|quiet| quiet.object != object);
            to_read.entry(object).or_default();
        }
        for plan in settled {
            let Some(rows) = to_read.remove(&plan.object) else { continue };
            if rows >= self.bulk_records_min && !plan.is_rest_only {
                found.large.push((plan.object, rows));
            } else {
                found.little.push((plan.object, !plan.is_rest_only));
            }
        }
        Ok(())
    }

    /// What was found, in one commit: which watermarks move, and which windows are read in bulk. What is read for the first
    /// time belongs to one group, whoever reads it.
    async fn carry_out(&mut self, found: &mut Found) -> Result<(), JobError> {
        let Source { store, connection, .. } = self.source;
        let left = store.windows_left(connection).await?;
        let until = self.source.window_end();
        let mut tx = self.job.begin().await?;
        store.pass_quiet_streams(tx.tx(), connection, &found.quiet).await?;
        if found.is_first && tx.group().is_none() {
            let onboarding = NewGroup {
                name: format!("onboarding of connection {connection}"),
                account: self.source.account,
                finishing: None,
                request_id: self.job.request_id(),
            };
            tx.found_group(&onboarding, MADE_BY).await?;
        }
        for (object, rows) in &found.large {
            let opened = store.open_bulk_window_in(tx.tx(), connection, object, until, self.source.overlap).await?;
            if let Some(window) = opened {
                tracing::info!(object, rows, "the object is read in bulk");
                bulk_jobs::collect(store, &mut tx, self.job, window, *rows).await?;
            }
            self.checkpoint.done.push(object.clone());
        }
        for window in left {
            tracing::info!(object = window.object, "nobody works on a window; it is taken up again");
            let rows = u64::try_from(window.rows_left).unwrap_or(0);
            bulk_jobs::collect(store, &mut tx, self.job, (window.id, window.fence), rows).await?;
        }
        self.checkpoint.done.extend(found.quiet.iter().map(|quiet| quiet.object.clone()));
        self.checkpoint.total = self.checkpoint.total.or(found.first_rows);
        tx.commit_page(&self.saved()).await
    }

    fn saved(&self) -> serde_json::Value {
        serde_json::to_value(&self.checkpoint).unwrap_or_default()
    }

    /// One object; when it cannot be synced, it is flagged, and the others go on.
    async fn read(&mut self, object: &str, may_be_bulk: bool) -> Result<(), JobError> {
        match self.read_window(object, may_be_bulk).await? {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(object, error = %error, "the object cannot be synced; the others go on");
                let noted = sync::drift::lost(self.source, object, &error).await;
                noted.map_err(|error| self.fail(error))?;
                self.checkpoint.flagged += 1;
            }
        }
        self.checkpoint.done.push(object.to_owned());
        Ok(())
    }

    /// One object to the end of its window. The inner error is the object's own; the outer one ends the attempt.
    async fn read_window(&mut self, object: &str, may_be_bulk: bool) -> Result<Result<(), SyncError>, JobError> {
        let begun = Pass::begin(self.source, object).await;
        note_usage(self.source.client, self.job, &begun);
        let mut pass = match begun {
            Ok(pass) => pass,
            Err(SyncError::TooWide { .. }) if may_be_bulk => return self.leave_to_bulk(object, 0).await,
            Err(error) if error.is_of_one_object() => return Ok(Err(error)),
            Err(error) => return Err(self.fail(error)),
        };
        loop {
            if self.job.cancelled().is_cancelled() {
                return Err(JobError::interrupted());
            }
            let page = pass.next_page().await;
            note_usage(self.source.client, self.job, &page);
            let page = match page {
                Ok(page) => page,
                Err(error) if error.is_of_one_object() && pass.is_untouched() => return Ok(Err(error)),
                Err(error) if self.is_too_much(&error) => {
                    if may_be_bulk {
                        pass.restart().await.map_err(|error| self.fail(error))?;
                        return self.leave_to_bulk(object, 0).await;
                    }
                    let divided = pass.divide().await;
                    note_usage(self.source.client, self.job, &divided);
                    if divided.map_err(|error| self.fail(error))? {
                        continue;
                    }
                    return Err(self.fail(error));
                }
                Err(error) => return Err(self.fail(error)),
            };
            if may_be_bulk && pass.is_untouched() && page.window_rows() >= self.bulk_records_min {
                return self.leave_to_bulk(object, page.window_rows()).await;
            }
            let written = match self.write(&pass, &page, object).await {
                Ok(written) => written,
                Err(Stop::Object(error @ SyncError::Count { .. })) => {
                    pass.restart().await.map_err(|error| self.fail(error))?;
                    return Err(self.fail(error));
                }
                Err(Stop::Object(error)) => return Err(self.fail(error)),
                Err(Stop::Job(error)) => return Err(error),
            };
            let is_last = written.is_last;
            pass.committed(written).await.map_err(|error| self.fail(error))?;
            let rows = self.checkpoint.rows();
            let total = self.checkpoint.total.unwrap_or_else(|| page.window_rows()).max(rows);
            self.job.progress(rows, Some(total), object);
            if is_last {
                return Ok(Ok(()));
            }
        }
    }

    /// Whether Salesforce cannot answer in time for so much at once: it may have been slow by chance, so that it is asked for
    /// the same once more first.
    fn is_too_much(&self, error: &SyncError) -> bool {
        matches!(error, SyncError::Vendor(SalesforceError::QueryTimeout { .. })) && self.job.attempt() > 1
    }

    /// A window that turned out to be too much for this job, or too wide for an address.
    async fn leave_to_bulk(&mut self, object: &str, rows: u64) -> Result<Result<(), SyncError>, JobError> {
        let Source { store, connection, .. } = self.source;
        let mut tx = self.job.begin().await?;
        if let Some(window) = store.read_in_bulk_in(tx.tx(), connection, object).await? {
            tracing::info!(object, rows, "the object is read in bulk");
            bulk_jobs::collect(store, &mut tx, self.job, window, rows).await?;
        }
        tx.commit_page(&self.saved()).await?;
        Ok(Ok(()))
    }

    /// A page's rows, its mark and the job's checkpoint, in one commit.
    async fn write(&mut self, pass: &Pass<'_>, page: &FetchedPage, object: &str) -> Result<Written, Stop> {
        let mut tx = self.job.begin().await.map_err(Stop::Job)?;
        let written = pass.write(tx.tx(), page).await.map_err(Stop::Object)?;
        self.checkpoint.records.insert(object.to_owned(), written.rows_seen());
        tx.commit_page(&self.saved()).await.map_err(Stop::Job)?;
        Ok(written)
    }

    async fn finish(self, objects: usize, calls_before: u64) -> Result<Done, JobError> {
        let (rows, flagged) = (self.checkpoint.rows(), self.checkpoint.flagged);
        let message = match flagged {
            0 => "up to date".to_owned(),
            _ => format!("up to date, but {flagged} of {objects} objects need attention"),
        };
        self.job.progress(rows, Some(rows), &message);
        let calls = self.source.client.calls() - calls_before;
        tracing::info!(rows, flagged, calls, "the connection is up to date");
        let mut tx = self.job.begin().await?;
        let applied = self.deletions.apply(self.source, tx.tx()).await;
        applied.map_err(|error| self.fail(error))?;
        tx.save_checkpoint(&self.saved()).await?;
        tx.finish().await
    }
}

enum Stop {
    Object(SyncError),
    Job(JobError),
}

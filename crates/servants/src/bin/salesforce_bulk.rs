//! Reads windows in bulk, whatever servant has room: one job waits until Salesforce has collected a window, one takes each
//! page of it, and the one with the last page ends it.
//! Owns what becomes of a window that cannot be read. Does not own which windows are read like this (`salesforce_sync`),
//! pages and mapping (`sync`), nor the window's rows (`store`).

use anyhow::anyhow;
use chrono::{DateTime, TimeDelta, Utc};
use salesforce::{BulkJob, SalesforceError};
use serde::Deserialize;
use serde_json::json;
use servant_loop::{Done, JobContext, JobError, JobTx, Servant, Setup};
use servants::{
    bulk::{self as jobs, Step, ids, somebody_elses},
    salesforce::{Customer, Customers, job_error, note_usage},
};
use std::{path::PathBuf, process::ExitCode, time::Duration};
use store::{Again, BulkWindow, ExternalJob, Outcome, PageDone, PageOrigin, PageOutcome, PartEnd, Store};
use sync::{
    Source, SyncError,
    bulk::{self, Collected},
    cursor::{self, Reading},
};

fn main() -> ExitCode {
    servant_loop::main::<SalesforceBulk>()
}

/// The first pause between two looks at a job of Salesforce's; each further one is twice as long.
const LOOK_AFTER: Duration = Duration::from_millis(100);
/// A job of ours waits no longer than this for Salesforce; then it makes another, which is due later, and gives its slot
/// free.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// The first pause without a job that waits, in seconds; each further one is twice as long, up to the second.
const PAUSE_SECS: (i64, i64) = (15, 120);
/// Attempts at a page that Salesforce lists and does not give, before its window is collected anew.
const PAGE_ATTEMPTS_MAX: u16 = 4;

struct SalesforceBulk {
    store: Store,
    customers: Customers,
    config: Config,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// As that of `salesforce_sync`.
    secrets_file: PathBuf,
    /// How often a window begins again, with another job of Salesforce's, before its stream is flagged.
    begins_max: i32,
    /// When a window that was given up may begin again, in seconds.
    rest_secs: u32,
    /// How long Salesforce may collect a window before its job is given up, in seconds.
    collect_secs_max: u32,
}

impl Servant for SalesforceBulk {
    const KIND: &'static str = env!("CARGO_BIN_NAME");
    type Payload = Step;
    type Config = Config;

    async fn connect(config: Config, setup: &Setup) -> anyhow::Result<Self> {
        Ok(Self { store: setup.store.clone(), customers: Customers::new(config.secrets_file.clone(), setup)?, config })
    }

    async fn run(&self, step: Step, job: &JobContext) -> Result<Done, JobError> {
        let (id, fence) = match &step {
            Step::Collect { window, fence, .. } | Step::Page { window, fence, .. } => (*window, *fence),
            Step::Forget { job: id, api_version } => {
                let external = BulkJob { id: id.clone(), api_version: api_version.clone() };
                return jobs::forget(&self.customer(job).await?, &external, job).await;
            }
        };
        // One that has ended, or has begun again since this job was made, is somebody else's.
        let Some(window) = self.store.find_bulk_window(id, fence).await? else { return somebody_elses(job).await };
        if job.connection() != Some(window.connection) {
            return Err(JobError::permanent(anyhow!("the window is of connection {}", window.connection)));
        }
        let customer = self.customer(job).await?;
        let work =
            |rows| Work { store: &self.store, config: &self.config, customer: &customer, window: &window, rows, job };
        match step {
            Step::Collect { rows, waits, since, .. } => {
                work(rows).collect(waits, since.unwrap_or_else(|| job.clock().now())).await
            }
            Step::Page { seq, .. } => work(0).page(seq).await,
            Step::Forget { .. } => Ok(Done::without_effects()),
        }
    }
}

impl SalesforceBulk {
    async fn customer(&self, job: &JobContext) -> Result<Customer, JobError> {
        let connection = self.customers.find(job).await?;
        self.customers.open(&connection, job).await
    }
}

/// One job at one window.
struct Work<'a> {
    store: &'a Store,
    config: &'a Config,
    customer: &'a Customer,
    window: &'a BulkWindow,
    /// Records that are believed to be in it; 0 where only a page is taken.
    rows: u64,
    job: &'a JobContext,
}

impl Work<'_> {
    fn fail(&self, error: SyncError) -> JobError {
        job_error(error, self.job.clock().now())
    }

    /// What was asked of Salesforce, with what it said of the quota passed on.
    fn noted<T>(&self, outcome: Result<T, SyncError>) -> Result<T, SyncError> {
        note_usage(&self.customer.client, self.job, &outcome);
        outcome
    }

    async fn collect(&self, waits: u32, since: DateTime<Utc>) -> Result<Done, JobError> {
        if self.window.rows_expected.is_some() {
            return self.give_pages_again().await;
        }
        let external = match &self.window.external {
            Some(external) => external.clone(),
            None => match self.noted(bulk::ask(self.source(), self.window).await) {
                Ok(external) => {
                    let mut tx = self.job.begin().await?;
                    if self.store.note_external_in(tx.tx(), self.window, &external).await? == Outcome::Stale {
                        drop(tx);
                        return somebody_elses(self.job).await;
                    }
                    tx.commit_page(&json!({})).await?;
                    external
                }
                Err(error) => return self.cannot(error, None).await,
            },
        };
        let at_salesforce = bulk::bulk_job(&external);
        let (mut pause, mut waited) = (LOOK_AFTER, Duration::ZERO);
        loop {
            let is_cancelled = self.job.cancelled().run_until_cancelled(tokio::time::sleep(pause)).await.is_none();
            if is_cancelled {
                return Err(JobError::interrupted());
            }
            waited += pause;
            match self.noted(bulk::look(&self.customer.client, &at_salesforce).await) {
                Ok(Collected::NotYet) if waited < WAIT_MAX => {
                    pause = (pause * 2).min(WAIT_MAX - waited).max(LOOK_AFTER)
                }
                Ok(Collected::NotYet) => return self.wait_elsewhere(waits, since, &external).await,
                Ok(Collected::All { rows }) => return self.make_pages(&external, rows).await,
                Ok(Collected::Failed(error)) => return self.cannot(error.into(), Some(&external)).await,
                Err(error) => return self.cannot(error, Some(&external)).await,
            }
        }
    }

    fn source(&self) -> Source<'_> {
        Source {
            client: &self.customer.client,
            store: self.store,
            account: self.window.account,
            connection: self.window.connection,
            // The window is there already: where it begins and ends is decided.
            settle: TimeDelta::zero(),
            overlap: TimeDelta::zero(),
        }
    }

    /// Salesforce takes longer than a slot is kept for.
    async fn wait_elsewhere(&self, waits: u32, since: DateTime<Utc>, external: &ExternalJob) -> Result<Done, JobError> {
        let now = self.job.clock().now();
        if now - since > TimeDelta::seconds(self.config.collect_secs_max.into()) {
            let message = format!("salesforce has been collecting since {since}");
            return self.cannot(SalesforceError::QueryTimeout { message }.into(), Some(external)).await;
        }
        let pause = PAUSE_SECS.0.saturating_mul(1 << waits.min(10)).min(PAUSE_SECS.1);
        let (window, fence, rows) = (self.window.id, self.window.fence, self.rows);
        let next = Step::Collect { window, fence, rows, waits: waits.saturating_add(1), since: Some(since) };
        let mut next = next.job(self.job, rows)?;
        next.due_at = Some(now + TimeDelta::seconds(pause));
        self.job.progress(0, Some(0), "salesforce is still collecting");
        let mut tx = self.job.begin().await?;
        jobs::note(self.store, &mut tx, window, next).await?;
        tx.finish().await
    }

    async fn make_pages(&self, external: &ExternalJob, rows: u64) -> Result<Done, JobError> {
        let client = &self.customer.client;
        let listed = match self.noted(bulk::list(client, &bulk::bulk_job(external)).await) {
            Ok(listed) => listed,
            Err(error) => return self.cannot(error, Some(external)).await,
        };
        let expected = i64::try_from(rows).unwrap_or(i64::MAX);
        let mut tx = self.job.begin().await?;
        if rows == 0 {
            if self.store.add_pages_in(tx.tx(), self.window, 0, &[], true).await? == Outcome::Stale {
                drop(tx);
                return somebody_elses(self.job).await;
            }
            return self.end(tx, external).await;
        }
        let many = u64::try_from(listed.locators.len()).unwrap_or(1).max(1);
        let mut pages = Vec::new();
        for (at, _) in (0_u64..).zip(&listed.locators) {
            // How many are on each is said by the page itself; the sum is right already.
            let todo = if listed.are_all { (at + 1) * rows / many - at * rows / many } else { rows };
            pages.push(self.page_step(i32::try_from(at).unwrap_or(i32::MAX)).job(self.job, todo)?);
        }
        let ids = ids(tx.insert_jobs(&pages).await?);
        let rows_of = (0..).zip(listed.locators).zip(ids).map(|((seq, locator), job)| (seq, locator, job));
        let rows_of: Vec<_> = rows_of.collect();
        let noted = self.store.add_pages_in(tx.tx(), self.window, expected, &rows_of, listed.are_all).await?;
        if noted == Outcome::Stale {
            drop(tx);
            return somebody_elses(self.job).await;
        }
        tracing::info!(object = self.window.object, rows, pages = rows_of.len(), "a window is collected");
        self.job.progress(0, Some(0), "collected");
        tx.finish().await
    }

    fn page_step(&self, seq: i32) -> Step {
        Step::Page { window: self.window.id, fence: self.window.fence, seq }
    }

    /// The pages are known, and the jobs of some have ended without them.
    async fn give_pages_again(&self) -> Result<Done, JobError> {
        let left = self.store.pages_left(self.window).await?;
        let mut tx = self.job.begin().await?;
        let mut pages = Vec::with_capacity(left.len());
        for seq in &left {
            pages.push(self.page_step(*seq).job(self.job, 0)?);
        }
        let ids = ids(tx.insert_jobs(&pages).await?);
        let given: Vec<_> = left.into_iter().zip(ids).collect();
        self.store.give_pages_in(tx.tx(), self.window, &given).await?;
        tracing::info!(object = self.window.object, pages = given.len(), "pages that were left are taken again");
        tx.finish().await
    }

    async fn page(&self, seq: i32) -> Result<Done, JobError> {
        let page = self.store.find_page(self.window, seq).await?.filter(|page| !page.is_committed);
        let (Some(page), Some(external)) = (page, &self.window.external) else { return somebody_elses(self.job).await };
        let at_salesforce = bulk::bulk_job(external);
        let client = &self.customer.client;
        let received = match self.noted(bulk::receive(client, &at_salesforce, &page.locator).await) {
            Ok(received) => received,
            Err(error) if error.is_refusal() && self.job.attempt() < PAGE_ATTEMPTS_MAX => {
                let still_has = bulk::still_has(client, &at_salesforce, self.window, &page.locator).await;
                return match self.noted(still_has) {
                    Ok(true) => Err(JobError::transient(error)),
                    Ok(false) => self.cannot(error, Some(external)).await,
                    Err(unknown) => Err(self.fail(unknown)),
                };
            }
            Err(error) => return self.cannot(error, Some(external)).await,
        };
        let writer = match bulk::writer(self.store, self.window, &external.fields).await {
            Ok(writer) => writer,
            Err(error) => return self.cannot(error, Some(external)).await,
        };
        let origin = PageOrigin {
            account: self.window.account,
            connection: self.window.connection,
            // The window ends before its query began.
            read_at: self.window.hi,
        };
        let mut tx = self.job.begin().await?;
        let written = writer.write_csv(self.store, tx.tx(), origin, received.file).await;
        let written = written.map_err(|error| self.fail(error))?;
        if written.records != received.records {
            let reason = format!("{} records were announced, {} came", received.records, written.records);
            return Err(self.fail(SyncError::Page { object: self.window.object.clone(), reason }));
        }
        let is_chain = self.window.pages_expected.is_none();
        let done = PageDone {
            seq,
            rows: i64::try_from(written.records).unwrap_or(i64::MAX),
            bytes: i64::try_from(received.bytes).unwrap_or(i64::MAX),
            oldest_change: written.oldest_change,
            ends_chain: is_chain && received.next.is_none(),
        };
        self.job.progress(written.records, Some(written.records), &self.window.object);
        if let Some(next) = received.next.filter(|_| is_chain) {
            let added = self.add_to_chain(&mut tx, seq, next, written.records).await?;
            if added == Outcome::Stale {
                drop(tx);
                return somebody_elses(self.job).await;
            }
        }
        match self.store.commit_page_in(tx.tx(), self.window, &done).await? {
            // Somebody else's page, or a beginning that is over: nothing of this is kept.
            PageOutcome::Stale => {
                drop(tx);
                somebody_elses(self.job).await
            }
            PageOutcome::More => tx.finish().await,
            PageOutcome::Last { rows_expected, rows_seen } if rows_expected == rows_seen => {
                self.end(tx, external).await
            }
            PageOutcome::Last { rows_expected, rows_seen } => {
                let noted = bulk::note_difference(self.store, tx.tx(), self.window, rows_expected, rows_seen).await;
                noted.map_err(|error| self.fail(error))?;
                let reason = format!("salesforce announced {rows_expected} records and sent {rows_seen}");
                self.begin_again(tx, &reason, self.config.begins_max, Some(external)).await
            }
        }
    }

    /// A page that is not listed tells where the next one is; what is left after it is to do.
    async fn add_to_chain(
        &self,
        tx: &mut JobTx<'_>,
        seq: i32,
        next: String,
        records: u64,
    ) -> Result<Outcome, JobError> {
        let expected = self.window.rows_expected.unwrap_or(0);
        let left = u64::try_from(expected - self.window.rows_seen).unwrap_or(0).saturating_sub(records);
        let following = seq.saturating_add(1);
        let ids = ids(tx.insert_jobs(&[self.page_step(following).job(self.job, left)?]).await?);
        let pages: Vec<_> = ids.into_iter().map(|job| (following, next.clone(), job)).collect();
        Ok(self.store.add_pages_in(tx.tx(), self.window, expected, &pages, false).await?)
    }

    /// The window is read to its end.
    async fn end(&self, mut tx: JobTx<'_>, external: &ExternalJob) -> Result<Done, JobError> {
        let closed = bulk::close(self.source(), tx.tx(), self.window).await.map_err(|error| self.fail(error))?;
        let Some(closed) = closed else {
            drop(tx);
            return somebody_elses(self.job).await;
        };
        if let Some(rest) = &closed.rest {
            let rows = u64::try_from(rest.rows_left).unwrap_or(0);
            jobs::collect(self.store, &mut tx, self.job, (rest.id, rest.fence), rows).await?;
        }
        self.forget_later(&mut tx, Some(external)).await?;
        tracing::info!(object = self.window.object, is_all = closed.rest.is_none(), "a window is read to its end");
        tx.finish().await
    }

    async fn forget_later(&self, tx: &mut JobTx<'_>, external: Option<&ExternalJob>) -> Result<(), JobError> {
        if let Some(ExternalJob { id, api_version, .. }) = external {
            let forget = Step::Forget { job: id.clone(), api_version: api_version.clone() };
            tx.insert_jobs(&[forget.job(self.job, 0)?]).await?;
        }
        Ok(())
    }

    /// What follows when Salesforce does not give what was asked for.
    async fn cannot(&self, error: SyncError, external: Option<&ExternalJob>) -> Result<Done, JobError> {
        let begins_max = match &error {
            SyncError::Vendor(SalesforceError::NotInBulk { message }) => return self.read_by_rest(message).await,
            SyncError::Vendor(
                SalesforceError::CursorExpired
                | SalesforceError::QueryTimeout { .. }
                | SalesforceError::Rejected { .. },
            )
            | SyncError::Page { .. } => self.config.begins_max,
            // Asking again at once changes nothing.
            _ if error.is_of_one_object() => 1,
            _ => return Err(self.fail(error)),
        };
        let reason = domain::chain(&error);
        tracing::warn!(object = self.window.object, error = reason, "a window cannot be read in bulk");
        self.job.progress(0, Some(0), &reason);
        if let (SyncError::Vendor(SalesforceError::QueryTimeout { .. }), Some(external)) = (&error, external) {
            let end = self.noted(bulk::end_of_first_part(&self.customer.client, self.window, external).await);
            if let Some(end) = end.map_err(|error| self.fail(error))? {
                return self.narrow(&end, external).await;
            }
        }
        let mut tx = self.job.begin().await?;
        let of = (self.window.object.as_str(), Reading::Window);
        let noted = cursor::note_lost(self.source(), tx.tx(), of, &error, self.window.rows_seen).await;
        noted.map_err(|error| self.fail(error))?;
        self.begin_again(tx, &reason, begins_max, external).await
    }

    /// Half of the window by itself, and what is left when that is read: so much can be collected, or half of it again.
    async fn narrow(&self, end: &PartEnd, external: &ExternalJob) -> Result<Done, JobError> {
        let mut tx = self.job.begin().await?;
        let later = self.rows / 2;
        let rows_after = i64::try_from(later).unwrap_or(i64::MAX);
        let of = (self.window.id, self.window.fence);
        let Some(fence) = self.store.narrow_window_in(tx.tx(), of, end, rows_after).await? else {
            drop(tx);
            return somebody_elses(self.job).await;
        };
        tracing::info!(object = self.window.object, ?end, "a window is read in parts");
        jobs::collect(self.store, &mut tx, self.job, (self.window.id, fence), self.rows - later).await?;
        self.forget_later(&mut tx, Some(external)).await?;
        tx.finish().await
    }

    /// Another job of Salesforce's for the same window; after too many of them, a person has to look.
    async fn begin_again(
        &self,
        mut tx: JobTx<'_>,
        reason: &str,
        begins_max: i32,
        external: Option<&ExternalJob>,
    ) -> Result<Done, JobError> {
        let (window, object) = (self.window, self.window.object.as_str());
        let retry_at = self.job.clock().now() + TimeDelta::seconds(self.config.rest_secs.into());
        match self.store.begin_again_in(tx.tx(), window, begins_max, retry_at).await? {
            None => {
                drop(tx);
                return somebody_elses(self.job).await;
            }
            Some(Again::Begun { fence }) => {
                let rows = window.rows_expected.and_then(|rows| u64::try_from(rows).ok()).unwrap_or(self.rows);
                jobs::collect(self.store, &mut tx, self.job, (window.id, fence), rows).await?;
                self.forget_later(&mut tx, external).await?;
                tx.finish().await
            }
            Some(Again::GivenUp) => {
                self.store.flag_stream_in(tx.tx(), window.connection, object, reason).await?;
                self.forget_later(&mut tx, external).await?;
                tx.commit_page(&json!({})).await?;
                Err(JobError::permanent(anyhow!("{object} cannot be read in bulk: {reason}")))
            }
        }
    }

    /// The Bulk API does not have the object: it is read by REST from now on.
    async fn read_by_rest(&self, message: &str) -> Result<Done, JobError> {
        tracing::info!(object = self.window.object, message, "the object is read by rest from now on");
        let mut tx = self.job.begin().await?;
        if self.store.read_by_rest_in(tx.tx(), self.window).await? == Outcome::Stale {
            drop(tx);
            return somebody_elses(self.job).await;
        }
        tx.insert_jobs(&[jobs::by_rest(self.job, self.window.id, self.rows)?]).await?;
        self.job.progress(0, Some(0), "by rest");
        tx.finish().await
    }
}

//! Writes effects that can be counted, and misbehaves as its payload says: what crash tests and `bench chaos` run.
//! Owns the payload's shape; the tables it writes to, and what must hold of them, are `testkit`'s.

use chrono::DateTime;
use domain::Kind;
use serde_json::json;
use servant_loop::{Done, JobContext, JobError, JobTx, Servant, Setup};
use std::{process::ExitCode, time::Duration};
use store::{NewJob, Store};

fn main() -> ExitCode {
    servant_loop::main::<Effects>()
}

struct Effects {
    store: Store,
}

/// What one job does, in this order. The default writes one effect at once.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Payload {
    /// Attempts that fail before they write anything.
    transient_attempts: u16,
    /// Asks that service first, and fails while it is down.
    service: Option<String>,
    /// Calls the vendor of its connection first, which counts and answers with how much of the quota is used.
    quota: Option<Quota>,
    /// Panics, on each attempt.
    panic: bool,
    /// Holds its thread for ever, on each attempt.
    spin: bool,
    /// Goes on for that long whatever it is told, in milliseconds.
    deaf_ms: u64,
    /// Effects, each committed with a checkpoint, the last one with the completion.
    pages: u64,
    /// Work before each page, in milliseconds.
    page_ms: u64,
    /// How long each page's transaction stays open with the effect in it, in milliseconds.
    hold_ms: u64,
    /// Jobs inserted with the last page.
    children: usize,
    /// They join this job's group.
    children_join: bool,
    /// The job that inserted this one.
    parent: Option<i64>,
}

/// What a vendor lets a customer have.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Quota {
    /// Calls in a period.
    maximum: u64,
    /// The period, in seconds; the first one began in 1970.
    period_secs: i64,
}

impl Default for Payload {
    fn default() -> Self {
        Self {
            transient_attempts: 0,
            service: None,
            quota: None,
            panic: false,
            spin: false,
            deaf_ms: 0,
            pages: 1,
            page_ms: 0,
            hold_ms: 0,
            children: 0,
            children_join: false,
            parent: None,
        }
    }
}

/// It has no settings; an unknown one is refused.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

impl Servant for Effects {
    const KIND: &'static str = env!("CARGO_BIN_NAME");
    type Payload = Payload;
    type Config = Config;

    async fn connect(_: Config, setup: &Setup) -> anyhow::Result<Self> {
        Ok(Self { store: setup.store.clone() })
    }

    async fn run(&self, payload: Payload, job: &JobContext) -> Result<Done, JobError> {
        self.note_try(job).await?;
        if job.attempt() <= payload.transient_attempts {
            return Err(JobError::transient(anyhow::anyhow!("failed as ordered")));
        }
        if let Some(service) = &payload.service {
            self.ask(service).await?;
        }
        if let Some(quota) = &payload.quota {
            self.call(quota, job).await?;
        }
        assert!(!payload.panic, "panicked as ordered");
        if payload.spin {
            loop {
                std::hint::spin_loop();
            }
        }
        tokio::time::sleep(Duration::from_millis(payload.deaf_ms)).await;
        let first = job.checkpoint().and_then(|saved| saved["next_page"].as_u64()).unwrap_or(0);
        let last = payload.pages.saturating_sub(1);
        for page in first..last {
            work(job, payload.page_ms).await?;
            let tx = write(job, page, payload.hold_ms).await?;
            tx.commit_page(&json!({"next_page": page + 1})).await?;
            job.progress(page + 1, Some(payload.pages), "pages");
        }
        work(job, payload.page_ms).await?;
        let mut tx = write(job, last, payload.hold_ms).await?;
        let kind = Kind::new(Self::KIND).map_err(JobError::bug)?;
        let group = job.group().filter(|_| payload.children_join);
        let child = || NewJob { group, ..NewJob::new(kind.clone(), json!({"parent": job.id()})) };
        let children: Vec<NewJob> = std::iter::repeat_with(child).take(payload.children).collect();
        tx.insert_jobs(&children).await?;
        tx.finish().await
    }
}

impl Effects {
    /// In a transaction of its own, so that an attempt whose effects vanish is seen all the same.
    async fn note_try(&self, job: &JobContext) -> Result<(), JobError> {
        let mut tx = self.store.begin().await?;
        tx.execute(
            testkit::INSERT_TRY,
            &json!({"job_id": job.id(), "attempt": job.attempt(), "pid": std::process::id()}),
        )
        .await?;
        Ok(tx.commit().await?)
    }

    async fn ask(&self, service: &str) -> Result<(), JobError> {
        let mut tx = self.store.begin().await?;
        match tx.execute(testkit::IS_DOWN, &json!({"service": service})).await? {
            0 => Ok(()),
            _ => Err(JobError::transient(anyhow::anyhow!("{service} is down as ordered"))),
        }
    }

    /// Reports within the vendor's transaction: what is reported later counts more, as at a vendor.
    async fn call(&self, quota: &Quota, job: &JobContext) -> Result<(), JobError> {
        let connection = job.connection().map(|id| id.0);
        let now = job.clock().now();
        let since = now.timestamp() - now.timestamp().rem_euclid(quota.period_secs);
        let mut tx = self.store.begin().await?;
        tx.execute(testkit::INSERT_CALL, &json!({"connection_id": connection})).await?;
        let used = tx.execute(testkit::CALLS_SINCE, &json!({"connection_id": connection, "since": since})).await?;
        job.report_usage(used, quota.maximum, DateTime::from_timestamp(since + quota.period_secs, 0));
        Ok(tx.commit().await?)
    }
}

async fn write<'a>(job: &'a JobContext, page: u64, hold_ms: u64) -> Result<JobTx<'a>, JobError> {
    let mut tx = job.begin().await?;
    let row = json!({"job_id": job.id(), "page": page, "attempt": job.attempt(), "pid": std::process::id()});
    tx.execute(testkit::INSERT_EFFECT, &row).await?;
    // A job must not do this; one that is stopped here is what the tests are about.
    tokio::time::sleep(Duration::from_millis(hold_ms)).await;
    Ok(tx)
}

async fn work(job: &JobContext, millis: u64) -> Result<(), JobError> {
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(millis)) => Ok(()),
        () = job.cancelled().cancelled() => Err(JobError::interrupted()),
    }
}

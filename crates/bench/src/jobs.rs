//! Jobs that do nothing: how fast they get in, how fast they get done, how soon they start, and what each costs.

use crate::{
    bare_sdk,
    fleet::{Fleet, Queue},
    measure::{cpu_secs, percentile, rounded, rss_mb, to_f64, tree_cpu_secs},
};
use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use clap::Args;
use domain::{JobState, Kind};
use serde_json::json;
use sqlx::{Connection, PgConnection, Row};
use std::{
    io::Write,
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};
use store::{NewJob, Store};

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Jobs of the bulk enqueue and of the drain.
    #[arg(long, default_value_t = 50_000)]
    jobs: usize,
    /// Servant processes.
    #[arg(long, default_value_t = 1)]
    servants: usize,
    /// Through which queue.
    #[arg(long, value_enum, default_value_t = Queue::Postgres)]
    queue: Queue,
    /// Jobs a second while start latency is measured.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Jobs at a time in each servant; 0: as many as config/jobs.toml says.
    #[arg(long, default_value_t = 2_000)]
    concurrency: u32,
}

/// Jobs in one call of the bulk enqueue.
const BULK: usize = 1_000;
const BULKS_IN_FLIGHT: usize = 2;
const SINGLES: usize = 5_000;
const SINGLES_IN_FLIGHT: usize = 24;
const LATENCY_SECS: u32 = 20;
/// A servant that has started is left alone for so long before its memory is read.
const IDLE_SECS: u64 = 3;
const DRAIN_SECS_MAX: u64 = 600;
/// How often the ledger is asked whether all is done: the drain's time is exact to this.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The drain: what it took.
struct Drain {
    secs: f64,
    rss_mb_peak: f64,
    servant_cpu_secs: f64,
    postgres_cpu_secs: f64,
    sqs_requests: Option<f64>,
}

/// Measures, in this order: a servant's memory at rest; single enqueue without a servant, drained by one as the
/// warm-up; bulk enqueue without a servant; the drain; start latency of the fleet at rest; the bare SDK.
pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let kind = Kind::new("noop")?;
    let mut fleet = Fleet::start(options.queue).await?;
    let mut sql = PgConnection::connect(&fleet.database_url).await?;

    fleet.start_servants(1, options.concurrency)?;
    let rss_idle = idle_rss(&fleet).await?;
    fleet.stop_servants().await?;
    say(&format!("a servant at rest: {rss_idle:.1} MB"));

    let single_secs = enqueue_single(&fleet.store, &kind).await?;
    fleet.start_servants(1, options.concurrency)?;
    wait_done(&fleet.store, SINGLES).await?;
    fleet.stop_servants().await?;
    say(&format!("{SINGLES} jobs enqueued one by one: {single_secs:.2} s"));

    let wal_before = wal_bytes(&mut sql).await?;
    let bulk_secs = enqueue_bulk(&fleet.store, &kind, options.jobs).await?;
    say(&format!("{} jobs enqueued in bulk: {bulk_secs:.2} s", options.jobs));
    let drain = drain(&mut fleet, &options).await?;
    let wal_per_job = (wal_bytes(&mut sql).await? - wal_before) / to_f64(options.jobs);
    say(&format!("drained: {:.2} s", drain.secs));

    let mut starts = latency(&fleet.store, &mut sql, &kind, options.rate).await?;
    say(&format!("start latency: {} samples", starts.len()));
    let bare_sdk_per_s = match fleet.sqs_url() {
        Some(url) => Some(bare_sdk::messages_per_s(url, options.jobs).await?),
        None => None,
    };

    let jobs = to_f64(options.jobs);
    let mut result = json!({
        "bench": "jobs",
        "jobs": options.jobs,
        "servants": options.servants,
        "queue": options.queue.as_str(),
        "single_enqueue_per_s": rounded(to_f64(SINGLES) / single_secs),
        "bulk_enqueue_per_s": rounded(jobs / bulk_secs),
        "drain_per_s": rounded(jobs / drain.secs),
        "start_ms_p50": rounded(percentile(&mut starts, 0.50)),
        "start_ms_p95": rounded(percentile(&mut starts, 0.95)),
        "start_ms_p99": rounded(percentile(&mut starts, 0.99)),
        "rss_mb_idle": rounded(rss_idle),
        "rss_mb_peak": rounded(drain.rss_mb_peak),
        "cpu_s_per_1k_servant": rounded(drain.servant_cpu_secs * 1_000.0 / jobs),
        "cpu_s_per_1k_postgres": rounded(drain.postgres_cpu_secs * 1_000.0 / jobs),
        "wal_bytes_per_job": rounded(wal_per_job),
        // Without a queue there are no requests; of a server that does not count them, nothing is known.
        "sqs_requests_per_job": match options.queue {
            Queue::Postgres => Some(0.0),
            Queue::Sqs => drain.sqs_requests.map(|requests| rounded(requests / jobs)),
        },
    });
    if let Some(rate) = bare_sdk_per_s {
        result["bare_sdk_per_s"] = json!(rounded(rate));
    }
    writeln!(std::io::stdout(), "{result}")?;
    drop(sql);
    fleet.stop().await
}

fn say(progress: &str) {
    // Nobody reading is no reason to stop measuring.
    let _ = writeln!(std::io::stderr(), "bench: {progress}");
}

/// Lets the servants go, all of them at once, on what is enqueued. The time is from there to the moment at which the
/// ledger shows the last job as done, so that the last commits are part of it.
async fn drain(fleet: &mut Fleet, options: &Options) -> anyhow::Result<Drain> {
    let postgres = fleet.postgres_pid().context("PostgreSQL has no pid")?;
    let requests_before = sqs_requests(fleet.sqs_url()).await;
    let postgres_before = tree_cpu_secs(postgres);
    let go_at = fleet.start_servants_together(options.servants, options.concurrency).await?;
    let done_at = wait_done(&fleet.store, SINGLES + options.jobs).await?;
    let postgres_cpu_secs = tree_cpu_secs(postgres) - postgres_before;
    let pids = fleet.servant_pids();
    let servant_cpu_secs = pids.iter().map(|pid| cpu_secs(*pid)).sum();
    let rss_mb_peak = pids.iter().filter_map(|pid| Some(rss_mb(*pid)?.1)).fold(0.0, f64::max);
    let sqs_requests = match (requests_before, sqs_requests(fleet.sqs_url()).await) {
        (Some(before), Some(after)) => Some(after - before),
        _ => None,
    };
    Ok(Drain {
        secs: (done_at - go_at).as_seconds_f64(),
        rss_mb_peak,
        servant_cpu_secs,
        postgres_cpu_secs,
        sqs_requests,
    })
}

/// The newest job that has finished.
async fn last_job(sql: &mut PgConnection) -> anyhow::Result<i64> {
    Ok(sqlx::query("SELECT coalesce(max(id), 0) FROM finished_jobs").fetch_one(sql).await?.try_get(0)?)
}

/// Enqueues in calls of [`BULK`] jobs, two calls in flight: while one is made ready or committed, the other is written.
async fn enqueue_bulk(store: &Store, kind: &Kind, jobs: usize) -> anyhow::Result<f64> {
    let batch: Vec<NewJob> = (0..BULK).map(|n| NewJob::new(kind.clone(), json!({"id": n, "t": 0}))).collect();
    let left = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(jobs));
    let start = Instant::now();
    let mut lanes = tokio::task::JoinSet::new();
    for _ in 0..BULKS_IN_FLIGHT {
        let (store, batch, left) = (store.clone(), batch.clone(), left.clone());
        lanes.spawn(async move {
            loop {
                let (Ok(had) | Err(had)) = left.fetch_update(SeqCst, SeqCst, |left| Some(left.saturating_sub(BULK)));
                if had == 0 {
                    return anyhow::Ok(());
                }
                store.insert_jobs(&batch[..had.min(BULK)]).await?;
            }
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    Ok(start.elapsed().as_secs_f64())
}

async fn enqueue_single(store: &Store, kind: &Kind) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..SINGLES_IN_FLIGHT {
        let (store, kind) = (store.clone(), kind.clone());
        let share = SINGLES / SINGLES_IN_FLIGHT + usize::from(lane < SINGLES % SINGLES_IN_FLIGHT);
        lanes.spawn(async move {
            for n in 0..share {
                store.insert_jobs(&[NewJob::new(kind.clone(), json!({"id": n, "t": 0}))]).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    Ok(start.elapsed().as_secs_f64())
}

/// Waits until the counters say that so many jobs have succeeded; answers with the moment.
async fn wait_done(store: &Store, jobs: usize) -> anyhow::Result<DateTime<Utc>> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(DRAIN_SECS_MAX) {
        let counts = store.exact_job_counts().await?;
        let done: i64 = counts.iter().filter(|c| c.state == JobState::Succeeded).map(|c| c.jobs).sum();
        if done >= i64::try_from(jobs)? {
            return Ok(store.now());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    bail!("the jobs were not done within {DRAIN_SECS_MAX} s")
}

/// Enqueues one by one at a steady rate while the fleet has nothing else to do.
///
/// A sample is from the moment before the enqueue call (in the payload) to the servant's stamp after the job has
/// returned: a no-op's start, and a little more. The claim's own stamp would leave out the claim.
async fn latency(store: &Store, sql: &mut PgConnection, kind: &Kind, rate: u32) -> anyhow::Result<Vec<f64>> {
    let last_id = last_job(sql).await?;
    let counts = store.exact_job_counts().await?;
    let done: i64 = counts.iter().filter(|c| c.state == JobState::Succeeded).map(|c| c.jobs).sum();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    let wanted = rate.max(1) * LATENCY_SECS;
    for n in 0..wanted {
        tick.tick().await;
        let payload = json!({"id": n, "t": store.now().timestamp_micros()});
        store.insert_jobs(&[NewJob::new(kind.clone(), payload)]).await?;
    }
    wait_done(store, usize::try_from(done)? + usize::try_from(wanted)?).await?;
    let rows = sqlx::query(
        "SELECT (extract(epoch FROM finished_at) * 1e6 - (payload->>'t')::bigint)::float8 / 1000
        FROM finished_jobs WHERE id > $1",
    )
    .bind(last_id)
    .fetch_all(sql)
    .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Memory of a servant that has just started and has nothing to do.
async fn idle_rss(fleet: &Fleet) -> anyhow::Result<f64> {
    fleet.wait_for_servants(1).await?;
    tokio::time::sleep(Duration::from_secs(IDLE_SECS)).await;
    let pid = fleet.servant_pids().first().copied().context("no servant")?;
    rss_mb(pid).map(|(now, _)| now).context("the idle servant died")
}

async fn wal_bytes(sql: &mut PgConnection) -> anyhow::Result<f64> {
    let row = sqlx::query("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8").fetch_one(sql).await?;
    Ok(row.try_get(0)?)
}

/// Requests that the simulated SQS has counted, whoever made them; nothing of any other server.
async fn sqs_requests(url: Option<&str>) -> Option<f64> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let address = url?.strip_prefix("http://")?.trim_end_matches('/');
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let request = format!("GET /_stats HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let stats: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()?;
    Some(stats["requests"].as_object()?.values().filter_map(serde_json::Value::as_f64).sum())
}

//! Jobs that do nothing: how fast they get in, how fast they get done, how soon they start, and what each costs.

use crate::{
    fleet::{Fleet, Queue},
    measure::{cpu_secs, percentile, rounded, rss_mb, tree_cpu_secs},
};
use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use clap::Args;
use domain::{JobState, Kind};
use serde_json::json;
use sqlx::{Connection, PgConnection, Row};
use std::{
    io::Write,
    time::{Duration, Instant},
};
use store::{NewJob, Store};

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Jobs in the drain.
    #[arg(long, default_value_t = 50_000)]
    jobs: usize,
    /// Servant processes.
    #[arg(long, default_value_t = 1)]
    servants: usize,
    /// The queue.
    #[arg(long, value_enum, default_value_t = Queue::Postgres)]
    queue: Queue,
    /// Jobs a second in the latency run.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Jobs at a time in each servant.
    #[arg(long, default_value_t = 2_000)]
    concurrency: u32,
}

const BULK: usize = 1_000;
const SINGLES: usize = 5_000;
const SINGLES_IN_FLIGHT: usize = 24;
const LATENCY_SECS: u32 = 20;
const DRAIN_LIMIT: Duration = Duration::from_secs(600);

pub(crate) async fn run(options: Options) -> anyhow::Result<()> {
    let kind = Kind::new("noop")?;
    let mut fleet = Fleet::start(options.queue).await?;
    let mut sql = PgConnection::connect(&fleet.database_url).await?;
    let postgres = fleet.postgres_pid().context("PostgreSQL has no pid")?;

    let wal_before = wal_bytes(&mut sql).await?;
    let bulk_secs = enqueue_bulk(&fleet.store, &kind, options.jobs).await?;
    let requests_before = sqs_requests(fleet.sqs_url()).await;
    let postgres_before = tree_cpu_secs(postgres);
    fleet.start_servants(options.servants, options.concurrency)?;
    let done = wait_done(&fleet.store, i64::try_from(options.jobs)?).await?;
    let (first, last) = span(&mut sql).await?;
    let drain_secs = (last - first).as_seconds_f64();
    let wal_per_job = (wal_bytes(&mut sql).await? - wal_before) / to_f64(options.jobs);
    let postgres_cpu = tree_cpu_secs(postgres) - postgres_before;
    let pids: Vec<u32> = fleet.servants.iter().filter_map(tokio::process::Child::id).collect();
    let servant_cpu: f64 = pids.iter().map(|pid| cpu_secs(*pid)).sum();
    let requests = sqs_requests(fleet.sqs_url()).await - requests_before;
    line(&json!({"phase": "drain", "done": done, "secs": rounded(drain_secs)}));

    let rss_peak = pids.iter().filter_map(|pid| Some(rss_mb(*pid)?.1)).fold(0.0, f64::max);
    let single_secs = enqueue_single(&fleet.store, &kind).await?;
    wait_done(&fleet.store, i64::try_from(options.jobs + SINGLES)?).await?;
    line(&json!({"phase": "single", "secs": rounded(single_secs)}));
    let mut starts = latency(&fleet.store, &mut sql, &kind, options.rate).await?;
    let idle = idle_rss(&mut fleet, options.concurrency).await?;

    let jobs = to_f64(options.jobs);
    line(&json!({
        "bench": "jobs",
        "jobs": options.jobs,
        "servants": options.servants,
        "queue": options.queue.as_str(),
        "single_enqueue_per_s": rounded(to_f64(SINGLES) / single_secs),
        "bulk_enqueue_per_s": rounded(jobs / bulk_secs),
        "drain_per_s": rounded(jobs / drain_secs),
        "start_ms_p50": rounded(percentile(&mut starts, 0.50)),
        "start_ms_p95": rounded(percentile(&mut starts, 0.95)),
        "start_ms_p99": rounded(percentile(&mut starts, 0.99)),
        "rss_mb_idle": rounded(idle),
        "rss_mb_peak": rounded(rss_peak),
        "cpu_s_per_1k_servant": rounded(servant_cpu * 1_000.0 / jobs),
        "cpu_s_per_1k_postgres": rounded(postgres_cpu * 1_000.0 / jobs),
        "wal_bytes_per_job": rounded(wal_per_job),
        "sqs_requests_per_job": rounded(requests / jobs),
    }));
    drop(sql);
    fleet.stop().await
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
const fn to_f64(count: usize) -> f64 {
    count as f64
}

fn line(value: &serde_json::Value) {
    let _ = writeln!(std::io::stdout(), "{value}");
}

async fn enqueue_bulk(store: &Store, kind: &Kind, jobs: usize) -> anyhow::Result<f64> {
    let batch: Vec<NewJob> = (0..BULK).map(|n| NewJob::new(kind.clone(), json!({"id": n, "t": 0}))).collect();
    let start = Instant::now();
    let mut left = jobs;
    while left > 0 {
        let size = left.min(BULK);
        store.insert_jobs(&batch[..size]).await?;
        left -= size;
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

/// Waits until the counters say that so many jobs have succeeded.
async fn wait_done(store: &Store, jobs: i64) -> anyhow::Result<i64> {
    let start = Instant::now();
    while start.elapsed() < DRAIN_LIMIT {
        let done: i64 =
            store.job_counts().await?.iter().filter(|c| c.state == JobState::Succeeded).map(|c| c.jobs).sum();
        if done >= jobs {
            return Ok(done);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bail!("the jobs were not done within {} s", DRAIN_LIMIT.as_secs())
}

/// From the first claim to the last completion, by the ledger's stamps.
async fn span(sql: &mut PgConnection) -> anyhow::Result<(DateTime<Utc>, DateTime<Utc>)> {
    let row = sqlx::query("SELECT min(claimed_at), max(finished_at) FROM finished_jobs").fetch_one(sql).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Enqueues one by one at a steady rate, and reads from the ledger how long each took to start.
async fn latency(store: &Store, sql: &mut PgConnection, kind: &Kind, rate: u32) -> anyhow::Result<Vec<f64>> {
    let from: i64 =
        sqlx::query("SELECT coalesce(max(id), 0) FROM finished_jobs").fetch_one(&mut *sql).await?.try_get(0)?;
    let done = store.job_counts().await?.iter().filter(|c| c.state == JobState::Succeeded).map(|c| c.jobs).sum::<i64>();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    let wanted = rate * LATENCY_SECS;
    for n in 0..wanted {
        tick.tick().await;
        store.insert_jobs(&[NewJob::new(kind.clone(), json!({"id": n, "t": 0}))]).await?;
    }
    wait_done(store, done + i64::from(wanted)).await?;
    let rows = sqlx::query(
        "SELECT extract(epoch FROM claimed_at - created_at)::float8 * 1000 FROM finished_jobs WHERE id > $1",
    )
    .bind(from)
    .fetch_all(sql)
    .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Memory of a servant that has just started and has nothing to do.
async fn idle_rss(fleet: &mut Fleet, concurrency: u32) -> anyhow::Result<f64> {
    fleet.start_servants(1, concurrency)?;
    let pid = fleet.servants.last().and_then(tokio::process::Child::id).context("no servant")?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    rss_mb(pid).map(|(now, _)| now).context("the idle servant died")
}

async fn wal_bytes(sql: &mut PgConnection) -> anyhow::Result<f64> {
    let row = sqlx::query("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8").fetch_one(sql).await?;
    Ok(row.try_get(0)?)
}

/// Requests that the simulated SQS has counted; 0 without it.
async fn sqs_requests(url: Option<&str>) -> f64 {
    let Some(url) = url else { return 0.0 };
    let Some(address) = url.strip_prefix("http://") else { return 0.0 };
    let Ok(mut stream) = tokio::net::TcpStream::connect(address.trim_end_matches('/')).await else { return 0.0 };
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let request = format!("GET /_stats HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    if stream.write_all(request.as_bytes()).await.is_err() || stream.read_to_string(&mut answer).await.is_err() {
        return 0.0;
    }
    let Some((_, body)) = answer.split_once("\r\n\r\n") else { return 0.0 };
    let Ok(stats) = serde_json::from_str::<serde_json::Value>(body) else { return 0.0 };
    stats["requests"]
        .as_object()
        .map_or(0.0, |by_action| by_action.values().filter_map(serde_json::Value::as_f64).sum())
}

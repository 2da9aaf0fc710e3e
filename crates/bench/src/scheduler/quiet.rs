//! What fair shares are good for: quiet accounts beside one that has put in a million jobs.
//!
//! Jobs of the backlog take so long that it is slots that everybody waits for, as it is with real work, and not this
//! machine's processors.

use super::{
    Options,
    load::{enqueue, wait_for},
    say,
};
use crate::{
    fleet::Fleet,
    measure::{machine_ticks, percentile},
};
use domain::{AccountId, JobState, Kind};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use std::time::Duration;
use store::{NewJob, Store};

/// The quiet accounts, and the jobs that all of them together insert each second.
const QUIET: i64 = 50;
const QUIET_PER_SEC: u32 = 100;
/// The account with the backlog.
const LOUD: i64 = 1_000;
/// Files of 16 MiB: what a million inserts and the jobs after them write.
const WAL_FILES: usize = 100;

pub(super) async fn measure(options: &Options) -> anyhow::Result<Vec<(&'static str, f64)>> {
    let (alone_ms, beside_ms) = quiet(options).await?;
    Ok(vec![
        ("quiet_account_p99_ms_alone", alone_ms),
        ("quiet_account_p99_ms", beside_ms),
        ("quiet_account_p99_ratio", beside_ms / alone_ms),
    ])
}

/// The `n`th job of the backlog, which takes between a half and one and a half of `mean_ms`: as different from the one before
/// as real jobs are, since a servant's would end together were all of the same length.
fn loud(n: usize, mean_ms: usize) -> serde_json::Value {
    json!({"sleep_ms": mean_ms / 2 + n.wrapping_mul(7_919) % (mean_ms + 1)})
}

/// Has PostgreSQL make the files of its log that will be written, as they are there in a server that has been used for a
/// while: making one is 16 MiB of zeros on the disk, and all commits wait for it.
async fn make_wal_files(fleet: &Fleet) -> anyhow::Result<()> {
    let mut sql = PgConnection::connect(&fleet.database_url).await?;
    for keep in
        ["ALTER SYSTEM SET max_wal_size = '4GB'", "ALTER SYSTEM SET min_wal_size = '2GB'", "SELECT pg_reload_conf()"]
    {
        sqlx::query(keep).execute(&mut sql).await?;
    }
    for _ in 0..WAL_FILES {
        sqlx::query("SELECT pg_logical_emit_message(false, 'bench', 'x'), pg_switch_wal()").execute(&mut sql).await?;
    }
    sqlx::query("CHECKPOINT").execute(&mut sql).await?;
    Ok(())
}

/// Milliseconds of a job: in all, then hop by hop from the enqueue call to the insert, to being let through, to the queue,
/// to the claim, to its start. (Without a queue it is let through when it is claimed.)
type Sample = (f64, f64, f64, f64, f64, f64);

/// The quiet accounts' p99 from enqueue to start in milliseconds: alone, and beside the backlog.
async fn quiet(options: &Options) -> anyhow::Result<(f64, f64)> {
    let mut fleet = Fleet::start(options.queue).await?;
    make_wal_files(&fleet).await?;
    fleet.start_servants(1, options.quiet_slots)?;
    // The servant is there, and has run something.
    enqueue(&fleet.store, 1_000, 1, usize::try_from(QUIET)?, |_| json!({})).await?;
    wait_for(&mut fleet, &[JobState::Succeeded], 1_000).await?;
    let alone = p99(&fleet, options.quiet_secs).await?;
    say(&format!("quiet accounts alone start within {alone:.1} ms (p99)"));
    let mean_ms = usize::try_from(options.quiet_job_ms)?;
    enqueue(&fleet.store, options.backlog, LOUD, 1, move |n| loud(n, mean_ms)).await?;
    say(&format!("one account has {} jobs, of {mean_ms} ms on the average", options.backlog));
    let beside = p99(&fleet, options.quiet_secs).await?;
    say(&format!("beside it they start within {beside:.1} ms (p99)"));
    fleet.stop().await?;
    Ok((alone, beside))
}

/// Inserts one job after the other at a steady rate, of each account in turn, and waits until all have been done. A
/// sample is from the moment before the enqueue call to the one in which the job's own code begins, by its own word: what it
/// takes to write the end of a job, which is not asked, is not in it.
async fn p99(fleet: &Fleet, secs: u32) -> anyhow::Result<f64> {
    let kind = Kind::new("noop")?;
    let mut tick = tokio::time::interval(Duration::from_secs(1) / QUIET_PER_SEC);
    let wanted = QUIET_PER_SEC * secs.max(1);
    let mut inserts = tokio::task::JoinSet::new();
    let ticks = machine_ticks();
    let run = fleet.store.now().timestamp_micros();
    for n in 0..wanted {
        tick.tick().await;
        let (store, kind): (Store, Kind) = (fleet.store.clone(), kind.clone());
        // Not one after the other: what one insertion takes is not to delay the next.
        inserts.spawn(async move {
            let payload = json!({"run": run, "t": store.now().timestamp_micros(), "tell_start": true});
            let account = AccountId(1 + i64::from(n) % QUIET);
            store.insert_jobs(&[NewJob { account, ..NewJob::new(kind, payload) }]).await
        });
    }
    while let Some(insert) = inserts.join_next().await {
        insert??;
    }
    // Where the processors are busy all the time, it is them that everybody waits for.
    if let (Some((busy, all)), Some((busy_then, all_then))) = (machine_ticks(), ticks) {
        say(&format!(
            "the processors were busy for {:.0} % of the time",
            (busy - busy_then) / (all - all_then) * 100.0
        ));
    }
    let mut sql = PgConnection::connect(&fleet.database_url).await?;
    let start = std::time::Instant::now();
    loop {
        let samples: Vec<Sample> = sqlx::query_as(
            "SELECT ((progress->>'done')::bigint - (payload->>'t')::bigint)::float8 / 1000,
                    (extract(epoch FROM created_at) * 1e6 - (payload->>'t')::bigint)::float8 / 1000,
                    extract(epoch FROM coalesce(queued_at, claimed_at) - created_at)::float8 * 1000,
                    extract(epoch FROM coalesce(sent_at, claimed_at) - coalesce(queued_at, claimed_at))::float8 * 1000,
                    extract(epoch FROM claimed_at - coalesce(sent_at, claimed_at))::float8 * 1000,
                    ((progress->>'done')::bigint - extract(epoch FROM claimed_at) * 1e6)::float8 / 1000
            FROM finished_jobs WHERE account_id BETWEEN 1 AND $1 AND (payload->>'run')::bigint = $2",
        )
        .bind(QUIET)
        .bind(run)
        .fetch_all(&mut sql)
        .await?;
        if samples.len() == usize::try_from(wanted)? {
            let at = |of: fn(&Sample) -> f64, share| percentile(&mut samples.iter().map(of).collect::<Vec<_>>(), share);
            let hop =
                |of: fn(&Sample) -> f64| format!("{:.1} / {:.1} / {:.1} ms", at(of, 0.5), at(of, 0.9), at(of, 0.99));
            say(&format!(
                "p50 / p90 / p99 until the start {}; until the insert {}, from there until let through {}, sent {}, claimed {}, \
                 begun {}",
                hop(|s| s.0),
                hop(|s| s.1),
                hop(|s| s.2),
                hop(|s| s.3),
                hop(|s| s.4),
                hop(|s| s.5)
            ));
            return Ok(at(|s| s.0, 0.99));
        }
        anyhow::ensure!(start.elapsed() < Duration::from_secs(600), "{} of {wanted} are done", samples.len());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

//! Many schedules: ten thousand of them due at one moment, a schedule declared for every account, and the tick that has
//! nothing to do.
//!
//! The real scheduler fires. Its window is set wide, so that what is measured is how fast it inserts and dispatches, and
//! not how many servants there are. The idle tick is the duty itself, done by this process on the same ledger once no
//! scheduler runs: its time as a scheduler sees it, which is the database's and the way there and back.

use super::{
    Options,
    load::{LOOK_EVERY, catalogue, median, wait_for},
    say,
};
use crate::{
    fleet::{Fleet, Queue, Setup},
    measure::percentile,
};
use anyhow::Context as _;
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Catalogue, JobState};
use scheduler::{Office, SchedulerConfig, duties::tick};
use sqlx::{Connection as _, PgConnection, Row as _};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// One for every account, and due in another age.
const DECLARED: &str = "schedules = [{ name = \"each\", cron = \"0 3 * * *\", zone = \"Europe/Berlin\", \
                        per_account = true, starts_at = \"2190-01-01T00:00:00Z\" }]";
/// From the change of the due times to the moment.
const LEAD_TIME: TimeDelta = TimeDelta::seconds(3);
const IDLE_TICKS: usize = 300;
const SLOTS: u32 = 2_000;
const DECLARE_SECS_MAX: u64 = 600;

pub(super) async fn measure(options: &Options) -> anyhow::Result<Vec<(&'static str, f64)>> {
    let window = options.due.saturating_mul(options.rounds + 1).to_string();
    let jobs = Some(catalogue(DECLARED, "")?);
    let setup = Setup { jobs, scheduler: &[("SERVANT_DUTIES__WINDOW_MIN", &window)] };
    let mut fleet = Fleet::start_with(options.queue, setup).await?;
    let mut sql = PgConnection::connect(&fleet.database_url).await?;

    let declare_secs = declare(&mut fleet, &mut sql, options).await?;
    say(&format!("one declared schedule for each of {} accounts: {declare_secs:.2} s", options.accounts));
    seed(&mut sql, options).await?;
    let (mut inserted, mut dispatched) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        let (inserted_ms, dispatched_ms) = fire(&mut fleet, &mut sql, options, round).await?;
        let pieces = pieces(&mut sql).await?;
        say(&format!(
            "{} due at once: inserted {inserted_ms:.0} ms, dispatched {dispatched_ms:.0} ms; {pieces}",
            options.due
        ));
        inserted.push(inserted_ms);
        dispatched.push(dispatched_ms);
    }
    let jobs = usize::try_from(options.due.saturating_mul(options.rounds))?;
    fleet.start_servants(1, SLOTS)?;
    wait_for(&mut fleet, &[JobState::Succeeded], jobs).await?;
    fleet.stop_servants().await?;
    fleet.stop_scheduler().await?;
    let mut idle = idle_ticks(&fleet).await?;
    drop(sql);
    fleet.stop().await?;
    Ok(vec![
        ("due_fires_ms", median(dispatched)),
        ("due_inserted_ms", median(inserted)),
        ("idle_tick_ms", percentile(&mut idle, 0.5)),
        ("idle_tick_ms_p99", percentile(&mut idle, 0.99)),
        ("declare_s", declare_secs),
    ])
}

/// Enters the accounts; answers with the seconds until each has its declared schedule.
async fn declare(fleet: &mut Fleet, sql: &mut PgConnection, options: &Options) -> anyhow::Result<f64> {
    let start = Instant::now();
    sqlx::query("INSERT INTO accounts (name) SELECT 'account ' || n FROM generate_series(1, $1) AS n")
        .bind(i64::from(options.accounts))
        .execute(&mut *sql)
        .await?;
    while start.elapsed() < Duration::from_secs(DECLARE_SECS_MAX) {
        let declared: i64 =
            sqlx::query("SELECT count(*) FROM schedules WHERE declared").fetch_one(&mut *sql).await?.try_get(0)?;
        if declared == i64::from(options.accounts) {
            return Ok(start.elapsed().as_secs_f64());
        }
        fleet.check_scheduler()?;
        tokio::time::sleep(LOOK_EVERY * 10).await;
    }
    anyhow::bail!("the declared schedules were not there within {DECLARE_SECS_MAX} s")
}

/// Enters the rest of the schedules: daily ones, half of them by cron, in several zones and spread over a day.
async fn seed(sql: &mut PgConnection, options: &Options) -> anyhow::Result<()> {
    let start = Instant::now();
    sqlx::query(
        "INSERT INTO schedules (name, kind, account_id, rule, next_due_at)
        SELECT 'seeded ' || n, 'noop', 1 + n % $2,
               CASE WHEN n % 2 = 0 THEN '{\"every_secs\": 86400}'::jsonb
               ELSE jsonb_build_object('cron', jsonb_build_object('expression', n % 60 || ' ' || n / 60 % 24 || ' * * *',
                    'zone', (ARRAY['Europe/Berlin', 'America/New_York', 'Asia/Tokyo', 'UTC'])[1 + n / 2 % 4])) END,
               now() + interval '1 hour' + n * interval '1 day' / $1
        FROM generate_series(1, $1) AS n",
    )
    .bind(i64::from(options.schedules - options.accounts))
    .bind(i64::from(options.accounts))
    .execute(&mut *sql)
    .await?;
    for statement in ["VACUUM ANALYZE schedules", "VACUUM ANALYZE accounts", "CHECKPOINT"] {
        sqlx::query(statement).execute(&mut *sql).await?;
    }
    say(&format!("the other schedules are entered: {:.0} s", start.elapsed().as_secs_f64()));
    Ok(())
}

/// Lets schedules become due, others than in the rounds before. Answers with the milliseconds from the moment until the
/// last job was inserted, and until it was dispatched: on its way to the queue, or free for any servant to take.
async fn fire(fleet: &mut Fleet, sql: &mut PgConnection, options: &Options, round: u32) -> anyhow::Result<(f64, f64)> {
    let every = (options.schedules - options.accounts) / options.due;
    let at = fleet.store.now() + LEAD_TIME;
    let changed = sqlx::query(
        "UPDATE schedules SET next_due_at = $1 WHERE id IN (
            SELECT id FROM schedules WHERE NOT declared AND id % $2 = $3 ORDER BY id LIMIT $4)",
    )
    .bind(at)
    .bind(i64::from(every))
    .bind(i64::from(round % every))
    .bind(i64::from(options.due))
    .execute(&mut *sql)
    .await?;
    anyhow::ensure!(changed.rows_affected() == u64::from(options.due), "{} are due", changed.rows_affected());
    anyhow::ensure!(fleet.store.now() < at, "the due times took too long to write");
    let jobs = usize::try_from(options.due.saturating_mul(round + 1))?;
    let beyond = [JobState::Queued, JobState::Running, JobState::Succeeded];
    let with_ready = [JobState::Ready, JobState::Queued, JobState::Running, JobState::Succeeded];
    let ms = |moment: DateTime<Utc>| (moment - at).as_seconds_f64() * 1_000.0;
    let inserted = ms(wait_for(fleet, &with_ready, jobs).await?);
    let dispatched = match options.queue {
        // Servants take them straight from the ledger.
        Queue::Postgres => inserted,
        Queue::Sqs => ms(wait_for(fleet, &beyond, jobs).await?),
    };
    Ok((inserted, dispatched))
}

/// In how many transactions the latest jobs were made, and when the first of them began.
async fn pieces(sql: &mut PgConnection) -> anyhow::Result<String> {
    let row = sqlx::query(
        "SELECT count(DISTINCT created_at), extract(epoch FROM min(created_at - fire_due_at))::float8 * 1000
        FROM jobs WHERE fire_due_at = (SELECT max(fire_due_at) FROM jobs)",
    )
    .fetch_one(sql)
    .await?;
    let (count, late_ms): (i64, f64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(format!("{count} transactions, the first after {late_ms:.0} ms"))
}

/// The milliseconds of each of many ticks with nothing to do.
async fn idle_ticks(fleet: &Fleet) -> anyhow::Result<Vec<f64>> {
    let mut config: toml::Table = std::fs::read_to_string("config/scheduler.toml")?.parse()?;
    config.remove("process");
    let config: SchedulerConfig = config.try_into()?;
    let timer = TimeDelta::milliseconds(i64::try_from(config.duties.tick_ms)?);
    let jobs: toml::Table = catalogue(DECLARED, "")?.parse()?;
    let office = Office {
        store: fleet.store.clone(),
        queue: queue::Backend::Postgres,
        catalogue: Catalogue::new(jobs.try_into()?)?,
        config,
        outbox_filled: Notify::new(),
        jobs_ready: scheduler::JobsReady::default(),
        desk: tokio::sync::Mutex::default(),
        nudges: scheduler::Nudges::default(),
        told: scheduler::Told::default(),
    };
    let start = Instant::now();
    let lead = loop {
        if let Some(lead) = office.store.lead("bench", 3_600).await? {
            break lead;
        }
        anyhow::ensure!(start.elapsed() < Duration::from_secs(30), "the scheduler's lead does not run out");
        tokio::time::sleep(LOOK_EVERY).await;
    };
    // Walks that went back, and statements that are prepared, are not idle.
    while tick::perform(&office, &lead).await.context("a tick")? {}
    let mut took = Vec::with_capacity(IDLE_TICKS);
    for _ in 0..IDLE_TICKS {
        let start = Instant::now();
        anyhow::ensure!(!tick::perform(&office, &lead).await?, "the tick is not idle");
        office.store.next_due(office.store.now() + timer).await?;
        took.push(start.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(took)
}

//! What goes on while people look: jobs that are inserted one by one at a steady rate and run, and the signs of life of the
//! seeded servants.

use anyhow::Context as _;
use domain::{AccountId, Kind};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use store::{NewJob, Store};
use tokio::task::JoinSet;

/// Inserts that may be under way at once: more are not begun.
const INSERTS_MAX: usize = 100;
/// How often a servant shows that it is alive.
const BEAT_EVERY: Duration = Duration::from_secs(2);
const DONE_SECS_MAX: u64 = 60;

/// It goes on until it is stopped.
pub(super) struct Load {
    tasks: JoinSet<anyhow::Result<()>>,
    inserted: Arc<AtomicUsize>,
}

impl Load {
    /// Jobs of kind `noop`, of each account in turn.
    pub(super) fn start(store: &Store, url: &str, servants: i64, accounts: i64, rate: u32) -> Self {
        let (mut tasks, inserted) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        tasks.spawn(insert(store.clone(), accounts, rate.max(1), inserted.clone()));
        tasks.spawn(beat(url.to_owned(), servants));
        Self { tasks, inserted }
    }

    /// Jobs inserted so far.
    pub(super) fn inserted(&self) -> usize {
        self.inserted.load(SeqCst)
    }

    /// Answers with the number of jobs that were inserted.
    pub(super) async fn stop(mut self) -> anyhow::Result<usize> {
        while let Some(ended) = self.tasks.try_join_next() {
            ended??;
        }
        self.tasks.shutdown().await;
        Ok(self.inserted())
    }
}

async fn insert(store: Store, accounts: i64, rate: u32, inserted: Arc<AtomicUsize>) -> anyhow::Result<()> {
    let kind = Kind::new("noop")?;
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut under_way = JoinSet::new();
    for n in 0.. {
        tick.tick().await;
        while under_way.len() >= INSERTS_MAX {
            under_way.join_next().await.context("nothing is under way")???;
        }
        while let Some(ended) = under_way.try_join_next() {
            ended??;
        }
        let (store, kind, inserted) = (store.clone(), kind.clone(), inserted.clone());
        under_way.spawn(async move {
            let account = AccountId(1 + n % accounts);
            store.insert_jobs(&[NewJob { account, ..NewJob::new(kind, json!({"n": n})) }]).await?;
            inserted.fetch_add(1, SeqCst);
            anyhow::Ok(())
        });
    }
    Ok(())
}

async fn beat(url: String, servants: i64) -> anyhow::Result<()> {
    let mut sql = PgConnection::connect(&url).await?;
    let mut tick = tokio::time::interval(BEAT_EVERY);
    loop {
        tick.tick().await;
        sqlx::query("UPDATE servants SET seen_at = clock_timestamp(), heartbeat_at = clock_timestamp() WHERE id <= $1")
            .bind(servants)
            .execute(&mut sql)
            .await?;
    }
}

/// Waits until all that was inserted has been done: at least so many, since inserts may have been cut off.
pub(super) async fn wait_until_done(sql: &mut PgConnection, inserted: usize) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE kind = 'noop' AND state < 4")
            .fetch_one(&mut *sql)
            .await?;
        if left == 0 {
            return Ok(());
        }
        anyhow::ensure!(start.elapsed() < Duration::from_secs(DONE_SECS_MAX), "{left} of {inserted} jobs are not done");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

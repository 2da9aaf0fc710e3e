//! What any request costs the ledger at the most, and that it costs nothing any more once nobody waits for it. On a ledger
//! that is as skewed as a large one: what is rare lies behind what is not.

use daemon::{Health, Stopper};
use domain::Clock;
use sqlx::{Connection as _, PgConnection};
use std::time::{Duration, Instant};
use store::Store;
use testkit::{Seed, TestDatabase, eventually};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Rows that a request may read, index entries that lead nowhere included.
const READ_MAX: i64 = 1_000;

/// Longest that a statement runs where nobody leaves, in seconds.
const STATEMENT_SECS: u32 = 30;

/// A manager with so many connections to the ledger.
async fn manager(database: &TestDatabase, pool_max: u32) -> (Store, String) {
    let store = Store::connect_within(database.url(), pool_max, Clock::system(), STATEMENT_SECS).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let app = manager::App {
        store: store.clone(),
        health: Health::new(Stopper::new()),
        connect: None,
        access: manager::Access::open(),
    };
    tokio::spawn(async move { axum::serve(listener, manager::router(app, 10_000)).await });
    (store, address)
}

async fn count(sql: &mut PgConnection, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(sql).await.unwrap()
}

/// Rows read by all sessions that have ended, once they have; so `sql` itself must read none.
async fn rows_read(sql: &mut PgConnection) -> i64 {
    let sessions = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()";
    let ended = async || (count(sql, sessions).await == 0).then_some(());
    eventually(Duration::from_secs(10), "the ledger's sessions have ended", ended).await;
    count(sql, "SELECT (sum(seq_tup_read) + sum(coalesce(idx_tup_fetch, 0)))::bigint FROM pg_stat_user_tables").await
}

#[tokio::test]
async fn no_request_reads_more_than_a_thousand_rows() {
    let database = testkit::database().await;
    let kinds = (1..=30).map(|n| if n == 1 { "salesforce_sync".to_owned() } else { format!("kind_{n:02}") }).collect();
    let seed = Seed { jobs: 20_000, accounts: 400, kinds, servants: 200, now: chrono::Utc::now() };
    seed.fill(database.url(), |_| ()).await.unwrap();
    let mut other = PgConnection::connect(database.url()).await.unwrap();
    for statement in [
        // Nobody has folded for a while, and servants have come and gone.
        "INSERT INTO job_count_deltas (kind, state, delta) SELECT 'kind_02', 1, n % 2 * 2 - 1 FROM generate_series(1, 5000) AS n",
        "INSERT INTO servants (kind, host, pid, version, state, concurrency, started_at, seen_at)
         SELECT 'kind_02', 'host-1', n, '0.9', 'stopped', 1, now() - interval '1 day', now() - interval '1 day'
         FROM generate_series(1, 3000) AS n",
        "ANALYZE servants, job_count_deltas",
    ] {
        sqlx::query(statement).execute(&mut other).await.unwrap();
    }
    let mut reads = Vec::new();
    for n in 0..3 {
        let names = seed.names(&mut other, n).await.unwrap();
        let all = testkit::reads(|name| names[name].clone());
        // Of most pages one is enough; a job is in another state each time.
        reads.extend(all.into_iter().filter(|read| n == 0 || read.page.contains("{id}")));
    }
    other.close().await.unwrap();
    let mut sql = PgConnection::connect(database.url()).await.unwrap();
    let mut too_many = Vec::new();
    for read in reads {
        let before = rows_read(&mut sql).await;
        let (store, address) = manager(&database, 1).await;
        let client = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        let answer = client.get(format!("http://{address}{}", read.address)).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, 200, "{}: {text}", read.address);
        store.close().await;
        let rows = rows_read(&mut sql).await - before;
        if rows > READ_MAX {
            too_many.push(format!("{rows} rows for {} as {}", read.page, read.address));
        }
    }
    assert!(too_many.is_empty(), "{}", too_many.join("\n"));
}

#[tokio::test]
async fn a_statement_ends_when_its_viewer_leaves() {
    let database = testkit::database().await;
    let (store, address) = manager(&database, 2).await;
    let mut sql = PgConnection::connect(database.url()).await.unwrap();
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let mut lock = PgConnection::connect(database.url()).await.unwrap();
    let mut locked = lock.begin().await.unwrap();
    sqlx::query("LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE").execute(&mut *locked).await.unwrap();
    let ask = async || {
        let mut viewer = TcpStream::connect(&address).await.unwrap();
        let request = format!("GET /api/v1/accounts HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        viewer.write_all(request.as_bytes()).await.unwrap();
        viewer
    };
    // More of them than the manager has connections: each has its turn, since those before it have left.
    for _ in 0..3 {
        let viewer = ask().await;
        let waits = async || (count(&mut sql, waiting).await == 1).then_some(());
        eventually(Duration::from_secs(10), "the statement waits for the lock", waits).await;
        drop(viewer);
        let left = Instant::now();
        let ended = async || (count(&mut sql, waiting).await == 0).then_some(());
        eventually(Duration::from_secs(u64::from(STATEMENT_SECS)), "the statement has ended", ended).await;
        assert!(left.elapsed() < Duration::from_secs(5), "{} ms after it left", left.elapsed().as_millis());
    }
    locked.rollback().await.unwrap();
    let mut answer = String::new();
    ask().await.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    store.close().await;
}

//! Lists in a ledger where what is wanted is rare: no page reads the many rows that it does not show.

use crate::world::{LEASE_SECS, World, kind};
use domain::{AccountId, Clock, JobId, JobState};
use sqlx::{Connection as _, PgConnection};
use store::{JobFilter, NewJob, Store, StoreError};

/// Rows that a list may read, index entries that lead nowhere included.
const READ_MAX: i64 = 1_000;

/// Blocks of indexes that a list may read, and somebody else beside it: entries that it walks past are in no count of rows.
/// All of one kind and state are 300.
const BLOCKS_MAX: i64 = 200;

/// Many ready and many succeeded jobs of one kind and account, and newer ones than all that is rare.
async fn crowded() -> (World, Vec<JobId>) {
    let world = World::new().await;
    let mut rare = Vec::new();
    for (name, state) in [("rare", JobState::Succeeded), ("rare", JobState::Ready), ("common", JobState::Failed)] {
        rare.push(world.job_in(state, &kind(name), 3).await.0);
    }
    let mut later = NewJob::new(kind("common"), serde_json::json!({}));
    later.due_at = Some(world.after_secs(600));
    rare.push(world.insert(&[later]).await[0]);
    rare.push(world.job_in(JobState::Queued, &kind("common"), 3).await.0);
    rare.push(world.job_in(JobState::Running, &kind("noop"), 3).await.0);
    // By a session that has ended before anything is measured: what it read is counted by then.
    let mut sql = PgConnection::connect(world.database.url()).await.unwrap();
    for statement in [
        // What it reads of indexes would be counted, too.
        "ALTER TABLE jobs SET (autovacuum_enabled = off)",
        "ALTER TABLE finished_jobs_default SET (autovacuum_enabled = off)",
        "INSERT INTO jobs (account_id, due_at, created_at, ready_at, state, priority, attempts_max, kind, request_id, payload)
        SELECT 7, '2030-05-06', '2030-05-06', '2030-05-06', 1, 2, 3, 'common', gen_random_uuid(), '{}'
        FROM generate_series(1, 60000)",
        "INSERT INTO finished_jobs (id, account_id, due_at, created_at, finished_at, state, priority, attempt, attempts_max,
            kind, request_id, payload)
        SELECT 1000000 + n, 7, '2030-05-06', '2030-05-06', '2030-05-06', 4, 2, 1, 3, 'common', gen_random_uuid(), '{}'
        FROM generate_series(1, 60000) AS n",
        "INSERT INTO job_count_deltas VALUES ('common', 1, 60000), ('common', 4, 60000)",
        "ANALYZE",
    ] {
        sqlx::query(statement).execute(&mut sql).await.unwrap();
    }
    sql.close().await.unwrap();
    (world, rare)
}

#[tokio::test]
async fn a_rare_sort_is_found_without_reading_the_common_ones() {
    let (world, rare) = crowded().await;
    let of = |states: &[JobState], name: Option<&str>, account: Option<i64>| JobFilter {
        states: states.to_vec(),
        kind: name.map(kind),
        account: account.map(AccountId),
        ..JobFilter::default()
    };
    let cases = [
        (of(&[], Some("rare"), None), vec![rare[1], rare[0]]),
        (of(&[JobState::Ready], Some("rare"), None), vec![rare[1]]),
        (of(&[JobState::Failed], None, None), vec![rare[2]]),
        (of(&[JobState::Failed], Some("common"), None), vec![rare[2]]),
        (of(&[JobState::Scheduled], None, None), vec![rare[3]]),
        (of(&[JobState::Queued], None, None), vec![rare[4]]),
        (of(&[JobState::Running], None, None), vec![rare[5]]),
        (of(&[JobState::Running], Some("noop"), None), vec![rare[5]]),
        (of(&[JobState::Cancelled], None, None), vec![]),
        (of(&[JobState::Failed], None, Some(7)), vec![]),
    ];
    world.store.close().await;
    for (filter, wanted) in cases {
        let (before, blocks_before) = (world.rows_read().await, world.index_blocks_read().await);
        let store = world.reopened().await;
        let found: Vec<JobId> = store.list_jobs(&filter, 50).await.unwrap().iter().map(|row| row.id).collect();
        store.close().await;
        assert_eq!(found, wanted, "{filter:?}");
        let read = world.rows_read().await - before;
        assert!(read <= READ_MAX, "{read} rows were read for {} of {filter:?}", wanted.len());
        let blocks = world.index_blocks_read().await - blocks_before;
        assert!(blocks <= BLOCKS_MAX, "{blocks} blocks of indexes were read for {} of {filter:?}", wanted.len());
    }
}

/// Of accounts of which one job each is in hand, the oldest of many.
#[tokio::test]
async fn what_is_in_hand_is_found_within_a_bound_however_much_is_in_hand() {
    let world = World::new().await;
    let of = |account| NewJob { account: AccountId(account), ..NewJob::new(kind("common"), serde_json::json!({})) };
    let (busy, quiet) = (7, 8);
    let in_hand = [world.insert(&[of(busy)]).await[0], world.insert(&[of(quiet)]).await[0]];
    world.insert(&vec![of(9); 1_500]).await;
    let until = world.after_secs(LEASE_SECS);
    let claimed = testkit::claim_ready(&world.store, world.servant, &kind("common"), 6_000, until).await.unwrap();
    assert_eq!(claimed.len(), 1_502);
    world.insert(&vec![of(busy); 300]).await;
    world.store.close().await;
    let mut pages = Vec::new();
    for (account, job) in [(busy, in_hand[0]), (quiet, in_hand[1])] {
        let states = vec![JobState::Queued, JobState::Running];
        let mut filter = JobFilter { states, account: Some(AccountId(account)), ..JobFilter::default() };
        let (mut found, mut looks) = (Vec::new(), 0);
        loop {
            let before = world.rows_read().await;
            let store = world.reopened().await;
            let page = store.search_jobs(&filter, 50).await.unwrap();
            store.close().await;
            let read = world.rows_read().await - before;
            assert!(read <= READ_MAX / 2, "{read} rows were read for a page of account {account}");
            found.extend(page.jobs.iter().map(|row| row.id));
            (looks, filter.before_id) = (looks + 1, page.next_before);
            if page.next_before.is_none() {
                break;
            }
        }
        assert_eq!(found, [job]);
        pages.push(looks);
    }
    assert!(pages[0] > 1, "so much is looked at page by page");
    assert_eq!(pages[1], 1, "few unfinished jobs are looked at as they are");
}

#[tokio::test]
async fn a_statement_that_somebody_waits_for_ends_in_time() {
    let world = World::new().await;
    let store = Store::connect_within(world.database.url(), 1, Clock::system(), 1).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    let ended = tx.execute("SELECT pg_sleep(30), $1::jsonb", &serde_json::json!({})).await;
    assert!(matches!(ended, Err(StoreError::Unavailable(_))), "{ended:?}");
}

//! The ordinary life of jobs through real processes, on both backends; and where no process begins one.

use crate::fleet::{Backend, Fleet, LIMIT};
use sqlx::{Connection as _, PgConnection};

#[tokio::test]
async fn jobs_run_without_a_broker() {
    let fleet = Fleet::on_postgres().await;
    let (_scheduler, _servant) = (fleet.scheduler().await, fleet.servant("20").await);
    let jobs = fleet.enqueue(500, 0).await;
    fleet.assert_all_succeeded(&jobs).await;
    fleet.assert_sound(&jobs).await;
}

#[tokio::test]
async fn jobs_run_over_the_queue() {
    let fleet = Fleet::on_sqs().await;
    let (_scheduler, _servant) = (fleet.scheduler().await, fleet.servant("20").await);
    let jobs = fleet.enqueue(500, 0).await;
    fleet.assert_all_succeeded(&jobs).await;
    fleet.assert_sound(&jobs).await;
}

/// A job that is over leaves its slot to the next one while its end is being written: of one job in eight. The ends of the
/// others hold their slots, so that a ledger that takes no ends is not asked for ever more jobs.
#[tokio::test]
async fn few_ends_wait_to_be_written_without_a_slot() {
    let fleet = Fleet::on_postgres().await;
    let (_scheduler, _servant) = (fleet.scheduler().await, fleet.servant("16").await);
    let mut sql = PgConnection::connect(&fleet.deployment.database_url).await.unwrap();
    let mut tx = sql.begin().await.unwrap();
    sqlx::query("LOCK TABLE finished_jobs IN SHARE MODE").execute(&mut *tx).await.unwrap();
    let jobs = fleet.enqueue(40, 0).await;
    fleet.until(domain::JobState::Running, 18).await;
    assert_eq!(fleet.count(domain::JobState::Running).await, 18, "16 slots and two places");
    tx.rollback().await.unwrap();
    fleet.assert_all_succeeded(&jobs).await;
    fleet.assert_sound(&jobs).await;
}

async fn stop_a_servant(backend: Backend) {
    let fleet = Fleet::on(backend).await;
    let _scheduler = fleet.scheduler().await;
    let mut servant = fleet.servant("2").await;
    let jobs = fleet.enqueue(2, 600_000).await;
    fleet.until(domain::JobState::Running, 2).await;
    assert!(servant.terminate(LIMIT).await.success(), "asked to stop, a servant exits with 0");
    for id in jobs {
        let job = fleet.store.find_job(id).await.unwrap().unwrap();
        // With a queue, the leader may have put it there again.
        let is_back =
            job.state == domain::JobState::Ready || backend == Backend::Sqs && job.state == domain::JobState::Queued;
        assert!(is_back && job.attempt == 0, "{backend:?}: {job:?}");
    }
    let mut sql = PgConnection::connect(&fleet.deployment.database_url).await.unwrap();
    let leases: i64 = sqlx::query_scalar("SELECT count(*) FROM leases").fetch_one(&mut sql).await.unwrap();
    assert_eq!(leases, 0, "{backend:?}: it holds nothing any more");
    assert_eq!(fleet.store.count_drift().await.unwrap(), vec![]);
}

#[tokio::test]
async fn a_stopped_servant_gives_back_what_it_has_without_charging_it() {
    tokio::join!(stop_a_servant(Backend::Postgres), stop_a_servant(Backend::Sqs));
}

/// One migration is missing, though later ones are there.
#[tokio::test]
async fn no_daemon_starts_on_a_schema_that_it_does_not_know() {
    let fleet = Fleet::on_postgres().await;
    let mut sql = PgConnection::connect(&fleet.deployment.database_url).await.unwrap();
    let forget = "DELETE FROM _sqlx_migrations
        WHERE version = (SELECT version FROM _sqlx_migrations ORDER BY version LIMIT 1 OFFSET 7)";
    assert_eq!(sqlx::query(forget).execute(&mut sql).await.unwrap().rows_affected(), 1);
    for name in ["scheduler", "manager", "noop"] {
        let mut daemon = fleet.deployment.start(name, &[]).await;
        assert_eq!(daemon.exit(LIMIT).await.code(), Some(1), "{name}: {}", daemon.output());
        assert!(daemon.output().contains("run `servantctl migrate`"), "{name}: {}", daemon.output());
    }
}

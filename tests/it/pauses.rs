//! Paused under load, with real processes: within a second nothing starts any more, whatever is paused; a scheduler's
//! restart changes nothing of that, and the end of the pause finishes everything.

use crate::fleet::{Backend, Fleet, LIMIT};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Cause, JobId, JobState, Kind, PauseTarget, why};
use sqlx::PgPool;
use store::{Inserted, NewGroup, NewJob};
use testkit::eventually;

/// From the pause to the last start of a job, at the most, in milliseconds.
const EFFECTIVE_MS_MAX: i64 = 1_000;
/// How long the pause is watched, in seconds: several rounds of every duty and poll.
const WATCHED_SECS: i64 = 4;

async fn last_start(sql: &PgPool) -> DateTime<Utc> {
    let statement = "SELECT max(claimed_at) FROM (
        SELECT claimed_at FROM jobs UNION ALL SELECT claimed_at FROM finished_jobs) AS j";
    sqlx::query_scalar(statement).fetch_one(sql).await.unwrap()
}

async fn cause(fleet: &Fleet, id: JobId) -> Cause {
    why(&fleet.store.why_facts(&fleet.job(id).await).await.unwrap())
}

async fn a_kind_is_paused_under_load(backend: Backend) {
    let fleet = Fleet::on(backend).await;
    let sql = PgPool::connect(&fleet.deployment.database_url).await.unwrap();
    let mut scheduler = fleet.scheduler().await;
    let _servants = [fleet.servant("20").await, fleet.servant("20").await];
    let mut jobs = fleet.enqueue(3_000, 50).await;
    fleet.until(JobState::Succeeded, 100).await;

    let target = PauseTarget::Kind(Kind::new("noop").unwrap());
    let paused = fleet.store.pause(&testkit::granted(), &target).await.unwrap();
    eventually(LIMIT, "what runs to end, and what is on the queue to come back", async || {
        (fleet.count(JobState::Running).await + fleet.count(JobState::Queued).await == 0).then_some(())
    })
    .await;
    assert!(fleet.count(JobState::Ready).await > 1_000, "the load was too small for this test");

    scheduler.kill();
    scheduler = fleet.scheduler().await;
    scheduler.line_with(LIMIT, "this scheduler leads").await;
    jobs.extend(fleet.enqueue(50, 0).await);
    eventually(LIMIT, "several rounds of every duty", async || {
        (fleet.store.now() > paused.paused_at + TimeDelta::seconds(WATCHED_SECS)).then_some(())
    })
    .await;
    let late_ms = (last_start(&sql).await - paused.paused_at).num_milliseconds();
    assert!(late_ms <= EFFECTIVE_MS_MAX, "a job started {late_ms} ms after the pause");
    println!("{backend:?}: the last job started {late_ms} ms after the pause");
    let last = *jobs.last().unwrap();
    assert!(matches!(cause(&fleet, last).await, Cause::Paused { by, .. } if by == "ada"));

    let resumed_at = fleet.store.now();
    assert!(fleet.store.resume(&testkit::granted_to("bob", "it was a test"), &target).await.unwrap());
    let first_start = eventually(LIMIT, "a job starts", async || {
        let at = last_start(&sql).await;
        (at > resumed_at).then_some(at)
    })
    .await;
    let woken_ms = (first_start - resumed_at).num_milliseconds();
    assert!(woken_ms <= EFFECTIVE_MS_MAX, "the first job started {woken_ms} ms after the end of the pause");
    fleet.assert_all_succeeded(&jobs).await;
    assert!(!scheduler.output().contains("are sent again"), "the end of a pause does not wait for the sweep");
    assert!(matches!(cause(&fleet, last).await, Cause::Finished { .. }));
}

#[tokio::test]
async fn a_kind_is_paused_under_load_without_a_broker() {
    a_kind_is_paused_under_load(Backend::Postgres).await;
}

#[tokio::test]
async fn a_kind_is_paused_under_load_on_sqs() {
    a_kind_is_paused_under_load(Backend::Sqs).await;
}

async fn each_scope_is_paused_under_load(backend: Backend) {
    let fleet = Fleet::on(backend).await;
    let sql = PgPool::connect(&fleet.deployment.database_url).await.unwrap();
    let _scheduler = fleet.scheduler().await;
    let _servant = fleet.servant("20").await;
    let account = fleet.store.create_account("a").await.unwrap();
    let connection = fleet.store.create_connection(account, "acme", &serde_json::json!({}), None).await.unwrap();
    let mut done = 0;
    for sort in ["everything", "account", "connection", "group"] {
        let job = NewJob::new(Kind::new("noop").unwrap(), serde_json::json!({"sleep_ms": 100}));
        let members = vec![NewJob { account, connection: Some(connection), ..job }; 600];
        let request_id = members[0].request_id;
        let new = NewGroup { name: sort.to_owned(), account, finishing: None, request_id };
        let (group, inserted) = fleet.store.create_group(&testkit::granted(), &new, &members, true).await.unwrap();
        let new = |inserted| if let Inserted::New(id) = inserted { id } else { panic!("a duplicate") };
        let jobs: Vec<JobId> = inserted.into_iter().map(new).collect();
        eventually(LIMIT, "some jobs to end", async || {
            (fleet.count(JobState::Succeeded).await >= done + 20).then_some(())
        })
        .await;
        let target = match sort {
            "everything" => PauseTarget::Everything,
            "account" => PauseTarget::Account(account),
            "connection" => PauseTarget::Connection(connection),
            _ => PauseTarget::Group(group),
        };
        let paused = fleet.store.pause(&testkit::granted(), &target).await.unwrap();
        eventually(LIMIT, "what runs to end, and what is on the queue to come back", async || {
            (fleet.count(JobState::Running).await + fleet.count(JobState::Queued).await == 0).then_some(())
        })
        .await;
        assert!(fleet.count(JobState::Ready).await > 100, "the load was too small for this test");
        let late_ms = (last_start(&sql).await - paused.paused_at).num_milliseconds();
        assert!(late_ms <= EFFECTIVE_MS_MAX, "{backend:?}: a job started {late_ms} ms after the pause of {target}");
        let last = *jobs.last().unwrap();
        let cause = cause(&fleet, last).await;
        let Cause::Paused { scope, by, reason, .. } = &cause else { panic!("{cause:?}") };
        assert_eq!((scope.as_str(), by.as_str(), reason.as_str()), (sort, "ada", "a test"));
        assert!(fleet.store.resume(&testkit::granted(), &target).await.unwrap());
        done += 600;
        fleet.until(JobState::Succeeded, done).await;
        fleet.assert_all_succeeded(&jobs).await;
    }
}

#[tokio::test]
async fn each_scope_is_paused_within_a_second() {
    tokio::join!(each_scope_is_paused_under_load(Backend::Postgres), each_scope_is_paused_under_load(Backend::Sqs));
}

#[tokio::test]
async fn a_job_on_the_queue_says_when_it_is_sent_again() {
    let fleet = Fleet::on_sqs().await;
    let _scheduler = fleet.scheduler().await;
    let _servant = fleet.servant("1").await;
    let jobs = fleet.enqueue(200, 300_000).await;
    eventually(LIMIT, "each place on the way to be taken", async || {
        let (mut is_on_queue, mut is_behind, mut is_next) = (false, false, false);
        for id in &jobs {
            match cause(&fleet, *id).await {
                // The scheduler notes its settings when it takes the lead; the shipped file says 15 s.
                Cause::Queued { since: Some(since), sends: 1, sweep_at: Some(at) } => {
                    is_on_queue |= at == since + TimeDelta::seconds(15);
                }
                Cause::Behind { .. } => is_behind = true,
                Cause::Window { queued, busy, slots } => is_next |= queued >= 1 && (busy, slots) == (1, 1),
                _ => {}
            }
        }
        (is_on_queue && is_behind && is_next).then_some(())
    })
    .await;
}

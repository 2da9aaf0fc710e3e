//! Jobs that misbehave: one panics, one does not listen, one never yields, one merely takes long. Each harms itself
//! at the most, and none runs twice at a time.

use crate::fleet::{Backend, Fleet, LIMIT};
use chrono::TimeDelta;
use domain::{JobId, JobState, Kind};
use serde_json::json;
use store::{Inserted, NewJob};
use testkit::{Process, STUCK_SECS, eventually};

async fn only_failure(fleet: &Fleet, id: JobId) -> (String, String) {
    assert_eq!(fleet.job(id).await.state, JobState::Failed, "job {id}");
    let mut attempts = fleet.store.attempts_of(id).await.unwrap();
    assert_eq!(attempts.len(), 1, "{attempts:?}");
    let attempt = attempts.remove(0);
    (attempt.class, attempt.error)
}

async fn servant_with_short_lease(fleet: &Fleet) -> Process {
    let short = [("SERVANT_WORK__LEASE_SECS", "4"), ("SERVANT_WORK__CONCURRENCY", "10")];
    fleet.deployment.start("effects", &short).await
}

#[tokio::test]
async fn a_bad_job_harms_itself_alone_and_a_long_one_runs_once() {
    tokio::join!(run_bad_jobs(Backend::Postgres), run_bad_jobs(Backend::Sqs));
}

async fn run_bad_jobs(backend: Backend) {
    let fleet = Fleet::on(backend).await;
    let _scheduler = fleet.scheduler().await;
    let mut servant = servant_with_short_lease(&fleet).await;
    let bad = [json!({"panic": true}), json!({"deaf_ms": 600_000})];
    let bad = fleet.try_enqueue_effects(&bad, 1).await.unwrap();
    let buggy = fleet.enqueue_effects(&[json!({"panic": true})]).await;
    let tried_again = fleet.enqueue_effects(&[json!({"transient_attempts": 3})]).await;
    let neighbours = fleet.enqueue_effects(&vec![json!({"page_ms": 1_000}); 4]).await;
    let outlives_its_lease = fleet.enqueue_effects(&vec![json!({"page_ms": 6_500}); 2]).await;
    fleet.assert_sound(&[&bad[..], &buggy, &tried_again, &neighbours, &outlives_its_lease].concat()).await;

    let (class, error) = only_failure(&fleet, bad[0]).await;
    assert!(class == "bug" && error.contains("panicked as ordered"), "{class}: {error}");
    let (class, error) = only_failure(&fleet, bad[1]).await;
    assert!(class == "transient" && error.contains("took longer than 8 s"), "{class}: {error}");
    let bugs = fleet.store.attempts_of(buggy[0]).await.unwrap();
    assert_eq!(fleet.job(buggy[0]).await.state, JobState::Failed);
    let classes: Vec<_> = bugs.iter().map(|attempt| attempt.class.as_str()).collect();
    assert_eq!(classes, ["bug", "bug"], "its kind gives a mistake two attempts of ten");
    let retried = fleet.job(tried_again[0]).await;
    assert_eq!((retried.state, retried.attempt), (JobState::Succeeded, 4));
    let pid = i32::try_from(servant.pid()).unwrap();
    for id in neighbours.iter().chain(&outlives_its_lease) {
        assert_eq!(fleet.job(*id).await.state, JobState::Succeeded);
        assert_eq!(fleet.tries(*id).await, [(1, pid)], "job {id} ran once");
    }
    assert!(servant.terminate(LIMIT).await.success(), "the process has outlived all of it");
}

#[tokio::test]
async fn a_job_that_never_yields_keeps_its_lease_and_is_ended_at_its_time() {
    tokio::join!(run_a_job_that_never_yields(Backend::Postgres), run_a_job_that_never_yields(Backend::Sqs));
}

async fn run_a_job_that_never_yields(backend: Backend) {
    let fleet = Fleet::on(backend).await;
    let _scheduler = fleet.scheduler().await;
    let mut servant = servant_with_short_lease(&fleet).await;
    let stuck = fleet.try_enqueue_effects(&[json!({"spin": true})], 1).await.unwrap();
    fleet.until_tried(&stuck, 1).await;
    // A second servant would get the job if its lease ran out.
    let heir = fleet.effects("10").await;
    let neighbours = fleet.enqueue_effects(&vec![json!({"page_ms": 500}); 6]).await;
    fleet.until(JobState::Succeeded, 6).await;
    assert!(servant.ended().is_none(), "its neighbours live while it spins");
    assert_eq!(fleet.job(stuck[0]).await.state, JobState::Running);

    let status = servant.exit(LIMIT).await;
    assert_eq!(status.code(), Some(1), "the process ends, so that a supervisor starts another");
    let (class, error) = only_failure(&fleet, stuck[0]).await;
    assert!(class == "bug" && error.contains("did not yield"), "{class}: {error}");
    assert_eq!(fleet.tries(stuck[0]).await.len(), 1, "it ran once");
    let job = fleet.job(stuck[0]).await;
    let ran = job.finished_at.unwrap() - job.claimed_at.unwrap();
    let limit = i64::try_from(STUCK_SECS).unwrap();
    assert!((limit - 1..limit + 10).contains(&ran.num_seconds()), "it was ended after {ran}");
    fleet.assert_sound(&[stuck, neighbours].concat()).await;
    drop(heir);
}

#[tokio::test]
async fn a_job_that_never_yields_does_not_keep_its_process_from_stopping() {
    tokio::join!(stop_a_job_that_never_yields(Backend::Postgres), stop_a_job_that_never_yields(Backend::Sqs));
}

async fn stop_a_job_that_never_yields(backend: Backend) {
    let fleet = Fleet::on(backend).await;
    let _scheduler = fleet.scheduler().await;
    let mut servant = fleet.deployment.start("effects", &[("SERVANT_PROCESS__DRAIN_SECS", "1")]).await;
    let stuck = fleet.try_enqueue_effects(&[json!({"spin": true})], 1).await.unwrap();
    fleet.until_tried(&stuck, 1).await;
    let status = servant.terminate(LIMIT).await;
    assert_eq!(status.code(), Some(1), "it says that it did not stop in order");
    fleet.assert_sound(&stuck).await;
    let (class, _) = only_failure(&fleet, stuck[0]).await;
    assert_eq!(class, "lease_lost");
}

/// One that is not done by its deadline has failed, whether it began or not; one with time left is none the worse.
#[tokio::test]
async fn a_deadline_ends_what_is_not_done_by_then() {
    tokio::join!(run_against_deadlines(Backend::Postgres), run_against_deadlines(Backend::Sqs));
}

async fn run_against_deadlines(backend: Backend) {
    let fleet = Fleet::on(backend).await;
    let _scheduler = fleet.scheduler().await;
    let mut servant = fleet.effects("10").await;
    let first = fleet.enqueue_effects(&[json!({})]).await;
    fleet.until(JobState::Succeeded, 1).await;
    let now = fleet.store.now();
    let job = |payload, secs| NewJob {
        deadline_at: Some(now + TimeDelta::seconds(secs)),
        ..NewJob::new(Kind::new("effects").unwrap(), payload)
    };
    let new = [job(json!({}), -1), job(json!({"page_ms": 600_000}), 4), job(json!({}), 600)];
    let new_id = |inserted| if let Inserted::New(id) = inserted { id } else { panic!("a duplicate") };
    let jobs: Vec<JobId> = fleet.store.insert_jobs(&new).await.unwrap().into_iter().map(new_id).collect();
    fleet.assert_sound(&[&first[..], &jobs].concat()).await;

    let (class, error) = only_failure(&fleet, jobs[0]).await;
    assert!(class == "deadline_exceeded" && error.contains("before it could start"), "{class}: {error}");
    assert!(fleet.tries(jobs[0]).await.is_empty(), "it never began");
    let (class, error) = only_failure(&fleet, jobs[1]).await;
    assert!(class == "deadline_exceeded" && error.contains("while it ran"), "{class}: {error}");
    let job = fleet.job(jobs[1]).await;
    let late = job.finished_at.unwrap() - job.deadline_at.unwrap();
    assert!((0..10).contains(&late.num_seconds()), "it was ended {late} after its deadline");
    assert_eq!(fleet.job(jobs[2]).await.state, JobState::Succeeded);
    assert!(servant.terminate(LIMIT).await.success());
}

#[tokio::test]
async fn progress_is_stored_while_a_job_runs() {
    let fleet = Fleet::on_postgres().await;
    let _scheduler = fleet.scheduler().await;
    let _servant = servant_with_short_lease(&fleet).await;
    let jobs = fleet.enqueue_effects(&[json!({"pages": 12, "page_ms": 300})]).await;
    let seen = eventually(LIMIT, "progress of a running job", async || {
        let job = fleet.job(jobs[0]).await;
        job.progress.filter(|_| job.state == JobState::Running)
    })
    .await;
    assert_eq!((&seen["total"], &seen["message"]), (&json!(12), &json!("pages")));
    assert!(seen["done"].as_u64().is_some_and(|done| (1..12).contains(&done)), "{seen}");
    fleet.assert_sound(&jobs).await;
}

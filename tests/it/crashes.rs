//! Servants killed and stopped at the worst moment: in their work, inside an effect's transaction, between two pages.
//! Nothing is lost, nothing happens twice. Both backends go side by side: most of the time is waiting for leases.

use crate::fleet::{Backend, Fleet, LIMIT};
use domain::{JobId, JobState};
use serde_json::json;
use std::time::{Duration, Instant};
use testkit::eventually;

/// A killed servant's jobs run again within this.
const RUN_AGAIN_MAX: Duration = Duration::from_secs(10);

/// Jobs for each place in which a servant can be hit.
async fn enqueue_targets(fleet: &Fleet) -> Vec<JobId> {
    let at_work = json!({"page_ms": 3_000});
    // Shorter than the database's patience with an idle transaction.
    let in_transaction = json!({"hold_ms": 2_500});
    let between_pages = json!({"pages": 5, "page_ms": 700, "children": 2});
    let payloads = [&at_work, &at_work, &in_transaction, &in_transaction, &between_pages, &between_pages];
    fleet.enqueue_effects(&payloads.map(Clone::clone)).await
}

async fn until_hit(fleet: &Fleet, jobs: &[JobId]) {
    fleet.until_tried(jobs, 1).await;
    eventually(LIMIT, "a page to be committed", async || fleet.job(jobs[5]).await.checkpoint).await;
}

async fn kill_a_servant(backend: Backend) {
    let fleet = Fleet::on(backend).await;
    let _scheduler = fleet.scheduler().await;
    let mut doomed = fleet.effects("6").await;
    let jobs = enqueue_targets(&fleet).await;
    until_hit(&fleet, &jobs).await;
    let under_way: Vec<JobId> = unfinished(&fleet, &jobs).await;
    doomed.kill();
    let killed = Instant::now();
    let heir = fleet.effects("6").await;
    fleet.until_tried(&under_way, 2).await;
    assert!(killed.elapsed() < RUN_AGAIN_MAX, "it took {:?}", killed.elapsed());
    fleet.assert_sound(&jobs).await;
    assert!(under_way.len() >= 4, "the kill came too late to prove anything: {under_way:?}");
    for id in under_way {
        let job = fleet.job(id).await;
        assert_eq!((job.state, job.attempt), (JobState::Succeeded, 2), "job {id}");
        let heirs_pid = i32::try_from(heir.pid()).unwrap();
        assert_eq!(fleet.tries(id).await.last(), Some(&(2, heirs_pid)));
    }
    assert_eq!(fleet.count(JobState::Succeeded).await, 6 + 4, "two jobs have two children each");
}

async fn unfinished(fleet: &Fleet, jobs: &[JobId]) -> Vec<JobId> {
    let mut left = Vec::new();
    for id in jobs {
        if !fleet.job(*id).await.state.is_finished() {
            left.push(*id);
        }
    }
    left
}

#[tokio::test]
async fn a_killed_servants_jobs_run_again_within_seconds() {
    tokio::join!(kill_a_servant(Backend::Postgres), kill_a_servant(Backend::Sqs));
}

async fn wake_a_servant_late(backend: Backend) {
    let fleet = Fleet::on(backend).await;
    let _scheduler = fleet.scheduler().await;
    let mut zombie = fleet.effects("6").await;
    let jobs = enqueue_targets(&fleet).await;
    until_hit(&fleet, &jobs).await;
    zombie.stop();
    let under_way = unfinished(&fleet, &jobs).await;
    let mut heir = fleet.effects("6").await;
    fleet.assert_sound(&jobs).await;
    let mut finished = Vec::new();
    for id in &jobs {
        finished.push(fleet.job(*id).await);
    }
    zombie.cont();
    assert!(heir.terminate(LIMIT).await.success());
    // Only the zombie is left to take these: it is awake, and has gone on with what it had.
    let more = fleet.enqueue_effects(&[json!({}), json!({})]).await;
    fleet.until(JobState::Succeeded, 6 + 4 + 2).await;
    assert!(zombie.terminate(LIMIT).await.success(), "it ended everything that it had in hand");
    for before in finished {
        assert_eq!(fleet.job(before.id).await, before, "a late servant changed a finished job");
    }
    assert!(under_way.len() >= 3, "the stop came too late to prove anything: {under_way:?}");
    for id in under_way {
        assert_eq!(fleet.job(id).await.attempt, 2, "job {id} was taken over");
    }
    fleet.assert_sound(&[jobs, more].concat()).await;
}

#[tokio::test]
async fn a_servant_that_wakes_up_late_changes_nothing() {
    tokio::join!(wake_a_servant_late(Backend::Postgres), wake_a_servant_late(Backend::Sqs));
}

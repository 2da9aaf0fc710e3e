//! What a fire does while a job of its schedule is unfinished, policy by policy, and "run now" by the same rules.

use crate::schedules::new;
use crate::world::{World, kind};
use domain::{JobState, Overlap, ScheduleId};
use store::{FailedAttempt, Fate, RanNow};
use uuid::Uuid;

/// Fires once a minute, with nobody working; answers with the number of new jobs of each minute.
async fn minutes(world: &World, count: usize) -> Vec<usize> {
    let mut made = Vec::new();
    for _ in 0..count {
        world.store.release_buffered(&world.lead, 10).await.unwrap();
        made.push(world.tick().await.jobs.len());
        world.assert_counted("a minute").await;
        world.advance_secs(60);
    }
    made
}

async fn finish_all(world: &World) {
    for job in world.claim(&kind("noop"), 100).await {
        assert!(world.store.succeed(&[job.key]).await.unwrap().contains(&job.key.id));
    }
}

#[tokio::test]
async fn skip_makes_none() {
    let world = World::new().await;
    let id = world.schedule(&new(&world, "s", Overlap::Skip)).await;
    assert_eq!(minutes(&world, 3).await, [1, 0, 0]);
    let busy = world.store.run_schedule(&testkit::granted(), id, Uuid::new_v4()).await.unwrap();
    assert!(matches!(busy, RanNow::Busy(Some(_))), "{busy:?}");
    finish_all(&world).await;
    assert!(matches!(
        world.store.run_schedule(&testkit::granted(), id, Uuid::new_v4()).await.unwrap(),
        RanNow::Inserted(_)
    ));
    assert_eq!(minutes(&world, 1).await, [0], "the one of run now is unfinished");
    finish_all(&world).await;
    assert_eq!(minutes(&world, 1).await, [1]);
}

#[tokio::test]
async fn a_failed_job_that_was_retried_is_still_the_schedules() {
    let world = World::new().await;
    let id = world.schedule(&new(&world, "s", Overlap::Skip)).await;
    let job = world.tick().await.jobs[0];
    let key = world.claim(&kind("noop"), 1).await[0].key;
    assert!(world.settle(key, Fate::Fail(crate::world::failure())).await);
    assert_eq!(world.retry_jobs(&[job]).await.unwrap(), [job]);
    assert_eq!(world.store.find_job(job).await.unwrap().unwrap().schedule_id, Some(id));
    assert_eq!(
        world.store.run_schedule(&testkit::granted(), id, Uuid::new_v4()).await.unwrap(),
        RanNow::Busy(Some(job))
    );
}

#[tokio::test]
async fn buffer_one_keeps_one_waiting_until_the_other_has_finished() {
    let world = World::new().await;
    let id = world.schedule(&new(&world, "b", Overlap::BufferOne)).await;
    let second_due = world.after_secs(60);
    assert_eq!(minutes(&world, 3).await, [1, 0, 0]);
    let buffered = world.store.find_schedule(id).await.unwrap().unwrap().buffered_due_at;
    assert_eq!(buffered, Some(second_due), "the first that had to wait");
    assert!(matches!(
        world.store.run_schedule(&testkit::granted(), id, Uuid::new_v4()).await.unwrap(),
        RanNow::Busy(Some(_))
    ));
    assert_eq!(world.store.release_buffered(&world.lead, 10).await.unwrap().jobs, [], "not yet");
    finish_all(&world).await;
    let released = world.store.release_buffered(&world.lead, 10).await.unwrap();
    assert_eq!(released.jobs.len(), 1);
    let due: chrono::DateTime<chrono::Utc> =
        sqlx::query_scalar("SELECT due_at FROM jobs").fetch_one(&world.sql).await.unwrap();
    assert_eq!(due, second_due);
    assert_eq!(world.store.run_schedule(&testkit::granted(), id, Uuid::new_v4()).await.unwrap(), RanNow::Buffered);
    assert_eq!(world.store.release_buffered(&world.lead, 10).await.unwrap().jobs, []);
    world.assert_counted("buffering").await;
}

#[tokio::test]
async fn cancel_older_ends_what_is_pending_and_asks_what_runs() {
    let world = World::new().await;
    let id = world.schedule(&new(&world, "c", Overlap::CancelOlder)).await;
    let first = world.tick().await.jobs[0];
    world.advance_secs(60);
    let second = world.tick().await.jobs[0];
    assert_eq!(world.state(first).await, JobState::Cancelled);
    let running = world.claim(&kind("noop"), 1).await[0].key;
    assert_eq!(running.id, second);
    world.advance_secs(60);
    let third = world.tick().await.jobs[0];
    assert_eq!(world.state(second).await, JobState::Running);
    let held = world.store.renew_leases(world.servant, &[running], world.after_secs(6)).await.unwrap();
    assert!(held[0].cancel_requested, "its servant is told");
    assert_eq!(world.state(third).await, JobState::Ready);
    let RanNow::Inserted(fourth) = world.store.run_schedule(&testkit::granted(), id, Uuid::new_v4()).await.unwrap()
    else {
        panic!("it makes its job whatever there is")
    };
    assert_eq!(world.state(third).await, JobState::Cancelled);
    assert_eq!(world.state(fourth).await, JobState::Ready);
    world.assert_counted("cancelling").await;
}

#[tokio::test]
async fn cancel_older_waits_for_nobody() {
    let world = World::new().await;
    world.schedule(&new(&world, "c", Overlap::CancelOlder)).await;
    let first = world.tick().await.jobs[0];
    // A servant's transaction holds the row.
    let mut held = world.sql.begin().await.unwrap();
    sqlx::query("SELECT id FROM jobs FOR UPDATE").execute(&mut *held).await.unwrap();
    world.advance_secs(60);
    let fired = world.tick().await;
    assert_eq!((fired.jobs.len(), &fired.uncancelled), (1, &vec![first]), "the caller asks again");
    let asked = async || world.store.cancel_older(&world.lead, &fired.uncancelled).await.unwrap();
    assert!(!asked().await, "and gives up after a second");
    assert_eq!(world.state(first).await, JobState::Ready);
    held.rollback().await.unwrap();
    assert!(asked().await);
    assert_eq!(world.state(first).await, JobState::Cancelled);
    world.assert_counted("cancelling later").await;
}

#[tokio::test]
async fn allow_makes_all() {
    let world = World::new().await;
    let id = world.schedule(&new(&world, "a", Overlap::Allow)).await;
    assert_eq!(minutes(&world, 3).await, [1, 1, 1]);
    assert!(matches!(
        world.store.run_schedule(&testkit::granted(), id, Uuid::new_v4()).await.unwrap(),
        RanNow::Inserted(_)
    ));
    let next = world.store.find_schedule(id).await.unwrap().unwrap().next_due_at;
    assert_eq!(next, Some(world.clock.now()), "run now moves nothing");
    assert_eq!(
        world.store.run_schedule(&testkit::granted(), ScheduleId(999), Uuid::new_v4()).await.unwrap(),
        RanNow::Missing
    );
}

#[tokio::test]
async fn jobs_of_one_schedule_may_wait_for_the_same_instant() {
    let world = World::new().await;
    world.schedule(&new(&world, "a", Overlap::Allow)).await;
    assert_eq!(minutes(&world, 3).await, [1, 1, 1]);
    let due = world.after_secs(500);
    let attempts: Vec<_> = world
        .claim(&kind("noop"), 3)
        .await
        .into_iter()
        .map(|job| FailedAttempt {
            key: job.key,
            fate: Fate::RetryAt { due, charged: false, failure: crate::world::failure() },
        })
        .collect();
    // As when a vendor says until when all of them are to stay away.
    assert_eq!(world.store.settle(&attempts).await.unwrap().len(), 3);
    assert_eq!(world.count("SELECT count(DISTINCT due_at) FROM jobs").await, 1);
}

//! What must survive a crash: processes killed and stopped at the worst moment lose nothing and double nothing.

use crate::fleet::{Fleet, LIMIT};
use domain::JobState;
use std::time::Instant;
use testkit::eventually;

#[tokio::test]
async fn a_killed_servants_jobs_run_again_within_seconds() {
    let fleet = Fleet::on_postgres().await;
    let _scheduler = fleet.scheduler().await;
    let mut doomed = fleet.servant("4").await;
    let jobs = fleet.enqueue(4, 3_000).await;
    fleet.until(JobState::Running, 4).await;
    doomed.kill();
    let killed = Instant::now();
    let _heir = fleet.servant("4").await;
    eventually(LIMIT, "the jobs run again", async || {
        let mut again = 0;
        for id in &jobs {
            let job = fleet.store.find_job(*id).await.ok()??;
            again += usize::from(job.attempt == 2);
        }
        (again == jobs.len()).then_some(())
    })
    .await;
    assert!(killed.elapsed().as_secs() < 10, "it took {:?}", killed.elapsed());
    fleet.assert_all_succeeded(&jobs).await;
}

#[tokio::test]
async fn a_servant_that_wakes_up_late_changes_nothing() {
    let fleet = Fleet::on_postgres().await;
    let _scheduler = fleet.scheduler().await;
    let zombie = fleet.servant("1").await;
    let jobs = fleet.enqueue(1, 2_000).await;
    fleet.until(JobState::Running, 1).await;
    zombie.stop();
    let _heir = fleet.servant("1").await;
    fleet.assert_all_succeeded(&jobs).await;
    let finished = fleet.store.find_job(jobs[0]).await.unwrap().unwrap();
    zombie.cont();
    let more = fleet.enqueue(1, 0).await;
    fleet.until(JobState::Succeeded, 2).await;
    let after = fleet.store.find_job(jobs[0]).await.unwrap().unwrap();
    assert_eq!((after.servant_id, after.finished_at, after.attempt), (finished.servant_id, finished.finished_at, 2));
    assert_eq!(fleet.count(JobState::Succeeded).await, 2, "{more:?}");
    assert_eq!(fleet.store.count_drift().await.unwrap(), vec![]);
}

#[tokio::test]
async fn another_scheduler_takes_over() {
    let fleet = Fleet::on_sqs().await;
    let mut first = fleet.scheduler().await;
    let _servant = fleet.servant("10").await;
    let jobs = fleet.enqueue(50, 0).await;
    fleet.assert_all_succeeded(&jobs).await;
    let _second = fleet.scheduler().await;
    first.kill();
    let mut all = jobs;
    all.extend(fleet.enqueue(50, 0).await);
    fleet.assert_all_succeeded(&all).await;
}

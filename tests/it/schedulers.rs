//! The leading scheduler killed in each gap of a job's way to the queue, and the one that takes over.
//! The gap is held open by the queue's misbehaviour, so that the kill really lands in it.

use crate::fleet::{Fleet, LIMIT};
use domain::{JobId, JobState};
use fakes::sqs::{Fault, Faults, Rule};
use serde_json::json;
use std::time::{Duration, Instant};
use testkit::{Process, eventually};

/// A standby leads within five seconds: the lease is good for four, and is looked at twice a second.
const FAILOVER_MAX: Duration = Duration::from_secs(5);
const LEADS: &str = "this scheduler leads";

/// Ids on their way to the queue.
async fn unsent(fleet: &Fleet) -> usize {
    fleet.store.unsent(1_000).await.map_or(usize::MAX, |entries| entries.len())
}

async fn until_all(fleet: &Fleet, jobs: &[JobId], state: JobState, unsent_wanted: usize) {
    eventually(LIMIT, &format!("all {state}, {unsent_wanted} in the outbox"), async || {
        for id in jobs {
            if fleet.job(*id).await.state != state {
                return None;
            }
        }
        (unsent(fleet).await == unsent_wanted).then_some(())
    })
    .await;
}

fn messages(fleet: &Fleet) -> usize {
    let stats = fleet.sqs.as_ref().unwrap().stats();
    stats.queues.get("servant-effects").map_or(0, |depth| depth.visible + depth.in_flight + depth.delayed)
}

/// Leases are short in this test: it waits for several to run out.
async fn new_leader(fleet: &Fleet) -> Process {
    let short = [("SERVANT_LEADER__LEASE_SECS", "2"), ("SERVANT_LEADER__RENEW_MS", "500")];
    let mut leader = fleet.deployment.start("scheduler", &short).await;
    leader.line_with(LIMIT, LEADS).await;
    leader
}

/// Kills the leader, and answers with its successor once it leads.
async fn succeed(fleet: &Fleet, mut leader: Process) -> Process {
    leader.kill();
    new_leader(fleet).await
}

/// What was held in the gap runs, once.
async fn finish(fleet: &Fleet, jobs: &[JobId], done: &mut Vec<JobId>) {
    let mut servant = fleet.deployment.start("effects", &[("SERVANT_WORK__LEASE_SECS", "2")]).await;
    done.extend(jobs);
    fleet.assert_sound(done).await;
    for id in jobs {
        assert_eq!(fleet.job(*id).await.state, JobState::Succeeded);
    }
    assert!(servant.terminate(LIMIT).await.success());
}

#[tokio::test]
async fn a_leader_may_die_in_any_gap_on_the_way_to_the_queue() {
    let fleet = Fleet::on_sqs().await;
    let sqs = fleet.sqs.as_ref().unwrap();
    let batch = vec![json!({}); 12];
    let mut done = Vec::new();
    let mut leader = new_leader(&fleet).await;

    // Inserted, not yet marked: it is stopped before they come.
    leader.stop();
    let jobs = fleet.enqueue_effects(&batch).await;
    until_all(&fleet, &jobs, JobState::Ready, 0).await;
    leader = succeed(&fleet, leader).await;
    finish(&fleet, &jobs, &mut done).await;

    // Marked, not sent: the queue refuses.
    sqs.set_faults(Faults::from([(Fault::Http5xx, Rule::with_probability(1.0))]));
    let jobs = fleet.enqueue_effects(&batch).await;
    until_all(&fleet, &jobs, JobState::Queued, jobs.len()).await;
    assert_eq!(messages(&fleet), 0);
    leader.kill();
    sqs.clear_faults();
    leader = succeed(&fleet, leader).await;
    until_all(&fleet, &jobs, JobState::Queued, 0).await;
    finish(&fleet, &jobs, &mut done).await;

    // Sent, and the mark still there: the queue executes and its answers are lost.
    sqs.set_faults(Faults::from([(Fault::AnswerLostAfterExecution, Rule::with_probability(1.0))]));
    let jobs = fleet.enqueue_effects(&batch).await;
    eventually(LIMIT, "the messages are on the queue", async || (messages(&fleet) >= jobs.len()).then_some(())).await;
    leader.kill();
    sqs.clear_faults();
    until_all(&fleet, &jobs, JobState::Queued, jobs.len()).await;
    leader = succeed(&fleet, leader).await;
    until_all(&fleet, &jobs, JobState::Queued, 0).await;
    assert!(messages(&fleet) > jobs.len(), "the successor sends again");
    finish(&fleet, &jobs, &mut done).await;

    // Sent and forgotten: nobody has claimed them yet.
    let jobs = fleet.enqueue_effects(&batch).await;
    until_all(&fleet, &jobs, JobState::Queued, 0).await;
    let _leader = succeed(&fleet, leader).await;
    finish(&fleet, &jobs, &mut done).await;
}

#[tokio::test]
async fn another_scheduler_takes_over() {
    let fleet = Fleet::on_sqs().await;
    let mut first = fleet.scheduler().await;
    first.line_with(LIMIT, LEADS).await;
    let mut second = fleet.scheduler().await;
    second.line_with(LIMIT, "stands by").await;
    let _servant = fleet.servant("10").await;
    let mut jobs = fleet.enqueue(50, 0).await;
    fleet.assert_all_succeeded(&jobs).await;
    first.kill();
    let killed = Instant::now();
    jobs.extend(fleet.enqueue(50, 0).await);
    second.line_with(LIMIT, LEADS).await;
    assert!(killed.elapsed() < FAILOVER_MAX, "it took {:?}", killed.elapsed());
    fleet.assert_all_succeeded(&jobs).await;

    // Asked to stop, a leader hands on at once.
    let mut third = fleet.scheduler().await;
    third.line_with(LIMIT, "stands by").await;
    assert!(second.terminate(LIMIT).await.success());
    third.line_with(LIMIT, LEADS).await;
    jobs.extend(fleet.enqueue(50, 0).await);
    fleet.assert_sound(&jobs).await;
}

#[tokio::test]
async fn a_leader_that_wakes_up_late_leads_no_more() {
    let fleet = Fleet::on_sqs().await;
    let mut zombie = fleet.scheduler().await;
    zombie.line_with(LIMIT, LEADS).await;
    zombie.stop();
    let mut heir = fleet.scheduler().await;
    heir.line_with(LIMIT, LEADS).await;
    let jobs = fleet.enqueue_effects(&vec![json!({}); 30]).await;
    zombie.cont();
    zombie.line_with(LIMIT, "no longer leads").await;
    let _servant = fleet.effects("10").await;
    fleet.assert_sound(&jobs).await;
    assert!(heir.ended().is_none() && zombie.ended().is_none(), "both go on, one leads");
}

//! What a job may rely on whichever way it takes from the scheduler to a servant: one list of laws, held on a queue and
//! without one, with the real processes. What is SQS's alone (receipts, batches, dead letters), the conformance suite of
//! `queue` has.

use crate::fleet::{Backend, Fleet, LIMIT};
use chrono::{TimeDelta, Utc};
use domain::{AccountId, JobId, JobState, Kind, URGENT};
use serde_json::json;
use std::time::Duration;
use store::{Inserted, NewJob};
use testkit::eventually;

/// Slots of the servant.
const SLOTS: i64 = 2;
/// Jobs that may stand between an urgent one and a free slot: what runs, and what was on its way to it before.
const AHEAD_MAX: usize = 6;

async fn insert(fleet: &Fleet, jobs: &[NewJob]) -> Vec<JobId> {
    let new = |inserted| if let Inserted::New(id) = inserted { id } else { panic!("a duplicate") };
    fleet.store.insert_jobs(jobs).await.unwrap().into_iter().map(new).collect()
}

fn sleeping(ms: u64) -> NewJob {
    NewJob::new(Kind::new("noop").unwrap(), json!({"sleep_ms": ms}))
}

/// How many of these started before that one.
async fn started_before(fleet: &Fleet, jobs: &[JobId], that: JobId) -> usize {
    let that = fleet.job(that).await.claimed_at.unwrap();
    let mut before = 0;
    for id in jobs {
        before += usize::from(fleet.job(*id).await.claimed_at.unwrap() < that);
    }
    before
}

/// How many of these had started when that one was inserted.
async fn started_by(fleet: &Fleet, jobs: &[JobId], that: JobId) -> usize {
    let came_at = fleet.job(that).await.created_at;
    let mut before = 0;
    for id in jobs {
        before += usize::from(fleet.job(*id).await.claimed_at.unwrap() < came_at);
    }
    before
}

/// Never more run than there are slots, and all slots are used.
async fn slots_are_all_used_and_never_exceeded(fleet: &Fleet) {
    let jobs = insert(fleet, &vec![sleeping(40); 40]).await;
    let mut most = 0;
    eventually(LIMIT, "forty jobs to end", async || {
        most = most.max(fleet.count(JobState::Running).await);
        let done = fleet.job(*jobs.last().unwrap()).await.state == JobState::Succeeded;
        (done && fleet.count(JobState::Succeeded).await >= 40).then_some(())
    })
    .await;
    assert_eq!(most, SLOTS);
}

/// What is urgent goes before what waits.
async fn urgent_jobs_go_first(fleet: &Fleet) {
    let waiting = insert(fleet, &vec![sleeping(60); 40]).await;
    eventually(LIMIT, "the first to run", async || (fleet.count(JobState::Running).await > 0).then_some(())).await;
    let urgent = insert(fleet, &[NewJob { priority: URGENT, ..sleeping(0) }]).await[0];
    eventually(LIMIT, "all to end", async || {
        let states = [urgent, *waiting.last().unwrap()];
        for id in states {
            if fleet.job(id).await.state != JobState::Succeeded {
                return None;
            }
        }
        Some(())
    })
    .await;
    let (before, already_begun) =
        (started_before(fleet, &waiting, urgent).await, started_by(fleet, &waiting, urgent).await);
    assert!(before <= already_begun + AHEAD_MAX, "{before} started before it, {already_begun} before it came");
}

/// An account that comes late does not wait for all that another has put in before.
async fn accounts_take_turns(fleet: &Fleet) {
    let loud = insert(fleet, &vec![NewJob { account: AccountId(1), ..sleeping(40) }; 40]).await;
    eventually(LIMIT, "the first to run", async || (fleet.count(JobState::Running).await > 0).then_some(())).await;
    let quiet = insert(fleet, &[NewJob { account: AccountId(2), ..sleeping(0) }]).await[0];
    eventually(LIMIT, "all to end", async || {
        let unfinished = fleet.count(JobState::Ready).await
            + fleet.count(JobState::Queued).await
            + fleet.count(JobState::Running).await;
        (unfinished == 0).then_some(())
    })
    .await;
    let (before, already_begun) = (started_before(fleet, &loud, quiet).await, started_by(fleet, &loud, quiet).await);
    assert!(before <= already_begun + AHEAD_MAX, "{before} started before it, {already_begun} before it came");
}

/// Nothing starts before it is due.
async fn nothing_starts_too_early(fleet: &Fleet) {
    let due_at = Utc::now() + TimeDelta::milliseconds(1_500);
    let later = insert(fleet, &[NewJob { due_at: Some(due_at), ..sleeping(0) }]).await[0];
    let now = insert(fleet, &[sleeping(0)]).await[0];
    eventually(LIMIT, "it to run", async || (fleet.job(later).await.state == JobState::Succeeded).then_some(())).await;
    let (later, now) = (fleet.job(later).await, fleet.job(now).await);
    assert!(later.claimed_at.unwrap() >= later.due_at && now.claimed_at.unwrap() < later.due_at);
}

/// What is cancelled before its turn never starts, and what another kind of servant is for is left to that.
async fn what_is_cancelled_or_of_another_kind_does_not_start(fleet: &Fleet) {
    let blocking = insert(fleet, &vec![sleeping(400); 4]).await;
    let cancelled = insert(fleet, &vec![sleeping(0); 5]).await;
    let others = fleet.enqueue_effects(&[json!({})]).await;
    assert_eq!(fleet.store.cancel_jobs(&cancelled).await.unwrap().len(), 5);
    eventually(LIMIT, "those before them to end", async || {
        (fleet.job(*blocking.last().unwrap()).await.state == JobState::Succeeded).then_some(())
    })
    .await;
    let after = insert(fleet, &[sleeping(0)]).await[0];
    eventually(LIMIT, "one after them to end", async || {
        (fleet.job(after).await.state == JobState::Succeeded).then_some(())
    })
    .await;
    for id in &cancelled {
        let job = fleet.job(*id).await;
        assert_eq!((job.state, job.claimed_at), (JobState::Cancelled, None));
    }
    let other = fleet.job(others[0]).await;
    assert!(matches!(other.state, JobState::Ready | JobState::Queued), "{other:?}");
    assert_eq!(fleet.store.cancel_jobs(&others).await.unwrap().len(), 1);
}

/// A servant that is killed costs seconds: what it ran runs again, charged with the attempt.
async fn what_a_killed_servant_had_runs_again(fleet: &Fleet, servant: &mut testkit::Process) {
    let jobs = insert(fleet, &vec![sleeping(1_500); 2]).await;
    eventually(LIMIT, "both to run", async || (fleet.count(JobState::Running).await == SLOTS).then_some(())).await;
    servant.kill();
    let killed_at = Utc::now();
    *servant = fleet.servant(&SLOTS.to_string()).await;
    for id in jobs {
        let again = eventually(LIMIT, "it to run again", async || {
            Some(fleet.job(id).await).filter(|job| job.state == JobState::Succeeded)
        })
        .await;
        assert_eq!(again.attempt, 2);
        let wait = again.claimed_at.unwrap() - killed_at;
        assert!(wait <= TimeDelta::from_std(Duration::from_secs(10)).unwrap(), "it ran again after {wait}");
    }
}

async fn laws_hold(backend: Backend) {
    let fleet = Fleet::on(backend).await;
    let _scheduler = fleet.impatient_scheduler().await;
    let mut servant = fleet.servant(&SLOTS.to_string()).await;
    slots_are_all_used_and_never_exceeded(&fleet).await;
    urgent_jobs_go_first(&fleet).await;
    accounts_take_turns(&fleet).await;
    nothing_starts_too_early(&fleet).await;
    what_is_cancelled_or_of_another_kind_does_not_start(&fleet).await;
    what_a_killed_servant_had_runs_again(&fleet, &mut servant).await;
    assert_eq!(fleet.store.count_drift().await.unwrap(), vec![]);
}

#[tokio::test]
async fn a_queue_keeps_the_laws() {
    laws_hold(Backend::Sqs).await;
}

#[tokio::test]
async fn the_table_keeps_the_laws() {
    laws_hold(Backend::Postgres).await;
}

//! What operators do by hand: a wait is ended before its time, and every act is kept with who did it and why, once it is
//! done and not otherwise.

use crate::world::{ADA, World, failure, kind};
use chrono::TimeDelta;
use domain::{AccountId, JobId, JobState, PauseTarget};
use store::{Fate, JobAct, Who};

async fn acts(world: &World, subject: &str, key: &str) -> Vec<(String, String, String)> {
    let acts = world.store.operator_acts(Some((subject, key)), None, 100).await.unwrap();
    assert!(acts.iter().all(|act| act.subject == subject && act.key == key));
    acts.into_iter().map(|act| (act.what, act.by, act.reason)).collect()
}

fn by_ada(what: &str) -> (String, String, String) {
    (what.to_owned(), ADA.by.to_owned(), ADA.reason.to_owned())
}

#[tokio::test]
async fn a_wait_before_a_retry_is_ended_by_hand() {
    let world = World::new().await;
    let noop = kind("noop");
    let (retried, key) = world.job_in(JobState::Running, &noop, 3).await;
    let due = world.after_secs(900);
    assert!(world.settle(key, Fate::RetryAt { due, charged: true, failure: failure() }).await);
    let (later, _) = world.job_in(JobState::Scheduled, &noop, 3).await;
    world.clock.advance(TimeDelta::seconds(1));
    let run_now = async |jobs: &[JobId]| world.store.act_on_jobs(jobs, JobAct::RunNow, ADA).await.unwrap();
    assert_eq!(run_now(&[retried, later, JobId(999)]).await, [retried, later]);
    for id in [retried, later] {
        let job = world.store.find_job(id).await.unwrap().unwrap();
        assert_eq!(
            (job.state, job.ready_at, job.due_at),
            (JobState::Ready, Some(world.clock.now()), world.clock.now())
        );
        assert_eq!(acts(&world, "job", &id.to_string()).await, [by_ada("run_now")]);
    }
    assert_eq!(world.attempt(retried).await, 1, "the failed attempt stays charged");
    assert!(acts(&world, "job", "999").await.is_empty());
    world.assert_counted("ready before their time").await;
    assert!(run_now(&[retried, later]).await.is_empty(), "they wait for their time no more");
    assert_eq!(world.claim(&noop, 10).await.len(), 2);
    assert!(run_now(&[retried]).await.is_empty(), "nor is one that runs run again");
    assert_eq!(acts(&world, "job", &retried.to_string()).await.len(), 1, "what did not happen was not done");
}

#[tokio::test]
async fn a_pause_holds_a_job_that_is_to_run_now() {
    let world = World::new().await;
    let noop = kind("noop");
    let (id, _) = world.job_in(JobState::Scheduled, &noop, 3).await;
    world.store.pause(&PauseTarget::Account(AccountId::SYSTEM), "ada", "a test").await.unwrap();
    assert_eq!(world.store.act_on_jobs(&[id], JobAct::RunNow, ADA).await.unwrap(), [id]);
    assert!(world.claim(&noop, 10).await.is_empty());
    assert!(world.store.resume(&PauseTarget::Account(AccountId::SYSTEM), ADA).await.unwrap());
    assert_eq!(world.claim(&noop, 10).await.len(), 1);
}

#[tokio::test]
async fn what_is_done_by_hand_is_kept_with_who_and_why_and_forgotten_in_time() {
    let world = World::new().await;
    let (job, _) = world.job_in(JobState::Ready, &kind("noop"), 3).await;
    for (act, what) in [(JobAct::Cancel, "cancelled"), (JobAct::Retry, "retried")] {
        assert_eq!(world.store.act_on_jobs(&[job], act, ADA).await.unwrap(), [job]);
        assert!(act != JobAct::Retry || world.store.act_on_jobs(&[job], act, ADA).await.unwrap().is_empty());
        assert_eq!(acts(&world, "job", &job.to_string()).await[0], by_ada(what));
    }
    let servant = world.servant;
    assert!(world.store.order_servant(servant, "drain", Who { by: "bob", reason: "a new version" }).await.unwrap());
    let listed = world.store.list_servants(None, 10).await.unwrap().remove(0);
    assert_eq!((listed.ordered.as_deref(), listed.ordered_by.as_deref()), (Some("drain"), Some("bob")));
    assert_eq!((listed.ordered_reason.as_deref(), listed.ordered_at), (Some("a new version"), Some(world.clock.now())));
    assert!(!world.store.order_servant(domain::ServantId(999), "drain", ADA).await.unwrap());
    assert!(acts(&world, "servant", "999").await.is_empty());

    let account = world.store.create_account("acme").await.unwrap();
    world.store.set_account_weight(account, 3, ADA).await.unwrap();
    assert_eq!(acts(&world, "account", &account.to_string()).await, [by_ada("weight 3")]);
    assert_eq!(world.store.set_account_weight(AccountId(999), 3, ADA).await.unwrap(), None);

    // All of them, page after page, the latest first.
    let all = world.store.operator_acts(None, None, 3).await.unwrap();
    let rest = world.store.operator_acts(None, all.last().map(|act| act.id), 3).await.unwrap();
    let whats: Vec<_> = all.iter().chain(&rest).map(|act| act.what.as_str()).collect();
    assert_eq!(whats, ["weight 3", "drain", "retried", "cancelled"]);
    let lead = world.store.lead("boot-1", 60).await.unwrap().unwrap();
    world.store.forget_operator_acts(&lead, world.clock.now()).await.unwrap();
    assert_eq!(world.store.operator_acts(None, None, 10).await.unwrap().len(), 4);
    world.store.forget_operator_acts(&lead, world.after_secs(1)).await.unwrap();
    assert!(world.store.operator_acts(None, None, 10).await.unwrap().is_empty());
}

//! What operators do by hand: a wait is ended before its time, and every act is kept with who did it and why, once it is
//! done and not otherwise.

use crate::world::{World, failure, kind};
use chrono::TimeDelta;
use domain::{AccountId, JobId, JobState, PauseTarget, action};
use serde_json::{Value, json};
use store::{AuditFilter, AuditRow, Fate};

async fn audit(world: &World, subject: &str, key: &str) -> Vec<AuditRow> {
    let (subject, key) = (Some(subject.to_owned()), Some(key.to_owned()));
    let filter = AuditFilter { subject, key, ..AuditFilter::default() };
    world.store.list_audit(&filter, 100).await.unwrap()
}

/// What was done, the latest first: the action, who and why, what was so before, and after.
async fn acts(world: &World, subject: &str, key: &str) -> Vec<(String, String, String, Option<Value>, Option<Value>)> {
    let rows = audit(world, subject, key).await.into_iter();
    rows.map(|row| (row.action, row.actor, row.reason, row.before, row.after)).collect()
}

fn by_ada(
    action: &str,
    before: Option<Value>,
    after: Option<Value>,
) -> (String, String, String, Option<Value>, Option<Value>) {
    (action.to_owned(), "ada".to_owned(), "a test".to_owned(), before, after)
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
    let run_now =
        async |jobs: &[JobId]| world.store.act_on_jobs(&testkit::granted::<action::RunJobNow>(), jobs).await.unwrap();
    assert_eq!(run_now(&[retried, later, JobId(999)]).await, [retried, later]);
    for id in [retried, later] {
        let job = world.store.find_job(id).await.unwrap().unwrap();
        assert_eq!(
            (job.state, job.ready_at, job.due_at),
            (JobState::Ready, Some(world.clock.now()), world.clock.now())
        );
        let (before, after) = (json!({"state": "scheduled"}), json!({"state": "ready"}));
        assert_eq!(acts(&world, "job", &id.to_string()).await, [by_ada("run_job_now", Some(before), Some(after))]);
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
    world.store.pause(&testkit::granted(), &PauseTarget::Account(AccountId::SYSTEM)).await.unwrap();
    assert_eq!(world.store.act_on_jobs(&testkit::granted::<action::RunJobNow>(), &[id]).await.unwrap(), [id]);
    assert!(world.claim(&noop, 10).await.is_empty());
    assert!(world.store.resume(&testkit::granted(), &PauseTarget::Account(AccountId::SYSTEM)).await.unwrap());
    assert_eq!(world.claim(&noop, 10).await.len(), 1);
}

#[tokio::test]
async fn what_is_done_by_hand_is_kept_with_who_why_and_what_changed() {
    let world = World::new().await;
    let (job, _) = world.job_in(JobState::Ready, &kind("noop"), 3).await;
    let cancelled = world.store.act_on_jobs(&testkit::granted::<action::CancelJob>(), &[job]).await.unwrap();
    assert_eq!(cancelled, [job]);
    let (ready, over) = (Some(json!({"state": "ready"})), Some(json!({"state": "cancelled"})));
    assert_eq!(acts(&world, "job", &job.to_string()).await[0], by_ada("cancel_job", ready.clone(), over.clone()));
    assert_eq!(world.retry_jobs(&[job]).await.unwrap(), [job]);
    assert!(world.retry_jobs(&[job]).await.unwrap().is_empty());
    assert_eq!(acts(&world, "job", &job.to_string()).await[0], by_ada("retry_job", over, ready));
    let servant = world.servant;
    let order = testkit::granted_to("bob", "a new version");
    assert!(world.store.order_servant(&order, servant, "drain").await.unwrap());
    let listed = world.store.list_servants(None, 10).await.unwrap().remove(0);
    assert_eq!((listed.ordered.as_deref(), listed.ordered_by.as_deref()), (Some("drain"), Some("bob")));
    assert_eq!((listed.ordered_reason.as_deref(), listed.ordered_at), (Some("a new version"), Some(world.clock.now())));
    assert!(!world.store.order_servant(&testkit::granted(), domain::ServantId(999), "drain").await.unwrap());
    assert!(acts(&world, "servant", "999").await.is_empty());

    let account = world.store.create_account("acme").await.unwrap();
    world.store.set_account_weight(&testkit::granted(), account, 3).await.unwrap();
    let weights = by_ada("set_weight", Some(json!({"weight": 1})), Some(json!({"weight": 3})));
    assert_eq!(acts(&world, "account", &account.to_string()).await[0], weights);
    assert_eq!(world.store.set_account_weight(&testkit::granted(), AccountId(999), 3).await.unwrap(), None);

    // All of them, page after page, the latest first.
    let all = world.store.list_audit(&AuditFilter::default(), 3).await.unwrap();
    let rest = AuditFilter { before: all.last().map(|row| row.seq), ..AuditFilter::default() };
    let rest = world.store.list_audit(&rest, 3).await.unwrap();
    let actions: Vec<_> = all.iter().chain(&rest).map(|row| row.action.as_str()).collect();
    assert_eq!(actions, ["set_weight", "create_account", "order_servant", "retry_job", "cancel_job"]);
    for (filter, count) in [
        (AuditFilter { actor: Some("bob".into()), ..AuditFilter::default() }, 1),
        (AuditFilter { action: Some("retry_job".into()), ..AuditFilter::default() }, 1),
        (AuditFilter { subject: Some("job".into()), ..AuditFilter::default() }, 2),
        (AuditFilter { account: Some(account), ..AuditFilter::default() }, 0),
        (AuditFilter { since: Some(world.after_secs(1)), ..AuditFilter::default() }, 0),
        (AuditFilter { since: Some(world.clock.now()), ..AuditFilter::default() }, 5),
    ] {
        assert_eq!(world.store.list_audit(&filter, 10).await.unwrap().len(), count, "{filter:?}");
    }
}

#[tokio::test]
async fn of_a_job_that_somebody_makes_a_digest_of_its_payload_is_kept() {
    let world = World::new().await;
    let job = store::NewJob::new(kind("noop"), json!({"secret": "hunter2"}));
    let granted = testkit::granted::<action::EnqueueJob>();
    let store::Inserted::New(id) = world.store.enqueue(&granted, &[job]).await.unwrap()[0] else { panic!("it is new") };
    let [row] = &audit(&world, "job", &id.to_string()).await[..] else { panic!("one row") };
    let after = row.after.as_ref().unwrap();
    assert_eq!((row.action.as_str(), &after["kind"]), ("enqueue_job", &json!("noop")));
    assert_eq!(after["payload_sha256"].as_str().unwrap().len(), 64);
    assert!(!after.to_string().contains("hunter2"));
}

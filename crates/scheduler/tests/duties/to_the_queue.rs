//! A job's way from its time to the queue: promote, dispatch, relay, and the sweep of what nobody claims.

use crate::world::{World, kind, sqs_of};
use domain::{JobState, ServantState};
use fakes::sqs::{Fault, Faults, Rule};
use queue::{Backend, Outgoing};
use scheduler::duties::{dispatch, promote, relay, sweep_unclaimed};
use std::time::Duration;
use store::{Delivered, NewJob};

const QUEUED: &str = "SELECT count(*) FROM jobs WHERE state = 2";
const UNSENT: &str = "SELECT count(*) FROM outbox";

async fn dispatched(world: &World) -> i64 {
    dispatch::perform(&world.office, &world.lead).await.unwrap();
    world.number(QUEUED).await
}

#[tokio::test]
async fn promote_makes_ready_what_is_due_and_wakes_its_kind() {
    let world = World::new().await;
    let later = |secs| NewJob { due_at: Some(world.after_secs(secs)), ..NewJob::new(kind(), serde_json::json!({})) };
    let jobs = world.insert(&[later(60), later(61)]).await;
    assert!(!promote::perform(&world.office, &world.lead).await.unwrap());
    world.advance_secs(60);
    let mut wake_ups = world.office.store.wake_ups().await.unwrap();
    assert!(promote::perform(&world.office, &world.lead).await.unwrap(), "there may be more");
    assert!(!promote::perform(&world.office, &world.lead).await.unwrap());
    let woken = tokio::time::timeout(Duration::from_secs(20), wake_ups.next()).await.expect("a wake-up").unwrap();
    assert!(woken.ready.contains_key("noop"));
    assert_eq!((world.state(jobs[0]).await, world.state(jobs[1]).await), (JobState::Ready, JobState::Scheduled));
    world.assert_counted().await;
}

#[tokio::test]
async fn dispatch_fills_a_window_sized_from_the_live_servants() {
    let world = World::new().await;
    let urgent = NewJob { priority: 0, ..NewJob::new(kind(), serde_json::json!({})) };
    world.insert_many(150).await;
    let first = world.insert(&[urgent]).await[0];
    assert_eq!(dispatched(&world).await, 20, "nobody is there: the least window");
    assert_eq!(world.state(first).await, JobState::Queued, "the urgent one before older ones");
    assert_eq!(dispatched(&world).await, 20, "the window is full");
    assert_eq!(world.number(UNSENT).await, 20, "each with its entry in the outbox");

    let servant = world.servant(30).await;
    assert_eq!(dispatched(&world).await, 31, "one for each free slot, and one more");
    world.office.store.touch_servant(servant, ServantState::Paused, 0).await.unwrap();
    world.run(40).await;
    assert_eq!(dispatched(&world).await, 2, "a paused servant takes nothing; one of a single slot has come");
    world.office.store.touch_servant(servant, ServantState::Running, 0).await.unwrap();
    world.advance_secs(9);
    assert_eq!(dispatched(&world).await, 32);
    let busy = world.claim(10, 60).await;
    assert_eq!(dispatched(&world).await, 23, "the slots of ten are taken, and another servant has come");
    world.office.store.succeed(&busy.iter().map(|job| job.key).collect::<Vec<_>>()).await.unwrap();
    world.run(23).await;
    world.advance_secs(11);
    world.insert_many(30).await;
    assert_eq!(dispatched(&world).await, 20, "nobody has been heard of for long");
    world.assert_counted().await;
}

#[tokio::test]
async fn relay_sends_each_entry_and_forgets_it() {
    let world = World::new().await;
    world.insert_many(15).await;
    dispatched(&world).await;
    for _ in 0..2 {
        assert!(!relay::perform(&world.office, &world.lead).await.unwrap());
        assert_eq!((world.messages(), world.number(UNSENT).await), (15, 0), "done twice is done once");
    }
}

#[tokio::test]
async fn relay_keeps_what_the_queue_did_not_take() {
    let world = World::new().await;
    world.insert_many(15).await;
    dispatched(&world).await;
    world.fake.set_faults(Faults::from([(Fault::Http5xx, Rule::with_probability(1.0))]));
    let error = relay::perform(&world.office, &world.lead).await.unwrap_err();
    assert!(error.to_string().contains("did not take 15 ids"), "{error:#}");
    assert_eq!((world.messages(), world.number(UNSENT).await), (0, 15));
    world.fake.clear_faults();
    relay::perform(&world.office, &world.lead).await.unwrap();
    assert_eq!((world.messages(), world.number(UNSENT).await), (15, 0));
}

#[tokio::test]
async fn what_waits_for_a_queue_that_takes_nothing_keeps_nobody_else_waiting() {
    let mut world = World::new().await;
    // A queue for a kind of sixty letters would have a longer name than SQS allows.
    let prefix = "servant-of-a-test";
    world.office.queue = Backend::Sqs(sqs_of(&world.fake, prefix).await);
    world.insert_many(15).await;
    dispatched(&world).await;
    // More of them than one go sends, and before the others in order.
    let full = "INSERT INTO outbox (kind, job_id, account_id, queued_at)
        SELECT repeat('a', 60), 1000000 + i, 0, now() FROM generate_series(1, 1500) AS i";
    sqlx::query(full).execute(&world.sql).await.unwrap();
    let error = relay::perform(&world.office, &world.lead).await.unwrap_err();
    assert!(error.to_string().contains("did not take 1000 ids"), "{error:#}");
    let sent = world.fake.stats().queues.get("servant-of-a-test-noop").map(|depth| depth.visible);
    assert_eq!((sent, world.number(UNSENT).await), (Some(15), 1_500));
}

#[tokio::test]
async fn a_leader_that_dies_between_sending_and_forgetting_doubles_messages_and_no_claim() {
    let mut world = World::new().await;
    let jobs = world.insert_many(12).await;
    dispatched(&world).await;
    // What it has done when it stops there.
    let sent: Vec<Outgoing> = jobs.iter().map(|id| Outgoing { job_id: id.0, account_id: 0 }).collect();
    assert_eq!(world.sqs.send("noop", &sent, world.clock.now()).await.sent.len(), 12);
    let old = world.depose().await;
    let entries: Vec<i64> = world.office.store.unsent(100).await.unwrap().iter().map(|entry| entry.entry).collect();
    world.office.store.forget_sent(&old, &kind(), &entries).await.unwrap();
    assert_eq!(world.number(UNSENT).await, 12, "one that leads no more forgets nothing");
    relay::perform(&world.office, &world.lead).await.unwrap();
    assert_eq!((world.messages(), world.number(UNSENT).await), (24, 0));

    let servant = world.servant(20).await;
    let until = world.after_secs(60);
    let mut claimed = 0;
    for _ in 0..3 {
        let batch = world.sqs.receive_many("noop", 10, 1).await.unwrap().deliveries;
        let delivered: Vec<_> =
            batch.iter().map(|d| Delivered { id: domain::JobId(d.job_id), sent_at: d.sent_at }).collect();
        claimed += world.office.store.claim_delivered(servant, &kind(), &delivered, until).await.unwrap().len();
    }
    assert_eq!(claimed, 12);
    world.assert_counted().await;
}

#[tokio::test]
async fn the_sweep_waits_twice_as_long_each_time() {
    let world = World::new().await;
    let jobs = world.insert_many(2).await;
    dispatched(&world).await;
    relay::perform(&world.office, &world.lead).await.unwrap();
    let delivered = [Delivered { id: jobs[1], sent_at: world.clock.now() }];
    let (servant, until) = (world.servant(1).await, world.after_secs(3_600));
    let claimed = world.office.store.claim_delivered(servant, &kind(), &delivered, until).await.unwrap();
    assert_eq!(claimed.len(), 1, "what is claimed is no business of the sweep");
    for (sends, wait_secs) in [(1, 15), (2, 30), (3, 60), (4, 120), (5, 120)] {
        world.advance_secs(wait_secs);
        sweep_unclaimed::perform(&world.office, &world.lead).await.unwrap();
        assert_eq!(world.number(UNSENT).await, 0, "too early after {sends}");
        world.advance_secs(1);
        for _ in 0..2 {
            assert!(!sweep_unclaimed::perform(&world.office, &world.lead).await.unwrap());
            assert_eq!(world.number(UNSENT).await, 1, "done twice is done once");
        }
        let nudge = tokio::time::timeout(Duration::from_secs(20), world.office.outbox_filled.notified());
        nudge.await.expect("the relay is nudged");
        relay::perform(&world.office, &world.lead).await.unwrap();
        assert_eq!(world.office.store.find_job(jobs[0]).await.unwrap().unwrap().sends, sends + 1);
        assert_eq!(world.messages(), 2 + usize::try_from(sends).unwrap());
    }
    world.assert_counted().await;
}

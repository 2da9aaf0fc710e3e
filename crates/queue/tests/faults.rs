//! Owns what the queue does when the server misbehaves. Does not own the server's ordinary behaviour (`conformance.rs`).

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

use std::{collections::BTreeSet, time::Duration};

use chrono::Utc;
use fakes::sqs::{Clock, FakeSqs, Fault, Faults, ManualClock, Options, Rule};
use queue::{Outgoing, QueueError, Sqs, SqsConfig, StaticCredentials};

async fn connect(fake: &FakeSqs, wait_secs: u32) -> Sqs {
    let static_credentials = Some(StaticCredentials {
        access_key_id: "test".to_owned(),
        secret_access_key: "test".to_owned().into(),
        region: "us-east-1".to_owned(),
    });
    let endpoint_url = Some(fake.url());
    let sqs = Sqs::connect(SqsConfig { endpoint_url, wait_secs, static_credentials, ..SqsConfig::default() });
    sqs.await.unwrap()
}

fn jobs(ids: std::ops::Range<i64>) -> Vec<Outgoing> {
    ids.map(|job_id| Outgoing { job_id, account_id: 1 }).collect()
}

async fn started() -> (FakeSqs, Sqs) {
    let fake = FakeSqs::start(Options::default()).await.unwrap();
    let sqs = connect(&fake, 0).await;
    sqs.ensure("work").await.unwrap();
    (fake, sqs)
}

#[tokio::test]
async fn failed_entries_are_sent_again_alone() {
    let (fake, sqs) = started().await;
    fake.set_faults(Faults::from([(Fault::EntryFailed, Rule::next(4))]));
    let report = sqs.send("work", &jobs(0..10), Utc::now()).await;
    assert_eq!(report.failed, []);
    assert_eq!(report.sent.iter().copied().collect::<BTreeSet<_>>(), (0..10).collect());
    let received = sqs.receive_many("work", 20, 2).await.unwrap();
    assert_eq!(received.deliveries.len(), 10, "each id once");

    fake.set_faults(Faults::from([(Fault::EntryFailed, Rule::next(2))]));
    let report = sqs.delete("work", received.deliveries.into_iter().map(|d| d.receipt).collect()).await;
    assert_eq!((report.deleted, report.failed.len()), (10, 0));
    assert_eq!(fake.stats().queues["servant-work"].in_flight, 0);
}

#[tokio::test]
async fn an_entry_that_always_fails_is_reported() {
    let (fake, sqs) = started().await;
    fake.set_faults(Faults::from([(Fault::EntryFailed, Rule::with_probability(1.0))]));
    let report = sqs.send("work", &jobs(1..3), Utc::now()).await;
    assert!(report.sent.is_empty());
    assert_eq!(report.failed.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>(), BTreeSet::from([1, 2]));
    assert!(report.failed[0].1.contains("InternalError"), "{:?}", report.failed);
}

#[tokio::test]
async fn throttling_and_server_errors_are_tried_again() {
    let (fake, sqs) = started().await;
    fake.set_faults(Faults::from([(Fault::Throttle, Rule::next(1)), (Fault::Http5xx, Rule::next(1))]));
    assert_eq!(sqs.send("work", &jobs(1..2), Utc::now()).await.sent, [1]);
    fake.set_faults(Faults::from([(Fault::Throttle, Rule::with_probability(1.0))]));
    assert!(matches!(sqs.receive("work", 1).await, Err(QueueError::Throttled { .. })));
}

#[tokio::test]
async fn a_lost_answer_doubles_instead_of_losing() {
    let (fake, sqs) = started().await;
    fake.set_faults(Faults::from([(Fault::AnswerLostAfterExecution, Rule::next(1))]));
    assert_eq!(sqs.send("work", &jobs(1..2), Utc::now()).await.sent, [1]);
    assert_eq!(fake.stats().queues["servant-work"].visible, 2);
}

#[tokio::test]
async fn faults_on_messages_show() {
    let (fake, sqs) = started().await;
    fake.set_faults(Faults::from([(Fault::Lose, Rule::next(1)), (Fault::Duplicate, Rule::next(2))]));
    sqs.send("work", &jobs(0..3), Utc::now()).await;
    // One of the two copies belongs to the message that was lost.
    assert_eq!(fake.stats().queues["servant-work"].visible, 3);
    fake.set_faults(Faults::from([(Fault::Delay, Rule::next(1))]));
    sqs.send("work", &jobs(3..4), Utc::now()).await;
    assert_eq!(fake.stats().queues["servant-work"].delayed, 1);
}

/// The order in which ten messages come from a server that reorders, or does not.
async fn order_of_ten(reorders: bool) -> Vec<i64> {
    let (fake, sqs) = started().await;
    sqs.send("work", &jobs(0..10), Utc::now()).await;
    fake.set_faults(Faults::from([(Fault::Reorder, Rule::with_probability(f64::from(u8::from(reorders))))]));
    sqs.receive("work", 10).await.unwrap().deliveries.iter().map(|delivery| delivery.job_id).collect()
}

#[tokio::test]
async fn a_reordering_queue_loses_nothing_and_goes_by_its_seed() {
    assert_eq!(order_of_ten(false).await, (0..10).collect::<Vec<_>>());
    let order = order_of_ten(true).await;
    assert_ne!(order, (0..10).collect::<Vec<_>>());
    assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), (0..10).collect());
    assert_eq!(order, order_of_ten(true).await, "the same seed, the same order");
}

#[tokio::test]
async fn a_server_that_forgot_its_queues_gets_them_again() {
    let (fake, sqs) = started().await;
    let addr = fake.addr();
    fake.stop().await;
    let fake = FakeSqs::start(Options { addr, ..Options::default() }).await.unwrap();
    assert_eq!(sqs.send("work", &jobs(1..2), Utc::now()).await.sent, [1]);
    drop(fake);
}

#[tokio::test]
async fn nobody_there_is_unavailable_with_its_reason() {
    let (fake, sqs) = started().await;
    fake.stop().await;
    let error = sqs.receive("work", 1).await.unwrap_err();
    assert!(matches!(error, QueueError::Unavailable { .. }), "{error:?}");
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn one_arrival_wakes_one_long_poll() {
    let clock = ManualClock::new(0);
    let options = Options { clock: Clock::Manual(clock.clone()), ..Options::default() };
    let fake = FakeSqs::start(options).await.unwrap();
    let sqs = connect(&fake, 20).await;
    sqs.ensure("work").await.unwrap();
    let polls: Vec<_> = (0..3)
        .map(|_| {
            let sqs = sqs.clone();
            tokio::spawn(async move { sqs.receive("work", 10).await.unwrap().deliveries.len() })
        })
        .collect();
    let waiting = async {
        while fake.stats().requests.get("ReceiveMessage") != Some(&3) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
    sqs.send("work", &jobs(1..2), Utc::now()).await;
    let ended = async {
        while polls.iter().filter(|poll| poll.is_finished()).count() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
    assert_eq!(polls.iter().filter(|poll| poll.is_finished()).count(), 1);
    // The others end empty when their wait is over, before the message shows again at thirty seconds.
    clock.advance(Duration::from_secs(20));
    let mut counts = Vec::new();
    for poll in polls {
        counts.push(tokio::time::timeout(Duration::from_secs(10), poll).await.unwrap().unwrap());
    }
    counts.sort_unstable();
    assert_eq!(counts, [0, 0, 1]);
}

#[tokio::test]
async fn every_call_can_be_spawned() {
    let (_fake, sqs) = started().await;
    let task = tokio::spawn(async move {
        sqs.send("work", &jobs(0..12), Utc::now()).await;
        let received = sqs.receive_many("work", 12, 2).await?;
        sqs.delete("work", received.deliveries.into_iter().map(|d| d.receipt).collect()).await;
        sqs.redrive("work").await?;
        sqs.list().await
    });
    assert_eq!(task.await.unwrap().unwrap()[0].in_flight, 0);
}

//! Owns the proof that the queue behaves the same on every server: the simulated one by default, the one at
//! `SERVANT_SQS_ENDPOINT_URL` when that is set. Where servers differ, a test holds what is true of all of them and
//! prints, after `server:`, what this one does. Does not own faults, which only the simulated server has.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

use std::{
    collections::BTreeSet,
    future::Future,
    time::{Duration, Instant},
};

use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::{Client, config::Credentials, types::MessageSystemAttributeName};
use chrono::{DateTime, Utc};
use fakes::sqs::{FakeSqs, Options};
use queue::{Outgoing, QueueDepth, Received, Redriven, Sqs, SqsConfig, StaticCredentials};

const LIMIT: Duration = Duration::from_secs(20);

/// One test's own queues on the server under test.
struct World {
    fake: Option<FakeSqs>,
    url: String,
    config: SqsConfig,
    sqs: Sqs,
}

impl World {
    async fn new(test: &str, change: impl FnOnce(&mut SqsConfig)) -> Self {
        let (fake, url) = match std::env::var("SERVANT_SQS_ENDPOINT_URL") {
            Ok(url) => (None, url),
            Err(_) => {
                let fake = FakeSqs::start(Options::default()).await.unwrap();
                let url = fake.url();
                (Some(fake), url)
            }
        };
        let unique = Utc::now().timestamp_nanos_opt().unwrap();
        let mut config = SqsConfig {
            endpoint_url: Some(url.clone()),
            prefix: format!("{test}-{unique}"),
            wait_secs: 1,
            static_credentials: Some(StaticCredentials {
                access_key_id: "test".to_owned(),
                secret_access_key: "test".to_owned().into(),
                region: "us-east-1".to_owned(),
            }),
            ..SqsConfig::default()
        };
        change(&mut config);
        let sqs = Sqs::connect(config.clone()).await.unwrap();
        Self { fake, url, config, sqs }
    }

    /// A plain client, for what the queue does not let a caller do.
    async fn raw(&self) -> (Client, String) {
        let shared = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(&self.url)
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .load()
            .await;
        let client = Client::new(&shared);
        let name = format!("{}-work", self.config.prefix);
        let url = client.get_queue_url().queue_name(name).send().await.unwrap().queue_url.unwrap();
        (client, url)
    }

    async fn put_raw(&self, body: &str) {
        let (client, url) = self.raw().await;
        client.send_message().queue_url(url).message_body(body).send().await.unwrap();
    }

    /// The groups of the messages that wait.
    async fn groups(&self) -> BTreeSet<Option<String>> {
        let (client, url) = self.raw().await;
        let name = MessageSystemAttributeName::MessageGroupId;
        let groups = std::sync::Mutex::new((0, BTreeSet::new()));
        until("three messages", async || {
            let call = client.receive_message().queue_url(&url).max_number_of_messages(10).wait_time_seconds(1);
            let answer = call.message_system_attribute_names(name.clone()).send().await.unwrap();
            let mut groups = groups.lock().unwrap();
            for message in answer.messages() {
                groups.0 += 1;
                groups.1.insert(message.attributes().and_then(|found| found.get(&name).cloned()));
            }
            groups.0 >= 3
        })
        .await;
        groups.into_inner().unwrap().1
    }

    async fn depth(&self) -> QueueDepth {
        let depths = self.sqs.list().await.unwrap();
        assert_eq!(depths.len(), 1, "{depths:?}");
        depths.into_iter().next().unwrap()
    }

    /// Receives until `enough` says so.
    async fn receive_until(&self, enough: impl Fn(&Received) -> bool) -> Received {
        let all = std::sync::Mutex::new(Received::default());
        until("messages", async || {
            let received = self.sqs.receive_many("work", 30, 3).await.unwrap();
            let mut all = all.lock().unwrap();
            all.deliveries.extend(received.deliveries);
            all.malformed.extend(received.malformed);
            enough(&all)
        })
        .await;
        all.into_inner().unwrap()
    }
}

async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < LIMIT, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_micros(Utc::now().timestamp_micros()).unwrap()
}

fn jobs(ids: std::ops::Range<i64>) -> Vec<Outgoing> {
    ids.map(|job_id| Outgoing { job_id, account_id: job_id % 3 }).collect()
}

#[tokio::test]
async fn ensuring_twice_changes_nothing() {
    let world = World::new("ensure", |_| {}).await;
    world.sqs.ensure("work").await.unwrap();
    world.sqs.ensure("work").await.unwrap();
    let depth = world.depth().await;
    assert_eq!((depth.kind.as_str(), depth.visible, depth.dead), ("work", 0, 0));
    // Other settings are no conflict.
    let changed = SqsConfig { visibility_secs: 7, receive_count_max: 9, ..world.config.clone() };
    Sqs::connect(changed).await.unwrap().ensure("work").await.unwrap();
}

#[tokio::test]
async fn twenty_five_go_through_and_are_deleted() {
    let world = World::new("through", |_| {}).await;
    world.sqs.ensure("work").await.unwrap();
    let sent_at = now();
    let before = world.sqs.request_count();
    let report = world.sqs.send("work", &jobs(0..25), sent_at).await;
    assert_eq!(world.sqs.request_count() - before, 3, "batches of ten");
    assert_eq!(report.failed, []);
    assert_eq!(report.sent.iter().copied().collect::<BTreeSet<_>>(), (0..25).collect());
    until("depth", async || world.depth().await.visible == 25).await;

    let ids = |all: &Received| all.deliveries.iter().map(|d| d.job_id).collect::<BTreeSet<_>>();
    let all = world.receive_until(|all| ids(all).len() == 25).await;
    assert!(all.deliveries.iter().all(|d| d.sent_at == sent_at && d.receive_count >= 1));
    let receipts = all.deliveries.into_iter().map(|d| d.receipt).collect::<Vec<_>>();
    let count = receipts.len();
    let report = world.sqs.delete("work", receipts).await;
    assert_eq!((report.deleted, report.failed.len()), (count, 0));
    until("emptiness", async || {
        let depth = world.depth().await;
        (depth.visible, depth.in_flight) == (0, 0)
    })
    .await;
}

#[tokio::test]
async fn messages_carry_their_account_as_group_unless_that_is_switched_off() {
    for fair_groups in [true, false] {
        let world = World::new("fair", |config| config.fair_groups = fair_groups).await;
        world.sqs.ensure("work").await.unwrap();
        assert_eq!(world.sqs.send("work", &jobs(0..3), now()).await.failed, []);
        let groups = world.groups().await;
        let accounts: BTreeSet<_> = ["0", "1", "2"].map(|account| Some(account.to_owned())).into();
        if fair_groups && world.fake.is_none() && groups != accounts {
            println!("server: does not tell a message's group");
            continue;
        }
        assert_eq!(groups, if fair_groups { accounts } else { BTreeSet::from([None]) });
    }
}

#[tokio::test]
async fn never_more_than_the_free_slots() {
    let world = World::new("slots", |_| {}).await;
    world.sqs.ensure("work").await.unwrap();
    world.sqs.send("work", &jobs(0..25), now()).await;
    assert!(world.sqs.receive("work", 0).await.unwrap().deliveries.is_empty());
    assert!(world.sqs.receive_many("work", 0, 4).await.unwrap().deliveries.is_empty());
    let some = world.sqs.receive_many("work", 13, 8).await.unwrap().deliveries.len();
    assert!((1..=13).contains(&some), "{some}");
}

#[tokio::test]
async fn nothing_to_receive_is_not_an_error() {
    let world = World::new("empty", |_| {}).await;
    world.sqs.ensure("work").await.unwrap();
    assert_eq!(world.sqs.receive("work", 10).await.unwrap(), Received::default());
}

#[tokio::test]
async fn an_undeleted_message_comes_back_and_counts() {
    let world = World::new("visible", |config| config.visibility_secs = 1).await;
    world.sqs.ensure("work").await.unwrap();
    world.sqs.send("work", &jobs(7..8), now()).await;
    let all = world.receive_until(|all| all.deliveries.iter().any(|d| d.receive_count >= 2)).await;
    assert!(all.deliveries.iter().all(|d| d.job_id == 7));
}

/// Servers read the contract in different ways: Amazon's and ministack keep a message whose receipt was superseded by
/// a later receive, moto deletes it. Both are harmless, since the row decides; what must hold is below.
#[tokio::test]
async fn a_superseded_receipt_neither_fails_nor_spoils_the_present_one() {
    let mut world = World::new("superseded", |config| config.visibility_secs = 1).await;
    world.sqs.ensure("work").await.unwrap();
    world.sqs.send("work", &jobs(7..8), now()).await;
    let superseded = world.receive_until(|all| !all.deliveries.is_empty()).await.deliveries.remove(0);
    // From here on a receive hides the message for longer than the test takes.
    world.sqs = Sqs::connect(SqsConfig { visibility_secs: 60, ..world.config.clone() }).await.unwrap();
    let present = world.receive_until(|all| all.deliveries.iter().any(|d| d.receive_count >= 2)).await;
    let present = present.deliveries.into_iter().max_by_key(|d| d.receive_count).unwrap();

    let report = world.sqs.delete("work", vec![superseded.receipt]).await;
    assert_eq!(report.deleted + report.failed.len(), 1, "each receipt is answered once: {report:?}");
    let depth = world.depth().await;
    let is_kept = (depth.visible, depth.in_flight) == (0, 1);
    assert!(is_kept || (depth.visible, depth.in_flight) == (0, 0), "it may not show again at once: {depth:?}");
    assert!(is_kept || report.failed.is_empty(), "what was refused must not have happened: {report:?}");
    let says = if report.failed.is_empty() { "acknowledges" } else { "refuses" };
    println!("server: {says} a superseded receipt and {} the message", if is_kept { "keeps" } else { "deletes" });

    let report = world.sqs.delete("work", vec![present.receipt]).await;
    assert_eq!(report.deleted + report.failed.len(), 1);
    assert!(!is_kept || report.deleted == 1, "the present receipt deletes what is there: {report:?}");
    let depth = world.depth().await;
    assert_eq!((depth.visible, depth.in_flight), (0, 0));
}

#[tokio::test]
async fn deleting_twice_is_not_an_error() {
    let world = World::new("twice", |_| {}).await;
    world.sqs.ensure("work").await.unwrap();
    world.sqs.send("work", &jobs(1..2), now()).await;
    let all = world.receive_until(|all| !all.deliveries.is_empty()).await;
    let receipts = vec![all.deliveries[0].receipt.clone()];
    assert_eq!(world.sqs.delete("work", receipts.clone()).await.deleted, 1);
    let again = world.sqs.delete("work", receipts).await;
    assert_eq!(again.deleted + again.failed.len(), 1);
}

#[tokio::test]
async fn one_bad_receipt_does_not_spoil_its_batch() {
    let world = World::new("partial", |_| {}).await;
    world.sqs.ensure("work").await.unwrap();
    world.sqs.send("work", &jobs(0..3), now()).await;
    let all = world.receive_until(|all| all.deliveries.len() >= 3).await;
    let mut receipts = all.deliveries.into_iter().map(|d| d.receipt).collect::<Vec<_>>();
    receipts.insert(1, "not a receipt".to_owned());
    let report = world.sqs.delete("work", receipts).await;
    assert!(report.deleted >= 3, "{report:?}");
    until("emptiness", async || {
        let depth = world.depth().await;
        (depth.visible, depth.in_flight) == (0, 0)
    })
    .await;
}

#[tokio::test]
async fn malformed_messages_are_set_apart() {
    let world = World::new("malformed", |_| {}).await;
    world.sqs.ensure("work").await.unwrap();
    world.put_raw("größe ≠ 日本語 🦀 \t\" \\").await;
    world.sqs.send("work", &jobs(5..6), now()).await;
    let all = world.receive_until(|all| !all.malformed.is_empty() && !all.deliveries.is_empty()).await;
    assert_eq!(all.malformed[0].body_excerpt, "größe ≠ 日本語 🦀 \t\" \\");
    assert!(!all.malformed[0].reason.is_empty());
    assert_eq!(all.deliveries[0].job_id, 5);
}

#[tokio::test]
async fn a_spent_message_dies_and_can_be_brought_back() {
    let mut world = World::new("redrive", |config| {
        config.visibility_secs = 1;
        config.receive_count_max = 1;
    })
    .await;
    world.sqs.ensure("work").await.unwrap();
    world.sqs.send("work", &jobs(9..10), now()).await;
    world.receive_until(|all| !all.deliveries.is_empty()).await;
    until("a dead letter", async || {
        // Servers move a spent message when it would be received again.
        world.sqs.receive("work", 10).await.unwrap();
        world.depth().await.dead == 1
    })
    .await;
    // From here on a receive hides the message long enough not to spend it again.
    let config = SqsConfig { visibility_secs: 30, ..world.config.clone() };
    world.sqs = Sqs::connect(config).await.unwrap();
    match world.sqs.redrive("work").await.unwrap() {
        Redriven::Begun => println!("server: has a move task"),
        Redriven::Moved(letters) => {
            println!("server: has no move task, letters are moved by hand");
            assert_eq!(letters, 1);
        }
    }
    let back = world.receive_until(|all| !all.deliveries.is_empty()).await;
    assert_eq!(back.deliveries[0].job_id, 9);
    assert_eq!(world.depth().await.dead, 0);
}

#[tokio::test]
async fn a_missing_queue_is_made_on_the_way() {
    let world = World::new("missing", |_| {}).await;
    let report = world.sqs.send("work", &jobs(1..2), now()).await;
    assert_eq!((report.sent, report.failed), (vec![1], vec![]));
    assert_eq!(world.receive_until(|all| !all.deliveries.is_empty()).await.deliveries[0].job_id, 1);
}

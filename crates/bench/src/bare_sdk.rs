//! What the SDK alone can do on the same server: the yardstick for the fleet's rate on SQS. Owns a queue of its own
//! and no job; nothing of Servant is under measurement here.

use anyhow::Context;
use aws_sdk_sqs::{
    Client,
    config::{Credentials, Region},
    types::{DeleteMessageBatchRequestEntry, SendMessageBatchRequestEntry},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};
use tokio::task::JoinSet;

/// Messages in one call: SQS's own limit.
const BATCH: usize = 10;
/// Calls in flight of each sort (sends; receives, each followed by its deletion), as many as the fleet allows itself.
const CALLS_IN_FLIGHT: usize = 16;
/// A body as long as those of the fleet.
const BODY: &str = r#"{"job":1000000,"sent":"2030-01-01T00:00:00.000000Z"}"#;

/// Messages a second that a plain client sends, receives and deletes, in tens and with several calls in flight.
///
/// The three overlap, as they do in the fleet: while some calls still send, others already receive and delete. The
/// rate is the messages divided by the time from the first send to the last acknowledged deletion.
pub(crate) async fn messages_per_s(endpoint_url: &str, messages: usize) -> anyhow::Result<f64> {
    let mut loader = aws_config::defaults(aws_config::BehaviorVersion::latest()).endpoint_url(endpoint_url);
    if std::env::var_os("AWS_ACCESS_KEY_ID").is_none() {
        let keys = Credentials::new("bench", "bench", None, None, "static");
        loader = loader.credentials_provider(keys).region(Region::from_static("us-east-1"));
    }
    let client = Client::new(&loader.load().await);
    let made = client.create_queue().queue_name("bare-sdk").send().await.context("the queue is not made")?;
    let url: Arc<str> = made.queue_url.context("the queue has no URL")?.into();
    let (sent, deleted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let start = Instant::now();
    let mut lanes = JoinSet::new();
    for _ in 0..CALLS_IN_FLIGHT {
        lanes.spawn(send(client.clone(), url.clone(), sent.clone(), messages));
        lanes.spawn(receive_and_delete(client.clone(), url.clone(), deleted.clone(), messages));
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    let secs = start.elapsed().as_secs_f64();
    client.delete_queue().queue_url(&*url).send().await.context("the queue is not deleted")?;
    Ok(crate::measure::to_f64(messages) / secs)
}

async fn send(client: Client, url: Arc<str>, sent: Arc<AtomicUsize>, messages: usize) -> anyhow::Result<()> {
    loop {
        let from = sent.fetch_add(BATCH, Ordering::SeqCst);
        if from >= messages {
            return Ok(());
        }
        let entries = (from..messages.min(from + BATCH))
            .map(|id| SendMessageBatchRequestEntry::builder().id(id.to_string()).message_body(BODY).build())
            .collect::<Result<Vec<_>, _>>()?;
        let answer = client.send_message_batch().queue_url(&*url).set_entries(Some(entries)).send().await?;
        anyhow::ensure!(answer.failed.is_empty(), "the server did not take {} messages", answer.failed.len());
    }
}

async fn receive_and_delete(
    client: Client,
    url: Arc<str>,
    deleted: Arc<AtomicUsize>,
    messages: usize,
) -> anyhow::Result<()> {
    while deleted.load(Ordering::SeqCst) < messages {
        let call = client.receive_message().queue_url(&*url).max_number_of_messages(10).wait_time_seconds(1);
        let received = call.send().await?.messages.unwrap_or_default();
        let entries = received
            .into_iter()
            .filter_map(|message| message.receipt_handle)
            .enumerate()
            .map(|(at, receipt)| {
                DeleteMessageBatchRequestEntry::builder().id(at.to_string()).receipt_handle(receipt).build()
            })
            .collect::<Result<Vec<_>, _>>()?;
        if entries.is_empty() {
            continue;
        }
        let wanted = entries.len();
        let answer = client.delete_message_batch().queue_url(&*url).set_entries(Some(entries)).send().await?;
        anyhow::ensure!(answer.failed.is_empty(), "the server did not delete {} messages", answer.failed.len());
        deleted.fetch_add(wanted, Ordering::SeqCst);
    }
    Ok(())
}

//! Owns the actions on messages: send, receive, delete, change visibility, alone and in batches.
//! Does not own where a message is, which the store keeps.

use std::{collections::HashSet, sync::Arc};

use md5::{Digest, Md5};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::{Service, lock, name_of, parse};
use crate::sqs::{
    Fault,
    error::SqsError,
    request::{Batch, ByReceipt, Entry, OneByReceipt, Receive, Send},
    store::{IN_FLIGHT_MAX, Message, Receipt, Refused, VISIBILITY_SECS_MAX},
};

const BATCH_ENTRIES_MAX: usize = 10;
const BATCH_BYTES_MAX: usize = 1_048_576;

/// Wakes the next waiting receive when this one ends, however it ends: it may have been the only one that knew when
/// the next message becomes visible.
struct PassOn(Arc<Notify>);

impl Drop for PassOn {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn md5_hex(text: &str) -> String {
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Service {
    pub(super) async fn call_messages(&self, action: &str, body: &[u8]) -> Result<Value, SqsError> {
        match action {
            "SendMessage" => {
                let request: Send = parse(body)?;
                self.send(name_of(&request.queue_url), request.entry)
            }
            "SendMessageBatch" => {
                let request: Batch<Entry> = parse(body)?;
                let bytes = request.entries.iter().map(|entry| entry.message_body.len()).sum();
                if bytes > BATCH_BYTES_MAX {
                    return Err(SqsError::batch_too_long(bytes));
                }
                self.batch(request, |entry| &entry.id, |name, entry| self.send(name, entry))
            }
            "ReceiveMessage" => self.receive(&parse(body)?).await,
            "DeleteMessage" => {
                let request: OneByReceipt = parse(body)?;
                self.delete(name_of(&request.queue_url), &request.entry)
            }
            "DeleteMessageBatch" => {
                let request: Batch<ByReceipt> = parse(body)?;
                self.batch(request, |entry| &entry.id, |name, entry| self.delete(name, &entry))
            }
            "ChangeMessageVisibility" => {
                let request: OneByReceipt = parse(body)?;
                self.change_visibility(name_of(&request.queue_url), &request.entry)
            }
            "ChangeMessageVisibilityBatch" => {
                let request: Batch<ByReceipt> = parse(body)?;
                self.batch(request, |entry| &entry.id, |name, entry| self.change_visibility(name, &entry))
            }
            _ => Err(SqsError::unknown_action(action)),
        }
    }

    /// Checks a batch as a whole, then serves its entries one by one.
    fn batch<E>(
        &self,
        batch: Batch<E>,
        id_of: impl Fn(&E) -> &String,
        serve: impl Fn(&str, E) -> Result<Value, SqsError>,
    ) -> Result<Value, SqsError> {
        let name = name_of(&batch.queue_url);
        lock(&self.state).queue(name)?;
        if batch.entries.is_empty() {
            return Err(SqsError::empty_batch());
        }
        if batch.entries.len() > BATCH_ENTRIES_MAX {
            return Err(SqsError::too_many_entries(batch.entries.len()));
        }
        let mut ids = HashSet::new();
        for id in batch.entries.iter().map(&id_of) {
            let legal = id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
            if id.is_empty() || id.len() > 80 || !legal {
                return Err(SqsError::invalid_entry_id());
            }
            if !ids.insert(id.as_str()) {
                return Err(SqsError::ids_not_distinct(id));
            }
        }
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for entry in batch.entries {
            let id = id_of(&entry).clone();
            let outcome =
                if self.dice().strikes(Fault::EntryFailed) { Err(SqsError::internal()) } else { serve(name, entry) };
            match outcome {
                Ok(mut value) => {
                    value["Id"] = id.into();
                    successful.push(value);
                }
                Err(error) => failed.push(json!({
                    "Id": id, "Code": error.query_code, "Message": error.message, "SenderFault": error.is_senders(),
                })),
            }
        }
        Ok(json!({ "Successful": successful, "Failed": failed }))
    }

    fn send(&self, name: &str, entry: Entry) -> Result<Value, SqsError> {
        let legal = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..);
        if entry.message_body.is_empty() {
            return Err(SqsError::missing_parameter("MessageBody"));
        }
        if entry.message_body.len() > BATCH_BYTES_MAX {
            return Err(SqsError::invalid_parameter(
                "One or more parameters are invalid. Message must be shorter than 1048576 bytes.",
            ));
        }
        if !entry.message_body.chars().all(legal) {
            return Err(SqsError::invalid_contents());
        }
        if entry.message_group_id.as_ref().is_some_and(|group| group.is_empty() || group.len() > 128) {
            return Err(SqsError::invalid_parameter("MessageGroupId must be 1 to 128 characters."));
        }
        let now_ms = self.clock.now_ms();
        let (lose, copies, late_ms) = {
            let mut dice = self.dice();
            (dice.strikes(Fault::Lose), 1 + usize::from(dice.strikes(Fault::Duplicate)), dice.delay_ms())
        };
        let mut state = lock(&self.state);
        state.messages_sent += 1;
        let message_id = uuid::Uuid::from_u64_pair(self.run, state.messages_sent).to_string();
        let queue = state.queue(name)?;
        let delay_secs = entry.delay_seconds.unwrap_or_else(|| queue.number("DelaySeconds"));
        if !(0..=900).contains(&delay_secs) {
            return Err(SqsError::invalid_parameter("DelaySeconds must be between 0 and 900."));
        }
        let md5 = md5_hex(&entry.message_body);
        let trace = entry.message_system_attributes.get("AWSTraceHeader");
        let message = Message {
            message_id: message_id.clone(),
            body: entry.message_body,
            md5: md5.clone(),
            group_id: entry.message_group_id,
            trace_header: trace.and_then(|value| value["StringValue"].as_str()).map(str::to_owned),
            attributes: entry.message_attributes,
            sent_ms: now_ms,
            first_received_ms: 0,
            received_ms: 0,
            receive_count: 0,
            source: None,
        };
        if !lose {
            for _ in 0..copies {
                queue.store.put(message.clone(), now_ms + delay_secs * 1_000 + late_ms, now_ms);
            }
        }
        Ok(json!({ "MessageId": message_id, "MD5OfMessageBody": md5 }))
    }

    async fn receive(&self, request: &Receive) -> Result<Value, SqsError> {
        let name = name_of(&request.queue_url);
        let max = request.max_number_of_messages.unwrap_or(1);
        let max = usize::try_from(max)
            .ok()
            .filter(|max| (1..=10).contains(max))
            .ok_or_else(|| SqsError::invalid_parameter("MaxNumberOfMessages must be between 1 and 10, if provided."))?;
        let (arrived, wait_secs, visibility_secs) = {
            let mut state = lock(&self.state);
            let queue = state.queue(name)?;
            let wait_secs = request.wait_time_seconds.unwrap_or_else(|| queue.number("ReceiveMessageWaitTimeSeconds"));
            let hide_secs = request.visibility_timeout.unwrap_or_else(|| queue.number("VisibilityTimeout"));
            (Arc::clone(&queue.store.arrived), wait_secs, hide_secs)
        };
        if !(0..=20).contains(&wait_secs) {
            return Err(SqsError::invalid_parameter("WaitTimeSeconds must be between 0 and 20."));
        }
        if !(0..=VISIBILITY_SECS_MAX).contains(&visibility_secs) {
            return Err(SqsError::invalid_parameter("VisibilityTimeout must be between 0 and 43200."));
        }
        let deadline_ms = self.clock.now_ms() + wait_secs * 1_000;
        let mut waiting = None;
        let mut stopped = self.stopped.clone();
        loop {
            let now_ms = self.clock.now_ms();
            let (messages, due_ms) = self.take(name, request, max, visibility_secs * 1_000, now_ms, wait_secs)?;
            if !messages.is_empty() {
                return Ok(json!({ "Messages": messages }));
            }
            if now_ms >= deadline_ms || *stopped.borrow() {
                return Ok(json!({}));
            }
            let pass_on = waiting.get_or_insert_with(|| PassOn(Arc::clone(&arrived)));
            let until_ms = due_ms.map_or(deadline_ms, |due_ms| due_ms.min(deadline_ms));
            tokio::select! {
                () = pass_on.0.notified() => {}
                () = self.clock.sleep_until(until_ms) => {}
                _ = stopped.wait_for(|stop| *stop) => {}
            }
        }
    }

    /// One look at the queue: messages as the wire shows them, and when the next one is due.
    fn take(
        &self,
        name: &str,
        request: &Receive,
        max: usize,
        visibility_ms: i64,
        now_ms: i64,
        wait_secs: i64,
    ) -> Result<(Vec<Value>, Option<i64>), SqsError> {
        let mut state = lock(&self.state);
        let queue = state.queue(name)?;
        let redrive = queue.redrive.clone();
        let mut dice = self.dice();
        let taken = queue.store.take(max, now_ms, visibility_ms, redrive.as_ref(), || dice.reorder());
        drop(dice);
        // By the documentation only a short poll says that too many messages are in flight.
        let full = queue.store.in_flight() >= IN_FLIGHT_MAX;
        if taken.messages.is_empty() && full && wait_secs == 0 {
            return Err(SqsError::over_limit());
        }
        let due_ms = queue.store.next_due_ms();
        for letter in taken.dead {
            let dead = redrive.as_ref().and_then(|redrive| state.queues.get_mut(&redrive.dead_queue));
            // A dead-letter queue that is gone keeps nothing; the real service would keep the message where it was.
            let Some(dead) = dead else { continue };
            dead.store.put(Message { source: Some(name.to_owned()), ..letter }, now_ms, now_ms);
        }
        let wanted: HashSet<&str> =
            request.attribute_names.iter().chain(&request.message_system_attribute_names).map(String::as_str).collect();
        let shown = taken.messages.into_iter().map(|(receipt, message)| self.show(receipt, message, &wanted));
        Ok((shown.collect(), due_ms))
    }

    fn show(&self, receipt: Receipt, message: Message, wanted: &HashSet<&str>) -> Value {
        let mut attributes = Map::new();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value.filter(|_| wanted.contains("All") || wanted.contains(name)) {
                attributes.insert(name.to_owned(), value.into());
            }
        };
        add("ApproximateReceiveCount", Some(message.receive_count.to_string()));
        add("ApproximateFirstReceiveTimestamp", Some(message.first_received_ms.to_string()));
        add("SentTimestamp", Some(message.sent_ms.to_string()));
        add("SenderId", Some("AIDASIMULATED".to_owned()));
        add("MessageGroupId", message.group_id);
        add("AWSTraceHeader", message.trace_header);
        add("DeadLetterQueueSourceArn", message.source.as_deref().map(super::arn));
        let mut shown = json!({
            "MessageId": message.message_id,
            "ReceiptHandle": format!("{:x}.{:x}.{:x}", self.run, receipt.slot, receipt.token),
            "MD5OfBody": message.md5,
            "Body": message.body,
        });
        if !attributes.is_empty() {
            shown["Attributes"] = Value::Object(attributes);
        }
        if let Some(own) = message.attributes {
            shown["MessageAttributes"] = own;
        }
        shown
    }

    /// Reads a receipt handle; `None` for one of another run of the server.
    fn receipt(&self, handle: &str) -> Result<Option<Receipt>, SqsError> {
        let invalid = || SqsError::receipt_invalid(handle);
        let mut parts = handle.split('.').map(|part| u64::from_str_radix(part, 16).map_err(|_| invalid()));
        let mut next = || parts.next().unwrap_or_else(|| Err(invalid()));
        let (run, slot, token) = (next()?, next()?, next()?);
        let token = u32::try_from(token).map_err(|_| invalid())?;
        Ok((run == self.run).then_some(Receipt { slot, token }))
    }

    fn delete(&self, name: &str, entry: &ByReceipt) -> Result<Value, SqsError> {
        let receipt = self.receipt(&entry.receipt_handle)?;
        let mut state = lock(&self.state);
        let queue = state.queue(name)?;
        if let Some(receipt) = receipt {
            queue.store.delete(receipt);
        }
        Ok(json!({}))
    }

    fn change_visibility(&self, name: &str, entry: &ByReceipt) -> Result<Value, SqsError> {
        let secs = entry.visibility_timeout.ok_or_else(|| SqsError::missing_parameter("VisibilityTimeout"))?;
        if !(0..=VISIBILITY_SECS_MAX).contains(&secs) {
            return Err(SqsError::invalid_parameter("VisibilityTimeout must be between 0 and 43200."));
        }
        let now_ms = self.clock.now_ms();
        let receipt = self.receipt(&entry.receipt_handle)?.ok_or_else(SqsError::not_in_flight)?;
        let mut state = lock(&self.state);
        let changed = state.queue(name)?.store.change_visibility(receipt, secs * 1_000, now_ms);
        changed.map(|()| json!({})).map_err(|refused| match refused {
            Refused::NotInFlight => SqsError::not_in_flight(),
            Refused::BeyondTwelveHours => SqsError::invalid_parameter(
                "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]",
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqs::{Clock, ManualClock, Options};
    use std::time::Duration;
    use tokio::sync::watch;

    /// A service whose clock stands still, with one queue.
    async fn started() -> (Service, ManualClock, watch::Sender<bool>) {
        let clock = ManualClock::new(0);
        let options = Options { clock: Clock::Manual(clock.clone()), ..Options::default() };
        let (stop, stopped) = watch::channel(false);
        let service = Service::new(options.addr, options, stopped);
        ask(&service, "CreateQueue", &json!({"QueueName": "q"})).await.unwrap();
        (service, clock, stop)
    }

    async fn ask(service: &Service, action: &str, request: &Value) -> Result<Value, SqsError> {
        service.call(action, request.to_string().as_bytes()).await
    }

    async fn refusal(service: &Service, action: &str, request: Value) -> &'static str {
        ask(service, action, &request).await.unwrap_err().code
    }

    fn batch(bodies: &[String]) -> Value {
        let entry = |(n, body): (usize, &String)| json!({"Id": n.to_string(), "MessageBody": body});
        json!({"QueueUrl": "q", "Entries": bodies.iter().enumerate().map(entry).collect::<Vec<_>>()})
    }

    #[tokio::test]
    async fn ten_entries_and_ten_messages_are_the_most() {
        let (service, _, _stop) = started().await;
        let bodies = vec!["x".to_owned(); 11];
        assert_eq!(refusal(&service, "SendMessageBatch", batch(&bodies)).await, "TooManyEntriesInBatchRequest");
        ask(&service, "SendMessageBatch", &batch(&bodies[..10])).await.unwrap();
        let receive = |max: u32| json!({"QueueUrl": "q", "MaxNumberOfMessages": max});
        assert_eq!(refusal(&service, "ReceiveMessage", receive(11)).await, "InvalidParameterValueException");
        assert_eq!(
            ask(&service, "ReceiveMessage", &receive(10)).await.unwrap()["Messages"].as_array().unwrap().len(),
            10
        );
    }

    #[tokio::test]
    async fn a_message_and_a_whole_batch_hold_a_mebibyte() {
        let (service, _, _stop) = started().await;
        let send = |bytes: usize| json!({"QueueUrl": "q", "MessageBody": "x".repeat(bytes)});
        assert_eq!(refusal(&service, "SendMessage", send(BATCH_BYTES_MAX + 1)).await, "InvalidParameterValueException");
        ask(&service, "SendMessage", &send(BATCH_BYTES_MAX)).await.unwrap();
        let halves = |more: usize| batch(&["x".repeat(BATCH_BYTES_MAX / 2), "x".repeat(BATCH_BYTES_MAX / 2 + more)]);
        assert_eq!(refusal(&service, "SendMessageBatch", halves(1)).await, "BatchRequestTooLong");
        ask(&service, "SendMessageBatch", &halves(0)).await.unwrap();
    }

    #[tokio::test]
    async fn a_message_is_hidden_for_twelve_hours_at_the_most() {
        let (service, clock, _stop) = started().await;
        ask(&service, "SendMessage", &json!({"QueueUrl": "q", "MessageBody": "x"})).await.unwrap();
        let receive = |secs: i64| json!({"QueueUrl": "q", "VisibilityTimeout": secs});
        assert_eq!(refusal(&service, "ReceiveMessage", receive(43_201)).await, "InvalidParameterValueException");
        let received = ask(&service, "ReceiveMessage", &receive(43_200)).await.unwrap();
        clock.advance(Duration::from_secs(1));
        let receipt = &received["Messages"][0]["ReceiptHandle"];
        let hide = |secs: i64| json!({"QueueUrl": "q", "ReceiptHandle": receipt, "VisibilityTimeout": secs});
        // Counted from the receive, whatever is asked for later.
        let refused = refusal(&service, "ChangeMessageVisibility", hide(43_200)).await;
        assert_eq!(refused, "InvalidParameterValueException");
        ask(&service, "ChangeMessageVisibility", &hide(43_199)).await.unwrap();
        clock.advance(Duration::from_secs(43_199));
        let again = ask(&service, "ReceiveMessage", &receive(1)).await.unwrap();
        assert_eq!(again["Messages"].as_array().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn no_more_than_120_000_are_in_flight() {
        let (service, _, _stop) = started().await;
        for _ in 0..=IN_FLIGHT_MAX / 10 {
            ask(&service, "SendMessageBatch", &batch(&vec!["x".to_owned(); 10])).await.unwrap();
        }
        let receive = json!({"QueueUrl": "q", "MaxNumberOfMessages": 10, "WaitTimeSeconds": 0});
        let mut received = Value::Null;
        for _ in 0..IN_FLIGHT_MAX / 10 {
            received = ask(&service, "ReceiveMessage", &receive).await.unwrap();
        }
        assert_eq!(service.stats().queues["q"].in_flight, IN_FLIGHT_MAX);
        assert_eq!(refusal(&service, "ReceiveMessage", receive.clone()).await, "OverLimit");
        let receipt = &received["Messages"][0]["ReceiptHandle"];
        ask(&service, "DeleteMessage", &json!({"QueueUrl": "q", "ReceiptHandle": receipt})).await.unwrap();
        let next = ask(&service, "ReceiveMessage", &receive).await.unwrap();
        assert_eq!(next["Messages"].as_array().unwrap().len(), 1, "one has room again");
    }
}

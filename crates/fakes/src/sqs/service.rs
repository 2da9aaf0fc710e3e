//! Owns the queues by name and the actions on them as a whole. Does not own actions on messages (`messages.rs`).

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    Clock, Options,
    error::SqsError,
    fault::Dice,
    request,
    store::{Message, Redrive, Store},
};

#[path = "messages.rs"]
mod messages;

const ACCOUNT: &str = "000000000000";
const REGION: &str = "us-east-1";
const DEFAULTS: [(&str, &str); 5] = [
    ("VisibilityTimeout", "30"),
    ("DelaySeconds", "0"),
    ("ReceiveMessageWaitTimeSeconds", "0"),
    ("MessageRetentionPeriod", "345600"),
    ("MaximumMessageSize", "1048576"),
];

/// Counters for tests and benchmarks.
#[derive(Clone, Debug, Default, Serialize, PartialEq, Eq)]
pub struct Stats {
    /// Requests by action, refused ones included.
    pub requests: BTreeMap<String, u64>,
    /// Messages by queue.
    pub queues: BTreeMap<String, Depth>,
}

/// Messages of one queue by place.
#[derive(Clone, Copy, Debug, Default, Serialize, PartialEq, Eq)]
pub struct Depth {
    /// Ready to be received.
    pub visible: usize,
    /// Received, not deleted, hidden.
    pub in_flight: usize,
    /// Not yet due.
    pub delayed: usize,
}

#[derive(Debug)]
struct Queue {
    attributes: BTreeMap<String, String>,
    redrive: Option<Redrive>,
    store: Store,
    created_ms: i64,
}

impl Queue {
    fn number(&self, attribute: &str) -> i64 {
        self.attributes.get(attribute).and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

#[derive(Debug, Default)]
struct State {
    queues: BTreeMap<String, Queue>,
    tasks: Vec<Value>,
    messages_sent: u64,
}

impl State {
    fn queue(&mut self, name: &str) -> Result<&mut Queue, SqsError> {
        self.queues.get_mut(name).ok_or_else(SqsError::queue_does_not_exist)
    }
}

#[derive(Debug)]
pub(super) struct Service {
    addr: SocketAddr,
    clock: Clock,
    /// Tells this server's receipts and message ids from those of another run.
    run: u64,
    state: Mutex<State>,
    dice: Mutex<Dice>,
    requests: Mutex<HashMap<String, u64>>,
    stopped: watch::Receiver<bool>,
}

// Each lock guards data that is whole between calls; a panicking test must not take the server down with it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, SqsError> {
    serde_json::from_slice(body).map_err(|error| {
        let text = error.to_string();
        match text.strip_prefix("missing field `").and_then(|rest| rest.split_once('`')) {
            Some((name, _)) => SqsError::missing_parameter(name),
            None => SqsError::invalid_parameter(text),
        }
    })
}

fn name_of(url_or_arn: &str) -> &str {
    url_or_arn.rsplit(['/', ':']).next().unwrap_or_default()
}

fn arn(name: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")
}

impl Service {
    pub(super) fn new(addr: SocketAddr, options: Options, stopped: watch::Receiver<bool>) -> Self {
        let dice = Mutex::new(Dice::new(options.faults, options.seed));
        let run = rand::random();
        let (state, requests) = (Mutex::default(), Mutex::default());
        Self { addr, clock: options.clock, run, state, dice, requests, stopped }
    }

    pub(super) fn dice(&self) -> MutexGuard<'_, Dice> {
        lock(&self.dice)
    }

    pub(super) fn count(&self, action: &str) {
        *lock(&self.requests).entry(action.to_owned()).or_default() += 1;
    }

    pub(super) fn stats(&self) -> Stats {
        let requests = lock(&self.requests).iter().map(|(action, count)| (action.clone(), *count)).collect();
        let now_ms = self.clock.now_ms();
        let mut state = lock(&self.state);
        let queues = state.queues.iter_mut().map(|(name, queue)| {
            queue.store.settle(now_ms);
            let store = &queue.store;
            let depth = Depth { visible: store.visible(), in_flight: store.in_flight(), delayed: store.delayed() };
            (name.clone(), depth)
        });
        Stats { requests, queues: queues.collect() }
    }

    fn url(&self, name: &str) -> String {
        format!("http://{}/{ACCOUNT}/{name}", self.addr)
    }

    pub(super) async fn call(&self, action: &str, body: &[u8]) -> Result<Value, SqsError> {
        if *self.stopped.borrow() {
            return Err(SqsError::internal());
        }
        match action {
            "CreateQueue" => self.create_queue(parse(body)?),
            "GetQueueUrl" => {
                let name = parse::<request::GetQueueUrl>(body)?.queue_name;
                lock(&self.state).queue(&name)?;
                Ok(json!({ "QueueUrl": self.url(&name) }))
            }
            "ListQueues" => self.list_queues(&parse(body)?),
            "GetQueueAttributes" => self.get_attributes(&parse(body)?),
            "SetQueueAttributes" => {
                let request: request::SetAttributes = parse(body)?;
                let mut state = lock(&self.state);
                set_attributes(state.queue(name_of(&request.queue_url))?, request.attributes)?;
                Ok(json!({}))
            }
            "DeleteQueue" => {
                let request: request::OnQueue = parse(body)?;
                let gone = lock(&self.state).queues.remove(name_of(&request.queue_url));
                gone.map(|_| json!({})).ok_or_else(SqsError::queue_does_not_exist)
            }
            "PurgeQueue" => {
                let request: request::OnQueue = parse(body)?;
                lock(&self.state).queue(name_of(&request.queue_url))?.store.purge();
                Ok(json!({}))
            }
            "ListDeadLetterSourceQueues" => {
                let request: request::OnQueue = parse(body)?;
                let dead = name_of(&request.queue_url);
                let mut state = lock(&self.state);
                state.queue(dead)?;
                let sources = sources(&state, dead).map(|name| self.url(name)).collect::<Vec<_>>();
                Ok(json!({ "queueUrls": sources }))
            }
            "StartMessageMoveTask" => self.start_move(&parse(body)?),
            "ListMessageMoveTasks" => {
                let request: request::MoveTask = parse(body)?;
                let state = lock(&self.state);
                let tasks = state.tasks.iter().rev().filter(|task| task["SourceArn"] == request.source_arn.as_str());
                Ok(json!({ "Results": tasks.take(10).collect::<Vec<_>>() }))
            }
            _ => self.call_messages(action, body).await,
        }
    }

    fn create_queue(&self, request: request::CreateQueue) -> Result<Value, SqsError> {
        let name = request.queue_name;
        if name.ends_with(".fifo") {
            return Err(SqsError::unsupported("this server has standard queues only"));
        }
        let legal = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        if name.is_empty() || name.len() > 80 || !legal {
            return Err(SqsError::invalid_parameter(
                "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
            ));
        }
        let mut state = lock(&self.state);
        if let Some(queue) = state.queues.get(&name) {
            let differs = |(key, value): &(&String, &String)| queue.attributes.get(*key) != Some(*value);
            if let Some((key, _)) = request.attributes.iter().find(differs) {
                return Err(SqsError::queue_name_exists(key));
            }
        } else {
            let attributes = DEFAULTS.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
            let created_ms = self.clock.now_ms();
            let mut queue = Queue { attributes, redrive: None, store: Store::default(), created_ms };
            set_attributes(&mut queue, request.attributes)?;
            state.queues.insert(name.clone(), queue);
        }
        Ok(json!({ "QueueUrl": self.url(&name) }))
    }

    fn list_queues(&self, request: &request::ListQueues) -> Result<Value, SqsError> {
        let state = lock(&self.state);
        let after = request.next_token.as_deref().unwrap_or_default();
        let prefix = &request.queue_name_prefix;
        let matching = |name: &&String| name.starts_with(prefix.as_str()) && name.as_str() > after;
        let mut names: Vec<&String> = state.queues.keys().filter(matching).collect();
        let max = request.max_results.unwrap_or(1_000);
        let more = names.len() > max;
        names.truncate(max);
        let mut answer = json!({ "QueueUrls": names.iter().map(|name| self.url(name)).collect::<Vec<_>>() });
        if more && let Some(last) = names.last() {
            answer["NextToken"] = json!(last);
        }
        Ok(answer)
    }

    fn get_attributes(&self, request: &request::OnQueue) -> Result<Value, SqsError> {
        let name = name_of(&request.queue_url);
        let now_ms = self.clock.now_ms();
        let mut state = lock(&self.state);
        let queue = state.queue(name)?;
        queue.store.settle(now_ms);
        let mut all = queue.attributes.clone();
        let created = (queue.created_ms / 1_000).to_string();
        all.extend([
            ("QueueArn".to_owned(), arn(name)),
            ("ApproximateNumberOfMessages".to_owned(), queue.store.visible().to_string()),
            ("ApproximateNumberOfMessagesNotVisible".to_owned(), queue.store.in_flight().to_string()),
            ("ApproximateNumberOfMessagesDelayed".to_owned(), queue.store.delayed().to_string()),
            ("CreatedTimestamp".to_owned(), created.clone()),
            ("LastModifiedTimestamp".to_owned(), created),
        ]);
        let wanted = &request.attribute_names;
        if !wanted.iter().any(|name| name == "All") {
            all.retain(|key, _| wanted.contains(key));
        }
        Ok(json!({ "Attributes": all }))
    }

    /// Moves what is visible at once: the real service takes its time, at up to 500 a second.
    fn start_move(&self, request: &request::MoveTask) -> Result<Value, SqsError> {
        let now_ms = self.clock.now_ms();
        let dead = name_of(&request.source_arn);
        let mut state = lock(&self.state);
        if !state.queues.contains_key(dead) {
            return Err(SqsError::resource_not_found());
        }
        if sources(&state, dead).next().is_none() {
            return Err(SqsError::invalid_parameter("Source queue must be configured as a Dead Letter Queue."));
        }
        let target = request.destination_arn.as_deref().map(|arn| name_of(arn).to_owned());
        if target.as_ref().is_some_and(|target| !state.queues.contains_key(target)) {
            return Err(SqsError::resource_not_found());
        }
        let letters = state.queue(dead)?.store.drain_visible(now_ms);
        let (total, mut moved) = (letters.len(), 0);
        for letter in letters {
            let to = target.clone().or_else(|| letter.source.clone()).filter(|to| state.queues.contains_key(to));
            let Some(to) = to else {
                state.queue(dead)?.store.put(letter, now_ms, now_ms);
                continue;
            };
            state.messages_sent += 1;
            let message_id = uuid::Uuid::from_u64_pair(self.run, state.messages_sent).to_string();
            let fresh = Message { message_id, sent_ms: now_ms, receive_count: 0, source: None, ..letter };
            state.queue(&to)?.store.put(fresh, now_ms, now_ms);
            moved += 1;
        }
        let handle = format!("task-{}", state.tasks.len());
        let status = if moved == total { "COMPLETED" } else { "FAILED" };
        state.tasks.push(json!({
            "Status": status,
            "SourceArn": request.source_arn,
            "DestinationArn": request.destination_arn,
            "ApproximateNumberOfMessagesMoved": moved,
            "ApproximateNumberOfMessagesToMove": total,
            "StartedTimestamp": now_ms,
        }));
        Ok(json!({ "TaskHandle": handle }))
    }
}

fn sources<'a>(state: &'a State, dead: &'a str) -> impl Iterator<Item = &'a String> {
    let gives_to = move |queue: &Queue| queue.redrive.as_ref().is_some_and(|redrive| redrive.dead_queue == dead);
    state.queues.iter().filter(move |(_, queue)| gives_to(queue)).map(|(name, _)| name)
}

fn set_attributes(queue: &mut Queue, attributes: BTreeMap<String, String>) -> Result<(), SqsError> {
    for (key, value) in attributes {
        let range = match key.as_str() {
            "VisibilityTimeout" => 0..=43_200,
            "DelaySeconds" => 0..=900,
            "ReceiveMessageWaitTimeSeconds" => 0..=20,
            "MessageRetentionPeriod" => 60..=1_209_600,
            "MaximumMessageSize" => 1_024..=1_048_576,
            "RedrivePolicy" => {
                queue.redrive = redrive(&value)?;
                queue.attributes.insert(key, value);
                continue;
            }
            "RedriveAllowPolicy" | "Policy" | "KmsMasterKeyId" | "SqsManagedSseEnabled" => {
                queue.attributes.insert(key, value);
                continue;
            }
            _ => return Err(SqsError::invalid_attribute_name(&key)),
        };
        if !value.parse::<i64>().is_ok_and(|number| range.contains(&number)) {
            return Err(SqsError::invalid_parameter(format!("Invalid value for the parameter {key}.")));
        }
        queue.attributes.insert(key, value);
    }
    Ok(())
}

fn redrive(policy: &str) -> Result<Option<Redrive>, SqsError> {
    if policy.is_empty() {
        return Ok(None);
    }
    let bad = || SqsError::invalid_parameter(format!("Value {policy} for parameter RedrivePolicy is invalid."));
    let policy: Value = serde_json::from_str(policy).map_err(|_| bad())?;
    let dead_queue = policy["deadLetterTargetArn"].as_str().map(|arn| name_of(arn).to_owned()).ok_or_else(bad)?;
    // Some clients write the number as text, and the service takes both.
    let count = &policy["maxReceiveCount"];
    let count = count.as_u64().or_else(|| count.as_str()?.parse().ok()).filter(|count| (1..=1_000).contains(count));
    let receive_count_max = count.and_then(|count| u32::try_from(count).ok()).ok_or_else(bad)?;
    Ok(Some(Redrive { dead_queue, receive_count_max }))
}

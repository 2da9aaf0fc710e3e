//! Why a job does not run: the first cause that binds, and what would clear it. Pure: the ledger's facts are its only
//! argument. A new sort of cause is a variant here, its place in [`why`], its words, and the fact it is decided by.

mod service;

pub use service::{
    CircuitFacts, CircuitOpen, CircuitRecovering, CircuitUnclear, ConnectionAtRest, ConnectionFacts, ForcedFacts,
    Releasing,
};

use crate::{
    BudgetCause, Dispatching, JobId, JobState, Kind, LimitCause, Liveness, PauseTarget, Refusal, ServantId, liveness,
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// What the ledger knows of a job and of what may hold it back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhyFacts {
    /// The ledger's time.
    pub now: DateTime<Utc>,
    /// The type of work.
    pub kind: Kind,
    /// Where the job stands.
    pub state: JobState,
    /// When it is or was due.
    pub due_at: DateTime<Utc>,
    /// When it finished.
    pub finished_at: Option<DateTime<Utc>>,
    /// Who has it, while it runs.
    pub held: Option<HeldFacts>,
    /// The pauses that name it.
    pub pauses: Vec<PauseFacts>,
    /// Its connection.
    pub connection: Option<ConnectionFacts>,
    /// Its last attempt that failed.
    pub last_failure: Option<LastFailure>,
    /// Until when a scheduler leads; none: nobody does.
    pub led_until: Option<DateTime<Utc>>,
    /// How the leader dispatches; none: there is no queue, servants take jobs from the table.
    pub dispatching: Option<Dispatching>,
    /// The servants of its kind.
    pub servants: ServantFacts,
    /// The limit or budget that has no room for it.
    pub no_room: Option<NoRoomFacts>,
    /// When it was put on the queue last.
    pub queued_at: Option<DateTime<Utc>>,
    /// How often it was.
    pub sends: i16,
    /// Ready jobs of its account (and connection) and kind that go first.
    pub ahead: i64,
    /// Its account's share of what is dispatched of its kind, in percent, while others of it wait.
    pub share_pct: u8,
    /// There may be more of them than were counted.
    pub is_ahead_bounded: bool,
    /// Jobs of its kind on the queue.
    pub queued_of_kind: i64,
}

/// Who has a running job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldFacts {
    /// The servant.
    pub servant: Option<ServantId>,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// How long its lease is good without being renewed.
    pub lease_until: Option<DateTime<Utc>>,
}

/// A pause in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseFacts {
    /// What it holds back.
    pub target: PauseTarget,
    /// Who did it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// A limit or budget that has no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRoomFacts {
    /// Which one, with its numbers.
    pub refusal: Refusal,
    /// The first of the jobs that have the room, where a concurrency is reached.
    pub held_by: Vec<JobId>,
}

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastFailure {
    /// Its number.
    pub attempt: i16,
    /// The error's class.
    pub class: String,
    /// The outermost words of the error.
    pub error: String,
    /// When it ended.
    pub at: DateTime<Utc>,
}

/// The servants of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ServantFacts {
    /// The latest sign of life of any of them.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// Those that are not lost.
    pub alive: i64,
    /// Those of them that take work.
    pub taking: i64,
    /// Jobs at a time of those that take work.
    pub slots: i64,
    /// Jobs that those have.
    pub busy: i64,
}

/// The first thing that a job waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    /// It does not wait: it has ended.
    Finished {
        /// How.
        state: JobState,
        /// When.
        at: Option<DateTime<Utc>>,
    },
    /// It does not wait: it runs.
    Running {
        /// Where.
        servant: Option<i64>,
        /// Since when.
        since: Option<DateTime<Utc>>,
        /// When it is rescued unless its servant shows life.
        lease_until: Option<DateTime<Utc>>,
    },
    /// An operator holds it back.
    Paused {
        /// everything, kind, account, connection or group.
        scope: String,
        /// Which one.
        key: String,
        /// Who.
        by: String,
        /// Why.
        reason: String,
        /// Since when.
        since: DateTime<Utc>,
    },
    /// The customer's authorisation is gone.
    NeedsReauth {
        /// The connection.
        connection: i64,
        /// What the vendor said.
        reason: Option<String>,
        /// Since when.
        since: DateTime<Utc>,
    },
    /// An operator has taken its connection out of use.
    ConnectionAtRest(ConnectionAtRest),
    /// The service that its connection works on is down, or held back by an operator.
    CircuitOpen(CircuitOpen),
    /// That service was down and gets some jobs at a time.
    CircuitRecovering(CircuitRecovering),
    /// Another version wrote where that service's circuit stands.
    CircuitUnclear(CircuitUnclear),
    /// Its connection is let go little by little.
    Releasing(Releasing),
    /// Its time has not come.
    Due {
        /// When it comes.
        at: DateTime<Utc>,
        /// The failure that it waits after; none: it was asked for so.
        after: Option<LastFailure>,
    },
    /// Nobody makes due jobs ready or dispatches them.
    NoScheduler {
        /// When the last lead ran out; none: it was handed back, or there never was one.
        since: Option<DateTime<Utc>>,
    },
    /// Nobody takes jobs of its kind.
    NoServant {
        /// The kind.
        kind: String,
        /// The last sign of life of one; none: never.
        last_seen_at: Option<DateTime<Utc>>,
        /// Servants that are alive, but paused or draining.
        resting: i64,
    },
    /// It is on the queue.
    Queued {
        /// Since it was sent last.
        since: Option<DateTime<Utc>>,
        /// How often it was sent.
        sends: i16,
        /// When it is sent again unless a servant takes it.
        sweep_at: Option<DateTime<Utc>>,
    },
    /// A limit has no room for it.
    Limit(LimitCause),
    /// The customer's quota has no room for it.
    Budget(BudgetCause),
    /// Others of its account go first.
    Behind {
        /// How many.
        jobs: i64,
        /// There may be more.
        is_at_least: bool,
        /// Its account's share of what is dispatched of its kind, in percent.
        share_pct: u8,
    },
    /// Without a queue: it is next, and waits for a servant's free slot.
    Slot {
        /// Jobs that run.
        busy: i64,
        /// Jobs that may run at a time.
        slots: i64,
    },
    /// It is next, and waits for room on the queue.
    Window {
        /// Jobs of its kind on the queue.
        queued: i64,
        /// Jobs that run.
        busy: i64,
        /// Jobs that may run at a time.
        slots: i64,
    },
}

/// Decides: the order of this function is the order in which causes bind.
#[must_use]
pub fn why(facts: &WhyFacts) -> Cause {
    if facts.state.is_finished() {
        return Cause::Finished { state: facts.state, at: facts.finished_at };
    }
    if facts.state == JobState::Running {
        let held = facts.held.as_ref();
        return Cause::Running {
            servant: held.and_then(|held| held.servant).map(|id| id.0),
            since: held.and_then(|held| held.since),
            lease_until: held.and_then(|held| held.lease_until),
        };
    }
    // The widest pause: ending a narrower one would not let the job run.
    let width = |pause: &&PauseFacts| match pause.target {
        PauseTarget::Everything => 0,
        PauseTarget::Kind(_) => 1,
        PauseTarget::Account(_) => 2,
        PauseTarget::Connection(_) => 3,
        PauseTarget::Group(_) => 4,
        PauseTarget::Unknown { .. } => 5,
    };
    if let Some(pause) = facts.pauses.iter().min_by_key(width) {
        return Cause::Paused {
            scope: pause.target.scope().to_owned(),
            key: pause.target.key(),
            by: pause.by.clone(),
            reason: pause.reason.clone(),
            since: pause.since,
        };
    }
    if let Some(cause) = facts.connection.as_ref().and_then(ConnectionFacts::rests) {
        return cause;
    }
    if facts.state == JobState::Scheduled && facts.due_at > facts.now {
        return Cause::Due { at: facts.due_at, after: facts.last_failure.clone() };
    }
    let needs_scheduler = match facts.state {
        JobState::Scheduled => true,
        JobState::Ready => facts.dispatching.is_some(),
        _ => false,
    };
    if needs_scheduler && facts.led_until.is_none_or(|until| until < facts.now) {
        return Cause::NoScheduler { since: facts.led_until };
    }
    let servants = &facts.servants;
    if servants.taking == 0 {
        return Cause::NoServant {
            kind: facts.kind.to_string(),
            last_seen_at: servants.last_seen_at,
            resting: servants.alive,
        };
    }
    if let Some(cause) = facts.connection.as_ref().and_then(|connection| connection.circuit_breaks(facts.state)) {
        return cause;
    }
    if facts.state == JobState::Queued {
        let sweep_at =
            facts.dispatching.zip(facts.queued_at).map(|(dispatching, at)| dispatching.sweep_at(at, facts.sends));
        return Cause::Queued { since: facts.queued_at, sends: facts.sends, sweep_at };
    }
    if let Some(releasing) = facts.connection.as_ref().and_then(|connection| connection.releasing.clone()) {
        return Cause::Releasing(releasing);
    }
    if let Some(no_room) = &facts.no_room {
        return no_room.refusal.cause(&no_room.held_by);
    }
    if facts.ahead > 0 {
        let WhyFacts { ahead: jobs, is_ahead_bounded: is_at_least, share_pct, .. } = *facts;
        return Cause::Behind { jobs, is_at_least, share_pct };
    }
    match facts.dispatching {
        Some(_) => Cause::Window { queued: facts.queued_of_kind, busy: servants.busy, slots: servants.slots },
        None => Cause::Slot { busy: servants.busy, slots: servants.slots },
    }
}

impl ServantFacts {
    /// Counts one servant in, by its state as the ledger has it.
    pub fn count(&mut self, state: &str, seen_at: DateTime<Utc>, now: DateTime<Utc>, concurrency: i32, running: i32) {
        self.last_seen_at = self.last_seen_at.max(Some(seen_at));
        if state == "stopped" || liveness(seen_at, now) == Liveness::Lost {
            return;
        }
        self.alive += 1;
        if state == "running" {
            self.taking += 1;
            self.slots += i64::from(concurrency);
            self.busy += i64::from(running);
        }
    }
}

impl Cause {
    /// The cause as a sentence.
    #[must_use]
    pub fn says(&self) -> String {
        match self {
            Self::Finished { state, at } => format!("it is {state}{}", since(" since ", *at)),
            Self::Running { servant, since: from, lease_until } => {
                let servant = servant.map(|id| format!(" on servant {id}")).unwrap_or_default();
                format!(
                    "it runs{servant}{}{}",
                    since(" since ", *from),
                    since(", its lease is good until ", *lease_until)
                )
            }
            Self::Paused { scope, key, by, reason, since } => {
                let key = if key.is_empty() { String::new() } else { format!(" {key}") };
                format!("{scope}{key} is paused by {by} since {}: {reason}", time(*since))
            }
            Self::NeedsReauth { connection, reason, since } => {
                let reason = reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
                format!("connection {connection} needs to be authorised again since {}{reason}", time(*since))
            }
            Self::ConnectionAtRest(rest) => rest.says(),
            Self::CircuitOpen(circuit) => circuit.says(),
            Self::CircuitRecovering(circuit) => circuit.says(),
            Self::CircuitUnclear(circuit) => circuit.says(),
            Self::Releasing(releasing) => releasing.says(),
            Self::Due { at, after: None } => format!("it is due at {}", time(*at)),
            // No failure of its own: whoever is asked has said when there is room again.
            Self::Due { at, after: Some(failure) } if failure.class == crate::ErrorClass::RateLimited.as_str() => {
                format!("it is delayed until {}, since {}: {}", time(*at), time(failure.at), failure.error)
            }
            Self::Due { at, after: Some(failure) } => format!(
                "it is tried again at {}, after attempt {} failed at {} ({}: {})",
                time(*at),
                failure.attempt,
                time(failure.at),
                failure.class,
                failure.error
            ),
            Self::NoScheduler { since: from } => format!("no scheduler leads{}", since(" since ", *from)),
            Self::NoServant { kind, resting, .. } if *resting > 0 => {
                format!("no servant of kind {kind} takes work: {resting} alive, paused or draining")
            }
            Self::NoServant { kind, last_seen_at: Some(at), .. } => {
                format!("no servant of kind {kind} is alive since {}", time(*at))
            }
            Self::NoServant { kind, last_seen_at: None, .. } => format!("no servant of kind {kind} was ever seen"),
            Self::Queued { since: from, sends, sweep_at } => {
                let times = if *sends == 1 { "once".to_owned() } else { format!("{sends} times") };
                let sweep = sweep_at.map(|at| format!("; sent again at {} unless a servant takes it", time(at)));
                format!("it is on the queue{}, sent {times}{}", since(" since ", *from), sweep.unwrap_or_default())
            }
            Self::Limit(limit) => limit.says(),
            Self::Budget(budget) => budget.says(),
            Self::Behind { jobs, is_at_least, share_pct } => {
                let bound = if *is_at_least { "at least " } else { "" };
                let (noun, verb) = if *jobs == 1 { ("job", "goes") } else { ("jobs", "go") };
                format!(
                    "{bound}{} {noun} of its account {verb} first, whose share of the kind is {share_pct} %",
                    grouped(*jobs)
                )
            }
            Self::Slot { busy, slots } => {
                format!("it is the next of its kind; its servants have {busy} of {slots} slots busy")
            }
            Self::Window { queued, busy, slots } => format!(
                "it is the next of its kind; {queued} on the queue are all that its servants, {busy} of {slots} slots busy, take now"
            ),
        }
    }

    /// What would let the job run, as a sentence; none when it does not wait.
    #[must_use]
    pub fn cleared_by(&self) -> Option<String> {
        Some(match self {
            Self::Finished { .. } | Self::Running { .. } => return None,
            Self::Paused { scope, key, .. } => format!("servantctl resume {scope} {key}").trim_end().to_owned(),
            Self::NeedsReauth { connection, .. } => format!(
                "the customer authorises connection {connection} again, then servantctl connections reauthorised {connection}"
            ),
            Self::ConnectionAtRest(rest) => rest.cleared_by(),
            Self::CircuitOpen(circuit) => circuit.cleared_by(),
            Self::CircuitRecovering(_) => "jobs of it succeed, and time".to_owned(),
            Self::CircuitUnclear(circuit) => circuit.cleared_by(),
            Self::Releasing(releasing) => releasing.cleared_by(),
            Self::Due { at, .. } => format!("time: {}; or at once: servantctl jobs run", time(*at)),
            Self::NoScheduler { .. } => "start a scheduler".to_owned(),
            Self::NoServant { kind, resting: 0, .. } => format!("start a servant of kind {kind}"),
            Self::NoServant { .. } => "servantctl servants resume ID, or start another".to_owned(),
            Self::Queued { .. } => "a servant with a free slot receives it".to_owned(),
            Self::Limit(limit) => limit.cleared_by(),
            Self::Budget(budget) => budget.cleared_by(),
            Self::Behind { .. } => "they are done; more servants, or a more urgent priority".to_owned(),
            Self::Slot { .. } => "a slot becomes free; more servants".to_owned(),
            Self::Window { .. } => "servants take jobs off the queue; more servants".to_owned(),
        })
    }
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn since(words: &str, at: Option<DateTime<Utc>>) -> String {
    at.map(|at| format!("{words}{}", time(at))).unwrap_or_default()
}

/// 1,000 rather than 1000.
pub(crate) fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

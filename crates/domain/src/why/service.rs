//! What a job's connection, and the service behind it, have to do with its waiting: the facts, the causes that follow
//! from them, and their words.

use super::{Cause, since, time};
use crate::{BreakerSettings, BreakerState, ConnectionId, Forced, JobState, Room};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// A job's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionFacts {
    /// Which.
    pub connection: ConnectionId,
    /// active, needs_reauth, parked or disabled.
    pub state: String,
    /// Who brought it there.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Since when.
    pub since: DateTime<Utc>,
    /// The breaker of its service; none: no outcome of the service was ever seen.
    pub circuit: Option<CircuitFacts>,
    /// It was let go a moment ago and has no room for the job now.
    pub releasing: Option<Releasing>,
}

/// A service's breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitFacts {
    /// The service.
    pub service: String,
    /// Where the breaker stands.
    pub state: BreakerState,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// What an operator holds it at.
    pub forced: Option<ForcedFacts>,
    /// While it lets some jobs through at a time: there is room for one more now.
    pub has_room: bool,
}

/// An operator's override of a breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForcedFacts {
    /// At what.
    pub forced: Forced,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// A service gets no jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CircuitOpen {
    /// The service.
    pub service: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// When one job may go to see whether it is back; none: a probe is on its way, or an operator holds it open.
    pub next_probe_at: Option<DateTime<Utc>>,
    /// When the latest probe was sent, while it is on its way.
    pub probe_sent_at: Option<DateTime<Utc>>,
    /// Why.
    pub reason: String,
    /// Who holds it open.
    pub forced_by: Option<String>,
}

/// A service gets some jobs at a time, ever more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CircuitRecovering {
    /// The service.
    pub service: String,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Jobs at a time.
    pub room: u32,
}

/// A service whose breaker another version wrote gets one job at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CircuitUnclear {
    /// The service.
    pub service: String,
    /// What of it is not understood.
    pub reason: String,
}

/// A connection gets some jobs at a time, ever more, since what was held back is let go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Releasing {
    /// The connection.
    pub connection: i64,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Jobs at a time.
    pub room: u32,
    /// From then on, any number.
    pub until: DateTime<Utc>,
}

impl Releasing {
    pub(super) fn says(&self) -> String {
        format!(
            "connection {} was let go at {}: {} at a time for now, any number from {} on",
            self.connection,
            time(self.since),
            self.room,
            time(self.until)
        )
    }

    pub(super) fn cleared_by(&self) -> String {
        format!("time: {}; priority 0 does not wait", time(self.until))
    }
}

/// An operator has taken a connection out of use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionAtRest {
    /// The connection.
    pub connection: i64,
    /// parked or disabled.
    pub state: String,
    /// Who.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Since when.
    pub since: DateTime<Utc>,
}

impl CircuitFacts {
    /// Whether it lets some jobs of the service through at a time, so that it matters how many are in flight.
    #[must_use]
    pub const fn counts(&self) -> bool {
        self.forced.is_none() && matches!(self.state, BreakerState::Recovering { .. } | BreakerState::NotUnderstood)
    }

    /// Takes in how many of the service's jobs are in flight now.
    pub fn look(&mut self, settings: &BreakerSettings, in_flight: u32, now: DateTime<Utc>) {
        self.has_room = !matches!(self.state.room(settings, in_flight, now), Room::Blocked { .. });
        self.state = self.state.by_then(settings, now);
    }
}

impl ConnectionFacts {
    /// What only a person ends.
    pub(super) fn rests(&self) -> Option<Cause> {
        match self.state.as_str() {
            "active" => {}
            "needs_reauth" => {
                return Some(Cause::NeedsReauth {
                    connection: self.connection.0,
                    reason: self.reason.clone(),
                    since: self.since,
                });
            }
            _ => {
                return Some(Cause::ConnectionAtRest(ConnectionAtRest {
                    connection: self.connection.0,
                    state: self.state.clone(),
                    by: self.by.clone(),
                    reason: self.reason.clone(),
                    since: self.since,
                }));
            }
        }
        let circuit = self.circuit.as_ref()?;
        let forced = circuit.forced.as_ref().filter(|forced| forced.forced == Forced::Open)?;
        Some(Cause::CircuitOpen(CircuitOpen {
            service: circuit.service.clone(),
            since: forced.since,
            next_probe_at: None,
            probe_sent_at: None,
            reason: forced.reason.clone(),
            forced_by: Some(forced.by.clone()),
        }))
    }

    /// What ends by itself once the service is back.
    pub(super) fn circuit_breaks(&self, job: JobState) -> Option<Cause> {
        let circuit = self.circuit.as_ref().filter(|circuit| circuit.forced.is_none())?;
        let open = |next_probe_at, probe_sent_at| {
            Some(Cause::CircuitOpen(CircuitOpen {
                service: circuit.service.clone(),
                since: circuit.since,
                next_probe_at,
                probe_sent_at,
                reason: circuit.reason.clone(),
                forced_by: None,
            }))
        };
        match circuit.state {
            BreakerState::Open { next_probe_at } => open(Some(next_probe_at), None),
            // One that is on the queue already may be the probe, or was there before the circuit opened.
            BreakerState::HalfOpen { probe_at } if job == JobState::Ready => open(None, Some(probe_at)),
            BreakerState::Recovering { room, .. } if job == JobState::Ready && !circuit.has_room => {
                let (service, since) = (circuit.service.clone(), circuit.since);
                Some(Cause::CircuitRecovering(CircuitRecovering { service, since, room }))
            }
            BreakerState::NotUnderstood if job == JobState::Ready && !circuit.has_room => {
                let (service, reason) = (circuit.service.clone(), circuit.reason.clone());
                Some(Cause::CircuitUnclear(CircuitUnclear { service, reason }))
            }
            BreakerState::HalfOpen { .. }
            | BreakerState::Recovering { .. }
            | BreakerState::NotUnderstood
            | BreakerState::Closed => None,
        }
    }
}

impl CircuitOpen {
    pub(super) fn says(&self) -> String {
        let Self { service, reason, .. } = self;
        let from = time(self.since);
        match (&self.forced_by, self.next_probe_at) {
            (Some(by), _) => format!("the circuit of {service} is held open by {by} since {from}: {reason}"),
            (None, Some(at)) => {
                format!("the circuit of {service} is open since {from} ({reason}), next probe at {}", time(at))
            }
            (None, None) => {
                let sent = since(" since ", self.probe_sent_at);
                format!("the circuit of {service} is open since {from} ({reason}), a probe is on its way{sent}")
            }
        }
    }

    pub(super) fn cleared_by(&self) -> String {
        let Self { service, .. } = self;
        match (&self.forced_by, self.next_probe_at) {
            (Some(_), _) => format!("servantctl breakers clear {service}"),
            (None, Some(at)) => format!("a probe that succeeds, at {} or later", time(at)),
            (None, None) => "the probe succeeds".to_owned(),
        }
    }
}

impl CircuitRecovering {
    pub(super) fn says(&self) -> String {
        let Self { service, room, .. } = self;
        let jobs = if *room == 1 { "job goes" } else { "jobs go" };
        format!("{service} recovers since {}: {room} {jobs} at a time", time(self.since))
    }
}

impl CircuitUnclear {
    pub(super) fn says(&self) -> String {
        let Self { service, reason } = self;
        format!("the circuit of {service} is not understood ({reason}): one job goes at a time")
    }

    pub(super) fn cleared_by(&self) -> String {
        format!("the version that wrote it, or servantctl breakers clear {}", self.service)
    }
}

impl ConnectionAtRest {
    pub(super) fn says(&self) -> String {
        let by = self.by.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
        let reason = self.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("connection {} is {}{by} since {}{reason}", self.connection, self.state, time(self.since))
    }

    pub(super) fn cleared_by(&self) -> String {
        let verb = if self.state == "disabled" { "enable" } else { "reauthorised" };
        format!("servantctl connections {verb} {}", self.connection)
    }
}

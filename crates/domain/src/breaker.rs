//! The circuit breaker of a service: when failures stop the dispatch of all its jobs, when one of them probes whether it
//! is back, and how much may go at once while it recovers. Pure: outcomes, time and randomness are arguments; the
//! ledger keeps the rows, the leading scheduler feeds them.

mod settings;
mod window;

pub use settings::BreakerSettings;
pub use window::{Tally, Window};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Jobs at a time beyond which a service counts as recovered.
const ROOM_MAX: u32 = 1_024;
/// How far the clocks of two processes may differ, in milliseconds: less than the least wait before a probe, in which no
/// attempt begins.
const SKEW_MS_MAX: i64 = 1_000;

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything goes.
    Closed,
    /// Nothing goes until then; after that, one probe.
    Open {
        /// The earliest probe.
        next_probe_at: DateTime<Utc>,
    },
    /// A probe is on its way.
    HalfOpen {
        /// When the latest was sent.
        probe_at: DateTime<Utc>,
    },
    /// The probe succeeded: some at a time go, ever more.
    Recovering {
        /// Jobs at a time.
        room: u32,
        /// When that last grew by itself.
        grown_at: DateTime<Utc>,
    },
    /// Its row says what this program does not know: another version wrote it, or it is damaged. One job at a time goes
    /// until the version that understands it is back or an operator clears it; nothing else changes it.
    NotUnderstood,
}

impl BreakerState {
    /// The text in the database, the API and on screens.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open { .. } => "open",
            Self::HalfOpen { .. } => "half_open",
            Self::Recovering { .. } => "recovering",
            Self::NotUnderstood => "not_understood",
        }
    }

    /// [`Breaker::room`] where no operator holds it.
    #[must_use]
    pub fn room(self, settings: &BreakerSettings, in_flight: u32, now: DateTime<Utc>) -> Room {
        match self.by_then(settings, now) {
            Self::Closed => Room::Unlimited,
            // Whatever is still in flight from before the opening: a probe must not wait for it.
            Self::Open { next_probe_at } if now >= next_probe_at => Room::AtMost(1),
            Self::Open { next_probe_at } => Room::Blocked { until: Some(next_probe_at) },
            Self::HalfOpen { probe_at } => {
                // A probe may end without an outcome (refused, rate-limited, interrupted). The least wait lets an
                // outcome that has just been written be folded first.
                let again_at = probe_at + if in_flight == 0 { settings.open_min() } else { settings.probe() };
                if now >= again_at { Room::AtMost(1) } else { Room::Blocked { until: Some(again_at) } }
            }
            Self::Recovering { room, grown_at } => match room.checked_sub(in_flight) {
                _ if room >= ROOM_MAX => Room::Unlimited,
                None | Some(0) => Room::Blocked { until: Some(grown_at + settings.ramp()) },
                Some(more) => Room::AtMost(more),
            },
            // It may be a service that is down, or one that is well: neither a crowd nor nobody.
            Self::NotUnderstood if in_flight == 0 => Room::AtMost(1),
            Self::NotUnderstood => Room::Blocked { until: None },
        }
    }

    /// The state as time has made it by `now`: a recovery's room has grown.
    #[must_use]
    pub fn by_then(self, settings: &BreakerSettings, now: DateTime<Utc>) -> Self {
        match self {
            Self::Recovering { room, grown_at } => {
                let (room, grown_at) = grown(room, grown_at, settings, now);
                Self::Recovering { room, grown_at }
            }
            state => state,
        }
    }
}

/// What an operator holds a breaker at, whatever the outcomes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forced {
    /// Nothing goes.
    Open,
    /// Everything goes.
    Closed,
}

impl Forced {
    /// The text in the database and the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for Forced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Forced {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Open, Self::Closed]
            .into_iter()
            .find(|forced| forced.as_str() == text)
            .ok_or_else(|| format!("a breaker is forced open or closed, not '{text}'"))
    }
}

/// How attempts on a service ended: those of one statement, so that many are one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcomes {
    /// When the latest of them began.
    pub started_at: DateTime<Utc>,
    /// When they ended.
    pub ended_at: DateTime<Utc>,
    /// How many of each.
    pub tally: Tally,
}

/// How many jobs of a service may be dispatched now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// None.
    Blocked {
        /// When to ask again; none: once something happens.
        until: Option<DateTime<Utc>>,
    },
    /// So many more.
    AtMost(u32),
    /// Any number.
    Unlimited,
}

/// One service's breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    /// Where it stands.
    pub state: BreakerState,
    /// Since when; of an outage, its probes included, since its beginning.
    pub since: DateTime<Utc>,
    /// Why.
    pub reason: String,
    /// How often it has opened since it was closed: the exponent of the wait.
    pub openings: u32,
    /// Attempts that began before this prove nothing: they met the service as it was then.
    pub counts_from: DateTime<Utc>,
    /// The latest outcomes.
    pub window: Window,
    /// What an operator holds it at.
    pub forced: Option<Forced>,
}

impl Breaker {
    /// A service of which nothing bad is known.
    #[must_use]
    pub const fn closed(now: DateTime<Utc>) -> Self {
        Self {
            state: BreakerState::Closed,
            since: now,
            reason: String::new(),
            openings: 0,
            counts_from: DateTime::UNIX_EPOCH,
            window: Window::empty(now),
            forced: None,
        }
    }

    /// A service of which another version wrote what is not understood here; `what` says what that is.
    #[must_use]
    pub fn not_understood(since: DateTime<Utc>, what: &str) -> Self {
        let reason = format!("another version wrote its {what}, or it is damaged");
        Self { state: BreakerState::NotUnderstood, reason, ..Self::closed(since) }
    }

    /// Whether its row is understood.
    #[must_use]
    pub const fn is_understood(&self) -> bool {
        !matches!(self.state, BreakerState::NotUnderstood)
    }

    /// How many of the service's jobs may be dispatched now, while `in_flight` of them are queued or running.
    #[must_use]
    pub fn room(&self, settings: &BreakerSettings, in_flight: u32, now: DateTime<Utc>) -> Room {
        match self.forced {
            Some(Forced::Open) => Room::Blocked { until: None },
            Some(Forced::Closed) => Room::Unlimited,
            None => self.state.room(settings, in_flight, now),
        }
    }

    /// A job was dispatched in the room of a probe.
    pub fn probe_sent(&mut self, now: DateTime<Utc>) {
        match self.state {
            BreakerState::Open { .. } => {
                self.counts_from = now;
                self.state = BreakerState::HalfOpen { probe_at: now };
            }
            BreakerState::HalfOpen { .. } => self.state = BreakerState::HalfOpen { probe_at: now },
            BreakerState::Closed | BreakerState::Recovering { .. } | BreakerState::NotUnderstood => {}
        }
    }

    /// Takes outcomes in; `jitter` (0 ≤ jitter < 1) is the share of the wait that an opening takes.
    pub fn observe(&mut self, settings: &BreakerSettings, outcomes: &Outcomes, now: DateTime<Utc>, jitter: f64) {
        self.advance(settings, now);
        let is_old = outcomes.started_at < self.counts_from - TimeDelta::milliseconds(SKEW_MS_MAX)
            || outcomes.ended_at <= now - TimeDelta::seconds(i64::from(settings.window_secs));
        if self.forced.is_some() || is_old {
            return;
        }
        let Tally { succeeded, failed } = outcomes.tally;
        match self.state {
            BreakerState::Closed => {
                let total = self.window.add(settings, outcomes.tally);
                if total.failed >= settings.failures_min && total.is_mostly_failed(settings.failures_pct) {
                    self.open(settings, now, jitter, said(total));
                }
            }
            BreakerState::Open { .. } | BreakerState::NotUnderstood => {}
            BreakerState::HalfOpen { .. } if failed > 0 => {
                let (since, reason) = (self.since, self.reason.clone());
                self.open(settings, now, jitter, reason);
                self.since = since;
            }
            BreakerState::HalfOpen { .. } if succeeded > 0 => self.recover(now, "the probe succeeded".to_owned()),
            BreakerState::HalfOpen { .. } => {}
            BreakerState::Recovering { room, grown_at } => {
                let total = self.window.add(settings, outcomes.tally);
                // However few they are: it was down a moment ago.
                if failed > 0 && total.is_mostly_failed(settings.failures_pct) {
                    self.open(settings, now, jitter, format!("{} while it recovered", said(total)));
                } else {
                    // One more for each success: a whole round of them doubles the room.
                    self.state = BreakerState::Recovering { room: room.saturating_add(succeeded), grown_at };
                    self.advance(settings, now);
                }
            }
        }
    }

    /// Lets time pass: a recovery's room grows, old outcomes are forgotten.
    pub fn advance(&mut self, settings: &BreakerSettings, now: DateTime<Utc>) {
        self.window.roll(settings, now);
        self.state = self.state.by_then(settings, now);
        if matches!(self.state, BreakerState::Recovering { room, .. } if room >= ROOM_MAX) {
            self.openings = 0;
            self.enter(BreakerState::Closed, now, "it has recovered".to_owned());
        }
    }

    /// Holds it open or closed until [`clear`](Self::clear).
    pub fn force(&mut self, forced: Forced, now: DateTime<Utc>) {
        self.begin_anew(now);
        self.forced = Some(forced);
    }

    /// Ends what an operator held it at. What was held open recovers by and by, and so does what was not understood; what
    /// was held closed is closed.
    pub fn clear(&mut self, now: DateTime<Utc>) {
        self.begin_anew(now);
        match self.forced.take() {
            Some(Forced::Open) => {
                self.counts_from = now;
                self.recover(now, "no longer held open".to_owned());
            }
            Some(Forced::Closed) => {
                self.counts_from = now;
                self.openings = 0;
                self.window = Window::empty(now);
                self.enter(BreakerState::Closed, now, "no longer held closed".to_owned());
            }
            None => {}
        }
    }

    /// What is not understood makes room for what is.
    fn begin_anew(&mut self, now: DateTime<Utc>) {
        if !self.is_understood() {
            self.counts_from = now;
            self.recover(now, "it was not understood, and begins anew".to_owned());
        }
    }

    fn open(&mut self, settings: &BreakerSettings, now: DateTime<Utc>, jitter: f64, reason: String) {
        self.openings = self.openings.saturating_add(1);
        let next_probe_at = now + settings.wait(self.openings, jitter);
        self.window = Window::empty(now);
        self.enter(BreakerState::Open { next_probe_at }, now, reason);
    }

    fn recover(&mut self, now: DateTime<Utc>, reason: String) {
        self.window = Window::empty(now);
        self.enter(BreakerState::Recovering { room: 1, grown_at: now }, now, reason);
    }

    fn enter(&mut self, state: BreakerState, now: DateTime<Utc>, reason: String) {
        self.state = state;
        self.since = now;
        self.reason = reason;
    }
}

/// The room once time has doubled it, and when it last did.
fn grown(room: u32, grown_at: DateTime<Utc>, settings: &BreakerSettings, now: DateTime<Utc>) -> (u32, DateTime<Utc>) {
    let ramp = settings.ramp();
    let steps = ((now - grown_at).num_milliseconds() / ramp.num_milliseconds()).clamp(0, 16);
    let doublings = u32::try_from(steps).unwrap_or(0);
    (room.saturating_mul(1 << doublings).min(ROOM_MAX), grown_at + ramp * i32::try_from(steps).unwrap_or(0))
}

fn said(total: Tally) -> String {
    format!("{} of {} attempts failed", total.failed, total.succeeded.saturating_add(total.failed))
}

//! Owns what the model looks at: rows, outbox, queue, relay, dispatcher, servants and the faults still to come.
//! It does not own what may happen next, which is `system`.

use domain::{JobEvent, JobState, next};

/// Servants that compete for the jobs.
pub(crate) const SERVANTS: usize = 2;

/// A job's row, with what only the model knows of it: effects committed and rules broken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) state: JobState,
    pub(crate) attempt: u8,
    pub(crate) token: Option<u8>,
    pub(crate) owner: Option<usize>,
    /// The job has entries in the outbox (all of them are forgotten together).
    pub(crate) outbox: bool,
    /// Messages on the queue that a servant can receive.
    pub(crate) visible: u8,
    /// Tokens are fresh: claims so far.
    pub(crate) claims: u8,
    /// Attempts that were given back.
    pub(crate) given_back: u8,
    pub(crate) effects: u8,
    pub(crate) stale_finish: bool,
    pub(crate) moved_after_end: bool,
    pub(crate) illegal: bool,
    /// An attempt that was no longer the row's was turned away.
    pub(crate) refused: bool,
}

impl Row {
    pub(crate) fn ready() -> Self {
        Self {
            state: JobState::Ready,
            attempt: 0,
            token: None,
            owner: None,
            outbox: false,
            visible: 0,
            claims: 0,
            given_back: 0,
            effects: 0,
            stale_finish: false,
            moved_after_end: false,
            illegal: false,
            refused: false,
        }
    }

    /// The change as the table of `domain` has it; a variant that makes one which is not there is noted.
    pub(crate) fn apply(&mut self, event: JobEvent, broken_to: JobState) {
        let to = next(self.state, event).unwrap_or_else(|| {
            self.illegal = true;
            broken_to
        });
        self.moved_after_end |= self.state.is_finished() && to != self.state;
        self.state = to;
    }

    /// The row as an attempt leaves it behind when another may follow.
    pub(crate) fn release(&mut self, keeps_token: bool) {
        self.owner = None;
        if !keeps_token {
            self.token = None;
        }
    }
}

/// What a servant has in its hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Hands {
    Empty,
    /// A message, not yet claimed; `deleted` only where a variant deletes first.
    Received {
        job: usize,
        deleted: bool,
    },
    /// The row is claimed and the message not yet deleted.
    Claimed(Held),
    Running(Held),
    /// Only where a variant commits the effects by themselves: they are, and the row is not finished.
    Effected(Held),
}

/// A claimed attempt as its servant remembers it; the row may have moved on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    pub(crate) job: usize,
    pub(crate) token: u8,
    /// The claim it came from, which only the model knows.
    pub(crate) claim: u8,
}

impl Hands {
    pub(crate) fn held(self) -> Option<Held> {
        match self {
            Self::Claimed(held) | Self::Running(held) | Self::Effected(held) => Some(held),
            Self::Empty | Self::Received { .. } => None,
        }
    }

    /// The job whose undeleted message comes back to the queue when this servant dies.
    pub(crate) fn message(self) -> Option<usize> {
        match self {
            Self::Received { job, deleted: false } => Some(job),
            Self::Claimed(held) => Some(held.job),
            _ => None,
        }
    }
}

/// A daemon with a step of its own between two writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Between {
    Nothing,
    /// The first of two steps is done for this job.
    First(usize),
    /// The second is done, what follows is only clean-up.
    Second(usize),
}

impl Between {
    pub(crate) fn is_first(self, job: usize) -> bool {
        self == Self::First(job)
    }
}

/// Faults that may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Faults {
    /// Servants that die.
    pub(crate) crashes: u8,
    /// Deaths of the relay (and of the dispatcher between two steps, where it has two).
    pub(crate) relay_crashes: u8,
    /// Servants that sleep longer than their lease and wake up after the rescue.
    pub(crate) pauses: u8,
    /// Messages delivered once more (a failed delete and a visibility that ended look the same).
    pub(crate) duplicates: u8,
    /// Messages that vanish.
    pub(crate) losses: u8,
    /// Servants that stop in good order and give their attempt back.
    pub(crate) stops: u8,
    /// Sweeps that send again though the message was only slow.
    pub(crate) early_sweeps: u8,
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) rows: Vec<Row>,
    pub(crate) relay: Between,
    pub(crate) dispatcher: Between,
    /// Only where a variant decides first and writes later.
    pub(crate) rescuer: Between,
    pub(crate) servants: [Hands; SERVANTS],
    pub(crate) faults: Faults,
}

impl World {
    pub(crate) fn is_over(&self) -> bool {
        self.rows.iter().all(|row| row.state.is_finished())
    }

    /// A message of the job exists, or will by itself.
    pub(crate) fn is_on_its_way(&self, job: usize) -> bool {
        let row = &self.rows[job];
        row.outbox
            || row.visible > 0
            || self.relay.is_first(job)
            || self.dispatcher.is_first(job)
            || self.servants.iter().any(|hands| matches!(hands, Hands::Received { job: j, .. } if *j == job))
    }

    /// A living servant holds the attempt that the row is in.
    pub(crate) fn is_held(&self, job: usize) -> bool {
        let row = &self.rows[job];
        self.servants.iter().enumerate().any(|(servant, hands)| {
            row.owner == Some(servant) && hands.held().is_some_and(|h| h.job == job && Some(h.token) == row.token)
        })
    }

    /// No two servants hold one attempt, and who holds the row's attempt is who the row names.
    pub(crate) fn each_attempt_has_one_owner(&self) -> bool {
        let held: Vec<_> =
            self.servants.iter().enumerate().filter_map(|(s, hands)| hands.held().map(|h| (s, h))).collect();
        let is_alone = held.iter().enumerate().all(|(n, (_, one))| {
            held.iter().skip(n + 1).all(|(_, other)| (one.job, one.token) != (other.job, other.token))
        });
        is_alone
            && held.iter().all(|(servant, h)| {
                let row = &self.rows[h.job];
                row.state != JobState::Running || row.token != Some(h.token) || row.owner == Some(*servant)
            })
    }
}

//! What a round is about: flows, places in them, visits, and what those bring. Does not decide anything.

use crate::{AccountId, ConnectionId, JobId};

/// Jobs of one kind that wait in one line: an account's, on one connection or on none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// Whose.
    pub account: AccountId,
    /// On which connection.
    pub connection: Option<ConnectionId>,
}

/// Where a job stands in its flow: its turn, in seconds since 2000, and its id among those of the same turn.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Place {
    /// Its turn.
    pub turn: f64,
    /// The job.
    pub id: JobId,
}

/// What one flow may give in one go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Visit {
    /// The flow.
    pub flow: Flow,
    /// Jobs at the most.
    pub quantum: i64,
    /// What is left of its visit; more than the quantum when it has no room for all of that now.
    pub left: i64,
    /// The flow has been taken up to here: what lies before is running, and looking through it again costs time.
    pub after: Option<Place>,
}

/// A job that was taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Taken {
    /// Its flow.
    pub flow: Flow,
    /// Its place there.
    pub place: Place,
    /// It came by the urgent lane, out of its flow's turn.
    pub is_urgent: bool,
}

impl Flow {
    /// Its connection's id, 0 for none.
    #[must_use]
    pub fn connection_key(self) -> i64 {
        self.connection.map_or(0, |id| id.0)
    }
}

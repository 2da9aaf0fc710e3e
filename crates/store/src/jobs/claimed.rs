//! What a claim hands to a servant, and whether a change took place. Types only; the statements are in `transition`.

use chrono::{DateTime, Utc};
use domain::{AccountId, AttemptToken, ConnectionId, Flow, GroupId, JobId, LeaseId};
use uuid::Uuid;

/// One attempt: the job and the token that its claim drew. The jobs of one claim share a token; two claims of a job
/// never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttemptKey {
    /// The job.
    pub id: JobId,
    /// The fencing token.
    pub token: AttemptToken,
}

/// Whether a change took place.
#[must_use = "a stale change means that somebody else owns the job now"]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The row changed.
    Applied,
    /// The row had moved on; nothing changed.
    Stale,
}

/// A job in a servant's hands.
#[derive(Debug, Clone)]
pub struct ClaimedJob {
    /// The job and this attempt's token.
    pub key: AttemptKey,
    /// The lease under which it is held, with the other jobs of the claim.
    pub lease: LeaseId,
    /// The number of this attempt; 1 is the first.
    pub attempt: u16,
    /// Attempts in all.
    pub attempts_max: u16,
    /// Whose it is.
    pub account: AccountId,
    /// The connection it works on.
    pub connection: Option<ConnectionId>,
    /// The group that it is a member of.
    pub group: Option<GroupId>,
    /// Which request asked for it.
    pub request_id: Uuid,
    /// The trace context of that request.
    pub traceparent: Option<String>,
    /// What to do, as JSON text: only the kind knows its shape, so only the kind parses it.
    pub payload: String,
    /// Not after this time.
    pub deadline_at: Option<DateTime<Utc>>,
    /// When it was due.
    pub due_at: DateTime<Utc>,
    /// What an earlier attempt saved.
    pub checkpoint: Option<serde_json::Value>,
}

impl ClaimedJob {
    /// The flow that it came from.
    pub(super) const fn flow(&self) -> Flow {
        Flow { account: self.account, connection: self.connection }
    }
}

/// A job's id as the queue brought it.
#[derive(Debug, Clone, Copy)]
pub struct Delivered {
    /// The job.
    pub id: JobId,
    /// When the relay sent it.
    pub sent_at: DateTime<Utc>,
}

/// An attempt's number as the ledger keeps it.
pub(super) fn attempt_number(raw: i16) -> u16 {
    u16::try_from(raw).unwrap_or(0)
}

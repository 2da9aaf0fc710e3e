//! The jobs that this process holds right now, shared between the runner, the keeper and the heartbeat.
//! Owns why a job was told to stop; does not own the stopping.

use chrono::{DateTime, Utc};
use domain::{AccountId, JobId};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};
use store::{AttemptKey, UsageReport};
use tokio_util::sync::CancellationToken;

/// Why a running job was told to stop. The first reason stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum StopReason {
    /// The process drains.
    Shutdown = 1,
    /// An operator cancelled the job.
    Operator = 2,
    /// The attempt took longer than its kind allows.
    RanTooLong = 3,
    /// The job's own deadline passed.
    Deadline = 4,
    /// Another servant may hold it.
    LeaseLost = 5,
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Progress {
    pub(crate) done: u64,
    pub(crate) total: Option<u64>,
    pub(crate) message: String,
}

/// Characters of a message that are kept: it goes into the job's row and into every heartbeat.
const MESSAGE_CHARS_MAX: usize = 200;

impl Progress {
    /// What a job says of itself, as the ledger can hold it: a NUL is in no jsonb.
    pub(crate) fn new(done: u64, total: Option<u64>, message: &str) -> Self {
        let message = message.chars().take(MESSAGE_CHARS_MAX).map(|c| if c == '\0' { '\u{fffd}' } else { c }).collect();
        Self { done, total, message }
    }
}

/// One job in hand.
#[derive(Debug)]
pub(crate) struct InHand {
    pub(crate) key: AttemptKey,
    pub(crate) attempt: u16,
    pub(crate) attempts_max: u16,
    pub(crate) account: AccountId,
    pub(crate) started_at: DateTime<Utc>,
    /// When it must have ended; the keeper abandons what does not yield some time after.
    pub(crate) must_end_at: DateTime<Utc>,
    pub(crate) cancelled: CancellationToken,
    reason: AtomicU8,
    has_returned: AtomicBool,
    progress: Mutex<ProgressSlot>,
    /// The latest word of a vendor on the connection's quota, until it is stored.
    usage: Mutex<Option<Box<UsageReport>>>,
}

#[derive(Debug, Default)]
struct ProgressSlot {
    latest: Option<Progress>,
    is_saved: bool,
}

impl InHand {
    pub(crate) fn new(
        key: AttemptKey,
        (attempt, attempts_max): (u16, u16),
        account: AccountId,
        started_at: DateTime<Utc>,
        must_end_at: DateTime<Utc>,
    ) -> Self {
        Self {
            key,
            attempt,
            attempts_max,
            account,
            started_at,
            must_end_at,
            cancelled: CancellationToken::new(),
            reason: AtomicU8::new(0),
            has_returned: AtomicBool::new(false),
            progress: Mutex::default(),
            usage: Mutex::default(),
        }
    }

    /// Tells the job to stop.
    pub(crate) fn stop(&self, reason: StopReason) {
        // A lost lease outranks every other reason: nothing may be written for the job any more.
        if reason == StopReason::LeaseLost {
            self.reason.store(reason as u8, Ordering::SeqCst);
        } else {
            let _ = self.reason.compare_exchange(0, reason as u8, Ordering::SeqCst, Ordering::SeqCst);
        }
        self.cancelled.cancel();
    }

    pub(crate) fn stop_reason(&self) -> Option<StopReason> {
        use StopReason as R;
        let raw = self.reason.load(Ordering::SeqCst);
        [R::Shutdown, R::Operator, R::RanTooLong, R::Deadline, R::LeaseLost].into_iter().find(|r| *r as u8 == raw)
    }

    /// The job itself is over; its end is still to be written, which may take as long as the ledger is away.
    pub(crate) fn note_return(&self) {
        self.has_returned.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_returned(&self) -> bool {
        self.has_returned.load(Ordering::SeqCst)
    }

    pub(crate) fn set_progress(&self, progress: Progress) {
        let mut slot = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = ProgressSlot { latest: Some(progress), is_saved: false };
    }

    pub(crate) fn progress(&self) -> Option<Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).latest.clone()
    }

    /// Progress that the ledger does not have yet, as it is stored; it counts as saved from here on.
    pub(crate) fn take_unsaved_progress(&self) -> Option<serde_json::Value> {
        let mut slot = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_saved {
            return None;
        }
        slot.is_saved = true;
        slot.latest.as_ref().and_then(|progress| serde_json::to_value(progress).ok())
    }

    /// The latest progress, as it is stored, for the end of the attempt: whether the keeper that has taken it has also
    /// stored it already is not known.
    pub(crate) fn last_progress(&self) -> Option<serde_json::Value> {
        let mut slot = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        slot.is_saved = true;
        slot.latest.as_ref().and_then(|progress| serde_json::to_value(progress).ok())
    }

    /// Keeps a vendor's word until it is stored; of two, the later one.
    pub(crate) fn set_usage(&self, report: UsageReport) {
        let mut slot = self.usage.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.as_ref().is_none_or(|kept| kept.budget.reported_at <= report.budget.reported_at) {
            *slot = Some(Box::new(report));
        }
    }

    /// A vendor's word that is not stored yet. Whoever cannot store it gives it back by [`Self::set_usage`].
    pub(crate) fn take_usage(&self) -> Option<UsageReport> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner).take().map(|report| *report)
    }
}

/// All jobs in hand.
#[derive(Debug, Clone, Default)]
pub(crate) struct Registry {
    jobs: Arc<Mutex<HashMap<JobId, Arc<InHand>>>>,
}

impl Registry {
    pub(crate) fn add(&self, job: Arc<InHand>) {
        self.lock().insert(job.key.id, job);
    }

    /// Removes attempts; a later attempt of the same job, claimed by this process again, stays.
    pub(crate) fn remove_all(&self, keys: impl Iterator<Item = AttemptKey>) {
        let mut jobs = self.lock();
        for key in keys {
            if jobs.get(&key.id).is_some_and(|job| job.key == key) {
                jobs.remove(&key.id);
            }
        }
    }

    pub(crate) fn get(&self, id: JobId) -> Option<Arc<InHand>> {
        self.lock().get(&id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<InHand>> {
        self.lock().values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Progress that changed since it was last asked for.
    pub(crate) fn unsaved_progress(&self) -> Vec<(AttemptKey, serde_json::Value)> {
        self.all().iter().filter_map(|job| Some((job.key, job.take_unsaved_progress()?))).collect()
    }

    /// Vendors' words that are not stored yet, with the jobs that heard them.
    pub(crate) fn unsaved_usage(&self) -> Vec<(Arc<InHand>, UsageReport)> {
        self.all().into_iter().filter_map(|job| job.take_usage().map(|report| (job, report))).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, Arc<InHand>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_what_the_ledger_can_hold() {
        let progress = Progress::new(1, None, &format!("a\0b{}", "é".repeat(500)));
        assert!(progress.message.starts_with("a\u{fffd}bé"), "{progress:?}");
        assert_eq!(progress.message.chars().count(), MESSAGE_CHARS_MAX);
    }
}

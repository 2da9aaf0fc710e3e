//! What wakes duties before their timers besides the clock: orders that were heard of, and other duties. A nudge may get
//! lost at any time; the timer behind does the work.

use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// One for each duty that has no due time of its own.
#[derive(Debug, Default)]
pub struct Nudges {
    /// A group may have ended, once its members are counted.
    pub fold_counters: Notify,
    /// A group was sealed or cancelled, or its members were counted for that.
    pub groups: Notify,
    /// A bulk operation was ordered.
    pub operations: Notify,
    groups_wait: AtomicBool,
}

impl Nudges {
    /// A group was sealed or cancelled: its members are counted, and then it is looked at again.
    pub fn group_changed(&self) {
        self.groups_wait.store(true, Ordering::Relaxed);
        self.fold_counters.notify_one();
        // A cancellation has something to do before that.
        self.groups.notify_one();
    }

    /// Members were counted.
    pub(crate) fn counted(&self) {
        if self.groups_wait.swap(false, Ordering::Relaxed) {
            self.groups.notify_one();
        }
    }
}

//! What wakes duties before their timers besides the clock: orders that were heard of, and other duties. A nudge may get
//! lost at any time; the timer behind does the work.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use store::ReadyIn;
use tokio::{sync::Notify, time::Instant};

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

/// What the dispatcher is woken for.
#[derive(Debug, Default)]
pub struct JobsReady {
    bell: Notify,
    reasons: Mutex<Reasons>,
    /// When there may be room for what had none.
    room_at: Mutex<Option<Instant>>,
}

/// What has been said to the dispatcher since it asked last.
#[derive(Debug, Default)]
pub(crate) struct Reasons {
    /// Where jobs of each kind have come.
    pub(crate) ready: BTreeMap<String, ReadyIn>,
    /// There may be room for what it has seen.
    pub(crate) has_room: bool,
}

impl JobsReady {
    /// Jobs have come.
    pub fn come(&self, ready: &BTreeMap<String, ReadyIn>) {
        if ready.is_empty() {
            return;
        }
        let mut reasons = lock(&self.reasons);
        for (kind, places) in ready {
            reasons.ready.entry(kind.clone()).or_default().add(places);
        }
        self.bell.notify_one();
    }

    /// What had no room may have some after this time; none: nothing waits for room. The last word counts.
    pub(crate) fn have_room_in(&self, time: Option<Duration>) {
        *lock(&self.room_at) = time.map(|time| Instant::now() + time);
    }

    /// Until the dispatcher is wanted.
    pub(crate) async fn notified(&self) {
        let room_at = lock(&self.room_at).take();
        let there_may_be_room = async {
            match room_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.bell.notified() => {}
            () = there_may_be_room => lock(&self.reasons).has_room = true,
        }
    }

    /// What was said, which is then forgotten. Whoever asks has to look afterwards.
    pub(crate) fn take(&self) -> Reasons {
        std::mem::take(&mut lock(&self.reasons))
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reasons {
    /// Nobody was woken for anything: it is a timer's turn.
    pub(crate) fn are_none(&self) -> bool {
        self.ready.is_empty() && !self.has_room
    }

    /// Where there may be jobs of a kind. When it is a timer's turn, that is anywhere.
    pub(crate) fn ready_in(&self, kind: &str) -> ReadyIn {
        if self.are_none() {
            return ReadyIn::anywhere();
        }
        self.ready.get(kind).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{AccountId, Flow};

    fn in_flow_of(account: i64) -> ReadyIn {
        ReadyIn { flows: [Flow { account: AccountId(account), connection: None }].into(), is_anywhere: false }
    }

    #[tokio::test]
    async fn what_has_come_is_said_once_and_where_nothing_was_said_it_may_be_anywhere() {
        let jobs = JobsReady::default();
        assert_eq!(jobs.take().ready_in("noop"), ReadyIn::anywhere());
        jobs.come(&BTreeMap::new());
        assert!(jobs.take().are_none());
        jobs.come(&[("noop".to_owned(), in_flow_of(1))].into());
        jobs.come(&[("noop".to_owned(), in_flow_of(2))].into());
        jobs.notified().await;
        let reasons = jobs.take();
        let flows: Vec<i64> = reasons.ready_in("noop").flows.iter().map(|flow| flow.account.0).collect();
        assert_eq!(flows, [1, 2]);
        assert_eq!(reasons.ready_in("send_message"), ReadyIn::default(), "in none of its flows");
        assert!(jobs.take().are_none());
    }

    #[tokio::test]
    async fn the_last_word_about_room_counts() {
        let jobs = JobsReady::default();
        jobs.have_room_in(Some(Duration::from_secs(3_600)));
        jobs.have_room_in(Some(Duration::ZERO));
        jobs.notified().await;
        let reasons = jobs.take();
        assert!(reasons.has_room && reasons.ready.is_empty());
        jobs.have_room_in(Some(Duration::ZERO));
        jobs.have_room_in(None);
        jobs.come(&[("noop".to_owned(), in_flow_of(1))].into());
        jobs.notified().await;
        assert!(!jobs.take().has_room, "nothing waits for room any more");
    }
}

//! Owns the stop of a process: the two orders (soft and hard), the tasks that must end before the
//! process does, and the failure of any of them.
//!
//! It does not own signals (see `run`), nor what a program does to finish its work.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

/// The stop of this process; clones are the same stop.
#[derive(Debug, Clone, Default)]
pub struct Stopper {
    soft: CancellationToken,
    hard: CancellationToken,
    tracker: TaskTracker,
    failure: Arc<Mutex<Option<anyhow::Error>>>,
}

impl Stopper {
    /// A stop that nobody has asked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the process should take no new work and finish what it has.
    #[must_use]
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when the process should abandon what it has; soft is cancelled by then too.
    #[must_use]
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// Whether either order was given.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.soft.is_cancelled()
    }

    /// Gives the soft order; again does nothing.
    pub fn stop(&self) {
        self.soft.cancel();
    }

    /// Gives the hard order, and the soft one with it; again does nothing.
    pub fn stop_hard(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Tasks that [`drain`](Self::drain) waits for and whose end means nothing more.
    #[must_use]
    pub fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }

    /// Starts a duty of the process, waited for by [`drain`](Self::drain). A duty that fails or
    /// panics stops the process, which then exits with 1: none is lost in silence.
    pub fn spawn<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let task = tokio::spawn(future.instrument(tracing::info_span!("task", task = name)));
        let stopper = self.clone();
        self.tracker.spawn(async move {
            let outcome = task.await.map_err(anyhow::Error::from).flatten();
            if let Err(error) = outcome.with_context(|| format!("task {name} failed")) {
                stopper.fail(error);
            }
        });
    }

    /// Waits until every task has ended, at most `deadline`. Answers whether all have; those that
    /// have not are left running, to be dropped with the runtime.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok()
    }

    /// Keeps the first failure, since later ones tend to follow from it, and stops the process.
    fn fail(&self, error: anyhow::Error) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match failure.as_ref() {
            None => *failure = Some(error),
            Some(_) => tracing::error!(error = format!("{error:#}"), "another task failed too"),
        }
        drop(failure);
        self.stop();
    }

    /// The first failure of a task, once.
    pub(crate) fn take_failure(&self) -> Option<anyhow::Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failed_or_panicked_task_stops_the_process() {
        for panics in [false, true] {
            let stopper = Stopper::new();
            stopper.spawn("sweep", async move {
                assert!(!panics, "on purpose");
                anyhow::bail!("on purpose")
            });
            stopper.soft().cancelled().await;
            assert!(stopper.drain(Duration::from_secs(5)).await);
            let failure = stopper.take_failure().unwrap();
            assert!(format!("{failure:#}").contains("task sweep failed"), "{failure:#}");
        }
    }

    #[tokio::test]
    async fn drain_waits_for_tasks_and_gives_up_at_the_deadline() {
        let stopper = Stopper::new();
        let hard = stopper.hard().clone();
        stopper.spawn("stubborn", async move {
            hard.cancelled().await;
            Ok(())
        });
        stopper.stop();
        assert!(stopper.is_stopping());
        assert!(!stopper.drain(Duration::from_millis(10)).await);
        stopper.stop_hard();
        assert!(stopper.drain(Duration::from_secs(5)).await);
        assert!(stopper.take_failure().is_none());
    }
}

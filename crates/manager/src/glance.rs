//! What every open overview shows, read once for all who look: fifty dashboards cost the ledger what one does. Owns how old
//! it may be and that it is read by one at a time; what it is, the overview says.
//!
//! It is of the whole deployment, and the same for everybody who may see that at all. Who sees one account only must not
//! be shown it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// How old what is shared may be: half of the time after which an open page asks again.
pub(crate) const SHARED_FOR: Duration = Duration::from_secs(1);

/// A value that is read anew at most once in a while, by whoever asks first then.
#[derive(Debug)]
pub(crate) struct Shared<T> {
    fresh_for: Duration,
    latest: Mutex<Option<(Instant, Arc<T>)>>,
}

impl<T> Shared<T> {
    /// Zero: everybody reads for himself.
    pub(crate) const fn new(fresh_for: Duration) -> Self {
        Self { fresh_for, latest: Mutex::const_new(None) }
    }

    /// The latest value if it is fresh, else what `read` brings. Whoever asks meanwhile waits for that; when the one who reads
    /// leaves or fails, the next one does.
    pub(crate) async fn get<E>(&self, read: impl Future<Output = Result<T, E>>) -> Result<Arc<T>, E> {
        let mut latest = self.latest.lock().await;
        if let Some((at, value)) = &*latest
            && at.elapsed() < self.fresh_for
        {
            return Ok(value.clone());
        }
        let value = Arc::new(read.await?);
        *latest = Some((Instant::now(), value.clone()));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    #[tokio::test]
    async fn many_who_ask_at_once_read_once() {
        let (shared, reads) = (Shared::new(Duration::from_secs(3_600)), AtomicU32::new(0));
        let ask = || {
            shared.get(async {
                tokio::task::yield_now().await;
                Ok::<_, ()>(reads.fetch_add(1, SeqCst))
            })
        };
        let (a, b, c) = tokio::join!(ask(), ask(), ask());
        assert_eq!([a, b, c].map(|value| *value.unwrap()), [0, 0, 0]);
        assert_eq!(reads.load(SeqCst), 1);
    }

    #[tokio::test]
    async fn a_failure_or_one_who_leaves_is_nobody_elses() {
        let shared: Shared<u32> = Shared::new(Duration::from_secs(3_600));
        assert_eq!(shared.get(async { Err("away") }).await.unwrap_err(), "away");
        let left = tokio::time::timeout(Duration::ZERO, shared.get(std::future::pending::<Result<u32, ()>>())).await;
        assert!(left.is_err(), "it has left");
        assert_eq!(*shared.get(async { Ok::<_, ()>(7) }).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn without_sharing_everybody_reads() {
        let shared = Shared::new(Duration::ZERO);
        for value in [1, 2] {
            assert_eq!(*shared.get(async move { Ok::<_, ()>(value) }).await.unwrap(), value);
        }
    }
}

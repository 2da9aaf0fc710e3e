//! The one place where tests wait: for a condition, with a limit.

use std::time::{Duration, Instant};

/// How often the condition is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Waits until `look` answers with something, and gives that back.
///
/// # Panics
/// When `limit` passes first, naming `what` was waited for.
pub async fn eventually<T>(limit: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {} ms in vain: {what}", limit.as_millis());
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

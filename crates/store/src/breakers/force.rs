//! Breakers in operators' hands: held open or closed whatever the outcomes say, and let go. Does not own who may.

use super::{BreakerRow, ForcedBy, save_breaker};
use crate::{
    Store, StoreError,
    audit::{Subject, note, snapshot},
    connections::{Event, Of, note_event},
};
use domain::{Breaker, Capability, Forced, Granted, action};

/// An action that is done with a breaker.
pub trait ForcesBreaker: Capability {
    /// What it is held at; none: it is let go.
    const FORCED: Option<Forced>;
}

impl ForcesBreaker for action::OpenBreaker {
    const FORCED: Option<Forced> = Some(Forced::Open);
}

impl ForcesBreaker for action::CloseBreaker {
    const FORCED: Option<Forced> = Some(Forced::Closed);
}

impl ForcesBreaker for action::ClearBreaker {
    const FORCED: Option<Forced> = None;
}

impl Store {
    /// Holds a service's breaker open or closed, whatever its outcomes say, until it is cleared; or clears it, and wakes
    /// whom it held back. What is not understood of it is written over. Answers with the breaker; none when there was
    /// nothing to clear.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn force_breaker<A: ForcesBreaker>(
        &self,
        granted: &Granted<A>,
        service: &str,
    ) -> Result<Option<BreakerRow>, StoreError> {
        let (forced, by, reason) = (A::FORCED, granted.by(), granted.reason());
        let (of, now) = (Subject::Breaker(service), self.clock.now());
        let mut tx = self.begin().await?;
        let before = snapshot(&mut tx.inner, &of).await?;
        let known = self.lock_breakers(&mut tx, &[service.to_owned()]).await?.remove(service);
        let new = || BreakerRow { service: service.to_owned(), breaker: Breaker::closed(now), forced: None };
        let mut row = known.unwrap_or_else(new);
        let what = match forced {
            Some(forced) => {
                row.breaker.force(forced, now);
                row.forced = Some(ForcedBy { by: by.to_owned(), reason: reason.to_owned(), at: now });
                if forced == Forced::Open { "forced_open" } else { "forced_closed" }
            }
            None if row.forced.is_none() && row.breaker.is_understood() => return Ok(None),
            None => {
                row.breaker.clear(now);
                row.forced = None;
                "cleared"
            }
        };
        save_breaker(&mut tx.inner, &row).await?;
        note_event(&mut tx.inner, &Event { of: Of::Service(service), what, by, reason }, now).await?;
        let after = snapshot(&mut tx.inner, &of).await?;
        note(&mut tx.inner, granted, &of, (before, after), now).await?;
        tx.commit().await?;
        if forced != Some(Forced::Open) {
            self.wake_every_kind().await;
        }
        Ok(Some(row))
    }
}

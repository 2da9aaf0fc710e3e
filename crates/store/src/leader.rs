//! Which scheduler leads: a lease with a term that rises at each change of leader.
//! Every write of a leader checks its term under a share lock on the lead, which a new leader has to take over first: so an
//! old leader's last statement and a new leader's first never overlap.

use crate::{Store, StoreError};
use chrono::TimeDelta;
use domain::{BreakerSettings, Dispatching, Term};

/// Proof of having led at some time; each write checks that it still holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leadership {
    /// This reign's number.
    pub term: Term,
    /// Who leads: unique for each boot.
    pub holder: String,
}

impl Store {
    /// Takes or keeps the lead for `lease_secs`; `None` while another holds it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lead(&self, holder: &str, lease_secs: u32) -> Result<Option<Leadership>, StoreError> {
        let now = self.clock.now();
        let term = sqlx::query_scalar!(
            "-- lead
            UPDATE leader
            SET term = CASE WHEN holder = $1 THEN term ELSE term + 1 END, holder = $1, until = $3
            WHERE holder = $1 OR until < $2
            RETURNING term",
            holder,
            now,
            now + TimeDelta::seconds(i64::from(lease_secs)),
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(term.map(|term| Leadership { term: Term(term), holder: holder.to_owned() }))
    }

    /// Notes how the leader dispatches, for those who explain why a job waits and for those who let jobs through where
    /// there is no queue.
    ///
    /// # Errors
    /// [`StoreError`]; the same call may be made again.
    pub async fn note_dispatching(
        &self,
        leadership: &Leadership,
        dispatching: Dispatching,
        breaker: &BreakerSettings,
        has_queue: bool,
    ) -> Result<(), StoreError> {
        let number = |of: fn(&Dispatching) -> u32| i32::try_from(of(&dispatching)).unwrap_or(i32::MAX);
        sqlx::query!(
            "-- note_dispatching
            UPDATE leader SET window_per_slot = $3, window_min = $4, unclaimed_secs = $5,
                has_queue = $6, look_ahead_ms = $7, breaker = $8
            WHERE term = $1 AND holder = $2",
            leadership.term.0,
            leadership.holder,
            number(|d| d.window_per_slot),
            number(|d| d.window_min),
            number(|d| d.unclaimed_secs),
            has_queue,
            number(|d| d.look_ahead_ms),
            serde_json::to_value(breaker).unwrap_or_default(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Lets go of the lead, so that the next takes it at once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn resign(&self, leadership: &Leadership) -> Result<(), StoreError> {
        sqlx::query!(
            "-- resign
            UPDATE leader SET until = '-infinity', holder = 'nobody' WHERE term = $1 AND holder = $2",
            leadership.term.0,
            leadership.holder,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// How services break and recover, by the latest leader's settings; the usual ones where none has led.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn breaker_settings(&self) -> Result<BreakerSettings, StoreError> {
        let settings = sqlx::query_scalar!("-- breaker_settings\nSELECT breaker FROM leader WHERE only_row")
            .fetch_one(&self.pool)
            .await?;
        // A leader of another version may know other settings.
        Ok(settings.and_then(|settings| serde_json::from_value(settings).ok()).unwrap_or_default())
    }
}

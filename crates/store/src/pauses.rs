//! What operators hold back: pausing, resuming, listing. The statements that honour it are in `jobs/transition`
//! (dispatch) and `jobs/claim`; they read the view `pauses_in_force`.

use crate::{
    PAGE_ROWS_MAX, Store, StoreError,
    audit::{Subject, note, snapshot},
};
use chrono::{DateTime, Utc};
use domain::{Granted, Kind, PauseTarget, action, chain};

/// A pause in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseRow {
    /// What is held back.
    pub target: PauseTarget,
    /// Who did it.
    pub paused_by: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub paused_at: DateTime<Utc>,
}

/// Where a page of pauses starts: behind this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PausesAfter {
    /// Since when it holds.
    pub paused_at: DateTime<Utc>,
    /// What it holds back.
    pub target: PauseTarget,
}

/// A row before its target is read.
pub(crate) struct RawPause {
    pub(crate) scope: String,
    pub(crate) key: String,
    pub(crate) paused_by: String,
    pub(crate) reason: String,
    pub(crate) paused_at: DateTime<Utc>,
}

impl RawPause {
    pub(crate) fn read(self) -> PauseRow {
        let target = PauseTarget::of_row(self.scope, self.key);
        PauseRow { target, paused_by: self.paused_by, reason: self.reason, paused_at: self.paused_at }
    }
}

impl Store {
    /// Holds jobs back from the next dispatch and claim on; those that run go on. Of what is paused already, who and
    /// why are replaced; since when is kept.
    ///
    /// Who has no leave, or leave for something else, does not compile:
    /// ```compile_fail,E0061
    /// # async fn act(store: &store::Store) {
    /// store.pause(&domain::PauseTarget::Everything).await;
    /// # }
    /// ```
    /// ```compile_fail,E0308
    /// # async fn act(store: &store::Store, granted: &domain::Granted<domain::action::Resume>) {
    /// store.pause(granted, &domain::PauseTarget::Everything).await;
    /// # }
    /// ```
    /// ```
    /// # async fn act(store: &store::Store, granted: &domain::Granted<domain::action::Pause>) {
    /// let _ = store.pause(granted, &domain::PauseTarget::Everything).await;
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pause(&self, granted: &Granted<action::Pause>, target: &PauseTarget) -> Result<PauseRow, StoreError> {
        let now = self.clock.now();
        let of = Subject::Pause(target);
        let mut tx = self.pool.begin().await?;
        let before = snapshot(&mut tx, &of).await?;
        let row = sqlx::query_as!(
            RawPause,
            "-- pause
            INSERT INTO pauses (scope, key, paused_by, reason, paused_at) VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (scope, key) DO UPDATE SET paused_by = excluded.paused_by, reason = excluded.reason
            RETURNING scope, key, paused_by, reason, paused_at",
            target.scope(),
            target.key(),
            granted.by(),
            granted.reason(),
            now,
        )
        .fetch_one(&mut *tx)
        .await?
        .read();
        let after = snapshot(&mut tx, &of).await?;
        note(&mut tx, granted, &of, (before, after), now).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Ends a pause and wakes the dispatcher and the servants that it held back; false when there is none. Jobs that work
    /// on connections go little by little for a while ([`domain::Release`]), but those of a group.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn resume(&self, granted: &Granted<action::Resume>, target: &PauseTarget) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let of = Subject::Pause(target);
        let mut tx = self.pool.begin().await?;
        let before = snapshot(&mut tx, &of).await?;
        let resumed =
            sqlx::query!("-- resume\nDELETE FROM pauses WHERE scope = $1 AND key = $2", target.scope(), target.key())
                .execute(&mut *tx)
                .await?;
        if resumed.rows_affected() == 0 {
            return Ok(false);
        }
        note(&mut tx, granted, &of, (before, None), now).await?;
        tx.commit().await?;
        match target {
            PauseTarget::Kind(kind) => self.wake(kind).await,
            _ => self.wake_every_kind().await,
        }
        Ok(true)
    }

    /// Wakes the servants of all kinds; which ones have something to do is not known. Errors are dropped: the poll
    /// behind finds the jobs.
    pub(crate) async fn wake_every_kind(&self) {
        let kinds = sqlx::query_scalar!(
            "-- wake_every_kind
            SELECT DISTINCT kind FROM servants WHERE state <> 'stopped' ORDER BY kind LIMIT $1",
            PAGE_ROWS_MAX,
        )
        .fetch_all(&self.pool)
        .await;
        match kinds {
            Ok(kinds) => {
                for kind in kinds.into_iter().filter_map(|kind| Kind::new(kind).ok()) {
                    self.wake(&kind).await;
                }
            }
            Err(error) => tracing::debug!(error = chain(&error), "nobody was woken"),
        }
    }

    /// The pauses in force, the latest first, `limit` at most.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_pauses(&self, after: Option<&PausesAfter>, limit: i64) -> Result<Vec<PauseRow>, StoreError> {
        let rows = sqlx::query_as!(
            RawPause,
            "-- list_pauses
            SELECT scope, key, paused_by, reason, paused_at FROM pauses
            WHERE (paused_at, scope, key) < (coalesce($1, 'infinity'::timestamptz), $2, $3)
            ORDER BY paused_at DESC, scope DESC, key DESC LIMIT $4",
            after.map(|after| after.paused_at),
            after.map_or("", |after| after.target.scope()),
            after.map(|after| after.target.key()).unwrap_or_default(),
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(RawPause::read).collect())
    }

    /// The pause of one thing itself; what it is a part of may be paused as well.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_pause(&self, target: &PauseTarget) -> Result<Option<PauseRow>, StoreError> {
        let row = sqlx::query_as!(
            RawPause,
            "-- find_pause
            SELECT scope, key, paused_by, reason, paused_at FROM pauses WHERE scope = $1 AND key = $2",
            target.scope(),
            target.key(),
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(RawPause::read))
    }

    /// The kinds whose jobs are held back, all of them or each by itself: `everything` and `kind` alone, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pauses_of_kinds(&self) -> Result<Vec<PauseRow>, StoreError> {
        let rows = sqlx::query_as!(
            RawPause,
            "-- pauses_of_kinds
            SELECT scope, key, paused_by, reason, paused_at FROM pauses
            WHERE scope = ANY (ARRAY['everything', 'kind']) ORDER BY scope, key LIMIT $1",
            PAGE_ROWS_MAX,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(RawPause::read).collect())
    }
}

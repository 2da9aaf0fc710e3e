//! Outcomes into breakers: the leading scheduler folds what ended attempts have appended, and lets time pass. Does not own
//! what an outcome changes (`domain::Breaker`).

use super::{BreakerRow, lock_breakers, save_breaker};
use crate::{
    Leadership, PAGE_ROWS_MAX, Store, StoreError, Tx,
    connections::{Event, Of, note_event},
    partitions::leads,
};
use domain::{Breaker, BreakerSettings, BreakerState, Outcomes, Tally};

/// What a fold changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoldedOutcomes {
    /// Rows of outcomes taken in.
    pub outcomes: u64,
    /// Breakers whose state is another now, with the state before.
    pub changed: Vec<(BreakerRow, BreakerState)>,
    /// Breakers that are not understood: they stay as they are, and what their services' attempts came to is lost on
    /// them.
    pub unclear: Vec<BreakerRow>,
}

impl Store {
    /// Takes up to `rows_max` rows of outcomes into their services' breakers and lets time pass for those that are not
    /// closed, all in one transaction. `jitter` draws the share of the wait that an opening takes.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing was taken.
    pub async fn fold_outcomes(
        &self,
        leadership: &Leadership,
        settings: &BreakerSettings,
        rows_max: i64,
        mut jitter: impl FnMut() -> f64 + Send,
    ) -> Result<FoldedOutcomes, StoreError> {
        if !self.has_breaker_news().await? {
            return Ok(FoldedOutcomes::default());
        }
        let mut tx = self.begin().await?;
        if !leads(&mut tx.inner, leadership).await? {
            return Ok(FoldedOutcomes::default());
        }
        let now = self.clock.now();
        let taken = take_outcomes(&mut tx, rows_max).await?;
        let mut services = unsettled_services(&mut tx).await?;
        services.extend(taken.of_services.iter().map(|(service, _)| service.clone()));
        let mut rows = lock_breakers(&mut tx, &services).await?;
        let before = rows.clone();
        for (service, outcomes) in &taken.of_services {
            let new = || BreakerRow { service: service.clone(), breaker: Breaker::closed(now), forced: None };
            let row = rows.entry(service.clone()).or_insert_with(new);
            row.breaker.observe(settings, outcomes, now, jitter());
        }
        let mut folded = FoldedOutcomes { outcomes: taken.rows, ..FoldedOutcomes::default() };
        for (service, mut row) in rows {
            if !row.breaker.is_understood() {
                folded.unclear.push(row);
                continue;
            }
            row.breaker.advance(settings, now);
            let was = before.get(&service);
            if was == Some(&row) {
                continue;
            }
            save_breaker(&mut tx.inner, &row).await?;
            let was = was.map_or(BreakerState::Closed, |was| was.breaker.state);
            let is = row.breaker.state.as_str();
            if was.as_str() != is {
                let event = Event { of: Of::Service(&service), what: is, by: "scheduler", reason: &row.breaker.reason };
                note_event(&mut tx.inner, &event, now).await?;
                folded.changed.push((row, was));
            }
        }
        tx.commit().await?;
        if folded.changed.iter().any(|(row, _)| !matches!(row.breaker.state, BreakerState::Open { .. })) {
            self.wake_every_kind().await;
        }
        Ok(folded)
    }

    /// Whether there is anything to fold: what is asked twice a second should cost one short look.
    async fn has_breaker_news(&self) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar!(
            r#"-- has_breaker_news
            SELECT EXISTS (SELECT FROM connection_outcomes)
                OR EXISTS (SELECT FROM breakers WHERE state <> 'closed' OR forced NOT IN ('open', 'closed')) AS "has_news!""#,
        )
        .fetch_one(&self.pool)
        .await?)
    }
}

/// Outcomes taken out of the ledger, oldest first, with the service of each.
struct Taken {
    rows: u64,
    of_services: Vec<(String, Outcomes)>,
}

/// Those of connections that are gone are taken, too, and count for nothing.
async fn take_outcomes(tx: &mut Tx, rows_max: i64) -> Result<Taken, StoreError> {
    let rows = sqlx::query!(
        r#"-- take_outcomes
        WITH taken AS (
            DELETE FROM connection_outcomes
            WHERE ctid = ANY (ARRAY(SELECT ctid FROM connection_outcomes LIMIT $1 FOR UPDATE SKIP LOCKED))
            RETURNING connection_id, started_at, ended_at, succeeded, failed
        )
        SELECT coalesce(c.service, c.vendor) AS "service?", started_at AS "started_at!", ended_at AS "ended_at!",
               succeeded AS "succeeded!", failed AS "failed!"
        FROM taken LEFT JOIN connections c ON c.id = connection_id ORDER BY ended_at"#,
        rows_max,
    )
    .fetch_all(&mut *tx.inner)
    .await?;
    let taken = rows.len() as u64;
    let number = |raw: i32| u32::try_from(raw).unwrap_or(0);
    let of_services = rows
        .into_iter()
        .filter_map(|row| {
            let tally = Tally { succeeded: number(row.succeeded), failed: number(row.failed) };
            Some((row.service?, Outcomes { started_at: row.started_at, ended_at: row.ended_at, tally }))
        })
        .collect();
    Ok(Taken { rows: taken, of_services })
}

/// Services whose breaker changes although nothing happens, or is not understood.
async fn unsettled_services(tx: &mut Tx) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar!(
        "-- unsettled_services
        SELECT service FROM breakers WHERE state <> 'closed' OR forced NOT IN ('open', 'closed') LIMIT $1",
        PAGE_ROWS_MAX,
    )
    .fetch_all(&mut *tx.inner)
    .await?)
}

//! What the leading scheduler's catalogue says of kinds, kept for those who have no catalogue. Owns no kind: who
//! dispatches and runs jobs reads the catalogue itself.

use crate::{Leadership, Store, StoreError};
use domain::{Catalogue, Kind};
use sqlx::PgConnection;
use std::collections::{BTreeMap, HashMap};

/// What is known of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KindFacts {
    /// Whom its jobs call where their connection does not say.
    pub(crate) vendor: Option<String>,
    /// Calls that one of its jobs is expected to make.
    pub(crate) calls_estimate: u32,
}

impl Store {
    /// Makes what the ledger says of these kinds what the catalogue says; other kinds stay. Answers with how many changed.
    ///
    /// # Errors
    /// [`StoreError`]; the same call may be made again.
    pub async fn declare_kinds(&self, leadership: &Leadership, catalogue: &Catalogue) -> Result<u64, StoreError> {
        let (mut kinds, mut vendors, mut calls) = (Vec::new(), Vec::new(), Vec::new());
        let (mut attempts, mut processes) = (Vec::new(), Vec::new());
        for (kind, definition) in catalogue.iter() {
            kinds.push(kind.to_string());
            vendors.push(definition.vendor.clone());
            calls.push(i64::from(definition.calls_estimate));
            attempts.push(i32::from(definition.retry.attempts_max));
            processes.push(i32::try_from(definition.processes).unwrap_or(i32::MAX));
        }
        Ok(sqlx::query!(
            "-- declare_kinds
            WITH led AS (SELECT 1 FROM leader WHERE term = $1 AND holder = $2 FOR SHARE)
            INSERT INTO kinds AS k (kind, vendor, calls_estimate, attempts_max, processes)
            SELECT t.kind, t.vendor, t.calls_estimate, t.attempts_max, t.processes
            FROM unnest($3::text[], $4::text[], $5::bigint[], $6::integer[], $7::integer[])
                 AS t (kind, vendor, calls_estimate, attempts_max, processes)
            WHERE EXISTS (SELECT FROM led)
            ON CONFLICT (kind) DO UPDATE SET vendor = excluded.vendor, calls_estimate = excluded.calls_estimate,
                attempts_max = excluded.attempts_max, processes = excluded.processes
            WHERE (k.vendor, k.calls_estimate, k.attempts_max, k.processes) IS DISTINCT FROM
                  (excluded.vendor, excluded.calls_estimate, excluded.attempts_max, excluded.processes)",
            leadership.term.0,
            leadership.holder,
            &kinds,
            &vendors as &[Option<String>],
            &calls,
            &attempts,
            &processes,
        )
        .execute(&self.pool)
        .await?
        .rows_affected())
    }

    /// Servant processes that there should be, by kind.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn expected_processes(&self) -> Result<BTreeMap<String, i32>, StoreError> {
        let rows = sqlx::query!("-- expected_processes\nSELECT kind, processes FROM kinds ORDER BY kind LIMIT 500")
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.into_iter().map(|row| (row.kind, row.processes)).collect())
    }

    /// The attempts that jobs of a kind have unless something else is asked for; none: no catalogue was seen that has it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn attempts_max_of(&self, kind: &Kind) -> Result<Option<u16>, StoreError> {
        let found =
            sqlx::query_scalar!("-- attempts_max_of\nSELECT attempts_max FROM kinds WHERE kind = $1", kind.as_str())
                .fetch_optional(&self.pool)
                .await?;
        Ok(found.and_then(|attempts| u16::try_from(attempts).ok()))
    }
}

/// All kinds that a catalogue was seen to have: as many as there are types of work.
pub(crate) async fn kinds_known(conn: &mut PgConnection) -> Result<HashMap<String, KindFacts>, StoreError> {
    let rows = sqlx::query!("-- kinds_known\nSELECT kind, vendor, calls_estimate FROM kinds").fetch_all(conn).await?;
    let facts = |row: i64| u32::try_from(row).unwrap_or(u32::MAX);
    Ok(rows
        .into_iter()
        .map(|row| (row.kind, KindFacts { vendor: row.vendor, calls_estimate: facts(row.calls_estimate) }))
        .collect())
}

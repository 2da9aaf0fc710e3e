//! What writing records tells of what is usual: how many versions were new, of which hour they are, which fields were empty.
//! A row beside each piece that changed something; folding adds them up and forgets them. Does not own what is usual
//! (`stream_statistics` keeps it, `domain` judges it).

use super::{RecordBatch, RecordTable};
use crate::{Store, StoreError, Tx};
use domain::ConnectionId;
use serde_json::json;
use std::collections::BTreeMap;

/// Hours that are looked at: versions that are older came with a first load, or say nothing of today.
const HOURS_BACK: i64 = 7 * 24;
const HOUR_SECS: i64 = 3_600;

/// Versions of one hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HourCounts {
    /// New versions of records.
    pub changes: u64,
    /// Those of them that are deleted.
    pub deletes: u64,
}

/// What was written of an object since it was folded last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamTally {
    /// Rows of pages that changed something.
    pub rows: u64,
    /// By hour, counted from 1970.
    pub hours: BTreeMap<i64, HourCounts>,
    /// Rows without a value, by the field's name in lower case.
    pub nulls: BTreeMap<String, u64>,
}

/// What is in the ledger's JSON: `{"<hour>": [changes, deletes]}`.
pub(crate) fn hours_of(json: &serde_json::Value) -> BTreeMap<i64, HourCounts> {
    let hour = |(hour, counts): (&String, &serde_json::Value)| {
        let count = |place: usize| counts.get(place).and_then(serde_json::Value::as_u64);
        Some((hour.parse().ok()?, HourCounts { changes: count(0)?, deletes: count(1)? }))
    };
    json.as_object().into_iter().flatten().filter_map(hour).collect()
}

pub(crate) fn hours_json(hours: &BTreeMap<i64, HourCounts>) -> serde_json::Value {
    let entry = |(hour, counts): (&i64, &HourCounts)| (hour.to_string(), json!([counts.changes, counts.deletes]));
    hours.iter().map(entry).collect::<serde_json::Map<_, _>>().into()
}

impl Store {
    /// Notes what a piece of `rows` rows told, of which those in `batch` changed something.
    pub(super) async fn tally(
        &self,
        tx: &mut Tx,
        table: &RecordTable,
        connection: ConnectionId,
        rows: usize,
        batch: &RecordBatch,
    ) -> Result<(), StoreError> {
        let now = self.clock.now().timestamp().div_euclid(HOUR_SECS);
        let mut hours: BTreeMap<i64, HourCounts> = BTreeMap::new();
        for (version_at, is_deleted) in batch.fresh() {
            let Some(at) = version_at else { continue };
            let hour = at.timestamp().div_euclid(HOUR_SECS);
            if (now - HOURS_BACK..=now + 1).contains(&hour) {
                let counts = hours.entry(hour).or_default();
                counts.changes += 1;
                counts.deletes += u64::from(is_deleted);
            }
        }
        let nulls: serde_json::Map<_, _> = table
            .columns()
            .iter()
            .zip(batch.nulls())
            .map(|(column, nulls)| (column.name.clone(), json!(nulls)))
            .collect();
        sqlx::query!(
            "-- tally
            INSERT INTO stream_tallies (connection_id, object, rows, hours, nulls)
            VALUES ($1, $2, $3, $4, $5)",
            connection.0,
            table.object(),
            i64::try_from(rows).unwrap_or(i64::MAX),
            hours_json(&hours),
            serde_json::Value::Object(nulls),
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok(())
    }

    /// Takes what was noted of an object, and forgets it with the transaction.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_tally(
        &self,
        tx: &mut Tx,
        connection: ConnectionId,
        object: &str,
    ) -> Result<StreamTally, StoreError> {
        let rows = sqlx::query!(
            "-- take_tally
            DELETE FROM stream_tallies WHERE connection_id = $1 AND object = $2 RETURNING rows, hours, nulls",
            connection.0,
            object,
        )
        .fetch_all(&mut *tx.inner)
        .await?;
        let mut tally = StreamTally::default();
        for row in rows {
            tally.rows += row.rows.unsigned_abs();
            for (hour, counts) in hours_of(&row.hours) {
                let sum = tally.hours.entry(hour).or_default();
                sum.changes += counts.changes;
                sum.deletes += counts.deletes;
            }
            for (field, nulls) in row.nulls.as_object().into_iter().flatten() {
                *tally.nulls.entry(field.clone()).or_default() += nulls.as_u64().unwrap_or(0);
            }
        }
        Ok(tally)
    }
}

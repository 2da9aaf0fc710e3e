//! What is usual for an object's changes: the last weeks of each hour of the week, the hours that are not over, and how often
//! fields are empty. Does not own what is judged by it (`domain`).

use crate::{
    HourCounts, Store, StoreError, Tx,
    records::{hours_json, hours_of},
};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The last weeks of an hour of the week, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HourHistory {
    /// New versions of records.
    pub changes: Vec<i64>,
    /// Those of them that were deleted.
    pub deletes: Vec<i64>,
}

/// Rows, and those of them without a value.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct NullCounts {
    /// What is usual: rows, weighted by how long ago they were.
    pub usual_rows: f64,
    /// Of those, without a value.
    pub usual_nulls: f64,
    /// Rows not judged yet.
    pub rows: u64,
    /// Of those, without a value.
    pub nulls: u64,
}

/// What a stream's statistics are.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamStatistics {
    /// Hours before this are judged.
    pub judged_until: DateTime<Utc>,
    /// Those that are not, counted from 1970.
    pub hours: BTreeMap<i64, HourCounts>,
    /// By field.
    pub nulls: BTreeMap<String, NullCounts>,
}

impl NullCounts {
    fn json(self) -> Value {
        json!([self.usual_rows, self.usual_nulls, self.rows, self.nulls])
    }

    fn read(json: &Value) -> Option<Self> {
        Some(Self {
            usual_rows: json.get(0)?.as_f64()?,
            usual_nulls: json.get(1)?.as_f64()?,
            rows: json.get(2)?.as_u64()?,
            nulls: json.get(3)?.as_u64()?,
        })
    }
}

impl Store {
    /// The statistics of a stream, locked until the transaction ends; none: nothing was folded yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lock_statistics(&self, tx: &mut Tx, stream: i64) -> Result<Option<StreamStatistics>, StoreError> {
        let row = sqlx::query!(
            "-- lock_statistics
            SELECT judged_until, hours, nulls FROM stream_statistics WHERE stream_id = $1 FOR UPDATE",
            stream,
        )
        .fetch_optional(&mut *tx.inner)
        .await?;
        Ok(row.map(|row| StreamStatistics {
            judged_until: row.judged_until,
            hours: hours_of(&row.hours),
            nulls: row
                .nulls
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(field, counts)| Some((field.clone(), NullCounts::read(counts)?)))
                .collect(),
        }))
    }

    /// Keeps the statistics of a stream.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_statistics(
        &self,
        tx: &mut Tx,
        stream: i64,
        statistics: &StreamStatistics,
    ) -> Result<(), StoreError> {
        let nulls: serde_json::Map<_, _> =
            statistics.nulls.iter().map(|(field, counts)| (field.clone(), counts.json())).collect();
        sqlx::query!(
            "-- keep_statistics
            INSERT INTO stream_statistics (stream_id, judged_until, hours, nulls) VALUES ($1, $2, $3, $4)
            ON CONFLICT (stream_id) DO UPDATE
            SET judged_until = excluded.judged_until, hours = excluded.hours, nulls = excluded.nulls",
            stream,
            statistics.judged_until,
            hours_json(&statistics.hours),
            Value::Object(nulls),
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok(())
    }

    /// The last weeks of some hours of the week (0 is Monday's first, UTC).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hour_histories(
        &self,
        tx: &mut Tx,
        stream: i64,
        hours_of_week: &[i16],
    ) -> Result<BTreeMap<i16, HourHistory>, StoreError> {
        let rows = sqlx::query!(
            "-- hour_histories
            SELECT hour_of_week, changes, deletes FROM stream_hours WHERE stream_id = $1 AND hour_of_week = ANY($2)",
            stream,
            hours_of_week,
        )
        .fetch_all(&mut *tx.inner)
        .await?;
        let history = |changes, deletes| HourHistory { changes, deletes };
        Ok(rows.into_iter().map(|row| (row.hour_of_week, history(row.changes, row.deletes))).collect())
    }

    /// Keeps the last weeks of some hours of the week.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_hour_histories(
        &self,
        tx: &mut Tx,
        stream: i64,
        histories: &BTreeMap<i16, HourHistory>,
    ) -> Result<(), StoreError> {
        for (hour_of_week, history) in histories {
            sqlx::query!(
                "-- keep_hour_histories
                INSERT INTO stream_hours (stream_id, hour_of_week, changes, deletes) VALUES ($1, $2, $3, $4)
                ON CONFLICT (stream_id, hour_of_week) DO UPDATE
                SET changes = excluded.changes, deletes = excluded.deletes",
                stream,
                hour_of_week,
                &history.changes,
                &history.deletes,
            )
            .execute(&mut *tx.inner)
            .await?;
        }
        Ok(())
    }
}

//! What the vendor shows of an object, held against what is stored: records that we lack, and records that it shows no more.
//! Owns the two looks, neither of which writes. Does not own what becomes of what they find (`sync`).

use super::{RecordBatch, RecordTable};
use crate::{SnapshotRow, Store, StoreError};
use chrono::{DateTime, Utc};
use domain::{AccountId, ConnectionId};
use sqlx::{AssertSqlSafe, Row as _};

/// A stretch of an account's stored records, in the order of their ids, next to a snapshot's ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// The last id of the stretch; `None`: there are no more records.
    pub last: Option<String>,
    /// Records that are not deleted.
    pub live: u64,
    /// Those of them that the snapshot does not have, and that it should.
    pub absent: Vec<String>,
}

/// A record that is not stored as the vendor shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// Its id.
    pub id: String,
    /// The version that the vendor shows, if the object has stamps.
    pub version_at: Option<DateTime<Utc>>,
    /// That version is not stored; else it is, and deleted on one side only.
    pub is_version_missing: bool,
}

impl Store {
    /// Of a page that names an object's records and their versions, those that are not stored so: missing, older, or deleted
    /// on one side only. Brings `batch` into order, as writing does.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn records_behind(
        &self,
        table: &RecordTable,
        account: AccountId,
        batch: &mut RecordBatch,
    ) -> Result<Vec<Behind>, StoreError> {
        batch.put_in_order();
        let (ids, versions, _) = batch.versions(1);
        let statement = format!(
            "/* records_behind */ SELECT s.id, s.version_at, r.id IS NULL OR r.version_at < coalesce(s.version_at, '-infinity')
             FROM unnest($2::text[], $3::timestamptz[], $4::boolean[]) AS s (id, version_at, is_deleted)
             LEFT JOIN {} r ON r.account_id = $1 AND r.id = s.id
             WHERE r.id IS NULL OR r.version_at < s.version_at OR r.is_deleted <> s.is_deleted",
            table.name()
        );
        let rows = sqlx::query(AssertSqlSafe(statement))
            .bind(account.0)
            .bind(&ids)
            .bind(&versions)
            .bind(batch.deleted())
            .fetch_all(&self.pool)
            .await?;
        let behind = rows.iter().map(|row| {
            Ok(Behind { id: row.try_get(0)?, version_at: row.try_get(1)?, is_version_missing: row.try_get(2)? })
        });
        behind.collect()
    }

    /// The next stored records of an account behind the id `after`, next to the ids of a whole reading. A version of after it
    /// began (by the vendor's clock), and what was written since (by ours), may well be missing in it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn compare_stretch(
        &self,
        table: &RecordTable,
        account: AccountId,
        snapshot: &SnapshotRow,
        after: &str,
        limit: i64,
    ) -> Result<Stretch, StoreError> {
        let statement = format!(
            "/* compare_stretch */ SELECT max(r.id), count(*) FILTER (WHERE NOT r.is_deleted),
                    coalesce(array_agg(r.id ORDER BY r.id) FILTER (WHERE NOT r.is_deleted AND s.record_id IS NULL
                        AND r.version_at <= $5 AND r.written_at < $6), '{{}}')
             FROM (SELECT id, is_deleted, version_at, written_at FROM {}
                   WHERE account_id = $1 AND id > $2 ORDER BY id LIMIT $3) r
             LEFT JOIN snapshot_ids s ON s.stream_id = $4 AND s.snapshot_id = $7 AND s.record_id = r.id",
            table.name()
        );
        let row = sqlx::query(AssertSqlSafe(statement))
            .bind(account.0)
            .bind(after)
            .bind(limit)
            .bind(snapshot.stream)
            .bind(snapshot.began_at)
            .bind(snapshot.opened_at)
            .bind(snapshot.id)
            .fetch_one(&self.pool)
            .await?;
        let live: i64 = row.try_get(1)?;
        Ok(Stretch { last: row.try_get(0)?, live: live.unsigned_abs(), absent: row.try_get(2)? })
    }

    /// The next records in quarantine behind the id `after` that a whole reading did not meet, and that nobody has seen since
    /// it was begun.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn quarantined_unmet(
        &self,
        (connection, object): (ConnectionId, &str),
        snapshot: &SnapshotRow,
        after: &str,
        limit: i64,
    ) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar!(
            r#"-- quarantined_unmet
            SELECT DISTINCT q.record_id AS "record_id!" FROM quarantined_records q
            WHERE q.connection_id = $1 AND q.object = $2 AND q.state <> 'resolved' AND q.record_id > $3
                AND q.last_seen_at < $4 AND NOT EXISTS (
                    SELECT FROM snapshot_ids s
                    WHERE s.stream_id = $5 AND s.snapshot_id = $6 AND s.record_id = q.record_id)
            ORDER BY 1 LIMIT $7"#,
            connection.0,
            object,
            after,
            snapshot.opened_at,
            snapshot.stream,
            snapshot.id,
            limit,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// What quarantine adds to, and takes from, what is stored: records of which no version is stored as not deleted, and
    /// that the vendor has, as far as is known; and those that lie in its recycle bin while an older version is stored as
    /// not deleted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_quarantined(
        &self,
        table: &RecordTable,
        account: AccountId,
        connection: ConnectionId,
    ) -> Result<(i64, i64), StoreError> {
        let statement = format!(
            "/* count_quarantined */ SELECT count(*) FILTER (WHERE r.id IS NULL AND q.is_deleted IS NOT TRUE),
                    count(*) FILTER (WHERE r.id IS NOT NULL AND q.is_deleted)
             FROM (SELECT DISTINCT ON (record_id) record_id, is_deleted FROM quarantined_records
                   WHERE connection_id = $2 AND object = $3 AND state <> 'resolved' AND record_id IS NOT NULL
                   ORDER BY record_id, read_at DESC NULLS LAST, last_seen_at DESC) q
             LEFT JOIN {} r ON r.account_id = $1 AND r.id = q.record_id AND NOT r.is_deleted",
            table.name()
        );
        Ok(sqlx::query_as(AssertSqlSafe(statement))
            .bind(account.0)
            .bind(connection.0)
            .bind(table.object())
            .fetch_one(&self.pool)
            .await?)
    }
}

//! Records that cannot be stored: kept whole, with the reason, so that none is lost and none stops its neighbours.

use crate::{PAGE_ROWS_MAX, Store, StoreError, Tx};
use chrono::{DateTime, Utc};
use domain::{AccountId, ConnectionId};

/// A record that cannot be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// The vendor's id, if it can be read.
    pub record_id: Option<String>,
    /// What is wrong with it.
    pub reason: String,
    /// It, as it came.
    pub body: Vec<u8>,
}

/// A record in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantinedRow {
    /// Its object.
    pub object: String,
    /// The vendor's id, if it can be read.
    pub record_id: Option<String>,
    /// What is wrong with it.
    pub reason: String,
    /// It, as it came.
    pub body: Vec<u8>,
    /// Since when it is known.
    pub first_seen_at: DateTime<Utc>,
}

impl Store {
    /// Keeps records of a page that cannot be stored, in the transaction of that page.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn quarantine_records(
        &self,
        tx: &mut Tx,
        (account, connection): (AccountId, ConnectionId),
        object: &str,
        records: &[Quarantined],
    ) -> Result<(), StoreError> {
        let ids: Vec<Option<&str>> = records.iter().map(|record| record.record_id.as_deref()).collect();
        let reasons: Vec<&str> = records.iter().map(|record| record.reason.as_str()).collect();
        let bodies: Vec<&[u8]> = records.iter().map(|record| record.body.as_slice()).collect();
        sqlx::query!(
            "-- quarantine_records
            INSERT INTO quarantined_records (account_id, connection_id, object, digest, record_id, reason, body,
                                             first_seen_at, last_seen_at)
            SELECT DISTINCT ON (md5(body)) $1, $2, $3, md5(body)::uuid, record_id, reason, body, $7, $7
            FROM unnest($4::text[], $5::text[], $6::bytea[]) AS t (record_id, reason, body)
            ON CONFLICT (account_id, connection_id, object, digest)
            DO UPDATE SET last_seen_at = excluded.last_seen_at, reason = excluded.reason",
            account.0,
            connection.0,
            object,
            &ids as &[Option<&str>],
            &reasons as &[&str],
            &bodies as &[&[u8]],
            self.clock.now(),
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok(())
    }

    /// What is in quarantine for a connection, oldest first, one page at most.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_quarantined(&self, connection: ConnectionId) -> Result<Vec<QuarantinedRow>, StoreError> {
        Ok(sqlx::query_as!(
            QuarantinedRow,
            "-- list_quarantined
            SELECT object, record_id, reason, body, first_seen_at FROM quarantined_records
            WHERE connection_id = $1 ORDER BY first_seen_at, digest LIMIT $2",
            connection.0,
            PAGE_ROWS_MAX,
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

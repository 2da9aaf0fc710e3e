//! Records that cannot be stored: kept whole, with the reason, so that none is lost and none stops its neighbours. Owns how
//! one gets in, and how it ends by itself; what people see and do is in `crate::quarantine`.

use crate::{PAGE_ROWS_MAX, Store, StoreError, Tx};
use chrono::{DateTime, Utc};
use domain::{AccountId, ConnectionId};
use sqlx::PgConnection;
use uuid::Uuid;

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
    /// Of its bytes, which tells it from others.
    pub digest: Uuid,
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
    /// Keeps records of a page that cannot be stored, in the transaction of that page. Answers with how many of them are
    /// open: those that somebody lets rest stay so as long as they are as they were.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn quarantine_records(
        &self,
        tx: &mut Tx,
        (account, connection): (AccountId, ConnectionId),
        object: &str,
        records: &[Quarantined],
    ) -> Result<usize, StoreError> {
        let ids: Vec<Option<&str>> = records.iter().map(|record| record.record_id.as_deref()).collect();
        let reasons: Vec<&str> = records.iter().map(|record| record.reason.as_str()).collect();
        let bodies: Vec<&[u8]> = records.iter().map(|record| record.body.as_slice()).collect();
        let open = sqlx::query_scalar!(
            r#"-- quarantine_records
            INSERT INTO quarantined_records AS kept (account_id, connection_id, object, digest, record_id, reason, body,
                                                     first_seen_at, last_seen_at, state_since)
            SELECT DISTINCT ON (md5(body)) $1, $2, $3, md5(body)::uuid, record_id, reason, body, $7, $7, $7
            FROM unnest($4::text[], $5::text[], $6::bytea[]) AS t (record_id, reason, body)
            ON CONFLICT (account_id, connection_id, object, digest)
            DO UPDATE SET last_seen_at = excluded.last_seen_at, reason = excluded.reason,
                state = CASE kept.state WHEN 'resolved' THEN 'open' ELSE kept.state END,
                state_by = CASE kept.state WHEN 'resolved' THEN 'servant' ELSE kept.state_by END,
                state_reason = CASE kept.state WHEN 'resolved' THEN '' ELSE kept.state_reason END,
                state_since = CASE kept.state WHEN 'resolved' THEN excluded.last_seen_at ELSE kept.state_since END
            RETURNING state = 'open' AS "is_open!""#,
            account.0,
            connection.0,
            object,
            &ids as &[Option<&str>],
            &reasons as &[&str],
            &bodies as &[&[u8]],
            self.clock.now(),
        )
        .fetch_all(&mut *tx.inner)
        .await?;
        Ok(open.into_iter().filter(|is_open| *is_open).count())
    }

    /// Ends the quarantine of records of which the vendor shows no more than their absence, in the transaction of whoever
    /// saw that.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn resolve_gone(
        &self,
        tx: &mut Tx,
        connection: ConnectionId,
        object: &str,
        ids: &[String],
    ) -> Result<u64, StoreError> {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        resolve(&mut tx.inner, (connection, object), &ids, "the vendor shows it no more", self.clock.now()).await
    }

    /// What is in quarantine for a connection, oldest first; `after` is the last row of the page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_quarantined(
        &self,
        connection: ConnectionId,
        after: Option<&QuarantinedRow>,
        limit: i64,
    ) -> Result<Vec<QuarantinedRow>, StoreError> {
        Ok(sqlx::query_as!(
            QuarantinedRow,
            "-- list_quarantined
            SELECT digest, object, record_id, reason, body, first_seen_at FROM quarantined_records
            WHERE connection_id = $1 AND (first_seen_at, digest) > ($2, $3) AND state <> 'resolved'
            ORDER BY first_seen_at, digest LIMIT $4",
            connection.0,
            after.map_or(DateTime::UNIX_EPOCH, |row| row.first_seen_at),
            after.map_or(Uuid::nil(), |row| row.digest),
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

/// Ends the quarantine of these records; answers with how many there were.
pub(super) async fn resolve(
    conn: &mut PgConnection,
    (connection, object): (ConnectionId, &str),
    ids: &[&str],
    reason: &str,
    now: DateTime<Utc>,
) -> Result<u64, StoreError> {
    let resolved = sqlx::query!(
        "-- resolve_quarantined
        UPDATE quarantined_records SET state = 'resolved', state_by = 'servant', state_reason = $4, state_since = $5
        WHERE connection_id = $1 AND object = $2 AND record_id = ANY($3) AND state <> 'resolved'",
        connection.0,
        object,
        ids as &[&str],
        reason,
        now,
    )
    .execute(conn)
    .await?;
    Ok(resolved.rows_affected())
}

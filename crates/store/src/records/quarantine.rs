//! Records that cannot be stored: kept whole, with the reason, so that none is lost and none stops its neighbours. Owns how
//! one gets in, that the newest version of a record stands for it, and how it ends by itself; what people see and do is in
//! `crate::quarantine`.

use super::PageOrigin;
use crate::{PAGE_ROWS_MAX, SnapshotRow, Store, StoreError, Tx};
use chrono::{DateTime, Utc};
use domain::ConnectionId;
use sqlx::PgConnection;
use std::collections::BTreeSet;
use uuid::Uuid;

/// A record that cannot be stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quarantined {
    /// The vendor's id, if it can be read.
    pub record_id: Option<String>,
    /// When the vendor says it changed last, if that can be read.
    pub version_at: Option<DateTime<Utc>>,
    /// Whether it lies in the vendor's recycle bin, if that can be read.
    pub is_deleted: Option<bool>,
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
    /// Keeps records of a page that cannot be stored, in the transaction of that page. Of a record that is in quarantine
    /// already, the version that was read last stands for it, and what was open or at rest of it before has ended. Answers
    /// with how many of these are open: those that somebody lets rest stay so as long as they are as they were.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn quarantine_records(
        &self,
        tx: &mut Tx,
        origin: PageOrigin,
        object: &str,
        records: &[Quarantined],
    ) -> Result<usize, StoreError> {
        let ids: Vec<Option<&str>> = records.iter().map(|record| record.record_id.as_deref()).collect();
        let versions: Vec<Option<DateTime<Utc>>> = records.iter().map(|record| record.version_at).collect();
        let deleted: Vec<Option<bool>> = records.iter().map(|record| record.is_deleted).collect();
        let reasons: Vec<&str> = records.iter().map(|record| record.reason.as_str()).collect();
        let bodies: Vec<&[u8]> = records.iter().map(|record| record.body.as_slice()).collect();
        let now = self.clock.now();
        let kept = sqlx::query!(
            r#"-- quarantine_records
            INSERT INTO quarantined_records AS kept (account_id, connection_id, object, digest, record_id, reason, body,
                                                     first_seen_at, last_seen_at, state_since, version_at, read_at,
                                                     is_deleted, versions)
            SELECT DISTINCT ON (md5(body)) $1, $2, $3, md5(body)::uuid, record_id, reason, body, $7, $7, $7, version_at, $8,
                is_deleted,
                1 + coalesce((SELECT max(q.versions) FROM quarantined_records q
                              WHERE q.connection_id = $2 AND q.object = $3 AND q.record_id = t.record_id
                                  AND q.state <> 'resolved'), 0)
            FROM unnest($4::text[], $5::text[], $6::bytea[], $9::timestamptz[], $10::boolean[])
                AS t (record_id, reason, body, version_at, is_deleted)
            ON CONFLICT (account_id, connection_id, object, digest)
            DO UPDATE SET last_seen_at = excluded.last_seen_at, reason = excluded.reason,
                version_at = excluded.version_at, is_deleted = excluded.is_deleted,
                read_at = GREATEST(kept.read_at, excluded.read_at),
                state = CASE kept.state WHEN 'resolved' THEN 'open' ELSE kept.state END,
                state_by = CASE kept.state WHEN 'resolved' THEN 'servant' ELSE kept.state_by END,
                state_reason = CASE kept.state WHEN 'resolved' THEN '' ELSE kept.state_reason END,
                state_since = CASE kept.state WHEN 'resolved' THEN excluded.last_seen_at ELSE kept.state_since END
            RETURNING id AS "id!", state = 'open' AS "is_open!""#,
            origin.account.0,
            origin.connection.0,
            object,
            &ids as &[Option<&str>],
            &reasons as &[&str],
            &bodies as &[&[u8]],
            now,
            origin.read_at,
            &versions as &[Option<DateTime<Utc>>],
            &deleted as &[Option<bool>],
        )
        .fetch_all(&mut *tx.inner)
        .await?;
        let named: BTreeSet<&str> = ids.into_iter().flatten().collect();
        let named: Vec<&str> = named.into_iter().collect();
        let ended = supersede(&mut tx.inner, (origin.connection, object), &named, now).await?;
        Ok(kept.into_iter().filter(|row| row.is_open && !ended.contains(&row.id)).count())
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
        let seen: Vec<Version<'_>> = ids.iter().map(|id| (id.as_str(), None)).collect();
        resolve(&mut tx.inner, (connection, object), &seen, None, "the vendor shows it no more", self.clock.now()).await
    }

    /// Ends the quarantine of what has no readable id, once a whole reading has met every record with one: each of them is
    /// stored, or in quarantine by its id. What was seen since the reading began stays.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn resolve_unnamed(
        &self,
        tx: &mut Tx,
        (connection, object): (ConnectionId, &str),
        snapshot: &SnapshotRow,
    ) -> Result<u64, StoreError> {
        let resolved = sqlx::query!(
            "-- resolve_unnamed
            UPDATE quarantined_records
            SET state = 'resolved', state_by = 'servant', state_since = $3,
                state_reason = 'every record was read, each with its id'
            WHERE connection_id = $1 AND object = $2 AND state <> 'resolved' AND last_seen_at < $4
                AND (record_id IS NULL OR record_id !~ '^[0-9A-Za-z]{18}$')
                AND (SELECT count(*) FROM snapshot_ids s WHERE s.stream_id = $5 AND s.snapshot_id = $6
                        AND s.record_id ~ '^[0-9A-Za-z]{18}$') >= $7",
            connection.0,
            object,
            self.clock.now(),
            snapshot.opened_at,
            snapshot.stream,
            snapshot.id,
            snapshot.rows_seen,
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok(resolved.rows_affected())
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

/// Of records that are in quarantine in several versions, ends all but the one that was read last. They are kept as
/// whatever has ended is: a damaged field may be told from a sound one by what it was before. Answers with what ended.
async fn supersede(
    conn: &mut PgConnection,
    (connection, object): (ConnectionId, &str),
    ids: &[&str],
    now: DateTime<Utc>,
) -> Result<BTreeSet<i64>, StoreError> {
    let changed = sqlx::query!(
        r#"-- supersede_quarantined
        WITH ranked AS (
            SELECT id, row_number() OVER newest AS place, max(versions) OVER (PARTITION BY record_id) AS known
            FROM quarantined_records
            WHERE connection_id = $1 AND object = $2 AND record_id = ANY($3) AND state <> 'resolved'
            WINDOW newest AS (PARTITION BY record_id
                              ORDER BY read_at DESC NULLS LAST, version_at DESC NULLS FIRST, last_seen_at DESC, id DESC)
        )
        UPDATE quarantined_records q
        SET versions = CASE ranked.place WHEN 1 THEN ranked.known ELSE q.versions END,
            state = CASE ranked.place WHEN 1 THEN q.state ELSE 'resolved' END,
            state_by = CASE ranked.place WHEN 1 THEN q.state_by ELSE 'servant' END,
            state_reason = CASE ranked.place WHEN 1 THEN q.state_reason
                                ELSE 'a later version of the record is in quarantine' END,
            state_since = CASE ranked.place WHEN 1 THEN q.state_since ELSE $4 END
        FROM ranked WHERE q.id = ranked.id AND (ranked.place > 1 OR q.versions < ranked.known)
        RETURNING q.id AS "id!", ranked.place > 1 AS "has_ended!""#,
        connection.0,
        object,
        ids as &[&str],
        now,
    )
    .fetch_all(conn)
    .await?;
    Ok(changed.into_iter().filter(|row| row.has_ended).map(|row| row.id).collect())
}

/// A record, and the version of it that was seen.
pub(super) type Version<'v> = (&'v str, Option<DateTime<Utc>>);

/// Ends the quarantine of these records, unless what is in it is newer than these versions and was not read before them;
/// answers with how many there were.
pub(super) async fn resolve(
    conn: &mut PgConnection,
    (connection, object): (ConnectionId, &str),
    seen: &[Version<'_>],
    read_at: Option<DateTime<Utc>>,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<u64, StoreError> {
    let (ids, versions): (Vec<&str>, Vec<Option<DateTime<Utc>>>) = seen.iter().copied().unzip();
    let resolved = sqlx::query!(
        "-- resolve_quarantined
        UPDATE quarantined_records q
        SET state = 'resolved', state_by = 'servant', state_reason = $4, state_since = $5
        FROM unnest($3::text[], $6::timestamptz[]) AS s (id, version_at)
        WHERE q.connection_id = $1 AND q.object = $2 AND q.record_id = s.id AND q.state <> 'resolved'
            AND (q.version_at IS NULL OR s.version_at IS NULL OR q.version_at <= s.version_at
                 OR q.read_at IS NULL OR q.read_at < $7)",
        connection.0,
        object,
        &ids as &[&str],
        reason,
        now,
        &versions as &[Option<DateTime<Utc>>],
        read_at,
    )
    .execute(conn)
    .await?;
    Ok(resolved.rows_affected())
}

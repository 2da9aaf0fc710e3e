//! What is known of an object's fields: which there are, which are shown no more, and which records lack.
//! Does not own what a change of them means (`sync`).

use crate::{Store, StoreError, Tx};
use chrono::{DateTime, Utc};
use domain::{AnomalyKind, ConnectionId};
use sqlx::PgConnection;

/// A field as it was described last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownField {
    /// Its name.
    pub name: String,
    /// As the vendor calls its type.
    pub field_type: String,
    /// Its value changes without the record's modification stamp.
    pub is_calculated: bool,
    /// Since when the vendor shows it no more.
    pub stale_since: Option<DateTime<Utc>>,
    /// Records that were read before this lack its value.
    pub unfilled_since: Option<DateTime<Utc>>,
}

/// A stream, to be compared with what the vendor says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSchema {
    /// The stream.
    pub stream: i64,
    /// Of the last describe; none: there was none.
    pub schema_hash: Option<i64>,
    /// Every change before this is in the records.
    pub watermark: Option<DateTime<Utc>>,
    /// When its records were last held against all that the vendor shows.
    pub reconciled_at: Option<DateTime<Utc>>,
    /// Other connections of the account follow an object of the same name.
    pub is_shared: bool,
}

/// An anomaly that is not over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpenAnomaly {
    /// Of which object; empty: of the whole connection.
    pub object: String,
    /// What.
    pub kind: AnomalyKind,
    /// What of the object.
    pub subject: String,
}

impl Store {
    /// The stream of an object; makes it when it is new.
    ///
    /// # Errors
    /// [`StoreError`]; `Rejected` when there is no such connection.
    pub async fn stream_schema(&self, connection: ConnectionId, object: &str) -> Result<StreamSchema, StoreError> {
        let mut conn = self.pool.acquire().await?;
        stream_schema(&mut conn, connection, object).await
    }

    /// The same, as the transaction sees it.
    ///
    /// # Errors
    /// [`StoreError`]; `Rejected` when there is no such connection.
    pub async fn stream_schema_in(
        &self,
        tx: &mut Tx,
        connection: ConnectionId,
        object: &str,
    ) -> Result<StreamSchema, StoreError> {
        stream_schema(&mut tx.inner, connection, object).await
    }

    /// Locks a stream until the transaction ends, and answers with the hash of its last describe.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lock_schema(&self, tx: &mut Tx, stream: i64) -> Result<Option<i64>, StoreError> {
        Ok(sqlx::query_scalar!(
            "-- lock_schema
            SELECT schema_hash FROM streams WHERE id = $1 FOR UPDATE",
            stream,
        )
        .fetch_one(&mut *tx.inner)
        .await?)
    }

    /// The fields of a stream, those that are stale too, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn known_fields(&self, stream: i64) -> Result<Vec<KnownField>, StoreError> {
        let mut conn = self.pool.acquire().await?;
        known_fields(&mut conn, stream).await
    }

    /// The same, as the transaction sees them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn known_fields_in(&self, tx: &mut Tx, stream: i64) -> Result<Vec<KnownField>, StoreError> {
        known_fields(&mut tx.inner, stream).await
    }

    /// Keeps what fields are from now on; fields that are not among them stay as they were.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_fields(
        &self,
        tx: &mut Tx,
        stream: i64,
        schema_hash: i64,
        fields: &[KnownField],
    ) -> Result<(), StoreError> {
        let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        let types: Vec<&str> = fields.iter().map(|field| field.field_type.as_str()).collect();
        let calculated: Vec<bool> = fields.iter().map(|field| field.is_calculated).collect();
        let stale: Vec<Option<DateTime<Utc>>> = fields.iter().map(|field| field.stale_since).collect();
        let unfilled: Vec<Option<DateTime<Utc>>> = fields.iter().map(|field| field.unfilled_since).collect();
        sqlx::query!(
            "-- keep_fields
            INSERT INTO stream_fields (stream_id, name, field_type, is_calculated, known_since, stale_since, unfilled_since)
            SELECT $1, name, field_type, is_calculated, $2, stale_since, unfilled_since
            FROM unnest($3::text[], $4::text[], $5::boolean[], $6::timestamptz[], $7::timestamptz[])
                 AS t (name, field_type, is_calculated, stale_since, unfilled_since)
            ON CONFLICT (stream_id, name) DO UPDATE
            SET field_type = excluded.field_type, is_calculated = excluded.is_calculated,
                stale_since = excluded.stale_since, unfilled_since = excluded.unfilled_since",
            stream,
            self.clock.now(),
            &names as &[&str],
            &types as &[&str],
            &calculated,
            &stale as &[Option<DateTime<Utc>>],
            &unfilled as &[Option<DateTime<Utc>>],
        )
        .execute(&mut *tx.inner)
        .await?;
        sqlx::query!(
            "-- keep_fields: the hash
            UPDATE streams SET schema_hash = $2 WHERE id = $1",
            stream,
            schema_hash,
        )
        .execute(&mut *tx.inner)
        .await?;
        Ok(())
    }

    /// The anomalies of an object and of its whole connection that are not over and not muted. What only a newer version
    /// knows is not ours to end, and left out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_anomalies(
        &self,
        tx: &mut Tx,
        connection: ConnectionId,
        object: &str,
    ) -> Result<Vec<OpenAnomaly>, StoreError> {
        let rows = sqlx::query!(
            "-- open_anomalies
            SELECT object, kind, subject FROM anomalies
            WHERE connection_id = $1 AND object IN ('', $2) AND state IN ('open', 'acknowledged')",
            connection.0,
            object,
        )
        .fetch_all(&mut *tx.inner)
        .await?;
        let open = rows.into_iter().filter_map(|row| {
            Some(OpenAnomaly { kind: row.kind.parse().ok()?, object: row.object, subject: row.subject })
        });
        Ok(open.collect())
    }

    /// Whether anything of an object is in quarantine and does not rest there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_quarantined(
        &self,
        tx: &mut Tx,
        connection: ConnectionId,
        object: &str,
    ) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar!(
            r#"-- has_quarantined
            SELECT EXISTS (SELECT FROM quarantined_records
                           WHERE connection_id = $1 AND object = $2 AND state = 'open') AS "is_any!""#,
            connection.0,
            object,
        )
        .fetch_one(&mut *tx.inner)
        .await?)
    }
}

async fn stream_schema(
    conn: &mut PgConnection,
    connection: ConnectionId,
    object: &str,
) -> Result<StreamSchema, StoreError> {
    if let Some(found) = find_schema(conn, connection, object).await? {
        return Ok(found);
    }
    sqlx::query!(
        "-- stream_schema: a new one
        INSERT INTO streams (account_id, connection_id, object) SELECT account_id, id, $2 FROM connections WHERE id = $1
        ON CONFLICT (connection_id, object) DO NOTHING",
        connection.0,
        object,
    )
    .execute(&mut *conn)
    .await?;
    find_schema(conn, connection, object).await?.ok_or(StoreError::Rejected(sqlx::Error::RowNotFound))
}

async fn find_schema(
    conn: &mut PgConnection,
    connection: ConnectionId,
    object: &str,
) -> Result<Option<StreamSchema>, StoreError> {
    Ok(sqlx::query_as!(
        StreamSchema,
        r#"-- stream_schema
        SELECT s.id AS stream, s.schema_hash, s.watermark, s.reconciled_at,
               EXISTS (SELECT FROM connections c JOIN streams o ON o.connection_id = c.id AND o.object = s.object
                       WHERE c.account_id = s.account_id AND c.id <> s.connection_id) AS "is_shared!"
        FROM streams s WHERE s.connection_id = $1 AND s.object = $2"#,
        connection.0,
        object,
    )
    .fetch_optional(conn)
    .await?)
}

async fn known_fields(conn: &mut PgConnection, stream: i64) -> Result<Vec<KnownField>, StoreError> {
    Ok(sqlx::query_as!(
        KnownField,
        "-- known_fields
        SELECT name, field_type, is_calculated, stale_since, unfilled_since FROM stream_fields
        WHERE stream_id = $1 ORDER BY name",
        stream,
    )
    .fetch_all(conn)
    .await?)
}

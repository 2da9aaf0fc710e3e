//! What a customer's page needs at once: the customer, its connections, streams with the window that is being read, open
//! anomalies, schedules. Each is one page of rows; nothing is counted.

use crate::{AccountRow, AnomalyRow, ConnectionRow, PAGE_ROWS_MAX, ScheduleRow, Store, StoreError};
use chrono::{DateTime, Utc};
use domain::{AccountId, AnomalyState, ConnectionId, ScheduleId};

/// A stream, and how far the window is that is being read of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOfAccount {
    /// By which connection.
    pub connection_id: i64,
    /// Which object.
    pub object: String,
    /// Every change before this is in the records; none: not even once.
    pub watermark: Option<DateTime<Utc>>,
    /// When a window was last read to its end.
    pub synced_at: Option<DateTime<Utc>>,
    /// ok or needs_attention.
    pub health: String,
    /// Why it needs that.
    pub health_reason: Option<String>,
    /// Rows read of the open window; none: no window is open.
    pub rows_seen: Option<i64>,
    /// Rows that the vendor says it has.
    pub rows_expected: Option<i64>,
    /// Since when it is open.
    pub opened_at: Option<DateTime<Utc>>,
}

impl Store {
    /// One account.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_account(&self, id: AccountId) -> Result<Option<AccountRow>, StoreError> {
        Ok(sqlx::query_as!(
            AccountRow,
            "-- find_account
            SELECT id, name, weight, created_at FROM accounts WHERE id = $1",
            id.0,
        )
        .fetch_optional(&self.pool)
        .await?)
    }

    /// An account's connections, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn connections_of(&self, account: AccountId, limit: i64) -> Result<Vec<ConnectionRow>, StoreError> {
        Ok(sqlx::query_as!(
            ConnectionRow,
            r#"-- connections_of
            SELECT id, account_id, vendor, coalesce(service, vendor) AS "service!", settings, secret_ref, state,
                   state_reason, state_since
            FROM connections WHERE account_id = $1 ORDER BY id DESC LIMIT $2"#,
            account.0,
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// An account's streams by connection and object; `after` is the last of the page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn streams_of(
        &self,
        account: AccountId,
        after: Option<(ConnectionId, &str)>,
        limit: i64,
    ) -> Result<Vec<StreamOfAccount>, StoreError> {
        let (connection, object) = after.map_or((0, ""), |(connection, object)| (connection.0, object));
        Ok(sqlx::query_as!(
            StreamOfAccount,
            r#"-- streams_of
            SELECT s.connection_id, s.object, s.watermark, s.synced_at, s.health, s.health_reason,
                   w.rows_seen AS "rows_seen?", w.rows_expected, w.opened_at AS "opened_at?"
            FROM streams s LEFT JOIN windows w ON w.stream_id = s.id
            WHERE s.account_id = $1 AND (s.connection_id, s.object) > ($2, $3)
            ORDER BY s.connection_id, s.object LIMIT $4"#,
            account.0,
            connection,
            object,
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// An account's anomalies that are open, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_anomalies_of(&self, account: AccountId, limit: i64) -> Result<Vec<AnomalyRow>, StoreError> {
        let filter = crate::AnomalyFilter {
            state: Some(AnomalyState::Open),
            account: Some(account),
            ..crate::AnomalyFilter::default()
        };
        self.list_anomalies(&filter, limit).await
    }

    /// An account's schedules, newest first; `after` is the last id of the page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn schedules_of(
        &self,
        account: AccountId,
        after: Option<ScheduleId>,
        limit: i64,
    ) -> Result<Vec<ScheduleRow>, StoreError> {
        Ok(sqlx::query_as!(
            ScheduleRow,
            "-- schedules_of
            SELECT id, name, kind, account_id, connection_id, payload, priority, attempts_max, rule, overlap,
                   jitter_secs, starts_at, ends_at, catch_up_secs, catch_up_max, next_due_at, last_due_at,
                   buffered_due_at, dropped_fires, declared, paused_by, paused_reason, paused_at
            FROM schedules WHERE account_id = $1 AND account_id <> 0 AND id < $2
            ORDER BY account_id DESC, id DESC LIMIT $3",
            account.0,
            after.map_or(i64::MAX, |id| id.0),
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }
}

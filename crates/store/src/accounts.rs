//! Customers and their connections to vendors. Holds no credentials: a connection names where they are kept.

use crate::{PAGE_ROWS_MAX, Store, StoreError};
use chrono::{DateTime, Utc};
use domain::{AccountId, ConnectionId};
use serde_json::Value;

/// A customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRow {
    /// Its id.
    pub id: i64,
    /// What people call it.
    pub name: String,
    /// Since when.
    pub created_at: DateTime<Utc>,
}

/// A customer's connection to one vendor.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionRow {
    /// Its id.
    pub id: i64,
    /// Whose it is.
    pub account_id: i64,
    /// Which vendor.
    pub vendor: String,
    /// What a client needs besides secrets.
    pub settings: Value,
    /// The name under which the credentials are kept.
    pub secret_ref: Option<String>,
    /// active, needs_reauth, parked or disabled.
    pub state: String,
    /// Why.
    pub state_reason: Option<String>,
    /// Since when.
    pub state_since: DateTime<Utc>,
}

impl Store {
    /// Customers, newest first; `after` is the last id of the page before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_accounts(&self, after: Option<AccountId>, limit: i64) -> Result<Vec<AccountRow>, StoreError> {
        Ok(sqlx::query_as!(
            AccountRow,
            "-- list_accounts
            SELECT id, name, created_at FROM accounts WHERE id < $1 ORDER BY id DESC LIMIT $2",
            after.map_or(i64::MAX, |id| id.0),
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Enters a customer.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_account(&self, name: &str) -> Result<AccountId, StoreError> {
        let id = sqlx::query_scalar!(
            "-- create_account
            INSERT INTO accounts (name, created_at) VALUES ($1, $2) RETURNING id",
            name,
            self.clock.now(),
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(AccountId(id))
    }

    /// Enters a customer's connection.
    ///
    /// # Errors
    /// [`StoreError`]; `Rejected` when there is no such account.
    pub async fn create_connection(
        &self,
        account: AccountId,
        vendor: &str,
        settings: &Value,
        secret_ref: Option<&str>,
    ) -> Result<ConnectionId, StoreError> {
        let id = sqlx::query_scalar!(
            "-- create_connection
            INSERT INTO connections (account_id, vendor, settings, secret_ref, state_since, created_at)
            VALUES ($1, $2, $3, $4, $5, $5) RETURNING id",
            account.0,
            vendor,
            settings,
            secret_ref,
            self.clock.now(),
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(ConnectionId(id))
    }

    /// One connection.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn find_connection(&self, id: ConnectionId) -> Result<Option<ConnectionRow>, StoreError> {
        Ok(sqlx::query_as!(
            ConnectionRow,
            "-- find_connection
            SELECT id, account_id, vendor, settings, secret_ref, state, state_reason, state_since
            FROM connections WHERE id = $1",
            id.0,
        )
        .fetch_optional(&self.pool)
        .await?)
    }
}

//! Customers. Their connections to vendors are in `connections`.

use crate::{
    PAGE_ROWS_MAX, Store, StoreError,
    audit::{Deed, Subject, note, note_by, note_each, snapshot},
};
use chrono::{DateTime, Utc};
use domain::{AccountId, Action, Granted, Principal, action};
use serde_json::Value;
use sqlx::PgConnection;

/// Who enters what a program enters without being told by anybody.
pub(crate) const BY_ITSELF: &str = "servant";

/// A customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRow {
    /// Its id.
    pub id: i64,
    /// What people call it.
    pub name: String,
    /// Its share of what is dispatched, beside others that wait for the same kind of work.
    pub weight: i16,
    /// Since when.
    pub created_at: DateTime<Utc>,
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
            SELECT id, name, weight, created_at FROM accounts WHERE id < $1 ORDER BY id DESC LIMIT $2",
            after.map_or(i64::MAX, |id| id.0),
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Customers whose names begin so, whatever the case, in the order of their names.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn accounts_named(&self, beginning: &str, limit: i64) -> Result<Vec<AccountRow>, StoreError> {
        // By the index's own operators, since a pattern that is an argument may be in no plan; nothing in text is beyond
        // the last character there is.
        Ok(sqlx::query_as!(
            AccountRow,
            "-- accounts_named
            SELECT id, name, weight, created_at FROM accounts
            WHERE lower(name) ~>=~ lower($1::text) AND lower(name) ~<~ (lower($1) || chr(1114111)) AND id <> 0
            ORDER BY lower(name) USING ~<~, id LIMIT $2",
            beginning,
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Customers in whose names that is where a word begins, whatever the case, in the order of what follows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn accounts_with_word(&self, word: &str, limit: i64) -> Result<Vec<AccountRow>, StoreError> {
        // One may be found by several of its words, so that a few more entries are read than customers are wanted.
        Ok(sqlx::query_as!(
            AccountRow,
            r#"-- accounts_with_word
            SELECT a.id AS "id!", a.name AS "name!", a.weight AS "weight!", a.created_at AS "created_at!"
            FROM (SELECT account_id, min(words) AS words FROM (
                      SELECT account_id, words FROM account_words
                      WHERE words >= left(lower($1::text), 100) AND words < left(lower($1), 100) || chr(1114111)
                      ORDER BY words, account_id LIMIT $2::bigint * 3) AS entry
                  GROUP BY account_id ORDER BY 2, 1 LIMIT $2) AS found
            JOIN accounts AS a ON a.id = found.account_id
            ORDER BY found.words, a.id"#,
            word,
            limit.clamp(1, PAGE_ROWS_MAX),
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Sets a customer's share (1 to 100) of what is dispatched; none when there is no such customer.
    ///
    /// # Errors
    /// [`StoreError`]; `Rejected` for another share.
    pub async fn set_account_weight(
        &self,
        granted: &Granted<action::SetWeight>,
        id: AccountId,
        weight: i16,
    ) -> Result<Option<AccountRow>, StoreError> {
        let of = Subject::Account(id);
        let mut tx = self.pool.begin().await?;
        let before = snapshot(&mut tx, &of).await?;
        let row = sqlx::query_as!(
            AccountRow,
            "-- set_account_weight
            UPDATE accounts SET weight = $2 WHERE id = $1 RETURNING id, name, weight, created_at",
            id.0,
            weight,
        )
        .fetch_optional(&mut *tx)
        .await?;
        if row.is_some() {
            let after = snapshot(&mut tx, &of).await?;
            note(&mut tx, granted, &of, (before, after), self.clock.now()).await?;
        }
        tx.commit().await?;
        Ok(row)
    }

    /// Whether there is such a customer.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_account(&self, id: AccountId) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar!(
            r#"-- has_account
            SELECT EXISTS (SELECT FROM accounts WHERE id = $1) AS "has!""#,
            id.0,
        )
        .fetch_one(&self.pool)
        .await?)
    }

    /// Enters a customer, as the system itself does it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_account(&self, name: &str) -> Result<AccountId, StoreError> {
        let mut tx = self.pool.begin().await?;
        let now = self.clock.now();
        let (id, deed) = insert_account(&mut tx, name, now).await?;
        note_by(&mut tx, &Principal::system(BY_ITSELF), Action::CreateAccount, "account", deed, now).await?;
        tx.commit().await?;
        Ok(id)
    }

    /// Enters a customer.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_account_by(
        &self,
        name: &str,
        by: &Granted<action::CreateAccount>,
    ) -> Result<AccountId, StoreError> {
        let mut tx = self.pool.begin().await?;
        let now = self.clock.now();
        let (id, deed) = insert_account(&mut tx, name, now).await?;
        note_each(&mut tx, by, "account", vec![deed], now).await?;
        tx.commit().await?;
        Ok(id)
    }
}

async fn insert_account(
    conn: &mut PgConnection,
    name: &str,
    now: DateTime<Utc>,
) -> Result<(AccountId, Deed), StoreError> {
    let id = sqlx::query_scalar!(
        "-- create_account
        INSERT INTO accounts (name, created_at) VALUES ($1, $2) RETURNING id",
        name,
        now,
    )
    .fetch_one(conn)
    .await?;
    Ok((AccountId(id), Deed::told(id.to_string(), ("create", name), Value::Null, Value::Null)))
}

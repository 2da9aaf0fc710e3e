//! Accounts' data keys, as they are kept: wrapped. Owns their rows and the walks of a rotation. Neither wraps nor unwraps.

use crate::{Store, StoreError, by_operators::note_step};
use chrono::{DateTime, Utc};
use domain::{AccountId, Granted, WrappedKey, action};
use sqlx::PgConnection;

/// Keys under one master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterUse {
    /// The master key.
    pub master: String,
    /// Data keys that it wraps.
    pub keys: i64,
    /// Of these, those that are their account's newest.
    pub newest: i64,
    /// When the latest of them was wrapped.
    pub last_wrapped_at: DateTime<Utc>,
}

impl Store {
    /// The key that new secrets of an account are sealed by; none: it has none yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn newest_key(&self, account: AccountId) -> Result<Option<WrappedKey>, StoreError> {
        let row = sqlx::query!(
            "-- newest_key
            SELECT version, master, wrapped FROM account_keys WHERE account_id = $1 ORDER BY version DESC LIMIT 1",
            account.0,
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| WrappedKey { account, version: row.version, master: row.master, wrapped: row.wrapped }))
    }

    /// The key that new secrets of an account are sealed by; where it has none, the first one is made and kept. Of two who
    /// do so at once one's is kept, and both answer with it. None: the account's keys were deleted meanwhile.
    ///
    /// # Errors
    /// [`StoreError`] (`Rejected` when there is no such account), and what `make` fails with.
    pub async fn newest_key_or<E, F>(
        &self,
        account: AccountId,
        make: impl FnOnce() -> F + Send,
    ) -> Result<Option<WrappedKey>, E>
    where
        E: From<StoreError>,
        F: Future<Output = Result<WrappedKey, E>> + Send,
    {
        if let Some(key) = self.newest_key(account).await? {
            return Ok(Some(key));
        }
        self.keep_keys(&[make().await?]).await?;
        Ok(self.newest_key(account).await?)
    }

    /// Keeps new keys. Where an account has that version already, what was there stays: read it again before sealing.
    ///
    /// # Errors
    /// [`StoreError`]; `Rejected` when there is no such account.
    pub async fn keep_keys(&self, keys: &[WrappedKey]) -> Result<(), StoreError> {
        let mut conn = self.pool.acquire().await?;
        insert_keys(&mut conn, keys, self.clock.now()).await.map(|_| ())
    }

    /// Keeps the new keys of a rotation, as [`Store::keep_keys`] does.
    ///
    /// # Errors
    /// As [`Store::keep_keys`].
    pub async fn renew_keys(&self, keys: &[WrappedKey], by: &Granted<action::RotateKeys>) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        let now = self.clock.now();
        let kept = insert_keys(&mut tx, keys, now).await?;
        note_step(&mut tx, by, ("give accounts new keys", kept), now).await?;
        Ok(tx.commit().await?)
    }

    /// Keys in the order of accounts and versions, from behind the given one on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn walk_keys(&self, after: Option<(AccountId, i32)>, limit: i64) -> Result<Vec<WrappedKey>, StoreError> {
        let (account, version) = after.map_or((i64::MIN, 0), |(account, version)| (account.0, version));
        let rows = sqlx::query!(
            "-- walk_keys
            SELECT account_id, version, master, wrapped FROM account_keys
            WHERE (account_id, version) > ($1, $2) ORDER BY account_id, version LIMIT $3",
            account,
            version,
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        let key = |account_id, version, master, wrapped| WrappedKey {
            account: AccountId(account_id),
            version,
            master,
            wrapped,
        };
        Ok(rows.into_iter().map(|row| key(row.account_id, row.version, row.master, row.wrapped)).collect())
    }

    /// Puts each key's new wrapping in the place of its old one, and answers with how many were as the caller saw them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rewrap_keys(
        &self,
        pairs: &[(WrappedKey, WrappedKey)],
        by: &Granted<action::RotateKeys>,
    ) -> Result<u64, StoreError> {
        let mut tx = self.pool.begin().await?;
        let now = self.clock.now();
        let accounts: Vec<i64> = pairs.iter().map(|(old, _)| old.account.0).collect();
        let versions: Vec<i32> = pairs.iter().map(|(old, _)| old.version).collect();
        let old: Vec<Vec<u8>> = pairs.iter().map(|(old, _)| old.wrapped.clone()).collect();
        let masters: Vec<String> = pairs.iter().map(|(_, new)| new.master.clone()).collect();
        let new: Vec<Vec<u8>> = pairs.iter().map(|(_, new)| new.wrapped.clone()).collect();
        let changed = sqlx::query!(
            "-- rewrap_keys
            UPDATE account_keys AS k SET master = t.master, wrapped = t.new, wrapped_at = $6
            FROM unnest($1::bigint[], $2::integer[], $3::bytea[], $4::text[], $5::bytea[])
                AS t (account_id, version, old, master, new)
            WHERE k.account_id = t.account_id AND k.version = t.version AND k.wrapped = t.old",
            &accounts,
            &versions,
            &old,
            &masters,
            &new,
            now,
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        note_step(&mut tx, by, ("wrap keys by another master key", changed), now).await?;
        tx.commit().await?;
        Ok(changed)
    }

    /// Accounts from behind the given one on, each with its newest key's version and that key's age.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn walk_newest_keys(
        &self,
        after: Option<AccountId>,
        limit: i64,
    ) -> Result<Vec<(AccountId, i32, DateTime<Utc>)>, StoreError> {
        let rows = sqlx::query!(
            "-- walk_newest_keys
            SELECT DISTINCT ON (account_id) account_id, version, created_at FROM account_keys
            WHERE account_id > $1 ORDER BY account_id, version DESC LIMIT $2",
            after.map_or(i64::MIN, |account| account.0),
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|row| (AccountId(row.account_id), row.version, row.created_at)).collect())
    }

    /// How many keys each master key wraps.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn master_uses(&self) -> Result<Vec<MasterUse>, StoreError> {
        Ok(sqlx::query_as!(
            MasterUse,
            r#"-- master_uses
            SELECT master, count(*) AS "keys!", max(wrapped_at) AS "last_wrapped_at!",
                   count(*) FILTER (WHERE NOT EXISTS (
                       SELECT FROM account_keys n WHERE n.account_id = k.account_id AND n.version > k.version
                   )) AS "newest!"
            FROM account_keys k GROUP BY master ORDER BY master"#,
        )
        .fetch_all(&self.pool)
        .await?)
    }

    /// Deletes keys that seal nothing any more and have been followed by a newer one since before that time: whoever read
    /// one as the newest has long sealed with it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn prune_keys(
        &self,
        followed_before: DateTime<Utc>,
        by: &Granted<action::RotateKeys>,
    ) -> Result<u64, StoreError> {
        let mut tx = self.pool.begin().await?;
        let pruned = sqlx::query!(
            "-- prune_keys
            DELETE FROM account_keys k
            WHERE EXISTS (SELECT FROM account_keys n
                          WHERE n.account_id = k.account_id AND n.version > k.version AND n.created_at < $1)
              AND NOT EXISTS (SELECT FROM secrets s WHERE s.account_id = k.account_id AND s.key_version = k.version)",
            followed_before,
        )
        .execute(&mut *tx)
        .await?
        .rows_affected();
        note_step(&mut tx, by, ("delete keys that seal nothing", pruned), self.clock.now()).await?;
        tx.commit().await?;
        Ok(pruned)
    }
}

/// Inserts keys, and says how many were not there.
async fn insert_keys(conn: &mut PgConnection, keys: &[WrappedKey], now: DateTime<Utc>) -> Result<u64, StoreError> {
    let accounts: Vec<i64> = keys.iter().map(|key| key.account.0).collect();
    let versions: Vec<i32> = keys.iter().map(|key| key.version).collect();
    let masters: Vec<String> = keys.iter().map(|key| key.master.clone()).collect();
    let wrapped: Vec<Vec<u8>> = keys.iter().map(|key| key.wrapped.clone()).collect();
    let kept = sqlx::query!(
        "-- keep_keys
        INSERT INTO account_keys (account_id, version, master, wrapped, created_at, wrapped_at)
        SELECT account_id, version, master, wrapped, $5, $5
        FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::bytea[]) AS t (account_id, version, master, wrapped)
        ON CONFLICT DO NOTHING",
        &accounts,
        &versions,
        &masters,
        &wrapped,
        now,
    )
    .execute(conn)
    .await?;
    Ok(kept.rows_affected())
}

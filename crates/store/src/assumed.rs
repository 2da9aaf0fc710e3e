//! A ledger that shows one account: connections of their own under the role `servant_viewer`, whose statements PostgreSQL
//! holds to that account's rows and to reading. Owns how such connections are opened and checked. Which tables the role
//! sees, and which rows, the migration `raise_viewer_wall` says; who may have one is the manager's.

use crate::{Store, StoreError};
use domain::AccountId;
use sqlx::postgres::PgPoolOptions;
use std::time::Duration;

/// Connections of one such ledger.
const POOL_MAX: u32 = 2;
/// A connection that nobody needs for so long is closed.
const IDLE_SECS: u64 = 30;
/// Longest that a statement runs, in seconds: somebody waits for the page.
const STATEMENT_SECS: u32 = 3;
/// Longest wait for one of the connections, in seconds.
const ACQUIRE_SECS: u64 = 5;

impl Store {
    /// The ledger as that account's customer may see it. Every reading function works and finds that account's rows
    /// alone; every function that writes fails. Close it when it is no longer needed.
    ///
    /// # Errors
    /// [`StoreError::NoViewer`] when this process's user may not become the role, or the server does not hold the
    /// connection to it: nothing is shown then.
    pub async fn assumed(&self, account: AccountId) -> Result<Self, StoreError> {
        let found = sqlx::query!(
            r#"-- may_be_viewer
            SELECT current_user::text AS "user!",
                   coalesce(pg_has_role(to_regrole('servant_viewer'), 'MEMBER'), false) AS "is_member!",
                   coalesce(has_table_privilege(to_regrole('servant_viewer'), 'jobs', 'SELECT'), false) AS "is_raised!""#,
        )
        .fetch_one(&self.pool)
        .await?;
        if !found.is_member || !found.is_raised {
            return Err(StoreError::NoViewer { user: found.user });
        }
        // What comes last counts; each is in force before the first statement, so that none runs without.
        let options = self.pool.connect_options().as_ref().clone().options([
            ("role", "servant_viewer"),
            ("default_transaction_read_only", "on"),
            ("row_security", "on"),
            ("app.account_id", account.0.to_string().as_str()),
            ("statement_timeout", format!("{STATEMENT_SECS}s").as_str()),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(POOL_MAX)
            .acquire_timeout(Duration::from_secs(ACQUIRE_SECS))
            .idle_timeout(Duration::from_secs(IDLE_SECS))
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        let store = Self { pool, clock: self.clock.clone(), viewed: Some(account) };
        // Something between us and the server may have dropped the settings.
        let is_held = sqlx::query_scalar!(
            r#"-- is_viewer
            SELECT current_user = 'servant_viewer' AND viewed_account() IS NOT DISTINCT FROM $1
                   AND current_setting('transaction_read_only') = 'on' AND row_security_active('jobs') AS "is_held!""#,
            account.0,
        )
        .fetch_one(&store.pool)
        .await;
        match is_held {
            Ok(true) => Ok(store),
            Ok(false) => {
                store.close().await;
                Err(StoreError::NoViewer { user: found.user })
            }
            Err(error) => {
                store.close().await;
                Err(error.into())
            }
        }
    }

    /// The account that alone is shown; none: all are.
    #[must_use]
    pub fn viewed(&self) -> Option<AccountId> {
        self.viewed
    }
}

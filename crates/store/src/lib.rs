//! The ledger in PostgreSQL: everything that Servant remembers, and every statement that touches it.
//! Owns SQL (nothing else may speak it) and the migrator. Does not own what states mean (`domain`) or when a duty
//! runs (`scheduler`). No function here reads an ambient clock: time comes from the store's [`domain::Clock`].

mod account_keys;
mod account_overview;
mod accounts;
mod anomalies;
mod anomalies_read;
mod assumed;
mod assumptions;
mod audit;
mod authorisations;
mod breakers;
mod budgets;
mod by_operators;
mod connection_objects;
mod connections;
mod counters;
mod error;
mod errors;
mod expired;
mod fleet;
mod groups;
mod groups_lead;
mod groups_read;
mod holders;
mod jobs;
mod kinds;
mod leader;
mod limit_states;
mod limits;
mod listen;
mod operations;
mod outbox;
mod partitions;
mod passwords;
mod pauses;
mod quarantine;
mod records;
mod schedules;
mod schedules_cancel;
mod schedules_declare;
mod schedules_edit;
mod schedules_read;
mod secrets;
mod servant_credentials;
mod servants;
mod sessions;
mod sign_in_codes;
mod snapshots;
mod statistics;
mod stats;
mod stream_fields;
mod stream_statistics;
mod streams;
mod throughput;
mod tokens;
mod users;
mod window_end;
mod window_pages;
mod window_parts;
mod windows;

pub use account_keys::MasterUse;
pub use account_overview::StreamOfAccount;
pub use accounts::*;
pub use anomalies::{AnomalyChange, AnomalyFilter, AnomalyRow, ChangesAnomaly, Sighting};
pub use assumptions::{AssumptionEvent, AssumptionRow, LookedAt, NewAssumption};
pub use audit::{AuditExported, AuditFilter, AuditFound, AuditHead, AuditRow, AuditVerdict, BadAuditRow, SealedAudit};
pub use authorisations::{Authorised, BegunAuthorisation};
pub use breakers::{BreakerRow, FoldedOutcomes, ForcedBy, ForcesBreaker};
pub use budgets::{BudgetMinute, BudgetRow, SettingsBy, UsageReport};
pub use connections::{ChangesConnection, ConnectionAct, ConnectionEvent, ConnectionRow};
pub use counters::CountDrift;
pub use error::StoreError;
pub use errors::{ERROR_GROUPS_MAX, ErrorFilter, ErrorGroupRow, ErrorsFound};
pub use fleet::{Capacity, InHand, NewServant};
pub use groups::{GroupChange, NewGroup};
pub use groups_lead::{EndedGroups, GroupEnd, MembersCancelled};
pub use groups_read::{GroupFilter, GroupProgress, GroupRow};
pub use holders::{HolderRow, Holders};
pub use jobs::*;
pub use leader::Leadership;
pub use limit_states::Concerned;
pub use limits::{LimitRemoved, LimitRow, LimitsAfter};
pub use listen::{Heard, ReadyIn, WakeUps};
pub use operations::{NewOperation, OperationItem, OperationRow, OperationStep};
pub use outbox::Unsent;
pub use partitions::Retention;
pub use passwords::{NewPassword, person_of};
pub use pauses::{PauseRow, PausesAfter};
pub use quarantine::{Dismissed, QuarantineFilter, QuarantineRow, RecordRetry};
pub use records::*;
pub use schedules::{Fire, Fired, RanNow};
pub use schedules_declare::Walked;
pub use schedules_edit::*;
pub use schedules_read::*;
pub use secrets::*;
pub use servant_credentials::{ServantCredential, ServantCredentialRow};
pub use servants::*;
pub use sessions::{KnownSession, NewSession};
pub use sign_in_codes::{CodeRow, NewCode, NewPerson};
pub use snapshots::*;
pub use stats::*;
pub use stream_fields::*;
pub use stream_statistics::*;
pub use streams::*;
pub use throughput::{QueueStateRow, SeenDepth, StatPoint};
pub use tokens::{KnownToken, NewApiToken, TokenRow};
pub use users::{LocalUser, NewUser, UserChange, UserRow, Vouched};
pub use window_end::WindowClosed;
pub use window_pages::*;
pub use window_parts::{IdRange, PartEnd};
pub use windows::{Again, BulkWindow, ExternalJob, LeftWindow};

use chrono::{DateTime, TimeDelta, Utc};
use domain::{AccountId, Clock};
use sqlx::{
    Connection, PgConnection, PgPool, Postgres,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{collections::BTreeSet, time::Duration};

/// The migrations that this build knows.
static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// A handle on the ledger; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) pool: PgPool,
    pub(crate) clock: Clock,
    /// The only account that its connections show.
    viewed: Option<AccountId>,
}

/// One open transaction. Everything done through it commits or vanishes together.
#[derive(Debug)]
pub struct Tx {
    pub(crate) inner: sqlx::Transaction<'static, Postgres>,
}

impl Tx {
    /// Runs one statement of the caller's own and answers with the number of rows that it touched. Its one argument
    /// is `$1`, a jsonb: `INSERT INTO rows SELECT * FROM jsonb_to_recordset($1) AS t (id bigint, name text)`.
    ///
    /// For a kind's own tables. The ledger's are changed by the functions of this crate and by nothing else: a
    /// statement on them would pass by the fence and the counters.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of the transaction can be committed after it.
    pub async fn execute(&mut self, statement: &'static str, argument: &serde_json::Value) -> Result<u64, StoreError> {
        Ok(sqlx::query(statement).bind(argument).execute(&mut *self.inner).await?.rows_affected())
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// [`StoreError`]; after `Unavailable` it is unknown whether the commit happened.
    pub async fn commit(self) -> Result<(), StoreError> {
        Ok(self.inner.commit().await?)
    }
}

/// Longest wait for a free connection of the pool, in seconds.
const ACQUIRE_SECS_MAX: u64 = 10;
/// Longest that a statement runs, in seconds, unless its connection says less.
const STATEMENT_SECS_MAX: u32 = 60;
/// How often the server looks whether the client of a running statement is still there.
const CLIENT_LOOK: &str = "250ms";
/// How soon a connection answers whose statement is over, in milliseconds.
const ANSWER_MS: u64 = 200;
/// How often a daemon's clock is corrected, in seconds.
const CLOCK_EVERY_SECS: u64 = 30;
/// Times that the database's clock is read to know it once; the first read also prepares the statement.
const CLOCK_READS: u32 = 4;

impl Store {
    /// Connects, and sets `clock` to the database's time.
    ///
    /// A transaction that its process leaves idle for 4 s is ended by the server, so that a stopped process cannot
    /// hold a row for longer than a lease; no statement runs for longer than 60 s.
    ///
    /// Every statement here is meant to find its rows through an index, whatever the statistics say: a plan that was
    /// made while a table was empty or not yet analysed would else read or sort the whole backlog on every claim.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the server does not answer, [`StoreError::Rejected`] for a malformed address.
    pub async fn connect(url: &str, pool_max: u32, clock: Clock) -> Result<Self, StoreError> {
        let options = options(url, STATEMENT_SECS_MAX)?;
        Self::connect_with(options, PgPoolOptions::new(), pool_max, clock).await
    }

    /// [`Self::connect`], for those whose statements somebody waits for: none runs for longer than `statement_secs`. One
    /// that does is [`StoreError::Unavailable`]. One whose caller is gone, because the future was dropped, ends within a
    /// second: its connection is closed, and the server looks for that.
    ///
    /// # Errors
    /// Those of [`Self::connect`].
    pub async fn connect_within(
        url: &str,
        pool_max: u32,
        clock: Clock,
        statement_secs: u32,
    ) -> Result<Self, StoreError> {
        let options = options(url, statement_secs)?.options([("client_connection_check_interval", CLIENT_LOOK)]);
        // A connection that comes back while its statement runs was left by its caller: it does not answer.
        let pool = PgPoolOptions::new().after_release(|connection, _| {
            Box::pin(async move {
                let answer = tokio::time::timeout(Duration::from_millis(ANSWER_MS), connection.ping()).await;
                Ok(matches!(answer, Ok(Ok(()))))
            })
        });
        Self::connect_with(options, pool, pool_max, clock).await
    }

    async fn connect_with(
        options: PgConnectOptions,
        pool: PgPoolOptions,
        pool_max: u32,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        // The pool would try again until its time is up and then say just that; this says at once what is wrong.
        let first = tokio::time::timeout(Duration::from_secs(ACQUIRE_SECS_MAX), PgConnection::connect_with(&options));
        first.await.map_err(|_| sqlx::Error::PoolTimedOut)??.close().await?;
        let pool = pool
            .max_connections(pool_max)
            .acquire_timeout(Duration::from_secs(ACQUIRE_SECS_MAX))
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        let store = Self { pool, clock, viewed: None };
        store.synchronise_clock().await?;
        Ok(store)
    }

    /// The clock that this store's statements use.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Now, by the ledger's time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Corrects the clock by the database's; call it now and then, since clocks drift.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn synchronise_clock(&self) -> Result<(), StoreError> {
        // The quickest of a few answers is the least wrong: the true moment of reading lies within its round trip.
        let mut best: Option<(TimeDelta, TimeDelta)> = None;
        for _ in 0..CLOCK_READS {
            let before = Utc::now();
            let theirs = sqlx::query_scalar!(r#"SELECT /* synchronise_clock */ clock_timestamp() AS "now!""#)
                .fetch_one(&self.pool)
                .await?;
            let took = Utc::now() - before;
            if best.is_none_or(|(shortest, _)| took < shortest) {
                best = Some((took, theirs - (before + took / 2)));
            }
        }
        if let Some((_, offset)) = best {
            self.clock.set_offset(offset);
        }
        Ok(())
    }

    /// Corrects the clock every half minute. Never ends by itself: drop it, or race it against a cancellation.
    pub async fn keep_clock(&self) {
        loop {
            tokio::time::sleep(Duration::from_secs(CLOCK_EVERY_SECS)).await;
            if let Err(error) = self.synchronise_clock().await {
                tracing::debug!(error = domain::chain(&error), "the ledger's clock was not read");
            }
        }
    }

    /// Opens a transaction.
    ///
    /// # Errors
    /// [`StoreError`] when no connection can be had.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(Tx { inner: self.pool.begin().await? })
    }

    /// Opens a transaction of the leader, whose lead stands until it ends; none when another leads.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin_led(&self, leadership: &Leadership) -> Result<Option<Tx>, StoreError> {
        let mut tx = self.begin().await?;
        Ok(partitions::leads(&mut tx.inner, leadership).await?.then_some(tx))
    }

    /// Applies the migrations that are missing. Only operators' tools call this; daemons never migrate.
    ///
    /// # Errors
    /// [`StoreError`]; what was applied before the failure stays.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        Ok(MIGRATOR.run(&self.pool).await?)
    }

    /// Refuses a database whose schema this build does not know.
    ///
    /// # Errors
    /// [`StoreError::Schema`] says which command mends it.
    pub async fn check_schema(&self) -> Result<(), StoreError> {
        let applied = self.applied_migrations().await?;
        // Not by the latest alone: one with a lower number may have landed after it.
        match MIGRATOR.iter().map(|migration| migration.version).find(|version| !applied.contains(version)) {
            Some(wanted) => Err(StoreError::Schema { found: applied.last().copied().unwrap_or(0), wanted }),
            None => Ok(()),
        }
    }

    /// The latest migration that was applied; 0: none was.
    pub(crate) async fn schema_version(&self) -> Result<i64, StoreError> {
        Ok(self.applied_migrations().await?.last().copied().unwrap_or(0))
    }

    async fn applied_migrations(&self) -> Result<BTreeSet<i64>, StoreError> {
        let exists = sqlx::query_scalar!(
            r#"SELECT /* check_schema */ to_regclass('_sqlx_migrations') IS NOT NULL AS "exists!""#
        )
        .fetch_one(&self.pool)
        .await?;
        if !exists {
            return Ok(BTreeSet::new());
        }
        let versions = "SELECT /* check_schema */ version FROM _sqlx_migrations WHERE success";
        Ok(sqlx::query_scalar(versions).fetch_all(&self.pool).await?.into_iter().collect())
    }

    /// Closes the connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// How every connection is set.
fn options(url: &str, statement_secs: u32) -> Result<PgConnectOptions, StoreError> {
    Ok(url.parse::<PgConnectOptions>()?.options([
        ("idle_in_transaction_session_timeout", "4s"),
        ("statement_timeout", format!("{statement_secs}s").as_str()),
        ("jit", "off"),
        ("plan_cache_mode", "force_generic_plan"),
        // "Relation already exists, skipping" is how a temporary table is found, and no news.
        ("client_min_messages", "warning"),
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        // Where it does not know the limit, the planner would have workers sort what an index has in order.
        ("max_parallel_workers_per_gather", "0"),
    ]))
}

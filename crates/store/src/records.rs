//! Customers' records: typed tables, one for each object of a vendor, written page by page.
//! Owns how a page gets in. What is not stored yet is copied straight into its table; what changed goes through a
//! temporary table and one guarded upsert; what is stored already is not even sent. The tables' making is in `making`,
//! the statements on them in `table`, the lines of COPY in `batch`, one value of them in `copy_text`, the log of what
//! changed in `changes`, what cannot be stored in `quarantine`, some fields of records that are there in `patch`, what
//! they are compared with in `compare`, what a row has no room for in `wide`. Does not own what a vendor's field means
//! (`sync`).

mod batch;
mod changes;
mod compare;
mod copy_text;
mod making;
mod patch;
mod quarantine;
mod table;
mod tally;
mod wide;

pub use batch::{RecordBatch, RecordHead, RecordWriter};
pub use changes::{ChangeCursor, ChangeOp, RecordChange};
pub use compare::{Behind, Stretch};
pub use quarantine::{Quarantined, QuarantinedRow};
pub use table::{ColumnType, RecordColumn, RecordTable};
pub use tally::{HourCounts, StreamTally};
pub(crate) use tally::{hours_json, hours_of};

use crate::{Store, StoreError, Tx};
use chrono::{DateTime, Utc};
use domain::{AccountId, ConnectionId};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

/// Bytes handed to COPY at once.
const COPY_BYTES: usize = 256 * 1024;
/// Of a batch longer than this a few records are looked for first: when none is known, as in a first load, none is looked
/// up. A wrong guess costs a copy that is rolled back, and no more.
const LOOKED_UP_ROWS: usize = 1_024;
/// How many are those few.
const SAMPLE_ROWS: usize = 128;
/// SQLSTATE of a second row under one key.
const UNIQUE_VIOLATION: &str = "23505";

/// Whose a page is and when the vendor's answer was true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageOrigin {
    /// Whose records.
    pub account: AccountId,
    /// By which connection.
    pub connection: ConnectionId,
    /// The page shows nothing older than this: when its query began, by the vendor's clock. Only what was read after a
    /// record was found gone can bring it back.
    pub read_at: DateTime<Utc>,
}

impl Store {
    /// Writes a page, or a piece of one: of each record the newest version in it, and that only if it is newer than what is
    /// stored, or as old and different. Each change is noted in the change log. Answers with the number of rows that
    /// changed; a page that is written again changes none, and leaves no dead row behind.
    ///
    /// # Errors
    /// [`StoreError`]; the transaction is of no more use then.
    pub async fn write_records(
        &self,
        tx: &mut Tx,
        table: &RecordTable,
        origin: PageOrigin,
        batch: &mut RecordBatch,
    ) -> Result<u64, StoreError> {
        batch.put_in_order();
        if batch.is_empty() {
            return Ok(0);
        }
        let rows = batch.len();
        let changed = self.write_in_order(tx, table, origin, batch).await?;
        if changed > 0 {
            self.tally(tx, table, origin.connection, rows, batch).await?;
        }
        Ok(changed)
    }

    async fn write_in_order(
        &self,
        tx: &mut Tx,
        table: &RecordTable,
        origin: PageOrigin,
        batch: &mut RecordBatch,
    ) -> Result<u64, StoreError> {
        let conn = &mut *tx.inner;
        let now = self.clock.now();
        release(conn, table, origin, batch, now).await?;
        let is_new = batch.len() > LOOKED_UP_ROWS && !any_known(conn, table, origin.account, batch).await?;
        let is_new = is_new || keep_outdated(conn, table, origin, batch).await?;
        if batch.is_empty() {
            return Ok(0);
        }
        if is_new && insert(conn, table, origin.account, batch, now).await? {
            return Ok(u64::try_from(batch.len()).unwrap_or(u64::MAX));
        }
        upsert(conn, table, origin, batch, now).await
    }

    /// Marks records as deleted of which the vendor shows no more than their absence: purged, merged away, or out of sight.
    /// `seen_at` is when they were seen to be gone, by the vendor's clock; what changed after that stays. A page
    /// that was read later brings back what is there again. Answers with the number of records that are gone now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_records(
        &self,
        tx: &mut Tx,
        table: &RecordTable,
        account: AccountId,
        ids: &[String],
        seen_at: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let gone = sqlx::query(AssertSqlSafe(format!("/* delete_records */ {}", table.delete())))
            .bind(table.vendor())
            .bind(table.object())
            .bind(seen_at)
            .bind(account.0)
            .bind(ids)
            .bind(self.clock.now())
            .execute(&mut *tx.inner)
            .await?;
        Ok(gone.rows_affected())
    }

    /// Whether [`Self::delete_records`] would mark any of `ids`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn any_to_delete(
        &self,
        table: &RecordTable,
        account: AccountId,
        ids: &[String],
        seen_at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let statement = format!("/* any_to_delete */ {}", table.any_to_delete());
        let any = sqlx::query_scalar(AssertSqlSafe(statement)).bind(account.0).bind(ids).bind(seen_at);
        Ok(any.fetch_one(&self.pool).await?)
    }

    /// How many records of an account are stored and not deleted. Reads them all: for audits, not for requests.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_records(&self, table: &RecordTable, account: AccountId) -> Result<i64, StoreError> {
        let count = format!(
            "/* count_records */ SELECT count(*) FROM {} WHERE account_id = $1 AND NOT is_deleted",
            table.name()
        );
        Ok(sqlx::query_scalar(AssertSqlSafe(count)).bind(account.0).fetch_one(&self.pool).await?)
    }
}

/// Takes out of quarantine what can be read now. There is hardly ever anything in it, so that is asked first.
async fn release(
    conn: &mut PgConnection,
    table: &RecordTable,
    PageOrigin { connection, read_at, .. }: PageOrigin,
    batch: &RecordBatch,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let is_any = sqlx::query_scalar!(
        r#"-- release: whether
        SELECT EXISTS (SELECT FROM quarantined_records
                       WHERE connection_id = $1 AND object = $2 AND state <> 'resolved') AS "is_any!""#,
        connection.0,
        table.object(),
    )
    .fetch_one(&mut *conn)
    .await?;
    if is_any {
        let (ids, versions, _) = batch.versions(1);
        let seen: Vec<quarantine::Version<'_>> = ids.into_iter().zip(versions).collect();
        let (of, reason) = ((connection, table.object()), "a version of it could be stored");
        quarantine::resolve(conn, of, &seen, Some(read_at), reason, now).await?;
    }
    Ok(())
}

async fn any_known(
    conn: &mut PgConnection,
    table: &RecordTable,
    account: AccountId,
    batch: &RecordBatch,
) -> Result<bool, StoreError> {
    let (ids, ..) = batch.versions(batch.len().div_ceil(SAMPLE_ROWS));
    let statement = format!("/* any_known */ {}", table.any_known());
    Ok(sqlx::query_scalar(AssertSqlSafe(statement)).bind(account.0).bind(&ids).fetch_one(conn).await?)
}

/// Keeps what would change something; says whether none of it is there yet.
async fn keep_outdated(
    conn: &mut PgConnection,
    table: &RecordTable,
    origin: PageOrigin,
    batch: &mut RecordBatch,
) -> Result<bool, StoreError> {
    let (ids, versions, hashes) = batch.versions(1);
    let rows = sqlx::query(AssertSqlSafe(format!("/* keep_outdated */ {}", table.outdated())))
        .bind(origin.account.0)
        .bind(&ids)
        .bind(origin.read_at)
        .bind(&versions)
        .bind(&hashes)
        .fetch_all(conn)
        .await?;
    let mut is_new = true;
    let mut places = Vec::with_capacity(rows.len());
    let mut fresh = Vec::with_capacity(rows.len());
    for row in rows {
        places.push(usize::try_from(row.try_get::<i64, _>(0)? - 1).unwrap_or(usize::MAX));
        is_new &= !row.try_get::<bool, _>(1)?;
        fresh.push(row.try_get::<bool, _>(2)?);
    }
    batch.keep(&places);
    batch.note_fresh(fresh.into_iter());
    Ok(is_new)
}

/// Copies records that are not there straight into their table and the change log; false when one was there after all,
/// because it was not among those looked for, or came at this moment.
async fn insert(
    conn: &mut PgConnection,
    table: &RecordTable,
    account: AccountId,
    batch: &RecordBatch,
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    sqlx::query("SAVEPOINT /* insert */ new_records").execute(&mut *conn).await?;
    match copy(conn, &table.copy(), batch.lines(account.0, now, COPY_BYTES)).await {
        Ok(()) => {}
        Err(error) if error.as_database_error().and_then(|e| e.code()).as_deref() == Some(UNIQUE_VIOLATION) => {
            sqlx::query("ROLLBACK /* insert */ TO SAVEPOINT new_records").execute(conn).await?;
            return Ok(false);
        }
        Err(error) => return Err(error.into()),
    }
    sqlx::query("RELEASE /* insert */ SAVEPOINT new_records").execute(&mut *conn).await?;
    let to_log = "COPY record_changes (at, account_id, vendor, object, record_id, op, content_hash) FROM STDIN";
    // Both names are plain identifiers, which COPY takes as they are.
    let common = format!("{}\t{account}\t{}\t{}\t", now.to_rfc3339(), table.vendor(), table.object());
    copy(conn, to_log, batch.changes(common.into_bytes(), COPY_BYTES)).await?;
    Ok(true)
}

async fn upsert(
    conn: &mut PgConnection,
    table: &RecordTable,
    origin: PageOrigin,
    batch: &RecordBatch,
    now: DateTime<Utc>,
) -> Result<u64, StoreError> {
    // It lives as long as the connection, so that most pages find it there; its rows end with each transaction, and
    // before that with each piece of a page.
    sqlx::query(AssertSqlSafe(format!("/* upsert */ {}", table.create_staging()))).execute(&mut *conn).await?;
    sqlx::query(AssertSqlSafe(format!("/* upsert */ TRUNCATE {}", table.staging()))).execute(&mut *conn).await?;
    copy(conn, &table.copy_to_staging(), batch.lines(origin.account.0, now, COPY_BYTES)).await?;
    let written = sqlx::query(AssertSqlSafe(format!("/* upsert */ {}", table.upsert())))
        .bind(table.vendor())
        .bind(table.object())
        .bind(origin.read_at)
        .execute(conn)
        .await?;
    Ok(written.rows_affected())
}

async fn copy(
    conn: &mut PgConnection,
    statement: &str,
    lines: impl Iterator<Item = Vec<u8>>,
) -> Result<(), sqlx::Error> {
    let mut copy = conn.copy_in_raw(statement).await?;
    for piece in lines {
        if let Err(error) = copy.send(piece).await {
            // The server's own words come with the end of the copy; this one only says that it stopped listening.
            return Err(copy.finish().await.err().unwrap_or(error));
        }
    }
    copy.finish().await?;
    Ok(())
}

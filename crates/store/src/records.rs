//! Customers' records: typed tables, one for each object of a vendor, written page by page.
//! Owns how a page gets in: COPY to a temporary table, one guarded upsert. The tables' making is in `table`, the bytes of
//! COPY in `batch`, what cannot be stored in `quarantine`. Does not own what a vendor's field means (`sync`).

mod batch;
mod quarantine;
mod table;

pub use batch::{RecordBatch, RecordHead};
pub use quarantine::{Quarantined, QuarantinedRow};
pub use table::{ColumnType, RecordColumn, RecordTable};

use crate::{Store, StoreError, Tx};
use domain::{AccountId, ConnectionId};
use sqlx::{AssertSqlSafe, PgConnection};

/// Bytes handed to COPY at once.
const COPY_BYTES: usize = 256 * 1024;

impl Store {
    /// Writes a page: of each record the newest version on the page, and that only if it is newer than what is stored,
    /// or as old and different. Answers with the number of rows that changed; a page that is written again changes none.
    ///
    /// # Errors
    /// [`StoreError`]; the transaction is of no more use then.
    pub async fn write_records(
        &self,
        tx: &mut Tx,
        table: &RecordTable,
        account: AccountId,
        connection: ConnectionId,
        batch: &mut RecordBatch,
    ) -> Result<u64, StoreError> {
        batch.put_in_order();
        if batch.is_empty() {
            return Ok(0);
        }
        let conn = &mut *tx.inner;
        stage(conn, table, batch).await?;
        let upsert = format!("/* write_records */ {}", table.upsert());
        let written =
            sqlx::query(AssertSqlSafe(upsert)).bind(account.0).bind(self.clock.now()).execute(&mut *conn).await?;
        let release = format!(
            "/* write_records: release */ DELETE FROM quarantined_records q USING {} s
             WHERE q.connection_id = $1 AND q.object = $2 AND q.record_id = s.id",
            table.staging()
        );
        sqlx::query(AssertSqlSafe(release)).bind(connection.0).bind(table.object()).execute(&mut *conn).await?;
        Ok(written.rows_affected())
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

async fn stage(conn: &mut PgConnection, table: &RecordTable, batch: &RecordBatch) -> Result<(), StoreError> {
    // It lives as long as the connection, so that most pages find it there; its rows end with each transaction.
    sqlx::query(AssertSqlSafe(format!("/* stage */ {}", table.create_staging()))).execute(&mut *conn).await?;
    let mut copy = conn.copy_in_raw(&table.copy()).await?;
    for chunk in batch.chunks(COPY_BYTES) {
        if let Err(error) = copy.send(chunk).await {
            // The server's own words come with the end of the copy; this one only says that it stopped listening.
            return Err(copy.finish().await.err().unwrap_or(error).into());
        }
    }
    copy.finish().await?;
    Ok(())
}

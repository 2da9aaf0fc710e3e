//! Some fields of records that are there already: values that change without a stamp (formulas), and those of a field that
//! the records were read without. Owns that nothing but these fields changes, and that the content's hash is afterwards what
//! a whole read would give. Does not own which fields those are (`sync`).

use super::{
    COPY_BYTES, PageOrigin, RecordBatch, RecordColumn, RecordTable, copy,
    table::{ColumnType, Place},
};
use crate::{Store, StoreError, Tx};
use domain::AccountId;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

impl Store {
    /// Of a page of a [narrowed](RecordTable::narrowed) table the records that are stored in the same version with other
    /// values of these fields. Brings `batch` into order, as writing does. For tables whose records are not patched because
    /// a row may have no room for what changes ([`RecordTable::is_wide`]): those are to be written whole.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn records_differing(
        &self,
        narrow: &RecordTable,
        account: AccountId,
        batch: &mut RecordBatch,
    ) -> Result<Vec<String>, StoreError> {
        batch.put_in_order();
        let mut conn = self.pool.acquire().await?;
        let (places, _) = different(&mut conn, narrow, account, batch, false).await?;
        let (ids, ..) = batch.versions(1);
        Ok(places.iter().filter_map(|place| ids.get(*place)).map(|id| (*id).to_owned()).collect())
    }

    /// Writes the fields of a [narrowed](RecordTable::narrowed) table over the records of a page, and each change into the
    /// change log. Records that are not stored, or in another version, stay as they are: whoever reads their window brings
    /// these fields too. Answers with the number of records that changed.
    ///
    /// # Errors
    /// [`StoreError`]; the transaction is of no more use then.
    pub async fn patch_records(
        &self,
        tx: &mut Tx,
        narrow: &RecordTable,
        origin: PageOrigin,
        batch: &mut RecordBatch,
    ) -> Result<u64, StoreError> {
        batch.put_in_order();
        let conn = &mut *tx.inner;
        // Most pages change nothing, so the first look takes no locks; what it finds is looked at again with them.
        for is_locking in [false, true] {
            if batch.is_empty() {
                return Ok(0);
            }
            keep_different(conn, narrow, origin, batch, is_locking).await?;
        }
        if batch.is_empty() {
            return Ok(0);
        }
        sqlx::query(AssertSqlSafe(format!("/* patch_records */ {}", narrow.create_staging())))
            .execute(&mut *conn)
            .await?;
        sqlx::query(AssertSqlSafe(format!("/* patch_records */ TRUNCATE {}", narrow.staging())))
            .execute(&mut *conn)
            .await?;
        let lines = batch.lines(origin.account.0, self.clock.now(), COPY_BYTES);
        copy(conn, &narrow.copy_to_staging(), lines).await?;
        let patched = sqlx::query(AssertSqlSafe(format!("/* patch_records */ {}", narrow.patch())))
            .bind(narrow.vendor())
            .bind(narrow.object())
            .execute(conn)
            .await?;
        Ok(patched.rows_affected())
    }
}

/// Keeps of a page the records that are stored in the same version with other values, each with its hash as it will be.
async fn keep_different(
    conn: &mut PgConnection,
    narrow: &RecordTable,
    origin: PageOrigin,
    batch: &mut RecordBatch,
    is_locking: bool,
) -> Result<(), StoreError> {
    let (places, next) = different(conn, narrow, origin.account, batch, is_locking).await?;
    batch.keep(&places);
    batch.set_hashes(&next);
    Ok(())
}

/// Where these are in the page, and the hash of each as it will be.
async fn different(
    conn: &mut PgConnection,
    narrow: &RecordTable,
    account: AccountId,
    batch: &RecordBatch,
    is_locking: bool,
) -> Result<(Vec<usize>, Vec<i64>), StoreError> {
    let statement = same_versions(narrow, is_locking);
    let (ids, versions, hashes) = batch.versions(1);
    let rows = sqlx::query(AssertSqlSafe(format!("/* keep_different */ {statement}")))
        .bind(account.0)
        .bind(&ids)
        .bind(&versions)
        .bind(batch.deleted())
        .fetch_all(conn)
        .await?;
    let deleted = batch.deleted();
    let (mut places, mut next) = (Vec::new(), Vec::new());
    for row in &rows {
        let place = usize::try_from(row.try_get::<i64, _>(0)? - 1).unwrap_or(usize::MAX);
        let whole: i64 = row.try_get(1)?;
        let cells = (0..narrow.places.len()).map(|cell| row.try_get::<Option<&str>, _>(cell + 2));
        let cells = cells.collect::<Result<Vec<_>, _>>()?;
        let (Some(is_deleted), Some(new)) = (deleted.get(place), hashes.get(place)) else { continue };
        let stored = batch.hash_of(cells.into_iter(), *is_deleted);
        if stored != *new {
            places.push(place);
            // In the first look this is only a mark; the second one is under lock.
            next.push(if is_locking { whole.wrapping_sub(stored).wrapping_add(*new) } else { *new });
        }
    }
    Ok((places, next))
}

/// Of records `$2`, `$3`, `$4` (ids, versions, whether deleted) of account `$1` those that are stored in that version: place,
/// hash, and each column's text as it is written. One look into the key for each of them, whatever the statistics say.
fn same_versions(narrow: &RecordTable, is_locking: bool) -> String {
    let texts: String =
        narrow.places.iter().zip(&narrow.columns).map(|(place, column)| text_in(place, column, narrow)).collect();
    let lock = if is_locking { "FOR UPDATE" } else { "" };
    format!(
        "SELECT s.place, r.* FROM unnest($2::text[], $3::timestamptz[], $4::boolean[])
             WITH ORDINALITY AS s (id, version_at, is_deleted, place)
         CROSS JOIN LATERAL (
             SELECT content_hash{texts} FROM {}
             WHERE account_id = $1 AND id = s.id AND version_at = coalesce(s.version_at, '-infinity')
                 AND is_deleted = s.is_deleted
             LIMIT 1 {lock}) r
         ORDER BY s.place",
        narrow.name()
    )
}

/// The same, wherever the value lies. A field that has a column is spelled as plainly as that.
fn text_in(place: &Place, column: &RecordColumn, narrow: &RecordTable) -> String {
    let text = text_of(&place.name, place.column_type);
    if narrow.is_wide() {
        format!(", coalesce({text}, extra_fields ->> '{}')", column.field)
    } else {
        format!(", {text}")
    }
}

/// A column's value as the text that its hash is made of.
fn text_of(name: &str, column_type: ColumnType) -> String {
    match column_type {
        ColumnType::Text => format!("\"{name}\""),
        ColumnType::Boolean | ColumnType::Bigint => format!("\"{name}\"::text"),
        ColumnType::Date => format!("to_char(\"{name}\", 'YYYY-MM-DD')"),
        ColumnType::Numeric => format!("trim_scale(\"{name}\")::text"),
        ColumnType::Timestamptz => {
            format!("to_char(\"{name}\" AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
        }
        ColumnType::Time => format!("to_char(\"{name}\", 'HH24:MI:SS.US')"),
    }
}

impl RecordTable {
    /// From the staging table over records that are locked and there; `$1` is the vendor, `$2` the object.
    fn patch(&self) -> String {
        let set: String = self.places().map(|place| format!(", \"{place}\" = excluded.\"{place}\"")).collect();
        format!(
            "WITH written AS (
                 INSERT INTO {name} AS r ({line}) SELECT {line} FROM {staging}
                 ON CONFLICT (account_id, id) DO UPDATE
                 SET content_hash = excluded.content_hash, written_at = excluded.written_at, last_op = 2{set}
                 RETURNING r.written_at, r.account_id, r.id, r.last_op, r.content_hash
             )
             INSERT INTO record_changes (at, account_id, vendor, object, record_id, op, content_hash)
             SELECT written_at, account_id, $1, $2, id, last_op, content_hash FROM written",
            name = self.name(),
            line = self.line(),
            staging = self.staging(),
        )
    }
}

//! How tables of records come into being: made on first sight of an object, widened when it gains a field, never narrowed.
//! A field that changes its type keeps its old column, and its values go on in a version of the column for the new type:
//! other customers, whose field is still what it was, share the table. Owns the DDL. Does not own statements on rows (`table`).

use super::table::{ColumnType, Place, RecordColumn, RecordTable, quoted};
use crate::{Store, StoreError};
use sqlx::{AssertSqlSafe, PgConnection};
use std::collections::BTreeMap;

/// PostgreSQL cuts longer names.
const NAME_BYTES_MAX: usize = 63;
/// Of the 1,600 that PostgreSQL allows; the rest is left for what is added later.
const COLUMNS_MAX: usize = 1_200;
/// A table that is larger, in bytes, is not rewritten to widen a column, since nobody could read it meanwhile.
const REWRITTEN_BYTES_MAX: i64 = 256 * 1024 * 1024;
/// Every table's own columns. All but `id` hold an underscore, and so does no standard field; custom fields end in
/// `__c` or the like.
const OWN_COLUMNS: &str = "account_id bigint NOT NULL, id text NOT NULL, version_at timestamptz NOT NULL, \
    is_deleted boolean NOT NULL, extra_fields jsonb, content_hash bigint NOT NULL, written_at timestamptz NOT NULL";
/// Those that tables of earlier programs lack: what happened to the record last, as the change log has it, and since
/// when it is known to be gone although the vendor sent no deleted version of it.
const OWN_LATER: [(&str, &str); 2] = [("last_op", "smallint NOT NULL DEFAULT 1"), ("absent_at", "timestamptz")];
const OWN_NAMES: [&str; 9] = [
    "account_id",
    "id",
    "version_at",
    "is_deleted",
    "extra_fields",
    "content_hash",
    "written_at",
    "last_op",
    "absent_at",
];
/// Longest wait for the lock that widening a table needs; its readers go first.
const LOCK_WAIT: &str = "2s";

/// Whether a table has a column for a field's values.
enum Fit {
    /// It has.
    Has(Place),
    /// It can have.
    Lacks(Place),
    /// A column of whole numbers has to take decimals.
    Widens(Place),
    /// The name is none for a column.
    Never,
}

/// Where values of `column` go in a table that has the columns `found`. `may_widen`: its columns may be rewritten.
fn fit(column: &RecordColumn, found: &BTreeMap<String, String>, may_widen: bool) -> Fit {
    let (wanted, name) = (column.column_type, &column.name);
    let plain = Place { name: name.clone(), column_type: wanted };
    let version = Place { name: format!("{name}__{}", wanted.sql()), column_type: wanted };
    match found.get(name).map(String::as_str) {
        None => return Fit::Lacks(plain),
        Some(is) if is == wanted.sql() => return Fit::Has(plain),
        // Whole numbers are decimals.
        Some("numeric") if wanted == ColumnType::Bigint => {
            return Fit::Has(Place { column_type: ColumnType::Numeric, ..plain });
        }
        Some("bigint") if wanted == ColumnType::Numeric && may_widen && !found.contains_key(&version.name) => {
            return Fit::Widens(plain);
        }
        Some(_) => {}
    }
    match found.get(&version.name) {
        Some(is) if is == wanted.sql() => Fit::Has(version),
        Some(_) => Fit::Never,
        None if is_identifier(&version.name) => Fit::Lacks(version),
        None => Fit::Never,
    }
}

fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// A table's name, quoted, and those of the wanted columns that a table can have.
fn named<'w>(
    vendor: &str,
    object: &str,
    wanted: &'w [RecordColumn],
) -> Result<(String, Vec<&'w RecordColumn>), StoreError> {
    let table = object.to_ascii_lowercase();
    if !is_identifier(&table) || !is_identifier(vendor) {
        return Err(StoreError::NoName { name: object.to_owned() });
    }
    let can_be = |column: &&RecordColumn| {
        let RecordColumn { name, field, .. } = column;
        // Both stand in statements.
        is_identifier(name) && field.eq_ignore_ascii_case(name) && !OWN_NAMES.contains(&name.as_str())
    };
    Ok((format!("{}.{}", quoted(vendor), quoted(&table)), wanted.iter().filter(can_be).collect()))
}

impl RecordTable {
    /// The table of a vendor's object with those of the columns that it can have, whether or not it is there: for what
    /// reads a page before anything is written.
    ///
    /// # Errors
    /// [`StoreError::NoName`].
    pub fn planned(vendor: &str, object: &str, wanted: &[RecordColumn]) -> Result<Self, StoreError> {
        let (name, possible) = named(vendor, object, wanted)?;
        let place = |column: &RecordColumn| Place { name: column.name.clone(), column_type: column.column_type };
        Ok(Self {
            vendor: vendor.to_owned(),
            object: object.to_owned(),
            name,
            is_wide: Self::are_many(possible.len()),
            places: possible.iter().map(|column| place(column)).collect(),
            columns: possible.into_iter().cloned().collect(),
        })
    }
}

impl Store {
    /// The table of a vendor's object, made or widened to hold `wanted`. Where another type is there under a column's name,
    /// whole numbers that turn into decimals widen it, and for all else there is a version of the column, named by name and
    /// type (`title__numeric`). Columns that the table cannot have are not in the answer: the name is none for a column, or
    /// the table is full. Their values belong into the record's extra fields.
    ///
    /// # Errors
    /// [`StoreError`]; `Conflict` when readers hold the table for too long: try again.
    pub async fn record_table(
        &self,
        vendor: &str,
        object: &str,
        wanted: &[RecordColumn],
    ) -> Result<RecordTable, StoreError> {
        let (name, possible) = named(vendor, object, wanted)?;
        let table = object.to_ascii_lowercase();
        let mut conn = self.pool.acquire().await?;
        let mut found = columns_of(&mut conn, vendor, &table).await?;
        let is_current = OWN_NAMES.iter().all(|own| found.contains_key(*own));
        if !is_current
            || possible.iter().any(|column| matches!(fit(column, &found, true), Fit::Lacks(_) | Fit::Widens(_)))
        {
            drop(conn);
            let mut tx = self.pool.begin().await?;
            // One at a time makes or widens a table, and looks again once it is its turn.
            sqlx::query("SELECT /* record_table */ pg_advisory_xact_lock(hashtextextended($1, 0))")
                .bind(&name)
                .execute(&mut *tx)
                .await?;
            found = columns_of(&mut tx, vendor, &table).await?;
            widen(&mut tx, &name, &possible, &found).await?;
            found = columns_of(&mut tx, vendor, &table).await?;
            tx.commit().await?;
        }
        let has = |column: &RecordColumn| match fit(column, &found, false) {
            Fit::Has(place) => Some((column.clone(), place)),
            Fit::Lacks(_) | Fit::Widens(_) | Fit::Never => None,
        };
        let (columns, places): (Vec<_>, Vec<_>) = possible.into_iter().filter_map(has).unzip();
        let is_wide = RecordTable::are_many(columns.len());
        Ok(RecordTable { vendor: vendor.to_owned(), object: object.to_owned(), name, columns, places, is_wide })
    }
}

/// Makes the table if it is not there, and adds the columns that it lacks, as far as there is room.
async fn widen(
    conn: &mut PgConnection,
    name: &str,
    wanted: &[&RecordColumn],
    found: &BTreeMap<String, String>,
) -> Result<(), StoreError> {
    sqlx::query(AssertSqlSafe(format!("/* widen */ SET LOCAL lock_timeout = '{LOCK_WAIT}'")))
        .execute(&mut *conn)
        .await?;
    if found.is_empty() {
        let create = format!(
            "/* widen */ CREATE TABLE IF NOT EXISTS {name} ({OWN_COLUMNS}, PRIMARY KEY (account_id, id)) WITH (fillfactor = 85)"
        );
        sqlx::query(AssertSqlSafe(create)).execute(&mut *conn).await?;
    }
    let may_widen = found.is_empty() || bytes_of(conn, name).await? <= REWRITTEN_BYTES_MAX;
    let own = OWN_LATER.iter().filter(|(name, _)| !found.contains_key(*name));
    let mut additions: Vec<String> =
        own.map(|(name, definition)| format!("ADD COLUMN IF NOT EXISTS {name} {definition}")).collect();
    let mut room = COLUMNS_MAX.saturating_sub(found.len());
    for column in wanted {
        match fit(column, found, may_widen) {
            Fit::Lacks(place) if room > 0 => {
                room -= 1;
                let column_type = place.column_type.sql();
                additions.push(format!("ADD COLUMN IF NOT EXISTS {} {column_type}", quoted(&place.name)));
            }
            Fit::Widens(place) => {
                additions.push(format!("ALTER COLUMN {} TYPE {}", quoted(&place.name), place.column_type.sql()));
            }
            Fit::Lacks(_) | Fit::Has(_) | Fit::Never => {}
        }
    }
    if !additions.is_empty() {
        let alter = format!("/* widen */ ALTER TABLE {name} {}", additions.join(", "));
        sqlx::query(AssertSqlSafe(alter)).execute(&mut *conn).await?;
    }
    Ok(())
}

async fn bytes_of(conn: &mut PgConnection, name: &str) -> Result<i64, StoreError> {
    let size = "SELECT /* bytes_of */ pg_relation_size($1::regclass)";
    Ok(sqlx::query_scalar(size).bind(name).fetch_one(conn).await?)
}

/// The table's columns and their types, as DDL writes them; none if there is no such table.
async fn columns_of(
    conn: &mut PgConnection,
    schema: &str,
    table: &str,
) -> Result<BTreeMap<String, String>, StoreError> {
    let rows = sqlx::query!(
        r#"-- columns_of
        SELECT a.attname::text AS "name!",
               CASE format_type(a.atttypid, NULL) WHEN 'timestamp with time zone' THEN 'timestamptz'
                    WHEN 'time without time zone' THEN 'time' ELSE format_type(a.atttypid, NULL) END AS "type_name!"
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped"#,
        schema,
        table,
    )
    .fetch_all(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.name, row.type_name)).collect())
}

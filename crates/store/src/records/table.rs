//! The tables of records: made on first sight of an object, widened when it gains a field, never narrowed.
//! Owns their DDL and the text of the statements on them, which no macro can check: names come from the vendor and are
//! let in only as plain identifiers.

use crate::{Store, StoreError};
use sqlx::{AssertSqlSafe, PgConnection};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

/// PostgreSQL cuts longer names.
const NAME_BYTES_MAX: usize = 63;
/// Of the 1,600 that PostgreSQL allows; the rest is left for what is added later.
const COLUMNS_MAX: usize = 1_200;
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
/// What may be written over: an older version, or another content of the same age, or what was believed gone when the
/// page was read later than that ($3). What is gone is not brought back by what was read before.
const GUARD: &str = "CASE WHEN r.absent_at IS NOT NULL THEN r.absent_at < $3
    ELSE r.version_at < %.version_at OR (r.version_at = %.version_at AND r.content_hash <> %.content_hash) END";
/// Longest wait for the lock that widening a table needs; its readers go first.
const LOCK_WAIT: &str = "2s";

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// Any text.
    Text,
    /// true or false.
    Boolean,
    /// A whole number of 64 bits.
    Bigint,
    /// A decimal of any length, exact.
    Numeric,
    /// A day.
    Date,
    /// An instant.
    Timestamptz,
    /// A time of day.
    Time,
}

impl ColumnType {
    const fn sql(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Boolean => "boolean",
            Self::Bigint => "bigint",
            Self::Numeric => "numeric",
            Self::Date => "date",
            Self::Timestamptz => "timestamptz",
            Self::Time => "time",
        }
    }
}

/// A column of a table of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordColumn {
    /// Its name, in lower case.
    pub name: String,
    /// What it holds.
    pub column_type: ColumnType,
}

/// A table of records and the columns of it that a writer fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordTable {
    vendor: String,
    object: String,
    name: String,
    columns: Vec<RecordColumn>,
}

impl RecordTable {
    /// The table of a vendor's object with those of the columns that it can have, whether or not it is there: for what
    /// reads a page before anything is written.
    ///
    /// # Errors
    /// [`StoreError::NoName`].
    pub fn planned(vendor: &str, object: &str, wanted: &[RecordColumn]) -> Result<Self, StoreError> {
        let table = object.to_ascii_lowercase();
        if !is_identifier(&table) || !is_identifier(vendor) {
            return Err(StoreError::NoName { name: object.to_owned() });
        }
        let possible = wanted.iter().filter(|c| is_identifier(&c.name) && !OWN_NAMES.contains(&c.name.as_str()));
        Ok(Self {
            vendor: vendor.to_owned(),
            object: object.to_owned(),
            name: format!("{}.{}", quoted(vendor), quoted(&table)),
            columns: possible.cloned().collect(),
        })
    }

    /// The vendor's name of what is in it.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.object
    }

    /// Whose it is.
    #[must_use]
    pub fn vendor(&self) -> &str {
        &self.vendor
    }

    /// Its name in SQL, with its schema, quoted.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The columns, in the order in which a batch's cells come.
    #[must_use]
    pub fn columns(&self) -> &[RecordColumn] {
        &self.columns
    }

    /// The temporary table of this connection for pages of this shape.
    pub(super) fn staging(&self) -> String {
        let shape: String = self.columns.iter().map(|c| format!("{} {},", c.name, c.column_type.sql())).collect();
        format!("pg_temp.\"staging_{:016x}\"", xxh3_64(format!("{} {shape}", self.name).as_bytes()))
    }

    pub(super) fn create_staging(&self) -> String {
        let columns: String =
            self.columns.iter().map(|c| format!(", {} {}", quoted(&c.name), c.column_type.sql())).collect();
        format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {} (account_id bigint, id text, version_at timestamptz, \
             is_deleted boolean{columns}, extra_fields jsonb, content_hash bigint, written_at timestamptz, \
             last_op smallint) ON COMMIT DELETE ROWS",
            self.staging().trim_start_matches("pg_temp.")
        )
    }

    /// The columns in the order in which a batch's lines have them.
    fn line(&self) -> String {
        let columns: String = self.columns.iter().map(|c| format!(", {}", quoted(&c.name))).collect();
        format!("account_id, id, version_at, is_deleted{columns}, extra_fields, content_hash, written_at, last_op")
    }

    pub(super) fn copy_to_staging(&self) -> String {
        format!("COPY {} ({}) FROM STDIN", self.staging(), self.line())
    }

    pub(super) fn copy(&self) -> String {
        format!("COPY {} ({}) FROM STDIN", self.name, self.line())
    }

    /// Which of the records `$2`, `$4`, `$5` (ids, versions, hashes) of account `$1` would be written, and whether
    /// they are there.
    pub(super) fn outdated(&self) -> String {
        format!(
            "SELECT s.place, r.id IS NOT NULL
             FROM (SELECT place, id, coalesce(version_at, '-infinity') AS version_at, content_hash
                   FROM unnest($2::text[], $4::timestamptz[], $5::bigint[])
                        WITH ORDINALITY AS u (id, version_at, content_hash, place)) s
             LEFT JOIN {name} r ON r.account_id = $1 AND r.id = s.id
             WHERE r.id IS NULL OR {guard}
             ORDER BY s.place",
            name = self.name,
            guard = GUARD.replace('%', "s"),
        )
    }

    /// Whether any of the records `$2` of account `$1` is there. One look into the key for each of them: with `= ANY`,
    /// a table whose statistics still say that it is empty is read whole instead.
    pub(super) fn any_known(&self) -> String {
        format!(
            "SELECT coalesce(bool_or(r.is_there), false) FROM unnest($2::text[]) AS s (id)
             LEFT JOIN LATERAL (SELECT true AS is_there FROM {} WHERE account_id = $1 AND id = s.id LIMIT 1) r ON true",
            self.name
        )
    }

    /// From the staging table into the table and the change log; `$1` is the vendor, `$2` the object.
    pub(super) fn upsert(&self) -> String {
        let line = self.line();
        let set: String = self.columns.iter().map(|c| format!(", {0} = excluded.{0}", quoted(&c.name))).collect();
        format!(
            "WITH written AS (
                 INSERT INTO {name} AS r ({line})
                 SELECT {line} FROM {staging}
                 ON CONFLICT (account_id, id) DO UPDATE
                 SET version_at = excluded.version_at, is_deleted = excluded.is_deleted,
                     extra_fields = excluded.extra_fields, content_hash = excluded.content_hash,
                     written_at = excluded.written_at, absent_at = NULL,
                     last_op = CASE WHEN r.is_deleted = excluded.is_deleted THEN 2
                                    WHEN excluded.is_deleted THEN 3 ELSE 4 END{set}
                 WHERE {guard}
                 RETURNING r.written_at, r.account_id, r.id, r.last_op, r.content_hash
             )
             INSERT INTO record_changes (at, account_id, vendor, object, record_id, op, content_hash)
             SELECT written_at, account_id, $1, $2, id, last_op, content_hash FROM written",
            name = self.name,
            staging = self.staging(),
            guard = GUARD.replace('%', "excluded"),
        )
    }

    /// Marks records `$5` of account `$4` as gone since `$3`, unless they changed after that.
    pub(super) fn delete(&self) -> String {
        format!(
            "WITH gone AS (
                 UPDATE {} SET is_deleted = true, absent_at = $3, last_op = 3, written_at = $6
                 WHERE account_id = $4 AND id = ANY($5) AND NOT is_deleted AND version_at <= $3
                 RETURNING id, content_hash
             )
             INSERT INTO record_changes (at, account_id, vendor, object, record_id, op, content_hash)
             SELECT $6, $4, $1, $2, id, 3, content_hash FROM gone",
            self.name
        )
    }
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

impl Store {
    /// The table of a vendor's object, made or widened to hold `wanted`. Columns that it cannot have are not in the
    /// answer: another type is there under that name, the name is none for a column, or the table is full. Their values
    /// belong into the record's extra fields.
    ///
    /// # Errors
    /// [`StoreError`]; `Conflict` when readers hold the table for too long: try again.
    pub async fn record_table(
        &self,
        vendor: &str,
        object: &str,
        wanted: &[RecordColumn],
    ) -> Result<RecordTable, StoreError> {
        let table = object.to_ascii_lowercase();
        if !is_identifier(&table) || !is_identifier(vendor) {
            return Err(StoreError::NoName { name: object.to_owned() });
        }
        let name = format!("{}.{}", quoted(vendor), quoted(&table));
        let possible: Vec<&RecordColumn> =
            wanted.iter().filter(|c| is_identifier(&c.name) && !OWN_NAMES.contains(&c.name.as_str())).collect();
        let mut conn = self.pool.acquire().await?;
        let mut found = columns_of(&mut conn, vendor, &table).await?;
        let is_current = OWN_NAMES.iter().all(|own| found.contains_key(*own));
        if !is_current || possible.iter().any(|column| !found.contains_key(&column.name)) {
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
        let has = |column: &RecordColumn| found.get(&column.name).is_some_and(|is| is == column.column_type.sql());
        let columns = possible.into_iter().filter(|column| has(column)).cloned().collect();
        Ok(RecordTable { vendor: vendor.to_owned(), object: object.to_owned(), name, columns })
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
    let own = OWN_LATER.iter().filter(|(name, _)| !found.contains_key(*name));
    let own = own.map(|(name, definition)| format!("ADD COLUMN IF NOT EXISTS {name} {definition}"));
    let room = COLUMNS_MAX.saturating_sub(found.len());
    let wanted = wanted
        .iter()
        .filter(|column| !found.contains_key(&column.name))
        .take(room)
        .map(|column| format!("ADD COLUMN IF NOT EXISTS {} {}", quoted(&column.name), column.column_type.sql()));
    let additions: Vec<String> = own.chain(wanted).collect();
    if !additions.is_empty() {
        let alter = format!("/* widen */ ALTER TABLE {name} {}", additions.join(", "));
        sqlx::query(AssertSqlSafe(alter)).execute(&mut *conn).await?;
    }
    Ok(())
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

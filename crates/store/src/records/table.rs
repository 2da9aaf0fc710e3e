//! A table of records as a writer sees it, and the text of the statements on it, which no macro can check: names come from
//! the vendor and are let in only as plain identifiers. Does not own how tables are made (`making`).

use xxhash_rust::xxh3::xxh3_64;

/// What may be written over: an older version, or another content of the same age, or what was believed gone when the
/// page was read later than that ($3). What is gone is not brought back by what was read before.
const GUARD: &str = "CASE WHEN r.absent_at IS NOT NULL THEN r.absent_at < $3
    ELSE r.version_at < %.version_at OR (r.version_at = %.version_at AND r.content_hash <> %.content_hash) END";

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
    pub(super) const fn sql(self) -> &'static str {
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

/// A field's column, as its writer thinks of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordColumn {
    /// The field's name, in lower case.
    pub name: String,
    /// The same as the vendor spells it: a value for which its row has no room lies among the extra fields under it.
    pub field: String,
    /// What its values are.
    pub column_type: ColumnType,
}

/// The column of the table in which a field's values lie: mostly one of its name, else the version of it for their type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) column_type: ColumnType,
}

/// A table of records and the columns of it that a writer fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordTable {
    pub(super) vendor: String,
    pub(super) object: String,
    pub(super) name: String,
    pub(super) columns: Vec<RecordColumn>,
    /// For each column.
    pub(super) places: Vec<Place>,
    /// There are more columns than any row is sure to have room for, whichever of them this writer fills.
    pub(super) is_wide: bool,
}

impl RecordTable {
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

    /// The same table for a writer who has values of these columns alone. A batch for it is no page of whole records: it is
    /// compared and patched, never written.
    #[must_use]
    pub fn narrowed(&self, names: &[&str]) -> Self {
        let kept = self.columns.iter().zip(&self.places).filter(|(column, _)| names.contains(&column.name.as_str()));
        let (columns, places) = kept.map(|(column, place)| (column.clone(), place.clone())).unzip();
        Self { columns, places, ..self.clone() }
    }

    /// The names of the columns in which the values lie.
    pub(super) fn places(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|place| place.name.as_str())
    }

    /// The temporary table of this connection for pages of this shape.
    pub(super) fn staging(&self) -> String {
        let shape: String = self.places.iter().map(|c| format!("{} {},", c.name, c.column_type.sql())).collect();
        format!("pg_temp.\"staging_{:016x}\"", xxh3_64(format!("{} {shape}", self.name).as_bytes()))
    }

    pub(super) fn create_staging(&self) -> String {
        let columns: String =
            self.places.iter().map(|c| format!(", {} {}", quoted(&c.name), c.column_type.sql())).collect();
        format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {} (account_id bigint, id text, version_at timestamptz, \
             is_deleted boolean{columns}, extra_fields jsonb, content_hash bigint, written_at timestamptz, \
             last_op smallint) ON COMMIT DELETE ROWS",
            self.staging().trim_start_matches("pg_temp.")
        )
    }

    /// The columns in the order in which a batch's lines have them.
    pub(super) fn line(&self) -> String {
        let columns: String = self.places().map(|place| format!(", {}", quoted(place))).collect();
        format!("account_id, id, version_at, is_deleted{columns}, extra_fields, content_hash, written_at, last_op")
    }

    pub(super) fn copy_to_staging(&self) -> String {
        format!("COPY {} ({}) FROM STDIN", self.staging(), self.line())
    }

    pub(super) fn copy(&self) -> String {
        format!("COPY {} ({}) FROM STDIN", self.name, self.line())
    }

    /// Which of the records `$2`, `$4`, `$5` (ids, versions, hashes) of account `$1` would be written, whether they are
    /// there, and whether the version is one that was not.
    pub(super) fn outdated(&self) -> String {
        format!(
            "SELECT s.place, r.id IS NOT NULL, r.id IS NULL OR r.version_at < s.version_at
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
        let set: String = self.places().map(|place| format!(", {0} = excluded.{0}", quoted(place))).collect();
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

    /// Whether any of the records `$2` of account `$1` is there, not deleted, and as old as `$3` at least.
    pub(super) fn any_to_delete(&self) -> String {
        format!(
            "SELECT EXISTS (SELECT FROM {} WHERE account_id = $1 AND id = ANY($2) AND NOT is_deleted AND version_at <= $3)",
            self.name
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

pub(super) fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

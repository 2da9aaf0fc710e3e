//! A page of records as COPY wants it, without an allocation for each value. Owns the content's hash, the order of rows and
//! the lines. Does not own how one value is written (`copy_text`), nor which text is right for a column's type.

use super::{
    ChangeOp, RecordTable,
    copy_text::{escape, push_number, push_time},
    wide::Wide,
};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use std::ops::Range;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// What a record that is deleted adds to its content's hash.
const DELETED: u64 = 0x9e37_79b9_7f4a_7c15;
/// Room that a line needs beyond its record, in bytes: the account, the time, the change.
const LINE_BYTES: usize = 64;

/// What every record has, whatever its object.
#[derive(Debug, Clone, Copy)]
pub struct RecordHead<'a> {
    /// The vendor's id.
    pub id: &'a str,
    /// When the vendor says it changed last; `None`: the vendor does not say, and only the content tells versions apart.
    pub version_at: Option<DateTime<Utc>>,
    /// In the vendor's recycle bin.
    pub is_deleted: bool,
}

#[derive(Debug)]
struct Row {
    /// Its bytes in `text`; the id comes first, up to the first tab.
    bytes: Range<usize>,
    id_end: usize,
    version_at: Option<DateTime<Utc>>,
    is_deleted: bool,
    hash: i64,
    /// As far as is known, the table has no such version yet.
    is_fresh: bool,
}

/// A page of records, or a piece of one, on its way to one table.
#[derive(Debug)]
pub struct RecordBatch {
    text: Vec<u8>,
    rows: Vec<Row>,
    /// One for each column. The hash is a sum over the values that are there, each with its column's name, so that
    /// neither the columns' order nor a new column without a value makes another content.
    seeds: Vec<u64>,
    /// For each column, how many records have no value.
    nulls: Vec<u64>,
    /// Where a record may be too much for a row.
    wide: Option<Wide>,
}

/// A record being added; dropped before its end, it was never there.
#[derive(Debug)]
pub struct RecordWriter<'b> {
    batch: &'b mut RecordBatch,
    start: usize,
    id_end: usize,
    version_at: Option<DateTime<Utc>>,
    is_deleted: bool,
    hash: u64,
    cells: usize,
    is_done: bool,
}

impl RecordBatch {
    /// An empty one for `table`.
    #[must_use]
    pub fn new(table: &RecordTable) -> Self {
        let seeds: Vec<u64> = table.places().map(|place| xxh3_64(place.as_bytes())).collect();
        let nulls = vec![0; seeds.len()];
        Self { text: Vec::new(), rows: Vec::new(), seeds, nulls, wide: Wide::of(table) }
    }

    /// An empty one for `table` with room for so many bytes, so that it does not have to grow.
    #[must_use]
    pub fn with_capacity(table: &RecordTable, bytes: usize) -> Self {
        Self { text: Vec::with_capacity(bytes), ..Self::new(table) }
    }

    /// The same, emptied, for the next records of the same table: its room stays.
    #[must_use]
    pub fn emptied(mut self) -> Self {
        self.text.clear();
        self.rows.clear();
        self.nulls.fill(0);
        self
    }

    /// Begins a record; its cells follow in the order of the table's columns.
    pub fn begin(&mut self, head: &RecordHead<'_>) -> RecordWriter<'_> {
        let start = self.text.len();
        escape(&mut self.text, head.id);
        let id_end = self.text.len();
        self.text.push(b'\t');
        match head.version_at {
            Some(at) => push_time(&mut self.text, at),
            None => self.text.extend_from_slice(b"-infinity"),
        }
        self.text.extend_from_slice(if head.is_deleted { b"\tt" } else { b"\tf" });
        RecordWriter {
            batch: self,
            start,
            id_end,
            version_at: head.version_at,
            is_deleted: head.is_deleted,
            hash: if head.is_deleted { DELETED } else { 0 },
            cells: 0,
            is_done: false,
        }
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// How many bytes they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// The oldest version in it. Once it has been written, what is in it is what changed something.
    #[must_use]
    pub fn oldest_version(&self) -> Option<DateTime<Utc>> {
        self.rows.iter().filter_map(|row| row.version_at).min()
    }

    fn id(&self, row: &Row) -> &[u8] {
        &self.text[row.bytes.start..row.id_end]
    }

    /// Orders rows by id, so that no two transactions lock the same rows in different orders, and keeps of each id the
    /// newest version: one upsert may meet a row only once. Of equally new ones the one that came last stays.
    pub(super) fn put_in_order(&mut self) {
        let Self { text, rows, .. } = self;
        let id = |row: &Row| &text[row.bytes.start..row.id_end];
        rows.sort_by(|a, b| {
            id(a).cmp(id(b)).then(b.version_at.cmp(&a.version_at)).then(b.bytes.start.cmp(&a.bytes.start))
        });
        rows.dedup_by(|later, first| id(later) == id(first));
    }

    /// The ids, as they came.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(|row| str::from_utf8(self.id(row)).unwrap_or_default())
    }

    /// For each column, how many records were added without a value.
    pub(super) fn nulls(&self) -> &[u64] {
        &self.nulls
    }

    /// The versions that the table did not have: when each is of, and whether it is deleted.
    pub(super) fn fresh(&self) -> impl Iterator<Item = (Option<DateTime<Utc>>, bool)> {
        self.rows.iter().filter(|row| row.is_fresh).map(|row| (row.version_at, row.is_deleted))
    }

    /// Notes of each row, in order, whether its version is fresh.
    pub(super) fn note_fresh(&mut self, fresh: impl Iterator<Item = bool>) {
        self.rows.iter_mut().zip(fresh).for_each(|(row, is_fresh)| row.is_fresh = is_fresh);
    }

    /// Which are deleted, in order.
    pub(super) fn deleted(&self) -> Vec<bool> {
        self.rows.iter().map(|row| row.is_deleted).collect()
    }

    /// What the values of one record that is not in the batch add to its hash, given as they would be pushed.
    pub(super) fn hash_of<'c>(&self, cells: impl Iterator<Item = Option<&'c str>>, is_deleted: bool) -> i64 {
        let hash = cells.zip(&self.seeds).filter_map(|(cell, seed)| Some((cell?, seed)));
        let hash = hash.fold(if is_deleted { DELETED } else { 0 }, |hash: u64, (cell, seed)| {
            hash.wrapping_add(xxh3_64_with_seed(cell.as_bytes(), *seed))
        });
        hash.cast_signed()
    }

    /// Gives each row another hash.
    pub(super) fn set_hashes(&mut self, hashes: &[i64]) {
        self.rows.iter_mut().zip(hashes).for_each(|(row, hash)| row.hash = *hash);
    }

    /// Keeps the rows at these places, which ascend.
    pub(super) fn keep(&mut self, places: &[usize]) {
        let mut at = 0;
        let mut wanted = places.iter().copied().peekable();
        self.rows.retain(|_| {
            let is_wanted = wanted.next_if_eq(&at).is_some();
            at += 1;
            is_wanted
        });
    }

    /// The ids, versions and hashes of every `step`th row. Ids that hold what COPY escapes come escaped; they are none of
    /// any vendor's, are not found, and so get written, which is right if slow.
    #[expect(clippy::type_complexity, reason = "three columns of one unnest")]
    pub(super) fn versions(&self, step: usize) -> (Vec<&str>, Vec<Option<DateTime<Utc>>>, Vec<i64>) {
        let rows = || self.rows.iter().step_by(step.max(1));
        let ids = rows().map(|row| str::from_utf8(self.id(row)).unwrap_or_default()).collect();
        (ids, rows().map(|row| row.version_at).collect(), rows().map(|row| row.hash).collect())
    }

    /// The rows in their order as lines of `COPY`: the account first, then what was pushed, the hash, the time of
    /// writing and the change, in pieces of about `bytes_max`.
    pub(super) fn lines(&self, account: i64, at: DateTime<Utc>, bytes_max: usize) -> impl Iterator<Item = Vec<u8>> {
        let before = format!("{account}\t").into_bytes();
        let mut between = vec![b'\t'];
        push_time(&mut between, at);
        between.push(b'\t');
        self.pieces(bytes_max, move |text, row, line| {
            line.extend_from_slice(&before);
            line.extend_from_slice(&text[row.bytes.clone()]);
            line.push(b'\t');
            push_number(line, row.hash);
            line.extend_from_slice(&between);
            push_number(line, i64::from(row.first_op().code()));
        })
    }

    /// The rows' entries in the change log, as lines of `COPY`; `before` is what all have in common.
    pub(super) fn changes(&self, before: Vec<u8>, bytes_max: usize) -> impl Iterator<Item = Vec<u8>> {
        self.pieces(bytes_max, move |text, row, line| {
            line.extend_from_slice(&before);
            line.extend_from_slice(&text[row.bytes.start..row.id_end]);
            line.push(b'\t');
            push_number(line, i64::from(row.first_op().code()));
            line.push(b'\t');
            push_number(line, row.hash);
        })
    }

    fn pieces(&self, bytes_max: usize, write: impl Fn(&[u8], &Row, &mut Vec<u8>)) -> impl Iterator<Item = Vec<u8>> {
        let mut rows = self.rows.iter();
        std::iter::from_fn(move || {
            let mut piece = Vec::with_capacity(bytes_max + bytes_max / 8);
            for row in rows.by_ref() {
                write(&self.text, row, &mut piece);
                piece.push(b'\n');
                if piece.len() + LINE_BYTES >= bytes_max {
                    break;
                }
            }
            (!piece.is_empty()).then_some(piece)
        })
    }
}

impl Row {
    /// What its first sight is in the change log.
    const fn first_op(&self) -> ChangeOp {
        if self.is_deleted { ChangeOp::Delete } else { ChangeOp::Insert }
    }
}

impl RecordWriter<'_> {
    /// Adds the next column's text, `None` for NULL.
    pub fn cell(&mut self, cell: Option<&str>) {
        self.batch.text.push(b'\t');
        match cell {
            Some(text) => {
                let seed = self.batch.seeds.get(self.cells).copied().unwrap_or_default();
                self.hash = self.hash.wrapping_add(xxh3_64_with_seed(text.as_bytes(), seed));
                escape(&mut self.batch.text, text);
            }
            None => {
                self.batch.text.extend_from_slice(b"\\N");
                if let Some(nulls) = self.batch.nulls.get_mut(self.cells) {
                    *nulls += 1;
                }
            }
        }
        self.cells += 1;
    }

    /// Ends the record with its values that have no column, texts by their fields' names.
    pub fn finish(mut self, extra: &Map<String, Value>) {
        for (name, value) in extra {
            let seed = xxh3_64(name.to_ascii_lowercase().as_bytes());
            let text = value.as_str().unwrap_or_default();
            self.hash = self.hash.wrapping_add(xxh3_64_with_seed(text.as_bytes(), seed));
        }
        let RecordBatch { text, wide, .. } = &mut *self.batch;
        // In the hash they are already: it is of the content, wherever that lies.
        let mut beside = wide.as_ref().map(|wide| wide.make_room(text, self.start)).unwrap_or_default();
        if !beside.is_empty() {
            beside.extend(extra.clone());
        }
        text.push(b'\t');
        match if beside.is_empty() { extra } else { &beside } {
            none if none.is_empty() => text.extend_from_slice(b"\\N"),
            some => escape(text, &serde_json::to_string(some).unwrap_or_default()),
        }
        let bytes = self.start..self.batch.text.len();
        let Self { id_end, version_at, is_deleted, .. } = self;
        self.batch.rows.push(Row {
            bytes,
            id_end,
            version_at,
            is_deleted,
            hash: self.hash.cast_signed(),
            is_fresh: true,
        });
        self.is_done = true;
    }
}

impl Drop for RecordWriter<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.batch.text.truncate(self.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [&str; 2] = ["name", "other"];

    fn batch(columns: &[&str]) -> RecordBatch {
        let seeds = columns.iter().map(|name| xxh3_64(name.as_bytes())).collect();
        RecordBatch { text: Vec::new(), rows: Vec::new(), seeds, nulls: vec![0; columns.len()], wide: None }
    }

    fn push(batch: &mut RecordBatch, id: &str, version: i64, cells: &[Option<&str>]) {
        let head = RecordHead { id, version_at: DateTime::from_timestamp(version, 0), is_deleted: false };
        let mut row = batch.begin(&head);
        cells.iter().for_each(|cell| row.cell(*cell));
        row.finish(&Map::new());
    }

    fn lines(batch: &RecordBatch) -> Vec<Vec<String>> {
        let lines = batch
            .lines(7, DateTime::UNIX_EPOCH, 100)
            .flat_map(|piece| String::from_utf8(piece).unwrap().lines().map(str::to_owned).collect::<Vec<_>>());
        lines.map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    }

    #[test]
    fn text_survives_the_format() {
        let mut batch = batch(&COLUMNS);
        push(&mut batch, "b", 1, &[Some("a\tb\\N\r\nc"), Some("\\N")]);
        push(&mut batch, "c", 1, &[None, None]);
        let lines = lines(&batch);
        let wanted = ["7", "b", "1970-01-01T00:00:01.000000Z", "f", "a\\tb\\\\N\\r\\nc", "\\\\N", "\\N"];
        assert_eq!(lines[0][..7], wanted);
        assert_eq!(lines[0][8..], ["1970-01-01T00:00:00.000000Z", "1"]);
        assert_eq!(lines[1][4..7], ["\\N", "\\N", "\\N"]);
    }

    #[test]
    fn a_page_holds_each_id_once_newest_first_in_order() {
        let mut batch = batch(&COLUMNS);
        for (id, version, name) in
            [("b", 1, "old"), ("a", 5, "a"), ("b", 3, "new"), ("b", 2, "older"), ("a", 5, "a again")]
        {
            push(&mut batch, id, version, &[Some(name), None]);
        }
        batch.put_in_order();
        let names: Vec<String> = lines(&batch).iter().map(|line| line[4].clone()).collect();
        assert_eq!(names, ["a again", "new"]);
        batch.keep(&[1]);
        assert_eq!(lines(&batch)[0][4], "new");
    }

    #[test]
    fn a_record_that_is_given_up_leaves_nothing() {
        let mut batch = batch(&COLUMNS);
        let mut row = batch.begin(&RecordHead { id: "a", version_at: None, is_deleted: true });
        row.cell(Some("half"));
        drop(row);
        assert!(batch.is_empty() && batch.bytes() == 0);
    }

    #[test]
    fn the_hash_is_of_the_content_alone() {
        let hash = |columns: &[&str], cells: &[Option<&str>]| {
            let mut batch = batch(columns);
            push(&mut batch, "a", 1, cells);
            batch.rows[0].hash
        };
        let same = hash(&COLUMNS, &[Some("1"), Some("2")]);
        assert_eq!(same, hash(&["other", "name"], &[Some("2"), Some("1")]), "in whatever order the columns come");
        assert_eq!(same, hash(&["name", "other", "new"], &[Some("1"), Some("2"), None]), "with a column more");
        assert_ne!(same, hash(&COLUMNS, &[Some("2"), Some("1")]));
        assert_ne!(same, hash(&COLUMNS, &[Some("1"), None]));
        let mut moved = batch(&["name"]);
        let mut row = moved.begin(&RecordHead { id: "a", version_at: None, is_deleted: false });
        row.cell(Some("1"));
        row.finish(&Map::from_iter([("Other".to_owned(), "2".into())]));
        assert_eq!(same, moved.rows[0].hash, "wherever a value lies");
    }
}

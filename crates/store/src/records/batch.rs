//! A page of records as COPY wants it (PostgreSQL, COPY, "Text Format"), without an allocation for each value.
//! Owns escaping, the content's hash and the order of rows. Does not own which text is right for a column's type.

use chrono::{DateTime, SecondsFormat, Utc};
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

/// What every record has, whatever its object.
#[derive(Debug, Clone)]
pub struct RecordHead<'a> {
    /// The vendor's id.
    pub id: &'a str,
    /// When the vendor says it changed last; `None`: the vendor does not say, and only the content tells versions apart.
    pub version_at: Option<DateTime<Utc>>,
    /// In the vendor's recycle bin.
    pub is_deleted: bool,
    /// Values without a column, as a JSON object.
    pub extra: Option<&'a str>,
}

#[derive(Debug)]
struct Row {
    /// Its bytes in `text`; the id comes first, up to the first tab.
    bytes: Range<usize>,
    id_end: usize,
    version_micros: i64,
}

/// A page of records on its way to one table.
#[derive(Debug, Default)]
pub struct RecordBatch {
    text: Vec<u8>,
    rows: Vec<Row>,
}

impl RecordBatch {
    /// Adds a record; `cells` are texts in the order of the table's columns, `None` for NULL.
    pub fn push<'c>(&mut self, head: &RecordHead<'_>, cells: impl Iterator<Item = Option<&'c str>>) {
        let start = self.text.len();
        escape(&mut self.text, head.id);
        let id_end = self.text.len();
        self.text.push(b'\t');
        match head.version_at {
            Some(at) => self.text.extend_from_slice(at.to_rfc3339_opts(SecondsFormat::Micros, true).as_bytes()),
            None => self.text.extend_from_slice(b"-infinity"),
        }
        self.text.push(b'\t');
        let content = self.text.len();
        self.text.push(if head.is_deleted { b't' } else { b'f' });
        self.cell(head.extra);
        for cell in cells {
            self.cell(cell);
        }
        let hash = xxh3_64(&self.text[content..]).cast_signed();
        self.text.push(b'\t');
        self.text.extend_from_slice(hash.to_string().as_bytes());
        self.text.push(b'\n');
        let version_micros = head.version_at.map_or(i64::MIN, |at| at.timestamp_micros());
        self.rows.push(Row { bytes: start..self.text.len(), id_end, version_micros });
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

    fn cell(&mut self, cell: Option<&str>) {
        self.text.push(b'\t');
        match cell {
            Some(text) => escape(&mut self.text, text),
            None => self.text.extend_from_slice(b"\\N"),
        }
    }

    /// Orders rows by id, so that no two transactions lock the same rows in different orders, and keeps of each id the
    /// newest version: one upsert may meet a row only once. Of equally new ones the one that came last stays.
    pub(super) fn put_in_order(&mut self) {
        let Self { text, rows } = self;
        let id = |row: &Row| &text[row.bytes.start..row.id_end];
        rows.sort_by(|a, b| {
            id(a).cmp(id(b)).then(b.version_micros.cmp(&a.version_micros)).then(b.bytes.start.cmp(&a.bytes.start))
        });
        rows.dedup_by(|later, first| id(later) == id(first));
    }

    /// The rows in their order, in pieces of about `bytes_max`.
    pub(super) fn chunks(&self, bytes_max: usize) -> impl Iterator<Item = Vec<u8>> {
        let mut rows = self.rows.iter();
        std::iter::from_fn(move || {
            let mut chunk = Vec::new();
            for row in rows.by_ref() {
                chunk.extend_from_slice(&self.text[row.bytes.clone()]);
                if chunk.len() >= bytes_max {
                    break;
                }
            }
            (!chunk.is_empty()).then_some(chunk)
        })
    }
}

fn escape(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r')) {
        out.extend_from_slice(&rest[..at]);
        out.push(b'\\');
        out.push(match rest[at] {
            b'\t' => b't',
            b'\n' => b'n',
            b'\r' => b'r',
            other => other,
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(id: &str, version: Option<i64>) -> RecordHead<'_> {
        let version_at = version.and_then(|secs| DateTime::from_timestamp(secs, 0));
        RecordHead { id, version_at, is_deleted: false, extra: None }
    }

    fn lines(batch: &RecordBatch) -> Vec<String> {
        batch
            .chunks(7)
            .flat_map(|chunk| String::from_utf8(chunk).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }

    #[test]
    fn text_survives_the_format() {
        let mut batch = RecordBatch::default();
        batch.push(&head("b", Some(0)), [Some("a\tb\\N\r\nc"), None, Some("\\N")].into_iter());
        let line = &lines(&batch)[0];
        assert!(line.starts_with("b\t1970-01-01T00:00:00.000000Z\tf\t\\N\ta\\tb\\\\N\\r\\nc\t\\N\t\\\\N\t"), "{line}");
    }

    #[test]
    fn a_page_holds_each_id_once_newest_first_in_order() {
        let mut batch = RecordBatch::default();
        for (id, version, name) in
            [("b", 1, "old"), ("a", 5, "a"), ("b", 3, "new"), ("b", 2, "older"), ("a", 5, "a again")]
        {
            batch.push(&head(id, Some(version)), [Some(name)].into_iter());
        }
        batch.put_in_order();
        let names: Vec<String> = lines(&batch).iter().map(|line| line.split('\t').nth(4).unwrap().to_owned()).collect();
        assert_eq!(names, ["a again", "new"]);
    }

    #[test]
    fn the_hash_is_of_the_content_alone() {
        let mut batch = RecordBatch::default();
        batch.push(&head("a", Some(1)), [Some("same")].into_iter());
        batch.push(&head("b", Some(2)), [Some("same")].into_iter());
        batch.push(&head("c", Some(2)), [Some("other")].into_iter());
        let hashes: Vec<String> =
            lines(&batch).iter().map(|line| line.rsplit('\t').next().unwrap().to_owned()).collect();
        assert_eq!(hashes[0], hashes[1]);
        assert_ne!(hashes[0], hashes[2]);
    }
}

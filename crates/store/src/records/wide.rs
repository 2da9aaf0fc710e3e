//! What a row of PostgreSQL can hold. It has to fit into a page of 8 KB; what is long lies outside it, but each value that
//! does leaves a pointer behind, and what is short stays. So a record that fills hundreds of fields may be too much, and
//! then its last texts lie among its extra fields, which are one value. Owns which ones. Does not own where they are read.

use super::table::{ColumnType, Place, RecordColumn, RecordTable};
use serde_json::{Map, Value};

/// Bytes for the values of a row: a page's 8,160, without the head of a row of 1,200 columns and every table's own columns.
const ROOM_BYTES: usize = 7_800;
/// The most that one value takes of it: what PostgreSQL compresses to less than 24 bytes stays where it is, aligned.
const VALUE_BYTES_MAX: usize = 27;
/// What does not get that small lies outside, behind a pointer.
const POINTER_BYTES: usize = 19;
/// A text that compresses so far has few different bytes: each is written once at least.
const FEW_BYTES: u32 = 16;
/// What stands before the values in a record's line: id, version, deletion.
const HEAD_CELLS: usize = 3;

/// The columns of a table with more of them than any row is sure to have room for.
#[derive(Debug)]
pub(super) struct Wide {
    /// What each takes at its place, and under which name its value is an extra field.
    columns: Vec<(ColumnType, String)>,
}

impl Wide {
    /// None where whatever the columns hold fits.
    pub(super) fn of(table: &RecordTable) -> Option<Self> {
        let of = |(place, column): (&Place, &RecordColumn)| (place.column_type, column.field.clone());
        table.is_wide().then(|| Self { columns: table.places.iter().zip(&table.columns).map(of).collect() })
    }

    /// Takes out of the line that begins at `start`, and ends with its last value, the values that it has no room for.
    /// Answers with these, by their fields' names.
    pub(super) fn make_room(&self, text: &mut Vec<u8>, start: usize) -> Map<String, Value> {
        let mut beside = Map::new();
        let line = &text[start..];
        let cells: Vec<&[u8]> = line.split(|byte| *byte == b'\t').skip(HEAD_CELLS).collect();
        let costs: Vec<usize> =
            cells.iter().zip(&self.columns).map(|(cell, (column_type, _))| cost(cell, *column_type)).collect();
        let mut bytes: usize = costs.iter().sum();
        if bytes <= ROOM_BYTES {
            return beside;
        }
        let is_text = |place: &usize| self.columns.get(*place).is_some_and(|(is, _)| *is == ColumnType::Text);
        // Numbers and times are worth more where they are.
        let (texts, others): (Vec<usize>, Vec<usize>) = (0..costs.len()).rev().partition(is_text);
        let mut is_beside = vec![false; cells.len()];
        for place in texts.into_iter().chain(others) {
            if bytes <= ROOM_BYTES {
                break;
            }
            if costs[place] > 0 {
                bytes -= costs[place];
                is_beside[place] = true;
            }
        }
        let head: usize = line.split(|byte| *byte == b'\t').take(HEAD_CELLS).map(|cell| cell.len() + 1).sum();
        let mut kept = Vec::with_capacity(line.len());
        for ((cell, is_beside), (_, field)) in cells.iter().zip(&is_beside).zip(&self.columns) {
            kept.push(b'\t');
            if *is_beside {
                kept.extend_from_slice(b"\\N");
                beside.insert(field.clone(), unescaped(cell).into());
            } else {
                kept.extend_from_slice(cell);
            }
        }
        text.truncate(start + head - 1);
        text.append(&mut kept);
        beside
    }
}

impl RecordTable {
    /// Whether it has more columns than any row is sure to have room for: some of a record's values may then lie among its
    /// extra fields, and to change one is to write the record whole.
    #[must_use]
    pub const fn is_wide(&self) -> bool {
        self.is_wide
    }

    /// The same of a number of columns.
    pub(super) const fn are_many(columns: usize) -> bool {
        columns * VALUE_BYTES_MAX > ROOM_BYTES
    }
}

/// The most that a value takes in its row, in bytes, by how it is written for COPY.
fn cost(cell: &[u8], column_type: ColumnType) -> usize {
    match column_type {
        _ if cell == b"\\N" => 0,
        ColumnType::Boolean => 1,
        ColumnType::Date => 7,
        // Aligned to eight bytes.
        ColumnType::Bigint | ColumnType::Timestamptz | ColumnType::Time => 15,
        ColumnType::Numeric => (cell.len() / 2 + 7).min(VALUE_BYTES_MAX),
        ColumnType::Text if cell.len() < POINTER_BYTES + 5 => cell.len() + 1,
        // It is shorter than it is written.
        ColumnType::Text if cell.contains(&b'\\') => VALUE_BYTES_MAX,
        ColumnType::Text => {
            let mut seen = [0_u64; 4];
            for byte in cell {
                seen[usize::from(byte >> 6)] |= 1 << (byte & 63);
            }
            let different: u32 = seen.iter().map(|bits| bits.count_ones()).sum();
            if different <= FEW_BYTES { VALUE_BYTES_MAX } else { POINTER_BYTES }
        }
    }
}

/// The text that was written for COPY.
fn unescaped(cell: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(cell.len());
    let mut rest = cell.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b't') => b'\t',
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                other => other.copied().unwrap_or(b'\\'),
            },
            other => *other,
        });
    }
    // It was a text, and is none the less for it.
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::copy_text::escape;

    #[test]
    fn what_is_moved_is_what_was_written() {
        for text in ["", "a", "a\tb\\N\r\nc\\", "ü\\t"] {
            let mut written = Vec::new();
            escape(&mut written, text);
            assert_eq!(unescaped(&written), text);
        }
    }

    #[test]
    fn a_line_loses_its_last_texts_and_no_more_than_has_to_go() {
        let columns: Vec<(ColumnType, String)> = (0..600)
            .map(|at| (if at % 2 == 0 { ColumnType::Text } else { ColumnType::Bigint }, format!("F{at}")))
            .collect();
        let wide = Wide { columns };
        let line = |text: &str| {
            let mut line = b"before\n003\t2024\tf".to_vec();
            for at in 0..600 {
                line.push(b'\t');
                escape(&mut line, if at % 2 == 0 { text } else { "7" });
            }
            line
        };
        let mut narrow = line("a\\b");
        assert!(wide.make_room(&mut narrow, 7).is_empty());
        assert_eq!(narrow, line("a\\b"));
        let mut long = line("a\tlonger text, of many letters: quick brown fox");
        let beside = wide.make_room(&mut long, 7);
        assert!(beside.len() > 100 && beside.len() < 300, "{}", beside.len());
        assert!(beside.iter().all(|(_, text)| text == "a\tlonger text, of many letters: quick brown fox"));
        assert!(beside.contains_key("F598") && !beside.contains_key("F0") && !beside.contains_key("F599"));
        let text = String::from_utf8(long).unwrap();
        let cells: Vec<&str> = text.split('\t').collect();
        assert_eq!((cells[0], cells.len()), ("before\n003", 603));
        assert_eq!((cells[3 + 598], cells[3 + 599]), ("\\N", "7"));
    }
}

//! What turns a vendor's records into rows, open to whatever bytes come: a page of CSV, a record in JSON. A fuzzer (`fuzz/`)
//! and the tests run the same functions. Owns what must hold: every record is a row or damaged with a reason, and nobody
//! else's; how a page is cut into pieces on its way makes no difference.

use crate::{csv::CsvPage, layout::Layout};
use serde_json::value::RawValue;
use std::io::{self, Read};
use store::{RecordBatch, RecordTable};

/// Something that is read.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: that of the fuzzer's program.
    pub name: &'static str,
    /// Reads bytes, and panics if what becomes of them is not as it must be.
    pub run: fn(&[u8]),
    /// True input.
    pub examples: &'static [&'static str],
}

/// All of them.
pub const TARGETS: [Target; 2] = [
    Target {
        name: "csv_page",
        run: csv_page,
        examples: &[
            "\"Id\",\"SystemModstamp\",\"IsDeleted\",\"Name\",\"Amount\",\"Count\",\"Day\",\"At\",\"Time\",\"Owner\",\"account_id\"\n\
             \"001D000000IRFmaIAH\",\"2024-09-24T03:26:07.000Z\",\"false\",\"say \"\"so\"\",\nNA\",\"1.39E8\",\"7.0\",\"2024-02-29\",\"2024-09-24T03:26:07.000Z\",\"08:30:00.000Z\",\"005000000000001AAA\",\"x\"\n\
             \"001D000000IRFmbIAH\",\"2024-09-24T03:26:07.000Z\",\"true\",\"\",\"\",\"\",\"\",\"\",\"\",\"\",\"\"\n",
            "Id,SystemModstamp,IsDeleted,Name,Amount,Count,Day,At,Time,Owner,account_id\r\n\
             001D000000IRFma,2024-09-24T03:26:07.000Z,false,é日本 ✅,-0.50,12,2024-02-29,,,,\r\n",
        ],
    },
    Target {
        name: "record_json",
        run: record_json,
        examples: &[
            r#"{"attributes":{"type":"X","url":"/x"},"Id":"001D000000IRFma","SystemModstamp":"2024-09-24T03:26:07.000+0000","IsDeleted":false,"Name":"a\n\"b\" \u00e9","Amount":139000000.10,"Count":7.0,"Day":"2024-02-29","At":"2024-09-24T03:26:07.000+0000","Time":"08:30:00.000Z","Owner":"005000000000001AAA","account_id":"x"}"#,
            r#"{"Id":"001D000000IRFmaIAH","SystemModstamp":"2024-09-24T03:26:07.000Z","IsDeleted":true,"Name":null,"Amount":null,"Count":null,"Day":null,"At":null,"Time":null,"Owner":null,"account_id":null}"#,
            r#"{"Id":"001D\u0000IRFmaIAH","SystemModstamp":"2024-09-24T03:26:07.000Z","Name":"no id that can be stored"}"#,
        ],
    },
];

/// A field of each kind; the name of the last one is a column's already, so that it lies among the extra fields.
const FIELDS: [(&str, &str); 11] = [
    ("Id", "id"),
    ("SystemModstamp", "datetime"),
    ("IsDeleted", "boolean"),
    ("Name", "string"),
    ("Amount", "currency"),
    ("Count", "int"),
    ("Day", "date"),
    ("At", "datetime"),
    ("Time", "time"),
    ("Owner", "reference"),
    ("account_id", "string"),
];

fn layout() -> (Layout, RecordTable) {
    let field = |(name, field_type): (&str, &str)| salesforce::Field {
        name: name.to_owned(),
        field_type: field_type.to_owned(),
        nillable: true,
        length: 0,
        precision: 0,
        scale: 0,
        calculated: false,
        compound: false,
    };
    let describe = salesforce::Describe { name: "X".to_owned(), fields: FIELDS.map(field).to_vec() };
    let mut layout = Layout::of(&describe);
    let table = RecordTable::planned("salesforce", "X", &layout.wanted()).expect("both are names");
    layout.bind(&table);
    (layout, table)
}

/// Gives out a few bytes at a time, or all at once.
struct Slowly<'b> {
    bytes: &'b [u8],
    step: usize,
}

impl Read for Slowly<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.step.min(to.len()).min(self.bytes.len());
        let (now, later) = self.bytes.split_at(count);
        to[..count].copy_from_slice(now);
        self.bytes = later;
        Ok(count)
    }
}

/// The records of a page and its damage, as it comes in steps of some bytes; none: its header is refused.
fn read(bytes: &[u8], step: usize) -> Option<(usize, Vec<store::Quarantined>)> {
    let (layout, table) = layout();
    let mut slowly = Slowly { bytes, step };
    let mut page = CsvPage::new(&layout, &table, &mut slowly);
    let (mut records, mut damaged) = (0, Vec::new());
    loop {
        match page.next_piece(None) {
            Ok(Some(piece)) => {
                records += piece.batch.len();
                damaged.extend(piece.damaged);
            }
            Ok(None) => return Some((records, damaged)),
            Err(_) => return None,
        }
    }
}

fn csv_page(bytes: &[u8]) {
    let whole = read(bytes, usize::MAX);
    assert_eq!(whole, read(bytes, 7), "what is read depends on how it comes");
    let Some((_, damaged)) = whole else { return };
    let held: usize = damaged.iter().map(|record| record.body.len()).sum();
    assert!(held <= bytes.len(), "more is held back than came");
    for record in damaged {
        assert!(!record.reason.is_empty() && !record.body.is_empty(), "{record:?}");
        assert!(record.record_id.is_none_or(|id| !id.contains('\0')));
        let is_part = bytes.windows(record.body.len()).any(|part| part == record.body);
        assert!(is_part, "the bytes of a damaged record are not those that came");
    }
}

fn record_json(bytes: &[u8]) {
    let Ok(record) = serde_json::from_slice::<Box<RawValue>>(bytes) else { return };
    let (layout, table) = layout();
    let mut batch = RecordBatch::new(&table);
    match layout.read(&record, &mut batch) {
        Ok(()) => assert_eq!(batch.len(), 1),
        Err(damaged) => {
            assert_eq!((batch.len(), batch.bytes()), (0, 0), "a damaged record leaves something behind");
            assert!(!damaged.reason.is_empty());
            assert_eq!(damaged.body, record.get().as_bytes(), "it is not held whole");
            assert!(damaged.record_id.is_none_or(|id| !id.contains('\0')), "PostgreSQL stores no NUL");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs for each target.
    const INPUTS: u64 = 3_000;

    #[test]
    fn whatever_comes_is_a_row_or_damaged() {
        for target in TARGETS {
            testkit::spoil_each(target.name, target.examples, INPUTS, target.run);
        }
    }

    #[test]
    fn the_examples_are_whole() {
        for example in TARGETS[0].examples {
            let (records, damaged) = read(example.as_bytes(), usize::MAX).unwrap();
            assert!(records > 0 && damaged.is_empty(), "{damaged:?}");
        }
    }
}

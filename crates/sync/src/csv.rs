//! A page of Bulk API 2.0 as batches of rows: the header says where each field is, the layout what its values become.
//! Owns how a page is read piece by piece, so that memory does not grow with the page. Does not own where records end (`split`).

use crate::{
    SyncError,
    layout::Layout,
    split::{self, Span, Step},
    value::{Reading, instant},
};
use serde_json::Map;
use std::{borrow::Cow, collections::HashMap, io::Read};
use store::{Quarantined, RecordBatch, RecordHead, RecordTable};

/// Bytes read at once.
const READ_BYTES: usize = 1024 * 1024;
/// Bytes of rows in a piece: PostgreSQL keeps a temporary table of this size in memory (`temp_buffers`, 8 MB), and of each
/// page that is written three are in ours: one that is read, one that waits, one that is written.
const PIECE_BYTES: usize = 4 * 1024 * 1024;
/// What the last record of a piece may add to it without its having to grow.
const RECORD_ROOM_BYTES: usize = 64 * 1024;
/// UTF-8's mark of byte order, which some proxies put in front.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Rows of a page, and what of it cannot be stored.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) batch: RecordBatch,
    pub(crate) damaged: Vec<Quarantined>,
}

/// A value that is read: where it stands in a record, and as what.
#[derive(Debug, Clone, Copy)]
struct From {
    place: usize,
    field: usize,
    reading: Reading,
}

/// Where a record's values go, by its page's header.
#[derive(Debug)]
struct Plan {
    values: usize,
    id: usize,
    version: Option<usize>,
    is_deleted: Option<usize>,
    /// For each column of the table.
    cells: Vec<Option<From>>,
    extra: Vec<From>,
}

/// A page being read.
pub(crate) struct CsvPage<'p> {
    layout: &'p Layout,
    table: &'p RecordTable,
    from: &'p mut dyn Read,
    bytes: Vec<u8>,
    at: usize,
    known: usize,
    is_end: bool,
    spans: Vec<Span>,
    plan: Option<Plan>,
}

impl<'p> CsvPage<'p> {
    pub(crate) fn new(layout: &'p Layout, table: &'p RecordTable, from: &'p mut dyn Read) -> Self {
        let bytes = vec![0; READ_BYTES];
        Self { layout, table, from, bytes, at: 0, known: 0, is_end: false, spans: Vec::new(), plan: None }
    }

    /// The next rows, in `used` where there is one, emptied: pages are many, and so is what they need. `None` after the last.
    ///
    /// # Errors
    /// `Spool` when the page cannot be read on, `Page` when its header is not what was asked for.
    pub(crate) fn next_piece(&mut self, used: Option<RecordBatch>) -> Result<Option<Piece>, SyncError> {
        let fresh = || RecordBatch::with_capacity(self.table, PIECE_BYTES + RECORD_ROOM_BYTES);
        let mut piece = Piece { batch: used.map_or_else(fresh, RecordBatch::emptied), damaged: Vec::new() };
        let mut damaged_bytes = 0;
        while piece.batch.bytes() + damaged_bytes < PIECE_BYTES {
            let values = self.plan.as_ref().map(|plan| plan.values);
            match split::next(&self.bytes[..self.known], self.at, self.is_end, values, &mut self.spans) {
                Step::Record { end } => {
                    let raw = self.at..end;
                    self.at = end;
                    match &self.plan {
                        None => self.plan = Some(self.header(raw)?),
                        Some(plan) => {
                            let read = Record::of(&self.bytes, raw.clone(), &self.spans, plan.id)
                                .and_then(|record| record.read(self.layout, plan, &mut piece.batch));
                            if let Err(refused) = read {
                                damaged_bytes += raw.len();
                                let body = self.bytes[raw].to_vec();
                                piece.damaged.push(Quarantined { body, ..*refused });
                            }
                        }
                    }
                }
                Step::Damaged { end, reason } => {
                    damaged_bytes += end - self.at;
                    let body = self.bytes[self.at..end].to_vec();
                    self.at = end;
                    if self.plan.is_none() {
                        return Err(self.refuse(format!("its header is damaged: {reason}")));
                    }
                    // Lines with nothing in them are between records, and none.
                    if body.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
                        let reason = format!("the record cannot be read: {reason}");
                        piece.damaged.push(Quarantined { reason, body, ..Quarantined::default() });
                    }
                }
                Step::More => self.fill()?,
                Step::End => break,
            }
        }
        Ok((!piece.batch.is_empty() || !piece.damaged.is_empty()).then_some(piece))
    }

    /// Reads on behind what is there already; what has been taken makes room first.
    fn fill(&mut self) -> Result<(), SyncError> {
        self.bytes.copy_within(self.at..self.known, 0);
        self.known -= self.at;
        self.at = 0;
        if self.bytes.len() - self.known < READ_BYTES / 2 {
            self.bytes.resize(self.bytes.len() + READ_BYTES.max(self.known), 0);
        } else if self.known < READ_BYTES / 2 && self.bytes.len() > READ_BYTES {
            self.bytes.truncate(READ_BYTES);
            self.bytes.shrink_to_fit();
        }
        let read = self.from.read(&mut self.bytes[self.known..])?;
        self.known += read;
        self.is_end = read == 0;
        if self.plan.is_none() && self.bytes[..self.known].starts_with(BOM) {
            self.at = BOM.len();
        }
        Ok(())
    }

    /// Every field that was asked for has to be there; what was not is passed over.
    fn header(&self, raw: std::ops::Range<usize>) -> Result<Plan, SyncError> {
        let not_text = |_: Refused| self.refuse("its header is no UTF-8".to_owned());
        let record = Record::of(&self.bytes, raw, &self.spans, 0).map_err(not_text)?;
        let names: Vec<Cow<'_, str>> = (0..self.spans.len()).map(|place| record.value(place)).collect();
        let places: HashMap<&str, usize> = names.iter().enumerate().map(|(place, name)| (&**name, place)).collect();
        let place_of = |field: usize| {
            let name = self.layout.fields[field].name.as_str();
            let missing = || self.refuse(format!("its header does not name {name}"));
            places.get(name).copied().ok_or_else(missing)
        };
        let id = self.layout.id.ok_or_else(|| self.refuse("the object has no Id".to_owned()))?;
        let mut plan = Plan {
            values: names.len(),
            id: place_of(id)?,
            version: self.layout.version.map(place_of).transpose()?,
            is_deleted: self.layout.is_deleted.map(place_of).transpose()?,
            cells: vec![None; self.layout.cells],
            extra: Vec::new(),
        };
        for (field, of) in self.layout.fields.iter().enumerate().filter(|(field, _)| *field != id) {
            let from = From { place: place_of(field)?, field, reading: of.reading };
            match of.cell {
                Some(cell) => plan.cells[cell] = Some(from),
                None => plan.extra.push(from),
            }
        }
        Ok(plan)
    }

    fn refuse(&self, reason: String) -> SyncError {
        SyncError::Page { object: self.table.object().to_owned(), reason }
    }
}

/// One record, which is text as a whole, and where its values stand.
struct Record<'b> {
    text: &'b str,
    /// Where it begins, by what the places are counted.
    start: usize,
    spans: &'b [Span],
}

/// A record that cannot be stored, as far as it can be read, but for its bytes.
type Refused = Box<Quarantined>;

impl<'b> Record<'b> {
    /// The record at `raw`, its id's value at the place `id`.
    fn of(bytes: &'b [u8], raw: std::ops::Range<usize>, spans: &'b [Span], id: usize) -> Result<Self, Refused> {
        let start = raw.start;
        str::from_utf8(&bytes[raw]).map(|text| Self { text, start, spans }).map_err(|error| {
            let id = spans.get(id).and_then(|span| str::from_utf8(&bytes[span.start..span.end]).ok());
            let (record_id, reason) = (id.and_then(salesforce::id18), format!("the record is no UTF-8: {error}"));
            Box::new(Quarantined { record_id, reason, ..Quarantined::default() })
        })
    }

    fn value(&self, place: usize) -> Cow<'b, str> {
        let Some(span) = self.spans.get(place) else { return Cow::Borrowed("") };
        let text = self.text.get(span.start - self.start..span.end - self.start).unwrap_or_default();
        if span.is_doubled { Cow::Owned(text.replace("\"\"", "\"")) } else { Cow::Borrowed(text) }
    }

    /// Adds it to `batch`.
    fn read(&self, layout: &Layout, plan: &Plan, batch: &mut RecordBatch) -> Result<(), Refused> {
        let raw_id = self.value(plan.id);
        let version_at = plan.version.and_then(|place| instant(&self.value(place)));
        let is_deleted = plan.is_deleted.map(|place| self.value(place) == "true");
        let refuse = |record_id: Option<String>, reason: String| {
            Err(Box::new(Quarantined { record_id, version_at, is_deleted, reason, body: Vec::new() }))
        };
        let id = match Reading::Id.text(raw_id.clone()) {
            Ok(Some(id)) if id.len() == 18 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) => id,
            _ => {
                let id = (!raw_id.is_empty()).then(|| raw_id.replace('\0', ""));
                return refuse(id, "the record has no valid Id".to_owned());
            }
        };
        if plan.version.is_some() && version_at.is_none() {
            let name = layout.version_field().unwrap_or_default();
            return refuse(Some(id.into_owned()), format!("{name} is no date and time"));
        }
        let unfit = |from: &From, reason: String| {
            refuse(Some(id.clone().into_owned()), format!("{}: {reason}", layout.fields[from.field].name))
        };
        let head = RecordHead { id: &id, version_at, is_deleted: is_deleted == Some(true) };
        let mut row = batch.begin(&head);
        for from in &plan.cells {
            let Some(from) = from else {
                row.cell(None);
                continue;
            };
            match from.reading.text(self.value(from.place)) {
                Ok(cell) => row.cell(cell.as_deref()),
                Err(reason) => return unfit(from, reason),
            }
        }
        let mut extra = Map::new();
        for from in &plan.extra {
            match from.reading.text(self.value(from.place)) {
                Ok(Some(text)) => drop(extra.insert(layout.fields[from.field].name.clone(), text.into())),
                Ok(None) => {}
                Err(reason) => return unfit(from, reason),
            }
        }
        row.finish(&extra);
        Ok(())
    }
}

//! A reading of a whole object, thin: the id, stamp and deletion of every record that the vendor shows, and the fields whose
//! values move without a stamp or that records lack. Owns which way it is read and what becomes of each page: what we lack is
//! fetched by id, what moved is patched, and the ids are kept for the comparison. Does not own that (`reconcile`), nor the
//! transaction that a page is committed in.

use crate::{
    PageWriter, Source, SyncError,
    by_id::{self, Fetched},
    by_key,
    csv::{CsvPage, Piece},
    cursor::{self, Reading},
    drift,
    layout::Layout,
    pass::VENDOR,
    soql,
    thin::{moving, thin},
};
use chrono::{DateTime, TimeDelta, Timelike as _, Utc};
use domain::{DeleteFuse, JobId};
use salesforce::{BulkJob, BulkOperation, BulkState, FIRST_PAGE, SalesforceError};
use store::{
    Behind, NewSnapshot, Outcome, PageOrigin, Quarantined, RecordBatch, RecordTable, SnapshotFound, SnapshotRow,
    StreamSchema, Tx,
};

/// How an object is read and what may be done by itself.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotSettings {
    /// Objects of more records are read in bulk.
    pub rest_rows_max: u64,
    /// How many records may be marked deleted without a person.
    pub fuse: DeleteFuse,
}

/// What a job that is to read an object finds.
pub enum Begun<'a> {
    /// A reading, to go on with.
    Snapshot(Box<Snapshot<'a>>),
    /// Another job reads the object now.
    Busy,
    /// The object's first load is not complete: there is nothing to compare.
    Unread,
}

/// What comes next.
#[derive(Debug)]
pub enum Step {
    /// A page, to be written.
    Page(SnapshotPage),
    /// The vendor is not ready: look again after a pause.
    Wait,
    /// Every page is committed.
    Read,
}

/// One object, being read.
pub struct Snapshot<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) object: String,
    pub(crate) settings: SnapshotSettings,
    pub(crate) whole: PageWriter,
    layout: Layout,
    narrow: RecordTable,
    pub(crate) row: SnapshotRow,
    pub(crate) schema: StreamSchema,
    /// Records that windows should have brought, and did not, as far as this attempt has seen.
    pub(crate) missed: Missed,
}

/// Records of which a window has passed by the stamp.
#[derive(Debug, Clone, Default)]
pub(crate) struct Missed {
    pub(crate) records: u64,
    pub(crate) first: Option<(String, DateTime<Utc>)>,
}

/// A page as it came, and the whole records that it shows us to lack.
#[derive(Debug)]
pub struct SnapshotPage {
    pieces: Vec<Piece>,
    fetched: Vec<Fetched>,
    rows: u64,
    rows_expected: i64,
    next: Option<String>,
    missed: Missed,
}

/// What writing a page did, to be made known to the snapshot once it is committed.
#[derive(Debug)]
#[must_use = "the snapshot must learn of the commit"]
pub struct SnapshotWritten {
    row: SnapshotRow,
    missed: Missed,
    /// Records that were missing or old, and were written whole.
    pub fetched: u64,
    /// Records of which some fields were written.
    pub patched: u64,
}

impl SnapshotWritten {
    /// Rows of the reading that are committed with it.
    #[must_use]
    pub const fn rows_seen(&self) -> u64 {
        self.row.rows_seen.unsigned_abs()
    }
}

impl<'a> Snapshot<'a> {
    /// Describes the object, and begins to read it or goes on where this job was.
    ///
    /// # Errors
    /// [`SyncError`]; see [`SyncError::is_of_one_object`].
    pub async fn begin(
        source: Source<'a>,
        object: &str,
        job: JobId,
        settings: SnapshotSettings,
    ) -> Result<Begun<'a>, SyncError> {
        let Source { store, connection, client, .. } = source;
        let describe = drift::describe(source, object).await?;
        let whole = PageWriter::prepare(store, VENDOR, &describe).await?;
        let schema = store.stream_schema(connection, object).await?;
        let is_shown = |name: &String| describe.fields.iter().any(|field| field.name == *name);
        let row = match store.find_snapshot(connection, object, job).await? {
            SnapshotFound::Busy => return Ok(Begun::Busy),
            SnapshotFound::Unread => return Ok(Begun::Unread),
            SnapshotFound::Own(row) if row.fields.iter().all(is_shown) => row,
            SnapshotFound::Own(_) | SnapshotFound::Free(_) => {
                let fields = moving(source, &whole, &schema, &describe).await?;
                let now = client.server_time().unwrap_or_else(|| store.now());
                let began_at = now - source.settle.max(TimeDelta::zero());
                let began_at = began_at.with_nanosecond(0).unwrap_or(began_at);
                let (layout, _) = thin(&describe, &whole, &fields);
                let job_of = bulk_job(source, object, &layout, settings.rest_rows_max).await?;
                let vendor_job = job_of.as_ref().map(|job| (job.id.as_str(), job.api_version.as_str()));
                let new = NewSnapshot { began_at, fields: &fields, vendor_job };
                match store.begin_snapshot(schema.stream, job, &new).await? {
                    Some(row) => row,
                    None => return Ok(Begun::Busy),
                }
            }
        };
        let (layout, narrow) = thin(&describe, &whole, &row.fields);
        let object = object.to_owned();
        let missed = Missed::default();
        Ok(Begun::Snapshot(Box::new(Self { source, object, settings, whole, layout, narrow, row, schema, missed })))
    }

    /// The vendor.
    #[must_use]
    pub const fn client(&self) -> &'a salesforce::Client {
        self.source.client
    }

    /// Rows in all, once the vendor has said so.
    #[must_use]
    pub fn rows_expected(&self) -> Option<u64> {
        self.row.rows_expected.map(i64::unsigned_abs)
    }

    /// Fetches what comes next, and of a page the records that we lack. Nothing is fetched ahead.
    ///
    /// # Errors
    /// [`SyncError`]. A reading whose cursor or job is gone is given up; the next attempt begins another.
    pub async fn step(&mut self) -> Result<Step, SyncError> {
        if self.row.is_read {
            return Ok(Step::Read);
        }
        let page = match self.fetch().await {
            Err(SyncError::Vendor(SalesforceError::QueryTimeout { message })) if !self.is_by_key() => {
                tracing::info!(object = self.object, message, "the object is read in the order of its ids");
                self.row = self.source.store.restart_snapshot(&self.row, &by_key::first()).await?;
                self.fetch().await
            }
            page => page,
        };
        let mut page = match page {
            Ok(Some(page)) => page,
            Ok(None) => return Ok(Step::Wait),
            Err(error) => {
                if matches!(
                    error,
                    SyncError::Vendor(SalesforceError::CursorExpired | SalesforceError::QueryTimeout { .. })
                ) {
                    self.source.store.drop_snapshot(&self.row).await?;
                    let mut tx = self.source.store.begin().await?;
                    let of = (self.object.as_str(), Reading::Comparison);
                    cursor::note_lost(self.source, &mut tx, of, &error, self.row.rows_seen).await?;
                    tx.commit().await?;
                }
                return Err(error);
            }
        };
        let mut ids = Vec::new();
        for piece in &mut page.pieces {
            let behind =
                self.source.store.records_behind(self.whole.table(), self.source.account, &mut piece.batch).await?;
            page.missed.add(&behind, &self.schema, self.source.overlap);
            ids.extend(behind.into_iter().map(|behind| behind.id));
            if self.is_fetched_whole() {
                let Source { store, account, .. } = self.source;
                ids.extend(store.records_differing(&self.narrow, account, &mut piece.batch).await?);
            }
            // What of it cannot be read is to be seen whole, as far as it can be asked for.
            let ids_of = piece.damaged.iter().filter_map(|damaged| damaged.record_id.clone());
            ids.extend(ids_of.filter(|id| by_id::is_id(id)));
        }
        page.fetched = by_id::fetch(self.source, &self.object, &self.whole, &ids).await?;
        Ok(Step::Page(page))
    }

    /// Records of which a field moved are written whole: a row may have no room for its new value where it lies.
    fn is_fetched_whole(&self) -> bool {
        !self.row.fields.is_empty() && self.narrow.is_wide()
    }

    /// Whether each page is a query of its own.
    fn is_by_key(&self) -> bool {
        self.row.next_page.as_deref().is_some_and(|place| by_key::place(place).is_some())
    }

    async fn fetch(&self) -> Result<Option<SnapshotPage>, SyncError> {
        match &self.row.vendor_job {
            None => self.rest_page().await.map(Some),
            Some((id, api_version)) => {
                let job = BulkJob { id: id.clone(), api_version: api_version.clone() };
                self.bulk_page(&job).await
            }
        }
    }

    async fn rest_page(&self) -> Result<SnapshotPage, SyncError> {
        let client = self.source.client;
        let next_page = self.row.next_page.as_deref();
        let signed = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
        let (records, next, rows_expected) = if let Some(after) = next_page.and_then(by_key::place) {
            let (records, next) = by_key::page(self.source, &self.object, self.layout.names(), after).await?;
            // Nobody says how many will come: the counts of both sides are held against each other in the end.
            let seen = self.row.rows_seen.saturating_add(signed(count(records.len())));
            (records, next, seen)
        } else {
            let page = match next_page {
                Some(next) => client.query_next(next).await?,
                None => client.query_all(&soql::all(&self.object, self.layout.names())).await?,
            };
            let expected = self.row.rows_expected.unwrap_or_else(|| signed(page.total_size));
            (page.records, page.next_records_url, expected)
        };
        let mut piece = Piece { batch: RecordBatch::new(&self.narrow), damaged: Vec::new() };
        for record in &records {
            piece.damaged.extend(self.layout.read(record, &mut piece.batch).err());
        }
        let (rows, pieces, fetched) = (count(records.len()), vec![piece], Vec::new());
        Ok(SnapshotPage { pieces, fetched, rows, rows_expected, next, missed: Missed::default() })
    }

    async fn bulk_page(&self, job: &BulkJob) -> Result<Option<SnapshotPage>, SyncError> {
        let client = self.source.client;
        let rows_expected = match self.row.rows_expected {
            Some(rows) => rows,
            None => {
                let status = client.bulk_job(job).await?;
                if let Some(failure) = status.failure() {
                    if !matches!(failure, SalesforceError::QueryTimeout { .. }) {
                        self.source.store.drop_snapshot(&self.row).await?;
                    }
                    return Err(failure.into());
                }
                if status.state != BulkState::JobComplete {
                    return Ok(None);
                }
                i64::try_from(status.records).unwrap_or(i64::MAX)
            }
        };
        let locator = self.row.next_page.as_deref().unwrap_or(FIRST_PAGE);
        let (mut file, next) = by_id::bulk_page(client, job, locator).await?;
        let (layout, narrow) = (self.layout.clone(), self.narrow.clone());
        let read = move || {
            let mut page = CsvPage::new(&layout, &narrow, &mut file);
            std::iter::from_fn(|| page.next_piece(None).transpose()).collect::<Result<Vec<_>, _>>()
        };
        let pieces = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)??;
        let rows = pieces.iter().map(|piece| count(piece.batch.len() + piece.damaged.len())).sum();
        Ok(Some(SnapshotPage { pieces, fetched: Vec::new(), rows, rows_expected, next, missed: Missed::default() }))
    }

    /// Writes a page: the whole records that we lacked, the fields that moved, the ids and the mark. Nothing counts until
    /// `tx` is committed; then tell the snapshot by [`Self::committed`].
    ///
    /// # Errors
    /// [`SyncError`]; `Count` when the pages do not add up: the reading is to be given up, by [`Self::give_up`].
    pub async fn write(&self, tx: &mut Tx, page: SnapshotPage) -> Result<SnapshotWritten, SyncError> {
        let Source { store, account, connection, .. } = self.source;
        let SnapshotPage { mut pieces, fetched, rows, rows_expected, next, mut missed } = page;
        let row = SnapshotRow {
            rows_expected: Some(rows_expected),
            rows_seen: self.row.rows_seen + i64::try_from(rows).unwrap_or(i64::MAX),
            pages: self.row.pages + 1,
            is_read: next.is_none(),
            next_page: next,
            ..self.row.clone()
        };
        if row.is_read && row.rows_seen != rows_expected {
            let object = self.object.clone();
            return Err(SyncError::Count { object, expected: rows_expected, seen: row.rows_seen });
        }
        let origin = PageOrigin { account, connection, read_at: self.row.began_at };
        let fetched = by_id::write(self.source, tx, &self.whole, origin, fetched).await?;
        let mut ids: Vec<String> = Vec::new();
        let mut patched = 0;
        for Piece { batch, damaged } in &mut pieces {
            // A record that cannot be read is there all the same.
            ids.extend(damaged.iter().filter_map(|Quarantined { record_id, .. }| record_id.clone()));
            ids.extend(batch.ids().map(str::to_owned));
            if !self.row.fields.is_empty() && !self.is_fetched_whole() {
                patched += store.patch_records(tx, &self.narrow, origin, batch).await?;
            }
        }
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        if store.mark_snapshot_page(tx, &self.row, &row, &ids).await? == Outcome::Stale {
            return Err(SyncError::Overtaken { object: self.object.clone() });
        }
        missed.join(&self.missed);
        Ok(SnapshotWritten { row, missed, fetched, patched })
    }

    /// Takes note that a written page is committed.
    pub fn committed(&mut self, written: SnapshotWritten) {
        self.row = written.row;
        self.missed = written.missed;
    }

    /// Gives the reading up: the next attempt begins another.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn give_up(&self) -> Result<(), SyncError> {
        Ok(self.source.store.drop_snapshot(&self.row).await?)
    }
}

impl Missed {
    /// Counts versions that are older than what windows reach back to, and newer than the comparison before this one.
    fn add(&mut self, behind: &[Behind], schema: &StreamSchema, overlap: TimeDelta) {
        let (Some(from), Some(watermark)) = (schema.reconciled_at, schema.watermark) else { return };
        for record in behind.iter().filter(|record| record.is_version_missing) {
            let Some(at) = record.version_at.filter(|at| *at >= from && *at < watermark - overlap) else { continue };
            self.records += 1;
            self.first.get_or_insert_with(|| (record.id.clone(), at));
        }
    }

    fn join(&mut self, before: &Self) {
        self.records += before.records;
        self.first = before.first.clone().or(self.first.take());
    }
}

/// The vendor's job for an object that is too large to be read by REST, unless it has to be.
async fn bulk_job(
    source: Source<'_>,
    object: &str,
    layout: &Layout,
    rest_rows_max: u64,
) -> Result<Option<BulkJob>, SyncError> {
    match source.client.query_all(&soql::count(object)).await {
        Ok(page) if page.total_size <= rest_rows_max => return Ok(None),
        // Too many to be counted in time are too many for this.
        Ok(_) | Err(SalesforceError::QueryTimeout { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    match source.client.create_query(&soql::all(object, layout.names()), BulkOperation::QueryAll).await {
        Ok(status) => Ok(Some(status.job)),
        Err(SalesforceError::NotInBulk { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn count(records: usize) -> u64 {
    u64::try_from(records).unwrap_or(u64::MAX)
}

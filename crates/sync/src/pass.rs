//! One pass over one object: describe, open the window, fetch its pages, write each, close the window.
//! Owns the order of these steps. The job owns the transaction that a page is written in.

use crate::{
    SyncError,
    cursor::{self, Reading},
    damage, drift, lateness,
    layout::Layout,
    parts, soql, watch,
};
use chrono::{DateTime, TimeDelta, Timelike, Utc};
use domain::{AccountId, ConnectionId};
use salesforce::{Client, Page, SalesforceError};
use store::{Outcome, PageMark, PageOrigin, Quarantined, RecordBatch, RecordTable, Store, Tx, Window};

/// The vendor's name: the schema of its tables.
pub(crate) const VENDOR: &str = "salesforce";

/// What a connection is synced with.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The vendor.
    pub client: &'a Client,
    /// The ledger.
    pub store: &'a Store,
    /// Whose records.
    pub account: AccountId,
    /// By which connection.
    pub connection: ConnectionId,
    /// Changes younger than this are left to the next window: the vendor shows some of them late.
    pub settle: TimeDelta,
    /// How far a window reaches back into the one before it at least, for changes that came later than that.
    pub overlap: TimeDelta,
}

impl Source<'_> {
    /// Where a window that is opened now ends: by the vendor's clock, since it stamps the records, and in whole seconds, as
    /// its stamps are.
    #[must_use]
    pub fn window_end(&self) -> DateTime<Utc> {
        let now = self.client.server_time().unwrap_or_else(|| self.store.now());
        (now - self.settle).with_nanosecond(0).unwrap_or(now)
    }
}

/// One object's window, being read.
pub struct Pass<'a> {
    source: Source<'a>,
    object: String,
    layout: Layout,
    table: RecordTable,
    window: Window,
    /// Rows of the parts of the window that are over, as far as this attempt has read them.
    rows_before: u64,
}

/// A page as it came, not yet stored.
#[derive(Debug)]
pub struct FetchedPage(Page);

/// What writing a page did, to be made known to the pass once it is committed.
#[derive(Debug)]
#[must_use = "the pass must learn of the commit"]
pub struct Written {
    /// As it is then; none: a part of it is over, and another is open.
    window: Option<Window>,
    rows_seen: u64,
    /// Rows that changed.
    pub changed: u64,
    /// Records that could not be stored.
    pub quarantined: usize,
    /// The window is closed, its last part included.
    pub is_last: bool,
}

impl Written {
    /// Rows of the window that are committed with it.
    #[must_use]
    pub const fn rows_seen(&self) -> u64 {
        self.rows_seen
    }
}

impl FetchedPage {
    /// Records of the whole window, as the vendor announces.
    #[must_use]
    pub const fn window_rows(&self) -> u64 {
        self.0.total_size
    }
}

impl<'a> Pass<'a> {
    /// Describes the object, makes or widens its table, and opens its window, or finds the one that an earlier attempt
    /// left open.
    ///
    /// # Errors
    /// [`SyncError`]; see [`SyncError::is_of_one_object`].
    pub async fn begin(source: Source<'a>, object: &str) -> Result<Self, SyncError> {
        let describe = drift::describe(source, object).await?;
        let mut layout = Layout::of(&describe);
        let table = source.store.record_table(VENDOR, object, &layout.wanted()).await?;
        layout.bind(&table);
        let window = source.store.open_window(source.connection, object, source.window_end(), source.overlap).await?;
        let window = window.ok_or_else(|| SyncError::Overtaken { object: object.to_owned() })?;
        // What no address can hold is known before anything is read.
        soql::window(object, &layout, (&window).into())?;
        Ok(Self { source, object: object.to_owned(), layout, table, window, rows_before: 0 })
    }

    /// Whether no page of the window is committed yet.
    #[must_use]
    pub const fn is_untouched(&self) -> bool {
        self.window.pages == 0
    }

    /// Fetches the next page to write: the first of the window, or the one behind its mark. A cursor that is gone begins
    /// the window again. Nothing is fetched ahead, so that a kill costs one page and no more.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn next_page(&mut self) -> Result<FetchedPage, SyncError> {
        if let Some(next) = &self.window.next_page {
            match self.source.client.query_next(next).await {
                Err(gone @ SalesforceError::CursorExpired) => {
                    tracing::info!(object = self.object, "the cursor is gone; the window is read again");
                    let mut tx = self.source.store.begin().await?;
                    let of = (self.object.as_str(), Reading::Window);
                    cursor::note_lost(self.source, &mut tx, of, &gone.into(), self.window.rows_seen).await?;
                    tx.commit().await?;
                    self.window = self.source.store.restart_window(&self.window).await?;
                }
                page => return Ok(FetchedPage(page?)),
            }
        }
        let soql = soql::window(&self.object, &self.layout, (&self.window).into())?;
        Ok(FetchedPage(self.source.client.query_all(&soql).await?))
    }

    /// Writes a page, its mark and, after the last page, the stream's watermark. Nothing counts until `tx` is committed;
    /// then tell the pass by [`Self::committed`].
    ///
    /// # Errors
    /// [`SyncError`]; `Count` when the pages do not add up: then the window begins again, by [`Self::restart`].
    pub async fn write(&self, tx: &mut Tx, page: &FetchedPage) -> Result<Written, SyncError> {
        let FetchedPage(page) = page;
        let Source { store, account, connection, .. } = self.source;
        // The window ends before its query began.
        let origin = PageOrigin { account, connection, read_at: self.window.hi };
        let mut batch = RecordBatch::new(&self.table);
        let mut damaged: Vec<Quarantined> = Vec::new();
        for record in &page.records {
            if let Err(quarantined) = self.layout.read(record, &mut batch) {
                damaged.push(quarantined);
            }
        }
        let changed = store.write_records(tx, &self.table, origin, &mut batch).await?;
        damage::keep(store, tx, origin, &self.object, &damaged).await?;
        let rows_expected =
            self.window.rows_expected.unwrap_or_else(|| i64::try_from(page.total_size).unwrap_or(i64::MAX));
        let rows = i64::try_from(page.records.len()).unwrap_or(i64::MAX);
        let oldest_change = batch.oldest_version().filter(|_| changed > 0);
        let mark = PageMark { rows_expected, rows, next_page: page.next_records_url.clone(), oldest_change };
        let overtaken = || SyncError::Overtaken { object: self.object.clone() };
        if store.mark_page(tx, &self.window, &mark).await? == Outcome::Stale {
            return Err(overtaken());
        }
        let window = Window {
            rows_expected: Some(rows_expected),
            rows_seen: self.window.rows_seen + rows,
            pages: self.window.pages + 1,
            next_page: mark.next_page,
            ..self.window.clone()
        };
        let is_read = window.next_page.is_none();
        if is_read && window.rows_seen != rows_expected {
            return Err(SyncError::Count {
                object: self.object.clone(),
                expected: rows_expected,
                seen: window.rows_seen,
            });
        }
        let rows_seen = self.rows_before + window.rows_seen.unsigned_abs();
        let written =
            Written { window: Some(window), rows_seen, changed, quarantined: damaged.len(), is_last: is_read };
        if !is_read {
            return Ok(written);
        }
        let base = Some(self.source.overlap);
        let closed = store.close_window(tx, self.window.id, self.window.fence, base).await?.ok_or_else(overtaken)?;
        if !closed.is_part {
            lateness::note(store, tx, connection, &closed).await?;
        }
        if closed.rest.is_some() {
            return Ok(Written { window: None, is_last: false, ..written });
        }
        watch::window_closed(self.source, tx, &self.object, self.window.hi).await?;
        Ok(written)
    }

    /// Takes note that a written page is committed.
    ///
    /// # Errors
    /// [`SyncError`]; `Overtaken` when the part that is next is somebody else's.
    pub async fn committed(&mut self, written: Written) -> Result<(), SyncError> {
        match written.window {
            Some(window) => self.window = window,
            None => {
                self.window = self.open().await?;
                self.rows_before = written.rows_seen;
            }
        }
        Ok(())
    }

    /// The window that is open, which must be this connection's to read by REST.
    async fn open(&self) -> Result<Window, SyncError> {
        let Source { store, connection, overlap, .. } = self.source;
        let window = store.open_window(connection, &self.object, self.source.window_end(), overlap).await?;
        window.ok_or_else(|| SyncError::Overtaken { object: self.object.clone() })
    }

    /// Has the window be read in parts, since the vendor cannot answer for it in time. False where it cannot be divided.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn divide(&mut self) -> Result<bool, SyncError> {
        let Source { store, client, .. } = self.source;
        let end = parts::end_of_first(client, &self.object, &self.layout, (&self.window).into()).await?;
        let Some(end) = end else { return Ok(false) };
        let mut tx = store.begin().await?;
        store.narrow_window_in(&mut tx, (self.window.id, self.window.fence), &end, 0).await?;
        tx.commit().await?;
        self.window = self.open().await?;
        tracing::info!(object = self.object, ?end, "a window is read in parts");
        Ok(true)
    }

    /// Begins the window again from its first page.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn restart(&mut self) -> Result<(), SyncError> {
        self.window = self.source.store.restart_window(&self.window).await?;
        Ok(())
    }
}

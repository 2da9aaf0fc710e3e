//! Writing a page in bulk: rows and change log in the caller's transaction, damaged records to quarantine.
//! Owns that a page is read on one thread while its rows go to the ledger from another. Does not own the page's mark nor the
//! commit, which are the running job's.

use crate::{SyncError, csv::CsvPage, damage, layout::Layout};
use chrono::{DateTime, Utc};
use salesforce::Describe;
use std::{io::Read, sync::Arc};
use store::{PageOrigin, RecordTable, Store, Tx};
use tokio::sync::mpsc;

/// Pieces of a page that are read ahead of the one that is written.
const PIECES_AHEAD: usize = 1;

/// What writing a page did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageWritten {
    /// Records on the page, those in quarantine included.
    pub records: u64,
    /// Rows that changed.
    pub changed: u64,
    /// Records that could not be stored.
    pub quarantined: u64,
    /// The oldest of the records that changed something.
    pub oldest_change: Option<DateTime<Utc>>,
}

/// How pages of one object get into its table; cheap to clone.
#[derive(Debug, Clone)]
pub struct PageWriter {
    layout: Arc<Layout>,
    table: Arc<RecordTable>,
}

impl PageWriter {
    /// Makes or widens the table of the object of `vendor`, whose name is the schema of its tables.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn prepare(store: &Store, vendor: &str, describe: &Describe) -> Result<Self, SyncError> {
        let mut layout = Layout::of(describe);
        let table = store.record_table(vendor, &describe.name, &layout.wanted()).await?;
        layout.bind(&table);
        Ok(Self { layout: Arc::new(layout), table: Arc::new(table) })
    }

    /// The names of the fields that a query has to ask for.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.layout.names()
    }

    /// Where the fields lie.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &RecordTable {
        &self.table
    }

    /// Writes a page of CSV, header first. Nothing counts until `tx` is committed. The page must be here already: what
    /// `page` reads is read while the transaction is open.
    ///
    /// # Errors
    /// [`SyncError`]; the transaction is of no more use then.
    pub async fn write_csv(
        &self,
        store: &Store,
        tx: &mut Tx,
        origin: PageOrigin,
        mut page: impl Read + Send + 'static,
    ) -> Result<PageWritten, SyncError> {
        let (to, mut pieces) = mpsc::channel(PIECES_AHEAD);
        let (give_back, mut used) = mpsc::unbounded_channel();
        let Self { layout, table } = self.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let mut page = CsvPage::new(&layout, &table, &mut page);
            while let Some(piece) = page.next_piece(used.try_recv().ok()).transpose() {
                let is_over = piece.is_err();
                // The writer has stopped, and says why.
                if to.blocking_send(piece).is_err() || is_over {
                    return;
                }
            }
        });
        let mut written = PageWritten::default();
        while let Some(piece) = pieces.recv().await {
            let mut piece = piece?;
            let count = |records: usize| u64::try_from(records).unwrap_or(u64::MAX);
            written.records += count(piece.batch.len() + piece.damaged.len());
            written.quarantined += count(piece.damaged.len());
            let changed = store.write_records(tx, &self.table, origin, &mut piece.batch).await?;
            if changed > 0 {
                written.changed += changed;
                written.oldest_change =
                    [written.oldest_change, piece.batch.oldest_version()].into_iter().flatten().min();
            }
            damage::keep(store, tx, origin, self.table.object(), &piece.damaged).await?;
            // Who has read all of the page needs it no more.
            let _ = give_back.send(piece.batch);
        }
        reading.await.map_err(std::io::Error::other)?;
        Ok(written)
    }
}

//! A window in bulk: what Salesforce is asked to collect, how far it is, and its pages received one by one.
//! Owns that the fields that were asked for stay with the window, so that its pages are read as they were asked, whatever
//! becomes of the object meanwhile. Does not own the jobs that do this, nor the window's rows (`store`).

use crate::{
    PageWriter, Source, SyncError, drift, lateness, layout::Layout, parts, pass::VENDOR, soql, spool::Spool, watch,
};
use domain::{AnomalyKind, Severity};
use salesforce::{
    BulkJob, BulkOperation, BulkState, Client, Describe, FIRST_PAGE, Field, ResultPages, SalesforceError,
};
use serde_json::{Value, json};
use std::fs::File;
use store::{BulkWindow, ExternalJob, PartEnd, Sighting, Store, Tx, WindowClosed};

/// Pages that are listed at the most: far more than a job's terabyte of results makes.
const PAGES_MAX: usize = 20_000;

/// How far Salesforce is with a window.
#[derive(Debug)]
pub enum Collected {
    /// It collects.
    NotYet,
    /// Its pages can be had.
    All {
        /// What they must add up to.
        rows: u64,
    },
    /// It gave up: the error says what that means.
    Failed(SalesforceError),
}

/// Where the pages of a window are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where each is; the first alone if they are not listed.
    pub locators: Vec<String>,
    /// These are all. Else each page tells where the next is.
    pub are_all: bool,
}

/// A page, whole and on disk.
#[derive(Debug)]
pub struct ReceivedPage {
    /// It, to be read from its beginning.
    pub file: File,
    /// Its bytes, unpacked.
    pub bytes: u64,
    /// Records on it, as Salesforce says.
    pub records: u64,
    /// Where the page after it is; none after the last.
    pub next: Option<String>,
}

/// Asks Salesforce to collect all fields of the window's object in it, deleted records too.
///
/// # Errors
/// [`SyncError`]; `NotInBulk` within it when the object has to be read by REST.
pub async fn ask(source: Source<'_>, window: &BulkWindow) -> Result<ExternalJob, SyncError> {
    let describe = drift::describe(source, &window.object).await?;
    let layout = Layout::of(&describe);
    let soql = soql::bulk(&window.object, &layout, window.into())?;
    let made = source.client.create_query(&soql, BulkOperation::QueryAll).await?;
    let asked = describe.fields.iter().filter(|field| layout.places.contains_key(&field.name));
    let fields = asked.map(|field| (field.name.as_str(), field.field_type.as_str())).collect::<Vec<_>>();
    let fields = serde_json::to_value(fields).unwrap_or_default();
    Ok(ExternalJob { id: made.job.id, api_version: made.job.api_version, fields })
}

/// The job at Salesforce.
#[must_use]
pub fn bulk_job(external: &ExternalJob) -> BulkJob {
    BulkJob { id: external.id.clone(), api_version: external.api_version.clone() }
}

/// How far Salesforce is.
///
/// # Errors
/// Salesforce's; that the job is gone is no error, but a failure.
pub async fn look(client: &Client, job: &BulkJob) -> Result<Collected, SyncError> {
    let status = match client.bulk_job(job).await {
        Err(gone @ SalesforceError::CursorExpired) => return Ok(Collected::Failed(gone)),
        status => status?,
    };
    Ok(match (status.failure(), status.state) {
        (Some(failure), _) => Collected::Failed(failure),
        (None, BulkState::JobComplete) => Collected::All { rows: status.records },
        (None, _) => Collected::NotYet,
    })
}

/// Where the pages of what was collected are.
///
/// # Errors
/// Salesforce's.
pub async fn list(client: &Client, job: &BulkJob) -> Result<Listed, SyncError> {
    let (mut all, mut from) = (Vec::new(), None);
    loop {
        match client.bulk_result_pages(job, from.as_deref()).await? {
            ResultPages::Chain => return Ok(Listed { locators: vec![FIRST_PAGE.to_owned()], are_all: false }),
            ResultPages::Listed { locators, next } => {
                all.extend(locators);
                from = next;
            }
        }
        if from.is_none() {
            return Ok(Listed { locators: all, are_all: true });
        }
        if all.len() > PAGES_MAX {
            let reason = format!("salesforce lists more than {PAGES_MAX} pages");
            return Err(SalesforceError::Unavailable { reason, source: None }.into());
        }
    }
}

/// Whether a job still has a page that it refused: it has collected what it had, and lists the page as it did. Its locators
/// stay what they are as long as it lives, so that the pages that are committed need not be fetched again.
///
/// # Errors
/// Salesforce's.
pub async fn still_has(client: &Client, job: &BulkJob, window: &BulkWindow, locator: &str) -> Result<bool, SyncError> {
    let Collected::All { rows } = look(client, job).await? else { return Ok(false) };
    if window.rows_expected != i64::try_from(rows).ok() {
        return Ok(false);
    }
    let listed = list(client, job).await?;
    Ok(!listed.are_all || listed.locators.iter().any(|known| known == locator))
}

/// Where a window is divided that Salesforce cannot collect in time. None where it cannot be.
///
/// # Errors
/// [`SyncError`].
pub async fn end_of_first_part(
    client: &Client,
    window: &BulkWindow,
    external: &ExternalJob,
) -> Result<Option<PartEnd>, SyncError> {
    let layout = Layout::of(&asked(window, &external.fields)?);
    parts::end_of_first(client, &window.object, &layout, window.into()).await
}

/// Receives a page whole.
///
/// # Errors
/// [`SyncError`]; `CursorExpired` within it when the page or the job is gone.
pub async fn receive(client: &Client, job: &BulkJob, locator: &str) -> Result<ReceivedPage, SyncError> {
    let mut page = client.bulk_page(job, locator).await?;
    let mut spool = Spool::new().await?;
    while let Some(bytes) = page.body.chunk().await? {
        spool.write(bytes).await?;
    }
    let bytes = spool.bytes();
    Ok(ReceivedPage { file: spool.finish().await?, bytes, records: page.records, next: page.next })
}

/// How the pages of a window are written: by the fields that were asked for.
///
/// # Errors
/// [`SyncError`]; `Page` when what is kept of the fields cannot be read.
pub async fn writer(store: &Store, window: &BulkWindow, fields: &Value) -> Result<PageWriter, SyncError> {
    PageWriter::prepare(store, VENDOR, &asked(window, fields)?).await
}

/// The object as it was when Salesforce was asked.
fn asked(window: &BulkWindow, fields: &Value) -> Result<Describe, SyncError> {
    let unreadable = || SyncError::Page {
        object: window.object.clone(),
        reason: "the fields that were asked for are not with its window".to_owned(),
    };
    let fields: Vec<(String, String)> = serde_json::from_value(fields.clone()).map_err(|_| unreadable())?;
    let field = |(name, field_type)| Field {
        name,
        field_type,
        nillable: true,
        length: 0,
        precision: 0,
        scale: 0,
        calculated: false,
        compound: false,
    };
    Ok(Describe { name: window.object.clone(), fields: fields.into_iter().map(field).collect() })
}

/// Ends a window whose pages add up, or a part of one. None when it has begun again meanwhile.
///
/// # Errors
/// [`SyncError`].
pub async fn close(source: Source<'_>, tx: &mut Tx, window: &BulkWindow) -> Result<Option<WindowClosed>, SyncError> {
    let store = source.store;
    // How far a window reaches back is made less by those that are read often.
    let Some(closed) = store.close_window(tx, window.id, window.fence, None).await? else { return Ok(None) };
    if !closed.is_part {
        lateness::note(store, tx, window.connection, &closed).await?;
    }
    // What came of hours is judged once all of it is here.
    if closed.rest.is_none() {
        watch::window_closed(source, tx, &window.object, window.hi).await?;
    }
    Ok(Some(closed))
}

/// Says that a window's pages do not add up to what Salesforce announced.
///
/// # Errors
/// [`SyncError`].
pub async fn note_difference(
    store: &Store,
    tx: &mut Tx,
    window: &BulkWindow,
    expected: i64,
    seen: i64,
) -> Result<(), SyncError> {
    let object = window.object.as_str();
    tracing::warn!(object, expected, seen, "the pages of a window do not add up; it is read again");
    let summary = format!("salesforce announced another number of {object} than it sent; they are read again");
    let evidence = json!({ "announced": expected, "sent": seen });
    let sighting = Sighting {
        connection: window.connection,
        object,
        kind: AnomalyKind::CountsDiffer,
        subject: "",
        severity: Severity::Warning,
        summary: &summary,
        evidence: &evidence,
    };
    store.note_anomaly(tx, &sighting).await?;
    Ok(())
}

//! Single records, asked for by their ids: those that a comparison found missing, older or otherwise not as they are at the
//! vendor. Owns how many go into a question, and how whole records get into their table from the answers.

use crate::{PageWriter, Source, Spool, SyncError, damage, drift, pass::VENDOR, soql};
use chrono::{DateTime, Timelike as _, Utc};
use domain::AnomalyKind;
use salesforce::{BulkOperation, BulkState, Client, FIRST_PAGE};
use serde_json::value::RawValue;
use std::{collections::BTreeSet, fs::File, time::Duration};
use store::{PageOrigin, Quarantined, RecordBatch, Tx};

/// Ids in one question, at the most.
const IDS_MAX: usize = 500;
/// Fewer than this, and the fields leave too little room in an address: then they are asked in bulk.
const IDS_MIN: usize = 20;
/// Ids in one bulk job.
const BULK_IDS_MAX: usize = 1_000;
/// How long a bulk job of so few records is waited for, and how often it is looked at.
const BULK_WAIT_SECS_MAX: u64 = 600;
const LOOK_MS_FIRST: u64 = 100;
const LOOK_MS_MAX: u64 = 5_000;

/// Records as they came.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// By REST.
    Json(Vec<Box<RawValue>>),
    /// In bulk: a page, spooled.
    Csv(File),
}

/// Records that somebody wants to see once more, as the vendor shows them now.
#[derive(Debug)]
pub struct Asked {
    whole: PageWriter,
    fetched: Vec<Fetched>,
    /// Not shown, the recycle bin included.
    gone: Vec<String>,
    read_at: DateTime<Utc>,
}

impl Asked {
    /// Asks for them, by what [`is_id`] says are ids.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn of(source: Source<'_>, object: &str, ids: &[String]) -> Result<Self, SyncError> {
        let describe = drift::describe(source, object).await?;
        let whole = PageWriter::prepare(source.store, VENDOR, &describe).await?;
        let now = source.client.server_time().unwrap_or_else(|| source.store.now());
        let read_at = now.with_nanosecond(0).unwrap_or(now);
        let fetched = fetch(source, object, &whole, ids).await?;
        let shown = shown(source, object, ids).await?;
        let gone = ids.iter().filter(|id| !shown.contains(*id)).cloned().collect();
        Ok(Self { whole, fetched, gone, read_at })
    }

    /// Writes them: what can be stored leaves quarantine, as does what is shown no more. Answers with how many records were
    /// shown no more.
    ///
    /// # Errors
    /// [`SyncError`]; the transaction is of no more use then.
    pub async fn write(self, source: Source<'_>, tx: &mut Tx) -> Result<usize, SyncError> {
        let Source { store, account, connection, .. } = source;
        let object = self.whole.table().object().to_owned();
        let origin = PageOrigin { account, connection, read_at: self.read_at };
        write(source, tx, &self.whole, origin, self.fetched).await?;
        store.resolve_gone(tx, connection, &object, &self.gone).await?;
        if !store.has_quarantined(tx, connection, &object).await? {
            let of = (object.as_str(), AnomalyKind::RecordsDamaged, "");
            store.settle_anomaly(tx, connection, of, "nothing is in quarantine any more").await?;
        }
        Ok(self.gone.len())
    }
}

/// Whether it is an id as records are stored under, by which a record can be asked for.
#[must_use]
pub fn is_id(text: &str) -> bool {
    salesforce::is_id18(text)
}

/// Asks for whole records.
pub(crate) async fn fetch(
    source: Source<'_>,
    object: &str,
    whole: &PageWriter,
    ids: &[String],
) -> Result<Vec<Fetched>, SyncError> {
    let fields_bytes = soql::encoded_bytes(&soql::all(object, whole.fields()));
    let in_address = soql::ids_in_one(fields_bytes, false).min(IDS_MAX);
    let mut fetched = Vec::new();
    if in_address >= IDS_MIN {
        for chunk in ids.chunks(in_address) {
            fetched.push(Fetched::Json(query(source.client, &soql::of_ids(object, whole.fields(), chunk)).await?));
        }
        return Ok(fetched);
    }
    let in_body = soql::ids_in_one(fields_bytes, true).clamp(1, BULK_IDS_MAX);
    for chunk in ids.chunks(in_body) {
        fetched.extend(in_bulk(source.client, object, &soql::of_ids(object, whole.fields(), chunk)).await?);
    }
    Ok(fetched)
}

/// Which of these records the vendor shows at all, the recycle bin included. An answer in which a record's id cannot be read
/// may be about any of them.
pub(crate) async fn shown(source: Source<'_>, object: &str, ids: &[String]) -> Result<BTreeSet<String>, SyncError> {
    #[derive(serde::Deserialize)]
    struct Named {
        #[serde(rename = "Id")]
        id: String,
    }
    let mut shown = BTreeSet::new();
    for chunk in ids.chunks(IDS_MAX) {
        for record in query(source.client, &soql::of_ids(object, std::iter::once("Id"), chunk)).await? {
            match serde_json::from_str::<Named>(record.get()).ok().and_then(|named| salesforce::id18(&named.id)) {
                Some(id) => drop(shown.insert(id)),
                None => shown.extend(chunk.iter().cloned()),
            }
        }
    }
    Ok(shown)
}

/// All that a query by REST finds.
pub(crate) async fn query(client: &Client, soql: &str) -> Result<Vec<Box<RawValue>>, SyncError> {
    let mut page = client.query_all(soql).await?;
    let mut records = std::mem::take(&mut page.records);
    while let Some(next) = page.next_records_url {
        page = client.query_next(&next).await?;
        records.append(&mut page.records);
    }
    Ok(records)
}

async fn in_bulk(client: &Client, object: &str, soql: &str) -> Result<Vec<Fetched>, SyncError> {
    let mut status = client.create_query(soql, BulkOperation::QueryAll).await?;
    let (mut waited, mut pause) = (0, LOOK_MS_FIRST);
    while status.state != BulkState::JobComplete {
        if let Some(failure) = status.failure() {
            return Err(failure.into());
        }
        if waited > BULK_WAIT_SECS_MAX * 1_000 {
            let reason = "its bulk job does not end".to_owned();
            return Err(SyncError::Page { object: object.to_owned(), reason });
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
        waited += pause;
        pause = (pause * 2).min(LOOK_MS_MAX);
        status = client.bulk_job(&status.job).await?;
    }
    let mut fetched = Vec::new();
    let mut next = Some(FIRST_PAGE.to_owned());
    while let Some(locator) = next {
        let (file, following) = bulk_page(client, &status.job, &locator).await?;
        fetched.push(Fetched::Csv(file));
        next = following;
    }
    client.delete_bulk_job(&status.job).await?;
    Ok(fetched)
}

/// One page of a bulk job, spooled, and where the next one is.
pub(crate) async fn bulk_page(
    client: &Client,
    job: &salesforce::BulkJob,
    locator: &str,
) -> Result<(File, Option<String>), SyncError> {
    let mut page = client.bulk_page(job, locator).await?;
    let mut spool = Spool::new().await?;
    while let Some(bytes) = page.body.chunk().await? {
        spool.write(bytes).await?;
    }
    Ok((spool.finish().await?, page.next))
}

/// Writes whole records. Answers with the number of rows that changed.
pub(crate) async fn write(
    source: Source<'_>,
    tx: &mut Tx,
    whole: &PageWriter,
    origin: PageOrigin,
    fetched: Vec<Fetched>,
) -> Result<u64, SyncError> {
    let mut changed = 0;
    for page in fetched {
        match page {
            Fetched::Json(records) => {
                let mut batch = RecordBatch::new(whole.table());
                let mut damaged: Vec<Quarantined> = Vec::new();
                for record in &records {
                    damaged.extend(whole.layout().read(record, &mut batch).err());
                }
                changed += source.store.write_records(tx, whole.table(), origin, &mut batch).await?;
                damage::keep(source.store, tx, origin, whole.table().object(), &damaged).await?;
            }
            Fetched::Csv(file) => changed += whole.write_csv(source.store, tx, origin, file).await?.changed,
        }
    }
    Ok(changed)
}

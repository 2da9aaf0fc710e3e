//! Records that Salesforce's logs of deletions tell of: soft deletions, which queries still show, and those for good, which
//! nothing else shows.
//! Owns what becomes of them. Does not own the question (`probe`), nor when it is asked (`servants`).

use crate::{Source, SyncError, pass::VENDOR, probe::Looked};
use chrono::{DateTime, Utc};
use salesforce::SalesforceError;
use std::collections::BTreeMap;
use store::{RecordTable, Tx};

/// What the logs say of a connection's objects.
#[derive(Debug, Default)]
pub struct Deletions {
    gone: Vec<Gone>,
    /// Up to where that is all.
    known: Vec<(String, DateTime<Utc>)>,
}

/// What is gone of an object.
#[derive(Debug)]
struct Gone {
    /// Found beforehand: the transaction that marks the records looks for nothing outside itself.
    table: RecordTable,
    /// The records by the time of their deletion: one that is undeleted later stays.
    by_time: BTreeMap<DateTime<Utc>, Vec<String>>,
}

impl Deletions {
    /// What was answered to questions that ended at `until`.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn of(source: Source<'_>, looked: Vec<Looked>, until: DateTime<Utc>) -> Result<Self, SyncError> {
        let mut found = Self::default();
        for Looked { object, deleted, .. } in looked {
            match deleted {
                Some(Ok(deleted)) => {
                    found.known.push((object.clone(), deleted.latest_covered.min(until)));
                    let mut by_time = BTreeMap::<_, Vec<_>>::new();
                    for (id, at) in deleted.records {
                        by_time.entry(at).or_default().push(id);
                    }
                    if !by_time.is_empty() {
                        let table = source.store.record_table(VENDOR, &object, &[]).await?;
                        found.gone.push(Gone { table, by_time });
                    }
                }
                // It may be answered the next time.
                Some(Err(SyncError::Vendor(
                    SalesforceError::Unavailable { .. } | SalesforceError::RateLimited { .. },
                )))
                | None => {}
                // An object without such a log, or a log that does not reach back so far: comparing all ids finds them.
                Some(Err(error)) => {
                    tracing::info!(object, error = %error, "what was deleted is not known by the log");
                    found.known.push((object, until));
                }
            }
        }
        Ok(found)
    }

    /// The objects of which a record is told to be deleted that is not so here. Their windows show more than the log,
    /// if the record is in the recycle bin.
    ///
    /// # Errors
    /// [`SyncError`].
    pub async fn news(&self, source: Source<'_>) -> Result<Vec<String>, SyncError> {
        let mut objects = Vec::new();
        for Gone { table, by_time } in &self.gone {
            let ids: Vec<String> = by_time.values().flatten().cloned().collect();
            let until = by_time.keys().next_back().copied().unwrap_or_default();
            if source.store.any_to_delete(table, source.account, &ids, until).await? {
                objects.push(table.object().to_owned());
            }
        }
        Ok(objects)
    }

    /// Marks what is not shown as deleted by now; after their windows, which say it with the whole record.
    ///
    /// # Errors
    /// [`SyncError`]; the transaction is of no more use then.
    pub async fn apply(&self, source: Source<'_>, tx: &mut Tx) -> Result<(), SyncError> {
        for Gone { table, by_time } in &self.gone {
            let object = table.object();
            for (at, ids) in by_time {
                let gone = source.store.delete_records(tx, table, source.account, ids, *at).await?;
                if gone > 0 {
                    tracing::info!(object, gone, "records were deleted for good");
                }
            }
        }
        Ok(source.store.note_deleted_until(tx, source.connection, &self.known).await?)
    }
}

//! The jobs of `salesforce_bulk`, as other jobs make them: one collects a window, one takes each page, one cleans up.
//! Owns what such a job says. Does not own what it does (`bin/salesforce_bulk.rs`).

use ::salesforce::{BulkJob, SalesforceError};
use chrono::{DateTime, Utc};
use domain::{JobId, Kind};
use serde::{Deserialize, Serialize};
use serde_json::json;
use servant_loop::{Done, JobContext, JobError, JobTx};
use store::{Inserted, NewJob, Store, Unique};
use sync::SyncError;

use crate::salesforce::{Customer, job_error, note_usage};

/// Whose jobs these are.
const KIND: &str = "salesforce_bulk";
/// Who reads what the Bulk API does not have.
const BY_REST: &str = "salesforce_sync";
/// What nobody waits for.
const WHENEVER: i16 = 4;

/// What one job does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Has Salesforce collect a window, waits for it, and makes a job for each page.
    Collect {
        /// The window.
        window: i64,
        /// Its beginning.
        fence: i32,
        /// Records that are believed to be in it.
        rows: u64,
        /// Jobs that waited before this one.
        #[serde(default)]
        waits: u32,
        /// Since when Salesforce has been collecting.
        #[serde(default)]
        since: Option<DateTime<Utc>>,
    },
    /// Takes a page.
    Page {
        /// The window.
        window: i64,
        /// Its beginning.
        fence: i32,
        /// The page.
        seq: i32,
    },
    /// Has Salesforce forget a job and its results.
    Forget {
        /// The job, by Salesforce's id.
        job: String,
        /// The version of the API that it was made with.
        api_version: String,
    },
}

impl Step {
    /// A window's first job.
    #[must_use]
    pub const fn collect(window: i64, fence: i32, rows: u64) -> Self {
        Self::Collect { window, fence, rows, waits: 0, since: None }
    }

    /// A job like this as a child of `parent`, with so many records to read. It joins the parent's group, unless it
    /// only cleans up.
    ///
    /// # Errors
    /// [`JobError`]; return it.
    pub fn job(&self, parent: &JobContext, todo: u64) -> Result<NewJob, JobError> {
        let payload = serde_json::to_value(self).map_err(JobError::bug)?;
        let is_cleaning = matches!(self, Self::Forget { .. });
        let job = NewJob::new(Kind::new(KIND).map_err(JobError::bug)?, payload);
        Ok(NewJob {
            account: parent.account(),
            connection: parent.connection(),
            group: parent.group().filter(|_| !is_cleaning),
            priority: if is_cleaning { WHENEVER } else { job.priority },
            todo: Some(todo).filter(|_| !is_cleaning),
            request_id: parent.request_id(),
            traceparent: parent.traceparent().map(str::to_owned),
            ..job
        })
    }
}

/// A job that reads a window by REST, which the Bulk API does not have, as a child of `parent`.
///
/// # Errors
/// [`JobError`]; return it.
pub fn by_rest(parent: &JobContext, window: i64, rows: u64) -> Result<NewJob, JobError> {
    Ok(NewJob {
        account: parent.account(),
        connection: parent.connection(),
        group: parent.group(),
        todo: Some(rows),
        unique: Some(Unique { key: format!("by-rest-{window}"), for_secs: None }),
        request_id: parent.request_id(),
        ..NewJob::new(Kind::new(BY_REST).map_err(JobError::bug)?, json!({}))
    })
}

/// Makes the job that collects a window from its beginning on, as a child of `parent`.
///
/// # Errors
/// [`JobError`]; return it.
pub async fn collect(
    store: &Store,
    tx: &mut JobTx<'_>,
    parent: &JobContext,
    (window, fence): (i64, i32),
    rows: u64,
) -> Result<(), JobError> {
    let mut job = Step::collect(window, fence, rows).job(parent, rows)?;
    job.group = tx.group();
    note(store, tx, window, job).await
}

/// Makes a job that goes on with a window's collection.
///
/// # Errors
/// [`JobError`]; return it.
pub async fn note(store: &Store, tx: &mut JobTx<'_>, window: i64, job: NewJob) -> Result<(), JobError> {
    let inserted: Vec<Inserted> = tx.insert_jobs(&[job]).await?;
    for job in inserted {
        store.note_collector_in(tx.tx(), window, job).await?;
    }
    Ok(())
}

/// Has Salesforce forget its job: what it holds counts against the organisation's storage for 7 days.
///
/// # Errors
/// [`JobError`]; return it.
pub async fn forget(customer: &Customer, external: &BulkJob, job: &JobContext) -> Result<Done, JobError> {
    let client = &customer.client;
    let mut forgotten = client.delete_bulk_job(external).await;
    if let Err(SalesforceError::Rejected { .. }) = forgotten {
        // It has not ended yet.
        forgotten = match client.abort_bulk_job(external).await {
            Ok(_) => client.delete_bulk_job(external).await,
            Err(SalesforceError::CursorExpired) => Ok(()),
            Err(error) => Err(error),
        };
    }
    let forgotten = forgotten.map_err(SyncError::from);
    note_usage(client, job, &forgotten);
    forgotten.map_err(|error| job_error(error, job.clock().now()))?;
    Ok(Done::without_effects())
}

/// The ids of jobs that were inserted without a key, and so are new.
#[must_use]
pub fn ids(inserted: Vec<Inserted>) -> Vec<JobId> {
    let id = |job| match job {
        Inserted::New(id) => Some(id),
        Inserted::Duplicate(id) => id,
    };
    inserted.into_iter().filter_map(id).collect()
}

/// What this job was made for is done by others, or no longer wanted: it has nothing to do, and never had.
///
/// # Errors
/// [`JobError`]; return it.
pub async fn somebody_elses(job: &JobContext) -> Result<Done, JobError> {
    job.progress(0, Some(0), "somebody else's");
    job.begin().await?.finish().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_job_says_is_read_as_it_was_written_and_nothing_else_is() {
        let steps = [
            Step::collect(7, 2, 900),
            Step::Page { window: 7, fence: 2, seq: 3 },
            Step::Forget { job: "750000000000001AAA".to_owned(), api_version: "66.0".to_owned() },
        ];
        for step in steps {
            let written = serde_json::to_value(&step).unwrap();
            assert_eq!(serde_json::from_value::<Step>(written).unwrap(), step);
        }
        let short = r#"{"step": "collect", "window": 7, "fence": 2, "rows": 900}"#;
        assert_eq!(serde_json::from_str::<Step>(short).unwrap(), Step::collect(7, 2, 900));
        for wrong in [r#"{"step": "page", "window": 7, "fence": 2, "seq": 3, "more": 1}"#, r#"{"step": "other"}"#, "{}"]
        {
            assert!(serde_json::from_str::<Step>(wrong).is_err(), "{wrong}");
        }
    }
}

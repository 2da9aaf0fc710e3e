//! Owns queries by the Bulk API 2.0: jobs, where their pages of results begin, and the pages as streams of CSV.
//! Does not own how a call is made, nor what the CSV means.

use reqwest::{Method, Url};
use serde::Deserialize;
use serde_json::{json, value::RawValue};

use crate::{
    address::DATA_PATH,
    call::Call,
    client::{Client, check_version},
    error::{Result, SalesforceError},
    record_id::id18,
    refusal::{Asked, read_job_failure},
    transport::{Arrived, Head, PageBody},
    wire::broken,
};

/// Where the first page of a job's results begins.
pub const FIRST_PAGE: &str = "";
/// The first version whose jobs list their pages.
const LISTED_SINCE: u32 = 58;
/// Far longer than any locator seen.
const LOCATOR_BYTES_MAX: usize = 4_096;

/// A bulk job. Its results can only be asked for with the version that it was made with, so both are kept together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkJob {
    /// The id, `750…`.
    pub id: String,
    /// Such as `66.0`.
    pub api_version: String,
}

impl BulkJob {
    /// Where the job is; a job comes out of a ledger or an answer, so look at it first.
    fn path(&self, leaf: &str) -> Result<String> {
        check_version(&self.api_version)?;
        if id18(&self.id).is_none() {
            return Err(SalesforceError::rejected("JOB_ID", "the id of a bulk job has 15 or 18 letters and digits"));
        }
        Ok(format!("{DATA_PATH}v{}/jobs/query/{}{leaf}", self.api_version, self.id))
    }

    /// The query of an address that Salesforce sent for this job. Only this part is used: the rest is known.
    fn query_of(&self, address: &str, leaf: &str) -> Result<String> {
        let foreign = || SalesforceError::rejected("URL", "the address of a page of results is not of its job");
        let base = Url::parse("https://salesforce.invalid").map_err(|_| foreign())?;
        let url = base.join(address).map_err(|_| foreign())?;
        let path: Vec<&str> = url.path().split('/').collect();
        let is_ours = matches!(path[..], ["", "services", "data", _, "jobs", "query", job, last]
            if last == leaf && id18(job).is_some() && id18(job) == id18(&self.id));
        let query = url.query().unwrap_or_default();
        if is_ours && query.len() <= LOCATOR_BYTES_MAX { Ok(query.to_owned()) } else { Err(foreign()) }
    }
}

/// How far a bulk job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BulkState {
    /// It waits.
    UploadComplete,
    /// It runs.
    InProgress,
    /// Its results can be fetched, for 7 days.
    JobComplete,
    /// It was aborted.
    Aborted,
    /// It failed: [`BulkStatus::failure`] says what to do.
    Failed,
    /// A state that is not in the documents.
    Other(String),
}

/// What Salesforce tells of a bulk job.
#[derive(Clone, Debug)]
pub struct BulkStatus {
    /// The job.
    pub job: BulkJob,
    /// How far it is.
    pub state: BulkState,
    /// Records found so far; once complete, what the pages must add up to.
    pub records: u64,
    /// How often Salesforce began again by itself.
    pub retries: u32,
    /// Why it failed, as said.
    pub error: Option<String>,
}

impl BulkStatus {
    /// What a job that ended without results means, if this one did: `QueryTimeout`, `NotInBulk`, `Drift`, …
    #[must_use]
    pub fn failure(&self) -> Option<SalesforceError> {
        match self.state {
            BulkState::Failed => Some(read_job_failure(self.error.as_deref().unwrap_or_default())),
            BulkState::Aborted => Some(SalesforceError::CursorExpired),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireJob {
    id: String,
    state: String,
    /// A number in some answers, a text in others; read as written, since 66.0 is not 66.
    api_version: Box<RawValue>,
    number_records_processed: Option<u64>,
    retries: Option<u32>,
    error_message: Option<String>,
}

impl TryFrom<WireJob> for BulkStatus {
    type Error = SalesforceError;

    fn try_from(wire: WireJob) -> Result<Self> {
        let written = wire.api_version.get().trim_matches('"');
        let api_version = if written.contains('.') { written.to_owned() } else { format!("{written}.0") };
        let job = BulkJob { id: wire.id, api_version };
        job.path("").map_err(|_| broken("a bulk job has no id or version that could be one"))?;
        let state = match wire.state.as_str() {
            "UploadComplete" => BulkState::UploadComplete,
            "InProgress" => BulkState::InProgress,
            "JobComplete" => BulkState::JobComplete,
            "Aborted" => BulkState::Aborted,
            "Failed" => BulkState::Failed,
            other => BulkState::Other(other.chars().take(40).collect()),
        };
        Ok(Self {
            job,
            state,
            records: wire.number_records_processed.unwrap_or(0),
            retries: wire.retries.unwrap_or(0),
            error: wire.error_message,
        })
    }
}

/// Which records a bulk query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkOperation {
    /// Those that are not deleted.
    Query,
    /// The recycle bin and archived activities too.
    QueryAll,
}

/// Where the pages of a job's results begin. Locators are opaque and good as long as the job is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResultPages {
    /// Some pages, and where the list goes on.
    Listed {
        /// Where each begins, for [`Client::bulk_page`].
        locators: Vec<String>,
        /// For [`Client::bulk_result_pages`]; none if these were the last.
        next: Option<String>,
    },
    /// The job does not list its pages: each tells where the next begins, from [`FIRST_PAGE`] on.
    Chain,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireResultPages {
    result_pages: Vec<WireResultPage>,
    // The documents' table has the one name, their example the other.
    #[serde(alias = "nextRecordUrl")]
    next_records_url: Option<String>,
    done: bool,
}

impl WireResultPages {
    /// The list that follows `next`.
    fn read(self, job: &BulkJob, next: Option<&str>) -> Result<ResultPages> {
        let locators = self.result_pages.iter().map(|page| job.query_of(&page.result_url, "results"));
        let locators = locators.collect::<Result<Vec<_>>>()?;
        let next_url = self.next_records_url.filter(|_| !self.done);
        let following = next_url.map(|url| job.query_of(&url, "resultPages")).transpose()?;
        match &following {
            None if !self.done => return Err(broken("a list of pages is not the last and names no next one")),
            Some(following) if following.is_empty() || Some(following.as_str()) == next => {
                return Err(broken("a list of pages leads back to itself"));
            }
            _ => {}
        }
        Ok(ResultPages::Listed { locators, next: following })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireResultPage {
    #[serde(alias = "resultLink")]
    result_url: String,
}

/// A page of a job's results.
#[derive(Debug)]
pub struct BulkPage {
    /// Records on it, as announced: what its body must hold.
    pub records: u64,
    /// Where the next page begins, if this one is not the last.
    pub next: Option<String>,
    /// The CSV.
    pub body: PageBody,
}

impl Client {
    /// Makes a query job. The query may have no ORDER BY, LIMIT, GROUP BY, sub-query or compound field. Not repeated if
    /// the answer was lost, since the job may be there.
    ///
    /// # Errors
    /// `NotInBulk` if the object or a field can only be asked for by REST, `QuotaExhausted` also when the jobs of 24 hours
    /// are used up; otherwise as [`Client::query`].
    pub async fn create_query(&self, soql: &str, operation: BulkOperation) -> Result<BulkStatus> {
        let operation = match operation {
            BulkOperation::Query => "query",
            BulkOperation::QueryAll => "queryAll",
        };
        let job = json!({
            "operation": operation,
            "query": soql,
            "contentType": "CSV",
            "columnDelimiter": "COMMA",
            "lineEnding": "LF",
        });
        let call = Call { asked: Asked::NewJob, is_idempotent: false, ..Call::send(Method::POST, "jobs/query", &job) };
        self.json::<WireJob>(&call).await?.0.try_into()
    }

    /// How far a job is.
    ///
    /// # Errors
    /// `CursorExpired` if the job is gone; otherwise as [`Client::query`].
    pub async fn bulk_job(&self, job: &BulkJob) -> Result<BulkStatus> {
        let path = job.path("")?;
        self.json::<WireJob>(&Call { asked: Asked::Job, ..Call::get(&path) }).await?.0.try_into()
    }

    /// Where pages of a complete job begin: the first ones, or those behind `next` of an earlier answer.
    ///
    /// # Errors
    /// `CursorExpired` if the job is gone; otherwise as [`Client::query`].
    pub async fn bulk_result_pages(&self, job: &BulkJob, next: Option<&str>) -> Result<ResultPages> {
        if job.api_version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0) < LISTED_SINCE {
            return Ok(ResultPages::Chain);
        }
        let path = with_query(job.path("/resultPages")?, next.unwrap_or_default())?;
        let call = Call { asked: Asked::Job, ..Call::get(&path) };
        let (wire, _) = match self.json::<WireResultPages>(&call).await {
            // No such job, or no such list? The job itself tells.
            Err(SalesforceError::CursorExpired) if next.is_none() => {
                return self.bulk_job(job).await.map(|_| ResultPages::Chain);
            }
            answer => answer?,
        };
        wire.read(job, next)
    }

    /// One page of a complete job's results, from a locator or [`FIRST_PAGE`]. It can be fetched again and again. What its
    /// body holds is not checked here: compare with `records`, and the sum of all pages with [`BulkStatus::records`].
    ///
    /// # Errors
    /// `CursorExpired` if the job or the locator is gone; otherwise as [`Client::query`].
    pub async fn bulk_page(&self, job: &BulkJob, locator: &str) -> Result<BulkPage> {
        let path = with_query(job.path("/results")?, locator)?;
        let records_max = self.page_records_max.map(|records| records.to_string());
        let query: Vec<_> = match &records_max {
            // A listed page is as long as it is listed.
            Some(max) if !locator.contains("maxRecords=") => vec![("maxRecords", max.as_str())],
            _ => Vec::new(),
        };
        let call = Call { query: &query, asked: Asked::Job, is_page: true, ..Call::get(&path) };
        self.begin(&call, |arrived| self.read_page(arrived, locator)).await
    }

    /// Ends a job that runs. One that has ended already stays as it is, which the answer tells.
    ///
    /// # Errors
    /// `CursorExpired` if the job is gone; otherwise as [`Client::query`].
    pub async fn abort_bulk_job(&self, job: &BulkJob) -> Result<BulkStatus> {
        let (path, state) = (job.path("")?, json!({"state": "Aborted"}));
        let call = Call { asked: Asked::Job, ..Call::send(Method::PATCH, &path, &state) };
        match self.json::<WireJob>(&call).await {
            Err(SalesforceError::Rejected { .. }) => self.bulk_job(job).await,
            answer => answer?.0.try_into(),
        }
    }

    /// Forgets an ended job and its results. One that is gone already is no error.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn delete_bulk_job(&self, job: &BulkJob) -> Result<()> {
        let path = job.path("")?;
        let call = Call { method: Method::DELETE, asked: Asked::Job, ..Call::get(&path) };
        match self.begin(&call, |_| Ok(())).await {
            Ok(()) | Err(SalesforceError::CursorExpired) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn read_page(&self, arrived: Arrived, locator: &str) -> Result<BulkPage> {
        let (records, next) = read_head(&arrived.head, locator, self.page_records_max)?;
        Ok(BulkPage { records, next, body: arrived.stream(self.page_bytes_max)? })
    }
}

/// How many records a page announces, and where the next one begins.
fn read_head(head: &Head, locator: &str, page_records_max: Option<u32>) -> Result<(u64, Option<String>)> {
    if !head.text("content-type").is_some_and(|kind| kind.trim_start().starts_with("text/csv")) {
        return Err(broken("a page of results is not CSV"));
    }
    let records = head.text("sforce-numberofrecords").and_then(|records| records.trim().parse().ok());
    let records = records.ok_or_else(|| broken("a page of results does not say how many records it has"))?;
    let next = match head.text("sforce-locator").map(str::trim) {
        None | Some("") => return Err(broken("a page of results does not say where the next one is")),
        Some("null") => None,
        Some(next) => Some(listed(next, page_records_max)?),
    };
    if next.as_deref().is_some_and(|next| next == locator) {
        return Err(broken("a page of results leads back to itself"));
    }
    Ok((records, next))
}

/// A locator of a header in the form of those that are listed: with the number of records that it goes with.
fn listed(text: &str, page_records_max: Option<u32>) -> Result<String> {
    let refused = || broken("a page of results names a locator that cannot be one");
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused());
    }
    let mut url = Url::parse("https://salesforce.invalid").map_err(|_| broken("no locator can be made"))?;
    url.query_pairs_mut().append_pair("locator", text);
    if let Some(records) = page_records_max {
        url.query_pairs_mut().append_pair("maxRecords", &records.to_string());
    }
    // As long as it is asked for: what is escaped takes three bytes for one.
    let query = url.query().unwrap_or_default();
    if query.len() <= LOCATOR_BYTES_MAX { Ok(query.to_owned()) } else { Err(refused()) }
}

/// A locator comes out of a ledger: only what one is made of may reach the address.
fn with_query(path: String, query: &str) -> Result<String> {
    let is_plain =
        query.len() <= LOCATOR_BYTES_MAX && query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    match query {
        "" => Ok(path),
        _ if is_plain => Ok(format!("{path}?{query}")),
        _ => Err(SalesforceError::rejected("LOCATOR", "the locator of a page of results is not one")),
    }
}

/// Its part of [`crate::fuzz`].
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz {
    use super::*;

    /// What a job tells of itself leads nowhere but to itself.
    pub(crate) fn job(bytes: &[u8]) {
        let Some(status) =
            serde_json::from_slice::<WireJob>(bytes).ok().and_then(|wire| BulkStatus::try_from(wire).ok())
        else {
            return;
        };
        let path = status.job.path("/results").expect("a job that was let in has a path");
        assert!(path.starts_with(DATA_PATH) && !path.contains(".."), "{path}");
        drop(status.failure());
    }

    /// Pages that are listed are this job's, and the list goes on behind itself.
    pub(crate) fn pages(bytes: &[u8]) {
        let job = BulkJob { id: "750R0000000zxr8IAA".to_owned(), api_version: "66.0".to_owned() };
        let Ok(wire) = serde_json::from_slice::<WireResultPages>(bytes) else { return };
        if let Ok(ResultPages::Listed { locators, next }) = wire.read(&job, Some("locator=before")) {
            for locator in locators.iter().chain(&next) {
                let path = with_query(job.path("/results").expect("a path"), locator);
                assert!(path.is_ok(), "{locator} was let in");
            }
            assert_ne!(next.as_deref(), Some("locator=before"));
        }
    }

    /// What comes before a page: where the next one begins can be asked for, and is not here.
    pub(crate) fn head(head: &Head) {
        if let Ok((_, Some(next))) = read_head(head, "locator=here", Some(1_000)) {
            assert_ne!(next, "locator=here");
            with_query("/services/data/".to_owned(), &next).expect("a locator that was let in");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locator_that_could_not_be_asked_for_is_not_taken() {
        let ask = |locator: &str| with_query("/services/data/".to_owned(), &listed(locator, Some(1_000)).unwrap());
        assert!(ask("MTAwMDA=").is_ok());
        assert!(ask(&"(".repeat(1_300)).is_ok());
        for locator in ["(".repeat(1_400), "A".repeat(LOCATOR_BYTES_MAX), "a b".to_owned()] {
            assert!(listed(&locator, Some(1_000)).is_err(), "{locator}");
        }
    }

    #[test]
    fn only_the_query_of_ones_own_job_is_taken() {
        let job = BulkJob { id: "750R0000000zxr8IAA".to_owned(), api_version: "66.0".to_owned() };
        let read = |address: &str| job.query_of(address, "results");
        assert_eq!(read("/services/data/v66.0/jobs/query/750R0000000zxr8IAA/results").unwrap(), FIRST_PAGE);
        assert_eq!(read("/services/data/v66.0/jobs/query/750R0000000zxr8/results?locator=a=b").unwrap(), "locator=a=b");
        for bad in [
            "/services/data/v66.0/jobs/query/750R0000000zxr9IAA/results",
            "/services/data/v66.0/jobs/query/750R0000000zxr8IAA/resultPages",
            "/services/data/v66.0/jobs/query/750R0000000zxr8IAA/results/../../x",
            "//evil.example/results",
            "",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn jobs_from_a_ledger_are_looked_at() {
        for (id, api_version) in [("../../x", "66.0"), ("750R0000000zxr8IAA", "66.0/../.."), ("", "66.0")] {
            assert!(BulkJob { id: id.to_owned(), api_version: api_version.to_owned() }.path("").is_err(), "{id}");
        }
    }
}

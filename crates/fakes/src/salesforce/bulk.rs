//! Owns the query jobs of Bulk API 2.0: making, watching, ending and forgetting them.
//! Does not own the pages of their results.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{
    bulk_pages, evaluate,
    fault::{Call, Fault},
    field::FieldType,
    ids::id_for,
    record::Record,
    reply::Refusal,
    resources::{Ask, Reply},
    service::Service,
    soql,
    values::{Rows, wire_datetime},
};

const QUERY_TIMEOUT: &str = "InternalServerError : Retried more than fifteen times. Last error: QUERY_TIMEOUT: Your query request was running for \
     too long.";

/// What becomes of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Completes,
    Fails,
    IsAborted,
    NeverEnds,
}

/// A query job. It shows the records as they were when it was made.
pub(super) struct Job {
    /// Its id.
    pub id: String,
    /// The version that made it, as `v66.0`; results are for this one only.
    pub version: String,
    operation: String,
    object: String,
    delimiter: &'static str,
    line_ending: &'static str,
    created_at: DateTime<Utc>,
    since: Instant,
    delay: Duration,
    fate: Fate,
    /// The names of its columns.
    pub names: Vec<String>,
    /// How its rows are written.
    pub rows: Rows,
    /// What it found.
    pub records: Vec<Arc<Record>>,
}

/// All jobs by id.
#[derive(Default)]
pub(super) struct Jobs {
    jobs: Mutex<(u64, BTreeMap<String, Arc<Job>>)>,
    aborted: Mutex<std::collections::BTreeSet<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Order {
    operation: String,
    query: String,
    #[serde(default = "csv")]
    content_type: String,
    #[serde(default = "comma")]
    column_delimiter: String,
    #[serde(default = "line_feed")]
    line_ending: String,
}

fn csv() -> String {
    "CSV".to_owned()
}

fn comma() -> String {
    "COMMA".to_owned()
}

fn line_feed() -> String {
    "LF".to_owned()
}

const DELIMITERS: [(&str, u8); 6] =
    [("COMMA", b','), ("TAB", b'\t'), ("PIPE", b'|'), ("SEMICOLON", b';'), ("CARET", b'^'), ("BACKQUOTE", b'`')];
const LINE_ENDINGS: [(&str, &str); 2] = [("LF", "\n"), ("CRLF", "\r\n")];

fn bad(code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, code, message)
}

impl Jobs {
    fn all(&self) -> MutexGuard<'_, (u64, BTreeMap<String, Arc<Job>>)> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &str) -> Result<Arc<Job>, Refusal> {
        // Ids may come without their checksum.
        let id = if id.len() == 15 && id.is_ascii() { super::ids::with_checksum(id) } else { id.to_owned() };
        self.all().1.get(&id).cloned().ok_or_else(Refusal::not_found)
    }

    fn forget(&self, id: &str) {
        self.all().1.remove(id);
    }

    /// How many were made.
    pub(super) fn made(&self) -> u64 {
        self.all().0
    }

    fn state(&self, job: &Job) -> &'static str {
        if self.aborted.lock().unwrap_or_else(PoisonError::into_inner).contains(&job.id) {
            return "Aborted";
        }
        let age = job.since.elapsed();
        match job.fate {
            _ if age < job.delay / 2 => "UploadComplete",
            _ if age < job.delay => "InProgress",
            Fate::Completes => "JobComplete",
            Fate::Fails => "Failed",
            Fate::IsAborted => "Aborted",
            Fate::NeverEnds => "InProgress",
        }
    }
}

/// Answers a call below `jobs/query`.
pub(super) fn serve(
    service: &Service,
    ask: &Ask<'_>,
    call: Call,
    version: &str,
    rest: &[&str],
) -> Result<Reply, Refusal> {
    let jobs = &service.bulk;
    if let (Some(Fault::BulkJobDeleted), [id, ..]) = (ask.fault, rest) {
        jobs.forget(id);
    }
    match (call, rest) {
        (Call::BulkCreate, []) => {
            create(service, ask, version).map(|job| Reply::json(&describe(&job, "UploadComplete", false)))
        }
        (Call::BulkList, []) => {
            let all: Vec<_> = jobs.all().1.values().cloned().collect();
            let records: Vec<_> = all.iter().map(|job| describe(job, jobs.state(job), true)).collect();
            Ok(Reply::json(&json!({ "done": true, "records": records, "nextRecordsUrl": null })))
        }
        (Call::BulkJob, [id]) => {
            let job = jobs.find(id)?;
            Ok(Reply::json(&describe(&job, jobs.state(&job), true)))
        }
        (Call::BulkAbort, [id]) => {
            let job = jobs.find(id)?;
            abort(jobs, &job, ask.body)
        }
        (Call::BulkDelete, [id]) => {
            let job = jobs.find(id)?;
            if !matches!(jobs.state(&job), "JobComplete" | "Failed" | "Aborted") {
                return Err(bad("INVALIDJOBSTATE", "A job must have ended before it can be deleted"));
            }
            jobs.forget(&job.id);
            Ok(Reply::empty(StatusCode::NO_CONTENT))
        }
        (Call::BulkResults | Call::BulkPages, [id, _]) => {
            let job = jobs.find(id)?;
            if job.version != version {
                return Err(Refusal::other_version());
            }
            let state = jobs.state(&job);
            if state != "JobComplete" {
                return Err(bad("INVALIDJOBSTATE", format!("Results are not available: the job is {state}")));
            }
            match call {
                Call::BulkPages => bulk_pages::pages(&job, ask, service.options.bulk_page_records),
                _ => bulk_pages::page(service, &job, ask),
            }
        }
        _ => Err(Refusal::not_found()),
    }
}

fn create(service: &Service, ask: &Ask<'_>, version: &str) -> Result<Arc<Job>, Refusal> {
    let order: Order = serde_json::from_slice(ask.body).map_err(|error| bad("JSON_PARSER_ERROR", error.to_string()))?;
    let chosen = |name: &str, message: &str| bad("INVALIDJOB", format!("{name} is no {message}"));
    if !matches!(order.operation.as_str(), "query" | "queryAll") {
        return Err(chosen(&order.operation, "operation"));
    }
    if order.content_type != "CSV" {
        return Err(chosen(&order.content_type, "content type"));
    }
    let delimiter = DELIMITERS.iter().find(|(name, _)| *name == order.column_delimiter);
    let delimiter = delimiter.ok_or_else(|| chosen(&order.column_delimiter, "delimiter"))?;
    let line_ending = LINE_ENDINGS.iter().find(|(name, _)| *name == order.line_ending);
    let line_ending = line_ending.ok_or_else(|| chosen(&order.line_ending, "line ending"))?;
    let max = service.options.daily_bulk_jobs;
    if service.bulk.made() >= max {
        let message = format!("Max bulk v2 query jobs ({max}) per 24 hrs has been reached ({})", max + 1);
        return Err(Refusal::new(StatusCode::FORBIDDEN, "LIMIT_EXCEEDED", message));
    }
    let query = soql::parse(&order.query).map_err(|message| bad("MALFORMED_QUERY", message))?;
    let organisation = service.read();
    let object = organisation.object(&query.from).ok_or_else(|| Refusal::no_object(&query.from))?;
    if service.options.without_bulk.contains(&object.name) {
        return Err(bad("INVALIDENTITY", format!("Entity '{}' is not supported by the Bulk API.", object.name)));
    }
    if query.fields.is_empty() || query.offset.is_some() {
        return Err(bad("API_ERROR", "Aggregate queries and OFFSET are not supported in Bulk Query"));
    }
    let now = Utc::now();
    let found = evaluate::run(object, &query, order.operation == "queryAll", now)?;
    if found.places.iter().any(|place| object.fields[*place].field_type == FieldType::Address) {
        return Err(bad("API_ERROR", "Selecting compound data not supported in Bulk Query"));
    }
    let mut jobs = service.bulk.all();
    jobs.0 += 1;
    let job = Arc::new(Job {
        id: id_for("AsyncApiJob", &format!("{}/{}", service.run, jobs.0)),
        version: version.to_owned(),
        operation: order.operation,
        object: object.name.clone(),
        delimiter: delimiter.0,
        line_ending: line_ending.0,
        created_at: now,
        since: Instant::now(),
        delay: Duration::from_millis(service.options.bulk_delay_ms),
        fate: match ask.fault {
            Some(Fault::BulkJobFailed) => Fate::Fails,
            Some(Fault::BulkJobAborted) => Fate::IsAborted,
            Some(Fault::BulkJobStuck) => Fate::NeverEnds,
            _ if service.is_too_much(found.records.len()) => Fate::Fails,
            _ => Fate::Completes,
        },
        names: found.places.iter().map(|place| object.fields[*place].name.clone()).collect(),
        rows: Rows::new(&found.places, delimiter.1, line_ending.1),
        records: found.records,
    });
    jobs.1.insert(job.id.clone(), Arc::clone(&job));
    Ok(job)
}

fn abort(jobs: &Jobs, job: &Job, body: &[u8]) -> Result<Reply, Refusal> {
    let asked: Json = serde_json::from_slice(body).map_err(|error| bad("JSON_PARSER_ERROR", error.to_string()))?;
    if asked["state"] != "Aborted" {
        return Err(bad("INVALIDJOBSTATE", "A query job can only be aborted"));
    }
    if matches!(jobs.state(job), "JobComplete" | "Failed" | "Aborted") {
        return Err(bad("INVALIDJOBSTATE", "The job has ended already"));
    }
    jobs.aborted.lock().unwrap_or_else(PoisonError::into_inner).insert(job.id.clone());
    Ok(Reply::json(&describe(job, "Aborted", false)))
}

/// A job as it is told; in full once it is asked for.
fn describe(job: &Job, state: &str, full: bool) -> Json {
    let number: f64 = job.version.trim_start_matches('v').parse().unwrap_or_default();
    let mut told = json!({
        "id": job.id, "operation": job.operation, "object": job.object, "createdById": "005000000000001AAA",
        "createdDate": wire_datetime(job.created_at), "systemModstamp": wire_datetime(job.created_at), "state": state,
        "concurrencyMode": "Parallel", "contentType": "CSV", "apiVersion": number, "lineEnding": job.line_ending,
        "columnDelimiter": job.delimiter,
    });
    if full {
        told["jobType"] = json!("V2Query");
        told["retries"] = json!(if state == "Failed" { 15 } else { 0 });
        told["totalProcessingTime"] = json!(u64::try_from(job.delay.as_millis()).unwrap_or(u64::MAX));
        told["isPkChunkingSupported"] = json!(true);
        told["numberRecordsProcessed"] = json!(if state == "JobComplete" { job.records.len() } else { 0 });
        if state == "Failed" {
            told["errorMessage"] = json!(QUERY_TIMEOUT);
        }
    }
    told
}

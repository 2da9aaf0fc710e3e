//! Owns the state of the simulated Salesforce (cursors, counters) and the answers to data calls.
//! Does not own HTTP, sign-on, limits, nor ordered failures.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value as Json, json};

use super::{
    Options, evaluate,
    fault::{Call, Faults},
    ids::id_for,
    jwt::SigningKey,
    oauth::Grants,
    organisation::{Object, Organisation, Record, wire_datetime},
    reply::Refusal,
    soql,
    usage::Usage,
};

/// The newest version served.
pub const API_VERSION: &str = "66.0";
/// Cursors beyond this number push out the oldest.
const CURSORS_MAX: usize = 10_000;
const PAGE_SIZE_MIN: usize = 1;

/// What the server was asked so far.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Stats {
    /// Calls by kind, the failed ones too.
    pub calls: BTreeMap<Call, u64>,
    /// Calls of this run that count against the daily allowance.
    pub api_used: u64,
    /// Calls refused since the daily allowance was used up.
    pub refused_daily: u64,
    /// Calls refused since too many long ones ran.
    pub refused_concurrent: u64,
    /// The most data calls that ever ran at once.
    pub running_peak: usize,
    /// Access tokens issued.
    pub tokens_issued: u64,
    /// Pages of records sent.
    pub pages: u64,
    /// Records sent.
    pub records: u64,
}

/// A query whose further pages can be asked for: it shows the records as they were when it began.
struct Cursor {
    object: String,
    names: Vec<(String, usize)>,
    records: Vec<Arc<Record>>,
    page_size: usize,
}

#[derive(Default)]
struct State {
    cursors: HashMap<String, Arc<Cursor>>,
    cursor_ages: VecDeque<String>,
    cursors_opened: u64,
    faults: Faults,
    stats: Stats,
}

pub(super) struct Service {
    pub(super) options: Options,
    pub(super) organisation: RwLock<Organisation>,
    pub(super) url: String,
    pub(super) grants: Mutex<Grants>,
    pub(super) usage: Mutex<Usage>,
    pub(super) signing_key: Option<SigningKey>,
    /// Tells the cursors of one run from those of another.
    run: String,
    state: Mutex<State>,
}

impl Service {
    pub(super) fn new(options: Options, organisation: Organisation, url: String) -> anyhow::Result<Self> {
        Ok(Self {
            organisation: RwLock::new(organisation),
            url,
            grants: Mutex::new(Grants::new(&options)),
            usage: Mutex::new(Usage::new(&options)),
            signing_key: options.jwt_public_key.as_deref().map(SigningKey::read).transpose()?,
            run: uuid::Uuid::new_v4().simple().to_string(),
            state: Mutex::new(State::default()),
            options,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn with_faults<T>(&self, act: impl FnOnce(&mut Faults) -> T) -> T {
        act(&mut self.state().faults)
    }

    pub(super) fn stats(&self) -> Stats {
        let usage = self.usage_seen(Utc::now());
        Stats {
            api_used: usage.admitted,
            refused_daily: usage.refused_daily,
            refused_concurrent: usage.refused_concurrent,
            running_peak: usage.running_peak,
            tokens_issued: self.grants().sessions_issued(),
            ..self.state().stats.clone()
        }
    }

    pub(super) fn count(&self, call: Call) {
        *self.state().stats.calls.entry(call).or_default() += 1;
    }

    pub(super) fn read(&self) -> std::sync::RwLockReadGuard<'_, Organisation> {
        self.organisation.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first page of a query.
    pub(super) fn query(
        &self,
        version: &str,
        text: &str,
        all: bool,
        page_size: Option<usize>,
    ) -> Result<Json, Refusal> {
        let malformed = |message| Refusal::new(axum::http::StatusCode::BAD_REQUEST, "MALFORMED_QUERY", message);
        let query = soql::parse(text).map_err(malformed)?;
        let organisation = self.read();
        let object = organisation.object(&query.from).ok_or_else(|| Refusal::no_object(&query.from))?;
        let found = evaluate::run(object, &query, all)?;
        if query.fields.is_empty() {
            return Ok(json!({ "totalSize": found.records.len(), "done": true, "records": [] }));
        }
        let names = found.places.iter().map(|place| (object.fields[*place].name.clone(), *place)).collect();
        let page_size = page_size.unwrap_or(usize::MAX).min(self.options.page_size).max(PAGE_SIZE_MIN);
        let cursor = Arc::new(Cursor { object: object.name.clone(), names, records: found.records, page_size });
        let mut id = String::new();
        if cursor.records.len() > page_size {
            let mut state = self.state();
            state.cursors_opened += 1;
            id = id_for("QueryCursor", &format!("{}/{}", self.run, state.cursors_opened)).replacen("a00", "01g", 1);
            state.cursors.insert(id.clone(), Arc::clone(&cursor));
            state.cursor_ages.push_back(id.clone());
            if state.cursor_ages.len() > CURSORS_MAX
                && let Some(oldest) = state.cursor_ages.pop_front()
            {
                state.cursors.remove(&oldest);
            }
        }
        Ok(self.page(version, object, &cursor, &id, 0))
    }

    /// A further page; `locator` is `<cursor>-<offset>`.
    pub(super) fn next_page(&self, version: &str, locator: &str) -> Result<Json, Refusal> {
        let (id, offset) = locator.rsplit_once('-').ok_or_else(Refusal::no_cursor)?;
        let offset: usize = offset.parse().map_err(|_| Refusal::no_cursor())?;
        let cursor = self.state().cursors.get(id).cloned().ok_or_else(Refusal::no_cursor)?;
        if offset > cursor.records.len() {
            return Err(Refusal::no_cursor());
        }
        let organisation = self.read();
        let object = organisation.object(&cursor.object).ok_or_else(Refusal::no_cursor)?;
        Ok(self.page(version, object, &cursor, id, offset))
    }

    fn page(&self, version: &str, object: &Object, cursor: &Cursor, id: &str, offset: usize) -> Json {
        let end = offset.saturating_add(cursor.page_size).min(cursor.records.len());
        let base = format!("/services/data/{version}");
        let record = |record: &Arc<Record>| {
            let mut wire = Map::new();
            let url = format!("{base}/sobjects/{}/{}", object.name, record.id());
            wire.insert("attributes".to_owned(), json!({ "type": object.name, "url": url }));
            for (name, place) in &cursor.names {
                wire.insert(name.clone(), object.wire_value(record, *place));
            }
            Json::Object(wire)
        };
        let records: Vec<Json> = cursor.records[offset..end].iter().map(record).collect();
        let mut state = self.state();
        state.stats.pages += 1;
        state.stats.records += records.len() as u64;
        let done = end == cursor.records.len();
        let mut page = json!({ "totalSize": cursor.records.len(), "done": done, "records": records });
        if !done {
            page["nextRecordsUrl"] = json!(format!("{base}/query/{id}-{end}"));
        }
        page
    }

    /// The records that went to the recycle bin from `start` until before `end`.
    pub(super) fn deleted(&self, object: &str, start: DateTime<Utc>, end: DateTime<Utc>) -> Result<Json, Refusal> {
        let organisation = self.read();
        let object = organisation.object(object).ok_or_else(Refusal::not_found)?;
        let deleted = object.records.values().filter(|record| record.is_deleted()).filter_map(|record| {
            let at = record.modified_at().filter(|at| (start..end).contains(at))?;
            Some(json!({ "id": record.id(), "deletedDate": wire_datetime(at) }))
        });
        Ok(json!({
            "deletedRecords": deleted.collect::<Vec<_>>(),
            "earliestDateAvailable": wire_datetime(Utc::now() - chrono::Duration::days(15)),
            "latestDateCovered": wire_datetime(end.min(Utc::now())),
        }))
    }
}

//! Owns the state of the simulated Salesforce (cursors, counters) and the answers to data calls.
//! Does not own HTTP, sign-on, limits, nor ordered failures.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, atomic::AtomicI64},
};

use serde_json::json;

use super::{
    Options, bulk, evaluate,
    fault::{Call, Faults},
    ids::id_for,
    jwt::SigningKey,
    oauth::Grants,
    organisation::{Object, Organisation},
    record::Record,
    reply::Refusal,
    soql,
    usage::Usage,
    values,
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
    places: Vec<usize>,
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
    /// Tells the cursors and jobs of one run from those of another.
    pub(super) run: String,
    pub(super) bulk: bulk::Jobs,
    /// When something invisible so far becomes visible, in milliseconds of the epoch.
    pub(super) late_due_ms: AtomicI64,
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
            bulk: bulk::Jobs::default(),
            late_due_ms: AtomicI64::new(i64::MAX),
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
        let usage = self.usage_seen(chrono::Utc::now());
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

    /// The first page of a query.
    pub(super) fn query(
        &self,
        version: &str,
        text: &str,
        all: bool,
        page_size: Option<usize>,
    ) -> Result<Vec<u8>, Refusal> {
        let malformed = |message| Refusal::new(axum::http::StatusCode::BAD_REQUEST, "MALFORMED_QUERY", message);
        let query = soql::parse(text).map_err(malformed)?;
        let organisation = self.read();
        let object = organisation.object(&query.from).ok_or_else(|| Refusal::no_object(&query.from))?;
        let found = evaluate::run(object, &query, all, chrono::Utc::now())?;
        if query.fields.is_empty() {
            let counted = json!({ "totalSize": found.records.len(), "done": true, "records": [] });
            return Ok(counted.to_string().into_bytes());
        }
        if self.is_too_much(found.records.len()) {
            return Err(Refusal::query_timeout());
        }
        let page_size = page_size.unwrap_or(usize::MAX).min(self.options.page_size).max(PAGE_SIZE_MIN);
        let cursor =
            Arc::new(Cursor { object: object.name.clone(), places: found.places, records: found.records, page_size });
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
    pub(super) fn next_page(&self, version: &str, locator: &str) -> Result<Vec<u8>, Refusal> {
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

    fn page(&self, version: &str, object: &Object, cursor: &Cursor, id: &str, offset: usize) -> Vec<u8> {
        let end = offset.saturating_add(cursor.page_size).min(cursor.records.len());
        let base = format!("/services/data/{version}");
        let done = end == cursor.records.len();
        let mut page = format!("{{\"totalSize\":{},\"done\":{done},", cursor.records.len()).into_bytes();
        if !done {
            page.extend_from_slice(format!("\"nextRecordsUrl\":\"{base}/query/{id}-{end}\",").as_bytes());
        }
        page.extend_from_slice(b"\"records\":[");
        for (index, record) in cursor.records[offset..end].iter().enumerate() {
            if index > 0 {
                page.push(b',');
            }
            values::write_record(&mut page, object, record, &cursor.places, Some(&base));
        }
        page.extend_from_slice(b"]}");
        self.sent(end - offset);
        page
    }

    /// Whether so many records take a query too long.
    pub(super) fn is_too_much(&self, records: usize) -> bool {
        self.options.timely_records_max.is_some_and(|max| records > max)
    }

    /// Counts a page of records.
    pub(super) fn sent(&self, records: usize) {
        let mut state = self.state();
        state.stats.pages += 1;
        state.stats.records += records as u64;
    }
}

//! Owns the state of the simulated Salesforce (tokens, cursors, counters) and the answers to data calls.
//! Does not own HTTP, nor ordered failures.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, atomic::AtomicI64},
    time::{Duration, Instant},
};

use serde_json::{Value as Json, json};

use super::{
    Options, bulk, evaluate,
    fault::{Call, Faults},
    ids::id_for,
    organisation::{Object, Organisation},
    record::Record,
    reply::Refusal,
    soql, values,
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
    /// Calls that count against the daily allowance.
    pub api_used: u64,
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
    tokens: HashMap<String, Instant>,
    /// None once the grant is revoked.
    refresh_token: Option<String>,
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
    /// Tells the tokens of one run from those of another.
    pub(super) run: String,
    pub(super) bulk: bulk::Jobs,
    /// When something invisible so far becomes visible, in milliseconds of the epoch.
    pub(super) late_due_ms: AtomicI64,
    state: Mutex<State>,
}

/// A token request refused: the code and the description.
pub(super) type TokenRefusal = (&'static str, &'static str);

impl Service {
    pub(super) fn new(options: Options, organisation: Organisation, url: String) -> Self {
        let state = State { refresh_token: Some(options.refresh_token.clone()), ..State::default() };
        let run = uuid::Uuid::new_v4().simple().to_string();
        Self {
            options,
            organisation: RwLock::new(organisation),
            url,
            run,
            bulk: bulk::Jobs::default(),
            late_due_ms: AtomicI64::new(i64::MAX),
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn with_faults<T>(&self, act: impl FnOnce(&mut Faults) -> T) -> T {
        act(&mut self.state().faults)
    }

    pub(super) fn stats(&self) -> Stats {
        self.state().stats.clone()
    }

    pub(super) fn count(&self, call: Call) {
        *self.state().stats.calls.entry(call).or_default() += 1;
    }

    /// Issues an access token.
    pub(super) fn token(&self, form: &HashMap<String, String>) -> Result<Json, TokenRefusal> {
        let field = |name| form.get(name).map_or("", String::as_str);
        if field("grant_type") != "refresh_token" {
            return Err(("unsupported_grant_type", "grant type not supported"));
        }
        if field("client_id") != self.options.client_id {
            return Err(("invalid_client_id", "client identifier invalid"));
        }
        if field("client_secret") != self.options.client_secret {
            return Err(("invalid_client", "invalid client credentials"));
        }
        let mut state = self.state();
        if state.refresh_token.as_deref() != Some(field("refresh_token")) {
            if self.options.rotate_refresh_tokens {
                // A used token that comes again may be stolen: the grant ends for everyone.
                state.refresh_token = None;
                state.tokens.clear();
            }
            return Err(("invalid_grant", "expired access/refresh token"));
        }
        state.stats.tokens_issued += 1;
        let (issued, run) = (state.stats.tokens_issued, &self.run);
        let token = format!("00DFAKE00000001!{run}.{issued}");
        let now = Instant::now();
        state.tokens.retain(|_, until| *until > now);
        state.tokens.insert(token.clone(), now + Duration::from_secs(self.options.token_secs));
        let mut reply = json!({
            "access_token": token, "instance_url": self.url, "id": format!("{}/id/00DFAKE00000001EAA/005000000000001AAA", self.url),
            "token_type": "Bearer", "issued_at": chrono::Utc::now().timestamp_millis().to_string(), "signature": "none",
            "scope": "refresh_token api",
        });
        if self.options.rotate_refresh_tokens {
            let refresh_token = format!("5Aep.{run}.{issued}");
            reply["refresh_token"] = json!(refresh_token);
            state.refresh_token = Some(refresh_token);
        }
        Ok(reply)
    }

    /// Ends every session.
    pub(super) fn end_sessions(&self) {
        self.state().tokens.clear();
    }

    /// Ends the grant: no refresh token is good any more.
    pub(super) fn revoke_grant(&self) {
        let mut state = self.state();
        state.refresh_token = None;
        state.tokens.clear();
    }

    /// Lets a data call in and counts it.
    pub(super) fn admit(&self, authorization: &str) -> Result<(), Refusal> {
        let mut state = self.state();
        let token =
            authorization.strip_prefix("Bearer ").or_else(|| authorization.strip_prefix("OAuth ")).unwrap_or_default();
        if state.tokens.get(token).is_none_or(|until| *until <= Instant::now()) {
            return Err(Refusal::session());
        }
        if state.stats.api_used >= self.options.daily_limit {
            return Err(Refusal::daily_limit());
        }
        state.stats.api_used += 1;
        Ok(())
    }

    /// The header that tells how much of the allowance is used.
    pub(super) fn limit_info(&self) -> String {
        format!("api-usage={}/{}", self.state().stats.api_used, self.options.daily_limit)
    }

    pub(super) fn limits(&self) -> Json {
        let (max, used) = (self.options.daily_limit, self.state().stats.api_used);
        let jobs = self.options.daily_bulk_jobs;
        json!({
            "DailyApiRequests": { "Max": max, "Remaining": max.saturating_sub(used) },
            "DailyBulkV2QueryJobs": { "Max": jobs, "Remaining": jobs.saturating_sub(self.bulk.made()) },
            "DailyBulkV2QueryFileStorageMB": { "Max": 976_562, "Remaining": 976_562 },
        })
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

    /// Counts a page of records.
    pub(super) fn sent(&self, records: usize) {
        let mut state = self.state();
        state.stats.pages += 1;
        state.stats.records += records as u64;
    }
}

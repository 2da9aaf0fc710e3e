//! Owns the calls: describe, queries page by page, limits; each with one renewal of the session and bounded retries.
//! Does not own sign-on, nor one exchange over HTTP.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use backon::Retryable;
use chrono::{DateTime, Utc};
use reqwest::Url;
use serde::de::DeserializeOwned;

use crate::{
    auth::{Auth, Credentials, StoreRotated},
    error::{Refusal, Result, SalesforceError, read_refusal},
    transport::{Reply, Transport},
    wire::{ApiUsage, Describe, Limit, Page, WireDescribe, WireLimits, WireObjects, WirePage},
};

/// Below this path is everything that a session may be used for.
const DATA_PATH: &str = "/services/data/";

/// How a [`Client`] behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Such as `66.0`.
    pub api_version: String,
    /// For opening a connection.
    pub connect_timeout_secs: u64,
    /// For any silence while an answer is awaited; Salesforce itself gives up a call after 10 minutes.
    pub read_timeout_secs: u64,
    /// Repeats of one call after transient failures.
    pub retries_max: u32,
    /// The limit of the first pause; it doubles with each further one.
    pub retry_base_ms: u64,
    /// The limit of any pause.
    pub retry_max_ms: u64,
    /// Records on a page, 200 to 2,000; a hint. Without it Salesforce chooses.
    pub batch_size: Option<u32>,
    /// How the client names itself.
    pub user_agent: String,
    /// What stores a rotated refresh token.
    pub store_rotated: Option<StoreRotated>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            api_version: "66.0".to_owned(),
            connect_timeout_secs: 10,
            read_timeout_secs: 130,
            retries_max: 5,
            retry_base_ms: 500,
            retry_max_ms: 30_000,
            batch_size: None,
            user_agent: concat!("servant/", env!("CARGO_PKG_VERSION")).to_owned(),
            store_rotated: None,
        }
    }
}

/// One organisation, signed on. Share it: a session is renewed once for all who use it.
pub struct Client {
    transport: Transport,
    auth: Auth,
    api_version: String,
    batch_size: Option<u32>,
    calls: AtomicU64,
    usage: Mutex<Option<ApiUsage>>,
    has_usage_news: AtomicBool,
    server_time: Mutex<Option<DateTime<Utc>>>,
}

/// A failed attempt. A failed sign-on is never repeated here: with rotation, a second use of a refresh token that did
/// arrive would end the grant.
struct Failure {
    error: SalesforceError,
    may_repeat: bool,
}

impl Client {
    /// Signs on.
    ///
    /// # Errors
    /// `AuthBroken` if the authorisation is gone, `Unavailable` if the sign-on cannot be reached or the new refresh token
    /// cannot be stored, `Rejected` if a URL is not acceptable.
    pub async fn connect(credentials: Credentials, options: Options) -> Result<Self> {
        let transport = Transport::new(&options)?;
        let auth = Auth::new(credentials, options.store_rotated)?;
        auth.session(&transport).await?;
        Ok(Self {
            transport,
            auth,
            api_version: options.api_version,
            batch_size: options.batch_size,
            calls: AtomicU64::new(0),
            usage: Mutex::new(None),
            has_usage_news: AtomicBool::new(false),
            server_time: Mutex::new(None),
        })
    }

    /// The host of the customer's instance, with its port where that is not the usual one: what is down when it is down.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn host(&self) -> Result<String> {
        let instance = self.auth.session(&self.transport).await?.instance;
        let host = instance.host_str().unwrap_or_default();
        Ok(instance.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
    }

    /// The names of the objects that this user may query, in the order given.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn objects(&self) -> Result<Vec<String>> {
        let (list, _) = self.get::<WireObjects>("sobjects", &[]).await?;
        Ok(list.sobjects.into_iter().filter(|object| object.queryable).map(|object| object.name).collect())
    }

    /// The fields of an object.
    ///
    /// # Errors
    /// `Drift` if there is no such object for this user; otherwise as [`Client::query`].
    pub async fn describe(&self, object: &str) -> Result<Describe> {
        if object.is_empty() || !object.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(SalesforceError::rejected(
                "OBJECT_NAME",
                "the name of an object has letters, digits and _ only",
            ));
        }
        let describe: WireDescribe = self.get(&format!("sobjects/{object}/describe"), &[]).await?.0;
        Ok(describe.into())
    }

    /// The first page of a query, without the recycle bin.
    ///
    /// # Errors
    /// Every variant of [`SalesforceError`] but `CursorExpired`.
    pub async fn query(&self, soql: &str) -> Result<Page> {
        self.page(self.get("query", &[("q", soql)]).await?).await
    }

    /// The first page of a query, with the recycle bin and archived activities.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn query_all(&self, soql: &str) -> Result<Page> {
        self.page(self.get("queryAll", &[("q", soql)]).await?).await
    }

    /// The page that `next_records_url` of an earlier page refers to.
    ///
    /// # Errors
    /// `CursorExpired` if the query must begin again, `Rejected` if the address is not below `/services/data/` of this
    /// organisation; otherwise as [`Client::query`].
    pub async fn query_next(&self, next_records_url: &str) -> Result<Page> {
        self.page(self.get(next_records_url, &[]).await?).await
    }

    /// The allowances of the organisation by name, such as `DailyApiRequests`.
    ///
    /// # Errors
    /// As [`Client::query`]; `Forbidden` without the permission to see the set-up.
    pub async fn limits(&self) -> Result<BTreeMap<String, Limit>> {
        let (limits, _) = self.get::<WireLimits>("limits", &[]).await?;
        // Some entries hold more than the two numbers, and new ones may be of any shape.
        Ok(limits.into_iter().filter_map(|(name, limit)| Some((name, serde_json::from_value(limit).ok()?))).collect())
    }

    /// What the last answer said of the daily allowance.
    #[must_use]
    pub fn api_usage(&self) -> Option<ApiUsage> {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, once for each answer that said something: none until another does.
    #[must_use]
    pub fn api_usage_news(&self) -> Option<ApiUsage> {
        self.has_usage_news.swap(false, Ordering::Relaxed).then(|| self.api_usage()).flatten()
    }

    /// The server's clock at its last answer, from the `Date` header; whole seconds.
    #[must_use]
    pub fn server_time(&self) -> Option<DateTime<Utc>> {
        *self.server_time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Data requests sent, the repeated ones too; sign-ons are not counted.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    async fn page(&self, (wire, reply): (WirePage, Reply)) -> Result<Page> {
        let next = match wire.next_records_url.filter(|_| !wire.done) {
            Some(next) => {
                let url = self.address(&self.auth.session(&self.transport).await?.instance, &next)?;
                Some(url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path())))
            }
            None if wire.done => None,
            None => {
                let reason = "a page is not the last and names no next one".to_owned();
                return Err(SalesforceError::Unavailable { reason, source: None });
            }
        };
        let Reply { server_time, .. } = reply;
        Ok(Page {
            total_size: wire.total_size,
            done: wire.done,
            next_records_url: next,
            records: wire.records,
            server_time,
        })
    }

    /// Asks for a path (below the version, or absolute) and reads the answer.
    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<(T, Reply)> {
        // A renewed session replays the request once; a second loss means that no session is any good.
        let renewals = AtomicU64::new(0);
        let attempt = || self.attempt(path, query, &renewals);
        attempt
            .retry(self.transport.pauses())
            .when(|failure| failure.may_repeat)
            .notify(|failure, pause| {
                tracing::debug!(error = %failure.error, pause_ms = pause.as_millis(), "asking salesforce again");
            })
            .await
            .map_err(|failure| failure.error)
    }

    async fn attempt<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        renewals: &AtomicU64,
    ) -> std::result::Result<(T, Reply), Failure> {
        let last = |error| Failure { error, may_repeat: false };
        let mut session = self.auth.session(&self.transport).await.map_err(last)?;
        loop {
            let mut url = self.address(&session.instance, path).map_err(last)?;
            if !query.is_empty() {
                url.query_pairs_mut().extend_pairs(query);
            }
            match self.exchange(&session, url).await {
                Ok(answer) => return Ok(answer),
                Err(Refusal::Other(error)) => return Err(Failure { may_repeat: error.is_transient(), error }),
                Err(Refusal::SessionEnded) if renewals.fetch_add(1, Ordering::Relaxed) == 0 => {
                    session = self.auth.renew(&self.transport, session.generation).await.map_err(last)?;
                }
                Err(Refusal::SessionEnded) => {
                    return Err(last(SalesforceError::AuthBroken {
                        reason: "a new session was refused too".to_owned(),
                    }));
                }
            }
        }
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        session: &crate::auth::Session,
        url: Url,
    ) -> std::result::Result<(T, Reply), Refusal> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut reply = self.transport.get(session, url, self.batch_size).await?;
        if let Some(usage) = reply.limit_info.as_deref().and_then(ApiUsage::parse) {
            *self.usage.lock().unwrap_or_else(PoisonError::into_inner) = Some(usage);
            self.has_usage_news.store(true, Ordering::Relaxed);
        }
        if reply.server_time.is_some() {
            *self.server_time.lock().unwrap_or_else(PoisonError::into_inner) = reply.server_time;
        }
        if !reply.status.is_success() {
            return Err(read_refusal(reply.status, reply.retry_after_secs, &reply.body));
        }
        let body = std::mem::take(&mut reply.body);
        match serde_json::from_slice(&body) {
            Ok(answer) => Ok((answer, reply)),
            Err(error) => Err(SalesforceError::unavailable("the answer cannot be read", error).into()),
        }
    }

    /// The address of a path; what Salesforce or a checkpoint handed in may not lead anywhere else.
    fn address(&self, instance: &Url, path: &str) -> Result<Url> {
        let not_a_url = |error| SalesforceError::rejected("URL", format!("not an address: {error}"));
        let path = match path.strip_prefix(instance.origin().ascii_serialization().as_str()) {
            Some(path) => path.to_owned(),
            None if path.starts_with('/') || path.contains(':') => path.to_owned(),
            None => format!("{DATA_PATH}v{}/{path}", self.api_version),
        };
        check_path(path.split_once('?').map_or(path.as_str(), |(path, _)| path))?;
        let url = instance.join(&path).map_err(not_a_url)?;
        // Joining normalises: look again at what came out.
        check_path(url.path())?;
        if url.origin() != instance.origin() {
            return Err(SalesforceError::rejected("URL", "the address is of another host"));
        }
        Ok(url)
    }
}

/// Refuses all but plain paths below [`DATA_PATH`].
fn check_path(path: &str) -> Result<()> {
    let is_plain = path.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_'));
    let climbs = path.split('/').any(|part| part == "..");
    if path.starts_with(DATA_PATH) && is_plain && !climbs {
        return Ok(());
    }
    Err(SalesforceError::rejected("URL", "the address is not below /services/data/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        for good in ["/services/data/v66.0/query/01gxx-2000", "/services/data/v66.0/sobjects/A__c/describe"] {
            assert!(check_path(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "//evil.example/services/data/",
            "https://evil.example/services/data/x",
            "/services/data/../oauth2/revoke",
            "/services/data/%2e%2e/x",
            "/services/data/a\\b",
            "/services/data/a b",
            "/services/data",
            "/services/oauth2/token",
        ] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }
}

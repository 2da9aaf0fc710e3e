//! Owns the client that others share: how it begins, and what it tells of its calls so far.
//! Does not own the calls themselves.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use chrono::{DateTime, Utc};

use crate::{
    address::host_of,
    error::{Result, SalesforceError},
    options::Options,
    session::{Credentials, SessionSource, Sessions},
    transport::Transport,
    wire::ApiUsage,
};

/// One organisation, signed on. Share it: a session is renewed once for all who use it.
pub struct Client {
    pub(crate) transport: Transport,
    pub(crate) sessions: Sessions,
    pub(crate) api_version: String,
    pub(crate) batch_size: Option<u32>,
    pub(crate) page_records_max: Option<u32>,
    pub(crate) answer_bytes_max: usize,
    pub(crate) page_bytes_max: u64,
    pub(crate) calls: AtomicU64,
    pub(crate) usage: Mutex<Option<ApiUsage>>,
    pub(crate) has_usage_news: AtomicBool,
    pub(crate) server_time: Mutex<Option<DateTime<Utc>>>,
}

impl Client {
    /// Signs on by refresh token, as [`Client::open`].
    ///
    /// # Errors
    /// As [`Client::open`].
    pub async fn connect(credentials: Credentials, options: Options) -> Result<Self> {
        Self::open(SessionSource::RefreshToken(credentials), options).await
    }

    /// Signs on.
    ///
    /// # Errors
    /// `AuthBroken` if the authorisation is gone, `Unavailable` if the sign-on cannot be reached or the new refresh token
    /// cannot be stored, `RateLimited` if there were too many sign-ons, `Rejected` if a URL is not acceptable.
    pub async fn open(source: SessionSource, options: Options) -> Result<Self> {
        check_version(&options.api_version)?;
        let transport = Transport::new(&options)?;
        let sessions = Sessions::new(source, &transport, &options)?;
        sessions.get().await?;
        Ok(Self {
            transport,
            sessions,
            api_version: options.api_version,
            batch_size: options.batch_size,
            page_records_max: options.page_records_max,
            answer_bytes_max: options.answer_bytes_max,
            page_bytes_max: options.page_bytes_max,
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
        Ok(host_of(&self.sessions.get().await?.instance))
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
}

/// Such as `66.0`: it stands in paths.
pub(crate) fn check_version(version: &str) -> Result<()> {
    let is_number = |part: &str| !part.is_empty() && part.len() <= 3 && part.bytes().all(|c| c.is_ascii_digit());
    match version.split_once('.') {
        Some((major, minor)) if is_number(major) && is_number(minor) => Ok(()),
        _ => Err(SalesforceError::rejected("API_VERSION", "a version of the API is two numbers with a point between")),
    }
}

//! Owns one call of a client: its address, one renewal of the session, bounded repeats, and the accounts kept of answers.
//! Does not own what is asked (`rest`, `bulk`, `composite`), sign-on, nor the exchange over HTTP.

use std::{
    future::Future,
    sync::{
        PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use backon::Retryable;
use reqwest::{Method, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::{
    address::{DATA_PATH, join},
    client::Client,
    error::{Result, SalesforceError},
    refusal::{Asked, Refusal, read_refusal},
    session::Live,
    transport::{Arrived, Head, send},
    unpack,
    wire::ApiUsage,
};

/// A request to be made.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// Below the version, or absolute.
    pub(crate) path: &'a str,
    pub(crate) query: &'a [(&'a str, &'a str)],
    pub(crate) json: Option<&'a serde_json::Value>,
    pub(crate) headers: &'a [(&'static str, String)],
    pub(crate) asked: Asked,
    /// Whether asking again does no harm if the answer was lost on its way.
    pub(crate) is_idempotent: bool,
    /// The answer is streamed, and has more time.
    pub(crate) is_page: bool,
}

impl<'a> Call<'a> {
    pub(crate) const fn get(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            query: &[],
            json: None,
            headers: &[],
            asked: Asked::Rest,
            is_idempotent: true,
            is_page: false,
        }
    }

    pub(crate) fn send(method: Method, path: &'a str, json: &'a serde_json::Value) -> Self {
        Self { method, json: Some(json), ..Self::get(path) }
    }

    fn is_conditional(&self) -> bool {
        self.headers.iter().any(|(name, _)| *name == header::IF_MODIFIED_SINCE.as_str())
    }
}

/// A failed attempt. A failed sign-on is never repeated here: with rotation, a second use of a refresh token that did
/// arrive would end the grant.
struct Failure {
    error: SalesforceError,
    kind: FailureKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FailureKind {
    /// Salesforce said that it did not do it.
    Refused,
    /// No answer, or one that cannot be read: it may have done it.
    Lost,
    /// Asking again is of no use, or forbidden.
    Last,
}

impl Failure {
    const fn last(error: SalesforceError) -> Self {
        Self { error, kind: FailureKind::Last }
    }

    fn lost(error: SalesforceError) -> Self {
        let kind = if error.is_transient() { FailureKind::Lost } else { FailureKind::Last };
        Self { error, kind }
    }
}

type Attempted<T> = std::result::Result<T, Failure>;

impl Client {
    /// Makes a call and reads its answer.
    pub(crate) async fn json<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<(T, Head)> {
        let (answer, head) = self.json_unless_same(call).await?;
        match answer {
            Some(answer) => Ok((answer, head)),
            None => Err(SalesforceError::Unavailable { reason: "an answer without a body".to_owned(), source: None }),
        }
    }

    /// Makes a call that may be answered with "as before", and reads its answer if there is one.
    pub(crate) async fn json_unless_same<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<(Option<T>, Head)> {
        // A renewed session replays the request once; a second loss means that no session is any good.
        let has_renewed = AtomicBool::new(false);
        self.repeat(call, || async {
            let arrived = self.attempt(call, &has_renewed).await?;
            if arrived.head.status == StatusCode::NOT_MODIFIED {
                return Ok((None, arrived.head));
            }
            let (head, body) = arrived.whole(self.answer_bytes_max).await.map_err(Failure::lost)?;
            serde_json::from_slice(&body)
                .map(|answer| (Some(answer), head))
                .map_err(|error| Failure::lost(SalesforceError::unavailable("the answer cannot be read", error)))
        })
        .await
    }

    /// Makes a call and leaves its body under way; `read` looks at what came before it. What is broken there is asked for
    /// again as if the answer had been cut.
    pub(crate) async fn begin<T>(&self, call: &Call<'_>, read: impl Fn(Arrived) -> Result<T>) -> Result<T> {
        let has_renewed = AtomicBool::new(false);
        self.repeat(call, || async { read(self.attempt(call, &has_renewed).await?).map_err(Failure::lost) }).await
    }

    async fn repeat<T, F>(&self, call: &Call<'_>, attempt: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Attempted<T>>,
    {
        attempt
            .retry(self.transport.pauses())
            .when(|failure: &Failure| match failure.kind {
                FailureKind::Refused => true,
                FailureKind::Lost => call.is_idempotent,
                FailureKind::Last => false,
            })
            .adjust(|failure: &Failure, pause| {
                let asked_secs = match &failure.error {
                    SalesforceError::RateLimited { retry_after_secs } => *retry_after_secs,
                    _ => None,
                };
                self.transport.pause(pause, asked_secs)
            })
            .notify(|failure: &Failure, pause| {
                tracing::debug!(error = %failure.error, pause_ms = pause.as_millis(), "asking salesforce again");
            })
            .await
            .map_err(|failure| failure.error)
    }

    async fn attempt(&self, call: &Call<'_>, has_renewed: &AtomicBool) -> Attempted<Arrived> {
        let mut session = self.sessions.get().await.map_err(Failure::last)?;
        loop {
            let arrived = self.exchange(&session, call).await?;
            let status = arrived.head.status;
            if status.is_success() || status == StatusCode::NOT_MODIFIED && call.is_conditional() {
                return Ok(arrived);
            }
            let (head, body) = arrived.whole(self.answer_bytes_max).await.map_err(Failure::lost)?;
            match read_refusal(call.asked, status, head.retry_after_secs(), &body) {
                Refusal::Other(error) => {
                    let kind = if error.is_transient() { FailureKind::Refused } else { FailureKind::Last };
                    return Err(Failure { error, kind });
                }
                Refusal::SessionEnded if !has_renewed.swap(true, Ordering::Relaxed) => {
                    session = self.sessions.renew(session.generation).await.map_err(Failure::last)?;
                }
                Refusal::SessionEnded => {
                    let reason = "a new session was refused too".to_owned();
                    return Err(Failure::last(SalesforceError::AuthBroken { reason }));
                }
            }
        }
    }

    async fn exchange(&self, session: &Live, call: &Call<'_>) -> Attempted<Arrived> {
        let path = self.absolute(call.path);
        let mut url = join(&session.instance, &path).map_err(Failure::last)?;
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query);
        }
        let timeout = if call.is_page { self.transport.page_timeout } else { self.transport.call_timeout };
        let accept = if call.is_page { "text/csv" } else { "application/json" };
        let mut request = self
            .transport
            .request(call.method.clone(), url, timeout)
            .bearer_auth(session.access_token())
            .header(header::ACCEPT, accept)
            .header(header::ACCEPT_ENCODING, unpack::ACCEPTED);
        for (name, value) in call.headers {
            request = request.header(*name, value);
        }
        if let Some(json) = call.json {
            request = request.json(json);
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        let arrived = send(request).await.map_err(Failure::lost)?;
        self.note(&arrived.head);
        Ok(arrived)
    }

    /// Keeps what every answer says beside its body.
    fn note(&self, head: &Head) {
        if let Some(usage) = head.text("sforce-limit-info").and_then(ApiUsage::parse) {
            *self.usage.lock().unwrap_or_else(PoisonError::into_inner) = Some(usage);
            self.has_usage_news.store(true, Ordering::Relaxed);
        }
        if let Some(time) = head.server_time() {
            *self.server_time.lock().unwrap_or_else(PoisonError::into_inner) = Some(time);
        }
    }

    /// A path below the version, or one that is whole already.
    pub(crate) fn absolute(&self, path: &str) -> String {
        let is_whole = path.starts_with('/') || path.contains("://");
        if is_whole { path.to_owned() } else { format!("{DATA_PATH}v{}/{path}", self.api_version) }
    }
}

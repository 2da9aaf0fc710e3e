//! The client: typed calls with a time limit each. It does not try again: a heartbeat comes again by itself, and an
//! operator decides about the rest.

use crate::{
    Account, AccountPage, ByWhom, CancelReply, EnqueueReply, EnqueueRequest, ErrorBody, ErrorEnvelope, Heartbeat,
    HeartbeatReply, JobDetail, JobPage, JobQuery, Order, OrderRequest, OverrideRequest, PageQuery, Pause, PauseList,
    PauseQuery, PauseRequest, ResumeReply, RetryReply, ServantList, ServantQuery, Stats, WeightRequest, Why,
};
use domain::PauseTarget;
use reqwest::{
    header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderValue},
    redirect,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, time::Duration};

/// Longest wait for a connection, in seconds.
const CONNECT_SECS_MAX: u64 = 2;
/// Longest wait for a whole answer, in seconds.
const ANSWER_SECS_MAX: u64 = 10;
/// Characters shown of an answer that is not ours.
const FOREIGN_CHARS_MAX: usize = 200;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("'{url}' is no address of a manager; it looks like http://127.0.0.1:8080")]
    Address {
        /// What was given.
        url: String,
    },
    /// The token is none.
    #[error("the token cannot be sent: it holds what no token holds")]
    Token,
    /// No answer: try again later.
    #[error("the manager at {url} does not answer")]
    Unavailable {
        /// Its address.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The manager refused.
    #[error("{} ({}, request {})", .body.message, .body.code, .body.request_id)]
    Refused {
        /// The status.
        status: u16,
        /// Why.
        body: ErrorBody,
    },
    /// What answered is no manager, or one of another version.
    #[error("what answers at {url} is no manager that this program understands (status {status}): {text}")]
    Foreign {
        /// Its address.
        url: String,
        /// The status.
        status: u16,
        /// The start of the answer.
        text: String,
    },
}

/// A manager's address and a pool of connections; cheap to clone.
#[derive(Clone)]
pub struct ManagerClient {
    base: String,
    http: reqwest::Client,
}

/// Its address alone: the rest may hold a token.
impl fmt::Debug for ManagerClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManagerClient {{ base: {:?} }}", self.base)
    }
}

impl ManagerClient {
    /// A client of the manager at `url`. Makes no call.
    ///
    /// # Errors
    /// [`ClientError::Address`].
    pub fn new(url: &str) -> Result<Self, ClientError> {
        Self::with_headers(url, HeaderMap::new())
    }

    /// The same, which shows a token with every call.
    ///
    /// # Errors
    /// [`ClientError::Address`], [`ClientError::Token`].
    pub fn with_token(url: &str, token: &SecretString) -> Result<Self, ClientError> {
        Self::with_headers(url, bearer(token)?)
    }

    /// A servant's: its kind's credential, and the secret that the process keeps for itself while it lives.
    ///
    /// # Errors
    /// [`ClientError::Address`], [`ClientError::Token`].
    pub fn for_servant(url: &str, credential: &SecretString, boot: &SecretString) -> Result<Self, ClientError> {
        let mut headers = bearer(credential)?;
        headers.insert("servant-boot", secret_value(boot.expose_secret())?);
        Self::with_headers(url, headers)
    }

    /// The same as a browser with that session.
    pub(crate) fn with_cookie(url: &str, cookie: &SecretString) -> Result<Self, ClientError> {
        Self::with_headers(url, HeaderMap::from_iter([(COOKIE, secret_value(cookie.expose_secret())?)]))
    }

    fn with_headers(url: &str, headers: HeaderMap) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address { url: url.to_owned() };
        let parsed = reqwest::Url::parse(url).map_err(|_| wrong())?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
            return Err(wrong());
        }
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(CONNECT_SECS_MAX))
            .timeout(Duration::from_secs(ANSWER_SECS_MAX))
            // A token goes where it was meant to go, and nowhere else.
            .redirect(redirect::Policy::none())
            .default_headers(headers)
            .build()
            .map_err(|source| ClientError::Unavailable { url: url.to_owned(), source })?;
        Ok(Self { base: url.trim_end_matches('/').to_owned(), http })
    }

    /// The manager's address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.base
    }

    /// Tells how a servant is and learns its orders.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn heartbeat(&self, beat: &Heartbeat) -> Result<HeartbeatReply, ClientError> {
        self.post("/api/v1/heartbeats", beat).await
    }

    /// Lists jobs.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn jobs(&self, query: &JobQuery) -> Result<JobPage, ClientError> {
        self.get("/api/v1/jobs", query).await
    }

    /// Shows one job.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn job(&self, id: i64) -> Result<JobDetail, ClientError> {
        self.get(&format!("/api/v1/jobs/{id}"), &()).await
    }

    /// Says why a job does not run.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn why(&self, id: i64) -> Result<Why, ClientError> {
        self.get(&format!("/api/v1/jobs/{id}/why"), &()).await
    }

    /// Inserts a job.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn enqueue(&self, job: &EnqueueRequest) -> Result<EnqueueReply, ClientError> {
        self.post("/api/v1/jobs", job).await
    }

    /// Starts a failed or cancelled job anew.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn retry(&self, id: i64, whom: &ByWhom) -> Result<RetryReply, ClientError> {
        self.post(&format!("/api/v1/jobs/{id}/retry"), whom).await
    }

    /// Ends an unfinished job.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn cancel(&self, id: i64, whom: &ByWhom) -> Result<CancelReply, ClientError> {
        self.post(&format!("/api/v1/jobs/{id}/cancel"), whom).await
    }

    /// Lets a job that waits for its time go at once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn run_now(&self, id: i64, request: &OverrideRequest) -> Result<RetryReply, ClientError> {
        self.post(&format!("/api/v1/jobs/{id}/run-now"), request).await
    }

    /// Lists the servants, page after page to the last.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn servants(&self) -> Result<ServantList, ClientError> {
        let mut all: ServantList = self.get("/api/v1/servants", &ServantQuery::default()).await?;
        while let Some(after) = all.next_after.take() {
            let query = ServantQuery { after: Some(after), limit: None };
            let page: ServantList = self.get("/api/v1/servants", &query).await?;
            all.servants.extend(page.servants);
            all.next_after = page.next_after;
        }
        Ok(all)
    }

    /// Orders a servant.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn order(&self, id: i64, order: Order, whom: &ByWhom) -> Result<OrderRequest, ClientError> {
        let ByWhom { by, reason } = whom.clone();
        self.post(&format!("/api/v1/servants/{id}/order"), &OrderRequest { order, by, reason }).await
    }

    /// Lists what is paused.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn pauses(&self, query: &PauseQuery) -> Result<PauseList, ClientError> {
        self.get("/api/v1/pauses", query).await
    }

    /// Holds jobs back.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn pause(&self, target: &PauseTarget, pause: &PauseRequest) -> Result<Pause, ClientError> {
        self.call(self.http.put(self.address_of(target)).json(pause)).await
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn resume(&self, target: &PauseTarget, whom: &ByWhom) -> Result<ResumeReply, ClientError> {
        self.call(self.http.delete(self.address_of(target)).query(whom)).await
    }

    /// Sets an account's share.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_weight(&self, account: i64, request: &WeightRequest) -> Result<Account, ClientError> {
        let url = format!("{}/api/v1/accounts/{account}/weight", self.base);
        self.call(self.http.put(url).json(request)).await
    }

    /// Lists accounts.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn accounts(&self, page: &PageQuery) -> Result<AccountPage, ClientError> {
        self.get("/api/v1/accounts", page).await
    }

    /// The whole at a glance.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stats(&self) -> Result<Stats, ClientError> {
        self.get("/api/v1/stats", &()).await
    }

    fn address_of(&self, target: &PauseTarget) -> String {
        let scope = format!("{}/api/v1/pauses/{}", self.base, target.scope());
        match target {
            PauseTarget::Everything => scope,
            _ => format!("{scope}/{}", target.key()),
        }
    }

    pub(crate) async fn get<Q: Serialize, A: DeserializeOwned>(&self, path: &str, query: &Q) -> Result<A, ClientError> {
        self.call(self.http.get(format!("{}{path}", self.base)).query(query)).await
    }

    pub(crate) async fn post<B: Serialize, A: DeserializeOwned>(&self, path: &str, body: &B) -> Result<A, ClientError> {
        self.call(self.http.post(format!("{}{path}", self.base)).json(body)).await
    }

    pub(crate) async fn put<B: Serialize, A: DeserializeOwned>(&self, path: &str, body: &B) -> Result<A, ClientError> {
        self.call(self.http.put(format!("{}{path}", self.base)).json(body)).await
    }

    pub(crate) async fn patch<B: Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<A, ClientError> {
        self.call(self.http.patch(format!("{}{path}", self.base)).json(body)).await
    }

    pub(crate) async fn delete<Q: Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        query: &Q,
    ) -> Result<A, ClientError> {
        self.call(self.http.delete(format!("{}{path}", self.base)).query(query)).await
    }

    /// Sends a form as a page does.
    pub(crate) async fn submit(&self, path: &str, form: &[(&str, &str)]) -> Result<reqwest::Response, ClientError> {
        let request = self.http.post(format!("{}{path}", self.base)).form(form);
        request.send().await.map_err(|source| self.silent(source))
    }

    async fn call<A: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<A, ClientError> {
        let answer = request.send().await.map_err(|source| self.silent(source))?;
        if !answer.status().is_success() {
            return Err(self.refusal_of(answer).await);
        }
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|source| self.silent(source))?;
        serde_json::from_str(&text).map_err(|_| self.foreign(status, &text))
    }

    /// What an answer says that does not do what was asked.
    pub(crate) async fn refusal_of(&self, answer: reqwest::Response) -> ClientError {
        let status = answer.status().as_u16();
        match answer.text().await {
            Ok(text) => match serde_json::from_str::<ErrorEnvelope>(&text) {
                Ok(envelope) => ClientError::Refused { status, body: envelope.error },
                Err(_) => self.foreign(status, &text),
            },
            Err(source) => self.silent(source),
        }
    }

    fn silent(&self, source: reqwest::Error) -> ClientError {
        ClientError::Unavailable { url: self.base.clone(), source }
    }

    fn foreign(&self, status: u16, text: &str) -> ClientError {
        ClientError::Foreign { url: self.base.clone(), status, text: text.chars().take(FOREIGN_CHARS_MAX).collect() }
    }
}

fn bearer(token: &SecretString) -> Result<HeaderMap, ClientError> {
    let value = secret_value(&format!("Bearer {}", token.expose_secret()))?;
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

fn secret_value(text: &str) -> Result<HeaderValue, ClientError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| ClientError::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        for bad in ["", "127.0.0.1:8080", "ftp://x", "http://"] {
            assert!(ManagerClient::new(bad).is_err(), "{bad:?} was taken");
        }
        assert_eq!(ManagerClient::new("http://127.0.0.1:8080/").unwrap().url(), "http://127.0.0.1:8080");
    }

    #[tokio::test]
    async fn a_silent_manager_is_unavailable() {
        // Bound and closed again: nothing listens there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = ManagerClient::new(&format!("http://127.0.0.1:{port}")).unwrap();
        assert!(matches!(client.stats().await, Err(ClientError::Unavailable { .. })));
    }
}

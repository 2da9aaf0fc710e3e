//! Owns one exchange over HTTP: time limits, the size of an answer, which failures may be repeated, pauses.
//! Does not own what is asked or answered.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{RequestBuilder, StatusCode, Url, header, redirect};
use secrecy::ExposeSecret;

use crate::{
    auth::Session,
    client::Options,
    error::{Result, SalesforceError},
};

/// A longer answer is not taken into memory. The largest page has 2,000 records.
const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
    pub(crate) server_time: Option<DateTime<Utc>>,
    pub(crate) limit_info: Option<String>,
    pub(crate) retry_after_secs: Option<u64>,
}

pub(crate) struct Transport {
    http: reqwest::Client,
    retries_max: u32,
    delay_base: Duration,
    delay_max: Duration,
}

impl Transport {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(options.connect_timeout_secs))
            .read_timeout(Duration::from_secs(options.read_timeout_secs))
            .user_agent(&options.user_agent)
            // A redirect could lead the token to another host; the API itself sends none.
            .redirect(redirect::Policy::none())
            // Repeating is decided here, where it is known what may be repeated.
            .retry(reqwest::retry::never())
            .build()
            .map_err(|error| SalesforceError::rejected("CLIENT", format!("the http client cannot be made: {error}")))?;
        let (delay_base, delay_max) =
            (Duration::from_millis(options.retry_base_ms), Duration::from_millis(options.retry_max_ms));
        Ok(Self { http, retries_max: options.retries_max, delay_base, delay_max })
    }

    /// Full jitter: each pause is anything between nothing and a limit that doubles up to the cap.
    pub(crate) fn pauses(&self) -> impl Iterator<Item = Duration> + Send + Sync + Unpin + use<> {
        let (base, max) = (self.delay_base, self.delay_max);
        (0..self.retries_max).map(move |retry| {
            let limit = base.saturating_mul(2_u32.saturating_pow(retry)).min(max);
            limit.mul_f64(rand::random::<f64>())
        })
    }

    pub(crate) async fn get(&self, session: &Session, url: Url, batch_size: Option<u32>) -> Result<Reply> {
        let mut request = self.http.get(url).bearer_auth(session.access_token.expose_secret());
        if let Some(batch_size) = batch_size {
            request = request.header("Sforce-Query-Options", format!("batchSize={batch_size}"));
        }
        exchange(request).await
    }

    /// Posts once: with rotation, a second post of a refresh token that did arrive would end the grant.
    pub(crate) async fn post_form(&self, url: Url, form: &[(&str, &str)]) -> Result<Reply> {
        exchange(self.http.post(url).form(form)).await
    }
}

async fn exchange(request: RequestBuilder) -> Result<Reply> {
    // The address holds the query, which is no text for a log.
    let cut = |error: reqwest::Error| SalesforceError::unavailable("no complete answer came", error.without_url());
    let mut response = request.send().await.map_err(cut)?;
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let date = header(header::DATE.as_str()).and_then(|date| DateTime::parse_from_rfc2822(&date).ok());
    let mut reply = Reply {
        status: response.status(),
        body: Vec::new(),
        server_time: date.map(|date| date.to_utc()),
        limit_info: header("sforce-limit-info"),
        retry_after_secs: header(header::RETRY_AFTER.as_str()).and_then(|secs| secs.trim().parse().ok()),
    };
    while let Some(chunk) = response.chunk().await.map_err(cut)? {
        if reply.body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(SalesforceError::rejected(
                "BODY_TOO_LONG",
                format!("the answer is longer than {BODY_BYTES_MAX} bytes"),
            ));
        }
        reply.body.extend_from_slice(&chunk);
    }
    Ok(reply)
}

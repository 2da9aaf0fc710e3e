//! Owns one exchange over HTTP: time limits, the size of an answer, what its headers say, pauses between repeats.
//! Does not own what is asked or answered.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode, Url, header, redirect};

use crate::{
    address::Hosts,
    error::{Result, SalesforceError},
    options::Options,
    resolve::PublicOnly,
    unpack::Unpacker,
};

/// What came before an answer's body.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    headers: header::HeaderMap,
}

impl Head {
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) const fn of(status: StatusCode, headers: header::HeaderMap) -> Self {
        Self { status, headers }
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A stamp of the server's, whole seconds.
    pub(crate) fn stamp(&self, name: &str) -> Option<DateTime<Utc>> {
        DateTime::parse_from_rfc2822(self.text(name)?.trim()).ok().map(|stamp| stamp.to_utc())
    }

    pub(crate) fn server_time(&self) -> Option<DateTime<Utc>> {
        self.stamp("date")
    }

    /// Seconds or a date, which is counted from the server's own clock.
    pub(crate) fn retry_after_secs(&self) -> Option<u64> {
        let text = self.text("retry-after")?.trim();
        text.parse().ok().or_else(|| {
            let wait = self.stamp("retry-after")? - self.server_time()?;
            u64::try_from(wait.num_seconds()).ok()
        })
    }
}

/// An answer whose body is still under way.
pub(crate) struct Arrived {
    pub(crate) head: Head,
    response: Response,
}

impl Arrived {
    /// The whole body.
    pub(crate) async fn whole(self, bytes_max: usize) -> Result<(Head, Vec<u8>)> {
        let mut stream = PageBody::new(&self.head, self.response, bytes_max as u64)?;
        let mut body = Vec::new();
        while let Some(bytes) = stream.chunk().await? {
            body.extend_from_slice(bytes);
        }
        Ok((self.head, body))
    }

    pub(crate) fn stream(self, bytes_max: u64) -> Result<PageBody> {
        PageBody::new(&self.head, self.response, bytes_max)
    }
}

/// The bytes of a page of bulk results, unpacked: CSV with its own header line.
#[derive(Debug)]
pub struct PageBody {
    response: Response,
    unpacker: Unpacker,
    /// It came, and is not unpacked yet.
    packed: Bytes,
    is_over: bool,
    bytes: u64,
    bytes_max: u64,
}

impl PageBody {
    fn new(head: &Head, response: Response, bytes_max: u64) -> Result<Self> {
        let unpacker = Unpacker::of(head)?;
        Ok(Self { response, unpacker, packed: Bytes::new(), is_over: false, bytes: 0, bytes_max })
    }

    /// The next bytes, of any length, perhaps none yet; `None` after the last.
    ///
    /// # Errors
    /// `Unavailable` if the page broke off: fetch it again from its locator. `Rejected` if it is longer than
    /// [`Options::page_bytes_max`].
    pub async fn chunk(&mut self) -> Result<Option<&[u8]>> {
        if self.is_over {
            return Ok(None);
        }
        if self.packed.is_empty() {
            match self.response.chunk().await.map_err(cut)? {
                Some(packed) => self.packed = packed,
                None => self.is_over = true,
            }
        }
        let plain = if self.is_over { self.unpacker.finish() } else { self.unpacker.unpack(&mut self.packed) };
        let plain = plain.map_err(|error| SalesforceError::unavailable("no complete answer came", error))?;
        self.bytes = self.bytes.saturating_add(plain.len() as u64);
        if self.bytes > self.bytes_max { Err(too_long(self.bytes_max)) } else { Ok(Some(plain)) }
    }

    /// The bytes given out so far.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn too_long(bytes_max: impl std::fmt::Display) -> SalesforceError {
    SalesforceError::rejected("BODY_TOO_LONG", format!("the answer is longer than {bytes_max} bytes"))
}

/// The address holds the query, which is no text for a log.
fn cut(error: reqwest::Error) -> SalesforceError {
    SalesforceError::unavailable("no complete answer came", error.without_url())
}

#[derive(Clone)]
pub(crate) struct Transport {
    http: reqwest::Client,
    retries_max: u32,
    delay_base: Duration,
    delay_max: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) page_timeout: Duration,
}

impl Transport {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let refused = |error: reqwest::Error| {
            SalesforceError::rejected("CLIENT", format!("the http client cannot be made: {error}"))
        };
        let mut http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(options.connect_timeout_secs))
            .read_timeout(Duration::from_secs(options.read_timeout_secs))
            .user_agent(&options.user_agent)
            // A redirect could lead the token to another host; the API itself sends none.
            .redirect(redirect::Policy::none())
            // What comes packed is unpacked in `unpack`.
            .no_gzip()
            // A proxy that the environment names would get round the look at addresses.
            .no_proxy()
            // Repeating is decided here, where it is known what may be repeated.
            .retry(reqwest::retry::never());
        match &options.hosts {
            Hosts::Vendor => http = http.https_only(true).dns_resolver(Arc::new(PublicOnly)),
            Hosts::Development { root_certificate_pem: Some(pem) } => {
                http = http.tls_certs_merge([Certificate::from_pem(pem.as_bytes()).map_err(refused)?]);
            }
            Hosts::Development { root_certificate_pem: None } => {}
        }
        Ok(Self {
            http: http.build().map_err(refused)?,
            retries_max: options.retries_max,
            delay_base: Duration::from_millis(options.retry_base_ms),
            delay_max: Duration::from_millis(options.retry_max_ms),
            call_timeout: Duration::from_secs(options.call_timeout_secs),
            page_timeout: Duration::from_secs(options.page_timeout_secs),
        })
    }

    /// Full jitter: each pause is anything between nothing and a limit that doubles up to the cap.
    pub(crate) fn pauses(&self) -> impl Iterator<Item = Duration> + Send + Sync + Unpin + use<> {
        let (base, max) = (self.delay_base, self.delay_max);
        (0..self.retries_max).map(move |retry| {
            let limit = base.saturating_mul(2_u32.saturating_pow(retry)).min(max);
            limit.mul_f64(rand::random::<f64>())
        })
    }

    /// A pause that the server asked for goes before ours, unless it is longer than any of ours may be: then the caller
    /// must wait, and this call has failed.
    pub(crate) fn pause(&self, ours: Option<Duration>, asked_secs: Option<u64>) -> Option<Duration> {
        let (ours, asked) = (ours?, asked_secs.map(Duration::from_secs));
        match asked {
            Some(asked) if asked > self.delay_max => None,
            Some(asked) => Some(ours.max(asked)),
            None => Some(ours),
        }
    }

    pub(crate) fn request(&self, method: Method, url: Url, timeout: Duration) -> RequestBuilder {
        self.http.request(method, url).timeout(timeout)
    }

    /// Posts once: with rotation, a second post of a refresh token that did arrive would end the grant.
    pub(crate) async fn post_form(&self, url: Url, form: &[(&str, &str)], bytes_max: usize) -> Result<(Head, Vec<u8>)> {
        let request = self.request(Method::POST, url, self.call_timeout).form(form);
        send(request.header(header::ACCEPT, "application/json")).await?.whole(bytes_max).await
    }
}

pub(crate) async fn send(request: RequestBuilder) -> Result<Arrived> {
    let response = request.send().await.map_err(cut)?;
    let head = Head { status: response.status(), headers: response.headers().clone() };
    Ok(Arrived { head, response })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(pairs: &[(&'static str, &str)]) -> Head {
        let headers =
            pairs.iter().map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap())).collect();
        Head { status: StatusCode::TOO_MANY_REQUESTS, headers }
    }

    #[test]
    fn a_wait_is_read_in_either_form() {
        assert_eq!(head(&[("retry-after", " 7 ")]).retry_after_secs(), Some(7));
        let date = ("date", "Mon, 23 Nov 2026 10:00:00 GMT");
        let dated = |until| head(&[date, ("retry-after", until)]).retry_after_secs();
        assert_eq!(dated("Mon, 23 Nov 2026 10:01:30 GMT"), Some(90));
        assert_eq!(dated("Mon, 23 Nov 2026 09:00:00 GMT"), None, "it is over");
        assert_eq!(dated("-1"), None);
        assert_eq!(head(&[("retry-after", "Mon, 23 Nov 2026 10:01:30 GMT")]).retry_after_secs(), None);
    }

    #[test]
    fn a_pause_asked_for_is_kept_or_handed_on() {
        let transport = Transport::new(&Options { retry_max_ms: 10_000, ..Options::default() }).unwrap();
        let secs = Duration::from_secs;
        assert_eq!(transport.pause(Some(secs(1)), Some(5)), Some(secs(5)));
        assert_eq!(transport.pause(Some(secs(1)), None), Some(secs(1)));
        assert_eq!(transport.pause(Some(secs(1)), Some(11)), None);
        assert_eq!(transport.pause(None, Some(1)), None);
    }
}

//! Signing in by a provider: the browser's way there and back. Owns what ties the two together: a secret in a cookie of the
//! browser that began, from which state, nonce and verifier follow, so that nothing is kept of a way that nobody comes back;
//! and that each is come back by once. Does not own the provider's wire (`oidc`).

use super::{
    access::Vouching,
    cookie::{UNDER_WAY, cookie_of, set},
    sign_in::{begin, own_address},
};
use crate::{App, error::ApiError};
use axum::{
    Extension, Router,
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use chrono::{DateTime, TimeDelta};
use domain::{Origin, chain};
use oidc::OidcError;
use salesforce::SecretString;
use serde::Deserialize;
use store::Vouched;
use vault::{ExposeSecret as _, TokenFor, digest, is_digest_of, new_token};

const START: &str = "/login/oidc";
pub(super) const CALLBACK: &str = "/login/oidc/callback";
/// From the start to the way back.
const GOOD_SECS: i64 = 600;
/// Characters shown of what came in by an address.
const FOREIGN_CHARS_MAX: usize = 200;
const AGAIN: &str = "begin again at /login";

pub(super) fn routes() -> Router<App> {
    Router::new().route(START, get(start)).route(CALLBACK, get(callback))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    #[serde(default)]
    to: String,
}

/// What the provider sends the browser back with; it may add words of its own.
#[derive(Deserialize)]
struct Callback {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    /// RFC 9207: who sends it.
    iss: Option<String>,
}

/// What the browser that began keeps: when, a secret, and where to go afterwards.
struct UnderWay {
    since: i64,
    secret: SecretString,
    to: String,
}

impl UnderWay {
    fn read(cookie: &SecretString) -> Option<Self> {
        let mut parts = cookie.expose_secret().splitn(3, '.');
        let (since, secret, to) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
        Some(Self { since, secret: SecretString::from(secret), to: own_address(&decoded(to)?) })
    }

    fn cookie(&self) -> String {
        let to: String = self.to.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("{}.{}.{to}", self.since, self.secret.expose_secret())
    }

    /// A secret of this way for one purpose; from one none of the others follows.
    fn derived(&self, purpose: &str) -> String {
        let text = format!("{purpose} {} {}", self.since, self.secret.expose_secret());
        digest(&SecretString::from(text)).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn verifier(&self) -> SecretString {
        SecretString::from(self.derived("verifier"))
    }
}

fn decoded(hex: &str) -> Option<String> {
    let digits = hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    String::from_utf8(digits.collect::<Option<Vec<u8>>>()?).ok()
}

fn vouching(app: &App) -> Result<&Vouching, ApiError> {
    app.access.vouching().ok_or_else(|| ApiError::not_found("no provider vouches for people here"))
}

async fn start(State(app): State<App>, Query(query): Query<Start>) -> Result<Response, ApiError> {
    let vouching = vouching(&app)?;
    let now = app.store.now();
    let way = UnderWay { since: now.timestamp(), secret: new_token(TokenFor::Code), to: own_address(&query.to) };
    let url = vouching.provider.authorize_url(&way.derived("state"), &way.derived("nonce"), &way.verifier(), now).await;
    let url = url.map_err(|error| refused(&error))?;
    let location = HeaderValue::from_str(&url).map_err(|_| ApiError::not_found("the provider's address is none"))?;
    let cookie = set(UNDER_WAY, &way.cookie(), GOOD_SECS)?;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, location), (header::SET_COOKIE, cookie)]).into_response())
}

async fn callback(
    State(app): State<App>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    Query(query): Query<Callback>,
) -> Result<Response, ApiError> {
    let vouching = vouching(&app)?;
    let now = app.store.now();
    let unknown = || {
        tracing::warn!("a sign-in came back that was not begun, too old, or used");
        ApiError::bad_request("this sign-in is not known here, too old, or used already").hint(AGAIN)
    };
    let way = cookie_of(&headers, UNDER_WAY).as_ref().and_then(UnderWay::read).ok_or_else(unknown)?;
    let state = SecretString::from(query.state.ok_or_else(unknown)?);
    let expires_at = DateTime::from_timestamp(way.since, 0).ok_or_else(unknown)? + TimeDelta::seconds(GOOD_SECS);
    if !is_digest_of(&digest(&SecretString::from(way.derived("state"))), &state) || expires_at <= now {
        return Err(unknown());
    }
    // Taken first: whatever is wrong with the rest, nobody gets a second try.
    if !app.store.take_returned_sign_in(&digest(&state), expires_at).await? {
        return Err(unknown());
    }
    if query.iss.as_deref().is_some_and(|iss| iss != vouching.provider.issuer()) {
        return Err(ApiError::bad_request("another provider than ours sent you").hint(AGAIN));
    }
    let code = match (query.code, query.error) {
        (Some(code), None) => code,
        (_, error) => {
            let words = error.unwrap_or_else(|| "no code".to_owned());
            let words: String = words.chars().filter(|c| !c.is_control()).take(FOREIGN_CHARS_MAX).collect();
            return Err(ApiError::bad_request(format!("the provider did not sign you in: {words}")).hint(AGAIN));
        }
    };
    let identity = vouching.provider.redeem(&code, &way.derived("nonce"), &way.verifier(), now).await;
    let identity = identity.map_err(|error| refused(&error))?;
    let vouched = Vouched {
        issuer: vouching.provider.issuer(),
        subject: &identity.subject,
        name: &identity.name,
        email: &identity.email,
        role: vouching.role_of(&identity.claims),
    };
    let Some(user) = app.store.admit_vouched(vouched).await? else {
        tracing::warn!("a person was refused for whom the provider vouches: out, or in no group that has a role");
        return Err(ApiError::new(StatusCode::FORBIDDEN, "not_admitted", "you have no role here")
            .hint("ask an admin for a group that has one"));
    };
    let mut answer = begin(&app, user, &origin, &headers, &way.to).await?;
    answer.headers_mut().append(header::SET_COOKIE, set(UNDER_WAY, "", 0)?);
    Ok(answer)
}

fn refused(error: &OidcError) -> ApiError {
    tracing::warn!(error = chain(error), "a sign-in by the provider failed");
    metrics::counter!("servant_sign_ins_total", "outcome" => "failed").increment(1);
    match error {
        OidcError::Config { .. } | OidcError::Unavailable { .. } => {
            ApiError::new(StatusCode::BAD_GATEWAY, "provider", error.to_string()).hint("try again in a while")
        }
        OidcError::Refused { .. } | OidcError::NotGood { .. } | OidcError::TooWeak { .. } => {
            ApiError::new(StatusCode::FORBIDDEN, "not_vouched", error.to_string()).hint(AGAIN)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_keeps_is_read_again_and_each_secret_is_another() {
        let way = UnderWay { since: 7, secret: SecretString::from("svo_x-y_z"), to: "/jobs?q=a.b".to_owned() };
        let read = UnderWay::read(&SecretString::from(way.cookie())).unwrap();
        assert_eq!((read.since, read.to.as_str()), (7, "/jobs?q=a.b"));
        assert_eq!(read.derived("state"), way.derived("state"));
        assert_ne!(way.derived("state"), way.derived("nonce"));
        // RFC 7636: 43 to 128 characters.
        assert!((43..=128).contains(&way.verifier().expose_secret().len()));
        for bad in ["", "7", "7.x", "x.y.z", "7.x.zz", "7.x.2f2"] {
            assert!(UnderWay::read(&SecretString::from(bad)).is_none_or(|way| way.to == "/"), "{bad}");
        }
        let foreign = UnderWay { to: "//evil.test".to_owned(), ..way };
        assert_eq!(UnderWay::read(&SecretString::from(foreign.cookie())).unwrap().to, "/");
    }
}

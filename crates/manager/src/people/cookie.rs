//! The cookies of sign-on. All have the prefix `__Host-`: no other host and no plain page of this one can plant or read them.
//! (Chromium and Firefox keep them for http://127.0.0.1 and http://localhost as well.)

use crate::error::ApiError;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use salesforce::SecretString;

/// The session.
pub(super) const SESSION: &str = "__Host-servant";
/// A sign-in by a provider that is under way.
pub(super) const UNDER_WAY: &str = "__Host-servant-sign-in";

/// One cookie of a request.
pub(crate) fn cookie_of(headers: &HeaderMap, name: &str) -> Option<SecretString> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| SecretString::from(value))
}

/// Sets one for so many seconds; 0 takes it away. Lax: links from elsewhere lead to a page that is signed in, and a provider
/// leads back by one.
pub(crate) fn set(name: &str, value: &str, secs: i64) -> Result<HeaderValue, ApiError> {
    HeaderValue::from_str(&format!("{name}={value}; Path=/; Max-Age={secs}; Secure; HttpOnly; SameSite=Lax"))
        .map_err(|_| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the cookie cannot be written"))
}

//! Owns the assertion of the JWT bearer flow: who signs on, for how long, signed by RS256.
//! Does not own its way to Salesforce, nor where keys are kept.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use crate::error::{Result, SalesforceError};

pub(crate) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// How long an assertion is good, in seconds. Salesforce takes no more than three minutes; what is over them by its own
/// clock is refused, so stay below.
const GOOD_SECS: i64 = 150;

/// A user who consented to the application beforehand, and the key that the application registered.
#[derive(Clone)]
pub struct JwtUser {
    /// The user's name at Salesforce.
    pub username: String,
    /// The application's private RSA key, in PEM.
    pub key_pem: SecretString,
    /// For whom the assertion is, if not for the login url: the host of the customer's sign-on.
    pub audience: Option<String>,
}

impl fmt::Debug for JwtUser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JwtUser")
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    exp: i64,
}

pub(crate) fn assertion(client_id: &str, user: &JwtUser, audience: &str, now: DateTime<Utc>) -> Result<SecretString> {
    let refused = |what: &str, error: jsonwebtoken::errors::Error| {
        SalesforceError::rejected("JWT_KEY", format!("{what}: {error}"))
    };
    let key = EncodingKey::from_rsa_pem(user.key_pem.expose_secret().as_bytes())
        .map_err(|error| refused("the key is not a private RSA key in PEM", error))?;
    let exp = (now + TimeDelta::seconds(GOOD_SECS)).timestamp();
    let claims = Claims { iss: client_id, sub: &user.username, aud: audience, exp };
    encode(&Header::new(Algorithm::RS256), &claims, &key)
        .map(SecretString::from)
        .map_err(|error| refused("the key does not sign", error))
}

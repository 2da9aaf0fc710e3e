//! The check of an id_token: signature, algorithm, issuer, audience, times, nonce. Everything is looked at, and the first
//! thing that is wrong refuses it.

use crate::error::OidcError;
use chrono::{DateTime, Utc};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse},
};
use serde_json::Value;

/// Seconds by which the two clocks may differ.
pub const LEEWAY_SECS: i64 = 60;
/// What a provider may sign by. Never by a secret, and never not at all.
const ALGORITHMS: [Algorithm; 2] = [Algorithm::RS256, Algorithm::ES256];

/// What a token must say.
pub(crate) struct Expected<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) nonce: &'a str,
    pub(crate) now: DateTime<Utc>,
}

/// Why a token is not taken yet, or never.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It is signed by a key that is not among those: there may be newer ones.
    UnknownKey,
    /// It is not good.
    NotGood(OidcError),
}

fn refuse(problem: impl Into<String>) -> Refusal {
    Refusal::NotGood(OidcError::not_good(problem))
}

/// The claims of a token that is good.
pub(crate) fn verify(token: &str, keys: &JwkSet, expected: &Expected<'_>) -> Result<Value, Refusal> {
    let header = decode_header(token).map_err(|_| refuse("the id_token has no header that is known"))?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(refuse("the id_token is signed by an algorithm that is not taken"));
    }
    let key = key_of(header.kid.as_deref(), header.alg, keys).ok_or(Refusal::UnknownKey)?;
    let key = DecodingKey::from_jwk(key).map_err(|_| refuse("the provider's key is none"))?;
    let mut validation = Validation::new(header.alg);
    // Times are held against the caller's clock, below.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let claims: Value =
        decode(token, &key, &validation).map_err(|_| refuse("the id_token's signature is not the provider's"))?.claims;
    check(&claims, expected)?;
    Ok(claims)
}

fn key_of<'a>(kid: Option<&str>, algorithm: Algorithm, keys: &'a JwkSet) -> Option<&'a Jwk> {
    let fits = |key: &&Jwk| {
        let is_type = matches!(
            (&key.algorithm, algorithm),
            (AlgorithmParameters::RSA(_), Algorithm::RS256) | (AlgorithmParameters::EllipticCurve(_), Algorithm::ES256)
        );
        is_type && !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption))
    };
    let mut fitting = keys.keys.iter().filter(fits);
    match kid {
        Some(kid) => fitting.find(|key| key.common.key_id.as_deref() == Some(kid)),
        // Without a name it can only be the one that there is.
        None => fitting.next().filter(|_| fitting.next().is_none()),
    }
}

fn check(claims: &Value, expected: &Expected<'_>) -> Result<(), Refusal> {
    let text = |name: &str| claims[name].as_str();
    if text("iss") != Some(expected.issuer) {
        return Err(refuse("the id_token is another issuer's"));
    }
    let audience: Vec<&str> = match &claims["aud"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audience.contains(&expected.client_id) {
        return Err(refuse("the id_token is for another client"));
    }
    // Of several it must say for which it was asked.
    let is_asked_by_other = text("azp").is_some_and(|azp| azp != expected.client_id);
    if is_asked_by_other || audience.len() > 1 && text("azp").is_none() {
        return Err(refuse("the id_token was asked for by another client"));
    }
    let (now, moment) = (expected.now.timestamp(), |name: &str| claims[name].as_f64());
    let later = |at: f64, than: i64| at > seconds(than);
    match moment("exp") {
        Some(exp) if later(exp, now - LEEWAY_SECS) => {}
        _ => return Err(refuse("the id_token has expired")),
    }
    match moment("iat") {
        Some(iat) if !later(iat, now + LEEWAY_SECS) => {}
        _ => return Err(refuse("the id_token is from the future")),
    }
    if moment("nbf").is_some_and(|nbf| later(nbf, now + LEEWAY_SECS)) {
        return Err(refuse("the id_token is not good yet"));
    }
    if text("nonce") != Some(expected.nonce) {
        return Err(refuse("the id_token answers another sign-in"));
    }
    if text("sub").is_none_or(str::is_empty) {
        return Err(refuse("the id_token names nobody"));
    }
    Ok(())
}

/// Seconds of the epoch as the token writes them: exact far beyond any date.
#[expect(clippy::cast_precision_loss, reason = "seconds of the epoch are far below 2^53")]
fn seconds(at: i64) -> f64 {
    at as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const EXPECTED: Expected<'_> =
        Expected { issuer: "https://id.test", client_id: "servant", nonce: "n-1", now: DateTime::UNIX_EPOCH };

    fn claims() -> Value {
        json!({"iss": "https://id.test", "aud": "servant", "sub": "7", "exp": 300, "iat": 0, "nonce": "n-1"})
    }

    #[test]
    fn a_claim_that_is_missing_or_anothers_refuses_the_token() {
        check(&claims(), &EXPECTED).unwrap();
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            check(&claims, &EXPECTED)
        };
        with("aud", json!(["servant"])).unwrap();
        for (name, value) in [
            ("iss", json!("https://id.test/")),
            ("iss", Value::Null),
            ("aud", json!("other")),
            ("aud", json!(["other"])),
            ("aud", json!(["servant", "other"])),
            ("aud", Value::Null),
            ("azp", json!("other")),
            ("exp", json!(-LEEWAY_SECS)),
            ("exp", json!("300")),
            ("exp", Value::Null),
            ("iat", json!(LEEWAY_SECS + 1)),
            ("iat", Value::Null),
            ("nbf", json!(LEEWAY_SECS + 1)),
            ("nonce", json!("n-2")),
            ("nonce", Value::Null),
            ("sub", json!("")),
            ("sub", json!(7)),
        ] {
            assert!(with(name, value.clone()).is_err(), "{name} {value}");
        }
    }
}

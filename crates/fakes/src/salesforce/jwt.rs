//! Owns the check of a signed assertion: its form, signature and claims. Does not own who may sign on with one.

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use tokio_rustls::rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, pem::PemObject};

use super::oauth::TokenRefusal;

/// How far ahead an assertion may expire.
const EXPIRY_SECS_MAX: i64 = 180;
/// How much the two clocks may differ.
const SKEW_SECS_MAX: i64 = 30;
/// Besides the server itself.
const AUDIENCES: [&str; 2] = ["https://login.salesforce.com", "https://test.salesforce.com"];

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    #[serde(alias = "prn")]
    sub: String,
    aud: String,
    exp: serde_json::Number,
}

/// A public key, from PEM.
#[derive(Clone, Debug)]
pub(super) struct SigningKey(Vec<u8>);

impl SigningKey {
    /// Reads a public key in PEM (`BEGIN PUBLIC KEY`).
    pub(super) fn read(pem: &str) -> anyhow::Result<Self> {
        if CertificateDer::from_pem_slice(pem.as_bytes()).is_ok() {
            anyhow::bail!("a certificate was given; take its public key: openssl x509 -pubkey -noout");
        }
        let key = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| anyhow::anyhow!("no public key in PEM: {error:?}"))?;
        Ok(Self(key.to_vec()))
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.0).verify(message, signature).is_ok()
    }
}

/// The user for whom `client_id` signed `assertion`.
pub(super) fn check(
    assertion: &str,
    key: Option<&SigningKey>,
    client_id: &str,
    url: &str,
    now: DateTime<Utc>,
) -> Result<String, TokenRefusal> {
    let invalid = ("invalid_grant", "invalid assertion");
    let (message, signature) = assertion.rsplit_once('.').ok_or(invalid)?;
    let (header, claims) = message.split_once('.').ok_or(invalid)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| invalid);
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| invalid)?;
    let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| invalid)?;
    if header.alg != "RS256" {
        return Err(("invalid_grant", "algorithm not supported"));
    }
    if claims.iss != client_id {
        return Err(("invalid_client_id", "client identifier invalid"));
    }
    // Without a key on file the application has no certificate, and so no use of this flow.
    let key = key.ok_or(("invalid_grant", "invalid client credentials"))?;
    if !key.verifies(message.as_bytes(), &decode(signature)?) {
        return Err(invalid);
    }
    let audience = claims.aud.trim_end_matches('/').trim_end_matches("/services/oauth2/token");
    if audience != url && !AUDIENCES.contains(&audience) {
        return Err(("invalid_grant", "audience is invalid"));
    }
    // In seconds; what is written in milliseconds lies far ahead.
    let left = claims.exp.as_f64().unwrap_or_default() - now.timestamp() as f64;
    if left <= -(SKEW_SECS_MAX as f64) || left > (EXPIRY_SECS_MAX + SKEW_SECS_MAX) as f64 {
        return Err(("invalid_grant", "expired authorization code"));
    }
    Ok(claims.sub)
}

//! What a provider publishes: its endpoints and its keys. Owns their form and which addresses are taken.

use crate::{error::OidcError, transport::exchange};
use jsonwebtoken::jwk::JwkSet;
use reqwest::{Client, Url};
use serde::{Deserialize, de::DeserializeOwned};

/// The document behind `/.well-known/openid-configuration`, as far as it is used.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) issuer: String,
    pub(crate) authorization_endpoint: String,
    pub(crate) token_endpoint: String,
    pub(crate) jwks_uri: String,
    #[serde(default)]
    pub(crate) token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// An address that secrets may go to: https, or on this machine.
pub(crate) fn checked(what: &str, address: &str) -> Result<Url, OidcError> {
    let wrong = |problem: &str| OidcError::config(format!("{what} '{address}' {problem}"));
    let url = Url::parse(address).map_err(|error| wrong(&format!("is no address: {error}")))?;
    let is_here = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
    if !(url.scheme() == "https" || url.scheme() == "http" && is_here) {
        return Err(wrong("is not https"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err(wrong("holds more than an address"));
    }
    Ok(url)
}

impl Metadata {
    /// Asks the provider. It must call itself what we call it, or another could answer in its place.
    pub(crate) async fn fetch(http: &Client, issuer: &str) -> Result<Self, OidcError> {
        let address = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let metadata: Self = document(http, "issuer", &address).await?;
        if metadata.issuer != issuer {
            return Err(OidcError::not_good("it calls itself by another issuer than is configured"));
        }
        for (what, address) in [
            ("authorization_endpoint", &metadata.authorization_endpoint),
            ("token_endpoint", &metadata.token_endpoint),
            ("jwks_uri", &metadata.jwks_uri),
        ] {
            checked(what, address).map_err(|error| OidcError::not_good(error.to_string()))?;
        }
        Ok(metadata)
    }

    pub(crate) async fn keys(&self, http: &Client) -> Result<JwkSet, OidcError> {
        document(http, "jwks_uri", &self.jwks_uri).await
    }

    /// Whether the client's secret goes into the form; else into the header, as the standard would have it.
    pub(crate) fn wants_secret_in_form(&self) -> bool {
        let has = |name: &str| {
            self.token_endpoint_auth_methods_supported.as_ref().is_some_and(|all| all.iter().any(|one| one == name))
        };
        has("client_secret_post") && !has("client_secret_basic")
    }
}

async fn document<T: DeserializeOwned>(http: &Client, what: &str, address: &str) -> Result<T, OidcError> {
    let (status, body) = exchange(http.get(checked(what, address)?)).await?;
    if !status.is_success() {
        return Err(OidcError::unavailable(format!("{what} answers {status}")));
    }
    serde_json::from_slice(&body).map_err(|error| OidcError::not_good(format!("{what} is no such document: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_over_https_or_stay_here() {
        for good in ["https://id.test/realm", "http://127.0.0.1:7/", "http://localhost:7", "http://[::1]:7/x"] {
            checked("issuer", good).unwrap();
        }
        for bad in [
            "",
            "id.test",
            "http://id.test",
            "ftp://127.0.0.1",
            "https://user@id.test",
            "https://a:b@id.test",
            "https://id.test/#x",
            "http://127.0.0.1.id.test",
            "http://localhost.id.test",
            "file:///etc/passwd",
        ] {
            assert!(checked("issuer", bad).is_err(), "{bad}");
        }
    }
}

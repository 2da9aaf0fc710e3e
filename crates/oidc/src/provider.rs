//! A provider: where a browser is sent, and who comes back. What it publishes is asked for once an hour, and its keys again
//! when a token is signed by one that is not known.

use crate::{
    error::OidcError,
    metadata::{Metadata, checked},
    token::{Expected, Refusal, verify},
    transport::{client, exchange},
};
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::jwk::JwkSet;
use reqwest::{Client, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};

/// How long what a provider publishes is taken to be so, in seconds.
const KNOWN_SECS: i64 = 3_600;
/// Characters of a provider's own words that are kept.
const FOREIGN_CHARS_MAX: usize = 200;

/// What is configured.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// The provider's address, exactly as it calls itself.
    pub issuer: String,
    /// Our id there.
    pub client_id: String,
    /// Our secret there; none: PKCE alone proves us.
    pub client_secret: Option<SecretString>,
    /// Where browsers come back to.
    pub redirect_url: String,
    /// What is asked for besides `openid`.
    pub scopes: Vec<String>,
    /// The sign-in was by one of these; empty: by any.
    pub acr: Vec<String>,
    /// The sign-in was by all of these.
    pub amr: Vec<String>,
}

/// Who came back.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// The provider's own id of the person: this and the issuer are the key, and nothing else is.
    pub subject: String,
    /// What people read.
    pub name: String,
    /// Empty unless the provider has verified it.
    pub email: String,
    /// All that the token says.
    pub claims: Value,
}

/// A provider.
#[derive(Debug)]
pub struct Provider {
    config: ProviderConfig,
    http: Client,
    known: Mutex<Option<Arc<Known>>>,
}

#[derive(Debug)]
struct Known {
    metadata: Metadata,
    keys: JwkSet,
    at: DateTime<Utc>,
}

#[derive(Deserialize)]
struct TokenReply {
    id_token: String,
}

#[derive(Deserialize)]
struct TokenRefusal {
    error: String,
}

impl Provider {
    /// A provider. Asks nothing yet.
    ///
    /// # Errors
    /// [`OidcError::Config`].
    pub fn new(config: ProviderConfig) -> Result<Self, OidcError> {
        checked("the issuer", &config.issuer)?;
        checked("the address to come back to", &config.redirect_url)?;
        if config.client_id.is_empty() {
            return Err(OidcError::config("there is no client_id"));
        }
        Ok(Self { config, http: client()?, known: Mutex::new(None) })
    }

    /// Its address.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.config.issuer
    }

    /// Where a browser is sent to sign in.
    ///
    /// # Errors
    /// [`OidcError`].
    pub async fn authorize_url(
        &self,
        state: &str,
        nonce: &str,
        verifier: &SecretString,
        now: DateTime<Utc>,
    ) -> Result<String, OidcError> {
        let known = self.known(now).await?;
        let mut url = Url::parse(&known.metadata.authorization_endpoint)
            .map_err(|error| OidcError::not_good(error.to_string()))?;
        let mut scopes = vec!["openid"];
        scopes.extend(self.config.scopes.iter().map(String::as_str).filter(|scope| *scope != "openid"));
        let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.expose_secret().as_bytes()));
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.config.client_id)
            .append_pair("redirect_uri", &self.config.redirect_url)
            .append_pair("scope", &scopes.join(" "))
            .append_pair("state", state)
            .append_pair("nonce", nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        if !self.config.acr.is_empty() {
            url.query_pairs_mut().append_pair("acr_values", &self.config.acr.join(" "));
        }
        Ok(url.into())
    }

    /// Who came back with that code.
    ///
    /// # Errors
    /// [`OidcError`]; whatever it is, nobody is signed in.
    pub async fn redeem(
        &self,
        code: &str,
        nonce: &str,
        verifier: &SecretString,
        now: DateTime<Utc>,
    ) -> Result<Identity, OidcError> {
        let known = self.known(now).await?;
        let token = self.exchange_code(&known.metadata, code, verifier).await?;
        let expected = Expected { issuer: &self.config.issuer, client_id: &self.config.client_id, nonce, now };
        let claims = match verify(&token, &known.keys, &expected) {
            Err(Refusal::UnknownKey) => {
                tracing::info!("the provider signs by a key that is not known; its keys are asked for again");
                let fresh = self.fetch(now).await?;
                verify(&token, &fresh.keys, &expected).map_err(|refusal| match refusal {
                    Refusal::UnknownKey => {
                        OidcError::not_good("the id_token is signed by a key that it does not publish")
                    }
                    Refusal::NotGood(error) => error,
                })?
            }
            Err(Refusal::NotGood(error)) => return Err(error),
            Ok(claims) => claims,
        };
        self.check_strength(&claims)?;
        let text = |name: &str| claims[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let subject = text("sub").unwrap_or_default();
        let is_verified = claims["email_verified"] == true;
        Ok(Identity {
            name: text("name").or_else(|| text("preferred_username")).unwrap_or_else(|| subject.clone()),
            email: text("email").filter(|_| is_verified).unwrap_or_default(),
            subject,
            claims,
        })
    }

    /// Whether the person proved enough there.
    fn check_strength(&self, claims: &Value) -> Result<(), OidcError> {
        let acr = claims["acr"].as_str().unwrap_or_default();
        if !self.config.acr.is_empty() && !self.config.acr.iter().any(|wanted| wanted == acr) {
            return Err(OidcError::TooWeak { problem: format!("acr is not {}", self.config.acr.join(" or ")) });
        }
        let amr: Vec<&str> = claims["amr"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        match self.config.amr.iter().find(|wanted| !amr.contains(&wanted.as_str())) {
            Some(missing) => Err(OidcError::TooWeak { problem: format!("amr lacks {missing}") }),
            None => Ok(()),
        }
    }

    async fn exchange_code(
        &self,
        metadata: &Metadata,
        code: &str,
        verifier: &SecretString,
    ) -> Result<String, OidcError> {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.config.redirect_url),
            ("code_verifier", verifier.expose_secret()),
            ("client_id", &self.config.client_id),
        ];
        let mut request = self.http.post(checked("token_endpoint", &metadata.token_endpoint)?);
        if let Some(secret) = &self.config.client_secret {
            if metadata.wants_secret_in_form() {
                form.push(("client_secret", secret.expose_secret()));
            } else {
                request = request.basic_auth(&self.config.client_id, Some(secret.expose_secret()));
            }
        }
        let (status, body) = exchange(request.form(&form)).await?;
        if status.is_success() {
            let reply: Result<TokenReply, _> = serde_json::from_slice(&body);
            return Ok(reply.map_err(|_| OidcError::not_good("it sends no id_token"))?.id_token);
        }
        if !status.is_client_error() {
            return Err(OidcError::unavailable(format!("token_endpoint answers {status}")));
        }
        let word =
            serde_json::from_slice(&body).map_or_else(|_| status.to_string(), |refusal: TokenRefusal| refusal.error);
        let word = word.chars().filter(|c| !c.is_control()).take(FOREIGN_CHARS_MAX).collect();
        Err(OidcError::Refused { problem: word })
    }

    /// What it publishes, asked for now and then.
    async fn known(&self, now: DateTime<Utc>) -> Result<Arc<Known>, OidcError> {
        let kept = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match kept.filter(|known| now - known.at < TimeDelta::seconds(KNOWN_SECS)) {
            Some(known) => Ok(known),
            None => self.fetch(now).await,
        }
    }

    async fn fetch(&self, now: DateTime<Utc>) -> Result<Arc<Known>, OidcError> {
        let metadata = Metadata::fetch(&self.http, &self.config.issuer).await?;
        let keys = metadata.keys(&self.http).await?;
        let known = Arc::new(Known { metadata, keys, at: now });
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known.clone());
        Ok(known)
    }
}

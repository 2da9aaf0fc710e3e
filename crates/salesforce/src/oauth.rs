//! Owns OAuth 2.0 with Salesforce: where a person is sent to consent, and each way to a token: by code, by refresh
//! token, by a signed assertion. Every one is a single post. Does not own sessions, nor where tokens are kept.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

use crate::{
    address::{Hosts, host_of},
    error::{Result, SalesforceError},
    jwt::{self, JwtUser},
    options::Options,
    record_id::id18,
    refusal::read_token_refusal,
    transport::Transport,
};

/// A token's answer has some 2 KB; nothing may make us read more than this.
const REPLY_BYTES_MAX: usize = 256 * 1024;
/// What is asked of the person: calls in their name, also while they are away.
const SCOPE: &str = "api refresh_token";

/// The application that the customer connects, as registered with Salesforce.
#[derive(Clone, Debug)]
pub struct ConnectedApp {
    /// Where to sign on: `https://login.salesforce.com`, `https://test.salesforce.com` or the customer's own host.
    pub login_url: String,
    /// Of the application.
    pub client_id: String,
    /// Of the application; applications without one prove themselves by the verifier or by a key.
    pub client_secret: Option<SecretString>,
}

/// What Salesforce granted. With rotation the refresh token that was used is dead by now: store the new one first of all,
/// before anything here is looked at or used.
#[derive(Debug)]
pub struct Grant {
    /// What calls are made with.
    pub access_token: SecretString,
    /// A refresh token, if a new one came.
    pub refresh_token: Option<SecretString>,
    /// What was granted, as words with spaces between.
    pub scope: Option<String>,
    /// The organisation that consented, 18 characters: tells whether a connection is authorised again by the same one.
    pub organisation: Option<String>,
    /// The user that consented, 18 characters.
    pub user: Option<String>,
    instance_url: String,
    hosts: Hosts,
}

impl Grant {
    /// Where the token is good: an origin, checked to be Salesforce's.
    ///
    /// # Errors
    /// `Rejected` if the reply names any other host.
    pub fn instance_url(&self) -> Result<String> {
        Ok(self.hosts.origin(&self.instance_url, "INSTANCE_URL")?.origin().ascii_serialization())
    }

    /// Its host, as [`Options::instance_host`] takes it.
    ///
    /// # Errors
    /// As [`Grant::instance_url`].
    pub fn instance_host(&self) -> Result<String> {
        Ok(host_of(&self.hosts.origin(&self.instance_url, "INSTANCE_URL")?))
    }
}

#[derive(Deserialize)]
struct TokenReply {
    #[serde(deserialize_with = "secret")]
    access_token: SecretString,
    instance_url: String,
    #[serde(default, deserialize_with = "maybe_secret")]
    refresh_token: Option<SecretString>,
    scope: Option<String>,
    /// An address that ends in the ids of the organisation and the user.
    id: Option<String>,
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<SecretString, D::Error> {
    String::deserialize(from).map(SecretString::from)
}

fn maybe_secret<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(SecretString::from))
}

/// The sign-on of one connected application.
#[derive(Clone)]
pub struct OAuth {
    transport: Transport,
    login: Url,
    hosts: Hosts,
    client_id: String,
    client_secret: Option<SecretString>,
}

impl fmt::Debug for OAuth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OAuth").field("login", &self.login.as_str()).finish_non_exhaustive()
    }
}

impl OAuth {
    /// Makes ready; nothing is sent.
    ///
    /// # Errors
    /// `Rejected` if the login url is not acceptable.
    pub fn new(app: ConnectedApp, options: &Options) -> Result<Self> {
        Self::with(Transport::new(options)?, app, options.hosts.clone())
    }

    pub(crate) fn with(transport: Transport, app: ConnectedApp, hosts: Hosts) -> Result<Self> {
        let login = hosts.origin(&app.login_url, "LOGIN_URL")?;
        Ok(Self { transport, login, hosts, client_id: app.client_id, client_secret: app.client_secret })
    }

    /// Where a person is sent to consent. `state` comes back as it is; the verifier is kept here and shown only when the
    /// code is exchanged.
    #[must_use]
    pub fn authorize_url(&self, callback_url: &str, state: &str, verifier: &SecretString) -> String {
        let mut url = self.login.clone();
        url.set_path("/services/oauth2/authorize");
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", callback_url)
            .append_pair("scope", SCOPE)
            .append_pair("state", state)
            .append_pair("code_challenge", &challenge(verifier))
            .append_pair("code_challenge_method", "S256");
        url.into()
    }

    /// Turns the code of a callback into a grant; a code is good once and for some minutes. `callback_url` is the same as
    /// before.
    ///
    /// # Errors
    /// `AuthBroken` if the code is not good (any more): the person begins again. `Unavailable`, `RateLimited`, `Rejected`.
    pub async fn exchange_code(&self, code: &str, callback_url: &str, verifier: &SecretString) -> Result<Grant> {
        self.token(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", callback_url),
            ("code_verifier", verifier.expose_secret()),
        ])
        .await
    }

    /// A new access token. Never repeated here: with rotation, a second use of a refresh token that did arrive would end
    /// the grant.
    ///
    /// # Errors
    /// `AuthBroken` if the grant is gone, `Unavailable` if no answer came (the token may be used up nevertheless),
    /// `RateLimited`, `Rejected`.
    pub async fn refresh(&self, refresh_token: &SecretString) -> Result<Grant> {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", refresh_token.expose_secret())]).await
    }

    /// An access token for a user who consented to the application beforehand, by an assertion signed at `now`. There is
    /// no refresh token: sign another.
    ///
    /// # Errors
    /// `Rejected` if the key cannot sign; otherwise as [`OAuth::refresh`].
    pub async fn bearer(&self, user: &JwtUser, now: DateTime<Utc>) -> Result<Grant> {
        let audience = user.audience.clone().unwrap_or_else(|| self.login.origin().ascii_serialization());
        let assertion = jwt::assertion(&self.client_id, user, &audience, now)?;
        self.token(&[("grant_type", jwt::GRANT_TYPE), ("assertion", assertion.expose_secret())]).await
    }

    /// Ends a grant, by its refresh token, or a session, by its access token. One that is gone already is no error.
    ///
    /// # Errors
    /// `Unavailable`, `RateLimited`.
    pub async fn revoke(&self, token: &SecretString) -> Result<()> {
        let url = self.address("/services/oauth2/revoke");
        let form = [("token", token.expose_secret())];
        let (head, body) = self.transport.post_form(url, &form, REPLY_BYTES_MAX).await?;
        if head.status.is_success() {
            return Ok(());
        }
        match read_token_refusal(head.status, head.retry_after_secs(), &body) {
            SalesforceError::AuthBroken { .. } => Ok(()),
            error => Err(error),
        }
    }

    async fn token(&self, form: &[(&str, &str)]) -> Result<Grant> {
        let mut form = form.to_vec();
        form.push(("client_id", &self.client_id));
        // An assertion is the application's proof already; the secret beside it does no harm, and some ask for it.
        if let Some(secret) = &self.client_secret {
            form.push(("client_secret", secret.expose_secret()));
        }
        let url = self.address("/services/oauth2/token");
        let (head, body) = self.transport.post_form(url, &form, REPLY_BYTES_MAX).await?;
        if !head.status.is_success() {
            return Err(read_token_refusal(head.status, head.retry_after_secs(), &body));
        }
        read_grant(&body, &self.hosts)
    }

    fn address(&self, path: &str) -> Url {
        let mut url = self.login.clone();
        url.set_path(path);
        url
    }
}

/// The reply of the token endpoint.
pub(crate) fn read_grant(body: &[u8], hosts: &Hosts) -> Result<Grant> {
    // The parser's own words could repeat a part of the reply, which holds tokens.
    let reply: TokenReply = serde_json::from_slice(body).map_err(|error| SalesforceError::Unavailable {
        reason: format!("the token reply cannot be read ({:?} at byte {})", error.classify(), error.column()),
        source: None,
    })?;
    let (organisation, user) = reply.id.as_deref().map_or((None, None), who);
    Ok(Grant {
        access_token: reply.access_token,
        refresh_token: reply.refresh_token,
        scope: reply.scope,
        organisation,
        user,
        instance_url: reply.instance_url,
        hosts: hosts.clone(),
    })
}

/// The organisation and the user of `https://login.salesforce.com/id/00D…/005…`. The address is read, never asked.
fn who(identity: &str) -> (Option<String>, Option<String>) {
    let mut ids = identity.rsplit('/').map(id18);
    let (user, organisation) = (ids.next().flatten(), ids.next().flatten());
    (organisation, user)
}

/// A secret of 256 bits, fit for an address: a verifier, or a state.
#[must_use]
pub fn new_secret() -> SecretString {
    SecretString::from(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

fn challenge(verifier: &SecretString) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.expose_secret().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_the_standards() {
        // RFC 7636, appendix B.
        let verifier = SecretString::from("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(challenge(&verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        let (one, other) = (new_secret(), new_secret());
        assert_eq!(one.expose_secret().len(), 43);
        assert_ne!(one.expose_secret(), other.expose_secret());
    }

    #[test]
    fn a_person_is_sent_to_consent() {
        let app = ConnectedApp {
            login_url: "https://login.salesforce.com".to_owned(),
            client_id: "id&x".to_owned(),
            client_secret: None,
        };
        let oauth = OAuth::new(app, &Options::default()).unwrap();
        let url = oauth.authorize_url("https://servant.example/connect?x=1", "state", &SecretString::from("v"));
        let url = Url::parse(&url).unwrap();
        assert_eq!((url.host_str(), url.path()), (Some("login.salesforce.com"), "/services/oauth2/authorize"));
        let pairs: std::collections::BTreeMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(pairs["client_id"], "id&x");
        assert_eq!(pairs["redirect_uri"], "https://servant.example/connect?x=1");
        assert_eq!((pairs["state"].as_str(), pairs["code_challenge_method"].as_str()), ("state", "S256"));
        assert_eq!(pairs["code_challenge"], challenge(&SecretString::from("v")));
    }

    #[test]
    fn who_consented_is_read() {
        let (organisation, user) = who("https://login.salesforce.com/id/00D000000000001/005000000000001AAA");
        assert_eq!(organisation.as_deref(), Some("00D000000000001EAA"));
        assert_eq!(user.as_deref(), Some("005000000000001AAA"));
        for bad in ["", "/", "https://login.salesforce.com/id/<script>/x"] {
            assert_eq!(who(bad), (None, None), "{bad}");
        }
    }
}

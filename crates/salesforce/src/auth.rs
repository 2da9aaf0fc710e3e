//! Owns sign-on by refresh token: one at a time, and a new refresh token stored before it is needed.
//! Does not own the requests made with the session.

use std::{error::Error, fmt, future::Future, pin::Pin, sync::Arc};

use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use tokio::sync::Mutex;

use crate::{
    error::{Result, SalesforceError, read_token_refusal},
    transport::Transport,
};

/// Hosts to which a sign-on at one of Salesforce's hosts may send its sessions.
const INSTANCE_DOMAINS: [&str; 4] = [".salesforce.com", ".force.com", ".salesforce.mil", ".cloudforce.com"];

/// What a connected organisation is reached with.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Where to sign on, such as `https://login.salesforce.com`.
    pub login_url: String,
    /// Of the connected application.
    pub client_id: String,
    /// Of the connected application.
    pub client_secret: SecretString,
    /// Of the organisation's consent.
    pub refresh_token: SecretString,
}

type Stored = Pin<Box<dyn Future<Output = std::result::Result<(), Box<dyn Error + Send + Sync>>> + Send>>;

/// Stores a new refresh token. With rotation the old one is dead at that moment, and using it again revokes the grant,
/// so no session is used until this returns `Ok`; if it fails, it is called again before the next sign-on.
#[derive(Clone)]
pub struct StoreRotated(Arc<dyn Fn(SecretString) -> Stored + Send + Sync>);

impl StoreRotated {
    /// Wraps what stores the token.
    pub fn new<F, S>(store: F) -> Self
    where
        F: Fn(SecretString) -> S + Send + Sync + 'static,
        S: Future<Output = std::result::Result<(), Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        Self(Arc::new(move |token| Box::pin(store(token))))
    }
}

impl fmt::Debug for StoreRotated {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StoreRotated")
    }
}

/// An access token and where it is good.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) access_token: SecretString,
    pub(crate) instance: Url,
    /// Counts the sign-ons: tells a session that others have already renewed from one that nobody has.
    pub(crate) generation: u64,
}

#[derive(Deserialize)]
struct TokenReply {
    #[serde(deserialize_with = "secret")]
    access_token: SecretString,
    instance_url: String,
    #[serde(default, deserialize_with = "maybe_secret")]
    refresh_token: Option<SecretString>,
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<SecretString, D::Error> {
    String::deserialize(from).map(SecretString::from)
}

fn maybe_secret<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(SecretString::from))
}

struct State {
    refresh_token: SecretString,
    /// The refresh token is new and the caller has not stored it yet.
    is_unstored: bool,
    session: Option<Session>,
    generation: u64,
}

pub(crate) struct Auth {
    login: Url,
    client_id: String,
    client_secret: SecretString,
    store_rotated: Option<StoreRotated>,
    /// Held during a sign-on, so that there is one at a time and the others take what it brings.
    state: Mutex<State>,
}

impl Auth {
    pub(crate) fn new(credentials: Credentials, store_rotated: Option<StoreRotated>) -> Result<Self> {
        let login = Url::parse(&credentials.login_url)
            .map_err(|error| SalesforceError::rejected("LOGIN_URL", format!("the login url is not a url: {error}")))?;
        if !matches!(login.scheme(), "https" | "http") || login.host_str().is_none() {
            return Err(SalesforceError::rejected("LOGIN_URL", "the login url is not of the web"));
        }
        let refresh_token = credentials.refresh_token;
        let state = State { refresh_token, is_unstored: false, session: None, generation: 0 };
        Ok(Self {
            login,
            client_id: credentials.client_id,
            client_secret: credentials.client_secret,
            store_rotated,
            state: Mutex::new(state),
        })
    }

    /// The session, after a sign-on if there is none yet.
    pub(crate) async fn session(&self, transport: &Transport) -> Result<Session> {
        let mut state = self.state.lock().await;
        match &state.session {
            Some(session) => Ok(session.clone()),
            None => self.sign_on(transport, &mut state).await,
        }
    }

    /// A session newer than `generation`.
    pub(crate) async fn renew(&self, transport: &Transport, generation: u64) -> Result<Session> {
        let mut state = self.state.lock().await;
        match &state.session {
            Some(session) if session.generation > generation => Ok(session.clone()),
            _ => {
                state.session = None;
                self.sign_on(transport, &mut state).await
            }
        }
    }

    async fn sign_on(&self, transport: &Transport, state: &mut State) -> Result<Session> {
        self.store(state).await?;
        let mut url = self.login.clone();
        url.set_path("/services/oauth2/token");
        let form = [
            ("grant_type", "refresh_token"),
            ("client_id", &self.client_id),
            ("client_secret", self.client_secret.expose_secret()),
            ("refresh_token", state.refresh_token.expose_secret()),
        ];
        let reply = transport.post_form(url, &form).await?;
        if !reply.status.is_success() {
            return Err(read_token_refusal(reply.status, &reply.body));
        }
        let token: TokenReply = serde_json::from_slice(&reply.body)
            .map_err(|error| SalesforceError::unavailable("the token reply cannot be read", error))?;
        // First of all: the old refresh token may be dead, so nothing that fails below may lose the new one.
        if let Some(refresh_token) = token.refresh_token
            && refresh_token.expose_secret() != state.refresh_token.expose_secret()
        {
            state.refresh_token = refresh_token;
            state.is_unstored = true;
        }
        self.store(state).await?;
        let instance = self.check_instance(&token.instance_url)?;
        state.generation += 1;
        let session = Session { access_token: token.access_token, instance, generation: state.generation };
        state.session = Some(session.clone());
        tracing::debug!(generation = session.generation, "signed on to salesforce");
        Ok(session)
    }

    async fn store(&self, state: &mut State) -> Result<()> {
        if !state.is_unstored {
            return Ok(());
        }
        match &self.store_rotated {
            Some(store) => (store.0)(state.refresh_token.clone())
                .await
                .map_err(|error| SalesforceError::unavailable("the new refresh token was not stored", error))?,
            None => tracing::warn!(
                "salesforce rotated the refresh token and nothing stores it: it is lost with this process"
            ),
        }
        state.is_unstored = false;
        Ok(())
    }

    /// The reply could name any host, and every later request carries the token there.
    fn check_instance(&self, text: &str) -> Result<Url> {
        let refused = || {
            SalesforceError::rejected("INSTANCE_URL", "the instance url of the token reply is not one of salesforce's")
        };
        let url = Url::parse(text).map_err(|_| refused())?;
        let host = url.host_str().ok_or_else(refused)?;
        let is_plain = url.username().is_empty() && url.password().is_none();
        let is_theirs = url.scheme() == "https" && INSTANCE_DOMAINS.iter().any(|domain| host.ends_with(domain));
        if is_plain && (url.origin() == self.login.origin() || is_theirs) { Ok(url) } else { Err(refused()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_salesforces() {
        let credentials = Credentials {
            login_url: "https://login.salesforce.com".to_owned(),
            client_id: String::new(),
            client_secret: SecretString::from(""),
            refresh_token: SecretString::from(""),
        };
        let auth = Auth::new(credentials, None).unwrap();
        for good in ["https://acme.my.salesforce.com", "https://login.salesforce.com/", "https://na1.force.com"] {
            assert!(auth.check_instance(good).is_ok(), "{good}");
        }
        for bad in [
            "http://acme.my.salesforce.com",
            "https://salesforce.com.evil.example",
            "https://evilsalesforce.com",
            "file:///etc",
            "https://a:b@acme.my.salesforce.com",
            "https://169.254.169.254",
            "",
            "/services",
        ] {
            assert!(auth.check_instance(bad).is_err(), "{bad}");
        }
    }
}

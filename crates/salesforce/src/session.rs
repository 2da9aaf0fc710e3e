//! Owns the session of a client: where it comes from, one renewal at a time, and a new refresh token stored before it is
//! needed. Does not own the posts that bring one (`oauth`), nor the requests made with it.

use std::{error::Error, fmt, future::Future, pin::Pin, sync::Arc};

use domain::Clock;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;

use crate::{
    address::{Hosts, host_of},
    error::{Result, SalesforceError},
    jwt::JwtUser,
    oauth::{ConnectedApp, OAuth},
    options::Options,
    transport::Transport,
};

/// What a connected organisation is reached with, by refresh token.
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
pub struct Session {
    /// What calls are made with.
    pub access_token: SecretString,
    /// The customer's instance, as the sign-on named it. The client checks it again.
    pub instance_url: String,
}

type Given = Pin<Box<dyn Future<Output = Result<Session>> + Send>>;

/// Gives a session that the caller keeps, so that many clients share one. It is asked with nothing at first, and later
/// with the session that Salesforce refused: then it must give another one, or say why there is none. One client asks
/// one question at a time; that clients everywhere renew once is the giver's part.
#[derive(Clone)]
pub struct GiveSession(Arc<dyn Fn(Option<Session>) -> Given + Send + Sync>);

impl GiveSession {
    /// Wraps what gives sessions.
    pub fn new<F, S>(give: F) -> Self
    where
        F: Fn(Option<Session>) -> S + Send + Sync + 'static,
        S: Future<Output = Result<Session>> + Send + 'static,
    {
        Self(Arc::new(move |refused| Box::pin(give(refused))))
    }
}

impl fmt::Debug for GiveSession {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("GiveSession")
    }
}

/// Where a client has its sessions from.
#[derive(Clone, Debug)]
pub enum SessionSource {
    /// Its own sign-on by refresh token.
    RefreshToken(Credentials),
    /// Its own sign-on by a signed assertion.
    Jwt {
        /// The application.
        app: ConnectedApp,
        /// In whose name.
        user: JwtUser,
        /// For the assertion's end.
        clock: Clock,
    },
    /// From the caller.
    Given(GiveSession),
}

/// A checked session.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    session: Session,
    pub(crate) instance: Url,
    /// Counts the sign-ons: tells a session that others have already renewed from one that nobody has.
    pub(crate) generation: u64,
}

impl Live {
    pub(crate) fn access_token(&self) -> &str {
        self.session.access_token.expose_secret()
    }
}

enum Source {
    Refresh { oauth: OAuth, store_rotated: Option<StoreRotated> },
    Jwt { oauth: OAuth, user: JwtUser, clock: Clock },
    Given(GiveSession),
}

struct State {
    /// Empty where there are no refresh tokens.
    refresh_token: SecretString,
    /// The refresh token is new and the caller has not stored it yet.
    is_unstored: bool,
    live: Option<Live>,
    refused: Option<Session>,
    generation: u64,
}

pub(crate) struct Sessions {
    source: Source,
    hosts: Hosts,
    instance_host: Option<String>,
    /// Held during a sign-on, so that there is one at a time and the others take what it brings.
    state: Mutex<State>,
}

impl Sessions {
    pub(crate) fn new(source: SessionSource, transport: &Transport, options: &Options) -> Result<Self> {
        let oauth = |app| OAuth::with(transport.clone(), app, options.hosts.clone());
        let (source, refresh_token) = match source {
            SessionSource::RefreshToken(credentials) => {
                let Credentials { login_url, client_id, client_secret, refresh_token } = credentials;
                let oauth = oauth(ConnectedApp { login_url, client_id, client_secret: Some(client_secret) })?;
                (Source::Refresh { oauth, store_rotated: options.store_rotated.clone() }, refresh_token)
            }
            SessionSource::Jwt { app, user, clock } => {
                (Source::Jwt { oauth: oauth(app)?, user, clock }, SecretString::default())
            }
            SessionSource::Given(give) => (Source::Given(give), SecretString::default()),
        };
        let state = State { refresh_token, is_unstored: false, live: None, refused: None, generation: 0 };
        Ok(Self {
            source,
            hosts: options.hosts.clone(),
            instance_host: options.instance_host.clone(),
            state: Mutex::new(state),
        })
    }

    /// The session, after a sign-on if there is none yet.
    pub(crate) async fn get(&self) -> Result<Live> {
        let mut state = self.state.lock().await;
        match &state.live {
            Some(live) => Ok(live.clone()),
            None => self.sign_on(&mut state).await,
        }
    }

    /// A session newer than `generation`.
    pub(crate) async fn renew(&self, generation: u64) -> Result<Live> {
        let mut state = self.state.lock().await;
        match &state.live {
            Some(live) if live.generation > generation => Ok(live.clone()),
            _ => {
                if let Some(live) = state.live.take() {
                    state.refused = Some(live.session);
                }
                self.sign_on(&mut state).await
            }
        }
    }

    async fn sign_on(&self, state: &mut State) -> Result<Live> {
        let session = match &self.source {
            Source::Refresh { oauth, store_rotated } => {
                store(store_rotated.as_ref(), state).await?;
                let grant = oauth.refresh(&state.refresh_token).await?;
                // First of all: the old refresh token may be dead, so nothing that fails below may lose the new one.
                if let Some(refresh_token) = &grant.refresh_token
                    && refresh_token.expose_secret() != state.refresh_token.expose_secret()
                {
                    state.refresh_token = refresh_token.clone();
                    state.is_unstored = true;
                }
                store(store_rotated.as_ref(), state).await?;
                let instance_url = grant.instance_url()?;
                Session { access_token: grant.access_token, instance_url }
            }
            Source::Jwt { oauth, user, clock } => {
                let grant = oauth.bearer(user, clock.now()).await?;
                let instance_url = grant.instance_url()?;
                Session { access_token: grant.access_token, instance_url }
            }
            Source::Given(GiveSession(give)) => give(state.refused.clone()).await?,
        };
        let instance = self.hosts.origin(&session.instance_url, "INSTANCE_URL")?;
        if let Some(registered) = self.instance_host.as_ref().filter(|registered| **registered != host_of(&instance)) {
            // It may be honest: organisations move and are renamed. But a person must say so.
            let reason = format!("the session is for another host than {registered}, which was authorised");
            return Err(SalesforceError::AuthBroken { reason });
        }
        state.generation += 1;
        let live = Live { session, instance, generation: state.generation };
        state.live = Some(live.clone());
        tracing::debug!(generation = live.generation, "signed on to salesforce");
        Ok(live)
    }
}

async fn store(store_rotated: Option<&StoreRotated>, state: &mut State) -> Result<()> {
    if !state.is_unstored {
        return Ok(());
    }
    match store_rotated {
        Some(StoreRotated(store)) => store(state.refresh_token.clone())
            .await
            .map_err(|error| SalesforceError::unavailable("the new refresh token was not stored", error))?,
        None => {
            tracing::warn!("salesforce rotated the refresh token and nothing stores it: it is lost with this process");
        }
    }
    state.is_unstored = false;
    Ok(())
}

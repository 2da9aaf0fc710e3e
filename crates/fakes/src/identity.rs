//! Owns the simulated provider of OpenID Connect: a server in memory that publishes its endpoints and keys, lets whoever
//! comes through as the person that was set, and issues id_tokens, good ones or bad ones on request. Does not own sessions
//! of its own, consent, nor refresh tokens.

mod keys;

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    Form, Json, Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use domain::Clock;
use keys::{Keys, Signed};
use serde::Deserialize;
use serde_json::{Value, json};

/// From the issue of an id_token to its end, in seconds.
const GOOD_SECS: i64 = 300;
/// Bytes of an answer that does not end soon.
const ENDLESS_BYTES: usize = 1024 * 1024;

/// Who signs in.
#[derive(Clone, Debug)]
pub struct Person {
    /// The provider's own id.
    pub subject: String,
    /// What people read.
    pub name: String,
    /// Verified.
    pub email: String,
    /// The claim `groups`.
    pub groups: Vec<String>,
    /// By what the sign-in was.
    pub acr: Option<String>,
    /// By which means.
    pub amr: Vec<String>,
}

impl Person {
    /// Somebody in these groups.
    pub fn new(subject: &str, groups: &[&str]) -> Self {
        Self {
            subject: subject.to_owned(),
            name: format!("Person {subject}"),
            email: format!("{subject}@id.test"),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            acr: None,
            amr: Vec::new(),
        }
    }
}

/// What is wrong with the provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The id_token answers another sign-in.
    WrongNonce,
    /// It is for another client.
    WrongAudience,
    /// It is another issuer's.
    WrongIssuer,
    /// It has expired.
    Expired,
    /// It is issued in an hour.
    FromTheFuture,
    /// It is not signed, and says so.
    AlgorithmNone,
    /// It is signed by HS256 with the public key as the secret.
    SignedWithPublicKey,
    /// It is signed by a key that is not published.
    UnknownKey,
    /// It names a key that is published, and is signed by another.
    OtherKey,
    /// A claim was changed after it was signed.
    Altered,
    /// The provider calls itself by another name.
    OtherName,
    /// The token's endpoint leads elsewhere.
    Redirects,
    /// Its answer does not end soon.
    Endless,
    /// It fails.
    ServerError,
}

/// What the provider was set up with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The only client.
    pub client_id: String,
    /// Its secret; none: PKCE alone proves it.
    pub client_secret: Option<String>,
    /// Signs by ES256 instead of RS256.
    pub elliptic: bool,
    /// By which its tokens are dated.
    pub clock: Clock,
}

struct Granted {
    nonce: String,
    challenge: String,
    redirect_uri: String,
}

struct Inner {
    issuer: String,
    options: Options,
    keys: Keys,
    person: Person,
    fault: Fault,
    codes: HashMap<String, Granted>,
    key_fetches: u32,
}

/// A running provider; it ends with this.
pub struct FakeIdentity {
    issuer: String,
    inner: Arc<Mutex<Inner>>,
    server: tokio::task::JoinHandle<()>,
}

type Shared = State<Arc<Mutex<Inner>>>;

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeIdentity {
    /// Starts one on a free port of this machine.
    ///
    /// # Errors
    /// There is no port or no randomness.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let issuer = format!("http://{}", listener.local_addr()?);
        let inner = Arc::new(Mutex::new(Inner {
            issuer: issuer.clone(),
            keys: Keys::new(options.elliptic)?,
            options,
            person: Person::new("1", &[]),
            fault: Fault::None,
            codes: HashMap::new(),
            key_fetches: 0,
        }));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/keys", get(keys))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .with_state(inner.clone());
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the simulated provider has ended");
            }
        });
        Ok(Self { issuer, inner, server })
    }

    /// Its address.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Who signs in from now on.
    pub fn set_person(&self, person: Person) {
        lock(&self.inner).person = person;
    }

    /// What is wrong from now on.
    pub fn set_fault(&self, fault: Fault) {
        lock(&self.inner).fault = fault;
    }

    /// Signs by new keys from now on, and publishes no others.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn rotate_keys(&self) -> anyhow::Result<()> {
        let mut inner = lock(&self.inner);
        inner.keys = Keys::new(inner.options.elliptic)?;
        Ok(())
    }

    /// How often its keys were asked for.
    pub fn key_fetches(&self) -> u32 {
        lock(&self.inner).key_fetches
    }
}

impl Drop for FakeIdentity {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn configuration(State(inner): Shared) -> Json<Value> {
    let inner = lock(&inner);
    let issuer = &inner.issuer;
    let name = if inner.fault == Fault::OtherName { "https://other.test" } else { issuer };
    Json(json!({
        "issuer": name,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
    }))
}

async fn keys(State(inner): Shared) -> Json<Value> {
    let mut inner = lock(&inner);
    inner.key_fetches += 1;
    Json(json!({ "keys": [inner.keys.published()] }))
}

#[derive(Deserialize)]
struct Authorize {
    response_type: String,
    client_id: String,
    redirect_uri: String,
    scope: String,
    state: String,
    nonce: String,
    code_challenge: String,
    code_challenge_method: String,
}

/// Lets whoever comes through.
async fn authorize(State(inner): Shared, Query(query): Query<Authorize>) -> Response {
    let mut inner = lock(&inner);
    let is_asked_well = query.response_type == "code"
        && query.client_id == inner.options.client_id
        && query.scope.split(' ').any(|scope| scope == "openid")
        && query.code_challenge_method == "S256"
        && query.code_challenge.len() == 43;
    if !is_asked_well {
        return (StatusCode::BAD_REQUEST, "the sign-in is not asked for as it must be").into_response();
    }
    let code = uuid::Uuid::new_v4().simple().to_string();
    let back = format!("{}?code={code}&state={}&iss={}", query.redirect_uri, query.state, inner.issuer);
    let granted = Granted { nonce: query.nonce, challenge: query.code_challenge, redirect_uri: query.redirect_uri };
    inner.codes.insert(code, granted);
    Redirect::to(&back).into_response()
}

#[derive(Deserialize)]
struct Token {
    grant_type: String,
    code: String,
    redirect_uri: String,
    code_verifier: String,
    client_id: String,
}

async fn token(State(inner): Shared, headers: HeaderMap, Form(form): Form<Token>) -> Response {
    let mut inner = lock(&inner);
    let refuse = |error: &str| (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response();
    match inner.fault {
        Fault::Redirects => return Redirect::temporary("/keys").into_response(),
        Fault::Endless => return " ".repeat(ENDLESS_BYTES).into_response(),
        Fault::ServerError => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        _ => {}
    }
    if let Some(secret) = &inner.options.client_secret {
        let expected = format!("Basic {}", STANDARD.encode(format!("{}:{secret}", inner.options.client_id)));
        if headers.get(header::AUTHORIZATION).is_none_or(|given| given != expected.as_str()) {
            return (StatusCode::UNAUTHORIZED, Json(json!({ "error": "invalid_client" }))).into_response();
        }
    }
    if form.grant_type != "authorization_code" || form.client_id != inner.options.client_id {
        return refuse("invalid_request");
    }
    // Once, whatever becomes of it.
    let Some(granted) = inner.codes.remove(&form.code) else { return refuse("invalid_grant") };
    let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, form.code_verifier.as_bytes()));
    if granted.redirect_uri != form.redirect_uri || granted.challenge != challenge {
        return refuse("invalid_grant");
    }
    match inner.id_token(&granted.nonce) {
        Ok(id_token) => {
            Json(json!({ "access_token": "unused", "token_type": "Bearer", "id_token": id_token })).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

impl Inner {
    fn id_token(&self, nonce: &str) -> anyhow::Result<String> {
        let (fault, now, person) = (self.fault, self.options.clock.now().timestamp(), &self.person);
        let or = |wanted: Fault, bad: &str, good: &str| if fault == wanted { bad.to_owned() } else { good.to_owned() };
        let issued = match fault {
            Fault::Expired => now - 2 * GOOD_SECS,
            Fault::FromTheFuture => now + 3_600,
            _ => now,
        };
        let mut claims = json!({
            "iss": or(Fault::WrongIssuer, "https://other.test", &self.issuer),
            "aud": or(Fault::WrongAudience, "other-client", &self.options.client_id),
            "nonce": or(Fault::WrongNonce, "another", nonce),
            "sub": person.subject,
            "name": person.name,
            "email": person.email,
            "email_verified": true,
            "groups": person.groups,
            "amr": person.amr,
            "iat": issued,
            "exp": issued + GOOD_SECS,
        });
        if let Some(acr) = &person.acr {
            claims["acr"] = json!(acr);
        }
        self.keys.sign(
            &claims,
            match fault {
                Fault::AlgorithmNone => Signed::Not,
                Fault::SignedWithPublicKey => Signed::WithPublicKey,
                Fault::UnknownKey => Signed::ByUnknownKey,
                Fault::OtherKey => Signed::ByOtherKey,
                Fault::Altered => Signed::ThenAltered,
                _ => Signed::Well,
            },
        )
    }
}

//! Connecting a customer's Salesforce: a browser is sent there to consent, and what comes back is sealed and kept.
//! Owns the two addresses and what ties them together. Does not own the vendor's wire (`salesforce`), the ciphers
//! (`vault`) or the rows (`store`).
//!
//! What ties the two: the state, good once and for ten minutes, kept as a digest; and the PKCE verifier, which only the
//! browser that began has, in a cookie. An address alone, stolen or planted, is worth nothing.

use crate::{
    App,
    caller::Caller,
    egress::Egress,
    error::ApiError,
    pages::connected_page,
    people::{cookie_of, set_cookie},
};
use anyhow::Context as _;
use axum::{
    Extension, Router,
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use chrono::TimeDelta;
use daemon::{ExposeSecret as _, SecretsFile};
use domain::{AccountId, ConnectionId, Principal, PrincipalKind, Role, WrappedKey, authorize, chain};
use salesforce::{ConnectedApp, Grant, Hosts, OAuth, Options, SalesforceError, SecretString, new_secret};
use serde::Deserialize;
use serde_json::json;
use std::path::PathBuf;
use store::{Authorised, BegunAuthorisation, ConnectionRow, SealedSecrets, credential_place};
use vault::{TokenFor, Vault, VaultError, digest, is_digest_of, new_token};

/// The vendor's name, in the ledger and in addresses.
pub(crate) const VENDOR: &str = "salesforce";
pub(crate) const START: &str = "/connect/salesforce";
pub(crate) const CALLBACK: &str = "/connect/salesforce/callback";
/// From the start to the callback.
const GOOD_SECS: i64 = 600;
/// How long an address is good at which a customer begins.
const LINK_DAYS: i64 = 7;
/// What starts the cookie's name; some of the state's digest follows, so that two tabs do not disturb each other.
const COOKIE: &str = "__Host-servant-connect-";
/// Characters shown of what came in by an address.
const FOREIGN_CHARS_MAX: usize = 200;
const AGAIN: &str = "begin again at the address that `servantctl connections authorise` prints";

/// `[connect]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectConfig {
    /// The address under which browsers reach this manager; empty = where it listens.
    pub public_url: String,
    /// The file of applications' secrets, by name.
    pub secrets_file: PathBuf,
    /// The connected application at Salesforce.
    pub salesforce: SalesforceConfig,
}

/// `[connect.salesforce]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SalesforceConfig {
    /// The application's consumer key; empty = there is none.
    pub client_id: String,
    /// Where customers sign on.
    pub login_url: String,
    /// The table of the secrets file that holds its client secret.
    pub secret_ref: String,
}

/// What the handlers need besides the ledger.
#[derive(Debug)]
pub struct Connect {
    public_url: String,
    salesforce: SalesforceConfig,
    secrets: SecretsFile,
    hosts: Hosts,
    vault: Vault,
}

impl Connect {
    /// From the configuration; none when nothing is to be connected. `listen_url`: where the manager listens.
    ///
    /// # Errors
    /// The configuration is none with which anything can be connected.
    pub fn new(config: &ConnectConfig, listen_url: &str, hosts: Hosts, vault: Vault) -> anyhow::Result<Option<Self>> {
        if config.salesforce.client_id.is_empty() {
            return Ok(None);
        }
        let public_url = if config.public_url.is_empty() { listen_url } else { &config.public_url };
        let connect = Self {
            public_url: public_url.trim_end_matches('/').to_owned(),
            salesforce: config.salesforce.clone(),
            secrets: SecretsFile::at(config.secrets_file.clone()),
            hosts,
            vault,
        };
        let is_address = ["https://", "http://"].iter().any(|scheme| connect.public_url.starts_with(scheme));
        anyhow::ensure!(is_address, "connect.public_url is '{}', no address of the web", config.public_url);
        connect.oauth(&config.salesforce.login_url, None).context("connect.salesforce.login_url")?;
        Ok(Some(connect))
    }

    /// Where a browser begins, and until when: the customer's, who is nobody here, so that the address itself is the proof.
    pub(crate) async fn start_url(
        &self,
        app: &App,
        account: AccountId,
        connection: Option<ConnectionId>,
        by: &Principal,
    ) -> Result<String, ApiError> {
        let link = new_token(TokenFor::Code);
        let expires_at = app.store.now() + TimeDelta::days(LINK_DAYS);
        app.store.create_consent_link(&digest(&link), (account, connection), expires_at, by).await?;
        let again = connection.map(|id| format!("&connection={id}")).unwrap_or_default();
        Ok(format!("{}{START}?account={account}{again}&link={}", self.public_url, link.expose_secret()))
    }

    /// The settings of a connection that signs on in a user's name by the application's private key, and where that lies.
    pub(crate) fn in_the_name_of(&self, username: &str, objects: &[String]) -> (serde_json::Value, &str) {
        let SalesforceConfig { client_id, login_url, secret_ref } = &self.salesforce;
        let mut settings = json!({ "login_url": login_url, "client_id": client_id, "username": username });
        if !objects.is_empty() {
            settings["objects"] = json!(objects);
        }
        (settings, secret_ref)
    }

    fn callback_url(&self) -> String {
        format!("{}{CALLBACK}", self.public_url)
    }

    fn oauth(&self, login_url: &str, client_secret: Option<SecretString>) -> Result<OAuth, SalesforceError> {
        let (login_url, client_id) = (login_url.to_owned(), self.salesforce.client_id.clone());
        let options = Options { hosts: self.hosts.clone(), ..Options::default() };
        OAuth::new(ConnectedApp { login_url, client_id, client_secret }, &options)
    }

    fn cookie(state_digest: &[u8], value: &str, secs: i64) -> Result<HeaderValue, ApiError> {
        let name = cookie_name(state_digest);
        set_cookie(&name, value, secs)
    }

    /// The account's newest key; its first is made where there is none.
    async fn key_of(&self, app: &App, account: AccountId, _: &Egress) -> Result<WrappedKey, ApiError> {
        let make = || async { self.vault.new_key(account, 1).await.map_err(|error| of_vault(&error)) };
        let key = app.store.newest_key_or(account, make).await?;
        key.ok_or_else(|| ApiError::conflict("the account's keys were deleted"))
    }
}

pub(crate) fn routes() -> Router<App> {
    Router::new().route(START, get(start)).route(CALLBACK, get(callback))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    account: i64,
    connection: Option<i64>,
    /// What proves that the address is ours; whoever is signed in needs none.
    link: Option<String>,
}

/// What Salesforce sends the browser back with; it may add words of its own.
#[derive(Deserialize)]
struct Callback {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// What is configured, or what to configure; for those who may call outside.
pub(crate) fn connect_of<'a>(app: &'a App, _: &Egress) -> Result<&'a Connect, ApiError> {
    configured(app)
}

/// The same without a call.
pub(crate) fn configured(app: &App) -> Result<&Connect, ApiError> {
    app.connect.as_deref().ok_or_else(|| {
        ApiError::conflict("no application at Salesforce is configured").hint("set client_id in [connect.salesforce]")
    })
}

/// The account, and its connection where one is named: they exist and belong together.
pub(crate) async fn check(
    app: &App,
    account: AccountId,
    connection: Option<ConnectionId>,
) -> Result<Option<ConnectionRow>, ApiError> {
    if account == AccountId::SYSTEM || !app.store.has_account(account).await? {
        return Err(ApiError::not_found(format!("there is no account {account}")));
    }
    let Some(id) = connection else { return Ok(None) };
    let row = app.store.find_connection(id).await?;
    let row = row.filter(|row| row.account_id == account.0 && row.vendor == VENDOR);
    row.map(Some).ok_or_else(|| ApiError::not_found(format!("account {account} has no connection {id} to Salesforce")))
}

/// Customers are not ours to know: who comes with a good link calls out for themselves.
fn egress_of(caller: Option<&Extension<Caller>>) -> Result<Egress, ApiError> {
    Egress::of(caller.map_or(&Principal::system("consent"), |Extension(Caller(principal))| principal))
}

async fn start(
    State(app): State<App>,
    caller: Option<Extension<Caller>>,
    Query(query): Query<Start>,
) -> Result<Response, ApiError> {
    let egress = egress_of(caller.as_ref())?;
    let connect = connect_of(&app, &egress)?;
    let (account, connection) = (AccountId(query.account), query.connection.map(ConnectionId));
    // A servant is nobody here either.
    if caller.is_none_or(|Extension(caller)| caller.0.kind() == PrincipalKind::Servant) {
        let link = SecretString::from(query.link.unwrap_or_default());
        if !app.store.has_consent_link(&digest(&link), (account, connection)).await? {
            return Err(ApiError::new(StatusCode::FORBIDDEN, "no_link", "this address is not ours, or too old")
                .hint("ask for another: `servantctl connections authorise` prints it"));
        }
    }
    let row = check(&app, account, connection).await?;
    // Better now than after the customer has consented.
    connect.key_of(&app, account, &egress).await?;
    let (state, verifier) = (new_secret(), new_secret());
    let state_digest = digest(&state);
    let begun = BegunAuthorisation {
        verifier_digest: digest(&verifier),
        account,
        vendor: VENDOR.to_owned(),
        connection,
        expires_at: app.store.now() + TimeDelta::seconds(GOOD_SECS),
    };
    if !app.store.begin_authorisation(&state_digest, &begun).await? {
        let busy = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many authorisations are open");
        return Err(busy.hint("try again in ten minutes"));
    }
    let oauth = connect.oauth(login_url(connect, row.as_ref()), None).map_err(|error| of_vendor(&error))?;
    let url = oauth.authorize_url(&connect.callback_url(), state.expose_secret(), &verifier);
    let cookie = Connect::cookie(&state_digest, verifier.expose_secret(), GOOD_SECS)?;
    tracing::info!(AccountId = account.0, "a browser was sent to salesforce to consent");
    let location = HeaderValue::from_str(&url).map_err(|_| ApiError::bad_request("the login url is none"))?;
    Ok((StatusCode::SEE_OTHER, [(header::LOCATION, location), (header::SET_COOKIE, cookie)]).into_response())
}

async fn callback(
    State(app): State<App>,
    caller: Option<Extension<Caller>>,
    headers: HeaderMap,
    Query(query): Query<Callback>,
) -> Result<Response, ApiError> {
    let egress = egress_of(caller.as_ref())?;
    let connect = connect_of(&app, &egress)?;
    let unknown = || ApiError::bad_request("this authorisation is not known, too old, or used already").hint(AGAIN);
    let state_digest = digest(&SecretString::from(query.state.ok_or_else(unknown)?));
    // Taken first: whatever is wrong with the rest, nobody gets a second try.
    let begun = app.store.take_authorisation(&state_digest).await?.ok_or_else(unknown)?;
    if begun.expires_at < app.store.now() || begun.vendor != VENDOR {
        return Err(unknown());
    }
    let verifier = cookie_of(&headers, &cookie_name(&state_digest))
        .filter(|verifier| is_digest_of(&begun.verifier_digest, verifier))
        .ok_or_else(|| {
            ApiError::new(StatusCode::FORBIDDEN, "other_browser", "this authorisation was begun in another browser")
                .hint(AGAIN)
        })?;
    let code = match (query.code, query.error) {
        (Some(code), None) => code,
        (_, error) => {
            let words = [error.as_deref().unwrap_or("no code"), query.error_description.as_deref().unwrap_or_default()];
            let words: String = words.join(": ").chars().filter(|c| !c.is_control()).take(FOREIGN_CHARS_MAX).collect();
            return Err(ApiError::bad_request(format!("Salesforce did not consent: {words}")).hint(AGAIN));
        }
    };
    let row = check(&app, begun.account, begun.connection).await?;
    let client_secret = connect.secrets.read(&connect.salesforce.secret_ref, "client_secret").map_err(|error| {
        tracing::error!(error = error.to_string(), "a code cannot be exchanged");
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the application's client_secret is not configured",
        )
    })?;
    let login_url = login_url(connect, row.as_ref()).to_owned();
    let oauth = connect.oauth(&login_url, Some(client_secret)).map_err(|error| of_vendor(&error))?;
    let grant =
        oauth.exchange_code(&code, &connect.callback_url(), &verifier).await.map_err(|error| of_vendor(&error))?;
    let connection = keep((&app, connect, &egress), &begun, row, &grant, &login_url).await?;
    tracing::info!(AccountId = begun.account.0, ConnectionId = connection.0, "a connection was authorised");
    let mut page = connected_page(begun.account, connection)?;
    page.headers_mut().insert(header::SET_COOKIE, Connect::cookie(&state_digest, "", 0)?);
    Ok(page)
}

/// Enters or renews the connection with what was granted.
async fn keep(
    (app, connect, egress): (&App, &Connect, &Egress),
    begun: &BegunAuthorisation,
    row: Option<ConnectionRow>,
    grant: &Grant,
    login_url: &str,
) -> Result<ConnectionId, ApiError> {
    let instance_host = grant.instance_host().map_err(|error| of_vendor(&error))?;
    let Some(refresh_token) = &grant.refresh_token else {
        return Err(ApiError::conflict("Salesforce granted no refresh token")
            .hint("give the connected application the scope refresh_token, then begin again"));
    };
    let connection = match (&row, &grant.organisation) {
        (Some(row), Some(organisation)) => {
            // Another organisation's records would be mixed with this one's.
            let known = row.settings["organisation"].as_str();
            if known.is_some_and(|known| known != organisation) {
                return Err(ApiError::conflict(format!("connection {} is to another organisation", row.id))
                    .hint("sign on to the organisation that was connected, or begin without naming a connection"));
            }
            ConnectionId(row.id)
        }
        (Some(row), None) => ConnectionId(row.id),
        // The same organisation is not connected twice.
        (None, Some(organisation)) => match app.store.find_organisation(begun.account, VENDOR, organisation).await? {
            Some(id) => id,
            None => app.store.reserve_connection().await?,
        },
        (None, None) => app.store.reserve_connection().await?,
    };
    let key = connect.key_of(app, begun.account, egress).await?;
    let sealed = connect.vault.seal(&key, &credential_place(connection), refresh_token).await;
    let authorised = Authorised {
        connection,
        account: begun.account,
        vendor: VENDOR,
        settings: &json!({
            "login_url": login_url,
            "client_id": connect.salesforce.client_id,
            "organisation": grant.organisation,
            "instance_host": instance_host,
        }),
        secret_ref: &connect.salesforce.secret_ref,
        // No session yet: the first servant that needs one signs on, and finds out whether that works.
        sealed: SealedSecrets {
            key_version: key.version,
            credential: Some(sealed.map_err(|error| of_vault(&error))?),
            session: None,
        },
    };
    // The customer who consents has no name here but the one that the vendor knows them by.
    let customer =
        Principal::new(PrincipalKind::System, "consent", grant.user.as_deref().unwrap_or("customer"), Role::Admin);
    let granted = authorize(&customer, "consented at Salesforce")?;
    app.store.authorise_connection(&granted, &authorised).await?;
    Ok(connection)
}

/// Where this customer signs on: as when they were connected, or as configured.
fn login_url<'a>(connect: &'a Connect, row: Option<&'a ConnectionRow>) -> &'a str {
    row.and_then(|row| row.settings["login_url"].as_str()).unwrap_or(&connect.salesforce.login_url)
}

fn cookie_name(state_digest: &[u8]) -> String {
    let hex: String = state_digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{COOKIE}{hex}")
}

fn of_vendor(error: &SalesforceError) -> ApiError {
    tracing::warn!(error = chain(error), "an authorisation failed");
    match error {
        SalesforceError::AuthBroken { .. } => ApiError::bad_request(error.to_string()).hint(AGAIN),
        _ => ApiError::new(StatusCode::BAD_GATEWAY, "salesforce", error.to_string()).hint(AGAIN),
    }
}

pub(crate) fn of_vault(error: &VaultError) -> ApiError {
    tracing::error!(error = chain(error), "credentials cannot be sealed");
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_key", error.to_string())
        .hint("the manager's [vault] says where master keys lie; `servantctl keys list` says which there are")
}

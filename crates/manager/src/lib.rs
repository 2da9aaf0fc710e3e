//! Shows jobs, servants and whatever needs a person's attention: the HTTP API, the pages, heartbeats.
//! Owns no state besides the ledger's: any number of managers may run, and none has to.

mod allowed;
mod api;
mod assets;
mod assume;
#[cfg(test)]
mod assume_tests;
mod caller;
mod chart;
mod connect;
mod egress;
mod error;
mod filter;
mod gate;
mod glance;
mod pages;
mod people;
mod proxies;
mod sight;
mod view;

pub use connect::{Connect, ConnectConfig, SalesforceConfig};
pub use people::{Access, AccessConfig, LimitConfig, LimitsConfig, OidcConfig, SignOn};
pub use proxies::{ProxiesConfig, ProxyHeader};

use anyhow::Context as _;
use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    middleware,
    response::IntoResponse,
    routing::get,
};
use daemon::{ConfigError, ExposeSecret as _, Health, SecretsFile};
use domain::{Clock, Principal};
use salesforce::Hosts;
use serde::Deserialize;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use store::Store;
use tokio::net::TcpListener;

/// Seconds between two looks at the database for `/readyz`; the clock is corrected at the same time.
const DATABASE_CHECK_SECS: u64 = 5;

/// `config/manager.toml` without `[process]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The ledger.
    pub database: DatabaseConfig,
    /// The HTTP side.
    pub manager: ManagerConfig,
    /// What seals customers' credentials.
    pub vault: vault::Config,
    /// How customers connect their services.
    pub connect: ConnectConfig,
    /// Who may ask.
    pub access: AccessConfig,
}

/// `[database]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// Connections at the most.
    pub pool_max: u32,
    /// Longest that a statement runs, in seconds: whoever waits for the page has left by then.
    pub statement_secs: u32,
}

/// `[manager]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagerConfig {
    /// Where it is served.
    pub listen: SocketAddr,
    /// Largest body of a request, in bytes.
    pub body_bytes_max: usize,
}

/// What every handler is given.
#[derive(Debug, Clone)]
pub struct App {
    /// The ledger.
    pub store: Store,
    /// What `/readyz` says.
    pub health: Health,
    /// How customers connect their services; none: they do not.
    pub connect: Option<Arc<Connect>>,
    /// How it is known who asks.
    pub access: Access,
}

/// The whole daemon, from its configuration to the order to stop.
///
/// # Errors
/// An address that is taken, a database that does not answer or has another schema.
pub async fn serve(context: daemon::Context<Config>) -> anyhow::Result<()> {
    let (listen, connect) = (context.config.manager.listen, &context.config.connect);
    let secrets = SecretsFile::at(connect.secrets_file.clone());
    let public_url =
        if connect.public_url.is_empty() { format!("http://{listen}") } else { connect.public_url.clone() };
    let access = Access::new(&context.config.access, listen, &public_url, &secrets)?;
    if access.is_open() {
        tracing::warn!("nobody is asked who they are: for development only");
    }
    let url = daemon::database_url()?;
    let DatabaseConfig { pool_max, statement_secs } = context.config.database;
    let store = Store::connect_within(url.expose_secret(), pool_max, Clock::system(), statement_secs)
        .await
        .context("connecting to the database")?;
    store.check_schema().await?;

    let listener = TcpListener::bind(listen).await.map_err(|error| {
        ConfigError::new(
            "configuration key manager.listen",
            format!("cannot listen on {listen}: {error}"),
            "choose a free address, or port 0 for any (SERVANT_MANAGER__LISTEN=127.0.0.1:0)",
        )
    })?;
    let address = listener.local_addr()?;
    tracing::info!(address = address.to_string(), "the manager is served");

    tokio::spawn(watch_database(store.clone(), context.health.clone()));
    let vault = vault::Vault::new(context.config.vault.clone(), store.clock().clone());
    let hosts = Hosts::from_env(|name| daemon::read_env(name).ok())?;
    let connect = Connect::new(&context.config.connect, &format!("http://{address}"), hosts, vault)?;
    let app = App { store: store.clone(), health: context.health, connect: connect.map(Arc::new), access };
    let soft = context.stopper.soft().clone();
    let limits = (context.config.manager.body_bytes_max, glance::SHARED_FOR);
    let served = router_sharing(app, limits, None);
    axum::serve(listener, served.into_make_service_with_connect_info::<SocketAddr>())
        .with_graceful_shutdown(async move { soft.cancelled().await })
        .await?;
    store.close().await;
    Ok(())
}

/// All routes, for whoever is found to ask. Every request reads for itself.
pub fn router(app: App, body_bytes_max: usize) -> Router {
    router_sharing(app, (body_bytes_max, Duration::ZERO), None)
}

/// All routes, for that one who asks, whoever they are. Every request reads for itself.
pub fn router_for(app: App, body_bytes_max: usize, principal: Principal) -> Router {
    router_sharing(app, (body_bytes_max, Duration::ZERO), Some(principal))
}

/// The same, where those who look at the overview share what was read within that time and since somebody did something;
/// for `caller`, or for whoever is found to ask.
fn router_sharing(app: App, (body_bytes_max, shared_for): (usize, Duration), caller: Option<Principal>) -> Router {
    let probes =
        Router::new().route("/livez", get(|| async { "ok\n" })).route("/readyz", get(readyz)).with_state(app.clone());
    let desk = assume::Desk::new(app.clone(), served);
    let shared = Arc::new(glance::Renewable::new(move || pages::Glance::new(shared_for)));
    let served = served(app.clone())
        .layer(middleware::from_fn_with_state(shared, glance::pass::<pages::Glance>))
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .layer(middleware::from_fn_with_state(desk, assume::pass));
    let known = match caller {
        Some(principal) => served.layer(Extension(caller::Caller(principal))),
        None => served.layer(middleware::from_fn_with_state(app, people::identify)),
    };
    known.layer(middleware::from_fn(gate::pass)).merge(probes).layer(middleware::map_response(gate::harden))
}

/// What is served to those of whom it is known who they are.
fn served(app: App) -> Router {
    api::routes()
        .merge(pages::routes())
        .merge(connect::routes())
        .merge(people::routes())
        .route("/metrics", get(metrics))
        .merge(assets::routes())
        .fallback(|| async { error::ApiError::not_found("there is nothing at this address") })
        .layer(middleware::from_fn_with_state(app.clone(), allowed::note_failures))
        .with_state(app)
}

async fn watch_database(store: Store, health: Health) {
    loop {
        let outcome = store.synchronise_clock().await.map_err(|error| error.to_string());
        health.set("database", outcome);
        tokio::time::sleep(Duration::from_secs(DATABASE_CHECK_SECS)).await;
    }
}

async fn readyz(State(app): State<App>) -> impl IntoResponse {
    let failing = app.health.failing();
    let status = if failing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(serde_json::json!({ "ready": failing.is_empty(), "failing": failing })))
}

async fn metrics() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], daemon::metrics_handle().render())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_file_is_complete_and_strict() {
        let text = include_str!("../../../config/manager.toml");
        let mut table: toml::Table = text.parse().unwrap();
        let process: daemon::ProcessConfig = table.remove("process").unwrap().try_into().unwrap();
        assert_eq!(process.drain_secs, 10);
        let config: Config = toml::Value::Table(table.clone()).try_into().unwrap();
        assert_eq!(config.access.sign_on, SignOn::Required);
        let secrets = SecretsFile::at("nowhere".into());
        let made = |listen: &str, url: &str, sign_on| {
            let access = AccessConfig { sign_on, ..config.access.clone() };
            Access::new(&access, listen.parse().unwrap(), url, &secrets).map(|_| ()).map_err(|error| error.to_string())
        };
        made("127.0.0.1:8080", "http://127.0.0.1:8080", SignOn::Open).unwrap();
        made("0.0.0.0:8080", "https://servant.test", SignOn::Required).unwrap();
        assert!(made("0.0.0.0:8080", "https://servant.test", SignOn::Open).unwrap_err().contains("access.sign_on"));
        assert!(made("0.0.0.0:80", "http://servant.test", SignOn::Required).unwrap_err().contains("public_url"));
        assert_eq!(config.connect.salesforce.client_id, "", "nobody's application");
        table.insert("surprise".to_owned(), toml::Value::Boolean(true));
        assert!(toml::Value::Table(table).try_into::<Config>().is_err());
    }
}

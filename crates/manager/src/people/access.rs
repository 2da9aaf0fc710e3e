//! The configuration of sign-on, checked, and what the handlers need of it.

use super::throttle::{LimitsConfig, Throttle};
use crate::{
    error::ApiError,
    proxies::{Proxies, ProxiesConfig},
};
use axum::http::StatusCode;
use chrono::TimeDelta;
use daemon::{ConfigError, SecretsFile};
use domain::Role;
use oidc::{Provider, ProviderConfig};
use serde::Deserialize;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};
use tokio::sync::Semaphore;

/// Passwords hashed at a time: each takes a processor and 19 MiB for a moment.
const HASHES_MAX: usize = 2;

/// Whether anybody is asked who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignOn {
    /// Everybody is.
    Required,
    /// Nobody is, and whoever reaches the listener may do everything: for development.
    Open,
}

/// `[access]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessConfig {
    /// Whether anybody is asked.
    pub sign_on: SignOn,
    /// A session ends after so many minutes without an act.
    pub idle_minutes: u32,
    /// A session ends after so many minutes.
    pub session_minutes: u32,
    /// A one-time code is good for so many minutes.
    pub code_minutes: u32,
    /// How much anybody may ask.
    pub limits: LimitsConfig,
    /// What stands before the manager.
    pub proxies: ProxiesConfig,
    /// Who vouches for people.
    pub oidc: OidcConfig,
}

/// `[access.oidc]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcConfig {
    /// The provider's address; empty = there is none.
    pub issuer: String,
    /// This manager's id there.
    pub client_id: String,
    /// The table of the secrets file that holds its client secret; empty = it has none.
    pub secret_ref: String,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// The claim that names the person's groups.
    pub groups_claim: String,
    /// What each group is here for; the greatest role counts.
    pub roles: BTreeMap<String, String>,
    /// What whoever is in none of them is here for; empty = is refused.
    pub default_role: String,
    /// The sign-in must have been by one of these (`acr`); empty = by any.
    pub acr: Vec<String>,
    /// The sign-in must have been by all of these (`amr`), as `mfa`.
    pub amr: Vec<String>,
}

/// What the handlers need.
#[derive(Debug, Clone)]
pub struct Access(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sign_on: SignOn,
    idle: TimeDelta,
    session: TimeDelta,
    code: TimeDelta,
    throttle: Throttle,
    proxies: Proxies,
    hashes: Semaphore,
    provider: Option<Vouching>,
}

/// The provider, and what its words mean here.
#[derive(Debug)]
pub(super) struct Vouching {
    pub(super) provider: Provider,
    groups_claim: String,
    roles: BTreeMap<String, Role>,
    default_role: Option<Role>,
}

impl Vouching {
    /// What somebody is here for, by the provider's word; none: nothing.
    pub(super) fn role_of(&self, claims: &serde_json::Value) -> Option<Role> {
        let groups: Vec<&str> = match &claims[&self.groups_claim] {
            serde_json::Value::Array(groups) => groups.iter().filter_map(|group| group.as_str()).collect(),
            serde_json::Value::String(group) => vec![group],
            _ => Vec::new(),
        };
        groups.iter().filter_map(|group| self.roles.get(*group)).max().copied().or(self.default_role)
    }
}

impl Access {
    /// Nobody is asked who they are, and nobody is slowed down.
    #[must_use]
    pub fn open() -> Self {
        let minute = TimeDelta::minutes(1);
        Self(Arc::new(Inner {
            sign_on: SignOn::Open,
            idle: minute * 30,
            session: minute * 720,
            code: minute * 60,
            throttle: Throttle::new(LimitsConfig::generous()),
            proxies: Proxies::none(),
            hashes: Semaphore::new(HASHES_MAX),
            provider: None,
        }))
    }

    /// From the configuration. `listen`: where the manager listens; `public_url`: under which browsers reach it.
    ///
    /// # Errors
    /// [`ConfigError`] names the key: nobody asked beyond this machine, sessions over plain HTTP beyond it, a role that is
    /// none, a proxy's network that is none, a provider that cannot be used.
    pub fn new(
        config: &AccessConfig,
        listen: SocketAddr,
        public_url: &str,
        secrets: &SecretsFile,
    ) -> Result<Self, ConfigError> {
        let is_here = listen.ip().is_loopback();
        if config.sign_on == SignOn::Open && !is_here {
            return Err(ConfigError::new(
                "configuration key access.sign_on",
                format!("is \"open\", and manager.listen is {listen}: whoever reaches it may do everything"),
                "set it to \"required\", or listen on 127.0.0.1",
            ));
        }
        if config.sign_on == SignOn::Required && !is_here && !public_url.starts_with("https://") {
            return Err(ConfigError::new(
                "configuration key connect.public_url",
                format!("is no https address, and manager.listen is {listen}: browsers keep sessions for https only"),
                "put what ends TLS in front of the manager, and its address there",
            ));
        }
        for (key, minutes) in [
            ("idle_minutes", config.idle_minutes),
            ("session_minutes", config.session_minutes),
            ("code_minutes", config.code_minutes),
        ] {
            if minutes == 0 {
                return Err(ConfigError::new(format!("configuration key access.{key}"), "is 0", "set it to 1 or more"));
            }
        }
        config.limits.check()?;
        let provider = if config.oidc.issuer.is_empty() { None } else { Some(vouching(config, public_url, secrets)?) };
        let minutes = |minutes: u32| TimeDelta::minutes(i64::from(minutes));
        Ok(Self(Arc::new(Inner {
            sign_on: config.sign_on,
            idle: minutes(config.idle_minutes),
            session: minutes(config.session_minutes),
            code: minutes(config.code_minutes),
            throttle: Throttle::new(config.limits.clone()),
            proxies: Proxies::new(&config.proxies)?,
            hashes: Semaphore::new(HASHES_MAX),
            provider,
        })))
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.sign_on == SignOn::Open
    }

    pub(super) fn idle(&self) -> TimeDelta {
        self.0.idle
    }

    pub(super) fn session(&self) -> TimeDelta {
        self.0.session
    }

    /// How long a one-time code is good.
    pub(crate) fn code(&self) -> TimeDelta {
        self.0.code
    }

    pub(super) fn throttle(&self) -> &Throttle {
        &self.0.throttle
    }

    pub(crate) fn proxies(&self) -> &Proxies {
        &self.0.proxies
    }

    pub(super) fn vouching(&self) -> Option<&Vouching> {
        self.0.provider.as_ref()
    }

    /// Does something with passwords, off the runtime's threads, a few at a time.
    pub(super) async fn hashing<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let failed =
            || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the password cannot be looked at");
        let _turn = self.0.hashes.acquire().await.map_err(|_| failed())?;
        tokio::task::spawn_blocking(act).await.map_err(|_| failed())
    }
}

fn vouching(config: &AccessConfig, public_url: &str, secrets: &SecretsFile) -> Result<Vouching, ConfigError> {
    let oidc = &config.oidc;
    let role_of = |key: String, text: &str| {
        let role: Result<Role, String> = text.parse();
        role.map_err(|error| ConfigError::new(format!("configuration key {key}"), error, "name one of those"))
    };
    let mut roles = BTreeMap::new();
    for (group, role) in &oidc.roles {
        roles.insert(group.clone(), role_of(format!("access.oidc.roles.{group}"), role)?);
    }
    let default_role = match oidc.default_role.as_str() {
        "" => None,
        text => Some(role_of("access.oidc.default_role".to_owned(), text)?),
    };
    let client_secret = match oidc.secret_ref.as_str() {
        "" => None,
        name => Some(secrets.read(name, "client_secret")?),
    };
    let provider = Provider::new(ProviderConfig {
        issuer: oidc.issuer.clone(),
        client_id: oidc.client_id.clone(),
        client_secret,
        redirect_url: format!("{}{}", public_url.trim_end_matches('/'), super::provider::CALLBACK),
        scopes: oidc.scopes.clone(),
        acr: oidc.acr.clone(),
        amr: oidc.amr.clone(),
    })
    .map_err(|error| {
        ConfigError::new("configuration key access.oidc", error.to_string(), "correct issuer and client_id")
    })?;
    Ok(Vouching { provider, groups_claim: oidc.groups_claim.clone(), roles, default_role })
}

//! How every servant that asks Salesforce reaches a customer: settings, hosts, sign-on, what the vendor says of the
//! quota, and what an error means for the job. Does not own what is asked, nor who signs on first (`credentials`).

use ::salesforce::{
    Client, ConnectedApp, Credentials, Hosts, JwtUser, Options, SalesforceError, SessionSource, StoreRotated,
};
use anyhow::{Context as _, anyhow};
use chrono::{DateTime, TimeDelta, Utc};
use credentials::{SalesforceGrant, SignOn};
use daemon::SecretsFile;
use domain::{AccountId, ConnectionId};
use serde::Deserialize;
use servant_loop::{JobContext, JobError, Setup};
use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use store::{ConnectionRow, Store};
use sync::SyncError;

/// What is synced when the connection does not say.
pub const OBJECTS: [&str; 8] =
    ["User", "Account", "Contact", "Lead", "Opportunity", "OpportunityHistory", "Task", "Event"];
/// How long a job waits when too many long requests run at once in the organisation and Salesforce does not say, in seconds.
const CROWDED_SECS: i64 = 30;
/// How long it waits until it asks again whether the rolling 24 hours of an exhausted allowance give room, in seconds:
/// as long as the connection's budget, which lets one job go then.
const EXHAUSTED_SECS: i64 = 15 * 60;

/// Customers that one process keeps signed on: a client holds its trust roots and sockets.
const KNOWN_MAX: usize = 256;

/// The settings of a connection to Salesforce.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    login_url: String,
    client_id: String,
    /// In whose name to sign on with the application's private key, where no customer was asked.
    username: Option<String>,
    /// The organisation that was authorised; the manager's to look at.
    #[serde(rename = "organisation")]
    _organisation: Option<String>,
    /// The host of the instance that was authorised; a session for another is refused.
    instance_host: Option<String>,
    /// The objects to sync; without it, [`OBJECTS`].
    objects: Option<Vec<String>>,
    /// A window with so many records is read in bulk; without it, as `salesforce_sync` is configured.
    bulk_records_min: Option<u64>,
}

impl Settings {
    /// The objects that the customer wants synced, in the order in which they are read.
    #[must_use]
    pub fn objects(&self) -> Vec<String> {
        self.objects.clone().unwrap_or_else(|| OBJECTS.iter().map(|object| (*object).to_owned()).collect())
    }

    /// With how many records a window is read in bulk, which is `configured` where the connection does not say.
    #[must_use]
    pub fn bulk_records_min(&self, configured: u64) -> u64 {
        self.bulk_records_min.unwrap_or(configured)
    }
}

/// A customer, signed on.
#[derive(Clone)]
pub struct Customer {
    /// The connection.
    pub id: ConnectionId,
    /// What it says.
    pub settings: Settings,
    /// Their Salesforce.
    pub client: Arc<Client>,
}

/// How a servant reaches customers: one for each process.
pub struct Customers {
    store: Store,
    secrets: SecretsFile,
    sign_on: Arc<SignOn>,
    hosts: Hosts,
    /// Customers that were signed on for, with the connection as it was then.
    known: Mutex<HashMap<i64, (ConnectionRow, Customer)>>,
}

impl Customers {
    /// With the file of applications' client secrets and private keys, and of refresh tokens that are not in the ledger.
    ///
    /// # Errors
    /// What the environment says of Salesforce's hosts cannot be used.
    pub fn new(secrets_file: PathBuf, setup: &Setup) -> anyhow::Result<Self> {
        Ok(Self {
            store: setup.store.clone(),
            secrets: SecretsFile::at(secrets_file),
            sign_on: SignOn::new(setup.store.clone(), setup.vault.clone()),
            hosts: Hosts::from_env(|name| daemon::read_env(name).ok())?,
            known: Mutex::default(),
        })
    }

    /// The job's connection, if it may be used.
    ///
    /// # Errors
    /// [`JobError`]; return it.
    pub async fn find(&self, job: &JobContext) -> Result<ConnectionRow, JobError> {
        let id = job.connection().ok_or_else(|| JobError::permanent(anyhow!("the job names no connection")))?;
        let connection = self.store.find_connection(id).await?;
        let connection = connection.ok_or_else(|| JobError::permanent(anyhow!("there is no connection {id}")))?;
        if connection.state != "active" {
            return Err(JobError::auth_broken(anyhow!("the connection is {}", connection.state)));
        }
        Ok(connection)
    }

    /// Signs on for `connection`, and keeps with it which instance it is at. The next job of the connection in this
    /// process finds the same session and the same open sockets, as long as the connection is as it was.
    ///
    /// # Errors
    /// [`JobError`]; return it.
    pub async fn open(&self, connection: &ConnectionRow, job: &JobContext) -> Result<Customer, JobError> {
        if let Some(customer) = self.known(connection) {
            return Ok(customer);
        }
        let id = ConnectionId(connection.id);
        let settings: Settings = serde_json::from_value(connection.settings.clone())
            .context("the connection's settings are not ones for Salesforce")
            .map_err(JobError::permanent)?;
        let now = job.clock().now();
        let client = self.sign_on(connection, &settings, now).await?;
        let host = client.host().await.map_err(|error| job_error(error.into(), now))?;
        if host != connection.service {
            self.store.note_service(id, &host).await?;
        }
        let customer = Customer { id, settings, client: Arc::new(client) };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(connection.id, (ConnectionRow { service: host, ..connection.clone() }, customer.clone()));
        Ok(customer)
    }

    fn known(&self, connection: &ConnectionRow) -> Option<Customer> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&connection.id).filter(|(then, _)| then == connection).map(|(_, customer)| customer.clone())
    }

    async fn sign_on(
        &self,
        connection: &ConnectionRow,
        settings: &Settings,
        now: DateTime<Utc>,
    ) -> Result<Client, JobError> {
        let name = connection
            .secret_ref
            .clone()
            .ok_or_else(|| JobError::permanent(anyhow!("the connection does not name its secrets")))?;
        let mut options =
            Options { hosts: self.hosts.clone(), instance_host: settings.instance_host.clone(), ..Options::default() };
        let source = match self.shared(connection, settings, &name, &options).await? {
            Some(source) => source,
            None => self.own(settings, &name, &mut options)?,
        };
        Client::open(source, options).await.map_err(|error| job_error(error.into(), now))
    }

    /// Sessions that all servants share, out of the ledger; none: the connection's refresh token lies in the file.
    async fn shared(
        &self,
        connection: &ConnectionRow,
        settings: &Settings,
        name: &str,
        options: &Options,
    ) -> Result<Option<SessionSource>, JobError> {
        let id = ConnectionId(connection.id);
        let user = match &settings.username {
            Some(username) => {
                self.sign_on.ensure(id, AccountId(connection.account_id)).await.map_err(|error| {
                    if error.is_transient() { JobError::transient(error) } else { JobError::permanent(error) }
                })?;
                let key_pem = self.secrets.read(name, "private_key").map_err(JobError::permanent)?;
                Some(JwtUser { username: username.clone(), key_pem, audience: None })
            }
            None if self.store.find_secrets(id).await?.is_none() => return Ok(None),
            None => None,
        };
        // Without its secret a refresh token would be refused as if the customer had taken it back.
        let client_secret = match &user {
            Some(_) => None,
            None => Some(self.secrets.read(name, "client_secret").map_err(JobError::permanent)?),
        };
        let (login_url, client_id) = (settings.login_url.clone(), settings.client_id.clone());
        let grant = SalesforceGrant { app: ConnectedApp { login_url, client_id, client_secret }, user };
        let source = self.sign_on.salesforce(id, grant, options, self.store.clock().clone());
        source.map(Some).map_err(JobError::permanent)
    }

    /// This job's own sign-on, by the file's refresh token.
    fn own(&self, settings: &Settings, name: &str, options: &mut Options) -> Result<SessionSource, JobError> {
        let secret = |key| self.secrets.read(name, key).map_err(JobError::permanent);
        let credentials = Credentials {
            login_url: settings.login_url.clone(),
            client_id: settings.client_id.clone(),
            client_secret: secret("client_secret")?,
            refresh_token: secret("refresh_token")?,
        };
        let (secrets, name) = (self.secrets.clone(), name.to_owned());
        options.store_rotated = Some(StoreRotated::new(move |token| {
            let (secrets, name) = (secrets.clone(), name.clone());
            async move {
                tokio::task::spawn_blocking(move || secrets.replace(&name, "refresh_token", &token)).await??;
                Ok(())
            }
        }));
        Ok(SessionSource::RefreshToken(credentials))
    }
}

/// Passes on what Salesforce said of the organisation's daily calls. A refusal says more than the number beside it, which
/// lags behind.
pub fn note_usage<T>(client: &Client, job: &JobContext, outcome: &Result<T, SyncError>) {
    let is_exhausted = matches!(outcome, Err(SyncError::Vendor(SalesforceError::QuotaExhausted)));
    let news = client.api_usage_news();
    if let Some(usage) = news.or_else(|| client.api_usage().filter(|_| is_exhausted)) {
        let used = if is_exhausted { usage.used.max(usage.max) } else { usage.used };
        job.report_usage(used, usage.max, None);
    }
}

/// What each error means for the job.
#[must_use]
pub fn job_error(error: SyncError, now: DateTime<Utc>) -> JobError {
    let after = |secs: i64| Some(now + TimeDelta::seconds(secs));
    match error {
        SyncError::Vendor(vendor) => match vendor {
            SalesforceError::RateLimited { retry_after_secs } => {
                let secs = retry_after_secs.and_then(|secs| i64::try_from(secs).ok()).unwrap_or(CROWDED_SECS);
                JobError::rate_limited(vendor, after(secs))
            }
            SalesforceError::QuotaExhausted => JobError::rate_limited(vendor, after(EXHAUSTED_SECS)),
            SalesforceError::AuthBroken { .. } => JobError::auth_broken(vendor),
            SalesforceError::Forbidden { .. } => JobError::permanent(vendor),
            SalesforceError::Rejected { .. } | SalesforceError::NotInBulk { .. } => JobError::bug(vendor),
            SalesforceError::Unavailable { .. }
            | SalesforceError::CursorExpired
            | SalesforceError::QueryTimeout { .. }
            | SalesforceError::Drift { .. } => JobError::transient(vendor),
        },
        SyncError::Store(error) => error.into(),
        SyncError::Count { .. } | SyncError::Overtaken { .. } | SyncError::Page { .. } | SyncError::Spool(_) => {
            JobError::transient(error)
        }
        SyncError::TooWide { .. } => JobError::permanent(error),
    }
}

//! Brings a customer's Salesforce records up to date: every object of the connection, one window each, page by page.
//! Owns the order of objects and what an error means for the job. Does not own pages and mapping (`sync`), the vendor's
//! wire (`salesforce`), nor SQL (`store`).

use anyhow::{Context as _, anyhow};
use chrono::{DateTime, TimeDelta, Utc};
use credentials::{SalesforceGrant, SignOn};
use daemon::SecretsFile;
use domain::{AccountId, ConnectionId};
use salesforce::{
    Client, ConnectedApp, Credentials, Hosts, JwtUser, Options, SalesforceError, SessionSource, StoreRotated,
};
use serde::{Deserialize, Serialize};
use servant_loop::{Done, JobContext, JobError, Servant, Setup};
use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, sync::Arc};
use store::{ConnectionRow, Store};
use sync::{FetchedPage, Pass, Source, SyncError, Written};

fn main() -> ExitCode {
    servant_loop::main::<SalesforceSync>()
}

/// What is synced when the connection does not say.
const OBJECTS: [&str; 8] = ["User", "Account", "Contact", "Lead", "Opportunity", "OpportunityHistory", "Task", "Event"];
/// How long a job waits when another one syncs the same connection, in seconds.
const BUSY_SECS: i64 = 30;
/// How long it waits when too many long requests run at once in the organisation and Salesforce does not say, in seconds.
const CROWDED_SECS: i64 = 30;
/// How long it waits until it asks again whether the rolling 24 hours of an exhausted allowance give room, in seconds:
/// as long as the connection's budget, which lets one job go then.
const EXHAUSTED_SECS: i64 = 15 * 60;

struct SalesforceSync {
    store: Store,
    secrets: SecretsFile,
    sign_on: Arc<SignOn>,
    hosts: Hosts,
    settle: TimeDelta,
    overlap: TimeDelta,
}

/// The connection says everything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Applications' client secrets and private keys, and refresh tokens that are not in the ledger, under the name that
    /// the connection gives.
    secrets_file: PathBuf,
    /// How old a change must be to be read, in seconds.
    settle_secs: u32,
    /// How far a window reaches back into the one before it, in seconds.
    overlap_secs: u32,
}

/// The settings of a connection to Salesforce.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
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
}

/// Salesforce's own hosts, unless the process was started for development.
fn hosts() -> anyhow::Result<Hosts> {
    let setting = daemon::read_env("SERVANT_SALESFORCE_HOSTS").ok();
    let certificate = daemon::read_env("SERVANT_SALESFORCE_CERTIFICATE_FILE").ok().map(std::fs::read_to_string);
    let certificate = certificate.transpose().context("SERVANT_SALESFORCE_CERTIFICATE_FILE")?;
    let hosts = Hosts::from_setting(setting.as_deref(), certificate).context("SERVANT_SALESFORCE_HOSTS")?;
    if hosts != Hosts::Vendor {
        tracing::warn!("any host is taken for salesforce's: for development only");
    }
    Ok(hosts)
}

/// What the next attempt starts from. Where an object's window stands is in the window itself.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Checkpoint {
    /// Rows read of each object.
    records: BTreeMap<String, u64>,
    /// Objects that are up to date.
    done: Vec<String>,
    /// Rows of all first loads, as announced when the job began.
    total: Option<u64>,
}

impl Checkpoint {
    fn rows(&self) -> u64 {
        self.records.values().sum()
    }
}

impl Servant for SalesforceSync {
    const KIND: &'static str = env!("CARGO_BIN_NAME");
    type Payload = Payload;
    type Config = Config;

    async fn connect(config: Config, setup: &Setup) -> anyhow::Result<Self> {
        Ok(Self {
            store: setup.store.clone(),
            secrets: SecretsFile::at(config.secrets_file),
            sign_on: SignOn::new(setup.store.clone(), setup.vault.clone()),
            hosts: hosts()?,
            settle: TimeDelta::seconds(config.settle_secs.into()),
            overlap: TimeDelta::seconds(config.overlap_secs.into()),
        })
    }

    async fn run(&self, Payload {}: Payload, job: &JobContext) -> Result<Done, JobError> {
        let id = job.connection().ok_or_else(|| JobError::permanent(anyhow!("the job names no connection")))?;
        let connection = self.store.find_connection(id).await?;
        let connection = connection.ok_or_else(|| JobError::permanent(anyhow!("there is no connection {id}")))?;
        if connection.state != "active" {
            return Err(JobError::auth_broken(anyhow!("the connection is {}", connection.state)));
        }
        if !self.store.hold_connection(id, job.id()).await? {
            let until = job.clock().now() + TimeDelta::seconds(BUSY_SECS);
            return Err(JobError::rate_limited(anyhow!("another job syncs this connection"), Some(until)));
        }
        let settings: Settings = serde_json::from_value(connection.settings.clone())
            .context("the connection's settings are not ones for Salesforce")
            .map_err(JobError::permanent)?;
        let client = self.sign_on(&connection, &settings, job.clock().now()).await?;
        let host = client.host().await.map_err(|error| job_error(error.into(), job.clock().now()))?;
        if host != connection.service {
            self.store.note_service(id, &host).await?;
        }
        let source = Source {
            client: &client,
            store: &self.store,
            account: job.account(),
            connection: id,
            settle: self.settle,
            overlap: self.overlap,
        };
        let objects = settings.objects.unwrap_or_else(|| OBJECTS.iter().map(|object| (*object).to_owned()).collect());
        sync_all(source, &objects, job).await
    }
}

impl SalesforceSync {
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

/// Every object once; one that cannot be synced is flagged and does not stop the others.
async fn sync_all(source: Source<'_>, objects: &[String], job: &JobContext) -> Result<Done, JobError> {
    let mut checkpoint: Checkpoint =
        job.checkpoint().and_then(|saved| serde_json::from_value(saved.clone()).ok()).unwrap_or_default();
    if checkpoint.total.is_none() {
        let total = announced(source, objects).await;
        note_usage(source.client, job, &total);
        checkpoint.total = total.map_err(|error| job_error(error, job.clock().now()))?;
    }
    let mut flagged = 0_usize;
    for object in objects {
        if checkpoint.done.contains(object) {
            continue;
        }
        match sync_object(source, object, &mut checkpoint, job).await? {
            Ok(()) => checkpoint.done.push(object.clone()),
            Err(error) => {
                tracing::warn!(object, error = %error, "the object cannot be synced; the others go on");
                source.store.flag_stream(source.connection, object, &error.to_string()).await?;
                flagged += 1;
            }
        }
    }
    let rows = checkpoint.rows();
    let message = match flagged {
        0 => "up to date".to_owned(),
        _ => format!("up to date, but {flagged} of {} objects need attention", objects.len()),
    };
    job.progress(rows, Some(rows), &message);
    tracing::info!(rows, flagged, calls = source.client.calls(), "the connection is up to date");
    let mut tx = job.begin().await?;
    tx.save_checkpoint(&to_json(&checkpoint)).await?;
    tx.finish().await
}

/// Rows of the objects that were never read, if there are any: what a person watching an onboarding waits for.
async fn announced(source: Source<'_>, objects: &[String]) -> Result<Option<u64>, SyncError> {
    let known = source.store.objects_read_once(source.connection, objects).await?;
    let mut total = None;
    for object in objects.iter().filter(|object| !known.contains(object)) {
        match source.count(object).await {
            Ok(rows) => total = Some(total.unwrap_or(0) + rows),
            // What is wrong with the object will be said when its turn comes.
            Err(error) if error.is_of_one_object() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

/// One object to the end of its window. The inner error is the object's own; the outer one ends the attempt.
async fn sync_object(
    source: Source<'_>,
    object: &str,
    checkpoint: &mut Checkpoint,
    job: &JobContext,
) -> Result<Result<(), SyncError>, JobError> {
    let fail = |error| job_error(error, job.clock().now());
    let begun = Pass::begin(source, object).await;
    note_usage(source.client, job, &begun);
    let mut pass = match begun {
        Ok(pass) => pass,
        Err(error) if error.is_of_one_object() => return Ok(Err(error)),
        Err(error) => return Err(fail(error)),
    };
    loop {
        if job.cancelled().is_cancelled() {
            return Err(JobError::interrupted());
        }
        let page = pass.next_page().await;
        note_usage(source.client, job, &page);
        let page = match page {
            Ok(page) => page,
            Err(error) if error.is_of_one_object() && pass.is_untouched() => return Ok(Err(error)),
            Err(error) => return Err(fail(error)),
        };
        let written = match write(&pass, &page, checkpoint, object, job).await {
            Ok(written) => written,
            Err(Stop::Object(error @ SyncError::Count { .. })) => {
                pass.restart().await.map_err(fail)?;
                return Err(fail(error));
            }
            Err(Stop::Object(error)) => return Err(fail(error)),
            Err(Stop::Job(error)) => return Err(error),
        };
        let is_last = written.is_last;
        pass.committed(written);
        let rows = checkpoint.rows();
        job.progress(rows, Some(checkpoint.total.unwrap_or_else(|| page.window_rows()).max(rows)), object);
        if is_last {
            return Ok(Ok(()));
        }
    }
}

/// Passes on what Salesforce said of the organisation's daily calls. A refusal says more than the number beside it, which
/// lags behind.
fn note_usage<T>(client: &Client, job: &JobContext, outcome: &Result<T, SyncError>) {
    let is_exhausted = matches!(outcome, Err(SyncError::Vendor(SalesforceError::QuotaExhausted)));
    let news = client.api_usage_news();
    if let Some(usage) = news.or_else(|| client.api_usage().filter(|_| is_exhausted)) {
        let used = if is_exhausted { usage.used.max(usage.max) } else { usage.used };
        job.report_usage(used, usage.max, None);
    }
}

enum Stop {
    Object(SyncError),
    Job(JobError),
}

/// A page's rows, its mark and the job's checkpoint, in one commit.
async fn write(
    pass: &Pass<'_>,
    page: &FetchedPage,
    checkpoint: &mut Checkpoint,
    object: &str,
    job: &JobContext,
) -> Result<Written, Stop> {
    let mut tx = job.begin().await.map_err(Stop::Job)?;
    let written = pass.write(tx.tx(), page).await.map_err(Stop::Object)?;
    checkpoint.records.insert(object.to_owned(), written.rows_seen());
    tx.commit_page(&to_json(checkpoint)).await.map_err(Stop::Job)?;
    Ok(written)
}

fn to_json(checkpoint: &Checkpoint) -> serde_json::Value {
    serde_json::to_value(checkpoint).unwrap_or_default()
}

/// What each error means for the job.
fn job_error(error: SyncError, now: DateTime<Utc>) -> JobError {
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

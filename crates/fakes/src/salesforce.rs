//! Owns the simulated Salesforce: a server in memory that speaks OAuth, the REST API and the Bulk API's queries, and fails
//! on request. Does not own writes through the API, permissions, or durability (a restart forgets all but the seed).

mod admin;
mod admin_data;
mod bulk;
mod bulk_pages;
mod composite;
mod damage;
mod data_fault;
mod digest;
mod evaluate;
mod fault;
mod field;
mod folder;
mod generate;
mod http;
mod ids;
mod jwt;
mod mutate;
mod mutations;
mod oauth;
mod one;
mod organisation;
mod pages;
mod record;
mod replication;
mod reply;
mod resources;
mod schema;
mod service;
mod soql;
mod soql_dates;
mod soql_lex;
mod tls;
mod usage;
mod values;
mod wire;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use axum::{
    Router,
    routing::{get, post},
};
use chrono::Utc;
use serde_json::{Map, Value};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

pub use data_fault::{DataFault, DataOrder, Struck};
pub use digest::{Digest, Sum};
pub use fault::{Call, Fault, Order, WIRE_FAULTS};
pub use ids::{id_for, with_checksum};
pub use mutate::{Damage, Merge, Mutated, Mutation, NewField};
pub use mutations::{Kind, Made, Mutations};
pub use service::{API_VERSION, Stats};
pub use usage::{UsageChange, UsageSeen};

use service::Service;

/// How long stopping waits for answers on their way; a stalled one would take for ever.
const STOP_SECS_MAX: u64 = 5;

/// What is in the organisation.
#[derive(Clone, Debug)]
pub enum Content {
    /// Invented: this many records in all, the same for the same seed.
    Generated {
        /// Over all objects.
        records: u64,
        /// Of the dice.
        seed: u64,
    },
    /// One invented object of any size, for measuring: 25 columns make a record of about 1 KB.
    One {
        /// Its API name; what it has of its own is filled up to the number of columns.
        object: String,
        /// How many.
        records: u64,
        /// How many fields, compounds not counted.
        columns: usize,
        /// Of the dice.
        seed: u64,
    },
    /// A folder of CSV files with its `organisation.toml`.
    Folder(PathBuf),
}

/// How to start a [`FakeSalesforce`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Port 0 takes a free one.
    pub addr: SocketAddr,
    /// What is in the organisation.
    pub content: Content,
    /// The most records on a page.
    pub page_size: usize,
    /// How long an access token is good for.
    pub token_secs: u64,
    /// Data calls in any 24 hours.
    pub daily_limit: u64,
    /// The most records on a page of a bulk job's results.
    pub bulk_page_records: usize,
    /// How long a bulk job takes.
    pub bulk_delay_ms: u64,
    /// Records of a bulk job's results that one answer gives in a second; none: as many as can be read.
    pub bulk_records_per_s: Option<u32>,
    /// A query that has to give more records than so many runs for too long, in bulk too; none does of itself.
    pub timely_records_max: Option<usize>,
    /// Bulk jobs until they are refused.
    pub daily_bulk_jobs: u64,
    /// Objects that the Bulk API does not know.
    pub without_bulk: Vec<String>,
    /// Changes by dice in a second, while the server runs.
    pub mutations_per_s: u64,
    /// Of these dice.
    pub mutation_seed: u64,
    /// How far a late or back-dated change reaches at most.
    pub mutation_late_secs_max: u32,
    /// Each refresh token is good once, and the reply carries the next.
    pub rotate_refresh_tokens: bool,
    /// The only client id taken.
    pub client_id: String,
    /// The only client secret taken.
    pub client_secret: String,
    /// The (first) refresh token taken.
    pub refresh_token: String,
    /// Serve TLS, with a certificate of an authority made at start.
    pub tls: bool,
    /// Where the authority's certificate goes, in PEM.
    pub tls_ca_file: Option<PathBuf>,
    /// Where consent may send people back to; if there is none, anywhere on this machine.
    pub redirect_uris: Vec<String>,
    /// Refuse an authorisation without PKCE.
    pub require_pkce: bool,
    /// Consent without asking the person.
    pub approve_at_once: bool,
    /// Of the application's certificate, in PEM: with it the JWT bearer flow is open.
    pub jwt_public_key: Option<String>,
    /// For whom the application may sign on by itself.
    pub jwt_users: Vec<String>,
    /// A call that runs for so long counts against `long_calls_max`.
    pub long_call_ms: u64,
    /// Long calls at once; while there are so many, others are refused.
    pub long_calls_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            content: Content::Generated { records: 1_000, seed: 0 },
            page_size: 2_000,
            token_secs: 7_200,
            daily_limit: 100_000,
            bulk_page_records: 50_000,
            bulk_delay_ms: 20,
            bulk_records_per_s: None,
            timely_records_max: None,
            daily_bulk_jobs: 10_000,
            without_bulk: Vec::new(),
            mutations_per_s: 0,
            mutation_seed: 0,
            mutation_late_secs_max: 600,
            rotate_refresh_tokens: false,
            client_id: "fake-client".to_owned(),
            client_secret: "fake-secret".to_owned(),
            refresh_token: "fake-refresh".to_owned(),
            tls: false,
            tls_ca_file: None,
            redirect_uris: Vec::new(),
            require_pkce: false,
            approve_at_once: false,
            jwt_public_key: None,
            jwt_users: vec![oauth::DEFAULT_USER.to_owned()],
            long_call_ms: 20_000,
            long_calls_max: 25,
        }
    }
}

/// A running server. Dropping it stops it.
pub struct FakeSalesforce {
    addr: SocketAddr,
    ca_pem: Option<String>,
    service: Arc<Service>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl FakeSalesforce {
    /// Makes the organisation, binds and serves.
    ///
    /// # Errors
    /// The folder cannot be read or the address cannot be bound.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let content = options.content.clone();
        let made = tokio::task::spawn_blocking(move || match content {
            Content::Generated { records, seed } => Ok(generate::generate(records, seed)),
            Content::One { object, records, columns, seed } => Ok(one::one(&object, records, columns, seed)),
            Content::Folder(folder) => folder::read(&folder),
        });
        let organisation = made.await.context("the organisation was not made")??;
        let listener = TcpListener::bind(options.addr).await.context("the address cannot be bound")?;
        let addr = listener.local_addr()?;
        let (tls, ca_pem) = options.tls.then(|| tls::make(&addr.ip().to_string())).transpose()?.unzip();
        if let (Some(file), Some(pem)) = (&options.tls_ca_file, &ca_pem) {
            std::fs::write(file, pem).with_context(|| format!("{} cannot be written", file.display()))?;
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        let service = Arc::new(Service::new(options, organisation, format!("{scheme}://{addr}"))?);
        let router = Router::new()
            .merge(pages::routes())
            .merge(admin::routes())
            .route("/_truth/{object}", get(admin::truth))
            .route("/_mutate", post(admin::mutate))
            .merge(admin_data::routes())
            .fallback(http::data)
            .with_state(Arc::clone(&service))
            .into_make_service_with_connect_info::<wire::Line>();
        let listener = wire::WireListener::new(listener, tls);
        let (stop, mut stopped) = watch::channel(false);
        if service.options.mutations_per_s > 0 {
            tokio::spawn(mutations::stream(Arc::clone(&service), stopped.clone()));
        }
        let task = tokio::spawn(async move {
            let end = async move { drop(stopped.wait_for(|stop| *stop).await) };
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(end).await {
                tracing::error!(%error, "simulated salesforce ended");
            }
        });
        Ok(Self { addr, ca_pem, service, stop, task: Some(task) })
    }

    /// The login URL and the instance URL, `http://127.0.0.1:<port>`, or `https` with TLS.
    #[must_use]
    pub fn url(&self) -> String {
        self.service.url.clone()
    }

    /// The certificate that a client must trust, in PEM, with TLS.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// The address bound.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Orders `fault` for the next `times` calls that it fits.
    pub fn fault(&self, fault: Fault, times: u32) {
        self.order(Order::new(fault, times));
    }

    /// Orders a failure.
    pub fn order(&self, order: Order) {
        self.service.with_faults(|faults| faults.push(order));
    }

    /// Forgets the failures not yet given.
    pub fn clear_faults(&self) {
        self.service.with_faults(fault::Faults::clear);
    }

    /// The failures not yet given.
    #[must_use]
    pub fn pending_faults(&self) -> Vec<Order> {
        self.service.with_faults(|faults| faults.pending())
    }

    /// Calls, tokens, pages and records so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.service.stats()
    }

    /// The API names of the objects.
    #[must_use]
    pub fn objects(&self) -> Vec<String> {
        self.service.read().objects.keys().cloned().collect()
    }

    /// Every record of an object, the deleted ones too, with all fields as REST writes them; none if there is no such
    /// object.
    #[must_use]
    pub fn truth(&self, object: &str) -> Vec<Map<String, Value>> {
        admin::truth_of(&self.service, object).unwrap_or_default()
    }

    /// Changes records or fields, stamped with the present second unless the change says otherwise.
    ///
    /// # Errors
    /// An object, a field or a record is not there, or a value does not fit; nothing is changed then.
    pub fn mutate(&self, mutation: &Mutation) -> anyhow::Result<Mutated> {
        mutate::change(&self.service, mutation, Utc::now()).map_err(anyhow::Error::msg)
    }

    /// Changes by dice.
    #[must_use]
    pub fn mutate_by_dice(&self, asked: &Mutations) -> Made {
        mutations::run(&self.service, asked, Utc::now())
    }

    /// Damages the data.
    ///
    /// # Errors
    /// There is no such object, or nothing in it that can be hit.
    pub fn data_fault(&self, order: &DataOrder) -> anyhow::Result<Struck> {
        data_fault::strike(&self.service, order, Utc::now()).map_err(anyhow::Error::msg)
    }

    /// Makes visible at once what is late.
    pub fn settle(&self) {
        admin_data::make_all_visible(&self.service);
    }

    /// The digest of an object over all its fields or over some; none if there is no such object or field.
    #[must_use]
    pub fn digest(&self, object: &str, fields: Option<&[String]>) -> Option<Digest> {
        digest::of_object(&self.service, object, fields)
    }

    /// Ends every session; the refresh token stays good.
    pub fn end_sessions(&self) {
        self.service.end_sessions();
    }

    /// Ends every grant, as when an administrator disconnects the application.
    pub fn revoke_grant(&self) {
        self.service.revoke_grants();
    }

    /// What was used of the limits, after `change`.
    #[must_use]
    pub fn usage(&self, change: &UsageChange) -> UsageSeen {
        self.service.change_usage(change, Utc::now())
    }

    /// Stops and returns once the port is free.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(mut task) = self.task.take()
            && timeout(Duration::from_secs(STOP_SECS_MAX), &mut task).await.is_err()
        {
            task.abort();
            drop(task.await);
        }
    }
}

impl Drop for FakeSalesforce {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

//! Owns the demo customer: its account, its connection to Salesforce, its schedule and its first sync.

use anyhow::Context;
use domain::{JobId, Kind, Policy, Schedule};
use salesforce::{Client, Credentials, Hosts, Options, SecretString};
use serde_json::json;
use store::{Inserted, NewJob, NewSchedule, Store};

/// The demo customer's name; by it a later run knows that it is there.
const NAME: &str = "Demo customer";
/// The name under which the servant finds the credentials.
pub(crate) const SECRET_REF: &str = "demo";
pub(crate) const KIND: &str = "salesforce_sync";
// What the simulated Salesforce is told to take, and takes nothing else.
const CLIENT_ID: &str = "demo-client";
const CLIENT_SECRET: &str = "demo-client-secret";
const REFRESH_TOKEN: &str = "demo-refresh-token";
/// How often the customer's records are brought up to date, in seconds.
const SYNC_EVERY_SECS: u32 = 60;
/// Before everything else.
const URGENT: i16 = 0;

/// The secrets file of the servants: values that only the simulated Salesforce accepts.
pub(crate) fn secrets() -> String {
    format!("[{SECRET_REF}]\nclient_secret = \"{CLIENT_SECRET}\"\nrefresh_token = \"{REFRESH_TOKEN}\"\n")
}

/// What the simulated Salesforce is started with, so that it takes these.
pub(crate) const SIMULATION: [&str; 6] =
    ["--client-id", CLIENT_ID, "--client-secret", CLIENT_SECRET, "--refresh-token", REFRESH_TOKEN];

/// Every object that the organisation has: a real customer chooses some, the demo shows them all.
async fn objects(login_url: &str) -> anyhow::Result<Vec<String>> {
    let credentials = Credentials {
        login_url: login_url.to_owned(),
        client_id: CLIENT_ID.to_owned(),
        client_secret: SecretString::from(CLIENT_SECRET),
        refresh_token: SecretString::from(REFRESH_TOKEN),
    };
    let options = Options { hosts: Hosts::Development { root_certificate_pem: None }, ..Options::default() };
    let client = Client::connect(credentials, options).await?;
    client.objects().await.context("the objects of the simulated organisation")
}

/// Enters the customer unless it is there, and answers with its first sync. `is_of_this_run`: a customer of an earlier
/// run does not do, and nothing is repeated later.
pub(crate) async fn onboard(store: &Store, login_url: &str, is_of_this_run: bool) -> anyhow::Result<Option<JobId>> {
    let accounts = store.list_accounts(None, store::PAGE_ROWS_MAX).await?;
    if !is_of_this_run && accounts.iter().any(|account| account.name == NAME) {
        return Ok(None);
    }
    let kind = Kind::new(KIND)?;
    let account = store.create_account(NAME).await?;
    let settings = json!({ "login_url": login_url, "client_id": CLIENT_ID, "objects": objects(login_url).await? });
    let connection = store.create_connection(account, "salesforce", &settings, Some(SECRET_REF)).await?;
    let mut first = NewJob::new(kind.clone(), json!({}));
    first.account = account;
    first.connection = Some(connection);
    first.priority = URGENT;
    let attempts_max = first.attempts_max;
    if !is_of_this_run {
        let rule = Schedule::EverySecs(SYNC_EVERY_SECS);
        let schedule = NewSchedule {
            name: format!("demo-{KIND}-{}", account.0),
            kind,
            account,
            connection: Some(connection),
            payload: json!({}),
            priority: 2,
            attempts_max,
            first_due_at: Some(store.now() + chrono::TimeDelta::seconds(i64::from(SYNC_EVERY_SECS))),
            rule,
            policy: Policy::default(),
            declared: false,
        };
        store.declare_schedules(&[schedule]).await?;
    }
    match store.insert_jobs(&[first]).await?.first().context("the first sync was not inserted")? {
        Inserted::New(id) => Ok(Some(*id)),
        Inserted::Duplicate(id) => Ok(*id),
    }
}

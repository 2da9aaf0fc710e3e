//! Owns the demo customer: its account, its connection to Salesforce, its schedule, its first sync, and the one record that
//! it damages. Does not own how a browser connects it (`browser`).

use crate::{access::MAKER, browser};
use anyhow::Context;
use chrono::TimeDelta;
use domain::{AccountId, ConnectionId, JobId, Kind, Policy, Principal, Schedule, authorize};
use serde_json::{Value, json};
use store::{ConnectionRow, Inserted, NewJob, NewSchedule, Store};
use vault::SecretString;

/// The demo customer's name; by it a later run knows that it is there.
const NAME: &str = "Demo customer";
/// The name under which manager and servants find the application's secret.
const SECRET_REF: &str = "demo";
pub(crate) const KIND: &str = "salesforce_sync";
const VENDOR: &str = "salesforce";
// The connected application, which is all that the simulated Salesforce takes.
const CLIENT_ID: &str = "demo-client";
const CLIENT_SECRET: &str = "demo-client-secret";
/// How often the customer's records are brought up to date, in seconds.
const SYNC_EVERY_SECS: u32 = 60;
/// From the damage to the sync that finds it, in seconds: a change younger than `settle_secs` is left to the next one.
const FOUND_AFTER_SECS: i64 = 10;
/// With how many records an object is read in bulk where records are invented: few, so that a small demo is onboarded as a
/// large customer is.
const BULK_RECORDS_MIN: u64 = 2_500;
/// Before everything else.
const URGENT: i16 = 0;

/// The secrets file of manager and servants. What the customer grants is not in it: that lies sealed in the ledger.
pub(crate) fn secrets() -> String {
    format!("[{SECRET_REF}]\nclient_secret = \"{CLIENT_SECRET}\"\n")
}

/// What the simulated Salesforce is started with.
pub(crate) const SIMULATION: [&str; 5] = ["--client-id", CLIENT_ID, "--client-secret", CLIENT_SECRET, "--require-pkce"];

/// How the manager connects customers to it.
pub(crate) fn connect_settings(login_url: &str) -> [(String, String); 3] {
    [("CLIENT_ID", CLIENT_ID), ("LOGIN_URL", login_url), ("SECRET_REF", SECRET_REF)]
        .map(|(key, value)| (format!("SERVANT_CONNECT__SALESFORCE__{key}"), value.to_owned()))
}

/// Enters and connects the customer, and answers with its first sync; none: an earlier run's goes on, connected anew,
/// since the simulation forgets what it granted. `is_of_this_run`: that one does not do, and nothing is repeated later.
/// `is_invented`: its records are the demo's own.
pub(crate) async fn onboard(
    store: &Store,
    login_url: &str,
    manager: (&str, &SecretString),
    (is_of_this_run, is_invented): (bool, bool),
) -> anyhow::Result<Option<JobId>> {
    if !is_of_this_run && let Some(known) = known(store).await? {
        browser::connect(manager, AccountId(known.account_id), ConnectionId(known.id)).await?;
        return Ok(None);
    }
    let by = Principal::system(MAKER);
    let account = store.create_account_by(NAME, &authorize(&by, "")?).await?;
    // A real customer chooses some objects, the demo shows them all.
    let objects: Vec<String> = reqwest::get(format!("{login_url}/_objects")).await?.error_for_status()?.json().await?;
    let mut settings = json!({ "login_url": login_url, "client_id": CLIENT_ID, "objects": objects });
    if is_invented {
        settings["bulk_records_min"] = json!(BULK_RECORDS_MIN);
    }
    let connection =
        store.create_connection_by(account, (VENDOR, &settings, Some(SECRET_REF)), &authorize(&by, "")?).await?;
    browser::connect(manager, account, connection).await?;
    let mut first = sync(account, connection)?;
    first.priority = URGENT;
    if !is_of_this_run {
        let rule = Schedule::EverySecs(SYNC_EVERY_SECS);
        let schedule = NewSchedule {
            name: format!("demo-{KIND}-{account}"),
            kind: first.kind.clone(),
            account,
            connection: Some(connection),
            payload: json!({}),
            priority: 2,
            attempts_max: first.attempts_max,
            first_due_at: Some(store.now() + TimeDelta::seconds(i64::from(SYNC_EVERY_SECS))),
            rule,
            policy: Policy::default(),
            declared: false,
        };
        store.declare_schedules(&[schedule]).await?;
    }
    insert(store, first).await
}

/// The customer of an earlier run.
async fn known(store: &Store) -> anyhow::Result<Option<ConnectionRow>> {
    let accounts = store.list_accounts(None, store::PAGE_ROWS_MAX).await?;
    let Some(account) = accounts.iter().find(|account| account.name == NAME) else { return Ok(None) };
    let connections = store.list_connections(None, None, store::PAGE_ROWS_MAX).await?;
    Ok(connections.into_iter().find(|row| row.account_id == account.id && row.vendor == VENDOR))
}

/// Makes a record at Salesforce whose amount is no number, and has it found soon: something to look at among anomalies.
pub(crate) async fn damage(store: &Store, login_url: &str, first: JobId) -> anyhow::Result<()> {
    let (object, field) = ("Opportunity", "Amount");
    let made = mutate(login_url, &json!({ "object": object, "upsert": [{ "Name": "To be damaged" }] })).await?;
    let id = made["upserted"][0].as_str().context("the record was not made")?.to_owned();
    let change = json!({
        "object": object,
        "upsert": [{ "Id": id, "Name": "Damaged" }],
        "damage": [{ "id": id, "field": field, "text": "about 12,500" }],
    });
    mutate(login_url, &change).await?;
    let first = store.find_job(first).await?.context("the first sync is no longer in the ledger")?;
    let mut finding = sync(first.account_id, first.connection_id.context("the first sync names no connection")?)?;
    finding.due_at = Some(store.now() + TimeDelta::seconds(FOUND_AFTER_SECS));
    insert(store, finding).await?;
    Ok(())
}

async fn mutate(login_url: &str, change: &Value) -> anyhow::Result<Value> {
    let answer = reqwest::Client::new().post(format!("{login_url}/_mutate")).json(change).send().await?;
    let status = answer.status();
    anyhow::ensure!(status.is_success(), "the simulated Salesforce refuses: {status} {}", answer.text().await?);
    Ok(answer.json().await?)
}

fn sync(account: AccountId, connection: ConnectionId) -> anyhow::Result<NewJob> {
    let mut job = NewJob::new(Kind::new(KIND)?, json!({}));
    job.account = account;
    job.connection = Some(connection);
    Ok(job)
}

async fn insert(store: &Store, job: NewJob) -> anyhow::Result<Option<JobId>> {
    match store.insert_jobs(&[job]).await?.first().context("the sync was not inserted")? {
        Inserted::New(id) => Ok(Some(*id)),
        Inserted::Duplicate(id) => Ok(*id),
    }
}

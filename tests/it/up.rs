//! `cargo up` as somebody watches it: the demo customer consents, its records come, change and are damaged, and all of it
//! goes on after a restart; and what it says when it cannot begin. Does not own the onboarding of files (`organisation`).

use crate::fleet::LIMIT;
use domain::{Clock, ConnectionId, JobState, Kind};
use manager_api::ManagerClient;
use serde_json::{Value, json};
use sqlx::PgPool;
use std::path::Path;
use store::{ChangeCursor, ChangeOp, ConnectionRow, Inserted, NewJob, Store};
use testkit::{Process, eventually};

async fn up(home: &Path, database_url: &str) -> (Process, ManagerClient) {
    let home = home.to_str().unwrap();
    let arguments = ["--home", home, "--queue", "postgres", "--port", "0", "--json"];
    let mut up = Process::start("devstack", &arguments, &[("DATABASE_URL", database_url)]).await;
    let line = up.line_with(LIMIT, "\"logs\":").await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert!(line["sign_in"].as_str().unwrap().contains("/login/code?code="), "{line}");
    let token = std::fs::read_to_string(line["token_file"].as_str().unwrap()).unwrap();
    let client = ManagerClient::with_token(line["ui"].as_str().unwrap(), &token.trim().to_owned().into()).unwrap();
    (up, client)
}

async fn anomalies(client: &ManagerClient) -> Vec<manager_api::Anomaly> {
    client.anomalies(&manager_api::AnomalyQuery::default()).await.unwrap().anomalies
}

async fn connection(store: &Store) -> ConnectionRow {
    let mut rows = store.list_connections(None, None, 10).await.unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0)
}

/// What became of the account's records, change by change.
async fn ops(store: &Store, account: domain::AccountId) -> Vec<ChangeOp> {
    let (mut ops, mut from) = (Vec::new(), ChangeCursor::default());
    loop {
        let (changes, next) = store.read_changes(account, from, 10_000).await.unwrap();
        if changes.is_empty() {
            return ops;
        }
        ops.extend(changes.iter().map(|change| change.op));
        from = next;
    }
}

#[tokio::test]
async fn the_demo_customer_consents_and_is_followed_and_has_an_anomaly() {
    let (database, home) = (testkit::database().await, tempfile::tempdir().unwrap());
    let store = Store::connect(database.url(), 2, Clock::system()).await.unwrap();
    let (mut first, ui) = up(home.path(), database.url()).await;
    let found = eventually(2 * LIMIT, "the damaged record to be found", async || {
        anomalies(&ui).await.into_iter().find(|anomaly| anomaly.kind == "records_damaged")
    })
    .await;
    assert_eq!((found.object.as_str(), found.state.as_str()), ("Opportunity", "open"));
    // Its servants show the credential that each kind has.
    eventually(LIMIT, "heartbeats that are known", async || {
        let servants = ui.servants().await.ok()?.servants;
        (!servants.is_empty() && servants.iter().all(|servant| servant.heartbeat_at.is_some())).then_some(())
    })
    .await;
    let connected = connection(&store).await;
    let quarantined = store.list_quarantined(ConnectionId(connected.id), None, 10).await.unwrap();
    let record = &quarantined[0];
    assert!(record.reason.starts_with("Amount: "), "{}", record.reason);
    assert!(String::from_utf8_lossy(&record.body).contains("about 12,500"));

    // It went through consent: the organisation is known by what was granted, and that is sealed.
    assert_eq!(connected.settings["organisation"].as_str().unwrap().len(), 18, "{}", connected.settings);
    let secrets = store.find_secrets(ConnectionId(connected.id)).await.unwrap().expect("sealed credentials");
    assert!(secrets.credential.is_some() && secrets.session.is_some());
    let file = std::fs::read_to_string(home.path().join(".servant/secrets.toml")).unwrap();
    assert!(!file.contains("refresh_token"), "what the customer granted lies in a file");
    let ops = ops(&store, domain::AccountId(connected.account_id)).await;
    assert!(ops.contains(&ChangeOp::Update), "no record changed since it was read first");
    let sql = PgPool::connect(database.url()).await.unwrap();
    let pages = "SELECT count(DISTINCT payload ->> 'window') FROM finished_jobs WHERE payload ->> 'step' = 'page'";
    assert_eq!(sqlx::query_scalar::<_, i64>(pages).fetch_one(&sql).await.unwrap(), 5, "the large objects, in bulk");
    let records = "SELECT count(DISTINCT record_id) FROM record_changes";
    assert!(sqlx::query_scalar::<_, i64>(records).fetch_one(&sql).await.unwrap() >= 20_000);
    assert!(first.terminate(LIMIT).await.success());

    // The simulation has forgotten what it granted; the customer consents again, and is the same.
    let (mut second, ui) = up(home.path(), database.url()).await;
    let again = connection(&store).await;
    assert_eq!((again.id, again.state.as_str()), (connected.id, "active"));
    let mut job = NewJob::new(Kind::new("salesforce_sync").unwrap(), json!({}));
    (job.account, job.connection) = (domain::AccountId(again.account_id), Some(ConnectionId(again.id)));
    let Inserted::New(job) = store.insert_jobs(&[job]).await.unwrap()[0] else { panic!("a duplicate") };
    eventually(LIMIT, "a sync after the restart", async || {
        (store.find_job(job).await.ok()??.state == JobState::Succeeded).then_some(())
    })
    .await;
    assert!(!anomalies(&ui).await.is_empty(), "what was found before is still there");
    let accounts = "SELECT count(*) FROM accounts WHERE name = 'Demo customer'";
    assert_eq!(sqlx::query_scalar::<_, i64>(accounts).fetch_one(&sql).await.unwrap(), 1);
    assert!(second.terminate(LIMIT).await.success());
}

/// What a run says that cannot even begin: why, and the way out.
async fn refusal(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let home = tempfile::tempdir().unwrap();
    let arguments = [&["--home", home.path().to_str().unwrap()], arguments].concat();
    let mut up = Process::start("devstack", &arguments, environment).await;
    assert_eq!(up.exit(LIMIT).await.code(), Some(1), "{arguments:?}, {environment:?}");
    let said = up.output();
    said.split_once("\ncargo up: ").unwrap_or_else(|| panic!("no cause is told: {said}")).1.to_owned()
}

/// Arguments and environment of a start that cannot work, and what is said of it.
type Refused<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);

#[tokio::test]
async fn what_cannot_work_is_told_with_the_way_out() {
    let database = testkit::database().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().port().to_string();
    let free: &[&str] = &["--port", "0"];
    let own = ("DATABASE_URL", database.url());
    let cases: [Refused<'_>; 8] = [
        (&["--port", &taken], &[own], &[&taken, "choose another: cargo up -- --port"]),
        (&["--port", "0", "--org-data", "/nowhere"], &[own], &["/nowhere", "name an existing folder"]),
        (&["--port", "0", "--sqs-endpoint", "here"], &[own], &["'here' is no address", "http://127.0.0.1:4566"]),
        (
            &["--port", "0", "--sqs-endpoint", "http://127.0.0.1:1"],
            &[own],
            &["the queues: ", "Connection refused", "is it running?", "SERVANT_SQS_ENDPOINT_URL"],
        ),
        (free, &[("DATABASE_URL", ""), ("SERVANT_PG_BIN", "/nowhere")], &["/nowhere", "apt-get install postgresql"]),
        (free, &[("DATABASE_URL", "nonsense")], &["looks like postgres://", "correct --database-url or DATABASE_URL"]),
        (
            free,
            &[("DATABASE_URL", "postgres://nobody@127.0.0.1:1/nothing")],
            &["the database is unavailable", "Connection refused", "start PostgreSQL, or correct"],
        ),
        (free, &[own, ("SERVANT_DUTIES__NONSENSE", "1")], &["refuses its configuration", "SERVANT_DUTIES__NONSENSE"]),
    ];
    for (arguments, environment, words) in cases {
        let said = refusal(arguments, environment).await;
        for word in words {
            assert!(said.contains(word), "{word:?} is not said of {arguments:?}, {environment:?}: {said}");
        }
    }
}

//! Owns the proof that the client and the simulated Salesforce agree over real sockets, failures included.
//! Does not own the unit tests of error codes and paths, which are beside the code.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

use std::sync::{Arc, Mutex};

use fakes::salesforce::{Call, Content, FakeSalesforce, Fault, Mutation, Options as FakeOptions, Order};
use salesforce::{Client, Credentials, Hosts, Options, Page, Result, SalesforceError, SecretString, StoreRotated};

async fn fake(change: impl FnOnce(&mut FakeOptions)) -> FakeSalesforce {
    let mut options =
        FakeOptions { content: Content::Generated { records: 400, seed: 7 }, page_size: 20, ..FakeOptions::default() };
    change(&mut options);
    FakeSalesforce::start(options).await.unwrap()
}

fn credentials(fake: &FakeSalesforce) -> Credentials {
    Credentials {
        login_url: fake.url(),
        client_id: "fake-client".to_owned(),
        client_secret: SecretString::from("fake-secret"),
        refresh_token: SecretString::from("fake-refresh"),
    }
}

fn options() -> Options {
    Options {
        retry_base_ms: 1,
        retry_max_ms: 5,
        retries_max: 3,
        read_timeout_secs: 5,
        hosts: Hosts::Development { root_certificate_pem: None },
        ..Options::default()
    }
}

async fn connect(fake: &FakeSalesforce) -> Client {
    Client::connect(credentials(fake), options()).await.unwrap()
}

type Record = serde_json::Map<String, serde_json::Value>;

fn records_of(page: &Page) -> Vec<Record> {
    page.records.iter().map(|record| serde_json::from_str(record.get()).unwrap()).collect()
}

async fn all_ids(client: &Client, soql: &str) -> Result<Vec<String>> {
    let mut page = client.query_all(soql).await?;
    let mut ids = Vec::new();
    loop {
        ids.extend(records_of(&page).iter().map(|record| record["Id"].as_str().unwrap().to_owned()));
        match &page.next_records_url {
            Some(next) => page = client.query_next(next).await?,
            None => break,
        }
    }
    assert_eq!(ids.len() as u64, page.total_size);
    Ok(ids)
}

const CONTACTS: &str = "SELECT Id, LastName, SystemModstamp FROM Contact ORDER BY SystemModstamp, Id";

#[tokio::test]
async fn pages_hold_every_record_once() {
    let fake = fake(|_| {}).await;
    let client = connect(&fake).await;
    let mut ids = all_ids(&client, CONTACTS).await.unwrap();
    ids.sort();
    let truth: Vec<_> = fake.truth("Contact").iter().map(|record| record["Id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, truth);
    assert_eq!(truth.len(), 100);
    assert_eq!(client.calls(), 5);
    let usage = client.api_usage().unwrap();
    assert_eq!((usage.used, usage.max), (5, 100_000));
    assert_eq!(client.api_usage_news(), Some(usage));
    assert_eq!(client.api_usage_news(), None, "it is no news any more");
    assert_eq!(client.limits().await.unwrap()["DailyApiRequests"].remaining, 99_994);
}

#[tokio::test]
async fn values_arrive_as_they_are() {
    let fake = fake(|options| options.page_size = 2_000).await;
    let client = connect(&fake).await;
    let describe = client.describe("Account").await.unwrap();
    assert!(describe.fields.iter().any(|field| field.name == "BillingAddress" && field.compound));
    assert!(describe.fields.iter().any(|field| field.name == "Health__c" && field.calculated));
    let names: Vec<_> = describe.fields.iter().map(|field| field.name.as_str()).collect();
    let page = client.query(&format!("SELECT {} FROM Account ORDER BY Id", names.join(", "))).await.unwrap();
    let skew = chrono::Utc::now() - page.server_time.unwrap();
    assert_eq!(client.server_time(), page.server_time);
    assert_eq!(client.objects().await.unwrap(), fake.objects());
    assert!(skew.num_seconds().abs() < 10);
    let strip = |mut record: Record| {
        record.remove("attributes").unwrap();
        record
    };
    let records: Vec<_> = records_of(&page).into_iter().map(strip).collect();
    let mut truth = fake.truth("Account");
    truth.sort_by_key(|record| record["Id"].as_str().unwrap().to_owned());
    assert_eq!(records, truth);
    assert!(truth.iter().any(|record| record["Description"] == "NA"));
    assert!(truth.iter().any(|record| record["Description"].as_str().is_some_and(|text| text.contains('\n'))));
}

#[tokio::test]
async fn transient_failures_are_repeated() {
    for fault in [
        Fault::Http500,
        Fault::Http502Html,
        Fault::Http503,
        Fault::Http504,
        Fault::Http429,
        Fault::Http406,
        Fault::CutConnection,
        Fault::CutBody,
        Fault::BadJson,
        Fault::LimitConcurrent,
        Fault::SlowMs,
    ] {
        let fake = fake(|_| {}).await;
        let client = connect(&fake).await;
        fake.fault(fault, 2);
        assert_eq!(all_ids(&client, CONTACTS).await.unwrap().len(), 100, "{fault:?}");
        assert!(fake.pending_faults().is_empty());
        fake.fault(fault, 4);
        let error = client.query(CONTACTS).await;
        match fault {
            Fault::SlowMs => assert!(error.is_ok()),
            Fault::LimitConcurrent => assert!(matches!(error, Err(SalesforceError::RateLimited { .. })), "{error:?}"),
            _ => assert!(matches!(error, Err(SalesforceError::Unavailable { .. })), "{fault:?} {error:?}"),
        }
    }
}

#[tokio::test]
async fn a_lost_session_is_renewed_once() {
    let fake = fake(|_| {}).await;
    let client = connect(&fake).await;
    fake.fault(Fault::Auth401, 1);
    fake.fault(Fault::Auth401MidQuery, 1);
    assert_eq!(all_ids(&client, CONTACTS).await.unwrap().len(), 100);
    assert_eq!(fake.stats().tokens_issued, 3);
    fake.fault(Fault::Auth401, 2);
    assert!(matches!(client.query(CONTACTS).await, Err(SalesforceError::AuthBroken { .. })));
}

#[tokio::test]
async fn many_tasks_renew_one_session() {
    let fake = fake(|_| {}).await;
    let client = Arc::new(connect(&fake).await);
    fake.end_sessions();
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.query("SELECT COUNT() FROM Lead").await.map(|page| page.total_size) })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap(), 72);
    }
    assert_eq!(fake.stats().tokens_issued, 2);
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let fake = fake(|_| {}).await;
    let client = connect(&fake).await;
    for (soql, expected) in [
        ("SELECT Nope FROM Contact", "Drift"),
        ("SELECT Id FROM Nope", "Drift"),
        ("SELECT Id FROM Contact WHERE", "Rejected"),
        ("SELECT Id FROM Contact WHERE SystemModstamp > '2024-01-01T00:00:00Z'", "Drift"),
    ] {
        let error = client.query(soql).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{soql}: {error:?}");
    }
    assert!(matches!(client.describe("Nope").await, Err(SalesforceError::Drift { .. })));
    assert!(matches!(client.describe("A/../B").await, Err(SalesforceError::Rejected { .. })));
    for (fault, expected) in [
        (Fault::LimitDaily, "QuotaExhausted"),
        (Fault::QueryTimeout, "QueryTimeout"),
        (Fault::InsufficientAccess, "Forbidden"),
    ] {
        fake.fault(fault, 1);
        let error = client.query(CONTACTS).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{error:?}");
    }
    let next = client.query(CONTACTS).await.unwrap().next_records_url.unwrap();
    fake.fault(Fault::CursorExpired, 1);
    assert!(matches!(client.query_next(&next).await, Err(SalesforceError::CursorExpired)));
    assert_eq!(client.query_next(&next).await.unwrap().records.len(), 20);
    let calls = client.calls();
    for hostile in [
        &format!("{}{next}", fake.url()),
        "http://127.0.0.1:1/services/data/v66.0/query/1-1",
        "//evil.example/services/data/x",
        "/services/oauth2/token",
    ] {
        assert!(matches!(client.query_next(hostile).await, Err(SalesforceError::Rejected { .. })), "{hostile}");
    }
    assert_eq!(client.calls(), calls);
}

#[tokio::test]
async fn a_broken_authorisation_is_told() {
    let fake = fake(|_| {}).await;
    fake.fault(Fault::InvalidGrant, 1);
    let error = Client::connect(credentials(&fake), options()).await.err().unwrap();
    assert!(matches!(error, SalesforceError::AuthBroken { .. }), "{error:?}");
    let wrong = Credentials { client_secret: SecretString::from("wrong"), ..credentials(&fake) };
    assert!(matches!(Client::connect(wrong, options()).await.err().unwrap(), SalesforceError::AuthBroken { .. }));
    fake.order(Order { on: Some(Call::Token), ..Order::new(Fault::Http503, 1) });
    let error = Client::connect(credentials(&fake), options()).await.err().unwrap();
    assert!(matches!(error, SalesforceError::Unavailable { .. }), "{error:?}");
    let client = connect(&fake).await;
    fake.revoke_grant();
    assert!(matches!(client.query(CONTACTS).await, Err(SalesforceError::AuthBroken { .. })));
}

#[tokio::test]
async fn a_rotated_token_is_stored_before_use() {
    let fake = fake(|options| options.rotate_refresh_tokens = true).await;
    let stored = Arc::new(Mutex::new((0, false)));
    let seen = Arc::clone(&stored);
    let store = StoreRotated::new(move |_| {
        let seen = Arc::clone(&seen);
        async move {
            let mut seen = seen.lock().unwrap();
            seen.0 += 1;
            if seen.1 { Err("the store is away".into()) } else { Ok(()) }
        }
    });
    let client =
        Client::connect(credentials(&fake), Options { store_rotated: Some(store), ..options() }).await.unwrap();
    assert_eq!(stored.lock().unwrap().0, 1);
    fake.end_sessions();
    stored.lock().unwrap().1 = true;
    assert!(matches!(client.query(CONTACTS).await, Err(SalesforceError::Unavailable { .. })));
    stored.lock().unwrap().1 = false;
    assert!(client.query(CONTACTS).await.is_ok());
    // Sign-ons: first, failed to store, again. Calls of the store: first, failed, the same again, the newest.
    assert_eq!((fake.stats().tokens_issued, stored.lock().unwrap().0), (3, 4));
}

#[tokio::test]
async fn changes_and_deletions_are_seen() {
    let fake = fake(|_| {}).await;
    let client = connect(&fake).await;
    let ids = all_ids(&client, "SELECT Id FROM Account ORDER BY Id").await.unwrap();
    let before = client.query("SELECT COUNT() FROM Account").await.unwrap().total_size;
    let upsert = serde_json::json!({ "Id": ids[0], "Name": "renamed" }).as_object().unwrap().clone();
    let mutation = Mutation {
        object: "Account".to_owned(),
        upsert: vec![upsert],
        delete: vec![ids[1].clone()],
        purge: vec![ids[2].clone()],
        hide_fields: vec!["Industry".to_owned()],
        ..Mutation::default()
    };
    let stamp = fake.mutate(&mutation).unwrap().system_modstamp.format("%Y-%m-%dT%H:%M:%SZ");
    let soql = format!("SELECT Id, Name, IsDeleted FROM Account WHERE SystemModstamp >= {stamp} ORDER BY Id");
    let changed = records_of(&client.query_all(&soql).await.unwrap());
    assert_eq!(changed.len(), 2);
    assert_eq!((&changed[0]["Name"], &changed[1]["IsDeleted"]), (&"renamed".into(), &true.into()));
    assert_eq!(client.query("SELECT COUNT() FROM Account").await.unwrap().total_size, before - 2);
    assert!(matches!(client.query("SELECT Industry FROM Account").await, Err(SalesforceError::Drift { .. })));
}

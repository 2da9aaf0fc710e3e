//! Describes that did not change, logs of deletions and changes, versions, and waits that the server names.

use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, Utc};
use salesforce::{Options, SalesforceError};
use serde_json::json;

use crate::server::{Server, client, json, name, options, refusal, reply};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_describe_comes_only_if_it_changed() {
    let server = Server::start(|seen| match seen.header("if-modified-since") {
        Some("Mon, 23 Nov 2026 10:00:00 GMT") => {
            let mut answer = json(200, &json!({"name": "Account", "fields": []}));
            answer.headers_mut().insert("last-modified", "Mon, 23 Nov 2026 11:00:00 GMT".parse().unwrap());
            answer
        }
        Some("Mon, 23 Nov 2026 11:00:00 GMT") => reply(304, "text/plain", ""),
        // Nobody asked for the answer "as before".
        _ => reply(304, "text/plain", ""),
    })
    .await;
    let client = server.client().await;
    let described = client.describe_since("Account", at("2026-11-23T10:00:00Z")).await.unwrap().unwrap();
    assert_eq!(described.last_modified, Some(at("2026-11-23T11:00:00Z")));
    assert_eq!(described.describe.name, "Account");
    assert!(client.describe_since("Account", described.last_modified.unwrap()).await.unwrap().is_none());
    assert_eq!(name(&client.describe("Account").await.unwrap_err()), "Unavailable");
}

#[tokio::test]
async fn logs_are_read_entry_by_entry() {
    let server = Server::start(|seen| {
        assert_eq!(seen.value("start").as_deref(), Some("2026-11-23T10:00:00+00:00"));
        assert_eq!(seen.value("end").as_deref(), Some("2026-11-23T11:00:00+00:00"));
        if seen.path == "/services/data/v66.0/sobjects/Account/deleted/" {
            return json(
                200,
                &json!({
                    "deletedRecords": [
                        {"id": "001D000000IRFma", "deletedDate": "2026-11-23T10:30:00.000+0000"},
                        {"id": "001D000000IRFma", "deletedDate": "?"},
                        {"id": 7},
                    ],
                    "earliestDateAvailable": "2026-11-08T00:00:00.000+0000",
                    "latestDateCovered": "2026-11-23T10:58:00.000Z",
                }),
            );
        }
        assert_eq!(seen.path, "/services/data/v66.0/sobjects/Account/updated/");
        json(200, &json!({"ids": ["001D000000IRFma", null], "latestDateCovered": "2026-11-23T10:58:00.000+0000"}))
    })
    .await;
    let client = server.client().await;
    let (start, end) = (at("2026-11-23T10:00:00.9Z"), at("2026-11-23T11:00:00Z"));
    let deleted = client.deleted("Account", start, end).await.unwrap();
    assert_eq!(deleted.records, [("001D000000IRFmaIAH".to_owned(), at("2026-11-23T10:30:00Z"))]);
    assert_eq!(deleted.damaged.len(), 2);
    assert_eq!(
        (deleted.earliest_available, deleted.latest_covered),
        (at("2026-11-08T00:00:00Z"), at("2026-11-23T10:58:00Z"))
    );
    let changed = client.changed("Account", start, end).await.unwrap();
    assert_eq!((changed.ids, changed.damaged.len()), (vec!["001D000000IRFmaIAH".to_owned()], 1));
    assert_eq!(changed.latest_covered, at("2026-11-23T10:58:00Z"));
}

#[tokio::test]
async fn versions_are_listed() {
    let server = Server::start(|seen| {
        assert_eq!(seen.path, "/services/data/");
        json(200, &json!([{"version": "65.0", "url": "/x", "label": "Winter '26"}, {"version": "66.0"}]))
    })
    .await;
    assert_eq!(server.client().await.versions().await.unwrap(), ["65.0", "66.0"]);
}

#[tokio::test]
async fn a_wait_that_the_server_names_is_kept_or_handed_on() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |_| {
        let mut answer = reply(429, "text/html", "");
        match asked.fetch_add(1, Ordering::Relaxed) {
            0 => {
                answer.headers_mut().insert("date", "Mon, 23 Nov 2026 10:00:00 GMT".parse().unwrap());
                answer.headers_mut().insert("retry-after", "Mon, 23 Nov 2026 10:00:01 GMT".parse().unwrap());
            }
            1 => return json(200, &json!({"totalSize": 0, "done": true, "records": []})),
            _ => {
                answer.headers_mut().insert("retry-after", "600".parse().unwrap());
            }
        }
        answer
    })
    .await;
    let client = client(&server.url, Options { retry_max_ms: 2_000, ..options() }).await;
    let begun = std::time::Instant::now();
    client.query("SELECT Id FROM Account").await.unwrap();
    assert!(begun.elapsed().as_millis() >= 1_000, "the named second was not waited for");
    let error = client.query("SELECT Id FROM Account").await.unwrap_err();
    assert!(matches!(error, SalesforceError::RateLimited { retry_after_secs: Some(600) }), "{error:?}");
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn an_answer_has_a_limit() {
    let server = Server::start(|seen| match seen.path.ends_with("/query") {
        true => json(200, &json!({"totalSize": 0, "done": true, "records": ["x".repeat(5_000)]})),
        false => refusal(503, "SERVER_UNAVAILABLE", &"x".repeat(5_000)),
    })
    .await;
    let client = client(&server.url, Options { answer_bytes_max: 1_000, ..options() }).await;
    for error in [client.query("SELECT Id FROM A").await.err(), client.limits().await.err()] {
        assert!(matches!(&error, Some(SalesforceError::Rejected { code, .. }) if code == "BODY_TOO_LONG"), "{error:?}");
    }
    assert_eq!(server.seen().len(), 2, "it would be as long again");
}

//! Whatever a server sends, the client ends with an answer or an error that is fit for a log; it never panics, never hangs,
//! never keeps an address that leads elsewhere. Thousands of cases for each question: arbitrary bytes, arbitrary JSON,
//! and true answers with parts changed, over real sockets. `SERVANT_TEST_SEED` repeats a run.

use std::{
    future::Future,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Response},
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};
use salesforce::{
    BulkJob, BulkOperation, Client, ConnectedApp, FIRST_PAGE, OAuth, Options, Question, Result, ResultPages,
    SalesforceError, SecretString,
};
use tokio::{net::TcpListener, runtime::Runtime};

use crate::server::{JOB, Server, client, options};

/// Of each test.
const CASES: u32 = 1_500;
/// An answer is small and near: whoever takes longer hangs.
const ANSWER_SECS_MAX: u64 = 10;
/// Becomes the address of a listener that nobody may ask.
const ELSEWHERE: &str = "ELSEWHERE";

/// True answers, each to be damaged.
const TRUE_ANSWERS: [&str; 14] = [
    r#"{"totalSize":2,"done":false,"nextRecordsUrl":"/services/data/v66.0/query/01gxx-2000","records":[{"Id":"001D000000IRFma"},{"Id":null}]}"#,
    r#"{"totalSize":1,"done":true,"records":[{"attributes":{"type":"A","url":"/x"},"Amount":1.10,"Name":"NA"}]}"#,
    r#"{"totalSize":1,"done":false,"nextRecordsUrl":"ELSEWHERE/services/data/v66.0/query/1","records":[]}"#,
    r#"{"name":"Account","fields":[{"name":"Id","type":"id","nillable":false,"length":18,"precision":0,"scale":0,"calculated":false}]}"#,
    r#"{"deletedRecords":[{"id":"001D000000IRFma","deletedDate":"2026-11-23T10:30:00.000+0000"}],"earliestDateAvailable":"2026-11-08T00:00:00.000+0000","latestDateCovered":"2026-11-23T10:58:00.000+0000"}"#,
    r#"{"ids":["001D000000IRFma"],"latestDateCovered":"2026-11-23T10:58:00.000+0000"}"#,
    r#"{"id":"750R0000000zxr8IAA","state":"Failed","apiVersion":66.0,"numberRecordsProcessed":5,"retries":1,"errorMessage":"QUERY_TIMEOUT: x"}"#,
    r#"{"resultPages":[{"resultUrl":"/services/data/v66.0/jobs/query/750R0000000zxr8IAA/results?locator=AQ"}],"nextRecordsUrl":"/services/data/v66.0/jobs/query/750R0000000zxr8IAA/resultPages?nextRecordsLocator=b","done":false}"#,
    r#"{"compositeResponse":[{"referenceId":"q0","httpStatusCode":200,"httpHeaders":{},"body":{"totalSize":1,"done":true,"records":[{}]}},{"referenceId":"q1","httpStatusCode":304,"httpHeaders":{},"body":null}]}"#,
    r#"{"access_token":"TOPSECRET","refresh_token":"TOPSECRET","instance_url":"https://acme.my.salesforce.com","id":"https://login.salesforce.com/id/00D000000000001EAA/005000000000001AAA","scope":"api"}"#,
    r#"[{"errorCode":"REQUEST_LIMIT_EXCEEDED","message":"TotalRequests Limit exceeded."}]"#,
    r#"{"error":"invalid_grant","error_description":"user is locked"}"#,
    r#"{"sobjects":[{"name":"Account","queryable":true}],"DailyApiRequests":{"Max":1,"Remaining":-1}}"#,
    "Id,Name\n\"1\",\"a \"\"b\"\"\n\"\n",
];

/// What breaks parsers, checks of addresses, and logs.
const POISON: [&str; 20] = [
    "\"",
    "\\",
    "{",
    "}",
    "[[[[[[[[",
    "null",
    "-1",
    "1e999",
    "18446744073709551616",
    "\\u0000",
    "\\ud800",
    "\u{1b}[2J",
    "\r\n",
    "\u{202e}",
    "//evil.example/",
    "/../../oauth2/revoke?",
    "ELSEWHERE",
    "@evil.example",
    "%00",
    "\u{feff}",
];

#[derive(Clone, Debug)]
struct Sent {
    status: u16,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
}

fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<Index>(), 0..5_u8, any::<u8>(), select(&POISON[..]));
    (select(&TRUE_ANSWERS[..]), vec(edit, 0..6)).prop_map(|(answer, edits)| {
        let mut bytes = answer.as_bytes().to_vec();
        for (at, what, byte, poison) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match what {
                0 => bytes[at] = byte,
                1 => bytes.truncate(at),
                2 => drop(bytes.splice(at..at, poison.bytes())),
                3 => drop(bytes.remove(at)),
                // A part twice, as when two answers ran together.
                _ => bytes.extend_from_within(at..),
            }
        }
        bytes
    })
}

fn any_json() -> impl Strategy<Value = Vec<u8>> {
    let names =
        select(&["records", "nextRecordsUrl", "done", "totalSize", "fields", "id", "state", "resultPages", "body"][..]);
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,20}".prop_map(Into::into),
        select(&POISON[..]).prop_map(Into::into),
    ];
    let tree = leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Into::into),
            vec((names.clone(), inner), 0..6)
                .prop_map(|pairs| pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    });
    tree.prop_map(|value| value.to_string().into_bytes())
}

fn header() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
    let name = select(
        &[
            "sforce-limit-info",
            "sforce-locator",
            "sforce-numberofrecords",
            "date",
            "retry-after",
            "last-modified",
            "content-type",
            "content-encoding",
            "location",
            "set-cookie",
        ][..],
    );
    let known = select(
        &[
            "api-usage=1/2",
            "api-usage=/",
            "api-usage=-1/99999999999999999999",
            "null",
            "AQ==",
            "5",
            "-5",
            "gzip",
            "br",
            "text/csv",
            "text/csv;",
            "application/json",
            "Mon, 23 Nov 2026 10:00:00 GMT",
            "Mon, 99 Foo 99999 99:99:99 GMT",
            "ELSEWHERE/services/data/",
            "18446744073709551615",
            "",
        ][..],
    );
    let value = prop_oneof![known.prop_map(|text| text.as_bytes().to_vec()), vec(any::<u8>(), 0..40)];
    (name, value)
}

fn sent() -> impl Strategy<Value = Sent> {
    let status = prop_oneof![
        6 => Just(200_u16),
        4 => select(&[201, 204, 206, 302, 304, 400, 401, 403, 404, 406, 409, 410, 420, 429, 500, 502, 503, 504, 599][..]),
    ];
    let body = prop_oneof![5 => damaged(), 2 => any_json(), 1 => vec(any::<u8>(), 0..400)];
    let headers = vec(header(), 0..5);
    (status, headers, body).prop_map(|(status, headers, body)| Sent { status, headers, body })
}

fn seed() -> u64 {
    std::env::var("SERVANT_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random)
}

/// Sends every case to whom `ask` asks, and looks at what came of it.
fn prove<F, T>(asked_as: &str, ask: F)
where
    F: Fn(Arc<Client>, String) -> T,
    T: Future<Output = Vec<Result<()>>>,
{
    let runtime = Runtime::new().unwrap();
    let current = Arc::new(Mutex::new(Sent { status: 200, headers: Vec::new(), body: Vec::new() }));
    let (elsewhere, server, client) = runtime.block_on(async {
        let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", elsewhere.local_addr().unwrap());
        let sent = current.clone();
        let server = Server::start(move |_| answer(&sent.lock().unwrap(), &address)).await;
        let client = Arc::new(client(&server.url, Options { retries_max: 0, ..options() }).await);
        (elsewhere, server, client)
    });
    let seed = seed();
    eprintln!("{asked_as}: SERVANT_TEST_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 4_000, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let proved = runner.run(&sent(), |sent| {
        let status = sent.status;
        *current.lock().unwrap() = sent;
        let limit = Duration::from_secs(ANSWER_SECS_MAX);
        let outcomes = runtime
            .block_on(async { tokio::time::timeout(limit, ask(client.clone(), server.url.clone())).await })
            .map_err(|_| TestCaseError::fail("it hangs"))?;
        for error in outcomes.into_iter().filter_map(Result::err) {
            check(&error, status)?;
        }
        Ok(())
    });
    if let Err(error) = proved {
        panic!("{asked_as}: SERVANT_TEST_SEED={seed}: {error}");
    }
    let accepted = runtime.block_on(async { tokio::time::timeout(Duration::ZERO, elsewhere.accept()).await });
    assert!(accepted.is_err(), "{asked_as}: SERVANT_TEST_SEED={seed}: somebody was led elsewhere");
    assert!(server.seen().len() >= CASES as usize);
}

fn answer(sent: &Sent, elsewhere: &str) -> Response<Body> {
    let put = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => text.replace(ELSEWHERE, elsewhere).into_bytes(),
        Err(_) => bytes.to_vec(),
    };
    let mut response = Response::new(Body::from(put(&sent.body)));
    *response.status_mut() = sent.status.try_into().unwrap();
    for (name, value) in &sent.headers {
        if let Ok(value) = HeaderValue::from_bytes(&put(value)) {
            response.headers_mut().append(HeaderName::from_static(name), value);
        }
    }
    response
}

/// What every error must be: one line, of bounded length, and of a token reply nothing.
fn check(error: &SalesforceError, status: u16) -> std::result::Result<(), TestCaseError> {
    let text = error.to_string();
    prop_assert!(text.chars().count() < 1_000, "too long for a log: {text:?}");
    prop_assert!(!text.chars().any(char::is_control), "not one line: {text:?}");
    if status == 200 {
        prop_assert!(!format!("{error:?}").contains("TOPSECRET"), "a token is shown: {error:?}");
    }
    Ok(())
}

fn must(holds: bool, what: &str) {
    assert!(holds, "{what}");
}

fn is_inside(address: &str) -> bool {
    address.starts_with("/services/data/")
        && !address.contains("..")
        && address.bytes().all(|byte| byte.is_ascii_graphic())
}

fn job() -> BulkJob {
    BulkJob { id: JOB.to_owned(), api_version: "66.0".to_owned() }
}

#[test]
fn pages_of_queries() {
    prove("query", |client, _| async move {
        let page = client.query("SELECT Id FROM Account").await;
        let mut outcomes = Vec::new();
        if let Ok(page) = &page {
            must(page.done == page.next_records_url.is_none(), "a page is the last or names the next");
            must(page.next_records_url.as_deref().is_none_or(is_inside), "the next page is inside");
            if let Some(next) = &page.next_records_url {
                outcomes.push(client.query_next(next).await.map(drop));
            }
        }
        outcomes.push(page.map(drop));
        outcomes
    });
}

#[test]
fn describes_and_lists() {
    prove("describe", |client, _| async move {
        let since = chrono::DateTime::UNIX_EPOCH;
        vec![
            client.describe_since("Account", since).await.map(drop),
            client.objects().await.map(drop),
            client.limits().await.map(drop),
            client.versions().await.map(drop),
        ]
    });
}

#[test]
fn logs() {
    prove("logs", |client, _| async move {
        let (start, end) = (chrono::DateTime::UNIX_EPOCH, chrono::DateTime::UNIX_EPOCH);
        let (deleted, changed) =
            (client.deleted("Account", start, end).await, client.changed("Account", start, end).await);
        if let Ok(deleted) = &deleted {
            must(deleted.records.iter().all(|(id, _)| id.len() == 18), "ids are ids");
        }
        if let Ok(changed) = &changed {
            must(changed.ids.iter().all(|id| id.len() == 18), "ids are ids");
        }
        vec![deleted.map(drop), changed.map(drop)]
    });
}

#[test]
fn bulk_jobs_and_pages() {
    prove("bulk", |client, _| async move {
        let mut outcomes = vec![client.delete_bulk_job(&job()).await];
        let made = client.create_query("SELECT Id FROM Account", BulkOperation::Query).await;
        if let Ok(made) = &made {
            outcomes.extend(made.failure().map(Err));
            outcomes.push(client.abort_bulk_job(&made.job).await.map(drop));
        }
        outcomes.push(made.map(drop));
        match client.bulk_result_pages(&job(), None).await {
            Ok(ResultPages::Listed { locators, next }) => {
                for locator in locators.iter().chain(&next) {
                    must(locator.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "a locator is one");
                    outcomes.push(client.bulk_page(&job(), locator).await.map(drop));
                }
            }
            answer => outcomes.push(answer.map(drop)),
        }
        match client.bulk_page(&job(), FIRST_PAGE).await {
            Ok(mut page) => loop {
                match page.body.chunk().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => {
                        outcomes.push(Err(error));
                        break;
                    }
                }
            },
            Err(error) => outcomes.push(Err(error)),
        }
        outcomes
    });
}

#[test]
fn composite_calls() {
    prove("composite", |client, _| async move {
        let questions =
            [Question::query("SELECT Id FROM A"), Question::describe("A", Some(chrono::DateTime::UNIX_EPOCH)).unwrap()];
        match client.composite(&questions).await {
            Err(error) => vec![Err(error)],
            Ok(answers) => {
                must(answers.len() == 2, "each question has its answer");
                let mut answers = answers.into_iter();
                let page = answers.next().unwrap().and_then(|answer| answer.page());
                if let Ok(page) = &page {
                    must(page.next_records_url.as_deref().is_none_or(is_inside), "the next page is inside");
                }
                vec![page.map(drop), answers.next().unwrap().and_then(|answer| answer.described()).map(drop)]
            }
        }
    });
}

#[test]
fn token_replies() {
    let oauth = Arc::new(OnceLock::new());
    prove("token", move |_, login_url| {
        let oauth = oauth.clone();
        async move {
            let app = ConnectedApp { login_url, client_id: "id".to_owned(), client_secret: None };
            let oauth = oauth.get_or_init(|| OAuth::new(app, &options()).unwrap());
            let grant = oauth.refresh(&SecretString::from("refresh")).await;
            let mut outcomes = vec![oauth.revoke(&SecretString::from("refresh")).await];
            if let Ok(grant) = &grant {
                let instance = grant.instance_url();
                if let Ok(instance) = &instance {
                    let url = reqwest::Url::parse(instance).unwrap();
                    must(url.origin().ascii_serialization() == *instance, "an instance is an origin");
                }
                outcomes.push(instance.map(drop));
                for id in grant.organisation.iter().chain(&grant.user) {
                    must(id.len() == 18, "ids are ids");
                }
            }
            outcomes.push(grant.map(drop));
            outcomes
        }
    });
}

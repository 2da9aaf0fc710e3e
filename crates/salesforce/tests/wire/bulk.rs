//! Bulk jobs from their making to their last page, and every way in which a page can be broken.

use std::sync::atomic::{AtomicUsize, Ordering};

use salesforce::{
    BulkJob, BulkOperation, BulkPage, BulkState, Client, FIRST_PAGE, Options, ResultPages, SalesforceError,
};
use serde_json::{Value, json};

use crate::server::{JOB, Reply, Seen, Server, client, gzip, json, name, not_found, options, raw, refusal, reply};

const BASE: &str = "/services/data/v66.0/jobs/query/750R0000000zxr8IAA";

fn job() -> BulkJob {
    BulkJob { id: JOB.to_owned(), api_version: "66.0".to_owned() }
}

fn status(state: &str) -> Value {
    json!({"id": JOB, "state": state, "apiVersion": 66.0, "numberRecordsProcessed": 5, "retries": 0})
}

fn page(records: &str, locator: &str, body: &str) -> Reply {
    let mut page = reply(200, "text/csv; charset=UTF-8", gzip(body.as_bytes()));
    for (name, value) in
        [("sforce-numberofrecords", records), ("sforce-locator", locator), ("content-encoding", "gzip")]
    {
        page.headers_mut().insert(name, value.parse().unwrap());
    }
    page
}

async fn read(page: &mut BulkPage) -> Result<String, SalesforceError> {
    let mut text = Vec::new();
    while let Some(chunk) = page.body.chunk().await? {
        text.extend_from_slice(chunk);
    }
    assert_eq!(page.body.bytes(), text.len() as u64);
    Ok(String::from_utf8(text).unwrap())
}

fn whole_story(seen: &Seen) -> Reply {
    match (seen.method.as_str(), seen.path.strip_prefix(BASE), seen.query.as_str()) {
        ("POST", None, "") => {
            assert_eq!(seen.path, "/services/data/v66.0/jobs/query");
            let asked: Value = serde_json::from_str(&seen.body).unwrap();
            assert_eq!(
                asked,
                json!({"operation": "queryAll", "query": "SELECT Id FROM A", "contentType": "CSV",
                    "columnDelimiter": "COMMA", "lineEnding": "LF"})
            );
            json(200, &json!({"id": JOB, "operation": "queryAll", "state": "UploadComplete", "apiVersion": 66.0}))
        }
        ("GET", Some(""), _) => json(200, &status("JobComplete")),
        ("GET", Some("/resultPages"), "") => json(
            200,
            &json!({"resultPages": [{"resultUrl": format!("{BASE}/results")}, {"resultUrl": format!("{BASE}/results?locator=AQ%3D")}],
                "nextRecordsUrl": format!("{BASE}/resultPages?nextRecordsLocator=b"), "done": false}),
        ),
        // The documents name the fields otherwise in other places.
        ("GET", Some("/resultPages"), "nextRecordsLocator=b") => json(
            200,
            &json!({"resultPages": [{"resultLink": format!("{BASE}/results?locator=Ag")}], "nextRecordUrl": null, "done": true}),
        ),
        ("GET", Some("/results"), "") => page("2", "AQ=", "Id\n1\n2\n"),
        ("GET", Some("/results"), "locator=AQ%3D") => page("2", "Ag", "Id\n3\n4\n"),
        ("GET", Some("/results"), "locator=Ag") => page("1", "null", "Id\n5\n"),
        ("PATCH", Some(""), _) => match seen.body.as_str() {
            r#"{"state":"Aborted"}"# => json(200, &status("Aborted")),
            _ => refusal(400, "INVALID", "no"),
        },
        ("DELETE", Some(""), _) => reply(204, "text/plain", ""),
        _ => not_found(),
    }
}

#[tokio::test]
async fn a_job_is_followed_to_its_last_page() {
    let server = Server::start(whole_story).await;
    let client = server.client().await;
    let made = client.create_query("SELECT Id FROM A", BulkOperation::QueryAll).await.unwrap();
    assert_eq!((made.state, &made.job), (BulkState::UploadComplete, &job()));
    let status = client.bulk_job(&made.job).await.unwrap();
    assert_eq!((&status.state, status.records), (&BulkState::JobComplete, 5));
    assert!(status.failure().is_none());
    let (mut locators, mut next) = (Vec::new(), None);
    loop {
        match client.bulk_result_pages(&made.job, next.as_deref()).await.unwrap() {
            ResultPages::Listed { locators: more, next: following } => {
                locators.extend(more);
                next = following;
            }
            ResultPages::Chain => panic!("the pages are listed"),
        }
        if next.is_none() {
            break;
        }
    }
    assert_eq!(locators, [FIRST_PAGE, "locator=AQ%3D", "locator=Ag"]);
    let mut records = 0;
    for (at, locator) in locators.iter().enumerate() {
        let mut page = client.bulk_page(&made.job, locator).await.unwrap();
        assert_eq!(page.next.as_ref(), locators.get(at + 1), "the chain is the list");
        assert!(read(&mut page).await.unwrap().starts_with("Id\n"));
        records += page.records;
    }
    assert_eq!(records, status.records);
    // The same page, as often as wanted.
    assert_eq!(read(&mut client.bulk_page(&made.job, "locator=Ag").await.unwrap()).await.unwrap(), "Id\n5\n");
    assert_eq!(client.abort_bulk_job(&made.job).await.unwrap().state, BulkState::Aborted);
    client.delete_bulk_job(&made.job).await.unwrap();
    assert!(
        server
            .seen()
            .iter()
            .filter(|seen| seen.path.ends_with("results"))
            .all(|seen| { seen.header("accept-encoding").is_some_and(|encodings| encodings.contains("gzip")) })
    );
}

#[tokio::test]
async fn results_are_asked_for_with_the_jobs_own_version() {
    let server = Server::start(|seen| match seen.path.starts_with("/services/data/v60.0/jobs/query/") {
        true => page("0", "null", "Id\n"),
        false => reply(409, "application/json", ""),
    })
    .await;
    let client = server.client().await;
    let old = BulkJob { api_version: "60.0".to_owned(), ..job() };
    assert_eq!(client.bulk_page(&old, FIRST_PAGE).await.unwrap().records, 0);
    assert_eq!(name(&client.bulk_page(&job(), FIRST_PAGE).await.unwrap_err()), "CursorExpired");
}

#[tokio::test]
async fn a_job_without_a_list_is_a_chain() {
    let server = Server::start(|seen| match seen.path.strip_prefix(BASE) {
        Some("") => json(200, &status("JobComplete")),
        Some("/results") => page("2", if seen.query == "maxRecords=2" { "AQ" } else { "null" }, "Id\n1\n2\n"),
        _ => not_found(),
    })
    .await;
    let client = client(&server.url, Options { page_records_max: Some(2), ..options() }).await;
    assert_eq!(client.bulk_result_pages(&job(), None).await.unwrap(), ResultPages::Chain);
    let calls = client.calls();
    let old = BulkJob { api_version: "57.0".to_owned(), ..job() };
    assert_eq!(client.bulk_result_pages(&old, None).await.unwrap(), ResultPages::Chain);
    assert_eq!(client.calls(), calls, "it is known without a call");
    let first = client.bulk_page(&job(), FIRST_PAGE).await.unwrap();
    assert_eq!(first.next.as_deref(), Some("locator=AQ&maxRecords=2"));
    assert!(client.bulk_page(&job(), "locator=AQ&maxRecords=2").await.unwrap().next.is_none());
    assert_eq!(server.seen().last().unwrap().query, "locator=AQ&maxRecords=2");
    let gone = BulkJob { id: "750R0000000zxr9IAA".to_owned(), ..job() };
    assert_eq!(name(&client.bulk_result_pages(&gone, None).await.unwrap_err()), "CursorExpired");
    assert_eq!(name(&client.bulk_job(&gone).await.unwrap_err()), "CursorExpired");
    client.delete_bulk_job(&gone).await.unwrap();
}

#[tokio::test]
async fn a_job_may_not_be_made_twice() {
    let create = async |client: &Client| client.create_query("SELECT Id FROM A", BulkOperation::Query).await;
    // Refused: nothing was made, so it is asked again.
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => refusal(503, "SERVER_UNAVAILABLE", "busy"),
        _ => json(200, &json!({"id": JOB, "state": "UploadComplete", "apiVersion": 66})),
    })
    .await;
    assert_eq!(create(&server.client().await).await.unwrap().job, job());
    assert_eq!(server.seen().len(), 2);
    // No answer, or half of one: it may be there.
    for answer in
        [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{\"id\":\"750"]
    {
        let client = client(&raw(answer.to_vec()).await, options()).await;
        assert_eq!(name(&create(&client).await.unwrap_err()), "Unavailable");
        assert_eq!(client.calls(), 1);
    }
}

#[tokio::test]
async fn refusals_and_failures_say_what_to_do() {
    for (answer, expected) in [
        (
            json!([{"errorCode": "INVALIDENTITY", "message": "Entity 'X' is not supported by the Bulk API."}]),
            "NotInBulk",
        ),
        (json!([{"errorCode": "LIMIT_EXCEEDED", "message": "Max bulk v2 query jobs"}]), "QuotaExhausted"),
        (json!([{"errorCode": "API_ERROR", "message": "unexpected"}]), "Rejected"),
    ] {
        let server = Server::start(move |_| json(400, &answer)).await;
        let error = server.client().await.create_query("SELECT Id FROM X", BulkOperation::Query).await.unwrap_err();
        assert_eq!(name(&error), expected);
    }
    for (state, message, expected) in [
        ("Failed", "QUERY_TIMEOUT: Your query request was running for too long.", Some("QueryTimeout")),
        ("Failed", "InvalidEntity : Entity 'X' is not supported by the Bulk API.", Some("NotInBulk")),
        ("Aborted", "", Some("CursorExpired")),
        ("InProgress", "", None),
        ("Resting", "", None),
    ] {
        let mut status = status(state);
        status["errorMessage"] = message.into();
        let server = Server::start(move |_| json(200, &status)).await;
        let status = server.client().await.bulk_job(&job()).await.unwrap();
        assert_eq!(status.failure().as_ref().map(name).as_deref(), expected, "{state} {message}");
    }
    // Too late to abort: the job says how it is.
    let server = Server::start(|seen| match seen.method.as_str() {
        "PATCH" => refusal(400, "INVALIDJOBSTATE", "Aborting already Completed Job not allowed"),
        _ => json(200, &status("JobComplete")),
    })
    .await;
    assert_eq!(server.client().await.abort_bulk_job(&job()).await.unwrap().state, BulkState::JobComplete);
}

#[tokio::test]
async fn a_broken_page_is_never_taken_for_a_whole_one() {
    let csv = "Id\n".to_owned() + &"0123456789abcdef\n".repeat(5_000);
    let zipped = gzip(csv.as_bytes());
    let head = |more: &str| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/csv\r\nsforce-locator: null\r\nsforce-numberofrecords: 5000\r\n{more}\r\n\r\n")
            .into_bytes()
    };
    let half = &zipped[..zipped.len() / 2];
    let chunked =
        |body: &[u8], end: &str| [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n", end.as_bytes()].concat();
    let broken = [
        // Cut within its length, within its chunks, and within what was packed; with the last, HTTP has no complaint.
        [head(&format!("content-length: {}", csv.len())), csv.as_bytes()[..csv.len() / 2].to_vec()].concat(),
        [head("transfer-encoding: chunked"), chunked(&csv.as_bytes()[..1_000], "")].concat(),
        [head("transfer-encoding: chunked"), b"zz\r\nId\r\n".to_vec()].concat(),
        [head(&format!("content-encoding: gzip\r\ncontent-length: {}", half.len())), half.to_vec()].concat(),
        [head("content-encoding: gzip\r\ntransfer-encoding: chunked"), chunked(half, "0\r\n\r\n")].concat(),
        [head(&format!("content-encoding: gzip\r\ncontent-length: {}", csv.len())), csv.as_bytes().to_vec()].concat(),
    ];
    for (at, answer) in broken.into_iter().enumerate() {
        let client = client(&raw(answer).await, options()).await;
        let mut page = client.bulk_page(&job(), FIRST_PAGE).await.unwrap();
        let error = read(&mut page).await.err();
        assert!(matches!(error, Some(SalesforceError::Unavailable { .. })), "{at}: {error:?}");
    }
}

#[tokio::test]
async fn what_is_no_page_is_not_taken_for_one() {
    fn without(name: &str) -> Reply {
        let mut page = page("1", "null", "Id\n1\n");
        page.headers_mut().remove(name);
        page
    }
    let answers: [fn() -> Reply; 7] = [
        || reply(200, "text/html", "<html>back soon</html>"),
        || without("content-type"),
        || without("sforce-numberofrecords"),
        || without("sforce-locator"),
        || page("many", "null", "Id\n"),
        || page("1", "AQ", "Id\n1\n"),
        || page("1", "", "Id\n1\n"),
    ];
    for (at, answer) in answers.into_iter().enumerate() {
        let server = Server::start(move |_| answer()).await;
        let error = server.client().await.bulk_page(&job(), "locator=AQ").await.unwrap_err();
        assert_eq!(name(&error), "Unavailable", "{at}");
        assert_eq!(server.seen().len(), 3, "it may be whole the next time");
    }
}

#[tokio::test]
async fn a_page_has_a_limit_that_counts_what_comes_out() {
    let csv = "x".repeat(1_000_000);
    let server = Server::start(move |_| page("1", "null", &csv)).await;
    let client = client(&server.url, Options { page_bytes_max: 500_000, ..options() }).await;
    let mut page = client.bulk_page(&job(), FIRST_PAGE).await.unwrap();
    let error = read(&mut page).await.err();
    assert!(matches!(&error, Some(SalesforceError::Rejected { code, .. }) if code == "BODY_TOO_LONG"), "{error:?}");
}

#[tokio::test]
async fn lists_that_lead_astray_are_refused() {
    let list =
        |url: String, next: Value| json!({"resultPages": [{"resultUrl": url}], "nextRecordsUrl": next, "done": false});
    let good = format!("{BASE}/results?locator=AQ");
    for (answer, expected) in [
        (list("https://evil.example/results?locator=AQ".to_owned(), Value::Null), "Rejected"),
        (list(good.replace("zxr8", "zxr9"), Value::Null), "Rejected"),
        (list(good.clone(), "https://evil.example/x".into()), "Rejected"),
        (list(good.clone(), Value::Null), "Unavailable"),
        (list(good.clone(), format!("{BASE}/resultPages").into()), "Unavailable"),
        (list(good.clone(), format!("{BASE}/resultPages?nextRecordsLocator=a").into()), "Unavailable"),
    ] {
        let server = Server::start(move |_| json(200, &answer)).await;
        let error = server.client().await.bulk_result_pages(&job(), Some("nextRecordsLocator=a")).await.unwrap_err();
        assert_eq!(name(&error), expected, "{error}");
    }
    let server = Server::start(|_| page("0", "null", "")).await;
    let client = server.client().await;
    for hostile in ["locator=a b", "locator=a#b", "locator=\n", &"x".repeat(5_000)] {
        assert_eq!(name(&client.bulk_page(&job(), hostile).await.unwrap_err()), "Rejected");
    }
    for id in ["", "../../../oauth2/revoke", "750R0000000zxr8IA?", "750R0000000zxr8%2f"] {
        let hostile = BulkJob { id: id.to_owned(), ..job() };
        assert_eq!(name(&client.bulk_page(&hostile, FIRST_PAGE).await.unwrap_err()), "Rejected");
    }
    assert!(server.seen().is_empty());
}

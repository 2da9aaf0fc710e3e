//! Owns the proof that bulk jobs, composite requests and conditional describes are as the vendor's documents say.
//! Does not own the queries' grammar, nor what changes records.

use std::{
    io::Read,
    time::{Duration, Instant},
};

use crate::common::World;
use chrono::{TimeDelta, Utc};
use fakes::salesforce::{Content, Fault, Mutation, Order};
use reqwest::Method;
use serde_json::{Value, json};

const JOBS: &str = "/services/data/v66.0/jobs/query";

/// 150 accounts in pages of 20, jobs done at once.
async fn world() -> World {
    World::generated(1_000, |options| (options.bulk_page_records, options.bulk_delay_ms) = (20, 0)).await
}

async fn job(world: &World, soql: &str) -> String {
    let made = world.bulk(soql).await;
    assert_eq!(
        (made.status.as_u16(), made.json()["state"].as_str().unwrap()),
        (200, "UploadComplete"),
        "{}",
        made.body
    );
    format!("{JOBS}/{}", made.json()["id"].as_str().unwrap())
}

async fn chain(world: &World, job: &str) -> Vec<Vec<String>> {
    let (mut rows, mut locator) = (Vec::new(), String::new());
    loop {
        let page = world.get(&format!("{job}/results?maxRecords=1000{locator}")).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let found = page.rows();
        assert_eq!(found.len() - 1, page.header("sforce-numberofrecords").parse::<usize>().unwrap());
        rows.extend(found.into_iter().skip(1));
        match page.header("sforce-locator") {
            "null" => return rows,
            next => locator = format!("&locator={next}"),
        }
    }
}

#[tokio::test]
async fn the_pages_hold_every_record_once_and_values_as_csv() {
    let world = world().await;
    let job = job(&world, "SELECT Id, Name, Description, AnnualRevenue, SystemModstamp FROM Account").await;
    let told = world.get(&job).await.json();
    assert_eq!(
        (&told["state"], &told["jobType"], &told["apiVersion"]),
        (&json!("JobComplete"), &json!("V2Query"), &json!(66.0))
    );
    assert_eq!(told["numberRecordsProcessed"], 150);
    let mut rows = chain(&world, &job).await;
    rows.sort();
    let truth = world.fake.truth("Account");
    assert_eq!(rows.len(), truth.len());
    for (row, truth) in rows.iter().zip(&truth) {
        let text = |name: &str| truth[name].as_str().unwrap_or_default().to_owned();
        assert_eq!((&row[0], &row[1], &row[2]), (&text("Id"), &text("Name"), &text("Description")));
        assert_eq!(row[3].parse::<f64>().ok(), truth["AnnualRevenue"].as_f64());
        assert_eq!(row[4], text("SystemModstamp").replace("+0000", "Z"));
    }
    let first = world.get(&format!("{job}/results")).await;
    assert!(first.body.starts_with("\"Id\",\"Name\",\"Description\",\"AnnualRevenue\",\"SystemModstamp\"\n\"001"));
    assert_eq!(first.header("content-type"), "text/csv; charset=UTF-8");
}

#[tokio::test]
async fn pages_are_listed_five_at_a_time_and_can_be_read_again() {
    let world = world().await;
    let job = job(&world, "SELECT Id FROM Account").await;
    let (mut urls, mut next) = (Vec::new(), format!("{job}/resultPages"));
    let calls = loop {
        let listed = world.get(&next).await.json();
        let pages = listed["resultPages"].as_array().unwrap();
        assert!(pages.len() <= 5);
        urls.extend(pages.iter().map(|page| page["resultUrl"].as_str().unwrap().to_owned()));
        match listed["nextRecordsUrl"].as_str() {
            Some(url) => next = url.to_owned(),
            None => break listed["done"].clone(),
        }
    };
    assert_eq!((urls.len(), calls), (8, json!(true)));
    let mut ids = Vec::new();
    for url in &urls {
        let (one, again) = (world.get(url).await, world.get(url).await);
        assert_eq!(one.body, again.body);
        ids.extend(one.rows().into_iter().skip(1).map(|row| row[0].clone()));
    }
    ids.sort();
    assert_eq!(ids.len(), 150);
    ids.dedup();
    assert_eq!(ids.len(), 150);
}

#[tokio::test]
async fn results_are_compressed_for_those_who_ask() {
    let world = World::generated(4_000, |options| options.bulk_delay_ms = 0).await;
    let job = job(&world, "SELECT Id, Name, Description FROM Account").await;
    let plain = world.get(&format!("{job}/results")).await;
    let packed = world.call(Method::GET, &format!("{job}/results"), &[("accept-encoding", "gzip")], None).await;
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(packed.bytes.as_slice()).read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain.body);
    assert!(packed.bytes.len() < plain.bytes.len() / 2);
    assert!(plain.headers.get("content-encoding").is_none());
    assert_eq!(packed.headers.get("content-encoding").unwrap(), "gzip");
}

#[tokio::test]
async fn results_come_no_faster_than_is_said() {
    let world = World::generated(0, |options| {
        options.content = Content::One { object: "Wide__c".to_owned(), records: 2_000, columns: 25, seed: 1 };
        (options.bulk_delay_ms, options.bulk_records_per_s) = (0, Some(4_000));
    })
    .await;
    let fields: Vec<String> = world.fake.truth("Wide__c")[0].keys().cloned().collect();
    let job = job(&world, &format!("SELECT {} FROM Wide__c", fields.join(", "))).await;
    let began = Instant::now();
    assert_eq!(world.get(&format!("{job}/results")).await.rows().len(), 2_001);
    let took = began.elapsed();
    assert!(took > Duration::from_millis(250), "half a second for all of them, less the last piece: {took:?}");
}

#[tokio::test]
async fn what_bulk_cannot_do_is_refused() {
    let world = World::generated(200, |options| options.without_bulk = vec!["Task".to_owned()]).await;
    for (soql, code) in [
        ("SELECT BillingAddress FROM Account", "API_ERROR"),
        ("SELECT COUNT() FROM Account", "API_ERROR"),
        ("SELECT Id FROM Account OFFSET 5", "API_ERROR"),
        ("SELECT Name FROM Account GROUP BY Name", "MALFORMED_QUERY"),
        ("SELECT Id FROM Task", "INVALIDENTITY"),
        ("SELECT Id FROM Nothing", "INVALID_TYPE"),
        ("SELECT Nothing FROM Account", "INVALID_FIELD"),
    ] {
        let refused = world.bulk(soql).await;
        assert_eq!((refused.status.as_u16(), &refused.json()[0]["errorCode"]), (400, &json!(code)), "{soql}");
    }
    let running = World::generated(200, |options| options.bulk_delay_ms = 3_600_000).await;
    let job = job(&running, "SELECT Id FROM Account").await;
    assert_eq!(running.get(&format!("{job}/results")).await.status, 400);
    assert_eq!(running.call(Method::DELETE, &job, &[], None).await.status, 400);
    let aborted = running.call(Method::PATCH, &job, &[], Some(json!({ "state": "Aborted" }))).await;
    assert_eq!(aborted.json()["state"], "Aborted");
    assert_eq!(running.call(Method::DELETE, &job, &[], None).await.status, 204);
    assert_eq!(running.get(&job).await.status, 404);
    let limited = World::generated(200, |options| options.daily_bulk_jobs = 1).await;
    assert_eq!(limited.bulk("SELECT Id FROM Account").await.status, 200);
    let refused = limited.bulk("SELECT Id FROM Account").await;
    assert_eq!((refused.status.as_u16(), &refused.json()[0]["errorCode"]), (403, &json!("LIMIT_EXCEEDED")));
}

#[tokio::test]
async fn a_job_keeps_its_version_and_its_snapshot() {
    let world = world().await;
    let job = job(&world, "SELECT Id FROM Account").await;
    assert_eq!(world.get(&format!("{}/results", job.replace("v66.0", "v60.0"))).await.status, 409);
    let ids: Vec<_> = chain(&world, &job).await.into_iter().map(|row| row[0].clone()).collect();
    let purge = Mutation { object: "Account".to_owned(), purge: ids, ..Mutation::default() };
    world.fake.mutate(&purge).unwrap();
    assert_eq!(world.fake.truth("Account").len(), 0);
    assert_eq!(chain(&world, &job).await.len(), 150);
    let empty = self::job(&world, "SELECT Id FROM Account").await;
    let page = world.get(&format!("{empty}/results")).await;
    assert_eq!((page.header("sforce-numberofrecords"), page.header("sforce-locator")), ("0", "null"));
    assert_eq!(page.body, "\"Id\"\n");
}

#[tokio::test]
async fn jobs_fail_by_name() {
    let world = world().await;
    for (fault, state) in
        [(Fault::BulkJobFailed, "Failed"), (Fault::BulkJobAborted, "Aborted"), (Fault::BulkJobStuck, "InProgress")]
    {
        world.fake.fault(fault, 1);
        let job = job(&world, "SELECT Id FROM Account").await;
        let told = world.get(&job).await.json();
        assert_eq!(told["state"], state);
        assert_eq!(told["errorMessage"].as_str().is_some_and(|text| text.contains("QUERY_TIMEOUT")), state == "Failed");
    }
    let job = job(&world, "SELECT Id FROM Account").await;
    for (fault, status) in [(Fault::BulkLocatorGone, 404), (Fault::BulkVersionConflict, 409)] {
        world.fake.fault(fault, 1);
        assert_eq!(world.get(&format!("{job}/results")).await.status.as_u16(), status);
        assert_eq!(world.get(&format!("{job}/results")).await.status, 200);
    }
    for (fault, rows, told, next) in [
        (Fault::BulkCountMismatch, 19, "19", true),
        (Fault::BulkPageShort, 19, "20", true),
        (Fault::BulkEmptyPage, 0, "0", true),
    ] {
        world.fake.fault(fault, 1);
        let page = world.get(&format!("{job}/results")).await;
        assert_eq!((page.rows().len() - 1, page.header("sforce-numberofrecords")), (rows, told), "{fault:?}");
        assert_eq!(page.header("sforce-locator") != "null", next);
    }
    world.fake.fault(Fault::BulkEmptyPage, 1);
    let rows = {
        let first = world.get(&format!("{job}/results")).await;
        let next = world.get(&format!("{job}/results?locator={}", first.header("sforce-locator"))).await;
        next.rows().len() - 1
    };
    assert_eq!(rows, 20, "nothing is lost by following the locator");
    world.fake.order(Order { on: Some(fakes::salesforce::Call::BulkPages), ..Order::new(Fault::BulkJobDeleted, 1) });
    assert_eq!(world.get(&format!("{job}/resultPages")).await.status, 404);
    assert_eq!(world.get(&job).await.status, 404);
}

fn sub(reference: usize, url: &str) -> Value {
    json!({ "method": "GET", "url": url, "referenceId": format!("r{reference}") })
}

#[tokio::test]
async fn a_composite_call_counts_once() {
    let world = world().await;
    let composite = async |requests: Vec<Value>| {
        let body = json!({ "compositeRequest": requests });
        world.call(Method::POST, "/services/data/v66.0/composite", &[], Some(body)).await
    };
    let used = world.fake.stats().api_used;
    // What changed is told of the last thirty days.
    let start = (Utc::now() - TimeDelta::days(7)).format("%Y-%m-%dT%H:%M:%SZ");
    let updated = format!("/services/data/v66.0/sobjects/Contact/updated?start={start}&end=2099-01-01T00:00:00Z");
    let mut requests: Vec<_> = (0..20).map(|at| sub(at, &updated)).collect();
    requests.extend((20..24).map(|at| sub(at, "/services/data/v66.0/query?q=SELECT COUNT() FROM Account")));
    requests.push(sub(24, "/services/data/v66.0/query/?q=SELECT+Nothing+FROM+Account"));
    let answer = composite(requests.clone()).await;
    assert_eq!(world.fake.stats().api_used, used + 1);
    let answers = answer.json()["compositeResponse"].as_array().unwrap().clone();
    assert_eq!((answers.len(), &answers[0]["httpStatusCode"]), (25, &json!(200)), "{}", answers[0]);
    assert_eq!((&answers[20]["body"]["totalSize"], &answers[20]["referenceId"]), (&json!(150), &json!("r20")));
    assert_eq!(
        (&answers[24]["httpStatusCode"], &answers[24]["body"][0]["errorCode"]),
        (&json!(400), &json!("INVALID_FIELD"))
    );
    requests.push(sub(25, "/services/data/v66.0/limits"));
    assert_eq!(composite(requests).await.status, 400);
    let queries = (0..6).map(|at| sub(at, "/services/data/v66.0/query?q=SELECT COUNT() FROM Account")).collect();
    assert_eq!(composite(queries).await.status, 400, "a sixth query");
}

#[tokio::test]
async fn describe_is_not_sent_to_those_who_know_it() {
    let world = world().await;
    let path = "/services/data/v66.0/sobjects/Account/describe";
    let first = world.get(path).await;
    let since = first.header("last-modified").to_owned();
    let again = world.call(Method::GET, path, &[("if-modified-since", &since)], None).await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
    let hide = Mutation { object: "Account".to_owned(), hide_fields: vec!["Name".to_owned()], ..Mutation::default() };
    world.fake.mutate(&hide).unwrap();
    let changed = world.call(Method::GET, path, &[("if-modified-since", &since)], None).await;
    assert_eq!(changed.status, 200);
    assert!(!changed.body.contains("\"Name\""));
}

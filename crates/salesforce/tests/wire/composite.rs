//! Many questions in one call, and what each of them is answered.

use chrono::{DateTime, Utc};
use salesforce::{QUESTIONS_MAX, Question};
use serde_json::{Value, json};

use crate::server::{Server, json, name};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[tokio::test]
async fn twenty_five_objects_cost_one_call() {
    let server = Server::start(|seen| {
        let asked: Value = serde_json::from_str(&seen.body).unwrap();
        let answer = |question: &Value| {
            assert_eq!(question["method"], "GET");
            let body = json!({"ids": [], "latestDateCovered": "2026-11-23T10:58:00.000+0000"});
            json!({"body": body, "httpHeaders": {}, "httpStatusCode": 200, "referenceId": question["referenceId"]})
        };
        let answers: Vec<_> = asked["compositeRequest"].as_array().unwrap().iter().rev().map(answer).collect();
        json(200, &json!({"compositeResponse": answers}))
    })
    .await;
    let client = server.client().await;
    let question = |at_object: usize| {
        Question::changed(&format!("Thing{at_object}__c"), at("2026-11-23T10:00:00Z"), at("2026-11-23T11:00:00Z"))
            .unwrap()
    };
    let questions: Vec<_> = (0..QUESTIONS_MAX).map(question).collect();
    let answers = client.composite(&questions).await.unwrap();
    assert_eq!(answers.len(), 25);
    for answer in answers {
        assert!(answer.unwrap().changed().unwrap().ids.is_empty());
    }
    assert_eq!(client.calls(), 1);
    let asked: Value = serde_json::from_str(&server.seen()[0].body).unwrap();
    assert_eq!(
        asked["compositeRequest"][3]["url"],
        "/services/data/v66.0/sobjects/Thing3__c/updated/?start=2026-11-23T10%3A00%3A00%2B00%3A00&end=2026-11-23T11%3A00%3A00%2B00%3A00"
    );
    assert_eq!(asked["allOrNone"], false);
    // One more, or a sixth query, is refused before it is sent.
    assert_eq!(name(&client.composite(&[&questions[..], &questions[..1]].concat()).await.unwrap_err()), "Rejected");
    let queries = vec![Question::query_all("SELECT COUNT() FROM Account"); 6];
    assert_eq!(name(&client.composite(&queries).await.unwrap_err()), "Rejected");
    assert!(client.composite(&[]).await.unwrap().is_empty());
    assert_eq!(client.calls(), 1);
}

#[tokio::test]
async fn each_question_has_its_own_outcome() {
    let server = Server::start(|seen| {
        let asked: Value = serde_json::from_str(&seen.body).unwrap();
        assert_eq!(asked["compositeRequest"][0]["url"], "/services/data/v66.0/query?q=SELECT+Id+FROM+A+WHERE+x+%3D+%27%26%27");
        assert_eq!(asked["compositeRequest"][1]["httpHeaders"]["If-Modified-Since"], "Mon, 23 Nov 2026 10:00:00 GMT");
        let next = "/services/data/v66.0/query/01g-2000";
        json(
            200,
            &json!({"compositeResponse": [
                {"referenceId": "q1", "httpStatusCode": 304, "httpHeaders": {}, "body": null},
                {"referenceId": "q0", "httpStatusCode": 200, "httpHeaders": {},
                    "body": {"totalSize": 2001, "done": false, "nextRecordsUrl": next, "records": [{"n": 1.10}]}},
                {"referenceId": "q2", "httpStatusCode": 200, "httpHeaders": {"Last-Modified": "Mon, 23 Nov 2026 11:00:00 GMT"},
                    "body": {"name": "B", "fields": []}},
                {"referenceId": "q3", "httpStatusCode": 404, "httpHeaders": {},
                    "body": [{"errorCode": "NOT_FOUND", "message": "gone"}]},
                {"referenceId": "q4", "httpStatusCode": 403, "httpHeaders": {},
                    "body": [{"errorCode": "REQUEST_LIMIT_EXCEEDED", "message": "TotalRequests Limit exceeded."}]},
                {"referenceId": "q5", "httpStatusCode": 200, "httpHeaders": {}, "body": {"neither": 1}},
            ]}),
        )
    })
    .await;
    let (start, end) = (at("2026-11-23T10:00:00Z"), at("2026-11-23T11:00:00Z"));
    let questions = [
        Question::query("SELECT Id FROM A WHERE x = '&'"),
        Question::describe("A", Some(start)).unwrap(),
        Question::describe("B", None).unwrap(),
        Question::deleted("C", start, end).unwrap(),
        Question::query_next("/services/data/v66.0/query/01g-2000").unwrap(),
        Question::deleted("D", start, end).unwrap(),
    ];
    let mut answers = server.client().await.composite(&questions).await.unwrap().into_iter();
    let mut next = || answers.next().unwrap();
    let page = next().unwrap().page().unwrap();
    assert_eq!((page.total_size, page.records[0].get()), (2001, r#"{"n":1.1}"#));
    assert!(next().unwrap().described().unwrap().is_none());
    let described = next().unwrap().described().unwrap().unwrap();
    assert_eq!((described.describe.name.as_str(), described.last_modified), ("B", Some(end)));
    assert_eq!(name(&next().unwrap_err()), "Drift");
    assert_eq!(name(&next().unwrap_err()), "QuotaExhausted");
    assert_eq!(name(&next().unwrap().deleted().unwrap_err()), "Unavailable");
    for bad in ["https://evil.example/services/data/v66.0/query/1", "/services/oauth2/revoke", "query/1"] {
        assert!(Question::query_next(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn an_answer_must_be_whole() {
    for answers in [
        json!([]),
        json!([{"referenceId": "q7", "httpStatusCode": 200, "body": {}}]),
        json!([{"referenceId": "q0", "httpStatusCode": 200}, {"referenceId": "q0", "httpStatusCode": 200}]),
        json!("nothing"),
    ] {
        let answers = json!({"compositeResponse": answers});
        let server = Server::start(move |_| json(200, &answers)).await;
        let error = server.client().await.composite(&[Question::query("SELECT Id FROM A")]).await.unwrap_err();
        assert_eq!(name(&error), "Unavailable");
    }
}

//! Connections and circuit breakers as an operator has them: what each verb prints, refuses and leaves behind.

use crate::operator::Desk;
use domain::{AccountId, ErrorClass, Failure, Kind};
use serde_json::{Value, json};
use store::{FailedAttempt, Fate, NewJob, NewServant};

#[tokio::test]
async fn a_connection_is_parked_and_brought_back_and_tells_who_and_why() {
    let desk = Desk::new().await;
    let store = desk.store().await;
    let id = store.create_connection(AccountId::SYSTEM, "acme", &json!({"tier": 1}), None).await.unwrap();
    assert!(desk.run("connections list").await.done().starts_with("ID"));
    // A job of it finds the authorisation gone.
    let kind = Kind::new("noop").unwrap();
    let (host, version) = ("here".to_owned(), "0".to_owned());
    let servant = NewServant { kind: kind.clone(), host, pid: 1, version, concurrency: 4 };
    let servant = store.register_servant(&servant).await.unwrap();
    let new = NewJob { connection: Some(id), ..NewJob::new(kind.clone(), json!({})) };
    store.insert_jobs(&[new]).await.unwrap();
    let until = store.now() + chrono::TimeDelta::minutes(5);
    let lead = store.lead("a test", 60).await.unwrap().unwrap();
    let job = testkit::claim(&store, &lead, servant, &kind, 1, until).await.unwrap().remove(0);
    let failure = Failure { class: ErrorClass::AuthBroken, chain: "the grant\nwas revoked".to_owned(), until: None };
    store.settle(&[FailedAttempt { key: job.key, fate: Fate::Park(failure) }]).await.unwrap();

    let list = desk.run("connections list --state needs_reauth --json").await.json();
    assert_eq!((&list["connections"][0]["id"], &list["next_before"]), (&id.0.into(), &Value::Null));
    let shown = desk.run(&format!("connections show {id}")).await.done();
    assert!(shown.contains("needs_reauth since") && shown.contains("auth_broken: the grant: was revoked"), "{shown}");
    assert!(shown.contains("needs_reauth by servant"), "{shown}");
    let why = desk.run(&format!("jobs why {}", job.key.id)).await.done();
    assert!(why.contains(&format!("servantctl connections reauthorised {id}")), "{why}");

    let done = desk.run(&format!("connections reauthorised {id} --reason they~renewed~it --by ada")).await.done();
    assert!(done.contains(&format!("connection {id} is active")), "{done}");
    let again = desk.run(&format!("connections reauthorised {id} --reason again --by ada")).await;
    again.refused(1, &["is active, which 'reauthorised' does not change"]);
    for (verb, state) in [("park", "parked"), ("disable", "disabled"), ("enable", "active")] {
        let done = desk.run(&format!("connections {verb} {id} --reason a~test --by bob")).await.done();
        assert!(done.contains(&format!("is {state}")), "{done}");
    }
    let detail = desk.run(&format!("connections show {id} --json")).await.json();
    let events: Vec<_> = detail["events"].as_array().unwrap().iter().map(|event| event["what"].clone()).collect();
    assert_eq!(events, ["enabled", "disabled", "parked", "reauthorised", "needs_reauth"]);
    assert_eq!(
        (&detail["events"][3]["by"], &detail["events"][3]["reason"]),
        (&"ada".into(), &"they renewed it".into())
    );

    desk.run("connections show 999").await.refused(1, &["there is no connection 999"]);
    desk.run("connections park 999 --reason x").await.refused(1, &["there is no connection 999"]);
    desk.run("connections list --state gone").await.refused(1, &["'gone' is no state of a connection"]);
    desk.run(&format!("connections park {id}")).await.refused(64, &["--reason"]);
    desk.run(&format!("connections park {id} --reason ~")).await.refused(1, &["reason is empty"]);
}

#[tokio::test]
async fn a_circuit_is_held_open_or_closed_and_let_go_with_a_reason() {
    let desk = Desk::new().await;
    let store = desk.store().await;
    let id = store.create_connection(AccountId::SYSTEM, "acme", &json!({}), None).await.unwrap();
    store.note_service(id, "na1.example.com:443").await.unwrap();
    let new = NewJob { connection: Some(id), ..NewJob::new(Kind::new("noop").unwrap(), json!({})) };
    store.insert_jobs(&[new]).await.unwrap();
    assert_eq!(desk.run("breakers list --json").await.json()["breakers"], Value::Array(Vec::new()));
    let service = "na1.example.com:443";
    desk.run(&format!("breakers clear {service} --reason x")).await.refused(1, &["nobody holds the breaker"]);
    desk.run("breakers open na9 --reason x").await.refused(1, &["no connection works on 'na9'", "connections list"]);
    desk.run(&format!("breakers open {service}")).await.refused(64, &["--reason"]);

    let done = desk.run(&format!("breakers open {service} --reason they~asked --by ada")).await.done();
    assert!(done.contains("is held open"), "{done}");
    let list = desk.run("breakers list --json").await.json();
    let row = &list["breakers"][0];
    assert_eq!(
        (&row["forced"], &row["forced_by"], &row["forced_reason"]),
        (&"open".into(), &"ada".into(), &"they asked".into())
    );
    assert!(desk.run("breakers list").await.done().lines().nth(1).unwrap().starts_with(service));
    let why = desk.run("jobs why 1").await.done();
    assert!(
        why.contains("is held open by ada since") && why.contains(&format!("servantctl breakers clear {service}")),
        "{why}"
    );
    let shown = desk.run(&format!("connections show {id}")).await.done();
    assert!(shown.contains("held open by ada since"), "{shown}");

    desk.run(&format!("breakers clear {service} --reason over --by bob")).await.done();
    desk.run(&format!("breakers close {service} --reason it~is~fine --by bob")).await.done();
    let shown = desk.run(&format!("breakers show {service}")).await.done();
    assert!(shown.contains("recovering since") && shown.contains("held closed by bob"), "{shown}");
    assert!(shown.contains("forced_open by ada: they asked") && shown.contains("cleared by bob: over"), "{shown}");
    desk.run("breakers show na9").await.refused(1, &["no attempt on 'na9' was ever seen"]);
}

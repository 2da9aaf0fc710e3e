//! Anomalies as an operator has them: what each verb prints, refuses and leaves behind.

use crate::operator::Desk;
use domain::{AccountId, AnomalyKind, Severity};
use serde_json::json;
use store::Sighting;

#[tokio::test]
async fn an_anomaly_is_listed_shown_and_dealt_with() {
    let desk = Desk::new().await;
    let store = desk.store().await;
    let connection = store.create_connection(AccountId::SYSTEM, "salesforce", &json!({}), None).await.unwrap();
    assert!(desk.run("anomalies list").await.done().starts_with("ID"));
    for (kind, subject, severity, summary) in [
        (AnomalyKind::FieldLost, "Fax", Severity::Warning, "Contact has lost its field Fax"),
        (AnomalyKind::RecordsDamaged, "", Severity::Critical, "records are in quarantine"),
    ] {
        let evidence = json!({ "records": 3 });
        let seen = Sighting { connection, object: "Contact", kind, subject, severity, summary, evidence: &evidence };
        let mut tx = store.begin().await.unwrap();
        store.note_anomaly(&mut tx, &seen).await.unwrap();
        tx.commit().await.unwrap();
    }
    let list = desk.run(&format!("anomalies list --state open --connection {connection} --json")).await.json();
    let kinds: Vec<_> = list["anomalies"].as_array().unwrap().iter().map(|row| row["kind"].clone()).collect();
    assert_eq!(kinds, ["records_damaged", "field_lost"]);
    let grave = desk.run("anomalies list --severity critical").await.done();
    assert_eq!(grave.lines().count(), 2, "{grave}");
    let page = desk.run("anomalies list --limit 1 --json").await.json();
    let (last, id) = (&page["next_before"], page["anomalies"][0]["id"].clone());
    assert_eq!(last, &id);
    let behind = desk.run(&format!("anomalies list --before {id} --json")).await.json();
    assert_eq!(behind["anomalies"][0]["subject"], "Fax");

    let done = desk.run(&format!("anomalies acknowledge {id} --reason on~it --by ada")).await.done();
    assert!(done.contains(&format!("anomaly {id} is acknowledged")), "{done}");
    let again = desk.run(&format!("anomalies acknowledge {id} --reason on~it")).await;
    again.refused(1, &["is acknowledged, which 'acknowledge' does not change"]);
    let shown = desk.run(&format!("anomalies show {id}")).await.done();
    for wanted in ["records are in quarantine (critical, acknowledged)", "by ada: on it", "\"records\": 3"] {
        assert!(shown.contains(wanted), "{shown}");
    }
    desk.run(&format!("anomalies resolve {id} --reason mended")).await.done();
    desk.run(&format!("anomalies mute {id} --reason enough")).await.done();
    assert_eq!(desk.run(&format!("anomalies show {id} --json")).await.json()["state"], "muted");

    desk.run("anomalies show 999").await.refused(1, &["there is no anomaly 999", "anomalies list"]);
    desk.run("anomalies mute 999 --reason x").await.refused(1, &["there is no anomaly 999"]);
    desk.run("anomalies list --state gone").await.refused(1, &["'gone' is no state of an anomaly"]);
    desk.run("anomalies list --severity loud").await.refused(1, &["'loud' is no severity"]);
    desk.run(&format!("anomalies mute {id}")).await.refused(64, &["--reason"]);
}

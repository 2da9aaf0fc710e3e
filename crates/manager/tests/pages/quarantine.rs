//! Records in quarantine: found, read, dismissed and asked for again on the pages and by the API.

use crate::world::World;
use domain::{AccountId, AnomalyKind, ConnectionId, Severity};
use manager_api::{ByWhom, ClientError, ManagerClient, OverrideRequest, QuarantineQuery};
use serde_json::json;
use store::{Quarantined, Sighting};

const RECORD: &str = "006000000000001AAA";

/// Two records that are damaged, one of them beyond its id, and the anomaly that tells of them.
async fn damage(world: &World) -> (AccountId, ConnectionId) {
    let account = world.store.create_account("Acme").await.unwrap();
    let connection = world.store.create_connection(account, "salesforce", &json!({}), None).await.unwrap();
    let named = Quarantined {
        record_id: Some(RECORD.to_owned()),
        reason: "Amount: '<much>' is no number".to_owned(),
        body: br#"{"Amount": "<much>"}"#.to_vec(),
    };
    let nameless = Quarantined { record_id: None, reason: "it is cut off".to_owned(), body: vec![0xff, 0x00, 0x61] };
    let mut tx = world.store.begin().await.unwrap();
    for record in [named, nameless] {
        world.store.quarantine_records(&mut tx, (account, connection), "Opportunity", &[record]).await.unwrap();
    }
    let evidence = json!({"records": 2});
    let seen = Sighting {
        connection,
        object: "Opportunity",
        kind: AnomalyKind::RecordsDamaged,
        subject: "",
        severity: Severity::Critical,
        summary: "records cannot be stored",
        evidence: &evidence,
    };
    world.store.note_anomaly(&mut tx, &seen).await.unwrap();
    tx.commit().await.unwrap();
    (account, connection)
}

#[tokio::test]
async fn a_record_is_found_read_and_dismissed() {
    let world = World::new().await;
    world.holds("/quarantine", &["None."]).await;
    let (account, connection) = damage(&world).await;
    world.holds("/quarantine", &["Amount: &#39;&#60;much&#62;&#39; is no number", "it is cut off", RECORD]).await;
    world.holds(&format!("/accounts/{account}"), &[&format!(r#"href="/quarantine?account={account}""#)]).await;
    let anomaly = world.store.open_anomalies_of(account, 5).await.unwrap()[0].id;
    let link = format!(r#"href="/quarantine?connection={connection}&#38;object=Opportunity""#);
    world.holds(&format!("/anomalies/{anomaly}"), &[&link]).await;
    world.holds("/anomalies", &[r#"href="/quarantine""#]).await;
    world.lacks(&format!("/quarantine?connection={connection}&object=Lead"), &[RECORD]).await;
    world
        .holds("/quarantine/1", &["{&#34;Amount&#34;: &#34;&#60;much&#62;&#34;}", "as text", "Ask for it again"])
        .await;
    world.holds("/quarantine/2", &["ff 00 61", "as hex", "its id cannot be read", "Dismiss"]).await;
    world.lacks("/quarantine/2", &["Ask for it again"]).await;
    assert!(world.page("/quarantine/99", 404).await.contains("there is no record 99 in quarantine"));

    let why = [("by", "ada"), ("reason", "known <since> May")];
    let to = world.submit("/quarantine?object=Opportunity", "/quarantine/1/dismiss", &why).await;
    assert_eq!(to, "/quarantine?object=Opportunity", "back with the filter");
    world.holds("/quarantine/1", &["dismissed by ada", "known &#60;since&#62; May", "Ask for it again"]).await;
    world.lacks("/quarantine/1", &["Dismiss</summary>"]).await;
    world.lacks("/quarantine", &[RECORD]).await;
    world.holds("/quarantine?state=dismissed", &[RECORD, r#"aria-current="true">dismissed"#]).await;
    world.holds("/quarantine?state=all", &[RECORD, "it is cut off"]).await;
    world.holds("/audit", &["dismiss record", "quarantine 1", "known &#60;since&#62; May"]).await;
    assert!(world.refused("/quarantine/1/dismiss", &why, 409).await.contains("only an open one is dismissed"));
    let text = world.refused("/quarantine/2/dismiss", &[("by", "ada"), ("reason", " ")], 400).await;
    assert!(text.contains("reason is empty"), "{text}");
}

#[tokio::test]
async fn a_record_is_asked_for_again_once() {
    let world = World::new().await;
    let (account, _) = damage(&world).await;
    let client = ManagerClient::new(&world.url).unwrap();
    let page = client.quarantine(&QuarantineQuery { limit: Some(1), ..QuarantineQuery::default() }).await.unwrap();
    assert_eq!((page.records[0].id, page.next_before), (2, Some(2)));
    let rest = QuarantineQuery { before: Some(2), account: Some(account.0), ..QuarantineQuery::default() };
    let page = client.quarantine(&rest).await.unwrap();
    assert_eq!((page.records[0].id, page.records[0].state.as_str(), page.records.len()), (1, "open", 1));
    let wrong = QuarantineQuery { state: Some("muted".into()), ..QuarantineQuery::default() };
    assert!(matches!(client.quarantine(&wrong).await, Err(ClientError::Refused { status: 400, .. })));

    assert_eq!(world.submit("/quarantine/1", "/quarantine/1/retry", &[]).await, "/quarantine/1");
    world.holds("/quarantine/1", &["Asked for again"]).await;
    let again = client.retry_quarantined(1, &ByWhom::default()).await.unwrap();
    assert!(again.duplicate, "one is on its way");
    let job = client.job(again.id.unwrap()).await.unwrap().job;
    assert_eq!((job.kind.as_str(), job.account_id), ("salesforce_reconcile", account.0));
    for (id, words) in [(2, "cannot be read"), (99, "there is no record 99")] {
        let refused = client.retry_quarantined(id, &ByWhom::default()).await.unwrap_err();
        assert!(refused.to_string().contains(words), "{refused}");
    }
    let request = OverrideRequest { reason: "they know".into(), by: Some("ada".into()) };
    assert_eq!(client.dismiss_quarantined(2, &request).await.unwrap().state, "dismissed");
    assert_eq!(client.quarantined(2).await.unwrap().body, "ff 00 61\n");
}

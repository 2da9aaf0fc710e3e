//! Records in quarantine: found, read, dismissed and asked for again on the pages and by the API.

use crate::world::World;
use domain::{AccountId, AnomalyKind, ConnectionId, Severity};
use manager_api::{ByWhom, ClientError, ManagerClient, OverrideRequest, QuarantineQuery};
use serde_json::json;
use store::{PageOrigin, Quarantined, Sighting};

const RECORD: &str = "006000000000001AAA";

/// Two records that are damaged, one of them beyond its id, and the anomaly that tells of them.
async fn damage(world: &World) -> (AccountId, ConnectionId) {
    let account = world.store.create_account("Acme").await.unwrap();
    let connection = world.store.create_connection(account, "salesforce", &json!({}), None).await.unwrap();
    let named = Quarantined {
        record_id: Some(RECORD.to_owned()),
        reason: "Amount: '<much>' is no number".to_owned(),
        body: br#"{"Amount": "<much>"}"#.to_vec(),
        ..Quarantined::default()
    };
    let nameless =
        Quarantined { reason: "it is cut off".to_owned(), body: vec![0xff, 0x00, 0x61], ..Quarantined::default() };
    let origin = PageOrigin { account, connection, read_at: world.store.now() };
    let mut tx = world.store.begin().await.unwrap();
    for record in [named, nameless] {
        world.store.quarantine_records(&mut tx, origin, "Opportunity", &[record]).await.unwrap();
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

/// One more of the first connection.
async fn keep(world: &World, record: Quarantined) {
    let row = world.store.find_quarantined(1, 0).await.unwrap().unwrap().0;
    let origin = PageOrigin { account: row.account, connection: row.connection, read_at: world.store.now() };
    let mut tx = world.store.begin().await.unwrap();
    world.store.quarantine_records(&mut tx, origin, &row.object, &[record]).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_record_of_several_versions_is_one_entry_that_leads_to_all_of_them() {
    let world = World::new().await;
    let (_, connection) = damage(&world).await;
    let (reason, body) = ("Amount: 'more' is no number".to_owned(), b"more".to_vec());
    let record_id = Some(RECORD.to_owned());
    keep(&world, Quarantined { record_id, is_deleted: Some(true), reason, body, ..Quarantined::default() }).await;
    world.lacks("/quarantine", &["much"]).await;
    let all = format!("/quarantine?state=all&#38;connection={connection}&#38;object=Opportunity&#38;record={RECORD}");
    let link = format!(r#"href="{all}""#);
    world.holds("/quarantine", &["more", "2 versions", &link]).await;
    world.holds("/quarantine/3", &[&link, "2 so far", "recycle bin", "Ask for it again"]).await;
    world.holds(&all.replace("&#38;", "&"), &["more", "much"]).await;
    world.holds("/quarantine/1", &["a later version of the record is in quarantine", "much"]).await;
    world.lacks("/quarantine/1", &["Ask for it again"]).await;
    let client = ManagerClient::new(&world.url).unwrap();
    let query = QuarantineQuery { state: Some("open".into()), ..QuarantineQuery::default() };
    let open = client.quarantine(&query).await.unwrap().records;
    let of: Vec<_> = open.iter().map(|record| (record.id, record.versions, record.is_deleted)).collect();
    assert_eq!(of, [(3, 2, Some(true)), (2, 1, None)]);
    let record = Some(RECORD.to_owned());
    let query = QuarantineQuery { record, connection: Some(connection.0), ..QuarantineQuery::default() };
    let refused = client.quarantine(&query).await.unwrap_err().to_string();
    assert!(refused.contains("record goes with object"), "{refused}");
    let object = Some("Opportunity".to_owned());
    let versions = client.quarantine(&QuarantineQuery { object, ..query }).await.unwrap().records;
    assert_eq!(versions.iter().map(|record| record.id).collect::<Vec<_>>(), [3, 1]);
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
    // A text that is no id can be read, and nobody can be asked for it: told at once, and not by a job that fails.
    let (reason, body) = ("the record has no valid Id".to_owned(), b"what?,Acme".to_vec());
    keep(&world, Quarantined { record_id: Some("what?".to_owned()), reason, body, ..Quarantined::default() }).await;
    world.holds("/quarantine/3", &["what?", "this is no id", "Dismiss"]).await;
    world.lacks("/quarantine/3", &["Ask for it again"]).await;
    let refused = client.retry_quarantined(3, &ByWhom::default()).await.unwrap_err().to_string();
    assert!(refused.contains("is damaged and none that the vendor knows"), "{refused}");
    let record = client.quarantined(3).await.unwrap().record;
    assert_eq!((record.is_askable, record.retried_at), (false, None));
    let request = OverrideRequest { reason: "they know".into(), by: Some("ada".into()) };
    assert_eq!(client.dismiss_quarantined(2, &request).await.unwrap().state, "dismissed");
    assert_eq!(client.quarantined(2).await.unwrap().body, "ff 00 61\n");
}

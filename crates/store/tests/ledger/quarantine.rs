//! Records in quarantine: what a person makes of one, what becomes of it by itself, and when it is forgotten.

use crate::world::World;
use chrono::{DateTime, Days, TimeDelta, Utc};
use domain::{AccountId, ConnectionId, QuarantineState, action};
use store::{AuditFilter, Dismissed, Inserted, PageOrigin, QuarantineFilter, QuarantineRow, Quarantined, RecordRetry};

const RECORD: &str = "006000000000001AAA";

/// Keeps one of these bytes; answers with how many are open then.
async fn keep(world: &World, connection: ConnectionId, object: &str, body: &str) -> usize {
    let record_id = Some(RECORD.to_owned()).filter(|_| body != "nameless");
    let reason = format!("Amount: '{body}' is no number");
    let record = Quarantined { record_id, reason, body: body.into(), ..Quarantined::default() };
    keep_read_at(world, (connection, object), world.clock.now(), &[record]).await
}

/// Keeps these, of a page that shows nothing older than `read_at`.
async fn keep_read_at(
    world: &World,
    (connection, object): (ConnectionId, &str),
    read_at: DateTime<Utc>,
    records: &[Quarantined],
) -> usize {
    let account = AccountId(world.store.find_connection(connection).await.unwrap().unwrap().account_id);
    let origin = PageOrigin { account, connection, read_at };
    let mut tx = world.store.begin().await.unwrap();
    let open = world.store.quarantine_records(&mut tx, origin, object, records).await.unwrap();
    tx.commit().await.unwrap();
    open
}

async fn search(world: &World, filter: QuarantineFilter) -> Vec<QuarantineRow> {
    world.store.search_quarantine(&filter, 50).await.unwrap()
}

async fn row(world: &World, id: i64) -> QuarantineRow {
    world.store.find_quarantined(id, 100).await.unwrap().unwrap().0
}

async fn gone(world: &World, connection: ConnectionId) -> u64 {
    let mut tx = world.store.begin().await.unwrap();
    let ids = [RECORD.to_owned()];
    let gone = world.store.resolve_gone(&mut tx, connection, "Opportunity", &ids).await.unwrap();
    tx.commit().await.unwrap();
    gone
}

#[tokio::test]
async fn lists_go_by_number_and_by_every_filter() {
    let world = World::new().await;
    let (one, other) = (world.connection("salesforce").await, world.connection("salesforce").await);
    for (connection, object, body) in [(one, "Opportunity", "a"), (one, "Lead", "b"), (other, "Opportunity", "c")] {
        assert_eq!(keep(&world, connection, object, body).await, 1);
    }
    let all = search(&world, QuarantineFilter::default()).await;
    let objects: Vec<_> = all.iter().map(|row| (row.connection, row.object.as_str())).collect();
    assert_eq!(objects, [(other, "Opportunity"), (one, "Lead"), (one, "Opportunity")], "the newest first");
    let of = |connection, account, object: Option<&str>, before| QuarantineFilter {
        state: Some(QuarantineState::Open),
        connection,
        account,
        object: object.map(str::to_owned),
        record: None,
        before,
    };
    assert_eq!(search(&world, of(Some(one), None, Some("Lead"), None)).await, [all[1].clone()]);
    assert_eq!(search(&world, of(None, Some(all[0].account), None, Some(all[0].id))).await.len(), {
        all[1..].iter().filter(|row| row.account == all[0].account).count()
    });
    assert_eq!(search(&world, of(Some(one), None, Some("Opportunity"), Some(all[1].id))).await, [all[2].clone()]);
    let elsewhere = of(Some(one), Some(AccountId(all[0].account.0 + 99)), None, None);
    assert_eq!(search(&world, elsewhere).await, []);
    let resolved = QuarantineFilter { state: Some(QuarantineState::Resolved), ..QuarantineFilter::default() };
    assert_eq!(search(&world, resolved).await, []);
    let (found, bytes) = world.store.find_quarantined(all[2].id, 100).await.unwrap().unwrap();
    assert_eq!((found.bytes, bytes.as_slice()), (1, &b"a"[..]));
    assert_eq!(world.store.find_quarantined(999, 100).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_dismissed_rests_until_it_is_over_and_is_open_when_it_comes_again() {
    let world = World::new().await;
    let connection = world.connection("salesforce").await;
    keep(&world, connection, "Opportunity", "a").await;
    let id = search(&world, QuarantineFilter::default()).await[0].id;
    let granted = testkit::granted_to::<action::DismissRecord>("ada", "they know");
    let Dismissed::Done(dismissed) = world.store.dismiss_quarantined(&granted, id).await.unwrap() else {
        panic!("it was open")
    };
    assert_eq!((dismissed.state_by.as_str(), dismissed.state_reason.as_str()), ("ada", "they know"));
    assert_eq!(row(&world, id).await, *dismissed);
    let again = world.store.dismiss_quarantined(&granted, id).await.unwrap();
    assert_eq!(again, Dismissed::Senseless(QuarantineState::Dismissed));
    assert_eq!(world.store.dismiss_quarantined(&granted, 999).await.unwrap(), Dismissed::Missing);
    let audit = world.store.list_audit(&AuditFilter::default(), 10).await.unwrap();
    let audit = audit.iter().filter(|row| row.action != "create_connection");
    let noted: Vec<_> = audit.map(|row| (row.action.as_str(), row.key.clone(), row.reason.as_str())).collect();
    assert_eq!(noted, [("dismiss_record", id.to_string(), "they know")], "once");

    world.clock.advance(TimeDelta::minutes(1));
    assert_eq!(keep(&world, connection, "Opportunity", "a").await, 0, "the same bytes rest");
    let mut tx = world.store.begin().await.unwrap();
    assert!(!world.store.has_quarantined(&mut tx, connection, "Opportunity").await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(world.store.list_quarantined(connection, None, 10).await.unwrap().len(), 1, "but are there");
    assert_eq!(keep(&world, connection, "Opportunity", "b").await, 1, "other bytes are news");

    assert_eq!(row(&world, id).await.state, QuarantineState::Resolved, "its record stands there with other bytes");
    assert_eq!((gone(&world, connection).await, gone(&world, connection).await), (1, 0));
    assert_eq!(world.store.list_quarantined(connection, None, 10).await.unwrap(), []);
    assert_eq!(
        (row(&world, id).await.state, row(&world, id).await.state_by),
        (QuarantineState::Resolved, "servant".to_owned())
    );
    assert_eq!(keep(&world, connection, "Opportunity", "a").await, 1);
    let row = row(&world, id).await;
    assert_eq!((row.state, row.state_reason.as_str(), row.state_since), (QuarantineState::Open, "", world.clock.now()));
}

#[tokio::test]
async fn a_record_is_one_entry_and_the_version_that_was_read_last_stands_for_it() {
    let world = World::new().await;
    let connection = world.connection("salesforce").await;
    let at = |secs| DateTime::from_timestamp(1_700_000_000 + secs, 0).unwrap();
    let version = |body: &str, stamp: Option<i64>| Quarantined {
        record_id: Some(RECORD.to_owned()),
        version_at: stamp.map(at),
        is_deleted: Some(body == "binned"),
        reason: format!("'{body}' is no number"),
        body: body.into(),
    };
    let keep = async |secs, records: &[Quarantined]| {
        keep_read_at(&world, (connection, "Opportunity"), at(secs), records).await
    };
    let open = async || -> Vec<(String, i32)> {
        let filter = QuarantineFilter { state: Some(QuarantineState::Open), ..QuarantineFilter::default() };
        search(&world, filter).await.into_iter().map(|row| (row.reason, row.versions)).collect()
    };
    let is_open = |body: &str, versions| vec![(format!("'{body}' is no number"), versions)];
    assert_eq!(keep(10, &[version("one", Some(1))]).await, 1);
    let first = search(&world, QuarantineFilter::default()).await.remove(0);
    assert_eq!((first.version_at, first.is_deleted, first.versions), (Some(at(1)), Some(false), 1));
    assert_eq!(keep(20, &[version("two", Some(15))]).await, 1);
    assert_eq!(open().await, is_open("two", 2));
    let (ended, bytes) = world.store.find_quarantined(first.id, 100).await.unwrap().unwrap();
    assert_eq!((ended.state, ended.state_by.as_str()), (QuarantineState::Resolved, "servant"));
    assert_eq!(ended.state_reason, "a later version of the record is in quarantine");
    assert_eq!(bytes, b"one", "they are kept");
    // Pages come in no order: what was read before is no news, whether or not it was known.
    assert_eq!(keep(10, &[version("one", Some(1))]).await, 0);
    assert_eq!(keep(5, &[version("before", Some(0))]).await, 0);
    assert_eq!(open().await, is_open("two", 3));
    // Of one page the newer stamp, and what was read last whatever its stamp is.
    assert_eq!(keep(30, &[version("four", Some(29)), version("three", Some(28))]).await, 1);
    assert_eq!(open().await[0].0, "'four' is no number");
    assert_eq!(keep(40, &[version("no stamp", None)]).await, 1);
    assert_eq!(keep(50, &[version("back-dated", Some(2))]).await, 1);
    assert_eq!(open().await[0].0, "'back-dated' is no number");
    // One that rests gives way to other bytes, and they are open.
    let of_record = || QuarantineFilter {
        connection: Some(connection),
        object: Some("Opportunity".to_owned()),
        record: Some(RECORD.to_owned()),
        ..QuarantineFilter::default()
    };
    let id = search(&world, of_record()).await[0].id;
    let granted = testkit::granted_to::<action::DismissRecord>("ada", "they know");
    world.store.dismiss_quarantined(&granted, id).await.unwrap();
    assert_eq!(keep(55, &[version("back-dated", Some(2))]).await, 0, "it rests");
    assert_eq!(keep(60, &[version("binned", Some(59))]).await, 1);
    let all = search(&world, of_record()).await;
    assert_eq!((all.len(), all[0].is_deleted), (8, Some(true)));
    let unresolved = all.iter().filter(|row| row.state != QuarantineState::Resolved);
    assert_eq!(unresolved.count(), 1);
    let elsewhere = QuarantineFilter { record: Some("006000000000002AAA".to_owned()), ..of_record() };
    assert_eq!(search(&world, elsewhere).await, []);
}

#[tokio::test]
async fn one_is_asked_for_again_by_one_job_and_only_where_somebody_can_ask() {
    let world = World::new().await;
    let connection = world.connection("salesforce").await;
    keep(&world, connection, "Opportunity", "a").await;
    keep(&world, connection, "Opportunity", "nameless").await;
    let rows = search(&world, QuarantineFilter::default()).await;
    let (nameless, id) = (rows[0].id, rows[1].id);
    let granted = testkit::granted_to::<action::RetryRecord>("ada", "");
    let request = uuid::Uuid::new_v4();
    let retry = async |id| world.store.retry_quarantined(&granted, id, request).await.unwrap();
    assert_eq!(retry(nameless).await, RecordRetry::Nameless);
    assert_eq!(retry(999).await, RecordRetry::Missing);
    let RecordRetry::Asked(Inserted::New(job)) = retry(id).await else { panic!("it is asked for") };
    assert_eq!(retry(id).await, RecordRetry::Asked(Inserted::Duplicate(Some(job))));
    let found = world.store.find_job(job).await.unwrap().unwrap();
    let payload = serde_json::json!({"object": "Opportunity", "records": ["006000000000001AAA"]});
    assert_eq!((found.kind.as_str(), found.priority), ("salesforce_reconcile", 0));
    assert_eq!(found.connection_id, Some(connection));
    assert_eq!(found.payload, domain::Sensitive::new(payload));
    assert_eq!(row(&world, id).await.retried_at, Some(world.clock.now()));
    let audit = world.store.list_audit(&AuditFilter::default(), 10).await.unwrap();
    let of_jobs = audit.iter().filter(|row| row.subject == "job").count();
    let of_records = audit.iter().filter(|row| row.action == "retry_record" && row.subject == "quarantine").count();
    assert_eq!((of_jobs, of_records), (1, 2), "each asking, and the one job");

    let park = testkit::granted_to::<action::ParkConnection>("ada", "a test");
    assert!(world.store.change_connection(&park, connection).await.unwrap());
    assert_eq!(retry(id).await, RecordRetry::AtRest("parked".to_owned()));
    gone(&world, connection).await;
    assert_eq!(retry(id).await, RecordRetry::Senseless);
}

#[tokio::test]
async fn only_what_is_over_or_rests_unseen_is_forgotten() {
    let world = World::new().await;
    let connection = world.connection("salesforce").await;
    for body in ["dismissed", "seen", "nameless"] {
        keep(&world, connection, "Opportunity", body).await;
    }
    for row in search(&world, QuarantineFilter::default()).await.iter().filter(|row| row.record_id.is_some()) {
        let granted = testkit::granted_to::<action::DismissRecord>("ada", "they know");
        world.store.dismiss_quarantined(&granted, row.id).await.unwrap();
    }
    world.clock.advance(TimeDelta::days(31));
    assert_eq!(keep(&world, connection, "Opportunity", "seen").await, 0);
    let lead = world.store.lead("boot-1", 10).await.unwrap().unwrap();
    let cutoff = world.clock.now() - Days::new(30);
    assert_eq!(world.store.forget_quarantined(&lead, cutoff, 10).await.unwrap(), 1);
    let left = search(&world, QuarantineFilter::default()).await;
    let left: Vec<_> = left.iter().map(|row| (row.state, row.bytes)).collect();
    let open = (QuarantineState::Open, i64::try_from("nameless".len()).unwrap());
    assert_eq!(left, [open, (QuarantineState::Dismissed, 4)], "what is shown still, and what nobody has seen to");
}

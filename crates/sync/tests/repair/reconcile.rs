//! Records that windows cannot see go, come and change: hard deletes, merges, lost sight, formulas, late changes.

use crate::world::{OBJECT, World, nothing};
use chrono::{TimeDelta, Utc};
use domain::{AnomalyKind, AnomalyState, DeleteFuse};
use fakes::salesforce::{
    Call, Content, Damage, DataFault, DataOrder, Fault, Merge, Mutation, Options as FakeOptions, Order,
};
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};
use store::{ChangeCursor, ChangeOp};
use sync::{Asked, Begun, Release, Snapshot};
use testkit::eventually;

#[tokio::test]
async fn what_is_shown_no_more_is_marked_deleted_and_comes_back() {
    for rest_rows_max in [20_000, 0] {
        let mut world = World::new().await;
        // By REST, then in bulk.
        world.settings.rest_rows_max = rest_rows_max;
        let ids = world.ids();
        world.mutate(Mutation {
            hard_delete: vec![ids[2].clone()],
            purge: vec![ids[3].clone()],
            lose: vec![ids[4].clone()],
            merge: vec![Merge { master: ids[5].clone(), losers: vec![ids[6].clone()] }],
            ..Mutation::default()
        });
        let compared = world.compare().await;
        assert_eq!((compared.fetched, compared.patched, compared.deleted), (2, 0, 3), "master and loser are read");
        assert_eq!(compared.outcome.held, None);
        world.assert_equal().await;
        let stored = world.stored().await;
        assert_eq!(stored[&ids[6]]["masterrecordid"], json!(ids[5]));
        // Changes are told once whatever ran beside them has ended, and on this server other tests do.
        eventually(Duration::from_secs(20), "four deletes to be told", async || {
            let (changes, _) = world.store.read_changes(world.account, ChangeCursor::default(), 10_000).await.unwrap();
            (changes.iter().filter(|change| change.op == ChangeOp::Delete).count() == 4).then_some(())
        })
        .await;

        let again = world.compare().await;
        assert_eq!((again.fetched, again.patched, again.deleted), (0, 0, 0), "once is enough");
        world.mutate(Mutation { regain: vec![ids[4].clone()], ..Mutation::default() });
        // What was seen to be gone is brought back by what was read later, and stamps are whole seconds.
        eventually(Duration::from_secs(20), "the record to be back", async || {
            (world.compare().await.fetched == 1).then_some(())
        })
        .await;
        world.assert_equal().await;
        // A comparison that came within the second of the change has seen counts that differ; the next does not.
        eventually(Duration::from_secs(20), "the counts to agree", async || {
            world.compare().await;
            world
                .anomaly(AnomalyKind::CountsDiffer, "")
                .await
                .is_none_or(|row| row.state == AnomalyState::Resolved)
                .then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn too_many_deletes_are_held_until_somebody_lets_them_go() {
    let world = World::new().await;
    let ids = world.ids();
    world.mutate(Mutation { lose: ids[..20].to_vec(), ..Mutation::default() });
    let compared = world.compare().await;
    let held = compared.outcome.held.expect("20 of 150 are more than 5 %");
    assert_eq!((held.absent, held.live, compared.deleted), (20, ids.len() as u64, 0));
    let row = world.assert_anomaly(AnomalyKind::DeletesHeld, "", AnomalyState::Open).await;
    assert_eq!((&row.evidence["absent"], row.sightings), (&json!(20), 1));
    assert!(row.evidence["to_let_them_go"].as_str().unwrap().contains("release_fuse"));
    world.assert_anomaly(AnomalyKind::CountsDiffer, "", AnomalyState::Open).await;
    assert!(world.stored().await.values().all(|row| row["is_deleted"] == false));
    world.compare().await;
    assert_eq!(world.assert_anomaly(AnomalyKind::DeletesHeld, "", AnomalyState::Open).await.sightings, 2);

    let release = Release { reason: "they left that region".to_owned() };
    assert_eq!(world.compare_with(Some(&release)).await.deleted, 20);
    world.assert_equal().await;
    let row = world.assert_anomaly(AnomalyKind::DeletesHeld, "", AnomalyState::Resolved).await;
    assert_eq!(row.state_reason, "let go: they left that region");
    world.assert_anomaly(AnomalyKind::CountsDiffer, "", AnomalyState::Resolved).await;
}

#[tokio::test]
async fn the_fuse_counts_by_number_too() {
    let mut world = World::new().await;
    world.settings.fuse = DeleteFuse { pct_max: 100, rows_max: 2 };
    let ids = world.ids();
    world.mutate(Mutation { purge: ids[..3].to_vec(), ..Mutation::default() });
    assert_eq!(world.compare().await.outcome.held.unwrap().absent, 3);
    world.settings.fuse.rows_max = 3;
    assert_eq!(world.compare().await.deleted, 3);
    world.assert_anomaly(AnomalyKind::DeletesHeld, "", AnomalyState::Resolved).await;
}

#[tokio::test]
async fn what_cannot_be_given_in_time_is_compared_in_the_order_of_its_ids() {
    let content = Content::Generated { records: 15_000, seed: 11 };
    let mut world = World::with(FakeOptions { content, bulk_delay_ms: 0, ..FakeOptions::default() }).await;
    let ids = world.ids();
    assert!(ids.len() > 2_000, "more than one page");
    world.mutate(Mutation { hard_delete: ids[..3].to_vec(), ..Mutation::default() });
    let queries = || world.fake.stats().calls.get(&Call::Query).copied().unwrap_or(0);
    let job = world.job().await;
    let mut snapshot = world.begin(job).await;
    world.fake.order(Order { on: Some(Call::Query), ..Order::new(Fault::QueryTimeout, 1) });
    let (before, mut compared) = (queries(), nothing());
    assert!(world.page(&mut snapshot, &mut compared).await);
    // Whoever comes after a kill goes on from there.
    drop(snapshot);
    let mut snapshot = world.begin(job).await;
    assert_eq!(snapshot.rows_expected(), Some(2_000));
    world.end(&mut snapshot, &mut compared, None).await;
    drop(snapshot);
    assert_eq!(compared.deleted, 3);
    assert!(!compared.outcome.differ, "{compared:?}");
    // What was late, two pages, and what was absent once more.
    assert_eq!(queries() - before, 4, "no page came twice");
    world.assert_equal().await;
    // A bulk job that comes to nothing is no other.
    world.settings.rest_rows_max = 0;
    world.mutate(Mutation { hard_delete: ids[3..5].to_vec(), ..Mutation::default() });
    world.fake.fault(Fault::BulkJobFailed, 1);
    assert_eq!(world.compare().await.deleted, 2);
    assert!(world.fake.pending_faults().is_empty());
    world.assert_equal().await;
}

#[tokio::test]
async fn formulas_follow_without_a_stamp() {
    let world = World::new().await;
    let ids = world.ids();
    let before = world.stored().await;
    let recalculate = ids[..7].iter().map(|id| json!({ "Id": id, "Health__c": "12.50" }).as_object().unwrap().clone());
    world.mutate(Mutation { recalculate: recalculate.collect(), ..Mutation::default() });
    assert_eq!(world.sync().await, 0, "no window sees it");
    let compared = world.compare().await;
    assert_eq!((compared.fetched, compared.patched, compared.deleted), (0, 7, 0));
    world.assert_equal().await;
    let after = world.stored().await;
    assert_eq!((&after[&ids[0]]["health__c"], &after[&ids[0]]["name"]), (&json!(12.5), &before[&ids[0]]["name"]));
    assert_eq!(world.compare().await.patched, 0);
    // The hash is what a whole read gives: reading everything again changes nothing.
    assert_eq!(read_all_again(&world).await, 0);
}

#[tokio::test]
async fn formulas_of_an_object_with_too_many_fields_for_a_row_follow_by_whole_records() {
    let content = Content::One { object: OBJECT.to_owned(), records: 100, columns: 500, seed: 3 };
    let world = World::with(FakeOptions { content, page_size: 40, ..FakeOptions::default() }).await;
    let ids = world.ids();
    let recalculate = ids[..7].iter().map(|id| json!({ "Id": id, "Health__c": "12.50" }));
    let recalculate = recalculate.map(|record| record.as_object().unwrap().clone()).collect();
    world.mutate(Mutation { recalculate, ..Mutation::default() });
    assert_eq!(world.sync().await, 0, "no window sees it");
    let compared = world.compare().await;
    assert_eq!((compared.fetched, compared.patched, compared.deleted), (7, 0, 0));
    world.assert_equal().await;
    let again = world.compare().await;
    assert_eq!((again.fetched, again.patched), (0, 0));
}

/// Reads the window of all time; answers with the rows that changed.
async fn read_all_again(world: &World) -> u64 {
    let source = sync::Source { overlap: TimeDelta::days(20_000), ..world.source() };
    let mut pass = sync::Pass::begin(source, OBJECT).await.unwrap();
    let mut changed = 0;
    loop {
        let page = pass.next_page().await.unwrap();
        let mut tx = world.store.begin().await.unwrap();
        let written = pass.write(&mut tx, &page).await.unwrap();
        tx.commit().await.unwrap();
        changed += written.changed;
        let is_last = written.is_last;
        pass.committed(written).await.unwrap();
        if is_last {
            return changed;
        }
    }
}

#[tokio::test]
async fn a_change_that_no_window_reached_is_found_and_told() {
    let world = World::new().await;
    world.compare().await;
    let at = Utc::now() - TimeDelta::hours(5);
    let sql = sqlx::PgPool::connect(world.database.url()).await.unwrap();
    sqlx::query("UPDATE streams SET reconciled_at = now() - interval '1 day'").execute(&sql).await.unwrap();
    world.mutate(Mutation {
        upsert: vec![json!({ "Id": world.ids()[1], "Name": "late" }).as_object().unwrap().clone()],
        system_modstamp: Some(at),
        ..Mutation::default()
    });
    assert_eq!(world.sync().await, 0, "five hours are more than the overlap");
    assert_eq!(world.compare().await.fetched, 1);
    world.assert_equal().await;
    let row = world.assert_anomaly(AnomalyKind::ChangesLate, "missed", AnomalyState::Open).await;
    assert_eq!(row.evidence["records"], json!(1));
    world.compare().await;
    world.assert_anomaly(AnomalyKind::ChangesLate, "missed", AnomalyState::Resolved).await;
}

#[tokio::test]
async fn a_kill_costs_a_page_and_what_was_written_meanwhile_stays() {
    let world = World::new().await;
    let ids = world.ids();
    let mut compared = nothing();
    let job = world.job().await;
    let mut doomed = world.begin(job).await;
    world.page(&mut doomed, &mut compared).await;
    world.page(&mut doomed, &mut compared).await;
    drop(doomed.step().await.unwrap());
    drop(doomed);
    let pages = world.fake.stats().pages;
    // Somebody makes a record that the reading cannot meet any more, and the sync stores it.
    world.upsert(&json!({ "Name": "meanwhile" }));
    world.sync().await;
    let synced = world.fake.stats().pages - pages;
    let mut heir = world.begin(job).await;
    world.end(&mut heir, &mut compared, None).await;
    assert_eq!((compared.deleted, compared.fetched), (0, 0));
    world.assert_equal().await;
    // 150 accounts are four pages: two are left, beside the two counts.
    let all = ids.len().div_ceil(40) as u64;
    let sent = world.fake.stats().pages - pages - synced;
    assert!(sent <= all - 2 + 2, "{sent} pages");
}

#[tokio::test]
async fn one_job_reads_an_object_at_a_time_and_a_lost_cursor_begins_again() {
    let world = World::new().await;
    let (one, two) = (world.job().await, world.job().await);
    let sql = sqlx::PgPool::connect(world.database.url()).await.unwrap();
    let mut first = world.begin(one).await;
    let mut compared = nothing();
    world.page(&mut first, &mut compared).await;
    sqlx::query("UPDATE jobs SET state = 3 WHERE id = $1").bind(one.0).execute(&sql).await.unwrap();
    let busy = Snapshot::begin(world.source(), OBJECT, two, world.settings).await.unwrap();
    assert!(matches!(busy, Begun::Busy));
    world.fake.order(Order { on: Some(Call::QueryNext), ..Order::new(Fault::CursorExpired, 1) });
    first.step().await.unwrap_err();
    let mut second = world.begin(two).await;
    world.end(&mut second, &mut compared, None).await;
    assert_eq!(compared.deleted, 0);
    world.assert_equal().await;
}

#[tokio::test]
async fn damaged_records_are_there_and_absence_is_looked_at_twice() {
    let world = World::new().await;
    let struck = world.fake.data_fault(&DataOrder::new(DataFault::DamagedRecord, OBJECT, 3)).unwrap();
    let compared = world.compare().await;
    assert_eq!(compared.deleted, 0, "a record that cannot be read is there");
    world.upsert(&json!({ "Id": struck.ids[0], "Name": "touched" }));
    world.sync().await;
    world.assert_anomaly(AnomalyKind::RecordsDamaged, "", AnomalyState::Open).await;
    assert!(!world.compare().await.outcome.differ, "what is in quarantine counts");
    let field = struck.field.unwrap();
    let mend = struck.ids.iter().map(|id| json!({ "Id": id, field.as_str(): null }).as_object().unwrap().clone());
    world.mutate(Mutation { upsert: mend.collect(), ..Mutation::default() });
    world.sync().await;
    world.compare().await;
    world.assert_anomaly(AnomalyKind::RecordsDamaged, "", AnomalyState::Resolved).await;
    world.assert_equal().await;
}

#[tokio::test]
async fn a_damaged_record_in_the_recycle_bin_counts_on_neither_side() {
    let world = World::new().await;
    let struck = world.fake.data_fault(&DataOrder::new(DataFault::DamagedRecord, OBJECT, 3)).unwrap();
    let field = struck.field.unwrap();
    // One of which an older version is stored, and one of which none is.
    let before: BTreeSet<String> = world.ids().into_iter().collect();
    world.upsert(&json!({ "Name": "newcomer" }));
    let newcomer = world.ids().into_iter().find(|id| !before.contains(id)).unwrap();
    let both = vec![struck.ids[0].clone(), newcomer.clone()];
    let damage = Damage { id: newcomer, field: field.clone(), text: "about seven".to_owned() };
    world.mutate(Mutation { damage: vec![damage], ..Mutation::default() });
    world.upsert(&json!({ "Id": both[0], "Name": "touched" }));
    world.sync().await;
    let agree_on = async |quarantined: u64| {
        // Stamps are whole seconds: a comparison within that of the change may not have met it.
        eventually(Duration::from_secs(20), "the counts to agree", async || {
            let outcome = world.compare().await.outcome;
            let (ours, ours_damaged, theirs) = outcome.counts.unwrap();
            (!outcome.differ && ours + ours_damaged == theirs && ours_damaged == quarantined).then_some(())
        })
        .await;
    };
    agree_on(1).await;
    world.mutate(Mutation { delete: both.clone(), ..Mutation::default() });
    world.sync().await;
    agree_on(0).await;
    let rows = world.store.list_quarantined(world.connection, None, 100).await.unwrap();
    assert!(both.iter().all(|id| rows.iter().any(|row| row.record_id.as_ref() == Some(id))), "they are kept");
    world.mutate(Mutation { undelete: both, ..Mutation::default() });
    world.sync().await;
    agree_on(1).await;
}

#[tokio::test]
async fn a_record_without_a_readable_id_leaves_quarantine_once_all_records_came_with_theirs() {
    let world = World::new().await;
    let before: BTreeSet<String> = world.ids().into_iter().collect();
    world.upsert(&json!({ "Name": "newcomer" }));
    let newcomer = world.ids().into_iter().find(|id| !before.contains(id)).unwrap();
    let id_is = |text: &str| Mutation {
        damage: vec![Damage { id: newcomer.clone(), field: "Id".to_owned(), text: text.to_owned() }],
        ..Mutation::default()
    };
    let kept = async || world.store.list_quarantined(world.connection, None, 100).await.unwrap();
    world.mutate(id_is("no id"));
    assert_eq!(world.sync().await, 0, "it cannot be stored");
    assert_eq!(kept().await.len(), 1);
    let outcome = world.compare().await.outcome;
    assert!(!outcome.differ, "{outcome:?}");
    assert_eq!(kept().await.len(), 1, "it came without its id again");
    world.assert_anomaly(AnomalyKind::RecordsDamaged, "", AnomalyState::Open).await;
    world.mutate(id_is(&newcomer));
    assert_eq!(world.sync().await, 1);
    assert_eq!(kept().await.len(), 1, "nothing says that it is the same");
    eventually(Duration::from_secs(20), "a comparison that meets all records", async || {
        let outcome = world.compare().await.outcome;
        (kept().await.is_empty() && !outcome.differ).then_some(())
    })
    .await;
    world.assert_anomaly(AnomalyKind::RecordsDamaged, "", AnomalyState::Resolved).await;
}

#[tokio::test]
async fn a_damaged_record_is_asked_for_again_and_leaves_quarantine_once_it_can_be_read_or_is_gone() {
    let world = World::new().await;
    let struck = world.fake.data_fault(&DataOrder::new(DataFault::DamagedRecord, OBJECT, 3)).unwrap();
    let (ids, field) = (struck.ids, struck.field.unwrap());
    world.compare().await;
    for id in &ids {
        world.upsert(&json!({ "Id": id, "Name": "touched" }));
    }
    world.sync().await;
    // However many of its versions came, each record is one.
    let kept = async || -> BTreeSet<String> {
        let rows = world.store.list_quarantined(world.connection, None, 100).await.unwrap();
        let many = rows.len();
        let kept: BTreeSet<String> = rows.into_iter().filter_map(|row| row.record_id).collect();
        assert_eq!(kept.len(), many, "each once");
        kept
    };
    let ask = async |ids: &[String]| {
        let asked = Asked::of(world.source(), OBJECT, ids).await.unwrap();
        let mut tx = world.store.begin().await.unwrap();
        let gone = asked.write(world.source(), &mut tx).await.unwrap();
        tx.commit().await.unwrap();
        gone
    };
    assert!(ids.len() > 2, "{ids:?}");
    assert_eq!(kept().await.len(), ids.len());
    assert_eq!((ask(&ids).await, kept().await.len()), (0, ids.len()), "nothing has become of them");
    world.mutate(Mutation {
        upsert: vec![json!({ "Id": ids[0], field.as_str(): null }).as_object().unwrap().clone()],
        hard_delete: vec![ids[1].clone()],
        ..Mutation::default()
    });
    assert_eq!((ask(&ids).await, kept().await), (1, ids[2..].iter().cloned().collect()));
    world.assert_anomaly(AnomalyKind::RecordsDamaged, "", AnomalyState::Open).await;
    // What nobody asks for by its id, the comparison finds to be gone.
    world.mutate(Mutation { hard_delete: ids[2..].to_vec(), ..Mutation::default() });
    // A comparison that came within the second of the change has seen counts that differ; the next does not.
    eventually(Duration::from_secs(20), "the counts to agree", async || {
        (!world.compare().await.outcome.differ).then_some(())
    })
    .await;
    assert_eq!(kept().await, BTreeSet::new());
    world.assert_anomaly(AnomalyKind::RecordsDamaged, "", AnomalyState::Resolved).await;
    world.assert_equal().await;
}

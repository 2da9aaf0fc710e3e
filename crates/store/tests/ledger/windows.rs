//! Windows that are read in bulk: a page counts once and under its window's last beginning, one transaction is the last,
//! and what nobody works on is found. And what a window's end says of lateness.

use crate::world::{World, kind};
use chrono::TimeDelta;
use domain::{ConnectionId, JobId};
use serde_json::json;
use store::{
    Again, BulkWindow, ExternalJob, IdRange, Inserted, NewJob, Outcome, PageDone, PageMark, PageOutcome, PartEnd, Quiet,
};

const OBJECT: &str = "Account";

fn job() -> NewJob {
    NewJob::new(kind("noop"), json!({}))
}

fn page(seq: i32, rows: i64) -> PageDone {
    PageDone { seq, rows, bytes: 100, oldest_change: None, ends_chain: false }
}

/// A window in bulk that a job works on.
async fn opened(world: &World, connection: ConnectionId) -> BulkWindow {
    let (hi, reach) = (world.clock.now(), TimeDelta::minutes(15));
    let mut tx = world.store.begin().await.unwrap();
    let opened = world.store.open_bulk_window_in(&mut tx, connection, OBJECT, hi, reach).await.unwrap();
    let (id, fence) = opened.expect("no window was open");
    let jobs = world.store.insert_jobs_in(&mut tx, &[job()]).await.unwrap();
    world.store.note_collector_in(&mut tx, id, jobs[0]).await.unwrap();
    tx.commit().await.unwrap();
    world.store.find_bulk_window(id, fence).await.unwrap().expect("the window is there")
}

/// Its pages, as listed, with a job for each; answers with the window as it is then.
async fn listed(world: &World, window: &BulkWindow, rows: i64, pages: i32) -> (BulkWindow, Vec<JobId>) {
    let store = &world.store;
    let external = ExternalJob {
        id: "750000000000001AAA".to_owned(),
        api_version: "66.0".to_owned(),
        fields: json!([["Id", "id"]]),
    };
    let mut tx = store.begin().await.unwrap();
    assert_eq!(store.note_external_in(&mut tx, window, &external).await.unwrap(), Outcome::Applied);
    assert_eq!(store.note_external_in(&mut tx, window, &external).await.unwrap(), Outcome::Stale, "asked for once");
    let many: Vec<NewJob> = (0..pages).map(|_| job()).collect();
    let mut jobs = Vec::new();
    for inserted in store.insert_jobs_in(&mut tx, &many).await.unwrap() {
        let Inserted::New(id) = inserted else { panic!("a duplicate") };
        jobs.push(id);
    }
    let places: Vec<_> = (0..pages).zip(&jobs).map(|(seq, job)| (seq, format!("locator={seq}"), *job)).collect();
    assert_eq!(store.add_pages_in(&mut tx, window, rows, &places, true).await.unwrap(), Outcome::Applied);
    tx.commit().await.unwrap();
    let window = store.find_bulk_window(window.id, window.fence).await.unwrap().unwrap();
    assert_eq!((window.rows_expected, window.pages_expected), (Some(rows), Some(pages)));
    assert_eq!(window.external.as_ref(), Some(&external));
    (window, jobs)
}

async fn commit(world: &World, window: &BulkWindow, done: PageDone) -> PageOutcome {
    let mut tx = world.store.begin().await.unwrap();
    let outcome = world.store.commit_page_in(&mut tx, window, &done).await.unwrap();
    if outcome != PageOutcome::Stale {
        tx.commit().await.unwrap();
    }
    outcome
}

#[tokio::test]
async fn a_page_counts_once_and_the_last_knows_the_sum() {
    let world = World::new().await;
    let connection = world.connection("salesforce").await;
    let window = opened(&world, connection).await;
    let (window, _) = listed(&world, &window, 25, 3).await;
    assert_eq!(commit(&world, &window, page(1, 10)).await, PageOutcome::More);
    assert_eq!(commit(&world, &window, page(1, 10)).await, PageOutcome::Stale, "twice the same");
    assert_eq!(commit(&world, &window, page(7, 10)).await, PageOutcome::Stale, "there is no such page");
    assert!(world.store.find_page(&window, 1).await.unwrap().unwrap().is_committed);
    assert!(!world.store.find_page(&window, 0).await.unwrap().unwrap().is_committed);
    assert_eq!(commit(&world, &window, page(0, 10)).await, PageOutcome::More);
    let last = PageOutcome::Last { rows_expected: 25, rows_seen: 25 };
    assert_eq!(commit(&world, &window, page(2, 5)).await, last);
    let mut tx = world.store.begin().await.unwrap();
    let closed = world.store.close_window(&mut tx, window.id, window.fence, None).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    assert_eq!((closed.object.as_str(), closed.lateness), (OBJECT, None));
    assert_eq!(world.count("SELECT count(*) FROM windows").await + world.count("SELECT count(*) FROM pages").await, 0);
    let plans = world.store.stream_plans(connection, &[OBJECT.to_owned()]).await.unwrap();
    assert_eq!((plans[0].watermark, plans[0].window), (Some(window.hi), None));
    assert_eq!(plans[0].deleted_until, Some(window.hi));
}

/// Two transactions with the last two pages: the second waits for the first, and is the last.
#[tokio::test]
async fn of_two_pages_at_the_same_time_one_is_the_last() {
    let world = World::new().await;
    let window = opened(&world, world.connection("salesforce").await).await;
    let (window, _) = listed(&world, &window, 2, 2).await;
    let mut first = world.store.begin().await.unwrap();
    let outcome = world.store.commit_page_in(&mut first, &window, &page(0, 1)).await.unwrap();
    assert_eq!(outcome, PageOutcome::More);
    let (store, same) = (world.reopened().await, window.clone());
    let second = tokio::spawn(async move {
        let mut tx = store.begin().await.unwrap();
        let outcome = store.commit_page_in(&mut tx, &same, &page(1, 1)).await.unwrap();
        tx.commit().await.unwrap();
        outcome
    });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '-- commit_page%'
        AND datname = current_database()";
    testkit::eventually(std::time::Duration::from_secs(10), "the second to wait", async || {
        (world.count(waits).await == 1).then_some(())
    })
    .await;
    first.commit().await.unwrap();
    assert_eq!(second.await.unwrap(), PageOutcome::Last { rows_expected: 2, rows_seen: 2 });
}

#[tokio::test]
async fn a_window_that_begins_again_voids_what_was_begun_before_and_rests_after_too_many_failures() {
    let world = World::new().await;
    let connection = world.connection("salesforce").await;
    let window = opened(&world, connection).await;
    let (window, _) = listed(&world, &window, 2, 2).await;
    let retry_at = world.after_secs(60);
    let again = async |window: &BulkWindow| {
        let mut tx = world.store.begin().await.unwrap();
        let again = world.store.begin_again_in(&mut tx, window, 2, retry_at).await.unwrap();
        tx.commit().await.unwrap();
        again
    };
    let Some(Again::Begun { fence }) = again(&window).await else { panic!("it begins again") };
    assert_eq!(again(&window).await, None, "once");
    assert_eq!(commit(&world, &window, page(0, 1)).await, PageOutcome::Stale);
    assert_eq!(world.store.find_bulk_window(window.id, window.fence).await.unwrap(), None);
    let begun = world.store.find_bulk_window(window.id, fence).await.unwrap().unwrap();
    assert_eq!((&begun.external, begun.rows_expected, begun.pages_expected, begun.failures), (&None, None, None, 1));
    let mut tx = world.store.begin().await.unwrap();
    assert_eq!(world.store.close_window(&mut tx, window.id, window.fence, None).await.unwrap(), None);
    drop(tx);

    assert_eq!(again(&begun).await, Some(Again::GivenUp));
    world.cancel_all().await;
    assert_eq!(world.store.windows_left(connection).await.unwrap(), [], "it rests");
    world.clock.advance(TimeDelta::seconds(60));
    let left = world.store.windows_left(connection).await.unwrap();
    assert_eq!(left.iter().map(|left| (left.id, left.fence)).collect::<Vec<_>>(), [(window.id, fence + 1)]);
}

#[tokio::test]
async fn a_window_in_parts_moves_the_watermark_with_the_last() {
    let world = World::new().await;
    let (store, connection) = (&world.store, world.connection("salesforce").await);
    let whole = opened(&world, connection).await;
    let narrow = async |window: &BulkWindow, minutes, rows_after| {
        let end = PartEnd::Stamp(whole.hi - TimeDelta::minutes(minutes));
        let mut tx = store.begin().await.unwrap();
        let fence = store.narrow_window_in(&mut tx, (window.id, window.fence), &end, rows_after).await.unwrap();
        tx.commit().await.unwrap();
        store.find_bulk_window(window.id, fence?).await.unwrap()
    };
    let close = async |window: &BulkWindow| {
        let mut tx = store.begin().await.unwrap();
        let closed = store.close_window(&mut tx, window.id, window.fence, None).await.unwrap();
        tx.commit().await.unwrap();
        closed
    };
    let plan = async || store.stream_plans(connection, &[OBJECT.to_owned()]).await.unwrap().remove(0);
    assert_eq!(narrow(&whole, 0, 1).await, None, "that is no part");
    let half = narrow(&whole, 60, 50).await.expect("an hour less");
    assert_eq!(narrow(&whole, 60, 50).await, None, "it has begun again since");
    let quarter = narrow(&half, 90, 25).await.expect("and half an hour less");
    assert_eq!(quarter.hi, whole.hi - TimeDelta::minutes(90));
    let closed = close(&quarter).await.expect("the first part ends");
    let rest = closed.rest.expect("there is more");
    assert_eq!((rest.object.as_str(), rest.rows_left, closed.is_part), (OBJECT, 75, true));
    assert_eq!(plan().await.watermark, None, "not all of it is here");
    assert_eq!(close(&quarter).await, None, "it ends once");
    let rest = store.find_bulk_window(rest.id, rest.fence).await.unwrap().expect("the rest is open");
    assert_eq!((rest.lo, rest.hi), (Some(quarter.hi), whole.hi), "all that is left is the next part");
    let last = narrow(&rest, 30, 10).await.expect("that is too much as well");
    let rest = close(&last).await.and_then(|closed| closed.rest).expect("there is still more");
    let rest = store.find_bulk_window(rest.id, rest.fence).await.unwrap().expect("it is open");
    assert_eq!((rest.lo, rest.hi), (Some(last.hi), whole.hi));
    let closed = close(&rest).await.expect("the last part ends");
    assert_eq!((closed.rest, closed.is_part, closed.reached_back), (None, true, None));
    assert_eq!((plan().await.watermark, plan().await.window), (Some(whole.hi), None));
}

#[tokio::test]
async fn what_cannot_be_divided_by_time_is_by_ids_before_it_goes_on_in_time() {
    let world = World::new().await;
    let (store, connection) = (&world.store, world.connection("salesforce").await);
    let whole = opened(&world, connection).await;
    let narrow = async |window: &BulkWindow, end: PartEnd| {
        let mut tx = store.begin().await.unwrap();
        let fence = store.narrow_window_in(&mut tx, (window.id, window.fence), &end, 0).await.unwrap();
        tx.commit().await.unwrap();
        store.find_bulk_window(window.id, fence?).await.unwrap()
    };
    let next = async |window: &BulkWindow| {
        let mut tx = store.begin().await.unwrap();
        let closed = store.close_window(&mut tx, window.id, window.fence, None).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        let rest = closed.rest?;
        store.find_bulk_window(rest.id, rest.fence).await.unwrap()
    };
    let id = |id: &str| PartEnd::Id(id.to_owned());
    let ids = |from: Option<&str>, until: Option<&str>| IdRange {
        from: from.map(str::to_owned),
        until: until.map(str::to_owned),
    };
    let hi = whole.hi - TimeDelta::minutes(30);
    let half = narrow(&whole, PartEnd::Stamp(hi)).await.expect("half an hour less");
    let low = narrow(&half, id("00Qm")).await.expect("half of its ids");
    assert_eq!((low.hi, &low.ids), (hi, &ids(None, Some("00Qm"))));
    assert_eq!(narrow(&low, id("00Qz")).await, None, "these are not its own");
    assert_eq!(narrow(&low, PartEnd::Stamp(hi - TimeDelta::minutes(1))).await, None, "it was divided by time already");
    let lowest = narrow(&low, id("00QC")).await.expect("a quarter; upper case comes before lower");
    let rest = next(&lowest).await.expect("the other ids");
    assert_eq!((rest.lo, rest.hi, &rest.ids), (None, hi, &ids(Some("00QC"), None)));
    assert_eq!(narrow(&rest, id("00QC")).await, None, "nothing would be left of it");
    let middle = narrow(&rest, id("00Qm")).await.expect("some of those");
    assert_eq!(middle.ids, ids(Some("00QC"), Some("00Qm")));
    let last = next(&middle).await.expect("the last ids");
    assert_eq!((last.hi, &last.ids), (hi, &ids(Some("00Qm"), None)));
    let later = next(&last).await.expect("the rest of the time");
    assert_eq!((later.lo, later.hi, &later.ids), (Some(hi), whole.hi, &IdRange::default()));
    let plan = async || store.stream_plans(connection, &[OBJECT.to_owned()]).await.unwrap().remove(0);
    assert_eq!(plan().await.watermark, None, "not all of it is here");
    assert_eq!(next(&later).await, None);
    assert_eq!((plan().await.watermark, plan().await.window), (Some(whole.hi), None));
}

#[tokio::test]
async fn a_window_is_left_when_none_of_its_jobs_is_unfinished() {
    let world = World::new().await;
    let connection = world.connection("salesforce").await;
    let window = opened(&world, connection).await;
    assert_eq!(world.store.windows_left(connection).await.unwrap(), [], "it is being collected");
    let (window, jobs) = listed(&world, &window, 30, 2).await;
    let collector = world.count("SELECT job_id FROM windows").await;
    world.store.cancel_jobs(&[JobId(collector), jobs[0]]).await.unwrap();
    assert_eq!(world.store.windows_left(connection).await.unwrap(), [], "a page has its job");
    assert_eq!(world.store.pages_left(&window).await.unwrap(), [0]);
    assert_eq!(commit(&world, &window, page(1, 20)).await, PageOutcome::More);
    let left = world.store.windows_left(connection).await.unwrap();
    assert_eq!((left.len(), left[0].rows_left), (1, 10));
    let given = world.insert(&[job()]).await;
    let mut tx = world.store.begin().await.unwrap();
    world.store.give_pages_in(&mut tx, &window, &[(0, given[0])]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.store.windows_left(connection).await.unwrap(), []);
    // While it is open no other is, and it is nobody's by REST, until the vendor says that it has to be.
    let (hi, reach) = (world.clock.now(), TimeDelta::minutes(15));
    assert_eq!(world.store.open_window(connection, OBJECT, hi, reach).await.unwrap(), None);
    let mut tx = world.store.begin().await.unwrap();
    assert_eq!(world.store.open_bulk_window_in(&mut tx, connection, OBJECT, hi, reach).await.unwrap(), None);
    assert_eq!(world.store.read_by_rest_in(&mut tx, &window).await.unwrap(), Outcome::Applied);
    tx.commit().await.unwrap();
    assert!(world.store.open_window(connection, OBJECT, hi, reach).await.unwrap().is_some());
    assert!(world.store.stream_plans(connection, &[OBJECT.to_owned()]).await.unwrap()[0].is_rest_only);
}

#[tokio::test]
async fn a_late_change_makes_the_next_window_reach_further_back_and_quiet_ones_less() {
    let world = World::new().await;
    let connection = world.connection("salesforce").await;
    let base = TimeDelta::minutes(15);
    let read = async |oldest_change| {
        world.clock.advance(TimeDelta::minutes(1));
        let store = &world.store;
        let window = store.open_window(connection, OBJECT, world.clock.now(), base).await.unwrap().unwrap();
        let mut tx = store.begin().await.unwrap();
        let mark = PageMark { rows_expected: 1, rows: 1, next_page: None, oldest_change };
        assert_eq!(store.mark_page(&mut tx, &window, &mark).await.unwrap(), Outcome::Applied);
        let closed = store.close_window(&mut tx, window.id, window.fence, Some(base)).await.unwrap().unwrap();
        tx.commit().await.unwrap();
        (window, closed)
    };
    let (first, closed) = read(Some(world.clock.now() - TimeDelta::days(300))).await;
    assert_eq!((first.lo, closed.lateness, closed.overlap), (None, None, base), "in a first load nothing is late");
    let (second, closed) = read(Some(first.hi + TimeDelta::seconds(1))).await;
    assert_eq!((second.lo, closed.lateness, closed.overlap), (Some(first.hi - base), None, base));
    let (_, closed) = read(Some(second.hi - TimeDelta::minutes(10))).await;
    assert_eq!((closed.lateness, closed.overlap), (Some(TimeDelta::minutes(10)), TimeDelta::minutes(20)));
    let (fourth, closed) = read(None).await;
    assert_eq!(fourth.hi - TimeDelta::minutes(1) - fourth.lo.unwrap(), TimeDelta::minutes(20));
    assert!(closed.overlap < TimeDelta::minutes(20) && closed.overlap > base);
    let quiet = Quiet { object: OBJECT.to_owned(), until: world.after_secs(60), overlap: TimeDelta::minutes(16) };
    let mut tx = world.store.begin().await.unwrap();
    world.store.pass_quiet_streams(&mut tx, connection, &[quiet]).await.unwrap();
    tx.commit().await.unwrap();
    let plan = world.store.stream_plans(connection, &[OBJECT.to_owned()]).await.unwrap().remove(0);
    assert_eq!((plan.watermark, plan.overlap), (Some(world.after_secs(60)), Some(TimeDelta::minutes(16))));
}

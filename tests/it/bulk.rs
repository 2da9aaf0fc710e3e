//! Objects that are read in bulk, by real servants from a simulated Salesforce: by several at once, killed between pages,
//! with everything going wrong that can go wrong with a job of Salesforce's, and in the end equal to the truth.

use crate::{
    customer::{BULK_PAGE, IN_BULK, World},
    fleet::LIMIT,
};
use domain::{AnomalyKind, GroupState, JobState};
use fakes::salesforce::{Call, Content, DataFault, DataOrder, Fault, Options, Order};
use store::AnomalyFilter;
use testkit::eventually;

/// Objects that have enough records.
fn large(world: &World) -> Vec<String> {
    world.fake.objects().into_iter().filter(|object| world.fake.truth(object).len() >= 100).collect()
}

/// Pages that these need if nothing goes wrong.
fn pages(world: &World) -> u64 {
    large(world).iter().map(|object| world.fake.truth(object).len().div_ceil(BULK_PAGE) as u64).sum()
}

fn records(world: &World) -> i64 {
    world.fake.objects().iter().map(|object| world.fake.truth(object).len() as i64).sum()
}

async fn anomalies(world: &World) -> Vec<AnomalyKind> {
    let filter = AnomalyFilter { connection: Some(world.connection), ..AnomalyFilter::default() };
    let found = world.fleet.store.list_anomalies(&filter, 100).await.unwrap();
    found.into_iter().map(|anomaly| anomaly.kind.parse().unwrap()).collect()
}

async fn nothing_is_left(world: &World) {
    assert_eq!(world.number("SELECT count(*) FROM windows").await, 0, "no window is open");
    assert_eq!(world.number("SELECT count(*) FROM pages").await, 0);
    assert_eq!(world.number("SELECT count(*) FROM streams WHERE health <> 'ok'").await, 0);
    world.assert_equal().await;
}

#[tokio::test]
async fn a_first_load_is_the_work_of_all_servants_and_one_group() {
    let world = World::in_bulk(Options::default()).await;
    // Slow enough that one does not take all before the other is there.
    world.fake.order(Order { on: Some(Call::BulkResults), ms: 100, ..Order::new(Fault::SlowMs, 10_000) });
    let _servants = (world.servant().await, world.bulk_servant().await, world.bulk_servant().await);
    let group = world.onboard().await.expect("a first load is a group");
    assert_eq!(group.state, GroupState::Finished);
    assert_eq!(group.counts.of(JobState::Succeeded), group.counts.members(), "{:?}", group.counts);
    let progress = world.fleet.store.group_progress(&group).await.unwrap();
    assert_eq!((progress.done, progress.total, progress.left), (records(&world), records(&world), None));
    nothing_is_left(&world).await;
    let takers = "SELECT count(DISTINCT servant_id) FROM finished_jobs WHERE payload ->> 'step' = 'page'";
    assert_eq!(world.number(takers).await, 2, "both took pages");
    assert_eq!(
        world.number("SELECT count(*) FROM finished_jobs WHERE payload ->> 'step' = 'page'").await as u64,
        pages(&world)
    );
    let many = large(&world).len() as u64;
    eventually(LIMIT, "salesforce's jobs to be forgotten", async || {
        (world.fake.stats().calls.get(&Call::BulkDelete) == Some(&many)).then_some(())
    })
    .await;
    let calls = world.fake.stats().calls;
    assert_eq!(calls[&Call::BulkCreate], many);
    assert_eq!(calls[&Call::BulkResults], pages(&world), "no page came twice");
    assert_eq!(anomalies(&world).await, vec![]);
}

#[tokio::test]
async fn an_object_of_five_hundred_columns_comes_whole_and_so_do_its_changes() {
    let object = "Wide__c";
    let content = Content::One { object: object.to_owned(), records: 300, columns: 500, seed: 3 };
    let world = World::in_bulk(Options { content, ..Options::default() }).await;
    let _servants = (world.servant().await, world.bulk_servant().await);
    let group = world.onboard().await.unwrap();
    assert_eq!((group.state, group.counts.of(JobState::Failed)), (GroupState::Finished, 0));
    nothing_is_left(&world).await;
    assert_eq!(world.fake.stats().calls[&Call::BulkResults], pages(&world), "every page in bulk, and once");
    let columns = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'wide__c'";
    assert!(world.number(columns).await >= 500, "a column for each field");
    let order = DataOrder { records: 120, ..DataOrder::new(DataFault::EqualModstamps, object, 7) };
    world.fake.data_fault(&order).unwrap();
    world.a_second_passes().await;
    world.tick().await;
    eventually(LIMIT, "the window to be read", async || {
        (world.number("SELECT count(*) FROM windows").await == 0).then_some(())
    })
    .await;
    assert_eq!(world.fake.stats().calls[&Call::BulkCreate], 2);
    world.assert_equal().await;
}

#[tokio::test]
async fn a_servant_killed_between_pages_costs_no_record() {
    let world = World::in_bulk(Options::default()).await;
    world.fake.order(Order { on: Some(Call::BulkResults), ms: 150, ..Order::new(Fault::SlowMs, 10_000) });
    let _sync = world.servant().await;
    let job = world.enqueue().await;
    let sent = || world.fake.stats().calls.get(&Call::BulkResults).copied().unwrap_or(0);
    let mut doomed = world.bulk_servant().await;
    eventually(LIMIT, "pages to be asked for", async || (sent() >= 5).then_some(())).await;
    doomed.kill();
    let before = sent();
    let _heir = world.bulk_servant().await;
    world.until(job, JobState::Succeeded).await;
    let group = world.fleet.store.find_job(job).await.unwrap().unwrap().group_id.unwrap();
    assert_eq!(world.until_ended(group).await.state, GroupState::Finished);
    nothing_is_left(&world).await;
    // It had two slots, and each had a page in hand at the most.
    assert!(sent() <= pages(&world) + 2, "{} pages were asked for, {before} before the kill", sent());
    assert_eq!(world.number("SELECT count(*) FROM record_changes WHERE op = 1").await, records(&world), "each once");
}

#[tokio::test]
async fn what_goes_wrong_with_jobs_of_salesforce_costs_no_record() {
    let often = ("begins_max = 3", "begins_max = 20");
    let options = Options { bulk_page_records: BULK_PAGE, ..Options::default() };
    let world = World::with(options, &[IN_BULK, often]).await;
    for fault in [
        Fault::BulkJobFailed,
        Fault::BulkJobAborted,
        Fault::BulkJobDeleted,
        Fault::BulkLocatorGone,
        Fault::BulkVersionConflict,
        Fault::BulkEmptyPage,
        Fault::BulkPageShort,
    ] {
        world.fake.fault(fault, 1);
    }
    let _servants = (world.servant().await, world.bulk_servant().await);
    let group = world.onboard().await.unwrap();
    assert_eq!(group.state, GroupState::Finished);
    assert_eq!(group.counts.of(JobState::Failed), 0);
    assert!(world.fake.pending_faults().is_empty(), "{:?}", world.fake.pending_faults());
    nothing_is_left(&world).await;
    assert!(anomalies(&world).await.contains(&AnomalyKind::CursorLost), "what was collected was gone");
}

#[tokio::test]
async fn what_salesforce_cannot_collect_in_time_is_read_in_parts() {
    let world = World::in_bulk(Options::default()).await;
    world.fake.fault(Fault::BulkJobFailed, 2);
    let _servants = (world.servant().await, world.bulk_servant().await);
    let group = world.onboard().await.unwrap();
    assert_eq!((group.state, group.counts.of(JobState::Failed)), (GroupState::Finished, 0));
    assert!(world.fake.pending_faults().is_empty());
    nothing_is_left(&world).await;
    let progress = world.fleet.store.group_progress(&group).await.unwrap();
    assert_eq!((progress.done, progress.total), (records(&world), records(&world)));
    let calls = world.fake.stats().calls;
    // One window failed twice and is in two parts, or two are.
    let parts = calls[&Call::BulkCreate] - 2 - large(&world).len() as u64;
    assert!((1..=2).contains(&parts), "{parts} more parts than windows");
    assert!(calls[&Call::BulkResults] <= pages(&world) + parts, "no record came twice");
    assert_eq!(world.number("SELECT count(*) FROM record_changes WHERE op = 1").await, records(&world), "each once");
}

#[tokio::test]
async fn a_second_of_changes_that_cannot_be_collected_in_time_is_read_by_ids() {
    let options = Options { timely_records_max: Some(60), without_bulk: vec!["Lead".to_owned()], ..Options::default() };
    let world = World::in_bulk(options).await;
    let _servants = (world.servant().await, world.bulk_servant().await);
    let group = world.onboard().await.unwrap();
    assert_eq!((group.state, group.counts.of(JobState::Failed)), (GroupState::Finished, 0));
    nothing_is_left(&world).await;
    let made = world.fake.stats().calls[&Call::BulkCreate];
    for object in ["Contact", "Lead"] {
        let order = DataOrder { records: 120, ..DataOrder::new(DataFault::EqualModstamps, object, 7) };
        assert_eq!(world.fake.data_fault(&order).unwrap().ids.len(), 120);
    }
    world.a_second_passes().await;
    world.tick().await;
    eventually(LIMIT, "the windows to be read", async || {
        (world.number("SELECT count(*) FROM windows").await == 0).then_some(())
    })
    .await;
    nothing_is_left(&world).await;
    // What was too much was asked for once, and each part of it.
    assert!(world.fake.stats().calls[&Call::BulkCreate] - made >= 3, "contacts came in parts");
    assert_eq!(world.number("SELECT count(*) FROM record_changes WHERE op = 2").await, 240, "each once");
}

#[tokio::test]
async fn a_page_that_is_refused_by_mistake_does_not_bring_the_others_again() {
    let world = World::in_bulk(Options::default()).await;
    world.fake.fault(Fault::BulkLocatorGone, 2);
    let _servants = (world.servant().await, world.bulk_servant().await);
    world.onboard().await.unwrap();
    assert!(world.fake.pending_faults().is_empty());
    nothing_is_left(&world).await;
    let calls = world.fake.stats().calls;
    assert_eq!(calls[&Call::BulkCreate], large(&world).len() as u64, "no window was collected anew");
    assert_eq!(calls[&Call::BulkResults], pages(&world) + 2, "only what was refused was asked for again");
}

#[tokio::test]
async fn pages_that_do_not_add_up_are_read_again_and_told() {
    let world = World::in_bulk(Options::default()).await;
    world.fake.fault(Fault::BulkCountMismatch, 1);
    let _servants = (world.servant().await, world.bulk_servant().await);
    world.onboard().await.unwrap();
    assert!(world.fake.pending_faults().is_empty());
    nothing_is_left(&world).await;
    assert_eq!(anomalies(&world).await, vec![AnomalyKind::CountsDiffer]);
    let made = world.fake.stats().calls[&Call::BulkCreate];
    assert_eq!(made, large(&world).len() as u64 + 1, "one window was collected twice");
}

#[tokio::test]
async fn a_window_that_fails_again_and_again_rests_flagged_and_is_taken_up_by_a_later_sync() {
    let resting = ("rest_secs = 3600", "rest_secs = 1");
    let options = Options { bulk_page_records: BULK_PAGE, ..Options::default() };
    let world = World::with(options, &[("bulk_records_min = 10000", "bulk_records_min = 450"), resting]).await;
    let objects: Vec<String> =
        world.fake.objects().into_iter().filter(|object| world.fake.truth(object).len() >= 450).collect();
    let [object] = &objects[..] else { panic!("one object is that large: {objects:?}") };
    world.fake.fault(Fault::BulkJobAborted, 3);
    let _servants = (world.servant().await, world.bulk_servant().await);
    let group = world.onboard().await.unwrap();
    assert_eq!(group.counts.of(JobState::Failed), 1, "an onboarding that misses an object does not look complete");
    assert!(world.fake.pending_faults().is_empty());
    let streams = world.fleet.store.list_streams(world.connection, None, 100).await.unwrap();
    let flagged: Vec<_> = streams.iter().filter(|stream| stream.health != "ok").map(|stream| &stream.object).collect();
    assert_eq!(flagged, [object]);
    eventually(LIMIT, "the window to be read to its end", async || {
        world.tick().await;
        (world.number("SELECT count(*) FROM windows").await == 0).then_some(())
    })
    .await;
    nothing_is_left(&world).await;
}

#[tokio::test]
async fn a_job_that_salesforce_never_ends_is_given_up() {
    let options = Options { bulk_page_records: BULK_PAGE, ..Options::default() };
    let world = World::with(options, &[IN_BULK, ("collect_secs_max = 21600", "collect_secs_max = 1")]).await;
    world.fake.fault(Fault::BulkJobStuck, 1);
    let _servants = (world.servant().await, world.bulk_servant().await);
    world.onboard().await.unwrap();
    nothing_is_left(&world).await;
    let calls = world.fake.stats().calls;
    assert_eq!(calls[&Call::BulkCreate], large(&world).len() as u64 + 2, "its window was read in two parts");
    eventually(LIMIT, "the job to be ended", async || world.fake.stats().calls.get(&Call::BulkAbort).map(|_| ())).await;
}

#[tokio::test]
async fn what_the_bulk_api_does_not_have_is_read_by_rest_from_then_on() {
    let options = Options { without_bulk: vec!["Contact".to_owned()], ..Options::default() };
    let world = World::in_bulk(options).await;
    let _servants = (world.servant().await, world.bulk_servant().await);
    let group = world.onboard().await.unwrap();
    assert_eq!(group.state, GroupState::Finished);
    let progress = world.fleet.store.group_progress(&group).await.unwrap();
    assert_eq!(progress.done, records(&world));
    nothing_is_left(&world).await;
    assert_eq!(world.number("SELECT count(*) FROM streams WHERE is_rest_only AND object = 'Contact'").await, 1);
}

#[tokio::test]
async fn a_tick_with_many_changes_is_read_in_bulk_and_one_with_few_is_not() {
    let world = World::in_bulk(Options::default()).await;
    let _servants = (world.servant().await, world.bulk_servant().await);
    world.onboard().await.unwrap();
    let made = world.fake.stats().calls[&Call::BulkCreate];
    let change = |records| {
        let order = DataOrder { records, ..DataOrder::new(DataFault::EqualModstamps, "Contact", 7) };
        world.fake.data_fault(&order).unwrap();
    };
    change(120);
    world.a_second_passes().await;
    world.tick().await;
    eventually(LIMIT, "the window to be read", async || {
        (world.number("SELECT count(*) FROM windows").await == 0).then_some(())
    })
    .await;
    assert_eq!(world.fake.stats().calls[&Call::BulkCreate], made + 1);
    world.assert_equal().await;
}

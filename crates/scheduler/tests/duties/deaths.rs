//! A leader that does all its duties, one after the other, and dies at every one of its requests to the ledger in turn:
//! before it got there, or before the answer came back. Its successor finds due fires, retries that are due, an attempt
//! whose servant died, a job whose message was lost, a group that has ended and jobs under a limit; and whatever the dead
//! one had done of that is done once.

use crate::{
    groups::group,
    world::{World, kind},
};
use domain::{JobId, Limit, Scope};
use scheduler::{
    Office,
    duties::{
        breakers, declare_limits, dispatch, fold_counters, groups, promote, relay, rescue, sweep_unclaimed, tick,
    },
};
use store::{Delivered, Leadership, NewJob};

/// How many jobs of the kind may be in flight.
const IN_FLIGHT_MAX: i64 = 3;
/// Requests of a leader that finds something for each of its duties: at least two for each.
const REQUESTS_MIN: u64 = 20;
const IN_FLIGHT: &str = "SELECT count(*) FROM jobs WHERE kind = 'noop' AND state IN (2, 3)";
const UNFINISHED: &str = "SELECT count(*) FROM jobs WHERE kind = 'noop'";
const FIRED: &str = "SELECT count(*) FROM finished_jobs WHERE schedule_id IS NOT NULL AND state = 4";
const DUE_TIMES: &str = "SELECT count(DISTINCT due_at) FROM finished_jobs WHERE schedule_id IS NOT NULL AND state = 4";
const SUCCEEDED: &str = "SELECT count(*) FROM finished_jobs WHERE kind = 'noop' AND state = 4";
const FINISHING: &str = "SELECT count(*) FROM jobs WHERE kind = 'notify'";

/// Everything that a leader does but what keeps partitions.
async fn reign(office: &Office, lead: &Leadership) -> anyhow::Result<()> {
    declare_limits::perform(office, lead).await?;
    while tick::perform(office, lead).await? {}
    while promote::perform(office, lead).await? {}
    rescue::perform(office, lead).await?;
    sweep_unclaimed::perform(office, lead).await?;
    while fold_counters::perform(office, lead).await? {}
    groups::perform(office, lead).await?;
    breakers::perform(office, lead).await?;
    dispatch::perform(office, lead).await?;
    relay::perform(office, lead).await?;
    Ok(())
}

/// Something for each duty: all of it is due a minute later. Answers with how many jobs of the kind that makes.
async fn leave_work(world: &World, lead: &Leadership) -> i64 {
    let store = &world.office.store;
    // Retries, or what was asked for later.
    let later = NewJob { due_at: Some(world.after_secs(30)), ..NewJob::new(kind(), serde_json::json!({})) };
    world.insert(&[later.clone(), later]).await;
    // A message that is lost.
    world.insert_many(1).await;
    dispatch::perform(&world.office, lead).await.unwrap();
    sqlx::query("DELETE FROM outbox").execute(&world.sql).await.unwrap();
    // A servant that dies.
    let (id, members) = group(world, 1).await;
    world.insert_many(1).await;
    let servant = world.servant(2).await;
    let claimed = testkit::claim(store, lead, servant, &kind(), 2, world.after_secs(5)).await.unwrap();
    assert_eq!(claimed.len(), 2, "of group {id}, and one more");
    // A group whose members have ended.
    let member = claimed.iter().find(|job| job.key.id == members[0]).expect("the group's member");
    store.succeed(&[member.key]).await.unwrap();
    5
}

/// Servants take what is on the queue and finish it, and the leader does its duties, until nothing is left.
async fn finish_all(world: &World, lead: &Leadership) {
    let mut rounds = 0;
    while world.number(UNFINISHED).await > 0 {
        let batch = world.sqs.receive_many("noop", 10, 1).await.unwrap().deliveries;
        let delivered: Vec<_> = batch.iter().map(|d| Delivered { id: JobId(d.job_id), sent_at: d.sent_at }).collect();
        let (servant, until) = (world.servant(0).await, world.after_secs(3_600));
        let claimed = world.office.store.claim_delivered(servant, &kind(), &delivered, until).await.unwrap();
        world.sqs.delete("noop", batch.into_iter().map(|d| d.receipt).collect()).await;
        let keys: Vec<_> = claimed.iter().map(|job| job.key).collect();
        assert_eq!(world.office.store.succeed(&keys).await.unwrap().len(), keys.len());
        reign(&world.office, lead).await.unwrap();
        assert!(world.number(IN_FLIGHT).await <= IN_FLIGHT_MAX, "the limit is passed");
        rounds += 1;
        assert!(rounds < 50, "{} jobs never end", world.number(UNFINISHED).await);
    }
}

/// Dies after no request, after one, and so on, until it lives; the last one under way is done or not.
async fn die_everywhere(is_done: bool) {
    let world = World::new().await;
    world.sqs.ensure("noop").await.unwrap();
    world.limit(Scope::Kind(kind()), Limit { concurrency: Some(3), ..Limit::default() }).await;
    reign(&world.office, &world.lead).await.unwrap();
    finish_all(&world, &world.lead).await;
    let (mut lead, mut expected) = (world.lead.clone(), 1);
    for number in 0.. {
        expected += leave_work(&world, &lead).await;
        world.office.store.resign(&lead).await.unwrap();
        world.advance_secs(60);
        // The one that dies.
        let dying = world.office.store.lead(&format!("dying-{number}"), 10).await.unwrap().unwrap();
        let (wire, office) = world.office_on_a_wire().await;
        wire.refuse_after(number, is_done);
        let ended = reign(&office, &dying).await;
        let has_died = wire.refuses();
        assert!(ended.is_ok() || has_died, "{ended:?}");
        let in_flight = world.number(IN_FLIGHT).await;
        assert!(in_flight <= IN_FLIGHT_MAX, "{in_flight} in flight after {number} requests");
        // As if its lead had run out; what it says after that changes nothing.
        world.office.store.resign(&dying).await.unwrap();
        lead = world.office.store.lead(&format!("heir-{number}"), 100_000).await.unwrap().unwrap();
        let before = (world.number(UNFINISHED).await, world.number(IN_FLIGHT).await);
        // It is refused, or changes nothing.
        let _ = reign(&world.office, &dying).await;
        assert_eq!((world.number(UNFINISHED).await, world.number(IN_FLIGHT).await), before, "it leads no more");
        reign(&world.office, &lead).await.unwrap();
        finish_all(&world, &lead).await;
        expected += 1;
        let rounds = i64::try_from(number).unwrap() + 1;
        assert_eq!(world.number(FIRED).await, rounds + 1, "fires, after {number} requests");
        assert_eq!(world.number(DUE_TIMES).await, rounds + 1, "due times, after {number} requests");
        assert_eq!(world.number(SUCCEEDED).await, expected, "after {number} requests");
        assert_eq!(world.number(FINISHING).await, rounds, "finishing jobs, after {number} requests");
        world.assert_counted().await;
        if !has_died {
            assert!(number >= REQUESTS_MIN, "it died at {number} requests only");
            return;
        }
    }
}

#[tokio::test]
async fn a_leader_that_dies_before_any_request_of_its_duties_loses_and_doubles_nothing() {
    die_everywhere(false).await;
}

#[tokio::test]
async fn a_leader_that_dies_before_it_hears_any_answer_loses_and_doubles_nothing() {
    die_everywhere(true).await;
}

//! Groups: ended once whichever leader does it, cancelled batch by batch by whoever leads.

use crate::world::{World, kind};
use domain::{AccountId, FinishWhen, Finishing, GroupId, GroupState, JobId, JobState, Kind};
use scheduler::duties::{fold_counters, groups};
use serde_json::json;
use std::time::Duration;
use store::{Inserted, NewGroup, NewJob};

const FINISHING_JOBS: &str = "SELECT count(*) FROM jobs WHERE kind = 'notify'";

pub(crate) async fn group(world: &World, jobs: usize) -> (GroupId, Vec<JobId>) {
    let finishing = Finishing {
        kind: Kind::new("notify").unwrap(),
        payload: json!({}),
        priority: 2,
        connection: None,
        when: FinishWhen::AllDone,
    };
    let new = NewGroup {
        name: "back-fill".to_owned(),
        account: AccountId::SYSTEM,
        finishing: Some(finishing),
        request_id: NewJob::new(kind(), json!({})).request_id,
    };
    let members = vec![NewJob::new(kind(), json!({})); jobs];
    let (id, inserted) = world.office.store.create_group(&testkit::granted(), &new, &members, true).await.unwrap();
    let new = |inserted| if let Inserted::New(id) = inserted { id } else { panic!("a duplicate") };
    (id, inserted.into_iter().map(new).collect())
}

async fn state(world: &World, id: GroupId) -> GroupState {
    world.office.store.find_group(id).await.unwrap().expect("a group was lost").state
}

#[tokio::test]
async fn a_group_ends_once_whoever_leads() {
    let mut world = World::new().await;
    let (id, _) = group(&world, 3).await;
    let mut wake_ups = world.office.store.wake_ups().await.unwrap();
    for left in (0..3).rev() {
        world.run(1).await;
        fold_counters::perform(&world.office, &world.lead).await.unwrap();
        if left > 0 {
            assert!(!groups::perform(&world.office, &world.lead).await.unwrap());
            assert_eq!(state(&world, id).await, GroupState::Sealed, "{left} are left");
        }
    }
    // The leader stops just before; its last statement comes late.
    let old = world.depose().await;
    groups::perform(&world.office, &old).await.unwrap();
    assert_eq!(world.number(FINISHING_JOBS).await, 0, "one that leads no more ends nothing");
    let heir = world.another_office().await;
    groups::perform(&heir, &world.lead).await.unwrap();
    for office in [&world.office, &heir] {
        groups::perform(office, &world.lead).await.unwrap();
    }
    assert_eq!((world.number(FINISHING_JOBS).await, state(&world, id).await), (1, GroupState::Finished));
    let heard = async { while !wake_ups.next().await.unwrap().ready.contains_key("notify") {} };
    tokio::time::timeout(Duration::from_secs(20), heard).await.expect("its servants are woken");
    world.assert_counted().await;
}

#[tokio::test]
async fn a_cancellation_goes_on_under_the_next_leader() {
    let mut world = World::new().await;
    world.office.config.duties.batch_max = 4;
    let (id, members) = group(&world, 10).await;
    let running = world.claim(1, 600).await;
    world.office.store.cancel_group(&testkit::granted(), id).await.unwrap();
    assert!(groups::perform(&world.office, &world.lead).await.unwrap(), "there is more to do");
    let old = world.depose().await;
    groups::perform(&world.office, &old).await.unwrap();
    let cancelled = async || {
        let counts = world.office.store.find_group(id).await.unwrap().unwrap().counts;
        counts.of(JobState::Cancelled)
    };
    let after_one = cancelled().await;
    assert!(after_one == 4 || after_one == 3, "one batch, which may have asked the running one: {after_one}");
    while groups::perform(&world.office, &world.lead).await.unwrap() {}
    fold_counters::perform(&world.office, &world.lead).await.unwrap();
    groups::perform(&world.office, &world.lead).await.unwrap();
    assert_eq!((cancelled().await, state(&world, id).await), (9, GroupState::Cancelling), "one has not obeyed");
    let held = world.office.store.find_job(running[0].key.id).await.unwrap().unwrap();
    assert!(held.cancel_requested);
    let end = store::FailedAttempt { key: running[0].key, fate: store::Fate::Cancelled };
    assert_eq!(world.office.store.settle(&[end]).await.unwrap().len(), 1);
    fold_counters::perform(&world.office, &world.lead).await.unwrap();
    groups::perform(&world.office, &world.lead).await.unwrap();
    assert_eq!((cancelled().await, state(&world, id).await), (10, GroupState::Cancelled));
    assert_eq!((world.number(FINISHING_JOBS).await, members.len()), (0, 10));
    world.assert_counted().await;
}

//! Duties are woken before their timers: by the clock, by an order that somebody gave, by one another. By real time, as a
//! process is; the ledger's clock stands still.

use crate::{
    dispatch::job,
    groups::group,
    world::{World, kind},
};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Flow, JobState};
use scheduler::duties::{fold_counters, groups, prune, rescue, sweep_unclaimed};
use std::{collections::BTreeMap, time::Duration};
use store::{Heard, ReadyIn};

/// Several times what it should take, and far less than nobody would wait.
const SOON: Duration = Duration::from_secs(20);

async fn soon(what: &str, woken: impl Future<Output = ()>) {
    assert!(tokio::time::timeout(SOON, woken).await.is_ok(), "nothing woke {what}");
}

#[tokio::test]
async fn a_rescue_begins_when_the_first_lease_has_run_out() {
    let world = World::new().await;
    let job = world.insert_many(1).await[0];
    world.claim(1, 1).await;
    let ends = world.office.store.next_lease_end().await.unwrap();
    assert_eq!(ends, Some(world.after_secs(1)));
    soon("the rescue", rescue::until_due(&world.office)).await;
    world.clock.advance(TimeDelta::milliseconds(1_001));
    rescue::perform(&world.office, &world.lead).await.unwrap();
    assert_eq!(world.state(job).await, JobState::Ready);
    assert_eq!(world.office.store.next_lease_end().await.unwrap(), None, "nothing runs");
}

#[tokio::test]
async fn a_sweep_begins_when_the_first_dispatch_is_due() {
    let world = World::new().await;
    let job = world.insert_many(1).await[0];
    world.queued().await;
    let bound = i64::from(world.office.config.duties.unclaimed_secs);
    world.advance_secs(bound - 1);
    soon("the sweep", sweep_unclaimed::until_due(&world.office)).await;
    world.clock.advance(TimeDelta::milliseconds(1_001));
    sweep_unclaimed::perform(&world.office, &world.lead).await.unwrap();
    assert_eq!(world.office.store.find_job(job).await.unwrap().unwrap().sends, 2);
}

#[tokio::test]
async fn pruning_begins_with_the_day() {
    let world = World::new().await;
    let midnight: DateTime<Utc> = "2030-05-07T00:00:00Z".parse().unwrap();
    world.clock.advance(midnight - world.clock.now() - TimeDelta::milliseconds(50));
    soon("pruning", prune::until_tomorrow(&world.office)).await;
}

/// A group that is sealed when its last member has ended already ends at once: its members are counted, then it is looked at.
#[tokio::test]
async fn a_seal_wakes_the_counting_and_that_the_look_at_groups() {
    let world = World::new().await;
    let mut wake_ups = world.office.store.wake_ups().await.unwrap();
    let mut heard = Heard::default();
    let (id, _) = group(&world, 1).await;
    let hearing = async {
        while !heard.has_groups {
            heard = wake_ups.next().await.unwrap();
        }
    };
    soon("whoever listens", hearing).await;
    world.run(1).await;
    let nudges = &world.office.nudges;
    nudges.group_changed();
    soon("the look at groups", nudges.groups.notified()).await;
    groups::perform(&world.office, &world.lead).await.unwrap();
    soon("the counting", nudges.fold_counters.notified()).await;
    fold_counters::perform(&world.office, &world.lead).await.unwrap();
    soon("the second look at groups", nudges.groups.notified()).await;
    groups::perform(&world.office, &world.lead).await.unwrap();
    let row = world.office.store.find_group(id).await.unwrap().unwrap();
    assert!(row.state.is_ended() && row.finishing_job.is_some(), "{row:?}");
}

#[tokio::test]
async fn what_is_told_is_found_without_a_look_and_what_is_not_by_the_timer() {
    let world = World::new().await;
    world.servant(100).await;
    let mut accounts = Vec::new();
    for name in ["told", "not told", "new"] {
        accounts.push(world.account(name, 1).await);
    }
    let [told, untold, new] = accounts[..] else { panic!("three accounts") };
    let come = |account| {
        let flow = Flow { account, connection: None };
        let ready = ReadyIn { flows: [flow].into(), is_anywhere: false };
        world.office.jobs_ready.come(&[(kind().as_str().to_owned(), ready)].into());
    };
    world.insert(&[job(told, 2), job(untold, 2)]).await;
    assert_eq!(world.go().await, BTreeMap::from([(told.0, 1), (untold.0, 1)]), "both are known, and empty");

    world.insert(&[job(told, 2), job(untold, 2)]).await;
    come(told);
    assert_eq!(world.go().await, BTreeMap::from([(told.0, 2), (untold.0, 1)]), "only where something was told");
    world.insert(&[job(new, 2)]).await;
    come(new);
    let with_new = BTreeMap::from([(told.0, 2), (untold.0, 2), (new.0, 1)]);
    assert_eq!(world.go().await, with_new, "who is not known is looked for, and with it what nobody told");

    world.insert(&[job(untold, 2)]).await;
    assert_eq!(world.go().await[&untold.0], 3, "the timer looks");
    world.insert(&[job(untold, 2)]).await;
    come(told);
    assert_eq!(world.go().await[&untold.0], 3);
    world.advance_secs(1);
    come(told);
    assert_eq!(world.go().await[&untold.0], 4, "and so does who has not looked for a while");
}

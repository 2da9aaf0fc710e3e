//! Bulk operations: page by page, no faster than told, each job once and accounted for, whoever leads.

use crate::world::{LEASE_SECS, World, kind};
use chrono::TimeDelta;
use domain::{BulkAct, JobId, JobState, Search};
use std::collections::BTreeSet;
use store::{NewOperation, StoreError};

async fn order(world: &World, act: BulkAct, q: &str, per_second: u32) -> i64 {
    let search: Search = act.within(q.parse().unwrap()).unwrap();
    let new = NewOperation { act, search, expected: 0, expected_is_exact: true, per_second };
    world.store.create_operation(&testkit::granted_to("ada", "the outage is over"), &new).await.unwrap()
}

async fn items(world: &World, id: i64) -> BTreeSet<(JobId, bool)> {
    let mut all = BTreeSet::new();
    let mut before = None;
    loop {
        let page = world.store.operation_items(id, before, 200).await.unwrap();
        let Some(last) = page.last() else { return all };
        before = Some(JobId(last.job_id));
        for item in page {
            assert!(all.insert((JobId(item.job_id), item.applied)), "each job is in it once");
        }
    }
}

#[tokio::test]
async fn all_jobs_are_done_once_and_no_faster_than_told_though_leaders_change() {
    let world = World::new().await;
    let noop = kind("noop");
    let ids: BTreeSet<JobId> = world.insert_many(&noop, 450).await.into_iter().collect();
    let id = order(&world, BulkAct::Cancel, "kind:noop", 100).await;
    let later = world.insert_many(&noop, 1).await[0];
    let mut lead = world.lead.clone();
    let mut steps = 0;
    for _ in 0..100 {
        while world.store.work_operation(&lead).await.unwrap().is_some() {
            steps += 1;
        }
        world.clock.advance(TimeDelta::seconds(11));
        lead = world.store.lead(&format!("boot-{steps}"), 10).await.unwrap().unwrap_or(lead);
        let row = world.store.find_operation(id).await.unwrap().unwrap();
        if row.state == "done" {
            let took = world.clock.now() - row.created_at;
            assert!(took >= TimeDelta::seconds(4), "450 jobs at 100 a second took {took}");
            assert_eq!((row.applied, row.skipped), (450, 0));
            break;
        }
    }
    assert_eq!(steps, 3, "two full pages and a short one");
    assert_eq!(items(&world, id).await, ids.iter().map(|id| (*id, true)).collect());
    assert_eq!(world.state(later).await, JobState::Ready, "it came after the order");
    world.assert_counted("an operation").await;
    assert!(matches!(world.store.work_operation(&world.lead).await, Err(StoreError::NotLeading)));
}

#[tokio::test]
async fn what_cannot_be_done_is_told_and_stops_no_other() {
    let world = World::new().await;
    let noop = kind("noop");
    let (group, members) =
        world.group_with(None, &[store::NewJob::new(noop.clone(), serde_json::json!({}))], true).await;
    world.store.cancel_group(&testkit::granted_to("ada", "wrong year"), group).await.unwrap();
    world.store.cancel_members(&world.lead, 10).await.unwrap();
    assert_eq!(world.state(members[0]).await, JobState::Cancelled);
    let (free, _) = world.job_in(JobState::Cancelled, &noop, 1).await;
    let (failed, _) = world.job_in(JobState::Failed, &noop, 1).await;
    let id = order(&world, BulkAct::Retry, "state:cancelled,failed", 1_000).await;
    let step = world.store.work_operation(&world.lead).await.unwrap().unwrap();
    assert_eq!((step.id, step.applied, step.skipped, step.is_done), (id, 2, 1, true));
    assert_eq!(items(&world, id).await, BTreeSet::from([(members[0], false), (free, true), (failed, true)]));
    assert_eq!((world.state(free).await, world.state(failed).await), (JobState::Ready, JobState::Ready));
    world.assert_counted("retries").await;
}

#[tokio::test]
async fn running_jobs_are_asked_and_others_left_alone() {
    let world = World::new().await;
    let (running, key) = world.job_in(JobState::Running, &kind("noop"), 3).await;
    let other = world.insert_many(&kind("other"), 1).await[0];
    order(&world, BulkAct::Cancel, "kind:noop", 1_000).await;
    world.store.work_operation(&world.lead).await.unwrap().unwrap();
    let held = world.store.renew_leases(world.servant, &[key], world.after_secs(LEASE_SECS)).await.unwrap();
    assert!(held[0].cancel_requested && held[0].id == running);
    assert_eq!(world.state(other).await, JobState::Ready);
}

#[tokio::test]
async fn one_that_is_stopped_does_no_more_and_is_forgotten_in_time() {
    let world = World::new().await;
    world.insert_many(&kind("noop"), 201).await;
    let id = order(&world, BulkAct::Cancel, "kind:noop", 10_000).await;
    assert!(!world.store.work_operation(&world.lead).await.unwrap().unwrap().is_done);
    assert!(world.store.cancel_operation(&testkit::granted_to("grace", ""), id).await.unwrap());
    assert!(!world.store.cancel_operation(&testkit::granted_to("grace", ""), id).await.unwrap(), "it has ended");
    world.clock.advance(TimeDelta::seconds(5));
    assert_eq!(world.store.work_operation(&world.lead).await.unwrap(), None);
    let row = world.store.find_operation(id).await.unwrap().unwrap();
    assert_eq!((row.state.as_str(), row.cancelled_by.as_deref(), row.applied), ("cancelled", Some("grace"), 200));
    world.clock.advance(TimeDelta::seconds(1));
    let (lead, now) = (&world.lead, world.clock.now());
    let kept = items(&world, id).await.len();
    assert!(kept > 1);
    assert_eq!(world.store.forget_operation_items(lead, now, 1).await.unwrap(), 1);
    assert_eq!(world.store.forget_operations(lead, now, 100).await.unwrap(), 0, "something of it is left");
    assert_eq!(world.store.forget_operation_items(lead, now, 1_000).await.unwrap(), kept as u64 - 1);
    assert_eq!(world.store.forget_operations(lead, now, 100).await.unwrap(), 1);
    assert!(items(&world, id).await.is_empty());
}

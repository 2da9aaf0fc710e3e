//! Who may join a group, how far it is, how it is paused and listed. How it ends is in `groups_end`.

use crate::world::{World, kind};
use domain::{AccountId, GroupId, GroupState, JobState, PauseTarget};
use serde_json::json;
use std::time::Duration;
use store::{GroupChange, GroupFilter, JobFilter, NewJob, StoreError};

fn noop() -> NewJob {
    NewJob::new(kind("noop"), json!({}))
}

fn member(group: GroupId) -> NewJob {
    NewJob { group: Some(group), ..noop() }
}

fn assert_refused<T: std::fmt::Debug>(answer: Result<T, StoreError>, words: &str) {
    let error = answer.unwrap_err();
    assert!(matches!(&error, StoreError::NotAdmitted { .. }) && !error.is_transient(), "{error:?}");
    assert!(error.to_string().contains(words), "{error}");
}

#[tokio::test]
async fn a_sealed_group_takes_its_members_children_and_nobody_else() {
    let world = World::new().await;
    let group = world.open_group().await;
    world.insert(&[member(group), noop()]).await;
    world.store.add_members(&testkit::granted(), group, &[noop(), noop()]).await.unwrap();
    assert_eq!(world.group_row(group).await.counts.of(JobState::Ready), 3);
    assert_eq!(world.store.seal_group(&testkit::granted(), group).await.unwrap(), GroupChange::Done);
    assert_eq!(
        world.store.seal_group(&testkit::granted(), group).await.unwrap(),
        GroupChange::Stands(GroupState::Sealed)
    );
    assert_refused(world.store.add_members(&testkit::granted(), group, &[noop()]).await, "it is sealed");
    assert_refused(world.store.insert_jobs(&[noop(), member(group)]).await, "it is sealed");
    assert_refused(world.store.insert_jobs(&[member(GroupId(99))]).await, "no such group");
    assert_eq!(world.store.seal_group(&testkit::granted(), GroupId(99)).await.unwrap(), GroupChange::Missing);
    assert_eq!(world.count("SELECT count(*) FROM jobs").await, 4, "a refusal inserts nothing");

    let other = world.open_group().await;
    let mut tx = world.store.begin().await.unwrap();
    assert_refused(
        world.store.insert_children_in(&mut tx, Some(other), &[member(group)]).await,
        &format!("group {group} takes no members: it is sealed"),
    );
    drop(tx);
    let mut tx = world.store.begin().await.unwrap();
    world.store.insert_children_in(&mut tx, Some(group), &[member(group), noop()]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.group_row(group).await.counts.members(), 4, "the child that asked for it");

    assert_eq!(world.store.cancel_group(&testkit::granted(), group).await.unwrap(), GroupChange::Done);
    let mut tx = world.store.begin().await.unwrap();
    let child = world.store.insert_children_in(&mut tx, Some(group), &[member(group)]).await;
    assert_refused(child, "it is cancelling");
    world.assert_counted("joining").await;
}

/// Whoever adds members holds the group: sealing waits until they are there.
#[tokio::test]
async fn sealing_waits_for_members_on_their_way() {
    let world = World::new().await;
    let (group, _) = world.group_with(None, &[], false).await;
    let mut tx = world.store.begin().await.unwrap();
    world.store.insert_jobs_in(&mut tx, &[member(group)]).await.unwrap();
    let store = world.store.clone();
    let sealing = tokio::spawn(async move { store.seal_group(&testkit::granted(), group).await.unwrap() });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '-- seal_group%'
        AND datname = current_database()";
    testkit::eventually(Duration::from_secs(10), "the seal to wait", async || {
        (world.count(waits).await == 1).then_some(())
    })
    .await;
    assert!(!sealing.is_finished());
    tx.commit().await.unwrap();
    assert_eq!(sealing.await.unwrap(), GroupChange::Done);
    assert!(world.store.end_groups(&world.lead, 10).await.unwrap().ended.is_empty(), "its member is there");
    assert_eq!(world.group_row(group).await.counts.of(JobState::Ready), 1);
}

#[tokio::test]
async fn progress_is_the_sum_of_the_members() {
    let world = World::new().await;
    let (group, _) = world.group_with(None, &vec![noop(); 6], true).await;
    let said = [
        json!({"done": 3, "total": 10, "message": "pages"}),
        json!({"done": 4, "total": null}),
        json!({"done": 5, "total": 2}),
        json!({"done": "many", "total": -7}),
        json!({"done": 18_446_744_073_709_551_615_u64}),
    ];
    let claimed = world.claim(&kind("noop"), 5).await;
    let keys: Vec<_> = claimed.iter().map(|job| job.key).collect();
    let progress = |said: &[serde_json::Value]| keys.iter().copied().zip(said.iter().cloned()).collect::<Vec<_>>();
    world.store.save_progress(&progress(&said[..4])).await.unwrap();
    let seen = world.store.group_progress(&world.group_row(group).await).await.unwrap();
    assert_eq!((seen.done, seen.total, seen.is_partial), (3 + 4 + 5, 10 + 4 + 5, false), "running ones");

    world.store.save_progress(&progress(&said)).await.unwrap();
    world.store.succeed(&keys[..3]).await.unwrap();
    assert!(world.settle(keys[3], store::Fate::Fail(crate::world::failure())).await);
    world.assert_counted("ended members").await;
    world.store.fold_counters(&world.lead, 1_000).await.unwrap();
    let row = world.group_row(group).await;
    assert_eq!((row.counts.done, row.counts.total), (12, 19), "ended ones, folded");
    let bound = 1_000_000_000_000;
    let seen = world.store.group_progress(&row).await.unwrap();
    assert_eq!((seen.done, seen.total), (12 + bound, 19 + bound), "whatever a job says, sums do not overflow");
    world.retry_jobs(&[keys[3].id]).await.unwrap();
    world.assert_counted("a retry").await;
}

#[tokio::test]
async fn the_progress_of_a_large_group_reads_a_bounded_part() {
    let world = World::new().await;
    let (group, _) = world.group_with(None, &[], false).await;
    let deep = "INSERT INTO jobs (account_id, due_at, created_at, ready_at, state, priority, attempts_max, kind,
            request_id, payload, group_id)
        SELECT 8, '2030-05-06', '2030-05-06', '2030-05-06', 1, 2, 3, 'noop', gen_random_uuid(), '{}', ($1)::bigint
        FROM generate_series(1, 20000)";
    let mut tx = world.store.begin().await.unwrap();
    tx.execute(deep, &json!(group)).await.unwrap();
    tx.commit().await.unwrap();
    world.store.close().await;
    let before = world.rows_read().await;
    let store = world.reopened().await;
    let row = store.find_group(group).await.unwrap().unwrap();
    store.group_progress(&row).await.unwrap();
    for states in [vec![JobState::Running], vec![JobState::Queued], vec![JobState::Ready], vec![JobState::Failed]] {
        let filter = JobFilter { group: Some(group), states, ..JobFilter::default() };
        store.list_jobs(&filter, 50).await.unwrap();
    }
    store.close().await;
    let read = world.rows_read().await - before;
    assert!(read <= 1_300, "{read} rows were read");
}

#[tokio::test]
async fn a_paused_groups_members_wait_and_others_do_not() {
    let world = World::new().await;
    let (group, members) = world.group_with(None, &[noop(), noop()], true).await;
    let (_, others) = world.group_with(None, &[noop()], true).await;
    let lone = world.insert(&[noop()]).await;
    let target = PauseTarget::Group(group);
    world.store.pause(&testkit::granted(), &target).await.unwrap();
    let claimed: Vec<_> = world.claim(&kind("noop"), 10).await.iter().map(|job| (job.key.id, job.group)).collect();
    assert_eq!(claimed.len(), 2, "{claimed:?}");
    assert!(claimed.iter().all(|(id, of)| (others.contains(id) || lone.contains(id)) && *of != Some(group)));
    assert_eq!(testkit::dispatch(&world.store, &world.lead, &kind("noop"), 10).await.unwrap(), 0);
    let waits = world.store.find_job(members[0]).await.unwrap().unwrap();
    let cause = domain::why(&world.store.why_facts(&waits).await.unwrap());
    assert!(cause.says().starts_with(&format!("group {group} is paused by ada")), "{}", cause.says());

    world.store.resume(&testkit::granted(), &target).await.unwrap();
    assert_eq!(testkit::dispatch(&world.store, &world.lead, &kind("noop"), 10).await.unwrap(), 2);
    world.store.pause(&testkit::granted_to("ada", "again"), &target).await.unwrap();
    let delivered: Vec<_> = members.iter().map(|id| store::Delivered { id: *id, sent_at: world.clock.now() }).collect();
    let until = world.after_secs(60);
    let claimed = world.store.claim_delivered(world.servant, &kind("noop"), &delivered, until).await.unwrap();
    assert!(claimed.is_empty(), "{claimed:?}");
    assert_eq!(world.state(members[0]).await, JobState::Ready);
    world.assert_counted("a group's pause").await;
}

#[tokio::test]
async fn groups_and_their_members_are_listed_page_by_page() {
    let world = World::new().await;
    let mut groups = Vec::new();
    for at in 0..3 {
        groups.push(world.group_with(None, &vec![noop(); 4], at == 1).await.0);
    }
    let list = async |filter: GroupFilter, limit| -> Vec<GroupId> {
        world.store.list_groups(&filter, limit).await.unwrap().iter().map(|row| row.id).collect()
    };
    assert_eq!(list(GroupFilter::default(), 2).await, [groups[2], groups[1]]);
    assert_eq!(list(GroupFilter { before: Some(groups[1]), ..GroupFilter::default() }, 2).await, [groups[0]]);
    let sealed = GroupFilter { state: Some(GroupState::Sealed), ..GroupFilter::default() };
    assert_eq!(list(sealed, 10).await, [groups[1]]);
    let of = |account| GroupFilter { account: Some(AccountId(account)), ..GroupFilter::default() };
    assert_eq!((list(of(0), 10).await.len(), list(of(7), 10).await.len()), (3, 0));

    // One in each state.
    let keys: Vec<_> = world.claim(&kind("noop"), 3).await.iter().map(|job| job.key).collect();
    world.store.succeed(&keys[..1]).await.unwrap();
    assert!(world.settle(keys[1], store::Fate::Fail(crate::world::failure())).await);
    let members = async |states: &[JobState], before, limit| {
        let filter =
            JobFilter { group: Some(groups[0]), states: states.to_vec(), before_id: before, ..JobFilter::default() };
        world.store.list_jobs(&filter, limit).await.unwrap()
    };
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let page = members(&[], before, 3).await;
        seen.extend(page.iter().map(|row| row.id));
        before = page.last().map(|row| row.id);
        if page.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), 4);
    assert!(seen.is_sorted_by(|a, b| a > b), "{seen:?}");
    for (state, id) in [(JobState::Succeeded, 0), (JobState::Failed, 1), (JobState::Running, 2)] {
        let rows = members(&[state], None, 10).await;
        assert_eq!(rows.iter().map(|row| (row.id, row.group_id)).collect::<Vec<_>>(), [(keys[id].id, Some(groups[0]))]);
    }
    assert_eq!(testkit::dispatch(&world.store, &world.lead, &kind("noop"), 1).await.unwrap(), 1);
    assert_eq!(members(&[JobState::Queued], None, 10).await.len(), 1);
}

/// A job that was made with what it has to do counts from the beginning; how long is left is told by who was quick.
#[tokio::test]
async fn what_is_to_do_and_how_long_it_takes_is_known_before_it_is_done() {
    let world = World::new().await;
    let work = |todo| NewJob { todo: Some(todo), ..noop() };
    let (group, ids) = world.group_with(None, &[work(100), work(100), work(50)], true).await;
    let seen = async || world.store.group_progress(&world.group_row(group).await).await.unwrap();
    let first = seen().await;
    assert_eq!((first.done, first.total, first.is_partial, first.left), (0, 250, false, None), "unknown at first");
    let claimed = world.claim(&kind("noop"), 1).await;
    world.clock.advance(chrono::TimeDelta::seconds(10));
    let said = json!({"done": 100, "total": 100});
    world.store.save_progress(&[(claimed[0].key, said)]).await.unwrap();
    world.store.succeed(&[claimed[0].key]).await.unwrap();
    let then = seen().await;
    assert_eq!((then.done, then.total), (100, 250));
    assert_eq!(then.left, Some(chrono::TimeDelta::seconds(15)), "100 took 10 s, 150 are left");
    world.store.cancel_jobs(&ids[1..]).await.unwrap();
    world.store.fold_counters(&world.lead, 1_000).await.unwrap();
    assert_eq!(world.store.end_groups(&world.lead, 10).await.unwrap().ended.len(), 1);
    let ended = seen().await;
    assert_eq!((ended.done, ended.total, ended.left), (100, 250, None));
    world.assert_counted("announced work").await;
}

#[tokio::test]
async fn a_running_job_founds_a_group_and_its_children_join() {
    let world = World::new().await;
    world.insert(&[noop()]).await;
    let key = world.claim(&kind("noop"), 1).await[0].key;
    let new = store::NewGroup {
        name: "an onboarding".to_owned(),
        account: AccountId::SYSTEM,
        finishing: None,
        request_id: uuid::Uuid::new_v4(),
    };
    let mut tx = world.store.begin().await.unwrap();
    let group = world.store.found_group_in(&mut tx, &new, "a servant").await.unwrap();
    let nobodys = crate::world::nobodys(key.id);
    assert_eq!(world.store.join_group_in(&mut tx, nobodys, group).await.unwrap(), store::Outcome::Stale);
    assert_eq!(world.store.join_group_in(&mut tx, key, group).await.unwrap(), store::Outcome::Applied);
    assert_eq!(world.store.join_group_in(&mut tx, key, group).await.unwrap(), store::Outcome::Stale, "once");
    world.store.insert_children_in(&mut tx, Some(group), &[member(group)]).await.unwrap();
    tx.commit().await.unwrap();
    world.assert_counted("a founded group").await;
    let row = world.group_row(group).await;
    assert_eq!(
        (row.state, row.counts.of(JobState::Running), row.counts.of(JobState::Ready)),
        (GroupState::Sealed, 1, 1)
    );
    world.store.succeed(&[key]).await.unwrap();
    world.store.fold_counters(&world.lead, 1_000).await.unwrap();
    assert!(world.store.end_groups(&world.lead, 10).await.unwrap().ended.is_empty(), "its child is there");
    let key = world.claim(&kind("noop"), 1).await[0].key;
    world.store.succeed(&[key]).await.unwrap();
    world.store.fold_counters(&world.lead, 1_000).await.unwrap();
    assert_eq!(world.store.end_groups(&world.lead, 10).await.unwrap().ended.len(), 1);
    world.assert_counted("its end").await;
}

//! How a group ends: once, with its finishing job, whatever is interrupted; cancelled; started anew; forgotten.

use crate::world::{World, failure, kind};
use chrono::TimeDelta;
use domain::{FinishWhen, Finishing, GroupId, GroupState, JobId, JobState};
use serde_json::json;
use store::{AttemptKey, Fate, GroupChange, GroupEnd, Leadership, NewJob, Retention};

fn noop() -> NewJob {
    NewJob::new(kind("noop"), json!({}))
}

fn finishing(when: FinishWhen) -> Option<Finishing> {
    Some(Finishing { kind: kind("notify"), payload: json!({"to": "ada"}), priority: 1, connection: None, when })
}

async fn fold(world: &World) {
    while world.store.fold_counters(&world.lead, 1_000).await.unwrap() > 0 {}
}

/// Folds and looks, as the leader does.
async fn end(world: &World) -> Vec<GroupEnd> {
    fold(world).await;
    world.store.end_groups(&world.lead, 10).await.unwrap().ended
}

async fn run(world: &World, jobs: i64) -> Vec<AttemptKey> {
    let keys: Vec<_> = world.claim(&kind("noop"), jobs).await.iter().map(|job| job.key).collect();
    assert_eq!(world.store.succeed(&keys).await.unwrap().len(), keys.len());
    keys
}

async fn finishing_jobs(world: &World) -> i64 {
    world.count("SELECT count(*) FROM (SELECT kind FROM jobs UNION ALL SELECT kind FROM finished_jobs) AS j WHERE kind = 'notify'").await
}

#[tokio::test]
async fn the_finishing_job_comes_once_when_all_are_done() {
    let world = World::new().await;
    let (group, _) = world.group_with(finishing(FinishWhen::AllDone), &vec![noop(); 3], false).await;
    run(&world, 2).await;
    let last = world.claim(&kind("noop"), 1).await[0].key;
    assert!(world.settle(last, Fate::Fail(failure())).await);
    assert!(end(&world).await.is_empty(), "it is open");
    world.store.seal_group(&testkit::granted(), group).await.unwrap();
    let deposed = Leadership { term: domain::Term(world.lead.term.0 - 1), ..world.lead.clone() };
    assert!(
        world.store.end_groups(&deposed, 10).await.unwrap().ended.is_empty(),
        "one that leads no more ends nothing"
    );
    let ended = end(&world).await;
    assert_eq!(ended.len(), 1);
    assert_eq!((ended[0].id, ended[0].state), (group, GroupState::Finished));
    let (job, of) = ended[0].finishing_job.clone().expect("a finishing job");
    let row = world.store.find_job(job).await.unwrap().unwrap();
    assert_eq!(
        (row.kind.clone(), row.payload.clone(), row.priority, row.group_id),
        (of, domain::Sensitive::new(json!({"to": "ada"})), 1, None)
    );
    assert_eq!(world.group_row(group).await.finishing_job, Some(job));
    for _ in 0..3 {
        assert!(end(&world).await.is_empty(), "twice is once");
    }
    assert_eq!(finishing_jobs(&world).await, 1);
    world.assert_counted("a group's end").await;
}

/// The transaction is broken at each of its writes; then it is made again, by many at once.
#[tokio::test]
async fn whatever_is_interrupted_it_comes_once() {
    let world = World::new().await;
    sqlx::query("CREATE FUNCTION break() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''broken as ordered''; END'")
        .execute(&world.sql)
        .await
        .unwrap();
    let writes = [("INSERT", "jobs"), ("INSERT", "job_count_deltas"), ("UPDATE", "groups"), ("UPDATE", "group_counts")];
    let mut wanted = 0;
    for (at, (event, table)) in writes.into_iter().enumerate() {
        let (group, _) = world.group_with(finishing(FinishWhen::AllSucceeded), &[noop()], true).await;
        run(&world, 1).await;
        fold(&world).await;
        let broken = format!("CREATE TRIGGER broken BEFORE {event} ON {table} EXECUTE FUNCTION break()");
        sqlx::query(sqlx::AssertSqlSafe(broken)).execute(&world.sql).await.unwrap();
        let error = world.store.end_groups(&world.lead, 10).await.unwrap_err();
        assert!(format!("{error:?}").contains("broken as ordered"), "{at}: {error:?}");
        assert_eq!(world.group_row(group).await.state, GroupState::Sealed, "{event} {table}");
        assert_eq!(finishing_jobs(&world).await, wanted, "{event} {table}");
        let mended = format!("DROP TRIGGER broken ON {table}");
        sqlx::query(sqlx::AssertSqlSafe(mended)).execute(&world.sql).await.unwrap();

        let mut ending = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (store, lead) = (world.store.clone(), world.lead.clone());
            ending.spawn(async move { store.end_groups(&lead, 10).await.unwrap().ended.len() });
        }
        let ended: usize = ending.join_all().await.into_iter().sum();
        wanted += 1;
        assert_eq!((ended, finishing_jobs(&world).await), (1, wanted), "{event} {table}");
        world.assert_counted(&format!("a broken {event} of {table}")).await;
    }
}

#[tokio::test]
async fn groups_that_are_not_understood_keep_no_other_from_ending() {
    let world = World::new().await;
    let mut groups = Vec::new();
    for _ in 0..3 {
        groups.push(world.group_with(finishing(FinishWhen::AllDone), &[noop()], true).await.0);
    }
    let newer = "UPDATE groups SET finishing = finishing || '{\"when\": \"all_seen\"}' WHERE id = $1";
    for group in &groups[..2] {
        sqlx::query(newer).bind(group.0).execute(&world.sql).await.unwrap();
    }
    run(&world, 3).await;
    fold(&world).await;
    let end = async || {
        let all = world.store.end_groups(&world.lead, 1).await.unwrap();
        (all.ended.iter().map(|end| end.id).collect::<Vec<_>>(), all.unclear)
    };
    let unclear = vec![(groups[0], "finishing"), (groups[1], "finishing")];
    assert_eq!(end().await, (vec![groups[2]], unclear.clone()));
    assert_eq!(end().await, (vec![], unclear));
    assert_eq!(finishing_jobs(&world).await, 1);
    let left = "SELECT count(*) FROM groups WHERE state = 'sealed'";
    assert_eq!(world.count(left).await, 2, "they are left as they are");
    sqlx::query("UPDATE groups SET finishing = finishing || '{\"when\": \"all_done\"}'")
        .execute(&world.sql)
        .await
        .unwrap();
    assert_eq!(
        world.store.end_groups(&world.lead, 10).await.unwrap().ended.len(),
        2,
        "and end once they are understood"
    );
}

/// A member's end and its children are one commit: at no moment is the group seen without an unfinished member.
#[tokio::test]
async fn a_member_that_adds_members_as_it_ends_keeps_the_group_going() {
    let world = World::new().await;
    let (group, _) = world.group_with(finishing(FinishWhen::AllDone), &[noop()], true).await;
    for generation in 0..4 {
        let key = world.claim(&kind("noop"), 1).await[0].key;
        let mut tx = world.store.begin().await.unwrap();
        let child = NewJob { group: Some(group), ..noop() };
        world.store.insert_children_in(&mut tx, Some(group), &[child]).await.unwrap();
        assert!(end(&world).await.is_empty(), "its parent runs ({generation})");
        assert_eq!(world.store.succeed_in(&mut tx, key).await.unwrap(), store::Outcome::Applied);
        assert!(end(&world).await.is_empty(), "nothing is committed ({generation})");
        tx.commit().await.unwrap();
        assert!(end(&world).await.is_empty(), "its child waits ({generation})");
        world.assert_counted("a generation").await;
    }
    run(&world, 1).await;
    assert_eq!(end(&world).await.len(), 1);
    assert_eq!(world.group_row(group).await.counts.of(JobState::Succeeded), 5);
}

/// Deltas may be folded in any order, and so the folded counters be at zero in between: that decides nothing.
#[tokio::test]
async fn folded_counters_that_lie_for_a_moment_end_nothing() {
    let world = World::new().await;
    let (group, _) = world.group_with(finishing(FinishWhen::AllDone), &vec![noop(); 2], true).await;
    let keys: Vec<_> = world.claim(&kind("noop"), 2).await.iter().map(|job| job.key).collect();
    assert!(world.store.end_groups(&world.lead, 10).await.unwrap().ended.is_empty(), "folded: no member at all");
    world.store.succeed(&keys[..1]).await.unwrap();
    for _ in 0..6 {
        world.store.fold_counters(&world.lead, 1).await.unwrap();
        assert!(world.store.end_groups(&world.lead, 10).await.unwrap().ended.is_empty());
    }
    world.store.succeed(&keys[1..]).await.unwrap();
    assert_eq!(end(&world).await.len(), 1);
    assert_eq!(world.group_row(group).await.state, GroupState::Finished);
}

#[tokio::test]
async fn a_group_that_failed_waits_again_when_a_member_is_retried() {
    let world = World::new().await;
    let (group, members) = world.group_with(finishing(FinishWhen::AllSucceeded), &vec![noop(); 2], true).await;
    run(&world, 1).await;
    let key = world.claim(&kind("noop"), 1).await[0].key;
    assert!(world.settle(key, Fate::Fail(failure())).await);
    let ended = end(&world).await;
    assert_eq!((ended[0].state, ended[0].finishing_job.is_none()), (GroupState::Failed, true));
    assert_eq!(finishing_jobs(&world).await, 0);
    // Both fail and are retried: then the finishing job runs after all, once.
    assert_eq!(world.retry_jobs(&members).await.unwrap(), [key.id]);
    assert_eq!(world.group_row(group).await.state, GroupState::Sealed);
    assert!(end(&world).await.is_empty());
    run(&world, 1).await;
    assert_eq!(end(&world).await[0].state, GroupState::Finished);
    assert_eq!(finishing_jobs(&world).await, 1);
    world.assert_counted("a retried member").await;
}

#[tokio::test]
async fn a_group_that_finished_stays_so_whatever_is_retried() {
    let world = World::new().await;
    let (group, members) = world.group_with(finishing(FinishWhen::AllDone), &[noop()], true).await;
    let key = world.claim(&kind("noop"), 1).await[0].key;
    assert!(world.settle(key, Fate::Fail(failure())).await);
    assert_eq!(end(&world).await[0].state, GroupState::Finished);
    world.retry_jobs(&members).await.unwrap();
    run(&world, 1).await;
    assert!(end(&world).await.is_empty());
    let row = world.group_row(group).await;
    assert_eq!((row.state, row.counts.of(JobState::Succeeded)), (GroupState::Finished, 1), "its numbers follow");
    assert_eq!(finishing_jobs(&world).await, 1);
}

async fn cancel_all(world: &World, limit: i64) -> usize {
    let mut jobs = 0;
    loop {
        let cancelled = world.store.cancel_members(&world.lead, limit).await.unwrap();
        jobs += cancelled.jobs;
        if cancelled.jobs == 0 {
            return jobs;
        }
    }
}

#[tokio::test]
async fn cancelling_a_group_ends_its_members_batch_by_batch() {
    let world = World::new().await;
    let (group, members) = world.group_with(finishing(FinishWhen::AllDone), &vec![noop(); 7], false).await;
    let (other, _) = world.group_with(None, &vec![noop(); 2], true).await;
    let running: Vec<_> = world.claim(&kind("noop"), 2).await.iter().map(|job| job.key).collect();
    assert_eq!(
        world.store.cancel_group(&testkit::granted_to("ada", "wrong year"), group).await.unwrap(),
        GroupChange::Done
    );
    let twice = world.store.cancel_group(&testkit::granted_to("bob", "again"), group).await.unwrap();
    assert_eq!(twice, GroupChange::Stands(GroupState::Cancelling));
    assert_eq!(
        world.store.cancel_group(&testkit::granted_to("ada", "x"), GroupId(99)).await.unwrap(),
        GroupChange::Missing
    );
    let deposed = Leadership { term: domain::Term(world.lead.term.0 - 1), ..world.lead.clone() };
    assert_eq!(world.store.cancel_members(&deposed, 3).await.unwrap().jobs, 0);

    // Whoever carries it out may die after any batch.
    let first = world.store.cancel_members(&world.lead, 3).await.unwrap();
    assert!(first.jobs == 3 && first.is_full);
    assert_eq!(cancel_all(&world, 3).await, 4);
    let counts = world.group_row(group).await.counts;
    assert_eq!((counts.of(JobState::Cancelled), counts.of(JobState::Running)), (5, 2));
    assert!(end(&world).await.is_empty(), "two have not obeyed yet");
    // One fails instead, and would be tried again.
    let retry = Fate::RetryAt { due: world.after_secs(60), charged: true, failure: failure() };
    assert!(world.settle(running[0], retry).await);
    assert!(world.store.succeed(&running[1..]).await.unwrap().contains(&running[1].id), "one was too quick");
    assert_eq!(cancel_all(&world, 3).await, 1);
    let ended = end(&world).await;
    assert_eq!((ended[0].state, ended[0].finishing_job.is_none()), (GroupState::Cancelled, true));
    let row = world.group_row(group).await;
    assert_eq!((row.cancelled_by.as_deref(), row.cancel_reason.as_deref()), (Some("ada"), Some("wrong year")));
    assert!(world.retry_jobs(&members).await.unwrap().is_empty(), "its members stay where they are");
    assert_eq!(world.group_row(other).await.counts.of(JobState::Ready), 2, "others' members are left alone");
    assert_eq!(finishing_jobs(&world).await, 0);
    world.assert_counted("a cancelled group").await;
}

#[tokio::test]
async fn members_that_are_pruned_count_on_and_old_groups_are_forgotten() {
    let mut world = World::new().await;
    let (group, _) = world.group_with(finishing(FinishWhen::AllSucceeded), &vec![noop(); 2], true).await;
    world.store.keep_partitions(&world.lead, Retention { days: 3 }).await.unwrap();
    let keys: Vec<_> = world.claim(&kind("noop"), 2).await.iter().map(|job| job.key).collect();
    let said = keys.iter().map(|key| (*key, json!({"done": 2, "total": 3}))).collect::<Vec<_>>();
    world.store.save_progress(&said).await.unwrap();
    assert!(world.settle(keys[0], Fate::Fail(failure())).await);
    async fn days_pass(world: &mut World) {
        world.clock.advance(TimeDelta::days(5));
        world.lead = world.store.lead("boot-2", 10).await.unwrap().unwrap();
        world.store.keep_partitions(&world.lead, Retention { days: 3 }).await.unwrap();
    }
    days_pass(&mut world).await;
    assert_eq!(world.count("SELECT count(*) FROM finished_jobs").await, 0);
    let row = world.group_row(group).await;
    assert_eq!((row.counts.of(JobState::Failed), row.counts.done), (1, 2));
    world.assert_counted("pruning").await;
    assert!(world.store.succeed(&keys[1..]).await.unwrap().contains(&keys[1].id));
    assert_eq!(end(&world).await[0].state, GroupState::Failed, "a member failed, however long ago");

    let forget = async |world: &World| {
        let cutoff = world.clock.now() - TimeDelta::days(3);
        world.store.drop_groups(&world.lead, cutoff, 10).await.unwrap()
    };
    assert_eq!(forget(&world).await, 0);
    days_pass(&mut world).await;
    assert_eq!(forget(&world).await, 1);
    assert!(world.store.find_group(group).await.unwrap().is_none());
    world.assert_counted("forgetting").await;
    assert!(world.retry_jobs(&[JobId(1)]).await.unwrap().is_empty());
}

/// Twenty thousand groups that go on, and one of them cancelled, are not the leader's to read.
#[tokio::test]
async fn looking_for_ended_groups_reads_those_alone() {
    let world = World::new().await;
    let deep = "WITH made AS (
            INSERT INTO groups (name, state, state_since, created_by, created_at, request_id)
            SELECT 'deep', 'sealed', now(), 'ada', now(), gen_random_uuid() FROM generate_series(1, 20000) RETURNING id
        ), counted AS (
            INSERT INTO group_counts (group_id, ready, is_awaited) SELECT id, 1, true FROM made
        )
        INSERT INTO jobs (account_id, due_at, created_at, ready_at, state, priority, attempts_max, kind, request_id,
            payload, group_id)
        SELECT 8, '2030-05-06', '2030-05-06', '2030-05-06', 1, 2, 3, 'noop', gen_random_uuid(), '{}', id FROM made";
    sqlx::query(deep).execute(&world.sql).await.unwrap();
    let (group, _) = world.group_with(None, &vec![noop(); 20], true).await;
    world.store.cancel_group(&testkit::granted(), group).await.unwrap();
    world.store.close().await;
    let before = world.rows_read().await;
    let store = world.reopened().await;
    assert_eq!(store.cancel_members(&world.lead, 10).await.unwrap().jobs, 10);
    assert!(store.end_groups(&world.lead, 10).await.unwrap().ended.is_empty());
    store.close().await;
    let read = world.rows_read().await - before;
    assert!(read <= 200, "{read} rows were read");
}

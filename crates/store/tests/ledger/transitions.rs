//! Every state against every event: what the statements do is what the table says, and the counters follow.

use crate::world::{LEASE_SECS, World, failure, kind, nobodys, revoked};
use chrono::TimeDelta;
use domain::{JobEvent, JobId, JobState, Kind, PauseTarget, RetryPolicy, next};
use store::{AttemptKey, Delivered, Fate, Outcome};

/// Seconds after which a queued job is sent again.
const BOUND_SECS: u32 = 10;

/// Carries out an event by its statement; answers whether the statement says that it applied.
async fn apply(world: &World, event: JobEvent, kind: &Kind, id: JobId, key: AttemptKey) -> bool {
    let World { store, lead, clock, .. } = world;
    let was = world.state(id).await;
    match event {
        JobEvent::Promote => {
            clock.advance(TimeDelta::seconds(61));
            store.promote(lead, 1000).await.unwrap().contains(&kind.to_string())
        }
        JobEvent::Dispatch => testkit::dispatch(store, lead, kind, 10).await.unwrap() > 0,
        JobEvent::SendAgain => {
            clock.advance(TimeDelta::seconds(i64::from(BOUND_SECS) + 1));
            store.send_again(lead, kind, BOUND_SECS, 10).await.unwrap() > 0
        }
        JobEvent::Hold => {
            let target = PauseTarget::Kind(kind.clone());
            store.pause(&testkit::granted(), &target).await.unwrap();
            let delivered = [Delivered { id, sent_at: clock.now() }];
            let until = world.after_secs(LEASE_SECS);
            assert!(store.claim_delivered(world.servant, kind, &delivered, until).await.unwrap().is_empty());
            assert!(store.resume(&testkit::granted(), &target).await.unwrap());
            // It says nothing of what it held: the row does.
            world.state(id).await != was
        }
        JobEvent::Claim => world.claim(kind, 10).await.iter().any(|job| job.key.id == id),
        JobEvent::Succeed => store.succeed(&[key]).await.unwrap().contains(&id),
        JobEvent::RetryLater => {
            let fate = Fate::RetryAt { due: world.after_secs(60), charged: true, failure: failure() };
            world.settle(key, fate).await
        }
        JobEvent::Fail => world.settle(key, Fate::Fail(failure())).await,
        JobEvent::GiveBack => world.settle(key, Fate::GiveBack).await,
        JobEvent::Park => {
            let connection = world.connection("salesforce").await;
            sqlx::query("UPDATE jobs SET connection_id = $2 WHERE id = $1")
                .bind(id.0)
                .bind(connection.0)
                .execute(&world.sql)
                .await
                .unwrap();
            world.settle(key, Fate::Park(revoked())).await
        }
        JobEvent::Rescue | JobEvent::RescueFailed => {
            clock.advance(TimeDelta::seconds(LEASE_SECS + 1));
            let rescued = store.rescue(lead, 1000, |_| RetryPolicy::default()).await.unwrap().jobs;
            let failed = event == JobEvent::RescueFailed;
            rescued.iter().any(|r| r.id == id && r.failed == failed)
        }
        JobEvent::Cancel => {
            let found = store.cancel_jobs(&[id]).await.unwrap() == [id];
            if was == JobState::Running {
                assert_eq!(world.state(id).await, JobState::Running, "cancelling asks, the servant ends");
                assert!(found && world.settle(key, Fate::Cancelled).await);
            }
            found
        }
        JobEvent::Retry => world.retry_jobs(&[id]).await.unwrap() == [id],
    }
}

#[tokio::test]
async fn every_state_meets_every_event_as_the_table_says() {
    meet_every_event(&World::new().await).await;
}

#[tokio::test]
async fn members_of_a_group_meet_every_event_and_its_counters_follow() {
    let mut world = World::new().await;
    world.group = Some(world.open_group().await);
    meet_every_event(&world).await;
    let counts = world.group_row(world.group.unwrap()).await.counts;
    let jobs = i64::try_from(JobState::ALL.len() * JobEvent::ALL.len()).unwrap();
    assert_eq!(counts.members(), jobs, "{counts:?}");
}

async fn meet_every_event(world: &World) {
    for state in JobState::ALL {
        for event in JobEvent::ALL {
            let kind = kind(&format!("{state}_{}", format!("{event:?}").to_lowercase()));
            let attempts_max = if event == JobEvent::RescueFailed { 1 } else { 3 };
            let (id, key) = world.job_in(state, &kind, attempts_max).await;
            let applied = apply(world, event, &kind, id, key).await;
            let expected = next(state, event);
            assert_eq!(applied, expected.is_some(), "{event:?} on {state} answered wrongly");
            assert_eq!(world.state(id).await, expected.unwrap_or(state), "{event:?} on {state}");
            world.assert_counted(&format!("{event:?} on {state}")).await;
        }
    }
    assert!(world.store.fold_counters(&world.lead, 1_000_000).await.unwrap() > 0);
    world.assert_counted("folding").await;
    assert_eq!(world.store.fold_counters(&world.lead, 1_000_000).await.unwrap(), 0, "nothing is folded twice");
}

#[tokio::test]
async fn a_delivery_claims_what_is_queued_and_nothing_else() {
    let world = World::new().await;
    for state in JobState::ALL {
        let kind = kind(&format!("delivered_{state}"));
        let (id, _) = world.job_in(state, &kind, 3).await;
        let delivered = [Delivered { id, sent_at: world.clock.now() }; 2];
        let until = world.after_secs(LEASE_SECS);
        let claimed = world.store.claim_delivered(world.servant, &kind, &delivered, until).await.unwrap();
        let is_queued = state == JobState::Queued;
        assert_eq!(claimed.len(), usize::from(is_queued), "{state}: a message twice is one claim at most");
        assert_eq!(world.state(id).await, if is_queued { JobState::Running } else { state });
        world.assert_counted("a delivery").await;
    }
}

#[tokio::test]
async fn success_is_written_once_and_within_the_effects_transaction() {
    let world = World::new().await;
    let kind = kind("noop");
    let (id, key) = world.job_in(JobState::Running, &kind, 3).await;
    let mut vanishing = world.store.begin().await.unwrap();
    assert_eq!(world.store.succeed_in(&mut vanishing, key).await.unwrap(), Outcome::Applied);
    drop(vanishing);
    assert!(world.store.succeed(&[key, key]).await.unwrap().contains(&id), "the transaction had vanished");
    assert!(world.store.succeed(&[key]).await.unwrap().is_empty());
    assert_eq!(world.state(id).await, JobState::Succeeded);
    world.assert_counted("three successes").await;
}

#[tokio::test]
async fn an_operator_retries_what_failed_with_all_its_attempts() {
    let world = World::new().await;
    let kind = kind("noop");
    let (id, _) = world.job_in(JobState::Failed, &kind, 2).await;
    let (done, _) = world.job_in(JobState::Succeeded, &kind, 2).await;
    assert_eq!(world.retry_jobs(&[done, id, id]).await.unwrap(), [id]);
    assert_eq!(world.attempt(id).await, 0);
    assert_eq!(world.claim(&kind, 5).await[0].attempt, 1);
    world.assert_counted("a retry").await;
}

#[tokio::test]
async fn a_kinds_own_rows_and_its_completion_are_one_commit() {
    let world = World::new().await;
    let kind = kind("noop");
    sqlx::query("CREATE TABLE own (job_id bigint, note text)").execute(&world.sql).await.unwrap();
    let insert = "INSERT INTO own SELECT * FROM jsonb_to_recordset($1) AS t (job_id bigint, note text)";
    let (id, key) = world.job_in(JobState::Running, &kind, 3).await;
    let rows = serde_json::json!([{"job_id": id, "note": "one"}, {"job_id": id, "note": "two"}]);
    for (attempt, outcome) in [(nobodys(id), Outcome::Stale), (key, Outcome::Applied)] {
        let mut tx = world.store.begin().await.unwrap();
        assert_eq!(tx.execute(insert, &rows).await.unwrap(), 2);
        assert_eq!(world.store.succeed_in(&mut tx, attempt).await.unwrap(), outcome);
        assert_eq!(world.count("SELECT count(*) FROM own").await, 0, "not before the commit");
        if outcome == Outcome::Applied {
            tx.commit().await.unwrap();
        }
    }
    assert_eq!(world.count("SELECT count(*) FROM own").await, 2);
    let mut tx = world.store.begin().await.unwrap();
    let refused = tx.execute("INSERT INTO nowhere SELECT $1", &rows).await.unwrap_err();
    assert!(!refused.is_transient(), "{refused:?}");
}

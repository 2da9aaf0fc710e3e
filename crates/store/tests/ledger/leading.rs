//! What the leading scheduler does: terms and that nothing outlives them, sending again, folding counters, partitions.

use crate::world::{LEASE_SECS, World, kind};
use chrono::TimeDelta;
use domain::{JobState, RetryPolicy};
use store::{Delivered, Fate, NewJob, Retention, StoreError, Unique};

#[tokio::test]
async fn a_leader_of_the_past_changes_nothing() {
    let world = World::new().await;
    let old = world.lead.clone();
    assert_eq!(world.store.lead("boot-2", 10).await.unwrap(), None, "the lead is taken");
    assert_eq!(world.store.lead("boot-1", 10).await.unwrap(), Some(old.clone()), "keeping it keeps the term");
    let (scheduled, _) = world.job_in(JobState::Scheduled, &kind("a"), 3).await;
    let (ready, _) = world.job_in(JobState::Ready, &kind("b"), 3).await;
    let (queued, _) = world.job_in(JobState::Queued, &kind("c"), 3).await;
    let (running, _) = world.job_in(JobState::Running, &kind("d"), 3).await;
    reserve_key(&world).await;
    world.clock.advance(TimeDelta::seconds(600 + LEASE_SECS));
    let new = world.store.lead("boot-2", 10).await.unwrap().unwrap();
    assert!(new.term > old.term);

    assert!(world.store.promote(&old, 10).await.unwrap().is_empty());
    assert_eq!(testkit::dispatch(&world.store, &old, &kind("b"), 10).await.unwrap(), 0);
    assert_eq!(world.store.send_again(&old, &kind("c"), 1, 10).await.unwrap(), 0);
    assert_eq!(world.store.rescue(&old, 10, |_| RetryPolicy::default()).await.unwrap().jobs, []);
    assert_eq!(world.store.fold_counters(&old, 10).await.unwrap(), 0);
    let unsent = world.store.unsent(10).await.unwrap();
    world.store.forget_sent(&old, &unsent[0].kind, &[unsent[0].entry]).await.unwrap();
    assert_eq!(world.store.unsent(10).await.unwrap().len(), 1);
    assert!(world.store.keep_partitions(&old, Retention { days: 7 }).await.is_err());
    assert!(matches!(world.store.renew_job_statistics(&old).await, Err(StoreError::NotLeading)));
    assert!(matches!(world.store.lapse_assumptions(&old).await, Err(StoreError::NotLeading)));
    assert!(matches!(world.store.cancel_older(&old, &[ready, running]).await, Err(StoreError::NotLeading)));
    assert_eq!(world.store.drop_expired_keys(&old, 10).await.unwrap(), 0);
    world.store.note_queues(&old, &[(kind("a"), None)], &[]).await.unwrap();
    assert_eq!(world.store.queue_states().await.unwrap(), []);
    world.store.resign(&old).await.unwrap();
    assert_eq!(world.store.lead("boot-2", 10).await.unwrap(), Some(new.clone()));
    for (id, state) in [
        (scheduled, JobState::Scheduled),
        (ready, JobState::Ready),
        (queued, JobState::Queued),
        (running, JobState::Running),
    ] {
        assert_eq!(world.state(id).await, state);
    }
    assert_eq!(world.store.drop_expired_keys(&new, 10).await.unwrap(), 1);
    assert_eq!(world.store.promote(&new, 10).await.unwrap(), ["a"]);
    assert_eq!(world.store.rescue(&new, 10, |_| RetryPolicy::default()).await.unwrap().jobs.len(), 1);
    world.assert_counted("two leaders").await;
}

/// Takes a key for a minute.
async fn reserve_key(world: &World) {
    let mut new = NewJob::new(kind("kept"), serde_json::json!({}));
    new.due_at = Some(world.after_secs(100_000));
    new.unique = Some(Unique { key: "k".to_owned(), for_secs: Some(60) });
    world.insert(&[new]).await;
}

/// What an old leader has begun is over before a new one leads, whatever it is: the one waits for the other.
#[tokio::test]
async fn a_new_leader_waits_for_the_old_ones_last_statement() {
    let world = World::new().await;
    world.job_in(JobState::Queued, &kind("noop"), 3).await;
    reserve_key(&world).await;
    world.clock.advance(TimeDelta::seconds(61));
    let unsent = world.store.unsent(1).await.unwrap().remove(0);
    let old = world.store.lead("boot-1", 10).await.unwrap().unwrap();
    world.clock.advance(TimeDelta::seconds(11));
    for (row, what) in [("outbox", "forget_sent"), ("unique_keys", "drop_expired_keys")] {
        let mut held = world.sql.begin().await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(format!("SELECT FROM {row} FOR UPDATE"))).execute(&mut *held).await.unwrap();
        let last = async {
            match row {
                "outbox" => world.store.forget_sent(&old, &unsent.kind, &[unsent.entry]).await.map(|()| 1),
                _ => world.store.drop_expired_keys(&old, 10).await,
            }
        };
        let next = async {
            world.until_waiting(what).await;
            world.store.lead("boot-2", 10).await
        };
        let release = async {
            world.until_waiting("lead").await;
            held.rollback().await
        };
        let (last, next, released) = tokio::join!(last, next, release);
        released.unwrap();
        assert_eq!(last.unwrap(), 1, "{what} was begun in time");
        let next = next.unwrap().expect("the lead had run out");
        assert!(next.term > old.term);
        world.store.resign(&next).await.unwrap();
        // The old one's term, for the other statement.
        sqlx::query("UPDATE leader SET term = $1, holder = $2, until = '-infinity'")
            .bind(old.term.0)
            .bind(&old.holder)
            .execute(&world.sql)
            .await
            .unwrap();
    }
}

/// No statement asks for the lead without locking it.
#[test]
fn every_statement_that_asks_who_leads_keeps_it_so() {
    let statements = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.sqlx")).unwrap();
    let mut asking = 0;
    for statement in statements {
        let text = std::fs::read_to_string(statement.unwrap().path()).unwrap();
        let checked: serde_json::Value = serde_json::from_str(&text).unwrap();
        let query = checked["query"].as_str().unwrap();
        for (at, _) in query.match_indices("FROM leader WHERE term") {
            asking += 1;
            let question = query[at..].split(')').next().unwrap_or_default();
            assert!(question.ends_with("FOR SHARE"), "{query}");
        }
    }
    assert!(asking >= 20, "{asking} statements ask");
}

#[tokio::test]
async fn the_wait_before_sending_again_doubles_up_to_a_bound() {
    let world = World::new().await;
    let kind = kind("noop");
    let (_, _) = world.job_in(JobState::Queued, &kind, 3).await;
    for sends in 0..9_u32 {
        let wait = TimeDelta::seconds(10 << sends.min(3));
        world.clock.advance(wait);
        assert_eq!(world.store.send_again(&world.lead, &kind, 10, 5).await.unwrap(), 0, "too early, {sends}");
        world.clock.advance(TimeDelta::milliseconds(1));
        assert_eq!(world.store.send_again(&world.lead, &kind, 10, 5).await.unwrap(), 1, "too late, {sends}");
    }
    assert_eq!(world.store.unsent(100).await.unwrap().len(), 10);
    world.assert_counted("sending again").await;
}

#[tokio::test]
async fn what_is_dispatched_again_is_sent_again() {
    let world = World::new().await;
    let kind = kind("noop");
    let (id, _) = world.job_in(JobState::Queued, &kind, 3).await;
    let sending = world.store.unsent(10).await.unwrap();
    // The message overtakes the relay: claimed, given back and dispatched anew before the relay forgets what it sent.
    let delivered = [Delivered { id, sent_at: world.clock.now() }];
    let until = world.after_secs(LEASE_SECS);
    let claimed = world.store.claim_delivered(world.servant, &kind, &delivered, until).await.unwrap();
    assert!(world.settle(claimed[0].key, Fate::GiveBack).await);
    assert_eq!(testkit::dispatch(&world.store, &world.lead, &kind, 1).await.unwrap(), 1);
    let sent: Vec<_> = sending.iter().map(|unsent| unsent.entry).collect();
    world.store.forget_sent(&world.lead, &kind, &sent).await.unwrap();
    assert_eq!(world.store.unsent(10).await.unwrap().len(), 1, "the new entry is another one");
}

#[tokio::test]
async fn dropped_partitions_leave_the_counters_right() {
    let world = World::new().await;
    let retention = Retention { days: 2 };
    assert!(world.store.keep_partitions(&world.lead, retention).await.unwrap().is_empty());
    assert!(world.store.keep_partitions(&world.lead, retention).await.unwrap().is_empty(), "again changes nothing");
    for day in 0..3 {
        let (_, _) = world.job_in(JobState::Succeeded, &kind("noop"), 3).await;
        let (_, _) = world.job_in(JobState::Failed, &kind("noop"), 3).await;
        if day < 2 {
            world.clock.advance(TimeDelta::days(1));
        }
    }
    assert_eq!(world.count("SELECT count(*) FROM ONLY finished_jobs_default").await, 0);
    world.store.fold_counters(&world.lead, 1000).await.unwrap();
    world.clock.advance(TimeDelta::days(1));
    // What somebody looks at stays for a later go, and keeps nobody waiting for long.
    let mut look = world.sql.begin().await.unwrap();
    sqlx::query("SELECT count(*) FROM finished_jobs_20300506").execute(&mut *look).await.unwrap();
    let mut dropped = world.store.keep_partitions(&world.lead, retention).await.unwrap();
    assert!(dropped.iter().all(|name| name != "finished_jobs_20300506"), "{dropped:?}");
    world.assert_counted("a drop in vain").await;
    look.rollback().await.unwrap();
    dropped.extend(world.store.keep_partitions(&world.lead, retention).await.unwrap());
    dropped.sort();
    assert_eq!(dropped, ["attempts_20300506", "finished_jobs_20300506", "record_changes_20300506"]);
    assert_eq!(world.count("SELECT count(*) FROM finished_jobs").await, 4);
    world.assert_counted("dropping").await;
}

#[tokio::test]
async fn what_ended_before_its_day_had_a_partition_moves_into_one() {
    let world = World::new().await;
    let retention = Retention { days: 2 };
    for _ in 0..2 {
        let (_, _) = world.job_in(JobState::Succeeded, &kind("noop"), 3).await;
        let (_, _) = world.job_in(JobState::Failed, &kind("noop"), 3).await;
        world.clock.advance(TimeDelta::days(1));
    }
    assert_eq!(world.count("SELECT count(*) FROM ONLY finished_jobs_default").await, 4);
    assert!(world.store.keep_partitions(&world.lead, retention).await.unwrap().is_empty());
    assert_eq!(world.count("SELECT count(*) FROM ONLY finished_jobs_default").await, 0);
    assert_eq!(world.count("SELECT count(*) FROM ONLY attempts_default").await, 0);
    assert_eq!(world.count("SELECT count(*) FROM finished_jobs_20300506").await, 2);
    world.assert_counted("moving").await;
    world.clock.advance(TimeDelta::days(1));
    let dropped = world.store.keep_partitions(&world.lead, retention).await.unwrap();
    assert!(dropped.contains(&"finished_jobs_20300506".to_owned()), "{dropped:?}");
    assert_eq!(world.count("SELECT count(*) FROM finished_jobs").await, 2);
    world.assert_counted("dropping what moved").await;
}

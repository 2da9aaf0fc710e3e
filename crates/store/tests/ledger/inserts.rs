//! How jobs come into being: order, unique keys, and keys that meet again.

use crate::world::{World, failure, kind};
use chrono::TimeDelta;
use domain::{JobId, JobState};
use store::{Fate, Inserted, NewJob, Unique};

fn keyed(key: &str, for_secs: Option<u32>) -> NewJob {
    let mut job = NewJob::new(kind("noop"), serde_json::json!({}));
    job.unique = Some(Unique { key: key.to_owned(), for_secs });
    job
}

#[tokio::test]
async fn a_bulk_keeps_its_order() {
    let world = World::new().await;
    let jobs: Vec<NewJob> =
        (0..1000)
            .map(|n| {
                if n % 100 == 7 {
                    keyed(&n.to_string(), None)
                } else {
                    NewJob::new(kind("noop"), serde_json::json!({}))
                }
            })
            .enumerate()
            .map(|(n, job)| NewJob { payload: serde_json::json!({ "n": n }), ..job })
            .collect();
    let ids = world.insert(&jobs).await;
    let stored: Vec<(i64, i64)> =
        sqlx::query_as("SELECT id, (payload->>'n')::bigint FROM jobs ORDER BY 2").fetch_all(&world.sql).await.unwrap();
    assert_eq!(ids, stored.into_iter().map(|(id, _)| JobId(id)).collect::<Vec<_>>());
    world.assert_counted("a bulk").await;
}

#[tokio::test]
async fn a_key_is_taken_while_its_job_is_unfinished() {
    let world = World::new().await;
    let first = world.insert(&[keyed("k", None)]).await[0];
    let again = world.store.insert_jobs(&[keyed("k", None), keyed("other", None)]).await.unwrap();
    assert_eq!(again[0], Inserted::Duplicate(Some(first)));
    assert!(matches!(again[1], Inserted::New(_)));
    world.store.cancel_jobs(&[first]).await.unwrap();
    assert!(matches!(world.store.insert_jobs(&[keyed("k", None)]).await.unwrap()[..], [Inserted::New(_)]));
    assert_eq!(world.retry_jobs(&[first]).await.unwrap(), [], "its key is taken again");
    assert_eq!(world.state(first).await, JobState::Cancelled);
    world.assert_counted("keys").await;
}

#[tokio::test]
async fn a_key_for_a_period_outlives_its_job() {
    let world = World::new().await;
    let first = world.insert(&[keyed("k", Some(60))]).await[0];
    let key = world.claim(&kind("noop"), 1).await[0].key;
    assert_eq!(world.store.succeed(&[key]).await.unwrap().len(), 1);
    assert_eq!(world.store.insert_jobs(&[keyed("k", Some(60))]).await.unwrap(), [Inserted::Duplicate(None)]);
    world.clock.advance(TimeDelta::seconds(60));
    let second = world.insert(&[keyed("k", Some(60))]).await[0];
    assert!(second > first);
}

#[tokio::test]
async fn of_two_failures_with_one_key_one_is_retried() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.extend(world.insert(&[keyed("k", None)]).await);
        let key = world.claim(&kind("noop"), 1).await[0].key;
        assert!(world.settle(key, Fate::Fail(failure())).await);
    }
    assert_eq!(world.retry_jobs(&ids).await.unwrap(), [ids[1]], "the newer one");
    assert_eq!(world.state(ids[0]).await, JobState::Failed);
    world.assert_counted("a retry").await;
}

//! What a newer version of the program limits and pauses, in rows that this one does not understand: they are shown and
//! left as they are, and keep nobody's jobs and no duty from going on.

use crate::world::{Taker, World, kind};
use domain::{Limit, Scope};
use queue::Backend;
use scheduler::duties::{declare_limits, prune};

/// A schema that has grown, and what the newer version of the same deployment has written there.
const NEWER: &str = "
    DO $$ DECLARE one record; BEGIN
        FOR one IN SELECT conrelid::regclass AS of, conname FROM pg_constraint
            WHERE contype = 'c' AND conrelid IN ('pauses'::regclass, 'limits'::regclass, 'limit_states'::regclass)
        LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', one.of, one.conname); END LOOP;
    END $$;
    INSERT INTO pauses (scope, key, paused_by, reason, paused_at) VALUES ('region', 'eu', 'ada', 'a storm', now());
    INSERT INTO limits (scope, key, source, concurrency, set_by, reason, set_at) VALUES
        ('region', 'eu', 'declared', 1, 'main', '', now()),
        ('each_account', 'large', 'declared', 1, 'main', '', now()),
        ('kind', 'other', 'operator', 5000000000, 'ada', '', now());
    INSERT INTO limit_states (scope, key, gauge, at, parts) VALUES
        ('kind', 'noop', 'hour', '2020-01-01', 1), ('region', 'eu', 'minute', '2020-01-01', 1)";
/// How many of these are there.
const LEFT: &str = "SELECT (SELECT count(*) FROM pauses WHERE scope = 'region')
    + (SELECT count(*) FROM limits WHERE scope = 'region' OR key IN ('large', 'other'))
    + (SELECT count(*) FROM limit_states WHERE scope = 'region' OR gauge = 'hour')";

#[tokio::test]
async fn what_only_a_newer_version_limits_or_pauses_stops_nobody_and_stays() {
    let mut world = World::new().await;
    let servant = world.servant(9).await;
    sqlx::raw_sql(NEWER).execute(&world.sql).await.unwrap();
    let bounds = Limit { concurrency: Some(3), per_day: Some(100), ..Limit::default() };
    world.limit(Scope::Kind(kind()), bounds).await;
    let jobs = world.insert_many(8).await;
    declare_limits::perform(&world.office, &world.lead).await.unwrap();
    prune::perform(&world.office, &world.lead).await.unwrap();
    assert_eq!(world.queued().await, 3, "the limit that is known counts, and no other");

    let store = &world.office.store;
    let waiting = store.find_job(jobs[7]).await.unwrap().unwrap();
    let facts = store.why_facts(&waiting).await.unwrap();
    assert!(facts.no_room.is_some() && facts.pauses.is_empty(), "{facts:?}");
    let pauses: Vec<_> = store.list_pauses(None, 100).await.unwrap().iter().map(|row| row.target.to_string()).collect();
    assert_eq!(pauses, ["region eu"]);
    let limits = store.list_limits(None, 100).await.unwrap();
    let shown: Vec<_> = limits.iter().map(|row| (row.scope.to_string(), row.limit.concurrency)).collect();
    let shown: Vec<_> = shown.iter().map(|(scope, jobs)| (scope.as_str(), *jobs)).collect();
    let most = Some(u32::MAX);
    assert_eq!(
        shown,
        [("each_account large", Some(1)), ("kind noop", Some(3)), ("kind other", most), ("region eu", Some(1))]
    );

    world.office.queue = Backend::Postgres;
    world.limit(Scope::Kind(kind()), Limit { concurrency: Some(5), ..bounds }).await;
    assert_eq!(Taker::default().claim(&world, servant, 10).await.len(), 2, "without a queue, too");
    assert_eq!(world.number(LEFT).await, 6, "what is not understood is left as it is");
    world.assert_counted().await;
}

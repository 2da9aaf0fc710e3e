//! What bounds the gaps and keeps the ledger small: rescue, counters, partitions.

use crate::world::{World, kind};
use domain::JobState;
use scheduler::duties::{fold_counters, lapse_looks, prune, rescue, statistics};
use std::time::Duration;
use store::{AuditFilter, Inserted, NewAssumption, NewJob, Unique};

const LEASES: &str = "SELECT count(*) FROM leases";
const DELTAS: &str = "SELECT count(*) FROM job_count_deltas";

#[tokio::test]
async fn rescue_gives_back_what_a_dead_servant_held() {
    let mut world = World::new().await;
    let last_chance = NewJob { attempts_max: 1, ..NewJob::new(kind(), serde_json::json!({})) };
    let spare = world.insert_many(1).await[0];
    let last = world.insert(&[last_chance]).await[0];
    assert_eq!(world.claim(2, 6).await.len(), 2);
    let alive = world.insert_many(1).await[0];
    assert_eq!(world.claim(1, 60).await.len(), 1);
    world.advance_secs(6);
    rescue::perform(&world.office, &world.lead).await.unwrap();
    assert_eq!(world.state(spare).await, JobState::Running, "the lease is good until it has run out");

    let old = world.depose().await;
    rescue::perform(&world.office, &old).await.unwrap();
    assert_eq!(world.state(spare).await, JobState::Running, "one that leads no more rescues nothing");
    let mut wake_ups = world.office.store.wake_ups().await.unwrap();
    for _ in 0..2 {
        assert!(!rescue::perform(&world.office, &world.lead).await.unwrap());
        let states = [world.state(spare).await, world.state(last).await, world.state(alive).await];
        assert_eq!(states, [JobState::Ready, JobState::Failed, JobState::Running]);
        assert_eq!(world.number(LEASES).await, 1);
        for id in [spare, last] {
            let attempts = world.office.store.attempts_of(id).await.unwrap();
            let classes: Vec<_> = attempts.iter().map(|attempt| attempt.class.as_str()).collect();
            assert_eq!(classes, ["lease_lost"], "done twice is done once");
        }
        world.assert_counted().await;
    }
    let woken = tokio::time::timeout(Duration::from_secs(20), wake_ups.next()).await.expect("a wake-up").unwrap();
    assert!(woken.ready.contains_key("noop"));
}

#[tokio::test]
async fn a_rescue_that_had_all_it_may_look_at_is_followed_by_another() {
    let world = World::new().await;
    world.insert_many(1).await;
    assert_eq!(world.claim(1, 60).await.len(), 1);
    let dead = "INSERT INTO leases (servant_id, until, job_ids)
                SELECT servant_id, until - interval '50 s', '{}' FROM leases, generate_series(1, 501)";
    sqlx::query(dead).execute(&world.sql).await.unwrap();
    world.advance_secs(20);
    assert!(rescue::perform(&world.office, &world.lead).await.unwrap(), "there may be more");
    assert_eq!(world.number(LEASES).await, 2);
    assert!(!rescue::perform(&world.office, &world.lead).await.unwrap());
    assert_eq!(world.number(LEASES).await, 1, "the one that is good");
}

#[tokio::test]
async fn looks_that_nobody_ended_lapse_though_nobody_looks_again() {
    let world = World::new().await;
    let store = &world.office.store;
    let account = store.create_account("Acme").await.unwrap();
    for token in 0..101_u8 {
        let new = NewAssumption { account, reason: "late", ticket: "T-1", token_digest: &[token; 32] };
        store.begin_assumption(&testkit::granted(), &new).await.unwrap();
    }
    world.advance_secs(30 * 60 - 1);
    assert!(!lapse_looks::perform(&world.office, &world.lead).await.unwrap());
    let lapsed = "SELECT count(*) FROM audit WHERE outcome = 'lapsed'";
    assert_eq!(world.number(lapsed).await, 0);
    world.advance_secs(1);
    assert!(lapse_looks::perform(&world.office, &world.lead).await.unwrap(), "there may be more");
    for _ in 0..2 {
        assert!(!lapse_looks::perform(&world.office, &world.lead).await.unwrap());
        assert_eq!(world.number(lapsed).await, 101, "each once");
    }
    assert_eq!(world.number("SELECT count(*) FROM assumptions WHERE ended_at IS NULL").await, 0);
    let filter = AuditFilter { account: Some(account), ..AuditFilter::default() };
    let row = store.list_audit(&filter, 1).await.unwrap().remove(0);
    assert_eq!((row.action.as_str(), row.outcome.as_str()), ("end_assumption", "lapsed"));
}

#[tokio::test]
async fn counters_are_folded_once() {
    let mut world = World::new().await;
    for jobs in [3, 2] {
        world.insert_many(jobs).await;
    }
    world.run(4).await;
    let counts = world.office.store.exact_job_counts().await.unwrap();
    let old = world.depose().await;
    fold_counters::perform(&world.office, &old).await.unwrap();
    assert!(world.number(DELTAS).await > 0, "one that leads no more folds nothing");
    for _ in 0..2 {
        assert!(!fold_counters::perform(&world.office, &world.lead).await.unwrap());
        assert_eq!(world.number(DELTAS).await, 0);
        let folded = world.office.store.exact_job_counts().await.unwrap();
        let of =
            |counts: &[store::JobCount], state| counts.iter().filter(|c| c.state == state).map(|c| c.jobs).sum::<i64>();
        for (state, jobs) in [(JobState::Ready, 1), (JobState::Succeeded, 4), (JobState::Running, 0)] {
            assert_eq!((of(&counts, state), of(&folded, state)), (jobs, jobs), "{state}");
        }
        world.assert_counted().await;
    }
    // More than one go folds: it says so.
    let many = "INSERT INTO job_count_deltas (kind, state, delta)
                SELECT 'noop', 1, CASE WHEN n % 2 = 0 THEN 1 ELSE -1 END FROM generate_series(1, 5002) AS n";
    sqlx::query(many).execute(&world.sql).await.unwrap();
    assert!(fold_counters::perform(&world.office, &world.lead).await.unwrap());
    assert!(!fold_counters::perform(&world.office, &world.lead).await.unwrap());
    world.assert_counted().await;
}

#[tokio::test]
async fn days_past_retention_are_dropped_and_the_counters_follow() {
    const DAYS: &str = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'finished_jobs'::regclass";
    const KEPT: &str = "SELECT count(*) FROM quarantined_records";
    let mut world = World::new().await;
    let keyed = || NewJob {
        unique: Some(Unique { key: "k".to_owned(), for_secs: Some(600) }),
        ..NewJob::new(kind(), serde_json::json!({}))
    };
    for _ in 0..2 {
        assert!(!prune::perform(&world.office, &world.lead).await.unwrap());
        assert_eq!(world.number(DAYS).await, 1 + 4, "today, three days ahead, and the rest");
    }
    world.insert_many(3).await;
    world.insert(&[keyed()]).await;
    world.run(4).await;
    for state in ["open", "resolved"] {
        let record = "INSERT INTO quarantined_records (account_id, connection_id, object, digest, reason, body,
                          first_seen_at, last_seen_at, state, state_since)
                      VALUES (1, 1, 'Lead', md5($1)::uuid, 'it broke', '', $2, $2, $1, $2)";
        sqlx::query(record).bind(state).bind(world.after_secs(3_600)).execute(&world.sql).await.unwrap();
    }
    fold_counters::perform(&world.office, &world.lead).await.unwrap();
    world.advance_secs(30 * 86_400);
    let old = world.depose().await;
    assert!(prune::perform(&world.office, &old).await.is_err(), "one that leads no more is told so");
    prune::perform(&world.office, &world.lead).await.unwrap();
    assert_eq!(world.number("SELECT count(*) FROM finished_jobs").await, 4, "thirty days are kept");
    assert_eq!(world.number("SELECT count(*) FROM unique_keys").await, 0, "a key's period ends long before");
    assert_eq!(world.number(KEPT).await, 2, "thirty days are kept");
    world.advance_secs(86_400);
    for _ in 0..2 {
        prune::perform(&world.office, &world.lead).await.unwrap();
        assert_eq!(world.number("SELECT count(*) FROM finished_jobs").await, 0);
        assert_eq!(world.number(KEPT).await, 1, "what is open is never dropped");
        world.assert_counted().await;
    }
    assert!(matches!(world.office.store.insert_jobs(&[keyed()]).await.unwrap()[..], [Inserted::New(_)]));
}

#[tokio::test]
async fn a_job_that_kills_its_servants_is_given_up_as_its_kind_says() {
    let mut world = World::new().await;
    let text = "[noop]\nlabel = \"n\"\nrun_secs_max = 60\nconcurrency = 10\n[noop.retry]\nattempts_max = 10\n\
                first_delay_ms = 1\ndelay_max_ms = 1\nlease_lost = { attempts_max = 2 }\n";
    let tables: toml::Table = text.parse().unwrap();
    world.office.catalogue = domain::Catalogue::new(tables.try_into().unwrap()).unwrap();
    world.office.store.lead("boot-1", 1_000).await.unwrap();
    let deadly = world.insert_many(1).await[0];
    for state in [JobState::Ready, JobState::Failed] {
        assert_eq!(world.claim(1, 6).await.len(), 1);
        world.advance_secs(7);
        rescue::perform(&world.office, &world.lead).await.unwrap();
        assert_eq!(world.state(deadly).await, state);
    }
    world.assert_counted().await;
}

#[tokio::test]
async fn a_flood_after_a_vacuum_that_found_nothing_is_known_to_the_database() {
    const KNOWN: &str = "SELECT reltuples::bigint FROM pg_class WHERE oid = 'jobs'::regclass";
    let world = World::new().await;
    sqlx::query("VACUUM ANALYZE jobs").execute(&world.sql).await.unwrap();
    world.insert_many(100).await;
    statistics::perform(&world.office, &world.lead).await.unwrap();
    assert_eq!(world.number(KNOWN).await, 0, "of so few it need not know");
    world.insert_many(5_000).await;
    statistics::perform(&world.office, &world.lead).await.unwrap();
    assert_eq!(world.number(KNOWN).await, 5_100);
}

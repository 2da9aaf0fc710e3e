//! Errors by group and throughput: what is appended as attempts end is folded exactly once, and what is retried or dropped
//! is taken back.

use crate::world::{World, kind};
use chrono::TimeDelta;
use domain::{ErrorClass, Failure, Fingerprint, JobState};
use store::{ErrorFilter, ErrorGroupRow, Fate, JobFilter, Leadership, Retention, Store};

fn failure(chain: &str) -> Failure {
    Failure { class: ErrorClass::Transient, chain: chain.to_owned(), until: None }
}

async fn groups(store: &Store) -> Vec<ErrorGroupRow> {
    store.list_errors(&ErrorFilter::default(), 30).await.unwrap()
}

async fn fold(world: &World, lead: &Leadership) -> u64 {
    world.store.fold_errors(lead, 1_000).await.unwrap()
}

#[tokio::test]
async fn attempts_are_grouped_by_what_is_the_same_in_them() {
    let world = World::new().await;
    let (noop, other) = (kind("noop"), kind("other"));
    let (again, key) = world.job_in(JobState::Running, &noop, 3).await;
    let due = world.after_secs(0);
    let chain = "page 12 was cut\nno answer within 30 s";
    assert!(world.settle(key, Fate::RetryAt { due, charged: true, failure: failure(chain) }).await);
    let (failed, key) = world.job_in(JobState::Running, &noop, 3).await;
    world.clock.advance(TimeDelta::minutes(1));
    assert!(world.settle(key, Fate::Fail(failure("page 7 was cut\nno answer within 5 s"))).await);
    world.another_servant_of("other").await;
    let (_, key) = world.job_in(JobState::Running, &other, 3).await;
    assert!(world.settle(key, Fate::Fail(failure(chain))).await);
    let (_, key) = world.job_in(JobState::Running, &noop, 3).await;
    assert!(world.settle(key, Fate::Cancelled).await, "which is no error");

    assert!(groups(&world.store).await.is_empty(), "nothing is folded yet");
    assert_eq!(fold(&world, &world.lead).await, 3);
    assert_eq!(fold(&world, &world.lead).await, 0, "each is folded once");
    let found = groups(&world.store).await;
    assert_eq!(found.len(), 2, "one for each kind");
    let of_noop = found.iter().find(|row| row.kind == "noop").unwrap();
    assert_eq!(of_noop.fingerprint, Fingerprint::of("noop", "transient", chain).as_str());
    assert_eq!((of_noop.attempts, of_noop.failed, of_noop.job_id), (2, 1, failed.0));
    assert_eq!(of_noop.title, "page # was cut");
    assert_eq!(of_noop.error, "page 7 was cut\nno answer within 5 s", "the latest, whole");
    assert_eq!(of_noop.last_seen_at - of_noop.first_seen_at, TimeDelta::minutes(1));
    assert_eq!((of_noop.first_version.as_deref(), of_noop.hours.iter().sum::<i64>()), (Some("0"), 2));

    let error = Some(of_noop.fingerprint.parse().unwrap());
    let filter = JobFilter { error, ..JobFilter::default() };
    let listed = world.store.list_jobs(&filter, 10).await.unwrap();
    assert_eq!(listed.iter().map(|job| job.id).collect::<Vec<_>>(), [failed], "not {again}, which is tried again");
}

#[tokio::test]
async fn who_leads_no_more_folds_nothing() {
    let world = World::new().await;
    world.job_in(JobState::Failed, &kind("noop"), 1).await;
    world.clock.advance(TimeDelta::seconds(11));
    let new = world.store.lead("boot-2", 10).await.unwrap().unwrap();
    assert_eq!(fold(&world, &world.lead).await, 0);
    assert_eq!(fold(&world, &new).await, 1);
}

#[tokio::test]
async fn what_is_retried_or_dropped_is_no_failed_job_of_its_group() {
    let world = World::new().await;
    let (first, _) = world.job_in(JobState::Failed, &kind("noop"), 1).await;
    world.job_in(JobState::Failed, &kind("noop"), 1).await;
    fold(&world, &world.lead).await;
    assert_eq!(groups(&world.store).await[0].failed, 2);
    assert_eq!(world.retry_jobs(&[first]).await.unwrap(), [first]);
    fold(&world, &world.lead).await;
    let row = groups(&world.store).await.remove(0);
    assert_eq!((row.failed, row.attempts), (1, 2), "what was seen stays seen");
    let filter = JobFilter { error: Some(row.fingerprint.parse().unwrap()), ..JobFilter::default() };
    assert_eq!(world.store.list_jobs(&filter, 10).await.unwrap().len(), 1);

    // The first go gives the day a partition of its own, the second drops it.
    let retention = Retention { days: 2 };
    world.store.keep_partitions(&world.lead, retention).await.unwrap();
    world.clock.advance(TimeDelta::days(4));
    let lead = world.store.lead("boot-1", 10).await.unwrap().unwrap();
    world.store.keep_partitions(&lead, retention).await.unwrap();
    fold(&world, &lead).await;
    assert_eq!(groups(&world.store).await[0].failed, 0);
    assert_eq!(world.store.forget_errors(&lead, world.clock.now(), 100).await.unwrap(), 1);
    assert!(groups(&world.store).await.is_empty());
}

#[tokio::test]
async fn lists_of_errors_are_paged_and_filtered() {
    let world = World::new().await;
    for chain in ["one", "two", "three"] {
        let (_, key) = world.job_in(JobState::Running, &kind("noop"), 1).await;
        assert!(world.settle(key, Fate::Fail(failure(chain))).await);
        fold(&world, &world.lead).await;
    }
    let mut seen = Vec::new();
    let mut before = None;
    loop {
        let filter = ErrorFilter { before: before.clone(), ..ErrorFilter::default() };
        let page = world.store.list_errors(&filter, 1).await.unwrap();
        let Some(row) = page.first() else { break };
        before = Some((row.last_seen_at, row.fingerprint.clone()));
        let found = world.store.find_error(&row.fingerprint.parse().unwrap()).await.unwrap();
        assert_eq!(found.as_ref(), Some(row));
        seen.push(row.title.clone());
    }
    seen.sort();
    assert_eq!(seen, ["one", "three", "two"], "each once, though all were seen at one instant");
    let filter = ErrorFilter { class: Some("bug".to_owned()), ..ErrorFilter::default() };
    assert!(world.store.list_errors(&filter, 10).await.unwrap().is_empty());
    assert!(world.store.search_errors(&filter, "one", 10).await.unwrap().groups.is_empty());

    let titles = async |text: &str, limit| {
        let mut titles = Vec::new();
        let mut filter = ErrorFilter::default();
        loop {
            let found = world.store.search_errors(&filter, text, limit).await.unwrap();
            titles.extend(found.groups.into_iter().map(|group| group.title));
            match found.next_before {
                Some(next) => filter.before = Some(next),
                None => break,
            }
        }
        titles.sort();
        titles
    };
    assert_eq!(titles("T", 10).await, ["three", "two"], "whatever the case");
    assert_eq!(titles("e", 1).await, ["one", "three"], "page by page");
    assert_eq!(titles("%", 10).await, Vec::<String>::new(), "a text is no pattern");
}

#[tokio::test]
async fn jobs_that_end_are_counted_by_minute_quarter_and_hour() {
    let world = World::new().await;
    let noop = kind("noop");
    let id = world.insert_many(&noop, 1).await[0];
    world.clock.advance(TimeDelta::milliseconds(250));
    let key = world.claim(&noop, 1).await[0].key;
    world.clock.advance(TimeDelta::milliseconds(40));
    assert!(world.store.succeed(&[key]).await.unwrap().contains(&id));
    world.job_in(JobState::Failed, &noop, 1).await;
    world.job_in(JobState::Cancelled, &noop, 1).await;
    for _ in 0..2 {
        world.store.fold_counters(&world.lead, 1_000).await.unwrap();
    }
    let since = world.clock.now() - TimeDelta::hours(1);
    for step_secs in [60, 900, 3_600] {
        for kind in [None, Some(&noop)] {
            let points = world.store.throughput(kind, step_secs, since).await.unwrap();
            assert_eq!(points.len(), 1);
            let point = &points[0];
            assert_eq!((point.succeeded, point.failed, point.cancelled), (1, 1, 1), "{step_secs}");
            assert_eq!((point.waited_ms, point.waited_ms_max, point.ran_ms), (250, 250, 40));
            for (counts, took_ms) in [(&point.waited, 250), (&point.ran, 40)] {
                let at = domain::latency_percentile_ms(counts.as_ref().unwrap(), 0.5).unwrap();
                assert!(
                    (took_ms..took_ms * 3 / 2).contains(&at),
                    "{took_ms} ms lies within the place that ends at {at}"
                );
            }
        }
    }
    // A retry takes nothing back: the job did fail then.
    let failed = world.store.list_jobs(&JobFilter { states: vec![JobState::Failed], ..JobFilter::default() }, 1).await;
    world.retry_jobs(&[failed.unwrap()[0].id]).await.unwrap();
    world.store.fold_counters(&world.lead, 1_000).await.unwrap();
    assert_eq!(world.store.throughput(None, 60, since).await.unwrap()[0].failed, 1);
    world.assert_counted("all of it").await;
    world.clock.advance(TimeDelta::hours(7));
    let lead = world.store.lead("boot-1", 10).await.unwrap().unwrap();
    world.store.forget_throughput(&lead, 100).await.unwrap();
    assert!(world.store.throughput(None, 60, since).await.unwrap().is_empty());
    assert_eq!(world.store.throughput(None, 900, since).await.unwrap().len(), 1, "longer steps are kept for longer");
}

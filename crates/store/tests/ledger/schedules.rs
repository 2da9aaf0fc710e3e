//! Schedules' rows: firing by compare-and-swap, back-fills, edits, pauses, declarations for every account.

use crate::world::{World, kind};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{AccountId, CatchUp, Overlap, Policy, Schedule, ScheduleId};
use serde_json::json;
use store::{Created, Deleted, Edited, Fire, Fired, NewSchedule, ScheduleEdit, ScheduleRow};

pub(crate) fn new(world: &World, name: &str, overlap: Overlap) -> NewSchedule {
    NewSchedule {
        name: name.to_owned(),
        kind: kind("noop"),
        account: AccountId::SYSTEM,
        connection: None,
        payload: json!({"of": name}),
        priority: 1,
        attempts_max: 3,
        rule: Schedule::EverySecs(60),
        policy: Policy { overlap, ..Policy::default() },
        first_due_at: Some(world.clock.now()),
        declared: false,
    }
}

impl World {
    pub(crate) async fn schedule(&self, new: &NewSchedule) -> ScheduleId {
        match self.store.create_schedule(&testkit::granted(), new).await.unwrap() {
            Created::New(id) => id,
            other => panic!("{} was not made: {other:?}", new.name),
        }
    }

    async fn row(&self, id: ScheduleId) -> ScheduleRow {
        self.store.find_schedule(id).await.unwrap().unwrap()
    }

    /// What a tick does now.
    pub(crate) async fn tick(&self) -> Fired {
        let mut fires = Vec::new();
        for due in self.store.due_schedules(10_000).await.unwrap() {
            let decision = due.plan().unwrap().decide(due.due_at, self.clock.now());
            let (fired, dropped, next) = (decision.fires, decision.dropped, decision.next);
            fires.push(Fire { id: due.id, due_at: due.due_at, fires: fired, dropped, next });
        }
        self.store.fire_schedules(&self.lead, &fires).await.unwrap()
    }

    pub(crate) fn advance_secs(&self, secs: i64) {
        self.clock.advance(TimeDelta::seconds(secs));
    }
}

#[tokio::test]
async fn a_due_time_fires_once_whoever_decided_on_it() {
    let world = World::new().await;
    let id = world.schedule(&new(&world, "s", Overlap::Allow)).await;
    let due = world.clock.now();
    let fire =
        |fires: Vec<DateTime<Utc>>| Fire { id, due_at: due, fires, dropped: 2, next: Some(world.after_secs(60)) };
    // Two leaders' minds made up at once, and one that repeats itself for want of an answer.
    let (first, second) =
        tokio::join!(async { world.store.fire_schedules(&world.lead, &[fire(vec![due])]).await.unwrap() }, async {
            world.store.fire_schedules(&world.lead, &[fire(vec![due])]).await.unwrap()
        },);
    assert_eq!(first.jobs.len() + second.jobs.len(), 1);
    // Finished, so that only the compare-and-swap stands between it and its double.
    let key = world.claim(&kind("noop"), 1).await[0].key;
    assert!(world.store.succeed(&[key]).await.unwrap().contains(&key.id));
    assert_eq!(world.store.fire_schedules(&world.lead, &[fire(vec![due])]).await.unwrap(), Fired::default());
    let row = world.row(id).await;
    assert_eq!((row.next_due_at, row.last_due_at), (Some(world.after_secs(60)), Some(due)));
    assert_eq!(row.dropped_fires, 2);

    // Even where a due time comes back, by hand: the unfinished job of that fire is there.
    let again = Fire { fires: vec![world.after_secs(60)], due_at: world.after_secs(60), ..fire(Vec::new()) };
    assert_eq!(world.store.fire_schedules(&world.lead, std::slice::from_ref(&again)).await.unwrap().jobs.len(), 1);
    assert_eq!(world.store.fire_schedules(&world.lead, &[again]).await.unwrap().jobs, []);
    world.assert_counted("firing").await;
}

#[tokio::test]
async fn a_leader_of_the_past_and_a_paused_schedule_fire_nothing() {
    let world = World::new().await;
    let id = world.schedule(&new(&world, "s", Overlap::Skip)).await;
    let waits = world.schedule(&new(&world, "b", Overlap::BufferOne)).await;
    assert_eq!(world.tick().await.jobs.len(), 2);
    world.advance_secs(60);
    assert_eq!(world.tick().await.jobs.len(), 0);
    for job in world.claim(&kind("noop"), 10).await {
        world.store.succeed(&[job.key]).await.unwrap();
    }
    let old = world.lead.clone();
    world.store.resign(&old).await.unwrap();
    let new_lead = world.store.lead("boot-2", 10).await.unwrap().unwrap();
    let due = world.row(id).await.next_due_at.unwrap();
    let fire = Fire { id, due_at: due, fires: vec![due], dropped: 0, next: Some(due + TimeDelta::seconds(60)) };
    assert_eq!(world.store.fire_schedules(&old, std::slice::from_ref(&fire)).await.unwrap(), Fired::default());
    assert_eq!(world.store.release_buffered(&old, 10).await.unwrap(), Fired::default());
    world.store.pause_schedule(&testkit::granted_to("ada", "maintenance"), id).await.unwrap().unwrap();
    world.store.pause_schedule(&testkit::granted_to("ada", "maintenance"), waits).await.unwrap().unwrap();
    assert_eq!(world.store.fire_schedules(&new_lead, std::slice::from_ref(&fire)).await.unwrap(), Fired::default());
    assert_eq!(world.store.release_buffered(&new_lead, 10).await.unwrap(), Fired::default());
    world.store.resume_schedule(&testkit::granted(), id).await.unwrap().unwrap();
    world.store.resume_schedule(&testkit::granted(), waits).await.unwrap().unwrap();
    assert_eq!(world.store.fire_schedules(&new_lead, &[fire]).await.unwrap().jobs.len(), 1);
    assert_eq!(world.store.release_buffered(&new_lead, 10).await.unwrap().jobs.len(), 1);
    world.assert_counted("two leaders").await;
}

#[tokio::test]
async fn missed_fires_are_made_good_within_their_window() {
    let world = World::new().await;
    let mut schedule = new(&world, "s", Overlap::Allow);
    schedule.policy.catch_up = CatchUp { secs: 600, fires_max: 4 };
    let id = world.schedule(&schedule).await;
    world.advance_secs(3_600);
    assert_eq!(world.tick().await.jobs.len(), 4);
    let row = world.row(id).await;
    assert_eq!((row.dropped_fires, row.next_due_at), (57, Some(world.after_secs(60))));
    let due: Vec<DateTime<Utc>> =
        sqlx::query_scalar("SELECT due_at FROM jobs ORDER BY id").fetch_all(&world.sql).await.unwrap();
    assert_eq!(due, [-180, -120, -60, 0].map(|secs| world.after_secs(secs)));
}

#[tokio::test]
async fn pausing_says_who_and_why_and_resuming_makes_nothing_good() {
    let world = World::new().await;
    let id = world.schedule(&new(&world, "s", Overlap::Allow)).await;
    let mut once = new(&world, "once", Overlap::Allow);
    once.rule = Schedule::Once(world.after_secs(100));
    once.first_due_at = Some(world.after_secs(100));
    let once = world.schedule(&once).await;
    for id in [id, once] {
        let paused =
            world.store.pause_schedule(&testkit::granted_to("ada", "the vendor is down"), id).await.unwrap().unwrap();
        assert_eq!(paused.paused_by.as_deref(), Some("ada"));
        assert_eq!(paused.paused_reason.as_deref(), Some("the vendor is down"));
        assert_eq!(paused.paused_at, Some(world.clock.now()));
    }
    world.advance_secs(330);
    assert_eq!(world.tick().await.jobs, []);
    let resumed = world.store.resume_schedule(&testkit::granted(), id).await.unwrap().unwrap();
    assert_eq!((resumed.paused_by, resumed.next_due_at), (None, Some(world.after_secs(30))), "the grid stays");
    assert_eq!(
        world.store.resume_schedule(&testkit::granted(), id).await.unwrap().unwrap().next_due_at,
        Some(world.after_secs(30))
    );
    world.store.resume_schedule(&testkit::granted(), once).await.unwrap().unwrap();
    assert_eq!(world.tick().await.jobs.len(), 1, "the one-off alone");
    assert_eq!(world.store.pause_schedule(&testkit::granted_to("ada", "x"), ScheduleId(999)).await.unwrap(), None);
    assert_eq!(world.store.resume_schedule(&testkit::granted(), ScheduleId(999)).await.unwrap(), None);
}

#[tokio::test]
async fn a_range_is_back_filled_once_at_low_priority_and_is_in_no_fires_way() {
    let world = World::new().await;
    let id = world.schedule(&new(&world, "s", Overlap::Skip)).await;
    let due: Vec<_> = (-10..0).map(|n| world.after_secs(n * 60)).collect();
    let request = uuid::Uuid::new_v4();
    assert_eq!(world.store.backfill_schedule(&testkit::granted(), id, &due[..6], request).await.unwrap(), 6);
    assert_eq!(
        world.store.backfill_schedule(&testkit::granted(), id, &due, request).await.unwrap(),
        4,
        "only what is new"
    );
    assert_eq!(world.count("SELECT count(*) FROM jobs WHERE priority = 4 AND schedule_id IS NOT NULL").await, 10);
    assert_eq!(world.tick().await.jobs.len(), 1, "back-filled jobs are no overlap");
    for job in world.claim(&kind("noop"), 100).await {
        world.store.succeed(&[job.key]).await.unwrap();
    }
    assert_eq!(
        world.store.backfill_schedule(&testkit::granted(), id, &due, request).await.unwrap(),
        0,
        "finished ones neither"
    );
    assert_eq!(world.store.backfill_schedule(&testkit::granted(), ScheduleId(999), &due, request).await.unwrap(), 0);
    world.assert_counted("back-filling").await;
}

#[tokio::test]
async fn an_edit_moves_the_next_fire_only_with_what_decides_it() {
    let world = World::new().await;
    let id = world.schedule(&new(&world, "s", Overlap::Skip)).await;
    world.advance_secs(30);
    world.tick().await;
    let edit = |edit: ScheduleEdit| {
        let store = world.store.clone();
        async move { store.edit_schedule(&testkit::granted(), id, &edit).await.unwrap() }
    };
    let done = |edited| match edited {
        Edited::Done(row) => *row,
        other => panic!("{other:?}"),
    };
    let next = Some(world.after_secs(30));
    let small = ScheduleEdit {
        payload: Some(json!({"x": 1})),
        priority: Some(3),
        overlap: Some(Overlap::Allow),
        ..ScheduleEdit::default()
    };
    let row = done(edit(small).await);
    assert_eq!((row.next_due_at, row.priority, row.overlap.as_str()), (next, 3, "allow"));
    assert_eq!(row.payload, json!({"x": 1}));
    let end = ScheduleEdit { ends_at: Some(Some(world.after_secs(20))), ..ScheduleEdit::default() };
    assert_eq!(done(edit(end).await).next_due_at, None, "it has ended");
    let no_end = ScheduleEdit { ends_at: Some(None), ..ScheduleEdit::default() };
    assert_eq!(done(edit(no_end).await).next_due_at, next, "back on its grid");
    let start = ScheduleEdit { starts_at: Some(Some(world.after_secs(100))), ..ScheduleEdit::default() };
    assert_eq!(done(edit(start).await).next_due_at, Some(world.after_secs(150)));
    let both = ScheduleEdit { ends_at: Some(Some(world.after_secs(50))), ..ScheduleEdit::default() };
    assert_eq!(edit(both).await, Edited::Refused("ends_at is not after starts_at".to_owned()));
    let rule = ScheduleEdit {
        rule: Some(serde_json::from_value(json!({"cron": {"expression": "0 18 * * *", "zone": "UTC"}})).unwrap()),
        starts_at: Some(None),
        ..ScheduleEdit::default()
    };
    assert_eq!(done(edit(rule).await).next_due_at, Some("2030-05-06T18:00:00Z".parse().unwrap()));
    let missing =
        world.store.edit_schedule(&testkit::granted(), ScheduleId(999), &ScheduleEdit::default()).await.unwrap();
    assert_eq!(missing, Edited::Missing);
}

#[tokio::test]
async fn names_and_owners_are_checked_and_declared_ones_are_not_deleted_by_mistake() {
    let world = World::new().await;
    let mut schedule = new(&world, "s", Overlap::Skip);
    let id = world.schedule(&schedule).await;
    assert_eq!(world.store.create_schedule(&testkit::granted(), &schedule).await.unwrap(), Created::NameTaken);
    schedule.name = "t".to_owned();
    schedule.account = AccountId(999);
    assert_eq!(world.store.create_schedule(&testkit::granted(), &schedule).await.unwrap(), Created::NoAccount);
    schedule.account = AccountId::SYSTEM;
    schedule.connection = Some(domain::ConnectionId(999));
    assert_eq!(world.store.create_schedule(&testkit::granted(), &schedule).await.unwrap(), Created::NoConnection);

    schedule.connection = None;
    schedule.declared = true;
    let declared = world.schedule(&schedule).await;
    assert_eq!(world.store.delete_schedule(&testkit::granted(), declared, false).await.unwrap(), Deleted::Declared);
    assert_eq!(world.store.delete_schedule(&testkit::granted(), declared, true).await.unwrap(), Deleted::Done);
    assert_eq!(world.store.delete_schedule(&testkit::granted(), id, false).await.unwrap(), Deleted::Done);
    assert_eq!(world.store.delete_schedule(&testkit::granted(), id, false).await.unwrap(), Deleted::Missing);
}

#[tokio::test]
async fn ten_thousand_due_fires_are_few_statements() {
    let world = World::new().await;
    let schedules: Vec<_> = (0..2_500)
        .map(|n| {
            let mut schedule = new(&world, &format!("s{n}"), Overlap::ALL[n % 4]);
            schedule.rule = Schedule::EverySecs(60);
            schedule.policy.catch_up.fires_max = 4;
            schedule
        })
        .collect();
    assert_eq!(world.store.declare_schedules(&schedules).await.unwrap(), 2_500);
    assert_eq!(world.store.declare_schedules(&schedules).await.unwrap(), 0, "nobody's schedules are replaced");
    world.advance_secs(60 * 3);
    let started = std::time::Instant::now();
    let fired = world.tick().await;
    let took = started.elapsed();
    println!("10,000 due fires of 2,500 schedules took {} ms", took.as_millis());
    // A quarter allows all four; the others make one each.
    assert_eq!(fired.jobs.len(), 625 * (4 + 1 + 1 + 1));
    assert!(took.as_secs() < 5, "even unoptimised on a busy machine: {took:?}");
    world.assert_counted("many fires").await;
}

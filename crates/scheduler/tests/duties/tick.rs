//! Schedules fire each due time once, whoever leads and wherever one dies.

use crate::world::World;
use chrono::TimeDelta;
use domain::ScheduleId;
use scheduler::duties::tick;
use store::{Fire, Fired};

const FIRED: &str = "SELECT (SELECT count(*) FROM jobs WHERE schedule_id IS NOT NULL)
                          + (SELECT count(*) FROM finished_jobs WHERE schedule_id IS NOT NULL)";

async fn ticks(world: &World, times: usize) -> i64 {
    for _ in 0..times {
        assert!(!tick::perform(&world.office, &world.lead).await.unwrap(), "there is not more to do at once");
    }
    world.number(FIRED).await
}

#[tokio::test]
async fn each_due_time_fires_once() {
    let world = World::new().await;
    let start = world.clock.now();
    assert_eq!(ticks(&world, 3).await, 1, "the first is due when it is declared");
    world.run(1).await;
    world.advance_secs(59);
    assert_eq!(ticks(&world, 2).await, 1, "too early");
    world.advance_secs(1);
    assert_eq!(ticks(&world, 3).await, 2);
    world.run(1).await;
    // A scheduler that was away makes good the last fire and not each one, and stays on the grid.
    world.advance_secs(615);
    assert_eq!(ticks(&world, 3).await, 3);
    let schedule = world.office.store.list_schedules(None, 10).await.unwrap().remove(0);
    assert_eq!(schedule.next_due_at, Some(start + TimeDelta::seconds(60 * 12)));
    // The job of the last fire is unfinished: no second one is made, and the schedule goes on.
    world.advance_secs(60);
    assert_eq!(ticks(&world, 2).await, 3);
    world.run(1).await;
    world.advance_secs(60);
    assert_eq!(ticks(&world, 2).await, 4);
    world.assert_counted().await;
}

#[tokio::test]
async fn a_leader_that_dies_between_reading_and_firing_costs_and_doubles_nothing() {
    let mut world = World::new().await;
    ticks(&world, 1).await;
    world.run(1).await;
    world.advance_secs(60);
    // What a leader has read when it stops there.
    let due = world.office.store.due_schedules(10).await.unwrap();
    let decided = |s: &store::DueSchedule| {
        let decision = s.plan().unwrap().decide(s.due_at, world.clock.now());
        let (fires, dropped, next) = (decision.fires, decision.dropped, decision.next);
        Fire { id: s.id, due_at: s.due_at, fires, dropped, next }
    };
    let read: Vec<_> = due.iter().map(decided).collect();
    assert_eq!(read.len(), 1);
    let old = world.depose().await;
    let late = world.office.store.fire_schedules(&old, &read).await.unwrap();
    assert_eq!(late, Fired::default(), "it leads no more");
    assert_eq!(world.number(FIRED).await, 1);
    assert_eq!(ticks(&world, 2).await, 2, "its successor fires");
    world.run(1).await;
    // The same fire once more, as by a leader that did not hear that its statement had worked.
    let again = world.office.store.fire_schedules(&world.lead, &read).await.unwrap();
    assert_eq!(again, Fired::default());
    assert_eq!(world.number(FIRED).await, 2);
    world.assert_counted().await;
}

/// A schedule's pause is effective at once: on a fire that falls due a moment later, on one that a tick has read already,
/// and under the next leader.
#[tokio::test]
async fn a_fire_that_is_due_right_after_the_pause_makes_no_job() {
    let mut world = World::new().await;
    assert_eq!(ticks(&world, 1).await, 1);
    world.run(1).await;
    let id = ScheduleId(world.office.store.list_schedules(None, 10).await.unwrap().remove(0).id);
    let pause = async |world: &World| {
        let granted = testkit::granted_to("ada", "the vendor is down");
        world.office.store.pause_schedule(&granted, id).await.unwrap().expect("the schedule")
    };
    world.clock.advance(TimeDelta::milliseconds(59_999));
    let paused = pause(&world).await;
    world.clock.advance(TimeDelta::milliseconds(1));
    assert!(paused.next_due_at <= Some(world.clock.now()), "it would be due now");
    assert_eq!(ticks(&world, 3).await, 1);
    let restarted = world.another_office().await;
    world.depose().await;
    for _ in 0..3 {
        world.advance_secs(60);
        tick::perform(&restarted, &world.lead).await.unwrap();
    }
    assert_eq!(world.number(FIRED).await, 1, "the next leader knows of it");
    let row = world.office.store.find_schedule(id).await.unwrap().expect("the schedule");
    assert_eq!((row.paused_by.as_deref(), row.paused_reason.as_deref()), (Some("ada"), Some("the vendor is down")));

    world.office.store.resume_schedule(&testkit::granted_to("ada", ""), id).await.unwrap().expect("the schedule");
    world.advance_secs(60);
    let due = world.office.store.due_schedules(10).await.unwrap();
    let read: Vec<_> = due
        .iter()
        .map(|s| Fire { id: s.id, due_at: s.due_at, fires: vec![s.due_at], dropped: 0, next: None })
        .collect();
    assert_eq!(read.len(), 1);
    pause(&world).await;
    assert_eq!(world.office.store.fire_schedules(&world.lead, &read).await.unwrap(), Fired::default());
    assert_eq!(ticks(&world, 1).await, 1, "what was read before the pause does not fire either");
    world.office.store.resume_schedule(&testkit::granted_to("ada", ""), id).await.unwrap().expect("the schedule");
    world.advance_secs(60);
    assert_eq!(ticks(&world, 1).await, 2);
    world.assert_counted().await;
}

#[tokio::test]
async fn two_ticks_at_once_fire_once() {
    let world = World::new().await;
    let other = world.another_office().await;
    for fires in 1..6 {
        let (one, two) = tokio::join!(tick::perform(&world.office, &world.lead), tick::perform(&other, &world.lead));
        assert!(!one.unwrap() && !two.unwrap());
        assert_eq!(world.number(FIRED).await, fires);
        world.run(1).await;
        world.advance_secs(60);
        let kept = world.office.store.lead("boot-1", 100).await.unwrap();
        assert_eq!(kept.as_ref(), Some(&world.lead));
    }
    world.assert_counted().await;
}

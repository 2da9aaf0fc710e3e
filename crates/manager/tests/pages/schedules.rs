//! Schedules' pages.

use crate::world::World;
use domain::{JobState, ScheduleId};

const WHY: [(&str, &str); 2] = [("by", "ada"), ("reason", "they <moved>")];

#[tokio::test]
async fn a_schedule_is_made_looked_at_changed_run_and_deleted() {
    let world = World::new().await;
    world.holds("/schedules", &["None."]).await;
    let rule = r#"{"cron": {"expression": "30 2 * * *", "zone": "Europe/Berlin"}}"#;
    let made = [("name", "nightly"), ("kind", "nobodys"), ("rule", rule), ("account", ""), ("payload", "")];
    let page = world.submit("/schedules", "/schedules", &made).await;
    let id: i64 = page.strip_prefix("/schedules/").unwrap().parse().unwrap();
    world.holds("/schedules", &["nightly", "30 2 * * * (Europe/Berlin)"]).await;
    // It stands in May: half past two at night in Berlin is half past midnight in UTC.
    world.holds(&page, &["by the clock of Europe/Berlin", "2030-05-07 00:30:00.000 UTC", "None is kept."]).await;

    let to = world.submit(&page, &format!("{page}/run"), &[]).await;
    let job: i64 = to.strip_prefix("/jobs/").expect("to the new job").parse().unwrap();
    world.holds(&page, &[&format!(r#"<a href="{to}">{job}</a>"#)]).await;
    assert!(world.refused(&format!("{page}/run"), &[], 409).await.contains("is unfinished"));

    world.submit(&page, &format!("{page}/pause"), &WHY).await;
    world.holds(&page, &["Paused by ada: they &#60;moved&#62;", "Resume"]).await;
    world.holds("/schedules", &[r#"<span class="state paused">paused</span>"#]).await;
    world.submit(&page, &format!("{page}/resume"), &[]).await;
    world.lacks(&page, &["Paused by"]).await;

    let edit =
        [("rule", r#"{"every_secs": 3600}"#), ("overlap", "allow"), ("priority", "1"), ("payload", r#"{"x": 7}"#)];
    world.submit(&page, &format!("{page}/edit"), &edit).await;
    world.holds(&page, &["every 3600 s", "<option selected>allow</option>", "&#34;x&#34;: 7"]).await;
    let before = world.store.find_schedule(ScheduleId(id)).await.unwrap().unwrap();
    world.clock.advance(chrono::TimeDelta::minutes(5));
    world.submit(&page, &format!("{page}/edit"), &[("rule", edit[0].1), ("priority", "3")]).await;
    let after = world.store.find_schedule(ScheduleId(id)).await.unwrap().unwrap();
    assert_eq!(
        (after.priority, after.next_due_at),
        (3, before.next_due_at),
        "the same rule does not move its next fire"
    );
    let text = world.refused(&format!("{page}/edit"), &[("rule", "{")], 400).await;
    assert!(text.contains("rule: &#39;{&#39;"), "{text}");

    let range = [("from", "2030-05-06T09:00:00Z"), ("to", "2030-05-06T11:00:00Z")];
    world.submit(&page, &format!("{page}/backfill"), &range).await;
    assert_eq!(
        world.store.jobs_of_schedule(ScheduleId(id), 50).await.unwrap().len(),
        3,
        "one by hand, two back-filled"
    );
    assert!(
        world.refused(&format!("{page}/backfill"), &[("from", ""), ("to", "")], 400).await.contains("from is empty")
    );

    assert_eq!(world.submit(&page, &format!("{page}/delete"), &[]).await, "/schedules");
    world.page(&page, 404).await;
    let left = world.store.find_job(domain::JobId(job)).await.unwrap().unwrap();
    assert_eq!(left.state, JobState::Ready, "its jobs stay");
}

//! Errors by group, and charts of what ended.

use crate::world::{KIND, World};
use chrono::TimeDelta;
use domain::Fingerprint;

const CHAIN: &str = "the payload is not one of this kind\nit lacks <name>";

#[tokio::test]
async fn errors_are_grouped_and_a_group_is_retried() {
    let world = World::new().await;
    world.holds("/errors", &["None."]).await;
    let mut failed = Vec::new();
    for _ in 0..12 {
        let (id, key) = world.running().await;
        world.fail(key).await;
        failed.push(id);
    }
    world.fold().await;
    world.clock.advance(TimeDelta::minutes(3));
    let fingerprint = Fingerprint::of(KIND, "permanent", CHAIN);
    let page = format!("/errors/{fingerprint}");
    let facts =
        ["the payload is not one of this kind", "permanent", "spike", "12 in the last 24 hours", "3 min ago", &page];
    world.holds("/errors", &facts).await;
    world.lacks("/errors?class=bug", &["the payload"]).await;
    world.holds("/errors?text=PAYLOAD%20is", &facts).await;
    world.holds("/jobs?q=PAYLOAD%20is", &facts).await;
    world.lacks("/jobs?q=nothing%20of%20this", &[facts[0]]).await;
    world.lacks("/errors?kind=other", &["the payload"]).await;
    let facts = ["it lacks &#60;name&#62;", "Trying again gives the same", "by build 0", "Retry the 12 failed"];
    world.holds(&page, &facts).await;
    world.holds(&format!("/jobs/{}", failed[0].0), &[&format!(r#"<a href="{page}">The same errors</a>"#)]).await;

    let q = format!("error:{fingerprint}");
    world.holds(&format!("/operations/new?act=retry&q={}", q.replace(':', "%3A")), &["retry 12 jobs?"]).await;
    let order = [("act", "retry"), ("q", q.as_str()), ("by", "ada"), ("reason", "mended")];
    world.submit(&page, "/operations", &order).await;
    let step = world.store.work_operation(&world.lead).await.unwrap().unwrap();
    assert_eq!((step.applied, step.is_done), (12, true));
    world.fold().await;
    world.holds(&page, &["0, not retried", "None: they were retried"]).await;
    world.lacks(&page, &["Retry the"]).await;
    world.page("/errors/1-0000000000000000-noop", 404).await;
    world.page("/errors/nonsense", 404).await;
}

#[tokio::test]
async fn the_overview_draws_what_ended_and_how_long_it_waited() {
    let world = World::new().await;
    world.holds("/", &["0 jobs ended, 0 of them failed"]).await;
    for _ in 0..2 {
        let (_, key) = world.running().await;
        world.store.succeed(&[key]).await.unwrap();
    }
    let (_, key) = world.running().await;
    world.fail(key).await;
    world.fold().await;
    world.fold().await;
    let failed = r#"<b class="bad">1</b><span>failed in the last hour</span>"#;
    world.holds("/", &["3 jobs ended, 1 of them failed", "<rect class=\"good\"", "<rect class=\"bad\"", failed]).await;
    world.holds("/?span=7d", &["3 jobs ended", r#"aria-current="true">7d"#]).await;
    world.clock.advance(TimeDelta::hours(2));
    world.holds("/", &["0 jobs ended", "<b class=\"\">0</b><span>failed in the last hour</span>"]).await;
    world.holds("/?span=24h", &["3 jobs ended"]).await;
    assert!(world.page("/?span=1y", 400).await.contains("not 1h, 24h or 7d"));
}

//! Servants' and queues' pages.

use crate::world::{KIND, World};
use chrono::TimeDelta;
use domain::Kind;
use store::{NewServant, SeenDepth};

#[tokio::test]
async fn the_fleet_shows_who_is_lost_other_builds_and_kinds_without_anybody() {
    let world = World::new().await;
    world.insert("nobodys").await;
    world.holds("/servants", &["nobodys", "nobody is there to do its jobs"]).await;
    world.clock.advance(TimeDelta::seconds(60));
    world.holds("/servants", &[r#"<span class="state lost">lost</span>"#]).await;
    let kind = Kind::new(KIND).unwrap();
    for version in ["1.2", "1.3"] {
        let (host, version) = ("host-8".to_owned(), version.to_owned());
        let new = NewServant { kind: kind.clone(), host, pid: 2, version, concurrency: 4 };
        world.store.register_servant(&new).await.unwrap();
    }
    world.holds("/servants", &["1.2, 1.3", "not all of one build", "0/8"]).await;
    world.holds("/servants?kind=nobodys", &["No servant of that kind"]).await;
    let tables = "[noop]\nlabel = \"x\"\nrun_secs_max = 1\nconcurrency = 1\nprocesses = 3";
    let catalogue = domain::Catalogue::new(toml::from_str(tables).unwrap()).unwrap();
    world.store.declare_kinds(&world.lead, &catalogue).await.unwrap();
    for page in ["/servants", "/"] {
        world.holds(page, &["0 of 3", "fewer than there should be"]).await;
    }
    world.lacks("/servants?kind=nobodys", &["host-8"]).await;
    world.page("/servants/999", 404).await;
}

#[tokio::test]
async fn a_kind_is_paused_and_resumed_where_its_servants_are_shown() {
    let world = World::new().await;
    let page = format!("/servants?kind={KIND}");
    let pause = [("scope", "kind"), ("key", KIND), ("by", "ada"), ("reason", "their sandbox is down")];
    world.holds(&page, &[&format!("Pause {KIND}")]).await;
    assert_eq!(world.submit(&page, "/pauses", &pause).await, page);
    world.holds(&page, &[&format!("Resume {KIND}")]).await;
    world.submit(&page, "/pauses/resume", &[("scope", "kind"), ("key", KIND)]).await;
    world.lacks(&page, &["Resume"]).await;
    world.lacks("/servants", &["Pause"]).await;
}

#[tokio::test]
async fn a_servant_is_paused_and_drained_from_its_page() {
    let world = World::new().await;
    let page = format!("/servants/{}", world.servant.0);
    for (order, words) in [("pause", "told to pause"), ("drain", "told to drain"), ("resume", "told to resume")] {
        assert_eq!(world.submit(&page, &format!("{page}/order"), &[("order", order)]).await, page);
        world.holds(&page, &[words]).await;
    }
    let text = world.refused(&format!("{page}/order"), &[("order", "explode")], 422).await;
    assert!(text.contains("explode"), "{text}");
}

#[tokio::test]
async fn queues_show_the_oldest_wait_depths_and_take_dead_letters_back() {
    let world = World::new().await;
    let kind = Kind::new(KIND).unwrap();
    world.holds("/queues", &["Nothing was looked at yet"]).await;
    let id = world.insert(KIND).await;
    world.clock.advance(TimeDelta::minutes(7));
    let oldest = world.store.oldest_ready(&kind).await.unwrap();
    assert_eq!(oldest, world.store.find_job(id).await.unwrap().unwrap().ready_at, "the job's own stamp");
    world.store.note_queues(&world.lead, &[(kind.clone(), oldest)], &[]).await.unwrap();
    world.holds("/queues", &["7 min", "There is no queue"]).await;
    assert!(
        world.refused(&format!("/queues/{KIND}/redrive"), &[("by", "ada")], 404).await.contains("no queue of kind")
    );
    let depth = SeenDepth { kind: KIND.to_owned(), depths: [31, 32, 33, 34] };
    world.store.note_queues(&world.lead, &[(kind, oldest)], &[depth]).await.unwrap();
    world
        .holds(
            "/queues",
            &[">31<", ">32<", ">33<", ">34<", "A million jobs: 0.3 to 3.0 million requests, $0.12 to $1.20"],
        )
        .await;
    world.submit("/queues", &format!("/queues/{KIND}/redrive"), &[("by", "ada")]).await;
    world.holds("/queues", &["ordered by ada"]).await;
    assert_eq!(world.store.ordered_redrives().await.unwrap(), [KIND]);
    world.store.note_redrive(&world.lead, KIND, "34 dead letters were moved back").await.unwrap();
    world.holds("/queues", &["34 dead letters were moved back"]).await;
    assert!(world.store.ordered_redrives().await.unwrap().is_empty());
}

//! The search, and what is done to all that it finds.

use crate::world::{KIND, World};
use chrono::TimeDelta;
use domain::{AccountId, JobState, Kind};
use serde_json::json;
use store::{Inserted, NewJob};

const WHY: [(&str, &str); 2] = [("by", "ada"), ("reason", "the <outage> is over")];

#[tokio::test]
async fn the_search_finds_by_every_word_and_says_which_it_does_not_know() {
    let world = World::new().await;
    let orphan = world.insert("nobodys").await;
    let (running, _) = world.running().await;
    let link = |id: domain::JobId| format!(r#"<a href="/jobs/{}">"#, id.0);
    world.clock.advance(TimeDelta::hours(3));
    for (q, found, not) in [
        ("state:pending", orphan, running),
        ("nobodys", orphan, running),
        (&format!("servant:{}", world.servant.0), running, orphan),
        ("kind:salesforce_sync age:>2h", running, orphan),
    ] {
        let path = format!("/jobs?q={}", q.replace(':', "%3A").replace(' ', "%20").replace('>', "%3E"));
        world.holds(&path, &[&link(found)]).await;
        world.lacks(&path, &[&link(not)]).await;
    }
    world.holds("/jobs?q=age%3A%3C2h", &["No job matches."]).await;
    world.holds("/jobs", &["all <b>2</b>", "pending <b>1</b>", "running <b>1</b>", "kind:nobodys"]).await;
    world.holds("/jobs?q=account%3A7", &["all <b>0</b>", "failed <b>0</b>"]).await;
    let text = world.page("/jobs?q=colour%3Ablue", 400).await;
    assert!(text.contains("is no word of the search"), "{text}");
    let id = orphan.0.to_string();
    world.holds(&format!("/jobs?q={id}"), &["nobodys", "Run again"]).await;
}

#[tokio::test]
async fn all_that_failed_is_retried_with_every_job_accounted_for() {
    let world = World::new().await;
    let mut failed = Vec::new();
    for _ in 0..3 {
        let (id, key) = world.running().await;
        world.fail(key).await;
        failed.push(id);
    }
    let other = world.insert("nobodys").await;
    world
        .holds("/jobs?q=state%3Afailed", &["Retry all of these", "/operations/new?act=retry&#38;q=state%3Afailed"])
        .await;
    world.lacks("/jobs", &["all of these"]).await;
    world.holds("/operations/new?act=retry&q=state%3Afailed", &["retry 3 jobs?", "Yes, retry them"]).await;
    let page =
        world.submit("/jobs", "/operations", &[&[("act", "retry"), ("q", "state:failed")][..], &WHY].concat()).await;
    world.holds(&page, &["0 / 3", "Stop", "the &#60;outage&#62; is over", "Nothing yet."]).await;
    let step = world.store.work_operation(&world.lead).await.unwrap().unwrap();
    assert_eq!((step.applied, step.skipped, step.is_done), (3, 0, true));
    assert_eq!(world.store.work_operation(&world.lead).await.unwrap(), None, "it is done");
    world.holds(&page, &["3 / 3", r#"<span class="state done">done</span>"#]).await;
    for id in failed {
        world.holds(&page, &[&format!(r#"<a href="/jobs/{}">"#, id.0)]).await;
        assert_eq!(world.store.find_job(id).await.unwrap().unwrap().state, JobState::Ready);
    }
    world.holds("/operations", &["retry <code>state:failed</code>", "ada"]).await;
    let untouched = world.store.find_job(other).await.unwrap().unwrap();
    assert_eq!((untouched.state, untouched.attempt), (JobState::Ready, 0));
}

#[tokio::test]
async fn an_operation_is_stopped_and_what_makes_no_sense_is_refused() {
    let world = World::new().await;
    let id = world.insert("nobodys").await;
    let order = |q: &'static str| [&[("act", "cancel"), ("q", q), ("per_second", "1")][..], &WHY].concat();
    let page = world.submit("/jobs", "/operations", &order("nobodys")).await;
    let cancel = format!("{page}/cancel");
    assert_eq!(world.submit(&page, &cancel, &[("by", "grace")]).await, page);
    world.holds(&page, &["stopped by grace", r#"<span class="state cancelled">"#]).await;
    assert_eq!(world.store.work_operation(&world.lead).await.unwrap(), None);
    assert_eq!(world.store.find_job(id).await.unwrap().unwrap().state, JobState::Ready);
    assert!(world.refused(&cancel, &[("by", "grace")], 409).await.contains("is cancelled already"));
    for (fields, what) in [
        (order(" "), "that would be every job"),
        (order("state:failed"), "nothing is cancelled"),
        ([&[("act", "burn"), ("q", "nobodys")][..], &WHY].concat(), "nothing that is done in bulk"),
        ([&[("act", "cancel"), ("q", "nobodys"), ("per_second", "0")][..], &WHY].concat(), "per_second"),
    ] {
        let text = world.refused("/operations", &fields, 400).await;
        assert!(text.contains(what), "{what}: {text}");
    }
    world.page("/operations/999", 404).await;
}

#[tokio::test]
async fn a_filter_without_a_counter_is_counted_by_looking() {
    let world = World::new().await;
    let account = world.store.create_account("Acme").await.unwrap();
    let mut job = NewJob::new(Kind::new("nobodys").unwrap(), json!({}));
    job.account = account;
    world.store.insert_jobs(&vec![job; 801]).await.unwrap();
    world.insert("nobodys").await;
    let of_account = format!("/operations/new?act=cancel&q=account%3A{account}");
    world.insert_many("nobodys", 500).await;
    world.insert_many("others", 90).await;
    world.fold().await;
    world.holds(&of_account, &["cancel 400 or more, 1,392 at the most?"]).await;
    world.holds(&format!("{of_account}%20kind%3Anobodys"), &["or more, 1,302 at the most?"]).await;
    world.holds("/operations/new?act=cancel&q=nobodys", &["1,302 jobs?"]).await;
    let young = format!("{of_account}%20age%3A%3E1h");
    world.holds(&young, &["cancel 0 jobs?"]).await;
}

#[tokio::test]
async fn a_job_is_run_again_as_one_of_its_own() {
    let world = World::new().await;
    let (id, key) = world.running().await;
    world.store.succeed(&[key]).await.unwrap();
    let to = world.submit("/jobs", &format!("/jobs/{}/again", id.0), &[]).await;
    assert_ne!(to, format!("/jobs/{}", id.0));
    world.holds(&to, &[KIND, "&#60;blue&#62;", r#"<span class="state ready">"#]).await;
    let new = world.store.find_job(to.strip_prefix("/jobs/").unwrap().parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(new.account_id, AccountId::SYSTEM);
    let see = domain::SeePersonalData::of(&domain::Principal::system("a test"));
    let again = world.store.insert_jobs(&[NewJob::new(new.kind, new.payload.shown(see.as_ref()))]).await.unwrap();
    assert!(matches!(again[..], [Inserted::New(_)]));
}

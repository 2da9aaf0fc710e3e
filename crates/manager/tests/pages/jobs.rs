//! The overview, lists of jobs and one job's page: each answers, and holds the facts that it is there for.

use crate::world::{KIND, World};
use domain::{Kind, PauseTarget};
use manager_api::{ByWhom, CurrentJob, ManagerClient, Order, PauseRequest};
use serde_json::json;
use store::{Inserted, NewJob};

#[tokio::test]
async fn the_overview_shows_counts_servants_progress_and_failures() {
    let world = World::new().await;
    world.holds("/", &["No jobs yet.", "servants alive"]).await;
    world.holds("/servants", &["host-7"]).await;
    let (failed, key) = world.running().await;
    world.fail(key).await;
    let (running, key) = world.running().await;
    let progress = json!({"done": 13_250, "total": 20_000, "message": "Opportunity"});
    world.store.save_progress(&[(key, progress.clone())]).await.unwrap();
    let started_at = world.clock.now();
    let current = CurrentJob { id: running.0, attempt: 1, account_id: 0, started_at, progress: Some(progress) };
    world.heartbeat(vec![current]).await;
    world.clock.advance(chrono::TimeDelta::seconds(3));

    let counted = |state: &str| format!(r#"href="/jobs?kind={KIND}&amp;state={state}">1</a>"#);
    let link = format!(r#"<a href="/jobs/{}">"#, failed.0);
    let servant = [r#"<span class="state alive">alive</span> running"#, "3 s ago", "1/4", "17 MB", "host-7"];
    world.holds("/servants", &servant).await;
    let facts = [
        counted("running"),
        counted("failed"),
        "1/4".to_owned(),
        link,
        "permanent".to_owned(),
        "the payload is not one of this kind".to_owned(),
    ];
    world.holds("/", &facts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let bar = r#"<progress value="13250" max="20000" aria-label="Progress"></progress><span>13,250 / 20,000</span>"#;
    world.lacks("/", &["Onboarding"]).await;
    world.holds("/servants", &[bar]).await;
    world.holds(&format!("/servants/{}", world.servant.0), &[bar, "Drain", "process 1"]).await;
    world.holds(&format!("/jobs/{}", running.0), &[bar, "Opportunity", "Cancel"]).await;
    world.holds("/jobs?state=running", &[bar, r#"aria-current="true">running <b>1</b>"#]).await;
}

#[tokio::test]
async fn the_overview_shows_onboardings_and_no_other_syncs() {
    let world = World::new().await;
    let (_, key) = world.running().await;
    let new = store::NewGroup {
        name: "onboarding of connection 7".to_owned(),
        account: domain::AccountId::SYSTEM,
        finishing: None,
        request_id: uuid::Uuid::new_v4(),
    };
    let mut tx = world.store.begin().await.unwrap();
    let group = world.store.found_group_in(&mut tx, &new, KIND).await.unwrap();
    assert_eq!(world.store.join_group_in(&mut tx, key, group).await.unwrap(), store::Outcome::Applied);
    tx.commit().await.unwrap();
    world.store.save_progress(&[(key, json!({"done": 1_500, "total": 6_000}))]).await.unwrap();
    world.clock.advance(chrono::TimeDelta::minutes(10));
    let (_, ordinary) = world.running().await;
    world.store.save_progress(&[(ordinary, json!({"done": 7, "total": 9}))]).await.unwrap();
    let link = format!(r#"<a href="/groups/{group}">"#);
    let facts = ["Onboarding", &link, "1,500 / 6,000", "30 min", "10 min ago", "group-sealed"];
    world.holds("/", &facts).await;
    world.lacks("/", &["7 / 9"]).await;

    assert_eq!(world.store.succeed(&[key]).await.unwrap().len(), 1);
    world.fold().await;
    assert_eq!(world.store.end_groups(&world.lead, 10).await.unwrap().ended.len(), 1);
    world.holds("/", &["Onboarding", &link, "group-finished"]).await;
    world.clock.advance(chrono::TimeDelta::hours(25));
    world.lacks("/", &["Onboarding", &link]).await;
}

#[tokio::test]
async fn what_operators_hold_is_in_need_of_attention_with_why_by_whom_and_since_when() {
    let world = World::new().await;
    let account = world.store.create_account("Acme").await.unwrap();
    let connection = world.store.create_connection(account, "salesforce", &json!({}), None).await.unwrap();
    let why = |reason: &'static str| [("by", "ada"), ("reason", reason)];
    world.submit("/limits", "/breakers/salesforce/open", &why("they <asked> us to")).await;
    world.submit("/", &format!("/connections/{connection}/park"), &why("they renew it")).await;
    let of_account = [("scope", "account"), ("key", "1"), ("by", "grace"), ("reason", "an audit of theirs")];
    assert_eq!(account.0, 1);
    world.submit("/limits", "/pauses", &of_account).await;
    let nightly =
        [("name", "nightly"), ("kind", KIND), ("rule", r#"{"every_secs": 60}"#), ("account", ""), ("payload", "")];
    let schedule = world.submit("/schedules", "/schedules", &nightly).await;
    world.submit(&schedule, &format!("{schedule}/pause"), &why("nobody needs it")).await;
    world.clock.advance(chrono::TimeDelta::minutes(7));
    let page = world.page("/", 200).await;
    let table = page.split("Needs attention").nth(1).and_then(|rest| rest.split("</section>").next()).unwrap();
    for row in [
        ["held open", "by ada: they &#60;asked&#62; us to"],
        [&format!("account {account}</a>"), "by grace: an audit of theirs"],
        [&format!("connection {connection}</a> of account {account}"), "by ada: they renew it"],
        ["nightly</a>", "by ada: nobody needs it"],
    ] {
        let told = table.split("<tr>").find(|line| line.contains(row[0])).unwrap_or_else(|| panic!("{row:?}: {table}"));
        assert!(told.contains(row[1]) && told.contains("7 min ago"), "{row:?}: {told}");
    }
}

#[tokio::test]
async fn a_jobs_page_shows_its_life_and_what_went_wrong() {
    let world = World::new().await;
    let (id, key) = world.running().await;
    world.clock.advance(chrono::TimeDelta::milliseconds(1_234));
    world.fail(key).await;
    let facts = [
        r#"<span class="state failed">failed</span>"#,
        "<td>claimed</td>",
        "2030-05-06 12:00:01.234 UTC",
        "+1234 ms",
        r#"Attempt 1 <span class="state failed">permanent</span>"#,
        "after 1234 ms on servant",
        "it lacks &#60;name&#62;",
        "&#60;blue&#62;",
        ">Retry</button>",
    ];
    let page = format!("/jobs/{}", id.0);
    world.holds(&page, &facts).await;
    world.lacks(&page, &["What people did"]).await;
    world.submit(&page, &format!("{page}/retry"), &[]).await;
    world.holds(&page, &["What people did", ">retry job</td>"]).await;
}

#[tokio::test]
async fn a_pending_jobs_page_says_what_it_waits_for() {
    let world = World::new().await;
    let orphan = format!("/jobs/{}", world.insert("nobodys").await.0);
    world.holds(&orphan, &["no servant of kind nobodys was ever seen.", "start a servant of kind nobodys"]).await;
    let ours = format!("/jobs/{}", world.insert(KIND).await.0);
    world.holds(&ours, &["Why it waits", "its servants have 0 of 4 slots busy"]).await;
    let mut later = NewJob::new(Kind::new(KIND).unwrap(), json!({}));
    later.due_at = Some(world.clock.now() + chrono::TimeDelta::hours(3));
    let [Inserted::New(id)] = world.store.insert_jobs(&[later]).await.unwrap()[..] else { panic!("it was new") };
    world.holds(&format!("/jobs/{}", id.0), &["it is due at 2030-05-06T15:00:00Z."]).await;
}

#[tokio::test]
async fn what_is_paused_is_on_the_overview_and_on_the_jobs_page() {
    let world = World::new().await;
    let id = world.insert("nobodys").await;
    world.insert(KIND).await;
    assert!(!world.page("/", 200).await.contains("paused"), "nothing is");
    let client = ManagerClient::new(&world.url).unwrap();
    let request = PauseRequest { reason: "the <vendor> is down".to_owned(), by: Some("ada".to_owned()) };
    client.pause(&PauseTarget::Kind(Kind::new("nobodys").unwrap()), &request).await.unwrap();
    world.clock.advance(chrono::TimeDelta::minutes(3));
    let marked = r#"<a href="/jobs?kind=nobodys">nobodys</a> <span class="state late">paused</span>"#;
    let banner = ["kind nobodys is paused", "by ada", "3 min ago", "the &#60;vendor&#62; is down"];
    world.holds("/", &[&banner[..], &[marked]].concat()).await;
    assert_eq!(world.page("/", 200).await.matches("late\">paused").count(), 1, "the other kind is not");
    let says = "kind nobodys is paused by ada since 2030-05-06T12:00:00Z: the &#60;vendor&#62; is down.";
    world.holds(&format!("/jobs/{}", id.0), &[says, "servantctl resume kind nobodys"]).await;
    client.pause(&PauseTarget::Everything, &request).await.unwrap();
    assert_eq!(world.page("/", 200).await.matches("late\">paused").count(), 2, "everything is every kind");
}

#[tokio::test]
async fn lists_are_filtered_and_refusals_are_pages_with_a_way_out() {
    let world = World::new().await;
    let id = world.insert("nobodys").await;
    let link = format!(r#"<a href="/jobs/{}">"#, id.0);
    world.holds("/jobs", &[&link]).await;
    world
        .holds("/jobs?kind=nobodys&state=pending", &[&link, r#"value="state:scheduled,ready,queued kind:nobodys""#])
        .await;
    world.holds("/jobs?kind=other", &["No job matches."]).await;
    let group = store::NewGroup {
        name: "back-fill".to_owned(),
        account: domain::AccountId::SYSTEM,
        finishing: None,
        request_id: world.store.find_job(id).await.unwrap().unwrap().request_id,
    };
    let member = store::NewJob::new(domain::Kind::new("nobodys").unwrap(), json!({}));
    let (group, jobs) = world.store.create_group(&testkit::granted(), &group, &[member], true).await.unwrap();
    let store::Inserted::New(member) = jobs[0] else { panic!("a duplicate") };
    let of_group = format!(r#"href="/groups/{group}""#);
    world.holds(&format!("/jobs/{member}"), &[&of_group]).await;
    let (path, member) = (format!("/jobs?group={group}"), format!(r#"<a href="/jobs/{member}">"#));
    world
        .holds(&path, &[&member, &format!("q=state%3Afailed%20group%3A{group}"), &format!(r#"value="group:{group}""#)])
        .await;
    assert!(!world.page(&path, 200).await.contains(&link), "others are not in it");
    for (path, status, fact) in [
        ("/jobs/999", 404, "there is no job 999"),
        ("/jobs?state=done", 400, "&#39;done&#39; is not a state"),
        ("/nowhere", 404, "there is nothing at this address"),
    ] {
        let text = world.page(path, status).await;
        assert!(text.contains(fact) && text.contains("To the overview") && text.contains("Request <code>"), "{text}");
    }
    ManagerClient::new(&world.url).unwrap().order(world.servant.0, Order::Pause, &ByWhom::default()).await.unwrap();
    world.holds("/servants", &["(pause ordered)"]).await;
}

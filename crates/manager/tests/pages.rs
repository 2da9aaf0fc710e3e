//! The pages over a real socket on a real database, as a browser without JavaScript reads them: each answers, and
//! holds the facts that it is there for. Does not own how they look.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

use daemon::{Health, Stopper};
use domain::{Clock, ErrorClass, Failure, JobId, Kind, ManualClock, PauseTarget, ServantId};
use manager_api::{ByWhom, CurrentJob, Heartbeat, ManagerClient, Order, PauseRequest};
use serde_json::json;
use store::{AttemptKey, FailedAttempt, Fate, Inserted, NewJob, NewServant, Store};
use testkit::TestDatabase;

const KIND: &str = "salesforce_sync";

/// A manager on a database whose clock stands still, and one servant of the onboarding's kind.
struct World {
    _database: TestDatabase,
    clock: ManualClock,
    store: Store,
    servant: ServantId,
    url: String,
}

impl World {
    async fn new() -> Self {
        let database = testkit::database().await;
        let clock = ManualClock::at("2030-05-06T12:00:00Z".parse().unwrap());
        let store = database.store_with(Clock::Manual(clock.clone())).await;
        let kind = Kind::new(KIND).unwrap();
        let new = NewServant { kind, host: "host-7".into(), pid: 1, version: "0".into(), concurrency: 4 };
        let servant = store.register_servant(&new).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = manager::App { store: store.clone(), health: Health::new(Stopper::new()), connect: None };
        tokio::spawn(async move { axum::serve(listener, manager::router(app, 10_000)).await });
        Self { _database: database, clock, store, servant, url }
    }

    async fn insert(&self, kind: &str) -> JobId {
        let job = NewJob::new(Kind::new(kind).unwrap(), json!({"colour": "<blue>"}));
        match self.store.insert_jobs(&[job]).await.unwrap()[..] {
            [Inserted::New(id)] => id,
            ref other => panic!("{other:?}"),
        }
    }

    async fn running(&self) -> (JobId, AttemptKey) {
        let id = self.insert(KIND).await;
        let until = self.clock.now() + chrono::TimeDelta::seconds(60);
        let claimed =
            testkit::claim_ready(&self.store, self.servant, &Kind::new(KIND).unwrap(), 1, until).await.unwrap();
        assert_eq!(claimed.iter().map(|job| job.key.id).collect::<Vec<_>>(), [id]);
        (id, claimed[0].key)
    }

    async fn fail(&self, key: AttemptKey) {
        let chain = "the payload is not one of this kind\nit lacks <name>".to_owned();
        let fate = Fate::Fail(Failure { class: ErrorClass::Permanent, chain, until: None });
        assert_eq!(self.store.settle(&[FailedAttempt { key, fate }]).await.unwrap().len(), 1);
    }

    async fn heartbeat(&self, jobs: Vec<CurrentJob>) {
        let beat = Heartbeat {
            servant_id: self.servant.0,
            kind: KIND.into(),
            state: "running".into(),
            version: "0".into(),
            host: "host-7".into(),
            pid: 1,
            started_at: self.clock.now(),
            rss_bytes: Some(17_000_000),
            concurrency: 4,
            running: u32::try_from(jobs.len()).unwrap(),
            jobs,
        };
        ManagerClient::new(&self.url).unwrap().heartbeat(&beat).await.unwrap();
    }

    async fn page(&self, path: &str, status: u16) -> String {
        let request = reqwest::Client::new().get(format!("{}{path}", self.url)).header("accept", "text/html");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let text = answer.text().await.unwrap();
        assert!(text.starts_with("<!doctype html>"), "{path} is no page: {text}");
        text
    }

    async fn holds(&self, path: &str, facts: &[&str]) {
        let text = self.page(path, 200).await;
        for fact in facts {
            assert!(text.contains(fact), "{path} lacks {fact:?}:\n{text}");
        }
    }
}

#[tokio::test]
async fn the_overview_shows_counts_servants_progress_and_failures() {
    let world = World::new().await;
    world.holds("/", &["No jobs yet.", "host-7"]).await;
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
    let facts = [
        counted("running"),
        counted("failed"),
        r#"<span class="state alive">alive</span> running"#.to_owned(),
        "3 s ago".to_owned(),
        "1/4".to_owned(),
        "17 MB".to_owned(),
        link,
        "permanent".to_owned(),
        "the payload is not one of this kind".to_owned(),
    ];
    world.holds("/", &facts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let bar = r#"<progress value="13250" max="20000" aria-label="Progress"></progress><span>13,250 / 20,000</span>"#;
    let page = world.page("/", 200).await;
    assert_eq!(page.matches(bar).count(), 2, "once as an onboarding, once at its servant:\n{page}");
    world.holds(&format!("/jobs/{}", running.0), &[bar, "Opportunity", "Cancel"]).await;
    world.holds("/jobs?state=running", &[bar, r#"aria-current="true">running"#]).await;
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
        "<button>Retry</button>",
    ];
    world.holds(&format!("/jobs/{}", id.0), &facts).await;
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
    let request = PauseRequest { reason: "the <vendor> is down".to_owned(), by: "ada".to_owned() };
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
    world.holds("/jobs?kind=nobodys&state=pending", &[&link, r#"value="nobodys""#]).await;
    world.holds("/jobs?kind=other", &["No job matches."]).await;
    let group = store::NewGroup {
        name: "back-fill".to_owned(),
        account: domain::AccountId::SYSTEM,
        finishing: None,
        created_by: "ada".to_owned(),
        request_id: world.store.find_job(id).await.unwrap().unwrap().request_id,
    };
    let member = store::NewJob::new(domain::Kind::new("nobodys").unwrap(), json!({}));
    let (group, jobs) = world.store.create_group(&group, &[member], true).await.unwrap();
    let store::Inserted::New(member) = jobs[0] else { panic!("a duplicate") };
    let of_group = format!(r#"href="/jobs?group={group}""#);
    world.holds(&format!("/jobs/{member}"), &[&of_group]).await;
    let (path, member) = (format!("/jobs?group={group}"), format!(r#"<a href="/jobs/{member}">"#));
    world.holds(&path, &[&member, &format!("state=failed&#38;group={group}"), r#"name="group""#]).await;
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
    world.holds("/", &["(pause ordered)"]).await;
}

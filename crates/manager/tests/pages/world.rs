//! A manager on a database of its own, whose time is moved by hand, and pages as a browser without JavaScript gets them.

use domain::{Clock, ErrorClass, Failure, JobId, Kind, ManualClock, ServantId};
use manager_api::{CurrentJob, Heartbeat, ManagerClient};
use serde_json::json;
use store::{AttemptKey, FailedAttempt, Fate, Inserted, Leadership, NewJob, NewServant, Store};
use testkit::TestDatabase;

pub(crate) const KIND: &str = "salesforce_sync";

/// A manager on a database whose clock stands still, and one servant of the onboarding's kind.
pub(crate) struct World {
    pub(crate) database: TestDatabase,
    pub(crate) clock: ManualClock,
    pub(crate) store: Store,
    pub(crate) servant: ServantId,
    pub(crate) url: String,
    pub(crate) lead: Leadership,
}

impl World {
    pub(crate) async fn new() -> Self {
        let database = testkit::database().await;
        let clock = ManualClock::at("2030-05-06T12:00:00Z".parse().unwrap());
        let store = database.store_with(Clock::Manual(clock.clone())).await;
        let kind = Kind::new(KIND).unwrap();
        let new = NewServant { kind, host: "host-7".into(), pid: 1, version: "0".into(), concurrency: 4 };
        let servant = store.register_servant(&new).await.unwrap();
        let url = crate::common::serve(&store, |app| manager::router(app, 10_000)).await;
        let lead = store.lead("boot-1", 3_600).await.unwrap().unwrap();
        Self { database, clock, store, servant, url, lead }
    }

    pub(crate) async fn insert(&self, kind: &str) -> JobId {
        let job = NewJob::new(Kind::new(kind).unwrap(), json!({"colour": "<blue>"}));
        match self.store.insert_jobs(&[job]).await.unwrap()[..] {
            [Inserted::New(id)] => id,
            ref other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn insert_many(&self, kind: &str, jobs: usize) {
        let job = NewJob::new(Kind::new(kind).unwrap(), json!({}));
        self.store.insert_jobs(&vec![job; jobs]).await.unwrap();
    }

    pub(crate) async fn running(&self) -> (JobId, AttemptKey) {
        let id = self.insert(KIND).await;
        let until = self.clock.now() + chrono::TimeDelta::seconds(60);
        let claimed =
            testkit::claim_ready(&self.store, self.servant, &Kind::new(KIND).unwrap(), 1, until).await.unwrap();
        assert_eq!(claimed.iter().map(|job| job.key.id).collect::<Vec<_>>(), [id]);
        (id, claimed[0].key)
    }

    pub(crate) async fn fail(&self, key: AttemptKey) {
        let chain = "the payload is not one of this kind\nit lacks <name>".to_owned();
        let fate = Fate::Fail(Failure { class: ErrorClass::Permanent, chain, until: None });
        assert_eq!(self.store.settle(&[FailedAttempt { key, fate }]).await.unwrap().len(), 1);
    }

    /// What the leading scheduler does now and then.
    pub(crate) async fn fold(&self) {
        self.store.fold_counters(&self.lead, 10_000).await.unwrap();
        self.store.fold_errors(&self.lead, 10_000).await.unwrap();
    }

    /// Sends a form as a browser does from `from`, and answers with where that leads.
    pub(crate) async fn submit(&self, from: &str, path: &str, fields: &[(&str, &str)]) -> String {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let request = client.post(format!("{}{path}", self.url)).header("accept", "text/html");
        let request = request.header("referer", format!("{}{from}", self.url)).header("sec-fetch-site", "same-origin");
        let answer = request.form(fields).send().await.unwrap();
        let (status, to) = (answer.status(), answer.headers().get("location").cloned());
        let text = answer.text().await.unwrap();
        assert_eq!(status, 303, "{path}: {text}");
        to.unwrap().to_str().unwrap().to_owned()
    }

    /// Sends a form that is refused, and answers with the page that says why.
    pub(crate) async fn refused(&self, path: &str, fields: &[(&str, &str)], status: u16) -> String {
        let request = reqwest::Client::new().post(format!("{}{path}", self.url)).header("accept", "text/html");
        let request = request.header("referer", format!("{}/keys?of=them", self.url));
        let answer = request.form(fields).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(r#"<a href="/keys?of=them">Back to the form</a>"#), "{path} leads nowhere: {text}");
        text
    }

    pub(crate) async fn lacks(&self, path: &str, facts: &[&str]) {
        let text = self.page(path, 200).await;
        for fact in facts {
            assert!(!text.contains(fact), "{path} has {fact:?}:\n{text}");
        }
    }

    pub(crate) async fn heartbeat(&self, jobs: Vec<CurrentJob>) {
        let beat = Heartbeat {
            servant_id: self.servant.0,
            kind: KIND.into(),
            state: "running".into(),
            version: "0".into(),
            host: "host-7".into(),
            pid: 1,
            started_at: self.clock.now(),
            rss_bytes: Some(17_000_000),
            cpu_pct: Some(42),
            concurrency: 4,
            running: u32::try_from(jobs.len()).unwrap(),
            jobs,
        };
        ManagerClient::new(&self.url).unwrap().heartbeat(&beat).await.unwrap();
    }

    pub(crate) async fn page(&self, path: &str, status: u16) -> String {
        let request = reqwest::Client::new().get(format!("{}{path}", self.url)).header("accept", "text/html");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        let text = answer.text().await.unwrap();
        assert!(text.starts_with("<!doctype html>"), "{path} is no page: {text}");
        text
    }

    pub(crate) async fn holds(&self, path: &str, facts: &[&str]) {
        let text = self.page(path, 200).await;
        for fact in facts {
            assert!(text.contains(fact), "{path} lacks {fact:?}:\n{text}");
        }
    }
}

//! A manager, two customers with something of everything, and requests by whoever a test says.

use crate::{Access, App, Connect, ConnectConfig, SalesforceConfig};
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header},
};
use chrono::TimeDelta;
use daemon::{Health, Stopper};
use domain::{
    AccountId, AnomalyKind, Clock, ConnectionId, ErrorClass, Failure, FinishWhen, Finishing, GroupId, JobId, Kind,
    ManualClock, Policy, Principal, PrincipalKind, Role, Schedule, ScheduleId, ServantId, Severity, VendorBudget,
    action,
};
use manager_api::AssumeReply;
use salesforce::Hosts;
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use store::{
    AnomalyFilter, AttemptKey, Created, FailedAttempt, Fate, Inserted, Leadership, NewGroup, NewJob, NewSchedule,
    NewServant, PageOrigin, QuarantineFilter, Quarantined, Sighting, Store, UsageReport,
};
use testkit::TestDatabase;
use tower::ServiceExt as _;
use vault::Vault;

pub(super) const KIND: &str = "salesforce_sync";

/// Somebody of that role.
pub(super) fn person(role: Role) -> Principal {
    Principal::new(PrincipalKind::User, role.as_str(), format!("a {role}"), role)
}

/// What a customer has.
pub(super) struct Side {
    pub(super) account: AccountId,
    pub(super) connection: ConnectionId,
    pub(super) failed: JobId,
    pub(super) running: JobId,
    pub(super) waiting: JobId,
    pub(super) group: GroupId,
    pub(super) schedule: ScheduleId,
    pub(super) anomaly: i64,
    /// Its number in quarantine.
    pub(super) record: i64,
}

pub(super) struct World {
    pub(super) database: TestDatabase,
    pub(super) store: Store,
    pub(super) clock: ManualClock,
    pub(super) servant: ServantId,
    pub(super) app: App,
    /// Connections that whatever is called outside has seen.
    pub(super) calls: Arc<AtomicUsize>,
    lead: Leadership,
    _files: tempfile::TempDir,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl World {
    pub(super) async fn new() -> Self {
        let database = testkit::database().await;
        let clock = ManualClock::at("2030-05-06T12:00:00Z".parse().unwrap());
        let store = database.store_with(Clock::Manual(clock.clone())).await;
        let new = NewServant { kind: kind(), host: "host-7".into(), pid: 1, version: "0".into(), concurrency: 4 };
        let servant = store.register_servant(&new).await.unwrap();
        let lead = store.lead("boot-1", 3_600).await.unwrap().unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let files = tempfile::tempdir().unwrap();
        let connect = connect(&files, &clock, calls.clone()).await;
        let app = App {
            store: store.clone(),
            health: Health::new(Stopper::new()),
            connect: Some(Arc::new(connect)),
            access: Access::open(),
        };
        Self { database, store, clock, servant, app, calls, lead, _files: files }
    }

    /// A customer; `word` is in everything that it says, as the name of a person, quoted, and in an address.
    pub(super) async fn customer(&self, word: &str) -> Side {
        let store = &self.store;
        let mail = format!("{word}@mail.example");
        let account = store.create_account("Acme").await.unwrap();
        let settings = json!({"login_url": "https://login.example", "user": mail});
        let connection = store.create_connection(account, "salesforce", &settings, Some(&mail)).await.unwrap();
        let new = NewSchedule {
            name: format!("sweep of {}", account.0),
            kind: kind(),
            account,
            connection: Some(connection),
            payload: json!({"to": mail, "who": word}),
            priority: 2,
            attempts_max: 3,
            rule: Schedule::EverySecs(60),
            policy: Policy::default(),
            first_due_at: Some(self.clock.now()),
            declared: false,
        };
        let Created::New(schedule) = store.create_schedule(&testkit::granted(), &new).await.unwrap() else {
            panic!("no schedule")
        };
        let finishing = Finishing {
            kind: kind(),
            payload: json!({"to": mail}),
            priority: 2,
            connection: None,
            when: FinishWhen::AllDone,
        };
        let group = NewGroup {
            name: "back-fill".to_owned(),
            account,
            finishing: Some(finishing),
            request_id: uuid::Uuid::new_v4(),
        };
        let (group, _) = store.create_group(&testkit::granted(), &group, &[], false).await.unwrap();
        let job = || NewJob {
            account,
            connection: Some(connection),
            group: Some(group),
            ..NewJob::new(kind(), json!({"to": mail, "people": [{"name": word, "phone": 49_301_234_567_i64}]}))
        };
        let new = store.insert_jobs(&[job(), job()]).await.unwrap();
        assert!(new.iter().all(|inserted| matches!(inserted, Inserted::New(_))));
        let until = self.clock.now() + TimeDelta::seconds(60);
        let claimed = testkit::claim(store, &self.lead, self.servant, &kind(), 2, until).await.unwrap();
        let keys: Vec<AttemptKey> = claimed.iter().map(|job| job.key).collect();
        let chain = format!("no row for '{word}' <{mail}>\nit was {{\"name\": \"{word}\"}}");
        let fate = Fate::Fail(Failure { class: ErrorClass::Permanent, chain, until: None });
        assert_eq!(store.settle(&[FailedAttempt { key: keys[0], fate }]).await.unwrap().len(), 1);
        let log = format!(
            "2030-01-02T03:04:05.678901Z WARN sync::pass: no row for '{word}'\n2030-01-02T03:04:05.678902Z INFO \
             sync::pass: read them who={word} Lovelace\n{word} to={mail}"
        );
        store.keep_logs(&[(keys[0].id, 1, &log)]).await.unwrap();
        let saved = store.save_checkpoint(keys[1], &json!({"after": word, "to": mail})).await.unwrap();
        assert_eq!(saved, store::Outcome::Applied);
        let progress = json!({"done": 3, "total": 9, "message": format!("read '{word}' {mail}")});
        store.save_progress(&[(keys[1], progress)]).await.unwrap();
        let waiting = store.insert_jobs(&[job()]).await.unwrap();
        let [Inserted::New(waiting)] = waiting[..] else { panic!("{waiting:?}") };
        let mut tx = store.begin().await.unwrap();
        let (summary, evidence) = (format!("'{word}' is odd"), json!({"example": mail, "name": word}));
        let seen = Sighting {
            connection,
            object: "Contact",
            kind: AnomalyKind::FieldLost,
            subject: "Phone",
            severity: Severity::Critical,
            summary: &summary,
            evidence: &evidence,
        };
        store.note_anomaly(&mut tx, &seen).await.unwrap();
        let (record_id, reason, body) = (Some(word.to_owned()), mail.clone(), word.into());
        let record = Quarantined { record_id, reason, body, ..Quarantined::default() };
        let origin = PageOrigin { account, connection, read_at: store.now() };
        store.quarantine_records(&mut tx, origin, "Contact", &[record]).await.unwrap();
        tx.commit().await.unwrap();
        store.flag_stream(connection, "Contact", &format!("'{word}' is damaged")).await.unwrap();
        let budget = VendorBudget { used: 7, maximum: 100, reported_at: self.clock.now(), resets_at: None };
        store.report_usage(&[UsageReport { connection, budget }]).await.unwrap();
        let reason = format!("revoked by {mail}");
        assert!(
            store
                .change_connection(&testkit::granted_to::<action::ParkConnection>(&mail, &reason), connection)
                .await
                .unwrap()
        );
        store.fold_counters(&self.lead, 10_000).await.unwrap();
        store.fold_errors(&self.lead, 10_000).await.unwrap();
        let filter = AnomalyFilter { account: Some(account), ..AnomalyFilter::default() };
        let anomaly = store.list_anomalies(&filter, 1).await.unwrap()[0].id;
        let filter = QuarantineFilter { account: Some(account), ..QuarantineFilter::default() };
        let record = store.search_quarantine(&filter, 1).await.unwrap()[0].id;
        let (failed, running) = (keys[0].id, keys[1].id);
        Side { account, connection, failed, running, waiting, group, schedule, anomaly, record }
    }

    /// The routes with all that is around them, for one who is known already.
    pub(super) fn routes(&self, principal: Principal) -> Router {
        crate::router_for(self.app.clone(), 10_000, principal)
    }

    /// Begins a look as support does.
    pub(super) async fn look(&self, routes: &Router, account: AccountId) -> AssumeReply {
        let body = json!({"account_id": account.0, "reason": "their sync is late", "ticket": "T-1"});
        let answer = send(routes, Method::POST, "/api/v1/assumptions", None, Some(body)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
        serde_json::from_str(&answer.text).unwrap()
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

/// One request as a browser sends it; `token` is a look's.
pub(super) async fn send(
    routes: &Router,
    method: Method,
    path: &str,
    token: Option<&str>,
    body: Option<Value>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path).header("sec-fetch-site", "same-origin");
    if !path.starts_with("/api/") {
        request = request.header(header::ACCEPT, "text/html");
    }
    if let Some(token) = token {
        request = request.header(header::COOKIE, format!("other=1; __Host-servant-assumed={token}"));
    }
    let body = match body {
        Some(body) => {
            request = request.header(header::CONTENT_TYPE, "application/json");
            Body::from(body.to_string())
        }
        None => Body::empty(),
    };
    let answer = routes.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    let bytes = to_bytes(answer.into_body(), 10_000_000).await.unwrap();
    Answer { status, headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
}

pub(super) async fn get(routes: &Router, path: &str, token: Option<&str>) -> Answer {
    send(routes, Method::GET, path, token, None).await
}

fn kind() -> Kind {
    Kind::new(KIND).unwrap()
}

/// An application at a vendor that only counts who calls it.
async fn connect(files: &tempfile::TempDir, clock: &ManualClock, calls: Arc<AtomicUsize>) -> Connect {
    let vendor = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let login_url = format!("http://{}", vendor.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((called, _)) = vendor.accept().await {
            calls.fetch_add(1, Ordering::SeqCst);
            drop(called);
        }
    });
    let secrets_file = files.path().join("secrets.toml");
    std::fs::write(&secrets_file, "[salesforce]\nclient_secret = \"fake-secret\"\n").unwrap();
    let keys_file = files.path().join("keys");
    let vault = Vault::new(vault::Config { keys_file, ..Default::default() }, Clock::Manual(clock.clone()));
    vault.generate_master().unwrap();
    let config = ConnectConfig {
        public_url: "http://manager.example".to_owned(),
        secrets_file,
        salesforce: SalesforceConfig { client_id: "fake".to_owned(), login_url, secret_ref: "salesforce".to_owned() },
    };
    let hosts = Hosts::Development { root_certificate_pem: None };
    Connect::new(&config, "http://manager.example", hosts, vault).unwrap().unwrap()
}

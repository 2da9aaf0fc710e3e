//! Connecting Salesforce through a browser, against the simulated one: the whole way, and everybody who cuts in on it.

use daemon::{Health, Stopper};
use domain::{AccountId, Clock, ConnectionId, ManualClock};
use fakes::salesforce::FakeSalesforce;
use manager::{Connect, ConnectConfig, SalesforceConfig};
use manager_api::{AuthoriseRequest, ClientError, CreateConnection, ManagerClient};
use reqwest::{StatusCode, Url, header, redirect};
use salesforce::Hosts;
use std::sync::Arc;
use store::{ConnectionAct, Store, credential_place};
use testkit::TestDatabase;
use vault::{ExposeSecret as _, Vault};

struct World {
    _database: TestDatabase,
    clock: ManualClock,
    store: Store,
    fake: FakeSalesforce,
    account: AccountId,
    client: ManagerClient,
    vault: Vault,
    files: tempfile::TempDir,
}

/// One browser's step: where it was sent, and with which cookie.
struct Begun {
    consent: Url,
    cookie: String,
}

fn browser() -> reqwest::Client {
    reqwest::Client::builder().redirect(redirect::Policy::none()).build().unwrap()
}

impl World {
    async fn new() -> Self {
        let database = testkit::database().await;
        let clock = ManualClock::at(chrono::Utc::now());
        let store = database.store_with(Clock::Manual(clock.clone())).await;
        let options = fakes::salesforce::Options { approve_at_once: true, require_pkce: true, ..Default::default() };
        let fake = FakeSalesforce::start(options).await.unwrap();
        let files = tempfile::tempdir().unwrap();
        let secrets_file = files.path().join("secrets.toml");
        std::fs::write(&secrets_file, "[salesforce]\nclient_secret = \"fake-secret\"\n").unwrap();
        let vault = || {
            Vault::new(
                vault::Config { keys_file: files.path().join("keys"), ..Default::default() },
                Clock::Manual(clock.clone()),
            )
        };
        let config = ConnectConfig {
            public_url: String::new(),
            secrets_file,
            salesforce: SalesforceConfig {
                client_id: "fake-client".to_owned(),
                login_url: fake.url(),
                secret_ref: "salesforce".to_owned(),
            },
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let hosts = Hosts::Development { root_certificate_pem: None };
        let connect = Connect::new(&config, &url, hosts, vault()).unwrap().map(Arc::new);
        let app = manager::App {
            store: store.clone(),
            health: Health::new(Stopper::new()),
            connect,
            access: manager::Access::open(),
        };
        tokio::spawn(async move { axum::serve(listener, manager::router(app, 10_000)).await });
        let account = store.create_account("Acme").await.unwrap();
        let client = ManagerClient::new(&url).unwrap();
        Self { _database: database, clock: clock.clone(), store, fake, account, client, vault: vault(), files }
    }

    async fn start_url(&self, connection: Option<i64>) -> Result<String, ClientError> {
        let request =
            AuthoriseRequest { account_id: self.account.0, vendor: "salesforce".to_owned(), connection_id: connection };
        Ok(self.client.authorise_connection(&request).await?.url)
    }

    async fn begin(&self, connection: Option<i64>) -> Begun {
        let answer = browser().get(self.start_url(connection).await.unwrap()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{}", answer.text().await.unwrap());
        let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        for part in ["__Host-servant-connect-", "Path=/;", "Max-Age=600", "Secure", "HttpOnly", "SameSite=Lax"] {
            assert!(cookie.contains(part), "{cookie} lacks {part}");
        }
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let consent = answer.headers()[header::LOCATION].to_str().unwrap().parse().unwrap();
        Begun { consent, cookie }
    }

    /// The vendor's answer: where it sends the browser back to.
    async fn consent(&self, begun: &Begun) -> Url {
        let answer = browser().get(begun.consent.clone()).send().await.unwrap();
        assert!(answer.status().is_redirection(), "{}: {}", answer.status(), answer.text().await.unwrap());
        answer.headers()[header::LOCATION].to_str().unwrap().parse().unwrap()
    }

    async fn come_back(&self, url: Url, cookie: Option<&str>) -> (StatusCode, String) {
        let mut request = browser().get(url).header(header::ACCEPT, "text/html");
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, format!("other=1; {cookie}"));
        }
        let answer = request.send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    async fn authorise(&self, connection: Option<i64>) -> (StatusCode, String) {
        let begun = self.begin(connection).await;
        let back = self.consent(&begun).await;
        self.come_back(back, Some(&begun.cookie)).await
    }

    async fn connections(&self) -> Vec<store::ConnectionRow> {
        self.store.list_connections(None, None, 10).await.unwrap()
    }

    async fn kept(&self, connection: ConnectionId) -> String {
        let row = self.store.find_secrets(connection).await.unwrap().unwrap();
        let place = credential_place(connection);
        self.vault.open(&row.key, &place, &row.credential.unwrap()).await.unwrap().expose_secret().to_owned()
    }
}

#[tokio::test]
async fn a_customer_consents_and_consents_again() {
    let world = World::new().await;
    world.vault.generate_master().unwrap();
    let (status, page) = world.authorise(None).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    assert!(page.contains("Salesforce is connected"), "{page}");
    let rows = world.connections().await;
    let row = &rows[0];
    assert_eq!((rows.len(), row.account_id, row.state.as_str()), (1, world.account.0, "active"));
    assert_eq!(row.secret_ref.as_deref(), Some("salesforce"));
    assert_eq!(row.settings["login_url"], world.fake.url());
    let host = world.fake.url().split_once("//").unwrap().1.to_owned();
    assert_eq!(row.settings["instance_host"], host);
    assert_eq!(row.settings["organisation"].as_str().unwrap().len(), 18);
    let id = ConnectionId(row.id);
    let first = world.kept(id).await;
    assert!(!first.is_empty());

    // The grant is gone, a servant finds out, and the customer consents again: the same connection, in use again.
    let act = |act| testkit::change_connection(&world.store, id, act);
    assert!(act(ConnectionAct::Park).await.unwrap());
    assert_eq!(world.authorise(Some(row.id)).await.0, StatusCode::OK);
    let rows = world.connections().await;
    assert_eq!((rows.len(), rows[0].state.as_str()), (1, "active"));
    let second = world.kept(id).await;
    assert_ne!(first, second);
    // Also when nobody says which connection: it is the same organisation. One that is out of use stays so.
    assert!(act(ConnectionAct::Disable).await.unwrap());
    assert_eq!(world.authorise(None).await.0, StatusCode::OK);
    let rows = world.connections().await;
    assert_eq!((rows.len(), rows[0].state.as_str()), (1, "disabled"));
    let whats: Vec<String> =
        world.store.connection_events(id, 10).await.unwrap().into_iter().map(|event| event.what).collect();
    assert_eq!(whats, ["authorised", "disabled", "authorised", "parked", "authorised"]);
}

#[tokio::test]
async fn an_address_alone_is_worth_nothing_and_nothing_is_good_twice() {
    let world = World::new().await;
    world.vault.generate_master().unwrap();
    let begun = world.begin(None).await;
    let back = world.consent(&begun).await;
    // Another browser, with no cookie or its own; and then it is used up for the right one too.
    let other = world.begin(None).await;
    let (status, _) = world.come_back(back.clone(), None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(world.come_back(back, Some(&begun.cookie)).await.0, StatusCode::BAD_REQUEST);
    let back = world.consent(&other).await;
    let theirs = format!("{}={}", other.cookie.split_once('=').unwrap().0, begun.cookie.split_once('=').unwrap().1);
    assert_eq!(world.come_back(back, Some(&theirs)).await.0, StatusCode::FORBIDDEN);

    let begun = world.begin(None).await;
    let back = world.consent(&begun).await;
    assert_eq!(world.come_back(back.clone(), Some(&begun.cookie)).await.0, StatusCode::OK);
    assert_eq!(world.come_back(back, Some(&begun.cookie)).await.0, StatusCode::BAD_REQUEST);

    let begun = world.begin(None).await;
    let back = world.consent(&begun).await;
    world.clock.advance(chrono::TimeDelta::seconds(601));
    assert_eq!(world.come_back(back, Some(&begun.cookie)).await.0, StatusCode::BAD_REQUEST);

    // A state that nobody made, none at all, and a customer who says no.
    let begun = world.begin(None).await;
    let mut back = world.consent(&begun).await;
    let state = back.query_pairs().find(|(key, _)| key == "state").unwrap().1.into_owned();
    back.set_query(Some("code=x&state=planted"));
    assert_eq!(world.come_back(back.clone(), Some(&begun.cookie)).await.0, StatusCode::BAD_REQUEST);
    back.set_query(Some("code=x"));
    assert_eq!(world.come_back(back.clone(), Some(&begun.cookie)).await.0, StatusCode::BAD_REQUEST);
    back.set_query(Some(&format!("error=access_denied&error_description=%3Cscript%3E&state={state}")));
    let (status, page) = world.come_back(back, Some(&begun.cookie)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(page.contains("access_denied") && !page.contains("<script>"), "{page}");
    assert_eq!(world.connections().await.len(), 1, "the one that was right");
}

#[tokio::test]
async fn another_organisation_does_not_take_a_connections_place() {
    let world = World::new().await;
    world.vault.generate_master().unwrap();
    let settings = serde_json::json!({ "login_url": world.fake.url(), "organisation": "00DOTHER0000000EAA" });
    let id = world.store.create_connection(world.account, "salesforce", &settings, None).await.unwrap();
    let (status, page) = world.authorise(Some(id.0)).await;
    assert_eq!(status, StatusCode::CONFLICT, "{page}");
    assert_eq!(world.store.find_secrets(id).await.unwrap(), None);
    assert_eq!(world.authorise(None).await.0, StatusCode::OK);
    assert_eq!(world.connections().await.len(), 2, "it has one of its own");
}

#[tokio::test]
async fn what_cannot_be_begun_says_why() {
    let world = World::new().await;
    let refused = |result: Result<String, ClientError>| match result.unwrap_err() {
        ClientError::Refused { status, .. } => status,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(world.start_url(Some(999)).await), 404);
    let foreign = world.store.create_connection(AccountId::SYSTEM, "salesforce", &serde_json::json!({}), None).await;
    assert_eq!(refused(world.start_url(Some(foreign.unwrap().0)).await), 404, "another account's");
    // Without a master key nobody is sent to consent in vain.
    let url = world.start_url(None).await.unwrap();
    let answer = browser().get(&url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().await.unwrap().contains("servantctl keys generate"));
    for (from, to) in [("account=1", "account=0"), ("account=1", "account=77"), ("account=1", "account=x")] {
        let url = url.replace(from, to);
        let status = browser().get(&url).send().await.unwrap().status();
        assert!(status.is_client_error(), "{url}: {status}");
    }
    // Without the application's secret the code stays unused.
    world.vault.generate_master().unwrap();
    std::fs::write(world.files.path().join("secrets.toml"), "").unwrap();
    assert_eq!(world.authorise(None).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(world.connections().await.len(), 1);
}

#[tokio::test]
async fn one_that_signs_on_in_a_users_name_is_entered_without_a_browser() {
    let world = World::new().await;
    let create = async |account_id: i64, username: &str, objects: &[&str]| {
        let request = CreateConnection {
            account_id,
            vendor: "salesforce".to_owned(),
            username: username.to_owned(),
            objects: objects.iter().map(|name| (*name).to_owned()).collect(),
            by: Some("ada".to_owned()),
            reason: Some("their administrator admitted us".to_owned()),
        };
        world.client.create_connection(&request).await
    };
    let status = |result: Result<_, ClientError>| match result {
        Err(ClientError::Refused { status, .. }) => status,
        other => panic!("{other:?}"),
    };
    for (account, username, objects, expected) in [
        (999, "sync@acme.example", &[][..], 404),
        (0, "sync@acme.example", &[], 404),
        (world.account.0, " ", &[], 400),
        (world.account.0, "sync@acme.example", &["no name"], 400),
    ] {
        assert_eq!(status(create(account, username, objects).await), expected, "{account} {username}");
    }
    assert_eq!(world.connections().await, []);
    let made = create(world.account.0, " sync@acme.example ", &["Account"]).await.unwrap();
    assert_eq!((made.connection.state.as_str(), made.connection.account_id), ("active", world.account.0));
    let row = world.connections().await.remove(0);
    let settings = serde_json::json!({
        "login_url": world.fake.url(), "client_id": "fake-client", "username": "sync@acme.example", "objects": ["Account"],
    });
    assert_eq!((row.id, row.settings, row.secret_ref.as_deref()), (made.connection.id, settings, Some("salesforce")));
    assert_eq!(status(create(world.account.0, "sync@acme.example", &[]).await), 409, "once");
    let noted = world.store.list_audit(&store::AuditFilter::default(), 10).await.unwrap();
    let done = noted.iter().find(|row| row.outcome == "done" && row.action == "create_connection").unwrap();
    assert_eq!((done.actor.as_str(), done.reason.as_str()), ("ada", "their administrator admitted us"));
}

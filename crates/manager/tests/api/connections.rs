//! Connections and circuit breakers over a real socket on a real database: pages, overrides, refusals.

use crate::common;
use domain::AccountId;
use manager_api::{BreakerQuery, ClientError, ConnectionQuery, ManagerClient, ObjectsRequest, OverrideRequest};
use store::Store;

async fn manager(store: &Store) -> ManagerClient {
    ManagerClient::new(&common::serve(store, |app| manager::router(app, 10_000)).await).unwrap()
}

fn request(reason: &str) -> OverrideRequest {
    OverrideRequest { reason: reason.to_owned(), by: Some("ada".to_owned()) }
}

fn status<T: std::fmt::Debug>(result: Result<T, ClientError>) -> u16 {
    match result.unwrap_err() {
        ClientError::Refused { status, .. } => status,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn connections_are_paged_and_each_override_is_checked_and_kept() {
    let database = testkit::database().await;
    let store = database.store().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(store.create_connection(AccountId::SYSTEM, "acme", &serde_json::json!({}), None).await.unwrap().0);
    }
    let client = manager(&store).await;
    let page = async |state: Option<&str>, before| {
        let query = ConnectionQuery { state: state.map(str::to_owned), before, limit: Some(2) };
        let page = client.connections(&query).await.unwrap();
        (page.connections.iter().map(|row| row.id).collect::<Vec<_>>(), page.next_before)
    };
    assert_eq!(page(None, None).await, (vec![ids[2], ids[1]], Some(ids[1])));
    assert_eq!(page(None, Some(ids[1])).await, (vec![ids[0]], None));
    let parked = client.change_connection(ids[1], "park", &request(" a test ")).await.unwrap();
    assert_eq!(
        (parked.connection.state.as_str(), parked.connection.state_reason.as_deref()),
        ("parked", Some("a test"))
    );
    assert_eq!((parked.events[0].what.as_str(), parked.events[0].by.as_str()), ("parked", "ada"));
    assert_eq!(page(Some("parked"), None).await, (vec![ids[1]], None));
    assert_eq!(page(Some("active"), None).await, (vec![ids[2], ids[0]], Some(ids[0])));

    assert_eq!(status(client.change_connection(ids[1], "park", &request("again")).await), 409);
    assert_eq!(status(client.change_connection(ids[1], "enable", &request("no")).await), 409);
    assert_eq!(status(client.change_connection(999, "park", &request("no")).await), 404);
    assert_eq!(status(client.change_connection(ids[1], "reauthorised", &request(" ")).await), 400);
    assert_eq!(status(client.change_connection(ids[1], "explode", &request("no")).await), 404);
    assert_eq!(status(client.connection(999).await), 404);
    let back = client.change_connection(ids[1], "reauthorised", &request("done")).await.unwrap();
    assert_eq!((back.connection.state.as_str(), back.connection.state_reason), ("active", None));
}

#[tokio::test]
async fn breakers_are_paged_and_held_and_let_go() {
    let database = testkit::database().await;
    let store = database.store().await;
    let services = ["a.example.com", "b/odd name", "c.example.com:443"];
    for service in services {
        let id = store.create_connection(AccountId::SYSTEM, "acme", &serde_json::json!({}), None).await.unwrap();
        store.note_service(id, service).await.unwrap();
    }
    let client = manager(&store).await;
    for service in services {
        let detail = client.force_breaker(service, "open", &request("they asked us to")).await.unwrap();
        let breaker = detail.breaker;
        assert_eq!((breaker.service.as_str(), breaker.forced.as_deref()), (service, Some("open")));
        assert_eq!(
            (breaker.forced_by.as_deref(), breaker.forced_reason.as_deref()),
            (Some("ada"), Some("they asked us to"))
        );
        assert_eq!(client.breaker(service).await.unwrap().events[0].what, "forced_open");
    }
    let page = async |after: Option<&str>| {
        let query = BreakerQuery { after: after.map(str::to_owned), limit: Some(2), ..BreakerQuery::default() };
        let page = client.breakers(&query).await.unwrap();
        (page.breakers.into_iter().map(|row| row.service).collect::<Vec<_>>(), page.next_after)
    };
    assert_eq!(page(None).await, (vec![services[0].to_owned(), services[1].to_owned()], Some(services[1].to_owned())));
    assert_eq!(page(Some(services[1])).await, (vec![services[2].to_owned()], None));

    let sql = sqlx::PgPool::connect(database.url()).await.unwrap();
    let closed =
        "INSERT INTO breakers (service, state, since, reason, openings, counts_from, window_since, newer_succeeded,
            newer_failed, older_succeeded, older_failed)
        VALUES ('a.well', 'closed', now(), '', 0, now(), now(), 9, 0, 9, 0)";
    sqlx::query(closed).execute(&sql).await.unwrap();
    let found = async |troubled, after: Option<&str>| {
        let query = BreakerQuery { troubled, after: after.map(str::to_owned), limit: None };
        client.breakers(&query).await.unwrap().breakers.into_iter().map(|row| row.service).collect::<Vec<_>>()
    };
    assert_eq!(found(None, None).await, ["a.example.com", "a.well", "b/odd name", "c.example.com:443"]);
    assert_eq!(found(Some(true), None).await, services);
    assert_eq!(found(Some(true), Some(services[0])).await, services[1..]);

    let cleared = client.force_breaker(services[0], "clear", &request("over")).await.unwrap().breaker;
    assert_eq!((cleared.state.as_str(), cleared.room, cleared.forced), ("recovering", Some(1), None));
    assert_eq!(status(client.force_breaker(services[0], "clear", &request("again")).await), 404);
    assert_eq!(status(client.force_breaker("nobody", "open", &request("no")).await), 404);
    assert_eq!(status(client.force_breaker(services[0], "close", &request("")).await), 400);
    assert_eq!(status(client.breaker("nobody").await), 404);
}

#[tokio::test]
async fn the_objects_of_a_connection_are_chosen_and_the_choice_is_kept() {
    let database = testkit::database().await;
    let store = database.store().await;
    let account = store.create_account("Acme").await.unwrap();
    let settings = serde_json::json!({"login_url": "https://login.example"});
    let id = store.create_connection(account, "salesforce", &settings, None).await.unwrap();
    let url = common::serve(&store, |app| manager::router(app, 10_000)).await;
    let client = ManagerClient::new(&url).unwrap();
    let choose = async |objects: &[&str], reason: &str| {
        let objects = objects.iter().map(|name| (*name).to_owned()).collect();
        let request = ObjectsRequest { objects, reason: reason.to_owned(), by: Some("ada".to_owned()) };
        client.choose_objects(id.0, &request).await
    };
    assert_eq!(client.connection(id.0).await.unwrap().connection.objects, Vec::<String>::new(), "the usual ones");
    for wrong in ["", "Account; DROP", "1Lead", "Größe__c"] {
        assert_eq!(status(choose(&["Account", wrong], "a test").await), 400, "{wrong}");
    }
    assert_eq!(status(choose(&["Account"], " ").await), 400, "why?");
    let detail = choose(&["Account", "Invoice__c", "Account"], "what they bought").await.unwrap();
    assert_eq!(detail.connection.objects, ["Account", "Invoice__c"], "each once");
    let row = store.find_connection(id).await.unwrap().unwrap();
    let kept = serde_json::json!({"login_url": "https://login.example", "objects": ["Account", "Invoice__c"]});
    assert_eq!(row.settings, kept, "nothing else changes");
    let noted = store.list_audit(&store::AuditFilter::default(), 1).await.unwrap().remove(0);
    assert_eq!(
        (noted.action.as_str(), noted.key, noted.reason.as_str()),
        ("choose_objects", id.to_string(), "what they bought")
    );
    assert_eq!(noted.after, Some(serde_json::json!({"objects": ["Account", "Invoice__c"]})));

    let http = reqwest::Client::new();
    let page = format!("{url}/accounts/{account}");
    let text = http.get(&page).header("accept", "text/html").send().await.unwrap().text().await.unwrap();
    assert!(text.contains("Follows Account, Invoice__c"), "{text}");
    let form = [("objects", " Lead,\nTask "), ("reason", "others"), ("by", "ada")];
    let answer = http.post(format!("{url}/connections/{id}/objects")).form(&form).send().await.unwrap();
    assert_eq!(answer.status(), 200, "it leads back to the account");
    assert_eq!(client.connection(id.0).await.unwrap().connection.objects, ["Lead", "Task"]);
    let usual = choose(&[], "as all").await.unwrap();
    assert_eq!((usual.connection.objects, usual.settings), (Vec::new(), settings));
    let nobodys = ObjectsRequest { objects: Vec::new(), reason: "a test".to_owned(), by: None };
    assert_eq!(status(client.choose_objects(999, &nobodys).await), 404);
}

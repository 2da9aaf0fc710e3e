//! A customer with a simulated organisation, and a client that is signed on to it. Owns how it is made, not what is read.

use domain::{AccountId, Clock, ConnectionId};
use fakes::salesforce::{FakeSalesforce, Options as FakeOptions};
use salesforce::{Client, Credentials, Hosts, Options, SecretString};
use serde_json::json;
use store::Store;
use testkit::TestDatabase;

pub(crate) const VENDOR: &str = "salesforce";

pub(crate) struct Customer {
    pub(crate) database: TestDatabase,
    pub(crate) store: Store,
    pub(crate) fake: FakeSalesforce,
    pub(crate) client: Client,
    pub(crate) account: AccountId,
    pub(crate) connection: ConnectionId,
}

impl Customer {
    /// Nothing of the organisation is read yet. The client tries again within milliseconds.
    pub(crate) async fn of(options: FakeOptions) -> Self {
        let database = testkit::database().await;
        let store = database.store_of_one(Clock::system()).await;
        let fake = FakeSalesforce::start(options).await.unwrap();
        let credentials = Credentials {
            login_url: fake.url(),
            client_id: "fake-client".to_owned(),
            client_secret: SecretString::from("fake-secret"),
            refresh_token: SecretString::from("fake-refresh"),
        };
        let options = Options {
            retry_base_ms: 1,
            retry_max_ms: 5,
            retries_max: 3,
            hosts: Hosts::Development { root_certificate_pem: None },
            ..Options::default()
        };
        let client = Client::connect(credentials, options).await.unwrap();
        let account = store.create_account("a customer").await.unwrap();
        let connection = store.create_connection(account, VENDOR, &json!({}), None).await.unwrap();
        Self { database, store, fake, client, account, connection }
    }
}

//! No token goes to a host that is not Salesforce's, and none is even asked.

use salesforce::{Client, ConnectedApp, OAuth, Options, SalesforceError, SecretString};
use tokio::net::TcpListener;

use crate::server::{Server, client, given, name, options, reply};

/// Addresses that an `instance_url` or a login url may not be. `HERE` becomes a port on which a listener waits.
const HOSTILE: [&str; 70] = [
    "",
    " ",
    "/",
    "//",
    "https:",
    "https://",
    "https:///x",
    "salesforce.com",
    "acme.my.salesforce.com",
    "//acme.my.salesforce.com",
    "http://acme.my.salesforce.com",
    "ftp://acme.my.salesforce.com",
    "file:///etc/passwd",
    "file://acme.my.salesforce.com/etc/passwd",
    "gopher://acme.my.salesforce.com",
    "javascript:alert(1)//acme.my.salesforce.com",
    "data:text/html,acme.my.salesforce.com",
    "https://salesforce.com",
    "https://.salesforce.com",
    "https://a..salesforce.com",
    "https://acme.my.salesforce.com.",
    "https://acme.my.salesforce.com:80",
    "https://acme.my.salesforce.com:8443",
    "https://acme.my.salesforce.com:0",
    "https://acme.my.salesforce.com:99999",
    "https://user@acme.my.salesforce.com",
    "https://user:password@acme.my.salesforce.com",
    "https://:password@acme.my.salesforce.com",
    "https://@acme.my.salesforce.com",
    "https://acme.my.salesforce.com@evil.example",
    "https://acme.my.salesforce.com:x@evil.example",
    "https://acme.my.salesforce.com%40evil.example",
    "https://acme.my.salesforce.com%2eevil.example",
    "https://acme.my.salesforce.com\\.evil.example",
    "https://acme.my.salesforce.com\\@evil.example",
    "https:\\\\acme.my.salesforce.com",
    "https://acme.my.salesforce.com\n.evil.example",
    "https://acme.my.salesforce.com\t",
    "https://acme.my.salesforce.com\0",
    "https://acme.my.salesforce.com ",
    "\u{a0}https://acme.my.salesforce.com",
    "https://salesforce.com.evil.example",
    "https://acme.my.salesforce.com.evil.example",
    "https://evilsalesforce.com",
    "https://evil-salesforce.com",
    "https://evil.example/acme.my.salesforce.com",
    "https://evil.example?.salesforce.com",
    "https://evil.example#.salesforce.com",
    "https://evil.example/.salesforce.com",
    "https://acme.force.com",
    "https://acme.my.site.com",
    "https://na1.cloudforce.com",
    "https://ѕalesforce.com",
    "https://acme.my.ѕalesforce.com",
    "https://acme.my.salesforce。com.evil.example",
    "https://127.0.0.1",
    "https://127.0.0.1:HERE",
    "http://127.0.0.1:HERE",
    "http://localhost:HERE",
    "https://localhost:HERE",
    "https://2130706433",
    "https://0x7f000001",
    "https://0177.0.0.1",
    "https://127.1:HERE",
    "https://[::1]:HERE",
    "https://[::ffff:127.0.0.1]:HERE",
    "https://0.0.0.0:HERE",
    "https://169.254.169.254/latest/meta-data/",
    "https://[fd00:ec2::254]/latest/meta-data/",
    "http://metadata.google.internal/computeMetadata/v1/",
];

#[tokio::test]
async fn hostile_hosts_are_refused_before_a_socket_opens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    for template in HOSTILE {
        let hostile = template.replace("HERE", &port);
        let error = Client::open(given(&hostile), Options::default()).await.err();
        assert!(
            matches!(&error, Some(SalesforceError::Rejected { code, .. }) if code == "INSTANCE_URL"),
            "{hostile:?}: {error:?}"
        );
        let app = ConnectedApp { login_url: hostile.clone(), client_id: "id".to_owned(), client_secret: None };
        let error = OAuth::new(app, &Options::default()).err();
        assert!(
            matches!(&error, Some(SalesforceError::Rejected { code, .. }) if code == "LOGIN_URL"),
            "{hostile:?}: {error:?}"
        );
    }
    // Whoever had connected would be waiting by now: connecting to a listener on this machine needs no accept.
    let accepted = tokio::time::timeout(std::time::Duration::ZERO, listener.accept()).await;
    assert!(accepted.is_err(), "somebody connected");
}

#[tokio::test]
async fn salesforces_own_are_taken() {
    for good in [
        "https://acme.my.salesforce.com",
        "https://acme--dev.sandbox.my.salesforce.com/x",
        "https://a.my.salesforce.mil",
    ] {
        let client = Client::open(given(good), Options::default()).await.unwrap();
        assert!(good.contains(&client.host().await.unwrap()), "{good}");
    }
}

#[tokio::test]
async fn a_redirect_leads_nowhere() {
    let elsewhere = Server::start(|_| reply(200, "application/json", "{}")).await;
    let target = elsewhere.url.clone();
    let server = Server::start(move |seen| {
        let mut answer = reply(302, "text/html", "moved");
        answer.headers_mut().insert("location", format!("{target}{}", seen.path).parse().unwrap());
        answer
    })
    .await;
    let error = server.client().await.query("SELECT Id FROM Account").await.unwrap_err();
    assert_eq!(name(&error), "Unavailable");
    let app = ConnectedApp { login_url: server.url.clone(), client_id: "id".to_owned(), client_secret: None };
    let oauth = OAuth::new(app, &options()).unwrap();
    let error = oauth.refresh(&SecretString::from("refresh")).await.unwrap_err();
    assert_eq!(name(&error), "Unavailable");
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn only_the_registered_instance_is_asked() {
    let server = Server::start(|_| reply(200, "application/json", r#"{"totalSize":0,"done":true,"records":[]}"#)).await;
    let host = server.url.strip_prefix("http://").unwrap().to_owned();
    let registered = client(&server.url, Options { instance_host: Some(host), ..options() }).await;
    assert!(registered.query("SELECT Id FROM Account").await.is_ok());
    let other = Options { instance_host: Some("acme.my.salesforce.com".to_owned()), ..options() };
    let error = Client::open(given(&server.url), other).await.err().unwrap();
    assert_eq!(name(&error), "AuthBroken");
    assert_eq!(server.seen().len(), 1);
}

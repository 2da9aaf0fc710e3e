//! Each flow to a token, as the server sees it, and sessions that the caller gives.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use domain::{Clock, ManualClock};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use salesforce::{
    Client, ConnectedApp, GiveSession, JwtUser, OAuth, SalesforceError, SecretString, Session, SessionSource,
    new_secret,
};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::server::{Reply, Seen, Server, json, name, options, refusal};

const CALLBACK: &str = "https://servant.example/connect/salesforce/callback";

fn app(login_url: &str, secret: Option<&str>) -> ConnectedApp {
    let client_secret = secret.map(SecretString::from);
    ConnectedApp { login_url: login_url.to_owned(), client_id: "app".to_owned(), client_secret }
}

fn oauth(server: &Server) -> OAuth {
    OAuth::new(app(&server.url, Some("secret")), &options()).unwrap()
}

fn token(seen: &Seen) -> Value {
    json!({
        "access_token": "access",
        "instance_url": format!("http://{}/some/path", seen.header("host").unwrap()),
        "id": "https://login.salesforce.com/id/00D000000000001EAA/005000000000001AAA",
        "token_type": "Bearer",
        "issued_at": "1700000000000",
        "signature": "x",
        "scope": "refresh_token api",
    })
}

fn empty_page() -> Reply {
    json(200, &json!({"totalSize": 0, "done": true, "records": []}))
}

#[tokio::test]
async fn a_code_is_exchanged_with_its_verifier() {
    let challenge = Arc::new(Mutex::new(String::new()));
    let expected = challenge.clone();
    let server = Server::start(move |seen| {
        let value = |name| seen.value(name).unwrap();
        assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/services/oauth2/token"));
        assert_eq!(seen.header("content-type"), Some("application/x-www-form-urlencoded"));
        assert_eq!((value("grant_type").as_str(), value("redirect_uri").as_str()), ("authorization_code", CALLBACK));
        assert_eq!((value("client_id").as_str(), value("client_secret").as_str()), ("app", "secret"));
        assert_eq!(
            URL_SAFE_NO_PAD.encode(digest(&SHA256, value("code_verifier").as_bytes())),
            *expected.lock().unwrap()
        );
        if value("code") != "a code/+=" {
            return json(400, &json!({"error": "invalid_grant", "error_description": "expired authorization code"}));
        }
        let mut token = token(seen);
        token["refresh_token"] = "first".into();
        json(200, &token)
    })
    .await;
    let (oauth, verifier) = (oauth(&server), new_secret());
    let url = reqwest::Url::parse(&oauth.authorize_url(CALLBACK, "state", &verifier)).unwrap();
    let found = url.query_pairs().find(|(name, _)| name == "code_challenge").unwrap().1.into_owned();
    *challenge.lock().unwrap() = found;
    let grant = oauth.exchange_code("a code/+=", CALLBACK, &verifier).await.unwrap();
    assert_eq!(grant.refresh_token.as_ref().unwrap().expose_secret(), "first");
    assert_eq!(grant.instance_url().unwrap(), server.url, "an origin and no more");
    assert_eq!(format!("http://{}", grant.instance_host().unwrap()), server.url);
    assert_eq!(grant.organisation.as_deref(), Some("00D000000000001EAA"));
    assert_eq!(grant.user.as_deref(), Some("005000000000001AAA"));
    assert_eq!(grant.scope.as_deref(), Some("refresh_token api"));
    let shown = format!("{grant:?} {oauth:?}");
    assert!(!shown.contains("first") && !shown.contains("\"access\"") && !shown.contains("secret\""), "{shown}");
    let error = oauth.exchange_code("used", CALLBACK, &verifier).await.unwrap_err();
    assert!(error.to_string().contains("expired authorization code"), "{error}");
    assert_eq!(name(&error), "AuthBroken");
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_a_damaged_reply_shows_nothing() {
    let server = Server::start(|seen| match seen.value("refresh_token").as_deref() {
        Some("good") => json(200, &token(seen)),
        Some("html") => crate::server::reply(200, "text/html", "<html>back soon</html>"),
        Some("half") => crate::server::reply(200, "application/json", r#""TOPSECRET""#),
        _ => crate::server::reply(503, "text/html", ""),
    })
    .await;
    let oauth = oauth(&server);
    let refresh = async |token: &str| oauth.refresh(&SecretString::from(token)).await;
    assert!(refresh("good").await.unwrap().refresh_token.is_none());
    for broken in ["html", "half", "down"] {
        let error = refresh(broken).await.unwrap_err();
        assert_eq!(name(&error), "Unavailable", "{broken}");
        assert!(!format!("{error:?}").contains("TOPSECRET"), "{error:?}");
    }
    assert_eq!(server.seen().len(), 4, "a refresh token that may have arrived is never sent again");
}

#[tokio::test]
async fn a_grant_is_revoked() {
    let server = Server::start(|seen| match seen.value("token").as_deref() {
        Some("live") => json(200, &json!({})),
        Some("gone") => json(400, &json!({"error": "invalid_token", "error_description": "invalid token: gone"})),
        _ => crate::server::reply(502, "text/html", "<html>"),
    })
    .await;
    let oauth = oauth(&server);
    oauth.revoke(&SecretString::from("live")).await.unwrap();
    oauth.revoke(&SecretString::from("gone")).await.unwrap();
    assert_eq!(name(&oauth.revoke(&SecretString::from("?")).await.unwrap_err()), "Unavailable");
}

#[tokio::test]
async fn an_assertion_signs_on() {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let public = DecodingKey::from_rsa_der(key.public_key().as_ref());
    let private = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).unwrap();
    let pem =
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(private.as_ref()));
    let now = "2026-11-23T10:00:00Z".parse().unwrap();
    let data_calls = AtomicUsize::new(0);
    let server = Server::start(move |seen| {
        if seen.path != "/services/oauth2/token" {
            return match data_calls.fetch_add(1, Ordering::Relaxed) {
                0 => refusal(401, "INVALID_SESSION_ID", "Session expired or invalid"),
                _ => empty_page(),
            };
        }
        assert_eq!(seen.value("grant_type").as_deref(), Some("urn:ietf:params:oauth:grant-type:jwt-bearer"));
        let mut validation = Validation::new(Algorithm::RS256);
        validation.validate_exp = false;
        validation.set_audience(&[format!("http://{}", seen.header("host").unwrap())]);
        let claims = decode::<Value>(seen.value("assertion").unwrap(), &public, &validation).unwrap().claims;
        assert_eq!((&claims["iss"], &claims["sub"]), (&"app".into(), &"ada@example.com".into()));
        let good_secs = claims["exp"].as_i64().unwrap() - chrono::DateTime::<chrono::Utc>::timestamp(&now);
        assert!((60..=180).contains(&good_secs), "{good_secs}");
        json(200, &token(seen))
    })
    .await;
    let user = JwtUser { username: "ada@example.com".to_owned(), key_pem: SecretString::from(pem), audience: None };
    let clock = Clock::Manual(ManualClock::at(now));
    let source = SessionSource::Jwt { app: app(&server.url, None), user: user.clone(), clock: clock.clone() };
    let client = Client::open(source, options()).await.unwrap();
    client.query("SELECT Id FROM Account").await.unwrap();
    assert_eq!(server.seen().len(), 4, "sign-on, refused, sign-on, answered");
    let user = JwtUser { key_pem: SecretString::from("no key"), ..user };
    let error = Client::open(SessionSource::Jwt { app: app(&server.url, None), user, clock }, options()).await.err();
    assert!(matches!(&error, Some(SalesforceError::Rejected { code, .. }) if code == "JWT_KEY"), "{error:?}");
}

#[tokio::test]
async fn a_given_session_is_renewed_once_for_all() {
    let server = Server::start(|seen| match seen.header("authorization") {
        Some("Bearer new") => empty_page(),
        _ => refusal(401, "INVALID_SESSION_ID", "Session expired or invalid"),
    })
    .await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (log, instance_url) = (asked.clone(), server.url.clone());
    let give = GiveSession::new(move |refused| {
        let token = if refused.is_none() { "old" } else { "new" };
        log.lock().unwrap().push(refused.map(|session: Session| session.access_token.expose_secret().to_owned()));
        let session = Session { access_token: SecretString::from(token), instance_url: instance_url.clone() };
        async move { Ok(session) }
    });
    let client = Arc::new(Client::open(SessionSource::Given(give), options()).await.unwrap());
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.query("SELECT Id FROM Account").await.map(|_| ()) })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(*asked.lock().unwrap(), [None, Some("old".to_owned())]);
}

#[tokio::test]
async fn what_the_giver_says_is_handed_on_and_asked_again_only_by_the_next_call() {
    let server = Server::start(|_| refusal(401, "INVALID_SESSION_ID", "Session expired or invalid")).await;
    let (asked, instance_url) = (Arc::new(AtomicUsize::new(0)), server.url.clone());
    let count = asked.clone();
    let give = GiveSession::new(move |refused| {
        count.fetch_add(1, Ordering::Relaxed);
        let session = Session { access_token: SecretString::from("old"), instance_url: instance_url.clone() };
        async move {
            match refused {
                None => Ok(session),
                Some(_) => Err(SalesforceError::AuthBroken { reason: "latched".to_owned() }),
            }
        }
    });
    let client = Client::open(SessionSource::Given(give), options()).await.unwrap();
    for calls in 2..4 {
        let error = client.query("SELECT Id FROM Account").await.unwrap_err();
        assert!(error.to_string().contains("latched"), "{error}");
        assert_eq!(asked.load(Ordering::Relaxed), calls);
    }
    assert_eq!(server.seen().len(), 1, "a session that was refused is not tried again");
}

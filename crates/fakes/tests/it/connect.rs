//! Owns the proof that the simulated Salesforce lets in as the vendor does: consent, codes with PKCE, refresh with
//! rotation, signed assertions, revocation, TLS, the allowance of a day and long calls at once.
//! Does not own the data calls.

use std::collections::HashMap;

use aws_lc_rs::{
    digest,
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use fakes::salesforce::{FakeSalesforce, Fault, Options, Order, UsageChange};
use reqwest::{Certificate, Client, StatusCode, Url, redirect::Policy};
use serde_json::{Value, json};
use testkit::eventually;

const LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

const BACK: &str = "http://localhost:8080/connect/salesforce/callback";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const LIMITS: &str = "/services/data/v66.0/limits";

async fn start(change: impl FnOnce(&mut Options)) -> FakeSalesforce {
    let mut options = Options::default();
    change(&mut options);
    FakeSalesforce::start(options).await.unwrap()
}

fn client() -> Client {
    Client::builder().redirect(Policy::none()).build().unwrap()
}

type Form<'a> = Vec<(&'a str, &'a str)>;

fn of_application<'a>(mut form: Form<'a>) -> Form<'a> {
    form.extend([("client_id", "fake-client"), ("client_secret", "fake-secret")]);
    form
}

async fn token(fake: &FakeSalesforce, form: Form<'_>) -> Result<Value, String> {
    let answer = client().post(format!("{}/services/oauth2/token", fake.url())).form(&form).send().await.unwrap();
    let status = answer.status();
    let body: Value = answer.json().await.unwrap();
    if status.is_success() {
        return Ok(body);
    }
    assert_eq!(status, StatusCode::BAD_REQUEST);
    Err(format!("{}: {}", body["error"].as_str().unwrap(), body["error_description"].as_str().unwrap()))
}

async fn refresh(fake: &FakeSalesforce, refresh_token: &str) -> Result<Value, String> {
    token(fake, of_application(vec![("grant_type", "refresh_token"), ("refresh_token", refresh_token)])).await
}

async fn get(fake: &FakeSalesforce, session: &Value, path: &str) -> reqwest::Response {
    let token = session["access_token"].as_str().unwrap();
    client().get(format!("{}{path}", fake.url())).bearer_auth(token).send().await.unwrap()
}

async fn refusal(answer: reqwest::Response) -> (u16, String, String) {
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    let text = |name: &str| body[0][name].as_str().unwrap().to_owned();
    (status, text("errorCode"), text("message"))
}

fn challenge() -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, VERIFIER.as_bytes()))
}

/// What the person's browser brings back.
async fn consent(
    fake: &FakeSalesforce,
    change: &[(&str, &str)],
) -> Result<HashMap<String, String>, (StatusCode, String)> {
    let challenge = challenge();
    let mut wish = HashMap::from([
        ("response_type", "code"),
        ("client_id", "fake-client"),
        ("redirect_uri", BACK),
        ("state", "a&b=c d"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("decision", "allow"),
    ]);
    wish.extend(change.iter().copied());
    wish.retain(|_, value| !value.is_empty());
    let answer = client().post(format!("{}/services/oauth2/authorize", fake.url())).form(&wish).send().await.unwrap();
    if answer.status() != StatusCode::FOUND {
        return Err((answer.status(), answer.text().await.unwrap()));
    }
    let back = Url::parse(answer.headers()["location"].to_str().unwrap()).unwrap();
    assert!(back.as_str().starts_with(BACK));
    Ok(back.query_pairs().into_owned().collect())
}

async fn exchange(fake: &FakeSalesforce, code: &str, verifier: &str) -> Result<Value, String> {
    let form =
        vec![("grant_type", "authorization_code"), ("code", code), ("redirect_uri", BACK), ("code_verifier", verifier)];
    token(fake, of_application(form)).await
}

async fn sign_on(fake: &FakeSalesforce, user: &str) -> Value {
    let back = consent(fake, &[("username", user)]).await.unwrap();
    exchange(fake, &back["code"], VERIFIER).await.unwrap()
}

#[tokio::test]
async fn a_person_consents_and_the_code_is_good_once() {
    let fake = start(|_| {}).await;
    let page = client().get(format!("{}/services/oauth2/authorize", fake.url())).query(&[
        ("response_type", "code"),
        ("client_id", "fake-client"),
        ("redirect_uri", BACK),
        ("state", "<script>"),
    ]);
    let page = page.send().await.unwrap().text().await.unwrap();
    assert!(
        page.contains("value=\"allow\"") && page.contains("&lt;script&gt;") && !page.contains("<script>"),
        "{page}"
    );
    let back = consent(&fake, &[]).await.unwrap();
    assert_eq!(back["state"], "a&b=c d");
    let session = exchange(&fake, &back["code"], VERIFIER).await.unwrap();
    assert_eq!(session["instance_url"], fake.url());
    assert_eq!(get(&fake, &session, LIMITS).await.status(), 200);
    let again = exchange(&fake, &back["code"], VERIFIER).await;
    assert_eq!(again.unwrap_err(), "invalid_grant: invalid authorization code");
    let refreshed = refresh(&fake, session["refresh_token"].as_str().unwrap()).await.unwrap();
    assert!(refreshed.get("refresh_token").is_none(), "there is no rotation");
    let id = session["id"].as_str().unwrap().strip_prefix(&fake.url()).unwrap().to_owned();
    let identity: Value = get(&fake, &refreshed, &id).await.json().await.unwrap();
    let info: Value = get(&fake, &refreshed, "/services/oauth2/userinfo").await.json().await.unwrap();
    assert_eq!((&identity["username"], &info["user_id"]), (&json!("admin@fake.example"), &identity["user_id"]));
}

#[tokio::test]
async fn a_code_is_bound_to_its_verifier_and_address() {
    let fake = start(|options| options.require_pkce = true).await;
    for verifier in ["", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXX"] {
        let back = consent(&fake, &[]).await.unwrap();
        assert_eq!(exchange(&fake, &back["code"], verifier).await.unwrap_err(), "invalid_grant: invalid code verifier");
        let late = exchange(&fake, &back["code"], VERIFIER).await;
        assert_eq!(late.unwrap_err(), "invalid_grant: invalid authorization code", "a wrong try uses the code up");
    }
    let back = consent(&fake, &[]).await.unwrap();
    let elsewhere = vec![
        ("grant_type", "authorization_code"),
        ("code", &back["code"]),
        ("redirect_uri", "http://localhost:8080/other"),
        ("code_verifier", VERIFIER),
    ];
    assert!(token(&fake, of_application(elsewhere)).await.unwrap_err().starts_with("redirect_uri_mismatch"));
    for (change, error) in [
        (("decision", "deny"), "access_denied"),
        (("response_type", "token"), "unsupported_response_type"),
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
    ] {
        let back = consent(&fake, &[change]).await.unwrap();
        assert_eq!((back["error"].as_str(), back["state"].as_str()), (error, "a&b=c d"));
    }
    // Never sent to an address that nobody registered.
    for change in [
        ("client_id", "another"),
        ("redirect_uri", "https://evil.example/"),
        ("redirect_uri", "http://localhost.evil.example/"),
    ] {
        assert_eq!(consent(&fake, &[change]).await.unwrap_err().0, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn a_refresh_token_used_twice_ends_its_grant() {
    let fake = start(|options| options.rotate_refresh_tokens = true).await;
    let other = sign_on(&fake, "other@fake.example").await;
    let first = refresh(&fake, "fake-refresh").await.unwrap();
    let fresh = first["refresh_token"].as_str().unwrap();
    let second = refresh(&fake, fresh).await.unwrap();
    assert!(refresh(&fake, "nobody's").await.is_err());
    assert_eq!(get(&fake, &second, LIMITS).await.status(), 200, "a token that never was ends nothing");
    assert_eq!(refresh(&fake, fresh).await.unwrap_err(), "invalid_grant: expired access/refresh token");
    assert!(refresh(&fake, second["refresh_token"].as_str().unwrap()).await.is_err());
    assert_eq!(refusal(get(&fake, &second, LIMITS).await).await.1, "INVALID_SESSION_ID");
    assert_eq!(get(&fake, &other, LIMITS).await.status(), 200, "another grant goes on");
}

#[tokio::test]
async fn a_sixth_grant_ends_the_oldest_of_its_user() {
    let fake = start(|_| {}).await;
    let other = sign_on(&fake, "other@fake.example").await;
    let mut sessions = Vec::new();
    for _ in 0..6 {
        sessions.push(sign_on(&fake, "busy@fake.example").await);
    }
    assert_eq!(get(&fake, &sessions[0], LIMITS).await.status(), 401);
    assert!(refresh(&fake, sessions[0]["refresh_token"].as_str().unwrap()).await.is_err());
    for session in sessions[1..].iter().chain([&other]) {
        assert_eq!(get(&fake, session, LIMITS).await.status(), 200);
    }
}

#[tokio::test]
async fn revoking_ends_the_grant_and_its_sessions() {
    let fake = start(|_| {}).await;
    let revoke = async |token: &str| {
        let url = format!("{}/services/oauth2/revoke", fake.url());
        client().post(url).form(&[("token", token)]).send().await.unwrap().status()
    };
    for name in ["refresh_token", "access_token"] {
        let session = sign_on(&fake, "leaving@fake.example").await;
        assert_eq!(revoke(session[name].as_str().unwrap()).await, 200);
        assert_eq!(get(&fake, &session, LIMITS).await.status(), 401, "{name}");
        assert!(refresh(&fake, session["refresh_token"].as_str().unwrap()).await.is_err(), "{name}");
        assert_eq!(revoke(session[name].as_str().unwrap()).await, 400);
    }
}

#[tokio::test]
async fn ordered_failures_of_sign_on() {
    for (fault, is_rotating, first, second) in [
        (Fault::InvalidGrant, false, false, true),
        (Fault::GrantRevoked, false, false, false),
        (Fault::RotationRace, false, true, true),
        (Fault::RotationRace, true, false, false),
        (Fault::SixthLogin, false, false, false),
    ] {
        let fake = start(|options| options.rotate_refresh_tokens = is_rotating).await;
        fake.fault(fault, 1);
        assert_eq!(refresh(&fake, "fake-refresh").await.is_ok(), first, "{fault:?}");
        assert_eq!(refresh(&fake, "fake-refresh").await.is_ok(), second, "{fault:?}");
    }
    let fake = start(|options| options.rotate_refresh_tokens = true).await;
    fake.fault(Fault::RotationLost, 1);
    let form = of_application(vec![("grant_type", "refresh_token"), ("refresh_token", "fake-refresh")]);
    let lost = client().post(format!("{}/services/oauth2/token", fake.url())).form(&form).send().await;
    assert!(lost.is_err(), "{lost:?}");
    assert!(refresh(&fake, "fake-refresh").await.is_err(), "the old token is used");
}

struct Signer(RsaKeyPair);

impl Signer {
    fn public_pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der.as_ref()))
    }

    fn sign(&self, claims: &Value) -> String {
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", part(&json!({ "alg": "RS256" })), part(claims));
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

#[tokio::test]
async fn an_application_signs_for_its_user() {
    let signer = Signer(RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
    let stranger = Signer(RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
    let fake = start(|options| options.jwt_public_key = Some(signer.public_pem())).await;
    let now = chrono::Utc::now().timestamp();
    let claims = |name: &str, value: Value| {
        let mut claims = json!({
            "iss": "fake-client", "sub": "admin@fake.example", "aud": "https://login.salesforce.com", "exp": now + 170,
        });
        claims[name] = value;
        claims
    };
    let bearer = async |assertion: &str| {
        let grant_type = "urn:ietf:params:oauth:grant-type:jwt-bearer";
        token(&fake, vec![("grant_type", grant_type), ("assertion", assertion)]).await
    };
    let written = json!((now + 180).to_string());
    for good in [claims("exp", json!(now + 60)), claims("exp", written), claims("aud", json!(fake.url()))] {
        let session = bearer(&signer.sign(&good)).await.unwrap();
        assert!(session.get("refresh_token").is_none());
        assert_eq!(get(&fake, &session, LIMITS).await.status(), 200);
    }
    for (bad, error) in [
        (claims("exp", json!(now - 60)), "invalid_grant: expired authorization code"),
        (claims("exp", json!(now + 3_600)), "invalid_grant: expired authorization code"),
        (claims("exp", json!((now + 60) * 1_000)), "invalid_grant: expired authorization code"),
        (claims("aud", json!("https://example.com")), "invalid_grant: audience is invalid"),
        (claims("sub", json!("stranger@fake.example")), "invalid_grant: user hasn't approved this consumer"),
        (claims("iss", json!("another")), "invalid_client_id: client identifier invalid"),
    ] {
        assert_eq!(bearer(&signer.sign(&bad)).await.unwrap_err(), error);
    }
    let good = claims("exp", json!(now + 60));
    for assertion in [stranger.sign(&good), "a.b.c".to_owned(), String::new()] {
        assert_eq!(bearer(&assertion).await.unwrap_err(), "invalid_grant: invalid assertion");
    }
}

#[tokio::test]
async fn tls_is_good_for_those_who_trust_its_authority() {
    let folder = std::env::temp_dir().join(format!("authority-{}.pem", uuid::Uuid::new_v4()));
    let fake = start(|options| {
        options.tls = true;
        options.tls_ca_file = Some(folder.clone());
    })
    .await;
    let pem = std::fs::read(&folder).unwrap();
    std::fs::remove_file(&folder).unwrap();
    assert_eq!(fake.ca_pem().unwrap().as_bytes(), pem);
    let versions = format!("{}/services/data", fake.url());
    assert!(versions.starts_with("https://"));
    let authority = Certificate::from_pem(&pem).unwrap();
    let port = fake.addr().port();
    for (host, is_named) in [("acme.my.salesforce.com", true), ("salesforce.com.evil.example", false)] {
        let client = Client::builder().tls_certs_only([authority.clone()]).resolve(host, fake.addr()).build().unwrap();
        let answer = client.get(&versions).send().await.unwrap();
        let versions: Value = answer.json().await.unwrap();
        assert_eq!(versions[35], json!({ "label": "Spring '26", "url": "/services/data/v66.0", "version": "66.0" }));
        let by_name = client.get(format!("https://{host}:{port}/services/data")).send().await;
        assert_eq!(by_name.is_ok(), is_named, "{host}");
    }
    assert!(client().get(&versions).send().await.is_err(), "nobody trusts it unasked");
}

#[tokio::test]
async fn the_allowance_ends_and_comes_back_after_a_day() {
    let fake = start(|options| options.daily_limit = 3).await;
    let session = refresh(&fake, "fake-refresh").await.unwrap();
    for used in 1..=2 {
        let answer = get(&fake, &session, LIMITS).await;
        assert_eq!(answer.headers()["sforce-limit-info"], format!("api-usage={used}/3"));
        let limits: Value = answer.json().await.unwrap();
        assert_eq!(limits["DailyApiRequests"], json!({ "Max": 3, "Remaining": 3 - used }));
    }
    let _ = fake.usage(&UsageChange { spend: 1, ..UsageChange::default() });
    let refused = get(&fake, &session, LIMITS).await;
    assert_eq!(refused.headers()["sforce-limit-info"], "api-usage=3/3");
    let (status, code, message) = refusal(refused).await;
    assert_eq!((status, code.as_str()), (403, "REQUEST_LIMIT_EXCEEDED"));
    assert!(message.starts_with("TotalRequests"), "{message}");
    assert_eq!(get(&fake, &session, "/services/data").await.status(), 200, "the versions are free");
    let _ = fake.usage(&UsageChange { age_secs: 86_399 - 60, ..UsageChange::default() });
    assert_eq!(get(&fake, &session, LIMITS).await.status(), 403);
    let _ = fake.usage(&UsageChange { age_secs: 120, ..UsageChange::default() });
    assert_eq!(get(&fake, &session, LIMITS).await.status(), 200);
    let stats = fake.stats();
    assert_eq!((stats.api_used, stats.refused_daily, stats.refused_concurrent), (3, 2, 0));
}

#[tokio::test]
async fn long_calls_keep_the_others_out() {
    let fake = start(|options| {
        options.long_call_ms = 200;
        options.long_calls_max = 2;
    })
    .await;
    let session = refresh(&fake, "fake-refresh").await.unwrap();
    fake.order(Order { ms: 60_000, ..Order::new(Fault::SlowMs, 2) });
    let long = async || get(&fake, &session, LIMITS).await;
    // Short calls come in until the two are long.
    let refused = eventually(LIMIT, "a call to be refused", async || {
        if fake.usage(&UsageChange::default()).running < 2 {
            return None;
        }
        let answer = get(&fake, &session, LIMITS).await;
        if answer.status() == 403 { Some(refusal(answer).await) } else { None }
    });
    let (_, code, message) = tokio::select! {
        _ = async { tokio::join!(long(), long()) } => unreachable!("they take a minute"),
        refused = refused => refused,
    };
    assert_eq!(code, "REQUEST_LIMIT_EXCEEDED");
    assert!(message.starts_with("ConcurrentRequests"), "{message}");
    let over = "the calls to be over with their callers";
    eventually(LIMIT, over, async || (fake.usage(&UsageChange::default()).running == 0).then_some(())).await;
    assert_eq!(get(&fake, &session, LIMITS).await.status(), 200);
}

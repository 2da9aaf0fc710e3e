//! A sign-in by a provider over real sockets: one that is good, and each way in which one can be bad.

#![expect(clippy::unwrap_used, reason = "what a test's helper cannot get fails the test, on that line")]

use chrono::Utc;
use domain::Clock;
use fakes::identity::{FakeIdentity, Fault, Options, Person};
use oidc::{Identity, OidcError, Provider, ProviderConfig};
use secrecy::SecretString;

const BACK: &str = "http://127.0.0.1:9/login/oidc/callback";

fn config(fake: &FakeIdentity) -> ProviderConfig {
    ProviderConfig {
        issuer: fake.issuer().to_owned(),
        client_id: "servant".to_owned(),
        client_secret: Some(SecretString::from("client-secret")),
        redirect_url: BACK.to_owned(),
        scopes: vec!["profile".to_owned()],
        acr: Vec::new(),
        amr: Vec::new(),
    }
}

async fn fake(elliptic: bool) -> FakeIdentity {
    let client_secret = Some("client-secret".to_owned());
    FakeIdentity::start(Options { client_id: "servant".to_owned(), client_secret, elliptic, clock: Clock::system() })
        .await
        .unwrap()
}

fn verifier() -> SecretString {
    SecretString::from("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
}

/// Goes there as a browser does, and answers with the code that comes back.
async fn code(provider: &Provider, nonce: &str) -> Result<String, OidcError> {
    let url = provider.authorize_url("state-1", nonce, &verifier(), Utc::now()).await?;
    let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let answer = browser.get(url).send().await.unwrap();
    assert!(answer.status().is_redirection(), "{}", answer.text().await.unwrap());
    let back: reqwest::Url = answer.headers()["location"].to_str().unwrap().parse().unwrap();
    assert!(back.as_str().starts_with(BACK), "{back}");
    let query: Vec<(String, String)> = back.query_pairs().into_owned().collect();
    let of = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    assert_eq!(of("state").as_deref(), Some("state-1"));
    Ok(of("code").unwrap())
}

async fn sign_in(provider: &Provider) -> Result<Identity, OidcError> {
    let code = code(provider, "nonce-1").await?;
    provider.redeem(&code, "nonce-1", &verifier(), Utc::now()).await
}

#[tokio::test]
async fn a_person_is_known_by_either_algorithm() {
    for elliptic in [false, true] {
        let fake = fake(elliptic).await;
        fake.set_person(Person::new("ada", &["admins", "staff"]));
        let identity = sign_in(&Provider::new(config(&fake)).unwrap()).await.unwrap();
        assert_eq!((identity.subject.as_str(), identity.name.as_str()), ("ada", "Person ada"));
        assert_eq!(identity.email, "ada@id.test");
        assert_eq!(identity.claims["groups"], serde_json::json!(["admins", "staff"]));
    }
}

#[tokio::test]
async fn whatever_is_wrong_with_the_token_or_the_answer_nobody_is_signed_in() {
    for elliptic in [false, true] {
        let fake = fake(elliptic).await;
        for (fault, words) in [
            (Fault::WrongNonce, "another sign-in"),
            (Fault::WrongAudience, "another client"),
            (Fault::WrongIssuer, "another issuer"),
            (Fault::Expired, "expired"),
            (Fault::FromTheFuture, "from the future"),
            (Fault::AlgorithmNone, "no header that is known"),
            (Fault::SignedWithPublicKey, "algorithm that is not taken"),
            (Fault::UnknownKey, "does not publish"),
            (Fault::OtherKey, "signature"),
            (Fault::Altered, "signature"),
            (Fault::OtherName, "another issuer"),
            (Fault::Redirects, "307"),
            (Fault::Endless, "longer than"),
            (Fault::ServerError, "500"),
        ] {
            fake.set_fault(fault);
            let error = sign_in(&Provider::new(config(&fake)).unwrap()).await.unwrap_err().to_string();
            assert!(error.contains(words), "{fault:?}: {error}");
        }
        fake.set_fault(Fault::None);
        sign_in(&Provider::new(config(&fake)).unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn a_code_is_good_once_and_for_whoever_began() {
    let fake = fake(false).await;
    let provider = Provider::new(config(&fake)).unwrap();
    let first = code(&provider, "nonce-1").await.unwrap();
    provider.redeem(&first, "nonce-1", &verifier(), Utc::now()).await.unwrap();
    let again = provider.redeem(&first, "nonce-1", &verifier(), Utc::now()).await.unwrap_err();
    assert!(matches!(&again, OidcError::Refused { problem } if problem == "invalid_grant"), "{again}");
    let stolen = code(&provider, "nonce-1").await.unwrap();
    let other = SecretString::from("another-verifier-of-another-browser-altogether");
    assert!(matches!(
        provider.redeem(&stolen, "nonce-1", &other, Utc::now()).await.unwrap_err(),
        OidcError::Refused { .. }
    ));
    let wrong = ProviderConfig { client_secret: Some(SecretString::from("wrong")), ..config(&fake) };
    let error = sign_in(&Provider::new(wrong).unwrap()).await.unwrap_err();
    assert!(matches!(&error, OidcError::Refused { problem } if problem == "invalid_client"), "{error}");
}

#[tokio::test]
async fn new_keys_are_asked_for_once_and_known_ones_not_again() {
    let fake = fake(false).await;
    let provider = Provider::new(config(&fake)).unwrap();
    for _ in 0..3 {
        sign_in(&provider).await.unwrap();
    }
    assert_eq!(fake.key_fetches(), 1, "they are kept");
    fake.rotate_keys().unwrap();
    for _ in 0..3 {
        sign_in(&provider).await.unwrap();
    }
    assert_eq!(fake.key_fetches(), 2);
    fake.set_fault(Fault::UnknownKey);
    sign_in(&provider).await.unwrap_err();
    assert_eq!(fake.key_fetches(), 3, "asked once, then given up");
}

#[tokio::test]
async fn a_sign_in_by_too_little_is_refused() {
    let fake = fake(false).await;
    let asking = ProviderConfig { acr: vec!["mfa".to_owned()], amr: vec!["otp".to_owned()], ..config(&fake) };
    let provider = Provider::new(asking).unwrap();
    let with = |acr: Option<&str>, amr: &[&str]| Person {
        acr: acr.map(str::to_owned),
        amr: amr.iter().map(|means| (*means).to_owned()).collect(),
        ..Person::new("ada", &[])
    };
    for (acr, amr, is_enough) in [
        (None, &["otp"][..], false),
        (Some("pwd"), &["otp"], false),
        (Some("mfa"), &["pwd"], false),
        (Some("mfa"), &["pwd", "otp"], true),
    ] {
        fake.set_person(with(acr, amr));
        match sign_in(&provider).await {
            Ok(_) => assert!(is_enough, "{acr:?} {amr:?}"),
            Err(error) => assert!(!is_enough && matches!(error, OidcError::TooWeak { .. }), "{acr:?} {amr:?}: {error}"),
        }
    }
}

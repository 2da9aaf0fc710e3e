//! The manager under test with a clock that is moved by hand, and a browser that keeps one cookie.

use chrono::{DateTime, TimeDelta, Utc};
use daemon::{Health, SecretsFile, Stopper};
use domain::{Clock, ManualClock, Role};
use manager::{Access, AccessConfig, App};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header, redirect};
use std::net::SocketAddr;
use store::{NewApiToken, NewCode, NewUser, Store};
use testkit::TestDatabase;
use vault::{ExposeSecret as _, SecretString, TokenFor, digest, new_token};

pub(crate) const PASSWORD: &str = "correct horse battery";

pub(crate) struct World {
    pub(crate) database: TestDatabase,
    pub(crate) clock: ManualClock,
    pub(crate) store: Store,
    pub(crate) url: String,
    _files: tempfile::TempDir,
}

/// The shipped configuration.
pub(crate) fn config() -> AccessConfig {
    let table: toml::Table = include_str!("../../../../config/manager.toml").parse().unwrap();
    table["access"].clone().try_into().unwrap()
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(config()).await
    }

    pub(crate) async fn with(config: AccessConfig) -> Self {
        Self::at(ManualClock::at(Utc::now()), config).await
    }

    pub(crate) async fn at(clock: ManualClock, config: AccessConfig) -> Self {
        let database = testkit::database().await;
        let store = database.store_with(Clock::Manual(clock.clone())).await;
        let files = tempfile::tempdir().unwrap();
        let secrets = files.path().join("secrets.toml");
        std::fs::write(&secrets, "[id]\nclient_secret = \"client-secret\"\n").unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("http://{address}");
        let access = Access::new(&config, address, &url, &SecretsFile::at(secrets)).unwrap();
        let app = App { store: store.clone(), health: Health::new(Stopper::new()), connect: None, access };
        let service = manager::router(app, 10_000).into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        Self { database, clock, store, url, _files: files }
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub(crate) fn advance(&self, minutes: i64) {
        self.clock.advance(TimeDelta::minutes(minutes));
    }

    pub(crate) async fn token(&self, role: Role) -> SecretString {
        let secret = new_token(TokenFor::Api);
        let expires_at = self.now() + TimeDelta::days(1);
        let new = NewApiToken { digest: &digest(&secret), name: role.as_str(), role, expires_at };
        self.store.create_token(new, &testkit::granted()).await.unwrap();
        secret
    }

    pub(crate) async fn code(&self, user: Option<i64>, role: Role) -> String {
        let secret = new_token(TokenFor::Code);
        let digest = digest(&secret);
        let expires_at = self.now() + TimeDelta::minutes(60);
        let new = NewCode { digest: &digest, user, role, sets_password: true, expires_at };
        self.store.create_code(new, &testkit::granted()).await.unwrap();
        secret.expose_secret().to_owned()
    }

    /// A person with that password, signed in.
    pub(crate) async fn person(&self, name: &str, role: Role) -> (i64, Browser) {
        let new = NewUser { name, email: "", role };
        let id = self.store.create_user(new, &testkit::granted()).await.unwrap().unwrap();
        let code = self.code(Some(id), role).await;
        let mut browser = self.browser();
        let answer = browser.submit("/login/code", &[("code", &code), ("password", PASSWORD)]).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{}", answer.text().await.unwrap());
        (id, browser)
    }

    pub(crate) fn browser(&self) -> Browser {
        let http = reqwest::Client::builder().redirect(redirect::Policy::none()).build().unwrap();
        Browser { http, url: self.url.clone(), cookies: Vec::new() }
    }

    /// A program's request, with or without a token.
    pub(crate) fn call(&self, method: Method, path: &str, token: Option<&SecretString>) -> RequestBuilder {
        let request = self.browser().http.request(method, format!("{}{path}", self.url));
        match token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        }
    }
}

/// A browser: it keeps cookies as they are set, and follows nothing by itself.
pub(crate) struct Browser {
    http: reqwest::Client,
    url: String,
    pub(crate) cookies: Vec<(String, String)>,
}

impl Browser {
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = self.http.request(method, format!("{}{path}", self.url)).header(header::ACCEPT, "text/html");
        if cookies.is_empty() { request } else { request.header(header::COOKIE, cookies.join("; ")) }
    }

    pub(crate) async fn send(&mut self, request: RequestBuilder) -> Response {
        let answer = request.send().await.unwrap();
        for value in answer.headers().get_all(header::SET_COOKIE) {
            let text = value.to_str().unwrap();
            // None without all of it: browsers drop a `__Host-` cookie that lacks any.
            for part in ["__Host-", "; Path=/;", "; Secure", "; HttpOnly", "; SameSite=Lax"] {
                assert!(text.contains(part), "{text} lacks {part}");
            }
            assert!(!text.contains("Domain"), "{text}");
            let (name, value) = text.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.retain(|(kept, _)| kept != name);
            if !text.contains("Max-Age=0") {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        answer
    }

    pub(crate) async fn get(&mut self, path: &str) -> Response {
        let request = self.request(Method::GET, path).header("sec-fetch-dest", "document");
        self.send(request).await
    }

    pub(crate) async fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> Response {
        let request = self.request(Method::POST, path).header("sec-fetch-site", "same-origin").form(fields);
        self.send(request).await
    }

    pub(crate) async fn sign_in(&mut self, name: &str, password: &str) -> Response {
        self.submit("/login", &[("name", name), ("password", password), ("to", "/jobs")]).await
    }

    /// Whether the browser is let in.
    pub(crate) async fn is_in(&mut self) -> bool {
        let answer = self.get("/keys").await;
        match answer.status() {
            StatusCode::OK => true,
            StatusCode::SEE_OTHER => {
                assert_eq!(location(&answer), "/login?to=%2Fkeys");
                false
            }
            other => panic!("{other}: {}", answer.text().await.unwrap()),
        }
    }

    pub(crate) fn session(&self) -> Option<String> {
        self.cookies.iter().find(|(name, _)| name == "__Host-servant").map(|(_, value)| value.clone())
    }
}

pub(crate) fn location(answer: &Response) -> String {
    answer.headers()[header::LOCATION].to_str().unwrap().to_owned()
}

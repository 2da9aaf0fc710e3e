//! A server that answers as a test says and remembers what it was asked, and one that sends bytes as they are.

use std::{
    io::Write as _,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, Response, StatusCode},
};
use flate2::{Compression, write::GzEncoder};
use salesforce::{Client, GiveSession, Hosts, Options, SalesforceError, SecretString, Session, SessionSource};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

pub(crate) const JOB: &str = "750R0000000zxr8IAA";

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// A form's or a query's value.
    pub(crate) fn value(&self, name: &str) -> Option<String> {
        let text = if self.query.is_empty() { &self.body } else { &self.query };
        let url = reqwest::Url::parse(&format!("http://x/?{text}")).unwrap();
        url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

pub(crate) type Reply = Response<Body>;

pub(crate) struct Server {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), seen.clone());
        let router = Router::new().fallback(move |request: Request| {
            let (answer, log) = (answer.clone(), log.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = to_bytes(body, usize::MAX).await.unwrap();
                let seen = Seen {
                    method: head.method.to_string(),
                    path: head.uri.path().to_owned(),
                    query: head.uri.query().unwrap_or_default().to_owned(),
                    headers: head.headers,
                    body: String::from_utf8(body.to_vec()).unwrap(),
                };
                log.lock().unwrap().push(seen.clone());
                answer(&seen)
            }
        });
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, seen, task }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) async fn client(&self) -> Client {
        client(&self.url, options()).await
    }
}

/// Sends the same bytes to everyone and hangs up; answers with its address.
pub(crate) async fn raw(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut asked = Vec::new();
            while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
                match socket.read_buf(&mut asked).await {
                    Ok(read) if read > 0 => {}
                    _ => break,
                }
            }
            // Who is asked may have hung up already.
            let _ = socket.write_all(&bytes).await;
            let _ = socket.shutdown().await;
        }
    });
    url
}

pub(crate) fn options() -> Options {
    Options {
        retry_base_ms: 1,
        retry_max_ms: 5,
        retries_max: 2,
        read_timeout_secs: 5,
        hosts: Hosts::Development { root_certificate_pem: None },
        ..Options::default()
    }
}

/// A client with a session that needs no sign-on.
pub(crate) async fn client(url: &str, options: Options) -> Client {
    Client::open(given(url), options).await.unwrap()
}

pub(crate) fn given(instance_url: &str) -> SessionSource {
    let session = Session { access_token: SecretString::from("token"), instance_url: instance_url.to_owned() };
    SessionSource::Given(GiveSession::new(move |_| {
        let session = session.clone();
        async move { Ok(session) }
    }))
}

pub(crate) fn reply(status: u16, kind: &str, body: impl Into<Body>) -> Reply {
    Response::builder().status(status).header("content-type", kind).body(body.into()).unwrap()
}

pub(crate) fn json(status: u16, body: &serde_json::Value) -> Reply {
    reply(status, "application/json;charset=UTF-8", body.to_string())
}

pub(crate) fn refusal(status: u16, code: &str, message: &str) -> Reply {
    json(status, &serde_json::json!([{"errorCode": code, "message": message}]))
}

pub(crate) fn not_found() -> Reply {
    refusal(StatusCode::NOT_FOUND.as_u16(), "NOT_FOUND", "The requested resource does not exist")
}

pub(crate) fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// The name of an error's variant.
pub(crate) fn name(error: &SalesforceError) -> String {
    format!("{error:?}").split([' ', '{']).next().unwrap().to_owned()
}

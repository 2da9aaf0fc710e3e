//! Owns the server: its address, the routes and its end. Does not own what a request means.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, Response, header},
    routing::{get, post},
    serve::ListenerExt,
};
use bytes::Bytes;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use super::{CONTENT_TYPE, Clock, Fault, Faults, Stats, error::SqsError, service::Service};

/// Requests carry at most a batch of 1 MiB, which JSON escapes can lengthen.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How to start a [`FakeSqs`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Port 0 takes a free one.
    pub addr: SocketAddr,
    /// The time that visibility, delays and long polls go by.
    pub clock: Clock,
    /// What goes wrong from the start.
    pub faults: Faults,
    /// Seeds the dice of the faults.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { addr, clock: Clock::Real, faults: Faults::new(), seed: 0 }
    }
}

/// A running server. Dropping it stops it: long polls end, idle connections close, later requests get HTTP 500.
#[derive(Debug)]
pub struct FakeSqs {
    addr: SocketAddr,
    service: Arc<Service>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl FakeSqs {
    /// Binds and serves.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(options.addr).await?;
        let addr = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let service = Arc::new(Service::new(addr, options, stopped.clone()));
        let router = Router::new()
            .route("/_faults", get(faults).post(set_faults).delete(clear_faults))
            .route("/_stats", get(stats))
            .fallback(post(call))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Arc::clone(&service));
        let listener = listener.tap_io(|connection| {
            // Small answers must not wait for an acknowledgement.
            drop(connection.set_nodelay(true));
        });
        let mut until = stopped;
        let task = tokio::spawn(async move {
            let end = async move { drop(until.wait_for(|stop| *stop).await) };
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(end).await {
                tracing::error!(%error, "simulated sqs ended");
            }
        });
        Ok(Self { addr, service, stop, task: Some(task) })
    }

    /// The endpoint, `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The address bound.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Adds or replaces the named faults; probability 0 turns one off.
    pub fn set_faults(&self, faults: Faults) {
        self.service.dice().set(faults);
    }

    /// Turns every fault off.
    pub fn clear_faults(&self) {
        self.service.dice().clear();
    }

    /// Requests by action and messages by place.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.service.stats()
    }

    /// Stops and returns once the port is free.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            drop(task.await);
        }
    }
}

impl Drop for FakeSqs {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn faults(State(service): State<Arc<Service>>) -> Json<Faults> {
    Json(service.dice().rules().clone())
}

async fn set_faults(State(service): State<Arc<Service>>, Json(faults): Json<Faults>) -> Json<Faults> {
    let mut dice = service.dice();
    dice.set(faults);
    Json(dice.rules().clone())
}

async fn clear_faults(State(service): State<Arc<Service>>) {
    service.dice().clear();
}

async fn stats(State(service): State<Arc<Service>>) -> Json<Stats> {
    Json(service.stats())
}

async fn call(State(service): State<Arc<Service>>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some(action) = target.strip_prefix("AmazonSQS.") else {
        return SqsError::unknown_action(target).into_response();
    };
    service.count(action);
    if service.dice().strikes(Fault::Throttle) {
        return SqsError::throttled().into_response();
    }
    if service.dice().strikes(Fault::Http5xx) {
        return SqsError::internal().into_response();
    }
    let answer = service.call(action, &body).await;
    let lost = service.dice().strikes(Fault::AnswerLostAfterExecution);
    match answer {
        Ok(value) => {
            let text = value.to_string();
            let mut response = if lost { broken(text.len()) } else { Response::new(Body::from(text)) };
            let content_type = header::HeaderValue::from_static(CONTENT_TYPE);
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
            response
        }
        Err(error) => error.into_response(),
    }
}

/// An answer whose body breaks off, so that the connection ends in the middle of it.
fn broken(length: usize) -> Response<Body> {
    let cut = futures::stream::iter([Ok(Bytes::from_static(b"{")), Err(io::Error::other("answer lost on request"))]);
    let mut response = Response::new(Body::from_stream(cut));
    response.headers_mut().insert(header::CONTENT_LENGTH, header::HeaderValue::from(length.max(2)));
    response
}

//! Owns what the process says of itself over HTTP: `/livez`, `/readyz` and `/metrics`.
//!
//! It does not own the checks: each program sets its own by name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::config::ConfigError;
use crate::shutdown::Stopper;
use crate::telemetry::metrics_handle;

/// The health of this process; clones are the same health.
#[derive(Debug, Clone)]
pub struct Health {
    checks: Arc<Mutex<BTreeMap<String, Result<(), String>>>>,
    address: Arc<OnceLock<SocketAddr>>,
    stopper: Stopper,
}

impl Health {
    /// Ready, as long as no check says otherwise and `stopper` is not stopping.
    #[must_use]
    pub fn new(stopper: Stopper) -> Self {
        Self { checks: Arc::default(), address: Arc::default(), stopper }
    }

    /// Sets the outcome of the check `name`; a failed one makes the process not ready and its
    /// text is shown by `/readyz`, so it holds no secret.
    pub fn set(&self, name: impl Into<String>, outcome: Result<(), String>) {
        self.lock().insert(name.into(), outcome);
    }

    /// The address being served, with the port that was really bound; none when not serving.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address.get().copied()
    }

    /// What keeps the process from being ready, by name; empty = ready.
    #[must_use]
    pub fn failing(&self) -> BTreeMap<String, String> {
        let mut failing: BTreeMap<String, String> =
            self.lock().iter().filter_map(|(name, outcome)| Some((name.clone(), outcome.clone().err()?))).collect();
        if self.stopper.is_stopping() {
            failing.insert("process".to_owned(), "draining".to_owned());
        }
        failing
    }

    /// Serves at `listen` (port 0 = any free one) in the background until the runtime ends: a
    /// draining process still answers.
    pub(crate) async fn serve(&self, listen: SocketAddr) -> Result<SocketAddr, ConfigError> {
        let refused = |error: std::io::Error| {
            ConfigError::new(
                "configuration key process.health_listen",
                format!("cannot listen on {listen}: {error}"),
                "choose a free address, or port 0",
            )
        };
        let listener = TcpListener::bind(listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let _ = self.address.set(address);
        let router = Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self.clone());
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(error = error.to_string(), "the health server ended");
            }
        });
        Ok(address)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Result<(), String>>> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    let failing = health.failing();
    let is_ready = failing.is_empty();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(serde_json::json!({ "ready": is_ready, "failing": failing })))
}

async fn metrics() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics_handle().render())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn health_is_told_over_a_socket() {
        let stopper = Stopper::new();
        let health = Health::new(stopper.clone());
        let address = health.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
        assert_eq!(health.address(), Some(address));
        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));

        health.set("database", Err("connection refused".to_owned()));
        health.set("queue", Ok(()));
        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains(r#""database":"connection refused""#), "{answer}");
        assert!(!answer.contains("queue"), "{answer}");

        health.set("database", Ok(()));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        stopper.stop();
        assert!(get(address, "/readyz").await.contains("draining"));
        assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));

        metrics_handle();
        metrics::counter!("health_test_total").increment(3);
        metrics::histogram!("health_test_seconds").record(0.2);
        let answer = get(address, "/metrics").await;
        assert!(answer.contains("health_test_total 3"), "{answer}");
        assert!(answer.contains(r#"health_test_seconds_bucket{le="0.25"} 1"#), "{answer}");
    }

    #[tokio::test]
    async fn a_taken_address_is_a_configuration_error() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let error = Health::new(Stopper::new()).serve(taken.local_addr().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("process.health_listen"), "{error}");
    }
}

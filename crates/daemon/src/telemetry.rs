//! Owns the shape of log lines and the registry of metrics.
//!
//! It does not own which metrics exist, nor their serving (see `health`).

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use json_subscriber::JsonLayer;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::Value;
use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::{
    config::{ConfigError, LogFormat, ProcessConfig},
    excerpt::ExcerptLayer,
};

/// The names of the ids that log lines carry, used as `info_span!("run", { field::JOB_ID } = %id)`.
///
/// An id belongs on the span; repeated on the event, its key would be written twice.
pub mod field {
    /// The HTTP request being answered.
    pub const REQUEST_ID: &str = "RequestId";
    /// The customer's account.
    pub const ACCOUNT_ID: &str = "AccountId";
    /// The job.
    pub const JOB_ID: &str = "JobId";
    /// The attempt at the job, counted from 1.
    pub const ATTEMPT: &str = "Attempt";
    /// The type of work.
    pub const KIND: &str = "Kind";

    /// All of them.
    pub const ALL: [&str; 5] = [REQUEST_ID, ACCOUNT_ID, JOB_ID, ATTEMPT, KIND];
}

/// Who writes: on every JSON line.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) service: &'static str,
    pub(crate) version: &'static str,
    pub(crate) instance: String,
}

/// Upper bounds, in seconds, of the buckets of every histogram whose name ends in `_seconds`:
/// from a query to a long job.
const SECONDS_BUCKETS: [f64; 14] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0, 1800.0];

/// The registry of metrics of this process: installed at the first call, the same ever after.
/// `render()` gives the Prometheus text.
pub fn metrics_handle() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let suffix = Matcher::Suffix("_seconds".to_owned());
        let builder = PrometheusBuilder::new();
        // The only possible error is an empty list of buckets, and ours is not.
        let builder =
            builder.set_buckets_for_metric(suffix, &SECONDS_BUCKETS).unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::warn!("another metrics recorder is installed, /metrics will stay empty");
        }
        handle
    })
}

/// Installs logging and metrics for the whole process; panics are logged from here on.
///
/// # Errors
/// `process.log_filter` cannot be parsed.
pub(crate) fn install(config: &ProcessConfig, identity: &Identity) -> Result<(), ConfigError> {
    let filter = || {
        EnvFilter::try_new(&config.log_filter).map_err(|error| {
            ConfigError::new(
                "configuration key process.log_filter",
                format!("cannot be parsed: {error}"),
                "write it as in \"info\" or \"info,queue=debug\"",
            )
        })
    };
    let layer = match config.log_format {
        LogFormat::Json => json_layer(identity, std::io::stdout as fn() -> std::io::Stdout).boxed(),
        LogFormat::Human => tracing_subscriber::fmt::layer()
            .with_ansi(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .boxed(),
    };
    // It fails only when a test installed one before, which then stays.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(filter()?))
        .with(ExcerptLayer.with_filter(filter()?))
        .try_init();
    metrics_handle();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let reason = panic.payload_as_str().unwrap_or("unknown");
        tracing::error!(place, reason, "a task panicked");
    }));
    Ok(())
}

fn json_layer<S, W>(identity: &Identity, writer: W) -> JsonLayer<S, W>
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    W: for<'writer> MakeWriter<'writer> + 'static,
{
    let mut layer = JsonLayer::<S>::new(writer);
    layer.with_timer("@timestamp", SystemTime);
    layer.with_level("level");
    layer.with_target("logger");
    layer.add_static_field("service", Value::from(identity.service));
    layer.add_static_field("version", Value::from(identity.version));
    layer.add_static_field("instance", Value::from(identity.instance.as_str()));
    layer.with_flattened_event();
    layer.with_top_level_flattened_span_list();
    layer
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_json_line_is_flat_and_complete() {
        let identity = Identity { service: "scheduler", version: "1.2.3", instance: "host-1".to_owned() };
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let layer = json_layer(&identity, move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let _outer = tracing::info_span!("tick", { field::ACCOUNT_ID } = "a1").entered();
            let _inner = tracing::info_span!("run", { field::JOB_ID } = "j1", { field::ATTEMPT } = 2).entered();
            tracing::warn!(retry_secs = 5, "job will be retried");
        });
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Map<String, Value> = serde_json::from_str(&text).unwrap();
        for (key, value) in [
            ("level", Value::from("WARN")),
            ("message", Value::from("job will be retried")),
            ("logger", Value::from(module_path!())),
            ("service", Value::from("scheduler")),
            ("version", Value::from("1.2.3")),
            ("instance", Value::from("host-1")),
            (field::ACCOUNT_ID, Value::from("a1")),
            (field::JOB_ID, Value::from("j1")),
            (field::ATTEMPT, Value::from(2)),
            ("retry_secs", Value::from(5)),
            // The innermost span.
            ("name", Value::from("run")),
        ] {
            assert_eq!(line.get(key), Some(&value), "{key} in {text}");
        }
        assert!(line["@timestamp"].as_str().unwrap().ends_with('Z'), "{text}");
        assert_eq!(line.len(), 12, "{text}");
    }
}

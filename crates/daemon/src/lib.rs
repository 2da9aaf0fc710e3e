//! Owns the start and the stop of every process: configuration, telemetry, signals, health and
//! exit codes. It is the only crate that reads the environment and configuration files.
//!
//! It does not know what the process does between start and stop: that is the callback of [`run`].

mod config;
mod excerpt;
mod file;
mod health;
mod run;
mod secrets_file;
mod shutdown;
mod telemetry;

pub use config::{
    ConfigError, LogFormat, ProcessConfig, Secret, database_url, read_env, read_optional_secret, read_secret,
};
pub use excerpt::Excerpt;
pub use file::read_file;
pub use health::Health;
pub use run::{Context, host, run};
pub use secrecy::ExposeSecret;
pub use secrets_file::SecretsFile;
pub use shutdown::Stopper;
pub use telemetry::{field, metrics_handle};

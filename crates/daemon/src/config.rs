//! Owns the reading of configuration: one strict TOML file, overrides from the environment, and
//! secrets from the environment or from files.
//!
//! It does not own the meaning of any key outside `[process]`: each program brings its own type.

use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// What starts the name of every environment variable that overrides a key of the file.
const PREFIX: &str = "SERVANT_";

/// A value that is never printed: its `Debug` is redacted and its memory is wiped on drop.
pub type Secret = secrecy::SecretString;

/// The configuration is wrong and only its owner can put it right; the process exits with 64.
///
/// A callback of [`run`](crate::run) may return one too, anywhere in the chain of its error.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}; {way_out}")]
pub struct ConfigError {
    place: String,
    problem: String,
    way_out: String,
}

impl ConfigError {
    /// `place` names the file, key or variable; `problem` says what is wrong with it; `way_out`
    /// says what to do. None of the three may contain a secret.
    pub fn new(place: impl Into<String>, problem: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into(), way_out: way_out.into() }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One flat JSON object a line.
    Json,
    /// For a person at a terminal.
    Human,
}

/// The table `[process]`, which every program has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessConfig {
    /// How log lines are written to standard output.
    pub log_format: LogFormat,
    /// Which log lines are written, in the syntax of `tracing`'s `EnvFilter`.
    pub log_filter: String,
    /// Threads of the async runtime.
    pub worker_threads: usize,
    /// Where `/livez`, `/readyz` and `/metrics` are served; absent = nowhere.
    pub health_listen: Option<SocketAddr>,
    /// Seconds between the request to stop and the order to stop at once.
    pub drain_secs: u64,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self {
            log_format: LogFormat::Json,
            log_filter: "info".to_owned(),
            worker_threads: 2,
            health_listen: None,
            drain_secs: 30,
        }
    }
}

/// Where a configuration comes from, for messages.
pub(crate) fn place_of(file: Option<&Path>) -> String {
    match file {
        Some(file) => format!("configuration file {}", file.display()),
        None => "configuration (no file was given)".to_owned(),
    }
}

/// Reads the file (none = an empty one), applies the overrides, and splits off `[process]`.
///
/// `variables` is the environment, an argument so that tests own theirs.
///
/// # Errors
/// A file that cannot be read or parsed, a key that is unknown, missing or of the wrong type.
pub(crate) fn load<C: DeserializeOwned>(
    file: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<(ProcessConfig, C), ConfigError> {
    let place = place_of(file);
    let mut table = match file {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| {
                ConfigError::new(&place, format!("cannot be read: {error}"), "pass the right path with --config FILE")
            })?
            .parse::<toml::Table>()
            .map_err(|error| ConfigError::new(&place, one_line(&error), "correct the file at that line"))?,
        None => toml::Table::new(),
    };

    let mut overridden = Vec::new();
    for (name, value) in variables {
        if apply_override(&mut table, &name, &value)? {
            overridden.push(name);
        }
    }
    let way_out = if overridden.is_empty() {
        match file {
            Some(_) => "correct or remove that key in the file".to_owned(),
            None => format!("pass --config FILE, or set {PREFIX}<TABLE>__<KEY>"),
        }
    } else {
        overridden.sort();
        format!("correct that key in the file or in the environment ({} is set)", overridden.join(", "))
    };

    let process = match table.remove("process") {
        None => ProcessConfig::default(),
        Some(process) => process
            .try_into()
            .map_err(|error| ConfigError::new(&place, format!("[process]: {}", one_line(&error)), &way_out))?,
    };
    check(&process, &place, &way_out)?;
    let own =
        toml::Value::Table(table).try_into().map_err(|error| ConfigError::new(&place, one_line(&error), &way_out))?;
    Ok((process, own))
}

fn check(process: &ProcessConfig, place: &str, way_out: &str) -> Result<(), ConfigError> {
    let threads = process.worker_threads;
    if !(1..=1024).contains(&threads) {
        let problem = format!("process.worker_threads is {threads}, not between 1 and 1024");
        return Err(ConfigError::new(place, problem, way_out));
    }
    // An hour: a supervisor kills long before, and sums with an instant cannot overflow.
    if process.drain_secs > 3600 {
        let problem = format!("process.drain_secs is {}, above 3600", process.drain_secs);
        return Err(ConfigError::new(place, problem, way_out));
    }
    Ok(())
}

/// A parser's message may span lines; messages of this crate are one line that can be read alone.
fn one_line(error: &toml::de::Error) -> String {
    error.to_string().lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// `SERVANT_A__B=v` sets key `b` of table `a`; `SERVANT_A=v` sets the top-level key `a`, only when
/// the file has it, since other variables of that prefix exist which are no keys.
/// Answers whether the variable was an override.
fn apply_override(table: &mut toml::Table, name: &str, value: &str) -> Result<bool, ConfigError> {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return Ok(false);
    };
    let path: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
    let Some((key, parents)) = path.split_last() else {
        return Ok(false);
    };
    if parents.is_empty() && table.get(key).is_none_or(toml::Value::is_table) {
        return Ok(false);
    }
    if path.iter().any(String::is_empty) {
        return Err(ConfigError::new(
            format!("environment variable {name}"),
            "an empty part before or after __",
            format!("name it {PREFIX}<TABLE>__<KEY>, or unset it"),
        ));
    }
    let mut target = table;
    for parent in parents {
        target = target
            .entry(parent.clone())
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| {
                ConfigError::new(
                    format!("environment variable {name}"),
                    format!("{parent} is a key, not a table"),
                    "correct the variable's name, or unset it",
                )
            })?;
    }
    // A key that is a string in the file stays one: a name made of digits is no number.
    let is_string = target.get(key).is_some_and(toml::Value::is_str);
    let parsed = value.parse::<toml::Value>().ok().filter(|parsed| !is_string || parsed.is_str());
    let parsed = parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()));
    target.insert(key.clone(), parsed);
    Ok(true)
}

/// The value of an environment variable that must be set and not empty.
///
/// # Errors
/// Names the variable and says to set it.
pub fn read_env(name: &str) -> Result<String, ConfigError> {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => Ok(value),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(ConfigError::new(format!("environment variable {name}"), "is not valid UTF-8", "set it to text"))
        }
        _ => Err(ConfigError::new(format!("environment variable {name}"), "is not set", format!("set {name}"))),
    }
}

/// A secret from the variable `name`, else from the file that the variable `<name>_FILE` names
/// (one line break at its end is dropped). `name` holds no `__`, or it would be an override.
///
/// # Errors
/// Neither variable is set, or the file cannot be read or is empty. Never prints the value.
pub fn read_secret(name: &str) -> Result<Secret, ConfigError> {
    secret_from(name, |variable| std::env::var(variable).ok())
}

/// The same, where there may be none.
///
/// # Errors
/// The file that is named cannot be read or is empty. Never prints the value.
pub fn read_optional_secret(name: &str) -> Result<Option<Secret>, ConfigError> {
    optional_secret_from(name, |variable| std::env::var(variable).ok())
}

fn optional_secret_from(name: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Option<Secret>, ConfigError> {
    let is_set = |name: &str| lookup(name).is_some_and(|value| !value.is_empty());
    if is_set(name) || is_set(&format!("{name}_FILE")) { secret_from(name, lookup).map(Some) } else { Ok(None) }
}

/// Where the database is: `SERVANT_DATABASE_URL`, else `DATABASE_URL`, each also as `…_FILE`.
/// A secret, for it may hold a password.
///
/// # Errors
/// As [`read_secret`].
pub fn database_url() -> Result<Secret, ConfigError> {
    database_url_from(|variable| std::env::var(variable).ok())
}

fn database_url_from(lookup: impl Fn(&str) -> Option<String>) -> Result<Secret, ConfigError> {
    const FIRST: &str = "SERVANT_DATABASE_URL";
    match optional_secret_from(FIRST, &lookup)? {
        Some(url) => Ok(url),
        None => secret_from("DATABASE_URL", lookup),
    }
}

fn secret_from(name: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Secret, ConfigError> {
    let lookup = |variable: &str| lookup(variable).filter(|value| !value.is_empty());
    if let Some(value) = lookup(name) {
        return Ok(value.into());
    }
    let file_variable = format!("{name}_FILE");
    let Some(file) = lookup(&file_variable) else {
        return Err(ConfigError::new(
            format!("environment variable {name}"),
            "is not set",
            format!("set {name}, or {file_variable} to a file that holds the value"),
        ));
    };
    let wrong = |problem: String| {
        ConfigError::new(
            format!("environment variable {file_variable}"),
            problem,
            "name a readable file that holds the value",
        )
    };
    let text = std::fs::read_to_string(&file).map_err(|error| wrong(format!("file {file} cannot be read: {error}")))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(wrong(format!("file {file} is empty")));
    }
    Ok(text.to_owned().into())
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;

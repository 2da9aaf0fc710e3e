//! Reading a configuration file other than the program's own, strictly.
//! Does not apply overrides from the environment: those are for the program's own file (`config`).

use crate::ConfigError;
use serde::de::DeserializeOwned;
use std::path::Path;

/// Reads a TOML file into a type that refuses unknown keys.
///
/// # Errors
/// [`ConfigError`] names the file and what is wrong in it.
pub fn read_file<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let place = format!("configuration file {}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| {
        ConfigError::new(&place, format!("cannot be read: {error}"), "correct the path in the program's configuration")
    })?;
    toml::from_str(&text).map_err(|error| {
        let problem = error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ");
        ConfigError::new(&place, problem, "correct the file at that line")
    })
}

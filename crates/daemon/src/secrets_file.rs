//! A file of secrets by name, for programs whose number of secrets is not known when they start: one TOML table for each
//! name. Owns reading one and replacing one safely. Does not know what any of them is for.

use crate::{ConfigError, Secret};
use secrecy::ExposeSecret;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

/// Where the file is. It is read anew for each secret, so that what another process replaced is seen.
#[derive(Debug, Clone)]
pub struct SecretsFile {
    path: PathBuf,
}

impl SecretsFile {
    /// Nothing is read yet.
    #[must_use]
    pub const fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The value of `key` in the table `[name]`.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, the table and the key; never prints a value.
    pub fn read(&self, name: &str, key: &str) -> Result<Secret, ConfigError> {
        let value = self.table()?.get(name).and_then(|table| table.get(key)?.as_str().map(str::to_owned));
        value.filter(|value| !value.is_empty()).map(Secret::from).ok_or_else(|| {
            ConfigError::new(
                self.place(),
                format!("[{name}] has no {key}"),
                format!("add the table [{name}] with the key {key} to it"),
            )
        })
    }

    /// Puts a new value in the place of an old one: written beside the file, brought to disk and put in its place, so
    /// that a crash leaves the one or the other, whole. One at a time, whichever process does it.
    ///
    /// # Errors
    /// The file system's, or the file is not one of secrets.
    pub fn replace(&self, name: &str, key: &str, value: &Secret) -> io::Result<()> {
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(self.beside("lock"))?;
        lock.lock()?;
        let mut file = self.table().map_err(io::Error::other)?;
        let table = file.entry(name).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let table = table.as_table_mut().ok_or_else(|| io::Error::other(format!("{name} is no table")))?;
        table.insert(key.to_owned(), toml::Value::String(value.expose_secret().to_owned()));
        let text = toml::to_string(&file).map_err(io::Error::other)?;
        let fresh = self.beside("new");
        let mut out = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&fresh)?;
        out.write_all(text.as_bytes())?;
        out.sync_all()?;
        std::fs::rename(&fresh, &self.path)?;
        match self.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    }

    fn beside(&self, extension: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{extension}"));
        path.into()
    }

    fn place(&self) -> String {
        format!("secrets file {}", self.path.display())
    }

    fn table(&self) -> Result<toml::Table, ConfigError> {
        let text = std::fs::read_to_string(&self.path).map_err(|error| {
            ConfigError::new(self.place(), format!("cannot be read: {error}"), "make it, readable by this program only")
        })?;
        // The parser's message shows the line, which holds a secret.
        text.parse()
            .map_err(|_| ConfigError::new(self.place(), "is not TOML", "correct it: [name], then key = \"value\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_secret_is_read_and_the_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secrets.toml");
        std::fs::write(&path, "[a]\none = \"1\"\ntwo = \"2\"\n[b]\none = \"3\"\n").unwrap();
        let file = SecretsFile::at(path.clone());
        file.replace("a", "two", &Secret::from("new \"2\"")).unwrap();
        let read = |name, key| file.read(name, key).unwrap().expose_secret().to_owned();
        assert_eq!(
            (read("a", "one"), read("a", "two"), read("b", "one")),
            ("1".into(), "new \"2\"".into(), "3".into())
        );
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secrets.toml");
        let file = SecretsFile::at(path.clone());
        assert!(file.read("a", "one").unwrap_err().to_string().contains("cannot be read"));
        std::fs::write(&path, "[a]\none = hush").unwrap();
        assert!(!file.read("a", "one").unwrap_err().to_string().contains("hush"));
        std::fs::write(&path, "[a]\ntwo = \"x\"").unwrap();
        assert!(file.read("a", "one").unwrap_err().to_string().contains("[a] has no one"));
    }
}

//! Master keys in a file: a line for each, its number and 64 hexadecimal digits; the greatest number is in use.
//! Owns reading it and adding a key to it safely. Does not own what is wrapped by them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
};

use zeroize::Zeroizing;

use crate::{
    VaultError,
    seal::{KEY_BYTES, Key, KeyBytes, random_key},
};

/// What starts a new file.
const HEAD: &str = "# Master keys: they wrap the keys that seal customers' credentials. Whoever has this file and the\n\
                    # database can read them; whoever loses it, nobody can. `servantctl keys list` says which are in use.\n";
const MAKE: &str = "make one with `servantctl keys generate`, or copy the file that the other programs use";

/// The file. It is read anew for each use: uses are rare (what they unwrap is kept for minutes), and keys that were added
/// meanwhile are seen.
#[derive(Debug, Clone)]
pub(crate) struct KeysFile {
    path: PathBuf,
}

impl KeysFile {
    pub(crate) const fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The number of the key in use.
    pub(crate) fn newest(&self) -> Result<u32, VaultError> {
        self.read()?.last_key_value().map(|(number, _)| *number).ok_or_else(|| self.missing("holds no key"))
    }

    pub(crate) fn key(&self, number: u32) -> Result<Key, VaultError> {
        match self.read()?.get(&number) {
            Some(bytes) => Key::new(bytes),
            None => Err(self.missing(&format!("has no key {number}"))),
        }
    }

    /// Adds a key, in a file that is made if there is none, and answers with its number. One at a time, whichever process
    /// does it; a crash leaves the old file or the new one, whole.
    pub(crate) fn add(&self) -> Result<u32, VaultError> {
        let failed = |error: io::Error| {
            VaultError::no_master(
                format!("the master keys' file {} cannot be written: {error}", self.path.display()),
                "correct its path or its directory's permissions",
            )
        };
        if let Some(parent) = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        let lock = self.create(self.beside("lock"), false).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let (mut text, newest) = match self.path.try_exists().map_err(failed)? {
            true => (self.text()?, self.read()?.last_key_value().map_or(0, |(number, _)| *number)),
            false => (Zeroizing::new(HEAD.to_owned()), 0),
        };
        let number = newest.checked_add(1).ok_or_else(|| self.missing("has no room for another key"))?;
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&format!("{number} "));
        for byte in random_key()?.iter() {
            // Writing to a text does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
        let fresh = self.beside("new");
        let mut file = self.create(fresh.clone(), true).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&fresh, &self.path).map_err(failed)?;
        if let Some(parent) = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
        }
        Ok(number)
    }

    fn create(&self, path: PathBuf, truncate: bool) -> io::Result<File> {
        OpenOptions::new().create(true).truncate(truncate).write(true).mode(0o600).open(path)
    }

    fn beside(&self, extension: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{extension}"));
        path.into()
    }

    fn text(&self) -> Result<Zeroizing<String>, VaultError> {
        std::fs::read_to_string(&self.path)
            .map(Zeroizing::new)
            .map_err(|error| self.missing(&format!("cannot be read: {error}")))
    }

    fn read(&self) -> Result<BTreeMap<u32, KeyBytes>, VaultError> {
        let text = self.text()?;
        let mut keys = BTreeMap::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parsed = line.split_once(' ').and_then(|(number, key)| Some((number.parse().ok()?, hex(key.trim())?)));
            // The line holds a key and is not shown.
            let (number, key) = parsed.ok_or_else(|| {
                self.missing(&format!("line {} is not a number and {} hexadecimal digits", at + 1, KEY_BYTES * 2))
            })?;
            if keys.insert(number, key).is_some() {
                return Err(self.missing(&format!("key {number} is there twice")));
            }
        }
        Ok(keys)
    }

    fn missing(&self, problem: &str) -> VaultError {
        VaultError::no_master(format!("the master keys' file {}: {problem}", self.path.display()), MAKE)
    }
}

fn hex(text: &str) -> Option<KeyBytes> {
    if text.len() != KEY_BYTES * 2 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = KeyBytes::default();
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn keys_are_added_and_the_old_ones_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/master.keys");
        let file = KeysFile::at(path.clone());
        assert!(file.newest().unwrap_err().to_string().contains("servantctl keys generate"));
        assert_eq!(file.add().unwrap(), 1);
        let sealed = file.key(1).unwrap().encrypt(b"x", b"text").unwrap();
        assert_eq!((file.add().unwrap(), file.newest().unwrap()), (2, 2));
        assert_eq!(&**file.key(1).unwrap().decrypt(b"x", &sealed, "it").unwrap(), b"text");
        assert!(file.key(2).unwrap().decrypt(b"x", &sealed, "it").is_err(), "another key");
        assert!(file.key(3).is_err());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("# Master keys"));
    }

    #[test]
    fn a_broken_file_is_refused_and_nothing_of_it_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.keys");
        let good = "ab".repeat(KEY_BYTES);
        for text in [
            "1 beef".to_owned(),
            good.clone(),
            format!("x {good}"),
            format!("1 {good}\n1 {good}"),
            format!("1 {}", "ü".repeat(KEY_BYTES)),
            format!("-1 {good}"),
        ] {
            std::fs::write(&path, &text).unwrap();
            let error = KeysFile::at(path.clone()).newest().unwrap_err().to_string();
            assert!(!error.contains("beef") && !error.contains("abab"), "{error}");
        }
        std::fs::write(&path, format!("# a note\n\n 7 {good} \n")).unwrap();
        assert_eq!(KeysFile::at(path).newest().unwrap(), 7);
    }
}

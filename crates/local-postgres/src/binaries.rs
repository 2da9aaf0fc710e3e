//! Owns the search for the PostgreSQL binaries of this machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::download;
use crate::error::Error;

/// The directory that holds `initdb` and `postgres`: the variable `SERVANT_PG_BIN`, else `PATH`,
/// else where packages put them (newest first), else fetched.
pub(crate) fn find() -> Result<PathBuf, Error> {
    find_by(std::env::var_os("SERVANT_PG_BIN"))
}

fn find_by(named: Option<OsString>) -> Result<PathBuf, Error> {
    if let Some(named) = named {
        let named = PathBuf::from(named);
        if is_complete(&named) {
            return Ok(named);
        }
        let reasons = format!("SERVANT_PG_BIN is {}, which lacks initdb or postgres", named.display());
        return Err(Error::NoBinaries { reasons });
    }
    match on_path().or_else(packaged) {
        Some(directory) => Ok(directory),
        None => download::fetch(),
    }
}

/// Whether the directory holds both programs.
pub(crate) fn is_complete(directory: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| directory.join(program).is_file())
}

/// `PATH` often holds links to some of the programs only: what they point at has them all.
fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find_map(|directory| {
        ["postgres", "initdb", "pg_ctl"].iter().find_map(|program| {
            let real = directory.join(program).canonicalize().ok()?;
            let parent = real.parent()?;
            is_complete(parent).then(|| parent.to_owned())
        })
    })
}

fn packaged() -> Option<PathBuf> {
    // Parent, what the names in it start with, and where the programs are below.
    let layouts = [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/opt/homebrew/opt", "postgresql@", "bin"),
        ("/usr/local/opt", "postgresql@", "bin"),
    ];
    let mut found: Vec<(u32, PathBuf)> = layouts
        .iter()
        .flat_map(|(parent, prefix, below)| {
            let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
            entries.filter_map(move |entry| {
                let name = entry.file_name().into_string().ok()?;
                let major = name.strip_prefix(prefix)?.parse().ok()?;
                let directory = entry.path().join(below);
                is_complete(&directory).then_some((major, directory))
            })
        })
        .collect();
    found.sort();
    found.pop().map(|(_, directory)| directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_them_is_refused_with_the_way_out() {
        let empty = tempfile::tempdir().unwrap();
        let error = find_by(Some(empty.path().into())).unwrap_err().to_string();
        let place = format!("SERVANT_PG_BIN is {}, which lacks initdb or postgres", empty.path().display());
        for words in [place.as_str(), "apt-get install postgresql", "set DATABASE_URL to a running server"] {
            assert!(error.contains(words), "{words}: {error}");
        }
    }
}

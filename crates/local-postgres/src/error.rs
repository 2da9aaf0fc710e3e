//! Owns the reasons why there is no local server, each with its way out.

use std::path::{Path, PathBuf};

/// Why the server cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There are no binaries on this machine and none could be fetched.
    #[error(
        "PostgreSQL was not found on this machine and could not be fetched ({reasons}); install it \
         (Debian: apt-get install postgresql; Fedora: dnf install postgresql-server; macOS: \
         brew install postgresql), or set DATABASE_URL to a running server, or SERVANT_PG_BIN to \
         the directory that holds initdb and postgres"
    )]
    NoBinaries {
        /// What was tried, and why it failed.
        reasons: String,
    },
    /// PostgreSQL refuses root, and there is no account to run it as.
    #[error(
        "PostgreSQL refuses to run as root and there is neither an account postgres nor nobody; add one, or do not run as root"
    )]
    NoAccount,
    /// Another server runs on the directory.
    #[error("a PostgreSQL server with pid {pid} already runs on {}; stop it first", directory.display())]
    AlreadyRunning {
        /// The process that runs there.
        pid: u32,
        /// The data directory.
        directory: PathBuf,
    },
    /// The directory holds something that is no PostgreSQL cluster, or belongs to someone else.
    #[error("{} {problem}; name an empty or a new directory", directory.display())]
    UnfitDirectory {
        /// The directory.
        directory: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A file or a directory could not be read or written.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A program failed.
    #[error("{program} failed: {output}")]
    Program {
        /// Which.
        program: String,
        /// The end of what it said.
        output: String,
    },
    /// The server ended, or did not become ready in time.
    #[error("PostgreSQL did not start on {}: {log}", directory.display())]
    NotStarted {
        /// The data directory.
        directory: PathBuf,
        /// The end of its log.
        log: String,
    },
    /// The server refused a statement.
    #[error("PostgreSQL refused a statement: {message}")]
    Refused {
        /// Its words.
        message: String,
    },
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}

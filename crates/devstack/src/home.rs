//! Owns where a run keeps its things: `.servant` beside the sources, or a directory that vanishes with the run.

use anyhow::Context;
use std::{
    fs::{OpenOptions, Permissions},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The file that says where the database keeps its data.
const DATA_NOTE: &str = "postgres.directory";

/// The directories of one run.
#[derive(Debug)]
pub(crate) struct Home {
    /// The sources: configuration and programs.
    pub(crate) root: PathBuf,
    /// Where the children run; paths in the configuration are relative to it.
    pub(crate) work: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl Home {
    /// Finds the sources and makes `.servant`: in `chosen`, else beside them.
    pub(crate) fn open(chosen: Option<&Path>, is_temporary: bool, is_fresh: bool) -> anyhow::Result<Self> {
        let root = root()?;
        let chosen = chosen.map(std::path::absolute).transpose()?;
        let temporary = if is_temporary {
            let temporary = tempfile::Builder::new().prefix("servant-up-").tempdir()?;
            // The database's account must be able to pass through; what is secret has modes of its own.
            std::fs::set_permissions(temporary.path(), Permissions::from_mode(0o711))?;
            Some(temporary)
        } else {
            None
        };
        let kept = || chosen.unwrap_or_else(|| root.clone());
        let work = temporary.as_ref().map_or_else(kept, |directory| directory.path().to_owned());
        let home = Self { root, work, temporary };
        if is_fresh && !home.is_temporary() && home.state().exists() {
            home.forget_data()?;
            std::fs::remove_dir_all(home.state())
                .with_context(|| format!("{} cannot be deleted; delete it by hand", home.state().display()))?;
        }
        std::fs::create_dir_all(home.logs()).with_context(|| {
            format!("{} cannot be made; run from a clone that you may write to", home.logs().display())
        })?;
        Ok(home)
    }

    /// Whether everything vanishes with the run.
    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.work.join(".servant")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.state().join("logs")
    }

    /// A shipped configuration file.
    pub(crate) fn config(&self, name: &str) -> PathBuf {
        self.root.join("config").join(name)
    }

    /// Notes where the database keeps its data: not in `.servant` when its account cannot reach that.
    pub(crate) fn remember_data(&self, data: &Path) -> anyhow::Result<()> {
        let note = self.state().join(DATA_NOTE);
        std::fs::write(&note, data.as_os_str().as_encoded_bytes()).with_context(|| note.display().to_string())
    }

    /// Deletes data that a run before kept elsewhere.
    fn forget_data(&self) -> anyhow::Result<()> {
        let noted = std::fs::read_to_string(self.state().join(DATA_NOTE)).unwrap_or_default();
        let data = Path::new(&noted);
        // Only what is a database's directory is deleted, whatever the note says.
        if data.is_absolute() && data.join("PG_VERSION").is_file() {
            anyhow::ensure!(
                !is_running(data),
                "a database still runs on {}; stop the other cargo up first",
                data.display()
            );
            std::fs::remove_dir_all(data)
                .with_context(|| format!("{} cannot be deleted; delete it by hand", data.display()))?;
        }
        Ok(())
    }

    /// Keeps the directory of a failed run for a look at its logs.
    pub(crate) fn keep(&mut self) {
        if let Some(directory) = self.temporary.take() {
            let kept = directory.keep();
            eprintln!("the logs of this run are kept in {}", kept.join(".servant/logs").display());
        }
    }

    /// Writes a file that only its owner may read.
    pub(crate) fn write_secret(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.state().join(name);
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        Ok(())
    }
}

/// Whether the process that the database's lock names is alive; a lock that a crash left is none.
fn is_running(data: &Path) -> bool {
    let lock = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let pid = lock.lines().next().and_then(|line| line.trim().parse::<u32>().ok());
    pid.is_some_and(|pid| {
        let asked = std::process::Command::new("/bin/sh").args(["-c", &format!("kill -0 {pid} 2>/dev/null")]).status();
        asked.is_ok_and(|status| status.success())
    })
}

/// The directory at or above this one that holds the configuration; else the one that this program was built from.
fn root() -> anyhow::Result<PathBuf> {
    let is_root = |path: &Path| path.join("config/jobs.toml").is_file() && path.join("Cargo.toml").is_file();
    let here = std::env::current_dir()?;
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    here.ancestors()
        .chain([built.as_path()])
        .find(|path| is_root(path))
        .context("config/jobs.toml is not found; run this inside the clone")?
        .canonicalize()
        .context("the clone's directory")
}

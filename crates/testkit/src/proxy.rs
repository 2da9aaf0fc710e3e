//! A wire that a test can cut: a TCP proxy in front of any server, a Unix socket's included.
//! Knows no protocol: it passes bytes on, late or not at all.

use std::net::SocketAddr;
use std::path::PathBuf;
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
    mode: watch::Sender<Mode>,
    /// Rises when all connections are to be cut.
    cuts: watch::Sender<u64>,
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
        let (mode, modes) = watch::channel(Mode::Forward { delay: Duration::ZERO });
        let (cuts, cut) = watch::channel(0);
        let accepting = tokio::spawn(accept(listener, target, modes, cut));
        Ok(Self { address, mode, cuts, accepting })
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
        self.mode.send_replace(Mode::Forward { delay });
    }

    /// Cuts what is open; new connections are taken as before.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts what is open and closes new connections at once, until [`Self::forward`].
    pub fn refuse(&self) {
        self.mode.send_replace(Mode::Refuse);
        self.cut();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, target: Target, modes: watch::Receiver<Mode>, cut: watch::Receiver<u64>) {
    while let Ok((client, _)) = listener.accept().await {
        if *modes.borrow() == Mode::Refuse {
            continue;
        }
        let (target, modes, mut cut) = (target.clone(), modes.clone(), cut.clone());
        cut.mark_unchanged();
        tokio::spawn(async move {
            tokio::select! {
                _ = cut.changed() => {}
                () = connect(client, target, modes) => {}
            }
        });
    }
}

async fn connect(client: TcpStream, target: Target, modes: watch::Receiver<Mode>) {
    match target {
        Target::Tcp(address) => {
            if let Ok(server) = TcpStream::connect(address).await {
                join(client, server, modes).await;
            }
        }
        Target::Unix(socket) => {
            if let Ok(server) = UnixStream::connect(socket).await {
                join(client, server, modes).await;
            }
        }
    }
}

async fn join(client: TcpStream, server: impl AsyncRead + AsyncWrite, modes: watch::Receiver<Mode>) {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    tokio::select! {
        () = pass(from_client, to_server, modes.clone()) => {}
        () = pass(from_server, to_client, modes) => {}
    }
}

async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, modes: watch::Receiver<Mode>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        let mode = *modes.borrow();
        if let Mode::Forward { delay } = mode
            && !delay.is_zero()
        {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
}

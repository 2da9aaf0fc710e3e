//! A wire to PostgreSQL that knows a COMMIT when it sees one, and holds everything up there: before the server has it, or
//! after the server has done it and before its client knows. Does not own what happens to the client then.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};

/// A simple query that says COMMIT (PostgreSQL, "Message Formats").
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
const CHUNK_BYTES: usize = 64 * 1024;

/// On which side of a commit everything is held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// It does not happen.
    Before,
    /// It happens, and nobody is told.
    After,
}

/// Which commit, counted from 1 over all connections of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Boundary {
    pub(crate) commit: u64,
    pub(crate) side: Side,
}

struct Shared {
    server: SocketAddr,
    at: Option<Boundary>,
    commits: AtomicU64,
    reached: Notify,
}

/// The wire; dropped, no new connections are taken.
pub(crate) struct Tap {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Tap {
    /// To a server; holds everything up at `at`, if that comes.
    pub(crate) async fn to(server: SocketAddr, at: Option<Boundary>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { server, at, commits: AtomicU64::new(0), reached: Notify::new() });
        let accepted = shared.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(join(client, accepted.clone()));
            }
        });
        Self { address, shared, accepting }
    }

    /// Waits until everything is held up.
    pub(crate) async fn reached(&self) {
        self.shared.reached.notified().await;
    }

    /// Commits so far.
    pub(crate) fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::SeqCst)
    }
}

async fn join(client: TcpStream, shared: Arc<Shared>) {
    let Ok(server) = TcpStream::connect(shared.server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let is_held = Arc::new(AtomicU64::new(0));
    let (held, told) = (is_held.clone(), shared.clone());
    let answers = async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(read @ 1..) = from_server.read(&mut chunk).await {
            if held.load(Ordering::SeqCst) > 0 {
                // The server's answer to the COMMIT: it is done.
                told.reached.notify_one();
                std::future::pending::<()>().await;
            }
            if to_client.write_all(&chunk[..read]).await.is_err() {
                return;
            }
        }
    };
    let requests = async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(read @ 1..) = from_client.read(&mut chunk).await {
            let commits = chunk[..read].windows(COMMIT.len()).filter(|part| *part == COMMIT).count() as u64;
            let before = shared.commits.fetch_add(commits, Ordering::SeqCst);
            match shared.at.filter(|at| at.commit > before && at.commit <= before + commits) {
                Some(Boundary { side: Side::Before, .. }) => {
                    shared.reached.notify_one();
                    // Once its client is killed the server hears of it, as it would without a tap, and rolls back.
                    while let Ok(1..) = from_client.read(&mut chunk).await {}
                    return;
                }
                Some(Boundary { side: Side::After, .. }) => is_held.store(1, Ordering::SeqCst),
                None => {}
            }
            if to_server.write_all(&chunk[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = answers => {}
        () = requests => {}
    }
}

//! A page on disk between the vendor and the ledger: it is received whole before its transaction begins, since no
//! transaction stays open across someone else's network, and it is larger than memory should be. The file has no name, so
//! that nothing of it is left whatever becomes of the process. Does not own what is in it.

use std::{
    fs::File,
    io::{self, Seek as _, Write as _},
    mem,
    sync::Arc,
};
use tokio::task::spawn_blocking;

/// Bytes that are written at once: each write is a hop to another thread and back.
const WRITE_BYTES: usize = 1024 * 1024;
/// What the last bytes before a write may add without its buffer having to grow.
const ROOM_BYTES: usize = 256 * 1024;

/// A page that is being received.
#[derive(Debug)]
pub struct Spool {
    /// Shared with the write that runs, if any.
    file: Arc<File>,
    unwritten: Vec<u8>,
    bytes: u64,
}

impl Spool {
    /// An empty one, in the system's directory for temporary files.
    ///
    /// # Errors
    /// There is no room, or no leave.
    pub async fn new() -> io::Result<Self> {
        let file = spawn_blocking(tempfile::tempfile).await.map_err(io::Error::other)??;
        Ok(Self { file: Arc::new(file), unwritten: Vec::with_capacity(WRITE_BYTES + ROOM_BYTES), bytes: 0 })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// There is no room; the page is of no more use then.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.unwritten.extend_from_slice(bytes);
        self.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if self.unwritten.len() >= WRITE_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> io::Result<()> {
        let (file, mut unwritten) = (self.file.clone(), mem::take(&mut self.unwritten));
        let written = spawn_blocking(move || {
            (&*file).write_all(&unwritten)?;
            unwritten.clear();
            io::Result::Ok(unwritten)
        });
        self.unwritten = written.await.map_err(io::Error::other)??;
        Ok(())
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The page, to be read from its beginning.
    ///
    /// # Errors
    /// What was written last could not be.
    pub async fn finish(mut self) -> io::Result<File> {
        self.flush().await?;
        let mut file = Arc::into_inner(self.file).ok_or_else(|| io::Error::other("a write has not ended"))?;
        file.rewind()?;
        Ok(file)
    }
}

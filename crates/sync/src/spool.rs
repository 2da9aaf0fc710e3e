//! A page on disk between the vendor and the ledger: it is received whole before its transaction begins, since no
//! transaction stays open across someone else's network, and it is larger than memory should be. The file has no name, so
//! that nothing of it is left whatever becomes of the process. Does not own what is in it.

use std::{fs::File, io, io::Seek as _};
use tokio::io::AsyncWriteExt as _;

/// Bytes that are written at once.
const WRITE_BYTES: usize = 1024 * 1024;

/// A page that is being received.
#[derive(Debug)]
pub struct Spool {
    file: tokio::fs::File,
    bytes: u64,
}

impl Spool {
    /// An empty one, in the system's directory for temporary files.
    ///
    /// # Errors
    /// There is no room, or no leave.
    pub async fn new() -> io::Result<Self> {
        let file = tokio::task::spawn_blocking(tempfile::tempfile).await.map_err(io::Error::other)??;
        let mut file = tokio::fs::File::from_std(file);
        file.set_max_buf_size(WRITE_BYTES);
        Ok(Self { file, bytes: 0 })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// There is no room.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).await?;
        self.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
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
        self.file.flush().await?;
        let mut file = self.file.into_std().await;
        file.rewind()?;
        Ok(file)
    }
}

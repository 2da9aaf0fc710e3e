//! Owns the few messages of PostgreSQL's protocol that making a database needs: neither `psql`
//! nor a driver has to be there.

use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::error::Error;

/// Protocol 3.0.
const VERSION: i32 = 196_608;
/// Longer than any answer to the statements here.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Runs one statement as `postgres` in the database `postgres`; an error of the server is given
/// as its SQLSTATE and text.
pub(crate) async fn execute(socket: &Path, statement: &str) -> Result<Result<(), (String, String)>, Error> {
    talk(socket, statement).await.map_err(Error::file(socket))
}

async fn talk(socket: &Path, statement: &str) -> std::io::Result<Result<(), (String, String)>> {
    let mut stream = UnixStream::connect(socket).await?;
    let mut startup = VERSION.to_be_bytes().to_vec();
    startup.extend_from_slice(b"user\0postgres\0database\0postgres\0\0");
    stream.write_all(&framed(None, &startup)).await?;
    let outcome = until_ready(&mut stream).await?;
    if outcome.is_err() {
        return Ok(outcome);
    }
    let mut query = statement.as_bytes().to_vec();
    query.push(0);
    stream.write_all(&framed(Some(b'Q'), &query)).await?;
    let outcome = until_ready(&mut stream).await?;
    stream.write_all(&framed(Some(b'X'), &[])).await?;
    Ok(outcome)
}

fn framed(kind: Option<u8>, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    kind.into_iter().chain(length.to_be_bytes()).chain(body.iter().copied()).collect()
}

/// Reads until the server is ready for a query; an error before that ends the connection.
async fn until_ready(stream: &mut UnixStream) -> std::io::Result<Result<(), (String, String)>> {
    let mut outcome = Ok(());
    loop {
        let kind = match stream.read_u8().await {
            Ok(kind) => kind,
            Err(_) if outcome.is_err() => return Ok(outcome),
            Err(error) => return Err(error),
        };
        let length = stream.read_u32().await? as usize;
        if !(4..=MESSAGE_BYTES_MAX).contains(&length) {
            return Err(std::io::Error::other("an answer of impossible length"));
        }
        let mut body = vec![0; length - 4];
        stream.read_exact(&mut body).await?;
        match kind {
            b'Z' => return Ok(outcome),
            b'E' => {
                let part = |code: u8| {
                    let found = body.split(|byte| *byte == 0).find(|part| part.first() == Some(&code));
                    found.map(|part| String::from_utf8_lossy(&part[1..]).into_owned()).unwrap_or_default()
                };
                outcome = Err((part(b'C'), part(b'M')));
            }
            _ => {}
        }
    }
}

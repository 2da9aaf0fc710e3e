//! Owns the connections of the simulated Salesforce: plain or in TLS, and broken below HTTP on request.
//! Does not own what is said on them, nor which answer is broken.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Duration, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

const HANDSHAKE_SECS_MAX: u64 = 10;

/// How the next answer on a connection breaks.
#[derive(Debug)]
enum Plan {
    /// The connection is reset once that many bytes are written.
    Reset { after: u64, written: u64 },
    /// Everything written is written once more as soon as the head and a body of that length are through.
    Twice { body: usize, copy: Vec<u8> },
}

/// Orders a connection's failure from within a request on it.
#[derive(Clone, Debug, Default)]
pub(super) struct Line(Arc<Armed>);

#[derive(Debug, Default)]
struct Armed {
    is_armed: AtomicBool,
    plan: Mutex<Option<Plan>>,
}

impl Line {
    /// Resets the connection once `after` more bytes are written.
    pub(super) fn reset(&self, after: u64) {
        self.arm(Plan::Reset { after, written: 0 });
    }

    /// Sends the next answer twice; its body has `body` bytes.
    pub(super) fn twice(&self, body: usize) {
        self.arm(Plan::Twice { body, copy: Vec::new() });
    }

    fn arm(&self, plan: Plan) {
        *self.0.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(plan);
        self.0.is_armed.store(true, Ordering::Release);
    }

    /// What becomes of `bytes` about to be written.
    fn look(&self, bytes: &[u8]) -> Verdict {
        match self.0.plan.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(Plan::Reset { after, written }) => {
                let left = usize::try_from(after - written).unwrap_or(usize::MAX);
                if left == 0 { Verdict::Reset } else { Verdict::Write(left.min(bytes.len())) }
            }
            Some(Plan::Twice { .. }) | None => Verdict::Write(bytes.len()),
        }
    }

    /// Takes note of what was written; answers what is to be written again.
    fn wrote(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut plan = self.0.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let is_whole = match plan.as_mut()? {
            Plan::Reset { written, .. } => {
                *written += bytes.len() as u64;
                false
            }
            Plan::Twice { body, copy } => {
                copy.extend_from_slice(bytes);
                let head = copy.windows(4).position(|part| part == b"\r\n\r\n");
                head.is_some_and(|head| copy.len() >= head + 4 + *body)
            }
        };
        if !is_whole {
            return None;
        }
        self.0.is_armed.store(false, Ordering::Release);
        match plan.take() {
            Some(Plan::Twice { copy, .. }) => Some(copy),
            _ => None,
        }
    }
}

enum Verdict {
    Write(usize),
    Reset,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection.
pub(super) struct Wire {
    stream: Stream,
    line: Line,
    /// A second copy of an answer on its way out.
    again: Vec<u8>,
}

impl Wire {
    fn new(stream: Stream) -> Self {
        Self { stream, line: Line::default(), again: Vec::new() }
    }

    fn tcp(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => tls.get_ref().0,
        }
    }

    fn write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Stream::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    fn write_again(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.again.is_empty() {
            let again = std::mem::take(&mut self.again);
            let written = self.write(context, &again);
            self.again = again;
            let written = ready!(written)?;
            self.again.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Stream::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.write_again(context))?;
        if !this.line.0.is_armed.load(Ordering::Acquire) {
            return this.write(context, bytes);
        }
        match this.line.look(bytes) {
            Verdict::Write(most) => {
                let written = ready!(this.write(context, &bytes[..most]))?;
                this.again = this.line.wrote(&bytes[..written]).unwrap_or_default();
                Poll::Ready(Ok(written))
            }
            Verdict::Reset => {
                // What TLS still holds goes out first; then closing sends a reset instead of an end.
                if let Stream::Tls(tls) = &mut this.stream {
                    ready!(Pin::new(tls).poll_flush(context))?;
                }
                this.tcp().set_zero_linger()?;
                Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, "reset on request")))
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.again.is_empty() && !this.line.0.is_armed.load(Ordering::Acquire) {
            return match &mut this.stream {
                Stream::Plain(tcp) => Pin::new(tcp).poll_write_vectored(context, parts),
                Stream::Tls(tls) => Pin::new(tls).poll_write_vectored(context, parts),
            };
        }
        let first = parts.iter().find(|part| !part.is_empty()).map_or(&[][..], |part| part);
        Pin::new(this).poll_write(context, first)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(tcp) => tcp.is_write_vectored(),
            Stream::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.write_again(context))?;
        match &mut this.stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_flush(context),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(tcp) => Pin::new(tcp).poll_shutdown(context),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }
}

/// Takes connections, and shakes hands for TLS on the side, so that a slow client does not hold up the others.
pub(super) struct WireListener {
    tcp: TcpListener,
    tls: Option<TlsAcceptor>,
    handshakes: JoinSet<Option<(Wire, SocketAddr)>>,
}

impl WireListener {
    pub(super) fn new(tcp: TcpListener, tls: Option<TlsAcceptor>) -> Self {
        Self { tcp, tls, handshakes: JoinSet::new() }
    }
}

async fn shake(tls: TlsAcceptor, tcp: TcpStream, peer: SocketAddr) -> Option<(Wire, SocketAddr)> {
    match timeout(Duration::from_secs(HANDSHAKE_SECS_MAX), tls.accept(tcp)).await {
        Ok(Ok(stream)) => Some((Wire::new(Stream::Tls(Box::new(stream))), peer)),
        Ok(Err(error)) => {
            tracing::debug!(%error, "no handshake with a client");
            None
        }
        Err(_) => None,
    }
}

impl Listener for WireListener {
    type Io = Wire;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Wire, SocketAddr) {
        loop {
            tokio::select! {
                accepted = self.tcp.accept() => match accepted {
                    Ok((tcp, peer)) => {
                        // Small answers must not wait for an acknowledgement.
                        drop(tcp.set_nodelay(true));
                        match &self.tls {
                            None => return (Wire::new(Stream::Plain(tcp)), peer),
                            Some(tls) => drop(self.handshakes.spawn(shake(tls.clone(), tcp, peer))),
                        }
                    }
                    // Out of descriptors, mostly: the next try would fail at once as well.
                    Err(_) => sleep(Duration::from_millis(50)).await,
                },
                Some(shaken) = self.handshakes.join_next(), if !self.handshakes.is_empty() => {
                    if let Ok(Some(connection)) = shaken {
                        return connection;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl Connected<IncomingStream<'_, WireListener>> for Line {
    fn connect_info(stream: IncomingStream<'_, WireListener>) -> Self {
        stream.io().line.clone()
    }
}

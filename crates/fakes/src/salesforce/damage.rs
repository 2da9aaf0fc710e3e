//! Owns what ordered failures do to an answer on its way out: cut, stalled, dripped, compressed wrongly, sent twice.
//! Does not own which answer is hit, nor the connection below.

use std::{io, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Response, header},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tokio::time::sleep;

use super::{
    fault::{Fault, Strike},
    wire::Line,
};

/// Longer than any client waits.
const STALL_MS_DEFAULT: u64 = 600_000;
const DRIP_MS_DEFAULT: u64 = 2_000;
const DRIPS_MAX: usize = 64;

/// Closes the connection without an answer. Unwinding is the only way out of a handler that leaves the socket without
/// one; it is not a panic, so nothing is printed.
pub(super) fn cut_connection() -> ! {
    std::panic::resume_unwind(Box::new("the connection was cut on request"))
}

/// Puts `body` into `answer` as the failure has it, or whole.
pub(super) fn fill(answer: &mut Response<Body>, body: Vec<u8>, order: Option<&Strike>, line: &Line) {
    let length = body.len();
    let Some(order) = order else {
        *answer.body_mut() = Body::from(body);
        return;
    };
    let cut_at = share(length, order.percent());
    let part = |most: usize| Bytes::copy_from_slice(&body[..most]);
    *answer.body_mut() = match order.fault {
        Fault::CutBody => sent_first(part(cut_at), Some(cut())),
        Fault::ResetConnection => {
            line.reset(0);
            Body::from(body)
        }
        Fault::ResetBody => {
            line.reset(cut_at as u64 + 1);
            Body::from(body)
        }
        Fault::TruncatedGzip => Body::from(part(cut_at)),
        Fault::WrongContentLength => {
            let claimed = if order.coin() { cut_at } else { length + 1 + cut_at };
            answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(claimed));
            // A stream does not tell its length, so that nothing on the way sees the lie.
            sent_first(part(length), None)
        }
        Fault::Stall => {
            answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            let stalled = Duration::from_millis(if order.ms == 0 { STALL_MS_DEFAULT } else { order.ms });
            let end = stream::once(async move {
                sleep(stalled).await;
                Err(cut())
            });
            streamed(stream::iter([Ok(part(cut_at))]).chain(end))
        }
        Fault::Drip => {
            answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            drip(body, if order.ms == 0 { DRIP_MS_DEFAULT } else { order.ms })
        }
        Fault::DuplicateReply => {
            line.twice(length);
            Body::from(body)
        }
        _ => Body::from(body),
    };
}

fn share(length: usize, percent: u64) -> usize {
    usize::try_from(length as u64 * percent / 100).unwrap_or(length)
}

fn cut() -> io::Error {
    io::Error::other("the body was cut on request")
}

fn streamed(parts: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    Body::from_stream(parts)
}

/// What is there goes out before the end or the failure: without a pause between, hyper drops it.
fn sent_first(part: Bytes, failure: Option<io::Error>) -> Body {
    let end = stream::once(async move {
        tokio::task::yield_now().await;
        failure
    });
    streamed(stream::iter([Ok(part)]).chain(end.filter_map(|failure| async move { failure.map(Err) })))
}

fn drip(body: Vec<u8>, ms: u64) -> Body {
    let size = body.len().div_ceil(DRIPS_MAX).max(1);
    let pieces: Vec<Bytes> = body.chunks(size).map(Bytes::copy_from_slice).collect();
    let pause = Duration::from_millis(ms / pieces.len().max(1) as u64);
    streamed(stream::iter(pieces).then(move |piece| async move {
        sleep(pause).await;
        Ok(piece)
    }))
}

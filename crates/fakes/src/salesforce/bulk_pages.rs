//! Owns the pages of a bulk result: locators, the list of pages, and the rows as a stream of constant memory.
//! Does not own the jobs, nor how one row is written.

use std::{
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use tokio::sync::mpsc;

use super::{
    bulk::Job,
    fault::Fault,
    reply::Refusal,
    resources::{Ask, Content, Reply},
    service::Service,
};

/// So many pages are listed in one call.
const PAGES_PER_CALL: usize = 5;
/// The oldest version that lists pages.
const PAGES_SINCE_VERSION: u32 = 58;
/// Rows are sent in pieces of about this size.
const CHUNK_BYTES: usize = 256 * 1_024;
/// So many pieces wait for the client.
const CHUNKS_MAX: usize = 4;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The locator of the page that begins at `offset`: base64 of the number, as the vendor's examples look.
fn locator(offset: usize) -> String {
    let digits = offset.to_string();
    let mut text = String::new();
    for chunk in digits.as_bytes().chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, at| bits << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        for at in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize]));
        }
    }
    text
}

/// Where the page of a locator begins.
fn offset(locator: &str) -> Option<usize> {
    let (mut bits, mut held, mut digits) = (0_u32, 0, String::new());
    for byte in locator.bytes() {
        let place = ALPHABET.iter().position(|known| *known == byte)?;
        bits = (bits << 6 | u32::try_from(place).ok()?) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            digits.push(char::from(u8::try_from(bits >> held & 255).ok()?));
        }
    }
    digits.parse().ok()
}

/// Some of the pages, by their locators.
pub(super) fn pages(job: &Job, ask: &Ask<'_>, page_records: usize) -> Result<Reply, Refusal> {
    let version: u32 =
        job.version.trim_start_matches('v').trim_end_matches(".0").parse().unwrap_or(PAGES_SINCE_VERSION);
    if version < PAGES_SINCE_VERSION {
        return Err(Refusal::not_found());
    }
    let first =
        ask.parameters.get("locator").map_or(Some(0), |locator| offset(locator)).ok_or_else(Refusal::not_found)?;
    let base = format!("/services/data/{}/jobs/query/{}", job.version, job.id);
    let all = job.records.len().div_ceil(page_records.max(1)).max(1);
    let until = (first + PAGES_PER_CALL).min(all);
    let urls = (first..until)
        .map(|page| json!({ "resultUrl": format!("{base}/results?locator={}", locator(page * page_records)) }));
    let mut listed = json!({ "resultPages": urls.collect::<Vec<_>>(), "done": until >= all });
    if until < all {
        listed["nextRecordsUrl"] = json!(format!("{base}/resultPages?locator={}", locator(until)));
    }
    Ok(Reply::json(&listed))
}

/// One page of rows.
pub(super) fn page(service: &Service, job: &Arc<Job>, ask: &Ask<'_>) -> Result<Reply, Refusal> {
    let start = ask.parameters.get("locator").map_or(Some(0), |locator| offset(locator));
    let start = start.filter(|start| *start == 0 || *start < job.records.len()).ok_or_else(Refusal::not_found)?;
    let asked = match ask.parameters.get("maxRecords") {
        Some(text) => text.parse().ok().filter(|records| *records > 0).ok_or_else(|| {
            Refusal::new(StatusCode::BAD_REQUEST, "INVALID_INPUT", "maxRecords must be a positive number")
        })?,
        None => usize::MAX,
    };
    let size = asked.min(service.options.bulk_page_records).max(1);
    let end = start.saturating_add(size).min(job.records.len());
    let mut next = (end < job.records.len()).then(|| locator(end));
    let mut told = end - start;
    let mut range = start..end;
    match ask.fault {
        // Its rows come with the next locator, which is its own.
        Some(Fault::BulkEmptyPage) => (range, told, next) = (start..start, 0, Some(locator(start))),
        Some(Fault::BulkCountMismatch) if told > 0 => (range.end, told) = (end - 1, told - 1),
        Some(Fault::BulkPageShort) if told > 0 => range.end = end - 1,
        _ => {}
    }
    service.sent(range.len());
    let gzip = ask.header("accept-encoding").contains("gzip");
    let name = HeaderName::from_static;
    let mut headers = vec![(name("sforce-numberofrecords"), HeaderValue::from(told))];
    if let Ok(next) = HeaderValue::from_str(next.as_deref().unwrap_or("null")) {
        headers.push((name("sforce-locator"), next));
    }
    if gzip {
        headers.push((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
    }
    let (sender, mut receiver) = mpsc::channel(CHUNKS_MAX);
    let (job, per_s) = (Arc::clone(job), service.options.bulk_records_per_s);
    tokio::task::spawn_blocking(move || {
        // Nobody waits for the rest if the client went away.
        drop(send(&job, range, (gzip, per_s), &sender));
    });
    let chunks = futures::stream::poll_fn(move |context| {
        receiver.poll_recv(context).map(|chunk: Option<Bytes>| chunk.map(Ok::<_, std::io::Error>))
    });
    let content = Content::Streamed(Body::from_stream(chunks));
    Ok(Reply { status: StatusCode::OK, content_type: "text/csv; charset=UTF-8", headers, content })
}

/// The client went away.
struct Gone;

/// On a thread of its own, which may sleep: `per_s` records in a second at the most.
fn send(
    job: &Job,
    range: std::ops::Range<usize>,
    (gzip, per_s): (bool, Option<u32>),
    sender: &mpsc::Sender<Bytes>,
) -> Result<(), Gone> {
    let began = Instant::now();
    let mut packer = gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast()));
    let mut rows = job.rows.header(&job.names);
    let give = |bytes: Vec<u8>| {
        if bytes.is_empty() { Ok(()) } else { sender.blocking_send(Bytes::from(bytes)).map_err(|_| Gone) }
    };
    for (sent, record) in (0_u32..).zip(&job.records[range]) {
        job.rows.write(&mut rows, record);
        if rows.len() < CHUNK_BYTES {
            continue;
        }
        if let Some(per_s) = per_s {
            let due = Duration::from_secs(1) * sent / per_s.max(1);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        match &mut packer {
            Some(packer) => {
                packer.write_all(&rows).map_err(|_| Gone)?;
                rows.clear();
                give(std::mem::take(packer.get_mut()))?;
            }
            None => give(std::mem::replace(&mut rows, Vec::with_capacity(CHUNK_BYTES * 5 / 4)))?,
        }
    }
    match packer {
        Some(mut packer) => {
            packer.write_all(&rows).map_err(|_| Gone)?;
            give(packer.finish().map_err(|_| Gone)?)
        }
        None => give(rows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locators_look_like_the_published_one_and_lead_back() {
        assert_eq!(locator(10_000), "MTAwMDA");
        for at in [0, 7, 50_000, 999_999, 123_456_789] {
            assert_eq!(offset(&locator(at)), Some(at));
        }
        assert_eq!((offset("null"), offset("*"), offset("")), (None, None, None));
    }
}

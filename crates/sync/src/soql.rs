//! The queries that read a window of an object, and how long each of the vendor's interfaces lets them be.

use crate::{SyncError, layout::Layout, parts::Span};
use chrono::{DateTime, SecondsFormat, Utc};

/// Longest query by REST, in bytes. Salesforce takes 16,384 for the address with its headers, and the address is
/// percent-encoded: commas and spaces become three bytes, which `encoded_bytes` counts.
const QUERY_BYTES_MAX: usize = 14_000;
/// Longest query in bulk, in bytes: it stands in a body, and SOQL itself ends there.
const BULK_BYTES_MAX: usize = 100_000;

/// Everything of `object` in a window, the oldest change first, so that a window that is read again meets the same order.
pub(crate) fn window(object: &str, layout: &Layout, span: Span<'_>) -> Result<String, SyncError> {
    let mut soql = select(object, layout, span);
    match layout.version_field() {
        Some(version) => soql.push_str(&format!(" ORDER BY {version}, Id")),
        None => soql.push_str(" ORDER BY Id"),
    }
    checked(object, soql, encoded_bytes, QUERY_BYTES_MAX)
}

/// The same in bulk, in whatever order: an order, or a limit, would keep Salesforce from dividing the work.
pub(crate) fn bulk(object: &str, layout: &Layout, span: Span<'_>) -> Result<String, SyncError> {
    checked(object, select(object, layout, span), str::len, BULK_BYTES_MAX)
}

/// How many records `object` holds, its recycle bin included when asked by `queryAll`.
pub(crate) fn count(object: &str) -> String {
    format!("SELECT COUNT() FROM {object}")
}

fn select(object: &str, layout: &Layout, span: Span<'_>) -> String {
    all(object, layout.names()) + &within(layout.version_field(), span)
}

/// The condition that a window, or a part of one, is.
fn within(version: Option<&str>, span: Span<'_>) -> String {
    let mut conditions = Vec::new();
    if let Some(version) = version {
        conditions.extend(span.lo.map(|lo| format!("{version} >= {}", literal(lo))));
        conditions.push(format!("{version} < {}", literal(span.hi)));
    }
    let id = |sign: &str, id: &String| is_quotable(id).then(|| format!("Id {sign} '{id}'"));
    conditions.extend(span.ids.from.as_ref().and_then(|from| id(">=", from)));
    conditions.extend(span.ids.until.as_ref().and_then(|until| id("<", until)));
    if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
}

/// Only letters and digits make an id, so that none can end its quotes.
fn is_quotable(id: &str) -> bool {
    id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn checked(
    object: &str,
    soql: String,
    bytes_of: impl Fn(&str) -> usize,
    bytes_max: usize,
) -> Result<String, SyncError> {
    let bytes = bytes_of(&soql);
    if bytes > bytes_max {
        return Err(SyncError::TooWide { object: object.to_owned(), bytes, bytes_max });
    }
    Ok(soql)
}

/// How many of `object`'s records changed since `from`.
pub(crate) fn count_since(object: &str, version: &str, from: DateTime<Utc>) -> String {
    format!("SELECT COUNT() FROM {object} WHERE {version} >= {}", literal(from))
}

/// The record that is the first, or the last, of those in a window by a field that is indexed.
pub(crate) fn edge(object: &str, field: &str, version: Option<&str>, span: Span<'_>, is_last: bool) -> String {
    let order = if is_last { " DESC" } else { "" };
    format!("SELECT {field} FROM {object}{} ORDER BY {field}{order} LIMIT 1", within(version, span))
}

/// Some fields of every record of `object`, in whatever order comes quickest.
pub(crate) fn all<'n>(object: &str, names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.collect();
    format!("SELECT {} FROM {object}", names.join(","))
}

/// Some fields of the next records of `object` in the order of their ids, behind an id or, where it is empty, from the first.
pub(crate) fn after<'n>(object: &str, names: impl Iterator<Item = &'n str>, id: &str, rows_max: usize) -> String {
    let behind = if id.is_empty() || !is_quotable(id) { String::new() } else { format!(" WHERE Id > '{id}'") };
    format!("{}{behind} ORDER BY Id LIMIT {rows_max}", all(object, names))
}

/// Some fields of those of `object`'s records that have these ids.
pub(crate) fn of_ids<'n>(object: &str, names: impl Iterator<Item = &'n str>, ids: &[String]) -> String {
    let ids: Vec<String> = ids.iter().filter(|id| is_quotable(id)).map(|id| format!("'{id}'")).collect();
    format!("{} WHERE Id IN ({})", all(object, names), ids.join(","))
}

/// How many ids fit into a query of some fields; an address is to hold it unless it is asked in bulk.
pub(crate) fn ids_in_one(fields_bytes: usize, is_in_bulk: bool) -> usize {
    // An id, its quotes and a comma: what is no letter nor digit is three bytes in an address.
    let (room, id_bytes) = if is_in_bulk { (BULK_BYTES_MAX, 21) } else { (QUERY_BYTES_MAX, 27) };
    room.saturating_sub(fields_bytes + 100) / id_bytes
}

fn literal(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

pub(crate) fn encoded_bytes(soql: &str) -> usize {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'*' | b' ');
    soql.bytes().map(|byte| if is_plain(byte) { 1 } else { 3 }).sum()
}

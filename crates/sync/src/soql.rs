//! The queries that read a window of an object.

use crate::{SyncError, layout::Layout};
use chrono::{DateTime, SecondsFormat, Utc};
use store::Window;

/// Longest query, in bytes. Salesforce takes 16,384 for the address with its headers, and the address is
/// percent-encoded: commas and spaces become three bytes, which `encoded_bytes` counts.
const QUERY_BYTES_MAX: usize = 14_000;

/// Everything of `object` in `window`, the oldest change first, so that a window that is read again meets the same order.
pub(crate) fn window(object: &str, layout: &Layout, window: &Window) -> Result<String, SyncError> {
    let names: Vec<&str> = layout.names().collect();
    let mut soql = format!("SELECT {} FROM {object}", names.join(","));
    if let Some(version) = layout.version_field() {
        let from = window.lo.map(|lo| format!("{version} >= {} AND ", literal(lo))).unwrap_or_default();
        soql.push_str(&format!(" WHERE {from}{version} < {} ORDER BY {version}, Id", literal(window.hi)));
    } else {
        soql.push_str(" ORDER BY Id");
    }
    let bytes = encoded_bytes(&soql);
    if bytes > QUERY_BYTES_MAX {
        return Err(SyncError::TooWide { object: object.to_owned(), bytes, bytes_max: QUERY_BYTES_MAX });
    }
    Ok(soql)
}

/// How many records `object` holds, its recycle bin included when asked by `queryAll`.
pub(crate) fn count(object: &str) -> String {
    format!("SELECT COUNT() FROM {object}")
}

fn literal(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn encoded_bytes(soql: &str) -> usize {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'*' | b' ');
    soql.bytes().map(|byte| if is_plain(byte) { 1 } else { 3 }).sum()
}

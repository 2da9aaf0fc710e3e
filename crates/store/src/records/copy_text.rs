//! Values in the format that COPY reads (PostgreSQL, COPY, "Text Format"): appended to bytes, without an allocation for each.

use chrono::{DateTime, Datelike, Timelike, Utc};

/// An instant as PostgreSQL reads it, in UTC.
pub(super) fn push_time(out: &mut Vec<u8>, at: DateTime<Utc>) {
    let digits = |out: &mut Vec<u8>, number: u32, width: u32| {
        for place in (0..width).rev() {
            out.push(b'0' + u8::try_from(number / 10_u32.pow(place) % 10).unwrap_or(0));
        }
    };
    digits(out, at.year().unsigned_abs(), 4);
    for (before, number) in
        [(b'-', at.month()), (b'-', at.day()), (b'T', at.hour()), (b':', at.minute()), (b':', at.second())]
    {
        out.push(before);
        digits(out, number, 2);
    }
    out.push(b'.');
    digits(out, at.timestamp_subsec_micros().min(999_999), 6);
    out.push(b'Z');
}

/// A whole number.
pub(super) fn push_number(out: &mut Vec<u8>, number: i64) {
    use std::io::Write as _;
    // Writing to memory does not fail.
    let _ = write!(out, "{number}");
}

/// A text, escaped.
pub(super) fn escape(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    // Nearly no text holds any: told without a branch for each byte.
    if !rest.iter().fold(false, |any, byte| any | (*byte < b' ') | (*byte == b'\\')) {
        out.extend_from_slice(rest);
        return;
    }
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\\' | b'\t' | b'\n' | b'\r')) {
        out.extend_from_slice(&rest[..at]);
        out.push(b'\\');
        out.push(match rest[at] {
            b'\t' => b't',
            b'\n' => b'n',
            b'\r' => b'r',
            other => other,
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

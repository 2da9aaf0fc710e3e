//! Tables for people, JSON for programs.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use std::{fmt::Display, io::Write as _};

/// Prints rows as a table, or the whole value as JSON.
pub(crate) fn table(json: bool, value: &impl Serialize, head: &[&str], rows: Vec<Vec<String>>) -> anyhow::Result<()> {
    if json {
        return print(&serde_json::to_string_pretty(value)?);
    }
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|cell| cell.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(head.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    print(&lines.join("\n"))
}

/// Says that a list may go on, and how the next page is asked for; JSON says it itself.
pub(crate) fn more(json: bool, next: Option<impl Display>, flag: &str) {
    if let Some(next) = next.filter(|_| !json) {
        eprintln!("servantctl: there may be more: {flag} {next}");
    }
}

/// Says that something was done.
pub(crate) fn done(json: bool, sentence: &str) -> anyhow::Result<()> {
    if json { print(&serde_json::json!({ "done": sentence }).to_string()) } else { print(sentence) }
}

/// A moment, or a dash.
pub(crate) fn time(at: Option<DateTime<Utc>>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| at.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// A reader that has gone away, as `head` does, is no failure.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

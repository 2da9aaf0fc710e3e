//! Where a window is divided that Salesforce cannot answer for in time: in the middle of its stamps, and where all of them
//! are of one second, or there are none, in the middle of its ids. Owns how that is found out. Does not own what becomes of
//! the parts (`store`), nor when a window is divided (`servants`).

use crate::{SyncError, layout::Layout, soql, value};
use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use salesforce::{Client, SalesforceError};
use serde_json::Value;
use store::{BulkWindow, IdRange, PartEnd, Window};

/// A part of a window is no shorter than this: stamps are whole seconds.
const PART_MIN: TimeDelta = TimeDelta::seconds(1);
/// What ids are made of, in their order.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The characters of an id that say which record it is; those behind them only tell their case.
const ID_CHARS: usize = 15;

/// What of an object is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span<'a> {
    pub(crate) lo: Option<DateTime<Utc>>,
    pub(crate) hi: DateTime<Utc>,
    pub(crate) ids: &'a IdRange,
}

impl<'a> From<&'a Window> for Span<'a> {
    fn from(window: &'a Window) -> Self {
        Self { lo: window.lo, hi: window.hi, ids: &window.ids }
    }
}

impl<'a> From<&'a BulkWindow> for Span<'a> {
    fn from(window: &'a BulkWindow) -> Self {
        Self { lo: window.lo, hi: window.hi, ids: &window.ids }
    }
}

/// Where the first part of what is to be read should end. None where it is one record, or cannot be found out.
pub(crate) async fn end_of_first(
    client: &Client,
    object: &str,
    layout: &Layout,
    span: Span<'_>,
) -> Result<Option<PartEnd>, SyncError> {
    // A part that ends before an id was of one stamp when it was made, and is divided by ids alone from then on.
    if let Some(version) = layout.version_field().filter(|_| span.ids.until.is_none()) {
        let (first, last) = edges(client, object, version, layout, span).await?;
        let stamp = |text: Option<String>| text.and_then(|text| value::instant(&text));
        let (first, last) = (stamp(first).or(span.lo), stamp(last));
        let end = last.map_or(span.hi, |last| last + PART_MIN);
        if let Some(middle) = first.and_then(|first| halfway(first, end)) {
            return Ok(Some(PartEnd::Stamp(middle)));
        }
    }
    let (first, last) = edges(client, object, "Id", layout, span).await?;
    Ok(first.zip(last).and_then(|(first, last)| between(&first, &last)).map(PartEnd::Id))
}

/// The least and the greatest value of an indexed field; none where that is not answered in time either.
async fn edges(
    client: &Client,
    object: &str,
    field: &str,
    layout: &Layout,
    span: Span<'_>,
) -> Result<(Option<String>, Option<String>), SyncError> {
    let mut found = [None, None];
    for (edge, is_last) in found.iter_mut().zip([false, true]) {
        let query = soql::edge(object, field, layout.version_field(), span, is_last);
        let page = match client.query_all(&query).await {
            Err(SalesforceError::QueryTimeout { .. }) => continue,
            page => page?,
        };
        let record: Option<Value> = page.records.first().and_then(|record| serde_json::from_str(record.get()).ok());
        *edge = record.and_then(|record| Some(record.get(field)?.as_str()?.to_owned()));
    }
    let [first, last] = found;
    Ok((first, last))
}

fn halfway(lo: DateTime<Utc>, hi: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let middle = (lo + (hi - lo) / 2).duration_trunc(PART_MIN).ok()?;
    (middle - lo >= PART_MIN && hi - middle >= PART_MIN).then_some(middle)
}

/// An id behind the one, and not behind the other, halfway.
fn between(first: &str, last: &str) -> Option<String> {
    let (first, last) = (number(first)?, number(last)?);
    if first >= last {
        return None;
    }
    let mut left = first + (last - first) / 2 + 1;
    let mut id = [b'0'; ID_CHARS];
    for place in id.iter_mut().rev() {
        *place = DIGITS[usize::try_from(left % 62).ok()?];
        left /= 62;
    }
    salesforce::id18(&String::from_utf8_lossy(&id))
}

fn number(id: &str) -> Option<u128> {
    let id = id.as_bytes().get(..ID_CHARS)?;
    id.iter().try_fold(0, |number, byte| {
        let digit = DIGITS.iter().position(|digit| digit == byte)?;
        Some(number * 62 + u128::try_from(digit).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_window_is_divided_down_to_seconds() {
        let at = |secs| DateTime::from_timestamp(secs, 0).unwrap();
        assert_eq!(halfway(at(10), at(20)), Some(at(15)));
        assert_eq!(halfway(at(10), at(13)), Some(at(11)));
        assert_eq!(halfway(at(10), at(12)), Some(at(11)));
        assert_eq!(halfway(at(10), at(11)), None, "stamps are whole seconds");
        assert_eq!(halfway(at(11), at(10)), None);
    }

    #[test]
    fn ids_are_divided_down_to_one_record() {
        let middle = |first, last| between(first, last).unwrap();
        assert_eq!(middle("001000000000000AAA", "001000000000001AAA"), "001000000000001AAA");
        assert_eq!(middle("001000000000000AAA", "00100000000000zAAA"), "00100000000000VAAQ");
        assert_eq!(middle("00100000000000z", "001000000000010"), "001000000000010AAA");
        assert_eq!(between("001000000000001AAA", "001000000000001AAA"), None, "one record");
        assert_eq!(between("001", "001000000000001AAA"), None);
        assert_eq!(between("00100000000000-AAA", "001000000000001AAA"), None);
    }

    proptest! {
        #[test]
        fn each_part_of_some_ids_has_one_of_them(first in "[0-9A-Za-z]{15}", last in "[0-9A-Za-z]{15}") {
            let (first, last) = if first < last { (first, last) } else { (last, first) };
            prop_assume!(first != last);
            let middle = between(&first, &last).unwrap();
            prop_assert!(salesforce::is_id18(&middle));
            prop_assert!(first.as_str() < &middle[..15] && &middle[..15] <= last.as_str());
        }
    }
}

//! A whole object in the order of its ids, each page a query of its own that ends after so many records: what Salesforce
//! cannot give in time as one answer. Owns how a page says where the next one begins. Does not own what is read
//! (`snapshot`).

use crate::{Source, SyncError, by_id, soql};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Records of a page: as many as a REST page holds at the most.
const ROWS_MAX: usize = 2_000;
/// Before an id, where a place of another kind is Salesforce's own.
const AFTER: &str = "after-id:";

/// Where the first page begins.
#[must_use]
pub(crate) fn first() -> String {
    AFTER.to_owned()
}

/// The id after which a page begins, if the place is one of these.
pub(crate) fn place(text: &str) -> Option<&str> {
    text.strip_prefix(AFTER)
}

/// The page after an id, and where the next one begins; none after the last.
///
/// # Errors
/// [`SyncError`]; `Page` when none of its records has an id that can be read, so that nobody knows where it ends.
pub(crate) async fn page(
    source: Source<'_>,
    object: &str,
    names: impl Iterator<Item = &str>,
    after: &str,
) -> Result<(Vec<Box<RawValue>>, Option<String>), SyncError> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "Id")]
        id: String,
    }
    let records = by_id::query(source.client, &soql::after(object, names, after, ROWS_MAX)).await?;
    if records.len() < ROWS_MAX {
        return Ok((records, None));
    }
    // Behind one whose id is damaged it goes on from the one before.
    let mut ids = records.iter().rev().filter_map(|record| serde_json::from_str::<Named>(record.get()).ok());
    let last = ids.find_map(|named| salesforce::id18(&named.id)).filter(|last| last.as_str() > after);
    match last {
        Some(last) => Ok((records, Some(format!("{AFTER}{last}")))),
        None => {
            let reason = "no record of it has an id that can be read".to_owned();
            Err(SyncError::Page { object: object.to_owned(), reason })
        }
    }
}

//! Owns what was deleted, what was changed and how much there is: the calls that find out without reading records.
//! Does not own queries.

use std::sync::{PoisonError, RwLockReadGuard, RwLockWriteGuard, atomic::Ordering};

use axum::http::StatusCode;
use chrono::{DateTime, Duration, Utc};
use serde_json::{Value as Json, json};

use super::{ids::Key, organisation::Organisation, reply::Refusal, service::Service, values::wire_datetime};

/// The log of deletions reaches back so far.
const LOG_DAYS: i64 = 15;
/// So far reach changes.
const CHANGES_DAYS: i64 = 30;
/// More ids are not told at once.
const IDS_MAX: usize = 600_000;

fn refused(code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, code, message)
}

fn text(key: &Key) -> String {
    String::from_utf8_lossy(key).into_owned()
}

fn check(start: DateTime<Utc>, end: DateTime<Utc>, earliest: DateTime<Utc>) -> Result<(), Refusal> {
    if start >= end {
        return Err(refused("INVALID_REPLICATION_DATE", "startDate before endDate must be at least one minute"));
    }
    if start < earliest {
        return Err(refused("INVALID_REPLICATION_DATE", "startDate before org replication enabled date"));
    }
    Ok(())
}

impl Service {
    /// The organisation as it is to be seen now.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Organisation> {
        let now = Utc::now();
        if self.late_due_ms.load(Ordering::Relaxed) <= now.timestamp_millis() {
            self.settle(&mut self.write(), now);
        }
        self.organisation.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The organisation, to be changed.
    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Organisation> {
        self.organisation.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes visible what is due by `now`, and notes when the next is due.
    pub(super) fn settle(&self, organisation: &mut Organisation, now: DateTime<Utc>) {
        let due = organisation.settle(now).map_or(i64::MAX, |due| due.timestamp_millis());
        self.late_due_ms.store(due, Ordering::Relaxed);
    }

    /// The ids of the records that were deleted from `start` until before `end`, those no longer in the recycle bin too.
    pub(super) fn deleted(
        &self,
        object: &str,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Json, Refusal> {
        let earliest = now - Duration::days(LOG_DAYS);
        let organisation = self.read();
        let object = organisation.object(object).ok_or_else(Refusal::not_found)?;
        check(start, end, earliest)?;
        let deleted = object.deletions.iter().filter(|(at, _)| (start..end).contains(at) && *at >= earliest);
        let deleted: Vec<_> =
            deleted.map(|(at, key)| json!({ "id": text(key), "deletedDate": wire_datetime(*at) })).collect();
        if deleted.len() > IDS_MAX {
            return Err(refused("EXCEEDED_ID_LIMIT", format!("Found more than {IDS_MAX} ids")));
        }
        Ok(json!({
            "deletedRecords": deleted,
            "earliestDateAvailable": wire_datetime(earliest),
            "latestDateCovered": wire_datetime(end.min(now)),
        }))
    }

    /// The ids of the records made, changed or undeleted from `start` until before `end`.
    pub(super) fn updated(
        &self,
        object: &str,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Json, Refusal> {
        let organisation = self.read();
        let object = organisation.object(object).ok_or_else(Refusal::not_found)?;
        check(start, end, now - Duration::days(CHANGES_DAYS))?;
        let changed = object.records.values().filter(|record| !record.is_deleted());
        let changed = changed.filter(|record| (start..end).contains(&record.modified_at()));
        let ids: Vec<_> = changed.map(|record| record.id().to_owned()).collect();
        if ids.len() > IDS_MAX {
            return Err(refused("EXCEEDED_ID_LIMIT", format!("Found more than {IDS_MAX} ids")));
        }
        Ok(json!({ "ids": ids, "latestDateCovered": wire_datetime(end.min(now)) }))
    }

    /// How many records there are, by object; the names may be limited to a list with commas.
    pub(super) fn record_count(&self, names: Option<&String>) -> Json {
        let organisation = self.read();
        let asked = |name: &str| {
            names.is_none_or(|names| names.split(',').any(|asked| asked.trim().eq_ignore_ascii_case(name)))
        };
        let objects = organisation.objects.values().filter(|object| asked(&object.name));
        let counts = objects.map(|object| {
            let count = object.records.values().filter(|record| !record.is_deleted()).count();
            json!({ "name": object.name, "count": count })
        });
        json!({ "sObjects": counts.collect::<Vec<_>>() })
    }
}

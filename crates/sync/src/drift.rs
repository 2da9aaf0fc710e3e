//! What becomes of an object whose shape is another than it was: fields that come, go, come back or change their type, and
//! the object itself that is gone. Owns the comparison of a describe with what is known, the anomalies that follow, and that
//! what records lack is asked for. Does not own columns (`store`), nor how records get what they lack (`reconcile`).

use crate::{Source, SyncError, value::Reading};
use chrono::{DateTime, Utc};
use domain::{AnomalyKind, Kind, Severity, clocks_apart};
use salesforce::{Describe, Field};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};
use store::{ColumnType, KnownField, NewJob, Sighting, StreamSchema, Tx, Unique};

/// The kind of work that holds stored records against the vendor's, and brings them what they lack.
pub const RECONCILE_KIND: &str = "salesforce_reconcile";
/// Clocks that are so far apart, in seconds, put changes into the wrong windows.
const CLOCKS_CRITICAL_SECS: i64 = 300;

/// What happened to a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is there for the first time.
    Added,
    /// It is shown no more.
    Lost,
    /// It is shown again.
    Back,
    /// Its values are of another type.
    Retyped {
        /// As the vendor called it.
        from: String,
        /// Every value of the old type is one of the new: whole numbers that became decimals.
        is_widened: bool,
    },
}

/// A field that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drift {
    pub(crate) field: String,
    pub(crate) change: Change,
}

/// Describes an object, and sees to whatever is not as it was.
///
/// # Errors
/// [`SyncError`]; an object that is gone or forbidden is an anomaly then, and its stream needs attention.
pub async fn describe(source: Source<'_>, object: &str) -> Result<Describe, SyncError> {
    match source.client.describe(object).await.map_err(SyncError::from) {
        Ok(describe) => {
            described(source, object, &describe).await?;
            Ok(describe)
        }
        Err(error) => {
            if error.is_of_one_object() {
                lost(source, object, &error).await?;
            }
            Err(error)
        }
    }
}

/// Sees to what a describe says that the one before did not. Costs one look when it is the same.
///
/// # Errors
/// [`SyncError`].
pub async fn described(source: Source<'_>, object: &str, describe: &Describe) -> Result<(), SyncError> {
    let Source { store, connection, .. } = source;
    // The answer has just come, so that both clocks mean the same moment.
    let theirs = source.client.server_time();
    let ours = store.now();
    if let Some(theirs) = theirs
        && let Some(apart) = clocks_apart(theirs, ours)
    {
        let secs = apart.num_seconds();
        let seen = Sighting {
            connection,
            object: "",
            kind: AnomalyKind::ClocksApart,
            subject: "",
            severity: if secs.abs() >= CLOCKS_CRITICAL_SECS { Severity::Critical } else { Severity::Warning },
            summary: &format!("salesforce's clock is {secs} s from ours"),
            evidence: &json!({ "salesforce": theirs, "ours": ours, "secs": secs }),
        };
        let mut tx = store.begin().await?;
        store.note_anomaly(&mut tx, &seen).await?;
        tx.commit().await?;
    }
    let schema = store.stream_schema(connection, object).await?;
    let fields: Vec<&Field> = describe.fields.iter().filter(|field| Reading::of(&field.field_type).is_some()).collect();
    let hash = hash_of(&fields);
    if schema.schema_hash == Some(hash) { Ok(()) } else { take_in(source, object, &schema, hash, &fields).await }
}

/// Notes that an object cannot be read: it is gone, or not shown to us, or no query can name its fields. The others go on.
///
/// # Errors
/// [`SyncError`].
pub async fn lost(source: Source<'_>, object: &str, error: &SyncError) -> Result<(), SyncError> {
    let Source { store, connection, .. } = source;
    let reason = error.to_string();
    store.flag_stream(connection, object, &reason).await?;
    if matches!(error, SyncError::TooWide { .. }) {
        return Ok(());
    }
    let seen = Sighting {
        connection,
        object,
        kind: AnomalyKind::ObjectLost,
        subject: "",
        severity: Severity::Critical,
        summary: &format!("{object} is gone, or no longer shown to us"),
        evidence: &json!({ "error": reason }),
    };
    let mut tx = store.begin().await?;
    store.note_anomaly(&mut tx, &seen).await?;
    tx.commit().await?;
    Ok(())
}

/// Another hash, as another build of this program may have it, costs a comparison that finds nothing.
fn hash_of(fields: &[&Field]) -> i64 {
    // What is known of a type belongs to it: once a build knows more, what was said of the fields is looked at again.
    let is_known = |field: &Field| Reading::is_known(&field.field_type);
    let mut fields: Vec<_> = fields.iter().map(|f| (&f.name, &f.field_type, f.calculated, is_known(f))).collect();
    fields.sort();
    let mut hasher = DefaultHasher::new();
    fields.hash(&mut hasher);
    hasher.finish().cast_signed()
}

async fn take_in(
    source: Source<'_>,
    object: &str,
    schema: &StreamSchema,
    hash: i64,
    fields: &[&Field],
) -> Result<(), SyncError> {
    let store = source.store;
    let mut tx = store.begin().await?;
    let was = store.lock_schema(&mut tx, schema.stream).await?;
    if was == Some(hash) {
        return Ok(());
    }
    let known = store.known_fields_in(&mut tx, schema.stream).await?;
    let drifts = if was.is_some() { compare(&known, fields) } else { Vec::new() };
    let now = store.now();
    store.keep_fields(&mut tx, schema.stream, hash, &after(&known, fields, &drifts, now)).await?;
    for drift in &drifts {
        tell(source, &mut tx, object, drift, fields).await?;
    }
    tell_unknown(source, &mut tx, object, fields).await?;
    if drifts.iter().any(|drift| drift.change != Change::Lost) {
        store.insert_jobs_in(&mut tx, reconcile_job(source, object).as_slice()).await?;
    }
    tx.commit().await?;
    for drift in &drifts {
        tracing::warn!(object, field = drift.field, change = ?drift.change, "a field is not what it was");
    }
    Ok(())
}

/// A job that holds an object's records against the vendor's, unless one waits already.
fn reconcile_job(source: Source<'_>, object: &str) -> Option<NewJob> {
    let kind = Kind::new(RECONCILE_KIND).ok()?;
    let unique = Unique { key: format!("{}/{object}", source.connection), for_secs: None };
    Some(NewJob {
        account: source.account,
        connection: Some(source.connection),
        unique: Some(unique),
        ..NewJob::new(kind, json!({ "object": object }))
    })
}

/// What is not as it was.
pub(crate) fn compare(known: &[KnownField], fields: &[&Field]) -> Vec<Drift> {
    let before: BTreeMap<&str, &KnownField> = known.iter().map(|field| (field.name.as_str(), field)).collect();
    let is_shown = |name: &str| fields.iter().any(|field| field.name == name);
    let lost = known.iter().filter(|field| field.stale_since.is_none() && !is_shown(&field.name));
    let mut drifts: Vec<Drift> = lost.map(|field| Drift { field: field.name.clone(), change: Change::Lost }).collect();
    for field in fields {
        let change = match before.get(field.name.as_str()) {
            None => Some(Change::Added),
            Some(known) => match retyped(&known.field_type, &field.field_type) {
                None => known.stale_since.map(|_| Change::Back),
                retyped => retyped,
            },
        };
        drifts.extend(change.map(|change| Drift { field: field.name.clone(), change }));
    }
    drifts
}

/// Whether a type's values need a column of another type. Kinds of text are all text.
fn retyped(from: &str, to: &str) -> Option<Change> {
    let column = |field_type: &str| Reading::of(field_type).map(Reading::column_type);
    let (was, is) = (column(from)?, column(to)?);
    let is_widened = was == ColumnType::Bigint && is == ColumnType::Numeric;
    (was != is).then(|| Change::Retyped { from: from.to_owned(), is_widened })
}

/// The fields as they are known from now on. A value that came, came back or was converted moved no stamp, so that records
/// lack it until they have been asked for it.
fn after(known: &[KnownField], fields: &[&Field], drifts: &[Drift], now: DateTime<Utc>) -> Vec<KnownField> {
    let before: BTreeMap<&str, &KnownField> = known.iter().map(|field| (field.name.as_str(), field)).collect();
    let is_changed = |name: &str| drifts.iter().any(|drift| drift.field == name);
    let shown = fields.iter().map(|field| KnownField {
        name: field.name.clone(),
        field_type: field.field_type.clone(),
        is_calculated: field.calculated,
        stale_since: None,
        unfilled_since: if is_changed(&field.name) {
            Some(now)
        } else {
            before.get(field.name.as_str()).and_then(|known| known.unfilled_since)
        },
    });
    let is_shown = |name: &str| fields.iter().any(|field| field.name == name);
    let gone = known.iter().filter(|field| !is_shown(&field.name)).map(|field| KnownField {
        stale_since: field.stale_since.or(Some(now)),
        unfilled_since: None,
        ..field.clone()
    });
    shown.chain(gone).collect()
}

/// Makes an anomaly of it, or ends the one that it ends.
async fn tell(
    source: Source<'_>,
    tx: &mut Tx,
    object: &str,
    Drift { field, change }: &Drift,
    fields: &[&Field],
) -> Result<(), SyncError> {
    let Source { store, connection, .. } = source;
    let is_now = fields.iter().find(|shown| shown.name == *field).map(|shown| shown.field_type.as_str());
    let settle = async |tx: &mut Tx, reason: &str| {
        store.settle_anomaly(tx, connection, (object, AnomalyKind::FieldLost, field), reason).await
    };
    let (kind, severity, summary, evidence) = match change {
        Change::Back => {
            settle(tx, "the field is shown again").await?;
            return Ok(());
        }
        Change::Added => (
            AnomalyKind::FieldAdded,
            Severity::Info,
            format!("{object} has a new field, {field}; records are being asked for it"),
            json!({ "field": field, "type": is_now }),
        ),
        Change::Lost => (
            AnomalyKind::FieldLost,
            Severity::Warning,
            format!("{object} no longer shows its field {field}; its column stays as it is"),
            json!({ "field": field, "stale_since": store.now() }),
        ),
        Change::Retyped { from, is_widened } => {
            settle(tx, "the field is shown again, with another type").await?;
            (
                AnomalyKind::FieldRetyped,
                if *is_widened { Severity::Info } else { Severity::Warning },
                format!("{object}'s field {field} has another type; records are being asked for it"),
                retyped_evidence(field, from, is_now, *is_widened),
            )
        }
    };
    let seen = Sighting { connection, object, kind, subject: field, severity, summary: &summary, evidence: &evidence };
    store.note_anomaly(tx, &seen).await?;
    Ok(())
}

/// Says which fields are of types that nobody here knows, and ends what was said of those that are so no more.
async fn tell_unknown(source: Source<'_>, tx: &mut Tx, object: &str, fields: &[&Field]) -> Result<(), SyncError> {
    const KIND: AnomalyKind = AnomalyKind::FieldTypeUnknown;
    let Source { store, connection, .. } = source;
    let is_unknown = |field: &&&Field| !Reading::is_known(&field.field_type);
    let unknown: BTreeMap<&str, &str> =
        fields.iter().filter(is_unknown).map(|field| (field.name.as_str(), field.field_type.as_str())).collect();
    for (field, field_type) in &unknown {
        let summary =
            format!("{object}'s field {field} is of a type that is not known, {field_type}; it is read as text");
        let seen = Sighting {
            connection,
            object,
            kind: KIND,
            subject: field,
            severity: Severity::Warning,
            summary: &summary,
            evidence: &json!({ "field": field, "type": field_type, "read_as": "text" }),
        };
        store.note_anomaly(tx, &seen).await?;
    }
    for open in store.open_anomalies(tx, connection, object).await? {
        if open.object == object && open.kind == KIND && !unknown.contains_key(open.subject.as_str()) {
            let of = (object, KIND, open.subject.as_str());
            store.settle_anomaly(tx, connection, of, "the field is of no unknown type any more").await?;
        }
    }
    Ok(())
}

fn retyped_evidence(field: &str, from: &str, to: Option<&str>, is_widened: bool) -> Value {
    json!({ "field": field, "from": from, "to": to, "is_widened": is_widened })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(name: &str, field_type: &str) -> Field {
        Field {
            name: name.to_owned(),
            field_type: field_type.to_owned(),
            nillable: true,
            length: 0,
            precision: 0,
            scale: 0,
            calculated: false,
            compound: false,
        }
    }

    /// What is known after describes one after the other, and what each brought.
    fn follow(describes: &[Vec<Field>]) -> (Vec<KnownField>, Vec<Vec<Drift>>) {
        let mut known = Vec::new();
        let mut all = Vec::new();
        for (place, describe) in describes.iter().enumerate() {
            let fields: Vec<&Field> = describe.iter().collect();
            let drifts = if place == 0 { Vec::new() } else { compare(&known, &fields) };
            known = after(&known, &fields, &drifts, DateTime::UNIX_EPOCH);
            all.push(drifts);
        }
        (known, all)
    }

    #[test]
    fn each_change_is_told_once() {
        let (known, drifts) = follow(&[
            vec![field("A", "string"), field("B", "int"), field("C", "double"), field("D", "date")],
            vec![field("A", "picklist"), field("B", "double"), field("C", "int"), field("E", "url")],
            vec![field("A", "boolean"), field("B", "double"), field("C", "int"), field("D", "date"), field("E", "url")],
        ]);
        let told = |drifts: &[Drift]| drifts.iter().map(|d| (d.field.clone(), d.change.clone())).collect::<Vec<_>>();
        let retyped = |from: &str, is_widened| Change::Retyped { from: from.to_owned(), is_widened };
        assert_eq!(
            told(&drifts[1]),
            [
                ("D".to_owned(), Change::Lost),
                ("B".to_owned(), retyped("int", true)),
                ("C".to_owned(), retyped("double", false)),
                ("E".to_owned(), Change::Added),
            ]
        );
        assert_eq!(told(&drifts[2]), [("A".to_owned(), retyped("picklist", false)), ("D".to_owned(), Change::Back)]);
        assert!(known.iter().all(|field| field.stale_since.is_none()));
        let unfilled: Vec<&str> =
            known.iter().filter(|f| f.unfilled_since.is_some()).map(|f| f.name.as_str()).collect();
        assert_eq!(unfilled, ["A", "B", "C", "D", "E"]);
    }

    proptest! {
        #[test]
        fn what_is_known_is_no_news(describes in prop::collection::vec(
            prop::collection::btree_map("[A-D]", prop::sample::select(vec!["string", "int", "double", "date"]), 0..4), 1..6,
        )) {
            let describes: Vec<Vec<Field>> =
                describes.iter().map(|d| d.iter().map(|(name, kind)| field(name, kind)).collect()).collect();
            let (known, _) = follow(&describes);
            let last: Vec<&Field> = describes.last().unwrap().iter().collect();
            prop_assert_eq!(compare(&known, &last), vec![]);
            for field in &known {
                let is_shown = last.iter().any(|shown| shown.name == field.name);
                prop_assert_eq!(field.stale_since.is_none(), is_shown, "{}", &field.name);
                prop_assert!(is_shown || field.unfilled_since.is_none());
            }
        }
    }
}

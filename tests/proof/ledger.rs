//! What must be true of a customer in the end: the ledger holds what the vendor holds, digest by digest; the change log
//! replays to it, each change once; what is damaged is in quarantine, whole. Computes digests in SQL, not with the
//! simulation's code; the simulation's documents say how (`fakes`, `digest.rs`).

use crate::{customer::Customer, world::World};
use fakes::salesforce::{Digest, Sum};
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, Row as _};
use std::collections::{BTreeMap, BTreeSet};
use store::{ChangeCursor, ChangeOp, QuarantinedRow};

/// What is wrong, all of it.
pub(crate) async fn faults(customer: &Customer, world: &World, left_out: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let quarantined = quarantined(customer, world).await;
    for object in &customer.objects {
        if let Err(what) = equals(customer, world, object, left_out, &quarantined).await {
            wrong.push(format!("{object}: {what}"));
        }
    }
    wrong.extend(replay(customer, world).await);
    wrong
}

/// The object's live and recycled records are the vendor's, and nothing else is there.
async fn equals(
    customer: &Customer,
    world: &World,
    object: &str,
    left_out: &BTreeSet<String>,
    quarantined: &[QuarantinedRow],
) -> Result<(), String> {
    let all = customer.fake.digest(object, None).ok_or("the object is gone")?;
    let fields: Vec<String> = all.fields.into_iter().filter(|field| !left_out.contains(field)).collect();
    let truth = customer.fake.digest(object, Some(&fields)).ok_or("the object is gone")?;
    let records = customer.fake.truth(object);
    let is_deleted = |record: &Map<String, Value>| record["IsDeleted"] == true;
    let ids = |wanted: bool| -> Vec<String> {
        let ids = records.iter().filter(|record| is_deleted(record) == wanted).map(|record| record["Id"].as_str());
        ids.map(|id| id.unwrap().to_owned()).collect()
    };
    let text = text_of(world, object, &fields).await;
    let live = sum(customer, world, object, &text, "NOT is_deleted", &truth).await;
    if live != truth.live {
        return Err(format!("live {live:?}, true is {:?}; {}", truth.live, differences(customer, world, object).await));
    }
    let binned = ids(true);
    let in_bin = format!("is_deleted AND id = ANY('{{{}}}')", binned.join(","));
    let recycled = sum(customer, world, object, &text, &in_bin, &truth).await;
    if recycled != truth.recycled {
        return Err(format!("recycled {recycled:?}, true is {:?}", truth.recycled));
    }
    for id in &truth.damaged {
        let kept = quarantined.iter().find(|row| row.object == object && row.record_id.as_ref() == Some(id));
        let kept = kept.ok_or_else(|| format!("{id} is damaged and not in quarantine"))?;
        let field = kept.reason.split(':').next().unwrap_or_default();
        let record = records.iter().find(|record| record["Id"] == **id).ok_or("a damaged record is not there")?;
        let value = record.get(field).and_then(Value::as_str).unwrap_or_default();
        if value.is_empty() || !String::from_utf8_lossy(&kept.body).contains(value) {
            return Err(format!("{id} is in quarantine for '{}', without the bytes of '{value}'", kept.reason));
        }
    }
    // What is not damaged is not held back.
    let held = quarantined.iter().filter(|row| row.object == object);
    let held = held.filter_map(|row| row.record_id.as_ref()).find(|id| {
        let is_there = records.iter().any(|record| record["Id"] == ***id);
        is_there && !truth.damaged.contains(*id)
    });
    held.map_or(Ok(()), |id| Err(format!("{id} is sound and still in quarantine")))
}

async fn quarantined(customer: &Customer, world: &World) -> Vec<QuarantinedRow> {
    let mut rows: Vec<QuarantinedRow> = Vec::new();
    loop {
        let page = world.store.list_quarantined(customer.connection, rows.last(), 1_000).await.unwrap();
        if page.is_empty() {
            return rows;
        }
        rows.extend(page);
    }
}

/// The expression of a record's text, line by line in the order of the fields.
async fn text_of(world: &World, object: &str, fields: &[String]) -> String {
    let sql = "SELECT column_name::text, data_type::text FROM information_schema.columns
               WHERE table_schema = 'salesforce' AND table_name = $1";
    let rows = sqlx::query(sql).bind(object.to_lowercase()).fetch_all(&world.sql).await.unwrap();
    let types: BTreeMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let line = |field: &String| {
        let column = field.to_lowercase();
        let value = types.get(&column).map(|data_type| match data_type.as_str() {
            "numeric" => format!("trim_scale(\"{column}\")::text"),
            "timestamp with time zone" => {
                format!("to_char(\"{column}\" AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
            }
            _ => format!("\"{column}\"::text"),
        });
        let extra = format!("extra_fields ->> '{field}'");
        let value = value.map_or(extra.clone(), |value| format!("coalesce({value}, {extra})"));
        format!("coalesce('{field}=' || ({value}) || E'\\n', '')")
    };
    let lines: Vec<String> = fields.iter().map(line).collect();
    // A concatenation nests no deeper than its parts.
    lines.chunks(50).map(|part| format!("concat({})", part.join(","))).collect::<Vec<_>>().join(" || ")
}

async fn sum(customer: &Customer, world: &World, object: &str, text: &str, which: &str, truth: &Digest) -> Sum {
    let half = |from| format!("coalesce(sum(('x' || substr(md5(t), {from}, 16))::bit(64)::bigint), 0)::text");
    let sql = format!(
        "SELECT count(*), {}, {} FROM (SELECT {text} AS t FROM salesforce.\"{}\"
         WHERE account_id = $1 AND id <> ALL($2) AND {which}) AS records",
        half(1),
        half(17),
        object.to_lowercase()
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(customer.account.0).bind(&truth.damaged);
    let row = match query.fetch_one(&world.sql).await {
        Ok(row) => row,
        // Nothing of it was ever synced.
        Err(error) => return Sum { records: 0, digest: error.to_string() },
    };
    let half = |place: usize| row.get::<String, _>(place).parse::<i128>().unwrap().rem_euclid(1 << 64);
    Sum { records: row.get::<i64, _>(0).unsigned_abs(), digest: format!("{:016x}{:016x}", half(1), half(2)) }
}

/// For whoever looks into a failure: which records are not the vendor's.
async fn differences(customer: &Customer, world: &World, object: &str) -> String {
    let stored = testkit::stored_records(&world.deployment.database_url, "salesforce", object).await;
    let of_ours = |row: &Value| row["account_id"] == customer.account.0;
    let records = customer.fake.truth(object);
    let mut notes = Vec::new();
    for record in records.iter().filter(|record| record["IsDeleted"] == false) {
        let id = record["Id"].as_str().unwrap();
        match stored.get(id).filter(|row| of_ours(row)) {
            None => notes.push(format!("{id} is missing")),
            Some(row) if row["is_deleted"] == true => notes.push(format!("{id} counts as deleted")),
            Some(row) => notes.extend(first_difference(record, row).map(|what| format!("{id} {what}"))),
        }
    }
    for (id, row) in stored.iter().filter(|(_, row)| of_ours(row) && row["is_deleted"] == false) {
        if !records.iter().any(|record| record["Id"] == **id && record["IsDeleted"] == false) {
            notes.push(format!("{id} is there no more, stamped {}", row["systemmodstamp"]));
        }
    }
    notes.truncate(6);
    notes.join("; ")
}

fn first_difference(record: &Map<String, Value>, row: &Value) -> Option<String> {
    let plain = |value: &Value| match value {
        Value::String(text) => text.replace(".000+0000", "").replace("+00:00", ""),
        Value::Number(number) => number.as_f64().unwrap_or_default().to_string(),
        other => other.to_string(),
    };
    record.iter().filter(|(_, value)| !value.is_object()).find_map(|(name, value)| {
        let is = row.get(name.to_lowercase()).or_else(|| row["extra_fields"].get(name)).unwrap_or(&Value::Null);
        (plain(value) != plain(is)).then(|| format!("{name}: {is}, true is {value}"))
    })
}

/// Reads the whole change log: each record's changes follow from one another, none is there twice, and they lead to what is
/// stored.
pub(crate) async fn replay(customer: &Customer, world: &World) -> Vec<String> {
    let (mut cursor, mut wrong) = (ChangeCursor::default(), Vec::new());
    let now = "SELECT pg_current_xact_id()::text::bigint";
    let now: i64 = sqlx::query_scalar(now).fetch_one(&world.sql).await.unwrap();
    let mut state: BTreeMap<(String, String), (bool, i64)> = BTreeMap::new();
    loop {
        let (changes, next) = world.store.read_changes(customer.account, cursor, 10_000).await.unwrap();
        for change in &changes {
            let key = (change.object.clone(), change.record_id.clone());
            let before = state.get(&key).copied();
            let follows = match (before, change.op) {
                (None, ChangeOp::Insert | ChangeOp::Delete) => true,
                (Some((is_deleted, hash)), ChangeOp::Update) => hash != change.content_hash || is_deleted,
                (Some((is_deleted, _)), ChangeOp::Delete) => !is_deleted,
                (Some((is_deleted, _)), ChangeOp::Undelete) => is_deleted,
                _ => false,
            };
            if !follows {
                wrong.push(format!("change {} is {:?} of {key:?} after {before:?}", change.seq, change.op));
            }
            let is_deleted = match change.op {
                ChangeOp::Delete => true,
                ChangeOp::Update => before.is_some_and(|(is_deleted, _)| is_deleted),
                ChangeOp::Insert | ChangeOp::Undelete => false,
            };
            state.insert(key, (is_deleted, change.content_hash));
        }
        cursor = next;
        let [from_tx, ..] = cursor.parts();
        if changes.is_empty() && from_tx > now {
            break;
        }
        if changes.is_empty() {
            // A reader waits for transactions that began before it, whoever's they are.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    for object in &customer.objects {
        let sql = format!(
            "SELECT id, is_deleted, content_hash FROM salesforce.\"{}\" WHERE account_id = $1",
            object.to_lowercase()
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(customer.account.0).fetch_all(&world.sql).await;
        for row in rows.unwrap_or_default() {
            let id: String = row.get(0);
            let stored = (row.get::<bool, _>(1), row.get::<i64, _>(2));
            let replayed = state.remove(&(object.clone(), id.clone()));
            if replayed != Some(stored) {
                wrong.push(format!("{object} {id} is stored as {stored:?}, the change log leads to {replayed:?}"));
            }
        }
    }
    wrong.extend(state.keys().map(|key| format!("{key:?} is in the change log and not stored")));
    wrong.truncate(10);
    wrong
}

//! Owns what goes wrong with records, fields and objects by name: the seed decides which of them are hit.
//! Does not own failures of calls.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use super::{
    field::{FieldType, SYSTEM_FIELDS},
    mutate::{self, Damage, Merge, Mutation, NewField},
    organisation::Object,
    service::Service,
};

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DataFault {
    /// Records change in one and the same second.
    EqualModstamps,
    /// A change is seen only `secs` after its stamp.
    LateRow,
    /// New records bear a stamp `secs` old.
    BackdatedModstamp,
    /// A field is removed.
    FieldRemoved,
    /// A field is added, and filled without a stamp.
    FieldAdded,
    /// A field becomes text, or a text a number.
    FieldRetyped,
    /// The user may not see a field any more.
    PermissionLost,
    /// The object is gone.
    ObjectGone,
    /// Texts with quotes, line ends, tabs, and what looks like the end of something.
    OddText,
    /// Texts that look like null.
    NaText,
    /// Records are deleted past the recycle bin.
    HardDelete,
    /// Records become part of another.
    Merge,
    /// Records come out of the recycle bin.
    Undelete,
    /// Formulas give other values, without a stamp.
    FormulaDrift,
    /// The user may not see records any more.
    VisibilityLost,
    /// Values that are not of their field's type.
    DamagedRecord,
}

/// A failure of the data, ordered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataOrder {
    /// What goes wrong.
    pub fault: DataFault,
    /// Where.
    pub object: String,
    /// Decides which records and fields.
    #[serde(default)]
    pub seed: u64,
    /// How many records at most.
    #[serde(default = "some")]
    pub records: usize,
    /// How late or how far back.
    #[serde(default = "ten_minutes")]
    pub secs: u32,
}

fn some() -> usize {
    5
}

fn ten_minutes() -> u32 {
    600
}

impl DataOrder {
    /// `fault` in `object`, as the dice of `seed` have it.
    #[must_use]
    pub fn new(fault: DataFault, object: &str, seed: u64) -> Self {
        Self { fault, object: object.to_owned(), seed, records: some(), secs: ten_minutes() }
    }
}

/// What was hit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Struck {
    /// Records by id; those that are new are not among them.
    pub ids: Vec<String>,
    /// The field.
    pub field: Option<String>,
}

const ODD: [&str; 5] = [
    "say \"so\", \"\" and '",
    "one\nline\r\nmore\rand\ttab",
    "\\N \\. \\u0000 %00 \u{1f}\u{7f}",
    "\"",
    "a,b;c|d^e`f\n\"x\",\"y\"\n",
];
const NA: [&str; 5] = ["NA", "NULL", "None", "nan", "#N/A"];

/// Does it.
///
/// # Errors
/// There is no such object, or nothing in it that can be hit.
pub(super) fn strike(service: &Service, order: &DataOrder, now: DateTime<Utc>) -> Result<Struck, String> {
    let (mutation, struck) = {
        let organisation = service.read();
        let object = organisation.object(&order.object).ok_or_else(|| format!("no object {}", order.object))?;
        plan(object, order, now).ok_or("nothing can be hit")?
    };
    mutate::change(service, &mutation, now)?;
    Ok(struck)
}

fn plan(object: &Object, order: &DataOrder, now: DateTime<Utc>) -> Option<(Mutation, Struck)> {
    use DataFault as F;
    let mut random = StdRng::seed_from_u64(order.seed);
    let mut mutation = Mutation { object: object.name.clone(), ..Mutation::default() };
    let in_bin = order.fault == F::Undelete;
    let known: Vec<_> = object.records.values().filter(|record| record.is_deleted() == in_bin).collect();
    // Every so manieth record from a place by dice.
    let (step, from) = ((known.len() / order.records.max(1)).max(1), random.random::<u64>());
    let start = usize::try_from(from % step as u64).unwrap_or(0);
    let hit = known.iter().skip(start).step_by(step).take(order.records);
    let ids: Vec<String> = hit.map(|record| record.id().to_owned()).collect();
    let field = |random: &mut StdRng, fits: &dyn Fn(FieldType) -> bool, calculated: bool| {
        let fields = object.fields.iter().skip(SYSTEM_FIELDS.len());
        let fields: Vec<_> = fields
            .filter(|field| !field.hidden && field.calculated == calculated && fits(field.field_type))
            .map(|field| (field.name.clone(), field.field_type))
            .collect();
        let dice = random.random::<u64>();
        fields.get(usize::try_from(dice % (fields.len().max(1) as u64)).unwrap_or(0)).cloned()
    };
    let is_text = |field_type| matches!(field_type, FieldType::String | FieldType::TextArea);
    let is_number = |field_type| matches!(field_type, FieldType::Currency | FieldType::Double | FieldType::Percent);
    let is_plain = |field_type| !matches!(field_type, FieldType::Address | FieldType::Reference | FieldType::Id);
    let with = |ids: &[String], name: &str, value: &dyn Fn(usize) -> Json| -> Vec<Map<String, Json>> {
        let row = |(at, id): (usize, &String)| [("Id".to_owned(), json!(id)), (name.to_owned(), value(at))];
        ids.iter().enumerate().map(|pair| row(pair).into_iter().collect()).collect()
    };
    let mut named = None;
    match order.fault {
        F::EqualModstamps | F::LateRow | F::BackdatedModstamp | F::OddText | F::NaText => {
            let (name, _) = field(&mut random, &is_text, false)?;
            let texts = if order.fault == F::NaText { NA } else { ODD };
            let plain = !matches!(order.fault, F::OddText | F::NaText);
            let value = |at: usize| json!(if plain { format!("struck {at}") } else { texts[at % 5].to_owned() });
            mutation.upsert = with(&ids, &name, &value);
            if order.fault == F::LateRow {
                mutation.visible_after_secs = order.secs;
            }
            if order.fault == F::BackdatedModstamp {
                mutation.system_modstamp = Some(now - Duration::seconds(order.secs.into()));
                mutation.upsert.iter_mut().for_each(|fields| drop(fields.remove("Id")));
            }
            named = Some(name);
        }
        F::FieldRemoved | F::PermissionLost => {
            let (name, _) = field(&mut random, &is_plain, false)?;
            mutation.hide_fields.push(name.clone());
            named = Some(name);
        }
        F::FieldAdded => {
            let name = format!("Added_{}__c", order.seed);
            let types = ["string", "currency", "date", "boolean", "datetime", "int"];
            let field_type = types[usize::try_from(from % 6).unwrap_or(0)].to_owned();
            mutation.add_fields.push(NewField { name: name.clone(), field_type, seed: order.seed });
            named = Some(name);
        }
        F::FieldRetyped => {
            let (name, field_type) = field(&mut random, &is_plain, false)?;
            let to = if is_text(field_type) { "currency" } else { "string" };
            mutation.retype_fields = BTreeMap::from([(name.clone(), to.to_owned())]);
            named = Some(name);
        }
        F::ObjectGone => mutation.remove_object = true,
        F::HardDelete => mutation.hard_delete.clone_from(&ids),
        F::VisibilityLost => mutation.lose.clone_from(&ids),
        F::Undelete => mutation.undelete.clone_from(&ids),
        F::Merge => {
            let (master, losers) = ids.split_first().filter(|(_, losers)| !losers.is_empty())?;
            mutation.merge.push(Merge { master: master.clone(), losers: losers.to_vec() });
        }
        F::FormulaDrift => {
            let (name, _) = field(&mut random, &is_number, true)?;
            mutation.recalculate = with(&ids, &name, &|at| json!(from % 1_000_000 + at as u64));
            named = Some(name);
        }
        F::DamagedRecord => {
            let fits = |field_type| is_number(field_type) || matches!(field_type, FieldType::Int | FieldType::Date);
            let (name, _) = field(&mut random, &fits, false)?;
            let damage =
                |id: &String| Damage { id: id.clone(), field: name.clone(), text: "12,5 or 2024-13-41".to_owned() };
            mutation.damage = ids.iter().map(damage).collect();
            named = Some(name);
        }
    }
    let ids = match order.fault {
        F::FieldRemoved | F::PermissionLost | F::FieldAdded | F::FieldRetyped | F::ObjectGone => Vec::new(),
        F::BackdatedModstamp => Vec::new(),
        _ if ids.is_empty() => return None,
        _ => ids,
    };
    Some((mutation, Struck { ids, field: named }))
}

//! Owns changes by dice: the same seed makes the same kinds of change to the same records. Does not own ordered changes.

use std::{collections::BTreeMap, sync::Arc, time::Duration as Wait};

use chrono::{DateTime, Duration, Timelike, Utc};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    field::{Field, FieldType, SYSTEM_FIELDS},
    generate,
    ids::{Key, id_for, key},
    mutate::{Merge, merge_records, new_id, rewrite},
    organisation::{Late, Object, Organisation},
    record::Value,
    service::Service,
};

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A new record.
    Insert,
    /// Some fields of a record.
    Update,
    /// To the recycle bin.
    Delete,
    /// Out of the recycle bin.
    Undelete,
    /// Gone, but in the log of deletions.
    HardDelete,
    /// One or two records become part of another.
    Merge,
    /// Up to 20 records change in one second.
    EqualStamps,
    /// A change that is seen later than its stamp says.
    Late,
    /// A change with a stamp of the past, yet after the record's last.
    BackDated,
    /// The user may not see a record any more.
    Lose,
    /// The user may see it again.
    Regain,
    /// A formula's value, without a stamp.
    Recalculate,
}

/// Kinds, and how often of a hundred.
const WEIGHTS: [(Kind, u32); 12] = [
    (Kind::Insert, 20),
    (Kind::Update, 44),
    (Kind::Delete, 9),
    (Kind::Undelete, 5),
    (Kind::HardDelete, 3),
    (Kind::Merge, 4),
    (Kind::EqualStamps, 4),
    (Kind::Late, 4),
    (Kind::BackDated, 3),
    (Kind::Lose, 1),
    (Kind::Regain, 1),
    (Kind::Recalculate, 2),
];

/// A request for changes by dice.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mutations {
    /// Of the dice.
    pub seed: u64,
    /// How many changes.
    pub count: u64,
    /// How far a late or back-dated change reaches at most.
    pub late_secs_max: u32,
    /// Kinds to choose from; all if empty.
    pub only: Vec<Kind>,
}

impl Default for Mutations {
    fn default() -> Self {
        Self { seed: 0, count: 1, late_secs_max: 600, only: Vec::new() }
    }
}

/// How many changes of each kind were made; what could not be done (a merge where nothing merges) is not among them.
pub type Made = BTreeMap<Kind, u64>;

/// Dice that go on from where they are.
pub(super) struct Dice {
    random: StdRng,
    late_secs_max: u32,
    only: Vec<Kind>,
}

/// Makes the changes asked for.
pub(super) fn run(service: &Service, asked: &Mutations, now: DateTime<Utc>) -> Made {
    let mut organisation = service.write();
    organisation.settle(now);
    let made = Dice::new(asked).run(&mut organisation, asked.count, now);
    service.settle(&mut organisation, now);
    made
}

/// Changes in the background until the server stops.
pub(super) async fn stream(service: Arc<Service>, mut stop: watch::Receiver<bool>) {
    let asked = Mutations {
        seed: service.options.mutation_seed,
        late_secs_max: service.options.mutation_late_secs_max,
        ..Mutations::default()
    };
    let mut dice = Dice::new(&asked);
    let mut ticks = tokio::time::interval(Wait::from_millis(100));
    // Counted in tenths, so that one change in a second is one in ten ticks.
    let mut owed = 0;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => {}
        }
        owed += service.options.mutations_per_s;
        let (count, now) = (owed / 10, Utc::now());
        owed %= 10;
        if count > 0 {
            let mut organisation = service.write();
            organisation.settle(now);
            dice.run(&mut organisation, count, now);
            service.settle(&mut organisation, now);
        }
    }
}

impl Dice {
    pub(super) fn new(asked: &Mutations) -> Self {
        Self {
            random: StdRng::seed_from_u64(asked.seed),
            late_secs_max: asked.late_secs_max.max(1),
            only: asked.only.clone(),
        }
    }

    fn run(&mut self, organisation: &mut Organisation, count: u64, now: DateTime<Utc>) -> Made {
        let now = now.with_nanosecond(0).unwrap_or(now);
        let mut made = Made::new();
        for _ in 0..count {
            let kind = self.kind();
            if let Some(object) = self.object(organisation)
                && self.change(object, kind, now).is_some()
            {
                *made.entry(kind).or_default() += 1;
            }
        }
        made
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.random.random::<u64>() % u64::try_from(limit.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    fn kind(&mut self) -> Kind {
        let chosen = |kind: &Kind| self.only.is_empty() || self.only.contains(kind);
        let kinds: Vec<_> = WEIGHTS.iter().filter(|(kind, _)| chosen(kind)).collect();
        let total: u32 = kinds.iter().map(|(_, weight)| weight).sum();
        let mut dice = self.random.random::<u32>() % total.max(1);
        for (kind, weight) in kinds {
            match dice.checked_sub(*weight) {
                Some(rest) => dice = rest,
                None => return *kind,
            }
        }
        Kind::Update
    }

    /// An object, the more likely the more records it has.
    fn object<'a>(&mut self, organisation: &'a mut Organisation) -> Option<&'a mut Object> {
        let total: usize = organisation.objects.values().map(|object| object.records.len() + 1).sum();
        let mut dice = self.below(total);
        for object in organisation.objects.values_mut() {
            match dice.checked_sub(object.records.len() + 1) {
                Some(rest) => dice = rest,
                None => return Some(object),
            }
        }
        None
    }

    /// A record that is not in the recycle bin, and not one of `taken`.
    fn pick(&mut self, object: &Object, taken: &[Key]) -> Option<Key> {
        let from = key(&id_for(&object.name, &self.random.random::<u64>().to_string()))?;
        let mut around = object.records.range(from..).chain(object.records.range(..from)).take(200);
        let found = around.find(|(key, record)| !record.is_deleted() && !taken.contains(key));
        found.map(|(key, _)| *key)
    }

    fn value(&mut self, field_type: FieldType) -> Value {
        let dice: u64 = self.random.random();
        if field_type != FieldType::Boolean && (dice >> 50).is_multiple_of(6) {
            return Value::Null;
        }
        generate::invent(field_type, dice, dice >> 44)
    }

    /// New values for one to three fields.
    fn values(&mut self, object: &Object) -> Vec<(usize, Value)> {
        let places: Vec<usize> = changeable(object).collect();
        let count = 1 + self.below(3);
        let mut values: Vec<(usize, Value)> = Vec::new();
        for _ in 0..count.min(places.len()) {
            let place = places[self.below(places.len())];
            values.push((place, self.value(object.fields[place].field_type)));
        }
        values
    }

    fn insert(&mut self, object: &Object) -> (Key, Vec<(usize, Value)>) {
        let places: Vec<usize> = changeable(object).collect();
        let values = places.into_iter().map(|place| (place, self.value(object.fields[place].field_type))).collect();
        (new_id(object, 0), values)
    }

    fn update(&mut self, object: &mut Object, key: Key, at: DateTime<Utc>) {
        let values = self.values(object);
        object.put(object.version(key, values, at));
    }

    fn change(&mut self, object: &mut Object, kind: Kind, now: DateTime<Utc>) -> Option<()> {
        let reach = Duration::seconds(1 + i64::from(self.random.random::<u32>() % self.late_secs_max));
        match kind {
            Kind::Insert => {
                let (key, values) = self.insert(object);
                object.put(object.version(key, values, now));
            }
            Kind::Update => {
                let key = self.pick(object, &[])?;
                self.update(object, key, now);
            }
            Kind::Delete => {
                let key = self.pick(object, &[])?;
                object.put(object.version(key, vec![Object::deletion(true)], now));
            }
            Kind::Undelete => {
                let (_, key) = *object.deletions.get(self.below(object.deletions.len()))?;
                object.records.get(&key)?;
                object.put(object.version(key, vec![Object::deletion(false)], now));
            }
            Kind::HardDelete => {
                let key = self.pick(object, &[])?;
                object.purge(key, true, now);
            }
            Kind::Merge => {
                object.place("MasterRecordId")?;
                let mut keys = Vec::new();
                for _ in 0..2 + self.below(2) {
                    keys.push(self.pick(object, &keys)?);
                }
                let mut ids = keys.iter().map(|key| String::from_utf8_lossy(key).into_owned());
                let merge = Merge { master: ids.next()?, losers: ids.collect() };
                merge_records(object, &merge, now);
            }
            Kind::EqualStamps => {
                for _ in 0..2 + self.below(19) {
                    let key = self.pick(object, &[])?;
                    self.update(object, key, now);
                }
            }
            Kind::Late => {
                let (key, values) = match self.pick(object, &[]).filter(|_| self.below(2) == 0) {
                    Some(key) => (key, self.values(object)),
                    None => self.insert(object),
                };
                let record = object.version(key, values, now);
                object.late.retain(|late| late.key != key);
                object.late.push(Late { visible_at: now + reach, key, record });
            }
            Kind::BackDated => {
                let key = self.pick(object, &[])?;
                // A record's stamp never goes back: what is late is the time at which it can be seen.
                let last = object.records.get(&key)?.modified_at();
                let at = (now - reach).max(last + Duration::seconds(1)).min(now);
                self.update(object, key, at);
            }
            Kind::Lose => {
                let key = self.pick(object, &[])?;
                object.lose(key);
            }
            Kind::Regain => {
                let key = *object.unseen.keys().nth(self.below(object.unseen.len()))?;
                object.regain(key);
            }
            Kind::Recalculate => {
                let formulas = object.fields.iter().enumerate();
                let (place, field) = formulas.into_iter().find(|(_, field)| field.calculated && !field.hidden)?;
                let (key, value) = (self.pick(object, &[])?, self.value(field.field_type));
                rewrite(object, key, &[(place, value)]);
            }
        }
        Some(())
    }
}

/// The places of the fields that anybody may change.
fn changeable(object: &Object) -> impl Iterator<Item = usize> {
    let may = |field: &Field| {
        let fixed = matches!(field.field_type, FieldType::Id | FieldType::Reference | FieldType::Address);
        !fixed && !field.calculated && !field.hidden
    };
    let fields = object.fields.iter().enumerate().skip(SYSTEM_FIELDS.len());
    fields.filter(move |(_, field)| may(field)).map(|(place, _)| place)
}

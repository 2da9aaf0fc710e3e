//! What `config/jobs.toml` says: one table for each kind of work.
//! Owns the file's shape and its checks; does not read files (`daemon` does) and keeps no state.

use crate::{
    BudgetSettings, DeclaredSchedule, Kind, KindError, Limit, RetryPolicy, Scope, check_vendor, limits::LimitsTable,
    schedule::ScheduleTable,
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// The table that is no kind's.
const LIMITS: &str = "limits";

/// The file's tables as they are written, not yet checked.
#[derive(Debug, Clone, Default)]
pub struct CatalogueTables {
    kinds: BTreeMap<String, KindDefinition>,
    limits: LimitsTable,
}

/// All kinds of work that this deployment knows, and what limits them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    kinds: BTreeMap<Kind, KindDefinition>,
    limits: Vec<(Scope, Limit)>,
    budget: BudgetSettings,
}

/// One kind of work.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindDefinition {
    /// What a person calls it.
    pub label: String,
    /// Longest time of one attempt, in seconds; then it is cancelled.
    pub run_secs_max: u32,
    /// Jobs that one process runs at a time.
    pub concurrency: u32,
    /// Attempts and their back-off.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// The vendor that its jobs call, where their connection does not say.
    pub vendor: Option<String>,
    /// Calls that one of its jobs is expected to make to the vendor.
    #[serde(default = "one")]
    pub calls_estimate: u32,
    /// Servant processes that there should be; 0: nobody misses them.
    #[serde(default = "one")]
    pub processes: u32,
    /// What limits its jobs.
    limits: Option<Limit>,
    /// What the servant of this kind itself wants to know; its own shape.
    #[serde(default)]
    pub config: BTreeMap<String, serde_json::Value>,
    /// Schedules, as they are written.
    #[serde(default)]
    schedules: Vec<ScheduleTable>,
    /// The same, checked.
    #[serde(skip)]
    declared: Vec<DeclaredSchedule>,
}

/// Why a catalogue is refused.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// A table's name is no kind.
    #[error(transparent)]
    Kind(#[from] KindError),
    /// A value makes no sense.
    #[error("[{kind}] {key} {problem}")]
    Value {
        /// The table.
        kind: String,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// How its jobs are tried again makes no sense.
    #[error("[{kind}] retry.{key} {problem}")]
    Retry {
        /// The table.
        kind: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A limit makes no sense.
    #[error("[{table}] {key}: {problem}")]
    Limit {
        /// The table.
        table: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A schedule makes no sense.
    #[error("[{kind}] schedules: '{schedule}': {problem}")]
    Schedule {
        /// The table.
        kind: String,
        /// The schedule's name.
        schedule: String,
        /// What is wrong with it.
        problem: String,
    },
}

const fn one() -> u32 {
    1
}

/// By hand, since the tables are of two shapes and an error is to name its line: flattening forgets it.
impl<'de> Deserialize<'de> for CatalogueTables {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Tables;
        impl<'de> Visitor<'de> for Tables {
            type Value = CatalogueTables;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table for each kind of work")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<CatalogueTables, A::Error> {
                let mut tables = CatalogueTables::default();
                while let Some(name) = map.next_key::<String>()? {
                    if name == LIMITS {
                        // No kind can be called so: a kind's keys are unknown in this table.
                        tables.limits = map.next_value()?;
                    } else {
                        let definition = map.next_value()?;
                        tables.kinds.insert(name, definition);
                    }
                }
                Ok(tables)
            }
        }
        from.deserialize_map(Tables)
    }
}

impl KindDefinition {
    /// The schedules declared for this kind.
    #[must_use]
    pub fn schedules(&self) -> &[DeclaredSchedule] {
        &self.declared
    }
}

impl Catalogue {
    /// Checks tables read from the file.
    ///
    /// # Errors
    /// [`CatalogueError`] names the table and the key.
    pub fn new(tables: CatalogueTables) -> Result<Self, CatalogueError> {
        let mut kinds = BTreeMap::new();
        let mut names = BTreeSet::new();
        let refuse = |(key, problem)| CatalogueError::Limit { table: LIMITS.to_owned(), key, problem };
        let mut limits = tables.limits.check().map_err(refuse)?;
        for (name, mut definition) in tables.kinds {
            let kind = Kind::new(name.clone())?;
            let value = |key, problem| CatalogueError::Value { kind: name.clone(), key, problem };
            if definition.run_secs_max == 0 {
                return Err(value("run_secs_max", "must be at least 1"));
            }
            if definition.concurrency == 0 {
                return Err(value("concurrency", "must be at least 1"));
            }
            definition.retry.check().map_err(|(key, problem)| CatalogueError::Retry {
                kind: name.clone(),
                key,
                problem,
            })?;
            if definition.calls_estimate == 0 {
                return Err(value("calls_estimate", "must be at least 1"));
            }
            let refuse = |key: &str, problem| {
                let key = key.to_owned();
                CatalogueError::Limit { table: name.clone(), key, problem }
            };
            if let Some(vendor) = &definition.vendor {
                check_vendor(vendor).map_err(|problem| refuse("vendor", problem))?;
            }
            if let Some(limit) = definition.limits {
                limit.check().map_err(|problem| refuse("limits", problem))?;
                limits.push((Scope::Kind(kind.clone()), limit));
            }
            for table in &definition.schedules {
                let refuse =
                    |problem| CatalogueError::Schedule { kind: name.clone(), schedule: table.name.clone(), problem };
                definition.declared.push(table.check().map_err(refuse)?);
                if !names.insert(table.name.clone()) {
                    return Err(refuse("two schedules have this name".to_owned()));
                }
            }
            kinds.insert(kind, definition);
        }
        Ok(Self { kinds, limits, budget: tables.limits.budget })
    }

    /// The kinds in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&Kind, &KindDefinition)> {
        self.kinds.iter()
    }

    /// The limits that it declares.
    #[must_use]
    pub fn limits(&self) -> &[(Scope, Limit)] {
        &self.limits
    }

    /// Our share of customers' quotas, where a connection does not say otherwise.
    #[must_use]
    pub const fn budget(&self) -> BudgetSettings {
        self.budget
    }

    /// One kind's definition.
    #[must_use]
    pub fn get(&self, kind: &Kind) -> Option<&KindDefinition> {
        self.kinds.get(kind)
    }
}

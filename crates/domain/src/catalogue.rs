//! What `config/jobs.toml` says: one table for each kind of work.
//! Owns the file's shape and its checks; does not read files (`daemon` does) and keeps no state.

use crate::{DeclaredSchedule, Kind, KindError, RetryPolicy, schedule::ScheduleTable};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// All kinds of work that this deployment knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    kinds: BTreeMap<Kind, KindDefinition>,
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
    pub fn new(tables: BTreeMap<String, KindDefinition>) -> Result<Self, CatalogueError> {
        let mut kinds = BTreeMap::new();
        let mut names = BTreeSet::new();
        for (name, mut definition) in tables {
            let value = |key, problem| CatalogueError::Value { kind: name.clone(), key, problem };
            if definition.run_secs_max == 0 {
                return Err(value("run_secs_max", "must be at least 1"));
            }
            if definition.concurrency == 0 {
                return Err(value("concurrency", "must be at least 1"));
            }
            if definition.retry.attempts_max == 0 {
                return Err(value("retry.attempts_max", "must be at least 1"));
            }
            for table in &definition.schedules {
                let refuse =
                    |problem| CatalogueError::Schedule { kind: name.clone(), schedule: table.name.clone(), problem };
                definition.declared.push(table.check().map_err(refuse)?);
                if !names.insert(table.name.clone()) {
                    return Err(refuse("two schedules have this name".to_owned()));
                }
            }
            kinds.insert(Kind::new(name.clone())?, definition);
        }
        Ok(Self { kinds })
    }

    /// The kinds in alphabetical order.
    pub fn iter(&self) -> impl Iterator<Item = (&Kind, &KindDefinition)> {
        self.kinds.iter()
    }

    /// One kind's definition.
    #[must_use]
    pub fn get(&self, kind: &Kind) -> Option<&KindDefinition> {
        self.kinds.get(kind)
    }
}

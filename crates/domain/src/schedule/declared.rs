//! Schedules as `config/jobs.toml` declares them: the table's shape, its checks, and the names of the rows that follow.

use super::{CatchUp, Overlap, Policy, Schedule};
use crate::{AccountId, ConnectionId, Cron};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The longest name of a declared schedule, in characters.
const NAME_CHARS_MAX: usize = 100;

/// One entry of a kind's `schedules`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScheduleTable {
    pub(crate) name: String,
    every_secs: Option<u32>,
    cron: Option<String>,
    zone: Option<String>,
    once: Option<DateTime<Utc>>,
    #[serde(default)]
    overlap: Overlap,
    #[serde(default)]
    jitter_secs: u32,
    starts_at: Option<DateTime<Utc>>,
    ends_at: Option<DateTime<Utc>>,
    catch_up_secs: Option<u32>,
    catch_up_max: Option<u16>,
    priority: Option<i16>,
    #[serde(default)]
    per_account: bool,
    connection: Option<String>,
    #[serde(default)]
    payload: BTreeMap<String, serde_json::Value>,
}

/// A schedule declared in the file; entered into the ledger by name where it is missing, and left alone where it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredSchedule {
    /// Unique among all declared schedules.
    pub name: String,
    /// When.
    pub rule: Schedule,
    /// How.
    pub policy: Policy,
    /// The jobs' priority.
    pub priority: i16,
    /// One for each account, instead of one for the system.
    pub per_account: bool,
    /// One for each of the account's connections to this vendor, whose jobs carry the connection.
    pub connection: Option<String>,
    /// The jobs' payload.
    pub payload: BTreeMap<String, serde_json::Value>,
}

impl DeclaredSchedule {
    /// The name of the row in the ledger.
    #[must_use]
    pub fn row_name(&self, account: AccountId, connection: Option<ConnectionId>) -> String {
        match connection {
            Some(connection) => format!("{}/{account}/{connection}", self.name),
            None if self.per_account => format!("{}/{account}", self.name),
            None => self.name.clone(),
        }
    }
}

impl ScheduleTable {
    pub(crate) fn check(&self) -> Result<DeclaredSchedule, String> {
        let name = self.name.as_str();
        if name.trim().is_empty() || name.contains('/') || name.chars().count() > NAME_CHARS_MAX {
            return Err(format!("a name has 1 to {NAME_CHARS_MAX} characters and no slash"));
        }
        let catch_up = CatchUp::default();
        let policy = Policy {
            overlap: self.overlap,
            jitter_secs: self.jitter_secs,
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            catch_up: CatchUp {
                secs: self.catch_up_secs.unwrap_or(catch_up.secs),
                fires_max: self.catch_up_max.unwrap_or(catch_up.fires_max),
            },
        };
        policy.check()?;
        let priority = self.priority.unwrap_or(2);
        if !(0..=4).contains(&priority) {
            return Err(format!("priority is {priority}, not between 0 (urgent) and 4"));
        }
        if self.connection.is_some() && !self.per_account {
            return Err("connection goes with per_account = true".to_owned());
        }
        Ok(DeclaredSchedule {
            name: self.name.clone(),
            rule: self.rule()?,
            policy,
            priority,
            per_account: self.per_account,
            connection: self.connection.clone(),
            payload: self.payload.clone(),
        })
    }

    fn rule(&self) -> Result<Schedule, String> {
        if self.zone.is_some() && self.cron.is_none() {
            return Err("zone goes with cron".to_owned());
        }
        match (self.every_secs, &self.cron, self.once) {
            (Some(0), None, None) => Err("every_secs must be at least 1".to_owned()),
            (Some(secs), None, None) => Ok(Schedule::EverySecs(secs)),
            (None, None, Some(at)) => Ok(Schedule::Once(at)),
            (None, Some(expression), None) => {
                let zone = self.zone.as_deref().ok_or("cron needs a zone, as UTC or Europe/Berlin")?;
                let cron = Cron::new(expression, zone).map_err(|error| error.to_string())?;
                Ok(Schedule::Cron(Box::new(cron)))
            }
            _ => Err("needs exactly one of every_secs, cron and once".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(mut table: serde_json::Value) -> Result<DeclaredSchedule, String> {
        table["name"] = table.get("name").cloned().unwrap_or_else(|| "nightly".into());
        serde_json::from_value::<ScheduleTable>(table).map_err(|error| error.to_string())?.check()
    }

    #[test]
    fn tables_become_schedules() {
        let declared = check(json!({
            "cron": "0 2 * * *", "zone": "Europe/Berlin", "overlap": "buffer_one", "jitter_secs": 600,
            "ends_at": "2031-01-01T00:00:00Z", "catch_up_secs": 7200, "catch_up_max": 3, "per_account": true,
            "payload": {"full": true},
        }))
        .unwrap();
        assert_eq!(declared.row_name(AccountId(7), None), "nightly/7");
        assert_eq!(declared.policy.overlap, Overlap::BufferOne);
        assert_eq!(declared.policy.catch_up, CatchUp { secs: 7_200, fires_max: 3 });
        let each = check(json!({"every_secs": 60, "per_account": true, "connection": "salesforce"})).unwrap();
        assert_eq!(each.row_name(AccountId(7), Some(ConnectionId(9))), "nightly/7/9");
        let plain = check(json!({"every_secs": 60})).unwrap();
        assert_eq!((plain.row_name(AccountId(7), None).as_str(), plain.policy), ("nightly", Policy::default()));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (table, problem) in [
            (json!({}), "exactly one of every_secs, cron and once"),
            (json!({"every_secs": 60, "once": "2030-01-01T00:00:00Z"}), "exactly one of"),
            (json!({"every_secs": 0}), "every_secs must be at least 1"),
            (json!({"cron": "0 2 * * *"}), "cron needs a zone"),
            (json!({"every_secs": 60, "zone": "UTC"}), "zone goes with cron"),
            (json!({"cron": "0 2 * *", "zone": "UTC"}), "has 4 fields"),
            (json!({"cron": "0 2 * * *", "zone": "Berlin"}), "'Berlin' is no zone"),
            (json!({"every_secs": 60, "overlap": "both"}), "unknown variant `both`"),
            (json!({"every_secs": 60, "colour": "red"}), "unknown field `colour`"),
            (json!({"every_secs": 60, "catch_up_secs": 5}), "catch_up_secs is 5, not at least 60"),
            (json!({"every_secs": 60, "catch_up_max": 0}), "catch_up_max is 0, not between 1 and 1000"),
            (json!({"every_secs": 60, "jitter_secs": 90_000}), "jitter_secs is 90000, above 86400"),
            (json!({"every_secs": 60, "priority": 5}), "priority is 5"),
            (json!({"every_secs": 60, "name": "a/b"}), "no slash"),
            (json!({"every_secs": 60, "connection": "salesforce"}), "connection goes with per_account"),
            (
                json!({"every_secs": 60, "starts_at": "2030-01-02T00:00:00Z", "ends_at": "2030-01-01T00:00:00Z"}),
                "ends_at is not after starts_at",
            ),
        ] {
            let refusal = check(table.clone()).unwrap_err();
            assert!(refusal.contains(problem), "{table}: {refusal}");
        }
    }
}

//! Limits as `config/jobs.toml` declares them, besides those in the kinds' own tables: `[limits]`.

use super::{BudgetSettings, Limit, Scope, check_vendor};
use serde::Deserialize;
use std::collections::BTreeMap;

/// `[limits]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsTable {
    each_account: Option<Limit>,
    each_connection: Option<Limit>,
    #[serde(default)]
    vendor: BTreeMap<String, VendorTable>,
    #[serde(default)]
    pub(crate) budget: BudgetSettings,
}

/// `[limits.vendor.<name>]`. The keys of a limit are repeated: a flattened table would take any key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct VendorTable {
    concurrency: Option<u32>,
    per_second: Option<u32>,
    per_minute: Option<u32>,
    burst: Option<u32>,
    per_day: Option<u32>,
    reserve_pct: Option<u8>,
    each_connection: Option<Limit>,
}

impl VendorTable {
    fn limit(&self) -> Limit {
        Limit {
            concurrency: self.concurrency,
            per_second: self.per_second,
            per_minute: self.per_minute,
            burst: self.burst,
            per_day: self.per_day,
            reserve_pct: self.reserve_pct,
        }
    }
}

impl LimitsTable {
    /// The limits, checked.
    ///
    /// # Errors
    /// The key and what is wrong with it.
    pub(crate) fn check(&self) -> Result<Vec<(Scope, Limit)>, (String, String)> {
        let mut limits = Vec::new();
        let mut take = |key: String, scope, limit: Limit| {
            limit.check().map_err(|problem| (key, problem))?;
            limits.push((scope, limit));
            Ok::<(), (String, String)>(())
        };
        if let Some(limit) = self.each_account {
            take("each_account".to_owned(), Scope::EachAccount, limit)?;
        }
        if let Some(limit) = self.each_connection {
            take("each_connection".to_owned(), Scope::EachConnection(None), limit)?;
        }
        for (name, table) in &self.vendor {
            let key = format!("vendor.{name}");
            check_vendor(name).map_err(|problem| (key.clone(), problem))?;
            if let Some(limit) = table.each_connection {
                let scope = Scope::EachConnection(Some(name.clone()));
                take(format!("{key}.each_connection"), scope, limit)?;
            }
            // A table that only speaks of each connection limits the vendor itself to nothing.
            if table.each_connection.is_none() || table.limit() != Limit::default() {
                take(key, Scope::Vendor(name.clone()), table.limit())?;
            }
        }
        self.budget.check().map_err(|problem| ("budget".to_owned(), problem))?;
        Ok(limits)
    }
}

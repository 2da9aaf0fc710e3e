//! A row of the audit in words, for whoever shows it: what was done, with whom or what, and what changed. Does not own what
//! the ledger keeps of a deed.

use crate::AuditEntry;
use serde_json::{Map, Value};

/// What of a row says what was done, and how people call what it was done with: no change.
const TOLD: [&str; 2] = ["what", "name"];

impl AuditEntry {
    /// What was done, as "retry job".
    #[must_use]
    pub fn deed(&self) -> String {
        self.told("what").unwrap_or_else(|| self.action.replace('_', " "))
    }

    /// With whom or what, as "user ada (4)" or "job 7"; of a request, its address.
    #[must_use]
    pub fn thing(&self) -> String {
        let Self { subject, key, .. } = self;
        match (subject.as_str(), key.as_str(), self.told("name")) {
            ("request", ..) => key.clone(),
            (_, "", Some(name)) => format!("{subject} {name}"),
            (_, "", None) => subject.clone(),
            (_, _, Some(name)) => format!("{subject} {name} ({key})"),
            (_, _, None) => format!("{subject} {key}"),
        }
    }

    /// What changed, each as "state: ready → cancelled"; of what was not there before, only what it became.
    #[must_use]
    pub fn changes(&self) -> Vec<String> {
        let (before, after) = (object(self.before.as_ref()), object(self.after.as_ref()));
        let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
        names.retain(|name| !TOLD.contains(&name.as_str()));
        names.sort_unstable();
        names.dedup();
        let line = |name: &String| match (before.get(name), after.get(name)) {
            (None, after) => format!("{name}: {}", text(after)),
            (before, after) => format!("{name}: {} → {}", text(before), text(after)),
        };
        names.into_iter().map(line).collect()
    }

    fn told(&self, what: &str) -> Option<String> {
        [&self.after, &self.before].into_iter().find_map(|side| Some(side.as_ref()?.get(what)?.as_str()?.to_owned()))
    }
}

fn object(side: Option<&Value>) -> Map<String, Value> {
    side.and_then(Value::as_object).cloned().unwrap_or_default()
}

fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "–".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use serde_json::json;

    fn row(action: &str, (subject, key): (&str, &str), before: Option<Value>, after: Option<Value>) -> AuditEntry {
        AuditEntry {
            seq: 1,
            at: DateTime::UNIX_EPOCH,
            actor_kind: "user".into(),
            actor_id: "1".into(),
            actor: "ada".into(),
            role: "admin".into(),
            on_behalf_of: None,
            action: action.into(),
            subject: subject.into(),
            key: key.into(),
            before,
            after,
            reason: String::new(),
            request_id: None,
            ip: None,
            agent: String::new(),
            outcome: "done".into(),
            row_hash: String::new(),
            chain_hash: None,
        }
    }

    #[test]
    fn a_change_of_a_thing_is_said_name_by_name() {
        let before = Some(json!({"state": "ready", "old": 1}));
        let row = row("cancel_job", ("job", "7"), before, Some(json!({"state": "cancelled", "new": true})));
        assert_eq!((row.deed(), row.thing()), ("cancel job".to_owned(), "job 7".to_owned()));
        assert_eq!(row.changes(), ["new: true", "old: 1 → –", "state: ready → cancelled"]);
    }

    #[test]
    fn what_is_done_with_people_is_said_with_their_names() {
        let after = json!({"what": "give another role", "name": "grace", "role": "admin"});
        let row1 = row("manage_people", ("user", "4"), Some(json!({"role": "viewer"})), Some(after));
        assert_eq!((row1.deed().as_str(), row1.thing().as_str()), ("give another role", "user grace (4)"));
        assert_eq!(row1.changes(), ["role: viewer → admin"]);
        let nameless = row("manage_people", ("code", "of a new admin"), None, Some(json!({"what": "make"})));
        assert_eq!((nameless.deed().as_str(), nameless.thing().as_str()), ("make", "code of a new admin"));
        assert_eq!(nameless.changes(), Vec::<String>::new());
        let whole = row("migrate", ("schema", ""), None, None);
        assert_eq!((whole.deed().as_str(), whole.thing().as_str()), ("migrate", "schema"));
        let denied = row("retry_job", ("request", "POST /api/v1/jobs/7/retry"), None, Some(json!({"why": "no"})));
        assert_eq!((denied.thing().as_str(), denied.changes()[0].as_str()), ("POST /api/v1/jobs/7/retry", "why: no"));
    }
}

//! A row of the audit in words, for whoever shows it: what was done, with whom or what, and what changed. Does not own what
//! the ledger keeps of a deed.

use crate::AuditEntry;
use serde_json::{Map, Value};

/// What of a row says what was done, and how people call what it was done with: no change.
const TOLD: [&str; 2] = ["what", "name"];
/// A digest, by which the evidence says that something is not the same, and which tells nobody anything by itself.
const DIGEST: &str = "_sha256";
/// Of something that was made, so many facts are said, and so many letters of one.
const FACTS_MAX: usize = 6;
const FACT_CHARS_MAX: usize = 80;
/// What of something that was made says most, in this order; whatever else there is follows by its name.
const FIRST: [&str; 11] = [
    "kind",
    "account_id",
    "connection_id",
    "group_id",
    "state",
    "rule",
    "act",
    "search",
    "due_at",
    "overlap",
    "priority",
];
/// What is never cut short: why something came to nothing, and what came of something.
const WHOLE: [&str; 2] = ["why", "outcome"];

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

    /// What changed, each as "state: ready → cancelled"; of what was not there before, only what it became, and of something
    /// that was made or is gone not all of it. All that the ledger keeps is in `before` and `after`.
    #[must_use]
    pub fn changes(&self) -> Vec<String> {
        let (before, after) = (object(self.before.as_ref()), object(self.after.as_ref()));
        match (&self.before, &self.after) {
            (None, _) => return facts(&after, false),
            (_, None) => return facts(&before, true),
            _ => {}
        }
        let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
        names.retain(|name| !TOLD.contains(&name.as_str()));
        names.sort_unstable();
        names.dedup();
        let line = |name: &String| match (name.strip_suffix(DIGEST), before.get(name), after.get(name)) {
            (Some(what), ..) => format!("{what}: another"),
            (None, None, after) => format!("{name}: {}", text(after)),
            (None, before, after) => format!("{name}: {} → {}", text(before), text(after)),
        };
        names.into_iter().map(line).collect()
    }

    fn told(&self, what: &str) -> Option<String> {
        [&self.after, &self.before].into_iter().find_map(|side| Some(side.as_ref()?.get(what)?.as_str()?.to_owned()))
    }
}

/// What says most of something that was made, or is gone; that there is more is said as well.
fn facts(side: &Map<String, Value>, is_gone: bool) -> Vec<String> {
    let says_nothing = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    let is_meant = |name: &str, value: &Value| !TOLD.contains(&name) && !name.ends_with(DIGEST) && !says_nothing(value);
    let mut meant: Vec<(&String, &Value)> = side.iter().filter(|(name, value)| is_meant(name, value)).collect();
    let place = |name: &str| FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len());
    meant.sort_by_key(|(name, _)| (place(name), *name));
    let more = meant.len().saturating_sub(FACTS_MAX);
    let line = |(name, value): (&String, &Value)| {
        let said = text(Some(value));
        let said = if WHOLE.contains(&name.as_str()) { said } else { cut(said) };
        if is_gone { format!("{name}: {said} → –") } else { format!("{name}: {said}") }
    };
    let mut lines: Vec<String> = meant.into_iter().take(FACTS_MAX).map(line).collect();
    lines.extend((more > 0).then(|| format!("… and {more} more")));
    lines
}

/// No longer than a line bears.
fn cut(text: String) -> String {
    match text.char_indices().nth(FACT_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
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
    fn of_what_was_made_the_most_telling_is_said_and_the_evidence_stays() {
        let made = json!({
            "name": "nightly", "kind": "noop", "account_id": 7, "connection_id": null, "rule": {"every_secs": 60},
            "payload_sha256": "d".repeat(64), "declared": false, "overlap": "skip", "priority": 2, "attempts_max": 5,
            "jitter_secs": 0, "catch_up_secs": 86_400, "created_at": "2030-05-06T12:00:00Z",
        });
        let row1 = row("create_schedule", ("schedule", "4"), None, Some(made.clone()));
        assert_eq!(row1.thing(), "schedule nightly (4)");
        let said = ["kind: noop", "account_id: 7", r#"rule: {"every_secs":60}"#, "overlap: skip", "priority: 2"];
        assert_eq!(row1.changes()[..5], said);
        assert_eq!(row1.changes()[6..], ["… and 3 more"]);
        assert_eq!(row1.after, Some(made.clone()), "all of it is kept");
        let row2 = row("delete_schedule", ("schedule", "4"), Some(made), None);
        assert_eq!(row2.changes()[0], "kind: noop → –");
        let sides = ["a", "b"].map(|digest| Some(json!({ "payload_sha256": digest.repeat(64) })));
        let [before, after] = sides;
        assert_eq!(row("update_schedule", ("schedule", "4"), before, after).changes(), ["payload: another"]);
        let long = row("create_job", ("job", "7"), None, Some(json!({"kind": "x".repeat(200)})));
        assert_eq!(long.changes()[0].chars().count(), "kind: ".len() + FACT_CHARS_MAX + 1);
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

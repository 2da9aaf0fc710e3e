//! Examples of the API's description: by the name of a field, since one name means one thing wherever it stands. What has no
//! entry here gets one by its type, where a type is enough.

use serde_json::{Value, json};

/// As a request's id looks.
pub(super) const REQUEST_ID: &str = "7b0e7d0e-8f0f-4a52-9f5b-2a52cb6a1f11";
const TIME: &str = "2030-01-02T03:04:05Z";

/// Text by the field's name.
const TEXTS: &[(&str, &str)] = &[
    ("account", "7"),
    ("act", "retry"),
    ("action", "job.retry"),
    ("actor", "grace"),
    ("actor_id", "7"),
    ("actor_kind", "person"),
    ("after", "kind noop"),
    ("agent", "servantctl/1.4.1"),
    ("assigned_to", "ada"),
    ("at_what", "/accounts/7"),
    ("bad_what", "row_hash"),
    ("before", TIME),
    ("body", "{\"Id\": \"006000000000001AAA\", \"Amount\": \"about 12,500\"}"),
    ("by", "grace"),
    ("cancel_reason", "they asked us to stop"),
    ("cancelled_by", "grace"),
    ("chain_hash", "9f86d081884c7d65"),
    ("class", "transient"),
    ("cleared_by", "servantctl resume kind salesforce_sync"),
    ("code", "conflict"),
    ("created_by", "grace"),
    ("dst", "this local time comes twice"),
    ("email", "grace@example.com"),
    ("encoding", "text"),
    ("error", "http 503: SERVER_UNAVAILABLE"),
    ("fingerprint", "1-9d870af4463aed62-salesforce_sync"),
    ("first_version", "1.4.0"),
    ("forced", "open"),
    ("forced_by", "grace"),
    ("forced_reason", "they asked us to wait"),
    ("group", "7"),
    ("health", "ok"),
    ("health_reason", "a field is no longer shown to us"),
    ("hint", "GET /api/openapi.json describes every request"),
    ("host", "host-7"),
    ("id", "7"),
    ("ip", "192.0.2.7"),
    ("issuer", "https://sign-on.example.com"),
    ("key", "7"),
    ("kind", "salesforce_sync"),
    ("kinds", "salesforce_sync"),
    ("last_version", "1.4.1"),
    ("liveness", "alive"),
    ("local", "2030-01-02 04:04:05"),
    ("log", "2030-01-02T03:04:05.678901Z WARN servant_loop::runner: the attempt failed class=transient"),
    ("message", "job 7 is running; only a failed or cancelled job is retried"),
    ("name", "nightly"),
    ("newer_than", "2h"),
    ("next_after", "salesforce"),
    ("next_before", TIME),
    ("new_password", "shown to nobody, again"),
    ("object", "Account"),
    ("objects", "Account"),
    ("old_password", "shown to nobody"),
    ("older_than", "15m"),
    ("ordered", "drain"),
    ("ordered_by", "grace"),
    ("ordered_reason", "a new version"),
    ("outcome", "done"),
    ("overlap", "skip"),
    ("path", "/login/code?code=7b0e7d0e"),
    ("paused_by", "grace"),
    ("paused_reason", "their sandbox is down"),
    ("q", "state:failed kind:salesforce_sync age:<2h"),
    ("reason", "their sandbox is down"),
    ("redrive_by", "grace"),
    ("redrive_outcome", "12 messages are moved back"),
    ("role", "operator"),
    ("record", "006000000000001AAA"),
    ("record_id", "006000000000001AAA"),
    ("request_id", REQUEST_ID),
    ("row_hash", "60303ae22b998861"),
    ("says", "the kind salesforce_sync is paused by grace: their sandbox is down"),
    ("scope", "kind"),
    ("secret", "shown once"),
    ("service", "na1.salesforce.com"),
    ("set_by", "grace"),
    ("severity", "warning"),
    ("share_reason", "their nightly export comes first"),
    ("share_set_by", "grace"),
    ("since", TIME),
    ("source", "operator"),
    ("span", "24h"),
    ("state", "failed"),
    ("state_by", "grace"),
    ("state_reason", "http 400: invalid_grant"),
    ("step", "claimed"),
    ("subject", "job"),
    ("summary", "records of Opportunity cannot be stored and are in quarantine"),
    ("ticket", "SUP-1742"),
    ("text", "timed out"),
    ("title", "http #: SERVER_UNAVAILABLE"),
    ("to", "ada"),
    ("token", "shown once"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("unique_key", "sync-7"),
    ("username", "sync@customer.example.com"),
    ("url", "https://servant.example.com/connect/salesforce?account=7"),
    ("vendor", "salesforce"),
    ("version", "1.4.1"),
    ("what", "retry"),
    ("when", "always"),
    ("zone", "Europe/Berlin"),
];

/// Numbers by the field's name, where 7 makes no sense.
const NUMBERS: &[(&str, i64)] = &[
    ("attempts_max", 10),
    ("catch_up_max", 1),
    ("catch_up_secs", 86_400),
    ("count", 10),
    ("health_pct", 5),
    ("limit", 50),
    ("per_second", 200),
    ("priority", 2),
    ("reserve_pct", 10),
    ("share_pct", 80),
    ("step_secs", 60),
    ("weight", 3),
];

/// What a state is called differs from thing to thing; and so do a few others.
const OF_PATHS: &[(&str, &str, &str)] = &[
    ("/connections", "state", "needs_reauth"),
    ("/anomalies", "state", "open"),
    ("/quarantine", "state", "open"),
    ("/groups", "state", "open"),
    ("/limits", "after", "kind/noop/operator"),
    ("/pauses", "after", "2026-11-24T06:30:00.000000Z/kind/noop"),
    ("/breakers", "after", "na1.salesforce.com"),
    ("/streams", "after", "Account"),
    ("/errors", "before", TIME),
    ("/holders", "key", "salesforce_sync"),
    ("/jobs", "account", "7"),
    ("/jobs", "group", "7"),
    ("/jobs", "before", "1000"),
    ("/jobs", "limit", "50"),
];

/// What is neither a text nor a number.
fn of_any_type(name: &str) -> Option<Value> {
    Some(match name {
        "rule" => json!({ "cron": { "expression": "0 9 * * *", "zone": "Europe/Berlin" } }),
        "payload" => json!({ "object": "Account" }),
        "checkpoint" => json!({ "after": "001000000000001AAA" }),
        "progress" => json!({ "done": 1_200, "total": 50_000, "message": "Account" }),
        "before" => json!({ "state": "failed" }),
        "after" => json!({ "state": "ready" }),
        "evidence" => json!({ "records": 1, "first_reason": "Amount: 'about 12,500' is no number" }),
        "settings" => json!({ "login_url": "https://login.salesforce.com", "objects": ["Account"] }),
        "why" => json!({ "cause": "paused", "scope": "kind", "by": "grace", "reason": "their sandbox is down" }),
        _ => return None,
    })
}

fn types_of(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect(),
        _ => Vec::new(),
    }
}

/// By its name or by its type; none where neither says enough.
fn example_of(name: &str, schema: &Value) -> Option<Value> {
    if let Some(first) = schema["enum"].get(0) {
        return Some(first.clone());
    }
    let text = || TEXTS.iter().find(|(of, _)| *of == name).map(|(_, text)| json!(text));
    match types_of(schema)[..] {
        ["string"] if schema["format"] == "date-time" => Some(json!(TIME)),
        ["string"] => text(),
        ["integer"] => Some(json!(NUMBERS.iter().find(|(of, _)| *of == name).map_or(7, |(_, number)| *number))),
        ["number"] => Some(json!(0.5)),
        ["boolean"] => Some(json!(false)),
        ["array"] if types_of(&schema["items"]) == ["integer"] => Some(json!([7])),
        ["array"] if types_of(&schema["items"]) == ["string"] => Some(json!([text()?])),
        _ => of_any_type(name),
    }
}

/// Gives each field of a schema an example, unless it has one.
pub(super) fn give(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    if let Some(parts) = schema.get_mut("allOf").and_then(Value::as_array_mut) {
        parts.iter_mut().for_each(give);
    }
    let fields = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (name, field) in fields.into_iter().flatten() {
        let is_made = ["$ref", "oneOf", "allOf", "examples", "example"].iter().any(|key| field.get(key).is_some());
        if let Some(example) = example_of(name, field).filter(|_| !is_made) {
            field["examples"] = json!([example]);
        }
    }
}

/// Gives an entry of an address an example, unless it has one.
pub(super) fn give_parameter(path: &str, parameter: &mut Value) {
    let name = parameter["name"].as_str().unwrap_or_default().to_owned();
    let of_path = OF_PATHS
        .iter()
        .find(|(part, of, _)| *of == name && path.contains(part) && types_of(&parameter["schema"]) == ["string"]);
    let example = of_path.map(|(.., text)| json!(text)).or_else(|| example_of(&name, &parameter["schema"]));
    if let Some(example) = example.filter(|_| parameter.get("example").is_none()) {
        parameter["example"] = example;
    }
}

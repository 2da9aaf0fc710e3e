//! The API's description as it is served and committed (`openapi.json` of manager-api): what the handlers say of themselves,
//! and what they all have in common, which none of them repeats: refusals, names of operations, examples.
//! Does not own what a handler takes and answers.

use super::{Description, examples};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;
use utoipa::OpenApi as _;

/// A refusal that any request may meet that is of its sort.
struct Refusal {
    status: &'static str,
    code: &'static str,
    name: &'static str,
    message: &'static str,
    /// Which requests may meet it.
    meets: fn(&Asked) -> bool,
}

/// What decides which refusals an operation may answer with.
struct Asked {
    /// Its address holds a name or an id.
    has_key: bool,
    /// It takes entries in its address.
    has_entries: bool,
    has_body: bool,
    /// Its handler says that it may be in conflict with what there is.
    has_conflict: bool,
}

const REFUSALS: [Refusal; 11] = [
    Refusal {
        status: "400",
        code: "bad_request",
        name: "BadRequest",
        message: "limit is 500, not between 1 and 200",
        meets: |asked| asked.has_key || asked.has_entries || asked.has_body,
    },
    Refusal {
        status: "401",
        code: "not_signed_in",
        name: "NotSignedIn",
        message: "the manager does not know who asks",
        meets: |_| true,
    },
    Refusal {
        status: "403",
        code: "forbidden",
        name: "Forbidden",
        message: "whoever asks may not do this",
        meets: |_| true,
    },
    Refusal {
        status: "404",
        code: "not_found",
        name: "NotFound",
        message: "there is no job 7",
        // What an entry of the body names may be missing, too.
        meets: |asked| asked.has_key || asked.has_body,
    },
    Refusal {
        status: "409",
        code: "conflict",
        name: "Conflict",
        message: "job 7 is running; only a failed or cancelled job is retried",
        meets: |asked| asked.has_conflict,
    },
    Refusal {
        status: "413",
        code: "body_too_large",
        name: "BodyTooLarge",
        message: "the body is larger than manager.body_bytes_max",
        meets: |asked| asked.has_body,
    },
    Refusal {
        status: "415",
        code: "unsupported_media_type",
        name: "UnsupportedMediaType",
        message: "send the body as JSON, with Content-Type: application/json",
        meets: |asked| asked.has_body,
    },
    Refusal {
        status: "422",
        code: "bad_request",
        name: "Unprocessable",
        message: "missing field `kind` at line 1 column 2",
        meets: |asked| asked.has_body,
    },
    Refusal {
        status: "429",
        code: "too_many_requests",
        name: "TooManyRequests",
        message: "too many requests; try again in 10 s",
        meets: |_| true,
    },
    Refusal {
        status: "500",
        code: "internal",
        name: "Internal",
        message: "the request failed on our side",
        meets: |_| true,
    },
    Refusal {
        status: "503",
        code: "database_unavailable",
        name: "Unavailable",
        message: "the database does not answer",
        meets: |_| true,
    },
];

/// The whole description.
pub(crate) fn description() -> &'static Value {
    static WHOLE: LazyLock<Value> = LazyLock::new(|| {
        let mut whole = serde_json::to_value(Description::openapi()).unwrap_or_default();
        complete(&mut whole);
        whole
    });
    &WHOLE
}

fn complete(whole: &mut Value) {
    unsigned(whole);
    whole["components"]["responses"] =
        REFUSALS.iter().map(|refusal| (refusal.name.to_owned(), described(refusal))).collect();
    for schema in each(&mut whole["components"]["schemas"]) {
        examples::give(schema.1);
    }
    for (path, methods) in each(&mut whole["paths"]) {
        for (_, operation) in each(methods) {
            common(path, operation);
        }
    }
}

/// Says of each number without a sign how great it may be; as it is derived, it is said to be one with a sign, of half of that.
fn unsigned(value: &mut Value) {
    match value {
        Value::Object(schema) => {
            if schema.get("format").is_some_and(|format| format == "int32") && schema.get("minimum") == Some(&json!(0))
            {
                schema.remove("format");
                schema.insert("maximum".to_owned(), json!(u32::MAX));
            }
            schema.values_mut().for_each(unsigned);
        }
        Value::Array(schemas) => schemas.iter_mut().for_each(unsigned),
        _ => {}
    }
}

/// The entries of an object; none of anything else.
fn each(value: &mut Value) -> impl Iterator<Item = (&String, &mut Value)> {
    value.as_object_mut().into_iter().flat_map(Map::iter_mut)
}

fn described(refusal: &Refusal) -> Value {
    let example = json!({ "error": {
        "code": refusal.code,
        "message": refusal.message,
        "request_id": examples::REQUEST_ID,
        "hint": "GET /api/openapi.json describes every request",
    } });
    let schema = json!({ "$ref": "#/components/schemas/ErrorEnvelope" });
    json!({
        "description": refusal.message,
        "content": { "application/json": { "schema": schema, "example": example } },
    })
}

/// What an operation's handler need not say.
fn common(path: &str, operation: &mut Value) {
    // Handlers of different things have the same names.
    let (tag, name) = (operation["tags"][0].as_str(), operation["operationId"].as_str());
    operation["operationId"] = json!(format!("{}_{}", tag.unwrap_or_default(), name.unwrap_or_default()));
    let body = &mut operation["requestBody"];
    let has_body = body.is_object();
    if has_body {
        let schema = &mut body["content"]["application/json"]["schema"];
        // A body that may be left out is described as one that may be null, which it may not.
        let given = schema["oneOf"].as_array().and_then(|kinds| kinds.iter().find(|kind| kind["$ref"].is_string()));
        if let Some(given) = given.cloned() {
            *schema = given;
            body["required"] = json!(false);
        }
    }
    for parameter in operation["parameters"].as_array_mut().into_iter().flatten() {
        examples::give_parameter(path, parameter);
    }
    let asked = Asked {
        has_key: path.contains('{'),
        has_entries: operation["parameters"].is_array(),
        has_body,
        has_conflict: operation["responses"]["409"].is_object(),
    };
    let responses = &mut operation["responses"];
    for refusal in &REFUSALS {
        if (refusal.meets)(&asked) {
            responses[refusal.status] = json!({ "$ref": format!("#/components/responses/{}", refusal.name) });
        }
    }
    // Looking for what is not there has made entries of nothing.
    if let Some(operation) = operation.as_object_mut() {
        operation.retain(|_, value| !value.is_null());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_operations_have_one_name_and_each_says_its_refusals() {
        let mut names = BTreeSet::new();
        for methods in description()["paths"].as_object().unwrap().values() {
            for operation in methods.as_object().unwrap().values() {
                let name = operation["operationId"].as_str().unwrap();
                assert!(names.insert(name), "{name} twice");
                for status in ["401", "403", "429", "500", "503"] {
                    assert!(operation["responses"][status]["$ref"].is_string(), "{name} {status}");
                }
                assert_eq!(operation["requestBody"].is_object(), operation["responses"]["415"].is_object(), "{name}");
                assert!(operation["summary"].is_string(), "{name} does not say what it does");
            }
        }
        assert!(names.len() > 70);
    }

    #[test]
    fn every_field_has_an_example() {
        let mut missing = BTreeSet::new();
        for (name, schema) in description()["components"]["schemas"].as_object().unwrap() {
            let parts = schema["allOf"].as_array().into_iter().flatten().chain([schema]);
            for (field, property) in parts.filter_map(|part| part["properties"].as_object()).flatten() {
                // What is made of other schemas has theirs.
                let is_made =
                    ["$ref", "oneOf", "allOf", "example", "examples"].iter().any(|key| property.get(key).is_some());
                if !is_made && property["items"].get("$ref").is_none() {
                    missing.insert(format!("{name}.{field}"));
                }
            }
        }
        assert!(missing.is_empty(), "no example in api/examples.rs: {missing:?}");
    }

    /// Generated, committed, and compared here, so that a change of the API is seen in a review.
    #[test]
    fn the_description_is_the_committed_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../manager-api/openapi.json");
        let text = serde_json::to_string_pretty(description()).unwrap() + "\n";
        if std::env::var_os("SERVANT_RENEW_OPENAPI").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        let changed = text.lines().zip(committed.lines()).find(|(now, was)| now != was);
        assert!(
            text == committed,
            "the API is not the one of crates/manager-api/openapi.json: {changed:?} (now, committed). If that is meant: \
             SERVANT_RENEW_OPENAPI=1 cargo test -p manager --lib the_description"
        );
    }
}

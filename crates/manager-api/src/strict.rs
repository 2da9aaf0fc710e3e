//! Structures within requests are read from objects alone. The derived reading takes arrays, too, by the order of the fields,
//! which nobody described. Does not own the outermost one: the manager refuses a body that is an array.

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::Value;

fn read<T: DeserializeOwned, E: Error>(value: Value) -> Result<T, E> {
    if value.is_array() {
        return Err(E::custom("invalid type: array, expected an object"));
    }
    serde_json::from_value(value).map_err(E::custom)
}

/// One structure.
pub(crate) fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<T, D::Error> {
    read(Value::deserialize(from)?)
}

/// One, or null.
pub(crate) fn optional<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    Option::<Value>::deserialize(from)?.map(read).transpose()
}

/// An array of them.
pub(crate) fn objects<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Vec<T>, D::Error> {
    Vec::<Value>::deserialize(from)?.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use crate::{CreateGroup, LimitRequest};
    use serde_json::json;

    #[test]
    fn arrays_are_no_structures() {
        let limit =
            |bounds| serde_json::from_value::<LimitRequest>(json!({ "bounds": bounds, "by": "a", "reason": "b" }));
        assert!(limit(json!({ "per_day": 7 })).is_ok());
        assert!(limit(json!([7])).unwrap_err().to_string().contains("expected an object"));
        let group = |jobs, finishing| {
            serde_json::from_value::<CreateGroup>(
                json!({ "name": "a", "by": "b", "jobs": jobs, "finishing": finishing }),
            )
        };
        let job = json!({ "kind": "noop" });
        assert!(group(json!([job]), json!(null)).is_ok() && group(json!([]), job.clone()).is_ok());
        assert!(group(json!([["noop"]]), json!(null)).is_err());
        assert!(group(json!([job]), json!(["noop"])).is_err());
    }
}

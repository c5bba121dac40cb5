//! What an `apply` changed: the fields whose values differ.

use culvert_proto::v1;
use culvert_proto::v1::object::Kind;
use serde_json::Value;

use crate::console::failure::Failure;
use crate::console::message::to_json;

/// The fields that differ between an object before and after, as [`differences`] has them. The value of a secret is in
/// neither, so it is said apart whether it is another one.
pub(crate) fn changes(
    before: Option<&v1::Object>,
    after: Option<&v1::Object>,
    value_changed: bool,
) -> Result<Vec<String>, Failure> {
    let mut changes = differences(&values(before)?, &values(after)?);
    if value_changed {
        changes.push("value".to_owned());
    }
    Ok(changes)
}

fn values(object: Option<&v1::Object>) -> Result<Value, Failure> {
    match object.and_then(|object| object.kind.as_ref()) {
        Some(Kind::Tenant(tenant)) => to_json("Tenant", tenant),
        Some(Kind::Secret(secret)) => to_json("Secret", secret),
        Some(Kind::Peer(peer)) => to_json("Peer", peer),
        None => Ok(Value::Null),
    }
}

/// One difference each, e.g. `children[0].replayWindow: 128 → 1024`.
fn differences(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", old, new, &mut found);
    found
}

fn compare(path: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let (old, new) = (a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null));
                compare(&path, old, new, found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (old, new)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{i}]"), old, new, found);
            }
        }
        (old, new) if old != new => found.push(format!("{path}: {} → {}", shown(old), shown(new))),
        _ => {}
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "(none)".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            // A child is told by its name; the rest would fill the screen.
            fields.get("name").map_or_else(|| value.to_string(), shown)
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_told() {
        let old = json!({ "a": 1, "c": [{ "name": "x", "w": 1 }], "l": ["p"], "gone": true });
        let new = json!({ "a": 1, "c": [{ "name": "x", "w": 2 }], "l": ["p", "q"] });
        assert_eq!(differences(&old, &new), ["c[0].w: 1 → 2", "gone: true → (none)", "l: [p] → [p, q]"]);
        assert!(differences(&old, &old).is_empty());
    }
}

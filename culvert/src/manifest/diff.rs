//! What an `apply` changed: the fields whose values differ.

use std::collections::BTreeSet;

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

/// One difference each, e.g. `children[lan].replayWindow: 128 → 1024`.
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
        (Value::Array(a), Value::Array(b)) => compare_items(path, a, b, found),
        (old, new) if old != new => found.push(format!("{path}: {} → {}", shown(old), shown(new))),
        _ => {}
    }
}

/// Items that have names are the same where their names are: one that comes or goes must not hide what changes in another. Others are
/// told by their places.
fn compare_items(path: &str, a: &[Value], b: &[Value], found: &mut Vec<String>) {
    if let (Some(old), Some(new)) = (by_name(a), by_name(b)) {
        for (name, item) in &old {
            match new.iter().find(|(other, _)| other == name) {
                Some((_, other)) => compare(&format!("{path}[{name}]"), item, other, found),
                None => found.push(format!("{path}: - {name}")),
            }
        }
        let is_in = |all: &[(&str, &Value)], name: &str| all.iter().any(|(other, _)| *other == name);
        let come = new.iter().filter(|(name, _)| !is_in(&old, name));
        found.extend(come.map(|(name, _)| format!("{path}: + {name}")));
        // Of rules the first that fits counts.
        let names =
            |all: &[(&str, &Value)]| all.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>();
        let stay = |all: &[(&str, &Value)], other: &[(&str, &Value)]| {
            all.iter()
                .filter(|(name, _)| is_in(other, name))
                .map(|(name, _)| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        if stay(&old, &new) != stay(&new, &old) {
            found.push(format!("{path}: order [{}] → [{}]", names(&old).join(", "), names(&new).join(", ")));
        }
        return;
    }
    if a.len() != b.len() && !a.iter().chain(b).any(Value::is_object) {
        return found.push(format!("{path}: {} → {}", listed(a), listed(b)));
    }
    for at in 0..a.len().max(b.len()) {
        let (old, new) = (a.get(at).unwrap_or(&Value::Null), b.get(at).unwrap_or(&Value::Null));
        compare(&format!("{path}[{at}]"), old, new, found);
    }
}

/// Items by their names, if each has one of its own.
fn by_name(items: &[Value]) -> Option<Vec<(&str, &Value)>> {
    let named = items.iter().map(|item| Some((item.get("name")?.as_str()?, item)));
    let named: Vec<_> = named.collect::<Option<_>>()?;
    let names: BTreeSet<&str> = named.iter().map(|(name, _)| *name).collect();
    (names.len() == named.len()).then_some(named)
}

fn listed(items: &[Value]) -> String {
    format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", "))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "(none)".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => listed(items),
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
        assert_eq!(differences(&old, &new), ["c[x].w: 1 → 2", "gone: true → (none)", "l: [p] → [p, q]"]);
        assert!(differences(&old, &old).is_empty());
    }

    #[test]
    fn what_comes_into_a_list_hides_nothing_of_what_is_in_it() {
        let rule = |name: &str, action: &str| json!({ "name": name, "action": action });
        let (a, b) = (rule("a", "PROTECT"), rule("b", "DISCARD"));
        let told = |old: &[&Value], new: &[&Value]| differences(&json!({ "r": old }), &json!({ "r": new }));
        let bypassed = rule("a", "BYPASS");
        assert_eq!(
            told(&[&a, &b], &[&bypassed, &b, &rule("c", "PROTECT")]),
            ["r[a].action: PROTECT → BYPASS", "r: + c"]
        );
        assert_eq!(told(&[&a, &b], &[&bypassed]), ["r[a].action: PROTECT → BYPASS", "r: - b"]);
        assert_eq!(told(&[&a, &b], &[&b, &a]), ["r: order [a, b] → [b, a]"]);
        assert_eq!(told(&[], &[&a]), ["r: + a"]);
        // Without names of their own it is the places that tell.
        let (first, second) = (json!({ "action": "PROTECT" }), json!({ "action": "BYPASS" }));
        assert_eq!(
            told(&[&first], &[&second, &first]),
            ["r[0].action: PROTECT → BYPASS", r#"r[1]: (none) → {"action":"PROTECT"}"#]
        );
        assert_eq!(told(&[&a, &a], &[&bypassed, &a]), ["r[0].action: PROTECT → BYPASS"]);
    }
}

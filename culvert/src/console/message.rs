//! Messages as JSON and back, by their descriptors (the proto3 JSON mapping).
//!
//! Reading is strict and friendly: every fault is found with its path, names are taken in both spellings, and a
//! duration may be written `30s`, `1h 30m` or `7 days`.

use std::collections::BTreeMap;

use culvert_proto::message_descriptor;
use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, SerializeOptions};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::console::failure::Failure;

/// A message that serialises as JSON or YAML, its fields in the order of the API.
///
/// It is kept as octets and taken apart when it is written: of a list of a hundred thousand, taken apart is one at a time.
pub(crate) struct Document {
    descriptor: MessageDescriptor,
    octets: Vec<u8>,
    options: SerializeOptions,
}

impl Document {
    /// The message `message` of the type `name` of `culvert.v1`. In JSON 64-bit numbers are texts, as many readers
    /// would round them; in YAML, which people read, they are numbers.
    pub(crate) fn new<M: Message>(name: &str, message: &M, text_numbers: bool) -> Result<Self, Failure> {
        let unknown = || Failure::failed(format!("{name}: unknown message"));
        let descriptor = message_descriptor(name).ok_or_else(unknown)?;
        let options = SerializeOptions::new().stringify_64_bit_integers(text_numbers);
        Ok(Self { descriptor, octets: message.encode_to_vec(), options })
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let message = DynamicMessage::decode(self.descriptor.clone(), self.octets.as_slice());
        message.map_err(S::Error::custom)?.serialize_with_options(serializer, &self.options)
    }
}

/// A message as a JSON value.
pub(crate) fn to_json<M: Message>(name: &str, message: &M) -> Result<Value, Failure> {
    let document = Document::new(name, message, false)?;
    serde_json::to_value(&document).map_err(|error| Failure::failed(format!("{name}: {error}")))
}

/// A message of the type `name`, or everything that is wrong with the value, each with its path.
pub(crate) fn from_json<M: Message + Default>(name: &str, mut value: Value) -> Result<M, Vec<String>> {
    let Some(descriptor) = message_descriptor(name) else {
        return Err(vec![format!("{name}: unknown message")]);
    };
    let mut faults = Vec::new();
    message(&descriptor, &mut value, "", &mut faults);
    if !faults.is_empty() {
        return Err(faults);
    }
    let dynamic = DynamicMessage::deserialize(descriptor, value).map_err(|error| vec![error.to_string()])?;
    dynamic.transcode_to().map_err(|error| vec![error.to_string()])
}

/// Checks the fields of a message and rewrites them to the canonical form.
fn message(descriptor: &MessageDescriptor, value: &mut Value, path: &str, faults: &mut Vec<String>) {
    let Value::Object(fields) = value else {
        faults.push(format!("{}: expected fields, found {}", shown(path), kind_of(value)));
        return;
    };
    // An empty field (`displayName:`) is as if it were not there.
    fields.retain(|_, value| !value.is_null());
    let mut seen = BTreeMap::new();
    for (key, value) in fields {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match descriptor.get_field_by_json_name(key).or_else(|| descriptor.get_field_by_name(key)) {
            Some(found) => {
                field(&found, value, &path, faults);
                // One of them would be taken, and the other one dropped without a word.
                if let Some(other) = seen.insert(found.number(), key) {
                    faults.push(format!("{path}: there is {other} too; one of them is enough"));
                }
            }
            None => {
                let known: Vec<_> = descriptor.fields().map(|field| field.json_name().to_owned()).collect();
                faults.push(format!("{path}: unknown field; expected one of {}", known.join(", ")));
            }
        }
    }
}

fn field(descriptor: &FieldDescriptor, value: &mut Value, path: &str, faults: &mut Vec<String>) {
    if descriptor.is_map() {
        return;
    }
    if !descriptor.is_list() {
        return single(&descriptor.kind(), value, path, faults);
    }
    let Value::Array(items) = value else {
        faults.push(format!(
            "{path}: expected a list, found {}; write [..] or lines with '- '",
            kind_of(value)
        ));
        return;
    };
    for (i, item) in items.iter_mut().enumerate() {
        single(&descriptor.kind(), item, &format!("{path}[{i}]"), faults);
    }
}

fn single(kind: &Kind, value: &mut Value, path: &str, faults: &mut Vec<String>) {
    match kind {
        Kind::Message(inner) if inner.full_name() == "google.protobuf.Duration" => match duration(value) {
            Ok(canonical) => *value = canonical,
            Err(fault) => faults.push(format!("{path}: {fault}")),
        },
        Kind::Message(inner) if inner.full_name().starts_with("google.protobuf.") => {}
        Kind::Message(inner) => message(inner, value, path, faults),
        Kind::String if !value.is_string() => {
            faults.push(format!("{path}: expected a text, found {}; put it in quotes", kind_of(value)));
        }
        Kind::Bool if !value.is_boolean() => {
            faults.push(format!("{path}: expected true or false, found {}", kind_of(value)));
        }
        Kind::Enum(values) => {
            let known = |name: &str| values.get_value_by_name(name).is_some();
            if !value.as_str().is_some_and(known) && !value.is_number() {
                let names: Vec<_> = values.values().map(|value| value.name().to_owned()).collect();
                let names =
                    names.iter().filter(|name| !name.ends_with("_UNSPECIFIED")).cloned().collect::<Vec<_>>();
                faults.push(format!("{path}: {value} is not one of {}", names.join(", ")));
            }
        }
        Kind::Uint32 | Kind::Uint64 | Kind::Int32 | Kind::Int64 | Kind::Fixed64 => {
            let max = if matches!(kind, Kind::Uint32 | Kind::Int32) { u64::from(u32::MAX) } else { u64::MAX };
            let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
            if number.is_none_or(|number| number > max) {
                faults.push(format!("{path}: expected a whole number up to {max}, found {value}"));
            }
        }
        _ => {}
    }
}

/// `1h 30m` as `5400s`.
fn duration(value: &Value) -> Result<Value, String> {
    let text = match value {
        Value::String(text) => text,
        Value::Number(number) => return Err(format!("{number} has no unit; write {number}s")),
        other => return Err(format!("expected a duration such as 30s, found {}", kind_of(other))),
    };
    let duration = humantime::parse_duration(text)
        .or_else(|error| {
            text.strip_suffix('s')
                .and_then(|text| text.parse().ok())
                .and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok())
                .ok_or(error)
        })
        .map_err(|error| format!("{text:?} is not a duration: {error}; expected such as 30s or 1h"))?;
    Ok(Value::String(match duration.subsec_nanos() {
        0 => format!("{}s", duration.as_secs()),
        nanos => format!("{}.{nanos:09}s", duration.as_secs()),
    }))
}

fn shown(path: &str) -> &str {
    if path.is_empty() { "document" } else { path }
}

fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "fields".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use culvert_proto::v1;
    use serde_json::json;

    fn faults(value: Value) -> Vec<String> {
        from_json::<v1::Peer>("Peer", value).unwrap_err()
    }

    #[test]
    fn both_spellings_and_durations_are_read() {
        let value = json!({
            "displayName": "x", "local_identity": "a", "startAction": "START", "forceEncapsulation": null,
            "ike": { "dpdInterval": "1m 30s", "lifetime": { "rekeyTime": "7 days" } },
            "children": [{ "name": "lan", "replayWindow": 128 }],
        });
        let peer: v1::Peer = from_json("Peer", value).unwrap();
        assert_eq!((peer.display_name.as_str(), peer.local_identity.as_str()), ("x", "a"));
        assert_eq!(peer.start_action(), v1::StartAction::Start);
        let ike = peer.ike.clone().unwrap();
        assert_eq!(ike.dpd_interval.unwrap().seconds, 90);
        assert_eq!(ike.lifetime.unwrap().rekey_time.unwrap().seconds, 7 * 86400);
        // What is printed can be read again.
        for text_numbers in [true, false] {
            let printed = serde_json::to_value(Document::new("Peer", &peer, text_numbers).unwrap()).unwrap();
            assert_eq!(from_json::<v1::Peer>("Peer", printed).unwrap(), peer);
        }
    }

    #[test]
    fn fractions_of_a_second_survive() {
        let dpd_interval = Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 });
        let ike = Some(v1::IkeConfig { dpd_interval, ..Default::default() });
        let peer = v1::Peer { ike, ..Default::default() };
        let printed = to_json("Peer", &peer).unwrap();
        assert_eq!(from_json::<v1::Peer>("Peer", printed).unwrap(), peer);
    }

    #[test]
    fn every_fault_has_its_path() {
        let found = faults(json!({
            "remoteIdentity": 12,
            "startAction": "BEGIN",
            "ike": { "dpdInterval": 30 },
            "children": [{ "localSubnets": "10.0.0.0/24", "remoteSubnet": [] }],
        }));
        // serde_json's maps are in the order of keys.
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(found[0].starts_with("children[0].localSubnets: expected a list"), "{found:?}");
        assert!(found[1].starts_with("children[0].remoteSubnet: unknown field; expected one of name, local"));
        assert_eq!(found[2], "ike.dpdInterval: 30 has no unit; write 30s");
        assert_eq!(found[3], "remoteIdentity: expected a text, found the number 12; put it in quotes");
        assert_eq!(found[4], "startAction: \"BEGIN\" is not one of NONE, START, ON_DEMAND");
        assert_eq!(faults(json!("x")), ["document: expected fields, found the text \"x\""]);
        assert!(faults(json!({ "children": [{ "replayWindow": -1 }] }))[0].contains("whole number"));
        let twice = json!({ "displayName": "one", "display_name": "two" });
        assert_eq!(faults(twice), ["display_name: there is displayName too; one of them is enough"]);
        for text in ["-5s", "-0.5s", "nans", "infs", "1e30s", "", "s", "5 parsecs", "99999999999999999999s"] {
            let found = faults(json!({ "ike": { "dpdInterval": text } }));
            assert!(found[0].starts_with("ike.dpdInterval: "), "{text}: {found:?}");
        }
    }
}

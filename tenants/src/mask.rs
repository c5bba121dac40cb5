//! Update masks (AIP-161): which fields of a patch replace those of the stored message.

use culvert_proto::message_descriptor;
use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value};

use crate::violation::Violations;

/// Depth of a path: the messages of the API nest less.
const MAX_DEPTH: usize = 8;
/// Paths of a mask: more than the fields there are.
const MAX_PATHS: usize = 64;

/// Applies `patch` to `base`, messages of the type `name` of `culvert.v1`.
///
/// Without a mask the fields present in the patch are taken, with `*` all of them, else those named. A list or a
/// map is replaced whole. Output-only fields may be named: whoever parses the result ignores them.
pub(crate) fn apply<M: Message + Default>(
    name: &str,
    base: &M,
    patch: &M,
    mask: Option<&prost_types::FieldMask>,
) -> Result<M, Violations> {
    let broken = |error: &dyn std::fmt::Display| Violations::one("update_mask", error.to_string());
    let descriptor = message_descriptor(name).ok_or_else(|| broken(&"unknown message"))?;
    let dynamic = |message: &M| -> Result<DynamicMessage, Violations> {
        DynamicMessage::decode(descriptor.clone(), message.encode_to_vec().as_slice()).map_err(|e| broken(&e))
    };
    let (mut merged, patch) = (dynamic(base)?, dynamic(patch)?);
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    if paths.len() > MAX_PATHS {
        return Err(broken(&format_args!("{} paths; at most {MAX_PATHS}", paths.len())));
    }
    if paths.iter().any(|path| path == "*") {
        merged = patch;
    } else if paths.is_empty() {
        for (field, value) in patch.fields() {
            set(&mut merged, &field, value.clone());
        }
    } else {
        let mut faults = Violations::new();
        for path in paths {
            let parts: Vec<&str> = path.split('.').take(MAX_DEPTH + 1).collect();
            if let Err(fault) = copy(&mut merged, Some(&patch), &parts) {
                faults.add("update_mask", format!("{path:?}: {fault}"));
            }
        }
        faults.into_result()?;
    }
    merged.transcode_to().map_err(|e| broken(&e))
}

/// Copies one path. A message that the patch lacks clears what is below it.
fn copy(base: &mut DynamicMessage, patch: Option<&DynamicMessage>, path: &[&str]) -> Result<(), String> {
    let Some((first, rest)) = path.split_first() else {
        return Ok(());
    };
    let field = find(&base.descriptor(), first)?;
    if rest.is_empty() {
        match patch.filter(|patch| patch.has_field(&field)) {
            Some(patch) => set(base, &field, patch.get_field(&field).into_owned()),
            None => base.clear_field(&field),
        }
        return Ok(());
    }
    if field.is_list() || field.is_map() || !matches!(field.kind(), Kind::Message(_)) {
        return Err(format!("{first:?} has no fields of its own; name it alone"));
    }
    let inner =
        patch.filter(|patch| patch.has_field(&field)).map(|patch| patch.get_field(&field).into_owned());
    let inner = inner.as_ref().and_then(Value::as_message);
    match base.get_field_mut(&field).as_message_mut() {
        Some(message) => copy(message, inner, rest),
        None => Ok(()),
    }
}

/// Sets a field; the other alternatives of its oneof are cleared.
fn set(message: &mut DynamicMessage, field: &FieldDescriptor, value: Value) {
    message.set_field(field, value);
}

fn find(message: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, String> {
    message.get_field_by_name(name).or_else(|| message.get_field_by_json_name(name)).ok_or_else(|| {
        let known: Vec<_> = message.fields().map(|field| field.name().to_owned()).collect();
        format!("there is no field {name:?}; expected one of {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use culvert_proto::v1;

    fn tenant(display_name: &str, max_peers: u32, max_secrets: u32) -> v1::Tenant {
        v1::Tenant {
            display_name: display_name.to_owned(),
            quotas: Some(v1::Quotas { max_peers, max_secrets, ..Default::default() }),
            ..Default::default()
        }
    }

    fn with(patch: &v1::Tenant, paths: &[&str]) -> Result<v1::Tenant, Violations> {
        let mask = prost_types::FieldMask { paths: paths.iter().map(ToString::to_string).collect() };
        apply("Tenant", &tenant("old", 1, 2), patch, Some(&mask))
    }

    #[test]
    fn only_named_fields_change() {
        assert_eq!(with(&tenant("new", 8, 9), &["quotas.max_peers"]).unwrap(), tenant("old", 8, 2));
        assert_eq!(
            with(&tenant("new", 8, 9), &["display_name", "quotas.maxSecrets"]).unwrap(),
            tenant("new", 1, 9)
        );
        assert_eq!(with(&tenant("new", 8, 9), &["*"]).unwrap(), tenant("new", 8, 9));
        assert_eq!(with(&tenant("", 8, 9), &["display_name"]).unwrap(), tenant("", 1, 2));
        assert_eq!(with(&v1::Tenant::default(), &["quotas.max_peers"]).unwrap(), tenant("old", 0, 2));
    }

    #[test]
    fn without_a_mask_what_is_present_changes() {
        let patch = v1::Tenant { display_name: "new".to_owned(), ..Default::default() };
        assert_eq!(apply("Tenant", &tenant("old", 1, 2), &patch, None).unwrap(), tenant("new", 1, 2));
    }

    #[test]
    fn alternatives_exclude_each_other() {
        use v1::uplink::{Hub, Kind, Tun};
        let uplink =
            |kind| v1::Tenant { uplink: Some(v1::Uplink { kind: Some(kind) }), ..Default::default() };
        let (hub, tun) = (uplink(Kind::Hub(Hub {})), uplink(Kind::Tun(Tun::default())));
        let mask = prost_types::FieldMask { paths: vec!["uplink.tun".to_owned()] };
        assert_eq!(apply("Tenant", &hub, &tun, Some(&mask)).unwrap(), tun);
    }

    #[test]
    fn unknown_paths_are_named() {
        let fault = |path: &str| with(&tenant("new", 8, 9), &[path]).unwrap_err().to_string();
        assert!(fault("quotas.max_pears").contains("max_peers, max_secrets, packets_per_second"));
        assert!(fault("display_name.x").contains("no fields of its own"));
        assert!(fault("").contains("there is no field"));
    }
}

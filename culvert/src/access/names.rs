//! The resources that a request names, by the fields that its proto marks.

use std::sync::LazyLock;

use bytes::Bytes;
use culvert_proto::descriptor_pool;
use prost::Message as _;
use prost_reflect::{
    DynamicMessage, ExtensionDescriptor, FieldDescriptor, MessageDescriptor, ReflectMessage as _, Value,
};
use tenants::TenantName;

/// Messages in messages: what nests deeper than the API's own is nobody's.
const MAX_DEPTH: usize = 16;
/// Names of all tenants.
const ALL: &str = "tenants/-";

/// A request, and what it names.
pub(crate) struct Named {
    message: DynamicMessage,
    names: Vec<String>,
}

/// What a request names is not the caller's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Foreign(pub(crate) String);

impl Named {
    /// Reads a request. `None` if it is no message of this type.
    pub(crate) fn read(descriptor: &MessageDescriptor, octets: &[u8]) -> Option<Self> {
        let message = DynamicMessage::decode(descriptor.clone(), octets).ok()?;
        let mut names = Vec::new();
        collect(&message, MAX_DEPTH, &mut names);
        Some(Self { message, names })
    }

    /// The names that are not empty.
    pub(crate) fn into_names(self) -> Vec<String> {
        self.names
    }

    /// Refuses names of others. Where all tenants are listed the caller's own is meant.
    ///
    /// The request as it is to be served, if it is another one.
    pub(crate) fn confine(&mut self, tenant: &TenantName, lists: bool) -> Result<Option<Bytes>, Foreign> {
        let parent = self.message.descriptor().get_field_by_name("parent");
        let mut changed = None;
        if let Some(field) = parent.filter(is_name) {
            let given = self.message.get_field(&field).as_str().unwrap_or_default().to_owned();
            if lists && (given == ALL || given.is_empty()) {
                self.message.set_field(&field, Value::String(tenant.to_string()));
                self.names.retain(|name| *name != given);
                changed = Some(Bytes::from(self.message.encode_to_vec()));
            } else if given.is_empty() {
                return Err(Foreign("the node".to_owned()));
            }
        }
        match self.names.iter().find(|name| !tenant.owns(name)) {
            Some(foreign) => Err(Foreign(foreign.clone())),
            None => Ok(changed),
        }
    }
}

fn collect(message: &DynamicMessage, depth: usize, names: &mut Vec<String>) {
    for (field, value) in message.fields() {
        let marked = is_name(&field);
        match value {
            Value::List(items) => items.iter().for_each(|item| one(item, marked, depth, names)),
            Value::Map(items) => items.values().for_each(|item| one(item, marked, depth, names)),
            value => one(value, marked, depth, names),
        }
    }
}

fn one(value: &Value, marked: bool, depth: usize, names: &mut Vec<String>) {
    match value {
        Value::String(name) if marked && !name.is_empty() => names.push(name.clone()),
        Value::Message(inner) if depth > 0 => collect(inner, depth - 1, names),
        _ => {}
    }
}

/// Whether the field is marked as the name of a resource.
fn is_name(field: &FieldDescriptor) -> bool {
    static EXTENSION: LazyLock<Option<ExtensionDescriptor>> =
        LazyLock::new(|| descriptor_pool().get_extension_by_name("culvert.v1.resource"));
    EXTENSION
        .as_ref()
        .is_some_and(|extension| field.options().get_extension(extension).as_bool() == Some(true))
}

#[cfg(test)]
/// Whether a request of this type names resources.
pub(crate) fn has_names(message: &MessageDescriptor) -> bool {
    fn within(message: &MessageDescriptor, depth: usize) -> bool {
        depth > 0 && message.fields().any(|field| {
            is_name(&field)
                || matches!(field.kind(), prost_reflect::Kind::Message(inner) if within(&inner, depth - 1))
        })
    }
    within(message, 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use culvert_proto::{message_descriptor, v1};

    fn read<M: prost::Message>(name: &str, message: &M) -> Named {
        Named::read(&message_descriptor(name).unwrap(), &message.encode_to_vec()).unwrap()
    }

    fn acme() -> TenantName {
        "tenants/acme".parse().unwrap()
    }

    #[test]
    fn names_are_found_wherever_they_are() {
        let peer = |name: &str| v1::Peer {
            name: name.into(),
            display_name: "tenants/x".into(),
            ..Default::default()
        };
        let update = v1::UpdatePeerRequest { peer: Some(peer("tenants/acme/peers/a")), ..Default::default() };
        assert_eq!(read("UpdatePeerRequest", &update).into_names(), ["tenants/acme/peers/a"]);
        let kind = |name: &str| v1::Object { kind: Some(v1::object::Kind::Peer(peer(name))) };
        let objects = vec![kind("tenants/acme/peers/a"), kind("tenants/other/peers/b")];
        let mut apply = read("ApplyRequest", &v1::ApplyRequest { objects, ..Default::default() });
        assert_eq!(apply.confine(&acme(), false), Err(Foreign("tenants/other/peers/b".into())));
        let names = vec!["tenants/acme/peers/a".into(), "tenants/acme2".into()];
        let mut delete = read("DeleteRequest", &v1::DeleteRequest { names, ..Default::default() });
        assert_eq!(delete.confine(&acme(), false), Err(Foreign("tenants/acme2".into())));
    }

    #[test]
    fn all_tenants_are_the_own_one_where_things_are_listed() {
        for parent in ["tenants/-", ""] {
            let list = v1::ListPeersRequest { parent: parent.into(), page_size: 7, ..Default::default() };
            let served = read("ListPeersRequest", &list).confine(&acme(), true).unwrap().unwrap();
            let served = v1::ListPeersRequest::decode(served).unwrap();
            assert_eq!((served.parent.as_str(), served.page_size), ("tenants/acme", 7));
        }
        let create = v1::CreateTokenRequest { token_id: "t".into(), ..Default::default() };
        assert!(read("CreateTokenRequest", &create).confine(&acme(), false).is_err());
        let own = v1::ListPeersRequest { parent: "tenants/acme".into(), ..Default::default() };
        assert_eq!(read("ListPeersRequest", &own).confine(&acme(), true), Ok(None));
    }
}

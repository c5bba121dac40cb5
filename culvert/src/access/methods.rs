//! What each method asks of its caller, as its proto says.

use std::collections::HashMap;
use std::sync::LazyLock;

use culvert_proto::{descriptor_pool, v1};
use prost_reflect::{MessageDescriptor, MethodDescriptor, Value};
use tenants::Role;

/// What a method asks of its caller.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The least role that may call it.
    pub role: Role,
    /// Who of those who have it.
    pub scope: v1::Scope,
    /// Its own write of the catalog is what the audit log shows.
    pub catalog: bool,
    /// What it is asked with.
    pub request: MessageDescriptor,
    /// It lists what its parent has: `tenants/-` stands for whatever the caller may see.
    pub lists: bool,
    /// Its answer is a stream, which may outlive the caller's credential.
    pub streams: bool,
}

impl Rule {
    /// Whether the audit log is to say what was asked: all but what only reads.
    pub(crate) fn is_audited(&self) -> bool {
        self.role > Role::Viewer
    }
}

/// The rules by the path of the method: `/culvert.v1.PeerService/GetPeer`.
pub fn rules() -> &'static HashMap<String, Rule> {
    static RULES: LazyLock<HashMap<String, Rule>> = LazyLock::new(|| {
        let methods = descriptor_pool().services().flat_map(|service| service.methods().collect::<Vec<_>>());
        methods.filter_map(|method| Some((path(&method), rule(&method)?))).collect()
    });
    &RULES
}

fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

/// `None` if the proto does not say it: nobody may call that one, and a test finds it.
fn rule(method: &MethodDescriptor) -> Option<Rule> {
    let extension = descriptor_pool().get_extension_by_name("culvert.v1.access")?;
    let options = method.options();
    let access = options.get_extension(&extension);
    let access = access.as_message()?;
    let number = |field: &str| access.get_field_by_name(field).and_then(|value| value.as_enum_number());
    let scope =
        v1::Scope::try_from(number("scope")?).ok().filter(|scope| *scope != v1::Scope::Unspecified)?;
    Some(Rule {
        role: Role::from_proto(number("role")?)?,
        scope,
        catalog: access.get_field_by_name("catalog").as_deref() == Some(&Value::Bool(true)),
        request: method.input(),
        streams: method.is_server_streaming(),
        lists: ["List", "Stream", "Watch"].iter().any(|verb| method.name().starts_with(verb)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::names::has_names;

    #[test]
    fn every_method_says_what_it_asks() {
        for service in descriptor_pool().services() {
            for method in service.methods() {
                let rule = rules().get(&path(&method));
                let rule = rule.unwrap_or_else(|| panic!("{} has no access", method.full_name()));
                // Otherwise nobody could tell whose it is.
                if rule.scope == v1::Scope::Tenant {
                    assert!(has_names(&rule.request), "{} names no resource", method.full_name());
                }
                assert!(!rule.catalog || rule.role == Role::Admin, "{}", method.full_name());
            }
        }
        assert!(rules().len() > 30, "{}", rules().len());
        let rule = &rules()["/culvert.v1.PeerService/InitiatePeer"];
        assert_eq!((rule.role, rule.scope), (Role::Operator, v1::Scope::Tenant));
    }
}

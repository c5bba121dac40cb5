//! What an author may touch. The API has asked before who may call what; here it is asked of every object that would change,
//! whatever way it came.

use std::sync::Arc;

use crate::author::Author;
use crate::catalog::object::{ChangeKind, Object};
use crate::error::Error;
use crate::tenant::Tenant;

/// Refuses what is not the author's to do: to a tenant's caller another tenant is not there, and of its own it changes
/// everything but what it shares with others on the node.
pub(crate) fn check(
    author: &Author,
    kind: ChangeKind,
    object: &Object,
    before: Option<&Object>,
) -> Result<(), Error> {
    let Some(tenant) = &author.tenant else { return Ok(()) };
    if object.tenant() != Some(tenant) {
        return Err(Error::NotFound(object.name()));
    }
    let denied = |reason: &str| Err(Error::Denied { name: object.name(), reason: reason.to_owned() });
    match (object, before) {
        (Object::Tenant(new), Some(Object::Tenant(old))) if kind == ChangeKind::Updated => {
            match shared(old, new) {
                Some(field) => denied(&format!("{field} is for callers of the whole node to change")),
                None => Ok(()),
            }
        }
        (Object::Tenant(_), _) => denied("tenants are for callers of the whole node to create and delete"),
        (Object::Peer(_) | Object::Secret(_) | Object::Token(_), _) => Ok(()),
    }
}

/// The first field that differs of those that take something of the node: its devices, or its room.
fn shared(old: &Arc<Tenant>, new: &Arc<Tenant>) -> Option<&'static str> {
    if old.spec.uplink != new.spec.uplink {
        Some("uplink")
    } else if old.spec.quotas != new.spec.quotas {
        Some("quotas")
    } else {
        None
    }
}

//! What the catalog holds and how its changes are told.

use std::sync::Arc;

use crate::author::Author;
use crate::meta::Meta;
use crate::name::TenantName;
use crate::peer::Peer;
use crate::secret::Secret;
use crate::tenant::Tenant;
use crate::token::Token;

/// An object of the catalog.
#[derive(Clone, Debug)]
pub enum Object {
    /// A tenant.
    Tenant(Arc<Tenant>),
    /// A peer.
    Peer(Arc<Peer>),
    /// A secret, without its value.
    Secret(Arc<Secret>),
    /// A token, without its value.
    Token(Arc<Token>),
}

/// A change of the catalog. One operation may make several of the same revision: a tenant that is deleted with all
/// it has announces its peers and secrets before itself.
#[derive(Clone, Debug)]
pub struct Change {
    /// Revision of the catalog with this change; it never decreases.
    pub revision: u64,
    /// What happened.
    pub kind: ChangeKind,
    /// The object after the change; for a deletion, as it was.
    pub object: Object,
    /// Who made it.
    pub author: Arc<Author>,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Created,
    /// Something of it is different.
    Updated,
    /// It is gone.
    Deleted,
}

impl Object {
    /// Its resource name.
    pub fn name(&self) -> String {
        match self {
            Self::Tenant(tenant) => tenant.name.to_string(),
            Self::Peer(peer) => peer.name.to_string(),
            Self::Secret(secret) => secret.name.to_string(),
            Self::Token(token) => token.name.to_string(),
        }
    }

    /// Whether `other` of the same name is this one, changed perhaps: one that was deleted and made anew is another, and what belongs to the
    /// first, as tunnels and values that were given away do, is none of its.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tenant(one), Self::Tenant(other)) => one.number == other.number,
            (Self::Peer(one), Self::Peer(other)) => one.uid == other.uid,
            // Peers refer to it by name.
            (Self::Secret(_), Self::Secret(_)) => true,
            (Self::Token(one), Self::Token(other)) => one.hash == other.hash,
            _ => false,
        }
    }

    /// The tenant it is, or is of; `None` for what is the node's.
    pub fn tenant(&self) -> Option<&TenantName> {
        match self {
            Self::Tenant(tenant) => Some(&tenant.name),
            Self::Peer(peer) => Some(peer.name.tenant()),
            Self::Secret(secret) => Some(secret.name.tenant()),
            Self::Token(token) => token.name.tenant(),
        }
    }

    /// Version and times.
    pub fn meta(&self) -> &Meta {
        match self {
            Self::Tenant(tenant) => &tenant.meta,
            Self::Peer(peer) => &peer.meta,
            Self::Secret(secret) => &secret.meta,
            Self::Token(token) => &token.meta,
        }
    }
}

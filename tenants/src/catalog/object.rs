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

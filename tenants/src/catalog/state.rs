//! The catalog in memory.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::catalog::index::Index;
use crate::catalog::object::Object;
use crate::name::{PeerName, SecretName, TenantName, TokenName};
use crate::peer::Peer;
use crate::secret::Secret;
use crate::store::Counters;
use crate::tenant::Tenant;
use crate::token::{Token, TokenHash};

/// All objects and what is derived from them.
#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) counters: Counters,
    pub(crate) tenants: BTreeMap<TenantName, Arc<Tenant>>,
    pub(crate) peers: BTreeMap<PeerName, Arc<Peer>>,
    pub(crate) secrets: BTreeMap<SecretName, Arc<Secret>>,
    pub(crate) tokens: BTreeMap<TokenName, Arc<Token>>,
    by_hash: HashMap<TokenHash, TokenName>,
    pub(crate) index: Index,
}

impl State {
    /// Adds or replaces an object; what was there.
    pub(crate) fn put(&mut self, object: Object) -> Option<Object> {
        match object {
            Object::Tenant(tenant) => self.tenants.insert(tenant.name.clone(), tenant).map(Object::Tenant),
            Object::Peer(peer) => {
                let old = self.peers.insert(peer.name.clone(), Arc::clone(&peer));
                if let Some(old) = &old {
                    self.index.remove_peer(old);
                }
                self.index.add_peer(&peer);
                old.map(Object::Peer)
            }
            Object::Secret(secret) => {
                let old = self.secrets.insert(secret.name.clone(), Arc::clone(&secret));
                if old.is_none() {
                    self.index.count_secret(secret.name.tenant(), 1);
                }
                old.map(Object::Secret)
            }
            Object::Token(token) => {
                let (hash, name) = (token.hash, token.name.clone());
                let old = self.tokens.insert(name.clone(), token);
                if let Some(old) = &old {
                    self.by_hash.remove(&old.hash);
                }
                self.by_hash.insert(hash, name);
                old.map(Object::Token)
            }
        }
    }

    /// Removes an object; what was there.
    pub(crate) fn remove(&mut self, object: &Object) -> Option<Object> {
        match object {
            Object::Tenant(tenant) => self.tenants.remove(&tenant.name).map(Object::Tenant),
            Object::Peer(peer) => {
                let old = self.peers.remove(&peer.name);
                if let Some(old) = &old {
                    self.index.remove_peer(old);
                }
                old.map(Object::Peer)
            }
            Object::Secret(secret) => {
                let old = self.secrets.remove(&secret.name);
                if old.is_some() {
                    self.index.count_secret(secret.name.tenant(), -1);
                }
                old.map(Object::Secret)
            }
            Object::Token(token) => {
                let old = self.tokens.remove(&token.name);
                if let Some(old) = &old {
                    self.by_hash.remove(&old.hash);
                }
                old.map(Object::Token)
            }
        }
    }

    /// The object of this resource name.
    pub(crate) fn get(&self, name: &str) -> Option<Object> {
        let tenant = || self.tenants.get(&name.parse().ok()?).cloned().map(Object::Tenant);
        let peer = || self.peers.get(&name.parse().ok()?).cloned().map(Object::Peer);
        let secret = || self.secrets.get(&name.parse().ok()?).cloned().map(Object::Secret);
        let token = || self.tokens.get(&name.parse().ok()?).cloned().map(Object::Token);
        tenant().or_else(peer).or_else(secret).or_else(token)
    }

    /// All objects.
    pub(crate) fn objects(&self) -> impl Iterator<Item = Object> {
        let tenants = self.tenants.values().cloned().map(Object::Tenant);
        let secrets = self.secrets.values().cloned().map(Object::Secret);
        let peers = self.peers.values().cloned().map(Object::Peer);
        let tokens = self.tokens.values().cloned().map(Object::Token);
        tenants.chain(secrets).chain(peers).chain(tokens)
    }

    /// The token of this hash.
    pub(crate) fn token(&self, hash: TokenHash) -> Option<Arc<Token>> {
        self.tokens.get(self.by_hash.get(&hash)?).filter(|token| token.hash == hash).cloned()
    }

    /// The tokens of a tenant, in the order of names.
    pub(crate) fn tokens_of<'a>(&'a self, tenant: &'a TenantName) -> impl Iterator<Item = &'a Arc<Token>> {
        let first = TokenName::first_of(Some(tenant.clone()));
        after(&self.tokens, Some(&first)).take_while(move |token| token.name.tenant() == Some(tenant))
    }

    /// The peers of a tenant, in the order of names.
    pub(crate) fn peers_of<'a>(&'a self, tenant: &'a TenantName) -> impl Iterator<Item = &'a Arc<Peer>> {
        let first = PeerName::first_of(tenant.clone());
        after(&self.peers, Some(&first)).take_while(move |peer| peer.name.tenant() == tenant)
    }

    /// The secrets of a tenant, in the order of names.
    pub(crate) fn secrets_of<'a>(&'a self, tenant: &'a TenantName) -> impl Iterator<Item = &'a Arc<Secret>> {
        let first = SecretName::first_of(tenant.clone());
        after(&self.secrets, Some(&first)).take_while(move |secret| secret.name.tenant() == tenant)
    }
}

/// The values whose names follow `name`; all if it is `None`.
pub(crate) fn after<'a, N: Ord + Clone, T>(
    map: &'a BTreeMap<N, T>,
    name: Option<&N>,
) -> impl Iterator<Item = &'a T> + use<'a, N, T> {
    let start = name.cloned().map_or(Bound::Unbounded, Bound::Excluded);
    map.range((start, Bound::Unbounded)).map(|(_, value)| value)
}

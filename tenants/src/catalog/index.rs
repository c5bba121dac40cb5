//! What is derived from the objects, so that a check or a lookup does not walk over all of them.

use std::collections::HashMap;
use std::sync::Arc;

use ike::Identity;

use crate::catalog::mostly::Mostly;
use crate::catalog::openings::Openings;
use crate::cidr::Cidr;
use crate::host_name::Names;
use crate::name::{PeerName, SecretName, TenantName};
use crate::peer::Peer;

/// Peers, by name.
type Peers = Mostly<PeerName, Arc<Peer>>;
/// Names of peers.
pub(crate) type PeerNames = Mostly<PeerName, ()>;

/// Derived from the peers and secrets.
#[derive(Clone, Default)]
pub(crate) struct Index {
    peers: HashMap<TenantName, usize>,
    secrets: HashMap<TenantName, usize>,
    /// By remote, then by local identity.
    pub(crate) identities: HashMap<Identity, Mostly<Identity, Peers>>,
    /// Who has a remote subnet, by tenant.
    subnets: HashMap<Cidr, Mostly<TenantName, PeerNames>>,
    /// Who authenticates with a secret.
    users: HashMap<SecretName, PeerNames>,
    /// Who may come from where.
    pub(crate) origins: Openings,
    /// What names resolve to. One for all copies: it is no part of what is written.
    pub(crate) names: Arc<Names>,
}

impl Index {
    pub(crate) fn add_peer(&mut self, peer: &Arc<Peer>) {
        let tenant = peer.name.tenant();
        *self.peers.entry(tenant.clone()).or_default() += 1;
        let by_local = self.identities.entry(peer.spec.remote_identity.clone()).or_default();
        by_local.change(&peer.spec.local_identity, |peers| peers.insert(peer.name.clone(), Arc::clone(peer)));
        for subnet in subnets(peer) {
            let tenants = self.subnets.entry(subnet).or_default();
            tenants.change(tenant, |owners| owners.insert(peer.name.clone(), ()));
        }
        for (_, secret) in peer.spec.auth.secrets() {
            self.users.entry(secret.clone()).or_default().insert(peer.name.clone(), ());
        }
        self.origins.add(peer);
    }

    pub(crate) fn remove_peer(&mut self, peer: &Arc<Peer>) {
        let tenant = peer.name.tenant();
        count_down(&mut self.peers, tenant);
        if let Some(by_local) = self.identities.get_mut(&peer.spec.remote_identity) {
            forget(by_local, &peer.spec.local_identity, &peer.name);
            if by_local.is_empty() {
                self.identities.remove(&peer.spec.remote_identity);
            }
        }
        for subnet in subnets(peer) {
            let Some(tenants) = self.subnets.get_mut(&subnet) else { continue };
            forget(tenants, tenant, &peer.name);
            if tenants.is_empty() {
                self.subnets.remove(&subnet);
            }
        }
        for (_, secret) in peer.spec.auth.secrets() {
            let Some(users) = self.users.get_mut(secret) else { continue };
            users.remove(&peer.name);
            if users.is_empty() {
                self.users.remove(secret);
            }
        }
        self.origins.remove(peer);
    }

    pub(crate) fn count_secret(&mut self, tenant: &TenantName, difference: i8) {
        if difference > 0 {
            *self.secrets.entry(tenant.clone()).or_default() += 1;
        } else {
            count_down(&mut self.secrets, tenant);
        }
    }

    /// Number of peers of a tenant.
    pub(crate) fn peers(&self, tenant: &TenantName) -> usize {
        self.peers.get(tenant).copied().unwrap_or_default()
    }

    /// Number of secrets of a tenant.
    pub(crate) fn secrets(&self, tenant: &TenantName) -> usize {
        self.secrets.get(tenant).copied().unwrap_or_default()
    }

    /// The peers that authenticate with a secret.
    pub(crate) fn users(&self, secret: &SecretName) -> Option<&PeerNames> {
        self.users.get(secret)
    }

    /// The peers of a tenant that have exactly this remote subnet.
    pub(crate) fn owners(&self, tenant: &TenantName, subnet: Cidr) -> impl Iterator<Item = &PeerName> {
        let owners = self.subnets.get(&subnet).and_then(|tenants| tenants.get(tenant));
        owners.into_iter().flat_map(Mostly::keys)
    }

    /// The tenants of which a peer other than `except` has exactly this remote subnet.
    pub(crate) fn tenants_with(&self, subnet: Cidr, except: &PeerName) -> impl Iterator<Item = &TenantName> {
        let tenants = self.subnets.get(&subnet).into_iter().flat_map(Mostly::iter);
        tenants
            .filter(move |(_, owners)| owners.keys().any(|owner| owner != except))
            .map(|(tenant, _)| tenant)
    }

    /// The peers with this pair of identities.
    pub(crate) fn same_identities<'a>(
        &'a self,
        local: &Identity,
        remote: &Identity,
    ) -> impl Iterator<Item = &'a Arc<Peer>> + use<'a> {
        let peers = self.identities.get(remote).and_then(|by_local| by_local.get(local));
        peers.into_iter().flat_map(Mostly::values)
    }
}

fn subnets(peer: &Peer) -> impl Iterator<Item = Cidr> {
    peer.spec.children.iter().flat_map(|child| child.remote_subnets.iter().copied())
}

fn count_down(counts: &mut HashMap<TenantName, usize>, tenant: &TenantName) {
    if let Some(count) = counts.get_mut(tenant) {
        *count -= 1;
        if *count == 0 {
            counts.remove(tenant);
        }
    }
}

/// Takes a peer out of those of a key, and the key if it was the last.
fn forget<K: Ord, V>(groups: &mut Mostly<K, Mostly<PeerName, V>>, key: &K, peer: &PeerName) {
    if let Some(group) = groups.get_mut(key) {
        group.remove(peer);
        if group.is_empty() {
            groups.remove(key);
        }
    }
}

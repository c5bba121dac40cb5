//! Which peer it is that talks to us: what a responder asks.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ike::Identity;
use ike::config::Opening;
use ike::verbs::MAX_CANDIDATES;

use crate::catalog::Catalog;
use crate::catalog::callers::Callers;
use crate::catalog::mostly::Mostly;
use crate::host_name::{HostName, Resolution};
use crate::name::{PeerName, SecretName, TenantName};
use crate::peer::{Peer, PeerSpec};
use crate::remote::admits;

/// Why no peer was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No peer has this remote identity.
    #[error("no peer is configured with the remote identity {0}")]
    UnknownIdentity(String),
    /// Peers have the identity, but with another local one, or come from elsewhere.
    #[error("{identity} is configured, but not for {wanted}")]
    Elsewhere {
        /// The remote identity.
        identity: String,
        /// What did not fit.
        wanted: String,
    },
}

impl Catalog {
    /// The peers with these identities whose negotiations open like this and may come from `address`, few of them. `local` is what the initiator called us
    /// (IDr, which RFC 7296 section 1.2 leaves optional); without one there may be one in each tenant, and only its key
    /// tells which it is.
    ///
    /// # Errors
    /// Why there is none.
    pub fn find_peers(
        &self,
        opening: Opening,
        local: Option<&Identity>,
        remote: &Identity,
        address: IpAddr,
    ) -> Result<Vec<Arc<Peer>>, LookupError> {
        let address = address.to_canonical();
        let state = self.read();
        let Some(by_local) = state.index.identities.get(remote) else {
            return Err(LookupError::UnknownIdentity(remote.to_string()));
        };
        let named = local.map(|local| by_local.get(local).into_iter().flat_map(Mostly::values));
        let any = local.is_none().then(|| by_local.values().flat_map(Mostly::values));
        let all = named.into_iter().flatten().chain(any.into_iter().flatten());
        let names = &state.index.names;
        let fits = |peer: &&Arc<Peer>| {
            peer.spec.ike.opening() == opening && admits(&peer.spec.remote_addresses, address, names)
        };
        let mut fit: Vec<&Arc<Peer>> = all.filter(fits).collect();
        if fit.len() > MAX_CANDIDATES {
            // Whoever says where it comes from goes first.
            fit.sort_by_key(|peer| peer.spec.remote_addresses.is_empty());
            put_fairly(&mut fit);
        }
        let found: Vec<_> = fit.into_iter().take(MAX_CANDIDATES).cloned().collect();
        if found.is_empty() {
            let local = local.map(|local| format!("the local identity {local} and ")).unwrap_or_default();
            let wanted = format!("{local}the address {address} with {opening}");
            return Err(LookupError::Elsewhere { identity: remote.to_string(), wanted });
        }
        Ok(found)
    }

    /// Those who may send such a first message from `address`: what it is answered from, when the initiator's identity is not
    /// known yet. Whoever authenticates must still be held to the proposals of its own peer.
    pub fn callers(&self, address: IpAddr, opening: Opening) -> Callers {
        let state = self.read();
        state.index.origins.callers(address.to_canonical(), opening, &state.index.names)
    }

    /// How the negotiations of those open who may come from `address`: what a first message of another version or mode is
    /// explained from.
    pub fn openings(&self, address: IpAddr) -> Vec<Opening> {
        let state = self.read();
        state.index.origins.in_use(address.to_canonical(), &state.index.names)
    }

    /// The peers that may open like this from `address`, no more than can be tried: those with the very address first, then
    /// those of subnets, the longest first, then those that may come from anywhere; if there are more, some of each tenant. For where
    /// nothing but the address tells who it may be.
    pub fn peers_from(&self, address: IpAddr, opening: Opening) -> Vec<Arc<Peer>> {
        let state = self.read();
        let all = state.index.origins.of(opening).from(address.to_canonical(), &state.index.names);
        let mut seen = HashSet::new();
        let mut found: Vec<_> = all.filter(|peer| seen.insert(peer.uid)).take(MAX_LOOKED_AT).collect();
        if found.len() > MAX_CANDIDATES {
            put_fairly(&mut found);
        }
        found.into_iter().take(MAX_CANDIDATES).cloned().collect()
    }

    /// The peers that have this remote identity, no more than `limit`.
    pub fn peers_called(&self, remote: &Identity, limit: usize) -> Vec<Arc<Peer>> {
        let state = self.read();
        let by_local = state.index.identities.get(remote).into_iter().flat_map(Mostly::values);
        by_local.flat_map(Mostly::values).take(limit).cloned().collect()
    }

    /// The peers that are configured with this very address, or with a name that last resolved to it, no more than `limit`.
    pub fn peers_at(&self, address: IpAddr, limit: usize) -> Vec<Arc<Peer>> {
        let (state, mut found) = (self.read(), Vec::<Arc<Peer>>::new());
        for peer in state.index.origins.at(address.to_canonical(), &state.index.names) {
            if found.len() < limit && found.iter().all(|other| other.name != peer.name) {
                found.push(Arc::clone(peer));
            }
        }
        found
    }

    /// Whether the peer may come from `address`, by what its names have last resolved to.
    pub fn admits(&self, spec: &PeerSpec, address: IpAddr) -> bool {
        admits(&spec.remote_addresses, address.to_canonical(), &self.read().index.names)
    }

    /// What a name of a peer last resolved to, once somebody has tried.
    pub fn resolution(&self, name: &HostName) -> Option<Resolution> {
        self.read().index.names.get(name)
    }

    /// A name of a peer was resolved, or why it was not. Whether it has other addresses than before.
    pub fn resolved(&self, name: &HostName, outcome: Result<Vec<IpAddr>, String>) -> bool {
        let state = self.read();
        let (names, origins) = (&state.index.names, &state.index.origins);
        let changed = names.note(name, outcome);
        if names.len() > origins.names() {
            names.retain(|name| origins.has_name(name));
        }
        changed
    }

    /// The names of a tenant's peers.
    pub fn peers_of(&self, tenant: &TenantName) -> Vec<PeerName> {
        self.read().peers_of(tenant).map(|peer| peer.name.clone()).collect()
    }

    /// The peers that authenticate with a secret.
    pub fn users_of(&self, secret: &SecretName) -> Vec<Arc<Peer>> {
        let state = self.read();
        let names = state.index.users(secret).into_iter().flat_map(Mostly::keys);
        names.filter_map(|name| state.peers.get(name)).cloned().collect()
    }
}

/// Peers that are looked at for those who may come from an address: more than may be configured where that matters.
const MAX_LOOKED_AT: usize = 1_024;

/// Of more peers than can be tried one of each tenant before the second of any, in the order that they have: however many a tenant has, it keeps
/// none of another's out.
fn put_fairly(peers: &mut [&Arc<Peer>]) {
    let mut ranks: HashMap<TenantName, usize> = HashMap::new();
    peers.sort_by_cached_key(|peer| {
        let rank = ranks.entry(peer.name.tenant().clone()).or_default();
        *rank += 1;
        *rank
    });
}

//! Whose a negotiation is that a stranger begins. What has proved to be a peer's, or names one, or comes from the very address of one, is told to that peer
//! alone: it shows in its last error and in `explain` at once. The rest is kept for those that miss a peer, and so is what only comes
//! from the address of one, for those of the same tenant.

use std::net::SocketAddr;
use std::sync::Arc;

use ike::Failure;
use tenants::Peer;

use crate::env::NodeEnv;
use crate::events::Whose;
use crate::vocabulary::ToPeer;

/// Peers that are told at most of what comes from one address or under one name. One is the rule; gateways behind one NAT and
/// tenants that call a peer the same are the exceptions.
pub(crate) const MAX_OWNERS: usize = 8;

/// Refusals per second that one thread of those at the doors tells. There is room for some hundred, and each is held against
/// those.
pub(crate) const RATE: u32 = 100;

/// The one that it has proved to be of, or those that it names.
fn named(env: &NodeEnv, failure: Option<&Failure>) -> Vec<Arc<Peer>> {
    if let Some(name) = failure.and_then(Failure::proved).and_then(|name| name.parse().ok()) {
        // If it was deleted in this very moment, nobody's.
        return env.catalog.get_peer(&name).into_iter().collect();
    }
    let named = failure.and_then(Failure::names);
    named.map(|id| env.catalog.peers_called(id, MAX_OWNERS)).unwrap_or_default()
}

/// A first message was answered; who it is from is not known yet.
pub(crate) fn arrived(env: &NodeEnv, remote: SocketAddr) {
    tell(env, remote, None, false);
}

/// A negotiation was refused. `proved` says whether its address is known to be its own.
pub(crate) fn refused(env: &NodeEnv, remote: SocketAddr, failure: &Failure, proved: bool) {
    tell(env, remote, Some(failure), proved);
}

fn tell(env: &NodeEnv, remote: SocketAddr, failure: Option<&Failure>, proved: bool) {
    let mut owners = named(env, failure);
    if owners.is_empty() {
        owners = env.catalog.peers_at(remote.ip(), MAX_OWNERS);
        // A gateway that may come from anywhere may come from where another is configured: behind the same NAT, for one.
        if owners.is_empty() || failure.is_some() {
            env.strangers.note(remote, failure, owners.iter().map(|peer| Whose::of(peer)).collect());
        }
        if owners.is_empty() {
            return;
        }
    }
    let message = || ToPeer::Stranger(remote, failure.cloned().map(Box::new), proved);
    env.registry.tell_peers(&owners, &env.counters, message);
}

//! Whose a negotiation is that a stranger begins. What names a peer, or comes from the very address of one, is told to that peer
//! alone: it shows in its last error and in `explain` at once. The rest is kept for those that miss a peer.

use std::net::SocketAddr;
use std::sync::Arc;

use ike::Failure;
use tenants::Peer;

use crate::env::NodeEnv;
use crate::vocabulary::ToPeer;

/// Peers that are told at most of what comes from one address or under one name. One is the rule; gateways behind one NAT and
/// tenants that call a peer the same are the exceptions.
pub(crate) const MAX_OWNERS: usize = 8;

/// Refusals per second that one thread of those at the doors tells. There is room for some hundred, and each is held against
/// those.
pub(crate) const RATE: u32 = 100;

/// Those whose negotiation it is, as far as anybody can say.
fn owners(env: &NodeEnv, remote: SocketAddr, failure: Option<&Failure>) -> Vec<Arc<Peer>> {
    let named = failure.and_then(Failure::names);
    let by_name = named.map(|id| env.catalog.peers_called(id, MAX_OWNERS)).unwrap_or_default();
    if by_name.is_empty() { env.catalog.peers_at(remote.ip(), MAX_OWNERS) } else { by_name }
}

/// A first message was answered; who it is from is not known yet.
pub(crate) fn arrived(env: &NodeEnv, remote: SocketAddr) {
    tell(env, remote, None);
}

/// A negotiation was refused.
pub(crate) fn refused(env: &NodeEnv, remote: SocketAddr, failure: &Failure) {
    tell(env, remote, Some(failure));
}

fn tell(env: &NodeEnv, remote: SocketAddr, failure: Option<&Failure>) {
    let owners = owners(env, remote, failure);
    if owners.is_empty() {
        return env.strangers.note(remote, failure);
    }
    let message = || ToPeer::Stranger(remote, failure.cloned().map(Box::new));
    env.registry.tell_peers(&owners, &env.counters, message);
}

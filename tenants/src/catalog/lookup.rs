//! Which peer it is that talks to us: what a responder asks.

use std::net::IpAddr;
use std::sync::Arc;

use ike::{Identity, IkeProposal};

use crate::catalog::Catalog;
use crate::peer::Peer;

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
    /// The initiator named no identity of ours, and several would do.
    #[error("{0} is configured with several local identities and asked for none of them")]
    Ambiguous(String),
}

impl Catalog {
    /// The peer with these identities that may come from `address`. `local` is what the initiator called us (IDr,
    /// which RFC 7296 1.2 leaves optional); without one there must be a single candidate.
    pub fn find_peer(
        &self,
        local: Option<&Identity>,
        remote: &Identity,
        address: IpAddr,
    ) -> Result<Arc<Peer>, LookupError> {
        let address = address.to_canonical();
        let state = self.read();
        let Some(by_local) = state.index.identities.get(remote) else {
            return Err(LookupError::UnknownIdentity(remote.to_string()));
        };
        let wanted = by_local.iter().filter(|(candidate, _)| local.is_none_or(|local| local == *candidate));
        let mut found = wanted.flat_map(|(_, peers)| peers).filter(|peer| peer.spec.admits(address));
        match (found.next(), found.next()) {
            (Some(peer), None) => Ok(Arc::clone(peer)),
            (Some(_), Some(_)) => Err(LookupError::Ambiguous(remote.to_string())),
            (None, _) => {
                let local = local.map(|local| format!("the local identity {local} and ")).unwrap_or_default();
                let wanted = format!("{local}the address {address}");
                Err(LookupError::Elsewhere { identity: remote.to_string(), wanted })
            }
        }
    }

    /// The IKE proposals that some peer coming from `address` may use, in the order of preference: what IKE_SA_INIT
    /// is answered from, when the initiator's identity is not known yet. Those of peers that are configured with
    /// the very address come first. Whoever authenticates must still be held to the proposals of its own peer.
    pub fn ike_proposals(&self, address: IpAddr) -> Vec<IkeProposal> {
        let state = self.read();
        let hosts = state.index.hosts.get(&address.to_canonical()).into_iter().flatten();
        let wide = state.index.wide.values().map(|(proposal, _)| proposal);
        let mut proposals: Vec<IkeProposal> = Vec::new();
        for proposal in hosts.flat_map(|peer| peer.spec.ike.proposals.iter()).chain(wide) {
            if !proposals.contains(proposal) {
                proposals.push(proposal.clone());
            }
        }
        proposals
    }

    /// Whether some peer coming from `address` wants ESP in UDP even without a NAT: the answer to IKE_SA_INIT must say so
    /// before it is known which peer asks.
    pub fn forces_encapsulation(&self, address: IpAddr) -> bool {
        let state = self.read();
        let mut hosts = state.index.hosts.get(&address.to_canonical()).into_iter().flatten();
        state.index.wide_forced > 0 || hosts.any(|peer| peer.spec.force_encapsulation)
    }
}

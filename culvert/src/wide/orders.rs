//! Orders to a peer's tunnel: they go to the node that has the connection, else to the one that begins with the peer.

use std::sync::Arc;

use culvert_proto::v1;
use tenants::Peer;
use tonic_types::StatusExt as _;

use super::Wide;
use super::ask::Node;
use super::place::{At, Place};
use crate::runtime::{RekeyTarget, RuntimeError};
use crate::status;

impl Wide {
    /// Negotiates the tunnel; answers when it is up.
    pub(crate) async fn initiate(&self, peer: Arc<Peer>) -> Result<v1::PeerStatus, RuntimeError> {
        let result = self.initiate_once(&peer).await;
        if has_moved(&result) { self.initiate_once(&peer).await } else { result }
    }

    async fn initiate_once(&self, peer: &Arc<Peer>) -> Result<v1::PeerStatus, RuntimeError> {
        let Place { at, .. } = self.place(peer).await?;
        // Whoever keeps it down does so no longer: any of them may be the one to begin next.
        self.let_others_be(peer, at.name());
        self.initiate_at(peer, &at).await
    }

    async fn initiate_at(&self, peer: &Arc<Peer>, at: &At) -> Result<v1::PeerStatus, RuntimeError> {
        match at {
            At::Here => self.0.local.initiate(Arc::clone(peer)).await.map(|status| self.here(status)),
            At::There(node) => {
                let request = v1::InitiatePeerRequest { name: peer.name.to_string() };
                let answer = self.ordered(node, node.peers().initiate_peer(request)).await?;
                Ok(there(node, answer.status))
            }
        }
    }

    /// Rekeys; answers when the new SA is in use.
    pub(crate) async fn rekey(
        &self,
        peer: Arc<Peer>,
        target: RekeyTarget,
        request: v1::RekeyPeerRequest,
    ) -> Result<v1::PeerStatus, RuntimeError> {
        let result = self.rekey_once(&peer, target.clone(), request.clone()).await;
        if has_moved(&result) { self.rekey_once(&peer, target, request).await } else { result }
    }

    async fn rekey_once(
        &self,
        peer: &Arc<Peer>,
        target: RekeyTarget,
        request: v1::RekeyPeerRequest,
    ) -> Result<v1::PeerStatus, RuntimeError> {
        match self.place(peer).await?.at {
            At::Here => self.0.local.rekey(Arc::clone(peer), target).await.map(|status| self.here(status)),
            At::There(node) => {
                let answer = self.ordered(&node, node.peers().rekey_peer(request)).await?;
                Ok(there(&node, answer.status))
            }
        }
    }

    /// Sends dummy packets; on how many Child SAs.
    pub(crate) async fn send_dummies(
        &self,
        peer: Arc<Peer>,
        count: u16,
        length: u16,
    ) -> Result<u32, RuntimeError> {
        match self.place(&peer).await?.at {
            At::Here => self.0.local.send_dummies(peer, count, length).await,
            At::There(node) => {
                let (count, length) = (count.into(), length.into());
                let request = v1::SendDummiesRequest { name: peer.name.to_string(), count, length };
                let answer = self.ordered(&node, node.peers().send_dummies(request)).await?;
                Ok(answer.child_sas)
            }
        }
    }

    pub(super) fn here(&self, status: v1::PeerStatus) -> v1::PeerStatus {
        v1::PeerStatus { node: self.own_name(), ..status }
    }
}

pub(super) fn there(node: &Node, status: Option<v1::PeerStatus>) -> v1::PeerStatus {
    v1::PeerStatus { node: node.name.clone(), ..status.unwrap_or_default() }
}

/// Whether an order met a tunnel that had moved since it was looked where it is: it is given once more then.
pub(super) fn has_moved<T>(result: &Result<T, RuntimeError>) -> bool {
    match result {
        Err(RuntimeError::Moved) => true,
        Err(RuntimeError::Elsewhere(status)) => {
            status.get_details_error_info().is_some_and(|info| info.reason == status::MOVED)
        }
        _ => false,
    }
}

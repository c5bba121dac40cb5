//! Orders to a peer's tunnel: they go to the node that has the connection, else to the one that begins with the peer.

use std::sync::Arc;

use culvert_proto::v1;
use tenants::Peer;
use tonic::{Response, Status};

use super::ask::{Node, in_time};
use super::{Wide, merge};
use crate::runtime::{RekeyTarget, RuntimeError};

/// Who carries an order out.
enum Place {
    Here,
    There(Node),
}

impl Wide {
    /// Negotiates the tunnel; answers when it is up.
    pub(crate) async fn initiate(&self, peer: Arc<Peer>) -> Result<v1::PeerStatus, RuntimeError> {
        match self.place(&peer).await? {
            Place::Here => self.0.local.initiate(peer).await.map(|status| self.here(status)),
            Place::There(node) => {
                let request = v1::InitiatePeerRequest { name: peer.name.to_string() };
                let answer = node.peers().initiate_peer(request).await;
                there(&node, answer.map(|answer| answer.into_inner().status))
            }
        }
    }

    /// Takes the tunnel down at the wish of `by`; answers when it is.
    pub(crate) async fn terminate(&self, peer: Arc<Peer>, by: &str) -> Result<v1::PeerStatus, RuntimeError> {
        let place = self.place(&peer).await?;
        self.keep_down(&peer, &place, by).await;
        match place {
            Place::Here => self.0.local.terminate(peer, by).await.map(|status| self.here(status)),
            Place::There(node) => terminate_there(&node, &peer).await,
        }
    }

    /// The node that the peer is at home with begins with it when the connection that another has ends. It is told first, so that
    /// the tunnel stays down.
    async fn keep_down(&self, peer: &Arc<Peer>, place: &Place, by: &str) {
        let Some((others, placement)) = self.others() else { return };
        let Some(home) = placement.home(peer.uid).map(|node| &node.name) else { return };
        let told = match place {
            Place::Here if *home == placement.own => return,
            Place::There(node) if node.name == *home => return,
            Place::There(_) if *home == placement.own => {
                self.0.local.terminate(Arc::clone(peer), by).await.map(drop)
            }
            Place::Here | Place::There(_) => match self.heard_node(others, home) {
                Ok(node) => {
                    let told = async { Ok(terminate_there(&node, peer).await.map(drop)) };
                    in_time(told).await.unwrap_or_else(|late: Status| Err(node.refused(late)))
                }
                Err(error) => Err(error),
            },
        };
        if let Err(error) = told {
            tracing::warn!(peer = %peer.name, home, %error, "the node may begin with a peer that is taken down");
        }
    }

    /// Rekeys; answers when the new SA is in use.
    pub(crate) async fn rekey(
        &self,
        peer: Arc<Peer>,
        target: RekeyTarget,
        request: v1::RekeyPeerRequest,
    ) -> Result<v1::PeerStatus, RuntimeError> {
        match self.place(&peer).await? {
            Place::Here => self.0.local.rekey(peer, target).await.map(|status| self.here(status)),
            Place::There(node) => {
                let answer = node.peers().rekey_peer(request).await;
                there(&node, answer.map(|answer| answer.into_inner().status))
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
        match self.place(&peer).await? {
            Place::Here => self.0.local.send_dummies(peer, count, length).await,
            Place::There(node) => {
                let (count, length) = (count.into(), length.into());
                let request = v1::SendDummiesRequest { name: peer.name.to_string(), count, length };
                let answer = node.peers().send_dummies(request).await.map(Response::into_inner);
                answer.map(|answer| answer.child_sas).map_err(|status| node.refused(status))
            }
        }
    }

    async fn place(&self, peer: &Arc<Peer>) -> Result<Place, RuntimeError> {
        let Some((others, placement)) = self.others() else { return Ok(Place::Here) };
        let status = self.peer_statuses(std::slice::from_ref(peer)).await.what.pop().flatten();
        let has = status.filter(merge::is_up).map(|status| status.node);
        let node = has.unwrap_or_else(|| self.home_of(&placement, peer));
        if node.is_empty() || node == placement.own {
            return Ok(Place::Here);
        }
        self.heard_node(others, &node).map(Place::There)
    }

    fn here(&self, status: v1::PeerStatus) -> v1::PeerStatus {
        let node = self.others().map(|(_, placement)| placement.own.clone()).unwrap_or_default();
        v1::PeerStatus { node, ..status }
    }
}

async fn terminate_there(node: &Node, peer: &Peer) -> Result<v1::PeerStatus, RuntimeError> {
    let request = v1::TerminatePeerRequest { name: peer.name.to_string() };
    let answer = node.peers().terminate_peer(request).await;
    there(node, answer.map(|answer| answer.into_inner().status))
}

fn there(
    node: &Node,
    answer: Result<Option<v1::PeerStatus>, Status>,
) -> Result<v1::PeerStatus, RuntimeError> {
    let status = answer.map_err(|status| node.refused(status))?.unwrap_or_default();
    Ok(v1::PeerStatus { node: node.name.clone(), ..status })
}

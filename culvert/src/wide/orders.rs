//! Orders to a peer's tunnel: they go to the node that has the connection, else to the one that begins with the peer.

use std::sync::Arc;
use std::time::Duration;

use cluster::Placement;
use culvert_proto::v1;
use latest::Latest as _;
use tenants::Peer;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status};

use super::ask::{Node, in_time};
use super::{Known, Others, Wide, merge};
use crate::runtime::{RekeyTarget, RuntimeError};

/// Who carries an order out.
struct Place {
    at: At,
    /// It has the tunnel. Else nobody has, and it begins with the peer.
    has: bool,
}

enum At {
    Here,
    There(Node),
}

/// As what a node is told by another one to take a tunnel down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// As the one that has it.
    Terminate,
    /// As one that would begin with the peer.
    KeepDown,
    /// As one that was told to keep it down, and it is up at another node all the same.
    LetBe,
}

/// What says so.
const TOLD: &str = "culvert-keep-down";
const KEEP_DOWN: &str = "yes";
const LET_BE: &str = "no";

/// How often it is looked where a tunnel is that some node is said to have and none has: it has just ended, or is on its way from one to
/// another, or is taken over. A second in all, in which the nodes agree.
const LOOKS: usize = 10;
/// Between them. Nodes say what they have within such a time.
const LOOK: Duration = Duration::from_millis(100);

impl Told {
    /// What was said with a request.
    pub(crate) fn of(metadata: &MetadataMap) -> Self {
        match metadata.get(TOLD).map(MetadataValue::as_bytes) {
            None => Self::Terminate,
            Some(word) if word == LET_BE.as_bytes() => Self::LetBe,
            Some(_) => Self::KeepDown,
        }
    }

    fn word(self) -> Option<&'static str> {
        match self {
            Self::Terminate => None,
            Self::KeepDown => Some(KEEP_DOWN),
            Self::LetBe => Some(LET_BE),
        }
    }
}

impl Wide {
    /// Negotiates the tunnel; answers when it is up.
    pub(crate) async fn initiate(&self, peer: Arc<Peer>) -> Result<v1::PeerStatus, RuntimeError> {
        match self.place(&peer).await?.at {
            At::Here => self.0.local.initiate(peer).await.map(|status| self.here(status)),
            At::There(node) => {
                let request = v1::InitiatePeerRequest { name: peer.name.to_string() };
                let answer = node.peers().initiate_peer(request).await;
                there(&node, answer.map(|answer| answer.into_inner().status))
            }
        }
    }

    /// Takes the tunnel down at the wish of `by`; answers when it is. A node that is asked by another one does as it is `told`.
    pub(crate) async fn terminate(
        &self,
        peer: Arc<Peer>,
        by: &str,
        told: Told,
    ) -> Result<v1::PeerStatus, RuntimeError> {
        let Some((others, placement)) = self.others() else { return self.tell_local(&peer, by, told).await };
        let Place { at, has } = self.place(&peer).await?;
        // The node that the peer is at home with begins with it when the connection that another has ends. It is told first, so that
        // the tunnel stays down.
        let home = placement.home(peer.uid).map(|node| node.name.as_str()).filter(|home| match &at {
            At::Here => *home != placement.own,
            At::There(node) => *home != node.name,
        });
        let kept = match home {
            Some(home) => self.tell(others, &placement, home, &peer, by, Told::KeepDown).await.map(|_| ()),
            None => Ok(()),
        };
        let order = if has { Told::Terminate } else { Told::KeepDown };
        let done = match at {
            At::Here => self.tell_local(&peer, by, order).await.map(|status| self.here(status)),
            At::There(node) => terminate_there(&node, &peer, order).await,
        };
        match (done, kept, home) {
            (Err(error), Ok(()), Some(home)) => {
                // It is up all the same, and who would begin with it must not be kept from that.
                if let Err(error) = self.tell(others, &placement, home, &peer, by, Told::LetBe).await {
                    tracing::warn!(peer = %peer.name, home, %error, "the node does not begin with a peer that was to be taken down");
                }
                Err(error)
            }
            (Ok(_), Err(error), Some(home)) => {
                let reason = format!(
                    "the tunnel was taken down, but node {home}, which begins with the peer, was not told to leave it so ({error}); ask again"
                );
                Err(RuntimeError::Elsewhere(Box::new(Status::unavailable(reason))))
            }
            (done, ..) => done,
        }
    }

    /// Tells a node, within the time in which it has to answer.
    async fn tell(
        &self,
        others: &Arc<dyn Others>,
        placement: &Placement,
        name: &str,
        peer: &Arc<Peer>,
        by: &str,
        what: Told,
    ) -> Result<v1::PeerStatus, RuntimeError> {
        if name == placement.own {
            return self.tell_local(peer, by, what).await;
        }
        let node = self.heard_node(others, name)?;
        let told = async { Ok(terminate_there(&node, peer, what).await) };
        in_time(told).await.unwrap_or_else(|late: Status| Err(node.refused(late)))
    }

    async fn tell_local(
        &self,
        peer: &Arc<Peer>,
        by: &str,
        what: Told,
    ) -> Result<v1::PeerStatus, RuntimeError> {
        let peer = Arc::clone(peer);
        match what {
            Told::Terminate => self.0.local.terminate(peer, by).await,
            Told::KeepDown => self.0.local.keep_down(peer, by).await,
            Told::LetBe => self.0.local.let_be(peer).await,
        }
    }

    /// Rekeys; answers when the new SA is in use.
    pub(crate) async fn rekey(
        &self,
        peer: Arc<Peer>,
        target: RekeyTarget,
        request: v1::RekeyPeerRequest,
    ) -> Result<v1::PeerStatus, RuntimeError> {
        match self.place(&peer).await?.at {
            At::Here => self.0.local.rekey(peer, target).await.map(|status| self.here(status)),
            At::There(node) => {
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
        match self.place(&peer).await?.at {
            At::Here => self.0.local.send_dummies(peer, count, length).await,
            At::There(node) => {
                let (count, length) = (count.into(), length.into());
                let request = v1::SendDummiesRequest { name: peer.name.to_string(), count, length };
                let answer = node.peers().send_dummies(request).await.map(Response::into_inner);
                answer.map(|answer| answer.child_sas).map_err(|status| node.refused(status))
            }
        }
    }

    async fn place(&self, peer: &Arc<Peer>) -> Result<Place, RuntimeError> {
        let Some((others, _)) = self.others() else { return Ok(Place { at: At::Here, has: true }) };
        let mut looks = 1;
        loop {
            let Known { mut what, away } = self.peer_statuses(std::slice::from_ref(peer)).await;
            let placement = others.placement().latest();
            let has = what.pop().flatten().filter(merge::is_up).map(|status| status.node);
            let (node, has) = match has {
                Some(node) => (node, true),
                None => {
                    let node = self.home_of(&placement, peer);
                    if placement.holds(&node, peer.uid) && self.hears(&node) && away.contains(&node) {
                        let reason = format!(
                            "node {node}, which is said to have the tunnel, has not answered in time; ask again"
                        );
                        return Err(RuntimeError::Elsewhere(Box::new(Status::unavailable(reason))));
                    }
                    if placement.holds(&node, peer.uid) && looks < LOOKS {
                        looks += 1;
                        tokio::time::sleep(LOOK).await;
                        continue;
                    }
                    (node, false)
                }
            };
            let is_own = node.is_empty() || node == placement.own;
            let at = if is_own { At::Here } else { At::There(self.heard_node(others, &node)?) };
            return Ok(Place { at, has });
        }
    }

    fn here(&self, status: v1::PeerStatus) -> v1::PeerStatus {
        let node = self.others().map(|(_, placement)| placement.own.clone()).unwrap_or_default();
        v1::PeerStatus { node, ..status }
    }
}

async fn terminate_there(node: &Node, peer: &Peer, what: Told) -> Result<v1::PeerStatus, RuntimeError> {
    let mut request = Request::new(v1::TerminatePeerRequest { name: peer.name.to_string() });
    if let Some(word) = what.word() {
        request.metadata_mut().insert(TOLD, MetadataValue::from_static(word));
    }
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

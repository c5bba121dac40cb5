//! The running node as the API's [`Runtime`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use actors::{Control, ControlError, Happened, Health, Node, SpanContext, WatchError};
use cluster::Placement;
use culvert_proto::v1;
use latest::Latest as _;
use tenants::{Peer, PeerName, Tenant};
use tokio::sync::{broadcast, watch};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::{Stream, StreamExt as _};

use crate::daemon::nodes::{Nodes, slot_of};
use crate::runtime::{ALONE, HappenedStream, RekeyTarget, Runtime, RuntimeError, Scope};

/// Answers the API from the actors.
pub struct Tunnels {
    control: Control,
    health: watch::Receiver<Health>,
    listen: Vec<String>,
    shards: u32,
    nodes: Option<Nodes>,
}

impl Tunnels {
    /// `listen` and `shards` are shown in the node's status.
    pub fn new(node: &Node, listen: Vec<String>, shards: usize) -> Self {
        let (control, health) = (node.control(), node.health());
        let shards = u32::try_from(shards).unwrap_or(u32::MAX);
        Self { control, health, listen, shards, nodes: None }
    }

    /// As one of these nodes.
    #[must_use]
    pub fn among(self, nodes: Option<Nodes>) -> Self {
        Self { nodes, ..self }
    }

    fn nodes(&self) -> Result<&Nodes, RuntimeError> {
        self.nodes.as_ref().ok_or(ALONE)
    }

    async fn status(&self, name: &PeerName) -> Result<v1::PeerStatus, RuntimeError> {
        let mut statuses = self.control.peer_statuses(std::slice::from_ref(name)).await;
        statuses.pop().flatten().ok_or(RuntimeError::Refused("the peer is not running".to_owned()))
    }
}

/// Events as they happen, until some were not read in time.
fn in_time(live: broadcast::Receiver<Happened>) -> impl Stream<Item = Result<Happened, RuntimeError>> {
    BroadcastStream::new(live)
        .map(|event| event.map_err(|BroadcastStreamRecvError::Lagged(count)| RuntimeError::Behind(count)))
}

impl From<ControlError> for RuntimeError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Gone => Self::Refused(error.to_string()),
            ControlError::Overloaded => Self::Overloaded("the peer"),
            ControlError::Moved => Self::Moved,
            ControlError::Failed(_) | ControlError::TimedOut => Self::Failed(error.to_string()),
        }
    }
}

#[tonic::async_trait]
impl Runtime for Tunnels {
    fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    async fn list_sas(&self, scope: &Scope) -> Result<Vec<v1::Sa>, RuntimeError> {
        Ok(match scope {
            Scope::All => self.control.all_sas().await,
            Scope::Tenant { name, .. } => self.control.sas_of_tenant(name).await,
            Scope::Peer { name, .. } => self.control.sas_of(std::slice::from_ref(name)).await,
        })
    }

    fn cluster(&self) -> Option<Arc<Placement>> {
        self.nodes.as_ref().map(Nodes::placement)
    }

    fn slots(&self) -> v1::ListSlotsResponse {
        match &self.nodes {
            Some(nodes) => nodes.shown_slots(),
            None => {
                let by_slot = self.control.connections_by_slot();
                let connections = by_slot.values().map(|count| *count as u64).sum();
                let slots = vec![v1::Slot { connections, ..slot_of(self.control.node_status().slot) }];
                v1::ListSlotsResponse { slots, ..v1::ListSlotsResponse::default() }
            }
        }
    }

    fn owners(&self) -> BTreeMap<u8, String> {
        let Some(slots) = self.nodes.as_ref().and_then(Nodes::slots) else { return BTreeMap::new() };
        slots.table().latest().iter().map(|(number, slot)| (*number, slot.owner.node.clone())).collect()
    }

    fn settled(&self) -> Option<BTreeSet<u8>> {
        Some(self.nodes.as_ref()?.slots()?.settled())
    }

    async fn move_slot(&self, slot: u8, to: &str) -> Result<v1::MovedSlot, RuntimeError> {
        self.nodes()?.move_slot(slot, to).await.map_err(RuntimeError::Refused)
    }

    async fn drain(&self) -> Result<v1::DrainNodeResponse, RuntimeError> {
        self.nodes()?.drain_for_good().await
    }

    fn watch(&self, after: u64) -> Result<HappenedStream, RuntimeError> {
        let (kept, live) = self.control.events().watch(after).map_err(|error| match error {
            WatchError::Gone(number) => RuntimeError::Lagged(number),
            WatchError::NeverWas { last } => RuntimeError::NeverWas { after, last },
        })?;
        Ok(Box::pin(tokio_stream::iter(kept.into_iter().map(Ok)).chain(in_time(live))))
    }

    fn last_event(&self) -> u64 {
        self.control.events().last()
    }

    async fn node_status(&self) -> v1::NodeStatus {
        v1::NodeStatus {
            listen_addresses: self.listen.clone(),
            shards: self.shards,
            ..self.control.node_status()
        }
    }

    fn uplink(&self, tenant: &Tenant) -> Option<(v1::Condition, Vec<String>)> {
        Some(self.control.uplink(tenant))
    }

    async fn peer_statuses(&self, peers: &[Arc<Peer>]) -> Vec<Option<v1::PeerStatus>> {
        let names: Vec<PeerName> = peers.iter().map(|p| p.name.clone()).collect();
        self.control.peer_statuses(&names).await
    }

    async fn send_dummies(&self, peer: Arc<Peer>, count: u16, length: u16) -> Result<u32, RuntimeError> {
        match self.control.send_dummies(&peer.name, count, length).await {
            0 => Err(RuntimeError::Refused("the tunnel is not up".to_owned())),
            pairs => Ok(pairs),
        }
    }

    async fn explain(&self, peer: Arc<Peer>) -> Result<v1::ExplainPeerResponse, RuntimeError> {
        Ok(self.control.explain(&peer).await)
    }

    async fn initiate(&self, peer: Arc<Peer>) -> Result<v1::PeerStatus, RuntimeError> {
        self.control.initiate(&peer.name, SpanContext::current()).await?;
        self.status(&peer.name).await
    }

    async fn terminate(&self, peer: Arc<Peer>, by: &str) -> Result<v1::PeerStatus, RuntimeError> {
        self.control.terminate(&peer.name, by).await?;
        self.status(&peer.name).await
    }

    async fn terminate_held(&self, peer: Arc<Peer>, by: &str) -> Result<v1::PeerStatus, RuntimeError> {
        self.control.terminate_held(&peer.name, by).await?;
        self.status(&peer.name).await
    }

    async fn let_be(&self, peer: Arc<Peer>) -> Result<(), RuntimeError> {
        Ok(self.control.let_be(&peer.name).await?)
    }

    async fn rekey(&self, peer: Arc<Peer>, target: RekeyTarget) -> Result<v1::PeerStatus, RuntimeError> {
        let target = match target {
            RekeyTarget::Ike => actors::RekeyTarget::Ike,
            RekeyTarget::Children => actors::RekeyTarget::Children,
            RekeyTarget::Child(name) => actors::RekeyTarget::Child(name),
        };
        self.control.rekey(&peer.name, target).await?;
        self.status(&peer.name).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_does_not_read_in_time_is_told_how_many_and_not_up_to_which() {
        let (sender, live) = broadcast::channel(2);
        for sequence in 1_001..=1_005 {
            let event = v1::Event { sequence, ..v1::Event::default() };
            sender.send(Happened { event, ..Happened::default() }).unwrap();
        }
        let error = Box::pin(in_time(live)).next().await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "3 events were not read in time; watch again after the last one seen");
    }
}

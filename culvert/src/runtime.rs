//! What the API asks of the running tunnels. The actors answer it; [`NoRuntime`] stands for a node without any.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use actors::{Happened, Health};
use cluster::Placement;
use culvert_proto::v1;
use tenants::{Peer, PeerName, Tenant, TenantName};
use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::Status;

/// The tunnels of this node.
#[tonic::async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Whether everything runs that must, now and later.
    fn health(&self) -> watch::Receiver<Health>;

    /// The SAs of a scope, in any order.
    async fn list_sas(&self, scope: &Scope) -> Result<Vec<v1::Sa>, RuntimeError>;

    /// The events of all tunnels from `after + 1` on, or from now on if `after` is zero. The stream ends with
    /// [`RuntimeError::Behind`] when the reader is too slow.
    fn watch(&self, after: u64) -> Result<HappenedStream, RuntimeError>;

    /// The number of the last event; zero where none are numbered.
    fn last_event(&self) -> u64 {
        0
    }

    /// The node. `version`, `tenants` and `peers` are filled in by the service.
    async fn node_status(&self) -> v1::NodeStatus;

    /// The nodes of the cluster; none for a node that is alone.
    fn cluster(&self) -> Option<Arc<Placement>> {
        None
    }

    /// The slots as this node knows them. What only another node knows of one is zero.
    fn slots(&self) -> v1::ListSlotsResponse {
        v1::ListSlotsResponse::default()
    }

    /// The node that answers for each slot, as far as this one knows.
    fn owners(&self) -> BTreeMap<u8, String> {
        BTreeMap::new()
    }

    /// The slots of which this node has all that there is: none that is on its way here or elsewhere. `None` for a node that is alone.
    fn settled(&self) -> Option<BTreeSet<u8>> {
        None
    }

    /// Moves a slot of this node to another one.
    async fn move_slot(&self, _slot: u8, _to: &str) -> Result<v1::MovedSlot, RuntimeError> {
        Err(ALONE)
    }

    /// Moves all slots of this node to others, for good.
    async fn drain(&self) -> Result<v1::DrainNodeResponse, RuntimeError> {
        Err(ALONE)
    }

    /// How a tenant's uplink stands, and networks that are not led to it. Nothing where no tunnels are carried.
    fn uplink(&self, _tenant: &Tenant) -> Option<(v1::Condition, Vec<String>)> {
        None
    }

    /// The state of these peers' tunnels, in their order. `None` where nothing is known yet.
    async fn peer_statuses(&self, peers: &[Arc<Peer>]) -> Vec<Option<v1::PeerStatus>>;

    /// Sends so many dummy packets of a length on each Child SA of the peer that is sent by; on how many.
    async fn send_dummies(&self, peer: Arc<Peer>, count: u16, length: u16) -> Result<u32, RuntimeError>;

    /// Why the tunnel is not up.
    async fn explain(&self, peer: Arc<Peer>) -> Result<v1::ExplainPeerResponse, RuntimeError>;

    /// Negotiates the tunnel; answers when it is up.
    async fn initiate(&self, peer: Arc<Peer>) -> Result<v1::PeerStatus, RuntimeError>;

    /// Takes the tunnel down at the wish of `by`, and does not begin with the peer; answers when it is down.
    async fn terminate(&self, peer: Arc<Peer>, by: &str) -> Result<v1::PeerStatus, RuntimeError>;

    /// As [`Self::terminate`], of a tunnel that this node of a cluster is said to have.
    async fn terminate_held(&self, peer: Arc<Peer>, by: &str) -> Result<v1::PeerStatus, RuntimeError> {
        self.terminate(peer, by).await
    }

    /// Does not keep the tunnel down any longer, as it was ordered up at another node, or is up there.
    async fn let_be(&self, _peer: Arc<Peer>) -> Result<(), RuntimeError> {
        Ok(())
    }

    /// Rekeys; answers when the new SA is in use.
    async fn rekey(&self, peer: Arc<Peer>, target: RekeyTarget) -> Result<v1::PeerStatus, RuntimeError>;
}

/// Events in the order of their sequence numbers, and whose they are.
pub type HappenedStream = Pin<Box<dyn Stream<Item = Result<Happened, RuntimeError>> + Send>>;

/// What to rekey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RekeyTarget {
    /// The IKE SA.
    Ike,
    /// Every Child SA.
    Children,
    /// The Child SA of this name; the peer has one.
    Child(String),
}

/// Whose tunnels are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everybody's: `tenants/-`.
    All,
    /// Those of a tenant.
    Tenant {
        /// As requests name it.
        name: TenantName,
        /// [`Tenant::number`]: others may have had the name before.
        number: u32,
    },
    /// That of a peer.
    Peer {
        /// As requests name it.
        name: PeerName,
        /// [`Peer::uid`]: others may have had the name before.
        uid: u64,
    },
}

/// Why the tunnels do not do what they were asked to.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The tunnel cannot do it as it is: the reason in words. gRPC `FAILED_PRECONDITION`.
    #[error("{0}")]
    Refused(String),
    /// It was tried and failed: the reason in words. gRPC `FAILED_PRECONDITION`.
    #[error("{0}")]
    Failed(String),
    /// The tunnel is at another node by now. gRPC `UNAVAILABLE`.
    #[error("the tunnel has moved to another node meanwhile; ask again")]
    Moved,
    /// A queue is full; try again later. gRPC `RESOURCE_EXHAUSTED`.
    #[error("{0} is overloaded")]
    Overloaded(&'static str),
    /// There is no room for what would be answered: what to ask instead. gRPC `RESOURCE_EXHAUSTED`.
    #[error("{0}")]
    Exhausted(&'static str),
    /// Events were not read in time: how many. They may still be kept. gRPC `OUT_OF_RANGE`.
    #[error("{0} events were not read in time; watch again after the last one seen")]
    Behind(u64),
    /// Events asked for are no longer kept: the number of the last of those. gRPC `OUT_OF_RANGE`.
    #[error("events up to {0} are no longer kept; list again and watch from now on")]
    Lagged(u64),
    /// Events are asked for after one that there was not. gRPC `OUT_OF_RANGE`.
    #[error(
        "there was no event {after} in this process, whose last one is {last}; list again and watch from now on"
    )]
    NeverWas {
        /// The number asked for.
        after: u64,
        /// The number of the last event.
        last: u64,
    },
    /// The node carries no tunnels, or is going down. gRPC `UNAVAILABLE`.
    #[error("{0}")]
    Unavailable(&'static str),
    /// What another node answers.
    #[error("{}", .0.message())]
    Elsewhere(Box<Status>),
}

pub(crate) const ALONE: RuntimeError =
    RuntimeError::Unavailable("this node is alone: there is no other one to have its tunnels");
/// Whoever carries an order out is gone, as a fault ended it.
pub(crate) const ORDER_ENDED: RuntimeError =
    RuntimeError::Unavailable("the order has come to an end; the log says why");

impl Scope {
    /// As requests name it.
    pub(crate) fn parent(&self) -> String {
        match self {
            Self::All => "tenants/-".to_owned(),
            Self::Tenant { name, .. } => name.to_string(),
            Self::Peer { name, .. } => name.to_string(),
        }
    }

    /// The number by which it is told from others that had the name before, and have a lower one; zero for all.
    pub(crate) fn number(&self) -> u64 {
        match self {
            Self::All => 0,
            Self::Tenant { number, .. } => (*number).into(),
            Self::Peer { uid, .. } => *uid,
        }
    }

    /// True if whoever watches it is told of this. What befell another tenant or peer that had the name before is not its own; what befalls
    /// one that gets it later is, as no stream ends for that.
    pub fn covers_event(&self, Happened { event, whose }: &Happened) -> bool {
        match self {
            Self::All => true,
            Self::Tenant { number, .. } if whose.tenant < *number => false,
            Self::Tenant { name, .. } if event.peer.is_empty() => name.to_string() == event.tenant,
            Self::Tenant { .. } => self.covers(&event.peer),
            Self::Peer { uid, .. } => whose.peer >= *uid && self.covers(&event.peer),
        }
    }

    /// True if the peer of this resource name belongs to it.
    pub fn covers(&self, peer: &str) -> bool {
        match self {
            Self::All => true,
            Self::Peer { name, .. } => name.to_string() == peer,
            Self::Tenant { name, .. } => name.owns(peer),
        }
    }
}

/// A node that keeps the catalog and carries no tunnels.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRuntime;

const NO_TUNNELS: RuntimeError = RuntimeError::Unavailable("this node carries no tunnels");

#[tonic::async_trait]
impl Runtime for NoRuntime {
    fn health(&self) -> watch::Receiver<Health> {
        // Nothing runs, so nothing fails. The last value stays when the sender is gone.
        watch::channel(Health::default()).1
    }

    async fn list_sas(&self, _scope: &Scope) -> Result<Vec<v1::Sa>, RuntimeError> {
        Ok(Vec::new())
    }

    fn watch(&self, _after: u64) -> Result<HappenedStream, RuntimeError> {
        Ok(Box::pin(tokio_stream::pending()))
    }

    async fn node_status(&self) -> v1::NodeStatus {
        v1::NodeStatus::default()
    }

    async fn peer_statuses(&self, peers: &[Arc<Peer>]) -> Vec<Option<v1::PeerStatus>> {
        vec![None; peers.len()]
    }

    async fn send_dummies(&self, _peer: Arc<Peer>, _count: u16, _length: u16) -> Result<u32, RuntimeError> {
        Err(NO_TUNNELS)
    }

    async fn explain(&self, _peer: Arc<Peer>) -> Result<v1::ExplainPeerResponse, RuntimeError> {
        Err(NO_TUNNELS)
    }

    async fn initiate(&self, _peer: Arc<Peer>) -> Result<v1::PeerStatus, RuntimeError> {
        Err(NO_TUNNELS)
    }

    async fn terminate(&self, _peer: Arc<Peer>, _by: &str) -> Result<v1::PeerStatus, RuntimeError> {
        Err(NO_TUNNELS)
    }

    async fn rekey(&self, _peer: Arc<Peer>, _target: RekeyTarget) -> Result<v1::PeerStatus, RuntimeError> {
        Err(NO_TUNNELS)
    }
}

#[cfg(test)]
mod tests {
    use actors::Whose;

    use super::*;

    fn tenant(name: &str, number: u32) -> Scope {
        Scope::Tenant { name: name.parse().unwrap(), number }
    }

    fn peer(name: &str, uid: u64) -> Scope {
        Scope::Peer { name: name.parse().unwrap(), uid }
    }

    #[test]
    fn a_scope_covers_its_own_only() {
        let tenant = tenant("tenants/acme", 1);
        assert!(tenant.covers("tenants/acme/peers/b1"));
        assert!(!tenant.covers("tenants/acme-2/peers/b1"));
        let peer = peer("tenants/acme/peers/b1", 1);
        assert!(peer.covers("tenants/acme/peers/b1") && !peer.covers("tenants/acme/peers/b11"));
        assert!(Scope::All.covers("tenants/acme/peers/b1"));
    }

    #[test]
    fn what_befalls_a_tenant_is_told_to_whoever_watches_it_and_to_no_other() {
        let uplink = |tenant: &str| {
            let kind = v1::EventType::UplinkChanged.into();
            let event = v1::Event { r#type: kind, tenant: tenant.to_owned(), ..v1::Event::default() };
            Happened { event, whose: Whose { tenant: 1, peer: 0 } }
        };
        let of = uplink("tenants/acme");
        assert!(tenant("tenants/acme", 1).covers_event(&of) && Scope::All.covers_event(&of));
        for other in ["tenants/acme-2", "tenants/globex"] {
            assert!(!tenant(other, 1).covers_event(&of), "{other}");
        }
        let peer = peer("tenants/acme/peers/b1", 1);
        assert!(!peer.covers_event(&of), "it is not about the peer's tunnel");
        // What names nobody is for whoever may see all.
        let nameless = uplink("");
        assert!(!tenant("tenants/acme", 1).covers_event(&nameless) && !peer.covers_event(&nameless));
    }

    #[test]
    fn what_befell_whoever_had_the_name_before_is_told_to_nobody_but_whoever_may_see_all() {
        let of = |peer: &str, whose| {
            let name = if peer.is_empty() { String::new() } else { format!("tenants/acme/peers/{peer}") };
            let event = v1::Event { peer: name, tenant: "tenants/acme".to_owned(), ..v1::Event::default() };
            Happened { event, whose }
        };
        let now = tenant("tenants/acme", 7);
        for what in ["b1", ""] {
            let covered = |number| now.covers_event(&of(what, Whose { tenant: number, peer: 9 }));
            assert!(!covered(6) && covered(7) && covered(8), "{what}");
            assert!(Scope::All.covers_event(&of(what, Whose { tenant: 6, peer: 9 })));
        }
        let b1 = peer("tenants/acme/peers/b1", 9);
        let covered = |uid| b1.covers_event(&of("b1", Whose { tenant: 7, peer: uid }));
        assert!(!covered(8) && covered(9) && covered(10));
        // Who watches the tenant may see what befell peers that it has no more.
        assert!(now.covers_event(&of("b1", Whose { tenant: 7, peer: 8 })));
    }
}

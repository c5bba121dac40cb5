//! What the API may ask of a running node. Reads come from the board and the router, commands go to the peers' actors.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix::prelude::SendError;
use culvert_proto::v1;
use esp::Spi;
use ike::Failure;
use ike::config::Opening;
use ike::resources::resource_of;
use router::{SaStats, TenantId, TunnelId, UplinkState};
use tenants::{HostName, Peer, PeerName, Tenant, TenantName, mode_to_proto};
use tokio::sync::oneshot;

use crate::condition::Condition;
use crate::convert;
use crate::env::NodeEnv;
use crate::events::{EventHub, Whose};
use crate::span::SpanContext;
use crate::status::{ChildView, IkeView, PeerView, Traffic};
use crate::vocabulary::{Refusal, RekeyTarget, Reply, ToPeer};

/// How long a command is waited for: as long as a request is sent again, and some.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);
/// Negotiations of strangers that are shown of those that may be a peer's: what somebody reads.
pub const MAX_STRANGERS_SHOWN: usize = 4;
/// How soon a peer that is being started again is looked for again.
const SUCCESSOR: Duration = Duration::from_millis(20);

/// A handle to the node's tunnels. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    env: Arc<NodeEnv>,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// It was deleted meanwhile.
    #[error("the peer is gone")]
    Gone,
    /// Its mailbox is full.
    #[error("the peer is overloaded")]
    Overloaded,
    /// It was tried; the reason in words.
    #[error("{0}")]
    Failed(String),
    /// The tunnel is at another node by now.
    #[error("the tunnel has moved to another node meanwhile; ask again")]
    Moved,
    /// No outcome in time.
    #[error("no outcome after {} s; the attempt goes on", COMMAND_TIMEOUT.as_secs())]
    TimedOut,
}

impl Control {
    pub(crate) const fn new(env: Arc<NodeEnv>) -> Self {
        Self { env }
    }

    /// Waits until the catalog's peers have their actors, which go on with the tunnels of other nodes. Not for ever.
    pub async fn peers_stand(&self) {
        crate::node::peers_stand(&self.env).await;
    }

    pub(crate) fn env(&self) -> &NodeEnv {
        &self.env
    }

    /// Whether a tenant's uplink works, if that is known.
    pub(crate) fn uplink_works(&self, tenant: TenantId) -> Option<bool> {
        match self.env.router.uplink(tenant)?.state {
            UplinkState::Pending => None,
            UplinkState::Up => Some(true),
            UplinkState::Down | UplinkState::Failed(_) | UplinkState::Lost(_) => Some(false),
        }
    }

    /// All events of the node.
    pub fn events(&self) -> &EventHub {
        &self.env.hub
    }

    /// A peer as it stands.
    pub fn peer(&self, name: &PeerName) -> Option<Arc<PeerView>> {
        self.env.board.get(name)
    }

    /// The peers whose tunnels are up, and those that were to be called back, are there, and have not been up since: they may not have
    /// answered yet.
    pub(crate) fn peers_to_recall(&self, before: &HashSet<PeerName>) -> Vec<PeerName> {
        let waits = |name: &PeerName, view: &PeerView| {
            before.contains(name) && view.ups == 0 && view.state != v1::PeerState::Terminated
        };
        // A name that begins in between is there twice, which does no harm.
        let unbegun = self.env.not_begun_since_stop();
        let begun = self.env.board.all().into_iter();
        let begun =
            begun.filter(|(name, view)| view.ike.is_some() || waits(name, view)).map(|(name, _)| name);
        unbegun.into_iter().filter(|name| self.env.catalog.get_peer(name).is_some()).chain(begun).collect()
    }

    /// The peers' status messages with the figures of their SAs, in the order asked for.
    pub async fn peer_statuses(&self, names: &[PeerName]) -> Vec<Option<v1::PeerStatus>> {
        let views: Vec<_> = names.iter().map(|name| self.peer(name)).collect();
        let tunnels = views.iter().flatten().flat_map(|view| convert::tunnels_of(view.uid)).map(TunnelId);
        let stats = by_spi(self.env.router.stats_of_tunnels(tunnels).await);
        // Pairs that linger after a rekeying count too.
        let mut live: HashMap<u64, Traffic> = HashMap::new();
        for stats in stats.values() {
            live.entry(convert::peer_of_tunnel(stats.tunnel)).or_default().add(stats);
        }
        // Once for each tenant: there may be a hundred thousand peers of it.
        let mut uplinks: HashMap<TenantName, Option<v1::Condition>> = HashMap::new();
        let status = |(name, view): (&PeerName, Option<Arc<PeerView>>)| {
            let view = view?;
            let traffic =
                self.env.board.past(view.uid).plus(live.get(&view.uid).copied().unwrap_or_default());
            let mut status = view.to_status(&stats, traffic);
            let uplink = uplinks.entry(name.tenant().clone()).or_insert_with(|| {
                self.env.catalog.get_tenant(name.tenant()).map(|tenant| self.uplink(&tenant).0)
            });
            status.conditions.splice(0..0, uplink.clone());
            status.resolved_names = self.resolved_names(name);
            Some(status)
        };
        names.iter().zip(views).map(status).collect()
    }

    /// The names of a peer, and what they resolve to.
    fn resolved_names(&self, peer: &PeerName) -> Vec<v1::ResolvedName> {
        let Some(peer) = self.env.catalog.get_peer(peer) else { return Vec::new() };
        let shown = |name: &HostName| {
            let found = self.env.catalog.resolution(name).unwrap_or_default();
            v1::ResolvedName {
                name: name.to_string(),
                addresses: found.addresses.iter().map(ToString::to_string).collect(),
                resolve_time: time(found.time),
                error: found.error,
            }
        };
        peer.spec.host_names().map(shown).collect()
    }

    /// How a tenant's uplink stands: as a condition, and the networks that are not led to it.
    pub fn uplink(&self, tenant: &Tenant) -> (v1::Condition, Vec<String>) {
        let status = self.env.router.uplink(TenantId(tenant.number));
        let (holds, reason, message) = match status.as_ref().map(|status| &status.state) {
            None => (None, "NotRunning", String::new()),
            Some(UplinkState::Pending) => (None, "Pending", String::new()),
            Some(UplinkState::Up) => (Some(true), "Up", String::new()),
            Some(state @ UplinkState::Down) => (Some(false), "Down", state.to_string()),
            Some(state @ UplinkState::Failed(_)) => (Some(false), "Failed", state.to_string()),
            Some(state @ UplinkState::Lost(_)) => (Some(false), "Lost", state.to_string()),
        };
        let mut condition = Condition::default();
        condition.set(holds, reason, &message);
        let mut condition = condition.to_proto(v1::ConditionType::Uplink);
        condition.last_transition_time =
            self.env.uplinks.get(&tenant.number).map(|uplink| uplink.since.into());
        let refused = status.iter().flat_map(|status| &status.refused).map(ToString::to_string).collect();
        (condition, refused)
    }

    /// Sends dummy packets on every pair of the peer that is sent by; on how many.
    pub async fn send_dummies(&self, name: &PeerName, count: u16, length: u16) -> u32 {
        let Some(view) = self.peer(name) else { return 0 };
        let tunnels = convert::tunnels_of(view.uid).map(TunnelId);
        let mut pairs = 0;
        for stats in self.env.router.stats_of_tunnels(tunnels).await.into_iter().filter(|stats| stats.active)
        {
            self.env.router.send_dummies(stats.spi, count, length);
            pairs += 1;
        }
        pairs
    }

    /// Why a peer's tunnel is not up: its last negotiations, and refused ones that may have been its.
    pub async fn explain(&self, peer: &Peer) -> v1::ExplainPeerResponse {
        let status = self.peer_statuses(std::slice::from_ref(&peer.name)).await.pop().flatten();
        let down = status.as_ref().is_none_or(|s| !is_up(s.state()));
        // What names a peer that is configured was told to that peer alone. What comes from the very address of one was told to that,
        // and is nothing for other tenants.
        let mut attempts = self.env.strangers.attempts(&|remote, failure, told| {
            if !told.is_empty() {
                let own = told.iter().any(|other| other.tenant == peer.tenant);
                return down
                    && own
                    && peer.spec.remote_addresses.is_empty()
                    && !told.contains(&Whose::of(peer));
            }
            let by_address =
                !peer.spec.remote_addresses.is_empty() && self.env.catalog.admits(&peer.spec, remote.ip());
            // Whoever comes from an unknown address, and says no name that is known, may be the peer that is missed.
            let nowhere = peer.spec.remote_addresses.is_empty()
                || matches!(failure, Some(Failure::UnknownAddress { .. }));
            by_address || (down && nowhere)
        });
        // The newest are at the end. A flood of others must not bury what the peer itself has done.
        let omitted = attempts.len().saturating_sub(MAX_STRANGERS_SHOWN);
        attempts.drain(..omitted);
        // One that had the name before may not have left yet.
        let view = self.peer(&peer.name).filter(|view| view.uid == peer.uid);
        attempts.extend(view.map(|view| view.history.attempts()).unwrap_or_default());
        attempts.sort_by_key(|a| a.start_time.map(|t| (t.seconds, t.nanos)));
        let omitted_attempts = u32::try_from(omitted).unwrap_or(u32::MAX);
        v1::ExplainPeerResponse { status, attempts, omitted_attempts, ..v1::ExplainPeerResponse::default() }
    }

    /// The SAs of all peers.
    pub async fn all_sas(&self) -> Vec<v1::Sa> {
        let stats = self.env.router.stats().await;
        Self::sas(self.env.board.all(), stats)
    }

    /// The SAs of a tenant's peers.
    pub async fn sas_of_tenant(&self, tenant: &TenantName) -> Vec<v1::Sa> {
        self.sas_of(&self.env.catalog.peers_of(tenant)).await
    }

    /// The SAs of some peers. Nothing is read of any other.
    pub async fn sas_of(&self, peers: &[PeerName]) -> Vec<v1::Sa> {
        let shown = |name: &PeerName| Some((name.clone(), self.env.board.get(name)?));
        let views: Vec<_> = peers.iter().filter_map(shown).collect();
        let tunnels = views.iter().flat_map(|(_, view)| convert::tunnels_of(view.uid)).map(TunnelId);
        let stats = self.env.router.stats_of_tunnels(tunnels).await;
        Self::sas(views, stats)
    }

    fn sas(views: Vec<(PeerName, Arc<PeerView>)>, stats: Vec<SaStats>) -> Vec<v1::Sa> {
        let stats = by_spi(stats);
        let count = views.iter().map(|(_, view)| usize::from(view.ike.is_some()) + view.children.len()).sum();
        let mut sas = Vec::with_capacity(count);
        for (name, view) in views {
            let peer = name.to_string();
            let addresses = view.ike.as_ref().map(|i| (i.local.to_string(), i.remote.to_string()));
            sas.extend(view.ike.iter().map(|ike| ike.to_sa(&peer)));
            for child in &view.children {
                let mut sa = child.to_sa(&peer, stats.get(&child.spi_in));
                (sa.local_address, sa.remote_address) = addresses.clone().unwrap_or_default();
                sas.push(sa);
            }
        }
        sas
    }

    /// The node's status; what belongs to the catalog is left empty.
    pub fn node_status(&self) -> v1::NodeStatus {
        let views = self.env.board.all();
        let ike_sas: usize = views.iter().map(|(_, v)| v.ike_sas).sum();
        let connecting = views.iter().filter(|(_, v)| v.state == v1::PeerState::Connecting).count();
        let child_sas: usize = views.iter().map(|(_, v)| v.children.len()).sum();
        let counters = self.env.router.counters().into_iter().chain(self.env.counters.all());
        v1::NodeStatus {
            start_time: Some(self.env.started.into()),
            slot: self.env.slot().into(),
            ike_sas: as_u64(ike_sas),
            child_sas: as_u64(child_sas),
            half_open: self.env.half_open.get() + as_u64(connecting),
            counters: counters.map(|(name, n)| (name.to_owned(), n)).collect(),
            ..v1::NodeStatus::default()
        }
    }

    /// Starts a negotiation, as a part of a span; returns when the tunnel is up.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn initiate(&self, name: &PeerName, parent: Option<SpanContext>) -> Result<(), ControlError> {
        self.command(name, |reply| ToPeer::Initiate(reply, parent)).await
    }

    /// Takes the tunnel down if it is here, and does not begin with the peer, at the wish of `by`; returns when it is down.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn terminate(&self, name: &PeerName, by: &str) -> Result<(), ControlError> {
        self.command(name, |reply| ToPeer::Terminate(by.to_owned(), reply)).await
    }

    /// As [`Self::terminate`], of a tunnel that is said to be here.
    ///
    /// # Errors
    /// [`ControlError::Moved`] if it is not; any other.
    pub async fn terminate_held(&self, name: &PeerName, by: &str) -> Result<(), ControlError> {
        self.command(name, |reply| ToPeer::TerminateHeld(by.to_owned(), reply)).await
    }

    /// Does not keep the tunnel down any longer.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn let_be(&self, name: &PeerName) -> Result<(), ControlError> {
        self.command(name, ToPeer::LetBe).await
    }

    /// Rekeys; returns when the new SA is in place.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn rekey(&self, name: &PeerName, target: RekeyTarget) -> Result<(), ControlError> {
        self.command(name, |reply| ToPeer::Rekey(target.clone(), reply)).await
    }

    async fn command(&self, name: &PeerName, message: impl Fn(Reply) -> ToPeer) -> Result<(), ControlError> {
        let asked = self.ask(name, message);
        tokio::time::timeout(COMMAND_TIMEOUT, asked).await.unwrap_or(Err(ControlError::TimedOut))
    }

    /// Asks the peer's actor. If that ends without an answer, as it does when its tenant's uplink changes, its successor is
    /// asked.
    async fn ask(&self, name: &PeerName, message: impl Fn(Reply) -> ToPeer) -> Result<(), ControlError> {
        while self.env.catalog.get_peer(name).is_some() {
            if let Some(entry) = self.env.registry.peers.get(name) {
                let (reply, outcome) = oneshot::channel();
                match entry.to.try_send(message(reply)) {
                    Ok(()) => {
                        if let Ok(outcome) = outcome.await {
                            return outcome.map_err(|refusal| match refusal {
                                Refusal::Failed(reason) => ControlError::Failed(reason),
                                Refusal::Moved => ControlError::Moved,
                            });
                        }
                    }
                    Err(SendError::Full(_)) => {
                        self.env.counters.mailbox_full.up();
                        return Err(ControlError::Overloaded);
                    }
                    Err(SendError::Closed(_)) => {}
                }
            }
            // A peer is started again within a second; nobody can say when.
            tokio::time::sleep(SUCCESSOR).await;
        }
        Err(ControlError::Gone)
    }

    /// Has a part panic at the next thing it does.
    #[cfg(feature = "fault-injection")]
    pub(crate) fn fault(&self, fault: crate::fault::Fault) -> bool {
        self.env.faults.arm(fault);
        true
    }

    /// Makes an actor of the peer panic: its own, or that of its connection.
    #[cfg(feature = "fault-injection")]
    pub fn inject_panic(&self, name: &PeerName, connection: bool) -> bool {
        let entry = self.env.registry.peers.get(name);
        entry.is_some_and(|e| e.to.try_send(ToPeer::Panic { connection }).is_ok())
    }
}

const fn is_up(state: v1::PeerState) -> bool {
    matches!(state, v1::PeerState::Established | v1::PeerState::Degraded)
}

fn by_spi(stats: Vec<SaStats>) -> HashMap<u32, SaStats> {
    stats.into_iter().map(|stats| (stats.spi.0, stats)).collect()
}

fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn time(at: Option<SystemTime>) -> Option<prost_types::Timestamp> {
    at.map(Into::into)
}

impl PeerView {
    fn to_status(&self, stats: &HashMap<u32, SaStats>, traffic: Traffic) -> v1::PeerStatus {
        let ike = self.ike.as_ref();
        v1::PeerStatus {
            state: self.state.into(),
            last_error: self.last_error.clone(),
            attempts: self.attempts,
            ike_rekeys: self.ike_rekeys,
            child_rekeys: self.child_rekeys,
            remote_address: ike.map(|i| i.remote.to_string()).unwrap_or_default(),
            since: time(self.since),
            ike_spis: ike
                .map(|i| format!("{:016x}_i {:016x}_r", i.initiator_spi, i.responder_spi))
                .unwrap_or_default(),
            ike_proposal: ike.map(|i| i.proposal.clone()).unwrap_or_default(),
            ike_version: ike.map_or(v1::IkeVersion::Unspecified, |i| i.version()).into(),
            ike_legacy: ike.map(|i| words(&i.legacy)).unwrap_or_default(),
            children: self.children.iter().map(|c| c.to_status(stats.get(&c.spi_in))).collect(),
            next_attempt: time(self.next_attempt),
            state_reason: self.state_reason.clone(),
            conditions: vec![
                self.conditions.secret.to_proto(v1::ConditionType::Secret),
                self.conditions.reachable.to_proto(v1::ConditionType::Reachable),
                self.conditions.covered.to_proto(v1::ConditionType::Covered),
            ],
            packets_in: traffic.packets_in,
            packets_out: traffic.packets_out,
            bytes_in: traffic.bytes_in,
            bytes_out: traffic.bytes_out,
            resolved_names: Vec::new(),
            home_node: self.home_node.clone(),
            node: String::new(),
        }
    }
}

impl ChildView {
    /// Which of the pairs of its child it is.
    fn resource(&self) -> u32 {
        u32::try_from(resource_of(&self.name).1).unwrap_or_default()
    }

    fn to_status(&self, stats: Option<&SaStats>) -> v1::ChildStatus {
        let count = |f: fn(&SaStats) -> u64| stats.map_or(0, f);
        v1::ChildStatus {
            name: resource_of(&self.name).0.to_owned(),
            resource: self.resource(),
            shard: Spi(self.spi_in).shard().into(),
            inbound_spi: self.spi_in,
            outbound_spi: self.spi_out,
            suite: self.suite.clone(),
            legacy: self.legacy.clone(),
            mode: mode_to_proto(self.mode).into(),
            packets_in: count(|s| s.packets_in),
            packets_out: count(|s| s.packets_out),
            bytes_in: count(|s| s.bytes_in),
            bytes_out: count(|s| s.bytes_out),
            rekeys: self.rekeys,
            installed: Some(self.installed.into()),
            local_selectors: self.local.clone(),
            remote_selectors: self.remote.clone(),
        }
    }

    fn to_sa(&self, peer: &str, stats: Option<&SaStats>) -> v1::Sa {
        let count = |f: fn(&SaStats) -> u64| stats.map_or(0, f);
        let drops = stats.map(|s| s.drops.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect());
        v1::Sa {
            peer: peer.to_owned(),
            kind: Some(v1::sa::Kind::Child(v1::ChildSa {
                name: resource_of(&self.name).0.to_owned(),
                resource: self.resource(),
                shard: Spi(self.spi_in).shard().into(),
                inbound_spi: self.spi_in,
                outbound_spi: self.spi_out,
                suite: self.suite.clone(),
                legacy: self.legacy.clone(),
                mode: mode_to_proto(self.mode).into(),
                local_selectors: self.local.clone(),
                remote_selectors: self.remote.clone(),
                packets_in: count(|s| s.packets_in),
                packets_out: count(|s| s.packets_out),
                bytes_in: count(|s| s.bytes_in),
                bytes_out: count(|s| s.bytes_out),
                drops: drops.unwrap_or_default(),
            })),
            installed: Some(self.installed.into()),
            rekey_due: time(self.rekey_due),
            expires: time(self.expires),
            ..v1::Sa::default()
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

impl IkeView {
    const fn version(&self) -> v1::IkeVersion {
        match self.opening {
            Opening::Init => v1::IkeVersion::Ikev2,
            Opening::Main | Opening::Aggressive => v1::IkeVersion::Ikev1,
        }
    }

    fn to_sa(&self, peer: &str) -> v1::Sa {
        v1::Sa {
            peer: peer.to_owned(),
            kind: Some(v1::sa::Kind::Ike(v1::IkeSa {
                initiator_spi: self.initiator_spi,
                responder_spi: self.responder_spi,
                initiator: self.initiator,
                proposal: self.proposal.clone(),
                version: self.version().into(),
                legacy: words(&self.legacy),
                encapsulated: self.encapsulated,
            })),
            installed: Some(self.installed.into()),
            rekey_due: time(self.rekey_due),
            expires: time(self.expires),
            local_address: self.local.to_string(),
            remote_address: self.remote.to_string(),
            node: String::new(),
        }
    }
}

//! The board: what every peer looks like now, written by its actor, read by the API without asking any actor.

use std::net::SocketAddr;
use std::time::SystemTime;

use culvert_proto::v1;
use dashmap::DashMap;
use tenants::PeerName;

/// A peer as it stands.
#[derive(Clone, Debug, Default)]
pub struct PeerView {
    /// Where it stands.
    pub state: v1::PeerState,
    /// Since when.
    pub since: Option<SystemTime>,
    /// Why the last attempt failed or the last tunnel ended; empty if none did.
    pub last_error: String,
    /// Negotiations started by us.
    pub attempts: u64,
    /// IKE_SAs rekeyed.
    pub ike_rekeys: u64,
    /// Child SAs rekeyed.
    pub child_rekeys: u64,
    /// When the next attempt is due.
    pub next_attempt: Option<SystemTime>,
    /// The IKE_SA in use.
    pub ike: Option<IkeView>,
    /// The Child SAs in place.
    pub children: Vec<ChildView>,
}

/// The IKE_SA of a peer.
#[derive(Clone, Debug)]
pub struct IkeView {
    /// SPI of the initiator.
    pub initiator_spi: u64,
    /// SPI of the responder.
    pub responder_spi: u64,
    /// We are the initiator.
    pub initiator: bool,
    /// The algorithms.
    pub proposal: String,
    /// Our address.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    /// When it was made.
    pub installed: SystemTime,
    /// When it will be rekeyed.
    pub rekey_due: Option<SystemTime>,
    /// When it ends.
    pub expires: Option<SystemTime>,
}

/// A Child SA of a peer.
#[derive(Clone, Debug)]
pub struct ChildView {
    /// Its policy.
    pub name: String,
    /// Inbound SPI.
    pub spi_in: u32,
    /// Outbound SPI.
    pub spi_out: u32,
    /// The algorithms.
    pub suite: String,
    /// Our side's selectors.
    pub local: Vec<String>,
    /// The peer's side's selectors.
    pub remote: Vec<String>,
    /// Times its policy was rekeyed.
    pub rekeys: u64,
    /// When it was installed.
    pub installed: SystemTime,
    /// When it will be rekeyed.
    pub rekey_due: Option<SystemTime>,
    /// When it ends.
    pub expires: Option<SystemTime>,
}

/// All peers.
#[derive(Default)]
pub(crate) struct Board(DashMap<PeerName, PeerView>);

impl Board {
    pub(crate) fn set(&self, name: &PeerName, view: PeerView) {
        self.0.insert(name.clone(), view);
    }

    pub(crate) fn remove(&self, name: &PeerName) {
        self.0.remove(name);
    }

    pub(crate) fn get(&self, name: &PeerName) -> Option<PeerView> {
        self.0.get(name).map(|v| v.clone())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn all(&self) -> Vec<(PeerName, PeerView)> {
        self.0.iter().map(|entry| (entry.key().clone(), entry.value().clone())).collect()
    }
}

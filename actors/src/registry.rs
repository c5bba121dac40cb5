//! Who is where: IKE SPI → actor, ESP SPI → actor, peer → actor. The only state shared between actors' threads.

use std::sync::Arc;

use actix::prelude::*;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use ike::config::PeerConfig;
use router::IkeDatagram;
use tenants::PeerName;

use crate::child_sa::ChildNotice;
use crate::peer::PeerActor;

/// A datagram for one of the receiver's IKE_SAs.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Deliver(pub(crate) IkeDatagram);

/// A running peer.
#[derive(Clone)]
pub(crate) struct PeerEntry {
    pub(crate) addr: Addr<PeerActor>,
    pub(crate) config: Arc<PeerConfig>,
}

/// Concurrent maps; a look-up holds one shard of one map for its duration.
#[derive(Default)]
pub(crate) struct Registry {
    ike: DashMap<u64, Recipient<Deliver>>,
    esp: DashMap<u32, Recipient<ChildNotice>>,
    peers: DashMap<PeerName, PeerEntry>,
    uids: DashMap<u64, Addr<PeerActor>>,
}

impl Registry {
    /// Reserves an IKE SPI; false if it is taken.
    pub(crate) fn reserve_ike(&self, spi: u64, to: Recipient<Deliver>) -> bool {
        match self.ike.entry(spi) {
            Entry::Occupied(_) => false,
            Entry::Vacant(slot) => {
                slot.insert(to);
                true
            }
        }
    }

    pub(crate) fn set_ike(&self, spi: u64, to: Recipient<Deliver>) {
        self.ike.insert(spi, to);
    }

    pub(crate) fn remove_ike(&self, spi: u64) {
        self.ike.remove(&spi);
    }

    pub(crate) fn ike(&self, spi: u64) -> Option<Recipient<Deliver>> {
        self.ike.get(&spi).map(|r| r.clone())
    }

    pub(crate) fn set_esp(&self, spi: u32, to: Recipient<ChildNotice>) {
        self.esp.insert(spi, to);
    }

    pub(crate) fn remove_esp(&self, spi: u32) {
        self.esp.remove(&spi);
    }

    pub(crate) fn esp(&self, spi: u32) -> Option<Recipient<ChildNotice>> {
        self.esp.get(&spi).map(|r| r.clone())
    }

    pub(crate) fn set_peer(&self, name: PeerName, entry: PeerEntry) {
        self.peers.insert(name, entry);
    }

    /// The actor of the peer with this number, whether or not it can negotiate.
    pub(crate) fn set_uid(&self, uid: u64, addr: Addr<PeerActor>) {
        self.uids.insert(uid, addr);
    }

    /// Unless another actor has taken over.
    pub(crate) fn remove_uid(&self, uid: u64, addr: &Addr<PeerActor>) {
        self.uids.remove_if(&uid, |_, there| there == addr);
    }

    pub(crate) fn uid(&self, uid: u64) -> Option<Addr<PeerActor>> {
        self.uids.get(&uid).map(|addr| addr.clone())
    }

    pub(crate) fn remove_peer(&self, name: &PeerName) {
        self.peers.remove(name);
    }

    pub(crate) fn peer(&self, name: &PeerName) -> Option<PeerEntry> {
        self.peers.get(name).map(|p| p.clone())
    }

    pub(crate) fn ike_count(&self) -> usize {
        self.ike.len()
    }
}

//! Who is where: IKE SPI → actor, ESP SPI → actor, peer → actor. With the board, the only state shared between actors'
//! threads.

use std::sync::Arc;

use actix::prelude::*;
use ike::config::PeerConfig;
use tenants::{Peer, PeerName};

use crate::counters::Counters;
use crate::datagram::Deliver;
use crate::mailbox::deliver;
use crate::moves::Places;
use crate::numbered::Numbered;
use crate::table::{Registration, Table, Turn};
use crate::vocabulary::{ChildNotice, ToPeer};

/// A running peer.
pub(crate) struct PeerEntry {
    pub(crate) to: Recipient<ToPeer>,
    /// `None` while its secret is missing.
    pub(crate) config: Option<Arc<PeerConfig>>,
}

/// Every entry belongs to the [`Registration`] that its actor holds.
#[derive(Default)]
pub(crate) struct Registry {
    /// By our SPI.
    pub(crate) ike: Table<u64, Recipient<Deliver>>,
    /// By inbound SPI.
    pub(crate) esp: Table<u32, Recipient<ChildNotice>>,
    pub(crate) peers: Table<PeerName, Arc<PeerEntry>>,
    /// Connections by a number of their own, with the slot that they are in. Only in a cluster.
    pub(crate) moving: Places,
    /// By the peer's number.
    pub(crate) uids: Table<u64, Running>,
}

/// A running peer, as its number leads to it.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) to: Recipient<ToPeer>,
    pub(crate) peer: Arc<Numbered>,
}

/// A peer's two places.
pub(crate) struct PeerPlace {
    by_name: Registration<PeerName, Arc<PeerEntry>>,
    by_uid: Registration<u64, Running>,
    to: Recipient<ToPeer>,
}

impl Registry {
    /// Tells those of these peers that run. A message to a peer that does not is none.
    pub(crate) fn tell_peers(&self, peers: &[Arc<Peer>], counters: &Counters, message: impl Fn() -> ToPeer) {
        for entry in peers.iter().filter_map(|peer| self.peers.get(&peer.name)) {
            deliver(&entry.to, message(), counters);
        }
    }

    /// Makes a peer known, in the place of any actor that it had before.
    pub(crate) fn register_peer(
        &self,
        peer: &Arc<Numbered>,
        turn: Turn,
        to: Recipient<ToPeer>,
        config: Option<Arc<PeerConfig>>,
    ) -> PeerPlace {
        let entry = Arc::new(PeerEntry { to: to.clone(), config });
        PeerPlace {
            by_name: self.peers.register(peer.name.clone(), turn, entry),
            by_uid: self.uids.register(peer.uid, turn, Running { to: to.clone(), peer: Arc::clone(peer) }),
            to,
        }
    }
}

impl PeerPlace {
    /// The peer negotiates with this from now on.
    pub(crate) fn configure(&self, peer: &Arc<Numbered>, config: Option<Arc<PeerConfig>>) {
        self.by_uid.set(Running { to: self.to.clone(), peer: Arc::clone(peer) });
        self.by_name.set(Arc::new(PeerEntry { to: self.to.clone(), config }));
    }
}

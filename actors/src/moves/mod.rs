//! Tunnels that go from one node of a cluster to another without their peers noticing.
//!
//! What a node has to know to go on with a tunnel is told to its standby in rows ([`rows`]): one for each connection, written anew before
//! any of its messages leaves, and some for each pair of ESP SAs. The numbers of ESP are reserved in blocks ([`BLOCK`]), of which
//! the standby knows before any is used; how far the peer's packets have come follows ten times a second.
//!
//! A tunnel is in a slot, that of its SPIs; slots are what moves. [`take`] goes on with the tunnels of one, [`give`] stops with them.
//! A node that is alone has none of this, and pays nothing for it.

mod agreed;
mod give;
mod places;
mod rows;
mod take;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use actix::Message;
use ike::supervise::Claim;
use router::IkeDatagram;
use snapshot::{Done, Row};
use tokio::sync::mpsc;

pub(crate) use agreed::{Agreed, agreed_of};
pub(crate) use give::reserve_more;
pub(crate) use places::{Place, Places};
pub use rows::reads;
pub(crate) use rows::{ConnectionRow, PairFacts, PairRow, class, gone, numbers, row};
pub(crate) use take::Moved;
pub use take::Taken;

/// The other nodes, as far as tunnels have to do with them.
pub trait Cluster: Send + Sync + 'static {
    /// The slot of what begins now.
    fn slot(&self) -> u8;

    /// Whether a slot is this node's.
    fn holds(&self, slot: u8) -> bool;

    /// Whether somebody is told of what happens in a slot.
    fn is_told(&self, slot: u8) -> bool;

    /// Tells the standby of a slot; `done` learns what has become of it.
    fn put(&self, slot: u8, rows: Vec<Row>, done: Done);

    /// Passes an IKE message on to the node that has the slot of the SPI that it is for. False if there is none.
    fn pass_on(&self, slot: u8, datagram: &IkeDatagram) -> bool;

    /// Whether this node begins nothing, as it was drained.
    fn begins_nothing(&self) -> bool;

    /// Passes the first message of a negotiation on, where this node begins nothing. False if there is nobody.
    fn pass_first(&self, datagram: &IkeDatagram) -> bool;

    /// Tells the others of a connection that is new here, or that stays though one of them has another.
    fn established(&self, rival: Rival);

    /// The number of a node, for what is passed on to it by the router.
    fn number(&self, node: &str) -> Option<u32>;
}

/// A peer's connection with one node, as it is now and as the others are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Of the peer.
    pub uid: u64,
    /// Which connection it is.
    pub claim: Claim,
    /// Where the peer is.
    pub remote: SocketAddr,
    /// It has been decided that it stays, and that the one of this SPI ([`Claim::spi`]) goes.
    pub instead_of: Option<u64>,
}

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// The number of its node, as far as that is known here.
    pub node: Option<u32>,
    /// Of that node and this one it is this one that decides which of two connections stays. If both did, each by what it has heard, both might go.
    pub we_decide: bool,
}

/// The other nodes, or that there are none.
#[derive(Clone, Default)]
pub struct Others(pub(crate) Option<Arc<dyn Cluster>>);

impl Others {
    /// These.
    pub fn new(cluster: Arc<dyn Cluster>) -> Self {
        Self(Some(cluster))
    }
}

impl fmt::Debug for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Others").field(&self.0.is_some()).finish()
    }
}

/// Numbers of ESP that are reserved at a time. A second of the smallest packets at the rate of a network of 1 Gbit/s; and of the 2^32
/// that there are without extended sequence numbers, a take-over skips a four-thousandth.
const BLOCK: u64 = 1 << 20;

/// How far a pair may count that has sent `sequence`, and where it says that this comes to its end: half-way.
pub(crate) const fn reserve_after(sequence: u64) -> router::Reserve {
    let last = sequence.saturating_add(BLOCK);
    router::Reserve { lease: esp::Lease::up_to(last), warn_at: sequence.saturating_add(BLOCK / 2) }
}

/// What a connection is told of its slot. Whoever tells it learns that it is done when the sender is dropped.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub(crate) enum Moving {
    /// Tell the standby of everything.
    Resync(mpsc::UnboundedSender<()>),
    /// Stop, and say how everything stands: the node of this number goes on.
    Give(Option<u32>, mpsc::UnboundedSender<Vec<Row>>),
    /// Stop, without a word to anybody: the node of this number goes on already.
    Lose(Option<u32>, mpsc::UnboundedSender<()>),
}

//! The network between the nodes.

mod link;
mod nat;

use std::net::SocketAddr;

pub use link::{Conditions, Network};
pub use nat::{Filtering, Mapping, Nat, NatKind};

/// A UDP datagram on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source as the next hop sees it.
    pub from: SocketAddr,
    /// Destination.
    pub to: SocketAddr,
    /// Payload.
    pub bytes: Vec<u8>,
}

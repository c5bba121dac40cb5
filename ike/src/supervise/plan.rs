//! Who begins a negotiation, and when.

use std::time::Duration;

/// Who begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The peer.
    Peer,
    /// We, once a packet waits for the tunnel.
    OnDemand,
    /// We, whenever the tunnel is down.
    Us,
}

/// What is planned for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Who begins as a rule, and again after an end by delete.
    pub start: Start,
    /// Who begins after a connection was lost: the peer gave no sign of life any more, or broke the protocol. The
    /// actions of dead peer detection that others call `clear`, `hold` and `restart`.
    pub lost: Start,
    /// We authenticate anew after a connection has been up for this long, the old one staying until the new one carries
    /// the traffic (RFC 7296 section 2.8.3).
    pub reauth: Option<Duration>,
}

impl Plan {
    /// We begin whenever the tunnel is down, or never.
    pub const fn starting(us: bool) -> Self {
        let start = if us { Start::Us } else { Start::Peer };
        Self { start, lost: start, reauth: None }
    }
}

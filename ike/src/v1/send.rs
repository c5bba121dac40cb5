//! Messages on their way out: protected, kept for retransmission, and addressed.

use std::net::SocketAddr;

use super::Connection;
use super::fragment;
use crate::event::Transmit;

/// Our address, the peer's, and whether it is over the NAT traversal port.
pub(crate) type Way = (SocketAddr, SocketAddr, bool);

impl Connection {
    /// The way to where the peer is now.
    pub(crate) fn way(&self) -> Way {
        let (local, remote) = self.addresses();
        (local, remote, self.floated)
    }

    /// Queues a message for sending to where the peer is now. One that is too large for any path goes in fragments if the peer
    /// takes them.
    pub(crate) fn ask(&mut self, message: &[u8], fragments: bool) {
        self.transmit(self.way(), message, fragments);
    }

    /// Queues an answer for sending to where the message came from that is being handled, wherever the peer is.
    pub(crate) fn answer(&mut self, message: &[u8], fragments: bool) {
        self.transmit(self.detour.as_deref().copied().unwrap_or_else(|| self.way()), message, fragments);
    }

    fn transmit(&mut self, (local, remote, natt): Way, message: &[u8], fragments: bool) {
        let datagrams = fragment::split(message, fragments);
        let sent = datagrams.into_iter();
        self.transmits.extend(sent.map(|bytes| Transmit { local, remote, natt, keepalive: false, bytes }));
    }
}

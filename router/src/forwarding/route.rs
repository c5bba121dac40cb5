//! A route.

use std::sync::Arc;

use esp::ip::PacketInfo;
use esp::{Selector, SelectorPair};

use crate::tunnel::Tunnel;

/// Traffic that may leave by a tunnel.
pub(crate) struct Route {
    pub(crate) tunnel: Arc<Tunnel>,
    pub(crate) selectors: Arc<SelectorPair>,
    /// It is there because the tunnel is configured, not because a pair is up: its traffic goes this way or none.
    pub(crate) declared: bool,
    /// What `selectors` has, local and remote, where it has one of either, which most have. Here it is read with the route; there
    /// it is two pointers away, and with many tunnels each of them leads out of the caches.
    only: Option<(Selector, Selector)>,
}

impl Route {
    pub(crate) fn new(tunnel: Arc<Tunnel>, selectors: Arc<SelectorPair>, declared: bool) -> Self {
        let only = match (selectors.local.as_slice(), selectors.remote.as_slice()) {
            (&[local], &[remote]) => Some((local, remote)),
            _ => None,
        };
        Self { tunnel, selectors, declared, only }
    }

    /// Whether the packet may leave by it.
    pub(super) fn takes(&self, packet: &PacketInfo) -> bool {
        match &self.only {
            Some((local, remote)) => {
                local.matches(packet.source, packet.protocol, packet.source_port)
                    && remote.matches(packet.destination, packet.protocol, packet.destination_port)
            }
            None => self.selectors.matches_outbound(packet),
        }
    }
}

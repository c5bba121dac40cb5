//! Where an inner packet came from.

use crate::model::TunnelId;

/// Where an inner packet came from. It goes along with the packet, for it never goes back by the tunnel that it came by: whoever
/// sent it there would send it here again, to and fro until its hops are used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CameFrom {
    /// Out of the tenant's device.
    Device,
    /// Out of this tunnel.
    Tunnel(TunnelId),
    /// Passed on by another node.
    Node,
    /// From ourselves: an ICMP error.
    Us,
}

impl CameFrom {
    /// The tunnel that it does not go by.
    pub(crate) fn tunnel(self) -> Option<TunnelId> {
        match self {
            Self::Tunnel(tunnel) => Some(tunnel),
            Self::Device | Self::Node | Self::Us => None,
        }
    }
}

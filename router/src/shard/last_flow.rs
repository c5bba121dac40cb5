//! Where the last packet out of a pair went: most packets are followed by another one of their flow.

use esp::Spi;
use esp::ip::PacketInfo;

use super::route::Way;
use super::sa::Sa;
use crate::counters::Counter;
use crate::model::TunnelId;
use crate::published::Reading;

/// The last packet that the policy and the routes had an answer for.
#[derive(Default)]
pub(crate) struct LastFlow(Option<Flow>);

struct Flow {
    /// Of the tenant's routes ([`crate::edition`]).
    edition: u64,
    packet: PacketInfo,
    way: Onwards,
}

/// The ways that are worth keeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Onwards {
    Device,
    Pair(Spi, TunnelId),
    Nowhere(Counter),
}

impl LastFlow {
    /// What [`Way::onwards`] would find now, the policy asked before, if that is known.
    pub(super) fn find(&self, edition: u64, packet: &PacketInfo) -> Option<Option<Way>> {
        let known = self.0.as_ref()?;
        if known.edition != edition || !known.packet.is_like(packet) {
            return None;
        }
        Some(match known.way {
            Onwards::Device => None,
            Onwards::Pair(spi, tunnel) => Some(Way::Pair(spi, tunnel)),
            Onwards::Nowhere(why) => Some(Way::Nowhere(why)),
        })
    }

    /// Keeps what was found by the routes of `edition`.
    pub(super) fn keep(&mut self, edition: u64, packet: &PacketInfo, way: Option<&Way>) {
        let way = match way {
            None => Onwards::Device,
            Some(Way::Pair(spi, tunnel)) => Onwards::Pair(*spi, *tunnel),
            // What is dropped takes no place from what is not. Whether a tunnel without a pair is up elsewhere, or comes up by a packet, is not for the
            // routes to say.
            Some(Way::Nowhere(why)) if *why != Counter::NoOutboundSa && !self.has_way(edition) => {
                Onwards::Nowhere(*why)
            }
            Some(_) => return,
        };
        self.0 = Some(Flow { edition, packet: *packet, way });
    }

    /// Whether a flow is known that gets somewhere.
    fn has_way(&self, edition: u64) -> bool {
        self.0
            .as_ref()
            .is_some_and(|flow| flow.edition == edition && !matches!(flow.way, Onwards::Nowhere(_)))
    }
}

impl Sa {
    /// Whether [`Sa::onwards`] spares the look-up.
    pub(super) fn knows_way(&self, packet: &PacketInfo) -> bool {
        self.last_flow.find(self.tenant.forwarding.edition().current(), packet).is_some()
    }

    /// The way of a packet that came in on this pair, as [`Way::onwards`] has it: never by its own tunnel. `None` if the policy has it that the packet may
    /// not have come through this tunnel.
    pub(super) fn onwards(&mut self, packet: &PacketInfo) -> Option<Option<Way>> {
        let edition = self.tenant.forwarding.edition().current();
        if let Some(known) = self.last_flow.find(edition, packet) {
            return Some(known);
        }
        let reading = Reading::new();
        let policy = self.tenant.policy(&reading);
        if !policy.is_default() && !policy.admits(packet, self.tunnel_id) {
            return None;
        }
        let shard = usize::from(self.spi().shard());
        let way = Way::onwards(shard, &self.tenant, policy, packet, Some(self.tunnel_id));
        self.last_flow.keep(edition, packet, way.as_ref());
        Some(way)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn packet(port: u16, len: usize) -> PacketInfo {
        PacketInfo {
            source: [10, 1, 0, 1].into(),
            destination: [10, 2, 0, 1].into(),
            protocol: 17,
            source_port: Some(port),
            destination_port: Some(53),
            len,
        }
    }

    #[test]
    fn the_next_packet_of_a_flow_is_known_until_routes_change() {
        let mut last = LastFlow::default();
        assert!(last.find(0, &packet(1, 100)).is_none());
        last.keep(7, &packet(1, 100), Some(&Way::Pair(Spi(9), TunnelId(3))));
        assert!(matches!(last.find(7, &packet(1, 60)), Some(Some(Way::Pair(Spi(9), TunnelId(3))))));
        assert!(last.find(7, &packet(2, 100)).is_none(), "another flow");
        assert!(last.find(8, &packet(1, 100)).is_none(), "other routes");
        last.keep(8, &packet(1, 100), None);
        assert!(last.find(8, &packet(1, 100)).unwrap().is_none(), "for the device");
    }

    #[test]
    fn what_is_dropped_takes_no_place_from_what_is_not() {
        let mut last = LastFlow::default();
        let nowhere = |last: &LastFlow, edition, port| {
            matches!(last.find(edition, &packet(port, 100)), Some(Some(Way::Nowhere(Counter::NoRoute))))
        };
        last.keep(7, &packet(1, 100), Some(&Way::Nowhere(Counter::NoOutboundSa)));
        assert!(last.find(7, &packet(1, 100)).is_none(), "its tunnel may be up by now");
        for port in [1, 2] {
            last.keep(7, &packet(port, 100), Some(&Way::Nowhere(Counter::NoRoute)));
            assert!(nowhere(&last, 7, port) && !nowhere(&last, 8, port));
        }
        last.keep(7, &packet(3, 100), None);
        last.keep(7, &packet(1, 100), Some(&Way::Nowhere(Counter::NoRoute)));
        assert!(last.find(7, &packet(3, 100)).is_some() && !nowhere(&last, 7, 1));
        last.keep(8, &packet(1, 100), Some(&Way::Nowhere(Counter::NoRoute)));
        assert!(nowhere(&last, 8, 1), "by other routes nothing is known any more");
    }
}

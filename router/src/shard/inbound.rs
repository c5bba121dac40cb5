//! From the network inwards: datagram, SA, inner packet, route.

use esp::ecn::{self, Ecn};
use esp::icmp::IcmpError;
use esp::{Spi, ip};

use super::core::Core;
use super::route::Way;
use super::sa::Mark;
use crate::counters::Counter;
use crate::datagram::Datagram;
use crate::handoff::Task;
use crate::options::{DSCP, Encapsulation};
use crate::port::Origin;

impl Core {
    /// What came in by any socket, or was handed over.
    pub(super) fn received(&mut self, packet: &mut [u8], origin: Origin) {
        match origin.encapsulation {
            Encapsulation::Udp => self.datagram(packet, origin),
            Encapsulation::Raw => self.raw_esp(packet, origin),
        }
    }

    /// ESP without UDP. Whatever its SPI is, it is ESP: there is no marker.
    fn raw_esp(&mut self, packet: &mut [u8], origin: Origin) {
        match packet.first_chunk::<4>() {
            Some(spi) => self.esp(Spi(u32::from_be_bytes(*spi)), packet, origin),
            None => self.counters.count(Counter::Runt),
        }
    }

    /// A datagram of the NAT traversal port.
    pub(super) fn datagram(&mut self, packet: &mut [u8], origin: Origin) {
        match Datagram::classify(packet) {
            Datagram::Esp(spi) => self.esp(spi, packet, origin),
            // The packet filter sends this to the control socket, but the kernel may have joined it with ESP of the
            // same length before the filter ran.
            Datagram::Ike => self.hand_over_datagram(self.control(), packet, origin),
            Datagram::Keepalive => self.counters.count(Counter::NatKeepalive),
            Datagram::Runt => self.counters.count(Counter::Runt),
        }
    }

    fn esp(&mut self, spi: Spi, packet: &mut [u8], origin: Origin) {
        let owner = usize::from(spi.shard());
        if owner != self.id && owner < self.control() {
            if self.is_elsewhere(spi) && self.pass_on(spi, packet, origin) {
                return;
            }
            return self.hand_over_datagram(owner, packet, origin);
        }
        let known = match self.table.get(spi) {
            Some(sa) => sa.mark == Mark::Quiet || self.look_at(spi, packet, origin),
            None => self.look_again(spi, packet, origin),
        };
        if !known {
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        self.open(spi, packet, origin, &mut scratch);
        self.scratch = scratch;
    }

    /// Opens a packet of this shard: where it stands, or in transport mode into `scratch`.
    fn open(&mut self, spi: Spi, packet: &mut [u8], origin: Origin, scratch: &mut [u8]) {
        self.counters.count(Counter::EspReceived);
        let Some(sa) = self.table.get_mut(spi) else {
            self.counters.count(Counter::UnknownSpi);
            return self.events.unknown_spi(self.now, spi, origin.from);
        };
        let opened = match &sa.hosts {
            None => sa.inbound.open(packet),
            Some(hosts) => sa.inbound.open_transport(packet, hosts, origin.class, scratch),
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                sa.count_drop(error.name());
                return self.counters.count_open(error);
            }
        };
        sa.last_in = Some(self.now);
        if opened.first {
            self.events.send(crate::RouterEvent::FirstInbound { spi });
        }
        if let Some(limit) = opened.limit {
            sa.raise(limit, &mut self.events);
        }
        sa.note_origin(self.now, &origin, opened.sequence, &mut self.events);
        // After all that the SA learns from a packet: a tunnel with too much in it is not dead.
        if sa.tenant.limiters.inbound.take(self.now, 1, opened.inner.len() as u64) == 0 {
            sa.count_drop(Counter::TenantLimitIn.name());
            return self.counters.count(Counter::TenantLimitIn);
        }

        let buffer = if sa.hosts.is_some() { scratch } else { packet };
        let Some(inner) = buffer.get_mut(opened.inner) else { return };
        // In transport mode the class outside is the packet's own, and this changes nothing.
        if !ecn::decapsulate(inner, Ecn::from_bits(origin.class)) {
            sa.count_drop(Counter::EcnNotCapable.name());
            return self.counters.count(Counter::EcnNotCapable);
        }
        if sa.options.dscp_inward {
            ip::set_traffic_class(inner, ip::traffic_class(inner) & !DSCP | origin.class & DSCP);
        }
        if origin.encapsulation != sa.path.encapsulation {
            self.counters.count(Counter::OtherEncapsulation);
        }
        // The answer comes through the tunnel as well and is to fit.
        let max_inner = sa.max_inner(self.now);
        if sa.options.mss.apply(inner, max_inner) {
            self.counters.count(Counter::MssClamped);
        }
        let Some(way) = sa.onwards(&opened.info) else {
            sa.count_drop(Counter::PolicyInboundMismatch.name());
            return self.counters.count(Counter::PolicyInboundMismatch);
        };
        let mut exceeded = false;
        let reason = match way {
            None => return self.deliver(spi, inner),
            Some(Way::Nowhere(reason)) => reason,
            Some(_) if !ip::decrement_ttl(inner) => {
                exceeded = true;
                Counter::TtlExpired
            }
            Some(Way::Elsewhere(node)) => {
                let tenant = sa.tenant.clone();
                return self.pass_inner(node, &tenant, inner);
            }
            Some(way) => {
                let tenant = sa.tenant.id;
                self.counters.count(Counter::Switched);
                return match way {
                    Way::Pair(target) => self.send_inner(target, tenant, inner, &opened.info, None),
                    Way::Hold(tunnel) => self.hold(&tunnel, tenant, inner, &opened.info),
                    Way::Elsewhere(_) | Way::Bypass | Way::Nowhere(_) => {}
                };
            }
        };
        sa.count_drop(reason.name());
        self.counters.count(reason);
        if exceeded {
            self.answer(spi, IcmpError::TimeExceeded, inner, &opened.info);
        }
    }

    fn hand_over_datagram(&mut self, to: usize, packet: &[u8], origin: Origin) {
        self.hand_over(to, Task::Datagram(origin), packet);
    }
}

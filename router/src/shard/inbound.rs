//! From the network inwards: datagram, SA, inner packet, route.

use std::ops::Range;

use esp::ecn::{self, Ecn};
use esp::icmp::IcmpError;
use esp::ip::PacketInfo;
use esp::{OpenError, Spi, ip};

use super::core::Core;
use super::icmp::Met;
use super::route::Way;
use super::sa::Mark;
use crate::came_from::CameFrom;
use crate::counters::Counter;
use crate::datagram::Datagram;
use crate::handoff::Task;
use crate::model::{TenantId, TunnelId};
use crate::options::{DSCP, Encapsulation};
use crate::port::Origin;
use crate::published::Reading;

/// A packet that was opened where it stands, and has not been asked yet where it goes.
pub(super) struct Arrived {
    /// Where it came from.
    pub(super) pair: Spi,
    tenant: TenantId,
    /// Where it stands in what came in.
    inner: Range<usize>,
    pub(super) info: PacketInfo,
}

/// A packet that was opened where it stands, and is for another pair.
pub(super) struct Onward {
    pub(super) pair: Spi,
    /// Whose the pair is.
    tunnel: TunnelId,
    from: CameFrom,
    tenant: TenantId,
    /// Where it stands in what came in.
    inner: Range<usize>,
    info: PacketInfo,
}

impl Core {
    /// What came in by any socket, or was handed over.
    pub(super) fn received(&mut self, packet: &mut [u8], origin: Origin) {
        if let Some(arrived) = self.take_in(packet, origin) {
            self.pass(packet, arrived);
        }
    }

    /// As [`Core::received`] up to where an opened packet goes, which is left to [`Core::find_way`].
    pub(super) fn take_in(&mut self, packet: &mut [u8], origin: Origin) -> Option<Arrived> {
        match origin.encapsulation {
            Encapsulation::Udp => self.datagram(packet, origin),
            Encapsulation::Raw => self.raw_esp(packet, origin),
        }
    }

    /// Sends what was taken in of this packet.
    pub(super) fn send_onward(&mut self, packet: &[u8], onward: &Onward) {
        if let Some(inner) = packet.get(onward.inner.clone()) {
            self.release_first(onward.pair, (onward.tenant, onward.tunnel));
            self.send_inner(onward.pair, onward.tenant, onward.from, inner, &onward.info, None);
        }
    }

    /// ESP without UDP. Whatever its SPI is, it is ESP: there is no marker.
    fn raw_esp(&mut self, packet: &mut [u8], origin: Origin) -> Option<Arrived> {
        match packet.first_chunk::<4>() {
            Some(spi) => return self.esp(Spi(u32::from_be_bytes(*spi)), packet, origin),
            None => self.counters.count(Counter::Runt),
        }
        None
    }

    /// A datagram of the NAT traversal port.
    fn datagram(&mut self, packet: &mut [u8], origin: Origin) -> Option<Arrived> {
        match Datagram::classify(packet) {
            Datagram::Esp(spi) => return self.esp(spi, packet, origin),
            // The packet filter sends this to the control socket, but the kernel may have joined it with ESP of the
            // same length before the filter ran.
            Datagram::Ike => self.hand_over_datagram(self.control(), packet, origin),
            Datagram::Keepalive => self.counters.count(Counter::NatKeepalive),
            Datagram::Runt => self.counters.count(Counter::Runt),
        }
        None
    }

    fn esp(&mut self, spi: Spi, packet: &mut [u8], origin: Origin) -> Option<Arrived> {
        let owner = usize::from(spi.shard());
        if owner != self.id && owner < self.control() {
            if !self.is_elsewhere(spi) || !self.pass_on(spi, packet, origin) {
                self.hand_over_datagram(owner, packet, origin);
            }
            return None;
        }
        let known = match self.table.get(spi) {
            Some(sa) => sa.mark == Mark::Quiet || self.look_at(spi, packet, origin),
            None => self.look_again(spi, packet, origin),
        };
        if !known {
            return None;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let arrived = self.open(spi, packet, origin, &mut scratch);
        self.scratch = scratch;
        arrived
    }

    /// Opens a packet of this shard: where it stands, or in transport mode into `scratch`, from where it goes on at once, for the next
    /// packet needs the place.
    fn open(&mut self, spi: Spi, packet: &mut [u8], origin: Origin, scratch: &mut [u8]) -> Option<Arrived> {
        self.counters.count(Counter::EspReceived);
        let Some(sa) = self.table.get_mut(spi) else {
            self.counters.count(Counter::UnknownSpi);
            self.events.unknown_spi(self.now, spi, origin.from);
            return None;
        };
        let top = sa.inbound.top();
        let opened = match &sa.hosts {
            None => sa.inbound.open(packet),
            Some(hosts) => sa.inbound.open_transport(packet, hosts, origin.class, scratch),
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                sa.not_opened(error, self.now, &mut self.events);
                self.counters.count_open(error);
                let newest = sa.inbound.top();
                if error == OpenError::Dummy && newest != top {
                    sa.note_origin(self.now, &origin, newest, &mut self.events);
                }
                return None;
            }
        };
        sa.last_in = Some(self.now);
        if opened.first || sa.owes_first() {
            sa.tell_first(&mut self.events);
        }
        if let Some(limit) = opened.limit {
            sa.raise(limit, &mut self.events);
        }
        sa.note_origin(self.now, &origin, opened.sequence, &mut self.events);
        // After all that the SA learns from a packet: a tunnel with too much in it is not dead.
        if sa.tenant.limiters.inbound.take(self.now, 1, opened.inner.len() as u64) == 0 {
            sa.count_drop(Counter::TenantLimitIn.name());
            self.counters.count(Counter::TenantLimitIn);
            return None;
        }

        let stays = sa.hosts.is_none();
        let buffer = if stays { packet } else { &mut *scratch };
        let inner = buffer.get_mut(opened.inner.clone())?;
        // What it stands for is judged below. Rules about errors themselves are for it all the same.
        if opened.stands_for
            && let Some(own) = ip::parse(inner)
            && let reading = Reading::new()
            && let policy = sa.tenant.policy(&reading)
            && (policy.discards_inbound(&own) || policy.discards(&own))
        {
            sa.count_drop(Counter::PolicyDiscard.name());
            self.counters.count(Counter::PolicyDiscard);
            return None;
        }
        // In transport mode the class outside is the packet's own, and this changes nothing.
        if !ecn::decapsulate(inner, Ecn::from_bits(origin.class)) {
            sa.count_drop(Counter::EcnNotCapable.name());
            self.counters.count(Counter::EcnNotCapable);
            return None;
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
        let arrived = Arrived { pair: spi, tenant: sa.tenant.id, inner: opened.inner, info: opened.info };
        if stays {
            return Some(arrived);
        }
        self.pass(scratch, arrived);
        None
    }

    /// Has an opened packet go where it goes, all the way.
    fn pass(&mut self, packet: &mut [u8], arrived: Arrived) {
        if let Some(onward) = self.find_way(packet, arrived) {
            self.send_onward(packet, &onward);
        }
    }

    /// Has an opened packet go where it goes. What is to be sealed again is left to the caller, who has [`Core::send_onward`].
    pub(super) fn find_way(&mut self, packet: &mut [u8], arrived: Arrived) -> Option<Onward> {
        let Arrived { pair: spi, tenant, inner: range, mut info } = arrived;
        let inner = packet.get_mut(range.clone())?;
        // Commands are carried out before a group is opened, not between that and this; but for what a packet of the group in transport mode, which
        // goes on at once, had the shard do.
        let Some(sa) = self.table.get_mut(spi).filter(|sa| sa.tenant.id == tenant) else {
            self.counters.count(Counter::UnknownSpi);
            return None;
        };
        let from = CameFrom::Tunnel(sa.tunnel_id);
        let mut way = sa.onwards(&info);
        // No rule and no tunnel is for an error itself: it is for what it stands for, if no rule is against it.
        let is_open = match &way {
            None => {
                let reading = Reading::new();
                let policy = sa.tenant.policy(&reading);
                !policy.is_about_inbound(&info) && !policy.discards(&info)
            }
            Some(way) => {
                way.as_ref().is_some_and(Way::is_for_nothing)
                    && !sa.tenant.policy(&Reading::new()).discards(&info)
            }
        };
        if is_open
            && let Some(stands_for) = esp::returning(inner, &info)
            && let other @ Some(None | Some(Way::Pair(..) | Way::Elsewhere(..))) = sa.onwards(&stands_for)
        {
            (way, info) = (other, stands_for);
        }
        let Some(way) = way else {
            sa.count_drop(Counter::PolicyInboundMismatch.name());
            self.counters.count(Counter::PolicyInboundMismatch);
            return None;
        };
        let mut exceeded = false;
        let reason = match way {
            None => {
                self.deliver(spi, inner);
                return None;
            }
            Some(Way::Nowhere(reason)) => reason,
            Some(_) if !ip::decrement_ttl(inner) => {
                exceeded = true;
                Counter::TtlExpired
            }
            Some(Way::Elsewhere(node, tunnel)) => {
                let tenant = sa.tenant.clone();
                self.pass_after_held(node, &tenant, tunnel, from, inner);
                return None;
            }
            Some(way) => {
                self.counters.count(Counter::Switched);
                match way {
                    Way::Pair(pair, tunnel) => {
                        return Some(Onward { pair, tunnel, from, tenant, inner: range, info });
                    }
                    Way::Hold(tunnel) => {
                        let shared = sa.tenant.clone();
                        let pair = self.try_hold(&tunnel, &shared, from, inner)?;
                        let tunnel = tunnel.id;
                        return Some(Onward { pair, tunnel, from, tenant, inner: range, info });
                    }
                    Way::Elsewhere(..) | Way::Bypass | Way::Nowhere(_) => {}
                }
                return None;
            }
        };
        sa.count_drop(reason.name());
        self.counters.count(reason);
        if exceeded {
            self.answer(spi, Met::Arriving, IcmpError::TimeExceeded, inner, &info);
        }
        None
    }

    fn hand_over_datagram(&mut self, to: usize, packet: &[u8], origin: Origin) {
        self.hand_over(to, Task::Datagram(origin), packet);
    }
}

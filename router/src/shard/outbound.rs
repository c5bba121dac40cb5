//! From an inner packet outwards: pair, seal, batch.

use esp::ip::{self, PacketInfo};
use esp::run::Run;
use esp::transport::Upper;
use esp::{SealError, Spi};

use super::batch::Wrapping;
use super::core::Core;
use super::route::Way;
use super::run::packets;
use crate::came_from::CameFrom;
use crate::counters::Counter;
use crate::handoff::Task;
use crate::model::TenantId;
use crate::options::OuterDf;
use crate::tenant::Tenant;

impl Core {
    /// A packet from the tenant's TUN device, or all that it stands for. False when it is for a thread that has no room now: then
    /// nothing has happened, and this thread is woken when there is.
    pub(super) fn take_from_device(&mut self, tenant: &Tenant, packet: &[u8], run: Option<Run>) -> bool {
        let Some(mut info) = ip::parse(packet) else {
            let packets = packets(packet, run);
            self.counters.add(Counter::TunRead, packets);
            self.counters.add(Counter::BadInner, packets);
            return true;
        };
        let from = CameFrom::Device;
        let way = Way::find_of(self.id, tenant, from, packet, &mut info);
        if let Way::Pair(spi, tunnel) = way {
            let owner = usize::from(spi.shard());
            let full = |core: &mut Self| owner != core.id && !core.has_room(owner);
            // What waits for the tunnel comes before this packet, and needs room as well.
            if full(self) {
                return false;
            }
            self.release_first(spi, (tenant.id, tunnel));
            if full(self) {
                return false;
            }
        }
        let packets = packets(packet, run);
        self.counters.add(Counter::TunRead, packets);
        match (way, run) {
            (Way::Pair(spi, _), run) => self.send_inner(spi, tenant.id, from, packet, &info, run),
            (Way::Nowhere(reason), _) => self.counters.add(reason, packets),
            (Way::Hold(tunnel), None) => self.hold(&tunnel, tenant, from, packet, &info),
            (Way::Elsewhere(node, tunnel), None) => {
                self.pass_after_held(node, tenant, tunnel, from, packet);
            }
            (Way::Bypass, None) => self.bypass(tenant, packet),
            (Way::Hold(tunnel), Some(run)) => self.each_of(packet, run, |core, packet, info| {
                core.hold(&tunnel, tenant, from, packet, info);
            }),
            (Way::Elsewhere(node, tunnel), Some(run)) => {
                self.pass_held(node, tenant, tunnel);
                self.each_of(packet, run, |core, packet, _| core.pass_inner(node, tenant, from, packet));
            }
            (Way::Bypass, Some(run)) => {
                self.each_of(packet, run, |core, packet, _| core.bypass(tenant, packet))
            }
        }
        true
    }

    /// Sends an inner packet, or all that it stands for, on the pair `spi`, wherever that is.
    pub(super) fn send_inner(
        &mut self,
        spi: Spi,
        tenant: TenantId,
        from: CameFrom,
        packet: &[u8],
        info: &PacketInfo,
        run: Option<Run>,
    ) {
        let owner = usize::from(spi.shard());
        if owner == self.id {
            self.seal_here(spi, tenant, from, packet, Some(info), run);
        } else {
            self.hand_over(owner, Task::Seal { spi, tenant, from, run }, packet);
        }
    }

    /// Seals an inner packet on a pair of this shard. `info` is what [`ip::parse`] says of the packet, if that is known
    /// already.
    pub(super) fn seal_here(
        &mut self,
        spi: Spi,
        tenant: TenantId,
        from: CameFrom,
        packet: &[u8],
        info: Option<&PacketInfo>,
        run: Option<Run>,
    ) {
        if !self.table.contains(spi) {
            self.run_commands();
        }
        // Routed a moment ago, the pair may be gone, and its SPI may even belong to a pair of another tenant by now.
        let Some(sa) = self.table.get_mut(spi).filter(|sa| sa.tenant.id == tenant) else {
            return self.lost_its_pair(spi, tenant, from, packet, run);
        };
        let parsed;
        let info = match info {
            Some(info) => info,
            None => match ip::parse(packet) {
                Some(info) => {
                    parsed = info;
                    &parsed
                }
                None => return self.counters.add(Counter::BadInner, packets(packet, run)),
            },
        };
        // The route stands for the tunnel; after a rekey its pair may carry less than the one before.
        let selectors = sa.inbound.selectors();
        if !selectors.matches_outbound(info)
            && !esp::returning(packet, info).is_some_and(|info| selectors.matches_outbound(&info))
        {
            let packets = packets(packet, run);
            sa.count_drops(Counter::OutboundSelector.name(), packets);
            return self.counters.add(Counter::OutboundSelector, packets);
        }
        let mut admitted = u64::MAX;
        if sa.tenant.limiters.outbound.is_set() {
            let packets = packets(packet, run);
            // The last one of a run may be smaller; a tenant with a limit loses less than a packet of a run by that.
            let octets = run.map_or(info.len, |run| run.largest());
            admitted = sa.tenant.limiters.outbound.take(self.now, packets, octets as u64);
            let refused = packets - admitted;
            sa.count_drops(Counter::TenantLimitOut.name(), refused);
            self.counters.add(Counter::TenantLimitOut, refused);
        }
        match run {
            _ if admitted == 0 => {}
            None => self.seal_single(spi, from, packet, info),
            Some(run) => self.seal_run(spi, from, packet, run, admitted),
        }
    }

    /// Seals a single packet on a pair of this shard, whose selectors and limits let it pass.
    pub(super) fn seal_single(&mut self, spi: Spi, from: CameFrom, packet: &[u8], info: &PacketInfo) {
        let Some(sa) = self.table.get_mut(spi) else { return };
        // The octets after the packet's own end are nobody's.
        let packet = packet.get(..info.len).unwrap_or(packet);
        let upper = match sa.upper(packet) {
            Ok(upper) => upper,
            Err(error) => {
                sa.count_drop(error.name());
                return self.counters.count_seal(error);
            }
        };
        let max = sa.max_inner(self.now);
        if packet.len() > max {
            return self.oversize(spi, from, packet, info, upper);
        }
        let dont_fragment = sa.outer_df(packet);
        let class = sa.options.outer_class(packet);
        self.seal_whole(spi, packet, &Inner { len: packet.len(), class, dont_fragment, upper });
    }

    /// Seals a packet on a pair of this shard: all of it, or in transport mode what follows its IP header. False as for [`Core::seal`].
    pub(super) fn seal_whole(&mut self, spi: Spi, packet: &[u8], inner: &Inner) -> bool {
        let from = inner.upper.map_or(0, |upper| upper.header_len());
        let sealed = packet.get(from..).unwrap_or_default();
        self.seal(spi, inner, |room| room.copy_from_slice(sealed))
    }

    /// Seals what `write` writes on a pair of this shard. False where it was not sealed, which is counted.
    pub(super) fn seal(&mut self, spi: Spi, inner: &Inner, write: impl FnOnce(&mut [u8])) -> bool {
        let Some(sa) = self.table.get_mut(spi) else { return false };
        let max = sa.max_inner(self.now);
        let len = inner.upper.map_or(inner.len, |upper| upper.len());
        let payload = match inner.upper {
            Some(upper) if !upper.may_be_padded() => len,
            _ => sa.options.tfc.payload_len(len, sa.max_payload(self.now)),
        };
        let at = sa.outbound.payload_offset();
        let wrapping = Wrapping { path: sa.path, class: inner.class, dont_fragment: inner.dont_fragment };
        let room = self.queue.reserve(spi, wrapping, sa.outbound.sealed_len(payload));
        let Some((batch, room)) = room else {
            sa.count_drop(SealError::NoSpace.name());
            self.counters.count_seal(SealError::NoSpace);
            return false;
        };
        if let Some(place) = room.get_mut(at..at + len) {
            write(place);
            let mss = sa.options.mss;
            let clamped = match inner.upper {
                None => mss.apply(place, max),
                Some(upper) => mss.apply_to_payload(place, upper.protocol(), upper.header_len(), max),
            };
            if clamped {
                self.counters.count(Counter::MssClamped);
            }
        }
        let sealed = match &inner.upper {
            None => sa.outbound.seal_padded(room, len, payload),
            Some(upper) => sa.outbound.seal_transport(room, upper, payload),
        };
        match sealed {
            Ok(sealed) => {
                self.queue.commit(batch, sealed.len);
                sa.last_out = Some(self.now);
                sa.note_moved(&mut self.moved);
                if let Some(limit) = sealed.limit {
                    sa.raise(limit, &mut self.events);
                }
                true
            }
            Err(error) => {
                sa.not_sealed(error, self.now, &mut self.events);
                self.counters.count_seal(error);
                false
            }
        }
    }

    /// Sends dummy packets of `len` octets, or as many as fit (RFC 4303 section 2.6).
    pub(super) fn send_dummies(&mut self, spi: Spi, count: u16, len: u16) {
        for _ in 0..count {
            let Some(sa) = self.table.get_mut(spi) else { return };
            let len = usize::from(len).min(sa.max_payload(self.now));
            let class = sa.options.outer_class(&[]);
            // DF as most packets have it, so that it does not tell them apart.
            let dont_fragment = sa.options.df != OuterDf::Clear;
            let wrapping = Wrapping { path: sa.path, class, dont_fragment };
            let room = self.queue.reserve(spi, wrapping, sa.outbound.sealed_len(len));
            let Some((batch, room)) = room else { return self.counters.count_seal(SealError::NoSpace) };
            match sa.outbound.seal_dummy(len, room) {
                Ok(sealed) => {
                    self.queue.commit(batch, sealed.len);
                    self.counters.count(Counter::DummySent);
                    sa.note_moved(&mut self.moved);
                    if let Some(limit) = sealed.limit {
                        sa.raise(limit, &mut self.events);
                    }
                }
                Err(error) => {
                    sa.not_sealed(error, self.now, &mut self.events);
                    return self.counters.count_seal(error);
                }
            }
        }
    }
}

/// An inner packet that is to be sealed, and what its outer header shall say.
pub(super) struct Inner {
    pub(super) len: usize,
    /// TOS or traffic class.
    pub(super) class: u8,
    pub(super) dont_fragment: bool,
    /// What of it is sealed, in transport mode.
    pub(super) upper: Option<Upper>,
}

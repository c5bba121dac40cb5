//! From an inner packet outwards: pair, seal, batch.

use esp::ecn::Ecn;
use esp::ip::{self, PacketInfo};
use esp::{SealError, Spi};

use super::core::Core;
use super::route::Way;
use crate::counters::Counter;
use crate::handoff::Task;
use crate::model::TenantId;
use crate::tenant::Tenant;

impl Core {
    /// A packet from the tenant's TUN device.
    pub(super) fn take_from_device(&mut self, tenant: &Tenant, packet: &[u8]) {
        self.counters.count(Counter::TunRead);
        let Some(info) = ip::parse(packet) else {
            return self.counters.count(Counter::BadInner);
        };
        self.take_way(Way::find(tenant, &info), tenant, packet, &info);
    }

    /// Sends a packet on its way.
    pub(super) fn take_way(&mut self, way: Way, tenant: &Tenant, packet: &[u8], info: &PacketInfo) {
        match way {
            Way::Pair(spi) => self.send_inner(spi, tenant.id, packet, info),
            Way::Hold(tunnel) => self.hold(&tunnel, tenant.id, packet, info),
            Way::Bypass => self.bypass(tenant, packet),
            Way::Nowhere(reason) => self.counters.count(reason),
        }
    }

    /// Sends an inner packet on the pair `spi`, wherever that is.
    pub(super) fn send_inner(&mut self, spi: Spi, tenant: TenantId, packet: &[u8], info: &PacketInfo) {
        let owner = usize::from(spi.shard());
        if owner == self.id {
            self.seal_here(spi, tenant, packet, Some(info));
        } else {
            self.hand_over(owner, Task::Seal { spi, tenant }, packet);
        }
    }

    /// Seals an inner packet on a pair of this shard. `info` is what [`ip::parse`] says of the packet, if that is known
    /// already.
    pub(super) fn seal_here(&mut self, spi: Spi, tenant: TenantId, packet: &[u8], info: Option<&PacketInfo>) {
        if !self.table.contains(spi) {
            self.run_commands();
        }
        // Routed a moment ago, the pair may be gone, and its SPI may even belong to a pair of another tenant by now.
        let Some(sa) = self.table.get_mut(spi).filter(|sa| sa.tenant.id == tenant) else {
            return self.counters.count(Counter::NoOutboundSa);
        };
        let parsed;
        let info = match info {
            Some(info) => info,
            None => match ip::parse(packet) {
                Some(info) => {
                    parsed = info;
                    &parsed
                }
                None => return self.counters.count(Counter::BadInner),
            },
        };
        // The route stands for the tunnel; after a rekey its pair may carry less than the one before.
        if !sa.inbound.selectors().matches_outbound(info) {
            sa.count_drop(Counter::OutboundSelector.name());
            return self.counters.count(Counter::OutboundSelector);
        }
        let len = sa.outbound.sealed_len(packet.len());
        let Some((batch, room)) = self.queue.reserve(spi, sa.path, Ecn::of(packet), len) else {
            sa.count_drop(SealError::NoSpace.name());
            return self.counters.count_seal(SealError::NoSpace);
        };
        match sa.outbound.seal(packet, room) {
            Ok(sealed) => {
                self.queue.commit(batch, sealed.len);
                sa.last_out = Some(self.now);
                if let Some(limit) = sealed.limit {
                    sa.raise(limit, &mut self.events);
                }
            }
            Err(error) => {
                sa.count_drop(error.name());
                self.counters.count_seal(error);
            }
        }
    }
}

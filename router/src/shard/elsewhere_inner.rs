//! Inner packets for tunnels of other nodes, and those that other nodes pass on for ours.

use std::sync::Arc;

use esp::Spi;
use esp::ip;
use esp::run::Run;

use super::core::Core;
use super::route::Way;
use super::run::packets;
use super::waiting::Kind;
use crate::came_from::CameFrom;
use crate::counters::Counter;
use crate::model::TenantId;
use crate::slots::{SlotState, Slots};
use crate::tenant::Tenant;

impl Core {
    /// Passes a packet on to the node where its tunnel is up. There nothing is known of the tunnel that it came by, so it is
    /// dropped here where that tunnel would have it again: there is a shorter prefix, but of another node.
    pub(super) fn pass_inner(&self, node: u32, tenant: &Tenant, from: CameFrom, packet: &[u8]) {
        let Some(mut info) = ip::parse(packet) else { return self.counters.count(Counter::BadInner) };
        let len = info.len;
        if let CameFrom::Tunnel(tunnel) = from
            && Way::find_of(self.id, tenant, CameFrom::Node, packet, &mut info).is_by(tunnel)
        {
            return self.counters.count(Counter::NoRoute);
        }
        // The octets after the packet's own end are nobody's.
        let packet = packet.get(..len).unwrap_or(packet);
        if tenant.limiters.outbound.take(self.now, 1, packet.len() as u64) == 0 {
            return self.counters.count(Counter::TenantLimitOut);
        }
        let passed =
            self.elsewhere.as_ref().is_some_and(|elsewhere| elsewhere.inner(node, tenant.id, packet));
        self.counters.count(if passed { Counter::PassedOn } else { Counter::NotPassedOn });
    }

    /// A packet that another node passed on, for a tunnel of this one; or one of ours that waited for a slot.
    pub(super) fn inner_in(&mut self, tenant: &Arc<Tenant>, from: CameFrom, packet: Vec<u8>) {
        self.inner_of_another(tenant, from, packet, true);
    }

    /// As [`Core::inner_in`], for one that has waited for a slot as long as may be.
    pub(super) fn inner_waited(&mut self, tenant: &Arc<Tenant>, from: CameFrom, packet: Vec<u8>) {
        self.inner_of_another(tenant, from, packet, false);
    }

    fn inner_of_another(
        &mut self,
        tenant: &Arc<Tenant>,
        from: CameFrom,
        mut packet: Vec<u8>,
        may_wait: bool,
    ) {
        let Some(mut info) = ip::parse(&packet) else { return self.counters.count(Counter::BadInner) };
        match Way::find_of(self.id, tenant, from, &packet, &mut info) {
            // Its pair is there, and what came before it waits until all of the slot is.
            Way::Pair(spi, _)
                if may_wait && self.is_under_way(spi.slot()) && self.waiting.has_inner(tenant) =>
            {
                self.wait_inner(tenant, from, &packet);
            }
            Way::Pair(spi, tunnel) => {
                self.counters.count(Counter::Switched);
                self.release_first(spi, (tenant.id, tunnel));
                self.send_inner(spi, tenant.id, from, &packet, &info, None);
            }
            Way::Hold(tunnel) => self.hold(&tunnel, tenant, from, &packet, &info),
            // The tunnel is about to come, or has just gone.
            Way::Elsewhere(..) | Way::Nowhere(Counter::NoOutboundSa) if may_wait && self.some_under_way() => {
                self.wait_inner(tenant, from, &packet);
            }
            // The sender did not know yet. Should two nodes be in error about each other, hops come to an end.
            Way::Elsewhere(node, tunnel) if self.slots.some_went_lately(self.now) => {
                if ip::decrement_ttl(&mut packet) {
                    self.pass_after_held(node, tenant, tunnel, from, &packet);
                } else {
                    self.counters.count(Counter::TtlExpired);
                }
            }
            Way::Elsewhere(..) | Way::Nowhere(Counter::NoOutboundSa) if !may_wait => {
                self.counters.count(Counter::SlotHoldExpired);
            }
            Way::Elsewhere(..) => self.counters.count(Counter::PassedTwice),
            Way::Nowhere(reason) => self.counters.count(reason),
            Way::Bypass => self.counters.count(Counter::NoRoute),
        }
    }

    /// Whether this shard does not know yet whose the slot is: it changes hands, or has done so, and what waits for it is still here.
    fn is_under_way(&self, slot: u8) -> bool {
        match self.slots.state(slot) {
            SlotState::Expected => true,
            SlotState::Open => self.open_here & Slots::bit(slot) == 0,
            SlotState::Closed => self.open_here & Slots::bit(slot) != 0,
        }
    }

    fn some_under_way(&self) -> bool {
        self.slots.some_expected() || self.slots.open_ones() != self.open_here
    }

    /// Keeps a packet of the tenant until the slot that changes hands has come or gone.
    fn wait_inner(&mut self, tenant: &Arc<Tenant>, from: CameFrom, packet: &[u8]) {
        self.keep_waiting(Kind::Inner(tenant.clone(), from), packet);
    }

    /// A packet, or all that it stands for, whose pair went after it was routed. The tunnel may have another one, in a cluster at
    /// another node.
    #[cold]
    pub(super) fn lost_its_pair(
        &mut self,
        lost: Spi,
        tenant: TenantId,
        from: CameFrom,
        packet: &[u8],
        run: Option<Run>,
    ) {
        let (tenant, info) = (self.tenants.get(tenant), ip::parse(packet));
        let Some((tenant, mut info)) = tenant.zip(info) else {
            return self.counters.add(Counter::NoOutboundSa, packets(packet, run));
        };
        let under_way = self.some_under_way();
        // What waits goes before it.
        let behind = under_way && self.waiting.has_inner(&tenant);
        match (Way::find_of(self.id, &tenant, from, packet, &mut info), run) {
            (Way::Elsewhere(node, tunnel), None) if !behind => {
                self.pass_after_held(node, &tenant, tunnel, from, packet);
            }
            (Way::Elsewhere(node, tunnel), Some(run)) if !behind => {
                self.pass_held(node, &tenant, tunnel);
                self.each_of(packet, run, |core, packet, _| core.pass_inner(node, &tenant, from, packet));
            }
            // It goes just now, and it is known where in a moment.
            (Way::Elsewhere(..) | Way::Pair(..) | Way::Nowhere(Counter::NoOutboundSa), None) if under_way => {
                self.wait_inner(&tenant, from, packet);
            }
            (Way::Elsewhere(..) | Way::Pair(..) | Way::Nowhere(Counter::NoOutboundSa), Some(run))
                if under_way =>
            {
                self.each_of(packet, run, |core, packet, _| core.wait_inner(&tenant, from, packet));
            }
            // Should that have gone as well, it is another one still or none: this comes to an end.
            (Way::Pair(other, tunnel), run) if other != lost => {
                self.release_first(other, (tenant.id, tunnel));
                self.send_inner(other, tenant.id, from, packet, &info, run);
            }
            _ => self.counters.add(Counter::NoOutboundSa, packets(packet, run)),
        }
    }
}

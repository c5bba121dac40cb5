//! What becomes of an inner packet that wants out: the policy first, then the tunnel (RFC 4301 section 5.1).

use std::sync::Arc;

use esp::Spi;
use esp::ip::PacketInfo;

use super::core::Core;
use crate::came_from::CameFrom;
use crate::counters::Counter;
use crate::forwarding::Target;
use crate::model::{RouterEvent, TenantId, TunnelId};
use crate::policy::{Policy, PolicyAction, Tunnels, Verdict};
use crate::published::Reading;
use crate::tenant::Tenant;
use crate::tunnel::{Tunnel, Up};

/// The way of a packet.
pub(super) enum Way {
    /// On this pair, which is this tunnel's.
    Pair(Spi, TunnelId),
    /// Through this tunnel once it is up.
    Hold(Arc<Tunnel>),
    /// Through this tunnel, which is up at this node.
    Elsewhere(u32, TunnelId),
    /// In the clear.
    Bypass,
    /// Nowhere, for this reason.
    Nowhere(Counter),
}

impl Way {
    /// The way that the tenant's policy has for a packet of this shard, which does not go by the tunnel that is left out.
    pub(super) fn find(
        shard: usize,
        tenant: &Tenant,
        policy: &Policy,
        packet: &PacketInfo,
        leave_out: Option<TunnelId>,
    ) -> Self {
        let by_tunnel = |tunnels, none| match tenant.forwarding.lookup(shard, packet, tunnels, leave_out) {
            Some(Target::Pair(spi, tunnel)) => Self::Pair(spi, tunnel),
            Some(Target::Down(tunnel)) => match tunnel.elsewhere() {
                Some(node) => Self::Elsewhere(node, tunnel.id),
                None if tunnel.is_on_demand() => Self::Hold(tunnel),
                None => Self::Nowhere(Counter::NoOutboundSa),
            },
            None => Self::Nowhere(none),
        };
        if policy.is_default() {
            return by_tunnel(&Tunnels::Any, Counter::NoRoute);
        }
        match policy.outbound(packet) {
            Verdict::Rule(PolicyAction::Protect(tunnels)) => by_tunnel(tunnels, Counter::PolicyNoTunnel),
            Verdict::Rule(PolicyAction::Bypass) => Self::Bypass,
            Verdict::Rule(PolicyAction::Discard) | Verdict::Unmatched => {
                Self::Nowhere(Counter::PolicyDiscard)
            }
            Verdict::Fragment => Self::Nowhere(Counter::PolicyFragment),
        }
    }

    /// As [`Way::find`], of this packet from there. An ICMP error that nothing takes as it is, as from a router between the hosts, goes with the
    /// traffic that answers the packet it is about, and stands for that from here on; but no tunnel comes up for it (RFC 4301 section 6.2).
    pub(super) fn find_of(
        shard: usize,
        tenant: &Tenant,
        from: CameFrom,
        packet: &[u8],
        info: &mut PacketInfo,
    ) -> Self {
        let reading = Reading::new();
        let (policy, leave_out) = (tenant.policy(&reading), from.tunnel());
        let way = Self::find(shard, tenant, policy, info, leave_out);
        if way.is_for_nothing()
            && let Some(stands_for) = esp::returning(packet, info)
            && !policy.discards(info)
            && let other @ (Self::Pair(..) | Self::Elsewhere(..)) =
                Self::find(shard, tenant, policy, &stands_for, leave_out)
        {
            *info = stands_for;
            return other;
        }
        way
    }

    /// Whether no tunnel and no rule takes the packet, be it up or not.
    pub(super) fn is_for_nothing(&self) -> bool {
        let nothing = [Counter::NoRoute, Counter::PolicyNoTunnel, Counter::PolicyDiscard];
        matches!(self, Self::Nowhere(reason) if nothing.contains(reason))
    }

    /// Whether it is this tunnel's.
    pub(super) fn is_by(&self, tunnel: TunnelId) -> bool {
        match self {
            Self::Pair(_, by) | Self::Elsewhere(_, by) => *by == tunnel,
            Self::Hold(by) => by.id == tunnel,
            Self::Bypass | Self::Nowhere(_) => false,
        }
    }

    /// The way of a packet that came through a tunnel, which is left out unless the packet is to go back. `None` when it is for what
    /// lies behind the tenant's device: what is for the device itself, whatever tunnel would take it, and what no other tunnel takes.
    /// Only what leaves by a tunnel again meets the policy a second time.
    pub(super) fn onwards(
        shard: usize,
        tenant: &Tenant,
        policy: &Policy,
        packet: &PacketInfo,
        leave_out: Option<TunnelId>,
    ) -> Option<Self> {
        if tenant.is_ours(packet.destination) {
            return None;
        }
        match Self::find(shard, tenant, policy, packet, leave_out) {
            way @ (Self::Pair(..)
            | Self::Hold(_)
            | Self::Elsewhere(..)
            | Self::Nowhere(Counter::NoOutboundSa)) => Some(way),
            Self::Bypass if !tenant.has_device() => Some(Self::Nowhere(Counter::BypassNoDevice)),
            way if !tenant.has_device() => Some(way),
            // Whether a tunnel would take it, if the policy let it.
            way => {
                let taken = tenant.forwarding.lookup(shard, packet, &Tunnels::Any, leave_out);
                taken.map(|_| match way {
                    Self::Bypass => Self::Nowhere(Counter::PolicyDiscard),
                    other => other,
                })
            }
        }
    }
}

impl Core {
    /// Keeps a packet until its tunnel is up, and asks for that.
    pub(super) fn hold(
        &mut self,
        tunnel: &Tunnel,
        tenant: &Tenant,
        from: CameFrom,
        packet: &[u8],
        info: &PacketInfo,
    ) {
        if let Some(spi) = self.try_hold(tunnel, tenant, from, packet) {
            self.release_first(spi, (tenant.id, tunnel.id));
            self.send_inner(spi, tenant.id, from, packet, info, None);
        }
    }

    /// As [`Core::hold`], or the pair to send it on, where the tunnel came up in this moment: after what waits for that.
    pub(super) fn try_hold(
        &mut self,
        tunnel: &Tunnel,
        tenant: &Tenant,
        from: CameFrom,
        packet: &[u8],
    ) -> Option<Spi> {
        // The note stays: at worst the shards are told of nothing.
        match tunnel.note_held() {
            Some(Up::Here(spi)) => return Some(spi),
            Some(Up::Elsewhere(node)) => {
                self.pass_after_held(node, tenant, tunnel.id, from, packet);
                return None;
            }
            None => {}
        }
        let outcome = self.holds.hold(self.now, (tenant.id, tunnel.id), from, packet);
        self.counters.count(if outcome.held { Counter::Held } else { Counter::HoldFull });
        self.counters.add(Counter::HoldDisplaced, outcome.displaced as u64);
        if outcome.ask {
            self.events.send(RouterEvent::Wanted { tenant: tenant.id, tunnel: tunnel.id });
        }
        None
    }

    /// Sends what waits here for a tunnel that has this pair now, before anything that comes after it. The shard may carry out its commands
    /// meanwhile.
    pub(super) fn release_first(&mut self, spi: Spi, of: (TenantId, TunnelId)) {
        if self.holds.something_waits() {
            self.release(spi, of);
        }
    }

    /// As [`Core::release_first`], and forgets that the tunnel was wanted.
    pub(super) fn release(&mut self, spi: Spi, of: (TenantId, TunnelId)) {
        for (from, packet) in self.holds.take(of) {
            self.send_held(spi, of.0, from, &packet);
        }
    }

    /// Passes a packet on to the node where its tunnel is up, after what waits here for that.
    pub(super) fn pass_after_held(
        &mut self,
        node: u32,
        tenant: &Tenant,
        tunnel: TunnelId,
        from: CameFrom,
        packet: &[u8],
    ) {
        if self.holds.something_waits() {
            self.pass_held(node, tenant, tunnel);
        }
        self.pass_inner(node, tenant, from, packet);
    }

    /// Passes what waits here for a tunnel on to the node where it is up.
    pub(super) fn pass_held(&mut self, node: u32, tenant: &Tenant, tunnel: TunnelId) {
        for (from, packet) in self.holds.take((tenant.id, tunnel)) {
            self.pass_inner(node, tenant, from, &packet);
        }
    }

    /// Sends a packet in the clear.
    pub(super) fn bypass(&mut self, tenant: &Tenant, packet: &[u8]) {
        self.counters.count(match tenant.send_clear(packet) {
            Some(Ok(())) => Counter::PolicyBypass,
            Some(Err(_)) => Counter::BypassFailed,
            None => Counter::BypassNoDevice,
        });
    }
}

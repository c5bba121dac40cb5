//! Has what a device brings for a tunnel come by the queue of the shard that has its pair.
//!
//! What comes by another queue is handed over, in order as well. So where two tunnels have the same network, told apart by ports for
//! instance, the one that came up last has it led, and what is for the other is handed over if its pair is on another shard. Only when
//! the queue of a network changes may packets that are under way be overtaken, once: when a tunnel comes up, when a rekeying brings a
//! pair on another shard, and when another tunnel with the same network goes.

use std::net::IpAddr;
use std::sync::Arc;

use esp::{SelectorPair, Spi};

use super::{Registry, TunnelState};
use crate::forwarding::{Holder, Route};
use crate::prefix::{address_of, prefixes};
use crate::tenant::Tenant;
use crate::uplink::{Key, Wish};

/// A network, and the queue that it is led to.
pub(crate) type Lead = ((IpAddr, u8), u32);

impl Registry {
    /// Leads a tunnel to the shard of this pair, which it is about to send on.
    pub(super) fn lead_to(&mut self, spi: Spi) {
        let Some(pair) = self.pairs.get(&spi) else { return };
        let Some(tenant) = self.tenants.get_mut(&pair.tenant) else { return };
        let Some(wish) = tenant.wish.as_mut().filter(|_| tenant.shared.is_steered()) else { return };
        let Some(tunnel) = tenant.tunnels.get(&pair.tunnel.id) else { return };
        let as_before = |before: Spi| {
            let route = self.pairs.get(&before).map(|before| &before.route);
            before.shard() == spi.shard()
                && (tunnel.declared.is_some() || route.is_some_and(|route| Arc::ptr_eq(route, &pair.route)))
        };
        if tunnel.shared.pair().is_some_and(as_before) {
            return;
        }
        if tunnel.shared.is_waited_for() {
            // What waits does so on the shard that it came by, and what comes by another would overtake it.
            wish.lead_late(tunnel.shared.id);
        } else {
            tunnel.lead(&tenant.shared, spi);
        }
    }

    /// Leads some tunnels that something waited for when they came up. Whether there may be more.
    pub(crate) fn lead_late(&mut self, device: Key) -> bool {
        let Some(tenant) = self.tenants.get_mut(&device.tenant) else { return false };
        let Some(wish) = tenant.wish.as_mut().filter(|wish| wish.key() == device) else { return false };
        let some = wish.take_late(LED_AT_A_TIME);
        for tunnel in some.iter().filter_map(|tunnel| tenant.tunnels.get(tunnel)) {
            tunnel.lead_where_it_is(&tenant.shared);
        }
        some.len() == LED_AT_A_TIME
    }
}

impl TunnelState {
    /// What it has in the forwarding table.
    fn routed(&self) -> impl Iterator<Item = &SelectorPair> {
        let learned = self.routes.iter().filter(|known| known.learned).map(|known| &known.route);
        self.declared.iter().chain(learned).map(|route| &*route.selectors)
    }

    fn lead(&self, tenant: &Tenant, pair: Spi) {
        for selectors in self.routed() {
            each(selectors, |v4, address, length| {
                tenant.lead((address_of(address, v4), length), queue_of(pair));
            });
        }
    }

    pub(super) fn lead_where_it_is(&self, tenant: &Tenant) {
        if let Some(pair) = self.shared.pair() {
            self.lead(tenant, pair);
        }
    }

    /// All that is to be said to a device that is new.
    pub(super) fn leads(&self) -> Vec<Lead> {
        let mut leads = Vec::new();
        if let Some(pair) = self.shared.pair() {
            for selectors in self.routed() {
                each(selectors, |v4, address, length| {
                    leads.push(((address_of(address, v4), length), queue_of(pair)));
                });
            }
        }
        leads
    }
}

/// Takes a route out of the forwarding table and the wish for the device. What was led by it is led to whoever has it now.
pub(super) fn unroute(tenant: &Tenant, wish: Option<&mut Wish>, route: &Arc<Route>) {
    tenant.forwarding.remove(route);
    if let Some(wish) = wish {
        wish.remove_routes(&route.selectors);
        lead_anew(tenant, &route.selectors);
    }
}

/// Where nobody who has a network has a pair it stays as it is, and so does the order while one comes up again.
fn lead_anew(tenant: &Tenant, selectors: &SelectorPair) {
    if !tenant.is_steered() {
        return;
    }
    each(selectors, |v4, address, length| {
        let network = (address_of(address, v4), length);
        match tenant.forwarding.holder(v4, address, length) {
            Holder::Nobody => tenant.forget_lead(network),
            Holder::Down => {}
            Holder::Pair(pair) => tenant.lead(network, queue_of(pair)),
        }
    });
}

/// Tunnels that are led under one hold of the lock: a system call for each of their networks, some hundred microseconds.
const LED_AT_A_TIME: usize = 128;

/// A device has a queue for each shard.
fn queue_of(pair: Spi) -> u32 {
    pair.shard().into()
}

fn each(selectors: &SelectorPair, mut network: impl FnMut(bool, u128, u8)) {
    for selector in &selectors.remote {
        for (address, length) in prefixes(selector) {
            network(selector.start.is_ipv4(), address, length);
        }
    }
}

//! The control plane's book-keeping: which tenants, tunnels and pairs there are, and which SPIs are free.

mod leads;

use std::collections::HashMap;
use std::sync::Arc;

use esp::{SelectorPair, Spi};
pub(crate) use leads::Lead;
use leads::unroute;

use crate::config::Uplink;
use crate::directory::Directory;
use crate::error::RouterError;
use crate::forwarding::Route;
use crate::huge_pages::HugePages;
use crate::limiter::TrafficLimits;
use crate::model::{ChildSa, TenantId, TunnelConfig, TunnelId};
use crate::policy::Policy;
use crate::published::{Reading, settle};
use crate::slots::SlotState;
use crate::spis::Spis;
use crate::sys::device_steering::MAX_NETWORKS;
use crate::tenant::Tenant;
use crate::tunnel::Tunnel;
use crate::uplink::{Changes, DeviceConfig, Key, Nudges, UplinkStatus, Wish};

/// Everything that is known of the router's contents. Guarded by one lock, which no packet ever takes.
pub(crate) struct Registry {
    pub(crate) spis: Spis,
    tenants: HashMap<TenantId, TenantState>,
    directory: Arc<Directory>,
    pairs: HashMap<Spi, PairState>,
    /// The pairs of each tunnel: one, and those that linger after a rekey.
    by_tunnel: HashMap<TunnelId, Vec<Spi>>,
    /// Devices wanted so far.
    devices: u64,
    nudges: Nudges,
    huge_pages: Option<HugePages>,
}

struct TenantState {
    shared: Arc<Tenant>,
    /// What it wants of its TUN device.
    wish: Option<Wish>,
    tunnels: HashMap<TunnelId, TunnelState>,
}

struct TunnelState {
    shared: Arc<Tunnel>,
    /// The route it has by configuration. Without one, those of its pairs stand in.
    declared: Option<Arc<Route>>,
    /// The distinct selectors of its pairs, usually one: a rekey brings the same again.
    routes: Vec<RouteState>,
}

struct RouteState {
    route: Arc<Route>,
    pairs: usize,
    /// Whether it is in the forwarding table.
    learned: bool,
}

struct PairState {
    tenant: TenantId,
    tunnel: Arc<Tunnel>,
    route: Arc<Route>,
    /// It is the one of its shard, beside that of the tunnel.
    own: bool,
}

/// What the registry has to know of a pair.
pub(crate) struct Listing<'a> {
    pub(crate) spi: Spi,
    pub(crate) tenant: TenantId,
    pub(crate) tunnel: TunnelId,
    pub(crate) own: bool,
    pub(crate) selectors: &'a SelectorPair,
}

impl<'a> From<&'a ChildSa> for Listing<'a> {
    fn from(child: &'a ChildSa) -> Self {
        let ChildSa { inbound_spi: spi, tenant, tunnel, own, ref selectors, .. } = *child;
        Self { spi, tenant, tunnel, own, selectors }
    }
}

/// The shared parts of a new pair.
pub(crate) struct Enlisted {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) tunnel: Arc<Tunnel>,
    pub(crate) selectors: Arc<SelectorPair>,
}

impl Registry {
    pub(crate) fn new(
        spis: Spis,
        directory: Arc<Directory>,
        nudges: Nudges,
        huge_pages: Option<HugePages>,
    ) -> Self {
        Self {
            spis,
            directory,
            tenants: HashMap::new(),
            pairs: HashMap::new(),
            by_tunnel: HashMap::new(),
            devices: 0,
            nudges,
            huge_pages,
        }
    }

    /// From now on SPIs of this slot are ours.
    pub(crate) fn open_slot(&self, slot: u8) {
        self.spis.slots.open(slot);
    }

    /// Pairs of this slot may come, and nothing is given out of it.
    pub(crate) fn expect_slot(&self, slot: u8) {
        self.spis.slots.expect(slot);
    }

    /// Whether pairs of this slot come before it is open.
    pub(crate) fn expects(&self, slot: u8) -> bool {
        self.spis.slots.state(slot) == SlotState::Expected
    }

    /// Nothing of this slot is ours any more. Its pairs are struck out; the caller must have the shards take them out.
    pub(crate) fn close_slot(&mut self, slot: u8) {
        self.spis.close_slot(slot);
        let left: Vec<Spi> = self.pairs.keys().filter(|spi| spi.slot() == slot).copied().collect();
        for spi in left {
            self.strike_out(spi);
        }
    }

    /// Gives an SPI back, unless a pair is installed under it.
    pub(crate) fn release_spi(&mut self, spi: Spi) {
        if !self.pairs.contains_key(&spi) {
            self.spis.release(spi);
        }
    }

    /// Enters a tenant. Its tunnels work at once; its device follows.
    pub(crate) fn add_tenant(&mut self, id: TenantId, uplink: Uplink) -> Result<(), RouterError> {
        if self.tenants.contains_key(&id) {
            return Err(RouterError::TenantExists(id));
        }
        let config = DeviceConfig::of(uplink)?;
        self.devices += 1;
        let key = Key { tenant: id, number: self.devices };
        let own = config.iter().flat_map(|config| &config.addresses).map(|own| own.address).collect();
        let shared = Arc::new(Tenant::new(id, config.as_ref().map(|_| key), own));
        self.directory.insert(&shared);
        let wish = config.map(|config| Wish::new(key, self.nudges.clone(), config));
        self.tenants.insert(id, TenantState { shared, wish, tunnels: HashMap::new() });
        Ok(())
    }

    /// Forgets a tenant, and with its wish the device. Its pairs are struck out; the caller must take them from their shards
    /// and give their SPIs back.
    pub(crate) fn remove_tenant(&mut self, id: TenantId) -> Vec<Spi> {
        let Some(tenant) = self.tenants.get(&id) else { return Vec::new() };
        let pairs = tenant.tunnels.keys().flat_map(|tunnel| self.pairs_of(*tunnel)).copied();
        let own = |spi: &Spi| self.pairs.get(spi).is_some_and(|pair| pair.tenant == id);
        let pairs: Vec<Spi> = pairs.filter(own).collect();
        // The device goes as well: nothing is led any more.
        tenant.shared.steer_by(None);
        for spi in &pairs {
            self.strike_out(*spi);
        }
        self.tenants.remove(&id);
        self.directory.remove(id);
        settle();
        pairs
    }

    /// The tenant of a device and what that shall be; `None` when it is wanted no more.
    pub(crate) fn wish_of(&self, device: Key) -> Option<(Arc<Tenant>, Arc<DeviceConfig>)> {
        let tenant = self.tenants.get(&device.tenant)?;
        let wish = tenant.wish.as_ref().filter(|wish| wish.key() == device)?;
        Some((tenant.shared.clone(), wish.config().clone()))
    }

    /// What has changed in a wish since the last time, or all of it; `None` when it is there no more.
    pub(crate) fn changes(&mut self, device: Key, everything: bool) -> Option<Changes> {
        let tenant = self.tenants.get_mut(&device.tenant)?;
        let mut changes = tenant.wish.as_mut().filter(|wish| wish.key() == device)?.take(everything);
        if everything && tenant.shared.is_steered() {
            changes.leads = tenant.tunnels.values().flat_map(TunnelState::leads).take(MAX_NETWORKS).collect();
        }
        Some(changes)
    }

    /// How a tenant's uplink stands.
    pub(crate) fn uplink(&self, id: TenantId) -> Option<Arc<UplinkStatus>> {
        self.tenants.get(&id).map(|tenant| tenant.shared.uplink())
    }

    /// Takes a tenant's policy over. Packets meet the old one or the new one, nothing between.
    pub(crate) fn set_policy(&mut self, id: TenantId, policy: Policy) -> Result<(), RouterError> {
        let tenant = self.tenants.get_mut(&id).ok_or(RouterError::UnknownTenant(id))?;
        let holes = policy.bypassed_destinations();
        let routed = policy.routed();
        let before = tenant.shared.policy(&Reading::new()).routed();
        tenant.shared.set_policy(policy);
        if let Some(wish) = &mut tenant.wish {
            // The new routes first, so that what is in both never has no user.
            wish.add_routes(&routed);
            wish.exclude(holes);
            wish.remove_routes(&before);
        }
        Ok(())
    }

    pub(crate) fn set_limits(&self, id: TenantId, limits: TrafficLimits) -> Result<(), RouterError> {
        let tenant = self.tenants.get(&id).ok_or(RouterError::UnknownTenant(id))?;
        tenant.shared.limiters.set(limits);
        Ok(())
    }

    /// Enters a tunnel as it is configured, or changes it.
    pub(crate) fn declare(&mut self, config: TunnelConfig) -> Result<(), RouterError> {
        let TunnelConfig { tenant: id, tunnel, selectors, on_demand } = config;
        let tenant = self.tenants.get_mut(&id).ok_or(RouterError::UnknownTenant(id))?;
        let state = tenant.tunnels.entry(tunnel).or_insert_with(|| TunnelState::new(tunnel, &tenant.shared));
        state.shared.set_on_demand(on_demand);
        if state.declared.as_ref().is_some_and(|route| *route.selectors == selectors) {
            return Ok(());
        }
        let route = Route::new(state.shared.clone(), Arc::new(selectors), true);
        let route = Arc::new(route);
        tenant.shared.forwarding.add(&route);
        if let Some(wish) = &mut tenant.wish {
            wish.add_routes(&route.selectors);
        }
        let old = state.declared.replace(route);
        state.lead_where_it_is(&tenant.shared);
        if let Some(old) = old {
            unroute(&tenant.shared, tenant.wish.as_mut(), &old);
        }
        Ok(())
    }

    /// Strikes a tunnel's configuration out. Its pairs stay. True when packets wait for it.
    pub(crate) fn undeclare(&mut self, id: TenantId, tunnel: TunnelId) -> bool {
        let Some(tenant) = self.tenants.get_mut(&id) else { return false };
        let Some(state) = tenant.tunnels.get_mut(&tunnel) else { return false };
        if let Some(route) = state.declared.take() {
            unroute(&tenant.shared, tenant.wish.as_mut(), &route);
        }
        state.shared.set_on_demand(false);
        let held = state.shared.forget_held();
        if state.routes.is_empty() {
            tenant.tunnels.remove(&tunnel);
        }
        held
    }

    /// A tunnel, with its tenant.
    pub(crate) fn tunnel(&self, id: TenantId, tunnel: TunnelId) -> Option<(&Arc<Tenant>, &Tunnel)> {
        let tenant = self.tenants.get(&id)?;
        Some((&tenant.shared, &*tenant.tunnels.get(&tunnel)?.shared))
    }

    /// Whether packets waited for the tunnel until now.
    pub(crate) fn forget_held(&self, id: TenantId, tunnel: TunnelId) -> bool {
        let tunnel = self.tenants.get(&id).and_then(|tenant| tenant.tunnels.get(&tunnel));
        tunnel.is_some_and(|tunnel| tunnel.shared.forget_held())
    }

    /// Enters a pair: from now on its tunnel has a route, which carries nothing until a pair is activated.
    pub(crate) fn enlist(&mut self, child: &Listing<'_>) -> Result<Enlisted, RouterError> {
        let spi = child.spi;
        if !self.spis.is_reserved(spi) || self.pairs.contains_key(&spi) {
            return Err(RouterError::SpiNotReserved(spi));
        }
        let tenant = self.tenants.get_mut(&child.tenant).ok_or(RouterError::UnknownTenant(child.tenant))?;
        let tunnel = tenant
            .tunnels
            .entry(child.tunnel)
            .or_insert_with(|| TunnelState::new(child.tunnel, &tenant.shared));
        let known = tunnel.routes.iter_mut().find(|known| *known.route.selectors == *child.selectors);
        let route = match known {
            Some(known) => {
                known.pairs += 1;
                known.route.clone()
            }
            None => {
                let selectors: Arc<SelectorPair> = Arc::new(child.selectors.clone());
                let route = Route::new(tunnel.shared.clone(), selectors, false);
                let route = Arc::new(route);
                let learned = tunnel.declared.is_none();
                tunnel.routes.push(RouteState { route: route.clone(), pairs: 1, learned });
                if learned {
                    tenant.shared.forwarding.add(&route);
                    if let Some(wish) = &mut tenant.wish {
                        wish.add_routes(&route.selectors);
                    }
                }
                route
            }
        };
        let enlisted = Enlisted {
            tenant: tenant.shared.clone(),
            tunnel: tunnel.shared.clone(),
            selectors: route.selectors.shared().clone(),
        };
        if let Some(wish) = tenant.wish.as_mut().filter(|_| child.own) {
            wish.leave_to_kernel();
        }
        let (tenant, tunnel, own) = (child.tenant, tunnel.shared.clone(), child.own);
        let pair = PairState { tenant, tunnel, route, own };
        self.pairs.insert(spi, pair);
        self.counted();
        self.by_tunnel.entry(child.tunnel).or_default().push(spi);
        Ok(enlisted)
    }

    /// Strikes a pair out and frees its SPI; false when it is not there.
    pub(crate) fn delist(&mut self, spi: Spi) -> bool {
        let there = self.strike_out(spi);
        if there {
            self.spis.release(spi);
        }
        there
    }

    /// Strikes a pair out whose SPI stays reserved; false when it is not there.
    pub(crate) fn strike_out(&mut self, spi: Spi) -> bool {
        let Some(pair) = self.pairs.remove(&spi) else { return false };
        self.counted();
        if let Some(pairs) = self.by_tunnel.get_mut(&pair.tunnel.id) {
            pairs.retain(|other| *other != spi);
            if pairs.is_empty() {
                self.by_tunnel.remove(&pair.tunnel.id);
            }
        }
        pair.tunnel.retire(spi);
        let Some(tenant) = self.tenants.get_mut(&pair.tenant) else { return true };
        let Some(tunnel) = tenant.tunnels.get_mut(&pair.tunnel.id) else { return true };
        for known in &mut tunnel.routes {
            if Arc::ptr_eq(&known.route, &pair.route) {
                known.pairs -= 1;
                if known.pairs == 0 && known.learned {
                    unroute(&tenant.shared, tenant.wish.as_mut(), &known.route);
                }
            }
        }
        tunnel.routes.retain(|known| known.pairs > 0);
        if tunnel.routes.is_empty() && tunnel.declared.is_none() {
            tenant.tunnels.remove(&pair.tunnel.id);
        }
        true
    }

    /// There is a pair more, or less.
    fn counted(&mut self) {
        if let Some(pages) = &mut self.huge_pages {
            pages.follow(self.pairs.len());
        }
    }

    /// Every pair.
    pub(crate) fn all_pairs(&self) -> Vec<Spi> {
        self.pairs.keys().copied().collect()
    }

    /// The pairs of a tunnel.
    pub(crate) fn pairs_of(&self, tunnel: TunnelId) -> &[Spi] {
        self.by_tunnel.get(&tunnel).map(Vec::as_slice).unwrap_or_default()
    }

    /// Has a pair's tunnel send on it. The tunnel, when packets wait for that.
    pub(crate) fn activate(&mut self, spi: Spi) -> Option<(TenantId, TunnelId)> {
        self.lead_to(spi);
        let pair = self.pairs.get(&spi)?;
        let held = if pair.own { pair.tunnel.activate_own(spi) } else { pair.tunnel.activate(spi) };
        held.then_some((pair.tenant, pair.tunnel.id))
    }

    /// The same, unless the tunnel sends on another pair already.
    pub(crate) fn activate_first(&mut self, spi: Spi) -> Option<(TenantId, TunnelId)> {
        let pair = self.pairs.get(&spi)?;
        // Pairs of one tunnel that are a shard's own each have a word of theirs.
        let taken = if pair.own { pair.tunnel.sends_for(spi) } else { pair.tunnel.sends() };
        if taken { None } else { self.activate(spi) }
    }

    /// The tunnel of a pair.
    pub(crate) fn tunnel_of(&self, spi: Spi) -> Option<(TenantId, &Tunnel)> {
        self.pairs.get(&spi).map(|pair| (pair.tenant, &*pair.tunnel))
    }
}

impl TunnelState {
    fn new(tunnel: TunnelId, tenant: &Tenant) -> Self {
        Self { shared: Tunnel::new(tunnel, tenant.forwarding.edition()), declared: None, routes: Vec::new() }
    }
}
